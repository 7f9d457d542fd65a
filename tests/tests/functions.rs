//! The Lambda binaries as Lambda runs them, over an emulated AWS: each is started against a runtime API that this test plays, takes the
//! sample events of `events/`, and answers; what it did is read back from the services.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panic")]

use serde_json::{Value, json};
use sluice_adapters_aws::dynamodb::DynamoTable;
use sluice_adapters_aws::glue::GluePointers;
use sluice_adapters_aws::s3::S3Objects;
use sluice_adapters_aws::sqs::SqsQueue;
use sluice_adapters_aws::{Connection, Resource};
use sluice_adapters_iceberg::IcebergCatalog;
use sluice_domain::time::Timestamp;
use sluice_entry::sqs::{SqsAttributes, SqsEvent, SqsRecord};
use sluice_ports::{Catalog as _, Delivery, Objects, Query, Queue, Receipt, Settlement, Table, TableFigures, Tally};
use sluice_stages::access::{KeySpec, Keys};
use sluice_stages::groups::recorded_files;
use sluice_tests::eventually;
use sluice_tests::lambda::{Lambda, Said, TRACE_ID};
use sluice_tests::ministack::Ministack;
use sluice_tests::opensearch::OpenSearchServer;
use sluice_tests::stack::{ADMIN_KEY, PATIENT, Stack};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;

/// The template's resources in an account of their own, and what looks at them.
struct World {
    runtime: Runtime,
    stack: Stack,
    connection: Connection,
}

impl World {
    /// `None` where there is no emulator, which is said.
    fn new() -> Option<Self> {
        let account = Ministack::shared().unwrap()?.account();
        let runtime = Runtime::new().unwrap();
        let stack = runtime.block_on(Stack::make(account)).unwrap();
        let connection = stack.account.connection(PATIENT);
        Some(Self { runtime, stack, connection })
    }

    fn start(&self, verb: &str) -> Lambda {
        Lambda::start(verb, &self.environment()).unwrap()
    }

    fn environment(&self) -> Vec<(String, String)> {
        self.stack.environment()
    }

    fn table(&self) -> DynamoTable {
        DynamoTable::new(&self.connection, Resource::new("table", &self.stack.table, "SLUICE_TABLE"))
    }

    fn objects(&self) -> S3Objects {
        S3Objects::new(&self.connection, Resource::new("bucket", &self.stack.bucket, "SLUICE_BUCKET"))
    }

    fn queue(&self, name: &str) -> SqsQueue {
        let url = &self.stack.queues[name];
        SqsQueue::new(&self.connection, Resource::new("queue", url, "SLUICE_QUEUES"), self.table())
    }

    /// Rows in each table of the lake.
    fn tables(&self) -> BTreeMap<String, u64> {
        self.figures().into_iter().map(|table| (table.name, table.rows)).collect()
    }

    fn figures(&self) -> Vec<TableFigures> {
        let database = Resource::new("database", &self.stack.database, "SLUICE_GLUE_DATABASE");
        let pointers = Arc::new(GluePointers::new(&self.connection, database));
        let registry = Arc::new(sluice_entry::schemas::registry(&[]).unwrap());
        let root = format!("s3://{}", self.stack.bucket);
        let catalog = IcebergCatalog::new(pointers, Arc::new(self.objects()), &root, registry, Duration::MAX);
        self.runtime.block_on(catalog.figures()).unwrap()
    }

    /// A new key's secret.
    fn key(&self, spec: KeySpec) -> String {
        let keys = Keys::new(Arc::new(self.table()));
        let now = Timestamp::from_system(SystemTime::now());
        self.runtime.block_on(keys.create(spec, None, now)).unwrap().0
    }

    /// Rows of a table of the lake in committed groups, each of whose files is there in full.
    fn rows(&self, lake_table: &str) -> u64 {
        self.runtime.block_on(async {
            let files = recorded_files(&self.table(), lake_table).await.unwrap();
            for file in &files {
                let bytes = self.objects().get(&file.key, None).await.unwrap();
                assert_eq!(bytes.len() as u64, file.size_bytes, "{}", file.key);
                assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{} is a Parquet file", file.key);
            }
            files.iter().map(|file| file.rows).sum()
        })
    }

    /// What the rows of a partition of the state table say.
    fn state(&self, partition: &str) -> Vec<Value> {
        let query = Query::prefix(partition, "", 100);
        self.runtime.block_on(self.table().query(query)).unwrap().into_iter().map(|row| row.value).collect()
    }

