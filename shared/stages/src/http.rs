//! HTTP requests and replies as the stages see them, whoever carries them.

use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Method in upper case.
    pub method: String,
    /// Path, percent-encoded as sent, without the query.
    pub path: String,
    /// Query parameters in order, decoded.
    pub query: Vec<(String, String)>,
    /// Headers, names in lower case; several of one name joined by `,`.
    pub headers: BTreeMap<String, String>,
    /// The body, as it came over the wire (still compressed where `content-encoding` says so).
    pub body: Bytes,
    /// Address of the client as the gateway saw it.
    pub client_ip: String,
}

impl Request {
    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The last query parameter of this name.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// A JSON reply.
    pub fn json(status: u16, body: &Value) -> Self {
        let headers = BTreeMap::from([
            ("content-type".to_owned(), "application/json".to_owned()),
            ("cache-control".to_owned(), "no-store".to_owned()),
            ("x-content-type-options".to_owned(), "nosniff".to_owned()),
        ]);
        Self { status, headers, body: Bytes::from(body.to_string()) }
    }

    /// A reply of plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        let body = Bytes::from(body.into());
        let headers = BTreeMap::from([
            ("content-type".to_owned(), "text/plain; charset=utf-8".to_owned()),
            ("cache-control".to_owned(), "no-store".to_owned()),
            ("x-content-type-options".to_owned(), "nosniff".to_owned()),
        ]);
        Self { status, headers, body }
    }

    /// An error reply: `{"error":{"code","message"}}`. The message is safe to show: no secret, no payload, no inner error.
    pub fn error(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self::json(status, &json!({"error": {"code": code, "message": message.into()}}))
    }

    /// No content.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: BTreeMap::new(), body: Bytes::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_owned(), value.into());
        self
    }
}
