//! A user is erased: no row, document, record or mail tells of them afterwards, and everything else is as it was.

// A test says by panic what does not hold, also in the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use sluice_tests::{Server, eventually, python, sluice, sluice_text};
use std::path::{Path, PathBuf};

const USER: &str = "kim@example.org";
/// Stands in whatever the user sent, and nowhere else.
const SECRET: &str = "secret-of-kim";

fn event(id: &str, user: &str) -> Value {
    let of_user = if user == USER { SECRET } else { "page" };
    json!({"id": id, "source": "shop", "type": "web.event", "time": "2026-11-20T10:00:00Z", "userid": user,
        "data": {"url": format!("https://shop.example/{of_user}/{id}"), "memberId": user}})
}

fn send(server: &Server, ids: std::ops::Range<u32>) {
    let events: Vec<Value> = ids.map(|n| event(&n.to_string(), if n % 3 == 0 { USER } else { "lee" })).collect();
    let (status, reply) = server.post_json("/v1/events", &json!(events)).unwrap();
    assert_eq!((status, &reply["accepted"]), (202, &json!(events.len())), "{reply}");
    server.settle().unwrap();
}

/// Files below a folder whose bytes have a text.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if std::fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|at| at == text.as_bytes())) {
            found.push(path);
        }
    }
    found
}

/// Data files with a text in any column, and the rows of each state of a table that can be read.
const READ: &str = "
import sys, json, glob, duckdb
from pyiceberg.catalog.sql import SqlCatalog
data, texts = sys.argv[1], sys.argv[2:]
found = 0
for path in glob.glob(data + '/lake/*/data/**/*.parquet', recursive=True):
    for row in duckdb.execute('select * from read_parquet($f, hive_partitioning=false)', {'f': path}).fetchall():
        found += any(text in str(row) for text in texts)
catalog = SqlCatalog('sluice', uri=f'sqlite:///{data}/catalog.sqlite', warehouse=f'file://{data}')
table = catalog.load_table('lake.web_event')
states = [table.scan(snapshot_id=s.snapshot_id).to_arrow().num_rows for s in table.snapshots()]
print(json.dumps({'found': found, 'states': states, 'now': table.scan().to_arrow().num_rows}))
";

fn read(data: &Path) -> Option<Value> {
    let printed = python(READ, &[data.to_str().unwrap(), USER, SECRET]).unwrap()?;
    Some(serde_json::from_str(&printed).unwrap())
}

fn documents(server: &Server, user: &str) -> Value {
    let ask = json!({"size": 0, "track_total_hits": true, "query": {"term": {"userid": user}}});
    server.post_json("/v1/search", &ask).unwrap().1["hits"]["total"]["value"].clone()
}