    /// Takes everything out of a queue.
    fn take(&self, queue: &str) -> Vec<Delivery> {
        self.runtime.block_on(async {
            let (queue, mut taken) = (self.queue(queue), Vec::new());
            loop {
                let received = queue.receive(10, Duration::ZERO).await.unwrap();
                if received.is_empty() {
                    return taken;
                }
                let done: Vec<(Receipt, Settlement)> =
                    received.iter().map(|delivery| (delivery.receipt.clone(), Settlement::Delete)).collect();
                queue.settle(done).await.into_iter().for_each(Result::unwrap);
                taken.extend(received);
            }
        })
    }

    /// The quarantine records in the bucket, after the function has kept what waits in its queue.
    fn quarantined(&self) -> Vec<Value> {
        let waiting = self.take("QuarantineQueue");
        if !waiting.is_empty() {
            let mut quarantine = self.start("quarantine");
            assert_eq!(quarantine.call(&event(&waiting)).unwrap(), all_acknowledged(), "{}", quarantine.log());
        }
        self.runtime.block_on(async {
            let objects = self.objects();
            let mut records = Vec::new();
            for object in objects.list("quarantine/", None, 100).await.unwrap() {
                records.push(serde_json::from_slice(&objects.get(&object.key, None).await.unwrap()).unwrap());
            }
            records
        })
    }
}

/// The text of `events/<name>.json`.
fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events").join(name).with_extension("json");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Received messages as Lambda hands them over.
fn event(deliveries: &[Delivery]) -> String {
    let records = deliveries.iter().map(|delivery| SqsRecord {
        message_id: delivery.id.as_str().into(),
        receipt_handle: delivery.receipt.0.as_str().into(),
        body: delivery.body.as_str().into(),
        attributes: SqsAttributes {
            approximate_receive_count: delivery.receive_count.to_string().into(),
            sent_timestamp: delivery.sent_ms.to_string().into(),
        },
        event_source: "aws:sqs".into(),
        ..SqsRecord::default()
    });
    serde_json::to_string(&SqsEvent { records: records.collect() }).unwrap()
}

/// How many events of a type the messages of a delivery say they have.
fn events_in(delivery: &str, event_type: &str) -> u64 {
    let delivery: Value = serde_json::from_str(delivery).unwrap();
    let messages = delivery["Records"].as_array().unwrap().iter().map(|r| r["body"].as_str().unwrap());
    messages
        .filter_map(|body| serde_json::from_str::<Value>(body).ok())
        .map(|message| message["types"][event_type].as_u64().unwrap_or(0))
        .sum()
}

fn all_acknowledged() -> Said {
    Ok(json!({"batchItemFailures": []}))
}

#[test]
fn the_convert_function_stores_what_is_queued_once() {
    let Some(world) = World::new() else { return };
    let mut convert = world.start("convert");
    let delivery = sample("convert/two-messages");
    assert_eq!(convert.call(&delivery).unwrap(), all_acknowledged(), "{}", convert.log());
    // Queues deliver at least once.
    assert_eq!(convert.call(&delivery).unwrap(), all_acknowledged(), "{}", convert.log());
    for kind in ["game.start", "game.result"] {
        let expected = events_in(&delivery, kind);
        assert!(expected > 0);
        assert_eq!(world.rows(&kind.replace('.', "_")), expected, "{kind}");
    }
}

#[test]
fn the_commit_function_makes_what_convert_recorded_part_of_its_tables_once() {
    let Some(world) = World::new() else { return };
    let mut convert = world.start("convert");
    let delivery = sample("convert/two-messages");
    assert_eq!(convert.call(&delivery).unwrap(), all_acknowledged(), "{}", convert.log());
    let expected: BTreeMap<String, u64> = ["game.start", "game.result"]
        .map(|kind| (kind.replace('.', "_"), events_in(&delivery, kind)))
        .into_iter()
        .collect();
    let told = world.take("CommitQueue");
    assert_eq!(told.len(), expected.len(), "one message a table: {told:?}");
    assert_eq!(world.tables(), BTreeMap::new(), "there are no tables yet");
    let mut commit = world.start("commit");
    for _ in 0..2 {
        assert_eq!(commit.call(&event(&told)).unwrap(), all_acknowledged(), "{}", commit.log());
        assert_eq!(world.tables(), expected, "{}", commit.log());
    }
    // The message of the next files is lost, and the clock finds them.
    let more = delivery.replace("019aa5f0", "019aa5f1");
    assert_eq!(convert.call(&more).unwrap(), all_acknowledged(), "{}", convert.log());
    for _ in 0..2 {
        assert_eq!(commit.call(&sample("commit/tick")).unwrap(), Ok(json!({})), "{}", commit.log());
        assert_eq!(world.tables(), expected.iter().map(|(name, rows)| (name.clone(), rows * 2)).collect());
    }
    let mut api = world.start("api");
    let request = ask(&world.key(KeySpec::admin()), "GET", "/v1/tables", &json!(null));
    let reply = api.call(&request).unwrap().unwrap();
    assert_eq!(reply["statusCode"], 200, "{reply} {}", api.log());
    let listed: Value = serde_json::from_str(reply["body"].as_str().unwrap()).unwrap();
    for table in listed["tables"].as_array().unwrap() {
        let rows = expected.get(table["name"].as_str().unwrap()).map_or(0, |rows| rows * 2);
        let snapshots = if rows == 0 { 0 } else { 2 };
        assert_eq!((&table["rows"], &table["snapshots"]), (&json!(rows), &json!(snapshots)), "{table}");
    }
}

