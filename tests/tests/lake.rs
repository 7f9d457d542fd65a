//! The lake's tables as other engines see them: PyIceberg opens the catalog of one machine as it is.

// A test says by panic what does not hold, also in the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use sluice_tests::{Server, eventually, python, sluice, sluice_text};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    (dir, data)
}

/// The snippet of docs/lake.md, and then each table's rows, ids, spread of times, commit and metadata in figures.
const READ: &str = "
import sys, json
from pyiceberg.catalog.sql import SqlCatalog
data = sys.argv[1]
catalog = SqlCatalog('sluice', uri=f'sqlite:///{data}/catalog.sqlite', warehouse=f'file://{data}')
out = {}
for name in catalog.list_tables('lake'):
    table = catalog.load_table(name)
    rows = table.scan().to_arrow()
    files = table.inspect.files().to_pylist()
    out[name[1]] = {
        'rows': rows.num_rows,
        'ids': len(set(zip(rows['source'].to_pylist(), rows['id'].to_pylist()))),
        'counted': sum(f['record_count'] for f in files),
        'files': len(files),
        'paths': len({f['file_path'] for f in files}),
        'commit': int(table.properties['sluice.commit']),
        'snapshots': len(table.snapshots()),
        'field_ids': {f.name: f.field_id for f in table.schema().fields},
        'format': table.metadata.format_version,
        'partition': str(table.spec().fields[0].transform),
        'from': str(min(rows['time'].to_pylist())) if rows.num_rows else None,
    }
print(json.dumps(out))
";

fn read(data: &Path) -> Option<BTreeMap<String, Value>> {
    let printed = python(READ, &[data.to_str().unwrap()]).unwrap()?;
    Some(serde_json::from_str(&printed).unwrap())
}

#[test]
fn pyiceberg_sees_the_rows_that_sql_sees() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    sluice_text(&data, &["demo"]).unwrap();
    server.settle().unwrap();
    let Some(tables) = read(&data) else { return };
    assert!(tables.len() >= 6, "{:?}", tables.keys());
    for (name, table) in &tables {
        let rows = server.sql_value(&format!("SELECT count(*) FROM {name}")).unwrap();
        assert!(rows.as_u64().unwrap() > 0, "{name}");
        assert_eq!((&table["rows"], &table["counted"], &table["ids"]), (&rows, &rows, &rows), "{name}");
        assert_eq!(table["files"], table["paths"], "{name}: no file is there twice");
        assert_eq!(
            (&table["format"], &table["field_ids"]["id"], &table["field_ids"]["time"]),
            (&json!(2), &json!(1), &json!(4))
        );
        assert_eq!(table["commit"], table["snapshots"], "{name}: each commit is a snapshot");
    }
    let trade = &tables["quote_trade"];
    let schema: Value = serde_json::from_str(include_str!("../../schemas/quote.trade.json")).unwrap();
    assert_eq!(trade["field_ids"]["price"], schema["properties"]["price"]["x-column-id"]);
    let first = server.sql_value("SELECT to_char(min(time), '%Y-%m-%d %H:%M:%S') FROM quote_trade").unwrap();
    assert!(trade["from"].as_str().unwrap().starts_with(first.as_str().unwrap()), "{trade} {first}");
}

/// Another engine puts all files of a table into one, in one snapshot.
const REWRITE: &str = "
import sys
from pyiceberg.catalog.sql import SqlCatalog
data = sys.argv[1]
catalog = SqlCatalog('sluice', uri=f'sqlite:///{data}/catalog.sqlite', warehouse=f'file://{data}')
table = catalog.load_table(('lake', sys.argv[2]))
table.overwrite(table.scan().to_arrow())
print(len(table.inspect.files()))
";

