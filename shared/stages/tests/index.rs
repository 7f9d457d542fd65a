//! `index` over ports in memory: what is acknowledged is searchable or in quarantine, once, and counted once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use async_trait::async_trait;
use serde_json::{Value, json};
use sluice_domain::event::{Data, Event, Shared};
use sluice_domain::json as text;
use sluice_domain::message::{Entry, pack};
use sluice_domain::schema::Registry;
use sluice_domain::time::{DAY_US, Timestamp};
use sluice_ports::{Document, DocumentOutcome, ErrorKind, IndexTemplate, PortError, Search};
use sluice_stages::index::{Index, IndexPorts, IndexSettings};
use sluice_stages::item::{Item, Outcome};
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::{MemoryQueue, MemorySearch, MemoryTable};
use std::sync::Arc;

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
}

fn entry(event: &Event<'_>) -> Entry {
    let mut text = String::new();
    event.write(&mut text);
    Entry { event_type: event.event_type.clone().into_owned(), text }
}

fn event(id: &str, event_type: &str, time: Timestamp, data: &str) -> Entry {
    entry(&Event::derived(id, "shop", event_type, time, now(), text::parse_str(data).unwrap()))
}

fn item(batch: &str, publish: &str, entries: &[Entry]) -> Item {
    let shared = Shared { received: now(), client_ip: Some("10.0.0.0".into()), user_agent: Some("curl".into()) };
    let packed = pack(batch, &shared, entries).unwrap().published_as(publish);
    Item { id: format!("m-{batch}-{publish}"), body: packed.body, receive_count: 1 }
}

fn again(item: &Item) -> Item {
    Item { receive_count: item.receive_count + 1, ..item.clone() }
}

fn two(batch: &str) -> Item {
    let events = [
        event(&format!("{batch}-1"), "web.event", now(), r#"{"n":1}"#),
        event(&format!("{batch}-2"), "web.event", now(), r#"{"n":2}"#),
    ];
    item(batch, "p", &events)
}

fn registry() -> Arc<Registry> {
    let web = r#"{"type":"object","x-type":"web.event","properties":{"n":{"type":"integer","x-column-id":101},
        "at":{"type":"string","format":"date-time","x-column-id":102},
        "all":{"type":"array","items":{"type":"string","format":"date-time"},"x-column-id":103}}}"#;
    let generic = r#"{"type":"object","x-type":"event","properties":{"data":{"x-json":true,"x-column-id":101}}}"#;
    Arc::new(Registry::load([("e", generic), ("w", web)]).unwrap())
}

struct World {
    search: Arc<Faulty<MemorySearch>>,
    table: Arc<Faulty<MemoryTable>>,
    quarantine: Arc<Faulty<MemoryQueue>>,
    index: Index,
}

impl World {
    async fn new() -> Self {
        let registry = registry();
        let search = Arc::new(Faulty::new(MemorySearch::new()));
        let table = Arc::new(Faulty::new(MemoryTable::new()));
        let quarantine = Arc::new(Faulty::new(MemoryQueue::default()));
        let ports = IndexPorts { search: search.clone(), table: table.clone(), quarantine: quarantine.clone() };
        let index = Index::new(ports, registry, IndexSettings::default());
        index.define_templates().await.unwrap();
        Self { search, table, quarantine, index }
    }

    async fn run(&self, items: &[Item]) -> Vec<bool> {
        self.index.run(items, now()).await.iter().map(|outcome| *outcome == Outcome::Done).collect()
    }

    fn ids(&self) -> Vec<String> {
        let id = |(_, _, source): (String, String, Value)| source["id"].as_str().unwrap().to_owned();
        let mut ids: Vec<String> = self.search.inner().documents().into_iter().map(id).collect();
        ids.sort();
        ids
    }

    /// Stored, quarantined, duplicates.
    fn counted(&self) -> [i64; 3] {
        let rows = self.table.inner().items();
        ["search_stored", "search_quarantined", "search_duplicates"].map(|field| {
            rows.iter().filter(|row| row.key.partition == "counter").filter_map(|row| row.value[field].as_i64()).sum()
        })
    }

    fn kept(&self) -> Vec<Value> {
        self.quarantine.inner().sent().iter().map(|message| serde_json::from_str(&message.body).unwrap()).collect()
    }
}