#[test]
fn the_compact_function_merges_the_files_of_tables() {
    let Some(world) = World::new() else { return };
    let (mut convert, mut commit, mut compact) =
        (world.start("convert"), world.start("commit"), world.start("compact"));
    let delivery = sample("convert/two-messages");
    for delivery in [delivery.clone(), delivery.replace("019aa5f0", "019aa5f1")] {
        assert_eq!(convert.call(&delivery).unwrap(), all_acknowledged(), "{}", convert.log());
        assert_eq!(commit.call(&sample("commit/tick")).unwrap(), Ok(json!({})), "{}", commit.log());
    }
    let files = || world.figures().into_iter().map(|table| table.files).collect::<Vec<_>>();
    // The second time they are the same events in other batches.
    let once: BTreeMap<String, u64> = world.tables().into_iter().map(|(name, rows)| (name, rows / 2)).collect();
    assert_eq!(files(), [2, 2]);
    for compacted in [2, 0] {
        let said = json!({"compacted": compacted, "finished": true});
        assert_eq!(compact.call(&sample("compact/tick")).unwrap(), Ok(said), "{}", compact.log());
        assert_eq!((files(), world.tables()), (vec![1, 1], once.clone()), "{}", compact.log());
    }
}

#[test]
fn the_commit_function_says_what_is_in_its_way_and_gives_the_message_back() {
    let Some(world) = World::new() else { return };
    let mut convert = world.start("convert");
    assert_eq!(convert.call(&sample("convert/two-messages")).unwrap(), all_acknowledged(), "{}", convert.log());
    let old = json!({"Name": "game_start", "TableType": "EXTERNAL_TABLE", "Parameters": {"classification": "parquet"}});
    let input = json!({"DatabaseName": world.stack.database, "TableInput": old});
    world.stack.account.glue("CreateTable", &input).unwrap();
    let mut commit = world.start("commit");
    let delivery = sample("commit/two-messages");
    let first: Value = serde_json::from_str(&delivery).unwrap();
    let failed = json!({"batchItemFailures": [{"itemIdentifier": first["Records"][0]["messageId"]}]});
    assert_eq!(commit.call(&delivery).unwrap(), Ok(failed), "its neighbour is not held up: {}", commit.log());
    assert!(commit.log().contains("an entry `game_start` that is no Iceberg table"), "{}", commit.log());
    assert_eq!(world.tables().keys().collect::<Vec<_>>(), ["game_result"]);
    let input = json!({"DatabaseName": world.stack.database, "Name": "game_start"});
    world.stack.account.glue("DeleteTable", &input).unwrap();
    assert_eq!(commit.call(&delivery).unwrap(), all_acknowledged(), "{}", commit.log());
    assert_eq!(world.tables()["game_start"], world.rows("game_start"));
}

