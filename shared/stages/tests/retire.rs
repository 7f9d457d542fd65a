//! Whole search indices go when they were kept long enough, and the ledger knows.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use async_trait::async_trait;
use serde_json::{Value, json};
use sluice_domain::schema::Registry;
use sluice_domain::time::Timestamp;
use sluice_ports::{
    Document, DocumentId, DocumentOutcome, ErrorKind, IndexTemplate, Key, PortError, Search, SearchRemoval, Table,
};
use sluice_stages::retire::retire;
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::MemoryTable;
use std::collections::BTreeMap;
use std::sync::Mutex;

const KEPT: &str = r#"{"type":"object","x-type":"web.event","x-retention-days":30,"properties":{}}"#;
const FOR_EVER: &str = r#"{"type":"object","x-type":"web.event_more","properties":{}}"#;
/// 2026-10-15T10:00:00Z, milliseconds since the epoch.
const OCTOBER: i64 = 1_792_058_400_000;

/// How many documents an index has, all received in one hour.
struct Indices(Mutex<BTreeMap<String, u64>>);

#[async_trait]
impl Search for Indices {
    async fn define(&self, _: Vec<IndexTemplate>) -> Result<(), PortError> {
        Ok(())
    }

    async fn create(&self, _: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        Ok(Vec::new())
    }

    async fn search(&self, index: &str, _: &Value) -> Result<Value, PortError> {
        let n = self.0.lock().unwrap()[index];
        let types = json!({"buckets": [{"key": "web.event", "doc_count": n}]});
        Ok(json!({"aggregations": {"hours": {"buckets": [{"key": OCTOBER, "types": types}]}}}))
    }
}

#[async_trait]
impl SearchRemoval for Indices {
    async fn remove(&self, _: Vec<DocumentId>) -> Result<(), PortError> {
        unreachable!("indices go as a whole")
    }

    async fn indices(&self, pattern: &str) -> Result<Vec<String>, PortError> {
        let prefix = pattern.strip_suffix('*').unwrap();
        Ok(self.0.lock().unwrap().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    async fn remove_index(&self, index: &str) -> Result<(), PortError> {
        self.0.lock().unwrap().remove(index);
        Ok(())
    }
}

fn indices() -> Indices {
    let names =
        ["web_event-2026.09", "web_event-2026.10", "web_event-2026.11", "web_event-odd", "web_event_more-2020.01"];
    Indices(Mutex::new(names.iter().map(|name| (format!("sluice-{name}"), 7)).collect()))
}

fn registry() -> Registry {
    let event = ("event.json", include_str!("../../../schemas/event.json"));
    Registry::load([event, ("web.json", KEPT), ("more.json", FOR_EVER)]).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

#[tokio::test]
async fn an_index_goes_when_the_last_event_of_its_month_was_kept_long_enough() {
    let (search, table) = (indices(), MemoryTable::new());
    let tick = async |now: &str| retire(&search, &table, &registry(), at(now)).await.unwrap();
    assert_eq!(tick("2026-10-30T23:59:59Z").await, [""; 0]);
    assert_eq!(tick("2026-10-31T00:00:00Z").await, ["sluice-web_event-2026.09"]);
    assert_eq!(tick("2026-11-30T23:59:59Z").await, [""; 0]);
    assert_eq!(tick("2026-12-01T00:00:00Z").await, ["sluice-web_event-2026.10"]);
    let left: Vec<String> = search.0.lock().unwrap().keys().cloned().collect();
    assert_eq!(left, ["sluice-web_event-2026.11", "sluice-web_event-odd", "sluice-web_event_more-2020.01"]);
    let counter = table.value("counter", "2026-10-15T10#web.event").unwrap();
    assert_eq!(counter["search_removed"], 14);
}

#[tokio::test]
async fn documents_are_counted_before_they_go() {
    let (search, table) = (indices(), MemoryTable::new());
    let faulty = Faulty::new(indices());
    faulty.script("search.remove_index", [Fault::Before(ErrorKind::Unavailable)]);
    let now = at("2026-12-01T00:00:00Z");
    retire(&faulty, &table, &registry(), now).await.unwrap_err();
    let key = [Key::new("counter", "2026-10-15T10#web.event")];
    let counted = table.get(&key).await.unwrap().pop().flatten().unwrap();
    assert_eq!(counted.value["search_removed"], 7, "it is counted, and not gone");
    let broken = Faulty::new(MemoryTable::new());
    broken.always("table.write", Fault::Before(ErrorKind::Unavailable));
    retire(&search, &broken, &registry(), now).await.unwrap_err();
    assert_eq!(search.0.lock().unwrap().len(), 5, "what is not counted does not go");
}
