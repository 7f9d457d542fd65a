//! `GET /v1/events/{document}/way`: what became of an event, from its document in the search on.
//!
//! Nothing is written on an event's way for this. What is said follows from what the ledger and the records of the lake say of its hour of
//! receive time and its type: where all events of these are stored, so is this one; and where one file alone can hold it, it is in that
//! file. What does not follow is null or `unknown`. A document does not name its batch, so that stays null.

use super::{Api, Call, Reply, failed};
use crate::groups::{RecordedFile, recorded_files};
use crate::http::Response;
use crate::ledger::{self, Counts, Sink};
use crate::quarantine::desk::{MAX_RECORDS, Select};
use serde_json::{Value, json};
use sluice_domain::time::Timestamp;

/// Longest id of a document.
const MAX_DOCUMENT_BYTES: usize = 512;
/// Longest name of an index.
const MAX_INDEX_BYTES: usize = 255;

/// What the document says of its event.
struct Traced<'d> {
    id: &'d str,
    source: &'d str,
    event_type: &'d str,
    time: Timestamp,
    received: Timestamp,
    received_text: &'d str,
}

impl Api {
    pub(super) async fn way(&self, call: Call<'_>, document: &str) -> Reply {
        self.allow_reading(call).await?;
        let index = call.request.query("index").unwrap_or_default();
        let table = table_of(index)
            .ok_or_else(|| Response::error(400, "index", "`index` is the index of one document, without `*`"))?;
        let unknown = || Response::error(404, "no_event", "there is no such event in this index");
        if document.is_empty() || document.len() > MAX_DOCUMENT_BYTES {
            return Err(unknown());
        }
        let asked = json!({"size": 1, "query": {"ids": {"values": [document]}}});
        let found = self.ports.search.search(index, &asked).await.map_err(|e| failed("the search failed", &e))?;
        let source = &found["hits"]["hits"][0]["_source"];
        let event = traced(source).ok_or_else(unknown)?;
        let failure = |e| failed("what became of the event could not be read", &e);
        let counter = ledger::counter(event.received, event.event_type);
        let sinks: Vec<Sink> = self.settings.sink_queues.keys().copied().collect();
        let counts = ledger::of(self.ports.table.as_ref(), &counter, &sinks).await.map_err(failure)?;
        let state = |sink: Sink| self.fate(sink, counts.as_ref());
        let lake = match state(Sink::Lake) {
            "off" => json!({"state": "off", "group": null, "object": null, "committed_at": null}),
            state => {
                let files = recorded_files(self.ports.table.as_ref(), table).await.map_err(failure)?;
                lake_row(&files, &event, &counter, state)
            }
        };
        let was_refused = |n: &ledger::SinkCounts| n.quarantined != 0;
        let quarantine = match counts.as_ref().is_some_and(|counts| counts.sinks.values().any(was_refused)) {
            true => self.refusals(&event).await.map_err(failure)?,
            false => Vec::new(),
        };
        let body = json!({
            "document": document,
            "type": event.event_type,
            "received_at": event.received_text,
            "batch": null,
            "lake": lake,
            "search": {"state": "stored", "index": index, "document": document, "indexed_at": null},
            "detect": {"state": state(Sink::Detect)},
            "quarantine": quarantine,
        });
        Ok(Response::json(200, &body))
    }

