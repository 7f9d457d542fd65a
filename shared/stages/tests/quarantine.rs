//! Quarantine over ports in memory: what is refused can be found, repaired and sent again, and counts once.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use sluice_domain::event::{Event, Shared};
use sluice_domain::json;
use sluice_domain::message::{Entry, pack, read_header};
use sluice_domain::schema::Registry;
use sluice_domain::time::{DAY_US, Timestamp};
use sluice_ports::{
    Delivery, Document, DocumentOutcome, ErrorKind, IndexTemplate, Message, Objects, PortError, Queue, Search, Topic,
};
use sluice_stages::access::{KeySpec, Keys};
use sluice_stages::http::Request;
use sluice_stages::index::{Index, IndexPorts, IndexSettings};
use sluice_stages::ingest::{ClientIp, Ingest, IngestPorts, IngestSettings};
use sluice_stages::item::{Item, Outcome as Settled};
use sluice_stages::ledger::{self, Sink};
use sluice_stages::quarantine::desk::{Desk, DeskPorts, MAX_RECORDS, Outcome, Select, State};
use sluice_stages::quarantine::sweep::{Letters, Sweep};
use sluice_stages::quarantine::{Quarantine, Quarantined};
use sluice_testkit::clock::FakeClock;
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::{MemoryObjects, MemoryQueue, MemorySearch, MemoryTable, MemoryTopic, QueueRules};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SCHEMAS: [(&str, &str); 2] = [
    ("e", r#"{"type":"object","x-type":"event","properties":{"data":{"x-json":true,"x-column-id":101}}}"#),
    (
        "w",
        r#"{"type":"object","x-type":"web.event","required":["n"],"properties":{"n":{"type":"integer","x-column-id":101}}}"#,
    ),
];
const GOOD: &str = r#"{"id":"a","type":"web.event","data":{"n":7}}"#;

/// A search engine that refuses all documents while it is told to.
#[derive(Default)]
struct Picky {
    inner: MemorySearch,
    refuses: AtomicBool,
}

#[async_trait]
impl Search for Picky {
    async fn define(&self, templates: Vec<IndexTemplate>) -> Result<(), PortError> {
        self.inner.define(templates).await
    }

    async fn create(&self, documents: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Ok(documents.iter().map(|_| DocumentOutcome::Rejected("mapping conflict".into())).collect());
        }
        self.inner.create(documents).await
    }

    async fn search(&self, pattern: &str, body: &Value) -> Result<Value, PortError> {
        self.inner.search(pattern, body).await
    }
}

struct World {
    clock: FakeClock,
    table: Arc<Faulty<MemoryTable>>,
    topic: Arc<Faulty<MemoryTopic>>,
    objects: Arc<Faulty<MemoryObjects>>,
    refused: Arc<MemoryQueue>,
    index_queue: Arc<MemoryQueue>,
    dead: Arc<Faulty<MemoryQueue>>,
    search: Arc<Picky>,
    ingest: Arc<Ingest>,
    index: Index,
    desk: Desk,
    secret: String,
}

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
}

impl World {
    async fn new() -> Self {
        let clock = FakeClock::default();
        let rows = Arc::new(MemoryTable::new());
        let queue = |dead_letter| {
            let rules = QueueRules {
                clock: clock.clone(),
                table: Some(rows.clone()),
                retention: Duration::from_secs(60 * 86_400),
                dead_letter,
                ..QueueRules::default()
            };
            Arc::new(MemoryQueue::with(rules))
        };
        let (refused, dead) = (queue(None), queue(None));
        let index_queue = queue(Some((dead.clone(), 1)));
        let topic = MemoryTopic::with_table(rows.clone());
        topic.subscribe(index_queue.clone(), None);
        let topic = Arc::new(Faulty::new(topic));
        let table = Arc::new(Faulty::over(rows.clone()));
        let objects = Arc::new(Faulty::new(MemoryObjects::new()));
        let registry = Arc::new(Registry::load(SCHEMAS).unwrap());
        let keys = Arc::new(Keys::new(table.clone()));
        let (secret, _) = keys.create(KeySpec::write(["shop"]), None, now()).await.unwrap();
        let settings = IngestSettings {
            zone: chrono_tz::UTC,
            client_ip: ClientIp::Full,
            max_body_bytes: 1 << 20,
            max_decompressed_bytes: 1 << 20,
            max_events_per_request: 1_000,
            quarantine_per_key_hour: 1_000,
        };
        let ports = IngestPorts { topic: topic.clone(), quarantine: refused.clone(), keys: keys.clone() };
        let ingest = Arc::new(Ingest::new(ports, registry.clone(), settings));
        let search = Arc::new(Picky::default());
        let ports = IndexPorts { search: search.clone(), table: table.clone(), quarantine: refused.clone() };
        let index = Index::new(ports, registry.clone(), IndexSettings::default());
        let ports = DeskPorts {
            objects: objects.clone(),
            table: table.clone(),
            keys,
            ingest: ingest.clone(),
            queues: BTreeMap::from([("index".to_owned(), index_queue.clone() as Arc<dyn Queue>)]),
        };
        let desk = Desk::new(ports, registry);
        let dead = Arc::new(Faulty::over(dead));
        Self { clock, table, topic, objects, refused, index_queue, dead, search, ingest, index, desk, secret }
    }

