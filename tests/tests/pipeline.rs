//! The whole path through the real binary: events in over HTTP, Parquet, search, SQL and mail out.

// A test says by panic what does not hold, also in the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use sluice_tests::{Server, eventually, python, send_raw, sluice, sluice_text, sluice_with_input};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    (dir, data)
}

fn mails(data: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(data.join("outbox")) else { return Vec::new() };
    let mut mails: Vec<String> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "eml"))
        .map(|p| std::fs::read_to_string(p).unwrap())
        .collect();
    mails.sort();
    mails
}

const COUNT_IDS: &str = "
import duckdb, sys, glob
files = glob.glob(sys.argv[1] + '/lake/' + sys.argv[2] + '/data/**/*.parquet', recursive=True)
print(*duckdb.execute(\"select count(*), count(distinct id) from read_parquet($f, hive_partitioning=false)\", {'f': files}).fetchone())
";

#[test]
fn a_day_of_sample_events_reaches_lake_search_sql_and_mail() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let said = sluice_text(&data, &["demo"]).unwrap();
    assert!(said.contains(" sql ") && said.contains("7 mails"), "{said}");
    let status = server.settle().unwrap();
    let of = |t: &str| {
        status["ledger"]["types"].as_array().unwrap().iter().find(|r| r["type"] == t).cloned().unwrap_or_default()
    };
    for kind in ["web.event", "game.start", "game.result", "http.access", "quote.trade"] {
        let table = kind.replace('.', "_");
        let rows = server.sql_value(&format!("SELECT count(*) FROM {table}")).unwrap();
        assert!(rows.as_u64().unwrap() > 0, "{kind}");
        assert_eq!(of(kind)["accepted"], rows, "{kind}");
        let found = server
            .post_json("/v1/search", &json!({"size": 0, "track_total_hits": true, "query": {"term": {"type": kind}}}))
            .unwrap()
            .1;
        assert_eq!(found["hits"]["total"]["value"], rows, "{kind}");
        if let Some(counted) = python(COUNT_IDS, &[data.to_str().unwrap(), &table]).unwrap() {
            assert_eq!(counted, format!("{rows} {rows}"), "{kind} by DuckDB");
        }
    }
    // Independent of the rule: the jumps that the series holds.
    let jumps = server
        .sql_value("SELECT count(DISTINCT date_trunc('hour', time)) FROM quote_trade WHERE abs(change) * 100 >= 5 * (price - change)")
        .unwrap()
        .as_u64()
        .unwrap();
    assert!(jumps > 0);
    let mails = mails(&data);
    assert_eq!(mails.len() as u64, jumps);
    assert!(mails.iter().all(|m| m.contains("text/plain") && m.contains("text/html") && m.contains("Subject:")));
    assert_eq!(server.sql_value("SELECT count(*) FROM alert_fired").unwrap(), jumps);

    // The same day again is the same events.
    sluice_text(&data, &["demo"]).unwrap();
    server.settle().unwrap();
    let again = server
        .post_json(
            "/v1/search",
            &json!({"size": 0, "track_total_hits": true, "query": {"term": {"type": "web.event"}}}),
        )
        .unwrap()
        .1;
    assert_eq!(again["hits"]["total"]["value"], of("web.event")["accepted"]);
    assert_eq!(self::mails(&data).len() as u64, jumps);
    assert_eq!(server.stop().unwrap(), Some(0));
}

#[test]
fn an_event_is_searchable_and_queryable_as_it_was_sent() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let (status, reply) = server
        .post_json(
            "/v1/events",
            &json!([
                {"id": "1", "source": "square-blitz", "type": "game.result", "userid": "007", "time": "2026-11-20T23:59:59.123456+00:00",
                 "data": {"play_id": "p", "total_squares": 50, "clicked_count": 49, "success_rate": 98.0, "nickname": "번개", "surprise": [1, {"a": null}]}},
                {"source": "shop", "type": "order.paid", "data": [1, 2]},
            ]),
        )
        .unwrap();
    assert_eq!((status, &reply["accepted"], &reply["rejected"]), (202, &json!(2), &json!(0)), "{reply}");
    server.settle().unwrap();
    let rows = server
        .post_json("/v1/sql", &json!({"sql": "SELECT userid, time, nickname, extra, clicked_count FROM game_result"}))
        .unwrap()
        .1;
    assert_eq!(
        rows["rows"],
        json!([["007", "2026-11-20T23:59:59.123456Z", "번개", "{\"surprise\":[1,{\"a\":null}]}", 49]]),
        "{rows}"
    );
    assert_eq!(server.sql_value("SELECT data FROM event").unwrap(), "{\"value\":[1,2]}");
    let found = server.post_json("/v1/search", &json!({"query": {"term": {"data.nickname": "번개"}}})).unwrap().1;
    assert_eq!(found["hits"]["hits"][0]["_source"]["extra"]["surprise"], json!([1, {"a": null}]), "{found}");
    assert_eq!(found["hits"]["hits"][0]["_index"], "sluice-game_result-2026.11");
}

