//! Channels and incidents.

use super::{World, now, record};
use serde_json::{Value, json};
use sluice_domain::alert::{IncidentKind, IncidentState};
use sluice_ports::ErrorKind;
use sluice_stages::access::KeySpec;
use sluice_stages::http::Response;
use sluice_stages::incidents::{Incidents, Sighting};
use sluice_testkit::fault::Fault;

const MAIL: &str = r#"{"kind":"email","name":"On call","operator":true,"to":["a@example.org"]}"#;
const HOOK: &str = r#"{"kind":"webhook","name":"Pager","url":"https://hooks.example.org/s3cret"}"#;

fn json(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_default()
}

#[tokio::test]
async fn channels_are_made_shown_tested_changed_and_removed_and_all_but_looking_is_recorded() {
    let world = World::new();
    let (admin, who) = world.key(KeySpec::admin()).await;
    let made = json(&world.call_at(&admin, "POST /v1/channels", HOOK, now()).await);
    let (id, key) = (made["channel"]["id"].as_str().unwrap(), made["signing_key"].as_str().unwrap());
    assert_eq!(key.len(), 43);
    let mail = json(&world.call_at(&admin, "POST /v1/channels", MAIL, now()).await);
    assert_eq!((mail.get("signing_key"), &mail["channel"]["to"]), (None, &json!(["a@example.org"])));
    let tested = world.call_at(&admin, &format!("POST /v1/channels/{id}/test"), "", now()).await;
    assert_eq!((tested.status, json(&tested)), (200, json!({"ok": true, "detail": "the address has taken it"})));
    world.hooks.script("hook.post", [Fault::Before(ErrorKind::Unavailable)]);
    let tested = json(&world.call_at(&admin, &format!("POST /v1/channels/{id}/test"), "", now()).await);
    assert!(tested["ok"] == false && !tested["detail"].as_str().unwrap().is_empty(), "{tested}");
    let change = world.call_at(&admin, &format!("PATCH /v1/channels/{id}"), r#"{"operator":true}"#, now()).await;
    assert_eq!((change.status, &json(&change)["operator"]), (200, &json!(true)));
    let mut recorded = world.recorded();
    let listed = world.call_at(&admin, "GET /v1/channels", "", now()).await;
    let channels = json(&listed);
    let pager = channels["channels"].as_array().unwrap().iter().find(|c| c["id"] == id).unwrap();
    let shown = json!({
        "id": id, "kind": "webhook", "name": "Pager", "operator": true, "host": "hooks.example.org",
        "created_at": made["channel"]["created_at"], "last": pager["last"],
    });
    assert_eq!((pager, &pager["last"]["ok"]), (&shown, &json!(false)));
    assert!(world.recorded().is_empty());
    assert_eq!(world.call(&admin, &format!("DELETE /v1/channels/{id}"), "").await, 204);
    assert_eq!(world.call(&admin, &format!("DELETE /v1/channels/{id}"), "").await, 404);
    recorded.extend(world.recorded());
    let done = |action: &str, target: &str| record(&who, action, target, "allowed");
    let expected = [
        done("channels.create", "webhook `Pager`"),
        done("channels.create", "email `On call`"),
        done("channels.test", id),
        done("channels.test", id),
        done("channels.change", id),
        done("channels.remove", id),
        done("channels.remove", id),
    ];
    assert_eq!(recorded, expected);
    let texts = [channels.to_string(), format!("{recorded:?}"), json(&change).to_string()];
    assert!(texts.iter().all(|text| !text.contains("s3cret") && !text.contains(key)), "{texts:?}");
}

#[tokio::test]
async fn channels_take_an_admin_and_good_input() {
    let world = World::new();
    let (admin, _) = world.key(KeySpec::admin()).await;
    let (read, _) = world.key(KeySpec::read()).await;
    for call in [
        "GET /v1/channels",
        "POST /v1/channels",
        "PATCH /v1/channels/c",
        "DELETE /v1/channels/c",
        "POST /v1/channels/c/test",
    ] {
        assert_eq!(world.call(&read, call, MAIL).await, 403, "{call}");
        assert_eq!(world.call("nobody", call, MAIL).await, 401, "{call}");
    }
    let long = "x".repeat(2_000);
    for (call, body, status) in [
        ("POST /v1/channels", "", 400),
        ("POST /v1/channels", r#"{"kind":"slack","name":"n"}"#, 400),
        ("POST /v1/channels", r#"{"kind":"email","name":"n","to":["x"]}"#, 400),
        ("POST /v1/channels", r#"{"kind":"email","name":"n","to":["a@example.org"],"more":1}"#, 400),
        ("PATCH /v1/channels/c_0", r#"{"url":"https://example.org"}"#, 400),
        ("PATCH /v1/channels/c_0", "{}", 404),
        ("POST /v1/channels/c_0/test", "", 404),
        (&format!("DELETE /v1/channels/{long}"), "", 404),
    ] {
        assert_eq!(world.call(&admin, call, body).await, status, "{call} {body}");
    }
    let refused = world.call_at(&admin, "POST /v1/channels", r#"{"kind":"webhook","name":"n","url":"x"}"#, now()).await;
    assert_eq!(json(&refused)["error"]["field"], "url");
    assert!(world.table.inner().items().iter().all(|row| row.key.partition != "channel"));
}

#[tokio::test]
async fn incidents_are_listed_newest_first_within_bounds() {
    let world = World::new();
    let (read, _) = world.key(KeySpec::read()).await;
    let incidents = Incidents::new(world.table.clone(), world.topic.clone());
    for (n, subject) in ["A", "B", "C"].into_iter().enumerate() {
        let sighting = Sighting {
            kind: IncidentKind::Lag,
            subject: subject.into(),
            state: IncidentState::Firing,
            message: "behind".into(),
            value: Some(40.0),
            threshold: Some(30.0),
            order: None,
        };
        incidents.see(&sighting, now().plus_micros(n as i64)).await.unwrap();
        if subject == "B" {
            let over = Sighting { state: IncidentState::Resolved, ..sighting };
            incidents.see(&over, now().plus_micros(9)).await.unwrap();
        }
    }
    let asked = async |query: &[(&str, &str)]| {
        let mut request = sluice_stages::http::Request {
            method: "GET".into(),
            path: "/v1/incidents".into(),
            query: query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Default::default()
        };
        request.headers.insert("authorization".into(), format!("Bearer {read}"));
        let reply = world.api.handle(&request, now()).await;
        let subjects = json(&reply)["incidents"]
            .as_array()
            .map_or(String::new(), |rows| rows.iter().map(|row| row["subject"].as_str().unwrap()).collect());
        (reply.status, subjects, json(&reply)["incidents"][0].clone())
    };
    let (status, subjects, first) = asked(&[]).await;
    assert_eq!((status, subjects.as_str()), (200, "CBA"));
    let names: Vec<&str> = first.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["fired_at", "id", "kind", "message", "resolved_at", "state", "subject", "threshold", "value"];
    assert!(names.len() == expected.len() && expected.iter().all(|name| names.contains(name)), "{names:?}");
    assert_eq!(asked(&[("state", "open")]).await.1, "CA");
    assert_eq!(asked(&[("limit", "2")]).await.1, "CB");
    for bad in [("limit", "0"), ("limit", "501"), ("limit", "x"), ("state", "closed")] {
        assert_eq!(asked(&[bad]).await.0, 400, "{bad:?}");
    }
    world.table.script("table.query", [Fault::Before(ErrorKind::Unavailable)]);
    assert_eq!(asked(&[]).await.0, 503);
}
