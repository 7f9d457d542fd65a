//! Events per second on one thread, from the request to the packed messages: key, split, check, stamp, pack. The peer is only parsing the same
//! events with `serde_json`. The ratio stands in one line before Criterion's figures.
#![allow(missing_docs, clippy::unwrap_used)]

mod cpu;

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
    let events: Vec<String> = (0..EVENTS as u64).map(bench_event).collect();
    let request = |media: &str, body: String| Request {
        method: "POST".into(),
        path: "/v1/events".into(),
        headers: BTreeMap::from([
            ("authorization".to_owned(), format!("Bearer {secret}")),
            ("content-type".to_owned(), media.to_owned()),
        ]),
        body: body.into(),
        client_ip: "203.0.113.77".into(),
        ..Request::default()
    };
    let lines = request("application/x-ndjson", events.join("\n"));
    let array = request("application/json", format!("[{}]", events.join(",")));
    let take = |request: &Request| runtime.block_on(stage.handle(black_box(request), now)).status;
    let parse =
        || events.iter().for_each(|line| _ = black_box(serde_json::from_str::<serde_json::Value>(line).unwrap()));
    assert_eq!((take(&lines), take(&array)), (202, 202));
    cpu::compare("ingest of lines", "serde_json parse alone", EVENTS, || _ = take(&lines), parse);
    cpu::compare("ingest of an array", "serde_json parse alone", EVENTS, || _ = take(&array), parse);

    let mut group = c.benchmark_group("request_of_100_events");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("ingest", |b| b.iter(|| take(&lines)));
    group.bench_function("serde_json_parse_only", |b| b.iter(parse));
    group.finish();
}

criterion_group!(benches, ingest);
criterion_main!(benches);
