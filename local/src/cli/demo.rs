//! `sluice demo`: a day of made-up events, to try things on.

use crate::cli::Global;
use crate::cli::exit::{Exit, Failure};
use crate::cli::rules::{Fluctuation, Side};
use crate::cli::status;
use crate::cli::terminal::{Out, Style};
use crate::cli::upload::{self, Content, Item, Options, Progress, Report, WAITING_GROUPS};
use crate::client::{CallError, Client};
use serde_json::Value;
use sluice_domain::demo;
use sluice_domain::time::{DAY_US, Timestamp};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// Id of the rule that tells of the jumps.
const RULE: &str = "demo-fluctuation";
/// Where its mail goes: a name that is reserved for examples (RFC 2606).
const MAIL: &str = "demo@example.com";
/// Change that the rule tells of, in percent.
const THRESHOLD: &str = "5";
/// How long the day may take to be stored before the command ends all the same.
const PATIENCE: Duration = Duration::from_secs(60);
/// Events handed on at once.
const GROUP: usize = 500;

/// Send a generated day of events: a shop's visits and requests, games, and a price with jumps.
///
/// The events are the same each time for the same day, and have ids: sending a day again stores nothing twice. A rule that tells of
/// changes of 5 % or more is added first, if it is not there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice demo
  sluice demo --day 2024-03-05 --json")]
pub struct Demo {
    /// Day of the events, UTC; yesterday where it is not given
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    day: Option<Timestamp>,
    /// Tell the outcome as JSON
    #[arg(long)]
    json: bool,
}

fn day(text: &str) -> Result<Timestamp, String> {
    let days = Timestamp::parse_date(text).ok_or("a day is written as in 2024-03-05")?;
    Timestamp::from_micros(i64::from(days) * DAY_US).ok_or_else(|| "there is no such day".to_owned())
}

/// The last day that is over.
fn yesterday(now: Timestamp) -> Timestamp {
    Timestamp::from_micros((i64::from(now.day()) - 1) * DAY_US).unwrap_or(now)
}

impl Demo {
    /// Adds the rule, sends the day, waits until it is stored, and says what to try next.
    pub async fn run(self, client: &Client, global: &Global, out: &mut Out) -> Result<(), Failure> {
        let day = self.day.unwrap_or_else(|| yesterday(Timestamp::from_system(SystemTime::now())));
        let rule = add_rule(client).await?;
        let options = Options {
            batch_events: GROUP,
            // Prices are in order.
            concurrency: 1,
            linger: None,
            identity: format!("demo {}", day.date_text()),
            advice: upload::SEND_AGAIN,
        };
        let events = demo::day(day);
        let total: u64 = events.iter().map(|e| e.len() as u64).sum();
        let progress = Progress::new(Some(total));
        let (to, input) = mpsc::channel(WAITING_GROUPS);
        let feeder = tokio::spawn(async move {
            for group in items(events) {
                if to.send(group).await.is_err() {
                    break;
                }
            }
        });
        let sending = upload::upload(client, input, options, &progress).await;
        feeder.abort();
        progress.finish();
        sending.report(out, Report::from_flag(self.json))?;
        // What the next steps show must be there when they are typed.
        let stored = match status::stored(client, PATIENCE).await {
            Ok(stored) => stored,
            Err(CallError::Refused(_)) => false,
            Err(error) => return Err(error.into()),
        };
        if !self.json {
            if stored {
                out.line("  all of it stored: in the lake, in search, and looked at for alerts")?;
            }
            next_steps(day, rule, global, out)?;
        }
        Ok(())
    }
}

/// Whether the alert rule could be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    There,
    /// The key may only write.
    NotAllowed,
}

async fn add_rule(client: &Client) -> Result<Rule, Failure> {
    let rules: Value = match client.get("/v1/rules", &[]).await {
        Ok(rules) => rules,
        Err(CallError::Refused(_)) => return Ok(Rule::NotAllowed),
        Err(error) => return Err(error.into()),
    };
    let list = rules.get("rules").unwrap_or(&rules).as_array().cloned().unwrap_or_default();
    if list.iter().any(|rule| rule.get("id").and_then(Value::as_str) == Some(RULE)) {
        return Ok(Rule::There);
    }
    match client.post::<Value>("/v1/rules", &[], &rule().body()).await {
        // 409: somebody else was faster.
        Ok(_) | Err(CallError::Failed(409, _)) => Ok(Rule::There),
        Err(CallError::Refused(_)) => Ok(Rule::NotAllowed),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot add the rule: {}", Failure::from(error)))),
    }
}

fn rule() -> Fluctuation {
    Fluctuation {
        symbols: vec![demo::SYMBOL.to_owned()],
        threshold: THRESHOLD.to_owned(),
        comparison: ">=".to_owned(),
        side: Side::Both,
        emails: vec![MAIL.to_owned()],
        language: "en".to_owned(),
        zone: Some("Asia/Seoul".to_owned()),
        window_minutes: None,
        user: None,
        name: Some("jumps of the demo".to_owned()),
        id: Some(RULE.to_owned()),
        json: false,
    }
}

