//! The lake's tables as Trino sees them, the engine behind Athena: it reads what one machine wrote, rewrites it, and both go on.

// A test says by panic what does not hold, also in the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use sluice_tests::trino::{Trino, sqlite_catalog};
use sluice_tests::{Server, eventually, python, sluice_text};
use std::collections::BTreeMap;

/// Tables that [`events`] are of.
const TABLES: [&str; 4] = ["game_result", "http_access", "quote_trade", "event"];

/// A round of events of several types, over two hours of two days.
fn events(round: u32) -> Value {
    let time = |n: u32| format!("2026-11-{}T{}:59:59.{:06}Z", 19 + n % 2, 10 + n % 3, n * 1_001);
    let event = |n: u32, kind: &str, data: Value| json!({"id": format!("{kind}-{round}-{n}"), "source": "test", "type": kind, "time": time(n), "data": data});
    let of_each = |n: u32| {
        [
            event(
                n,
                "http.access",
                json!({"method": "GET", "route": "/v1/é{id}", "status": 200 + n, "elapsed_ms": 0.1 * f64::from(n), "bytes": 1_u64 << 40}),
            ),
            event(
                n,
                "game.result",
                json!({"play_id": format!("p{round}-{n}"), "total_squares": 20, "clicked_count": n, "reaction_ms": [n, n + 1]}),
            ),
            event(
                n,
                "quote.trade",
                json!({"symbol": "SLUICE", "price": format!("{n}.{:06}", n + round), "halted": n.is_multiple_of(2), "business_date": "2026-11-20"}),
            ),
            event(n, "order.paid", json!({"total": n, "lines": [{"sku": "a'b\"c"}]})),
        ]
    };
    (0..12).flat_map(of_each).collect()
}

/// All rows of a table, by SQL of ours and by Trino.
fn rows(server: &Server, trino: &Trino, table: &str) -> [Vec<Vec<Value>>; 2] {
    let sql = |table: &str| format!("SELECT * FROM {table} ORDER BY source, id");
    let (status, reply) = server.post_json("/v1/sql", &json!({"sql": sql(table)})).unwrap();
    assert_eq!((status, &reply["truncated"]), (200, &json!(false)), "{table}: {reply}");
    let ours = serde_json::from_value(reply["rows"].clone()).unwrap();
    [ours, trino.query_in("rewritten", &sql(table)).unwrap()]
}

#[test]
fn trino_sees_what_sql_sees_and_commits_go_on_after_it_has_rewritten_the_tables() {
    let Some(trino) = Trino::shared().unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data).unwrap();
    let send = |round: u32| {
        let (status, reply) = server.post_json("/v1/events", &events(round)).unwrap();
        assert_eq!((status, &reply["accepted"]), (202, &json!(48)), "{reply}");
        server.settle().unwrap();
    };
    (0..3).for_each(send);
    trino.add_catalog("rewritten", &sqlite_catalog(&data)).unwrap();
    let both = |expected: usize| -> BTreeMap<&str, Vec<Vec<Value>>> {
        let of = |table| {
            let [ours, theirs] = rows(&server, trino, table);
            assert_eq!(ours.len(), expected, "{table}");
            assert_eq!(ours, theirs, "{table}");
            (table, ours)
        };
        TABLES.into_iter().map(of).collect()
    };
    let before = both(36);
    let files = |table: &str| {
        trino
            .query_in("rewritten", &format!("SELECT file_path FROM \"{table}$files\""))
            .unwrap()
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    };
    for table in TABLES {
        let recorded = files(table);
        assert!(recorded.len() >= 6, "{table}: {recorded:?}");
        trino.query_in("rewritten", &format!("ALTER TABLE {table} EXECUTE optimize")).unwrap();
        let rewritten = files(table);
        assert!(
            rewritten.len() < recorded.len() && rewritten.iter().all(|file| !recorded.contains(file)),
            "{table}: {rewritten:?}"
        );
    }
    assert_eq!(both(36), before);
    (3..5).for_each(send);
    let after = both(60);
    for (table, rows) in &before {
        assert!(rows.iter().all(|row| after[table].contains(row)), "{table}");
    }
}

/// What is asked beside the days.
const ASKED: [(&str, &str, &str); 3] =
    [("requests", "least", "10"), ("price-ranges", "symbol", "SLUICE"), ("price-ranges", "symbol", "")];