#[tokio::test]
async fn a_document_has_the_envelope_the_data_and_the_rest_in_extra() {
    let world = World::new().await;
    let data = r#"{"n":7,"at":1795255200,"all":[1795255200000,"2026-11-21T10:00:00Z",null],"new":{"a":[1]}}"#;
    let mut full = Event::derived("1", "shop", "web.event", now(), now(), text::parse_str(data).unwrap());
    full.subject = Some("a \"quoted\" one".into());
    full.user_id = Some("007".into());
    full.hops = Some(2);
    full.extra = vec![("foo".into(), "[1]".into()), ("new".into(), "2".into())];
    assert_eq!(world.run(&[item("a", "p", &[entry(&full)])]).await, [true]);
    let (index, id, source) = world.search.inner().documents().remove(0);
    assert_eq!(index, "sluice-web_event-2026.11");
    assert_eq!(id, sluice_domain::identity::document_id("shop", "1", now()));
    assert_eq!(
        source,
        json!({
            "id": "1", "source": "shop", "type": "web.event", "time": "2026-11-21T10:00:00.000000Z",
            "receivedtime": "2026-11-21T10:00:00.000000Z", "subject": "a \"quoted\" one", "userid": "007",
            "clientip": "10.0.0.0", "useragent": "curl", "specversion": "1.0", "hops": 2,
            "data": {
                "n": 7, "at": "2026-11-21T10:00:00.000000Z",
                "all": ["2026-11-21T10:00:00.000000Z", "2026-11-21T10:00:00.000000Z", null]
            },
            "extra": {"new": {"a": [1]}, "foo": [1], "ce-new": 2},
        })
    );
}

