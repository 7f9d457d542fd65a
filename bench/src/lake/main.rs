//! The lake's tables: what a commit takes after many others, how fast small files become large ones, and reports before and after that,
//! beside DuckDB on the same files.

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use sluice_adapters_embedded::objects::DiskObjects;
use sluice_adapters_embedded::sql::{EmbeddedSql, EmbeddedSqlConfig, Lake, LakeFile, LakeTable};
use sluice_adapters_iceberg::{IcebergCatalog, SqlitePointers};
use sluice_columnar::{ParquetEncoder, ParquetRewriter, arrow_schema};
use sluice_domain::demo::bench_event;
use sluice_domain::event::{Event, Shared};
use sluice_domain::json;
use sluice_domain::lake::{Encoder, TableBuilder, data_key};
use sluice_domain::schema::Registry;
use sluice_domain::time::{DAY_US, Timestamp};
use sluice_ports::{Append, Catalog, Objects, PortError, PutMode, Sql, SqlLimits, TableFile};
use sluice_stages::compact::{Asked, Compact, CompactPorts, CompactSettings};
use sluice_testkit::memory::MemoryTable;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const EVENTS: u64 = 10_000_000;
/// Events that come together, so that the files of each type are small.
const GROUP: u64 = 10_000;
/// Commits that a table has seen before the one that is measured.
const COMMITS: usize = 10_000;
const FILES_OF_A_COMMIT: usize = 100;
/// How long the table of the commits keeps its snapshots. They come a hundred times as fast here as on one machine, where an hour's are kept.
const KEPT: Duration = Duration::from_secs(10);
/// How often a report is asked; the best counts.
const TIMES: usize = 3;
const LIMITS: SqlLimits = SqlLimits { max_rows: 10_000, timeout: Duration::from_secs(600), max_memory_bytes: 4 << 30 };

/// The lake in a folder.
struct World {
    folder: PathBuf,
    objects: Arc<DiskObjects>,
    catalog: Arc<IcebergCatalog>,
    registry: Arc<Registry>,
}

fn main() -> anyhow::Result<()> {
    let given = std::env::args().skip(1).find(|argument| argument != "--bench");
    let events = given.map_or(Ok(EVENTS), |n| n.parse()).context("usage: lake [EVENTS]")?;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        commits(&World::new(&root, KEPT)?).await?;
        let world = World::new(&root, Duration::from_secs(3_600))?;
        fill(&world, events).await?;
        reports(&world, &root, "before").await?;
        compact(&world, events).await?;
        reports(&world, &root, "after").await?;
        std::fs::remove_dir_all(&world.folder)?;
        Ok(())
    })
}

impl World {
    fn new(root: &Path, kept: Duration) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(root.join("target"))?.keep().canonicalize()?;
        let objects = Arc::new(DiskObjects::open(&folder)?);
        let registry = Arc::new(sluice_entry::schemas::registry(&[])?);
        let pointers = Arc::new(SqlitePointers::open(&folder.join("catalog.sqlite"))?);
        let uri = format!("file://{}", folder.display());
        let catalog = Arc::new(IcebergCatalog::new(pointers, objects.clone(), &uri, registry.clone(), kept));
        Ok(Self { folder, objects, catalog, registry })
    }

    async fn append(&self, table: &str, files: Vec<TableFile>) -> anyhow::Result<()> {
        if self.catalog.load(table).await?.is_none() {
            self.catalog.create(table).await?;
        }
        let token = self.catalog.load(table).await?.context("no table")?.token;
        let property = ("bench".to_owned(), "1".to_owned());
        Ok(self.catalog.append(Append { table: table.into(), token, files, property }).await?)
    }
}

