//! `make bench`: the whole path through the release binary, beside what a user would pick instead, in one run on one machine.
//!
//! Everything that is measured shares the same cores with the program that sends, so figures are for the whole machine. Ratios are what to
//! quote: absolute figures change with the machine.

mod client;
mod server;

use anyhow::Context as _;
use client::Load;
use server::Sluice;
use sluice_domain::demo::bench_event;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const EVENTS_PER_REQUEST: usize = 100;

fn main() -> anyhow::Result<()> {
    const USAGE: &str = "usage: sluice-bench [EVENTS] | --print EVENTS";
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("--print") {
        let count: u64 = arguments.next().context(USAGE)?.parse().context(USAGE)?;
        let mut out = std::io::stdout().lock();
        return Ok((0..count).try_for_each(|n| writeln!(out, "{}", bench_event(n)))?);
    }
    let events: usize = first.map_or(Ok(1_000_000), |n| n.parse()).context(USAGE)?;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let work = tempfile::tempdir_in(root.join("target"))?;
    let requests = requests(events);
    let bytes: usize = requests.iter().map(Vec::len).sum();
    println!(
        "{events} mixed events, {:.0} bytes each, requests of {EVENTS_PER_REQUEST}, client on the same machine",
        bytes as f64 / events as f64
    );
    println!();
    println!("| what | events/s | ratio | peak MB | |\n|---|---|---|---|---|");

    let lake = whole_path(&work.path().join("lake"), &requests, &[("SLUICE_STAGES_OFF", "index,detect")])?;
    let all = whole_path(&work.path().join("all"), &requests, &[])?;
    let python = python_handler(&root, &work.path().join("peer"), &requests)?;
    row("sluice, HTTP to Parquet, durable", &lake, python.as_ref(), "index and detect off");
    row("sluice, all stages on", &all, python.as_ref(), "search, rules and Parquet");
    match &python {
        Some(peer) => row("Python handler: http.server, fsync per request, pyarrow", peer, None, "the peer: ratio 1"),
        None => println!("| Python handler | SKIPPED: no Python with pyarrow | | | run by `make bench` |"),
    }
    if let Some(duckdb) = duckdb(&root, &work.path().join("events.ndjson"), &requests)? {
        println!(
            "| DuckDB, NDJSON file to Parquet, one thread | {:.0} | | | no HTTP, no durability: only the conversion |",
            duckdb
        );
    }
    println!();
    latency(&work.path().join("latency"))?;
    start_and_idle(&work.path().join("idle"))
}

/// What one run measured.
struct Figures {
    events_per_s: f64,
    peak_mb: f64,
}

fn row(what: &str, figures: &Figures, peer: Option<&Figures>, note: &str) {
    let ratio = peer.map_or_else(|| "1.0".into(), |p| format!("{:.1}", figures.events_per_s / p.events_per_s));
    println!("| {what} | {:.0} | {ratio} | {:.0} | {note} |", figures.events_per_s, figures.peak_mb);
}

fn requests(events: usize) -> Vec<Vec<u8>> {
    let mut requests = Vec::with_capacity(events / EVENTS_PER_REQUEST);
    let mut body = Vec::new();
    for i in 0..events {
        body.extend_from_slice(bench_event(i as u64).as_bytes());
        body.push(b'\n');
        if (i + 1) % EVENTS_PER_REQUEST == 0 || i + 1 == events {
            requests.push(std::mem::take(&mut body));
        }
    }
    requests
}

/// From the first request until everything that was accepted is stored by every stage that is on.
fn whole_path(data: &Path, requests: &[Vec<u8>], environment: &[(&str, &str)]) -> anyhow::Result<Figures> {
    let sluice = Sluice::start(data, environment)?;
    let started = Instant::now();
    let load = Load { address: sluice.address(), key: sluice.key.clone(), connections: 8 };
    load.send_all(requests)?;
    sluice.wait_until_stored()?;
    let elapsed = started.elapsed();
    let events: usize = requests.iter().map(|r| r.iter().filter(|b| **b == b'\n').count()).sum();
    let figures = Figures { events_per_s: events as f64 / elapsed.as_secs_f64(), peak_mb: sluice.peak_mb()? };
    sluice.check_stored(events)?;
    Ok(figures)
}