#[tokio::test]
async fn events_without_a_schema_keep_their_data() {
    let world = World::new().await;
    let mut binary = Event::derived("4", "shop", "Any", now(), now(), text::parse_str("{}").unwrap());
    binary.data = Data::Base64("AAA=".into());
    let mut none = binary.clone();
    (none.id, none.data) = ("5".into(), Data::Absent);
    let events = [
        event("1", "Any", now(), r#"{"n":"x"}"#),
        event("2", "Any", now().plus_micros(-30 * DAY_US), "[1]"),
        event("3", "no.schema", now(), "1e3"),
        entry(&binary),
        entry(&none),
    ];
    assert_eq!(world.run(&[item("a", "p", &events)]).await, [true]);
    let mut documents = world.search.inner().documents();
    documents.sort_by_key(|(_, _, source)| source["id"].as_str().unwrap().to_owned());
    let index = |i: usize| documents[i].0.as_str();
    assert_eq!([index(0), index(1)], ["sluice-event-2026.11", "sluice-event-2026.10"]);
    let field = |i: usize, name: &str| documents[i].2.get(name).cloned();
    assert_eq!(field(0, "data"), Some(json!({"n": "x"})));
    assert_eq!(field(1, "data"), Some(json!({"value": [1]})));
    assert_eq!(field(2, "data"), Some(json!({"value": 1e3})));
    assert_eq!((field(3, "data"), field(3, "data_base64")), (None, Some(json!("AAA="))));
    assert_eq!(field(4, "data"), None);
}

#[tokio::test]
async fn every_table_has_a_template() {
    let world = World::new().await;
    let templates = world.search.inner().templates();
    let patterns: Vec<&str> = templates.iter().map(|template| template.pattern.as_str()).collect();
    assert_eq!(patterns, ["sluice-event-*", "sluice-web_event-*"]);
    assert_eq!(templates[1].mappings["properties"]["data"]["properties"]["n"]["type"], "long");
}

#[tokio::test]
async fn a_redelivery_of_an_indexed_batch_makes_no_call_to_the_search_engine() {
    let world = World::new().await;
    let items = [two("a"), two("b")];
    assert_eq!(world.run(&items).await, [true, true]);
    assert_eq!(world.run(&items).await, [true, true]);
    assert_eq!(world.search.calls("search.create"), 1);
    assert_eq!(world.counted(), [4, 0, 0]);
}

#[tokio::test]
async fn a_repeated_request_counts_as_duplicates_once() {
    let world = World::new().await;
    let publish = |publish| item("a", publish, &[event("1", "web.event", now(), "{}")]);
    let delivery = [publish("p1"), publish("p2"), publish("p1")];
    for _ in 0..2 {
        assert_eq!(world.run(&delivery).await, [true; 3]);
        assert_eq!(world.run(&[publish("p3")]).await, [true]);
    }
    assert_eq!((world.ids().len(), world.counted()), (1, [1, 0, 2]));
}

#[tokio::test]
async fn another_publish_of_a_batch_waits_until_the_begun_one_is_recorded() {
    let world = World::new().await;
    // An event without a time of its own has the receive time of each request.
    let publish = |publish, time| item("a", publish, &[event("1", "web.event", time, "{}")]);
    let (first, second) = (publish("p1", now()), publish("p2", now().plus_micros(DAY_US)));
    world.table.script("table.write", [Fault::Pass, Fault::Before(ErrorKind::Unavailable)]);
    assert_eq!(
        world.run(std::slice::from_ref(&first)).await,
        [false],
        "its document is there and its batch is not recorded"
    );
    assert_eq!(world.run(std::slice::from_ref(&second)).await, [false]);
    assert_eq!(world.run(&[again(&first)]).await, [true]);
    assert_eq!(world.run(&[again(&second)]).await, [true]);
    assert_eq!((world.ids().len(), world.counted()), (1, [1, 0, 1]));
}

#[tokio::test]
async fn a_batch_stays_in_the_indices_it_was_begun_in_whatever_version_goes_on() {
    let world = World::new().await;
    let next = [
        ("e", r#"{"type":"object","x-type":"event","properties":{"data":{"x-json":true,"x-column-id":101}}}"#),
        ("g", r#"{"type":"object","x-type":"game.start"}"#),
    ];
    let next = Index::new(
        IndexPorts { search: world.search.clone(), table: world.table.clone(), quarantine: world.quarantine.clone() },
        Arc::new(Registry::load(next).unwrap()),
        IndexSettings::default(),
    );
    for (begun, going_on) in [(&world.index, &next), (&next, &world.index)] {
        let events = ["web.event", "game.start"].map(|name| event(name, name, now(), "{}"));
        let batch = item(if std::ptr::eq(begun, &next) { "b" } else { "a" }, "p", &events);
        world.table.script("table.write", [Fault::Pass, Fault::Before(ErrorKind::Unavailable)]);
        assert!(matches!(begun.run(std::slice::from_ref(&batch), now()).await[..], [Outcome::Retry(_)]));
        let documents = world.search.inner().documents();
        assert_eq!(going_on.run(&[again(&batch)], now()).await, [Outcome::Done]);
        assert_eq!(world.search.inner().documents(), documents);
    }
}

#[tokio::test]
async fn an_event_that_another_batch_brought_is_a_duplicate() {
    let world = World::new().await;
    let one = event("1", "web.event", now(), "{}");
    let items = [item("a", "p", &[one.clone(), one.clone()]), item("b", "p", &[one])];
    assert_eq!(world.run(&items).await, [true, true]);
    assert_eq!((world.ids().len(), world.counted()), (1, [1, 0, 2]));
}

#[tokio::test]
async fn a_document_that_fails_holds_its_message_only() {
    let world = World::new().await;
    world.search.script("search.create", [Fault::Items(vec![1], ErrorKind::Throttled)]);
    let items = [two("a"), two("b")];
    assert_eq!(world.run(&items).await, [false, true]);
    assert_eq!(world.ids(), ["a-1", "b-1", "b-2"]);
    assert_eq!(world.counted(), [2, 0, 0]);
    assert_eq!(world.run(&[again(&items[0])]).await, [true]);
    assert_eq!((world.ids().len(), world.counted()), (4, [4, 0, 0]));
}

#[tokio::test]
async fn what_can_never_be_indexed_goes_to_quarantine_and_its_neighbours_are_searchable() {
    let world = World::new().await;
    let conflict = [event("1", "web.event", now(), r#"{"n":"text"}"#), event("2", "web.event", now(), r#"{"n":2}"#)];
    let half = r#"{"v":1,"batch":"d","received":"2026-11-21T10:00:00Z","areas":["web"],"count":2,"types":{"web.event":2},"events":[{"id":"1"},{"id":"d-2","source":"s","type":"web.event","time":"2026-11-21T10:00:00Z"}]}"#;
    let plain = |body: &str| Item { id: "m".into(), body: body.into(), receive_count: 1 };
    let items = [item("a", "p", &conflict), two("b"), plain(half), plain("not a message")];
    assert_eq!(world.run(&items).await, [true; 4]);
    assert_eq!(world.ids(), ["2", "b-1", "b-2", "d-2"]);
    assert_eq!(world.counted(), [4, 2, 0]);
    let codes: Vec<Value> = world.kept().iter().map(|record| record["code"].clone()).collect();
    assert_eq!(codes, ["malformed_message", "mapping_conflict", "malformed_message"]);
    assert!(world.kept()[1]["reason"].as_str().unwrap().contains("data.n"));
}

#[tokio::test]
async fn without_quarantine_only_the_message_that_needs_it_comes_again() {
    let world = World::new().await;
    world.quarantine.script("queue.send", [Fault::Before(ErrorKind::Unavailable)]);
    let conflict = item("a", "p", &[event("1", "web.event", now(), r#"{"n":"text"}"#)]);
    assert_eq!(world.run(&[conflict.clone(), two("b")]).await, [false, true]);
    assert_eq!(world.run(&[again(&conflict)]).await, [true]);
    assert_eq!((world.kept().len(), world.counted()), (1, [2, 1, 0]));
}

#[tokio::test]
async fn a_fault_at_any_call_loses_nothing_and_counts_nothing_twice() {
    let faults = [Fault::Before(ErrorKind::Unavailable), Fault::Before(ErrorKind::Denied), Fault::After];
    for fault in faults {
        for operation in ["table.get", "table.write", "search.create", "queue.send"] {
            for passing in 0..4 {
                let world = World::new().await;
                let script = std::iter::repeat_n(Fault::Pass, passing).chain([fault.clone()]);
                match operation {
                    "search.create" => world.search.script(operation, script),
                    "queue.send" => world.quarantine.script(operation, script),
                    _ => world.table.script(operation, script),
                }
                let conflict = item(
                    "c",
                    "p",
                    &[event("1", "web.event", now(), r#"{"n":"x"}"#), event("2", "web.event", now(), "{}")],
                );
                let mut open = vec![two("a"), two("b"), conflict];
                for _ in 0..4 {
                    let done = world.run(&open).await;
                    let mut done = done.into_iter();
                    open = open.iter().filter(|_| !done.next().unwrap()).map(again).collect();
                }
                let what = format!("{fault:?} at call {passing} of {operation}");
                assert!(open.is_empty(), "{what}");
                assert_eq!(world.ids(), ["2", "a-1", "a-2", "b-1", "b-2"], "{what}");
                assert_eq!(world.counted(), [5, 1, 0], "{what}");
            }
        }
    }
}

/// Lets others run before each bulk.
struct Polite(Arc<Faulty<MemorySearch>>);

#[async_trait]
impl Search for Polite {
    async fn define(&self, templates: Vec<IndexTemplate>) -> Result<(), PortError> {
        self.0.define(templates).await
    }

    async fn create(&self, documents: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        tokio::task::yield_now().await;
        self.0.create(documents).await
    }

    async fn search(&self, pattern: &str, body: &Value) -> Result<Value, PortError> {
        self.0.search(pattern, body).await
    }
}

#[tokio::test]
async fn overlapping_deliveries_count_a_batch_once() {
    let world = World::new().await;
    let search = Arc::new(Polite(world.search.clone()));
    let ports = IndexPorts { search, table: world.table.clone(), quarantine: world.quarantine.clone() };
    let index = Index::new(ports, registry(), IndexSettings::default());
    let (items, others) =
        ([two("a"), two("b")], [two("b"), item("a", "p2", &[event("a-1", "web.event", now(), "{}")])]);
    let (one, other) = tokio::join!(index.run(&items, now()), index.run(&others, now()));
    assert_eq!([&one[..], &other[..1]].concat(), vec![Outcome::Done; 3]);
    assert!(matches!(other[1], Outcome::Retry(_)), "another publish waits for the begun one");
    assert_eq!(world.search.calls("search.create"), 2, "both looked before either recorded");
    assert_eq!(index.run(&[again(&others[1])], now()).await, [Outcome::Done]);
    // Accepted were four events of `a` and `b`, and one of the other publish of `a`.
    assert_eq!(world.counted().iter().sum::<i64>(), 5);
}

#[tokio::test]
async fn a_permanent_failure_of_the_search_engine_keeps_the_messages() {
    let world = World::new().await;
    world.search.always("search.create", Fault::Before(ErrorKind::Denied));
    assert_eq!(world.run(&[two("a"), two("b")]).await, [false, false]);
    assert_eq!(world.counted(), [0, 0, 0]);
}

#[test]
fn the_stage_can_run_on_any_thread() {
    fn send<T: Send>(_: T) {}
    fn check(index: &Index) {
        send(index.run(&[], now()));
    }
    let _ = check;
}
