use super::*;
use crate::access::KeySpec;
use crate::ledger::counter;
use bytes::Bytes;
use proptest::prelude::*;
use sluice_domain::message::unpack;
use sluice_domain::time::{DAY_US, HOUR_US, SECOND_US};
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::{MemoryQueue, MemoryTable, MemoryTopic, QueueRules};
use std::io::Write as _;

const EVENT: &str = r#"{"type":"object","x-type":"event","properties":{"data":{"x-json":true,"x-column-id":101}}}"#;
const RESULT: &str = r#"{"type":"object","x-type":"game.result","required":["play_id"],"properties":{
    "play_id":{"type":"string","maxLength":64,"x-column-id":101},
    "total":{"type":"integer","minimum":0,"x-column-id":102},
    "rate":{"type":"number","maximum":100,"x-percent-of":["hit","total"],"x-column-id":103},
    "hit":{"type":"integer","minimum":0,"x-max-field":"total","x-column-id":105},
    "fine":{"type":"string","x-decimal":[9,2],"x-column-id":104}}}"#;

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
}

fn settings() -> IngestSettings {
    IngestSettings {
        zone: Tz::UTC,
        client_ip: ClientIp::Truncated,
        max_body_bytes: 4_500_000,
        max_decompressed_bytes: 16 * 1024 * 1024,
        max_events_per_request: 10_000,
        quarantine_per_key_hour: 1_000,
    }
}

/// The stage over memory ports, with one key for the sources `game` and `shop`.
struct Rig {
    table: Arc<MemoryTable>,
    topic: Arc<Faulty<MemoryTopic>>,
    quarantine: Arc<Faulty<MemoryQueue>>,
    keys: Arc<Keys>,
    ingest: Ingest,
    secret: String,
}

impl Rig {
    async fn new() -> Self {
        Self::with(settings(), KeySpec::write(["game", "shop"])).await
    }

    async fn with(settings: IngestSettings, spec: KeySpec) -> Self {
        Self::with_schemas(settings, spec, [("event.json", EVENT), ("result.json", RESULT)]).await
    }

    async fn with_schemas<const N: usize>(settings: IngestSettings, spec: KeySpec, schemas: [(&str, &str); N]) -> Self {
        let table = Arc::new(MemoryTable::new());
        let topic = Arc::new(Faulty::new(MemoryTopic::with_table(table.clone())));
        let rules = QueueRules { table: Some(table.clone()), ..QueueRules::default() };
        let quarantine = Arc::new(Faulty::new(MemoryQueue::with(rules)));
        let keys = Arc::new(Keys::new(table.clone()));
        let (secret, _) = keys.create(spec, None, now()).await.unwrap();
        let registry = Arc::new(Registry::load(schemas).unwrap());
        let ports = IngestPorts { topic: topic.clone(), quarantine: quarantine.clone(), keys: keys.clone() };
        Self { table, topic, quarantine, keys, ingest: Ingest::new(ports, registry, settings), secret }
    }

    fn request(&self, media: &str, body: impl Into<Bytes>) -> Request {
        let mut headers = BTreeMap::from([("authorization".to_owned(), format!("Bearer {}", self.secret))]);
        if !media.is_empty() {
            headers.insert("content-type".into(), media.into());
        }
        Request {
            method: "POST".into(),
            path: "/v1/events".into(),
            headers,
            body: body.into(),
            client_ip: "203.0.113.77".into(),
            ..Request::default()
        }
    }

    async fn send(&self, request: &Request) -> (Response, Json) {
        let reply = self.ingest.handle(request, now()).await;
        let body = serde_json::from_slice(&reply.body).unwrap_or(Json::Null);
        (reply, body)
    }

    async fn post(&self, media: &str, body: impl Into<Bytes>) -> (u16, Json) {
        let (reply, body) = self.send(&self.request(media, body)).await;
        (reply.status, body)
    }

    /// The events published since the last call, as the JSON text in their messages.
    fn published(&self) -> Vec<Json> {
        let messages = self.topic.inner().take();
        messages
            .iter()
            .flat_map(|m| serde_json::from_str::<Vec<Json>>(unpack(&m.body).unwrap().text()).unwrap())
            .collect()
    }

    fn ids(&self) -> Vec<String> {
        self.published().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect()
    }

    fn kept(&self) -> Vec<Quarantined> {
        let messages = self.quarantine.inner().take();
        messages
            .iter()
            .map(|m| Quarantined::parse(&m.body).unwrap())
            .filter(|q| q.code != quarantine::COUNTED)
            .collect()
    }

    fn count(&self, event_type: &str, field: &str) -> i64 {
        self.table
            .value(ledger::PARTITION, &counter(now(), event_type))
            .map_or(0, |row| row[field].as_i64().unwrap_or(0))
    }

    /// A counter over all types.
    fn total(&self, field: &str) -> i64 {
        let rows = self.table.items();
        rows.iter().filter(|i| i.key.partition == ledger::PARTITION).filter_map(|i| i.value[field].as_i64()).sum()
    }
}

fn result(id: &str) -> String {
    format!(r#"{{"id":"{id}","source":"game","type":"game.result","data":{{"play_id":"p"}}}}"#)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn noise(len: usize) -> String {
    let mut seed = 1u64;
    let next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + ((seed >> 33) % 75) as u8)
    };
    std::iter::repeat_with(next).filter(|c| *c != '"' && *c != '\\').take(len).collect()
}

#[tokio::test]
async fn an_event_is_stamped_and_published_before_the_answer() {
    let rig = Rig::new().await;
    let mut request = rig.request("application/json", result("1"));
    request.headers.insert("user-agent".into(), "a".repeat(511) + "가");
    let (reply, body) = rig.send(&request).await;
    assert_eq!(
        (reply.status, &body["accepted"], &body["rejected"], &body["errors"]),
        (202, &json!(1), &json!(0), &json!([]))
    );
    let messages = rig.topic.inner().published();
    let header = message::read_header(&messages[0].body).unwrap();
    assert_eq!(body["batch"], json!([header.batch]));
    assert_eq!(header.received, "2026-11-21T10:00:00.000000Z");
    assert_eq!(header.clientip.as_deref(), Some("203.0.113.0"));
    assert_eq!(header.useragent, Some("a".repeat(511)));
    assert_eq!(messages[0].attributes, BTreeMap::from([("areas".into(), vec!["game".to_owned()])]));
    assert_eq!((messages[0].events, rig.count("game.result", "accepted")), (1, 1));
    assert_eq!(rig.published()[0]["data"], json!({"play_id": "p"}));
}

