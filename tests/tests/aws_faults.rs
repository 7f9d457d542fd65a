//! What the AWS adapters and the functions over them do when a service throttles, fails, is slow, loses a reply or takes a part of a
//! batch: the faults are on the way between the adapters' HTTP client and the emulator.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panic")]

use bytes::Bytes;
use serde_json::{Value, json};
use sluice_adapters_aws::athena::AthenaSql;
use sluice_adapters_aws::dynamodb::DynamoTable;
use sluice_adapters_aws::glue::GluePointers;
use sluice_adapters_aws::s3::S3Objects;
use sluice_adapters_aws::sns::SnsTopic;
use sluice_adapters_aws::sqs::SqsQueue;
use sluice_adapters_aws::{Bounds, Connection, Resource};
use sluice_adapters_iceberg::IcebergCatalog;
use sluice_domain::time::Timestamp;
use sluice_ports::{
    Append, Catalog, Condition, ErrorKind, Key, Message, Objects, PortError, PutMode, Query, Queue, Receipt,
    Settlement, Sql, SqlLimits, Table, Tally, Topic, Write,
};
use sluice_stages::access::{KeySpec, Keys};
use sluice_stages::groups::recorded_files;
use sluice_tests::eventually;
use sluice_tests::lambda::Lambda;
use sluice_tests::ministack::Ministack;
use sluice_tests::proxy::{Fault, Proxy};
use sluice_tests::request::Request;
use sluice_tests::stack::{PATIENT, Stack};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Short, so that a service that does not answer holds up no test for long.
const BOUNDS: Bounds = Bounds { attempt: Duration::from_millis(700), operation: Duration::from_secs(8) };
/// Longer than an attempt.
const SLOW: Duration = Duration::from_millis(1_500);
/// What must never be seen.
const SECRETS: [&str; 2] = ["test-secret-key", "very-secret-token"];

struct World {
    stack: Stack,
    proxy: Proxy,
    /// By the proxy.
    connection: Connection,
    /// Past the proxy.
    direct: Connection,
}

impl World {
    async fn new() -> Option<Self> {
        let account = Ministack::shared().unwrap()?.account();
        let stack = Stack::make(account).await.unwrap();
        let proxy = Proxy::start(&stack.account.url).unwrap();
        let connection = stack.account.connection_by(&proxy.url, BOUNDS);
        let direct = stack.account.connection(PATIENT);
        Some(Self { stack, proxy, connection, direct })
    }

    fn table(&self, connection: &Connection) -> DynamoTable {
        DynamoTable::new(connection, Resource::new("table", &self.stack.table, "SLUICE_TABLE"))
    }

    fn objects(&self, connection: &Connection) -> S3Objects {
        S3Objects::new(connection, Resource::new("bucket", &self.stack.bucket, "SLUICE_BUCKET"))
    }

    fn catalog(&self, connection: &Connection) -> IcebergCatalog {
        let database = Resource::new("database", &self.stack.database, "SLUICE_GLUE_DATABASE");
        let pointers = Arc::new(GluePointers::new(connection, database));
        let root = format!("s3://{}", self.stack.bucket);
        let registry = Arc::new(sluice_entry::schemas::registry(&[]).unwrap());
        // What happens to objects on the way is no matter of the tables.
        IcebergCatalog::new(pointers, Arc::new(self.objects(&self.direct)), &root, registry, Duration::MAX)
    }

    fn topic(&self) -> SnsTopic {
        let topic = Resource::new("topic", &self.stack.topic, "SLUICE_TOPIC");
        SnsTopic::new(&self.connection, topic, self.table(&self.connection))
    }

    fn queue(&self, connection: &Connection, name: &str) -> SqsQueue {
        let queue = Resource::new("queue", &self.stack.queues[name], "SLUICE_QUEUES");
        SqsQueue::new(connection, queue, self.table(connection))
    }

    /// Bodies of all that waits in a queue, which are taken out.
    async fn take(&self, name: &str) -> Vec<String> {
        let (queue, mut bodies) = (self.queue(&self.direct, name), Vec::new());
        loop {
            let received = queue.receive(10, Duration::ZERO).await.unwrap();
            if received.is_empty() {
                bodies.sort();
                return bodies;
            }
            let done = received.iter().map(|d| (d.receipt.clone(), Settlement::Delete)).collect();
            queue.settle(done).await.into_iter().for_each(Result::unwrap);
            bodies.extend(received.into_iter().map(|delivery| delivery.body));
        }
    }

