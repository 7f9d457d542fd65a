//! Events per second on one thread, from the request to the packed messages: key, split, check, stamp, pack. The peer is only parsing the same
//! body with `serde_json`.
#![allow(missing_docs, clippy::unwrap_used)]

use async_trait::async_trait;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_domain::demo::bench_event;
use sluice_domain::schema::Registry;
use sluice_domain::time::Timestamp;
use sluice_ports::{Message, PortError, Topic};
use sluice_stages::access::{KeySpec, Keys};
use sluice_stages::http::Request;
use sluice_stages::ingest::{ClientIp, Ingest, IngestPorts, IngestSettings};
use sluice_testkit::memory::{MemoryQueue, MemoryTable};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

const EVENTS: usize = 100;

const SCHEMAS: [(&str, &str); 5] = [
    ("event.json", include_str!("../../../schemas/event.json")),
    ("web.event.json", include_str!("../../../schemas/web.event.json")),
    ("http.access.json", include_str!("../../../schemas/http.access.json")),
    ("game.result.json", include_str!("../../../schemas/game.result.json")),
    ("quote.trade.json", include_str!("../../../schemas/quote.trade.json")),
];

/// A topic that takes everything and keeps nothing.
struct Nowhere;

#[async_trait]
impl Topic for Nowhere {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        messages.iter().map(black_box).map(|_| Ok(())).collect()
    }
}

fn ingest(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let now = Timestamp::parse_rfc3339("2026-01-15T01:00:00Z").unwrap();
    let keys = Arc::new(Keys::new(Arc::new(MemoryTable::new())));
    let (secret, _) = runtime.block_on(keys.create(KeySpec::write(["*"]), None, now)).unwrap();
    let ports = IngestPorts { topic: Arc::new(Nowhere), quarantine: Arc::new(MemoryQueue::new()), keys };
    let settings = IngestSettings {
        zone: chrono_tz::Tz::UTC,
        client_ip: ClientIp::Truncated,
        max_body_bytes: 1 << 20,
        max_decompressed_bytes: 1 << 20,
        max_events_per_request: EVENTS,
        quarantine_per_key_hour: 1,
    };
    let stage = Ingest::new(ports, Arc::new(Registry::load(SCHEMAS).unwrap()), settings);
    let body: String = (0..EVENTS as u64).map(|i| bench_event(i) + "\n").collect();
    let headers = [("authorization", format!("Bearer {secret}")), ("content-type", "application/x-ndjson".into())];
    let request = Request {
        method: "POST".into(),
        path: "/v1/events".into(),
        headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        body: body.clone().into(),
        client_ip: "203.0.113.77".into(),
        ..Request::default()
    };
    assert_eq!(runtime.block_on(stage.handle(&request, now)).status, 202);

    let mut group = c.benchmark_group("request_of_100_events");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("ingest", |b| b.iter(|| runtime.block_on(stage.handle(black_box(&request), now))));
    group.bench_function("serde_json_parse_only", |b| {
        b.iter(|| {
            for line in body.lines() {
                black_box(serde_json::from_str::<serde_json::Value>(line).unwrap());
            }
        });
    });
    group.finish();
}

criterion_group!(benches, ingest);
criterion_main!(benches);