#[test]
fn events_answered_202_survive_kill_9() {
    let (_dir, data) = folder();
    let mut acknowledged = BTreeSet::new();
    let mut next = 0u32;
    for round in 0..4u64 {
        let server = Server::start(&data).unwrap();
        let (url, key) = (server.url.clone(), server.key.clone());
        let sender = std::thread::spawn(move || {
            let mut sent = Vec::new();
            let mut number = next;
            loop {
                let ids: Vec<u32> = (number..number + 50).collect();
                let lines: String = ids
                    .iter()
                    .map(|i| format!("{{\"id\":\"k{i}\",\"source\":\"shop\",\"type\":\"http.access\",\"data\":{{\"method\":\"GET\",\"path\":\"/{i}\",\"status\":200}}}}\n"))
                    .collect();
                let headers =
                    [("content-type", "application/x-ndjson"), ("authorization", &format!("Bearer {key}") as &str)];
                number += 50;
                match send_raw(&url, "POST", "/v1/events", &headers, lines.as_bytes()) {
                    Ok(reply) if reply.status == 202 => sent.extend(ids),
                    Ok(reply) => panic!("{} {}", reply.status, reply.json()),
                    // The process is gone; what was on its way was not answered.
                    Err(_) => return (sent, number),
                }
            }
        });
        // Kill while requests, conversions and indexing are under way, at another moment of the cycle each time.
        std::thread::sleep(Duration::from_millis(900 + 370 * round));
        server.kill().unwrap();
        let (sent, reached) = sender.join().unwrap();
        acknowledged.extend(sent);
        next = reached;
    }
    assert!(acknowledged.len() > 1_000, "only {} events were sent", acknowledged.len());
    let server = Server::start_with(&data, &[("SLUICE_SQL_MAX_ROWS", "10000000")]).unwrap();
    eventually("all queues are empty", || {
        let queues = server.get("/v1/queues")?.1;
        Ok(queues["queues"].as_array().is_some_and(|q| q.iter().all(|q| q["visible"] == 0 && q["in_flight"] == 0)))
    })
    .unwrap();
    // What is recorded, as SQL reads it: an orphan that lies in the folder does not count.
    let rows = server.post_json("/v1/sql", &json!({"sql": "SELECT id, path FROM http_access"})).unwrap().1;
    let recorded: BTreeSet<&str> = rows["rows"].as_array().unwrap().iter().filter_map(|r| r[0].as_str()).collect();
    let missing = acknowledged.iter().filter(|i| !recorded.contains(format!("k{i}").as_str())).count();
    assert_eq!((missing, &rows["truncated"]), (0, &json!(false)));
    let status = server.get("/v1/status").unwrap().1;
    assert_eq!(status["ledger"]["adds_up"], true, "{status:#}");
    let list = data.join("ids.txt");
    std::fs::write(&list, acknowledged.iter().map(|i| format!("k{i}\n")).collect::<String>()).unwrap();
    let program = "
import pyarrow.parquet as pq, sys, glob
want = set(open(sys.argv[2]).read().split())
got = {}
for f in glob.glob(sys.argv[1] + '/lake/http_access/data/**/*.parquet', recursive=True):
    t = pq.ParquetFile(f).read(columns=['id', 'path'])
    for i, p in zip(t['id'].to_pylist(), t['path'].to_pylist()):
        got[i] = p
print(len(want - set(got)), sum(1 for i in want if i in got and got[i] != '/' + i[1:]))
";
    if let Some(said) = python(program, &[data.to_str().unwrap(), list.to_str().unwrap()]).unwrap() {
        assert_eq!(said, "0 0", "missing and changed events by pyarrow");
    }
}

#[test]
fn sql_reads_what_is_recorded_and_not_what_lies_in_the_folder() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    server
        .post_json(
            "/v1/events",
            &json!({"source": "g", "type": "game.start", "data": {"play_id": "p", "clicked_at": 1795255200000u64}}),
        )
        .unwrap();
    server.settle().unwrap();
    let lake = data.join("lake/game_start/data");
    let day = std::fs::read_dir(&lake).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::read_dir(&day).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(&file, day.join("stranger.parquet")).unwrap();
    assert_eq!(server.sql_value("SELECT count(*) FROM game_start").unwrap(), 1);
}

