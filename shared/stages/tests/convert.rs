//! `convert` over ports in memory: what is acknowledged is in exactly one recorded file, whatever fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use sluice_domain::event::{Data, Event, Shared};
use sluice_domain::json;
use sluice_domain::lake::{EncodeError, EncodedFile, Encoder, Misfit, TableBuilder};
use sluice_domain::message::{Entry, pack};
use sluice_domain::scan::{Cursor, Head, place};
use sluice_domain::schema::{Partition, Registry, Schema};
use sluice_domain::time::{DAY_US, HOUR_US, SECOND_US, Timestamp};
use sluice_ports::{
    Condition, Delivery, Depth, ErrorKind, Item as Row, Key, Message, ObjectMeta, Objects, PortError, PutMode, Query,
    Queue, Receipt, Settlement, Table, Write,
};
use sluice_stages::convert::{Convert, ConvertPorts, ConvertSettings};
use sluice_stages::groups::{RecordedFile, recorded_files, recorded_tables};
use sluice_stages::item::{Item, Outcome};
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::{MemoryObjects, MemoryQueue, MemoryTable};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LEASE_MS: u32 = 10_000;

/// One line per event: `source|id|time`. Events whose data says so do not fit or cannot be encoded.
struct Lines;

impl Encoder for Lines {
    fn table(&self, schema: &Schema) -> Result<Box<dyn TableBuilder>, EncodeError> {
        Ok(Box::new(LinesTable { partition: schema.partition, rows: Vec::new() }))
    }
}

/// Reads events the quick way where they have data and nothing behind it.
struct LinesTable {
    partition: Partition,
    /// Time, line, and whether it is poison.
    rows: Vec<(Timestamp, String, bool)>,
}

impl TableBuilder for LinesTable {
    fn push_text<'t>(&mut self, head: &Head<'t>, cursor: &mut Cursor<'t>) -> bool {
        let data = if head.has_data { cursor.node(3) } else { None };
        let Some(data) = data.filter(|data| !data.raw.contains("misfit") && cursor.eat(b'}')) else { return false };
        let (source, id) = (head.texts[place::SOURCE].unwrap(), head.texts[place::ID].unwrap());
        self.rows.push((head.time, format!("{source}|{id}|{}", head.time), data.raw.contains("poison")));
        true
    }

    fn push(&mut self, event: &Event<'_>) -> Result<(), Misfit> {
        let says = |word: &str| matches!(&event.data, Data::Json(node) if node.raw.contains(word));
        if says("misfit") {
            return Err(Misfit { pointer: "/data/n".into(), reason: "does not fit".into() });
        }
        let line = format!("{}|{}|{}", event.source, event.id, event.time);
        self.rows.push((event.time, line, says("poison")));
        Ok(())
    }

    fn rows(&self) -> u32 {
        self.rows.len() as u32
    }

    fn encode(&self, rows: &[u32]) -> Result<EncodedFile, EncodeError> {
        let rows: Vec<_> = rows.iter().map(|row| &self.rows[*row as usize]).collect();
        if rows.iter().any(|(_, _, is_poison)| *is_poison) {
            return Err(EncodeError("poison".into()));
        }
        let folders: Vec<String> = rows.iter().map(|(time, ..)| self.partition.folder(*time)).collect();
        assert!(folders.windows(2).all(|w| w[0] == w[1]), "one file, one partition: {folders:?}");
        Ok(EncodedFile {
            bytes: rows.iter().map(|(_, line, _)| line.as_str()).collect::<Vec<_>>().join("\n").into_bytes(),
            rows: rows.len() as u64,
            min_time: rows.iter().map(|(time, ..)| *time).min().unwrap(),
            max_time: rows.iter().map(|(time, ..)| *time).max().unwrap(),
        })
    }
}

