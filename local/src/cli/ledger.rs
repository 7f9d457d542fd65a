//! `sluice ledger`: whether what was accepted is there.

use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::{Out, Style, clean, counted, grouped, table};
use crate::client::Client;
use serde_json::Value;

/// Compare what was accepted with what lake, search and alert rules have, hour by hour and type by type.
///
/// The files and documents themselves are counted, not only the counters. Ends with exit code 1 where it does not add up.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice ledger
  sluice ledger --from 2026-11-21T00 --type http.access
  sluice ledger --deep || echo 'look at it'")]
pub struct Ledger {
    /// First hour of receive time, UTC
    #[arg(long, value_name = "YYYY-MM-DDTHH")]
    from: Option<String>,
    /// Last hour of receive time
    #[arg(long, value_name = "YYYY-MM-DDTHH")]
    to: Option<String>,
    /// Only this type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Open every file and count the rows of its footer
    #[arg(long)]
    deep: bool,
    /// The server's reply as it is
    #[arg(long)]
    json: bool,
}

impl Ledger {
    /// Asks and shows.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let fields = [("from", self.from), ("to", self.to), ("type", self.event_type)];
        let mut query: Vec<(&str, String)> =
            fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        if self.deep {
            query.push(("deep", "true".into()));
        }
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply: Value = client.get("/v1/ledger", &query).await?;
        if self.json {
            out.json(&reply)?
        } else {
            show(&reply, out)?
        }
        out.flush()?;
        if reply["adds_up"] == true { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
    }
}

/// The verdict first, then what is wrong, then the hours.
fn show(reply: &Value, out: &mut Out) -> Result<(), Failure> {
    let (problems, files) = (number(&reply["problems"]), number(&reply["files"]));
    let verdict = match reply["adds_up"] == true {
        true => out.paint(Style::Good, "it adds up: every accepted event is where it belongs").into_owned(),
        false => out.paint(Style::Bad, "it does NOT add up").into_owned(),
    };
    let how = if reply["deep"] == true { "opened" } else { "looked at" };
    out.line(format!("{verdict} ({} {how})", counted(files, "file")))?;
    let told = items(&reply["told"]);
    for problem in told {
        let text = |field: &str| clean(problem[field].as_str().unwrap_or("-")).into_owned();
        out.line(format!("  {} {} {}: {}", text("sink"), text("hour"), text("type"), text("what")))?;
    }
    if problems > told.len() as u64 {
        out.line(format!("  and {} more", grouped(problems - told.len() as u64)))?;
    }
    let hours = items(&reply["hours"]);
    if hours.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let rows = hours.iter().map(|hour| {
        let text = |field: &str| clean(hour[field].as_str().unwrap_or_default()).into_owned();
        let mut row = vec![text("hour"), text("type"), signed(&hour["accepted"]), signed(&hour["rejected"])];
        for sink in ["lake", "search", "detect"] {
            let counts = &hour["sinks"][sink];
            if counts.is_null() {
                row.push("off".into());
                continue;
            }
            let there = hour["durable"].get(sink).unwrap_or(&counts["stored"]);
            let rest: Vec<String> = ["quarantined", "duplicates", "off", "in_flight"]
                .into_iter()
                .filter(|field| counts[*field].as_i64().unwrap_or(0) != 0)
                .map(|field| format!("{} {}", signed(&counts[field]), field.replace('_', " ")))
                .collect();
            let rest = if rest.is_empty() { String::new() } else { format!(" ({})", rest.join(", ")) };
            row.push(format!("{}{rest}", signed(there)));
        }
        row
    });
    let headings = ["hour", "type", "accepted", "rejected", "in lake", "in search", "detected"];
    out.line(table(&headings, &[2, 3, 4, 5, 6], rows))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn signed(value: &Value) -> String {
    let n = value.as_i64().unwrap_or(0);
    let sign = if n < 0 { "-" } else { "" };
    format!("{sign}{}", grouped(n.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;

    async fn run(reply: &'static str, deep: bool) -> (Result<(), Failure>, String, String) {
        let fake = Fake::start(move |_, _| (200, vec![], reply.into())).await;
        let (mut out, written) = Out::captured();
        let ledger = Ledger { from: Some("2026-11-21T10".into()), to: None, event_type: None, deep, json: false };
        let done = ledger.run(&fake.client(), &mut out).await;
        (done, written.text(), fake.got()[0].path.clone())
    }

    #[tokio::test]
    async fn hours_show_what_is_there_and_what_is_not() {
        let (done, text, path) = run(
            r#"{"adds_up":true,"problems":0,"told":[],"files":2,"deep":true,"hours":[{"hour":"2026-11-21T10","type":"web.event",
              "accepted":1000,"rejected":2,"durable":{"lake":990,"search":1000},"sinks":{
              "lake":{"stored":990,"quarantined":10,"duplicates":0,"off":0,"in_flight":0},
              "search":{"stored":1000,"quarantined":0,"duplicates":0,"off":0,"in_flight":0}}}]}"#,
            true,
        )
        .await;
        done.unwrap();
        assert_eq!(path, "/v1/ledger?from=2026-11-21T10&deep=true");
        assert!(text.starts_with("it adds up: every accepted event is where it belongs (2 files opened)\n"), "{text}");
        assert!(text.contains("990 (10 quarantined)") && text.contains("off"), "{text}");
    }

    #[tokio::test]
    async fn what_does_not_add_up_is_told_and_is_exit_code_1() {
        let (done, text, _) = run(
            r#"{"adds_up":false,"problems":3,"files":1,"hours":[],"told":[
              {"sink":"lake","hour":"2026-11-21T10","type":null,"what":"the file `f` of 3 rows is gone"}]}"#,
            false,
        )
        .await;
        assert_eq!(done, Err(Failure::silent(Exit::Failed)));
        assert_eq!(
            text,
            "it does NOT add up (1 file looked at)\n  lake 2026-11-21T10 -: the file `f` of 3 rows is gone\n  and 2 more\n"
        );
    }
}