#[test]
fn what_cannot_be_stored_is_refused_by_name_and_its_neighbours_are_kept() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let good = r#"{"source":"s","type":"game.start","data":{"play_id":"p","clicked_at":"2026-01-01T00:00:00Z"}}"#;
    let deep = format!(r#"{{"source":"s","type":"x.y","data":{}1{}}}"#, "[".repeat(20), "]".repeat(20));
    let bad: Vec<(&str, &str, &str)> = vec![
        (r#"{"source":"s""#, "", "malformed_json"),
        (r#"{"source":"s","type":"x.y","data":{"a":NaN}}"#, "/data/a", "malformed_json"),
        (r#"{"source":"s","type":"x.y","data":{"a":1,"a":2}}"#, "/data", "duplicate_key"),
        (&deep, "/data", "too_deep"),
        (r#"{"type":"x.y"}"#, "/source", "envelope"),
        (r#"{"source":"s","type":"game.start","data":{"play_id":7}}"#, "/data/play_id", "schema"),
        (
            r#"{"source":"s","type":"game.result","data":{"play_id":"p","total_squares":99999999999999999999,"clicked_count":0,"success_rate":0}}"#,
            "/data/total_squares",
            "schema",
        ),
        (r#"{"source":"s","type":"alert.fired","data":{}}"#, "/type", "reserved_type"),
        ("7", "", "schema"),
    ];
    let mut lines = String::new();
    for (text, ..) in &bad {
        lines.push_str(good);
        lines.push('\n');
        lines.push_str(text);
        lines.push('\n');
    }
    let (status, reply) = server.post("/v1/events", "application/x-ndjson", lines).unwrap();
    assert_eq!(
        (status, &reply["accepted"], &reply["rejected"]),
        (202, &json!(bad.len()), &json!(bad.len())),
        "{reply}"
    );
    for (i, (text, pointer, code)) in bad.iter().enumerate() {
        let error = &reply["errors"][i];
        assert_eq!(error["index"], json!(2 * i + 1), "{text}");
        assert_eq!(error["code"], *code, "{text}: {error}");
        assert!(error["pointer"].as_str().unwrap().starts_with(pointer), "{text}: {error}");
    }
    let status = server.settle().unwrap();
    assert_eq!(server.sql_value("SELECT count(*) FROM game_start").unwrap(), json!(bad.len()));
    assert_eq!(status["ledger"]["totals"]["rejected"], json!(bad.len()), "{status:#}");
    // A reserved type is a matter of rights: it is counted and not kept.
    let expected = bad.len() - 1;
    eventually("the refused ones are in quarantine", || {
        let mut kept = 0;
        for day in std::fs::read_dir(data.join("quarantine")).into_iter().flatten().flatten() {
            kept += std::fs::read_dir(day.path())?.count();
        }
        Ok(kept == expected)
    })
    .unwrap();
}

#[test]
fn requests_that_cannot_be_taken_get_the_right_status() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let bearer = format!("Bearer {}", server.key);
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        send_raw(&server.url, method, path, &all, body).unwrap()
    };
    let ndjson = [("content-type", "application/x-ndjson")];
    assert_eq!(send("GET", "/nowhere", &[], b"").status, 404);
    assert_eq!(send("GET", "/v1/nowhere", &[], b"").status, 404);
    let refused = send("DELETE", "/v1/events", &[], b"");
    assert_eq!(refused.status, 405);
    assert!(refused.head.contains("allow:"), "{}", refused.head);
    assert_eq!(send("POST", "/v1/events", &ndjson, &vec![b'x'; 10 << 20]).status, 413);
    assert_eq!(send("POST", "/v1/events", &[("content-type", "image/png")], b"x").status, 415);
    assert_eq!(
        send("POST", "/v1/events", &[("content-type", "application/json"), ("content-encoding", "br")], b"x").status,
        415
    );
    assert_eq!(send("POST", "/v1/events", &ndjson, b"\xff\xfe").status, 400);
    let mut bomb =
        std::process::Command::new("sh").args(["-c", "head -c 200000000 /dev/zero | gzip -1"]).output().unwrap().stdout;
    assert_eq!(
        send("POST", "/v1/events", &[("content-type", "application/json"), ("content-encoding", "gzip")], &bomb).status,
        413
    );
    bomb.truncate(100);
    assert_eq!(
        send("POST", "/v1/events", &[("content-type", "application/json"), ("content-encoding", "gzip")], &bomb).status,
        400
    );
    let many: String =
        (0..10_001).map(|i| format!("{{\"source\":\"s\",\"type\":\"x.y\",\"time\":{}}}\n", i * 3_600)).collect();
    assert_eq!(send("POST", "/v1/events", &ndjson, many.as_bytes()).status, 413);
    let hours: String = (0..10_000)
        .map(|i| format!("{{\"source\":\"s\",\"type\":\"x.y\",\"time\":{}}}\n", 1_000_000_000 + i * 3_600))
        .collect();
    assert_eq!(send("POST", "/v1/events", &ndjson, hours.as_bytes()).status, 202);
    assert_eq!(send_raw(&server.url, "POST", "/v1/events", &ndjson, b"{}").unwrap().status, 401);
    assert_eq!(send_raw(&server.url, "POST", "/v1/events?key=wrong", &ndjson, b"{}").unwrap().status, 401);
    let key = sluice_text(&data, &["keys", "add", "--source", "shop"]).unwrap();
    let key = key.trim();
    let other = br#"{"source":"game","type":"x.y"}"#;
    assert_eq!(send_raw(&server.url, "POST", &format!("/v1/events?key={key}"), &ndjson, other).unwrap().status, 403);
    assert_eq!(
        send_raw(&server.url, "POST", &format!("/v1/events?key={key}"), &ndjson, br#"{"type":"x.y"}"#).unwrap().status,
        202
    );
    assert_eq!(send_raw(&server.url, "GET", &format!("/v1/status?key={key}"), &[], b"").unwrap().status, 403);
    for sql in [
        "DROP TABLE event",
        "COPY event TO '/tmp/x.csv'",
        "SELECT * FROM '/etc/passwd'",
        "SELECT 1; SELECT 2",
        "SET x = 1",
        "INSERT INTO event VALUES (1)",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
    ] {
        let (status, reply) = server.post_json("/v1/sql", &json!({"sql": sql})).unwrap();
        assert!([400, 403].contains(&status), "{sql}: {status} {reply}");
    }
    // It lives on.
    server.settle().unwrap();
    assert_eq!(server.sql_value("SELECT count(*) FROM event").unwrap(), 10_001);
}

#[test]
fn a_key_that_was_revoked_no_longer_writes() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let key = sluice_text(&data, &["keys", "add", "--source", "shop", "--name", "till"]).unwrap();
    let headers = [("content-type", "application/json"), ("x-write-key", key.trim())];
    let event = br#"{"type":"x.y"}"#;
    assert_eq!(send_raw(&server.url, "POST", "/v1/events", &headers, event).unwrap().status, 202);
    let keys = server.get("/v1/keys").unwrap().1;
    let row = keys["keys"].as_array().unwrap().iter().find(|k| k["name"] == "till").cloned().unwrap();
    assert!(!keys.to_string().contains(key.trim()), "a list shows no secrets");
    sluice_text(&data, &["keys", "revoke", row["id"].as_str().unwrap()]).unwrap();
    eventually(
        "the key is refused",
        || Ok(send_raw(&server.url, "POST", "/v1/events", &headers, event)?.status == 401),
    )
    .unwrap();
    server.settle().unwrap();
    let audited = server.sql_value("SELECT count(*) FROM sluice_audit WHERE action = 'keys.revoke'").unwrap();
    assert_eq!(audited, 1);
}

#[test]
fn a_folder_whose_own_key_was_revoked_gets_a_new_one() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let old = server.key.clone();
    let keys = server.get("/v1/keys").unwrap().1;
    sluice_text(&data, &["keys", "revoke", keys["keys"][0]["id"].as_str().unwrap()]).unwrap();
    assert_eq!(server.stop().unwrap(), Some(0));
    let server = Server::start(&data).unwrap();
    assert_ne!(server.key, old);
    assert_eq!(server.get("/v1/status").unwrap().0, 200);
}

#[test]
fn starting_where_it_cannot_says_why_and_harms_nothing() {
    let (dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let fails = |data: &Path, arguments: &[&str]| {
        let output = sluice(data, arguments).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(fails(&data, &["up", "--listen", "127.0.0.1:0"]).contains("in use by another"), "the folder is held");
    let address = server.url.strip_prefix("http://").unwrap();
    assert!(
        fails(&dir.path().join("other"), &["up", "--listen", address]).contains("is in use by another program"),
        "the port is taken"
    );
    assert_eq!(server.get("/health").unwrap().0, 200);
    assert_eq!(server.stop().unwrap(), Some(0));
    std::fs::write(data.join("settings.toml"), "time_zone = [").unwrap();
    assert!(fails(&data, &["up", "--listen", "127.0.0.1:0"]).contains("settings.toml"));
    std::fs::write(data.join("settings.toml"), "time_zone = \"Mars/Olympus\"").unwrap();
    assert!(fails(&data, &["up", "--listen", "127.0.0.1:0"]).contains("`Mars/Olympus` is not an IANA time zone"));
    std::fs::remove_file(data.join("settings.toml")).unwrap();
    std::fs::create_dir_all(data.join("schemas")).unwrap();
    std::fs::write(data.join("schemas/x.json"), "{\"type\":\"object\",\"x-type\":\"a.b\",\"oneOf\":[]}").unwrap();
    assert!(fails(&data, &["up", "--listen", "127.0.0.1:0"]).contains("keyword `oneOf`"));
    std::fs::remove_file(data.join("schemas/x.json")).unwrap();
    let nobody = fails(&data, &["status"]);
    assert!(nobody.contains("no server is running"), "{nobody}");
    Server::start(&data).unwrap();
}

#[test]
fn a_type_is_added_by_adding_a_file() {
    let (_dir, data) = folder();
    std::fs::create_dir_all(data.join("schemas")).unwrap();
    let schema = json!({"type": "object", "x-type": "order.paid", "required": ["total"], "properties": {
        "total": {"type": "string", "x-decimal": [12, 2], "x-column-id": 101}}});
    std::fs::write(data.join("schemas/order.paid.json"), schema.to_string()).unwrap();
    let server = Server::start(&data).unwrap();
    let (_, reply) = server.post_json("/v1/events", &json!([{"source": "shop", "type": "order.paid", "data": {"total": 12.5}}, {"source": "shop", "type": "order.paid", "data": {}}])).unwrap();
    assert_eq!((&reply["accepted"], &reply["errors"][0]["pointer"]), (&json!(1), &json!("/data/total")), "{reply}");
    server.settle().unwrap();
    assert_eq!(server.sql_value("SELECT total FROM order_paid").unwrap(), "12.50");
}

#[test]
fn stopping_finishes_what_is_in_flight_and_starting_goes_on() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let lines: String = (0..3_000).map(|i| format!("{{\"id\":\"{i}\",\"source\":\"s\",\"type\":\"x.y\"}}\n")).collect();
    let output = sluice_with_input(&data, &["send", "-", "--format", "ndjson"], &lines).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.stop().unwrap(), Some(0));
    assert!(!data.join("server.json").exists());
    let server = Server::start(&data).unwrap();
    server.settle().unwrap();
    assert_eq!(server.sql_value("SELECT count(DISTINCT id) FROM event").unwrap(), 3_000);
}

#[test]
fn a_rule_mails_once_per_hour_and_direction() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    sluice_text(
        &data,
        &[
            "rules",
            "add",
            "fluctuation",
            "--symbol",
            "005930",
            "--threshold",
            "5",
            "--email",
            "investor@example.org",
            "--language",
            "ko",
        ],
    )
    .unwrap();
    let trade = |id: &str, time: &str, price: &str, change: &str| {
        json!({"id": id, "source": "feed", "type": "quote.trade", "time": time, "subject": "005930",
            "data": {"symbol": "005930", "name": "삼성전자", "currency": "KRW", "price": price, "change": change}})
    };
    let events = json!([
        trade("1", "2026-11-20T00:30:00Z", "105000", "5000"),
        trade("2", "2026-11-20T00:45:00Z", "106000", "6000"),
        trade("3", "2026-11-20T00:50:00Z", "95000", "-5000"),
        trade("4", "2026-11-20T01:10:00Z", "104999", "4999"),
        trade("5", "2026-11-20T01:20:00Z", "105000", "5000"),
    ]);
    assert_eq!(server.post_json("/v1/events", &events).unwrap().0, 202);
    server.settle().unwrap();
    eventually("three mails are there", || Ok(mails(&data).len() == 3)).unwrap();
    let status: Value = serde_json::from_str(&sluice_text(&data, &["status", "--json"]).unwrap()).unwrap();
    assert_eq!(status["ledger"]["adds_up"], true, "{status:#}");
    assert_eq!(server.sql_value("SELECT count(*) FROM alert_fired").unwrap(), 3);
    let leaked = server.post_json("/v1/search", &json!({"query": {"query_string": {"query": "investor"}}})).unwrap().1;
    assert_eq!(leaked["hits"]["total"]["value"], 0, "the address is in no event");
}