#[test]
fn the_index_function_makes_what_is_queued_findable_once() {
    let (Some(world), Some(server)) = (World::new(), OpenSearchServer::shared().unwrap()) else { return };
    let mut environment = world.environment();
    environment.push(("SLUICE_SEARCH_ENDPOINT".into(), server.url()));
    environment.push(("SLUICE_SEARCH_SIGN".into(), "none".into()));
    let mut index = Lambda::start("index", &environment).unwrap();
    let delivery = sample("index/two-messages");
    assert_eq!(index.call(&delivery).unwrap(), all_acknowledged(), "{}", index.log());
    assert_eq!(index.call(&delivery).unwrap(), all_acknowledged(), "{}", index.log());
    let read = world.key(KeySpec::read());
    let mut api = Lambda::start("api", &environment).unwrap();
    for kind in ["game.start", "game.result"] {
        let query = json!({"size": 0, "track_total_hits": true, "query": {"term": {"type": kind}}});
        let mut event: Value = serde_json::from_str(&sample("api/search").replace("sample-read-key", &read)).unwrap();
        event["body"] = query.to_string().into();
        let mut found = Value::Null;
        eventually("it is found", || {
            let reply = api.call(&event.to_string())?.unwrap();
            found = serde_json::from_str(reply["body"].as_str().unwrap())?;
            Ok(found["hits"]["total"]["value"].as_u64().unwrap_or(0) > 0)
        })
        .unwrap();
        assert_eq!(found["hits"]["total"]["value"], events_in(&delivery, kind), "{kind}: {found}");
    }
}

#[test]
fn log_lines_name_the_call_and_its_trace_and_metrics_are_printed() {
    let Some(world) = World::new() else { return };
    let mut convert = world.start("convert");
    assert_eq!(convert.call(&sample("convert/two-messages")).unwrap(), all_acknowledged(), "{}", convert.log());
    let lines: Vec<Value> = convert
        .log()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}")))
        .collect();
    let stored = lines.iter().find(|line| line["message"] == "stored").expect("one line a batch");
    assert_eq!(stored["span"]["request.id"], "request-1", "{stored}");
    assert_eq!(stored["span"]["trace.id"], TRACE_ID, "{stored}");
    let printed = convert.printed();
    let metrics: Value = serde_json::from_str(printed.lines().next().expect("a line of metrics")).unwrap();
    assert_eq!((&metrics["Stack"], &metrics["Stage"]), (&json!("test"), &json!("convert")), "{metrics}");
    let events = ["game.start", "game.result"].map(|kind| events_in(&sample("convert/two-messages"), kind));
    assert_eq!(metrics["Stored"], events.iter().sum::<u64>(), "{metrics}");
    assert!(metrics["Bytes"].as_u64().unwrap() > 0 && metrics["OldestAge"].is_u64(), "{metrics}");
}

#[test]
fn a_message_that_cannot_be_read_goes_to_quarantine_and_its_neighbour_is_stored() {
    for verb in ["convert", "detect"] {
        let Some(world) = World::new() else { return };
        if verb == "detect" {
            // Without a rule it has no reason to look inside.
            let admin = world.key(KeySpec::admin());
            let mut api = world.start("api");
            let added = api.call(&sample("api/rules-add").replace("sample-admin-key", &admin)).unwrap().unwrap();
            assert_eq!(added["statusCode"], 201, "{added} {}", api.log());
        }
        let mut function = world.start(verb);
        let delivery = sample(&format!("{verb}/one-bad"));
        // It can never be read: to deliver it again would help nobody.
        assert_eq!(function.call(&delivery).unwrap(), all_acknowledged(), "{verb}: {}", function.log());
        assert_eq!(function.call(&delivery).unwrap(), all_acknowledged(), "{verb}: {}", function.log());
        let kept = world.quarantined();
        assert_eq!(kept.len(), 1, "however often it comes: {kept:#?}");
        let bad: Value = serde_json::from_str(&delivery).unwrap();
        assert_eq!(kept[0]["bytes"], base64(bad["Records"][1]["body"].as_str().unwrap()), "{}", kept[0]);
        if verb == "convert" {
            assert_eq!((world.rows("game_start"), world.rows("game_result")), (1, 1));
        }
    }
}

/// The standard alphabet, with padding.
fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let digit = |at: usize| ALPHABET[(bits >> (18 - 6 * at)) as usize % 64] as char;
        (0..4).map(|at| if at > three.len() { '=' } else { digit(at) }).collect::<String>()
    };
    text.as_bytes().chunks(3).map(group).collect()
}

#[test]
fn the_detect_function_takes_messages_and_ticks() {
    let Some(world) = World::new() else { return };
    let mut detect = world.start("detect");
    assert_eq!(detect.call(&sample("detect/two-messages")).unwrap(), all_acknowledged(), "{}", detect.log());
    assert_eq!(detect.call(&sample("detect/tick")).unwrap(), Ok(json!({})), "{}", detect.log());
}

#[test]
fn the_notify_function_acknowledges_alerts_that_nobody_decided() {
    let Some(world) = World::new() else { return };
    let mut notify = world.start("notify");
    for name in ["notify/two-messages", "notify/one-bad"] {
        assert_eq!(notify.call(&sample(name)).unwrap(), all_acknowledged(), "{name}: {}", notify.log());
    }
    assert!(!notify.log().contains("\"sent\""), "nobody is told: {}", notify.log());
}