fn python(root: &Path) -> Option<PathBuf> {
    let python = root.join(".venv/bin/python");
    python.exists().then_some(python)
}

/// A handler as one would write it: parse, append to a log with fsync, answer; convert with pyarrow in batches.
fn python_handler(root: &Path, data: &Path, requests: &[Vec<u8>]) -> anyhow::Result<Option<Figures>> {
    let Some(python) = python(root) else { return Ok(None) };
    // It is slower by an order of magnitude: a part of the requests is enough for a rate.
    let requests = &requests[..requests.len().div_ceil(10)];
    let events: usize = requests.iter().map(|r| r.iter().filter(|b| **b == b'\n').count()).sum();
    let mut peer = server::Peer::start(&python, &root.join("bench/peers/handler.py"), data)?;
    let started = Instant::now();
    Load { address: peer.address.clone(), key: String::new(), connections: 8 }.send_all(requests)?;
    peer.finish()?;
    let elapsed = started.elapsed();
    Ok(Some(Figures { events_per_s: events as f64 / elapsed.as_secs_f64(), peak_mb: peer.peak_mb }))
}

fn duckdb(root: &Path, file: &Path, requests: &[Vec<u8>]) -> anyhow::Result<Option<f64>> {
    let Some(python) = python(root) else { return Ok(None) };
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    for request in requests {
        out.write_all(request)?;
    }
    out.flush()?;
    let output = Command::new(python).arg(root.join("bench/peers/duckdb_convert.py")).arg(file).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seconds: f64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    let events: usize = requests.iter().map(|r| r.iter().filter(|b| **b == b'\n').count()).sum();
    Ok(Some(events as f64 / seconds))
}

/// Single-event requests at a fixed rate, beside what the disk itself takes to flush.
fn latency(data: &Path) -> anyhow::Result<()> {
    let sluice = Sluice::start(data, &[])?;
    let fsync = fsync_p99(data)?;
    let load = Load { address: sluice.address(), key: sluice.key.clone(), connections: 16 };
    let (p50, p99) = load.at_rate(1_000, Duration::from_secs(10), |i| bench_event(i).into_bytes())?;
    println!(
        "single-event requests, 1,000/s for 10 s, all stages on: p50 {:.1} ms, p99 {:.1} ms; the disk's fsync p99 {:.1} ms (ratio {:.1})",
        ms(p50),
        ms(p99),
        ms(fsync),
        ms(p99) / ms(fsync)
    );
    Ok(())
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1_000.0
}

fn fsync_p99(folder: &Path) -> anyhow::Result<Duration> {
    let mut file = std::fs::File::create(folder.join("fsync"))?;
    let mut times = Vec::new();
    for _ in 0..500 {
        file.write_all(&[0; 4096])?;
        let started = Instant::now();
        file.sync_all()?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times[times.len() * 99 / 100])
}

fn start_and_idle(data: &Path) -> anyhow::Result<()> {
    drop(Sluice::start(data, &[])?);
    let started = Instant::now();
    let sluice = Sluice::start(data, &[])?;
    let up = started.elapsed();
    std::thread::sleep(Duration::from_secs(5));
    let before = sluice.cpu()?;
    std::thread::sleep(Duration::from_secs(10));
    let busy = sluice.cpu()? - before;
    println!(
        "up and answering in {:.0} ms; idle: {:.0} MB resident, {:.2} % of a core",
        ms(up),
        sluice.resident_mb()?,
        busy.as_secs_f64() * 10.0
    );
    Ok(())
}