#[tokio::test]
async fn every_form_of_the_specification_is_taken() {
    let rig = Rig::new().await;
    let (a, b) = (result("a"), result("b"));
    let array = format!("[{a},{b}]");
    let lines = format!("\u{feff}{a}\r\n\n  \n{b}\r\n");
    let forms: [(&str, String, &[&str]); 12] = [
        ("application/cloudevents+json", a.clone(), &["a"]),
        ("application/cloudevents+json; charset=UTF-8", a.clone(), &["a"]),
        ("application/cloudevents-batch+json", array.clone(), &["a", "b"]),
        ("application/json", a.clone(), &["a"]),
        ("Application/JSON;charset=utf-8", array.clone(), &["a", "b"]),
        ("application/json", format!("\u{feff} \n{array}"), &["a", "b"]),
        ("text/plain;charset=UTF-8", a.clone(), &["a"]),
        ("text/plain", array.clone(), &["a", "b"]),
        ("application/x-ndjson", lines, &["a", "b"]),
        ("application/x-ndjson", a.clone(), &["a"]),
        ("", a.clone(), &["a"]),
        ("", array.clone(), &["a", "b"]),
    ];
    for (media, body, ids) in forms {
        assert_eq!(rig.post(media, body.clone()).await.0, 202, "{media} {body}");
        assert_eq!(rig.ids(), ids, "{media} {body}");
        for (encoding, packed) in
            [("gzip", gzip(body.as_bytes())), ("zstd", zstd::bulk::compress(body.as_bytes(), 1).unwrap())]
        {
            let mut request = rig.request(media, packed);
            request.headers.insert("content-encoding".into(), encoding.into());
            assert_eq!(rig.send(&request).await.0.status, 202, "{media} {encoding} {body}");
            assert_eq!(rig.ids(), ids, "{media} {encoding}");
        }
    }
}

#[tokio::test]
async fn binary_mode_takes_attributes_from_headers_and_data_from_the_body() {
    let rig = Rig::new().await;
    let binary = |media: &str, body: &'static [u8], more: &[(&str, &str)]| {
        let mut request = rig.request(media, body);
        for (name, value) in
            [("specversion", "1.0"), ("id", "a"), ("source", "game"), ("type", "game.result")].iter().chain(more)
        {
            request.headers.insert(format!("ce-{name}"), (*value).to_owned());
        }
        request
    };
    let request = binary("application/json", b" {\"play_id\":\"p\"} ", &[("subject", "Euro%20%E2%82%AC%20%22q%22")]);
    assert_eq!(rig.send(&request).await.0.status, 202);
    let event = rig.published().remove(0);
    assert_eq!(
        (&event["id"], &event["subject"], &event["data"]),
        (&json!("a"), &json!("Euro € \"q\""), &json!({"play_id": "p"}))
    );
    assert_eq!(event["datacontenttype"], "application/json");

    for (media, body, data) in [
        ("text/csv", b"a,\"b\"".as_slice(), json!("a,\"b\"")),
        ("image/png", b"\x89PNG", json!("iVBORw==")),
        ("application/vnd.x+json", b"[1]", json!([1])),
        ("", b"", Json::Null),
    ] {
        let request = binary(media, body, &[("type", "file.sent")]);
        assert_eq!(rig.send(&request).await.0.status, 202, "{media}");
        let event = rig.published().remove(0);
        assert_eq!(event.get("data").or(event.get("data_base64")).unwrap_or(&Json::Null), &data, "{media}");
    }

    for (request, code, pointer) in [
        (binary("application/json", b"{\"play_id\":NaN}", &[]), "malformed_json", "/data/play_id"),
        (binary("application/json", b"{}", &[]), "schema", "/data/play_id"),
        (binary("application/json", b"{}", &[("subject", "%FF")]), "invalid_utf8", "/subject"),
        (binary("text/plain", b"\xff", &[]), "invalid_utf8", "/data"),
        (binary("text/plain", b"x", &[("data", "1")]), "envelope", "/data"),
        (binary("application/json", b"{}", &[("source", "bank")]), "forbidden_source", "/source"),
        (binary("application/json", b"{}", &[("specversion", "0.3")]), "specversion", "/specversion"),
    ] {
        let (reply, body) = rig.send(&request).await;
        assert_eq!(reply.status, if code == "forbidden_source" { 403 } else { 400 }, "{body}");
        assert_eq!((&body["errors"][0]["code"], &body["errors"][0]["pointer"]), (&json!(code), &json!(pointer)));
    }
    // What is kept of a binary event is the whole event, not its data alone.
    let kept = rig.kept();
    let event: Json = serde_json::from_slice(&kept.iter().find(|k| k.code == "schema").unwrap().bytes).unwrap();
    assert_eq!((&event["id"], &event["data"]), (&json!("a"), &json!({})));
}

