//! Measures durable publishes with consumers beside them:
//! `cargo run --release -p sluice-adapters-embedded --no-default-features --features state --example queue_throughput -- 15000 64 10`
//! (body bytes, publishers, seconds).
#![allow(clippy::unwrap_used, reason = "a measurement reports by panic")]

use sluice_adapters_embedded::state::{QueueConfig, State, StateConfig, SubscriptionConfig};
use sluice_ports::{Message, Settlement, Tally};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CONSUMERS_PER_QUEUE: usize = 2;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>().unwrap());
    let (body_bytes, publishers, seconds) =
        (arguments.next().unwrap_or(15_000), arguments.next().unwrap_or(64), arguments.next().unwrap_or(10));
    let queues = arguments.next().unwrap_or(1);
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..queues).map(|n| format!("Q{n}")).collect();
    let config = StateConfig {
        queues: names
            .iter()
            .map(|name| QueueConfig {
                name: name.clone(),
                visibility_timeout: Duration::from_secs(60),
                retention: Duration::from_secs(86_400),
                dead_letter: None,
            })
            .collect(),
        subscriptions: names
            .iter()
            .map(|queue| SubscriptionConfig { topic: "Events".into(), queue: queue.clone(), filter: None })
            .collect(),
        max_backlog_bytes: 256 << 20,
        ..StateConfig::default()
    };
    let state = State::open(dir.path(), config).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (published, throttled, settled) =
        (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let mut publishing = Vec::new();
    for publisher in 0..publishers {
        let (topic, stop, published, throttled) =
            (state.topic("Events").unwrap(), stop.clone(), published.clone(), throttled.clone());
        publishing.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let message = Message {
                    body: format!("{publisher:04}{}", "x".repeat(body_bytes)),
                    events: 30,
                    tally: vec![Tally { counter: "ingest#web.event".into(), field: "accepted".into(), by: 30 }],
                    ..Message::default()
                };
                let asked = Instant::now();
                match topic.publish(vec![message]).await.pop().unwrap() {
                    Ok(()) => _ = published.fetch_add(1, Ordering::Relaxed),
                    Err(_) => {
                        throttled.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                latencies.push(asked.elapsed());
            }
            latencies
        }));
    }
    let mut consuming = Vec::new();
    for name in names.iter().flat_map(|name| [name; CONSUMERS_PER_QUEUE]) {
        let (queue, stop, settled) = (state.queue(name).unwrap(), stop.clone(), settled.clone());
        consuming.push(tokio::spawn(async move {
            loop {
                let received = queue.receive(10, Duration::from_millis(200)).await.unwrap();
                if received.is_empty() && stop.load(Ordering::Relaxed) {
                    return;
                }
                settled.fetch_add(received.len() as u64, Ordering::Relaxed);
                let outcomes = received.into_iter().map(|delivery| (delivery.receipt, Settlement::Delete)).collect();
                for result in queue.settle(outcomes).await {
                    result.unwrap();
                }
            }
        }));
    }
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for publisher in publishing {
        latencies.extend(publisher.await.unwrap());
    }
    let rate = |count: &AtomicU64, seconds: f64| count.load(Ordering::Relaxed) as f64 / seconds;
    let published_per_s = rate(&published, began.elapsed().as_secs_f64());
    for consumer in consuming {
        consumer.await.unwrap();
    }
    let settled_per_s = rate(&settled, began.elapsed().as_secs_f64());
    latencies.sort();
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "{body_bytes} bytes, {publishers} publishers, {queues} queues: {published_per_s:.0} published/s, {settled_per_s:.0} settled/s, {} throttled, \
         publish p50 {:.1} ms p99 {:.1} ms max {:.1} ms",
        throttled.load(Ordering::Relaxed),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    let size = |name: &str| std::fs::metadata(dir.path().join(name)).map_or(0, |metadata| metadata.len() >> 20);
    println!("sluice.db {} MiB, log {} MiB", size("sluice.db"), size("sluice.db-wal"));
}