#[test]
fn commits_go_on_after_another_engine_has_rewritten_the_table() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let send = |from: u32| {
        let events: Vec<Value> = (from..from + 20)
            .map(|n| {
                json!({"id": format!("e{n}"), "source": "shop", "type": "http.access", "time": "2026-11-20T10:00:00Z",
                            "data": {"method": "GET", "path": "/", "status": 200}})
            })
            .collect();
        let (status, reply) = server.post_json("/v1/events", &json!(events)).unwrap();
        assert_eq!((status, &reply["accepted"]), (202, &json!(20)), "{reply}");
        server.settle().unwrap();
    };
    (0..3).for_each(|n| send(n * 20));
    let before = read(&data);
    let Some(files) = python(REWRITE, &[data.to_str().unwrap(), "http_access"]).unwrap() else { return };
    assert_eq!(files, "1");
    assert_eq!(server.sql_value("SELECT count(*) FROM http_access").unwrap(), 60, "one machine reads what it wrote");
    send(60);
    let after = read(&data).unwrap();
    let commit = |tables: &BTreeMap<String, Value>| tables["http_access"]["commit"].as_u64().unwrap();
    assert_eq!(commit(&after), commit(&before.unwrap()) + 1, "the property is carried over");
    for figure in ["rows", "ids", "counted"] {
        assert_eq!(after["http_access"][figure], 80, "{figure}");
    }
    assert_eq!(server.sql_value("SELECT count(DISTINCT id) FROM http_access").unwrap(), 80);
}

#[test]
fn files_are_in_their_table_within_seconds_and_after_a_restart_without_a_message() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let event = |id: &str| json!([{"id": id, "source": "shop", "type": "order.paid", "data": {"total": 1}}]);
    server.post_json("/v1/events", &event("1")).unwrap();
    eventually("the row is in its table", || Ok(server.sql_value("SELECT count(*) FROM event")? == 1)).unwrap();
    assert_eq!(server.stop().unwrap(), Some(0));
    // As a version before there were tables left it: files are recorded, and nobody was told.
    let again = python(
        "
import sys, os, glob, shutil, sqlite3
data = sys.argv[1]
for file in glob.glob(data + '/catalog.sqlite*'):
    os.remove(file)
shutil.rmtree(data + '/lake/event/metadata')
db = sqlite3.connect(data + '/sluice.db')
db.execute(\"DELETE FROM item WHERE partition = 'commit'\")
db.execute(\"DELETE FROM item WHERE partition = 'filed-rows#event'\")
db.execute(\"UPDATE item SET partition = 'file#event' WHERE partition = 'filed#event'\")
db.commit()
print('old')
",
        &[data.to_str().unwrap()],
    );
    if again.unwrap().is_none() {
        return;
    }
    let server = Server::start(&data).unwrap();
    eventually("the row is in its table", || Ok(server.sql_value("SELECT count(*) FROM event")? == 1)).unwrap();
}

fn access(id: &str) -> Value {
    json!({"id": id, "source": "shop", "type": "http.access", "time": "2026-11-20T10:00:00Z",
        "data": {"method": "GET", "path": "/", "status": 200}})
}

fn compact(data: &Path, arguments: &[&str]) -> Value {
    let arguments = [&["compact", "--json"], arguments].concat();
    serde_json::from_str(&sluice_text(data, &arguments).unwrap()).unwrap()
}

#[test]
fn compaction_makes_few_files_of_many_and_leaves_one_row_of_each_event() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let send = |ids: &[&str]| {
        let events: Vec<Value> = ids.iter().map(|id| access(id)).collect();
        let (status, reply) = server.post_json("/v1/events", &json!(events)).unwrap();
        assert_eq!(status, 202, "{reply}");
        server.settle().unwrap();
    };
    // Repeated one by one: in other company each time, so that no request is the same.
    for ids in [["a", "b"], ["a", "c"], ["d", "a"], ["e", "c"]] {
        send(&ids);
    }
    let rows = || server.sql_value("SELECT count(*) FROM http_access").unwrap();
    assert_eq!(rows(), 8);
    let planned = compact(&data, &["--dry-run"]);
    assert_eq!(planned["compacted"][0]["removed"]["rows"], 8, "{planned}");
    assert_eq!((rows(), &planned["compacted"][0]["added"]), (json!(8), &Value::Null));
    let done = compact(&data, &[]);
    let of = &done["compacted"][0];
    assert_eq!((&of["table"], &of["partition"]), (&json!("http_access"), &json!("dt=2026-11-20")), "{done}");
    assert_eq!((&of["added"]["files"], &of["added"]["rows"]), (&json!(1), &json!(5)), "{done}");
    assert_eq!(rows(), 5);
    assert_eq!(server.sql_value("SELECT count(DISTINCT id) FROM http_access").unwrap(), 5);
    // The first that was received stays.
    let first = "SELECT count(*) FROM http_access a JOIN http_access b ON a.id = 'a' AND b.id = 'b' AND a.receivedtime = b.receivedtime";
    assert_eq!(server.sql_value(first).unwrap(), 1);
    assert_eq!(compact(&data, &[])["compacted"], json!([]), "nothing is left to do");
    sluice_text(&data, &["ledger", "--deep"]).unwrap();
    // Late rows, one of them known.
    send(&["f", "b"]);
    assert_eq!(rows(), 7);
    let again = compact(&data, &["--table", "http_access"]);
    assert_eq!(again["compacted"][0]["added"]["rows"], 6, "{again}");
    assert_eq!(compact(&data, &["--table", "game_start"])["compacted"], json!([]));
    sluice_text(&data, &["ledger", "--deep"]).unwrap();
    let Some(tables) = read(&data) else { return };
    let table = &tables["http_access"];
    for (figure, expected) in [("rows", 6), ("ids", 6), ("counted", 6), ("files", 1)] {
        assert_eq!(table[figure], expected, "{figure}: {table}");
    }
    assert_eq!(table["snapshots"], table["commit"].as_u64().unwrap() + 2, "a run that finds nothing writes nothing");
}

#[test]
fn an_open_partition_is_left_alone_until_it_is_asked_for() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    for n in 0..3 {
        let event = json!([{"id": format!("e{n}"), "source": "shop", "type": "order.paid", "data": {"total": 1}}]);
        assert_eq!(server.post_json("/v1/events", &event).unwrap().0, 202);
        server.settle().unwrap();
    }
    assert_eq!(compact(&data, &[])["compacted"], json!([]));
    let folder = server.sql_value("SELECT to_char(now(), '%Y-%m-%d') FROM event LIMIT 1").unwrap();
    let partition = format!("dt={}", folder.as_str().unwrap());
    let done = compact(&data, &["--table", "event", "--partition", &partition]);
    assert_eq!(done["compacted"][0]["added"]["rows"], 3, "{done}");
    let unknown = server.post_json("/v1/tables/compact", &json!({"table": "nothing"})).unwrap();
    assert_eq!(unknown.0, 404, "{}", unknown.1);
}