    async fn tallies(&self) -> Vec<Tally> {
        let rows = self.table(&self.direct).query(Query::prefix("counter", "", 1_000)).await.unwrap();
        rows.iter().flat_map(Tally::of).collect()
    }

    /// How many events a counter has as accepted.
    async fn accepted(&self, counter: &str) -> i64 {
        self.tallies()
            .await
            .iter()
            .filter(|t| (t.counter.as_str(), t.field.as_str()) == (counter, "accepted"))
            .map(|t| t.by)
            .sum()
    }

    async fn sum(&self, field: &str) -> i64 {
        self.tallies().await.iter().filter(|tally| tally.field == field).map(|tally| tally.by).sum()
    }

    async fn rows(&self, lake_table: &str) -> u64 {
        let files = recorded_files(&self.table(&self.direct), lake_table).await.unwrap();
        files.iter().map(|file| file.rows).sum()
    }

    /// The environment of a function whose services are behind the proxy.
    fn environment(&self) -> Vec<(String, String)> {
        let mut environment = self.stack.environment();
        environment.push(("AWS_ENDPOINT_URL".into(), self.proxy.url.clone()));
        environment.push(("AWS_SESSION_TOKEN".into(), "very-secret-token".into()));
        environment
    }

    fn start(&self, verb: &str) -> Lambda {
        Lambda::start(verb, &self.environment()).unwrap()
    }

    async fn key(&self) -> String {
        let spec = KeySpec { max_age_days: None, ..KeySpec::write(["*"]) };
        let keys = Keys::new(Arc::new(self.table(&self.direct)));
        keys.create(spec, None, Timestamp::from_system(SystemTime::now())).await.unwrap().0
    }
}

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events").join(name).with_extension("json");
    std::fs::read_to_string(&path).unwrap()
}

