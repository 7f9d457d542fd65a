//! Metrics: what stages count while they run, summed up for one call and written in CloudWatch's embedded metric format.
//!
//! What is counted are the fields of [`METRICS`] in the lines that stages log for each batch, so that a line and a metric never say
//! different things; what is counted without a line is a `tracing` event of level `TRACE` with the target [`TARGET`].
//!
//! Source of the format: AWS documentation, "Specification: Embedded metric format".

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Target of events that count and are no lines.
pub const TARGET: &str = "metrics";
/// Namespace of the metrics.
const NAMESPACE: &str = "Sluice";
/// When the oldest message of a delivery was sent, milliseconds since the epoch; becomes an age.
pub const OLDEST_SENT_MS: &str = "oldest_sent_ms";

/// Fields that are counted, with name and unit of their metrics. What several fields count under one name is added up.
pub const METRICS: &[(&str, &str, &str)] = &[
    ("messages", "Messages", "Count"),
    (RECEIVED, "Received", "Count"),
    ("events.stored", "Stored", "Count"),
    ("events.rejected", "Rejected", "Count"),
    ("events.quarantined", "Rejected", "Count"),
    ("events.duplicates", "Duplicates", "Count"),
    ("bytes", "Bytes", "Bytes"),
    ("ledger.problems", "LedgerProblems", "Count"),
];

/// What a stage received. A stage that takes messages does not count it: it is the sum of what became of the events, and what was given
/// back is received when it comes again.
const RECEIVED: &str = "events.received";
/// The metrics of [`RECEIVED`] and of what became of it: a stage that counts one of them has them all.
const EVENTS: [&str; 4] = ["Received", "Stored", "Rejected", "Duplicates"];

/// The stage of which one call is one request: a line for each would cost as much as its messages.
const REQUESTS: &str = "ingest";
/// Its environment writes a line this often at most. What it has counted since its last line is not told when it is ended; exact is the
/// ledger.
const PAUSE_MS: i64 = 10_000;

static COUNTED: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Adds up the fields of the events that it hears.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Add);
    }
}

struct Add;

