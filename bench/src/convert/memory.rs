//! Memory of one invocation of the stage `convert`, and what counts it.

use crate::ours::registry;
use anyhow::Context as _;
use serde_json::{Value, json};
use sluice_columnar::ParquetEncoder;
use sluice_domain::demo::bench_event;
use sluice_domain::event::Shared;
use sluice_domain::message::{Entry, pack};
use sluice_domain::time::Timestamp;
use sluice_stages::convert::{Convert, ConvertPorts, ConvertSettings};
use sluice_stages::item::{Item, Outcome};
use sluice_testkit::memory::{MemoryObjects, MemoryQueue, MemoryTable};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What one invocation is given (Lambda's bound on an event).
const BODIES_BYTES: usize = 6_000_000;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(unsafe_code, reason = "an allocator cannot be written without; this one only counts and hands on")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD_BYTES.fetch_sub(layout.size(), Relaxed);
        grown(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn grown(size: usize) {
    ALLOCATIONS.fetch_add(1, Relaxed);
    PEAK_BYTES.fetch_max(HELD_BYTES.fetch_add(size, Relaxed) + size, Relaxed);
}

/// Allocations so far, growing ones included.
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Relaxed)
}

/// Seconds that this thread has had of a processor (`/proc/PID/task/TID/schedstat`, proc(5)).
pub fn cpu_s() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns: f64 = text.split_whitespace().next().context("an empty schedstat")?.parse()?;
    Ok(ns / 1e9)
}

fn status_mb(field: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("a field is missing")?;
    let kb: f64 = line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse()?;
    Ok(kb / 1024.0)
}

/// Writes message bodies, a line each: small ones that stay readable, or as many events in each as a message takes.
pub fn write_bodies(file: &Path, packed: bool) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    let shared =
        Shared { received: Timestamp::from_micros(1_768_435_200_000_000).unwrap_or_default(), ..Shared::default() };
    let (mut sum, mut next, mut number) = (0, 0, 0);
    while sum < BODIES_BYTES {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while bytes < if packed { 180_000 } else { 3_500 } {
            let text = bench_event(next);
            next += 1;
            bytes += text.len();
            let event_type = ["web.event", "http.access", "game.result", "quote.trade"][(next as usize - 1) % 4];
            entries.push(Entry { event_type: event_type.into(), text });
        }
        let body = pack(&format!("b{number}"), &shared, &entries)?.published_as("p").body;
        number += 1;
        sum += body.len();
        writeln!(out, "{body}")?;
    }
    Ok(out.flush()?)
}

/// Runs the stage once on the bodies of a file, over ports in memory.
pub fn invoke(file: &Path) -> anyhow::Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let ports = ConvertPorts {
        objects: Arc::new(MemoryObjects::new()),
        table: Arc::new(MemoryTable::new()),
        quarantine: Arc::new(MemoryQueue::default()),
        commit: None,
    };
    let convert =
        Convert::new(ports, Arc::new(registry()?), Arc::new(ParquetEncoder::new()), ConvertSettings::default());
    let (idle_mb, held) = (status_mb("VmRSS")?, HELD_BYTES.load(Relaxed));
    PEAK_BYTES.store(held, Relaxed);
    let mut events = 0;
    let items: Vec<Item> = std::fs::read_to_string(file)?
        .lines()
        .enumerate()
        .map(|(i, body)| {
            events += sluice_domain::message::read_header(body).map_or(0, |header| header.count);
            Item { id: format!("m{i}"), body: body.to_owned(), receive_count: 1 }
        })
        .collect();
    let outcomes =
        runtime.block_on(convert.run(&items, Timestamp::from_micros(1_768_435_300_000_000).unwrap_or_default()));
    anyhow::ensure!(outcomes.iter().all(|outcome| *outcome == Outcome::Done), "not all messages are done");
    let heap_mb = (PEAK_BYTES.load(Relaxed) - held) as f64 / 1048576.0;
    Ok(json!({"events": events, "peak_mb": status_mb("VmHWM")? - idle_mb, "heap_mb": heap_mb}))
}