/// Reads the table until it is told to stop, and says what it saw.
const READ_ON: &str = "
import sys, json, os
from pyiceberg.catalog.sql import SqlCatalog
data = sys.argv[1]
seen = []
while not os.path.exists(data + '/stop'):
    catalog = SqlCatalog('sluice', uri=f'sqlite:///{data}/catalog.sqlite', warehouse=f'file://{data}')
    if ('lake', 'http_access') in catalog.list_tables('lake'):
        rows = catalog.load_table('lake.http_access').scan().to_arrow()
        seen.append([rows.num_rows, len(set(rows['id'].to_pylist()))])
print(json.dumps(seen))
";

#[test]
fn whoever_reads_while_commits_and_compactions_go_on_sees_whole_requests_each_row_once() {
    const EVENTS: usize = 20;
    const REQUESTS: usize = 40;
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let folder = data.to_str().unwrap().to_owned();
    let is_whole = |seen: &[Value]| {
        for pair in seen.windows(2) {
            assert!(pair[0].as_u64() <= pair[1].as_u64(), "{pair:?}: rows do not go away");
        }
        assert!(seen.iter().all(|rows| rows.as_u64().unwrap().is_multiple_of(EVENTS as u64)), "{seen:?}");
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| python(READ_ON, &[&folder]).unwrap());
        let sql = scope.spawn(|| {
            let mut seen = Vec::new();
            while !data.join("stop").exists() {
                let counts = "SELECT concat(count(*), ' ', count(DISTINCT id)) FROM http_access";
                let counted = server.sql_value(counts).unwrap();
                let (rows, ids) =
                    counted.as_str().unwrap().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
                assert_eq!(rows, ids, "each row once");
                seen.push(json!(rows.parse::<u64>().unwrap()));
            }
            seen
        });
        for request in 0..REQUESTS {
            let events: Vec<Value> = (0..EVENTS).map(|n| access(&format!("{request}-{n}"))).collect();
            assert_eq!(server.post_json("/v1/events", &json!(events)).unwrap().0, 202);
            if request % 5 == 4 {
                server.settle().unwrap();
                compact(&data, &[]);
            }
        }
        server.settle().unwrap();
        compact(&data, &[]);
        std::fs::write(data.join("stop"), "").unwrap();
        let seen = sql.join().unwrap();
        is_whole(&seen);
        assert!(seen.len() > 3, "{seen:?}");
        let Some(other) = other.join().unwrap() else { return };
        let other: Vec<[Value; 2]> = serde_json::from_str(&other).unwrap();
        assert!(other.iter().all(|[rows, ids]| rows == ids), "{other:?}");
        is_whole(&other.into_iter().map(|[rows, _]| rows).collect::<Vec<_>>());
    });
    assert_eq!(server.sql_value("SELECT count(DISTINCT id) FROM http_access").unwrap(), EVENTS * REQUESTS);
    assert_eq!(server.sql_value("SELECT count(*) FROM http_access").unwrap(), EVENTS * REQUESTS);
    sluice_text(&data, &["ledger", "--deep"]).unwrap();
}

