//! `sluice watch`: events as they arrive.

use crate::cli::exit::{Exit, Failure};
use crate::cli::hits::{self, ALL_INDICES, Found, Hit, Query};
use crate::cli::terminal::{Out, note};
use crate::client::{CallError, Client};
use serde_json::{Value, json};
use sluice_domain::time::{SECOND_US, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often is asked.
const POLL_MS: u64 = 500;
/// Events of one question.
const PAGE: usize = 1_000;
/// Events may become findable in another order than they were received: this far back is looked each time.
const OVERLAP_US: i64 = 5 * SECOND_US;

/// See events as they arrive; Ctrl-C ends it.
///
/// An event is shown once, up to two seconds after it was received.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice watch
  sluice watch 'type:alert.fired'
  sluice watch 'data.status:[500 TO 599]' --last 100
  sluice watch --json | jq -c .data")]
pub struct Watch {
    /// Query, as `sluice search` takes it
    #[arg(value_name = "QUERY", default_value = "*")]
    query: String,
    /// Indices to look in; `*` stands for any characters
    #[arg(long, value_name = "PATTERN", default_value = ALL_INDICES)]
    index: String,
    /// Begin with the last events that are there
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    last: u32,
    /// One JSON event per line
    #[arg(long)]
    json: bool,
}

impl Watch {
    /// Shows events until Ctrl-C, or until nobody reads them any more.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        tokio::select! {
            done = self.follow(client, out) => done,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    }

    async fn follow(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let mut tail = Tail::default();
        let first = self.ask(client, &tail.first(&self.query, self.last as usize)).await?;
        for hit in tail.begin(first, self.last as usize) {
            self.show(out, &hit)?;
        }
        out.flush()?;
        let mut away = false;
        loop {
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
            loop {
                let hits = match self.ask(client, &tail.next(&self.query)).await {
                    Ok(hits) => hits,
                    Err(CallError::Unreachable(_) | CallError::Busy(_)) => {
                        if !std::mem::replace(&mut away, true) {
                            note("the server does not answer; waiting for it");
                        }
                        break;
                    }
                    Err(error) => return Err(error.into()),
                };
                if std::mem::take(&mut away) {
                    note("the server answers again");
                }
                let full = hits.len() == PAGE;
                for hit in tail.take(hits) {
                    self.show(out, &hit)?;
                }
                out.flush()?;
                if !full {
                    tail.rewind();
                    break;
                }
            }
        }
    }

    async fn ask(&self, client: &Client, body: &Value) -> Result<Vec<Hit>, CallError> {
        let found: Found = client.post("/v1/search", &[("index", &self.index)], body).await?;
        Ok(found.hits.hits)
    }

    fn show(&self, out: &mut Out, hit: &Hit) -> Result<(), Failure> {
        let line = if self.json { hit.event.to_string() } else { hits::line(out, &hit.event) };
        out.line(line).map_err(|failure| Failure { exit: Exit::Done, ..failure })
    }
}

/// What was shown, and where to go on.
#[derive(Debug, Default)]
struct Tail {
    /// Latest receive time that was seen.
    latest: Option<Timestamp>,
    /// Ids of events received within [`OVERLAP_US`] of that.
    shown: BTreeMap<String, Timestamp>,
    /// Where the last full page ended.
    after: Option<Value>,
    /// Only what was received after this is shown.
    floor: Option<Timestamp>,
}

/// By receive time, and then by what tells events apart. The document's own id would do, but OpenSearch may be set not to sort by it.
fn order(direction: &str) -> Value {
    ["receivedtime", "id", "source", "time", "type"].iter().map(|field| json!({*field: {"order": direction}})).collect()
}

impl Tail {
    /// The question for the events to begin with, newest first. One at least, to know where "now" is by the server's clock.
    fn first(&self, query: &str, last: usize) -> Value {
        json!({
            "size": last.max(1), "query": Query { text: query, filters: Vec::new() }.to_json(),
            "sort": order("desc")})
    }

    /// Takes the answer to the first question: what to show, oldest first.
    fn begin(&mut self, mut hits: Vec<Hit>, last: usize) -> Vec<Hit> {
        hits.reverse();
        let mut show = self.take(hits);
        show.drain(..show.len().saturating_sub(last));
        // What was received until now is no news when the look back finds it.
        self.floor = self.latest;
        self.rewind();
        show
    }

    /// The next question, oldest first.
    fn next(&self, query: &str) -> Value {
        let mut filters = Vec::new();
        if let Some(latest) = self.latest {
            let from = latest.plus_micros(-OVERLAP_US).to_micros_text();
            filters.push(json!({"range": {"receivedtime": {"gte": from}}}));
        }
        if let Some(floor) = self.floor {
            filters.push(json!({"range": {"receivedtime": {"gt": floor.to_micros_text()}}}));
        }
        let mut body = json!({
            "size": PAGE, "query": Query { text: query, filters }.to_json(),
            "sort": order("asc")});
        if let Some(after) = &self.after {
            body["search_after"] = after.clone();
        }
        body
    }