/// What each service says when it throttles.
fn throttled(operation: &str) -> Fault {
    match operation {
        "PUT" => Fault::Answer(503, "<Error><Code>SlowDown</Code><Message>Slow down</Message></Error>".into()),
        "PublishBatch" => Fault::Answer(
            400,
            "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Slow down</Message></Error></ErrorResponse>"
                .into(),
        ),
        _ => Fault::Answer(400, r#"{"__type":"com.amazonaws#ThrottlingException","message":"Slow down"}"#.into()),
    }
}

fn faults(operation: &str) -> [Fault; 6] {
    let broken = match operation {
        "PUT" | "PublishBatch" => "<Error><Code>InternalError</Code></Error>",
        _ => r#"{"__type":"InternalServerError"}"#,
    };
    [
        Fault::Answer(500, broken.into()),
        Fault::Answer(503, String::new()),
        throttled(operation),
        Fault::Lost,
        Fault::ReplyLost,
        Fault::Slow(SLOW),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_the_table_takes_effect_once_whatever_happens_on_the_way() {
    let Some(world) = World::new().await else { return };
    let table = world.table(&world.connection);
    let add = || Write::Add { key: Key::new("faults", "sum"), deltas: vec![("n".into(), 1)], expires_at: None };
    for (at, fault) in faults("TransactWriteItems").into_iter().enumerate() {
        world.proxy.fail("TransactWriteItems", 1, fault.clone());
        let key = Key::new("faults", format!("{at}"));
        let put = Write::Put { key, value: json!({}), condition: Condition::Absent, expires_at: None };
        table.write(vec![put, add()]).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        let sum = world.table(&world.direct).get(&[Key::new("faults", "sum")]).await.unwrap();
        assert_eq!(sum[0].as_ref().unwrap().value, json!({"n": at + 1}), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_conditional_put_knows_its_own_item_when_the_reply_was_lost() {
    let Some(world) = World::new().await else { return };
    let table = world.table(&world.connection);
    for (at, fault) in faults("UpdateItem").into_iter().enumerate() {
        let key = Key::new("faults", format!("alone {at}"));
        let put = |version: Option<u64>, n: u64| {
            let condition = version.map_or(Condition::Absent, Condition::Version);
            vec![Write::Put { key: key.clone(), value: json!({"n": n}), condition, expires_at: None }]
        };
        for (version, n) in [(None, 1), (Some(1), 2)] {
            world.proxy.fail("UpdateItem", 1, fault.clone());
            table.write(put(version, n)).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
            let other = table.write(put(version, 9)).await.unwrap_err();
            assert_eq!(other.kind, ErrorKind::Conflict, "another's item is a conflict");
            let found =
                world.table(&world.direct).get(std::slice::from_ref(&key)).await.unwrap().pop().flatten().unwrap();
            assert_eq!((found.value, found.version), (json!({"n": n}), n), "{fault:?}");
        }
    }
    assert_eq!(world.proxy.count("TransactWriteItems"), 0, "a transaction costs twice as much");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_put_knows_its_own_object_when_the_reply_was_lost() {
    let Some(world) = World::new().await else { return };
    let objects = world.objects(&world.connection);
    for (at, fault) in faults("PUT").into_iter().enumerate() {
        world.proxy.fail("PUT", 1, fault.clone());
        let (key, body) = (format!("faults/{at}"), Bytes::from(format!("body {at}")));
        let put = objects.put(&key, body.clone(), PutMode::IfAbsent).await;
        put.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert_eq!(world.objects(&world.direct).get(&key, None).await.unwrap(), body, "{fault:?}");
        let other = objects.put(&key, Bytes::from_static(b"other"), PutMode::IfAbsent).await;
        assert_eq!(other.unwrap_err().kind, ErrorKind::Conflict, "another's object is a conflict");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_parts_is_whole_though_replies_were_lost() {
    let Some(world) = World::new().await else { return };
    let bytes = Bytes::from(vec![7; 20_000_000]);
    let mut lost = HashSet::new();
    // The first part, and the end of the upload, each once.
    world.proxy.script(move |call| {
        let is_first_part = call.path.contains("partNumber=1");
        let is_end = call.operation == "POST" && call.path.contains("uploadId");
        if (is_first_part || is_end) && lost.insert(call.path.clone()) { Fault::ReplyLost } else { Fault::None }
    });
    let objects = S3Objects::new(
        &world.stack.account.connection_by(&world.proxy.url, PATIENT),
        Resource::new("bucket", &world.stack.bucket, "SLUICE_BUCKET"),
    );
    objects.put("faults/large", bytes.clone(), PutMode::IfAbsent).await.unwrap();
    assert!(world.objects(&world.direct).get("faults/large", None).await.unwrap() == bytes);
    assert_eq!(world.proxy.count("POST"), 3, "created, and ended twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_change_of_a_table_that_may_have_taken_effect_nobody_says_that_it_did_not() {
    let Some(world) = World::new().await else { return };
    let catalog = world.catalog(&world.connection);
    let mut number = 0;
    for operation in ["CreateTable", "UpdateTable"] {
        for fault in faults(operation) {
            number += 1;
            // A table for each creation; the changes are all of one.
            let table = if operation == "CreateTable" {
                ["game_start", "game_result", "http_access", "web_event", "quote_trade", "alert_fired"][number - 1]
            } else {
                "game_start"
            };
            let before = world.catalog(&world.direct).load(table).await.unwrap();
            let calls = world.proxy.count(operation);
            world.proxy.fail(operation, 1, fault.clone());
            let made = match &before {
                None => catalog.create(table).await,
                Some(head) => {
                    let property = ("number".to_owned(), number.to_string());
                    catalog
                        .append(Append { table: table.into(), token: head.token.clone(), files: vec![], property })
                        .await
                }
            };
            let after = world.catalog(&world.direct).load(table).await.unwrap();
            let changed = after != before;
            let tries = world.proxy.count(operation) - calls;
            match (&fault, made) {
                // The service did nothing, and says so.
                (Fault::Answer(400, _), Ok(())) => assert!(changed && tries == 2, "{operation} {fault:?}: {tries}"),
                (Fault::Answer(503, _), Err(error)) => {
                    assert!(!changed && error.kind == ErrorKind::Unavailable, "{error}")
                }
                (_, Err(error)) => {
                    assert_eq!(error.kind, ErrorKind::Timeout, "{operation} {fault:?}: {error}");
                    assert_eq!(changed, matches!(fault, Fault::ReplyLost | Fault::Slow(_)), "{operation} {fault:?}");
                    assert_eq!(tries, 1, "{operation} {fault:?}: a second one would meet the first");
                }
                (_, made) => panic!("{operation} {fault:?}: {made:?}"),
            }
            if after.is_none() {
                catalog.create(table).await.unwrap();
            }
        }
    }
    for fault in faults("GetTable") {
        world.proxy.fail("GetTable", 1, fault.clone());
        assert!(catalog.load("game_start").await.unwrap_or_else(|e| panic!("{fault:?}: {e}")).is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commit_function_makes_each_file_part_of_its_table_once_whatever_glue_does() {
    let Some(world) = World::new().await else { return };
    let (mut convert, mut commit) = (world.start("convert"), world.start("commit"));
    let all: Value = json!({"batchItemFailures": []});
    let delivery: Value = serde_json::from_str(&sample("convert/two-messages")).unwrap();
    let mut sent = 0;
    for operation in ["CreateTable", "GetTable", "UpdateTable"] {
        for fault in faults(operation) {
            // Another batch each time.
            let mut delivery = delivery.clone();
            sent += 1;
            for record in delivery["Records"].as_array_mut().unwrap() {
                let body = record["body"].as_str().unwrap().replace("019aa5f0", &format!("{sent:08x}"));
                record["body"] = body.into();
            }
            world.proxy.script(|_| Fault::None);
            assert_eq!(convert.call(&delivery.to_string()).unwrap(), Ok(all.clone()), "{}", convert.log());
            world.proxy.fail(operation, 1, fault.clone());
            // What it gives back comes again.
            let mut taken = Err(Value::Null);
            for _ in 0..3 {
                taken = commit.call(&sample("commit/two-messages")).unwrap();
                if taken == Ok(all.clone()) {
                    break;
                }
            }
            assert_eq!(taken, Ok(all.clone()), "{operation} {fault:?}: {}", commit.log());
            let figures = world.catalog(&world.direct).figures().await.unwrap();
            for table in ["game_start", "game_result"] {
                let in_table = figures.iter().find(|of| of.name == table).map(|of| of.rows);
                assert_eq!(in_table, Some(world.rows(table).await), "{operation} {fault:?}: {table}");
            }
        }
    }
    assert!(world.rows("game_start").await > sent, "{sent}");
    assert!(SECRETS.iter().all(|secret| !commit.log().contains(secret)), "{}", commit.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_too_long_is_stopped() {
    let Some(world) = World::new().await else { return };
    world.proxy.script(|call| match call.operation.as_str() {
        "GetQueryExecution" => Fault::Answer(200, r#"{"QueryExecution":{"Status":{"State":"RUNNING"}}}"#.into()),
        _ => Fault::None,
    });
    let workgroup = Resource::new("workgroup", &world.stack.workgroup, "SLUICE_ATHENA_WORKGROUP");
    let database = Resource::new("database", "default", "SLUICE_GLUE_DATABASE");
    let sql = AthenaSql::new(&world.connection, workgroup, &database);
    let limits = SqlLimits { max_rows: 1, timeout: Duration::from_millis(300), max_memory_bytes: usize::MAX };
    let error = sql.query("SELECT 1", &[], limits).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
    assert_eq!(world.proxy.count("StopQueryExecution"), 1, "what nobody waits for is not paid for");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_arrives_and_is_counted_once() {
    let Some(world) = World::new().await else { return };
    let topic = world.topic();
    for operation in ["PublishBatch", "UpdateItem"] {
        for (at, fault) in faults(operation).into_iter().enumerate() {
            world.proxy.fail(operation, 1, fault.clone());
            let body = format!("{operation} {at}");
            let tally = vec![Tally { counter: body.clone(), field: "accepted".into(), by: 3 }];
            let message = Message { body: body.clone(), tally, ..Message::default() };
            topic.publish(vec![message]).await.pop().unwrap().unwrap_or_else(|e| panic!("{fault:?}: {e}"));
            let mut arrived = world.take("ConvertQueue").await;
            arrived.dedup();
            assert_eq!(arrived, [body.as_str()], "at least once: {fault:?}");
            assert_eq!(world.accepted(&body).await, 3, "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_stays_has_its_kind_and_names_the_setting() {
    let Some(world) = World::new().await else { return };
    let (table, objects, topic) = (world.table(&world.connection), world.objects(&world.connection), world.topic());
    let kinds = [
        ErrorKind::Timeout,
        ErrorKind::Unavailable,
        ErrorKind::Throttled,
        ErrorKind::Timeout,
        ErrorKind::Timeout,
        ErrorKind::Timeout,
    ];
    let same = |error: &PortError, kind, setting: &str, fault: &Fault| {
        assert_eq!(error.kind, kind, "{fault:?}: {error}");
        assert!(error.detail.contains(&format!("(setting `{setting}`)")), "{fault:?}: {error}");
        assert!(SECRETS.iter().all(|secret| !format!("{error:?}").contains(secret)), "{error:?}");
    };
    for (fault, kind) in faults("GET").into_iter().zip(kinds) {
        world.proxy.script({
            let fault = fault.clone();
            move |_| fault.clone()
        });
        // Each service throttles in words of its own.
        if kind != ErrorKind::Throttled {
            let error = objects.get("faults/x", None).await.unwrap_err();
            same(&error, kind, "SLUICE_BUCKET", &fault);
            let error = topic.publish(vec![Message { body: "x".into(), ..Message::default() }]).await.pop().unwrap();
            same(&error.unwrap_err(), kind, "SLUICE_TOPIC", &fault);
        }
        let error = table.query(Query::prefix("faults", "", 9)).await.unwrap_err();
        same(&error, kind, "SLUICE_TABLE", &fault);
        let error = world.queue(&world.connection, "ConvertQueue").receive(1, Duration::ZERO).await.unwrap_err();
        same(&error, kind, "SLUICE_QUEUES", &fault);
    }
    let nobody = world.stack.account.connection_by("http://127.0.0.1:1", BOUNDS);
    let error = world.table(&nobody).query(Query::prefix("faults", "", 9)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "nobody listens: {error}");
}

/// Takes the second entry out of a batch of SQS, and says in the reply that it failed.
fn without_second_json(request: &mut Request) {
    let mut body: Value = serde_json::from_slice(&request.body).unwrap();
    body["Entries"].as_array_mut().unwrap().remove(1);
    request.body = body.to_string().into_bytes();
}

fn second_failed_json(reply: String) -> String {
    let mut reply: Value = serde_json::from_str(&reply).unwrap();
    reply["Failed"] = json!([{"Id": "1", "Code": "InternalError", "SenderFault": false}]);
    reply.to_string()
}

/// The same for SNS, in its own form.
fn without_second_form(request: &mut Request) {
    let body = String::from_utf8(request.body.clone()).unwrap();
    let kept = body.split('&').filter(|pair| !pair.starts_with("PublishBatchRequestEntries.member.2."));
    request.body = kept.collect::<Vec<_>>().join("&").into_bytes();
}

fn second_failed_form(reply: String) -> String {
    let failed =
        "<Failed><member><Id>1</Id><Code>InternalError</Code><SenderFault>false</SenderFault></member></Failed>";
    let bare = reply.replace("<Failed/>", "").replace("<Failed />", "").replace("<Failed></Failed>", "");
    bare.replace("</PublishBatchResult>", &format!("{failed}</PublishBatchResult>"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_failed_part_of_a_batch_is_sent_again() {
    let Some(world) = World::new().await else { return };
    let message = |body: &str| Message { body: body.to_owned(), ..Message::default() };
    world.proxy.fail("SendMessageBatch", 1, Fault::Part(without_second_json, second_failed_json));
    let queue = world.queue(&world.connection, "ConvertQueue");
    let sent = queue.send(vec![message("1"), message("2"), message("3")]).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    assert_eq!(world.take("ConvertQueue").await, ["1", "2", "3"], "none is lost and none comes twice");
    assert_eq!(world.proxy.count("SendMessageBatch"), 2);

    world.proxy.fail("PublishBatch", 1, Fault::Part(without_second_form, second_failed_form));
    let tally = vec![Tally { counter: "part".into(), field: "accepted".into(), by: 1 }];
    let counted = |body: &str| Message { tally: tally.clone(), ..message(body) };
    let sent = world.topic().publish(vec![counted("1"), counted("2")]).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    assert_eq!(world.take("ConvertQueue").await, ["1", "2"], "none is lost and none comes twice");
    assert_eq!(world.accepted("part").await, 2);

    queue.send(vec![message("1"), message("2"), message("3")]).await.into_iter().for_each(Result::unwrap);
    let received = queue.receive(10, Duration::ZERO).await.unwrap();
    world.proxy.fail("DeleteMessageBatch", 1, Fault::Part(without_second_json, second_failed_json));
    let done: Vec<(Receipt, Settlement)> = received.iter().map(|d| (d.receipt.clone(), Settlement::Delete)).collect();
    let settled = queue.settle(done).await;
    assert!(settled.iter().all(Result::is_ok), "{settled:?}");
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0), "all are deleted");
}

fn acknowledges_all() -> Result<Value, Value> {
    Ok(json!({"batchItemFailures": []}))
}

/// The reply that gives all messages of a delivery back.
fn gives_all_back(delivery: &str) -> Result<Value, Value> {
    let delivery: Value = serde_json::from_str(delivery).unwrap();
    let ids =
        delivery["Records"].as_array().unwrap().iter().map(|record| json!({"itemIdentifier": record["messageId"]}));
    Ok(json!({"batchItemFailures": ids.collect::<Vec<_>>()}))
}

#[tokio::test(flavor = "multi_thread")]
async fn convert_acknowledges_nothing_before_it_is_stored_and_stores_it_once() {
    let Some(world) = World::new().await else { return };
    let delivery = sample("convert/two-messages");
    let mut convert = world.start("convert");
    for (operation, fault) in [
        ("PUT", Fault::Answer(503, String::new())),
        ("PUT", Fault::Answer(403, "<Error><Code>AccessDenied</Code><Message>not you</Message></Error>".into())),
        ("TransactWriteItems", throttled("TransactWriteItems")),
        ("TransactWriteItems", Fault::Answer(500, r#"{"__type":"InternalServerError"}"#.into())),
    ] {
        world.proxy.fail(operation, usize::MAX, fault.clone());
        let said = convert.call(&delivery).unwrap();
        assert_eq!(said, gives_all_back(&delivery), "{operation} {fault:?}: {}", convert.log());
        assert_eq!(world.rows("game_start").await, 0, "nothing is stored: {operation} {fault:?}");
    }
    // Every reply that says that something was written is lost once.
    let mut seen = 0;
    world.proxy.script(move |call| {
        let writes = ["PUT", "TransactWriteItems"].contains(&call.operation.as_str());
        seen += usize::from(writes);
        if writes && seen % 2 == 1 { Fault::ReplyLost } else { Fault::None }
    });
    // Some group above could not even be given up; what it holds is free when its lease is over.
    let stored = eventually("it is stored", || Ok(convert.call(&delivery)? == acknowledges_all()));
    stored.unwrap_or_else(|e| panic!("{e}: {}", convert.log()));
    assert_eq!(convert.call(&delivery).unwrap(), acknowledges_all());
    let sent: Value = serde_json::from_str(&delivery).unwrap();
    let events = |kind: &str| {
        let bodies = sent["Records"].as_array().unwrap().iter().map(|r| r["body"].as_str().unwrap());
        bodies.map(|b| serde_json::from_str::<Value>(b).unwrap()["types"][kind].as_u64().unwrap_or(0)).sum::<u64>()
    };
    assert_eq!(world.rows("game_start").await, events("game.start"), "stored once");
    assert_eq!(world.rows("game_result").await, events("game.result"), "stored once");
    assert!(SECRETS.iter().all(|secret| !convert.log().contains(secret)));
    assert!(
        convert.log().contains("(setting `SLUICE_BUCKET`): no right to do this (AccessDenied"),
        "{}",
        convert.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_accepts_only_what_the_topic_has_and_what_it_accepts_is_counted_once() {
    let Some(world) = World::new().await else { return };
    let key = world.key().await;
    let request = sample("ingest/one-event").replace("sample-write-key", &key);
    let mut ingest = world.start("ingest");
    let mut ask = || ingest.call(&request).unwrap().unwrap();
    for fault in [Fault::Answer(503, String::new()), throttled("PublishBatch"), Fault::Lost] {
        world.proxy.fail("PublishBatch", usize::MAX, fault.clone());
        let reply = ask();
        assert!([429, 503].contains(&reply["statusCode"].as_u64().unwrap()), "{fault:?}: {reply}");
        assert_eq!(world.sum("accepted").await, 0, "{fault:?}");
    }
    assert_eq!(world.take("ConvertQueue").await.len(), 0);
    world.proxy.fail("PublishBatch", 1, Fault::ReplyLost);
    assert_eq!(ask()["statusCode"], 202);
    world.proxy.fail("UpdateItem", 1, Fault::ReplyLost);
    assert_eq!(ask()["statusCode"], 202);
    assert_eq!(world.sum("accepted").await, 2, "each accepted request is counted once, however often a call was sent");
    let mut arrived = world.take("ConvertQueue").await;
    arrived.dedup();
    assert_eq!(arrived.len(), 2, "and is there");
    // Counting is not what a client waits for.
    world.proxy.fail("UpdateItem", usize::MAX, Fault::Answer(503, String::new()));
    assert_eq!(ask()["statusCode"], 202);
    world.proxy.fail("UpdateItem", 0, Fault::None);
    assert_eq!(ask()["statusCode"], 202);
    assert_eq!(world.sum("accepted").await, 4, "a request makes up for the count of the one before");
    let log = ingest.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("what was sent is not counted")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("accepted=3") && lines[0].contains("SLUICE_TABLE"), "what is missing is said: {log}");
    assert!(SECRETS.iter().chain([&key.as_str()]).all(|secret| !log.contains(secret)), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_denied_is_one_line_that_names_the_setting() {
    let Some(world) = World::new().await else { return };
    let with = |variable: &str, value: &str| {
        let mut environment = world.environment();
        environment.push((variable.to_owned(), value.to_owned()));
        environment
    };
    let named = |log: &str, expected: &str| {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(expected)).collect();
        assert_eq!(lines.len(), 1, "`{expected}` in one line of: {log}");
        assert!(SECRETS.iter().all(|secret| !log.contains(secret)), "{log}");
    };
    let (code, log) = Lambda::start("convert", &with("SLUICE_BUCKET", "no-such-bucket")).unwrap().ended().unwrap();
    assert_eq!(code, Some(1));
    named(&log, "bucket `no-such-bucket` (setting `SLUICE_BUCKET`) is not there");

    let key = world.key().await;
    let request = sample("ingest/one-event").replace("sample-write-key", &key);
    let mut ingest = Lambda::start("ingest", &with("SLUICE_TABLE", "no-such-table")).unwrap();
    assert_eq!(ingest.call(&request).unwrap().unwrap()["statusCode"], 503);
    named(&ingest.log(), "table `no-such-table` (setting `SLUICE_TABLE`) is not there");

    let gone = format!("{}-gone", world.stack.topic);
    let mut ingest = Lambda::start("ingest", &with("SLUICE_TOPIC", &gone)).unwrap();
    assert_eq!(ingest.call(&request).unwrap().unwrap()["statusCode"], 503);
    named(&ingest.log(), &format!("topic `{gone}` (setting `SLUICE_TOPIC`) is not there"));

    let gone = format!("{}-gone", world.stack.queues["QuarantineQueue"]);
    let mut convert = Lambda::start("convert", &with("SLUICE_QUARANTINE_QUEUE", &gone)).unwrap();
    let bad = sample("convert/one-bad");
    let said = convert.call(&bad).unwrap().unwrap();
    assert_eq!(said["batchItemFailures"].as_array().unwrap().len(), 1, "the bad one is kept back: {said}");
    named(&convert.log(), &format!("queue `{gone}` (setting `SLUICE_QUARANTINE_QUEUE`) is not there"));

    let denied =
        r#"{"__type":"com.amazonaws#AccessDeniedException","message":"not authorized to perform: dynamodb:GetItem"}"#;
    world.proxy.fail("BatchGetItem", usize::MAX, Fault::Answer(400, denied.into()));
    let mut ingest = world.start("ingest");
    assert_eq!(ingest.call(&request).unwrap().unwrap()["statusCode"], 503);
    named(
        &ingest.log(),
        "(setting `SLUICE_TABLE`): no right to do this (AccessDeniedException: not authorized to perform",
    );
}