#[test]
fn every_report_says_the_same_by_the_engine_of_one_machine_and_by_that_of_athena() {
    let Some(trino) = Trino::shared().unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data).unwrap();
    sluice_text(&data, &["demo"]).unwrap();
    server.settle().unwrap();
    trino.add_catalog("reported", &sqlite_catalog(&data)).unwrap();
    // On one machine a table is there with its first rows.
    let tables = trino.query_in("reported", "SHOW TABLES").unwrap();
    let tables: Vec<&str> = tables.iter().filter_map(|row| row[0].as_str()).collect();
    for report in &sluice_entry::reports::load(&[]).unwrap().usable {
        let further =
            ASKED.iter().filter(|(name, ..)| *name == report.name).map(|(_, name, value)| format!("&{name}={value}"));
        for further in std::iter::once(String::new()).chain(further) {
            let (status, reply) =
                server.get(&format!("/v1/reports/{}?from=2000-01-01&to=2099-12-31{further}", report.name)).unwrap();
            assert_eq!(status, 200, "{}: {reply}", report.name);
            let values: Vec<Value> = report.parameters.iter().map(|p| reply["parameters"][&p.name].clone()).collect();
            // What Athena is asked.
            let statement =
                sluice_statement::standard_text(&report.statement(tables.iter().copied()), &values).unwrap();
            let theirs = trino.query_in("reported", &statement).unwrap();
            assert_eq!(reply["rows"], json!(theirs), "{}{further}", report.name);
            assert!(!theirs.is_empty(), "{}{further} says something", report.name);
        }
        let (status, reply) =
            server.get(&format!("/v1/reports/{}?from=2000-01-01&to=2000-01-01", report.name)).unwrap();
        assert_eq!((status, &reply["rows"]), (200, &json!([])), "{}: the days bound it", report.name);
    }
}

/// Ids, and values of the field that came later, as PyIceberg reads them; and what the table says of the field.
const GAINED: &str = "
import sys, json
from pyiceberg.catalog.sql import SqlCatalog
data = sys.argv[1]
table = SqlCatalog('sluice', uri=f'sqlite:///{data}/catalog.sqlite', warehouse=f'file://{data}').load_table('lake.order_paid')
rows = table.scan(selected_fields=('id', 'total', 'currency', 'lines')).to_arrow().sort_by('id').to_pylist()
field = table.schema().find_field('currency')
print(json.dumps([[[r['id'], r['total'], r['currency'], r['lines']] for r in rows], field.field_id, field.doc]))
";

#[test]
fn a_field_that_a_schema_file_gains_is_a_column_for_every_engine_and_what_is_no_addition_waits() {
    let Some(trino) = Trino::shared().unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let schema = |properties: Value| {
        let file =
            json!({"type": "object", "x-type": "order.paid", "description": "An order.", "properties": properties});
        std::fs::create_dir_all(data.join("schemas")).unwrap();
        std::fs::write(data.join("schemas/order.paid.json"), file.to_string()).unwrap();
        Server::start(&data).unwrap()
    };
    let send = |server: &Server, id: &str, data: Value| {
        let event =
            json!([{"id": id, "source": "shop", "type": "order.paid", "time": "2026-11-20T10:00:00Z", "data": data}]);
        let (status, reply) = server.post_json("/v1/events", &event).unwrap();
        assert_eq!(status, 202, "{reply}");
    };
    let total = json!({"type": "integer", "x-column-id": 101});
    let currency = json!({"type": "string", "description": "ISO 4217.", "x-column-id": 102});
    let lines = json!({"type": "array", "items": {"type": "string"}, "x-column-id": 103});
    let gained = json!({"total": total, "currency": currency, "lines": lines});

    let server = schema(json!({"total": total}));
    send(&server, "1", json!({"total": 1, "currency": "KRW"}));
    server.settle().unwrap();
    server.stop().unwrap();
    let server = schema(gained.clone());
    let sql = "SELECT id, total, currency, lines FROM order_paid ORDER BY id";
    let rows = |server: &Server| server.post_json("/v1/sql", &json!({"sql": sql})).unwrap().1["rows"].clone();
    let (before, after) = (json!(["1", 1, null, null]), json!(["2", 2, "EUR", ["a", "b"]]));
    assert_eq!(rows(&server), json!([before]), "before a file has the field");
    send(&server, "2", json!({"total": 2, "currency": "EUR", "lines": ["a", "b"]}));
    server.settle().unwrap();
    assert_eq!(rows(&server), json!([before, after]));
    trino.add_catalog("gained", &sqlite_catalog(&data)).unwrap();
    assert_eq!(json!(trino.query_in("gained", sql).unwrap()), json!([before, after]));
    let said = trino.query_in("gained", "SHOW COLUMNS FROM order_paid LIKE 'currency'").unwrap();
    assert_eq!(said[0][3], "ISO 4217.");
    if let Some(read) = python(GAINED, &[data.to_str().unwrap()]).unwrap() {
        assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), json!([[before, after], 102, "ISO 4217."]));
    }
    server.stop().unwrap();

    // The id moves: events are taken, and wait for their table.
    let server =
        schema(json!({"total": {"type": "integer", "x-column-id": 104}, "currency": currency, "lines": lines}));
    send(&server, "3", json!({"total": 3}));
    let log = data.with_extension("log");
    eventually("the log says what does not go", || {
        let log = std::fs::read_to_string(&log)?;
        Ok(log.contains("the column `total` has the id 101 in the table, and `total` has 104 in the file"))
    })
    .unwrap();
    assert_eq!(trino.query_in("gained", "SELECT count(*) FROM order_paid").unwrap(), [[json!(2)]]);
    server.stop().unwrap();

    // The field is taken out of the file, and stays in the table.
    let server = schema(json!({"total": total, "lines": lines}));
    send(&server, "4", json!({"total": 4}));
    server.settle().unwrap();
    let read = trino.query_in("gained", "SELECT id, currency FROM order_paid ORDER BY id").unwrap();
    assert_eq!(json!(read), json!([["1", null], ["2", "EUR"], ["3", null], ["4", null]]));
}
