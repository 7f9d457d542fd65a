//! Nothing lost, nothing twice, through the real binary: the ledger finds what is gone, and what was refused comes in after all, once.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use serde_json::{Value, json};
use sluice_tests::{Server, eventually, sluice, sluice_text};
use std::path::{Path, PathBuf};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    (dir, data)
}

fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(parquet_files(&path));
        } else if path.extension().is_some_and(|e| e == "parquet") {
            found.push(path);
        }
    }
    found
}

fn ledger(data: &Path, arguments: &[&str]) -> (bool, Value) {
    let output = sluice(data, &[&["ledger", "--json"], arguments].concat()).unwrap();
    let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.success(), reply["adds_up"] == true, "{reply}");
    (output.status.success(), reply)
}

#[test]
fn a_parquet_file_that_is_deleted_or_changed_by_hand_turns_the_ledger_red() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    sluice_text(&data, &["demo"]).unwrap();
    let status = server.settle().unwrap();
    let (adds_up, before) = ledger(&data, &["--deep"]);
    assert!(adds_up, "{before}");
    let accepted: i64 =
        before["hours"].as_array().unwrap().iter().map(|h| h["durable"]["lake"].as_i64().unwrap()).sum();
    assert_eq!(Some(accepted), status["ledger"]["totals"]["accepted"].as_i64(), "each event is in a file: {before}");
    let files = parquet_files(&data.join("lake"));
    assert_eq!(before["files"].as_u64(), Some(files.len() as u64));
    let (file, bytes) = (&files[0], std::fs::read(&files[0]).unwrap());
    std::fs::remove_file(file).unwrap();
    let (adds_up, red) = ledger(&data, &[]);
    assert!(!adds_up);
    let name = file.strip_prefix(&data).unwrap().to_str().unwrap();
    assert!(red["told"][0]["what"].as_str().unwrap().contains(name), "{red}");
    // Damage that keeps the size is seen by opening the file.
    let mut damaged = bytes.clone();
    let footer = damaged.len() - 60..damaged.len() - 8;
    damaged[footer].fill(0);
    std::fs::write(file, &damaged).unwrap();
    assert!(ledger(&data, &[]).0 && !ledger(&data, &["--deep"]).0);
    std::fs::write(file, &bytes).unwrap();
    assert!(ledger(&data, &["--deep"]).0);
    assert_eq!(server.stop().unwrap(), Some(0));
}

#[test]
fn what_was_refused_is_repaired_and_comes_in_once() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let event = |id: usize| json!({"id": id.to_string(), "source": "shop", "type": "http.access", "data": {"method": "GET", "path": "/", "status": "404"}});
    let (status, reply) = server.post_json("/v1/events", &json!([event(1), event(2), event(3)])).unwrap();
    assert_eq!((status, &reply["kept"]), (400, &json!(3)), "{reply}");
    let count = || sluice_text(&data, &["quarantine", "count", "--json"]).unwrap();
    eventually("three records are kept", || Ok(count().contains(r#""records": 3"#))).unwrap();
    let repair = ["quarantine", "repair", "--code", "schema", "--jq", ".data.status |= tonumber"];
    let tried = sluice_text(&data, &repair).unwrap();
    assert_eq!(tried.matches("would be taken").count(), 3, "{tried}");
    assert!(count().contains("open"), "a look changes nothing");
    let wrong = sluice(&data, &["quarantine", "repair", "--jq", ".data.status = -1.5", "--apply"]).unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(count().contains("open"), "what would be refused again is not kept");
    sluice_text(&data, &[repair.as_slice(), &["--apply"]].concat()).unwrap();
    assert!(count().contains("repaired"));
    let sent = sluice_text(&data, &["quarantine", "replay"]).unwrap();
    assert_eq!(sent, "3 records sent again, 0 refused, 0 sent before\n");
    assert_eq!(
        sluice_text(&data, &["quarantine", "replay"]).unwrap(),
        "0 records sent again, 0 refused, 0 sent before\n"
    );
    let status = server.settle().unwrap();
    assert_eq!(server.sql_value("SELECT count(*) FROM http_access WHERE status = 404").unwrap(), 3);
    let types = status["ledger"]["types"].as_array().unwrap();
    let row = types.iter().find(|row| row["type"] == "http.access").unwrap();
    assert_eq!(
        (&row["accepted"], &row["rejected"], &row["lake"]["stored"]),
        (&json!(3), &json!(0), &json!(3)),
        "{row}"
    );
    assert!(ledger(&data, &["--deep"]).0);
    let read = sluice_text(&data, &["keys", "add", "--scope", "read"]).unwrap();
    let refused = sluice(&data, &["--key", read.trim(), "quarantine", "list"]).unwrap();
    assert_eq!(refused.status.code(), Some(4), "the bytes are other people's");
    assert_eq!(server.stop().unwrap(), Some(0));
}

#[test]
fn an_event_s_way_leads_to_the_file_that_holds_it() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let sent = json!({"id": "w1", "source": "shop", "type": "order.paid", "data": {"total": 42}});
    assert_eq!(server.post_json("/v1/events", &sent).unwrap().0, 202);
    server.settle().unwrap();
    let mut hit = Value::Null;
    eventually("it is found", || {
        let asked = json!({"query": {"term": {"type": "order.paid"}}});
        hit = server.post_json("/v1/search?index=sluice-event-*", &asked)?.1["hits"]["hits"][0].clone();
        Ok(hit.is_object())
    })
    .unwrap();
    let (id, index) = (hit["_id"].as_str().unwrap(), hit["_index"].as_str().unwrap());
    let (status, way) = server.get(&format!("/v1/events/{id}/way?index={index}")).unwrap();
    assert_eq!((status, &way["type"], &way["batch"]), (200, &json!("order.paid"), &Value::Null), "{way}");
    assert_eq!(way["received_at"], hit["_source"]["receivedtime"]);
    assert_eq!((&way["lake"]["state"], &way["detect"]["state"]), (&json!("stored"), &json!("stored")), "{way}");
    assert_eq!(way["search"], json!({"state": "stored", "index": index, "document": id, "indexed_at": null}));
    let object = way["lake"]["object"].as_str().unwrap();
    assert!(data.join(object).is_file() && way["lake"]["group"].is_string(), "{way}");
    assert_eq!(way["quarantine"], json!([]));
    assert_eq!(server.get(&format!("/v1/events/none/way?index={index}")).unwrap().0, 404);
}