async fn commits(world: &World) -> anyhow::Result<()> {
    let time = bench_time(0)?.micros();
    let file = |n: usize| TableFile {
        key: format!("lake/http_access/data/dt=2026-01-15/{n:08}.parquet"),
        rows: 1_000,
        size_bytes: 50_000,
        time_us: (time, time + 1_000),
    };
    let began = Instant::now();
    for n in 0..COMMITS {
        world.append("http_access", vec![file(n)]).await?;
    }
    let each = began.elapsed().as_secs_f64() * 1_000.0 / COMMITS as f64;
    let mut took = Vec::new();
    for round in 0..5 {
        let first = COMMITS + round * FILES_OF_A_COMMIT;
        let began = Instant::now();
        world.append("http_access", (first..first + FILES_OF_A_COMMIT).map(file).collect()).await?;
        took.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    println!(
        "{COMMITS} commits of a file, {each:.1} ms each; then one of {FILES_OF_A_COMMIT} files: {:.1} ms (median of 5)",
        took[2]
    );
    std::fs::remove_dir_all(&world.folder)?;
    Ok(())
}

/// The mix of all benchmarks, spread over a day.
fn text(n: u64) -> String {
    bench_event(n * 8 + n % 4)
}

fn bench_time(n: u64) -> anyhow::Result<Timestamp> {
    let text = text(n);
    let shared = Shared { received: Timestamp::default(), client_ip: None, user_agent: None };
    let node = json::parse_str(&text).map_err(|e| anyhow::anyhow!("{e:?}"))?;
    Ok(Event::read(node, &shared).map_err(|e| anyhow::anyhow!("{e:?}"))?.time)
}

/// Writes small files and commits them, as they come in a day.
async fn fill(world: &World, events: u64) -> anyhow::Result<()> {
    let encoder = ParquetEncoder::new();
    let mut waiting: BTreeMap<String, Vec<TableFile>> = BTreeMap::new();
    let (mut files, mut bytes) = (0, 0);
    for first in (0..events).step_by(GROUP as usize) {
        let texts: Vec<String> = (first..(first + GROUP).min(events)).map(text).collect();
        let mut tables: BTreeMap<(String, String), Box<dyn TableBuilder>> = BTreeMap::new();
        for text in &texts {
            let node = json::parse_str(text).map_err(|e| anyhow::anyhow!("{e:?}"))?;
            let shared = Shared { received: bench_time(first)?, client_ip: None, user_agent: None };
            let event = Event::read(node, &shared).map_err(|e| anyhow::anyhow!("{e:?}"))?;
            let schema = world.registry.resolve(&event.event_type);
            let place = (schema.event_type.clone(), schema.partition.folder(event.time));
            let table = match tables.entry(place) {
                std::collections::btree_map::Entry::Occupied(table) => table.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => free.insert(encoder.table(schema)?),
            };
            table.push(&event).map_err(|misfit| anyhow::anyhow!("{misfit:?}"))?;
        }
        for ((event_type, _), table) in tables {
            let schema = world.registry.resolve(&event_type);
            let rows: Vec<u32> = (0..table.rows()).collect();
            let file = table.encode(&rows)?;
            let key = data_key(schema, file.min_time, &format!("{first:012}-{files}"));
            let size_bytes = file.bytes.len() as u64;
            world.objects.put(&key, Bytes::from(file.bytes), PutMode::IfAbsent).await?;
            (files, bytes) = (files + 1, bytes + size_bytes);
            let time_us = (file.min_time.micros(), file.max_time.micros());
            let of_table = waiting.entry(schema.table.clone()).or_default();
            of_table.push(TableFile { key, rows: file.rows, size_bytes, time_us });
            if of_table.len() == FILES_OF_A_COMMIT {
                let files = std::mem::take(of_table);
                world.append(&schema.table, files).await?;
            }
        }
    }
    for (table, files) in waiting.into_iter().filter(|(_, files)| !files.is_empty()) {
        world.append(&table, files).await?;
    }
    println!("{events} events over a day in {files} files of {:.1} MB in all", bytes as f64 / 1e6);
    Ok(())
}

async fn compact(world: &World, events: u64) -> anyhow::Result<()> {
    let ports = CompactPorts {
        table: Arc::new(MemoryTable::new()),
        catalog: world.catalog.clone(),
        objects: world.objects.clone(),
        rewriter: Arc::new(ParquetRewriter::default()),
    };
    let settings = CompactSettings { budget: Duration::from_secs(3_600), ..CompactSettings::default() };
    let stage = Compact::new(ports, world.registry.clone(), settings);
    let now = bench_time(events)?.plus_micros(40 * DAY_US);
    let (began, before) = (Instant::now(), cpu_s()?);
    let run = stage.run(Asked::default(), now).await?;
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_s()? - before);
    let sum = |of: &dyn Fn(&sluice_stages::compact::Compacted) -> u64| run.compacted.iter().map(of).sum::<u64>();
    let rows = sum(&|c| c.removed.rows);
    println!(
        "compacted {} partitions, {rows} rows, {} files into {}: {wall:.1} s, {:.2} million rows per second of one core; peak of the process {} MB",
        run.compacted.len(),
        sum(&|c| c.removed.files),
        sum(&|c| c.added.map_or(0, |added| added.files)),
        rows as f64 / cpu / 1e6,
        peak_mb()?
    );
    Ok(())
}