impl Visit for Add {
    fn record_u64(&mut self, field: &Field, value: u64) {
        let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
        if field.name() == OLDEST_SENT_MS {
            let oldest = counted.entry(OLDEST_SENT_MS).or_insert(value);
            *oldest = value.min(*oldest);
        } else if let Some((name, ..)) = METRICS.iter().find(|(name, ..)| *name == field.name()) {
            *counted.entry(name).or_default() += value;
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.record_u64(field, u64::try_from(value).unwrap_or(0));
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// Whether a stage writes its line now.
pub fn is_due(stage: &str, now_ms: i64) -> bool {
    static LAST_MS: AtomicI64 = AtomicI64::new(i64::MIN);
    let last_ms = LAST_MS.load(Ordering::Relaxed);
    let is_due = stage != REQUESTS || now_ms.saturating_sub(last_ms) >= PAUSE_MS;
    if is_due {
        LAST_MS.store(now_ms, Ordering::Relaxed);
    }
    is_due
}

/// Takes what was counted since the last time, as one line of the format; `None` where nothing was. `now_ms` is in milliseconds since the
/// epoch.
pub fn take(stack: &str, stage: &str, now_ms: i64) -> Option<String> {
    let counted = std::mem::take(&mut *COUNTED.lock().unwrap_or_else(PoisonError::into_inner));
    line(&counted, stack, stage, now_ms)
}

fn line(counted: &BTreeMap<&str, u64>, stack: &str, stage: &str, now_ms: i64) -> Option<String> {
    let has_events = METRICS.iter().any(|(field, name, _)| EVENTS.contains(name) && counted.contains_key(field));
    let mut values: Vec<(&str, &str, u64)> = Vec::with_capacity(METRICS.len());
    for (field, name, unit) in METRICS {
        let counted = match counted.get(field) {
            Some(n) => *n,
            None if has_events && *field == RECEIVED => settled(counted),
            None if has_events && EVENTS.contains(name) => 0,
            None => continue,
        };
        match values.iter_mut().find(|(known, ..)| known == name) {
            Some((.., sum)) => *sum += counted,
            None => values.push((name, unit, counted)),
        }
    }
    if let Some(sent_ms) = counted.get(OLDEST_SENT_MS).filter(|sent_ms| **sent_ms != u64::MAX) {
        let now_ms = u64::try_from(now_ms).unwrap_or(0);
        values.push(("OldestAge", "Milliseconds", now_ms.saturating_sub(*sent_ms)));
    }
    if values.is_empty() {
        return None;
    }
    let metrics: Vec<Value> = values.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
    let directive = json!({"Namespace": NAMESPACE, "Dimensions": [["Stack", "Stage"]], "Metrics": metrics});
    let mut line = Map::from_iter([
        ("_aws".to_owned(), json!({"Timestamp": now_ms, "CloudWatchMetrics": [directive]})),
        ("Stack".to_owned(), json!(stack)),
        ("Stage".to_owned(), json!(stage)),
    ]);
    line.extend(values.into_iter().map(|(name, _, value)| (name.to_owned(), json!(value))));
    Some(Value::Object(line).to_string())
}

/// Events of which is known what became of them.
fn settled(counted: &BTreeMap<&str, u64>) -> u64 {
    let became = |(_, name, _): &&(&str, &str, &str)| EVENTS.contains(name);
    METRICS.iter().filter(became).filter_map(|(field, ..)| counted.get(field)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn what_stages_count_becomes_one_line() {
        let subscriber = tracing_subscriber::registry().with(Counting);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(events.received = 5_u64, events.stored = 3_usize, unknown = 9, "a line");
            tracing::event!(target: TARGET, tracing::Level::TRACE, events.stored = 1, oldest_sent_ms = 9_000_u64);
            tracing::event!(target: TARGET, tracing::Level::TRACE, oldest_sent_ms = 8_000_u64);
        });
        let line: Value = serde_json::from_str(&take("dev", "convert", 10_500).unwrap()).unwrap();
        assert_eq!((&line["Received"], &line["Stored"], &line["OldestAge"]), (&json!(5), &json!(4), &json!(2_500)));
        assert_eq!((&line["Stack"], &line["Stage"]), (&json!("dev"), &json!("convert")));
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Dimensions"], json!([["Stack", "Stage"]]));
        let names: Vec<&str> =
            directive["Metrics"].as_array().unwrap().iter().map(|m| m["Name"].as_str().unwrap()).collect();
        assert_eq!(names, ["Received", "Stored", "Rejected", "Duplicates", "OldestAge"]);
        assert!(names.iter().all(|name| line[*name].is_u64()), "and each that is declared has one: {line}");
        assert_eq!(take("dev", "convert", 0), None, "it was taken");
    }

    #[test]
    fn requests_are_told_of_every_ten_seconds_and_deliveries_each() {
        let due = [0, 9_999, 10_000, 10_001, 30_000].map(|now_ms| is_due("ingest", now_ms));
        assert_eq!(due, [true, false, true, false, true]);
        assert!(is_due("convert", 30_001) && is_due("convert", 30_002));
    }

    #[test]
    fn a_stage_that_takes_messages_has_received_what_it_settled() {
        let counted = BTreeMap::from([("events.stored", 7), ("events.quarantined", 2), ("events.duplicates", 1)]);
        let line: Value = serde_json::from_str(&line(&counted, "dev", "index", 0).unwrap()).unwrap();
        assert_eq!(EVENTS.map(|name| line[name].as_u64().unwrap()), [10, 7, 2, 1]);
        let idle = BTreeMap::from([("messages", 3)]);
        let line: Value = serde_json::from_str(&super::line(&idle, "dev", "api", 0).unwrap()).unwrap();
        assert_eq!((&line["Messages"], line.get("Received")), (&json!(3), None));
    }
}