    /// What is known of all events of an hour and a type in a sink.
    fn fate(&self, sink: Sink, counts: Option<&Counts>) -> &'static str {
        if !self.settings.sink_queues.contains_key(&sink) {
            return "off";
        }
        match counts.and_then(|counts| counts.sinks.get(&sink)) {
            Some(n) if n.in_flight == 0 && n.quarantined == 0 && n.off == 0 && n.stored > 0 => "stored",
            Some(n) if n.in_flight > 0 && n.stored == 0 && n.quarantined == 0 => "in_flight",
            _ => "unknown",
        }
    }

    /// Records of quarantine that hold the event, among the first of its day.
    async fn refusals(&self, event: &Traced<'_>) -> Result<Vec<Value>, sluice_ports::PortError> {
        let day = event.received.date_text();
        let select = Select { from: Some(day.clone()), to: Some(day), ..Select::default() };
        let page = self.ports.desk.list(&select, None, MAX_RECORDS).await?;
        let of_event = page.found.iter().filter(|found| {
            let held: Value = serde_json::from_slice(&found.record.bytes).unwrap_or_default();
            held["id"] == event.id && held["source"] == event.source
        });
        let row = |found: &crate::quarantine::desk::Found| {
            let (day, id) = found.handle.split_once('/').unwrap_or(("", &found.handle));
            json!({"day": day, "id": id, "code": found.record.code, "at": found.record.received.to_micros_text()})
        };
        Ok(of_event.map(row).collect())
    }
}

/// The table of an index of one month: `sluice-{table}-{yyyy.MM}`.
fn table_of(index: &str) -> Option<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let (table, month) = index.strip_prefix(super::INDEX_PREFIX)?.rsplit_once('-')?;
    let fits = index.len() <= MAX_INDEX_BYTES && index.chars().all(is_name) && !table.is_empty();
    (fits && month.len() == "2026.11".len()).then_some(table)
}

fn traced(source: &Value) -> Option<Traced<'_>> {
    let text = |name: &str| source.get(name).and_then(Value::as_str);
    let time = |name: &str| text(name).and_then(Timestamp::parse_rfc3339);
    Some(Traced {
        id: text("id")?,
        source: text("source")?,
        event_type: text("type")?,
        time: time("time")?,
        received: time("receivedtime")?,
        received_text: text("receivedtime")?,
    })
}

/// Where in the lake an event is, whose fellows have this fate.
fn lake_row(files: &[RecordedFile], event: &Traced<'_>, counter: &str, state: &str) -> Value {
    let can_hold = |file: &&RecordedFile| {
        (file.min_time..=file.max_time).contains(&event.time) && file.counted.contains_key(counter)
    };
    let candidates: Vec<&RecordedFile> = files.iter().filter(can_hold).collect();
    let (group, object) = match candidates.as_slice() {
        [file] if state == "stored" => (Some(&file.group), Some(&file.key)),
        _ => (None, None),
    };
    json!({"state": state, "group": group, "object": object, "committed_at": null})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_index_of_one_month_names_its_table() {
        assert_eq!(table_of("sluice-web_event-2026.11"), Some("web_event"));
        let long = format!("sluice-{}-2026.11", "x".repeat(300));
        for other in [
            "",
            "sluice-*",
            "sluice-a-2026.11,sluice-b-2026.11",
            "other-a-2026.11",
            "sluice--2026.11",
            "sluice-a-1",
            &long,
        ] {
            assert_eq!(table_of(other), None, "{other}");
        }
    }

    #[test]
    fn only_the_one_file_that_can_hold_an_event_is_named() {
        let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
        let file = |key: &str, min: &str, max: &str, counter: &str| RecordedFile {
            key: key.into(),
            rows: 1,
            size_bytes: 1,
            min_time: at(min),
            max_time: at(max),
            group: format!("group of {key}"),
            counted: BTreeMap::from([(counter.to_owned(), 1)]),
        };
        let counter = "2026-11-21T10#x.y";
        let (ten, eleven) = ("2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z");
        let files = [
            file("a", ten, ten, counter),
            file("earlier hour", ten, eleven, "2026-11-21T09#x.y"),
            file("later", eleven, eleven, counter),
        ];
        let event =
            Traced { id: "1", source: "s", event_type: "x.y", time: at(ten), received: at(ten), received_text: ten };
        let row = lake_row(&files, &event, counter, "stored");
        assert_eq!((&row["object"], &row["group"]), (&json!("a"), &json!("group of a")));
        assert_eq!(lake_row(&files, &event, counter, "unknown")["object"], Value::Null);
        let two = [files[0].clone(), file("b", ten, eleven, counter)];
        assert_eq!(lake_row(&two, &event, counter, "stored")["object"], Value::Null);
    }
}
