//! What clients send and see: files by `sluice send`, prices by `sluice feed replay`, events as they arrive by `sluice watch`, and bodies as
//! browsers and CloudEvents libraries send them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panic")]

use serde_json::{Value, json};
use sluice_tests::{Server, command, eventually, send_raw, sluice, sluice_text};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    (dir, data)
}

/// How many documents of `http.access` search has by status.
fn searched(server: &Server) -> BTreeMap<u64, u64> {
    let ask = json!({"size": 0, "query": {"term": {"type": "http.access"}},
        "aggs": {"by": {"terms": {"field": "data.status", "size": 100}}}});
    let (status, reply) = server.post_json("/v1/search", &ask).unwrap();
    assert_eq!(status, 200, "{reply}");
    let buckets = reply["aggregations"]["by"]["buckets"].as_array().cloned().unwrap_or_default();
    buckets.iter().map(|b| (b["key"].as_f64().unwrap() as u64, b["doc_count"].as_u64().unwrap())).collect()
}

/// The same by SQL.
fn queried(server: &Server) -> BTreeMap<u64, u64> {
    let ask = json!({"sql": "SELECT status, count(DISTINCT id) FROM http_access GROUP BY status"});
    let (status, reply) = server.post_json("/v1/sql", &ask).unwrap();
    assert_eq!(status, 200, "{reply}");
    reply["rows"].as_array().unwrap().iter().map(|r| (r[0].as_u64().unwrap(), r[1].as_u64().unwrap())).collect()
}

