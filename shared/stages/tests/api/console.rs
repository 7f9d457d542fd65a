//! What the console asks for beside signing in: the public game, the tables, the outbox.

use super::*;
use sluice_domain::time::SECOND_US;
use sluice_ports::SentMail;
use sluice_stages::routes::{self, Needs};

/// An outbox with one mail.
pub(super) struct Mails;

fn mail() -> SentMail {
    SentMail {
        id: "20261121-1".into(),
        to: "kim@example.org".into(),
        subject: "It rose".into(),
        at: "2026-11-21T10:00:00.000Z".into(),
    }
}

#[async_trait]
impl Outbox for Mails {
    async fn list(&self, _: usize) -> Result<Vec<SentMail>, PortError> {
        Ok(vec![mail()])
    }

    async fn get(&self, id: &str) -> Result<Option<(SentMail, String, String)>, PortError> {
        Ok((id == mail().id).then(|| (mail(), "text".into(), "<p>html".into())))
    }

    async fn remove(&self, _: &str) -> Result<(), PortError> {
        unreachable!("nobody is erased")
    }
}

async fn ask(world: &World, secret: &str, call: &str) -> (u16, Value) {
    let reply = world.call_at(secret, call, "", now()).await;
    (reply.status, serde_json::from_slice(&reply.body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn anybody_gets_the_game_s_key_and_nothing_where_it_is_closed() {
    let world = World::new();
    assert_eq!(ask(&world, "", "GET /v1/game/config").await.0, 404);
    world.keys.make_game_key(Vec::new(), now()).await.unwrap();
    let (status, config) = ask(&world, "", "GET /v1/game/config").await;
    let secret = config["key"].as_str().unwrap();
    assert_eq!((status, &config["source"]), (200, &json!("square-blitz")));
    let key = world.keys.authenticate(secret, now()).await.unwrap().unwrap();
    assert_eq!(world.call(secret, "GET /v1/status", "").await, 403, "it writes, and only that");
    world.keys.revoke(&key.id, now()).await.unwrap();
    let (status, closed) = ask(&world, "", "GET /v1/game/config").await;
    assert_eq!((status, &closed["error"]["code"]), (404, &json!("no_game")));
}

async fn ranking(world: &World, day: Option<&str>, now: Timestamp) -> (u16, Value) {
    let query = day.map(|day| ("day".to_owned(), day.to_owned())).into_iter().collect();
    let request = Request { method: "GET".into(), path: "/v1/game/ranking".into(), query, ..Request::default() };
    let reply = world.api.handle(&request, now).await;
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

#[tokio::test]
async fn a_ranking_is_of_a_day_and_named_where_it_is_none() {
    let world = World::new();
    for (asked, day) in [(None, "2026-11-21"), (Some("2026-11-20"), "2026-11-20")] {
        assert_eq!(ranking(&world, asked, now()).await, (200, json!({"day": day, "entries": []})));
    }
    for bad in ["yesterday", "2026-13-01", ""] {
        let (status, refused) = ranking(&world, Some(bad), now()).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &json!("day")), "{bad}");
    }
}

#[tokio::test]
async fn however_many_ask_for_a_ranking_the_search_is_asked_every_few_seconds() {
    let world = World::new();
    let all = (0..50).map(|_| ranking(&world, None, now()));
    assert!(futures::future::join_all(all).await.iter().all(|(status, _)| *status == 200));
    assert_eq!(world.search.0.load(Ordering::Relaxed), 1);
    ranking(&world, None, now().plus_micros(5 * SECOND_US - 1)).await;
    assert_eq!(world.search.0.load(Ordering::Relaxed), 1);
    ranking(&world, None, now().plus_micros(5 * SECOND_US)).await;
    ranking(&world, Some("2026-11-20"), now()).await;
    assert_eq!(world.search.0.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn who_may_read_sees_the_tables() {
    let world = World::new();
    let (read, _) = world.key(KeySpec::read()).await;
    assert_eq!(ask(&world, "", "GET /v1/tables").await.0, 401);
    let (status, tables) = ask(&world, &read, "GET /v1/tables").await;
    assert_eq!((status, &tables["tables"][0]["name"]), (200, &json!("event")));
    assert_eq!(tables["tables"][0]["columns"][17], json!({"name": "data", "type": "varchar"}));
}

#[tokio::test]
async fn the_outbox_is_an_admin_s_and_there_only_where_mails_are_kept() {
    let world = World::with_outbox(Some(Mails));
    let (read, _) = world.key(KeySpec::read()).await;
    let (admin, who) = world.key(KeySpec::admin()).await;
    assert_eq!(ask(&world, &read, "GET /v1/outbox").await.0, 403);
    world.recorded();
    let row =
        json!({"id": "20261121-1", "to": "kim@example.org", "subject": "It rose", "at": "2026-11-21T10:00:00.000Z"});
    assert_eq!(ask(&world, &admin, "GET /v1/outbox").await, (200, json!({"mails": [row]})));
    let (status, shown) = ask(&world, &admin, "GET /v1/outbox/20261121-1").await;
    assert_eq!((status, &shown["text"], &shown["html"]), (200, &json!("text"), &json!("<p>html")));
    assert_eq!(ask(&world, &admin, "GET /v1/outbox/other").await.0, 404);
    assert_eq!(
        world.recorded(),
        [record(&who, "outbox.show", "20261121-1", "allowed"), record(&who, "outbox.show", "other", "allowed")]
    );
    let (status, none) = ask(&World::new(), "", "GET /v1/outbox").await;
    assert_eq!((status, &none["error"]["code"]), (404, &json!("no_outbox")));
    assert_eq!(world.call_at(&admin, "POST /v1/outbox", "", now().plus_micros(SECOND_US)).await.status, 405);
}

/// `GET /metrics` from this address, as the gateway saw it.
async fn metrics(world: &World, client_ip: &str, headers: &[(&str, &str)]) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (method, path, client_ip) = ("GET".into(), "/metrics".into(), client_ip.to_owned());
    world.api.handle(&Request { method, path, headers, client_ip, ..Request::default() }, now()).await
}

#[tokio::test]
async fn metrics_are_for_allowed_addresses_and_for_who_may_read() {
    let world = World::new();
    let (read, _) = world.key(KeySpec::read()).await;
    let (write, _) = world.key(KeySpec::write(["shop"])).await;
    for (address, status) in [
        ("10.1.2.3", 200),
        ("::ffff:10.1.2.3", 200),
        ("192.0.2.1", 200),
        ("192.0.2.2", 401),
        ("::1", 401),
        ("", 401),
        ("10.1.2.3, 192.0.2.2", 401),
    ] {
        assert_eq!(metrics(&world, address, &[]).await.status, status, "{address}");
    }
    // An address that the client names is none.
    for header in ["x-forwarded-for", "x-real-ip", "forwarded"] {
        assert_eq!(metrics(&world, "203.0.113.7", &[(header, "10.1.2.3")]).await.status, 401, "{header}");
    }
    for (secret, status) in [(read, 200), (write, 403)] {
        let bearer = format!("Bearer {secret}");
        assert_eq!(metrics(&world, "203.0.113.7", &[("authorization", &bearer)]).await.status, status);
    }
    assert_eq!(world.call("", "POST /metrics", "").await, 405);
    assert_eq!(world.call("", "GET /v1/metrics", "").await, 404);
}

#[tokio::test]
async fn metrics_count_requests_up_to_now_in_the_format_that_is_asked_for() {
    let world = World::new();
    world.requests.count("POST", "/v1/events", 202, 7_000, now()).await;
    let plain = metrics(&world, "10.0.0.1", &[]).await;
    assert_eq!(plain.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(plain.body.to_vec()).unwrap();
    assert!(text.contains("\nhttp_requests_total{method=\"POST\",route=\"/v1/events\",status=\"202\"} 1\n"), "{text}");
    assert!(text.contains("\nhttp_request_duration_seconds_bucket{route=\"/v1/events\",le=\"0.01\"} 1\n"), "{text}");
    assert!(text.contains("\nsluice_visitors_today 7\n"), "{text}");
    let open = metrics(&world, "10.0.0.1", &[("accept", "application/openmetrics-text; version=1.0.0")]).await;
    assert!(open.headers["content-type"].starts_with("application/openmetrics-text"));
    assert!(open.body.ends_with(b"# EOF\n"));
}

#[tokio::test]
async fn what_cannot_be_read_is_left_out_of_the_metrics_and_named() {
    let world = World::new();
    world.table.always("table.query", Fault::Before(ErrorKind::Unavailable));
    let reply = metrics(&world, "10.0.0.1", &[]).await;
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    assert_eq!(reply.status, 200);
    for line in ["sluice_metrics_left_out{part=\"requests\"} 1", "sluice_metrics_left_out{part=\"ledger\"} 1"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn what_is_answered_is_what_the_list_of_routes_says() {
    let world = World::new();
    let (write, _) = world.key(KeySpec::write(["shop"])).await;
    let mut templates: Vec<&str> = routes::OPERATIONS.iter().map(|operation| operation.template).collect();
    templates.retain(|template| !template.starts_with("/api/") && !matches!(*template, "/health" | "/v1/events"));
    templates.push("/v1/nothing");
    for template in templates {
        let path = template.replace("{name}", "None").replace("{id}", "x").replace("{day}", "2026-11-21");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let operation = routes::OPERATIONS.iter().find(|o| o.template == template && o.method == method);
            let reply = world.call_at("", &format!("{method} {path}"), "{}", now()).await;
            let expected: &[u16] = match operation.map(|operation| operation.needs) {
                None if template == "/v1/nothing" => &[404],
                None => &[405],
                Some(Needs::Nothing) => &[200, 204, 404, 415],
                // Without an outbox nobody is asked who they are.
                Some(Needs::Admin) if template.starts_with("/v1/outbox") => &[404],
                Some(_) => &[401],
            };
            assert!(expected.contains(&reply.status), "{method} {path} answers {}", reply.status);
            let needs = operation.map(|operation| operation.needs);
            if matches!(needs, Some(Needs::Read | Needs::ReadFromElsewhere | Needs::Edit | Needs::Admin))
                && expected == [401]
            {
                assert_eq!(world.call(&write, &format!("{method} {path}"), "{}").await, 403, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn the_api_describes_itself() {
    let (status, document) = ask(&World::new(), "", "GET /openapi.json").await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    assert_eq!(document["paths"]["/v1/keys"]["post"]["responses"]["201"]["description"], "Done.");
}

#[tokio::test]
async fn a_key_of_any_scope_is_told_what_it_is_and_a_session_has_none() {
    let world = World::new();
    for spec in [KeySpec::read(), KeySpec::admin(), KeySpec { types: vec!["x.y".into()], ..KeySpec::write(["shop"]) }] {
        let (secret, made) = world.key(spec).await;
        let expected = json!({
            "id": made.id, "name": made.name, "scope": made.scope.name(), "sources": made.sources, "types": made.types,
        });
        assert_eq!(ask(&world, &secret, "GET /v1/keys/current").await, (200, expected));
    }
    assert_eq!(ask(&world, "sk_read_guessed", "GET /v1/keys/current").await.0, 401);
    let request = Request { method: "GET".into(), path: "/v1/keys/current".into(), ..Request::default() };
    assert_eq!(world.api.handle(&request, now()).await.status, 401);
    assert!(world.recorded().is_empty());
}

#[tokio::test]
async fn retention_is_what_schemas_and_settings_say() {
    let world = World::new();
    let (read, _) = world.key(KeySpec::read()).await;
    assert_eq!(ask(&world, "", "GET /v1/retention").await.0, 401);
    let (status, retention) = ask(&world, &read, "GET /v1/retention").await;
    assert_eq!((status, &retention["tables"][0]), (200, &json!({"table": "event", "days": null})));
    for (name, value) in [
        ("state_days", json!(35)),
        ("queue_days", json!(4)),
        ("dead_letter_days", json!(null)),
        ("quarantine_days", json!(null)),
        ("outbox_mails", json!(null)),
    ] {
        assert_eq!(retention.get(name), Some(&value), "{name}");
    }
    let kept = World::with_outbox(Some(Mails));
    let (read, _) = kept.key(KeySpec::read()).await;
    assert_eq!(ask(&kept, &read, "GET /v1/retention").await.1["outbox_mails"], 200);
}

#[tokio::test]
async fn the_way_of_an_event_takes_a_reader_and_the_index_of_one_document() {
    let world = World::new();
    let (read, _) = world.key(KeySpec::read()).await;
    let (write, _) = world.key(KeySpec::write(["shop"])).await;
    let way = async |secret: &str, document: &str, index: Option<&str>| {
        let mut request = Request {
            method: "GET".into(),
            path: format!("/v1/events/{document}/way"),
            query: index.map(|index| ("index".to_owned(), index.to_owned())).into_iter().collect(),
            ..Request::default()
        };
        request.headers.insert("authorization".into(), format!("Bearer {secret}"));
        let reply = world.api.handle(&request, now()).await;
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        (reply.status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let index = Some("sluice-event-2026.11");
    assert_eq!(way("", "d", index).await.0, 401);
    assert_eq!(way(&write, "d", index).await.0, 403);
    assert_eq!(way(&read, "d", index).await, (404, "no_event".to_owned()));
    assert_eq!(way(&read, &"d".repeat(600), index).await, (404, "no_event".to_owned()));
    for bad in [None, Some("sluice-*"), Some("other-event-2026.11")] {
        assert_eq!(way(&read, "d", bad).await, (400, "index".to_owned()), "{bad:?}");
    }
}