#[test]
fn nothing_tells_of_a_user_who_was_erased() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data).unwrap();
    let rule = json!({"kind": "fluctuation", "user": USER, "threshold_pct": 5, "comparison": ">=",
        "channels": [{"kind": "email", "to": "alerts@example.org"}]});
    assert_eq!(server.post_json("/v1/rules", &rule).unwrap().0, 201);
    sluice_text(&data, &["demo"]).unwrap();
    (0..3).for_each(|n| send(&server, n * 30..(n + 1) * 30));
    sluice_text(&data, &["compact", "--table", "web_event"]).unwrap();
    send(&server, 90..120);
    let mut refused = event("refused", USER);
    refused["data"]["h"] = json!("no number");
    let (status, reply) = server.post_json("/v1/events", &json!([refused, event("beside", "lee")])).unwrap();
    assert_eq!((status, &reply["accepted"], &reply["rejected"]), (202, &json!(1), &json!(1)), "{reply}");
    server.settle().unwrap();
    let count = |user: &str| {
        server.sql_value(&format!("SELECT count(*) FROM web_event WHERE userid = '{user}'")).unwrap().as_u64().unwrap()
    };
    let all = server.sql_value("SELECT count(*) FROM web_event").unwrap().as_u64().unwrap();
    assert_eq!((count(USER), count("lee"), documents(&server, USER)), (40, 81, json!(40)));
    let (quarantine, outbox, search) = (data.join("quarantine"), data.join("outbox"), data.join("search"));
    let records = || server.get("/v1/quarantine").unwrap().1["records"].as_array().map_or(0, Vec::len);
    eventually("the refused event is kept", || Ok(records() == 1)).unwrap();
    let mails = || files_with(&outbox, "alerts@example.org").len();
    let mails_before = std::fs::read_dir(&outbox).unwrap().count();
    assert!(mails() > 0 && mails_before > mails(), "{} of {mails_before}", mails());
    assert!(!files_with(&search, SECRET).is_empty(), "the search has its terms as they are");
    let Some(before) = read(&data) else { return };
    assert!(before["found"].as_u64().unwrap() >= 40, "{before}");

    let receipt: Value =
        serde_json::from_str(&sluice_text(&data, &["users", "erase", USER, "--json"]).unwrap()).unwrap();
    assert_eq!(receipt["state"], "erased", "{receipt}");
    let erased = &receipt["erased"];
    assert_eq!(
        (&erased["rows"], &erased["documents"], &erased["records"]),
        (&json!(40), &json!(40), &json!(1)),
        "{receipt}"
    );
    assert_eq!(
        (&erased["rules"], &erased["mails"]),
        (&json!(1), &json!(mails_before - std::fs::read_dir(&outbox).unwrap().count()))
    );
    assert_eq!(
        (count(USER), count("lee"), documents(&server, USER), documents(&server, "lee")),
        (0, 81, json!(0), json!(81))
    );
    let after = read(&data).unwrap();
    assert_eq!(after["found"], 0, "{after}");
    assert_eq!(after["now"], all - 40, "{after}");
    let states = |read: &Value| read["states"].as_array().unwrap().len();
    assert!(states(&after) < states(&before), "states with the rows are gone: {before} {after}");
    assert_eq!((mails(), files_with(&outbox, USER).len()), (0, 0));
    eventually("the search has nothing on its disk", || {
        Ok(files_with(&search, SECRET).is_empty() && files_with(&search, USER).is_empty())
    })
    .unwrap();
    for text in [USER, SECRET, "c2VjcmV0LW9mLWtpb"] {
        assert!(files_with(&quarantine, text).is_empty(), "in plain, or in base64");
    }
    assert_eq!(records(), 1, "the record stays, blanked");
    let listed = sluice_text(&data, &["users", "erasures", "--json"]).unwrap();
    assert!(listed.contains(receipt["id"].as_str().unwrap()) && !listed.contains("kim"), "{listed}");
    let audits = json!({"size": 100, "query": {"term": {"type": "sluice.audit"}}});
    server.settle().unwrap();
    let audits = server.post_json("/v1/search", &audits).unwrap().1.to_string();
    assert!(audits.contains("users.erase") && !audits.contains("kim"), "{audits}");
    let ledger = sluice(&data, &["ledger", "--deep"]).unwrap();
    assert!(ledger.status.success(), "{}", String::from_utf8_lossy(&ledger.stdout));

    // Who comes back is another matter; the rest goes on.
    send(&server, 120..150);
    assert_eq!((count(USER), count("lee")), (10, 101));
    assert_eq!(server.stop().unwrap(), Some(0));
    let server = Server::start(&data).unwrap();
    assert_eq!(server.sql_value("SELECT count(*) FROM web_event WHERE userid = 'lee'").unwrap(), 101);
}

#[test]
fn erasing_takes_an_admin_and_an_id() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let _server = Server::start(&data).unwrap();
    let read = sluice_text(&data, &["keys", "add", "--scope", "read"]).unwrap();
    for (arguments, says) in [
        (vec!["users", "erase", USER, "--key", read.trim()], "admin"),
        (vec!["users", "erase", &"x".repeat(1_100)], "1024 bytes"),
    ] {
        let output = sluice(&data, &arguments).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{arguments:?}: {said}");
    }
    let listed: Value = serde_json::from_str(&sluice_text(&data, &["users", "erasures", "--json"]).unwrap()).unwrap();
    assert_eq!(listed["erasures"], json!([]));
}