/// Every row of the tables, sorted, and those of one table as it stood at a moment, milliseconds since the epoch.
const ROWS: &str = "
import sys, json
from pyiceberg.catalog.sql import SqlCatalog
data, name, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
catalog = SqlCatalog('sluice', uri=f'sqlite:///{data}/catalog.sqlite', warehouse=f'file://{data}')
rows = lambda scan: sorted(str(row) for row in scan.to_arrow().to_pylist())
out = {name[1]: rows(catalog.load_table(name).scan()) for name in catalog.list_tables('lake')}
table = catalog.load_table(('lake', name))
out['as it stood'] = rows(table.scan(snapshot_id=table.snapshot_as_of_timestamp(at).snapshot_id))
print(json.dumps(out))
";

#[test]
fn a_moved_folder_is_followed_and_nothing_of_the_old_one_is_needed() {
    let (dir, data) = folder();
    let server = Server::start(&data).unwrap();
    sluice_text(&data, &["demo"]).unwrap();
    let send = |server: &Server, ids: &[&str]| {
        let events: Vec<Value> = ids.iter().map(|id| access(id)).collect();
        assert_eq!(server.post_json("/v1/events", &json!(events)).unwrap().0, 202);
        server.settle().unwrap();
    };
    send(&server, &["m1", "m2"]);
    let moment = server.sql_value("SELECT to_char(now(), '%Y-%m-%dT%H:%M:%S%.3fZ') FROM http_access LIMIT 1").unwrap();
    let moment = moment.as_str().unwrap().to_owned();
    send(&server, &["m1", "m3"]);
    compact(&data, &[]);
    let counts = |server: &Server| {
        let of = |sql: &str| server.sql_value(sql).unwrap();
        [
            of("SELECT count(*) FROM http_access"),
            of(&format!("SELECT count(*) FROM table_at('http_access', '{moment}')")),
            of("SELECT count(*) FROM quote_trade"),
        ]
    };
    let before = counts(&server);
    assert_ne!(before[0], before[1]);
    // One table has metadata by another engine, which compresses it.
    python(REWRITE, &[data.to_str().unwrap(), "quote_trade"]).unwrap();
    let refused = sluice(&data, &["lake", "relocate"]).unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("in use by another"));
    assert_eq!(server.stop().unwrap(), Some(0));
    assert_eq!(sluice_text(&data, &["lake", "relocate"]).unwrap().trim(), "nothing was moved");
    let at_ms = sluice_domain::time::Timestamp::parse_rfc3339(&moment).unwrap().micros() / 1_000;
    let read = |data: &Path| python(ROWS, &[data.to_str().unwrap(), "http_access", &at_ms.to_string()]).unwrap();
    let rows = read(&data);
    let moved = dir.path().join("another place");
    std::fs::rename(&data, &moved).unwrap();
    let refused = sluice(&moved, &["up", "--listen", "127.0.0.1:0"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    for part in [data.to_str().unwrap(), moved.to_str().unwrap(), "sluice lake relocate --data"] {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
    let followed = sluice_text(&moved, &["lake", "relocate"]).unwrap();
    assert!(followed.contains("http_access: from") && followed.contains("quote_trade: from"), "{followed}");
    assert_eq!(sluice_text(&moved, &["lake", "relocate"]).unwrap().trim(), "nothing was moved");
    assert_eq!(read(&moved), rows, "each row as it was");
    let server = Server::start(&moved).unwrap();
    assert_eq!(counts(&server), before);
    send(&server, &["m2", "m4"]);
    assert_eq!(server.sql_value("SELECT count(*) FROM http_access WHERE id IN ('m1', 'm2', 'm3', 'm4')").unwrap(), 5);
    compact(&moved, &["--table", "http_access"]);
    assert_eq!(server.sql_value("SELECT count(*) FROM http_access WHERE id IN ('m1', 'm2', 'm3', 'm4')").unwrap(), 4);
    assert_eq!(counts(&server)[1], before[1]);
    sluice_text(&moved, &["ledger", "--deep"]).unwrap();
    assert!(!data.exists());
    let nowhere = sluice(&data, &["lake", "relocate"]).unwrap();
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("there is no lake in"));
    assert!(!data.exists(), "no folder is made");
}

#[test]
fn reports_of_ones_own_are_run_beside_the_bundled_ones_and_a_broken_one_is_named() {
    let (_dir, data) = folder();
    std::fs::create_dir_all(data.join("reports")).unwrap();
    let file = |name: &str, text: &[u8]| std::fs::write(data.join("reports").join(name), text).unwrap();
    file(
        "visits.sql",
        b"-- Visits of a path.\n-- $1 path text: Path.\n-- cache 5 s\nSELECT count(*) AS visits FROM http_access WHERE path = $1\n",
    );
    file("empty-it.sql", b"-- Not a question.\n-- cache 5 s\nDELETE FROM http_access\n");
    file("broken.sql", b"SELECT 1\n");
    file("damaged.sql", b"\xff");
    file("ingest.sql", b"-- Mine.\n-- cache 5 s\nSELECT 1 AS one\n");
    file("notes.txt", b"no report");
    let server = Server::start(&data).unwrap();
    assert_eq!(server.post_json("/v1/events", &json!([access("a"), access("b")])).unwrap().0, 202);
    server.settle().unwrap();
    let (_, list) = server.get("/v1/reports").unwrap();
    let names = |of: &str, by: &str| {
        list[of].as_array().unwrap().iter().map(|row| row[by].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("reports", "name"), ["empty-it", "ingest", "plays-per-day", "price-ranges", "requests", "visits"]);
    assert_eq!(names("refused", "file"), ["broken.sql", "damaged.sql", "ingest.sql"]);
    let run = |arguments: &[&str]| sluice_text(&data, &[&["report"], arguments].concat());
    assert_eq!(run(&["visits", "--param", "path=/", "--format", "ndjson"]).unwrap().trim(), "{\"visits\":2}");
    assert!(!run(&["ingest", "--format", "json"]).unwrap().contains("one"), "the bundled one");
    let shown = sluice(&data, &["report"]).unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("Visits of a path."));
    let said = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(said.contains("`ingest.sql` cannot be used") && said.contains("there is a report of this name"), "{said}");
    let log = std::fs::read_to_string(data.with_extension("log")).unwrap();
    assert!(log.contains("broken.sql") && log.contains("damaged.sql"), "{log}");
    assert!(format!("{:#}", run(&["broken"]).unwrap_err()).contains("`-- TEXT`"));
    run(&["empty-it"]).unwrap_err();
    assert_eq!(server.sql_value("SELECT count(*) FROM http_access").unwrap(), 2);
}