#[test]
fn the_notify_function_takes_alarms_of_cloudwatch_and_decides_each_once() {
    let Some(world) = World::new() else { return };
    let mut notify = world.start("notify");
    for _ in 0..2 {
        let taken = notify.call(&sample("notify/alarm-and-ok")).unwrap();
        assert_eq!(taken, all_acknowledged(), "{}", notify.log());
    }
    let incidents = world.state("incident");
    assert_eq!((incidents.len(), &incidents[0]["state"]), (1, &json!("resolved")), "{incidents:?}");
    assert_eq!(incidents[0]["subject"], "sluice-ConvertErrorsAlarm-1A2B3C4D5E6F");
    assert_eq!(world.state("alert").len(), 2, "one event each was decided");
}

#[test]
fn the_quarantine_function_keeps_bytes_and_reason_once() {
    let Some(world) = World::new() else { return };
    let mut quarantine = world.start("quarantine");
    let delivery = sample("quarantine/two-messages");
    assert_eq!(quarantine.call(&delivery).unwrap(), all_acknowledged(), "{}", quarantine.log());
    assert_eq!(quarantine.call(&delivery).unwrap(), all_acknowledged(), "{}", quarantine.log());
    let kept = world.quarantined();
    let sent: Value = serde_json::from_str(&delivery).unwrap();
    let sent = sent["Records"].as_array().unwrap();
    assert_eq!(kept.len(), sent.len());
    for record in sent {
        let record: Value = serde_json::from_str(record["body"].as_str().unwrap()).unwrap();
        let same = kept.iter().any(|k| k["bytes"] == record["bytes"] && k["reason"] == record["reason"]);
        assert!(same, "{record} is not among {kept:?}");
    }
    assert_eq!(quarantine.call(&sample("quarantine/one-bad")).unwrap(), all_acknowledged());
}

#[test]
fn the_ingest_function_answers_what_the_gateway_hands_over() {
    let Some(world) = World::new() else { return };
    let key = world.key(KeySpec { max_age_days: None, ..KeySpec::write(["*"]) });
    let mut ingest = world.start("ingest");
    let mut ask = |event: &str| ingest.call(event).unwrap().unwrap();
    let health = ask(&sample("ingest/health"));
    assert_eq!(health["statusCode"], 200, "{health}");
    let preflight = ask(&sample("ingest/preflight"));
    assert_eq!(preflight["statusCode"], 204, "{preflight}");
    assert!(preflight["headers"]["access-control-allow-origin"].is_string(), "{preflight}");
    for name in ["one-event", "batch", "beacon", "ndjson-zstd", "bad-body"] {
        let unknown = ask(&sample(&format!("ingest/{name}")));
        assert_eq!(unknown["statusCode"], 401, "{name}: {unknown}");
        let known = sample(&format!("ingest/{name}")).replace("sample-write-key", &key);
        let reply = ask(&known);
        let expected = if name == "bad-body" { 400 } else { 202 };
        assert_eq!(reply["statusCode"], expected, "{name}: {reply}");
        assert_eq!(reply["headers"]["content-type"], "application/json", "{name}: {reply}");
    }
    drop(ingest);
    // What was published goes to each stage, and nothing of it to the alerts.
    let published = world.take("ConvertQueue");
    assert_eq!(published.len(), 4);
    assert_eq!((world.take("IndexQueue").len(), world.take("DetectQueue").len()), (4, 4));
    assert_eq!(world.take("AlertsQueue").len(), 0);
    let mut convert = world.start("convert");
    assert_eq!(convert.call(&event(&published)).unwrap(), all_acknowledged(), "{}", convert.log());
    assert_eq!(world.rows("web_event"), 1);
    assert!(world.rows("game_start") > 0);
    // One event of `batch` and the body of `bad-body`.
    let kept = world.quarantined();
    assert_eq!(kept.len(), 2, "{kept:#?}");
    let codes: BTreeSet<String> = kept.iter().map(|r| r["code"].to_string()).collect();
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["\"malformed_json\"", "\"schema\""]);
    // What was accepted is what was stored.
    let counters =
        world.runtime.block_on(world.table().query(sluice_ports::Query::prefix("counter", "", 1_000))).unwrap();
    let tallies: Vec<Tally> = counters.iter().flat_map(Tally::of).collect();
    let sum = |field: &str| tallies.iter().filter(|tally| tally.field == field).map(|tally| tally.by).sum::<i64>();
    assert!(sum("accepted") > 0);
    assert_eq!(sum("accepted"), sum("lake_stored"), "{counters:#?}");
}

