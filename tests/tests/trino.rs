//! The lake's tables as Trino sees them, the engine behind Athena: it reads what one machine wrote, rewrites it, and both go on.

// A test says by panic what does not hold, also in the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use sluice_tests::Server;
use sluice_tests::trino::{Trino, sqlite_catalog};
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
                json!({"symbol": "SLUICE", "price": format!("{n}.{:06}", n + round), "halted": n % 2 == 0, "business_date": "2026-11-20"}),
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
    [ours, trino.query(&sql(&format!("rewritten.lake.{table}"))).unwrap()]
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
            .query(&format!("SELECT file_path FROM rewritten.lake.\"{table}$files\""))
            .unwrap()
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    };
    for table in TABLES {
        let recorded = files(table);
        assert!(recorded.len() >= 6, "{table}: {recorded:?}");
        trino.query(&format!("ALTER TABLE rewritten.lake.{table} EXECUTE optimize")).unwrap();
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
