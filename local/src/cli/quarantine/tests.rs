use super::*;
use crate::client::tests::Fake;
use clap::Parser as _;

#[derive(clap::Parser)]
struct Line {
    #[command(subcommand)]
    quarantine: Quarantine,
}

async fn run(fake: &Fake, line: &[&str]) -> (Result<(), Failure>, String) {
    let (mut out, written) = Out::captured();
    let line = Line::try_parse_from(["quarantine"].iter().chain(line)).unwrap();
    let done = line.quarantine.run(&fake.client(), &mut out).await;
    (done, written.text())
}

#[tokio::test]
async fn records_are_listed_page_by_page() {
    let fake = Fake::start(|n, _| {
        let reply = match n {
            0 => r#"{"records":[{"handle":"2026-11-21/a","state":"open","origin":"ingest","code":"schema","reason":"`a` is missing"}],"next":"2026-11-21/a"}"#,
            _ => r#"{"records":[{"handle":"2026-11-21/b","state":"open"}],"next":null}"#,
        };
        (200, vec![], reply.into())
    })
    .await;
    let (done, text) = run(&fake, &["list", "--code", "schema"]).await;
    done.unwrap();
    assert!(
        text.contains("2026-11-21/a") && text.contains("2026-11-21/b") && text.contains("`a` is missing"),
        "{text}"
    );
    let asked: Vec<String> = fake.got().into_iter().map(|got| got.path).collect();
    assert_eq!(
        asked,
        ["/v1/quarantine?code=schema&limit=50", "/v1/quarantine?code=schema&limit=49&after=2026-11-21%2Fa"]
    );
}

#[tokio::test]
async fn groups_that_pages_cut_are_summed() {
    let fake = Fake::start(|n, _| {
        let next = if n == 0 { "\"2026-11-21/a\"" } else { "null" };
        let group = r#"{"day":"2026-11-21","origin":"ingest","code":"schema","state":"open","records":500}"#;
        (200, vec![], format!(r#"{{"groups":[{group}],"next":{next}}}"#))
    })
    .await;
    let (done, text) = run(&fake, &["count"]).await;
    done.unwrap();
    assert!(text.contains("1,000") && text.ends_with("1,000 records\n"), "{text}");
}

#[tokio::test]
async fn a_repair_is_tried_first_and_kept_when_asked() {
    let fake = Fake::start(|_, got| match got.path.as_str() {
        "/v1/quarantine/2026-11-21/a" => {
            (200, vec![], r#"{"bytes":{"text":"{\"data\":{\"status\":\"404\"}}"}}"#.into())
        }
        "/v1/quarantine/2026-11-21/b" => (200, vec![], r#"{"bytes":{"base64":"AA=="}}"#.into()),
        "/v1/quarantine/repair" => (
            200,
            vec![],
            r#"{"results":[{"handle":"2026-11-21/a","outcome":"sent","events":{"http.access":1}}]}"#.into(),
        ),
        _ => (404, vec![], String::new()),
    })
    .await;
    let expression = ".data.status |= tonumber";
    let (done, text) = run(&fake, &["repair", "2026-11-21/a", "2026-11-21/b", "--jq", expression]).await;
    assert_eq!(done.unwrap_err().message.as_deref(), Some("1 record cannot be repaired like this"));
    assert!(text.contains("2026-11-21/b  not changed: the bytes are no text"), "{text}");
    assert!(text.contains(r#"{"data":{"status":404}}"#), "{text}");
    let (done, _) = run(&fake, &["repair", "2026-11-21/a", "--jq", expression, "--apply"]).await;
    done.unwrap();
    let sent: Vec<Value> = fake
        .got()
        .iter()
        .filter(|got| got.path == "/v1/quarantine/repair")
        .map(|got| serde_json::from_slice(&got.body).unwrap())
        .collect();
    let repairs = json!([{"handle": "2026-11-21/a", "text": r#"{"data":{"status":404}}"#}]);
    assert_eq!(sent[0], json!({"repairs": repairs, "dry_run": true}));
    assert_eq!(sent[1], json!({"repairs": repairs, "dry_run": false}));
}

#[tokio::test]
async fn a_replay_goes_through_all_pages_and_fails_where_something_is_refused() {
    let fake = Fake::start(|n, _| {
        let reply = match n {
            0 => r#"{"results":[{"handle":"2026-11-21/a","outcome":"sent","events":{}}],"next":"2026-11-21/a"}"#,
            _ => r#"{"results":[{"handle":"2026-11-21/b","outcome":"refused","errors":[{"pointer":"/data/a","reason":"`a` is missing"}]}],"next":null}"#,
        };
        (200, vec![], reply.into())
    })
    .await;
    let (done, text) = run(&fake, &["replay", "--origin", "ingest"]).await;
    assert_eq!(done, Err(Failure::silent(Exit::Failed)));
    assert_eq!(
        text,
        "2026-11-21/b  refused: `a` is missing at `/data/a`\n1 record sent again, 1 refused, 0 sent before\n"
    );
    let second: Value = serde_json::from_slice(&fake.got()[1].body).unwrap();
    assert_eq!(second, json!({"select": {"origin": "ingest"}, "after": "2026-11-21/a", "dry_run": false}));
}

#[tokio::test]
async fn a_wrong_handle_or_expression_is_wrong_usage() {
    let fake = Fake::start(|_, _| (200, vec![], "{}".into())).await;
    assert_eq!(run(&fake, &["show", "nonsense"]).await.0.unwrap_err().exit, Exit::Usage);
    assert_eq!(run(&fake, &["repair", "a/b", "--jq", ".["]).await.0.unwrap_err().exit, Exit::Usage);
}
