//! The audit of the ledger over ports in memory: what is lost is red, what is under way is not.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use sluice_domain::lake::{EncodeError, RowCount};
use sluice_domain::time::{HOUR_US, Timestamp};
use sluice_ports::{
    Catalog, Document, DocumentOutcome, IndexTemplate, Key, Objects, PortError, PutMode, Replace, Search, Table,
    TableFile, Tally, Write,
};
use sluice_stages::commit::{Commit, CommitPorts, CommitSettings};
use sluice_stages::compact::REPEATED;
use sluice_stages::groups::{Contents, Ended, Groups, RecordedFile, Wanted};
use sluice_stages::ledger::audit::{Asked, AuditPorts, Audited, audit};
use sluice_stages::ledger::{self, Fate, Sink};
use sluice_testkit::memory::{MemoryCatalog, MemoryObjects, MemoryTable};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const TYPE: &str = "web.event";

/// A file's rows are its lines.
struct Lines;

impl RowCount for Lines {
    fn rows(&self, bytes: &[u8]) -> Result<u64, EncodeError> {
        let text = std::str::from_utf8(bytes).map_err(|e| EncodeError(e.to_string()))?;
        Ok(text.lines().count() as u64)
    }
}

/// Documents of one type, by hour of receive time in milliseconds.
#[derive(Default)]
struct Counted(Mutex<BTreeMap<i64, i64>>);

#[async_trait]
impl Search for Counted {
    async fn define(&self, _: Vec<IndexTemplate>) -> Result<(), PortError> {
        Ok(())
    }

    async fn create(&self, _: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        Ok(Vec::new())
    }

    async fn search(&self, pattern: &str, body: &Value) -> Result<Value, PortError> {
        assert_eq!((pattern, &body["size"]), ("sluice-*", &json!(0)));
        let bucket = |(ms, n): (&i64, &i64)| json!({"key": ms, "types": {"buckets": [{"key": TYPE, "doc_count": n}]}});
        let buckets: Vec<Value> = self.0.lock().unwrap().iter().map(bucket).collect();
        Ok(json!({"aggregations": {"hours": {"buckets": buckets}}}))
    }
}

struct World {
    table: Arc<MemoryTable>,
    objects: Arc<MemoryObjects>,
    search: Arc<Counted>,
    catalog: Arc<MemoryCatalog>,
    ports: AuditPorts,
    files: u32,
}

fn received() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T10:30:00Z").unwrap()
}

fn later() -> Timestamp {
    received().plus_micros(3 * HOUR_US)
}

impl World {
    fn new() -> Self {
        let (table, objects) = (Arc::new(MemoryTable::new()), Arc::new(MemoryObjects::new()));
        let search = Arc::new(Counted::default());
        let catalog = Arc::new(MemoryCatalog::new());
        let ports = AuditPorts {
            catalog: Some(catalog.clone()),
            table: table.clone(),
            objects: objects.clone(),
            search: search.clone(),
            row_count: Arc::new(Lines),
        };
        Self { table, objects, search, catalog, ports, files: 0 }
    }

    async fn accept(&self, events: u64) {
        let Tally { counter, field, by } = ledger::accepted(received(), TYPE, events);
        let key = Key::new(ledger::PARTITION, counter);
        self.table.write(vec![Write::Add { key, deltas: vec![(field, by)], expires_at: None }]).await.unwrap();
    }

    /// Stores events in the lake as the stage does; answers the key of their file.
    async fn store(&mut self, events: u64) -> String {
        self.files += 1;
        let groups = Groups::new(self.table.clone(), 1_000);
        let group = groups.begin(received()).await.unwrap();
        let batch = format!("b{}", self.files);
        groups.claim(&group, &[Wanted { batch: &batch, publish: "p" }], received()).await;
        let key = format!("lake/web_event/data/dt=2026-11-21/{}-0.parquet", group.id);
        let bytes = Bytes::from("row\n".repeat(usize::try_from(events).unwrap()));
        let counter = ledger::counter(received(), TYPE);
        let file = RecordedFile {
            key: key.clone(),
            rows: events,
            size_bytes: bytes.len() as u64,
            min_time: received(),
            max_time: received(),
            group: group.id.clone(),
            counted: BTreeMap::from([(counter.clone(), events)]),
        };
        self.objects.put(&key, bytes, PutMode::IfAbsent).await.unwrap();
        let contents = Contents {
            batches: vec![batch],
            files: BTreeMap::from([("web_event".to_owned(), vec![file])]),
            counters: vec![ledger::sink_write(&counter, &[(Sink::Lake, Fate::Stored, events)])],
        };
        assert_eq!(groups.commit(&group, &contents, received()).await.unwrap(), Ended::Committed);
        key
    }

