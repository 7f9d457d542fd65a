//! What `compact` does with time, and with what is not as it was.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use bytes::Bytes;
use sluice_domain::lake::{EncodeError, Erased, Rewrite, Rewriter};
use sluice_domain::schema::{Registry, Schema};
use sluice_domain::time::{DAY_US, HOUR_US, Timestamp};
use sluice_ports::{Append, Catalog, ErrorKind, Objects, PutMode, TableFile};
use sluice_simulation::lines::Lines;
use sluice_stages::compact::{Asked, Compact, CompactPorts, CompactSettings, EXPIRED, REPEATED};
use sluice_stages::groups::{Contents, Groups, RecordedFile};
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::{MemoryCatalog, MemoryObjects, MemoryTable};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TABLE: &str = "web_event";
const SCHEMA: &str =
    r#"{"type":"object","x-type":"web.event","x-partition":"hour","x-retention-days":30,"properties":{}}"#;

struct World {
    table: Arc<MemoryTable>,
    catalog: Arc<Faulty<MemoryCatalog>>,
    objects: Arc<MemoryObjects>,
}

fn registry() -> Arc<Registry> {
    let files = [("event.json", include_str!("../../schemas/event.json")), ("web.json", SCHEMA)];
    Arc::new(Registry::load(files).unwrap())
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

/// The hour in which events happen.
fn hour() -> Timestamp {
    at("2026-11-21T10:00:00Z")
}

impl World {
    async fn new() -> Self {
        let catalog = Arc::new(Faulty::new(MemoryCatalog::new()));
        catalog.create(TABLE).await.unwrap();
        Self { table: Arc::new(MemoryTable::new()), catalog, objects: Arc::new(MemoryObjects::new()) }
    }

    fn compact(&self, settings: CompactSettings) -> Compact {
        let ports = CompactPorts {
            table: self.table.clone(),
            catalog: self.catalog.clone(),
            objects: self.objects.clone(),
            rewriter: Arc::new(Lines),
        };
        Compact::new(ports, registry(), settings)
    }

    /// Puts a file with these events of an hour into the table; each was received when it happened.
    async fn add(&self, name: &str, hour: Timestamp, ids: &[&str]) -> String {
        let time = hour.micros() + 1;
        let lines: Vec<String> = ids.iter().map(|id| format!("{id}\t{id}\t\t{time}\t{time}")).collect();
        let key = format!("lake/{TABLE}/data/{name}.parquet");
        let bytes = Bytes::from(lines.join("\n"));
        let size_bytes = bytes.len() as u64;
        self.objects.put(&key, bytes, PutMode::IfAbsent).await.unwrap();
        let file = TableFile { key: key.clone(), rows: ids.len() as u64, size_bytes, time_us: (time, time) };
        let token = self.catalog.load(TABLE).await.unwrap().unwrap().token;
        let append = Append { table: TABLE.into(), token, files: vec![file], property: ("n".into(), name.into()) };
        self.catalog.append(append).await.unwrap();
        key
    }

    /// Names of all rows, sorted.
    fn rows(&self) -> Vec<String> {
        let files = self.catalog.inner().live(TABLE);
        let texts = files.iter().map(|file| String::from_utf8(self.objects.bytes(&file.key).unwrap().into()).unwrap());
        let mut rows: Vec<String> = texts
            .flat_map(|text| text.lines().map(|l| l.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>())
            .collect();
        rows.sort();
        rows
    }

    fn files(&self) -> usize {
        self.catalog.inner().live(TABLE).len()
    }

    async fn counted(&self, name: &str) -> Option<String> {
        self.catalog.inner().load(TABLE).await.unwrap().unwrap().properties.get(name).cloned()
    }
}

fn later(hours: i64) -> Timestamp {
    hour().plus_micros(hours * HOUR_US)
}

#[tokio::test]
async fn a_partition_is_closed_an_hour_after_its_end() {
    let world = World::new().await;
    world.add("a", hour(), &["1"]).await;
    world.add("b", hour(), &["2"]).await;
    world.add("c", later(1), &["3"]).await;
    let compact = world.compact(CompactSettings::default());
    for (now, files) in [(later(1), 3), (later(2).plus_micros(-1), 3), (later(2), 2), (later(3), 2)] {
        compact.run(Asked::default(), now).await.unwrap();
        assert_eq!(world.files(), files, "{now}");
    }
    assert_eq!(world.rows(), ["1", "2", "3"]);
}

#[tokio::test]
async fn what_was_kept_long_enough_goes_as_a_whole() {
    let world = World::new().await;
    world.add("a", hour(), &["1", "2"]).await;
    world.add("b", later(24), &["3"]).await;
    let compact = world.compact(CompactSettings::default());
    let end = later(1).plus_micros(30 * DAY_US);
    compact.run(Asked::default(), end.plus_micros(-1)).await.unwrap();
    assert_eq!(world.rows(), ["1", "2", "3"]);
    let run = compact.run(Asked::default(), end).await.unwrap();
    assert_eq!((run.compacted[0].removed.rows, run.compacted[0].added.unwrap().files), (2, 0));
    assert_eq!((world.rows(), world.counted(EXPIRED).await), (vec!["3".to_owned()], Some("2".into())));
    compact.run(Asked::default(), end.plus_micros(DAY_US)).await.unwrap();
    assert_eq!((world.rows(), world.counted(EXPIRED).await), (vec![], Some("3".into())));
}

#[tokio::test]
async fn a_conflict_is_tried_again_and_what_others_took_away_is_left_out() {
    for fault in [Fault::Before(ErrorKind::Conflict), Fault::Before(ErrorKind::Timeout), Fault::After] {
        let world = World::new().await;
        world.add("a", hour(), &["1", "2"]).await;
        world.add("b", hour(), &["2"]).await;
        world.catalog.script("catalog.replace", [fault]);
        let run = world.compact(CompactSettings::default()).run(Asked::default(), later(9)).await.unwrap();
        assert_eq!((world.rows(), world.files(), run.compacted.len()), (vec!["1".to_owned(), "2".to_owned()], 1, 1));
        assert_eq!(world.counted(REPEATED).await, Some("1".into()), "counted once, whatever was tried");
    }
}

/// While the first partition is read another engine takes a file away.
struct Meddling {
    catalog: Arc<Faulty<MemoryCatalog>>,
    gone: String,
}

impl Rewriter for Meddling {
    fn begin(&self, schema: &Schema, rows: u64, erased: &Erased) -> Result<Box<dyn Rewrite>, EncodeError> {
        let others = |files: Vec<TableFile>| files.into_iter().filter(|file| file.key != self.gone).collect();
        self.catalog.inner().rewrite(TABLE, others);
        Lines.begin(schema, rows, erased)
    }

    fn erased_rows(&self, schema: &Schema, bytes: Bytes, erased: &Erased) -> Result<u64, EncodeError> {
        Lines.erased_rows(schema, bytes, erased)
    }
}

#[tokio::test]
async fn a_partition_that_others_changed_is_left_alone_and_the_rest_is_compacted() {
    let world = World::new().await;
    let gone = world.add("a", hour(), &["1", "5"]).await;
    world.add("b", hour(), &["2", "5"]).await;
    world.add("c", later(1), &["3"]).await;
    world.add("d", later(1), &["4"]).await;
    let ports = CompactPorts {
        table: world.table.clone(),
        catalog: world.catalog.clone(),
        objects: world.objects.clone(),
        rewriter: Arc::new(Meddling { catalog: world.catalog.clone(), gone }),
    };
    let compact = Compact::new(ports, registry(), CompactSettings::default());
    let run = compact.run(Asked::default(), later(9)).await.unwrap();
    assert_eq!((world.rows(), run.compacted.len()), (["2", "3", "4", "5"].map(str::to_owned).to_vec(), 1));
}

#[tokio::test]
async fn a_repeated_row_stays_where_the_first_one_was_taken_away() {
    let world = World::new().await;
    // Large enough to be left alone, and received first by its name.
    let gone = world.add("compact-a", hour(), &["1"]).await;
    world.add("late", hour(), &["1", "2"]).await;
    let ports = CompactPorts {
        table: world.table.clone(),
        catalog: world.catalog.clone(),
        objects: world.objects.clone(),
        rewriter: Arc::new(Meddling { catalog: world.catalog.clone(), gone }),
    };
    let compact = Compact::new(ports, registry(), CompactSettings { file_bytes: 2, ..CompactSettings::default() });
    let run = compact.run(Asked::default(), later(9)).await.unwrap();
    assert_eq!((world.rows(), run.compacted.len()), (["1", "2"].map(str::to_owned).to_vec(), 0));
    let run = compact.run(Asked::default(), later(9)).await.unwrap();
    assert_eq!((world.rows(), run.compacted.len()), (["1", "2"].map(str::to_owned).to_vec(), 1));
}

#[tokio::test]
async fn objects_that_nothing_refers_to_go_when_they_are_three_days_old() {
    let world = World::new().await;
    let live = world.add("a", hour(), &["1"]).await;
    let orphan = format!("lake/{TABLE}/data/orphan.parquet");
    let recorded = format!("lake/{TABLE}/data/recorded.parquet");
    let foreign = "lake/nobodys/data/x.parquet".to_owned();
    for key in [&orphan, &recorded, &foreign] {
        world.objects.put(key, Bytes::from_static(b"1\t1\t\t1\t1"), PutMode::IfAbsent).await.unwrap();
    }
    let groups = Groups::new(world.table.clone(), 1_000);
    let group = groups.begin(hour()).await.unwrap();
    let file = RecordedFile {
        key: recorded.clone(),
        rows: 1,
        size_bytes: 1,
        min_time: hour(),
        max_time: hour(),
        group: group.id.clone(),
        counted: BTreeMap::new(),
    };
    let contents = Contents { files: BTreeMap::from([(TABLE.to_owned(), vec![file])]), ..Contents::default() };
    groups.commit(&group, &contents, hour()).await.unwrap();
    let compact = world.compact(CompactSettings { budget: Duration::ZERO, ..CompactSettings::default() });
    // Objects in memory were written milliseconds after the epoch.
    let written = Timestamp::default();
    assert_eq!(compact.sweep(written.plus_micros(3 * DAY_US - HOUR_US)).await.unwrap(), 0);
    assert_eq!(compact.sweep(written.plus_micros(3 * DAY_US + HOUR_US)).await.unwrap(), 1);
    let mut left = world.objects.keys();
    left.sort();
    let mut expected = vec![live, recorded, foreign];
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_holds_up_its_partition_only() {
    let world = World::new().await;
    world.add("a", hour(), &["1"]).await;
    let bad = world.add("b", hour(), &["2"]).await;
    world.objects.put(&bad, Bytes::from_static(b"no row"), PutMode::Overwrite).await.unwrap();
    world.add("c", later(1), &["3"]).await;
    world.add("d", later(1), &["3"]).await;
    let error = world.compact(CompactSettings::default()).run(Asked::default(), later(9)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(error.detail.contains(&bad), "{error}");
    assert_eq!((world.files(), world.counted(REPEATED).await), (3, Some("1".into())));
}
