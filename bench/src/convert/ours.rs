//! What the stage does between a message's text and the bytes of its files.

use crate::memory::{allocations, cpu_s};
use serde_json::Value;
use sluice_columnar::ParquetEncoder;
use sluice_domain::event::Shared;
use sluice_domain::lake::{Encoder as _, TableBuilder, data_key};
use sluice_domain::scan::{Events, place};
use sluice_domain::schema::{Registry, Schema};
use std::collections::HashMap;
use std::path::Path;

/// Schemas of the events that are measured, and the one that every registry has.
pub fn registry() -> anyhow::Result<Registry> {
    Registry::load([
        ("event.json", include_str!("../../../schemas/event.json")),
        ("web.event.json", include_str!("../../../schemas/web.event.json")),
        ("http.access.json", include_str!("../../../schemas/http.access.json")),
        ("game.result.json", include_str!("../../../schemas/game.result.json")),
        ("quote.trade.json", include_str!("../../../schemas/quote.trade.json")),
    ])
    .map_err(|e| anyhow::anyhow!("{e}"))
}

struct Partition<'r> {
    schema: &'r Schema,
    hour: i64,
    table: Box<dyn TableBuilder>,
}

/// Converts a file of events, a line each; a new set of files is begun when `slice_bytes` of text are read.
pub fn convert(file: &Path, folder: &Path, slice_bytes: usize) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(file)?;
    let mut slices: Vec<(usize, String)> = Vec::new();
    for line in text.lines() {
        match slices.last_mut().filter(|(_, slice)| slice.len() < slice_bytes) {
            Some((events, slice)) => {
                *events += 1;
                slice.push(',');
                slice.push_str(line);
            }
            None => slices.push((1, format!("[{line}"))),
        }
    }
    slices.iter_mut().for_each(|(_, slice)| slice.push(']'));
    let (registry, encoder, shared) = (registry()?, ParquetEncoder::new(), Shared::default());

    let (before, allocated) = (cpu_s()?, allocations());
    let (mut events, mut files) = (0, Vec::new());
    for (count, slice) in &slices {
        let mut partitions: Vec<Partition<'_>> = Vec::new();
        let mut scan = Events::new(slice, &shared);
        while scan.advance().unwrap_or(false) {
            let (head, cursor) = scan.head().ok_or_else(|| anyhow::anyhow!("not read the quick way"))?;
            let (event_type, hour) = (head.texts[place::TYPE].unwrap_or_default(), head.time.epoch_hour());
            let at = match partitions.iter().position(|p| p.hour == hour && p.schema.event_type == event_type) {
                Some(at) => at,
                None => {
                    let schema = registry.resolve(event_type);
                    partitions.push(Partition { schema, hour, table: encoder.table(schema)? });
                    partitions.len() - 1
                }
            };
            anyhow::ensure!(partitions[at].table.push_text(head, cursor), "not read the quick way");
        }
        for Partition { schema, table, .. } in &partitions {
            let file = table.encode(&(0..table.rows()).collect::<Vec<u32>>())?;
            events += usize::try_from(file.rows)?;
            files.push((data_key(schema, file.min_time, &files.len().to_string()), file.bytes));
        }
        anyhow::ensure!(events >= *count, "events are missing");
    }
    let (cpu_s, allocations) = (cpu_s()? - before, allocations() - allocated);
    for (key, bytes) in &files {
        let path = folder.join(key);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        std::fs::write(path, bytes)?;
    }
    let bytes = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    Ok(crate::figures(events, cpu_s, bytes, allocations))
}

/// The same by `arrow-json`, from the file's events of each type as flat lines.
pub fn peer(file: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(file)?;
    let registry = registry()?;
    let mut flat: HashMap<&str, String> = HashMap::new();
    for line in text.lines() {
        let kind = registry.iter().find(|schema| line.contains(&format!("\"type\":\"{}\"", schema.event_type)));
        let kind = kind.ok_or_else(|| anyhow::anyhow!("an event of another type"))?;
        flat.entry(&kind.event_type).or_default().push_str(&crate::arrow_json::flat(line));
    }
    let (before, allocated) = (cpu_s()?, allocations());
    let files: Vec<Vec<u8>> =
        flat.iter().map(|(kind, lines)| crate::arrow_json::convert(registry.resolve(kind), lines)).collect();
    let (cpu_s, allocations) = (cpu_s()? - before, allocations() - allocated);
    Ok(crate::figures(text.lines().count(), cpu_s, files.iter().map(|file| file.len() as u64).sum(), allocations))
}
