//! `sluice status`: what came in, what became of it, and what still waits.

use crate::cli::exit::{Exit, Failure};
use crate::cli::queues::{self, QueueState};
use crate::cli::terminal::{Out, Style, grouped, table};
use crate::client::{CallError, Client};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::time::Instant;

/// Pause between two looks at the server while something is in flight.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Show counters per stage and type, the queues, and whether it all adds up.
///
/// Ends with exit code 1 where received and stored do not add up, so that a script can watch it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice status
  sluice status --wait 30 && sluice sql 'SELECT count(*) FROM event'
  sluice status --json | jq .ledger.totals")]
pub struct Status {
    /// First wait until all stages have stored what was accepted, so many seconds at most
    #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true)]
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
    stored: u64,
    #[serde(default)]
    quarantined: u64,
    #[serde(default)]
    duplicates: u64,
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

fn show(url: &str, reply: &Reply, out: &mut Out) -> Result<(), Failure> {
    let server = &reply.server;
    let name = format!("sluice {} at {url}", server.version);
    out.line(out.paint(Style::Bold, &name))?;
    out.line("")?;
    let ledger = &reply.ledger;
    let mut rows: Vec<Vec<String>> = ledger.types.iter().map(|counts| row(&counts.event_type, counts)).collect();
    if rows.is_empty() {
        out.line("no events yet: `sluice demo` sends some")?;
    } else {
        rows.push(row("total", &ledger.totals));
        let headings = [
            "type",
            "accepted",
            "rejected",
            "in lake",
            "in search",
            "detected",
            "quarantined",
            "duplicates",
            "in flight",
        ];
        out.line(table(&headings, &[1, 2, 3, 4, 5, 6, 7, 8], rows))?;
    }
    out.line("")?;
    if !reply.queues.is_empty() {
        out.line(queues::table_of(&reply.queues))?;
        out.line("")?;
    }
    out.line(verdict(ledger, out))?;
    let dead: u64 = reply.queues.iter().map(|q| q.dead_letters).sum();
    if dead > 0 {
        let text = format!("{} could not be handled: see `sluice queues`", super::terminal::counted(dead, "message"));
        let painted = out.paint(Style::Bad, &text);
        out.line(painted)?;
    }
    Ok(())
}

/// The sinks beside each other; quarantined, duplicates and in flight as `lake/search/detect` where they differ.
fn row(name: &str, counts: &Counts) -> Vec<String> {
    let sinks = [counts.lake, counts.search, counts.detect];
    let stored = |sink: Option<Sink>| sink.map_or_else(|| "-".to_owned(), |s| grouped(s.stored));
    let in_flight = |sink: Sink| match u64::try_from(sink.in_flight) {
        Ok(n) => grouped(n),
        Err(_) => format!("-{}", grouped(sink.in_flight.unsigned_abs())),
    };
    vec![
        name.to_owned(),
        grouped(counts.accepted),
        grouped(counts.rejected),
        stored(counts.lake),
        stored(counts.search),
        stored(counts.detect),
        together(&sinks, |s| grouped(s.quarantined)),
        together(&sinks, |s| grouped(s.duplicates)),
        together(&sinks, in_flight),
    ]
}

fn together(sinks: &[Option<Sink>], show: impl Fn(Sink) -> String) -> String {
    let shown: Vec<String> = sinks.iter().flatten().map(|sink| show(*sink)).collect();
    match shown.first() {
        None => "-".into(),
        Some(first) if shown.iter().all(|s| s == first) => first.clone(),
        _ => shown.join("/"),
    }
}

fn verdict(ledger: &Ledger, out: &Out) -> String {
    let note = ledger.note.as_deref().filter(|n| !n.is_empty()).map(|n| format!(": {n}")).unwrap_or_default();
    let (style, word) = match ledger.adds_up {
        Some(true) => (Style::Good, "it adds up"),
        Some(false) => (Style::Bad, "it does NOT add up"),
        None => (Style::Dim, "whether it adds up cannot be said yet"),
    };
    format!("{}{note}", out.paint(style, word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;

    fn reply(adds_up: &str) -> String {
        let sink = |stored: u32, in_flight: u32| {
            format!(r#"{{"stored":{stored},"quarantined":0,"duplicates":0,"in_flight":{in_flight}}}"#)
        };
        let counts = format!(
            r#""accepted":3000,"rejected":2,"lake":{},"search":{},"detect":{}"#,
            sink(3000, 0),
            sink(2990, 10),
            sink(3000, 0)
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
    async fn the_tables_and_the_verdict_are_readable() {
        let (done, text) = run("true", false).await;
        done.unwrap();
        assert!(text.contains("http.access     3,000         2    3,000      2,990     3,000            0"), "{text}");
        assert!(text.contains("0/10/0"), "{text}");
        assert!(text.contains("IndexQueue"), "{text}");
        assert!(text.ends_with("it adds up: note\n"), "{text}");
    }

    #[tokio::test]
    async fn waiting_ends_when_nothing_is_on_its_way() {
        let settled = reply("true").replace("2990", "3000").replace(r#""in_flight":10"#, r#""in_flight":0"#);
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