#[test]
fn the_api_function_answers_what_the_gateway_hands_over() {
    let Some(world) = World::new() else { return };
    let (admin, read) = (world.key(KeySpec::admin()), world.key(KeySpec::read()));
    let mut api = world.start("api");
    let with_keys = |name: &str| {
        let sample =
            sample(&format!("api/{name}")).replace("sample-admin-key", &admin).replace("sample-read-key", &read);
        // The emulator's Athena reads no Iceberg tables.
        sample.replace("SELECT type, count(*) AS n FROM game_start GROUP BY type", "SELECT 1 AS n")
    };
    for name in ["rules-add", "rules-list", "search", "sql"] {
        let unknown = api.call(&sample(&format!("api/{name}"))).unwrap().unwrap();
        assert_eq!(unknown["statusCode"], 401, "{name}: {unknown}");
    }
    let added = api.call(&with_keys("rules-add")).unwrap().unwrap();
    assert_eq!(added["statusCode"], 201, "{added}");
    let listed = api.call(&with_keys("rules-list")).unwrap().unwrap();
    assert_eq!(listed["statusCode"], 200, "{listed}");
    let rules: Value = serde_json::from_str(listed["body"].as_str().unwrap()).unwrap();
    assert_eq!(rules["rules"].as_array().unwrap().len(), 1, "{rules}");
    let sql = api.call(&with_keys("sql")).unwrap().unwrap();
    assert_eq!(sql["statusCode"], 200, "{sql} {}", api.log());
    assert!(sql["body"].as_str().unwrap().contains("[[1]]"), "{sql}");
    // This stack has no search.
    let search = api.call(&with_keys("search")).unwrap().unwrap();
    assert_eq!(search["statusCode"], 503, "{search}");
    assert_eq!(api.call(&with_keys("unknown-route")).unwrap().unwrap()["statusCode"], 404);
    let status = with_keys("rules-list").replace("/v1/rules", "/v1/status").replace("rules", "status");
    let status = api.call(&status).unwrap().unwrap();
    assert_eq!(status["statusCode"], 200, "{status} {}", api.log());
    assert!(status["body"].as_str().unwrap().contains("ConvertDeadLetterQueue"), "{status}");
}

/// The environment of a deployment without search, which has no queues for it.
fn without_search(mut environment: Vec<(String, String)>) -> Vec<(String, String)> {
    for (_, value) in environment.iter_mut().filter(|(name, _)| name == "SLUICE_QUEUES") {
        let kept: Vec<&str> = value.split(',').filter(|queue| !queue.starts_with("Index")).collect();
        *value = kept.join(",");
    }
    environment
}

/// A request to `api` with an admin key.
fn ask(key: &str, method: &str, path: &str, body: &Value) -> String {
    let mut request: Value = serde_json::from_str(&sample("api/rules-add").replace("sample-admin-key", key)).unwrap();
    request["rawPath"] = path.into();
    request["requestContext"]["http"]["method"] = method.into();
    request["requestContext"]["http"]["path"] = path.into();
    request["body"] = body.to_string().into();
    request.to_string()
}