fn items(events: Vec<String>) -> Vec<Vec<Item>> {
    let mut groups: Vec<Vec<Item>> = Vec::new();
    let mut end = 0;
    for (at, event) in events.into_iter().enumerate() {
        if at % GROUP == 0 {
            groups.push(Vec::with_capacity(GROUP));
        }
        end += event.len() as u64;
        if let Some(group) = groups.last_mut() {
            group.push(Item { line: at as u64 + 1, end, content: Content::Event(event.into_bytes()) });
        }
    }
    groups
}

fn next_steps(day: Timestamp, rule: Rule, global: &Global, out: &mut Out) -> Result<(), Failure> {
    let date = day.date_text();
    let data = global.data.display();
    let option = match global.data.as_os_str() == super::DEFAULT_DATA || global.url.is_some() {
        true => String::new(),
        false => format!(" --data {data}"),
    };
    out.line("")?;
    let heading = out.paint(Style::Bold, "Try next:").into_owned();
    out.line(heading)?;
    for command in [
        "search 'data.status:404'".to_owned(),
        "search 'type:http.access' --by data.status".to_owned(),
        format!(
            "sql \"SELECT status, count(*) AS requests FROM http_access WHERE source = '{}' AND time >= TIMESTAMP '{date} 00:00:00' \
             GROUP BY status ORDER BY status\"",
            demo::SHOP
        ),
        "sql 'SELECT time, symbol, price, change_pct FROM quote_trade ORDER BY time DESC LIMIT 10'".to_owned(),
        "status".to_owned(),
    ] {
        out.line(format!("  sluice{option} {command}"))?;
    }
    match rule {
        Rule::There => {
            let jumps = super::terminal::counted(demo::EXPECTED.alerts.len() as u64, "mail");
            out.line(format!("  ls {data}/outbox/        {jumps} about jumps of the price"))
        }
        Rule::NotAllowed => out.line("  (the key may not add rules, so no mail tells of the price's jumps)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;
    use serde_json::json;
    use std::path::PathBuf;

    const SETTLED: &str = r#"{"server":{},"ledger":{"totals":{"lake":{"in_flight":0}},"adds_up":true}}"#;

    fn global() -> Global {
        Global { data: PathBuf::from(crate::cli::DEFAULT_DATA), url: None, key: None }
    }

    async fn run(rules: Value) -> (Vec<crate::client::tests::Got>, String) {
        let fake = Fake::start(move |_, got| match (got.method.as_str(), got.path.as_str()) {
            ("GET", "/v1/rules") => (200, vec![], rules.to_string()),
            ("POST", "/v1/rules") => (201, vec![], "{}".into()),
            ("GET", "/v1/status") => (200, vec![], SETTLED.into()),
            _ => (202, vec![], json!({"accepted": got.lines().len(), "rejected": 0}).to_string()),
        })
        .await;
        let (mut out, written) = Out::captured();
        let demo = Demo { day: Some(day("2024-03-05").unwrap()), json: false };
        demo.run(&fake.client(), &global(), &mut out).await.unwrap();
        (fake.got(), written.text())
    }

    #[tokio::test]
    async fn the_whole_day_is_sent_after_the_rule() {
        let (got, text) = run(json!({"rules": []})).await;
        assert_eq!(got[1].method, "POST");
        assert_eq!(serde_json::from_slice::<Value>(&got[1].body).unwrap()["id"], RULE);
        let sent: usize = got.iter().filter(|g| g.path == "/v1/events").map(|g| g.lines().len()).sum();
        assert_eq!(sent, demo::EXPECTED.events);
        assert!(text.contains("all of it stored"), "{text}");
        assert!(text.contains("TIMESTAMP '2024-03-05 00:00:00'"), "{text}");
        assert!(text.contains(".sluice/outbox/"), "{text}");
    }

    #[tokio::test]
    async fn a_second_demo_sends_the_same_requests_and_leaves_the_rule() {
        let (first, _) = run(json!({"rules": []})).await;
        let (second, _) = run(json!({"rules": [{"id": RULE}]})).await;
        let keys = |got: &[crate::client::tests::Got]| -> Vec<String> {
            let sent = got.iter().filter(|g| g.path == "/v1/events");
            sent.map(|g| g.headers["idempotency-key"].to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(keys(&first), keys(&second));
        assert!(second.iter().all(|g| (g.method.as_str(), g.path.as_str()) != ("POST", "/v1/rules")));
    }

    #[test]
    fn the_rule_is_one_that_the_server_takes() {
        let rule = sluice_domain::alert::Rule::parse(&rule().body().to_string(), Timestamp::default(), String::new);
        assert_eq!(rule.unwrap().id, RULE);
    }

    #[test]
    fn days_are_whole() {
        assert_eq!(day("2024-03-05").unwrap().to_string(), "2024-03-05T00:00:00.000Z");
        assert!(day("2024-02-30").is_err());
        let now = Timestamp::parse_rfc3339("2024-03-01T07:00:00Z").unwrap();
        assert_eq!(yesterday(now).to_string(), "2024-02-29T00:00:00.000Z");
    }
}
