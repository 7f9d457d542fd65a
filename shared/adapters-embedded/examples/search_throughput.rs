//! Measures the embedded search: documents created per second, then how long some searches take.
//! `cargo run --release -p sluice-adapters-embedded --no-default-features --features search --example search_throughput -- 1000000 10000`
//! (documents, documents per call).
#![allow(clippy::unwrap_used, reason = "a measurement reports by panic")]

use serde_json::{Value, json};
use sluice_adapters_embedded::search::{EmbeddedSearch, EmbeddedSearchConfig};
use sluice_ports::{Document, DocumentOutcome, IndexTemplate, Search};
use std::time::Instant;

fn document(n: u64) -> Document {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let ms = 1_793_491_200_000 + n * 37;
    let time = chrono::DateTime::from_timestamp_millis(ms as i64).unwrap().to_rfc3339();
    let source = format!(
        r#"{{"id":"{mixed:016x}-{n}","source":"shop","type":"http.access","time":"{time}","receivedtime":"{time}","specversion":"1.0","subject":"s{}","userid":"{:05}","clientip":"10.{}.{}.{}","useragent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{}.0","data":{{"method":"GET","path":"/product/{}/view","status":{},"bytes":{},"response_ms":{},"referrer":"https://shop.example/list?page={}"}},"extra":{{"zone":"z{}"}}}}"#,
        n % 50,
        mixed % 90_000,
        mixed & 255,
        (mixed >> 8) & 255,
        (mixed >> 16) & 255,
        mixed % 40,
        mixed % 3_000,
        [200, 200, 200, 304, 404, 500][(mixed % 6) as usize],
        mixed % 100_000,
        mixed % 900,
        mixed % 200,
        n % 8
    );
    Document {
        index: format!("sluice-http_access-2026.{:02}", 11 + n % 2),
        id: format!("{:022x}", u128::from(mixed) << 24 | u128::from(n)),
        source,
    }
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or_default() / 1_024
    };
    println!("  anonymous {} MB, files {} MB", line("RssAnon"), line("RssFile"));
    line("VmRSS")
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().unwrap());
    let (total, per_call) = (arguments.next().unwrap_or(500_000), arguments.next().unwrap_or(10_000));
    let dir = tempfile::tempdir_in(".").unwrap();
    let search = EmbeddedSearch::open(dir.path(), EmbeddedSearchConfig::default()).unwrap();
    println!("idle: {} MB", resident_mb());
    let keyword = || json!({"type": "keyword"});
    let mappings = json!({"properties": {
        "id": keyword(), "source": keyword(), "type": keyword(), "time": {"type": "date"}, "receivedtime": {"type": "date"},
        "specversion": keyword(), "subject": keyword(), "userid": keyword(), "clientip": keyword(), "useragent": keyword(),
        "data": {"properties": {
            "method": keyword(), "path": keyword(), "status": {"type": "long"}, "bytes": {"type": "long"},
            "response_ms": {"type": "long"}, "referrer": keyword(),
        }},
        "extra": {"type": "flat_object"},
    }});
    let template = IndexTemplate { name: "access".into(), pattern: "sluice-http_access-*".into(), mappings };
    search.define(vec![template]).await.unwrap();

    let started = Instant::now();
    let (mut bytes, mut slowest) = (0, 0.0_f64);
    for first in (0..total).step_by(per_call as usize) {
        let documents: Vec<Document> = (first..(first + per_call).min(total)).map(document).collect();
        bytes += documents.iter().map(|document| document.source.len() as u64).sum::<u64>();
        let called = Instant::now();
        let outcomes = search.create(documents).await.unwrap();
        slowest = slowest.max(called.elapsed().as_secs_f64());
        assert!(outcomes.iter().all(|outcome| matches!(outcome, DocumentOutcome::Created)));
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{total} documents of {} bytes in {seconds:.1} s: {:.0} documents/s, slowest call {slowest:.2} s, {} MB",
        bytes / total,
        total as f64 / seconds,
        resident_mb()
    );
    let again = Instant::now();
    let outcomes = search.create((0..per_call).map(document).collect()).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, DocumentOutcome::Exists)));
    println!("{per_call} that exist: {:.0} ms", again.elapsed().as_secs_f64() * 1e3);
    let again = Instant::now();
    for first in (0..total).step_by((total / 10).max(1) as usize) {
        search.create((first..(first + 100).min(total)).map(document).collect()).await.unwrap();
    }
    println!("1000 that exist, 100 in a call: {:.0} ms", again.elapsed().as_secs_f64() * 1e3);

    for (name, body) in [
        ("newest ten", json!({"sort": [{"time": "desc"}]})),
        ("status 404", json!({"query": {"term": {"data.status": 404}}, "size": 0})),
        (
            "query string",
            json!({"query": {"query_string": {"query": "data.status:500 AND data.path:\\/product\\/1*"}}}),
        ),
        ("bare word", json!({"query": {"query_string": {"query": "GET"}}})),
        (
            "terms",
            json!({"size": 0, "aggs": {"s": {"terms": {"field": "data.status"}, "aggs": {"p": {"percentiles": {"field": "data.response_ms"}}}}}}),
        ),
        ("per hour", json!({"size": 0, "aggs": {"h": {"date_histogram": {"field": "time", "fixed_interval": "1h"}}}})),
        ("one id", json!({"query": {"ids": {"values": [document(77).id]}}})),
    ] {
        let asked = Instant::now();
        let answer: Value = search.search("sluice-*", &body).await.unwrap();
        println!("{name}: {:.1} ms, {} hits", asked.elapsed().as_secs_f64() * 1e3, answer["hits"]["total"]["value"]);
    }
    println!("after searches: {} MB", resident_mb());
}
