//! Against a real server on this machine.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use sluice_adapters_http::HttpHooks;
use sluice_ports::{ErrorKind, HookCall, Hooks as _, PortError};
use std::error::Error as _;
use std::sync::{Arc, Mutex};

type Seen = Arc<Mutex<Vec<(Option<String>, String)>>>;

/// A server on a port of its own; answers the port and what it has got.
async fn server() -> (u16, Seen) {
    let seen = Seen::default();
    let take = async |State(seen): State<Seen>, headers: HeaderMap, body: String| {
        let signature = headers.get("sluice-signature").and_then(|value| value.to_str().ok()).map(str::to_owned);
        seen.lock().unwrap().push((signature, body));
        StatusCode::NO_CONTENT
    };
    let status = async |path: axum::extract::Path<u16>| StatusCode::from_u16(*path).unwrap();
    let app = Router::new()
        .route("/take", post(take))
        .route("/status/{status}", post(status))
        .route("/away", post(async || (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/take")]).into_response()))
        .with_state(seen.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (port, seen)
}

async fn call(hooks: &HttpHooks, url: String) -> Result<(), PortError> {
    let headers = vec![("sluice-signature".to_owned(), "t=1,v1=ab".to_owned())];
    hooks.post(HookCall { url, headers, body: "{}".into() }).await
}

#[tokio::test]
async fn a_post_arrives_with_its_headers_and_answers_have_their_kinds() {
    let (port, seen) = server().await;
    let hooks = HttpHooks::new(Arc::new(|_| true)).unwrap();
    for host in ["127.0.0.1", "localhost"] {
        call(&hooks, format!("http://{host}:{port}/take?token=secret")).await.unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), vec![(Some("t=1,v1=ab".to_owned()), "{}".to_owned()); 2]);
    for (path, kind) in [
        ("status/200", None),
        ("status/404", Some(ErrorKind::Denied)),
        ("status/429", Some(ErrorKind::Throttled)),
        ("status/500", Some(ErrorKind::Unavailable)),
        ("away", Some(ErrorKind::Denied)),
    ] {
        let outcome = call(&hooks, format!("http://127.0.0.1:{port}/{path}")).await;
        assert_eq!(outcome.err().map(|e| e.kind), kind, "{path}");
    }
    assert_eq!(seen.lock().unwrap().len(), 2, "the redirect was not followed");
}

#[tokio::test]
async fn an_address_that_may_not_be_called_is_not() {
    let (port, seen) = server().await;
    let hooks = HttpHooks::new(Arc::new(|address| !address.to_canonical().is_loopback())).unwrap();
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "LOCALHOST"] {
        let error = call(&hooks, format!("http://{host}:{port}/take")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied, "{host}: {error}");
        assert!(error.detail.contains("private_networks"), "{error}");
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn no_error_repeats_the_address() {
    let hooks = HttpHooks::new(Arc::new(|_| true)).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    for url in [
        format!("http://127.0.0.1:{port}/secret?key=secret"),
        "http://secret.invalid/secret".to_owned(),
        "ftp://secret/".to_owned(),
        "secret".to_owned(),
    ] {
        let error = call(&hooks, url).await.unwrap_err();
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        assert!(!text.contains("secret/") && !text.contains("key="), "{text}");
    }
}