/// The table of issue "Bad input": what stands between two good events in an array, with its status when it stands alone.
fn bad_events() -> Vec<(String, u16, &'static str, &'static str)> {
    let with = |data: &str| format!(r#"{{"id":"x","source":"game","type":"game.result","data":{data}}}"#);
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    vec![
        (r#"{"id":"x","source":"game" "type":1}"#.into(), 400, "malformed_json", ""),
        (with(r#"{"play_id":"p","total":"7"}"#), 400, "schema", "/data/total"),
        (with(r#"{"play_id":7}"#), 400, "schema", "/data/play_id"),
        (with("{}"), 400, "schema", "/data/play_id"),
        (with(r#"{"play_id":"p","rate":NaN}"#), 400, "malformed_json", "/data/rate"),
        (with(r#"{"play_id":"p","rate":-Infinity}"#), 400, "malformed_json", "/data/rate"),
        (with(r#"{"play_id":"p","rate":1e999}"#), 400, "schema", "/data/rate"),
        (with(r#"{"play_id":"p","total":9223372036854775808}"#), 400, "schema", "/data/total"),
        (with(r#"{"play_id":"p","total":123456789012345678901234567890}"#), 400, "schema", "/data/total"),
        (with(r#"{"play_id":"p","fine":1.005}"#), 400, "schema", "/data/fine"),
        (with(r#"{"play_id":"p","play_id":"q"}"#), 400, "duplicate_key", "/data"),
        (with(r#"{"play_id":"p","total":-1}"#), 400, "schema", "/data/total"),
        (
            with(&format!(r#"{{"play_id":"p","x":{}}}"#, deep(20))),
            400,
            "too_deep",
            "/data/x/0/0/0/0/0/0/0/0/0/0/0/0/0/0",
        ),
        (r#"{"id":"x","type":"game.result","data":{"play_id":"p"}}"#.into(), 400, "envelope", "/source"),
        (r#"{"id":"x","source":"game","data":{"play_id":"p"}}"#.into(), 400, "envelope", "/type"),
        (r#"{"id":7,"source":"game","type":"a.b"}"#.into(), 400, "envelope", "/id"),
        (format!(r#"{{"id":"{}","source":"game","type":"a.b"}}"#, "i".repeat(129)), 400, "envelope", "/id"),
        (r#"{"id":"x","source":"game","type":"a.b","time":"yesterday"}"#.into(), 400, "time", "/time"),
        (r#"{"id":"x","source":"bank","type":"a.b"}"#.into(), 403, "forbidden_source", "/source"),
        (r#"{"id":"x","source":"game","type":"alert.fired"}"#.into(), 403, "reserved_type", "/type"),
        (r#"{"id":"x","source":"game","type":"scenario.result"}"#.into(), 403, "reserved_type", "/type"),
        (r#"{"id":"x","source":"game","type":"sluice.audit"}"#.into(), 403, "reserved_type", "/type"),
        ("7".into(), 400, "schema", ""),
        ("null".into(), 400, "schema", ""),
        (r#""text""#.into(), 400, "schema", ""),
        (with(&format!(r#"{{"play_id":"p","x":"{}"}}"#, noise(400_000))), 413, "too_large", ""),
    ]
}

#[tokio::test]
async fn each_kind_of_bad_event_is_named_and_its_neighbours_are_stored() {
    for (bad, alone, code, pointer) in bad_events() {
        let shown: String = bad.chars().take(120).collect();
        let rig = Rig::new().await;
        for (media, body, index) in [
            ("application/json", format!("[{},{bad},{}]", result("a"), result("b")), 1),
            ("application/cloudevents-batch+json", format!("[{},{bad},{}]", result("a"), result("b")), 1),
            ("application/x-ndjson", format!("{}\n{bad}\n{}", result("a"), result("b")), 1),
        ] {
            let (status, reply) = rig.post(media, body).await;
            assert_eq!(
                (status, &reply["accepted"], &reply["rejected"]),
                (202, &json!(2), &json!(1)),
                "{shown}: {reply}"
            );
            let error = &reply["errors"][0];
            assert_eq!(
                (&error["index"], &error["code"], &error["pointer"]),
                (&json!(index), &json!(code), &json!(pointer)),
                "{shown}"
            );
            assert_eq!(rig.ids(), ["a", "b"], "{shown}");
            let kept = rig.kept();
            assert_eq!(reply["kept"], json!(kept.len()));
            if alone == 403 {
                assert!(kept.is_empty(), "{shown}");
            } else {
                let bytes = bad.as_bytes();
                assert_eq!(
                    (&kept[0].bytes[..], kept[0].code.as_str(), kept[0].pointer.as_str()),
                    (bytes, code, pointer),
                    "{shown}"
                );
            }
        }
        assert_eq!((rig.total("accepted"), rig.total("rejected")), (6, 3), "{shown}");
        let (status, reply) = rig.post("application/json", bad).await;
        assert_eq!(
            (status, &reply["accepted"], &reply["errors"][0]["index"]),
            (alone, &json!(0), &json!(0)),
            "{shown}: {reply}"
        );
        assert!(reply["errors"][0]["reason"].as_str().is_some_and(|r| !r.is_empty() && r.len() <= 256), "{shown}");
        assert!(rig.published().is_empty());
    }
}

#[tokio::test]
async fn bad_utf8_rejects_its_own_event_only() {
    let rig = Rig::new().await;
    let bad = b"{\"id\":\"x\xff\",\"source\":\"game\",\"type\":\"a.b\"}";
    for (media, open, between, close) in [("application/json", "[", ",", "]"), ("application/x-ndjson", "", "\n", "")] {
        let (a, b) = (result("a"), result("b"));
        let mut body = Vec::new();
        for part in
            [open.as_bytes(), a.as_bytes(), between.as_bytes(), bad, between.as_bytes(), b.as_bytes(), close.as_bytes()]
        {
            body.extend_from_slice(part);
        }
        let at = open.len() + a.len() + between.len() + 8;
        let (status, reply) = rig.post(media, body).await;
        assert_eq!(
            (status, &reply["errors"][0]["code"], &reply["errors"][0]["index"]),
            (202, &json!("invalid_utf8"), &json!(1))
        );
        assert_eq!(reply["errors"][0]["reason"], json!(format!("not UTF-8 at byte {at}")));
        assert_eq!((rig.ids(), rig.kept()[0].bytes.as_slice()), (vec!["a".to_owned(), "b".into()], bad.as_slice()));
    }
}

#[tokio::test]
async fn a_body_that_is_refused_whole_has_its_status_and_is_kept_as_one() {
    let bomb = zstd::bulk::compress(&vec![b' '; 20 * 1024 * 1024], 1).unwrap();
    let gzip_bomb = gzip(&vec![b'['; 20 * 1024 * 1024]);
    let good = result("a");
    let many = format!("[{}]", vec!["1"; 10_001].join(","));
    let commas = vec![b'['].into_iter().chain(std::iter::repeat_n(b',', 4_000_000)).collect::<Vec<u8>>();
    let cases: Vec<(&str, &str, Vec<u8>, u16, &str)> = vec![
        ("application/json", "", b"hello".to_vec(), 400, "malformed_json"),
        ("application/json", "", b"{\"id\":".to_vec(), 400, "malformed_json"),
        ("application/json", "", [good.as_bytes(), b"\n", good.as_bytes()].concat(), 400, "malformed_json"),
        ("application/json", "", vec![0xff, 0xfe], 400, "invalid_utf8"),
        ("application/cloudevents+json", "", format!("[{good}]").into(), 400, "schema"),
        ("application/cloudevents-batch+json", "", good.clone().into(), 400, "malformed_json"),
        ("application/json", "", vec![b'x'; 10 * 1024 * 1024], 413, "too_large"),
        ("application/json", "zstd", bomb, 413, "too_large"),
        ("application/json", "gzip", gzip_bomb, 413, "too_large"),
        ("application/json", "gzip", b"not gzip".to_vec(), 400, "malformed_encoding"),
        ("application/json", "gzip", gzip(good.as_bytes())[..30].to_vec(), 400, "malformed_encoding"),
        ("application/json", "zstd", b"not zstd".to_vec(), 400, "malformed_encoding"),
        ("application/json", "br", good.clone().into(), 415, "unsupported_encoding"),
        ("application/json", "gzip, zstd", good.clone().into(), 415, "unsupported_encoding"),
        ("application/json; charset=euc-kr", "", good.clone().into(), 415, "unsupported_type"),
        ("application/xml", "", good.clone().into(), 415, "unsupported_type"),
        ("application/x-www-form-urlencoded", "", good.clone().into(), 415, "unsupported_type"),
        ("application/json", "", many.into(), 413, "too_many_events"),
        ("application/json", "", commas, 413, "too_many_events"),
        ("application/x-ndjson", "", "1\n".repeat(10_001).into(), 413, "too_many_events"),
    ];
    for (media, encoding, body, status, code) in cases {
        let rig = Rig::new().await;
        let mut request = rig.request(media, body.clone());
        if !encoding.is_empty() {
            request.headers.insert("content-encoding".into(), encoding.into());
        }
        let (reply, answer) = rig.send(&request).await;
        let first = (&answer["errors"][0]["code"], &answer["accepted"], &answer["rejected"], &answer["kept"]);
        assert_eq!(
            (reply.status, first),
            (status, (&json!(code), &json!(0), &json!(1), &json!(1))),
            "{media} {encoding} {answer}"
        );
        assert!(!answer["error"]["code"].as_str().unwrap().is_empty());
        assert!(rig.published().is_empty());
        let kept = rig.kept().remove(0);
        assert_eq!((kept.code.as_str(), kept.size_bytes), (code, body.len() as u64), "{media} {encoding}");
        assert!(body == kept.bytes, "{media} {encoding}");
        assert_eq!((rig.total("accepted"), rig.total("rejected")), (0, 1));
    }
}

#[tokio::test]
async fn malformed_json_says_at_which_byte() {
    let rig = Rig::new().await;
    let (_, reply) = rig.post("application/json", "  {\"a\" 1}").await;
    assert_eq!(reply["errors"][0]["reason"], "unexpected `1` at byte 7");
    let (_, reply) = rig.post("application/json", "{}\n{}").await;
    let reason = "text after the value at byte 3; one event per line is `application/x-ndjson`";
    assert_eq!(reply["errors"][0]["reason"], reason);
}

#[tokio::test]
async fn nothing_in_a_body_is_no_event_and_leaves_nothing_to_keep() {
    let rig = Rig::new().await;
    for (media, body) in
        [("application/json", ""), ("application/json", " [ ] "), ("application/x-ndjson", "\r\n \n"), ("", "\u{feff}")]
    {
        let (status, reply) = rig.post(media, body).await;
        assert_eq!(
            (status, &reply["error"]["code"], &reply["rejected"]),
            (400, &json!("no_events"), &json!(0)),
            "{media} {body:?}"
        );
    }
    assert!(rig.quarantine.inner().sent().is_empty());
}

#[tokio::test]
async fn a_broken_array_still_gives_its_whole_elements() {
    let rig = Rig::new().await;
    for (body, accepted, rejected) in [
        (format!("[{},", result("a")), 1, 1),
        (format!("[{}", result("a")), 1, 0),
        (format!("[{},]", result("a")), 1, 1),
        (format!("[{}] rest", result("a")), 1, 1),
        (format!("[,{}]", result("a")), 1, 1),
    ] {
        let (status, reply) = rig.post("application/json", body.clone()).await;
        assert_eq!(
            (status, &reply["accepted"], &reply["rejected"]),
            (202, &json!(accepted), &json!(rejected)),
            "{body}"
        );
    }
}

#[tokio::test]
async fn keys_decide_before_anything_is_read() {
    let rig = Rig::new().await;
    let (read, _) = rig.keys.create(KeySpec::read(), None, now()).await.unwrap();
    let (admin, _) = rig.keys.create(KeySpec::admin(), None, now()).await.unwrap();
    let (old, record) = rig.keys.create(KeySpec::write(["game"]), None, now()).await.unwrap();
    rig.keys.revoke(&record.id, now()).await.unwrap();
    let with = |name: &str, value: String| {
        let mut request = rig.request("application/json", "rubbish");
        request.headers.remove("authorization");
        match name {
            "" => {}
            "key" => request.query.push(("key".into(), value)),
            name => drop(request.headers.insert(name.into(), value)),
        }
        request
    };
    for (request, status) in [
        (with("", String::new()), 401),
        (with("x-write-key", "sk_write_unknown".into()), 401),
        (with("authorization", format!("Bearer {old}")), 401),
        (with("authorization", format!("Bearer {read}")), 403),
        (with("key", admin.clone()), 403),
        (with("key", rig.secret.clone()), 400),
        (with("x-write-key", rig.secret.clone()), 400),
        (with("authorization", format!("Bearer {admin}")), 400),
    ] {
        let (reply, body) = rig.send(&request).await;
        assert_eq!(reply.status, status, "{body}");
        assert!(body["error"]["code"].is_string());
        assert_eq!(rig.kept().len(), usize::from(status == 400), "{body}");
    }
}

#[tokio::test]
async fn a_key_gives_its_only_source_to_events_that_name_none() {
    let rig = Rig::with(settings(), KeySpec::write(["shop"])).await;
    assert_eq!(rig.post("", r#"{"type":"a.b"}"#).await.0, 202);
    assert_eq!(rig.published()[0]["source"], "shop");
}

#[tokio::test]
async fn a_key_writes_only_its_types_and_an_admin_key_any_source_but_no_reserved_area() {
    let spec = KeySpec { types: vec!["a.b".into()], ..KeySpec::write(["shop"]) };
    let rig = Rig::with(settings(), spec).await;
    let (status, reply) = rig.post("", r#"[{"type":"a.b"},{"type":"a.c"}]"#).await;
    assert_eq!(
        (status, &reply["errors"][0]["code"], &reply["errors"][0]["index"]),
        (202, &json!("forbidden_type"), &json!(1))
    );
    let rig = Rig::with(settings(), KeySpec::admin()).await;
    assert_eq!(rig.post("", r#"{"source":"any","type":"a.b"}"#).await.0, 202);
    assert_eq!(rig.post("", r#"{"source":"any","type":"alert.resolved"}"#).await.0, 403);
}

#[tokio::test]
async fn types_without_a_schema_and_unknown_fields_are_accepted() {
    let rig = Rig::new().await;
    let body = r#"[{"source":"game","type":"Some Text!","data":7},{"source":"game","type":"game.result","data":{"play_id":"p","more":[1]},"more":{"a":1}}]"#;
    let (status, reply) = rig.post("", body).await;
    assert_eq!((status, &reply["accepted"]), (202, &json!(2)));
    let events = rig.published();
    assert_eq!(
        (&events[0]["data"], &events[1]["data"]["more"], &events[1]["extra"]),
        (&json!(7), &json!([1]), &json!({"more": {"a": 1}}))
    );
    assert_eq!((rig.count("other", "accepted"), rig.count("game.result", "accepted")), (1, 1));
}

#[tokio::test]
async fn impossible_clocks_are_replaced_and_counted_and_imports_keep_theirs() {
    let old = r#"{"source":"game","type":"a.b","time":"2015-05-17T10:05:03Z"}"#;
    let rig = Rig::new().await;
    assert_eq!(rig.post("", old).await.0, 202);
    let event = rig.published().remove(0);
    assert_eq!(
        (&event["time"], &event["extra"]["original_time"]),
        (&json!("2026-11-21T10:00:00.000000Z"), &json!("2015-05-17T10:05:03Z"))
    );
    assert_eq!(rig.count("a.b", "clock_replaced"), 1);
    let rig = Rig::with(settings(), KeySpec { max_age_days: None, ..KeySpec::write(["game"]) }).await;
    assert_eq!(rig.post("", old).await.0, 202);
    assert_eq!(rig.published()[0]["time"], "2015-05-17T10:05:03.000000Z");
    assert_eq!(rig.count("a.b", "clock_replaced"), 0);
}

#[tokio::test]
async fn ten_thousand_hours_in_one_request_are_all_accepted() {
    let rig = Rig::with(settings(), KeySpec { max_age_days: None, ..KeySpec::write(["game"]) }).await;
    let events: Vec<String> = (0..10_000)
        .map(|n| {
            format!(
                r#"{{"id":"{n}","source":"game","type":"a.b","time":{}}}"#,
                now().plus_micros(-n * HOUR_US).micros()
            )
        })
        .collect();
    let (status, reply) = rig.post("", format!("[{}]", events.join(","))).await;
    let messages = rig.topic.inner().published();
    let publishes: std::collections::BTreeSet<_> =
        messages.iter().map(|m| message::read_header(&m.body).unwrap().publish).collect();
    assert_eq!(publishes.len(), messages.len());
    assert_eq!((status, &reply["accepted"], rig.published().len()), (202, &json!(10_000), 10_000));
    let batches = reply["batch"].as_array().unwrap();
    assert!(batches.len() > 1 && batches.iter().enumerate().all(|(at, b)| !batches[..at].contains(b)), "{batches:?}");
    assert_eq!(rig.total("accepted"), 10_000);
}

#[tokio::test]
async fn a_repeated_request_has_the_same_batches() {
    let rig = Rig::new().await;
    let request = |body: &str, idempotency_key: &str| {
        let mut request = rig.request("", body.to_owned());
        if !idempotency_key.is_empty() {
            request.headers.insert("idempotency-key".into(), idempotency_key.into());
        }
        request
    };
    let send = async |body: &str, idempotency_key: &str, later_us: i64| {
        let reply = rig.ingest.handle(&request(body, idempotency_key), now().plus_micros(later_us)).await;
        let reply: Json = serde_json::from_slice(&reply.body).unwrap();
        (reply["batch"].clone(), rig.ids())
    };
    let named = format!("[{},{}]", result("a"), result("b"));
    let anonymous = r#"[{"source":"game","type":"a.b"},{"source":"game","type":"a.c"}]"#;
    assert_eq!(send(&named, "", 0).await, send(&named, "", DAY_US).await);
    assert_eq!(send(anonymous, "k", 0).await, send(anonymous, "k", DAY_US).await);
    let mut seen = vec![
        send(&named, "", 0).await.0,
        send(&result("a"), "", 0).await.0,
        send(&result("a").replace("game\"", "shop\""), "", 0).await.0,
        send(&result("a").replace("\"data\"", "\"time\":1795251600,\"data\""), "", 0).await.0,
        send(&named, "k", 0).await.0,
        send(&named, "l", 0).await.0,
        send(anonymous, "", 0).await.0,
        send(anonymous, "", 0).await.0,
        send(&anonymous.replacen('[', &format!("[{},", result("a")), 1), "", 0).await.0,
    ];
    let other = Rig::new().await;
    seen.push(other.post("", named.clone()).await.1["batch"].clone());
    for (at, batch) in seen.iter().enumerate() {
        assert!(batch.as_array().is_some_and(|b| b.len() == 1) && !seen[..at].contains(batch), "{at}: {seen:?}");
    }
    let ids = send(anonymous, "", 0).await.1;
    assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'7'), "{ids:?}");
    assert_ne!(send(anonymous, "k", 0).await.1, send(anonymous, "l", 0).await.1);
}

#[tokio::test]
async fn another_set_of_accepted_events_is_another_batch() {
    // If the second event is rejected now and accepted later, the later batch must not count as stored.
    let rig = Rig::new().await;
    let body = |middle: &str| format!("[{},{middle},{}]", result("a"), result("c"));
    for idempotency_key in ["", "k"] {
        let mut batches = Vec::new();
        for middle in [result("b"), "NaN".into()] {
            let mut request = rig.request("", body(&middle));
            if !idempotency_key.is_empty() {
                request.headers.insert("idempotency-key".into(), idempotency_key.into());
            }
            batches.push(rig.send(&request).await.1["batch"].clone());
        }
        assert_ne!(batches[0], batches[1]);
    }
}

#[tokio::test]
async fn idempotency_keys_are_bounded() {
    let rig = Rig::new().await;
    for (given, status) in [("k".repeat(256), 202), ("k".repeat(257), 400), (String::new(), 400)] {
        let mut request = rig.request("", result("a"));
        request.headers.insert("idempotency-key".into(), given.clone());
        let (reply, body) = rig.send(&request).await;
        assert_eq!(reply.status, status, "{} {body}", given.len());
    }
}

#[tokio::test]
async fn a_topic_that_takes_nothing_slows_the_sender_and_keeps_nothing() {
    let body = format!("[{},NaN]", result("a"));
    for (kind, status) in
        [(ErrorKind::Throttled, 429), (ErrorKind::Unavailable, 503), (ErrorKind::Full, 503), (ErrorKind::Denied, 503)]
    {
        let rig = Rig::new().await;
        rig.topic.script("topic.publish", [Fault::Before(kind)]);
        let (reply, answer) = rig.send(&rig.request("", body.clone())).await;
        assert_eq!(
            (reply.status, &answer["accepted"], &answer["rejected"], &answer["unavailable"], &answer["kept"]),
            (status, &json!(0), &json!(1), &json!(1), &json!(0))
        );
        assert!(reply.headers["retry-after"].parse::<u64>().unwrap() >= 1);
        assert_eq!(
            (&answer["errors"][0]["code"], &answer["errors"][1]["code"]),
            (&json!("unavailable"), &json!("malformed_json"))
        );
        assert!(rig.quarantine.inner().sent().is_empty());
        assert_eq!((rig.total("accepted"), rig.total("rejected")), (0, 0));
        // The same request again is taken, and only now counted.
        assert_eq!(rig.post("", body.clone()).await.0, 202);
        assert_eq!((rig.total("accepted"), rig.total("rejected")), (1, 1));
    }
}

#[tokio::test]
async fn a_lost_answer_of_the_topic_is_repeated_with_the_same_batch() {
    let rig = Rig::new().await;
    rig.topic.script("topic.publish", [Fault::After]);
    let request = rig.request("", format!("[{},{}]", result("a"), result("b")));
    assert_eq!(rig.send(&request).await.0.status, 503);
    assert_eq!(rig.send(&request).await.0.status, 202);
    let headers: Vec<message::Header> =
        rig.topic.inner().take().iter().map(|m| message::read_header(&m.body).unwrap()).collect();
    assert!(headers.len() == 2 && headers[0].batch == headers[1].batch, "{headers:?}");
    // Both publishes counted the events as accepted; a sink tells them apart.
    assert!(headers[0].publish.is_some() && headers[0].publish != headers[1].publish, "{headers:?}");
}

#[tokio::test]
async fn parts_that_fail_are_named_by_index_and_the_others_stay_accepted() {
    let rig = Rig::new().await;
    rig.topic.script("topic.publish", [Fault::Items(vec![1], ErrorKind::Throttled)]);
    let events: Vec<String> = (0..1_500)
        .map(|n| format!(r#"{{"id":"{n}","source":"game","type":"a.b","data":"{}"}}"#, "x".repeat(1_000)))
        .collect();
    let (answer, reply) = rig.send(&rig.request("", format!("[{}]", events.join(",")))).await;
    let stored = rig.ids();
    let lost = 1_500 - stored.len();
    assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (202, "1"));
    assert_eq!(
        (&reply["accepted"], &reply["rejected"], &reply["unavailable"]),
        (&json!(stored.len()), &json!(0), &json!(lost))
    );
    assert!(lost > 100 && reply["errors"].as_array().unwrap().len() == MAX_SHOWN_ERRORS);
    let first = reply["errors"][0]["index"].as_u64().unwrap();
    assert_eq!(reply["errors"][0]["code"], "unavailable");
    assert!(!stored.contains(&first.to_string()) && stored.contains(&(first - 1).to_string()));
    assert_eq!((rig.total("accepted"), rig.total("rejected")), (stored.len() as i64, 0));
    assert!(rig.kept().is_empty());
}

#[tokio::test]
async fn a_quarantine_that_is_down_is_not_claimed_to_have_kept() {
    let rig = Rig::new().await;
    rig.quarantine
        .script("queue.send", [Fault::Before(ErrorKind::Unavailable), Fault::Items(vec![0], ErrorKind::Full)]);
    let body = format!("[{},NaN,NaN]", result("a"));
    for kept in [0, 1, 2] {
        let (status, reply) = rig.post("", body.clone()).await;
        assert_eq!((status, &reply["rejected"], &reply["kept"]), (202, &json!(2), &json!(kept)));
    }
}

#[tokio::test]
async fn rejections_beyond_the_hourly_allowance_are_counted_only() {
    let settings = IngestSettings { quarantine_per_key_hour: 5, ..settings() };
    let rig = Rig::with(settings, KeySpec::write(["game"])).await;
    let bad = r#"{"source":"game","type":"game.result"}"#;
    let (status, reply) = rig.post("", format!("[{bad},{bad},{bad},{bad}]")).await;
    assert_eq!((status, &reply["kept"]), (400, &json!(4)));
    let (_, reply) = rig.post("", format!("[{bad},{bad},{bad},{bad}]")).await;
    assert_eq!((&reply["rejected"], &reply["kept"]), (&json!(4), &json!(1)));
    let kept = rig.kept();
    assert_eq!((kept.len(), rig.count("game.result", "rejected")), (5, 8));
    // Equal bytes in one request are rejections of their own.
    assert!(kept.iter().enumerate().all(|(at, k)| kept[..at].iter().all(|other| other.id != k.id)));
    let later = rig.ingest.handle(&rig.request("", bad), now().plus_micros(HOUR_US)).await;
    assert!(String::from_utf8_lossy(&later.body).contains("\"kept\":1"));
}

#[tokio::test]
async fn a_key_with_a_rate_is_slowed() {
    let spec = KeySpec { rate_per_s: Some(2), ..KeySpec::write(["game"]) };
    let rig = Rig::with(settings(), spec).await;
    let body = format!("[{}]", vec![result("a"); 20].join(","));
    let request = rig.request("", body);
    assert_eq!(rig.ingest.handle(&request, now()).await.status, 202);
    let reply = rig.ingest.handle(&request, now()).await;
    assert_eq!((reply.status, reply.headers["retry-after"].as_str()), (429, "1"));
    assert!(reply.headers.contains_key("access-control-allow-origin"));
    assert_eq!(rig.ingest.handle(&request, now().plus_micros(SECOND_US)).await.status, 202);
    assert_eq!(rig.ingest.handle(&request, now().plus_micros(2 * SECOND_US)).await.headers["retry-after"], "9");
    assert_eq!(rig.total("rejected"), 0);
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_where_a_key_names_its_own() {
    let spec = KeySpec { origins: vec!["https://shop.example/".into()], ..KeySpec::write(["game"]) };
    let rig = Rig::with(settings(), spec).await;
    for (origin, status) in [(Some("https://shop.example"), 202), (Some("https://evil.example"), 403), (None, 403)] {
        let mut request = rig.request("text/plain", result("a"));
        if let Some(origin) = origin {
            request.headers.insert("origin".into(), origin.into());
        }
        let (reply, _) = rig.send(&request).await;
        assert_eq!(reply.status, status, "{origin:?}");
        let allowed = reply.headers.get("access-control-allow-origin").map(String::as_str);
        assert_eq!(allowed, origin.filter(|_| status == 202));
    }
}

#[tokio::test]
async fn a_preflight_is_answered_for_any_origin_without_a_key() {
    let rig = Rig::new().await;
    let headers = BTreeMap::from([
        ("origin".to_owned(), "https://shop.example".to_owned()),
        ("access-control-request-headers".to_owned(), "content-type,ce-id".to_owned()),
    ]);
    let mut request = Request { method: "OPTIONS".into(), path: "/v1/events".into(), headers, ..Request::default() };
    let reply = rig.ingest.handle(&request, now()).await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    assert_eq!(reply.headers["access-control-allow-origin"], "https://shop.example");
    assert_eq!(reply.headers["access-control-allow-headers"], "content-type,ce-id");
    request.headers.insert("access-control-request-headers".into(), "x\u{e9}".into());
    let reply = rig.ingest.handle(&request, now()).await;
    assert!(reply.headers["access-control-allow-headers"].contains("x-write-key"));
}

/// Sends to a route of the first Square-Blitz server, which has no key of its own.
async fn play(rig: &Rig, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let body = Bytes::from(body.to_owned());
    let request = Request { method: "POST".into(), path: path.into(), headers, body, ..Request::default() };
    rig.ingest.handle(&request, now()).await
}

const START: &str =
    r#"{"userId":7,"timestamp":"2026-11-21T09:59:00Z","event":"game_start","details":{"clickedAt":1795255140000}}"#;
const DATA: &str = r#"{"userId":"7","timestamp":1795255199,"totalSquares":50,"clickedCount":60,"successRate":120}"#;

/// The stage with the schemas that a deployment has, and the public game's key.
async fn game() -> Rig {
    let rig = Rig::with_schemas(
        settings(),
        KeySpec::write(["game"]),
        [
            ("event.json", EVENT),
            ("start.json", include_str!("../../../../schemas/game.start.json")),
            ("result.json", include_str!("../../../../schemas/game.result.json")),
        ],
    );
    let rig = rig.await;
    rig.keys.make_game_key(vec!["https://play.example".into()], now()).await.unwrap();
    rig
}

#[tokio::test]
async fn the_first_square_blitz_pages_are_answered_as_they_were_and_become_events() {
    let rig = game().await;
    let origin = ("origin", "https://play.example");
    for (path, body, media) in
        [("/api/log-game-start", START, "application/json"), ("/api/log-game-data", DATA, "text/plain;charset=UTF-8")]
    {
        let reply = play(&rig, path, &[origin, ("content-type", media)], body).await;
        assert_eq!((reply.status, reply.body.as_ref()), (200, b"Log saved".as_slice()), "{path}");
        assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(reply.headers["access-control-allow-origin"], "https://play.example");
    }
    let events = rig.published();
    let (start, result) = (&events[0], &events[1]);
    assert_eq!((&start["userid"], &result["userid"]), (&json!("7"), &json!("7")), "number and text are one user");
    assert_eq!((&start["type"], &start["source"]), (&json!("game.start"), &json!("square-blitz")));
    assert_eq!(
        (&start["time"], &start["data"]["clicked_at"]),
        (&json!("2026-11-21T09:59:00.000000Z"), &json!("2026-11-21T09:59:00.000000Z"))
    );
    let data = &result["data"];
    assert_eq!(
        (&data["total_squares"], &data["clicked_count"], &data["success_rate"]),
        (&json!(50), &json!(50), &json!(100.0))
    );
    assert_eq!(data["suspect"], "clicks_above_total,rate_out_of_range");
    assert_eq!(data["legacy"], json!({"clickedCount": 60, "successRate": 120}));
    assert_eq!(rig.count("game.result", "accepted"), 1);
}

#[tokio::test]
async fn an_old_page_is_answered_only_when_the_topic_has_its_play() {
    let rig = game().await;
    let headers = [("origin", "https://play.example")];
    rig.topic.script("topic.publish", [Fault::Before(ErrorKind::Unavailable), Fault::Before(ErrorKind::Throttled)]);
    for status in [503, 429] {
        let reply = play(&rig, "/api/log-game-data", &headers, DATA).await;
        assert_eq!(reply.status, status);
        assert!(reply.headers.contains_key("retry-after") && !reply.body.starts_with(b"Log"));
    }
    assert_eq!(play(&rig, "/api/log-game-data", &headers, DATA).await.status, 200);
    assert_eq!(play(&rig, "/api/log-game-data", &headers, DATA).await.status, 200);
    let ids = rig.ids();
    assert!(ids.len() == 2 && ids[0] != ids[1], "two that send the same are two plays: {ids:?}");
}

#[tokio::test]
async fn what_an_old_page_sends_wrong_is_named_and_kept() {
    let rig = game().await;
    let headers = [("origin", "https://play.example")];
    for (body, pointer) in [
        (r#"{"userId":1,"totalSquares":5}"#, "/clickedCount"),
        (r#"{"userId":1,"totalSquares":2000000,"clickedCount":1}"#, "/data/total_squares"),
        (r#"{"userId":1,"timestamp":"soon","totalSquares":5,"clickedCount":1}"#, "/time"),
        ("not JSON", ""),
    ] {
        let reply = play(&rig, "/api/log-game-data", &headers, body).await;
        let answer: Json = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, &answer["errors"][0]["pointer"]), (400, &json!(pointer)), "{body}");
        assert_eq!(rig.kept().len(), 1, "{body}");
    }
    assert!(rig.published().is_empty());
    let large = format!(r#"{{"userId":"{}"}}"#, "x".repeat(5_000_000));
    assert_eq!(play(&rig, "/api/log-game-data", &headers, &large).await.status, 413);
}

#[tokio::test]
async fn the_old_routes_have_the_bounds_of_the_public_game() {
    let rig = game().await;
    let from = |origin: &'static str| [("origin", origin), ("content-type", "application/json")];
    assert_eq!(play(&rig, "/api/log-game-data", &from("https://evil.example"), DATA).await.status, 403);
    // A key that the request brings is not asked.
    let mut headers = from("https://play.example").to_vec();
    headers.push(("authorization", "Bearer nobody"));
    assert_eq!(play(&rig, "/api/log-game-data", &headers, DATA).await.status, 200);
    let id = rig.keys.game_key(now()).await.unwrap().unwrap().1.id.clone();
    rig.keys.revoke(&id, now()).await.unwrap();
    assert_eq!(play(&rig, "/api/log-game-data", &from("https://play.example"), DATA).await.status, 403);
    let closed = Rig::new().await;
    assert_eq!(play(&closed, "/api/log-game-start", &[], START).await.status, 403);
}

#[tokio::test]
async fn other_paths_and_methods_have_their_status() {
    let rig = Rig::new().await;
    for (method, path, status, allow) in [
        ("GET", "/health", 200, None),
        ("HEAD", "/health", 200, None),
        ("POST", "/health", 405, Some("GET, HEAD")),
        ("GET", "/v1/events", 405, Some("OPTIONS, POST")),
        ("DELETE", "/v1/events", 405, Some("OPTIONS, POST")),
        ("POST", "/v1/event", 404, None),
        ("POST", "/v1/events/", 404, None),
        ("GET", "/", 404, None),
        ("GET", "/api/status", 200, None),
        ("POST", "/api/status", 405, Some("GET, HEAD")),
        ("GET", "/api/log-game-start", 405, Some("OPTIONS, POST")),
        ("POST", "/api/log-game-datum", 404, None),
    ] {
        let request = Request { method: method.into(), path: path.into(), ..Request::default() };
        let (reply, body) = rig.send(&request).await;
        assert_eq!((reply.status, reply.headers.get("allow").map(String::as_str)), (status, allow), "{method} {path}");
        assert_eq!(body["status"] == "ok", status == 200);
    }
}

#[test]
fn addresses_are_kept_as_the_setting_says() {
    for (address, full, truncated) in [
        ("203.0.113.77", Some("203.0.113.77"), Some("203.0.113.0")),
        ("::ffff:203.0.113.77", Some("203.0.113.77"), Some("203.0.113.0")),
        ("2001:db8:1:2:3::4", Some("2001:db8:1:2:3::4"), Some("2001:db8:1::")),
        ("", None, None),
        ("unknown", None, None),
    ] {
        assert_eq!(ClientIp::Full.keep(address).as_deref(), full, "{address}");
        assert_eq!(ClientIp::Truncated.keep(address).as_deref(), truncated, "{address}");
        assert_eq!(ClientIp::None.keep(address), None);
    }
}

#[tokio::test]
async fn what_does_not_fit_one_message_after_all_is_halved_until_it_does() {
    let rig = Rig::new().await;
    let key = rig.keys.list().await.unwrap().remove(0);
    let ids = Ids::new(&key.id, None, now()).unwrap();
    let mut judged = Judged::default();
    for (index, len) in [60_000, 60_000, 60_000, 60_000, 60_000, 400_000, 60_000].into_iter().enumerate() {
        // As if ten bytes had been sent: the cut is blind to what was written.
        let (type_from, text_from) = (judged.types.len(), judged.texts.len());
        judged.types.push_str("a.b");
        judged.texts.push_str(&format!("\"{}\"", noise(len)));
        judged.accepted.push(Accepted {
            index,
            bytes: Cow::Borrowed(b""),
            noted: Noted { has_id: false, event_type: type_from..judged.types.len(), identity: 0..0 },
            clock: Clock::Kept,
            text: text_from..judged.texts.len(),
        });
    }
    let parts = pack(&mut judged, &Shared { received: now(), client_ip: None, user_agent: None }, &ids);
    let packed: Vec<usize> = parts.iter().flat_map(|p| p.range.clone()).collect();
    assert_eq!(packed, [0, 1, 2, 3, 4, 6]);
    assert!(parts.iter().all(|p| p.packed.body.len() <= message::MAX_MESSAGE_BYTES));
    assert_eq!((judged.rejections[0].index, judged.rejections[0].code), (5, "too_large"));
    let batches: std::collections::BTreeSet<&str> = parts.iter().map(|p| p.packed.header.batch.as_str()).collect();
    assert_eq!(batches.len(), parts.len());
}

#[tokio::test]
async fn the_stage_can_be_shared_between_threads() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    let rig = Rig::new().await;
    let request = rig.request("", result("a"));
    assert_eq!(sendable(rig.ingest.handle(&request, now())).await.status, 202);
    let stage = quarantine::Quarantine::new(Arc::new(sluice_testkit::memory::MemoryObjects::new()));
    sendable(stage.run(&[], now())).await;
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn media() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("application/json".to_owned()),
        Just("application/x-ndjson".to_owned()),
        Just("application/cloudevents+json".to_owned()),
        Just("application/cloudevents-batch+json".to_owned()),
        Just("text/plain;charset=utf-8".to_owned()),
        Just(String::new()),
        "\\PC{0,30}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_under_any_headers_bring_it_down(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "[\\[\\]{}\",:0-9a-e.\\\\ \n-]{0,80}".prop_map(String::into_bytes),
        ],
        media in media(),
        encoding in prop_oneof![Just(String::new()), Just("gzip".into()), Just("zstd".into()), "\\PC{0,9}"],
        more in proptest::collection::btree_map("(ce-[a-z]{0,9}|origin|idempotency-key|user-agent)", "\\PC{0,30}", 0..3),
        pack in any::<bool>(),
    ) {
        run(async {
            let rig = Rig::new().await;
            let body = match (pack, encoding.as_str()) {
                (true, "gzip") => gzip(&body),
                (true, "zstd") => zstd::bulk::compress(&body, 1).unwrap(),
                _ => body,
            };
            let mut request = rig.request(&media, body);
            request.headers.insert("content-encoding".into(), encoding);
            request.headers.extend(more);
            let (reply, answer) = rig.send(&request).await;
            prop_assert!([202, 400, 403, 413, 415].contains(&reply.status), "{} {}", reply.status, answer);
            prop_assert_eq!(&answer["accepted"], &json!(rig.published().len()));
            prop_assert_eq!(&answer["kept"], &json!(rig.kept().len()));
            Ok(())
        })?;
    }

    #[test]
    fn what_is_accepted_and_what_is_rejected_is_what_was_sent(
        kinds in proptest::collection::vec(0usize..27, 1..40),
        as_lines in any::<bool>(),
    ) {
        let bad = bad_events();
        let good = |n: usize| result(&n.to_string());
        // Without the one that is large, which would make this slow.
        let texts: Vec<String> =
            kinds.iter().enumerate().map(|(n, kind)| bad[..25].get(*kind).map_or_else(|| good(n), |b| b.0.clone())).collect();
        let body = if as_lines { texts.join("\n") } else { format!("[{}]", texts.join(",")) };
        run(async {
            let rig = Rig::new().await;
            let (reply, answer) = rig.send(&rig.request(if as_lines { "application/x-ndjson" } else { "" }, body)).await;
            let wanted: Vec<String> =
                kinds.iter().enumerate().filter(|(_, kind)| **kind >= 25).map(|(n, _)| n.to_string()).collect();
            let rejected: Vec<usize> = kinds.iter().enumerate().filter(|(_, kind)| **kind < 25).map(|(n, _)| n).collect();
            prop_assert_eq!(reply.status == 202, !wanted.is_empty());
            prop_assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(wanted.len()), &json!(rejected.len())));
            prop_assert_eq!((rig.total("accepted"), rig.total("rejected")), (wanted.len() as i64, rejected.len() as i64));
            prop_assert_eq!(rig.ids(), wanted);
            let indexes: Vec<usize> =
                answer["errors"].as_array().unwrap().iter().map(|e| e["index"].as_u64().unwrap() as usize).collect();
            prop_assert_eq!(indexes, rejected);
            Ok(())
        })?;
    }
}
