//! The lake's tables as other engines see them: PyIceberg opens the catalog of one machine as it is.

// A test says by panic what does not hold, also in the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use sluice_tests::{Server, eventually, python, sluice_text};
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
