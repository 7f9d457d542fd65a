//! API Gateway's HTTP API event, payload format 2.0, and its reply.
//!
//! Source of the shapes: AWS documentation, "Working with AWS Lambda proxy integrations for HTTP APIs". The types borrow from the event so
//! that a body is copied once; the one-machine runtime writes events with the same types.

use crate::InvokeError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, Serialize};
use sluice_stages::http::{Request, Response};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A request as the gateway hands it over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpEvent<'a> {
    /// `2.0`
    #[serde(borrow, default)]
    pub version: Cow<'a, str>,
    /// The route that matched, for example `POST /v1/events`.
    #[serde(borrow, default)]
    pub route_key: Cow<'a, str>,
    /// Path as sent.
    #[serde(borrow)]
    pub raw_path: Cow<'a, str>,
    /// Query as sent, without `?`.
    #[serde(borrow, default)]
    pub raw_query_string: Cow<'a, str>,
    /// Cookies, each `name=value`.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<String>,
    /// Headers, names in lower case, several of one name joined by `,`.
    #[serde(default, deserialize_with = "or_empty")]
    pub headers: BTreeMap<String, String>,
    /// About the request.
    #[serde(borrow)]
    pub request_context: RequestContext<'a>,
    /// The body, as text or base64.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Cow<'a, str>>,
    /// Parameters of the route's path.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub path_parameters: BTreeMap<String, String>,
    /// Whether `body` is base64.
    #[serde(default)]
    pub is_base64_encoded: bool,
}

/// The part of the request context that the stages use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestContext<'a> {
    /// The request line and the client.
    #[serde(borrow)]
    pub http: RequestLine<'a>,
    /// Id of the request.
    #[serde(borrow, default)]
    pub request_id: Cow<'a, str>,
    /// Stage of the API.
    #[serde(borrow, default)]
    pub stage: Cow<'a, str>,
    /// Receive time, milliseconds since the epoch.
    #[serde(default)]
    pub time_epoch: i64,
}

/// The request line and the client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestLine<'a> {
    /// Method.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// Path.
    #[serde(borrow, default)]
    pub path: Cow<'a, str>,
    /// Protocol, for example `HTTP/1.1`.
    #[serde(borrow, default)]
    pub protocol: Cow<'a, str>,
    /// The client's address.
    #[serde(borrow, default)]
    pub source_ip: Cow<'a, str>,
    /// User agent.
    #[serde(borrow, default)]
    pub user_agent: Cow<'a, str>,
}

/// A reply as the gateway takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpReply {
    /// Status code.
    pub status_code: u16,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body, as text or base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Whether `body` is base64.
    #[serde(default)]
    pub is_base64_encoded: bool,
}

/// Reads an event of the gateway.
pub fn read(function: &'static str, event: &[u8]) -> Result<Request, InvokeError> {
    let fail = |reason: String| InvokeError::Event { function, reason };
    let event: HttpEvent<'_> = serde_json::from_slice(event).map_err(|e| fail(e.to_string()))?;
    let body = match event.body {
        None => Bytes::new(),
        Some(text) if event.is_base64_encoded => {
            Bytes::from(STANDARD.decode(text.as_bytes()).map_err(|e| fail(format!("`body` is not base64: {e}")))?)
        }
        Some(text) => Bytes::from(text.into_owned()),
    };
    let mut headers: BTreeMap<String, String> = event.headers;
    if headers.keys().any(|name| name.bytes().any(|b| b.is_ascii_uppercase())) {
        headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    }
    if !event.cookies.is_empty() {
        headers.insert("cookie".into(), event.cookies.join("; "));
    }
    Ok(Request {
        method: event.request_context.http.method.to_ascii_uppercase(),
        path: event.raw_path.into_owned(),
        query: decode_query(&event.raw_query_string),
        headers,
        body,
        client_ip: event.request_context.http.source_ip.into_owned(),
    })
}

/// Writes a reply for the gateway: text as it is, anything else in base64.
pub fn write(function: &'static str, response: Response) -> Result<Vec<u8>, InvokeError> {
    let (body, is_base64_encoded) = match String::from_utf8(response.body.to_vec()) {
        Ok(text) => (text, false),
        Err(e) => (STANDARD.encode(e.as_bytes()), true),
    };
    let reply = HttpReply { status_code: response.status, headers: response.headers, body, is_base64_encoded };
    serde_json::to_vec(&reply).map_err(|source| InvokeError::Reply { function, source })
}

/// A collection without entries may be left out or `null`.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Decodes a query string: percent-decoding, `+` as space, invalid UTF-8 replaced.
fn decode_query(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"version":"2.0","routeKey":"POST /v1/events","rawPath":"/v1/events","rawQueryString":"a=1&b=%ED%95%9C+x&c",
        "cookies":["s=1","t=2"],"headers":{"Content-Type":"application/json"},"requestContext":{"accountId":"1","http":{"method":"POST",
        "path":"/v1/events","protocol":"HTTP/1.1","sourceIp":"192.0.2.1","userAgent":"x"},"requestId":"r","stage":"$default",
        "timeEpoch":1},"body":"eA==","isBase64Encoded":true}"#;

    #[test]
    fn an_event_becomes_a_request() {
        let request = read("ingest", EVENT.as_bytes()).unwrap();
        assert_eq!(
            (request.method.as_str(), request.path.as_str(), request.client_ip.as_str()),
            ("POST", "/v1/events", "192.0.2.1")
        );
        assert_eq!(request.query("b"), Some("한 x"));
        assert_eq!(request.query("c"), Some(""));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("cookie"), Some("s=1; t=2"));
        assert_eq!(&request.body[..], b"x");
    }

    #[test]
    fn a_collection_without_entries_may_be_null() {
        let event = EVENT.replace(r#"["s=1","t=2"]"#, "null").replace(r#"{"Content-Type":"application/json"}"#, "null");
        let request =
            read("ingest", event.replace(r#""version""#, r#""pathParameters":null,"version""#).as_bytes()).unwrap();
        assert!(request.headers.is_empty());
    }

    #[test]
    fn an_event_of_another_shape_says_what_is_missing() {
        let error = read("ingest", b"{\"Records\":[]}").unwrap_err();
        assert!(error.to_string().contains("`ingest` takes: missing field `rawPath`"), "{error}");
        assert!(read("ingest", EVENT.replace("eA==", "!").as_bytes()).unwrap_err().to_string().contains("not base64"));
    }

    #[test]
    fn bytes_that_are_no_text_are_answered_in_base64() {
        let response = Response { status: 200, headers: BTreeMap::new(), body: Bytes::from_static(b"\xff\x00") };
        let reply: HttpReply = serde_json::from_slice(&write("api", response).unwrap()).unwrap();
        assert_eq!((reply.body.as_str(), reply.is_base64_encoded), ("/wA=", true));
    }
}
