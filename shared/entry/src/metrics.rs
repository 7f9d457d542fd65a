//! Metrics: what stages count while they run, summed up for one call and written in CloudWatch's embedded metric format.
//!
//! What is counted are the fields of [`METRICS`] in the lines that stages log for each batch, so that a line and a metric never say
//! different things; what is counted without a line is a `tracing` event of level `TRACE` with the target [`TARGET`].
//!
//! Source of the format: AWS documentation, "Specification: Embedded metric format".

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
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

/// Fields that are counted, with name and unit of their metrics.
pub const METRICS: &[(&str, &str, &str)] = &[
    ("messages", "Messages", "Count"),
    ("events.received", "Received", "Count"),
    ("events.stored", "Stored", "Count"),
    ("events.rejected", "Rejected", "Count"),
    ("events.quarantined", "Quarantined", "Count"),
    ("events.duplicates", "Duplicates", "Count"),
    ("bytes", "Bytes", "Bytes"),
    ("ledger.problems", "LedgerProblems", "Count"),
];

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

/// Takes what was counted since the last time, as one line of the format; `None` where nothing was. `now_ms` is in milliseconds since the
/// epoch.
pub fn take(stack: &str, stage: &str, now_ms: i64) -> Option<String> {
    let counted = std::mem::take(&mut *COUNTED.lock().unwrap_or_else(PoisonError::into_inner));
    line(&counted, stack, stage, now_ms)
}

fn line(counted: &BTreeMap<&str, u64>, stack: &str, stage: &str, now_ms: i64) -> Option<String> {
    let mut values: Vec<(&str, &str, u64)> =
        METRICS.iter().filter_map(|(field, name, unit)| Some((*name, *unit, *counted.get(field)?))).collect();
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
        assert_eq!(names, ["Received", "Stored", "OldestAge"], "a metric without a value is not declared");
        assert!(names.iter().all(|name| line[*name].is_u64()), "and each that is declared has one: {line}");
        assert_eq!(take("dev", "convert", 0), None, "it was taken");
    }
}
