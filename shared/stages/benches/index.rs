//! Events per second on one thread, from a message to the documents that are handed to the search port. The peer builds the body of a bulk
//! request from the same text of events with `serde_json`; its documents are the events as they are. The ratio stands in one line before
//! Criterion's figures.
#![allow(missing_docs, clippy::unwrap_used)]

mod cpu;

use async_trait::async_trait;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};
use sluice_domain::demo::bench_event;
use sluice_domain::event::Shared;
use sluice_domain::identity::document_id;
use sluice_domain::lake::index_name;
use sluice_domain::message::{Entry, Unpacked, pack, unpack};
use sluice_domain::schema::Registry;
use sluice_domain::time::Timestamp;
use sluice_ports::{
    Document, DocumentOutcome, IndexTemplate, Item as Row, Key, PortError, Query, Search, Table, Write,
};
use sluice_stages::index::documents::Documents;
use sluice_stages::index::{Index, IndexPorts, IndexSettings};
use sluice_stages::item::{Item, Outcome};
use sluice_testkit::memory::MemoryQueue;
use std::hint::black_box;
use std::sync::Arc;

const EVENTS: usize = 100;
const TYPES: [&str; 4] = ["web.event", "http.access", "game.result", "quote.trade"];

const SCHEMAS: [(&str, &str); 5] = [
    ("event.json", include_str!("../../../schemas/event.json")),
    ("web.event.json", include_str!("../../../schemas/web.event.json")),
    ("http.access.json", include_str!("../../../schemas/http.access.json")),
    ("game.result.json", include_str!("../../../schemas/game.result.json")),
    ("quote.trade.json", include_str!("../../../schemas/quote.trade.json")),
];

/// Ports that take everything and keep nothing.
struct Nowhere;

#[async_trait]
impl Search for Nowhere {
    async fn define(&self, _: Vec<IndexTemplate>) -> Result<(), PortError> {
        Ok(())
    }

    async fn create(&self, documents: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        Ok(black_box(documents).iter().map(|_| DocumentOutcome::Created).collect())
    }

    async fn search(&self, _: &str, _: &Value) -> Result<Value, PortError> {
        Ok(Value::Null)
    }
}

#[async_trait]
impl Table for Nowhere {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, PortError> {
        Ok(keys.iter().map(|_| None).collect())
    }

    async fn query(&self, _: Query) -> Result<Vec<Row>, PortError> {
        Ok(Vec::new())
    }

    async fn write(&self, _: Vec<Write>) -> Result<(), PortError> {
        Ok(())
    }
}

fn documents(registry: &Registry, unpacked: &Unpacked) -> Vec<Document> {
    let place = |event_type: &str| {
        let schema = registry.resolve(event_type);
        (schema.table.as_str(), schema)
    };
    let mut documents = Documents::new(&unpacked.shared(), place);
    assert!(documents.read(unpacked).unwrap().is_empty());
    documents.finish().0
}

/// What one would write.
fn bulk(unpacked: &Unpacked) -> String {
    let received = unpacked.header.received.as_str();
    let events: Vec<Value> = serde_json::from_str(unpacked.text()).unwrap();
    let mut body = String::new();
    for mut event in events {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        let time = Timestamp::parse_rfc3339(text("time")).unwrap();
        let id = document_id(text("source"), text("id"), time);
        let index = index_name(&text("type").replace('.', "_"), time);
        event["receivedtime"] = received.into();
        body.push_str(&json!({"create": {"_index": index, "_id": id}}).to_string());
        body.push('\n');
        body.push_str(&event.to_string());
        body.push('\n');
    }
    body
}

fn index(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let now = Timestamp::parse_rfc3339("2026-01-15T01:00:00Z").unwrap();
    let registry = Arc::new(Registry::load(SCHEMAS).unwrap());
    let shared = Shared { received: now, client_ip: Some("10.0.0.0".into()), user_agent: Some("bench".into()) };
    let entry = |i: usize| Entry { event_type: TYPES[i % TYPES.len()].to_owned(), text: bench_event(i as u64) };
    let packed = pack("batch", &shared, &(0..EVENTS).map(entry).collect::<Vec<_>>()).unwrap();
    let item = Item { id: "m".into(), body: packed.published_as("p").body, receive_count: 1 };
    let unpacked = unpack(&item.body).unwrap();
    let ports =
        IndexPorts { search: Arc::new(Nowhere), table: Arc::new(Nowhere), quarantine: Arc::new(MemoryQueue::new()) };
    let stage = Index::new(ports, registry.clone(), IndexSettings::default());
    let run = || {
        let outcomes = runtime.block_on(stage.run(std::slice::from_ref(&item), now));
        assert_eq!(outcomes, [Outcome::Done]);
    };
    let make = || _ = black_box(documents(&registry, &unpacked));
    let peer = || _ = black_box(bulk(&unpacked));
    cpu::compare("documents of a message's text", "bulk body by serde_json", EVENTS, make, peer);
    cpu::compare("a message through the stage", "bulk body by serde_json", EVENTS, run, peer);

    let mut group = c.benchmark_group("message_of_100_events");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("documents", |b| b.iter(make));
    group.bench_function("stage", |b| b.iter(run));
    group.bench_function("serde_json", |b| b.iter(peer));
    group.finish();
}

criterion_group!(benches, index);
criterion_main!(benches);
