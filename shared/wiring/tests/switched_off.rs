//! A stage that was switched off and is on again.
#![allow(clippy::unwrap_used, reason = "a test reports by panic")]

use serde_json::{Value, json};
use sluice_domain::time::Timestamp;
use sluice_entry::settings::Settings;
use sluice_entry::{reports, schemas};
use sluice_stages::access::KeySpec;
use sluice_template::Topology;
use sluice_wiring::{TEMPLATE, Wiring};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
}

async fn open(data: &Path, off: &str) -> Wiring {
    let settings = Settings::from_layers([BTreeMap::from([("stages_off".to_owned(), off.to_owned())])]).unwrap();
    let topology = Topology::parse(TEMPLATE).unwrap();
    let reports = reports::load(&[]).unwrap();
    Wiring::open(data, &topology, Arc::new(schemas::registry(&[]).unwrap()), reports, &settings, now).await.unwrap()
}

async fn call(wiring: &Wiring, function: &str, method: &str, path: &str, key: &str, body: Option<Value>) -> Value {
    let event = json!({
        "version": "2.0", "routeKey": format!("{method} {path}"), "rawPath": path,
        "headers": {"authorization": format!("Bearer {key}"), "content-type": "application/json"},
        "requestContext": {"http": {"method": method, "path": path, "sourceIp": "127.0.0.1"}},
        "body": body.map(|body| body.to_string()),
    });
    let reply = wiring.functions[function].invoke(event.to_string().as_bytes(), now()).await.unwrap();
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    serde_json::from_str(reply["body"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_a_stage_was_off_for_are_counted_as_such_and_not_missed() {
    let data = tempfile::tempdir().unwrap();
    let mut key = String::new();
    for (off, events) in [("index", 3), ("", 2)] {
        let wiring = open(data.path(), off).await;
        if key.is_empty() {
            key = wiring.keys.create(KeySpec::admin(), None, now()).await.unwrap().0;
        }
        let event = json!({"source": "shop", "type": "order.paid", "data": {"total": 42}});
        let reply = call(&wiring, "ingest", "POST", "/v1/events", &key, Some(json!(vec![event; events]))).await;
        assert_eq!(reply["accepted"], events, "{reply}");
    }
    let status = call(&open(data.path(), "").await, "api", "GET", "/v1/status", &key, None).await;
    let ledger = &status["ledger"];
    assert_eq!(
        ledger["totals"]["search"],
        json!({"stored": 0, "quarantined": 0, "duplicates": 0, "off": 3, "in_flight": 2})
    );
    assert_eq!(ledger["totals"]["lake"]["in_flight"], 5, "{ledger}");
    assert_eq!(
        ledger["checks"]["search"]["adds_up"], true,
        "what waits in its queue is what it is still to get: {ledger}"
    );
    assert_eq!(ledger["adds_up"], true, "{ledger}");
}
