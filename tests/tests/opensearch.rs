//! Search on a real OpenSearch server: the contract of the port, the same answers as the embedded engine, and faults.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panic")]

use futures::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_adapters_embedded::search::{EmbeddedSearch, EmbeddedSearchConfig};
use sluice_adapters_opensearch::{Access, OpenSearch, OpenSearchSettings, Place};
use sluice_domain::event::{Acceptance, Event, Shared};
use sluice_domain::message::{Entry, pack};
use sluice_domain::schema::Registry;
use sluice_domain::time::Timestamp;
use sluice_domain::{demo, json as text};
use sluice_ports::{Document, DocumentOutcome, ErrorKind, IndexTemplate, Message, Queue, Search, Settlement};
use sluice_stages::index::{Index, IndexPorts, IndexSettings};
use sluice_stages::item::{Item, Outcome};
use sluice_testkit::contract;
use sluice_testkit::memory::{MemoryQueue, MemoryTable, QueueRules};
use sluice_tests::grafana::{self, Asks, Range};
use sluice_tests::opensearch::OpenSearchServer;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long something may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);

fn adapter(server: &OpenSearchServer) -> OpenSearch {
    OpenSearch::new(Place::Url(server.url()), Access::Open, OpenSearchSettings::default()).unwrap()
}

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T23:59:59Z").unwrap()
}

/// Messages of 100 events each, as `ingest` packs them.
fn messages(events: &[String], registry: &Registry) -> Vec<Item> {
    let acceptance = Acceptance {
        received: now(),
        zone: chrono_tz::UTC,
        default_source: None,
        default_type: None,
        max_age_days: None,
        registry,
    };
    let entry = |text: &String| {
        let (event, _) = Event::accept(text::parse_str(text).unwrap(), &acceptance, String::new).unwrap();
        let mut written = String::new();
        event.write(&mut written);
        Entry { event_type: event.event_type.into_owned(), text: written }
    };
    let entries: Vec<Entry> = events.iter().map(entry).collect();
    let shared = Shared { received: now(), client_ip: Some("192.0.2.7".into()), user_agent: Some("curl/8.5".into()) };
    let message = |(n, entries): (usize, &[Entry])| {
        let packed = pack(&format!("batch-{n}"), &shared, entries).unwrap().published_as("p");
        Item { id: format!("m-{n}"), body: packed.body, receive_count: 1 }
    };
    entries.chunks(100).enumerate().map(message).collect()
}

struct Stage {
    index: Index,
    table: Arc<MemoryTable>,
    quarantine: Arc<MemoryQueue>,
}

impl Stage {
    fn over(search: Arc<dyn Search>, registry: &Arc<Registry>) -> Self {
        let (table, quarantine) = (Arc::new(MemoryTable::new()), Arc::new(MemoryQueue::new()));
        let ports = IndexPorts { search, table: table.clone(), quarantine: quarantine.clone() };
        Self { index: Index::new(ports, registry.clone(), IndexSettings::default()), table, quarantine }
    }

    /// Stored, quarantined, duplicates.
    fn counted(&self) -> [i64; 3] {
        let rows = self.table.items();
        ["search_stored", "search_quarantined", "search_duplicates"].map(|field| {
            rows.iter().filter(|row| row.key.partition == "counter").filter_map(|row| row.value[field].as_i64()).sum()
        })
    }
}

/// Takes messages through the stage until all are done, as a queue hands them over again; a server that is busy may need it.
async fn deliver(stage: &Stage, mut items: Vec<Item>) {
    let until = Instant::now() + PATIENCE;
    while !items.is_empty() {
        assert!(Instant::now() < until, "{} messages were never taken", items.len());
        let outcomes = stage.index.run(&items, now()).await;
        let again = items.into_iter().zip(outcomes).filter(|(_, outcome)| *outcome != Outcome::Done);
        items = again.map(|(item, _)| Item { receive_count: item.receive_count + 1, ..item }).collect();
    }
}