/// What SQL reads.
struct Tables(Arc<IcebergCatalog>, Arc<Registry>, PathBuf);

#[async_trait]
impl Lake for Tables {
    async fn tables(&self) -> Result<Vec<LakeTable>, PortError> {
        Ok(self.1.iter().map(|s| LakeTable { name: s.table.clone(), schema: arrow_schema(s) }).collect())
    }

    async fn files(&self, table: &str, _: Option<i64>) -> Result<Vec<LakeFile>, PortError> {
        let Some((_, files)) = self.0.files(table).await? else { return Ok(Vec::new()) };
        let file = |file: TableFile| LakeFile {
            path: self.2.join(&file.key),
            size_bytes: file.size_bytes,
            rows: file.rows,
            min_time_us: file.time_us.0,
            max_time_us: file.time_us.1,
        };
        Ok(files.into_iter().map(file).collect())
    }
}

async fn reports(world: &World, root: &Path, when: &str) -> anyhow::Result<()> {
    let lake = Tables(world.catalog.clone(), world.registry.clone(), world.folder.clone());
    let sql = EmbeddedSql::new(Arc::new(lake), EmbeddedSqlConfig::default());
    let mut tables: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for schema in world.registry.iter() {
        if let Some((_, files)) = world.catalog.files(&schema.table).await? {
            let paths = files.into_iter().map(|file| world.folder.join(file.key)).collect();
            tables.insert(schema.table.clone(), paths);
        }
    }
    let given = [("from", "2026-01-01"), ("to", "2026-12-31")].map(|(name, day)| (name.to_owned(), day.to_owned()));
    println!("\n| report, {when} compaction | sluice, ms | DuckDB on the same files, ms | ratio |\n|---|---|---|---|");
    for report in &sluice_entry::reports::load(&[])?.usable {
        let values = report.bind(&given, bench_time(0)?).map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
        let statement = report.statement(tables.keys().map(String::as_str));
        let mut best = f64::MAX;
        for _ in 0..TIMES {
            let began = Instant::now();
            let found = sql.query(&statement, &values, LIMITS).await?;
            best = best.min(began.elapsed().as_secs_f64() * 1_000.0);
            anyhow::ensure!(!found.rows.is_empty(), "{} says nothing", report.name);
        }
        let statement = sluice_statement::standard_text(&statement, &values)?;
        match duckdb(root, &world.folder, &tables, &statement)? {
            Some(peer) => println!("| {} | {best:.0} | {peer:.0} | {:.2} |", report.name, best / peer),
            None => println!("| {} | {best:.0} | SKIPPED: no Python; `make bench` prepares it | |", report.name),
        }
    }
    Ok(())
}

fn duckdb(
    root: &Path,
    folder: &Path,
    tables: &BTreeMap<String, Vec<PathBuf>>,
    statement: &str,
) -> anyhow::Result<Option<f64>> {
    let python = root.join(".venv/bin/python");
    if !python.exists() {
        return Ok(None);
    }
    let ask = folder.join("ask.json");
    std::fs::write(&ask, serde_json::json!({"tables": tables, "sql": statement, "times": TIMES}).to_string())?;
    let output = Command::new(python).arg(root.join("bench/peers/report_duckdb.py")).arg(&ask).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout)?;
    Ok(said["ms"].as_f64())
}

/// Processor time of this process so far.
fn cpu_s() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("no stat")?.1.split_whitespace().collect();
    // In hundredths of a second, as Linux says them.
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

fn peak_mb() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).context("no figure")?.parse::<u64>()? / 1_024)
}