    async fn post(&self, media: &str, body: &str) -> u16 {
        let headers = BTreeMap::from([
            ("authorization".to_owned(), format!("Bearer {}", self.secret)),
            ("content-type".to_owned(), media.to_owned()),
        ]);
        let request = Request {
            method: "POST".into(),
            path: "/v1/events".into(),
            headers,
            body: Bytes::from(body.to_owned()),
            client_ip: "203.0.113.7".into(),
            ..Request::default()
        };
        self.ingest.handle(&request, now()).await.status
    }

    /// Keeps what waits in the quarantine queue.
    async fn keep(&self) {
        for delivery in self.refused.receive(100, Duration::ZERO).await.unwrap() {
            let stage = Quarantine::new(self.objects.clone());
            assert_eq!(stage.run(&[item(&delivery)], now()).await, [Settled::Done]);
            let settled = self.refused.settle(vec![(delivery.receipt, sluice_ports::Settlement::Delete)]).await;
            settled.into_iter().collect::<Result<(), _>>().unwrap();
        }
    }

    /// Indexes what waits; answers how many messages were done.
    async fn indexed(&self) -> usize {
        let batch = self.index_queue.receive(100, Duration::ZERO).await.unwrap();
        let items: Vec<Item> = batch.iter().map(item).collect();
        let outcomes = self.index.run(&items, now()).await;
        for (delivery, outcome) in batch.into_iter().zip(&outcomes) {
            if *outcome == Settled::Done {
                self.index_queue.settle(vec![(delivery.receipt, sluice_ports::Settlement::Delete)]).await;
            }
        }
        outcomes.iter().filter(|outcome| **outcome == Settled::Done).count()
    }

    async fn only(&self) -> String {
        let page = self.desk.list(&Select::default(), None, 10).await.unwrap();
        assert_eq!(page.found.len(), 1, "{page:?}");
        page.found[0].handle.clone()
    }

    async fn replay(&self, handle: &str) -> Outcome {
        self.desk.replay(handle, None, false, now()).await.unwrap()
    }

    /// Accepted, rejected; and of the search: stored, quarantined, duplicates, in flight.
    async fn counts(&self) -> [i64; 6] {
        let waiting = self.index_queue.depth().await.unwrap().events.unwrap_or(0);
        let report =
            ledger::report(self.table.as_ref(), &BTreeMap::from([(Sink::Search, Some(waiting))])).await.unwrap();
        let search = report.total.sinks[&Sink::Search];
        [
            report.total.accepted,
            report.total.rejected,
            search.stored,
            search.quarantined,
            search.duplicates,
            search.in_flight,
        ]
    }

    fn sweep(&self) -> Sweep {
        let letters = Letters { name: "Dead".into(), origin: "index".into(), queue: self.dead.clone() };
        Sweep {
            letters: vec![letters],
            objects: self.objects.clone(),
            table: self.table.clone(),
            budget: Duration::from_secs(60),
        }
    }

    fn clock_now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now_ms() * 1_000).unwrap()
    }

    /// Lets what waits for the index die: it is received more often than its queue allows.
    async fn let_it_die(&self) {
        for _ in 0..2 {
            self.index_queue.receive(100, Duration::ZERO).await.unwrap();
            self.clock.advance(Duration::from_secs(31));
        }
        assert_eq!(self.dead.depth().await.unwrap().visible, 1);
    }
}

fn item(delivery: &Delivery) -> Item {
    Item { id: delivery.id.clone(), body: delivery.body.clone(), receive_count: delivery.receive_count }
}

