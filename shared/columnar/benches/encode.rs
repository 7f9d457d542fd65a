//! Events per second on one thread, from the JSON text of a message's events to Parquet bytes. The peer is `arrow-json` with the same
//! codec on the same events, flattened for it beforehand; it does not check, sort, keep unknown fields or report misfits. The ratio stands
//! in one line before Criterion's figures.
#![allow(missing_docs, clippy::unwrap_used)]

mod arrow_json;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_columnar::ParquetEncoder;
use sluice_domain::demo::bench_event;
use sluice_domain::event::Shared;
use sluice_domain::lake::Encoder;
use sluice_domain::scan::Events;
use sluice_domain::schema::Schema;
use std::hint::black_box;

const EVENTS_PER_TYPE: usize = 5_000;
const SCHEMAS: [(&str, &str); 4] = [
    ("web.event", include_str!("../../../schemas/web.event.json")),
    ("http.access", include_str!("../../../schemas/http.access.json")),
    ("game.result", include_str!("../../../schemas/game.result.json")),
    ("quote.trade", include_str!("../../../schemas/quote.trade.json")),
];

struct Load {
    schema: Schema,
    /// The events as a message has them.
    message: String,
    /// The same events, envelope and data in one object, a line each.
    flat: String,
}

fn loads() -> Vec<Load> {
    let load = |(kind, (name, file)): (usize, &(&str, &str))| {
        let texts: Vec<String> = (0..EVENTS_PER_TYPE).map(|i| bench_event((i * SCHEMAS.len() + kind) as u64)).collect();
        let flat = texts.iter().map(|text| arrow_json::flat(text)).collect();
        Load { schema: Schema::parse(name, file).unwrap(), message: format!("[{}]", texts.join(",")), flat }
    };
    SCHEMAS.iter().enumerate().map(load).collect()
}

fn encode(encoder: &ParquetEncoder, load: &Load) -> Vec<u8> {
    let shared = Shared::default();
    let mut table = encoder.table(&load.schema).unwrap();
    let mut events = Events::new(&load.message, &shared);
    while events.advance().unwrap() {
        let (head, cursor) = events.head().unwrap();
        assert!(table.push_text(head, cursor));
    }
    table.encode(&(0..table.rows()).collect::<Vec<u32>>()).unwrap().bytes
}

/// Rounds of both in turn, by the processor time of this thread, so that others on the machine disturb both alike and count for neither.
fn compare(encoder: &ParquetEncoder, loads: &[Load]) {
    const ROUNDS: usize = 40;
    let cpu_s = || {
        // See proc(5); the first number is nanoseconds on a processor.
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
    };
    let (mut ours, mut theirs) = (0.0, 0.0);
    for _ in 0..ROUNDS {
        let start = cpu_s();
        loads.iter().for_each(|load| _ = black_box(encode(encoder, load)));
        let middle = cpu_s();
        loads.iter().for_each(|load| _ = black_box(arrow_json::convert(&load.schema, &load.flat)));
        (ours, theirs) = (ours + middle - start, theirs + cpu_s() - middle);
    }
    let events = (ROUNDS * EVENTS_PER_TYPE * loads.len()) as f64;
    println!(
        "processor time: sluice {:.0} events/s, arrow-json + parquet {:.0} events/s, ratio {:.2}",
        events / ours,
        events / theirs,
        theirs / ours
    );
}

fn bench(c: &mut Criterion) {
    let (loads, encoder) = (loads(), ParquetEncoder::new());
    for load in &loads {
        let (ours, theirs) = (encode(&encoder, load).len(), arrow_json::convert(&load.schema, &load.flat).len());
        println!("{}: {} B of JSON, {ours} B of Parquet, peer {theirs} B", load.schema.event_type, load.message.len());
    }
    compare(&encoder, &loads);
    let mut group = c.benchmark_group("encode");
    group.sample_size(20).throughput(Throughput::Elements((EVENTS_PER_TYPE * loads.len()) as u64));
    group.bench_function("sluice: message to Parquet", |b| {
        b.iter(|| loads.iter().for_each(|load| _ = black_box(encode(&encoder, load))));
    });
    group.bench_function("peer: arrow-json to Parquet", |b| {
        b.iter(|| loads.iter().for_each(|load| _ = black_box(arrow_json::convert(&load.schema, &load.flat))));
    });
    group.finish();

    let mut group = c.benchmark_group("encode one type");
    group.sample_size(20).throughput(Throughput::Elements(EVENTS_PER_TYPE as u64));
    for load in &loads {
        group.bench_function(&load.schema.event_type, |b| b.iter(|| black_box(encode(&encoder, load))));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