    async fn index(&self, counted: u64, documents: i64) {
        let write = ledger::sink_write(&ledger::counter(received(), TYPE), &[(Sink::Search, Fate::Stored, counted)]);
        self.table.write(vec![write]).await.unwrap();
        let hour_ms = received().micros() / HOUR_US * HOUR_US / 1_000;
        *self.search.0.lock().unwrap().entry(hour_ms).or_default() += documents;
    }

    /// What is recorded becomes part of its table.
    async fn commit(&self) {
        let ports = CommitPorts { table: self.table.clone(), catalog: self.catalog.clone() };
        Commit::new(ports, CommitSettings::default()).tick(received()).await.unwrap();
    }

    /// The files of the table become one with so many rows; so many are said to be repeated.
    async fn replace(&self, rows: u64, repeated: u64) -> String {
        let (head, files) = self.catalog.files("web_event").await.unwrap().unwrap();
        let key = format!("lake/web_event/data/{}.parquet", head.token);
        let bytes = Bytes::from("row\n".repeat(usize::try_from(rows).unwrap()));
        let time = received().micros();
        let added = TableFile { key: key.clone(), rows, size_bytes: bytes.len() as u64, time_us: (time, time) };
        self.objects.put(&key, bytes, PutMode::IfAbsent).await.unwrap();
        let replace = Replace {
            table: "web_event".into(),
            token: head.token,
            removed: files.into_iter().map(|file| file.key).collect(),
            added: vec![added],
            properties: BTreeMap::from([(REPEATED.into(), repeated.to_string())]),
        };
        self.catalog.replace(replace).await.unwrap();
        key
    }

    async fn audit(&self, sinks: &[Sink], deep: bool, now: Timestamp) -> Audited {
        audit(&self.ports, Asked { sinks, deep }, now).await.unwrap()
    }
}

#[tokio::test]
async fn what_is_all_there_adds_up() {
    let mut world = World::new();
    world.accept(5).await;
    world.store(3).await;
    world.store(2).await;
    world.index(5, 5).await;
    let audited = world.audit(&[Sink::Lake, Sink::Search], true, later()).await;
    assert!(audited.adds_up && audited.told.is_empty(), "{audited:?}");
    assert_eq!((audited.files, audited.hours.len()), (2, 1));
    let hour = &audited.hours[0];
    assert_eq!((hour.hour.as_str(), hour.event_type.as_str()), ("2026-11-21T10", TYPE));
    assert_eq!(hour.durable, BTreeMap::from([(Sink::Lake, 5), (Sink::Search, 5)]));
}

#[tokio::test]
async fn a_file_that_is_gone_or_cut_or_damaged_is_red_at_once() {
    for damage in ["gone", "cut", "other rows"] {
        let mut world = World::new();
        world.accept(5).await;
        world.store(3).await;
        let key = world.store(2).await;
        world.objects.delete(&key).await.unwrap();
        match damage {
            "cut" => world.objects.put(&key, Bytes::from("row\n"), PutMode::Overwrite).await.unwrap(),
            // As long as recorded, so that only a look inside tells.
            "other rows" => world.objects.put(&key, Bytes::from("row\nro1\t"), PutMode::Overwrite).await.unwrap(),
            _ => {}
        }
        if damage == "other rows" {
            world.objects.put(&key, Bytes::from("r\nw\nr\nw\n"), PutMode::Overwrite).await.unwrap();
            assert!(world.audit(&[Sink::Lake], false, received()).await.adds_up, "a look at the size is not enough");
        }
        let audited = world.audit(&[Sink::Lake], true, received()).await;
        assert!(!audited.adds_up, "{damage}");
        assert_eq!(audited.problems, 2, "the file, and the hour that misses it: {audited:?}");
        assert!(audited.told[0].what.contains(&key), "{:?}", audited.told);
        assert_eq!(audited.told[1].hour.as_deref(), Some("2026-11-21T10"));
        assert_eq!(audited.told[1].what, "5 events are counted as stored and 3 are there");
    }
}

#[tokio::test]
async fn rows_that_nobody_counted_are_red_when_the_hour_is_closed() {
    let mut world = World::new();
    world.accept(2).await;
    world.store(2).await;
    let undo = Write::Add {
        key: Key::new(ledger::PARTITION, ledger::counter(received(), TYPE)),
        deltas: vec![("lake_stored".into(), -1), ("accepted".into(), -1)],
        expires_at: None,
    };
    world.table.write(vec![undo]).await.unwrap();
    assert!(world.audit(&[Sink::Lake], false, received()).await.adds_up, "it may be under way");
    let audited = world.audit(&[Sink::Lake], false, later()).await;
    assert_eq!(audited.told[0].what, "2 events are there and 1 are counted as stored");
}

#[tokio::test]
async fn lost_documents_are_red_when_the_hour_is_closed() {
    let world = World::new();
    world.accept(4).await;
    world.index(4, 3).await;
    assert!(world.audit(&[Sink::Search], false, received()).await.adds_up, "a document is seen a moment late");
    let audited = world.audit(&[Sink::Search], false, later()).await;
    assert_eq!(audited.told[0].what, "4 events are counted as stored and 3 are there");
}

