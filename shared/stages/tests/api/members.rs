//! Members and sessions, as a browser uses them.

use super::*;
use sluice_domain::time::SECOND_US;
use sluice_stages::access;
use sluice_stages::attempts::{PER_ACCOUNT, PER_ADDRESS, WINDOW_US};

const PASSWORD: &str = "correct horse";

/// A browser on a page of the console, with its cookie.
struct Browser<'w> {
    world: &'w World,
    cookie: String,
    client_ip: String,
    /// Headers in place of what the page's own browser sends.
    headers: BTreeMap<String, String>,
}

impl<'w> Browser<'w> {
    fn new(world: &'w World) -> Self {
        let headers =
            [("host", "console.example"), ("sec-fetch-site", "same-origin"), ("content-type", "application/json")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { world, cookie: String::new(), client_ip: "203.0.113.7".into(), headers }
    }

    async fn call_at(&mut self, call: &str, body: &Value, now: Timestamp) -> (Response, Value) {
        let (method, path) = call.split_once(' ').unwrap();
        let mut headers = self.headers.clone();
        if !self.cookie.is_empty() {
            headers.insert("cookie".into(), format!("theme=dark; sluice_session={}", self.cookie));
        }
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let client_ip = self.client_ip.clone();
        let request =
            Request { method: method.into(), path: path.into(), headers, body, client_ip, ..Request::default() };
        let reply = self.world.api.handle(&request, now).await;
        if let Some(set) = reply.headers.get("set-cookie") {
            let (pair, attributes) = set.split_once("; ").unwrap();
            assert!(attributes.starts_with("Path=/; Max-Age="), "{set}");
            assert!(attributes.ends_with("; HttpOnly; SameSite=Lax; Secure"), "{set}");
            self.cookie = pair.strip_prefix("sluice_session=").unwrap().to_owned();
        }
        let body = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        (reply, body)
    }

    async fn call(&mut self, call: &str, body: Value) -> (u16, Value) {
        let (reply, body) = self.call_at(call, &body, now()).await;
        (reply.status, body)
    }

    async fn sign_in(&mut self, email: &str, password: &str) -> (u16, Value) {
        self.call("POST /v1/sessions", json!({"email": email, "password": password})).await
    }
}

impl World {
    /// A browser in which the first admin is signed in.
    async fn admin(&self) -> Browser<'_> {
        let token = self.members.first_link(now()).await.unwrap().unwrap();
        let mut browser = Browser::new(self);
        let ask = json!({"link": token, "email": "admin@example.org", "name": "Kim", "password": PASSWORD});
        let (status, body) = browser.call("POST /v1/sessions", ask).await;
        assert_eq!((status, &body["member"]["role"]), (200, &json!("admin")));
        self.recorded();
        browser
    }