fn message(batch: &str) -> Message {
    let mut text = String::new();
    let data = json::parse_str(r#"{"n":1}"#).unwrap();
    Event::derived(batch, "shop", "web.event", now(), now(), data).write(&mut text);
    let entry = Entry { event_type: "web.event".into(), text };
    let packed = pack(batch, &Shared { received: now(), ..Shared::default() }, &[entry]).unwrap();
    let packed = packed.published_as(&format!("publish-of-{batch}"));
    Message { body: packed.body, events: 1, tally: vec![ledger::accepted(now(), "web.event", 1)], ..Message::default() }
}

fn sent(events: u64) -> Outcome {
    Outcome::Sent(BTreeMap::from([("web.event".to_owned(), events)]))
}

#[tokio::test]
async fn what_ingest_rejected_is_repaired_and_comes_in_once() {
    let world = World::new().await;
    assert_eq!(world.post("application/json", r#"{"id":"a","type":"web.event","data":{"n":"7"}}"#).await, 400);
    world.keep().await;
    assert_eq!(world.counts().await, [0, 1, 0, 0, 0, 0]);
    let handle = world.only().await;
    let Outcome::Refused(errors) = world.replay(&handle).await else { panic!("it is still wrong") };
    assert_eq!((errors[0]["pointer"].as_str(), errors[0]["code"].as_str()), (Some("/data/n"), Some("schema")));
    assert_eq!(world.desk.replay(&handle, Some(GOOD), true, now()).await.unwrap(), sent(1), "a look");
    assert!(world.topic.inner().published().is_empty());
    world.desk.repair(&handle, GOOD).await.unwrap().unwrap();
    let found = world.desk.get(&handle).await.unwrap().unwrap();
    assert_eq!(found.state(), State::Repaired);
    assert!(found.record.bytes.ends_with(b"\"n\":\"7\"}}"), "the bytes stay");
    assert_eq!(world.replay(&handle).await, sent(1));
    assert!(matches!(world.replay(&handle).await, Outcome::AlreadySent(_)));
    assert_eq!(world.indexed().await, 1);
    assert_eq!(world.counts().await, [1, 0, 1, 0, 0, 0]);
    let (_, _, document) = world.search.inner.documents().pop().unwrap();
    assert_eq!((document["source"].as_str(), document["clientip"].as_str()), (Some("shop"), Some("203.0.113.7")));
    let error = world.desk.repair(&handle, GOOD).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn a_replay_that_dies_before_it_is_recorded_is_the_same_batch_again() {
    let world = World::new().await;
    world.post("application/json", r#"{"type":"web.event","data":{}}"#).await;
    world.keep().await;
    let handle = world.only().await;
    world.desk.repair(&handle, r#"{"type":"web.event","data":{"n":1}}"#).await.unwrap().unwrap();
    world.table.script("table.write", [Fault::Before(ErrorKind::Unavailable)]);
    world.desk.replay(&handle, None, false, now()).await.unwrap_err();
    assert_eq!(world.replay(&handle).await, sent(1));
    let batches: Vec<String> =
        world.topic.inner().published().iter().map(|m| read_header(&m.body).unwrap().batch).collect();
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[0], batches[1]);
    assert_eq!(world.indexed().await, 2);
    assert_eq!(world.search.inner.documents().len(), 1);
    assert_eq!(world.counts().await, [2, 0, 1, 0, 1, 0], "accepted twice, stored once, and once a duplicate");
}

#[tokio::test]
async fn whole_bodies_are_read_as_what_they_are() {
    let world = World::new().await;
    let lines = format!("{GOOD}\n{{\"id\":\"b\",\"type\":\"web.event\",\"data\":{{\"n\":2}}}}\n");
    for (body, events) in [(lines.as_str(), 2), ("[{\"id\":\"c\",\"type\":\"web.event\",\"data\":{\"n\":1}}]", 1)] {
        assert_eq!(world.post("application/x-unknown", body).await, 415);
        world.keep().await;
        let page = world.desk.list(&Select { state: Some(State::Open), ..Select::default() }, None, 10).await.unwrap();
        assert_eq!(world.replay(&page.found[0].handle).await, sent(events), "{body}");
    }
    assert_eq!(world.indexed().await, 2);
    assert_eq!(world.counts().await, [3, 0, 3, 0, 0, 0]);
}

#[tokio::test]
async fn of_a_body_all_or_nothing_comes_in() {
    let world = World::new().await;
    let body = format!("{GOOD}\n{{\"id\":\"b\",\"type\":\"web.event\",\"data\":{{}}}}");
    world.post("application/x-unknown", &body).await;
    world.keep().await;
    let Outcome::Refused(errors) = world.replay(&world.only().await).await else { panic!("one is wrong") };
    assert_eq!(errors[0]["index"], 1);
    assert!(world.topic.inner().published().is_empty());
}

#[tokio::test]
async fn a_reserved_type_does_not_come_in_by_a_replay() {
    let world = World::new().await;
    world.post("application/json", r#"{"type":"web.event","data":{}}"#).await;
    world.keep().await;
    let handle = world.only().await;
    let text = r#"{"type":"alert.fired","source":"x","data":{}}"#;
    let Outcome::Refused(errors) = world.desk.replay(&handle, Some(text), true, now()).await.unwrap() else { panic!() };
    assert_eq!(errors[0]["code"], "reserved_type");
}

#[tokio::test]
async fn what_a_sink_refused_goes_back_to_that_sink_alone() {
    let world = World::new().await;
    assert_eq!(world.post("application/json", GOOD).await, 202);
    world.search.refuses.store(true, Ordering::Relaxed);
    assert_eq!(world.indexed().await, 1);
    world.keep().await;
    assert_eq!(world.counts().await, [1, 0, 0, 1, 0, 0]);
    let handle = world.only().await;
    let published = world.topic.inner().published().len();
    world.search.refuses.store(false, Ordering::Relaxed);
    assert_eq!(world.replay(&handle).await, sent(1));
    assert_eq!(world.topic.inner().published().len(), published, "the other sinks have it");
    assert_eq!(world.indexed().await, 1);
    assert_eq!(world.counts().await, [1, 0, 1, 0, 0, 0]);
    let (_, _, document) = world.search.inner.documents().pop().unwrap();
    assert_eq!(document["clientip"], "203.0.113.7", "what the request said is still there");
}

#[tokio::test]
async fn a_replay_that_is_refused_again_stays_in_quarantine_and_counts_once() {
    let world = World::new().await;
    world.post("application/json", GOOD).await;
    world.search.refuses.store(true, Ordering::Relaxed);
    world.indexed().await;
    world.keep().await;
    assert_eq!(world.replay(&world.only().await).await, sent(1));
    assert_eq!(world.indexed().await, 1);
    world.keep().await;
    assert_eq!(world.counts().await, [1, 0, 0, 1, 0, 0]);
    let page = world.desk.list(&Select { state: Some(State::Open), ..Select::default() }, None, 10).await.unwrap();
    assert_eq!(page.found.len(), 1, "a record of its own, to be sent again");
}

#[tokio::test]
async fn a_stage_that_is_switched_off_takes_nothing() {
    let world = World::new().await;
    let bytes = br#"{"id":"a","source":"s","type":"web.event","time":"2026-11-21T10:00:00Z","data":{"n":1}}"#.to_vec();
    let record = Quarantined::new("detect", &[b"x"], "schema", "?", now(), bytes);
    let (key, bytes) = record.object();
    world.objects.put(&key, bytes, sluice_ports::PutMode::IfAbsent).await.unwrap();
    let Outcome::Refused(errors) = world.replay(&world.only().await).await else { panic!() };
    assert_eq!(errors[0]["code"], "no_queue");
}

#[tokio::test]
async fn records_are_found_by_what_they_are_and_page_by_page() {
    let world = World::new().await;
    for n in 0..250u32 {
        let received = now().plus_micros(i64::from(n % 5) * DAY_US);
        let code = if n % 2 == 0 { "schema" } else { "too_large" };
        let record = Quarantined::new("ingest", &[&n.to_le_bytes()], code, "?", received, n.to_string().into_bytes());
        let (key, bytes) = record.object();
        world.objects.put(&key, bytes, sluice_ports::PutMode::IfAbsent).await.unwrap();
    }
    world
        .objects
        .put("quarantine/dt=2026-11-22/by-hand.txt", Bytes::from("?"), sluice_ports::PutMode::IfAbsent)
        .await
        .unwrap();
    let all = |select: Select, limit: usize| {
        let desk = &world.desk;
        async move {
            let (mut handles, mut after) = (Vec::new(), None);
            loop {
                let page = desk.list(&select, after.as_deref(), limit).await.unwrap();
                assert!(page.found.len() <= limit);
                handles.extend(page.found.into_iter().map(|found| found.handle));
                after = page.next;
                if after.is_none() {
                    return handles;
                }
            }
        }
    };
    let every = all(Select::default(), MAX_RECORDS).await;
    assert_eq!(every.len(), 250);
    assert!(every.is_sorted());
    assert_eq!(all(Select::default(), 7).await, every);
    let schema = Select { code: Some("schema".into()), ..Select::default() };
    assert_eq!(all(schema, 10).await.len(), 125);
    let days = Select { from: Some("2026-11-22".into()), to: Some("2026-11-23".into()), ..Select::default() };
    assert_eq!(all(days, 30).await.len(), 100);
    assert_eq!(all(Select { origin: Some("index".into()), ..Select::default() }, 30).await, [] as [String; 0]);
}

#[tokio::test]
async fn a_handle_reaches_nothing_else() {
    let world = World::new().await;
    world.objects.put("lake/x.json", Bytes::from("{}"), sluice_ports::PutMode::IfAbsent).await.unwrap();
    for handle in ["x", "2026-11-21/../../lake/x", "../lake/x", "2026-11-21/", "2026-11-21/a/b", "2026-1-21/a"] {
        assert_eq!(world.desk.get(handle).await.unwrap_err().kind, ErrorKind::Invalid, "{handle}");
    }
    assert_eq!(world.desk.get("2026-11-21/absent").await.unwrap(), None);
    let select = Select { from: Some("yesterday".into()), ..Select::default() };
    assert_eq!(world.desk.list(&select, None, 1).await.unwrap_err().kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn old_dead_letters_go_to_quarantine_and_can_be_sent_again() {
    let world = World::new().await;
    world.topic.publish(vec![message("b")]).await.into_iter().collect::<Result<(), _>>().unwrap();
    world.let_it_die().await;
    assert_eq!(world.sweep().run(world.clock_now()).await, 0, "too young");
    assert_eq!(world.dead.depth().await.unwrap().visible, 1, "and not hidden by the look");
    world.clock.advance(Duration::from_secs(8 * 86_400));
    assert_eq!(world.sweep().run(world.clock_now()).await, 1);
    assert_eq!(world.dead.depth().await.unwrap().visible, 0);
    assert_eq!(world.counts().await, [1, 0, 0, 1, 0, 0]);
    assert_eq!(world.replay(&world.only().await).await, sent(1));
    assert_eq!(world.indexed().await, 1);
    assert_eq!(world.counts().await, [1, 0, 1, 0, 0, 0]);
    let batches: Vec<String> = world.index_queue.sent().iter().map(|m| read_header(&m.body).unwrap().batch).collect();
    assert_eq!(batches, ["b", "b"], "the batch keeps its id, so that it is stored once");
}

#[tokio::test]
async fn a_sweep_that_dies_anywhere_counts_a_letter_once() {
    for (operation, fault) in [
        ("objects.put", Fault::Before(ErrorKind::Unavailable)),
        ("objects.put", Fault::After),
        ("table.write", Fault::Before(ErrorKind::Throttled)),
        ("table.write", Fault::After),
        ("queue.settle", Fault::Before(ErrorKind::Unavailable)),
        ("queue.settle", Fault::After),
    ] {
        let world = World::new().await;
        world.topic.publish(vec![message("b")]).await.into_iter().collect::<Result<(), _>>().unwrap();
        world.let_it_die().await;
        world.clock.advance(Duration::from_secs(8 * 86_400));
        match operation {
            "objects.put" => world.objects.script(operation, [fault.clone()]),
            "table.write" => world.table.script(operation, [fault.clone()]),
            _ => world.dead.script(operation, [fault.clone()]),
        }
        world.sweep().run(world.clock_now()).await;
        world.clock.advance(Duration::from_secs(31));
        world.sweep().run(world.clock_now()).await;
        assert_eq!(world.dead.depth().await.unwrap().visible, 0, "{operation} {fault:?}");
        assert_eq!(world.counts().await, [1, 0, 0, 1, 0, 0], "{operation} {fault:?}");
        world.only().await;
    }
}

#[tokio::test]
async fn a_letter_whose_batch_is_stored_is_only_deleted() {
    let world = World::new().await;
    world.topic.publish(vec![message("b")]).await.into_iter().collect::<Result<(), _>>().unwrap();
    let copy = world.index_queue.receive(1, Duration::ZERO).await.unwrap();
    assert_eq!(world.index.run(&[item(&copy[0])], now()).await, [Settled::Done]);
    world.clock.advance(Duration::from_secs(31));
    world.index_queue.receive(1, Duration::ZERO).await.unwrap();
    world.clock.advance(Duration::from_secs(8 * 86_400));
    assert_eq!(world.sweep().run(world.clock_now()).await, 1);
    assert_eq!(world.counts().await, [1, 0, 1, 0, 0, 0]);
    assert_eq!(world.desk.list(&Select::default(), None, 1).await.unwrap().found, []);
}