fn registry() -> Arc<Registry> {
    let files = [
        ("e", r#"{"type":"object","x-type":"event","properties":{"data":{"x-json":true,"x-column-id":101}}}"#),
        ("w", r#"{"type":"object","x-type":"web.event","properties":{"n":{"type":"integer","x-column-id":101}}}"#),
        ("h", r#"{"type":"object","x-type":"http.access","x-partition":"hour"}"#),
        ("g", r#"{"type":"object","x-type":"game.start","x-partition":"month"}"#),
    ];
    Arc::new(Registry::load(files).unwrap())
}

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
}

fn event(id: &str, event_type: &str, time: Timestamp, data: &str) -> Entry {
    let mut text = String::new();
    Event::derived(id, "shop", event_type, time, now(), json::parse_str(data).unwrap()).write(&mut text);
    Entry { event_type: event_type.into(), text }
}

fn item(batch: &str, publish: &str, entries: &[Entry]) -> Item {
    let shared = Shared { received: now(), client_ip: None, user_agent: None };
    let packed = pack(batch, &shared, entries).unwrap().published_as(publish);
    Item { id: format!("m-{batch}-{publish}"), body: packed.body, receive_count: 1 }
}

/// A message of `count` web events and one of an unknown type.
fn usual(batch: &str, count: usize) -> Item {
    let mut entries: Vec<Entry> =
        (0..count).map(|i| event(&format!("{batch}-{i}"), "web.event", now(), "{\"n\":1}")).collect();
    entries.push(event(&format!("{batch}-x"), "Something/Else", now(), "[1]"));
    item(batch, "p", &entries)
}

struct World {
    objects: Arc<Faulty<MemoryObjects>>,
    table: Arc<Faulty<MemoryTable>>,
    quarantine: Arc<Faulty<MemoryQueue>>,
}

impl World {
    fn new() -> Self {
        Self {
            objects: Arc::new(Faulty::new(MemoryObjects::new())),
            table: Arc::new(Faulty::new(MemoryTable::new())),
            quarantine: Arc::new(Faulty::new(MemoryQueue::default())),
        }
    }

    fn convert(&self) -> Convert {
        let ports = ConvertPorts {
            objects: self.objects.clone(),
            table: self.table.clone(),
            quarantine: self.quarantine.clone(),
            commit: None,
        };
        Convert::new(ports, registry(), Arc::new(Lines), settings())
    }

    async fn files(&self) -> BTreeMap<String, Vec<RecordedFile>> {
        let mut all = BTreeMap::new();
        for table in recorded_tables(self.table.inner()).await.unwrap() {
            all.insert(table.clone(), recorded_files(self.table.inner(), &table).await.unwrap());
        }
        all
    }

    /// How often each event id stands in recorded files.
    async fn rows(&self) -> BTreeMap<String, usize> {
        let mut rows = BTreeMap::new();
        for file in self.files().await.values().flatten() {
            let bytes = self.objects.inner().bytes(&file.key).expect("a recorded file is there");
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(text.lines().count() as u64, file.rows);
            assert_eq!(text.len() as u64, file.size_bytes);
            for line in text.lines() {
                *rows.entry(line.split('|').nth(1).unwrap().to_owned()).or_default() += 1;
            }
        }
        rows
    }

    fn counted(&self, field: &str) -> i64 {
        let rows = self.table.inner().items();
        rows.iter().filter(|row| row.key.partition == "counter").filter_map(|row| row.value[field].as_i64()).sum()
    }

    fn quarantined(&self) -> Vec<Value> {
        self.quarantine.inner().sent().iter().map(|message| serde_json::from_str(&message.body).unwrap()).collect()
    }
}

fn settings() -> ConvertSettings {
    ConvertSettings { lease_ms: LEASE_MS, ..ConvertSettings::default() }
}

fn done(outcomes: &[Outcome]) -> Vec<bool> {
    outcomes.iter().map(|outcome| *outcome == Outcome::Done).collect()
}

fn each_once(count: usize) -> impl Fn(&BTreeMap<String, usize>) -> bool {
    move |rows| rows.len() == count && rows.values().all(|n| *n == 1)
}

#[tokio::test]
async fn events_go_to_the_files_of_their_table_and_partition() {
    let world = World::new();
    let entries = [
        event("1", "web.event", now(), "{}"),
        event("2", "web.event", now().plus_micros(-DAY_US), "{}"),
        event("3", "http.access", now(), "{}"),
        event("4", "http.access", now().plus_micros(HOUR_US), "{}"),
        event("5", "game.start", now(), "{}"),
        event("6", "game.start", now().plus_micros(-15 * DAY_US), "{}"),
        event("7", "com.Example/x", now(), "[1]"),
    ];
    let outcomes = world.convert().run(&[item("a", "p", &entries), usual("b", 2)], now()).await;
    assert_eq!(done(&outcomes), [true, true]);
    let files = world.files().await;
    let folders = |table: &str| -> Vec<(String, u64)> {
        let folder = |f: &RecordedFile| f.key.rsplit_once('/').unwrap().0.replace("lake/", "");
        let mut all: Vec<_> = files[table].iter().map(|f| (folder(f), f.rows)).collect();
        all.sort();
        all
    };
    let expect = |list: &[(&str, u64)]| list.iter().map(|(f, n)| ((*f).to_owned(), *n)).collect::<Vec<_>>();
    assert_eq!(
        folders("web_event"),
        expect(&[("web_event/data/dt=2026-11-20", 1), ("web_event/data/dt=2026-11-21", 3)])
    );
    assert_eq!(
        folders("http_access"),
        expect(&[("http_access/data/dt=2026-11-21/hour=10", 1), ("http_access/data/dt=2026-11-21/hour=11", 1)])
    );
    assert_eq!(folders("game_start"), expect(&[("game_start/data/dt=2026-11-01", 2)]));
    assert_eq!(folders("event"), expect(&[("event/data/dt=2026-11-21", 2)]));
    assert_eq!(world.counted("lake_stored"), 10);
    let counters = world.table.inner().value("counter", "2026-11-21T10#other").unwrap();
    assert_eq!(counters["lake_stored"], 2);
}

#[tokio::test]
async fn a_delivery_that_comes_again_stores_nothing_and_counts_nothing() {
    let world = World::new();
    let items = [usual("a", 3), usual("b", 2)];
    world.convert().run(&items, now()).await;
    let outcomes = world.convert().run(&items, now()).await;
    assert_eq!(done(&outcomes), [true, true]);
    assert!(each_once(7)(&world.rows().await));
    assert_eq!((world.counted("lake_stored"), world.counted("lake_duplicates")), (7, 0));
}

#[tokio::test]
async fn a_repeated_request_is_stored_once_and_counted_as_duplicates_once() {
    let world = World::new();
    let publish = |publish| item("a", publish, &[event("1", "web.event", now(), "{}")]);
    // In the same delivery, then alone and redelivered, then both again.
    let delivery = [publish("p1"), publish("p2"), publish("p1")];
    assert_eq!(done(&world.convert().run(&delivery, now()).await), [true; 3]);
    for _ in 0..2 {
        assert_eq!(done(&world.convert().run(&[publish("p3")], now()).await), [true]);
    }
    assert_eq!(done(&world.convert().run(&delivery, now()).await), [true; 3]);
    assert!(each_once(1)(&world.rows().await));
    assert_eq!((world.counted("lake_stored"), world.counted("lake_duplicates")), (1, 2));
}

#[tokio::test]
async fn what_cannot_be_read_goes_to_quarantine_and_its_neighbours_are_stored() {
    let world = World::new();
    let mut broken = usual("c", 1);
    broken.body = broken.body.replace("\"v\":1", "\"v\":9");
    let half = r#"{"v":1,"batch":"d","received":"2026-11-21T10:00:00Z","areas":["web"],"count":2,"types":{"web.event":2},"events":[{"id":"1"},{"id":"d-2","source":"s","type":"web.event","time":"2026-11-21T10:00:00Z"}]}"#;
    let fits = item(
        "e",
        "p",
        &[event("e-1", "web.event", now(), r#"{"n":"misfit"}"#), event("e-2", "web.event", now(), "{}")],
    );
    let text = |body: &str| Item { id: "m".into(), body: body.into(), receive_count: 1 };
    let items = [usual("a", 1), text("not a message"), broken, text(half), fits];
    for _ in 0..2 {
        assert_eq!(done(&world.convert().run(&items, now()).await), [true; 5]);
    }
    let rows: Vec<String> = world.rows().await.into_keys().collect();
    assert_eq!(rows, ["a-0", "a-x", "d-2", "e-2"]);
    // What has no batch is sent with each delivery, under the same id.
    let kept = world.quarantined();
    let codes: Vec<&str> = kept.iter().map(|body| body["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["malformed_message", "unknown_encoding", "malformed_message", "schema", "malformed_message"]);
    assert_eq!(kept[0]["id"], kept[4]["id"]);
    assert_eq!((world.counted("lake_stored"), world.counted("lake_quarantined")), (4, 4));
}

#[tokio::test]
async fn a_message_that_turns_out_unreadable_leaves_no_rows_behind() {
    let world = World::new();
    let good = |id: &str| {
        format!(r#"{{"id":"{id}","source":"s","type":"web.event","time":"2026-11-21T10:00:00Z","data":{{}}}}"#)
    };
    let twice = good("d-3").replacen("\"source\"", "\"id\":\"d-4\",\"source\"", 1);
    let body = format!(
        r#"{{"v":1,"batch":"d","received":"2026-11-21T10:00:00Z","areas":["web"],"count":3,"types":{{"web.event":3}},"events":[{},{},{twice}]}}"#,
        good("d-1"),
        good("d-2")
    );
    let broken = Item { id: "m".into(), body, receive_count: 1 };
    let outcomes = world.convert().run(&[usual("a", 1), broken, usual("b", 1)], now()).await;
    assert_eq!(done(&outcomes), [true; 3]);
    let rows: Vec<String> = world.rows().await.into_keys().collect();
    assert_eq!(rows, ["a-0", "a-x", "b-0", "b-x"]);
    let kept = world.quarantined();
    assert_eq!((kept.len(), kept[0]["code"].as_str()), (1, Some("duplicate_key")));
    assert_eq!((world.counted("lake_stored"), world.counted("lake_quarantined")), (4, 3));
}

#[tokio::test]
async fn a_message_that_cannot_be_encoded_does_not_hold_its_neighbours() {
    let world = World::new();
    let poison = item("b", "p", &[event("b-1", "web.event", now(), r#"{"n":"poison"}"#)]);
    let items = [usual("a", 2), poison, item("c", "p", &[event("c-1", "http.access", now(), "{}")])];
    let outcomes = world.convert().run(&items, now()).await;
    assert_eq!(done(&outcomes), [true, false, true]);
    assert!(each_once(4)(&world.rows().await));
}

#[tokio::test]
async fn an_object_that_cannot_be_put_aborts_the_group_and_frees_its_batches() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Full, ErrorKind::Denied] {
        let world = World::new();
        world.objects.script("objects.put", [Fault::Pass, Fault::Before(kind)]);
        let items = [usual("a", 2), usual("b", 2)];
        assert_eq!(done(&world.convert().run(&items, now()).await), [false, false]);
        assert!(world.rows().await.is_empty());
        assert_eq!(done(&world.convert().run(&items, now()).await), [true, true], "no lease is waited for");
        assert!(each_once(6)(&world.rows().await));
    }
}

#[tokio::test]
async fn a_put_or_a_commit_that_timed_out_after_its_effect_is_recognized() {
    let world = World::new();
    world.objects.script("objects.put", [Fault::After]);
    // begin, claim, table row, commit
    world.table.script("table.write", [Fault::After, Fault::After, Fault::Pass, Fault::After]);
    assert_eq!(done(&world.convert().run(&[usual("a", 2)], now()).await), [true]);
    assert!(each_once(3)(&world.rows().await));
    assert_eq!(world.counted("lake_stored"), 3);
}

#[tokio::test]
async fn a_quarantine_that_cannot_be_reached_holds_only_the_message_that_needs_it() {
    let world = World::new();
    world.quarantine.script("queue.send", [Fault::Before(ErrorKind::Unavailable)]);
    let misfit = item(
        "b",
        "p",
        &[event("b-1", "web.event", now(), r#"{"n":"misfit"}"#), event("b-2", "web.event", now(), "{}")],
    );
    let items = [usual("a", 1), misfit];
    assert_eq!(done(&world.convert().run(&items, now()).await), [true, false]);
    assert_eq!(done(&world.convert().run(&items, now()).await), [true, true]);
    assert!(each_once(3)(&world.rows().await));
    assert_eq!((world.counted("lake_stored"), world.counted("lake_quarantined")), (3, 1));
}

#[tokio::test]
async fn batches_over_many_partitions_are_cut_into_groups_and_one_large_batch_is_not() {
    let world = World::new();
    let hours = |batch: &str, from: i64, count: i64| {
        let entries: Vec<Entry> = (from..from + count)
            .map(|h| event(&format!("{batch}-{h}"), "http.access", now().plus_micros(-h * HOUR_US), "{}"))
            .collect();
        item(batch, "p", &entries)
    };
    let items = [hours("a", 0, 150), hours("b", 100, 150), hours("c", 0, 3), hours("d", 0, 2_500)];
    assert_eq!(done(&world.convert().run(&items, now()).await), [true; 4]);
    assert!(each_once(150 + 150 + 3 + 2_500)(&world.rows().await));
    let files = &world.files().await["http_access"];
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    files.iter().for_each(|f| *groups.entry(&f.group).or_default() += 1);
    let sizes: Vec<usize> = groups.into_values().collect();
    assert_eq!(sizes, [150, 153, 2_500]);
    let cut = world.table.inner().items().iter().filter(|row| row.key.partition == "file#http_access").count();
    assert!(cut > 3, "the item of 2,500 files is cut: {cut}");
}

#[tokio::test]
async fn more_batches_and_types_than_a_group_takes_go_to_the_next() {
    let world = World::new();
    let many: Vec<Item> =
        (0..2_100).map(|i| item(&format!("b{i}"), "p", &[event(&i.to_string(), "web.event", now(), "{}")])).collect();
    assert!(done(&world.convert().run(&many, now()).await).iter().all(|done| *done));
    let types: Vec<Item> = (0..90)
        .map(|i| {
            let entries: Vec<Entry> =
                (0..3).map(|n| event(&format!("t{i}-{n}"), &format!("many.t{i}n{n}"), now(), "{}")).collect();
            item(&format!("t{i}"), "p", &entries)
        })
        .collect();
    assert!(done(&world.convert().run(&types, now()).await).iter().all(|done| *done));
    assert!(each_once(2_100 + 270)(&world.rows().await));
    assert_eq!(world.counted("lake_stored"), 2_370);
}

#[tokio::test]
async fn without_time_messages_are_given_back() {
    let world = World::new();
    let ports = ConvertPorts {
        objects: world.objects.clone(),
        table: world.table.clone(),
        quarantine: world.quarantine.clone(),
        commit: None,
    };
    let hasty = ConvertSettings { slice_bytes: 1, budget_ms: 0, ..settings() };
    let convert = Convert::new(ports, registry(), Arc::new(Slow), hasty);
    let outcomes = convert.run(&[usual("a", 1), usual("b", 1)], now()).await;
    assert_eq!(done(&outcomes), [true, false]);
}

struct Slow;

impl Encoder for Slow {
    fn table(&self, schema: &Schema) -> Result<Box<dyn TableBuilder>, EncodeError> {
        let from = std::time::Instant::now();
        while from.elapsed() < Duration::from_millis(3) {}
        Lines.table(schema)
    }
}

#[tokio::test]
async fn a_live_lease_is_respected_and_an_expired_one_is_not() {
    let world = World::new();
    let items = [usual("a", 2)];
    // The process dies before its commit: everything fails from there, the abort too.
    let fuse = Arc::new(Fuse::new(5, End::Dies, 0));
    let killed = convert_with(&world, &fuse).run(&items, now()).await;
    assert_eq!(done(&killed), [false]);
    let early = world.convert().run(&items, now().plus_micros(SECOND_US)).await;
    assert_eq!(early, [Outcome::Retry("another consumer holds the batch".into())]);
    let late = world.convert().run(&items, now().plus_micros(i64::from(LEASE_MS) * 1_000)).await;
    assert_eq!(done(&late), [true]);
    assert!(each_once(3)(&world.rows().await));
}

// Faults at every call, and schedules of overlapping consumers.

/// What happens to the call at which a fuse blows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has no effect, and neither has any later call: the process is dead.
    Dies,
    /// It has its effect, and no later call has any.
    DiesAfter,
    /// It fails without effect; later calls go through.
    Fails,
    /// It has its effect and times out; later calls go through.
    TimesOut,
    /// It times out; a write of the table lands when the test says so.
    Late,
}

/// Counts the calls of one consumer over all of its ports.
struct Fuse {
    left: AtomicI64,
    end: End,
    random: AtomicU64,
    late: Mutex<Vec<Vec<Write>>>,
}

enum Fate {
    Through,
    Nothing,
    Effect,
    Later,
}

impl Fuse {
    fn new(calls: i64, end: End, seed: u64) -> Self {
        Self { left: AtomicI64::new(calls), end, random: AtomicU64::new(seed), late: Mutex::default() }
    }

    async fn call(&self) -> Fate {
        let random = self.random.load(Ordering::Relaxed);
        if random > 0 {
            let next = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.random.store(next.max(1), Ordering::Relaxed);
            for _ in 0..(next >> 33) % 4 {
                tokio::task::yield_now().await;
            }
        }
        let left = self.left.fetch_sub(1, Ordering::Relaxed);
        match (left, self.end) {
            (1.., _) => Fate::Through,
            (0, End::DiesAfter | End::TimesOut) => Fate::Effect,
            (0, End::Late) => Fate::Later,
            (0, _) | (_, End::Dies | End::DiesAfter) => Fate::Nothing,
            _ => Fate::Through,
        }
    }

    fn error(&self, kind: ErrorKind) -> PortError {
        PortError::new(kind, "table.write", "the fuse has blown")
    }

    async fn run<R>(&self, call: impl Future<Output = Result<R, PortError>>) -> Result<R, PortError> {
        match self.call().await {
            Fate::Through => call.await,
            Fate::Nothing => Err(self.error(ErrorKind::Unavailable)),
            Fate::Effect => call.await.and(Err(self.error(ErrorKind::Timeout))),
            Fate::Later => Err(self.error(ErrorKind::Timeout)),
        }
    }

    async fn land(&self, table: &dyn Table) {
        let late: Vec<Vec<Write>> = std::mem::take(&mut self.late.lock().unwrap());
        for writes in late {
            let _ = table.write(writes).await;
        }
    }
}

struct Fused<T> {
    inner: Arc<T>,
    fuse: Arc<Fuse>,
}

#[async_trait]
impl<T: Table> Table for Fused<T> {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, PortError> {
        self.fuse.run(self.inner.get(keys)).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), PortError> {
        match self.fuse.call().await {
            Fate::Through => self.inner.write(writes).await,
            Fate::Nothing => Err(self.fuse.error(ErrorKind::Unavailable)),
            Fate::Effect => self.inner.write(writes).await.and(Err(self.fuse.error(ErrorKind::Timeout))),
            Fate::Later => {
                self.fuse.late.lock().unwrap().push(writes);
                Err(self.fuse.error(ErrorKind::Timeout))
            }
        }
    }

    async fn query(&self, query: Query) -> Result<Vec<Row>, PortError> {
        self.fuse.run(self.inner.query(query)).await
    }
}

#[async_trait]
impl<T: Objects> Objects for Fused<T> {
    async fn put(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<(), PortError> {
        self.fuse.run(self.inner.put(key, bytes, mode)).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, PortError> {
        self.fuse.run(self.inner.get(key, range)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, PortError> {
        self.fuse.run(self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &str) -> Result<(), PortError> {
        self.fuse.run(self.inner.delete(key)).await
    }
}

#[async_trait]
impl<T: Queue> Queue for Fused<T> {
    async fn send(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        let count = messages.len();
        let sent = self.fuse.run(async { Ok(self.inner.send(messages).await) }).await;
        match sent {
            Ok(results) => results,
            Err(e) => (0..count).map(|_| Err(PortError::new(e.kind, "queue.send", e.detail.clone()))).collect(),
        }
    }

    async fn receive(&self, _: usize, _: Duration) -> Result<Vec<Delivery>, PortError> {
        unreachable!("the stage only sends")
    }

    async fn settle(&self, _: Vec<(Receipt, Settlement)>) -> Vec<Result<(), PortError>> {
        unreachable!("the stage only sends")
    }

    async fn depth(&self) -> Result<Depth, PortError> {
        unreachable!("the stage only sends")
    }
}

fn convert_with(world: &World, fuse: &Arc<Fuse>) -> Convert {
    let ports = ConvertPorts {
        objects: Arc::new(Fused { inner: world.objects.clone(), fuse: fuse.clone() }),
        table: Arc::new(Fused { inner: world.table.clone(), fuse: fuse.clone() }),
        quarantine: Arc::new(Fused { inner: world.quarantine.clone(), fuse: fuse.clone() }),
        commit: None,
    };
    Convert::new(ports, registry(), Arc::new(Lines), settings())
}

/// Three batches, of which one has an event for quarantine.
fn three() -> [Item; 3] {
    let misfit = [event("c-1", "web.event", now(), r#"{"n":"misfit"}"#), event("c-2", "http.access", now(), "{}")];
    [usual("a", 2), usual("b", 1), item("c", "p", &misfit)]
}

/// Redelivers what is not done until all is, and checks rows and ledger; `acknowledged` are checked at each step.
async fn settle(world: &World, items: &[Item], done: &mut [bool], what: &str) {
    for delivery in 1..=4 {
        let now = now().plus_micros(delivery * i64::from(LEASE_MS) * 1_000);
        let open: Vec<usize> = (0..items.len()).filter(|i| !done[*i]).collect();
        let again: Vec<Item> = open.iter().map(|i| items[*i].clone()).collect();
        for (i, outcome) in open.into_iter().zip(world.convert().run(&again, now).await) {
            done[i] = outcome == Outcome::Done;
        }
    }
    assert!(done.iter().all(|done| *done), "{what}: {done:?}");
    let rows = world.rows().await;
    let wanted: Vec<&str> = vec!["a-0", "a-1", "a-x", "b-0", "b-x", "c-2"];
    assert_eq!(rows.keys().collect::<Vec<_>>(), wanted, "{what}");
    assert!(rows.values().all(|n| *n == 1), "{what}: {rows:?}");
    assert_eq!((world.counted("lake_stored"), world.counted("lake_quarantined")), (6, 1), "{what}");
    assert_eq!(world.counted("lake_duplicates"), 0, "{what}");
    let ids: std::collections::BTreeSet<String> = world.quarantined().iter().map(|b| b["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{what}: what is kept again has the same id");
}

#[tokio::test]
async fn a_fault_at_any_call_loses_and_repeats_nothing() {
    for end in [End::Dies, End::DiesAfter, End::Fails, End::TimesOut, End::Late] {
        let mut calls = 0;
        loop {
            let world = World::new();
            let items = three();
            let fuse = Arc::new(Fuse::new(calls, end, 0));
            let mut acknowledged = done(&convert_with(&world, &fuse).run(&items, now()).await);
            let blown = fuse.left.load(Ordering::Relaxed) < 0;
            let rows = world.rows().await;
            for (i, batch) in ["a-0", "b-0", "c-2"].iter().enumerate() {
                assert!(!acknowledged[i] || rows.get(*batch) == Some(&1), "{end:?} at call {calls}: {batch}");
            }
            if calls % 2 == 0 {
                fuse.land(world.table.inner()).await;
            }
            settle(&world, &items, &mut acknowledged, &format!("{end:?} at call {calls}")).await;
            // A very late write changes nothing any more.
            fuse.land(world.table.inner()).await;
            settle(&world, &items, &mut [false; 3], &format!("{end:?} at call {calls}, all delivered again")).await;
            if !blown {
                assert!(calls > 8, "the run has only {calls} calls");
                break;
            }
            calls += 1;
        }
    }
}

#[tokio::test]
async fn overlapping_consumers_with_faults_lose_and_repeat_nothing() {
    let ends = [End::Dies, End::DiesAfter, End::Fails, End::TimesOut, End::Late];
    let mut random = 7u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for schedule in 0..600u64 {
        let world = World::new();
        let items = three();
        let fuses: Vec<Arc<Fuse>> =
            (0..3).map(|_| Arc::new(Fuse::new(next(24) as i64, ends[next(5) as usize], next(1 << 30) + 1))).collect();
        // Each consumer gets some of the batches, in its own order, and sees its own clock: leases may look expired.
        let mut runs = Vec::new();
        for fuse in &fuses {
            let mut mine: Vec<usize> = (0..3).filter(|_| next(4) > 0).collect();
            let by = next(3) as usize;
            let len = mine.len().max(1);
            mine.rotate_left(by % len);
            let clock = now().plus_micros(next(3) as i64 * i64::from(LEASE_MS) * 1_000);
            let (convert, items) = (convert_with(&world, fuse), items.clone());
            runs.push(async move {
                let mine_items: Vec<Item> = mine.iter().map(|i| items[*i].clone()).collect();
                (mine, convert.run(&mine_items, clock).await)
            });
        }
        let mut acknowledged = [false; 3];
        for (mine, outcomes) in futures::future::join_all(runs).await {
            for (i, outcome) in mine.into_iter().zip(outcomes) {
                acknowledged[i] |= outcome == Outcome::Done;
            }
        }
        let rows = world.rows().await;
        for (i, event) in ["a-0", "b-0", "c-2"].iter().enumerate() {
            assert!(!acknowledged[i] || rows.get(*event) == Some(&1), "schedule {schedule}: {event} in {rows:?}");
        }
        for fuse in &fuses {
            if next(2) == 0 {
                fuse.land(world.table.inner()).await;
            }
        }
        settle(&world, &items, &mut acknowledged, &format!("schedule {schedule}")).await;
        for fuse in &fuses {
            fuse.land(world.table.inner()).await;
        }
        settle(&world, &items, &mut [false; 3], &format!("schedule {schedule}, all delivered again")).await;
    }
}

#[tokio::test]
async fn a_claim_that_lands_after_the_commit_does_not_make_a_batch_look_stored() {
    let world = World::new();
    // Calls: begin, its look, look at batches, claim (late), look, claim (late too) …: only the first is scripted late here, so the
    // batch is claimed by the second look; the late write then meets another version.
    let fuse = Arc::new(Fuse::new(3, End::Late, 0));
    let outcomes = convert_with(&world, &fuse).run(&[usual("a", 1)], now()).await;
    assert_eq!(done(&outcomes), [true]);
    fuse.land(world.table.inner()).await;
    let put = Write::Put {
        key: Key::new("batch", "z"),
        value: serde_json::json!({"group": world.files().await["event"][0].group, "publish": "p"}),
        condition: Condition::Absent,
        expires_at: None,
    };
    world.table.inner().write(vec![put]).await.unwrap();
    assert_eq!(done(&world.convert().run(&[usual("z", 1)], now()).await), [true]);
    assert!(each_once(4)(&world.rows().await));
}

#[test]
fn the_stage_can_run_on_any_thread() {
    fn send<T: Send>(_: T) {}
    let world = World::new();
    let convert = world.convert();
    send(convert.run(&[], now()));
}
