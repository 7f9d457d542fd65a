//! `convert` alone, on one core: events of a file to typed, sorted, partitioned Parquet (zstd level 1), beside what a user would write in
//! Python. Then how much memory one invocation of the stage takes.
//!
//! Each contender is a process of its own and says itself how much processor time it took from text in memory or a file to bytes of files;
//! starting up is not counted. Processor time is what to compare: the clock depends on who else is on the machine.

#[path = "../../../shared/columnar/benches/arrow_json/mod.rs"]
mod arrow_json;
mod memory;
mod ours;

use anyhow::Context as _;
use serde_json::{Value, json};
use sluice_domain::demo::bench_event;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Events of a file.
const EVENTS: u64 = 1_000_000;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => compare(EVENTS),
        ["ours", file, folder, slice_bytes] => {
            say(&ours::convert(Path::new(file), Path::new(folder), slice_bytes.parse()?)?)
        }
        ["arrow-json", file] => say(&ours::peer(Path::new(file))?),
        ["memory", file] => say(&memory::invoke(Path::new(file))?),
        [events] => compare(events.parse().context("usage: convert [EVENTS]")?),
        _ => anyhow::bail!("usage: convert [EVENTS]"),
    }
}

fn say(figures: &Value) -> anyhow::Result<()> {
    println!("{figures}");
    Ok(())
}

fn compare(events: u64) -> anyhow::Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let work = tempfile::tempdir_in(root.join("target"))?;
    let file = work.path().join("events.ndjson");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&file)?);
    let mut bytes = 0;
    for i in 0..events {
        let text = bench_event(i);
        bytes += text.len() + 1;
        writeln!(out, "{text}")?;
    }
    out.flush()?;
    drop(out);
    println!("{events} mixed events, {} bytes each; processor time, one thread each", bytes as u64 / events.max(1));
    println!();
    println!("| what | events/s | ours is | Parquet bytes/event | allocations/event |\n|---|---|---|---|---|");

    let me = std::env::current_exe()?;
    let ours = |slice_bytes: usize| {
        let folder = work.path().join("ours");
        run(Command::new(&me).arg("ours").arg(&file).arg(&folder).arg(slice_bytes.to_string()))
    };
    let slices = ours(8 << 20)?;
    row("sluice, in slices of 8 MiB as the stage does", &slices, &slices, events);
    row("sluice, a file per partition", &ours(usize::MAX)?, &slices, events);
    row(
        "arrow-json + parquet, each type flattened beforehand",
        &run(Command::new(&me).arg("arrow-json").arg(&file))?,
        &slices,
        events,
    );
    let python = root.join(".venv/bin/python");
    for (name, script, order, share) in [
        ("DuckDB, rows in the order of the file", "convert_duckdb.py", None, 1),
        ("DuckDB, rows sorted as ours", "convert_duckdb.py", Some("sorted"), 1),
        ("Polars, rows in the order of the file", "convert_polars.py", None, 1),
        // Slower by an order of magnitude: a part of the file is enough for a rate.
        ("pandas + pyarrow, rows in the order of the file", "convert_pandas.py", None, 5),
    ] {
        if !python.exists() {
            println!("| {name} | SKIPPED: no Python; `make bench` prepares it | | | |");
            continue;
        }
        let part = first_lines(&file, work.path(), events / share)?;
        let mut command = Command::new(&python);
        let target = work.path().join(format!("{script}.{}", order.unwrap_or("as-sent")));
        command.arg(root.join("bench/peers").join(script)).arg(&part).arg(target).args(order);
        // What a library does with more threads than one is not asked here.
        for variable in ["POLARS_MAX_THREADS", "OMP_NUM_THREADS", "ARROW_NUM_THREADS"] {
            command.env(variable, "1");
        }
        row(name, &run(&mut command)?, &slices, events / share);
    }
    println!();
    for (name, packed) in [("6 MB of readable JSON", false), ("6 MB of packed bodies", true)] {
        let file = work.path().join("bodies");
        memory::write_bodies(&file, packed)?;
        let figures = run(Command::new(&me).arg("memory").arg(&file))?;
        println!(
            "one invocation with {name} ({} events): {:.0} MB above idle at its peak, {:.0} MB of it allocated",
            figures["events"],
            figures["peak_mb"].as_f64().unwrap_or_default(),
            figures["heap_mb"].as_f64().unwrap_or_default()
        );
    }
    Ok(())
}

fn first_lines(file: &Path, folder: &Path, lines: u64) -> anyhow::Result<PathBuf> {
    let text = std::fs::read_to_string(file)?;
    let part = folder.join(format!("{lines}.ndjson"));
    let end =
        text.match_indices('\n').nth(usize::try_from(lines)?.saturating_sub(1)).map_or(text.len(), |(at, _)| at + 1);
    std::fs::write(&part, &text[..end])?;
    Ok(part)
}

fn run(command: &mut Command) -> anyhow::Result<Value> {
    let output = command.output()?;
    anyhow::ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn row(what: &str, figures: &Value, ours: &Value, events: u64) {
    let rate = |figures: &Value, events: u64| events as f64 / figures["cpu_s"].as_f64().unwrap_or(f64::NAN);
    let ours = rate(ours, ours["events"].as_u64().unwrap_or(events));
    let theirs = rate(figures, events);
    println!(
        "| {what} | {theirs:.0} | {:.1} × as fast | {:.1} | {} |",
        ours / theirs,
        figures["bytes"].as_f64().unwrap_or(f64::NAN) / events as f64,
        figures
            .get("allocations")
            .and_then(Value::as_f64)
            .map_or_else(String::new, |n| format!("{:.2}", n / events as f64)),
    );
}

/// What a contender says of itself.
fn figures(events: usize, cpu_s: f64, bytes: u64, allocations: u64) -> Value {
    json!({"events": events, "cpu_s": cpu_s, "bytes": bytes, "allocations": allocations})
}
