//! Operators are told when something in the product itself goes wrong, and when it is well again, through the real binary.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use serde_json::{Value, json};
use sluice_tests::{Server, eventually_within, send_raw};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The setting as it is where nothing is said.
const USUAL_LAG: (&str, &str) = ("SLUICE_LAG_ALERT_S", "30");
/// What an operator may wait for a mail.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    (dir, data)
}

/// Takes up the link of the first start: from then on there is an admin with an address.
fn make_admin(server: &Server, data: &Path) {
    let link = std::fs::read_to_string(data.join("first.link")).unwrap();
    let token = link.trim().split_once("#link=").unwrap().1.to_owned();
    let who = json!({"link": token, "email": "kim@example.org", "name": "Kim", "password": "correct horse battery"});
    let headers = [("content-type", "application/json")];
    let reply = send_raw(&server.url, "POST", "/v1/sessions", &headers, who.to_string().as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.json());
}

/// Subjects of the mails in the outbox, the oldest first.
fn mails(server: &Server) -> Vec<String> {
    let (status, reply) = server.get("/v1/outbox").unwrap();
    assert_eq!(status, 200, "{reply}");
    let subject = |mail: &Value| {
        assert_eq!(mail["to"], "kim@example.org");
        mail["subject"].as_str().unwrap().to_owned()
    };
    reply["mails"].as_array().unwrap().iter().rev().map(subject).collect()
}

#[test]
fn a_stopped_consumer_is_told_within_a_minute_and_so_is_its_end_each_once() {
    const CONSUMER: &str = "Queue: !GetAtt IndexQueue.Arn\n";
    let (dir, data) = folder();
    let template = include_str!("../../template.yaml");
    let stopped = template.replace(CONSUMER, &format!("{CONSUMER}            Enabled: false\n"));
    assert_eq!(stopped.matches("Enabled: false").count(), 1);
    let path = dir.path().join("template.yaml");
    std::fs::write(&path, stopped).unwrap();
    let server = Server::start_by(&data, &["--template", path.to_str().unwrap()], &[USUAL_LAG]).unwrap();
    make_admin(&server, &data);
    let sent = Instant::now();
    assert_eq!(server.post_json("/v1/events", &json!({"source": "s", "type": "x.y"})).unwrap().0, 202);
    let fired = ["[Sluice] Firing: lag of IndexQueue"];
    eventually_within(TOLD_WITHIN, "a mail says it", || Ok(mails(&server) == fired)).unwrap();
    println!("told after {:?}", sent.elapsed());
    let (status, open) = server.get("/v1/incidents?state=open").unwrap();
    assert_eq!((status, &open["incidents"][0]["subject"]), (200, &json!("IndexQueue")), "{open}");
    assert_eq!(server.stop().unwrap(), Some(0));
    let server = Server::start_with(&data, &[USUAL_LAG]).unwrap();
    let both = [fired[0], "[Sluice] Resolved: lag of IndexQueue"];
    eventually_within(TOLD_WITHIN, "a mail says that it is over", || Ok(mails(&server) == both)).unwrap();
    server.settle().unwrap();
    let (_, all) = server.get("/v1/incidents").unwrap();
    assert_eq!((all["incidents"].as_array().unwrap().len(), &all["incidents"][0]["state"]), (1, &json!("resolved")));
    assert_eq!(server.get("/v1/incidents?state=open").unwrap().1["incidents"], json!([]));
    // They are events like any other, each once in the lake.
    let told = "SELECT count(*) FROM alert_fired WHERE rule_kind = 'pipeline'";
    assert_eq!(server.sql_value(told).unwrap(), json!(1));
    assert_eq!(server.sql_value(&told.replace("fired", "resolved")).unwrap(), json!(1));
    assert_eq!(mails(&server), both);
    assert_eq!(server.stop().unwrap(), Some(0));
}

/// A web address on this machine that takes one request and answers 204; answers its port, and the request in the end.
fn address() -> (u16, std::thread::JoinHandle<String>) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut piece) = (Vec::new(), [0; 4_096]);
        while !String::from_utf8_lossy(&request).trim_end().ends_with('}') {
            let n = stream.read(&mut piece).unwrap();
            assert_ne!(n, 0, "the request has no end");
            request.extend_from_slice(&piece[..n]);
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, taken)
}

#[test]
fn a_webhook_reaches_a_private_address_only_where_that_is_allowed_and_its_secrets_stay() {
    let (_dir, data) = folder();
    let (port, taken) = address();
    let channel = json!({"kind": "webhook", "name": "Pager", "url": format!("http://localhost:{port}/s3cret")});
    let test = |server: &Server| {
        let (status, made) = server.post_json("/v1/channels", &channel).unwrap();
        assert_eq!((status, &made["channel"]["host"]), (201, &json!("localhost")), "{made}");
        let path = format!("/v1/channels/{}/test", made["channel"]["id"].as_str().unwrap());
        let (status, tested) = server.post(&path, "application/json", "").unwrap();
        assert_eq!(status, 200, "{tested}");
        (tested, made["signing_key"].as_str().unwrap().to_owned())
    };
    let server = Server::start(&data).unwrap();
    let (refused, key) = test(&server);
    assert_eq!(refused["ok"], false);
    assert!(refused["detail"].as_str().unwrap().contains("private_networks"), "{refused}");
    assert_eq!(server.stop().unwrap(), Some(0));
    let log = std::fs::read_to_string(data.with_extension("log")).unwrap();
    assert!(!log.contains("s3cret") && !log.contains(&key), "{log}");
    let server = Server::start_with(&data, &[("SLUICE_PRIVATE_NETWORKS", "127.0.0.0/8,::1")]).unwrap();
    assert_eq!(test(&server).0, json!({"ok": true, "detail": "the address has taken it"}));
    let request = taken.join().unwrap();
    let head = request.to_ascii_lowercase();
    assert!(head.starts_with("post /s3cret ") && head.contains("\r\nsluice-signature: t="), "{request}");
    assert!(request.contains("\"type\":\"test\""), "{request}");
    let listed = server.get("/v1/channels").unwrap().1.to_string();
    assert!(!listed.contains("s3cret") && listed.contains("\"ok\":true"), "{listed}");
    assert_eq!(server.stop().unwrap(), Some(0));
}
