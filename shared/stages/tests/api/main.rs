//! `api` over ports in memory: who is let pass, and what is recorded of it.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod channels;
mod console;
mod members;
mod reports;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use sluice_domain::lake::{EncodeError, RowCount};
use sluice_domain::message::unpack;
use sluice_domain::schema::Registry;
use sluice_domain::time::{HOUR_US, Timestamp};
use sluice_ports::{
    Document, DocumentOutcome, ErrorKind, IndexTemplate, Outbox, PortError, Search, Sql, SqlColumn, SqlLimits,
    SqlResult,
};
use sluice_stages::access::{KeyRecord, KeySpec, Keys};
use sluice_stages::api::retention::Retention;
use sluice_stages::api::{Api, ApiPorts, ApiSettings, MAX_REFUSED_PER_HOUR};
use sluice_stages::channels::Channels;
use sluice_stages::http::{Request, Response};
use sluice_stages::ingest::{ClientIp, Ingest, IngestPorts, IngestSettings};
use sluice_stages::ledger::Sink;
use sluice_stages::ledger::audit::AuditPorts;
use sluice_stages::members::Members;
use sluice_stages::networks::Networks;
use sluice_stages::passwords::{Cost, Passwords};
use sluice_stages::quarantine::desk::{Desk, DeskPorts};
use sluice_stages::requests::Requests;
use sluice_stages::rules::Rules;
use sluice_stages::sessions::Sessions;
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::{
    MemoryConsole, MemoryHooks, MemoryMail, MemoryObjects, MemoryQueue, MemorySearch, MemoryTable, MemoryTopic,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const RULE: &str =
    r#"{"id":"five","kind":"fluctuation","user":"u","threshold_pct":5,"comparison":">=","symbols":["GSPC"]}"#;

struct Unread;

impl RowCount for Unread {
    fn rows(&self, _: &[u8]) -> Result<u64, EncodeError> {
        unreachable!("there is no file")
    }
}

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
}