#[tokio::test]
async fn what_is_on_its_way_is_red_only_when_its_hour_is_closed() {
    let mut world = World::new();
    world.accept(5).await;
    world.store(3).await;
    assert!(world.audit(&[Sink::Lake], false, received()).await.adds_up);
    let audited = world.audit(&[Sink::Lake], false, later()).await;
    assert_eq!(audited.told[0].what, "2 events are on their way since the hour was closed");
    world.store(4).await;
    let audited = world.audit(&[Sink::Lake], false, received()).await;
    assert_eq!(audited.told[0].what, "2 more events are accounted for than were accepted", "that is wrong at any time");
}

#[tokio::test]
async fn a_sink_that_is_off_is_not_looked_at() {
    let world = World::new();
    world.accept(5).await;
    assert!(world.audit(&[], false, later()).await.adds_up);
}

#[tokio::test]
async fn what_is_in_its_table_adds_up_before_and_after_it_was_compacted() {
    let mut world = World::new();
    world.accept(10).await;
    world.store(3).await;
    let settled = world.store(2).await;
    world.commit().await;
    world.store(5).await;
    let adds_up = async |world: &World, files: u64| {
        let audited = world.audit(&[Sink::Lake], true, later()).await;
        assert!(audited.adds_up, "{audited:?}");
        assert_eq!((audited.files, audited.hours[0].durable[&Sink::Lake]), (files, 10));
    };
    adds_up(&world, 3).await;
    world.replace(4, 1).await;
    // As the sweep does when no snapshot needs it any more.
    world.objects.delete(&settled).await.unwrap();
    adds_up(&world, 2).await;
    world.commit().await;
    adds_up(&world, 2).await;
    world.replace(8, 2).await;
    adds_up(&world, 1).await;
}

#[tokio::test]
async fn a_table_that_lost_rows_or_has_rows_that_nobody_stored_is_red_at_once() {
    for (rows, repeated, what) in [
        (4, 0, "the table `web_event` has 4 rows, and 0 were removed, but 5 were stored in it"),
        (4, 2, "the table `web_event` has 4 rows, and 2 were removed, but only 5 were stored"),
    ] {
        let mut world = World::new();
        world.accept(5).await;
        world.store(5).await;
        world.commit().await;
        assert!(world.audit(&[Sink::Lake], true, received()).await.adds_up);
        world.replace(rows, repeated).await;
        let audited = world.audit(&[Sink::Lake], false, received()).await;
        assert_eq!((audited.problems, audited.told[0].what.as_str()), (1, what));
    }
}

#[tokio::test]
async fn a_file_of_a_table_that_is_gone_or_damaged_is_red_at_once() {
    for (damage, how) in [(None, "is gone"), (Some("row\n"), "has 4 bytes instead of 20"), (Some("r\n"), "says")] {
        let mut world = World::new();
        world.accept(5).await;
        world.store(5).await;
        world.commit().await;
        let key = world.replace(5, 0).await;
        world.objects.delete(&key).await.unwrap();
        if let Some(text) = damage {
            let times = if text.len() == 2 { 10 } else { 1 };
            world.objects.put(&key, Bytes::from(text.repeat(times)), PutMode::Overwrite).await.unwrap();
        }
        let audited = world.audit(&[Sink::Lake], true, received()).await;
        assert_eq!(audited.problems, 1, "{audited:?}");
        let told = &audited.told[0].what;
        assert!(told.contains(&key) && told.contains("`web_event`") && told.contains(how), "{told}");
    }
}

#[tokio::test]
async fn documents_that_were_removed_are_not_missed_and_others_are() {
    let mut world = World::new();
    world.accept(10).await;
    world.store(10).await;
    let counter = ledger::counter(received(), TYPE);
    let count = async |fate, n| {
        let write = ledger::sink_write(&counter, &[(Sink::Search, fate, n)]);
        world.table.write(vec![write]).await.unwrap();
    };
    count(Fate::Stored, 10).await;
    // Two went, and were counted a second time when the first count's effect was not known.
    count(Fate::Removed, 2).await;
    count(Fate::Removed, 2).await;
    let begin = received().micros() / HOUR_US * HOUR_US / 1_000;
    let both = [Sink::Lake, Sink::Search];
    for (documents, adds_up) in [(10, true), (8, true), (6, true), (5, false), (11, false)] {
        world.search.0.lock().unwrap().insert(begin, documents);
        let asked = Asked { sinks: &both, deep: false };
        let audited = audit(&world.ports, asked, later()).await.unwrap();
        assert_eq!(audited.adds_up, adds_up, "{documents}: {:?}", audited.told);
    }
}
