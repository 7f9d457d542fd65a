//! The lake in Amazon Redshift, as far as that can be tried without it: its SQL by a parser, and the loader over a real table and a fake of
//! the Data API (`tests/redshift.py`).

// A test says by panic what does not hold.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use sluice_tests::{Server, sluice_text, tool};
use std::path::Path;

/// Runs the tests of one kind; answers `false` where there is no Python for it, which is said.
fn run(arguments: &[&str]) -> bool {
    let Some(mut python) = tool("python").unwrap() else { return false };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("redshift.py");
    let output = python.arg(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tests: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    assert!(tests >= 3, "{tests}");
    true
}

#[test]
fn the_sql_for_redshift_is_of_its_language() {
    run(&["sql"]);
}

#[test]
fn appended_objects_are_loaded_into_redshift_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data).unwrap();
    let event = |id: &str, time: &str| {
        json!({"id": id, "source": "shop", "type": "http.access", "time": time,
            "data": {"method": "GET", "path": "/", "status": 200, "elapsed_ms": 1.5}})
    };
    let send = |ids: &[&str]| {
        let days = ["2026-11-18T10:00:00Z", "2026-11-19T10:00:00.123456Z", "2026-11-20T23:59:59Z"];
        let events: Vec<Value> = ids.iter().flat_map(|id| days.map(|day| event(id, day))).collect();
        assert_eq!(server.post_json("/v1/events", &json!(events)).unwrap().0, 202);
        server.settle().unwrap();
    };
    for ids in [["a", "b"], ["a", "c"], ["d", "e"], ["b", "f"]] {
        send(&ids);
    }
    sluice_text(&data, &["compact", "--table", "http_access"]).unwrap();
    send(&["g", "a"]);
    assert_eq!(server.stop().unwrap(), Some(0));
    run(&["loads", data.to_str().unwrap()]);
}