#[test]
fn a_log_with_a_damaged_line_is_stored_without_it_and_the_line_is_named() {
    const DAMAGED: usize = 137;
    let (dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let mut log = String::new();
    let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
    for n in 1..=700_usize {
        if n == DAMAGED {
            log.push_str("192.0.2.9 - - [17/May/2015:10:05:03 +0000] \"GET /half\n");
            continue;
        }
        let status = [200, 200, 200, 304, 404, 500][n * n % 6];
        *expected.entry(status).or_default() += 1;
        // Every tenth line is like the one before in all but its place.
        let path = format!("/page/{}?q={}", n / 10, n % 3 / 2);
        log.push_str(&format!(
            "192.0.2.{} - - [17/May/2015:10:{:02}:{:02} +0000] \"GET {path} HTTP/1.1\" {status} {} \"-\" \"Mozilla/5.0 (X11; Linux)\"\n",
            n % 200,
            n / 60 % 60,
            n / 7 % 60,
            n * 31
        ));
    }
    assert_eq!(expected.values().sum::<u64>(), 699);
    let file = dir.path().join("access.log");
    std::fs::write(&file, &log).unwrap();
    let file = file.to_str().unwrap();
    let sent = sluice(&data, &["send", "--format", "access-log", "--source", "shop", file]).unwrap();
    let said = String::from_utf8_lossy(&sent.stdout).into_owned();
    assert_eq!(sent.status.code(), Some(1), "{said}");
    assert!(said.contains("699 accepted") && said.contains("1 rejected"), "{said}");
    assert!(said.contains("line 137: not a line of an access log"), "{said}");
    let status = server.settle().unwrap();
    assert_eq!(queried(&server), expected, "{status:#}");
    assert_eq!(searched(&server), expected);
    eventually("the damaged line is kept", || {
        let days = std::fs::read_dir(data.join("quarantine")).into_iter().flatten().flatten();
        Ok(days.map(|day| std::fs::read_dir(day.path()).map_or(0, Iterator::count)).sum::<usize>() == 1)
    })
    .unwrap();

    // The log again, compressed and grown: only what is new is stored.
    log.push_str("192.0.2.1 - - [17/May/2015:11:00:00 +0000] \"GET /new HTTP/1.1\" 418 0 \"-\" \"-\"\n");
    expected.insert(418, 1);
    let packed = dir.path().join("access.log.1.gz");
    let mut gzip = flate2::write::GzEncoder::new(std::fs::File::create(&packed).unwrap(), flate2::Compression::fast());
    gzip.write_all(log.as_bytes()).unwrap();
    gzip.finish().unwrap();
    let again = sluice(&data, &["send", "--source", "shop", "--json", packed.to_str().unwrap()]).unwrap();
    assert_eq!(again.status.code(), Some(1));
    let summary: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(summary["errors"][0]["line"], DAMAGED, "{summary}");
    server.settle().unwrap();
    assert_eq!(queried(&server), expected);
    assert_eq!(searched(&server), expected);
}

fn mails(data: &Path) -> Vec<String> {
    let files = std::fs::read_dir(data.join("outbox")).unwrap().flatten().map(|e| e.path());
    files.filter(|p| p.extension().is_some_and(|e| e == "eml")).map(|p| std::fs::read_to_string(p).unwrap()).collect()
}

#[test]
fn replayed_prices_mail_each_day_that_moved_enough_and_no_other() {
    let (dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let add = ["rules", "add", "fluctuation", "--symbol", "TEST", "--threshold", "5", "--email", "reader@example.org"];
    sluice_text(&data, &add).unwrap();
    // The first row has no day before. 5 % exactly counts, 4.99 % does not, however it looks when it is rounded to one digit.
    let rows = [
        ("2020-01-02", "100.00", false),
        ("2020-01-03", "105.00", true),
        ("2020-01-06", "110.24", false),
        ("2020-01-07", "104.728", true),
        ("2020-01-08", "99.50", false),
        ("2020-01-09", "99.50", false),
        ("2020-01-10", "1.00", true),
        ("2020-01-13", "1.0499", false),
        ("2020-01-14", "2", true),
    ];
    let expected = rows.iter().filter(|(.., fires)| *fires).count();
    let csv = rows.iter().fold("Date,Close\n".to_owned(), |text, (day, close, _)| format!("{text}{day},{close}\n"));
    let file = dir.path().join("prices.csv");
    std::fs::write(&file, csv).unwrap();
    for _ in 0..2 {
        // The second time brings nothing new.
        sluice_text(&data, &["feed", "replay", file.to_str().unwrap(), "--symbol", "TEST"]).unwrap();
        server.settle().unwrap();
        eventually("the mails are there", || Ok(mails(&data).len() == expected)).unwrap();
        assert_eq!(server.sql_value("SELECT count(DISTINCT id) FROM alert_fired").unwrap(), expected);
        assert_eq!(server.sql_value("SELECT count(DISTINCT id) FROM quote_trade").unwrap(), rows.len());
    }
    let mails = mails(&data);
    for (day, ..) in rows.iter().filter(|(.., fires)| *fires) {
        assert_eq!(mails.iter().filter(|m| m.contains(day)).count(), 1, "{day}: {mails:#?}");
    }
}

/// A running `sluice watch` and the lines that it prints.
struct Watch {
    child: std::process::Child,
    lines: mpsc::Receiver<String>,
}

impl Watch {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        let arguments: Vec<&str> = ["watch", "--json"].iter().chain(arguments).copied().collect();
        let mut child = command(data, &arguments).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, lines }
    }

    /// The id of the next event.
    fn next(&self) -> String {
        let line = self.lines.recv_timeout(Duration::from_secs(90)).expect("an event is shown");
        let event: Value = serde_json::from_str(&line).unwrap();
        event["id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn watch_shows_an_event_that_arrives_once() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let send = |id: &str, kind: &str| {
        let event = json!({"id": id, "source": "shop", "type": kind});
        assert_eq!(server.post_json("/v1/events", &event).unwrap().0, 202);
    };
    send("old", "shop.order");
    send("first", "shop.order");
    server.settle().unwrap();
    let mut watch = Watch::start(&data, &["--last", "1", "type:shop.order"]);
    assert_eq!(watch.next(), "first", "it begins with the last one");
    for id in ["a", "b", "c"] {
        send(id, "shop.order");
        send(&format!("other-{id}"), "shop.visit");
        assert_eq!(watch.next(), id);
    }
    // Each question looks back some seconds: what was shown must not come again.
    assert!(watch.lines.recv_timeout(Duration::from_secs(2)).is_err());
    let interrupt = std::process::Command::new("kill").args(["-INT", &watch.child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    assert_eq!(watch.child.wait().unwrap().code(), Some(0));
}

#[test]
fn bodies_as_browsers_and_libraries_send_them_are_stored() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let key = sluice_text(&data, &["keys", "add", "--source", "shop"]).unwrap();
    let with_key = format!("/v1/events?key={}", key.trim());
    let bearer = format!("Bearer {}", server.key);
    let event = |id: &str| json!({"id": id, "source": "shop", "type": "x.y", "data": {"way": id}}).to_string();
    let send = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let mut all = headers.to_vec();
        if !path.contains("key=") {
            all.push(("authorization", &bearer));
        }
        let reply = send_raw(&server.url, "POST", path, &all, body).unwrap();
        assert_eq!((reply.status, &reply.json()["rejected"]), (202, &json!(0)), "{headers:?}: {}", reply.json());
        reply
    };
    // `navigator.sendBeacon` with a string; it sends no header of its own.
    let origin = ("origin", "https://shop.example");
    let beacon = send(&with_key, &[("content-type", "text/plain;charset=UTF-8"), origin], event("beacon").as_bytes());
    assert!(beacon.head.contains("access-control-allow-origin:"), "{}", beacon.head);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(event("gzip").as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    send("/v1/events", &[("content-type", "application/json"), ("content-encoding", "gzip")], &gzip);
    let lines = format!("{}\n{}\n", event("zstd-1"), event("zstd-2"));
    let zstd = zstd::encode_all(lines.as_bytes(), 3).unwrap();
    send("/v1/events", &[("content-type", "application/x-ndjson"), ("content-encoding", "zstd")], &zstd);
    let attributes = [
        ("ce-specversion", "1.0"),
        ("ce-id", "binary"),
        ("ce-source", "shop"),
        ("ce-type", "x.y"),
        ("ce-time", "2026-11-21T09:00:00.5Z"),
        ("ce-subject", "Euro%20%E2%82%AC"),
    ];
    let headers: Vec<_> = [("content-type", "application/json")].into_iter().chain(attributes).collect();
    send("/v1/events", &headers, br#"{"way":"binary"}"#);
    let headers = [("content-type", "application/cloudevents+json")];
    let structured =
        r#"{"specversion":"1.0","id":"structured","source":"shop","type":"x.y","data":{"way":"structured"}}"#;
    send("/v1/events", &headers, structured.as_bytes());
    let headers = [("content-type", "application/cloudevents-batch+json; charset=utf-8")];
    send("/v1/events", &headers, format!("[{}]", structured.replace("structured", "batch")).as_bytes());

    server.settle().unwrap();
    let ask = json!({"sql": "SELECT id, subject, data FROM event WHERE type = 'x.y' ORDER BY id"});
    let rows = server.post_json("/v1/sql", &ask).unwrap().1;
    let expected: Vec<Value> = ["batch", "beacon", "binary", "gzip", "structured", "zstd-1", "zstd-2"]
        .iter()
        .map(|way| {
            let subject = if *way == "binary" { json!("Euro €") } else { Value::Null };
            json!([way, subject, json!({"way": way}).to_string()])
        })
        .collect();
    assert_eq!(rows["rows"], json!(expected), "{rows}");
}