#[test]
fn what_was_refused_is_sent_again_by_the_api_function_and_the_ledger_adds_up() {
    let Some(world) = World::new() else { return };
    let (write, admin) =
        (world.key(KeySpec { max_age_days: None, ..KeySpec::write(["*"]) }), world.key(KeySpec::admin()));
    let mut ingest = world.start("ingest");
    let mut event: Value =
        serde_json::from_str(&sample("ingest/one-event").replace("sample-write-key", &write)).unwrap();
    event["body"] = r#"{"id":"a","source":"shop","type":"web.event","data":{"e_v":"seven"}}"#.into();
    event["isBase64Encoded"] = false.into();
    assert_eq!(ingest.call(&event.to_string()).unwrap().unwrap()["statusCode"], 400);
    assert_eq!(world.quarantined().len(), 1);
    let mut api = Lambda::start("api", &without_search(world.environment())).unwrap();
    let mut call = |method: &str, path: &str, body: Value| -> Value {
        let reply = api.call(&ask(&admin, method, path, &body)).unwrap().unwrap();
        assert_eq!(reply["statusCode"], 200, "{reply}");
        serde_json::from_str(reply["body"].as_str().unwrap()).unwrap()
    };
    let listed = call("GET", "/v1/quarantine", json!({}));
    let handle = listed["records"][0]["handle"].as_str().unwrap();
    assert_eq!((&listed["records"][0]["pointer"], &listed["next"]), (&json!("/data/e_v"), &Value::Null));
    let text = r#"{"id":"a","source":"shop","type":"web.event","data":{"e_v":7}}"#;
    let repairs = json!({"repairs": [{"handle": handle, "text": text}], "dry_run": false});
    assert_eq!(call("POST", "/v1/quarantine/repair", repairs)["results"][0]["outcome"], "sent");
    let all = json!({"select": {}});
    assert_eq!(call("POST", "/v1/quarantine/replay", all.clone())["results"][0]["events"], json!({"web.event": 1}));
    assert_eq!(call("POST", "/v1/quarantine/replay", all)["results"], json!([]));
    // The audit records of these calls came too.
    let published = world.take("ConvertQueue");
    let mut convert = world.start("convert");
    assert_eq!(convert.call(&self::event(&published)).unwrap(), all_acknowledged(), "{}", convert.log());
    assert_eq!(world.rows("web_event"), 1);
    let ledger = call("GET", "/v1/ledger", json!({}));
    let hours = ledger["hours"].as_array().unwrap();
    let row = hours.iter().find(|hour| hour["type"] == "web.event").unwrap();
    assert_eq!(
        (&row["accepted"], &row["rejected"], &row["durable"]["lake"]),
        (&json!(1), &json!(0), &json!(1)),
        "{row}"
    );
    assert_eq!(api.call(&sample("api/tick")).unwrap(), Ok(json!({"problems": 0})), "{}", api.log());
    let mut quarantine = world.start("quarantine");
    assert_eq!(quarantine.call(&sample("quarantine/tick")).unwrap(), Ok(json!({"swept": 0})), "{}", quarantine.log());
}

#[test]
fn the_first_admin_key_is_made_of_the_stacks_secret() {
    let Some(world) = World::new() else { return };
    for start in ["first", "second"] {
        let mut api = world.start("api");
        let listed = api.call(
            &sample("api/rules-list").replace("sample-read-key", ADMIN_KEY).replace("sample-admin-key", ADMIN_KEY),
        );
        let listed = listed.unwrap().unwrap();
        assert_eq!(listed["statusCode"], 200, "{start} start: {listed} {}", api.log());
        assert!(!api.log().contains(ADMIN_KEY), "it is not logged");
    }
}

#[test]
fn what_a_stack_without_search_does_not_get_is_counted_as_such() {
    let Some(world) = World::new() else { return };
    let key = world.key(KeySpec { max_age_days: None, ..KeySpec::write(["*"]) });
    let mut environment = world.environment();
    environment.push(("SLUICE_STAGES_OFF".into(), "index".into()));
    let mut ingest = Lambda::start("ingest", &environment).unwrap();
    for name in ["ingest/one-event", "ingest/batch"] {
        let reply = ingest.call(&sample(name).replace("sample-write-key", &key)).unwrap().unwrap();
        assert_eq!(reply["statusCode"], 202, "{reply}");
    }
    let rows = world.runtime.block_on(world.table().query(sluice_ports::Query::prefix("counter", "", 1_000))).unwrap();
    let sum = |field: &str| rows.iter().flat_map(Tally::of).filter(|t| t.field == field).map(|t| t.by).sum::<i64>();
    assert!(sum("accepted") > 1, "{rows:#?}");
    assert_eq!((sum("search_off"), sum("lake_off")), (sum("accepted"), 0), "{rows:#?}");
    let sums = rows.iter().filter(|row| row.key.sort.starts_with('@')).count();
    assert_eq!(sums, 2, "one row for the topic and one for the quarantine queue, whatever the types: {rows:#?}");
}

