//! Named reports: what is asked of the lake, how often, and in which forms it is answered.

use super::{World, now};
use serde_json::{Value, json};
use sluice_domain::report::Reports;
use sluice_domain::time::{SECOND_US, Timestamp};
use sluice_stages::access::KeySpec;
use sluice_stages::http::{Request, Response};
use std::collections::BTreeMap;
use std::sync::Arc;

const PLAYS: &str = "-- Plays of a day.\n-- $1 from date = today - 1: First day.\n-- $2 who text = \"\": Whose.\n-- cache 60 s\nSELECT $1, $2\n";

pub(super) fn files() -> Arc<Reports> {
    let all = "-- All.\n-- $1 n integer: How many.\n-- cache 5 s\nSELECT $1 FROM {every table}\n";
    let own = [("broken.sql".to_owned(), Ok("SELECT 1\n".to_owned()))];
    Arc::new(Reports::load(&[("all.sql", all), ("plays.sql", PLAYS)], &own).unwrap())
}

async fn ask(world: &World, key: &str, name: &str, query: &[(&str, &str)], accept: &str, at: Timestamp) -> Response {
    let request = Request {
        method: "GET".into(),
        path: format!("/v1/reports/{name}"),
        query: query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        headers: BTreeMap::from([
            ("authorization".to_owned(), format!("Bearer {key}")),
            ("accept".to_owned(), accept.to_owned()),
        ]),
        ..Request::default()
    };
    world.api.handle(&request, at).await
}

fn body(reply: &Response) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

fn asked(world: &World) -> Vec<(String, Vec<Value>)> {
    std::mem::take(&mut *world.sql.0.lock().unwrap())
}

#[tokio::test]
async fn a_report_is_made_with_its_parameters_bound_and_says_when() {
    let world = World::new();
    let (read, _) = world.key(KeySpec::read()).await;
    let reply = ask(&world, &read, "plays", &[("who", "' OR 1=1 --")], "*/*", now()).await;
    let made = body(&reply);
    assert_eq!(
        (reply.status, made),
        (
            200,
            json!({
                "report": "plays", "parameters": {"from": "2026-11-20", "who": "' OR 1=1 --"}, "made_at": "2026-11-21T10:00:00.000Z",
                "cache_s": 60, "columns": [{"name": "day", "type": "date"}, {"name": "name", "type": "varchar"}],
                "rows": [["2026-11-20", "=1+1"]], "truncated": true,
            })
        )
    );
    assert_eq!(asked(&world), [("SELECT $1, $2\n".to_owned(), vec![json!("2026-11-20"), json!("' OR 1=1 --")])]);
    assert_eq!(ask(&world, &read, "all", &[("n", "5")], "", now()).await.status, 200);
    let (statement, values) = asked(&world).remove(0);
    assert!(statement.contains("FROM (SELECT id,") && statement.contains(" FROM event) AS every_table"), "{statement}");
    assert_eq!(values, [json!(5)]);
}

#[tokio::test]
async fn a_result_is_kept_for_its_time_per_set_of_parameters_and_made_once_for_all_who_wait() {
    let world = World::new();
    let (read, _) = world.key(KeySpec::read()).await;
    let at = |micros: i64| now().plus_micros(micros);
    let kim = [("who", "kim")];
    let all = (0..20).map(|_| ask(&world, &read, "plays", &kim, "", now()));
    assert!(futures::future::join_all(all).await.iter().all(|reply| reply.status == 200));
    assert_eq!(asked(&world).len(), 1);
    let again = ask(
        &world,
        &read,
        "plays",
        &[("who", "kim"), ("from", "2026-11-20"), ("format", "csv")],
        "",
        at(60 * SECOND_US - 1),
    )
    .await;
    assert_eq!((asked(&world).len(), again.headers["x-sluice-made-at"].as_str()), (0, "2026-11-21T10:00:00.000Z"));
    let later = ask(&world, &read, "plays", &kim, "", at(60 * SECOND_US)).await;
    assert_eq!((asked(&world).len(), &body(&later)["made_at"]), (1, &json!("2026-11-21T10:01:00.000Z")));
    ask(&world, &read, "plays", &[("who", "lee")], "", at(60 * SECOND_US)).await;
    assert_eq!(asked(&world).len(), 1, "another set of parameters is another result");
    // The day of a default moves on.
    ask(&world, &read, "plays", &kim, "", at(24 * 3_600 * SECOND_US)).await;
    assert_eq!(asked(&world)[0].1[0], "2026-11-21");
}