    /// Takes an answer: those that were not shown yet, in order.
    fn take(&mut self, hits: Vec<Hit>) -> Vec<Hit> {
        if let Some(last) = hits.last() {
            self.after = Some(last.sort.clone());
        }
        let mut fresh = Vec::new();
        for hit in hits {
            let received = hit.event.get("receivedtime").and_then(Value::as_str).and_then(Timestamp::parse_rfc3339);
            let received = received.or(self.latest).unwrap_or_default();
            if self.shown.insert(hit.id.clone(), received).is_none() {
                fresh.push(hit);
            }
            self.latest = self.latest.max(Some(received));
        }
        if let Some(latest) = self.latest {
            let from = latest.plus_micros(-OVERLAP_US);
            self.shown.retain(|_, received| *received >= from);
        }
        fresh
    }

    /// All pages are read: the next question looks back again.
    fn rewind(&mut self) {
        self.after = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;

    fn hit(id: &str, second: &str) -> Value {
        json!({"_id": id, "_source": {"receivedtime": format!("2024-01-01T00:00:{second}Z"), "id": id}, "sort": [second, id]})
    }

    fn hits(list: &[(&str, &str)]) -> Vec<Hit> {
        list.iter().map(|(id, second)| serde_json::from_value(hit(id, second)).unwrap()).collect()
    }

    fn ids(hits: &[Hit]) -> Vec<&str> {
        hits.iter().map(|h| h.id.as_str()).collect()
    }

    #[test]
    fn the_tail_begins_with_the_last_events_oldest_first() {
        let mut tail = Tail::default();
        let shown = tail.begin(hits(&[("c", "03"), ("b", "02"), ("a", "01")]), 2);
        assert_eq!(ids(&shown), ["b", "c"]);
        let next = tail.next("*");
        assert_eq!(next["query"]["bool"]["filter"][1]["range"]["receivedtime"]["gt"], "2024-01-01T00:00:03.000000Z");
        assert!(next.get("search_after").is_none());
        let fields = |question: &Value| -> Vec<String> {
            question["sort"].as_array().unwrap().iter().flat_map(|s| s.as_object().unwrap().keys().cloned()).collect()
        };
        assert_eq!(
            fields(&next),
            ["receivedtime", "id", "source", "time", "type"],
            "what search can sort by on any cluster"
        );
        let mut tail = Tail::default();
        assert!(tail.begin(hits(&[("c", "03")]), 0).is_empty());
        assert_eq!(tail.first("*", 0)["size"], 1);
    }

    #[test]
    fn an_event_that_becomes_findable_late_is_shown_once() {
        let mut tail = Tail::default();
        tail.begin(Vec::new(), 10);
        assert!(tail.next("*")["query"]["bool"]["filter"].as_array().unwrap().is_empty());
        assert_eq!(ids(&tail.take(hits(&[("a", "10"), ("c", "12")]))), ["a", "c"]);
        tail.rewind();
        assert_eq!(ids(&tail.take(hits(&[("a", "10"), ("b", "11"), ("c", "12")]))), ["b"]);
        tail.rewind();
        assert!(tail.take(hits(&[("a", "10"), ("b", "11"), ("c", "12")])).is_empty());
    }

    #[test]
    fn what_was_shown_is_forgotten_when_it_cannot_come_again() {
        let mut tail = Tail::default();
        tail.take(hits(&[("a", "10"), ("b", "20")]));
        assert_eq!(tail.shown.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn full_pages_go_on_where_they_ended() {
        let mut tail = Tail::default();
        tail.take(hits(&[("a", "10")]));
        assert_eq!(tail.next("*")["search_after"], json!(["10", "a"]));
    }

    #[tokio::test]
    async fn a_server_that_goes_away_for_a_while_is_waited_for() {
        let fake = Fake::start(|number, _| match number {
            0 => (200, vec![], json!({"hits": {"hits": [hit("a", "01")]}}).to_string()),
            1 => (503, vec![], String::new()),
            2 => (200, vec![], json!({"hits": {"hits": [hit("b", "02")]}}).to_string()),
            _ => (400, vec![], r#"{"error":{"code":"x","message":"the end"}}"#.into()),
        })
        .await;
        let watch = Watch { query: "*".into(), index: "*".into(), last: 1, json: true };
        let (mut out, written) = Out::captured();
        let failure = watch.run(&fake.client(), &mut out).await.unwrap_err();
        assert!(failure.to_string().contains("the end"));
        let shown: Vec<Value> = written.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(shown.iter().map(|e| e["id"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