fn registry() -> Arc<Registry> {
    let files =
        [("e", r#"{"type":"object","x-type":"event","properties":{"data":{"x-json":true,"x-column-id":101}}}"#)];
    Arc::new(Registry::load(files).unwrap())
}

fn desk(table: &Arc<Faulty<MemoryTable>>, topic: &Arc<Faulty<MemoryTopic>>, keys: &Arc<Keys>) -> Desk {
    let settings = IngestSettings {
        zone: chrono_tz::UTC,
        client_ip: ClientIp::None,
        max_body_bytes: 1_000,
        max_decompressed_bytes: 1_000,
        max_events_per_request: 10,
        quarantine_per_key_hour: 10,
    };
    let registry = registry();
    let queue = Arc::new(MemoryQueue::new());
    let ports = IngestPorts { topic: topic.clone(), quarantine: queue, keys: keys.clone() };
    let ports = DeskPorts {
        objects: Arc::new(MemoryObjects::new()),
        table: table.clone(),
        keys: keys.clone(),
        ingest: Arc::new(Ingest::new(ports, registry.clone(), settings)),
        queues: BTreeMap::new(),
    };
    Desk::new(ports, registry)
}

/// Answers with the day that it was asked for, and keeps what it was asked.
#[derive(Default)]
struct Asked(std::sync::Mutex<Vec<(String, Vec<Value>)>>);

#[async_trait]
impl Sql for Asked {
    async fn query(&self, statement: &str, parameters: &[Value], limits: SqlLimits) -> Result<SqlResult, PortError> {
        self.0.lock().unwrap().push((statement.to_owned(), parameters.to_vec()));
        // Others come meanwhile.
        tokio::task::yield_now().await;
        if parameters.contains(&json!("broken")) {
            return Err(PortError::new(ErrorKind::Unavailable, "sql.query", "down"));
        }
        let column = |name: &str, data_type: &str| SqlColumn { name: name.into(), data_type: data_type.into() };
        Ok(SqlResult {
            columns: vec![column("day", "date"), column("name", "varchar")],
            rows: vec![vec![parameters[0].clone(), json!("=1+1")]; limits.max_rows],
            truncated: true,
            files_read: None,
        })
    }
}

/// Finds nothing, has counted seven visitors, and counts how often it is asked.
#[derive(Default)]
struct Empty(AtomicUsize);

#[async_trait]
impl Search for Empty {
    async fn define(&self, _: Vec<IndexTemplate>) -> Result<(), PortError> {
        unreachable!("no test defines")
    }

    async fn create(&self, _: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        unreachable!("no test creates")
    }

    async fn search(&self, _: &str, _: &Value) -> Result<Value, PortError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(json!({"hits": {"hits": []}, "aggregations": {"visitors": {"value": 7}}}))
    }
}

struct World {
    search: Arc<Empty>,
    sql: Arc<Asked>,
    hooks: Arc<Faulty<MemoryHooks>>,
    table: Arc<Faulty<MemoryTable>>,
    topic: Arc<Faulty<MemoryTopic>>,
    keys: Arc<Keys>,
    members: Arc<Members>,
    requests: Arc<Requests>,
    api: Api,
}

impl World {
    fn new() -> Self {
        Self::with_outbox(None)
    }

    fn with_outbox(outbox: Option<console::Mails>) -> Self {
        let search = Arc::new(Empty::default());
        let sql = Arc::new(Asked::default());
        let hooks = Arc::new(Faulty::new(MemoryHooks::new()));
        let table = Arc::new(Faulty::new(MemoryTable::new()));
        let topic = Arc::new(Faulty::new(MemoryTopic::new()));
        let keys = Arc::new(Keys::new(table.clone()));
        let passwords = Passwords::new(Cost { memory_kib: 8, passes: 1 }).unwrap();
        let members = Arc::new(Members::new(table.clone(), passwords));
        let requests = Arc::new(Requests::new(table.clone()).unwrap());
        let ports = ApiPorts {
            catalog: None,
            compact: None,
            erase: None,
            search: search.clone(),
            sql: sql.clone(),
            table: table.clone(),
            topic: topic.clone(),
            queues: Arc::new(MemoryConsole::new([])),
            keys: keys.clone(),
            members: members.clone(),
            sessions: Arc::new(Sessions::new(table.clone(), members.clone())),
            rules: Arc::new(Rules::new(table.clone())),
            desk: desk(&table, &topic, &keys),
            audit: AuditPorts {
                catalog: None,
                table: table.clone(),
                objects: Arc::new(MemoryObjects::new()),
                search: Arc::new(MemorySearch::default()),
                row_count: Arc::new(Unread),
            },
            registry: registry(),
            reports: reports::files(),
            requests: requests.clone(),
            channels: Arc::new(Channels {
                table: table.clone(),
                mail: Arc::new(MemoryMail::new()),
                hooks: hooks.clone(),
                from: "sluice@example.org".into(),
            }),
            outbox: outbox.map(|outbox| Arc::new(outbox) as Arc<dyn Outbox>),
        };
        let sql_limits = SqlLimits { max_rows: 1, timeout: Duration::from_secs(1), max_memory_bytes: 1 };
        let api = Api::new(
            ports,
            ApiSettings {
                sql_limits,
                sink_queues: BTreeMap::from([(Sink::Search, Vec::new())]),
                retention: Retention { queue_days: Some(4), ..Retention::default() },
                metrics_allowed: Networks::parse(["10.0.0.0/8", "192.0.2.1"]).unwrap(),
            },
        );
        Self { search, sql, hooks, table, topic, keys, members, requests, api }
    }

    async fn key(&self, spec: KeySpec) -> (String, KeyRecord) {
        self.keys.create(spec, None, now()).await.unwrap()
    }

    async fn call_at(&self, secret: &str, call: &str, body: &str, now: Timestamp) -> Response {
        let (method, path) = call.split_once(' ').unwrap();
        let request = Request {
            method: method.into(),
            path: path.into(),
            headers: BTreeMap::from([("authorization".to_owned(), format!("Bearer {secret}"))]),
            body: Bytes::from(body.to_owned()),
            ..Request::default()
        };
        self.api.handle(&request, now).await
    }

    async fn call(&self, secret: &str, call: &str, body: &str) -> u16 {
        self.call_at(secret, call, body, now()).await.status
    }

    /// What was recorded since the last call.
    fn recorded(&self) -> Vec<Value> {
        let messages = self.topic.inner().take();
        let events = messages.iter().flat_map(|m| {
            assert_eq!(m.attributes["areas"], ["sluice"]);
            serde_json::from_str::<Vec<Value>>(unpack(&m.body).unwrap().text()).unwrap()
        });
        events.map(|event| event["data"].clone()).collect()
    }
}

fn record(who: &KeyRecord, action: &str, target: &str, outcome: &str) -> Value {
    json!({"who": who.id, "action": action, "target": target, "outcome": outcome})
}

#[tokio::test]
async fn every_admin_call_is_recorded_once_with_what_it_was_asked() {
    let world = World::new();
    let (admin, who) = world.key(KeySpec::admin()).await;
    for (call, body, status, action, target) in [
        ("POST /v1/rules", RULE, 201, "rules.create", "fluctuation five"),
        ("DELETE /v1/rules/five", "", 204, "rules.delete", "five"),
        (
            "POST /v1/keys",
            r#"{"sources":["shop","web"],"name":"till"}"#,
            201,
            "keys.create",
            "write for shop,web `till`",
        ),
        ("DELETE /v1/keys/k_0", "", 404, "keys.revoke", "k_0"),
        ("GET /v1/queues/None/messages", "", 404, "queues.peek", "None"),
        ("POST /v1/queues/None/redrive", "", 404, "queues.redrive", "None"),
        ("POST /v1/tables/compact", r#"{"table":"web_event"}"#, 409, "tables.compact", "web_event"),
    ] {
        assert_eq!(world.call(&admin, call, body).await, status, "{call}");
        assert_eq!(world.recorded(), [record(&who, action, target, "allowed")], "{call}");
    }
    assert_eq!(world.call(&admin, "GET /v1/status", "").await, 200);
    assert!(world.recorded().is_empty(), "reading what others may read too is no admin call");
    for list in ["rules", "keys", "members", "channels", "incidents", "quarantine/count"] {
        assert_eq!(world.call(&admin, &format!("GET /v1/{list}"), "").await, 200, "{list}");
    }
    assert!(world.recorded().is_empty(), "nor is a look at a list without secrets");
    assert_eq!(world.call(&admin, "GET /v1/quarantine", "").await, 200);
    assert_eq!(world.recorded(), [record(&who, "quarantine.list", "", "allowed")], "this one shows bytes");
}

#[tokio::test]
async fn a_search_names_and_leaves_out_the_product_s_indices_only() {
    let world = World::new();
    let (read, _) = world.key(KeySpec::read()).await;
    for (index, status) in [
        ("sluice-*", 200),
        ("sluice-a-*,sluice-b-1", 200),
        ("sluice-*,-sluice-event-*", 200),
        ("", 400),
        ("*", 400),
        ("sluice-a,other", 400),
        ("sluice-*,-other-*", 400),
        ("--sluice-a", 400),
    ] {
        let request = Request {
            method: "POST".into(),
            path: "/v1/search".into(),
            headers: BTreeMap::from([("authorization".to_owned(), format!("Bearer {read}"))]),
            query: vec![("index".to_owned(), index.to_owned())],
            ..Request::default()
        };
        assert_eq!(world.api.handle(&request, now()).await.status, status, "{index}");
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    let world = World::new();
    let (admin, _) = world.key(KeySpec::admin()).await;
    world.topic.script("topic.publish", [Fault::Before(ErrorKind::Unavailable)]);
    assert_eq!(world.call(&admin, "POST /v1/rules", RULE).await, 503);
    assert_eq!(world.call(&admin, "GET /v1/rules/five", "").await, 404);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_and_recorded() {
    let world = World::new();
    let (admin, who) = world.key(KeySpec::admin()).await;
    for (call, action, target) in [
        ("POST /v1/rules", "rules.create", ""),
        ("POST /v1/keys", "keys.create", ""),
        ("POST /v1/queues/ConvertDeadLetterQueue/redrive", "queues.redrive", "ConvertDeadLetterQueue"),
        ("POST /v1/tables/compact", "tables.compact", ""),
    ] {
        for body in [r#"{"limit":"#, "[null]", "7"] {
            assert_eq!(world.call(&admin, call, body).await, 400, "{call} {body}");
            assert_eq!(world.recorded(), [record(&who, action, target, "body")], "{call} {body}");
        }
    }
}

#[tokio::test]
async fn a_known_key_that_is_refused_is_recorded_and_an_unknown_one_is_not() {
    let world = World::new();
    let (read, who) = world.key(KeySpec::read()).await;
    assert_eq!(world.call(&read, "POST /v1/keys", r#"{"scope":"admin"}"#).await, 403);
    assert_eq!(world.call(&read, "DELETE /v1/rules/five", "").await, 403);
    assert_eq!(
        world.recorded(),
        [record(&who, "keys.create", "", "wrong_scope"), record(&who, "rules.delete", "five", "wrong_scope")]
    );
    for secret in ["", "sk_admin_guessed"] {
        assert_eq!(world.call(secret, "GET /v1/keys", "").await, 401);
    }
    assert!(world.recorded().is_empty());
    // Nothing was done, recorded or not.
    world.topic.script("topic.publish", [Fault::Before(ErrorKind::Full)]);
    assert_eq!(world.call(&read, "GET /v1/keys", "").await, 403);
    assert_eq!(world.keys.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_public_key_cannot_fill_the_records() {
    let world = World::new();
    let (public, who) = world.key(KeySpec::write(["page"])).await;
    let (read, other) = world.key(KeySpec::read()).await;
    let long = format!("DELETE /v1/rules/{}", "가".repeat(1_000));
    for _ in 0..MAX_REFUSED_PER_HOUR + 50 {
        assert_eq!(world.call(&public, &long, "").await, 403);
    }
    let recorded = world.recorded();
    assert_eq!(recorded.len(), MAX_REFUSED_PER_HOUR as usize);
    assert_eq!(recorded[0], record(&who, "rules.delete", &"가".repeat(170), "wrong_scope"));
    assert_eq!(world.call(&read, "GET /v1/keys", "").await, 403);
    assert_eq!(world.recorded(), [record(&other, "keys.list", "", "wrong_scope")]);
    let later = now().plus_micros(HOUR_US);
    assert_eq!(world.call_at(&public, "GET /v1/keys", "", later).await.status, 403);
    assert_eq!(world.recorded().len(), 1);
    assert!(world.table.calls("table.get") > 0);
}