#[tokio::test]
async fn what_failed_is_not_kept() {
    let world = World::new();
    let (read, _) = world.key(KeySpec::read()).await;
    for _ in 0..2 {
        let reply = ask(&world, &read, "plays", &[("who", "broken")], "", now()).await;
        assert_eq!((reply.status, &body(&reply)["error"]["code"]), (503, &json!("unavailable")));
    }
    assert_eq!(asked(&world).len(), 2);
}

#[tokio::test]
async fn a_report_is_csv_where_that_is_asked_for_and_no_cell_of_it_a_formula() {
    let world = World::new();
    let (read, _) = world.key(KeySpec::read()).await;
    for (query, accept) in [(vec![("format", "csv")], "application/json"), (vec![], "text/csv;q=0.9, */*")] {
        let reply = ask(&world, &read, "plays", &query, accept, now()).await;
        let text = std::str::from_utf8(&reply.body).unwrap();
        assert_eq!((reply.status, text), (200, "\u{feff}day,name\r\n2026-11-20,'=1+1\r\n"));
        let header = |name: &str| reply.headers[name].as_str();
        assert!(header("content-type").starts_with("text/csv"));
        assert_eq!(header("content-disposition"), "attachment; filename=\"plays.csv\"");
        assert_eq!((header("x-sluice-made-at"), header("x-sluice-truncated")), ("2026-11-21T10:00:00.000Z", "true"));
    }
    for (query, accept) in
        [(vec![("format", "json")], "text/csv"), (vec![], "application/json, text/csv"), (vec![], "")]
    {
        let reply = ask(&world, &read, "plays", &query, accept, now()).await;
        assert_eq!((reply.status, reply.headers["content-type"].as_str()), (200, "application/json"));
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_its_place_and_the_lake_is_not_asked() {
    let world = World::new();
    let (read, _) = world.key(KeySpec::read()).await;
    let (write, _) = world.key(KeySpec::write(["shop"])).await;
    for (name, query, status, code, field) in [
        ("nothing", vec![], 404, "not_found", json!(null)),
        ("plays.sql", vec![], 404, "not_found", json!(null)),
        ("plays", vec![("from", "2026-02-30")], 400, "parameter", json!("from")),
        ("plays", vec![("to", "2026-02-20")], 400, "parameter", json!("to")),
        ("all", vec![], 400, "parameter", json!("n")),
        ("plays", vec![("format", "xml")], 400, "format", json!(null)),
    ] {
        let reply = ask(&world, &read, name, &query, "", now()).await;
        let error = &body(&reply)["error"];
        assert_eq!((reply.status, &error["code"], &error["field"]), (status, &json!(code), &field), "{name} {query:?}");
    }
    assert_eq!(ask(&world, "", "plays", &[], "", now()).await.status, 401);
    assert_eq!(ask(&world, &write, "plays", &[], "", now()).await.status, 403);
    assert!(asked(&world).is_empty());
}

#[tokio::test]
async fn who_may_read_sees_which_reports_there_are() {
    let world = World::new();
    let (read, _) = world.key(KeySpec::read()).await;
    assert_eq!(world.call("", "GET /v1/reports", "").await, 401);
    let reply = body(&world.call_at(&read, "GET /v1/reports", "", now()).await);
    let from = json!({"name": "from", "type": "date", "default": "today - 1", "description": "First day."});
    let who = json!({"name": "who", "type": "text", "default": "", "description": "Whose."});
    assert_eq!(
        reply["reports"][1],
        json!({"name": "plays", "description": "Plays of a day.", "parameters": [from, who], "cache_s": 60})
    );
    assert_eq!(reply["reports"][0]["parameters"][0]["default"], json!(null));
    let reason = "the first line says what the report says: `-- TEXT`";
    assert_eq!(reply["refused"], json!([{"file": "broken.sql", "line": 1, "reason": reason}]));
    let reply = ask(&world, &read, "broken", &[], "", now()).await;
    let said = body(&reply)["error"]["message"].clone();
    assert_eq!((reply.status, said), (404, json!(format!("report file `broken.sql`, line 1: {reason}"))));
}
