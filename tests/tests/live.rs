//! What pages are told over the WebSocket of one machine, and whom it does not let listen.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use serde_json::{Value, json};
use sluice_tests::{Server, send_raw, sluice_text};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;
use tungstenite::handshake::client::generate_key;
use tungstenite::http::{Request, StatusCode};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Error, Message, WebSocket};

type Socket = WebSocket<MaybeTlsStream<TcpStream>>;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    (dir, data)
}

fn connect(server: &Server, headers: &[(&str, &str)]) -> Result<Socket, StatusCode> {
    let host = server.url.trim_start_matches("http://");
    let mut request = Request::builder()
        .uri(format!("ws://{host}/v1/live"))
        .header("host", host)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    match tungstenite::connect(request.body(()).unwrap()) {
        Ok((socket, _)) => {
            if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
                stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
            }
            Ok(socket)
        }
        Err(Error::Http(reply)) => Err(reply.status()),
        Err(other) => panic!("{other}"),
    }
}

/// The topics of the next frame.
fn topics(socket: &mut Socket) -> Vec<String> {
    let frame: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
    frame["topics"].as_array().unwrap().iter().map(|topic| topic.as_str().unwrap().to_owned()).collect()
}

/// The code with which the server ends the connection, whatever it says before.
fn end(socket: &mut Socket) -> CloseCode {
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => return frame.unwrap().code,
            Ok(_) => {}
            Err(other) => panic!("it ended without a word: {other}"),
        }
    }
}

#[test]
fn who_listens_hears_of_changes_and_of_the_end() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let mut socket = connect(&server, &[]).unwrap();
    socket.send(Message::text(json!({"key": server.key}).to_string())).unwrap();
    let mut program = connect(&server, &[("authorization", &format!("Bearer {}", server.key))]).unwrap();
    let event = json!({"source": "s", "type": "x.y"});
    assert_eq!(server.post_json("/v1/events", &event).unwrap().0, 202);
    for socket in [&mut socket, &mut program] {
        let mut heard = std::collections::BTreeSet::new();
        while !["events", "queues", "ledger", "metrics"].iter().all(|topic| heard.contains(*topic)) {
            heard.extend(topics(socket));
        }
    }
    // Asking is no news, or pages that ask would keep each other busy.
    server.settle().unwrap();
    while !topics(&mut socket).is_empty() {}
    for path in ["/v1/status", "/v1/queues", "/v1/tables"] {
        assert_eq!(server.get(path).unwrap().0, 200);
    }
    assert_eq!(topics(&mut socket), [""; 0], "an empty frame says that the connection is alive");
    let waiting = std::thread::spawn(move || (end(&mut socket), end(&mut program)));
    assert_eq!(server.stop().unwrap(), Some(0));
    assert_eq!(waiting.join().unwrap(), (CloseCode::Away, CloseCode::Away));
}

#[test]
fn who_may_not_read_or_sends_too_much_does_not_listen() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let write = sluice_text(&data, &["keys", "add", "--source", "shop"]).unwrap();
    let hello = |key: &str| Message::text(json!({"key": key}).to_string());
    for first in [hello(write.trim()), hello("sk_read_no_such_key"), Message::text("{}"), Message::binary(vec![1])] {
        let mut socket = connect(&server, &[]).unwrap();
        socket.send(first).unwrap();
        assert_eq!(end(&mut socket), CloseCode::Policy);
    }
    let mut silent = connect(&server, &[]).unwrap();
    assert_eq!(end(&mut silent), CloseCode::Policy, "it has five seconds to say who it is");
    let bearer = format!("Bearer {}", write.trim());
    assert_eq!(connect(&server, &[("authorization", &bearer)]).unwrap_err(), StatusCode::UNAUTHORIZED);
    let cookie = ("cookie", "sluice_session=none");
    assert_eq!(connect(&server, &[cookie]).unwrap_err(), StatusCode::UNAUTHORIZED);
    let elsewhere = connect(&server, &[cookie, ("origin", "https://elsewhere.example")]);
    assert_eq!(elsewhere.unwrap_err(), StatusCode::FORBIDDEN, "whatever the cookie is worth");
    assert_eq!(send_raw(&server.url, "GET", "/v1/live", &[], b"").unwrap().status, 400, "no upgrade");

    let listen = || {
        let mut socket = connect(&server, &[]).unwrap();
        socket.send(hello(&server.key)).unwrap();
        socket
    };
    let mut large = listen();
    large.send(Message::text("x".repeat(5_000))).unwrap();
    assert_eq!(end(&mut large), CloseCode::Size);
    let mut many = listen();
    for _ in 0..30 {
        // It may be over before all are sent.
        let _ = many.send(Message::text("x"));
    }
    assert_eq!(end(&mut many), CloseCode::Policy);

    // A key that is revoked does not listen on.
    let read = sluice_text(&data, &["keys", "add", "--scope", "read"]).unwrap();
    let mut revoked = connect(&server, &[("authorization", &format!("Bearer {}", read.trim()))]).unwrap();
    let keys = server.get("/v1/keys").unwrap().1;
    let id = keys["keys"].as_array().unwrap().iter().find(|key| key["scope"] == "read").unwrap()["id"].clone();
    sluice_text(&data, &["keys", "revoke", id.as_str().unwrap()]).unwrap();
    assert_eq!(end(&mut revoked), CloseCode::Policy);
    assert_eq!(server.get("/health").unwrap().0, 200);
}