/// Searches until there are `total` hits: OpenSearch finds what it created within a second.
async fn until_found(search: &dyn Search, pattern: &str, total: u64) {
    let until = Instant::now() + PATIENCE;
    let mut found = Ok(Value::Null);
    while Instant::now() < until {
        found = search.search(pattern, &json!({"size": 0})).await;
        if found.as_ref().is_ok_and(|found| found["hits"]["total"]["value"] == total) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("`{pattern}` never had {total} documents: {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn opensearch_passes_the_contract_that_the_embedded_engine_passes() {
    let Some(server) = OpenSearchServer::shared().unwrap() else { return };
    contract::search::all(&adapter(&server)).await;
}

/// The scenario file: further events beside the demo's, and questions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenarios {
    /// CloudEvents.
    events: Vec<Value>,
    questions: Vec<Question>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    name: String,
    #[serde(default = "all_indices")]
    index: String,
    /// Search body. A question without `sort` is asked for all its hits, which are compared as a set.
    body: Value,
    /// Relative difference allowed between the numbers of aggregations that are estimates.
    #[serde(default)]
    tolerance: f64,
    /// Whether it finds nothing.
    #[serde(default)]
    empty: bool,
    /// What the source of each hit holds, to see that the right ones are found.
    holds: Option<String>,
}

fn all_indices() -> String {
    "sluice-*".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_engines_give_the_same_answers() {
    let Some(server) = OpenSearchServer::start(&[]).unwrap() else { return };
    let scenarios: Scenarios = serde_json::from_str(include_str!("../scenarios/search.json")).unwrap();
    let registry = Arc::new(sluice_entry::schemas::registry(&[]).unwrap());
    // A third of a day: 1,872 events of all five types.
    let mut events: Vec<String> = demo::day(now()).into_iter().step_by(3).collect();
    events.extend(scenarios.events.iter().map(Value::to_string));
    let total = events.len() as u64;
    assert!((1_800..2_200).contains(&total), "{total}");
    let items = messages(&events, &registry);

    let folder = tempfile::tempdir().unwrap();
    let embedded = Arc::new(EmbeddedSearch::open(folder.path(), EmbeddedSearchConfig::default()).unwrap());
    let opensearch = Arc::new(adapter(&server));
    let engines: [Arc<dyn Search>; 2] = [embedded, opensearch];
    for engine in &engines {
        let stage = Stage::over(engine.clone(), &registry);
        stage.index.define_templates().await.unwrap();
        deliver(&stage, items.clone()).await;
        assert_eq!(stage.quarantine.sent(), [], "nothing is refused");
        assert_eq!(stage.counted(), [i64::try_from(total).unwrap(), 0, 0]);
        until_found(engine.as_ref(), "sluice-*", total).await;
    }

    let mut differences = Vec::new();
    for question in &scenarios.questions {
        let mut body = question.body.clone();
        let is_sorted = body.get("sort").is_some();
        if !is_sorted && body.get("size").is_none() {
            body["size"] = json!(5_000);
        }
        let [left, right] = engines.each_ref().map(|engine| engine.search(&question.index, &body));
        let (left, right) = (left.await, right.await);
        let (left, right) = match (left, right) {
            (Ok(left), Ok(right)) => (comparable(&left, is_sorted), comparable(&right, is_sorted)),
            (left, right) => {
                differences.push(format!("{}: embedded {left:?}\n  OpenSearch {right:?}", question.name));
                continue;
            }
        };
        let found = right["total"]["value"].as_u64().unwrap_or(0);
        if question.empty != (found == 0) {
            differences.push(format!("{}: OpenSearch finds {found}, embedded {}", question.name, left["total"]));
        }
        if let Some(part) = &question.holds {
            let hits = right["hits"].as_array().unwrap();
            assert!(hits.iter().all(|hit| hit["_source"].to_string().contains(part)), "{}", question.name);
        }
        compare(&question.name, "", &left, &right, question.tolerance, &mut differences);
    }
    // Data without a schema is a flat object, by whose leaves OpenSearch cannot count: that is said rather than answered wrongly.
    for aggregation in ["terms", "avg"] {
        for field in ["data.route", "data.status"] {
            let body = json!({"size": 0, "aggs": {"by": {aggregation: {"field": field}}}});
            match engines[1].search("sluice-*", &body).await {
                Err(e) => assert!(e.kind == ErrorKind::Invalid && e.detail.contains("another type"), "{e}"),
                Ok(found) => differences.push(format!("{aggregation} of {field}: {}", found["aggregations"])),
            }
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_search_of_the_dashboards_finds_something() {
    let Some(server) = OpenSearchServer::start(&[]).unwrap() else { return };
    let registry = Arc::new(sluice_entry::schemas::registry(&[]).unwrap());
    let events: Vec<String> = demo::day(now()).into_iter().step_by(3).collect();
    let search = Arc::new(adapter(&server));
    let stage = Stage::over(search.clone(), &registry);
    stage.index.define_templates().await.unwrap();
    deliver(&stage, messages(&events, &registry)).await;
    until_found(search.as_ref(), "sluice-*", events.len() as u64).await;
    let to = now().micros() / 1_000_000;
    let mut asked = 0;
    for question in grafana::questions(Range { from: to - 86_400, to }).unwrap() {
        let Asks::OpenSearch(body) = question.asks else { continue };
        let found = search.search("sluice-*", &body).await.unwrap_or_else(|e| panic!("{}: {e}", question.place));
        assert!(grafana::has_data(&found["aggregations"]), "{}: {body:#} finds {found:#}", question.place);
        asked += 1;
    }
    assert!(asked > 5, "{asked}");
}

/// The parts of an answer that both engines must agree on.
fn comparable(answer: &Value, is_sorted: bool) -> Value {
    let strip = |hit: &Value| {
        let mut kept = json!({"_index": hit["_index"], "_id": hit["_id"]});
        for name in ["_source", "sort"] {
            if let Some(value) = hit.get(name) {
                kept[name] = value.clone();
            }
        }
        kept
    };
    let mut hits: Vec<Value> = answer["hits"]["hits"].as_array().unwrap().iter().map(strip).collect();
    if !is_sorted {
        hits.sort_by_key(|hit| (hit["_index"].to_string(), hit["_id"].to_string()));
    }
    let mut aggregations = answer["aggregations"].clone();
    drop_error_bounds(&mut aggregations);
    json!({"total": answer["hits"]["total"], "hits": hits, "aggregations": aggregations})
}

/// How wrong a count may be depends on how many shards there are.
fn drop_error_bounds(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("doc_count_error_upper_bound");
            members.values_mut().for_each(drop_error_bounds);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_error_bounds),
        _ => {}
    }
}

/// Notes where two values differ. Numbers are equal by value, whatever they are written as.
fn compare(name: &str, path: &str, left: &Value, right: &Value, tolerance: f64, differences: &mut Vec<String>) {
    let mut differ = |what: String| differences.push(format!("{name}: `{path}`: {what}"));
    match (left, right) {
        (Value::Object(l), Value::Object(r)) => {
            for key in l.keys().chain(r.keys().filter(|key| !l.contains_key(*key))) {
                let (l, r) = (l.get(key).unwrap_or(&Value::Null), r.get(key).unwrap_or(&Value::Null));
                compare(name, &format!("{path}/{key}"), l, r, tolerance, differences);
            }
        }
        (Value::Array(l), Value::Array(r)) if l.len() == r.len() => {
            for (n, (l, r)) in l.iter().zip(r).enumerate() {
                compare(name, &format!("{path}/{n}"), l, r, tolerance, differences);
            }
        }
        (Value::Array(l), Value::Array(r)) => {
            let ids = |list: &[Value]| {
                list.iter().take(40).map(|v| v.get("_id").unwrap_or(v).to_string()).collect::<Vec<_>>().join(" ")
            };
            differ(format!("embedded {} {}\n  OpenSearch {} {}", l.len(), ids(l), r.len(), ids(r)));
        }
        (Value::Number(l), Value::Number(r)) => {
            let (l, r) = (l.as_f64().unwrap(), r.as_f64().unwrap());
            // Sums of the same numbers in another order differ in their last digits.
            if (l - r).abs() > (l.abs().max(r.abs())) * tolerance.max(1e-9) {
                differ(format!("embedded {l}, OpenSearch {r}"));
            }
        }
        // The text of a number that is an estimate is one too.
        (l, r) if l == r || (tolerance > 0.0 && path.ends_with("_as_string")) => {}
        (l, r) => differ(format!("embedded {l}, OpenSearch {r}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_error_is_quarantined_and_its_neighbours_are_found() {
    let Some(server) = OpenSearchServer::shared().unwrap() else { return };
    let schema = r#"{"type":"object","x-type":"fault.mapping","properties":{"n":{"type":"string","x-column-id":101}}}"#;
    let registry = Arc::new(sluice_entry::schemas::registry(&[("fault.json".into(), schema.into())]).unwrap());
    let search = Arc::new(adapter(&server));
    // The index of the month was made when `n` was a date.
    let mappings = json!({"dynamic": false, "properties": {"data": {"properties": {"n": {"type": "date"}}}}});
    let template = IndexTemplate { name: "fault".into(), pattern: "sluice-fault_mapping-*".into(), mappings };
    search.define(vec![template]).await.unwrap();
    let event = |n: usize| {
        let value = if n == 3 { "soon".to_owned() } else { format!("2026-11-{:02}", n + 1) };
        json!({"id": n.to_string(), "source": "s", "type": "fault.mapping", "data": {"n": value}}).to_string()
    };
    let stage = Stage::over(search.clone(), &registry);
    deliver(&stage, messages(&(0..10).map(event).collect::<Vec<_>>(), &registry)).await;
    assert_eq!(stage.counted(), [9, 1, 0]);
    let kept: Vec<Value> = stage.quarantine.sent().iter().map(|m| serde_json::from_str(&m.body).unwrap()).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0]["code"], "mapping_conflict");
    let reason = kept[0]["reason"].as_str().unwrap();
    assert!(reason.contains("data.n") && reason.contains("soon"), "{reason}");
    until_found(search.as_ref(), "sluice-fault_mapping-*", 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_write_queue_refuses_is_throttled_and_created_later() {
    let settings = ["thread_pool.write.size=1", "thread_pool.write.queue_size=1"];
    let Some(server) = OpenSearchServer::start(&settings).unwrap() else { return };
    let search = adapter(&server);
    let document = |call: usize, n: usize| Document {
        index: "busy-1".into(),
        id: format!("{call}-{n}"),
        source: json!({"n": n, "text": "word ".repeat(20)}).to_string(),
    };
    let mut waiting: Vec<Vec<Document>> = (0..40).map(|call| (0..200).map(|n| document(call, n)).collect()).collect();
    let (mut throttled, mut created) = (0, 0);
    for round in 0.. {
        assert!(round < 100, "{} calls are still throttled", waiting.len());
        let results = join_all(waiting.iter().map(|documents| search.create(documents.clone()))).await;
        let mut left = Vec::new();
        for (documents, result) in std::mem::take(&mut waiting).into_iter().zip(results) {
            match result {
                Ok(outcomes) => {
                    assert_eq!(outcomes.len(), documents.len());
                    let mut again = Vec::new();
                    for (document, outcome) in documents.into_iter().zip(outcomes) {
                        match outcome {
                            DocumentOutcome::Created => created += 1,
                            DocumentOutcome::Failed(e) => {
                                assert_eq!(e.kind, ErrorKind::Throttled, "{e}");
                                assert!(e.retry_after.is_some(), "a hint when to come again");
                                throttled += 1;
                                again.push(document);
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    if !again.is_empty() {
                        left.push(again);
                    }
                }
                Err(e) => {
                    assert_eq!(e.kind, ErrorKind::Throttled, "{e}");
                    throttled += documents.len();
                    left.push(documents);
                }
            }
        }
        if left.is_empty() {
            break;
        }
        waiting = left;
    }
    assert!(throttled > 0, "the queue was never full");
    assert_eq!(created, 8_000, "each document was created once");
    until_found(&search, "busy-*", 8_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_and_comes_back_loses_nothing() {
    let Some(mut server) = OpenSearchServer::start(&[]).unwrap() else { return };
    let registry = Arc::new(sluice_entry::schemas::registry(&[]).unwrap());
    let search = Arc::new(adapter(&server));
    let stage = Stage::over(search.clone(), &registry);
    stage.index.define_templates().await.unwrap();
    let events: Vec<String> = demo::day(now()).into_iter().take(1_000).collect();
    let dead = Arc::new(MemoryQueue::new());
    let queue = MemoryQueue::with(QueueRules { dead_letter: Some((dead.clone(), 24)), ..QueueRules::default() });
    for item in messages(&events, &registry) {
        let message = Message { body: item.body, attributes: BTreeMap::new(), events: 100, tally: Vec::new() };
        queue.send(vec![message]).await.into_iter().for_each(|sent| sent.unwrap());
    }
    // Four messages get through, three meet a dead server, then it is there again. A message that meets a busy one comes again.
    let until = Instant::now() + PATIENCE;
    let mut done = 0;
    while done < 4 {
        assert!(Instant::now() < until, "the server takes no documents");
        done += consume(&queue, &stage, 4 - done).await[0];
    }
    server.kill().unwrap();
    assert_eq!(consume(&queue, &stage, 3).await, [0, 3]);
    server.start_again().unwrap();
    let until = Instant::now() + PATIENCE;
    while queue.depth().await.unwrap().visible > 0 {
        assert!(Instant::now() < until, "the server that is back takes no documents");
        consume(&queue, &stage, 2).await;
    }
    let left = queue.depth().await.unwrap();
    assert_eq!((left.visible, left.in_flight, dead.depth().await.unwrap().visible), (0, 0, 0));
    assert_eq!(stage.counted(), [1_000, 0, 0], "every event is stored once");
    until_found(search.as_ref(), "sluice-*", 1_000).await;
}

/// Takes `limit` messages through the stage; answers how many were done and how many were given back.
async fn consume(queue: &MemoryQueue, stage: &Stage, limit: usize) -> [usize; 2] {
    let deliveries = queue.receive(limit, Duration::ZERO).await.unwrap();
    let items: Vec<Item> = deliveries
        .iter()
        .map(|d| Item { id: d.id.clone(), body: d.body.clone(), receive_count: d.receive_count })
        .collect();
    let outcomes = stage.index.run(&items, now()).await;
    let done = outcomes.iter().filter(|outcome| **outcome == Outcome::Done).count();
    let settlements = deliveries.into_iter().zip(&outcomes).map(|(delivery, outcome)| match outcome {
        Outcome::Done => (delivery.receipt, Settlement::Delete),
        Outcome::Retry(_) => (delivery.receipt, Settlement::Release(Duration::ZERO)),
    });
    queue.settle(settlements.collect()).await.into_iter().for_each(|settled| settled.unwrap());
    [done, items.len() - done]
}
