//! `sluice status`: what came in, what became of it, and what still waits.

use crate::cli::exit::{Exit, Failure};
use crate::cli::queues::{self, QueueState};
use crate::cli::terminal::{Out, Style, counted, grouped, table};
use crate::client::{CallError, Client};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::time::Instant;

/// Pause between two looks at the server while something is in flight.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Show whether all that came in is accounted for, counters per stage and type, and what waits.
///
/// Ends with exit code 1 where received and stored do not add up, so that a script can watch it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice status
  sluice status --wait 30 && sluice sql 'SELECT count(*) FROM event'
  sluice status --json | jq .ledger.totals
  sluice status > /dev/null || echo 'look at it'")]
pub struct Status {
    /// First wait until all stages have stored what was accepted, so many seconds at most
    #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true,
          value_parser = clap::value_parser!(u64).range(0..=86_400))]
    wait: u64,
    /// The server's reply as it is
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct Reply {
    server: Server,
    #[serde(default)]
    queues: Vec<QueueState>,
    ledger: Ledger,
}

#[derive(Debug, Deserialize)]
struct Server {
    #[serde(default)]
    version: String,
}

#[derive(Debug, Deserialize)]
struct Ledger {
    #[serde(default)]
    types: Vec<Counts>,
    totals: Counts,
    /// `None` while it cannot be said.
    adds_up: Option<bool>,
    #[serde(default)]
    note: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Counts {
    #[serde(rename = "type", default)]
    event_type: String,
    #[serde(default)]
    accepted: u64,
    #[serde(default)]
    rejected: u64,
    #[serde(default)]
    lake: Option<Sink>,
    #[serde(default)]
    search: Option<Sink>,
    #[serde(default)]
    detect: Option<Sink>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Sink {
    #[serde(default)]
    stored: i64,
    #[serde(default)]
    quarantined: i64,
    #[serde(default)]
    duplicates: i64,
    /// Accepted while the sink was switched off.
    #[serde(default)]
    off: i64,
    /// Below zero where more was stored than accepted, which must not be.
    #[serde(default)]
    in_flight: i64,
}

impl Status {
    /// Asks and shows.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let (raw, reply) = once_stored(client, Duration::from_secs(self.wait)).await?;
        if self.json {
            out.line(raw.get())?
        } else {
            show(client.url(), &reply, out)?
        }
        out.flush()?;
        match reply.ledger.adds_up {
            Some(false) => Err(Failure::silent(Exit::Failed)),
            _ => Ok(()),
        }
    }
}

/// Waits until every stage has stored what was accepted and the queues are empty, or `limit` is over. True if they are.
pub async fn stored(client: &Client, limit: Duration) -> Result<bool, CallError> {
    Ok(once_stored(client, limit).await?.1.is_settled())
}

async fn once_stored(client: &Client, limit: Duration) -> Result<(Box<RawValue>, Reply), CallError> {
    let until = Instant::now() + limit;
    loop {
        let raw: Box<RawValue> = client.get("/v1/status", &[]).await?;
        let reply: Reply = serde_json::from_str(raw.get())
            .map_err(|e| CallError::Strange(format!("the reply to `/v1/status` is not understood: {e}")))?;
        if reply.is_settled() || Instant::now() >= until {
            return Ok((raw, reply));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Reply {
    /// True if nothing is on its way, dead letters aside.
    fn is_settled(&self) -> bool {
        let totals = &self.ledger.totals;
        let sinks = [totals.lake, totals.search, totals.detect];
        let consumed = self.queues.iter().filter(|q| q.dead_letter_queue.is_some());
        sinks.iter().flatten().all(|s| s.in_flight == 0) && consumed.map(|q| q.visible + q.in_flight).sum::<u64>() == 0
    }
}

/// The verdict first; then each sink, the types, and what is not at rest.
fn show(url: &str, reply: &Reply, out: &mut Out) -> Result<(), Failure> {
    let name = format!("sluice {} at {url}", reply.server.version);
    out.line(out.paint(Style::Bold, &name))?;
    let ledger = &reply.ledger;
    out.line(verdict(ledger, out))?;
    for line in queues::dead_letters_of(&reply.queues) {
        let painted = out.paint(Style::Bad, &line);
        out.line(painted)?;
    }
    out.line("")?;
    let total = &ledger.totals;
    if total.accepted + total.rejected == 0 {
        out.line("no events yet: `sluice demo` sends some")?;
    } else {
        let accepted = counted(total.accepted, "event");
        out.line(format!("{accepted} accepted, {} rejected; of those accepted:", grouped(total.rejected)))?;
        out.line("")?;
        out.line(sinks(total))?;
        out.line("")?;
        out.line(types(ledger))?;
    }
    out.line("")?;
    match queues::table_of_filled(&reply.queues) {
        Some(filled) => out.line(filled),
        None => out.line("all queues are empty"),
    }
}

impl Counts {
    /// The sinks that are on, with their names and what it means there that an event is stored.
    fn sinks(&self) -> impl Iterator<Item = (&'static str, &Sink)> {
        [("lake (files, SQL)", &self.lake), ("search", &self.search), ("detect (alert rules)", &self.detect)]
            .into_iter()
            .filter_map(|(name, sink)| Some((name, sink.as_ref()?)))
    }
}

/// A row per sink. Columns of what is rare are there only when it happened.
fn sinks(total: &Counts) -> String {
    let signed = |n: i64| match u64::try_from(n) {
        Ok(n) => grouped(n),
        Err(_) => format!("-{}", grouped(n.unsigned_abs())),
    };
    type Column = (&'static str, fn(&Sink) -> i64);
    let rare: [Column; 4] = [
        ("on its way", |s| s.in_flight),
        ("quarantined", |s| s.quarantined),
        ("sent twice", |s| s.duplicates),
        ("while it was off", |s| s.off),
    ];
    let shown: Vec<Column> = rare.into_iter().filter(|(_, of)| total.sinks().any(|(_, sink)| of(sink) != 0)).collect();
    let headings: Vec<&str> = ["went to", "done"].into_iter().chain(shown.iter().map(|(name, _)| *name)).collect();
    let rows = total.sinks().map(|(name, sink)| {
        let rare = shown.iter().map(|(_, of)| signed(of(sink)));
        [name.to_owned(), signed(sink.stored)].into_iter().chain(rare).collect()
    });
    let right: Vec<usize> = (1..headings.len()).collect();
    table(&headings, &right, rows)
}

/// A row per type: what came in, and what is done with it in each sink.
fn types(ledger: &Ledger) -> String {
    let row = |name: &str, counts: &Counts| {
        let stored = |sink: Option<Sink>| {
            sink.map_or_else(|| "off".to_owned(), |s| grouped(u64::try_from(s.stored).unwrap_or_default()))
        };
        vec![
            name.to_owned(),
            grouped(counts.accepted),
            grouped(counts.rejected),
            stored(counts.lake),
            stored(counts.search),
            stored(counts.detect),
        ]
    };
    let rows = ledger.types.iter().map(|counts| row(&counts.event_type, counts));
    let headings = ["type", "accepted", "rejected", "in lake", "in search", "detected"];
    table(&headings, &[1, 2, 3, 4, 5], rows.chain([row("total", &ledger.totals)]))
}

fn verdict(ledger: &Ledger, out: &Out) -> String {
    let note = ledger.note.as_deref().filter(|n| !n.is_empty()).map(|n| format!(": {n}")).unwrap_or_default();
    let (style, words) = match ledger.adds_up {
        Some(true) => (Style::Good, "it adds up: every accepted event is accounted for"),
        Some(false) => (Style::Bad, "it does NOT add up"),
        None => (Style::Dim, "whether it adds up cannot be said yet"),
    };
    format!("{}{note}", out.paint(style, words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;

    fn reply(adds_up: &str) -> String {
        let sink = |stored: u32, in_flight: u32, off: u32| {
            format!(r#"{{"stored":{stored},"quarantined":0,"duplicates":0,"off":{off},"in_flight":{in_flight}}}"#)
        };
        let counts = format!(
            r#""accepted":3000,"rejected":2,"lake":{},"search":{},"detect":{}"#,
            sink(3000, 0, 0),
            sink(2985, 10, 5),
            sink(3000, 0, 0)
        );
        format!(
            r#"{{"server":{{"version":"0.1.0","started":"2024-01-01T00:00:00Z","data":".sluice"}},
            "queues":[{{"name":"IndexQueue","visible":1,"in_flight":0,"events":10,"bytes":2048,"oldest_ms":1500,
              "dead_letter_queue":"IndexDeadLetterQueue","dead_letters":0}}],
            "ledger":{{"types":[{{"type":"http.access",{counts}}}],"totals":{{{counts}}},"adds_up":{adds_up},"note":"note"}}}}"#
        )
    }

    async fn run(adds_up: &'static str, json: bool) -> (Result<(), Failure>, String) {
        let fake = Fake::start(move |_, _| (200, vec![], reply(adds_up))).await;
        let (mut out, written) = Out::captured();
        let done = Status { wait: 0, json }.run(&fake.client(), &mut out).await;
        (done, written.text())
    }

    #[tokio::test]
    async fn the_verdict_comes_first_and_what_did_not_happen_is_left_out() {
        let (done, text) = run("true", false).await;
        done.unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines[1..],
            [
                "it adds up: every accepted event is accounted for: note",
                "",
                "3,000 events accepted, 2 rejected; of those accepted:",
                "",
                "WENT TO                DONE  ON ITS WAY  WHILE IT WAS OFF",
                "lake (files, SQL)     3,000           0                 0",
                "search                2,985          10                 5",
                "detect (alert rules)  3,000           0                 0",
                "",
                "TYPE         ACCEPTED  REJECTED  IN LAKE  IN SEARCH  DETECTED",
                "http.access     3,000         2    3,000      2,985     3,000",
                "total           3,000         2    3,000      2,985     3,000",
                "",
                "QUEUE       WAITING  IN FLIGHT  EVENTS     SIZE  OLDEST  DEAD LETTERS",
                "IndexQueue        1          0      10  2.0 KiB   1.5 s             0",
            ]
        );
    }

    #[tokio::test]
    async fn a_pipeline_at_rest_is_a_short_page() {
        let reply = r#"{"server":{"version":"1"},"queues":[{"name":"A","dead_letter_queue":"B"},{"name":"B"}],
            "ledger":{"types":[],"totals":{},"adds_up":true,"note":""}}"#;
        let fake = Fake::start(move |_, _| (200, vec![], reply.into())).await;
        let (mut out, written) = Out::captured();
        Status { wait: 0, json: false }.run(&fake.client(), &mut out).await.unwrap();
        let text = written.text();
        assert!(text.ends_with("for\n\nno events yet: `sluice demo` sends some\n\nall queues are empty\n"), "{text}");
    }

    #[tokio::test]
    async fn waiting_ends_when_nothing_is_on_its_way() {
        let settled = reply("true").replace(r#""in_flight":10"#, r#""in_flight":0"#);
        let settled = settled.replace(r#""visible":1"#, r#""visible":0"#);
        let fake = Fake::start(move |n, _| (200, vec![], if n < 2 { reply("true") } else { settled.clone() })).await;
        assert!(stored(&fake.client(), Duration::from_secs(3_600)).await.unwrap());
        assert_eq!(fake.got().len(), 3);
    }

    #[tokio::test]
    async fn waiting_ends_when_the_time_is_over() {
        let fake = Fake::start(|_, _| (200, vec![], reply("true"))).await;
        assert!(!stored(&fake.client(), LOOK_EVERY).await.unwrap());
        assert!(!stored(&fake.client(), Duration::ZERO).await.unwrap());
        assert_eq!(fake.got().len(), 3);
    }

    #[tokio::test]
    async fn what_does_not_add_up_is_exit_code_1() {
        let (done, text) = run("false", false).await;
        assert_eq!(done, Err(Failure::silent(Exit::Failed)));
        assert!(text.contains("does NOT add up"), "{text}");
        assert_eq!(run("null", false).await.0, Ok(()));
    }

    #[tokio::test]
    async fn programs_get_the_reply_as_it_is() {
        let (done, text) = run("true", true).await;
        done.unwrap();
        assert_eq!(text.trim_end(), reply("true").trim_end());
    }
}