    /// A browser in which somebody of this role is signed in, and the member's id.
    async fn member(&self, admin: &mut Browser<'_>, role: &str) -> (Browser<'_>, String) {
        let email = format!("{role}@example.org");
        let (_, invited) = admin.call("POST /v1/members", json!({"email": email, "name": role, "role": role})).await;
        let link = invited["link"].as_str().unwrap().strip_prefix("/signin#link=").unwrap();
        let mut browser = Browser::new(self);
        let ask = json!({"link": link, "email": email, "name": role, "password": PASSWORD});
        let (status, body) = browser.call("POST /v1/sessions", ask).await;
        assert_eq!((status, &body["member"]["role"]), (200, &json!(role)));
        self.recorded();
        (browser, body["member"]["id"].as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn the_first_link_signs_the_first_admin_in_and_is_recorded() {
    let world = World::new();
    let token = world.members.first_link(now()).await.unwrap().unwrap();
    let mut browser = Browser::new(&world);
    assert_eq!(browser.call("GET /v1/sessions/current", Value::Null).await, (200, json!({"member": null})));
    let ask = json!({"link": token, "email": "admin@example.org", "name": "Kim", "password": PASSWORD});
    let (status, body) = browser.call("POST /v1/sessions", ask.clone()).await;
    let member = &body["member"];
    assert_eq!(status, 200);
    assert_eq!(
        (&member["email"], &member["name"], &member["role"]),
        (&json!("admin@example.org"), &json!("Kim"), &json!("admin"))
    );
    assert!(!body.to_string().contains(PASSWORD) && !body.to_string().contains("argon2"));
    let who = format!("member:{}", member["id"].as_str().unwrap());
    let joined = json!({"who": who, "action": "members.join", "target": "admin", "outcome": "allowed"});
    assert_eq!(world.recorded(), [joined]);
    let (status, current) = browser.call("GET /v1/sessions/current", Value::Null).await;
    assert_eq!((status, &current["member"]["id"]), (200, &member["id"]));
    let (status, again) = Browser::new(&world).call("POST /v1/sessions", ask).await;
    assert_eq!((status, &again["error"]["code"]), (401, &json!("link")));
}

#[tokio::test]
async fn a_role_opens_what_it_includes_and_the_record_names_the_member() {
    let world = World::new();
    let mut admin = world.admin().await;
    let (mut editor, editor_id) = world.member(&mut admin, "editor").await;
    let (mut viewer, viewer_id) = world.member(&mut admin, "viewer").await;
    for (call, body, opens) in [
        ("GET /v1/status", Value::Null, [200, 200, 200]),
        ("GET /v1/queues", Value::Null, [200, 200, 200]),
        ("GET /v1/rules", Value::Null, [403, 200, 200]),
        ("GET /v1/quarantine", Value::Null, [403, 200, 200]),
        ("POST /v1/queues/None/redrive", json!({}), [403, 404, 404]),
        ("GET /v1/keys", Value::Null, [403, 403, 200]),
        ("POST /v1/keys", json!({"sources": ["shop"]}), [403, 403, 201]),
        ("GET /v1/members", Value::Null, [403, 403, 200]),
        ("POST /v1/members", json!({"email": "x@example.org", "role": "viewer"}), [403, 403, 201]),
        ("PATCH /v1/members/m_0", json!({"role": "admin"}), [403, 403, 404]),
        ("DELETE /v1/members/m_0", Value::Null, [403, 403, 404]),
    ] {
        for (browser, status) in [&mut viewer, &mut editor, &mut admin].into_iter().zip(opens) {
            assert_eq!(browser.call(call, body.clone()).await.0, status, "{call}");
        }
    }
    let recorded = world.recorded();
    let who = |name: &str, outcome: &str| {
        recorded.iter().filter(|r| r["who"] == format!("member:{name}") && r["outcome"] == outcome).count()
    };
    assert_eq!((who(&viewer_id, "wrong_role"), who(&viewer_id, "allowed")), (9, 0));
    assert_eq!((who(&editor_id, "wrong_role"), who(&editor_id, "allowed")), (6, 2));
}

#[tokio::test]
async fn a_key_goes_before_a_cookie() {
    let world = World::new();
    let mut admin = world.admin().await;
    let (read, _) = world.key(KeySpec::read()).await;
    admin.headers.insert("authorization".into(), format!("Bearer {read}"));
    assert_eq!(admin.call("GET /v1/keys", Value::Null).await.0, 403);
    admin.headers.insert("authorization".into(), "Bearer nobody".into());
    assert_eq!(admin.call("GET /v1/status", Value::Null).await.0, 401);
}

#[tokio::test]
async fn an_unknown_address_and_a_wrong_password_are_answered_in_the_same_words() {
    let world = World::new();
    world.admin().await;
    let mut browser = Browser::new(&world);
    let wrong = browser.sign_in("admin@example.org", "wrong horse").await;
    assert_eq!((wrong.0, &wrong.1["error"]["code"]), (401, &json!("credentials")));
    assert_eq!(browser.sign_in("nobody@example.org", PASSWORD).await, wrong);
    assert_eq!(browser.sign_in("no address", PASSWORD).await, wrong);
    assert_eq!(browser.cookie, "");
    assert!(world.recorded().is_empty());
}

#[tokio::test]
async fn attempts_at_an_account_are_bounded_and_good_ones_do_not_count() {
    let world = World::new();
    world.admin().await;
    for n in 0..2 * PER_ADDRESS {
        assert_eq!(Browser::new(&world).sign_in("admin@example.org", PASSWORD).await.0, 200, "{n}");
    }
    for email in ["admin@example.org", "nobody@example.org"] {
        for n in 0..PER_ACCOUNT {
            let mut browser = Browser { client_ip: format!("198.51.100.{n}"), ..Browser::new(&world) };
            // What a client says of itself is no address.
            browser.headers.insert("x-forwarded-for".into(), format!("10.0.0.{n}"));
            assert_eq!(browser.sign_in(email, "wrong horse").await.0, 401);
        }
        let mut browser = Browser { client_ip: "192.0.2.1".into(), ..Browser::new(&world) };
        let ask = json!({"email": email, "password": PASSWORD});
        let (reply, body) = browser.call_at("POST /v1/sessions", &ask, now()).await;
        assert_eq!((reply.status, &body["error"]["code"]), (429, &json!("too_many_attempts")), "{email}");
        let after_s: i64 = reply.headers["retry-after"].parse().unwrap();
        assert!((1..=WINDOW_US / SECOND_US + 1).contains(&after_s));
    }
    let later = now().plus_micros(WINDOW_US);
    let ask = json!({"email": "admin@example.org", "password": PASSWORD});
    assert_eq!(Browser::new(&world).call_at("POST /v1/sessions", &ask, later).await.0.status, 200);
}

#[tokio::test]
async fn attempts_from_an_address_are_bounded_whatever_it_says_of_itself() {
    let world = World::new();
    for n in 0..=PER_ADDRESS {
        let mut browser = Browser::new(&world);
        browser.headers.insert("x-forwarded-for".into(), format!("10.0.0.{n}"));
        let ask = if n % 2 == 0 {
            json!({"email": format!("{n}@example.org"), "password": PASSWORD})
        } else {
            json!({"link": "first.guess", "email": "a@example.org", "name": "a", "password": PASSWORD})
        };
        let status = browser.call("POST /v1/sessions", ask).await.0;
        assert_eq!(status, if n == PER_ADDRESS { 429 } else { 401 }, "{n}");
    }
}

#[tokio::test]
async fn who_guesses_links_or_mistypes_keeps_no_link_shut() {
    let world = World::new();
    let token = world.members.first_link(now()).await.unwrap().unwrap();
    let ask =
        |link: &str, password: &str| json!({"link": link, "email": "a@example.org", "name": "a", "password": password});
    for n in 0..2 * PER_ACCOUNT {
        let mut browser = Browser { client_ip: format!("198.51.100.{n}"), ..Browser::new(&world) };
        assert_eq!(
            browser.call("POST /v1/sessions", ask("first.guess", PASSWORD)).await.0,
            if n < PER_ACCOUNT { 401 } else { 429 }
        );
    }
    let mut browser = Browser::new(&world);
    for _ in 0..2 * PER_ADDRESS {
        assert_eq!(browser.call("POST /v1/sessions", ask(&token, "short")).await.0, 400);
    }
    assert_eq!(browser.call("POST /v1/sessions", ask(&token, PASSWORD)).await.0, 200);
}

#[tokio::test]
async fn a_sign_in_has_a_token_of_its_own_and_ends_what_was_before() {
    let world = World::new();
    let mut admin = world.admin().await;
    let before = admin.cookie.clone();
    assert_eq!(admin.sign_in("admin@example.org", PASSWORD).await.0, 200);
    assert_ne!(admin.cookie, before);
    let mut old = Browser { cookie: before, ..Browser::new(&world) };
    assert_eq!(old.call("GET /v1/sessions/current", Value::Null).await, (200, json!({"member": null})));
    // A token that somebody else put into the browser is not the one that it then has.
    let mut fixed = Browser { cookie: "planted".into(), ..Browser::new(&world) };
    assert_eq!(fixed.sign_in("admin@example.org", PASSWORD).await.0, 200);
    assert_ne!(fixed.cookie, "planted");
    let mut planted = Browser { cookie: "planted".into(), ..Browser::new(&world) };
    assert_eq!(planted.call("GET /v1/status", Value::Null).await.0, 401);
}

#[tokio::test]
async fn signing_out_ends_the_session_at_once() {
    let world = World::new();
    let mut admin = world.admin().await;
    let before = admin.cookie.clone();
    assert_eq!(admin.call("DELETE /v1/sessions/current", Value::Null).await.0, 204);
    assert_eq!(admin.cookie, "", "the browser forgets it");
    let mut old = Browser { cookie: before, ..Browser::new(&world) };
    assert_eq!(old.call("GET /v1/status", Value::Null).await.0, 401);
    assert_eq!(old.call("DELETE /v1/sessions/current", Value::Null).await.0, 204);
    assert_eq!(Browser::new(&world).call("DELETE /v1/sessions/current", Value::Null).await.0, 204);
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let world = World::new();
    let mut admin = world.admin().await;
    let own = admin.headers.clone();
    for forged in [
        vec![("sec-fetch-site", Some("cross-site"))],
        vec![("sec-fetch-site", Some("same-site"))],
        vec![("sec-fetch-site", None), ("origin", Some("https://evil.example"))],
        vec![("sec-fetch-site", None), ("origin", Some("null"))],
        vec![("sec-fetch-site", None)],
        vec![("content-type", Some("text/plain"))],
        vec![("content-type", None)],
    ] {
        admin.headers = own.clone();
        for (name, value) in &forged {
            match value {
                Some(value) => _ = admin.headers.insert((*name).into(), (*value).into()),
                None => _ = admin.headers.remove(*name),
            }
        }
        for (call, body) in [
            ("POST /v1/keys", json!({"sources": ["shop"]})),
            ("POST /v1/members", json!({"email": "x@example.org", "role": "admin"})),
            ("PUT /v1/members/me/password", json!({"old": PASSWORD, "new": "battery staple"})),
            ("POST /v1/search", json!({})),
        ] {
            let (status, body) = admin.call(call, body).await;
            assert_eq!((status, &body["error"]["code"]), (403, &json!("cross_site")), "{call} {forged:?}");
        }
        // Reading is what such a page cannot do: it does not get to see the answer.
        assert_eq!(admin.call("GET /v1/status", Value::Null).await.0, 200);
    }
    admin.headers = own;
    admin.headers.insert("sec-fetch-site".into(), "cross-site".into());
    assert_eq!(admin.call("DELETE /v1/sessions/current", Value::Null).await.0, 403);
    assert_eq!(admin.sign_in("admin@example.org", PASSWORD).await.1["error"]["code"], "cross_site");
    assert_eq!(world.keys.list().await.unwrap().len(), 0);
    assert_eq!(world.members.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_and_keeps_this_one() {
    let world = World::new();
    let mut here = world.admin().await;
    let mut there = Browser::new(&world);
    assert_eq!(there.sign_in("admin@example.org", PASSWORD).await.0, 200);
    let before = here.cookie.clone();
    let wrong = json!({"old": "wrong horse", "new": "battery staple"});
    assert_eq!(here.call("PUT /v1/members/me/password", wrong).await.1["error"]["code"], "credentials");
    let short = json!({"old": PASSWORD, "new": "short"});
    let (status, body) = here.call("PUT /v1/members/me/password", short).await;
    assert_eq!((status, &body["error"]["field"]), (400, &json!("new")));
    let ask = json!({"old": PASSWORD, "new": "battery staple"});
    assert_eq!(here.call("PUT /v1/members/me/password", ask.clone()).await.0, 204);
    assert_ne!(here.cookie, before);
    let recorded = world.recorded();
    assert_eq!((recorded.len(), &recorded[2]["action"]), (3, &json!("members.password")), "{recorded:?}");
    assert_eq!(here.call("GET /v1/status", Value::Null).await.0, 200);
    assert_eq!(there.call("GET /v1/status", Value::Null).await.0, 401);
    assert_eq!(there.call("PUT /v1/members/me/password", ask).await.0, 401);
    assert_eq!(there.sign_in("admin@example.org", "battery staple").await.0, 200);
}

#[tokio::test]
async fn a_member_that_is_removed_is_out_at_once_and_the_last_admin_stays() {
    let world = World::new();
    let mut admin = world.admin().await;
    let (mut editor, id) = world.member(&mut admin, "editor").await;
    let change = format!("PATCH /v1/members/{id}");
    assert_eq!(admin.call(&change, json!({"role": "viewer", "name": "Lee"})).await.1["member"]["name"], "Lee");
    assert_eq!(editor.call("GET /v1/rules", Value::Null).await.0, 403);
    assert_eq!(admin.call(&format!("DELETE /v1/members/{id}"), Value::Null).await.0, 204);
    assert_eq!(editor.call("GET /v1/status", Value::Null).await.0, 401);
    let (_, list) = admin.call("GET /v1/members", Value::Null).await;
    let [only] = list["members"].as_array().unwrap().as_slice() else { panic!("{list}") };
    assert!(only["last_seen_at"].is_string() && only.get("password").is_none() && only.get("generation").is_none());
    let own = only["id"].as_str().unwrap();
    for (call, body) in [
        (format!("PATCH /v1/members/{own}"), json!({"role": "viewer"})),
        (format!("DELETE /v1/members/{own}"), Value::Null),
    ] {
        let (status, body) = admin.call(&call, body).await;
        assert_eq!((status, &body["error"]["code"]), (409, &json!("last_admin")));
    }
}

#[tokio::test]
async fn a_key_for_everything_invites_the_first_member_too() {
    let world = World::new();
    let (admin, who) = world.key(KeySpec::admin()).await;
    let ask = r#"{"email":"kim@example.org","name":"Kim","role":"admin"}"#;
    let reply = world.call_at(&admin, "POST /v1/members", ask, now()).await;
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((reply.status, &body["member"]["email"]), (201, &json!("kim@example.org")));
    assert_eq!(world.recorded(), [record(&who, "members.invite", "admin", "allowed")]);
    let link = body["link"].as_str().unwrap().strip_prefix("/signin#link=").unwrap();
    let ask = json!({"link": link, "email": "kim@example.org", "name": "Kim", "password": PASSWORD});
    assert_eq!(Browser::new(&world).call("POST /v1/sessions", ask).await.0, 200);
    assert_eq!(world.members.first_link(now()).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_not_understood_is_named() {
    let world = World::new();
    let mut admin = world.admin().await;
    for (call, body, status, code) in [
        ("POST /v1/sessions", json!({"email": "a@example.org"}), 400, "body"),
        ("POST /v1/sessions", json!({"email": 1, "password": "x"}), 400, "body"),
        ("POST /v1/sessions", json!([]), 400, "body"),
        ("POST /v1/members", json!({"email": "a@example.org", "role": "owner"}), 400, "body"),
        ("POST /v1/members", json!({"email": "nobody", "role": "viewer"}), 400, "body"),
        ("POST /v1/members", json!({"email": "admin@example.org", "role": "viewer"}), 409, "exists"),
        ("PATCH /v1/members/m_0", json!({"email": "b@example.org"}), 400, "body"),
        ("PUT /v1/members/me/password", json!({"new": "battery staple"}), 400, "body"),
        ("PUT /v1/sessions", json!({}), 405, "method_not_allowed"),
        ("GET /v1/members/m_0", Value::Null, 405, "method_not_allowed"),
    ] {
        let (found, answer) = admin.call(call, body.clone()).await;
        assert_eq!((found, &answer["error"]["code"]), (status, &json!(code)), "{call} {body}");
    }
    admin.headers.insert("content-type".into(), "text/plain".into());
    assert_eq!(admin.sign_in("admin@example.org", PASSWORD).await.0, 415);
}

#[tokio::test]
async fn while_the_table_is_away_nobody_is_signed_in_or_out() {
    let world = World::new();
    let mut admin = world.admin().await;
    world.table.always("table.get", Fault::Before(ErrorKind::Unavailable));
    assert_eq!(admin.call("GET /v1/status", Value::Null).await.0, 503);
    assert_eq!(admin.call("GET /v1/sessions/current", Value::Null).await.0, 503);
    assert_eq!(Browser::new(&world).sign_in("admin@example.org", PASSWORD).await.0, 503);
}

#[tokio::test]
async fn whoever_has_a_key_or_a_session_is_known() {
    let world = World::new();
    let admin = world.admin().await;
    let (write, _) = world.key(KeySpec::write(["shop"])).await;
    let sessions = Sessions::new(world.table.clone(), world.members.clone());
    for (headers, is_known) in [
        (vec![("authorization", format!("Bearer {write}"))], true),
        (vec![("cookie", format!("sluice_session={}", admin.cookie))], true),
        (
            vec![("authorization", "Bearer nobody".into()), ("cookie", format!("sluice_session={}", admin.cookie))],
            false,
        ),
        (vec![("cookie", "sluice_session=guess".into())], false),
        (vec![], false),
    ] {
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let request = Request { headers, ..Request::default() };
        let found = access::is_known(&request, &world.keys, &sessions, now()).await;
        assert_eq!(found, is_known, "{request:?}");
    }
}