/// Every file of `events/`, through the built function: the replies stand in `scenarios/replies.json` (`UPDATE=1` writes them).
#[test]
fn every_sample_gets_the_reply_that_is_written_down() {
    let (Some(world), Some(server)) = (World::new(), OpenSearchServer::start(&[]).unwrap()) else { return };
    let keys = [
        ("sample-admin-key", world.key(KeySpec::admin())),
        ("sample-read-key", world.key(KeySpec::read())),
        ("sample-write-key", world.key(KeySpec { max_age_days: None, ..KeySpec::write(["*"]) })),
        // The emulator's Athena reads no Iceberg tables.
        ("SELECT type, count(*) AS n FROM game_start GROUP BY type", "SELECT 1 AS n".to_owned()),
    ];
    let mut replies: BTreeMap<String, Value> = BTreeMap::new();
    for verb in ["api", "commit", "compact", "convert", "detect", "index", "ingest", "notify", "quarantine"] {
        let mut environment = world.environment();
        if verb == "api" {
            environment = without_search(environment);
        }
        if verb == "index" {
            environment.push(("SLUICE_SEARCH_ENDPOINT".into(), server.url()));
            environment.push(("SLUICE_SEARCH_SIGN".into(), "none".into()));
        }
        let mut function = Lambda::start(verb, &environment).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events").join(verb);
        let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        cases.sort();
        // Nobody but the clock calls `compact`.
        assert!(cases.len() > 1 || verb == "compact", "several samples for `{verb}`");
        for case in cases {
            let name = format!("{verb}/{}", case.file_stem().unwrap().to_str().unwrap());
            let event = keys.iter().fold(sample(&name), |event, (sample, own)| event.replace(sample, own));
            let mut reply = function.call(&event).unwrap().unwrap_or_else(|e| panic!("{name}: {e} {}", function.log()));
            if let Some(body) = reply["body"].as_str().and_then(|body| serde_json::from_str(body).ok()) {
                reply["body"] = body;
            }
            mask(&mut reply);
            replies.insert(name, reply);
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/replies.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{:#}\n", json!(replies))).unwrap();
    }
    let expected: BTreeMap<String, Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (name, reply) in &replies {
        assert_eq!(Some(reply), expected.get(name), "{name}");
    }
    assert_eq!(replies.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
}

/// What is made anew each time is its name.
fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                match name.as_str() {
                    "batch" | "created" | "id" | "version" => *member = json!(name),
                    _ => mask(member),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask),
        _ => {}
    }
}

#[test]
fn an_event_of_another_shape_is_reported_as_failed_and_the_function_lives_on() {
    let Some(world) = World::new() else { return };
    let mut convert = world.start("convert");
    let error = convert.call("{\"rawPath\":\"/\"}").unwrap().unwrap_err();
    assert!(error["path"].as_str().unwrap().ends_with("/error"), "{error}");
    assert!(error["error"]["errorMessage"].as_str().unwrap().contains("missing field `Records`"), "{error}");
    assert_eq!(convert.call(&sample("convert/two-messages")).unwrap(), all_acknowledged());
}

#[test]
fn a_function_without_a_setting_says_which() {
    let Some(world) = World::new() else { return };
    for (verb, variable) in [
        ("api", "SLUICE_ADMIN_KEY_SECRET"),
        ("api", "SLUICE_GLUE_DATABASE"),
        ("api", "SLUICE_QUEUES"),
        ("commit", "SLUICE_GLUE_DATABASE"),
        ("compact", "SLUICE_GLUE_DATABASE"),
        ("convert", "AWS_REGION"),
        ("convert", "SLUICE_BUCKET"),
        ("convert", "SLUICE_COMMIT_QUEUE"),
        ("detect", "SLUICE_TOPIC"),
        ("index", "SLUICE_SEARCH_ENDPOINT"),
        ("ingest", "SLUICE_QUARANTINE_QUEUE"),
        ("ingest", "SLUICE_TOPIC"),
        ("notify", "SLUICE_TABLE"),
        ("quarantine", "SLUICE_BUCKET"),
        ("quarantine", "SLUICE_DEAD_LETTERS"),
    ] {
        let environment: Vec<_> = world.environment().into_iter().filter(|(name, _)| name != variable).collect();
        let (code, log) = Lambda::start(verb, &environment).unwrap().ended().unwrap();
        assert_eq!(code, Some(1), "{verb} without {variable}: {log}");
        let errors: Vec<&str> = log.lines().filter(|line| line.contains("\"ERROR\"")).collect();
        assert_eq!(errors.len(), 1, "one line says it: {log}");
        assert!(errors[0].contains(variable), "{verb} without {variable}: {log}");
    }
}

#[test]
fn every_function_counts_with_the_timeout_of_the_template() {
    for function in sluice_tests::stack::template().unwrap().functions.values() {
        assert_eq!(sluice_wiring_aws::timeout(&function.verb), function.timeout, "{}", function.verb);
    }
}

#[test]
fn every_function_of_the_template_is_tried_here() {
    let text = include_str!("functions.rs");
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions")).unwrap();
    for folder in folders.flatten() {
        let verb = folder.file_name().into_string().unwrap();
        let started = ["world.start", "Lambda::start"].iter().any(|call| text.contains(&format!("{call}(\"{verb}\"")));
        assert!(started, "no test starts `{verb}`");
    }
}
