//! The HTTP API of a server, as the command line uses it.

use crate::cli::exit::{Exit, Failure};
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a connection may take to be made.
const CONNECT_MS: u64 = 5_000;
/// How long one request of events may take.
const SEND_MS: u64 = 60_000;
/// How long one question may take: a query over a large lake.
const ASK_MS: u64 = 15 * 60_000;
/// Longest wait that a server's `Retry-After` is believed.
const LONGEST_WAIT_MS: u64 = 5 * 60_000;

/// A server and a key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Arc<str>,
    absent: Option<Arc<str>>,
    patience: Patience,
}

/// How long a request of events is tried again while the server is busy or away.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// First wait, doubled each time.
    pub first_ms: u64,
    /// Longest wait.
    pub longest_ms: u64,
    /// A server that is not there is given up after this long.
    pub away_ms: u64,
    /// A server that says it is busy is given up after this long.
    pub busy_ms: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { first_ms: 200, longest_ms: 10_000, away_ms: 60_000, busy_ms: 600_000 }
    }
}

/// A request's body of events, one JSON text per line.
#[derive(Debug, Clone)]
pub struct EventBody {
    /// The bytes as they go over the wire.
    pub bytes: Bytes,
    /// `Content-Encoding`, where they are compressed.
    pub encoding: Option<&'static str>,
    /// The same for each try, so that the request is stored once.
    pub idempotency_key: String,
}

/// What the server says about a request of events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct EventReply {
    /// HTTP status.
    #[serde(skip)]
    pub status: u16,
    /// How many events it took.
    pub accepted: u64,
    /// How many it did not.
    pub rejected: u64,
    /// How many were good and not stored this time.
    #[serde(default)]
    pub unavailable: u64,
    /// Why; the server may leave some out.
    #[serde(default)]
    pub errors: Vec<EventError>,
}

/// Why an event was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EventError {
    /// Place of the event in the request, from 0.
    pub index: usize,
    /// JSON pointer to what is wrong.
    #[serde(default)]
    pub pointer: String,
    /// Stable code.
    #[serde(default)]
    pub code: String,
    /// A sentence.
    #[serde(default)]
    pub reason: String,
}

/// The answer to a request of events, and how often it had to be asked again.
#[derive(Debug)]
pub struct Sent {
    /// The outcome.
    pub outcome: Result<EventReply, CallError>,
    /// Tries beyond the first.
    pub retries: u64,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// Nothing answered.
    Unreachable(String),
    /// 401 or 403.
    Refused(String),
    /// 413: the request has to be made smaller.
    TooLarge(String),
    /// Another error reply: the status and its message.
    Failed(u16, String),
    /// 429 or 503 to the end.
    Busy(String),
    /// A reply that is not what the API promises.
    Strange(String),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreachable(m) | CallError::Busy(m) => Self::new(Exit::Unreachable, m),
            CallError::Refused(m) => Self::new(Exit::Refused, m),
            CallError::TooLarge(m) | CallError::Failed(_, m) | CallError::Strange(m) => Self::new(Exit::Failed, m),
        }
    }
}

#[derive(Deserialize)]
struct ErrorReply {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Client {
    /// A client of the server at `url`. `absent` is what to say when nothing answers there, in place of the address and the reason.
    pub fn new(url: &str, key: &str, absent: Option<String>) -> Result<Self, Failure> {
        let parsed = Url::parse(url)
            .ok()
            .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
            .ok_or_else(|| Failure::usage(format!("`{url}` is not an http or https address")))?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.trim()))
            .map_err(|_| Failure::usage("the key has characters that no key has"))?;
        authorization.set_sensitive(true);
        // Fails only where a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, authorization)]))
            .connect_timeout(Duration::from_millis(CONNECT_MS))
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&parsed) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot make an HTTP client: {}", chain(&e))))?;
        Ok(Self {
            http,
            base: url.trim_end_matches('/').into(),
            absent: absent.map(Into::into),
            patience: Patience::default(),
        })
    }

    /// The same client with other patience.
    #[cfg(test)]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Asks once whether the server is there, so that a command does not begin in vain.
    pub async fn check(&self) -> Result<(), CallError> {
        let request = self.http.get(self.at("/health")).timeout(Duration::from_millis(SEND_MS));
        request.send().await.map(drop).map_err(|e| self.unreachable(&e))
    }

    /// `GET`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, CallError> {
        self.ask(Method::GET, path, query, None).await
    }

    /// `GET` of what is no JSON.
    pub async fn get_bytes(&self, path: &str, query: &[(&str, &str)]) -> Result<Bytes, CallError> {
        self.send(Method::GET, path, query, None).await
    }

    /// `POST` with a JSON body.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<T, CallError> {
        self.ask(Method::POST, path, query, Some(body)).await
    }

    /// `DELETE`; what is answered does not matter.
    pub async fn delete(&self, path: &str) -> Result<(), CallError> {
        self.send(Method::DELETE, path, &[], None).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T, CallError> {
        let bytes = self.send(method, path, query, body).await?;
        serde_json::from_slice(&bytes).map_err(|e| {
            CallError::Strange(format!("`{path}` at {} gave a reply that is not understood: {e}", self.base))
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Bytes, CallError> {
        let mut request = self.http.request(method, self.at(path)).query(query).timeout(Duration::from_millis(ASK_MS));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|e| self.unreachable(&e))?;
        if status.is_success() { Ok(bytes) } else { Err(failed(status, &bytes)) }
    }

    /// Sends events: again and again while the server is busy (429, 503, or a part of the events not stored) or away, as long as the
    /// patience lasts. Each try is the same request, so that what an earlier one stored counts once.
    pub async fn send_events(&self, body: &EventBody) -> Sent {
        let started = Instant::now();
        let mut retries = 0;
        loop {
            let (error, wait) = match self.try_events(body).await {
                Ok(reply) => return Sent { outcome: Ok(reply), retries },
                Err(Try::Final(error)) => return Sent { outcome: Err(error), retries },
                Err(Try::Again(error, wait)) => (error, wait),
            };
            let wait = wait.unwrap_or_else(|| self.patience.wait(retries, jitter()));
            let patience_ms = match error {
                CallError::Unreachable(_) => self.patience.away_ms,
                _ => self.patience.busy_ms,
            };
            if started.elapsed() + wait > Duration::from_millis(patience_ms) {
                return Sent { outcome: Err(error), retries };
            }
            retries += 1;
            tokio::time::sleep(wait).await;
        }
    }

    async fn try_events(&self, body: &EventBody) -> Result<EventReply, Try> {
        let mut request = self
            .http
            .post(self.at("/v1/events"))
            .timeout(Duration::from_millis(SEND_MS))
            .header(CONTENT_TYPE, "application/x-ndjson")
            .header("idempotency-key", &body.idempotency_key)
            .body(body.bytes.clone());
        if let Some(encoding) = body.encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        let response = request.send().await.map_err(|e| Try::Again(self.unreachable(&e), None))?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(retry_after);
        let bytes = response.bytes().await.map_err(|e| Try::Again(self.unreachable(&e), None))?;
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err(Try::Again(failed(status, &bytes), wait));
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(Try::Final(failed(status, &bytes)));
        }
        // A request of which no event was accepted is answered 400, 403 or 413, with the same body as 202.
        match serde_json::from_slice::<EventReply>(&bytes) {
            // Only the whole request again is safe: events that were given up as timed out may be stored after all, and what is sent with the
            // same idempotency key in the same places is stored once.
            Ok(reply) if reply.unavailable > 0 => {
                Err(Try::Again(CallError::Busy("the server cannot store events for the moment".into()), wait))
            }
            Ok(reply) => Ok(EventReply { status: status.as_u16(), ..reply }),
            Err(e) if status.is_success() => Err(Try::Final(CallError::Strange(format!(
                "{} took events but its reply is not understood: {e}",
                self.base
            )))),
            Err(_) => Err(Try::Final(failed(status, &bytes))),
        }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        if let (true, Some(absent)) = (error.is_connect(), &self.absent) {
            return CallError::Unreachable(absent.to_string());
        }
        CallError::Unreachable(format!("{} does not answer: {}", self.base, chain(error)))
    }
}

enum Try {
    Final(CallError),
    Again(CallError, Option<Duration>),
}

impl Patience {
    /// The wait before try `retries + 1`: doubled each time, between half of it and all of it, so that many senders do not come back at
    /// once. `jitter` is in 0..1.
    fn wait(&self, retries: u64, jitter: f64) -> Duration {
        let factor = 1u64.checked_shl(u32::try_from(retries).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
        let full = self.first_ms.saturating_mul(factor).min(self.longest_ms);
        Duration::from_millis(full).mul_f64(0.5 + jitter / 2.0)
    }
}

fn jitter() -> f64 {
    // A new UUID's last bits are as good as dice here, and need no further crate.
    f64::from(u16::from_be_bytes([uuid::Uuid::now_v7().as_bytes()[14], uuid::Uuid::now_v7().as_bytes()[15]])) / 65_536.0
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    let ms = match value.parse::<u64>() {
        Ok(seconds) => seconds.saturating_mul(1000),
        Err(_) => {
            let at = chrono::DateTime::parse_from_rfc2822(value).ok()?;
            u64::try_from((at.to_utc() - chrono::Utc::now()).num_milliseconds()).unwrap_or(0)
        }
    };
    Some(Duration::from_millis(ms.min(LONGEST_WAIT_MS)))
}

/// A name as one segment of a path.
pub fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(byte as char);
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    // These two alone would be another path.
    if matches!(text.as_str(), "." | "..") { text.replace('.', "%2E") } else { text }
}

fn failed(status: StatusCode, body: &[u8]) -> CallError {
    let reply = serde_json::from_slice::<ErrorReply>(body);
    // What no key may do says nothing about the key.
    let is_for_nobody = reply.as_ref().is_ok_and(|r| r.error.code == "refused");
    let said = reply
        .map(|r| r.error.message)
        .ok()
        .or_else(|| serde_json::from_slice::<Value>(body).ok()?.get("message")?.as_str().map(str::to_owned))
        .filter(|m| !m.is_empty())
        .unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason given").to_lowercase());
    match status.as_u16() {
        401 => CallError::Refused(format!("the server does not know the key (401): {said}")),
        403 if is_for_nobody => CallError::Failed(403, format!("{said} (403)")),
        403 => CallError::Refused(format!("the key may not do this (403): {said}")),
        413 => CallError::TooLarge(said),
        429 | 503 => CallError::Busy(format!("the server is busy ({}): {said}", status.as_u16())),
        code => CallError::Failed(code, format!("{said} ({code})")),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An error with its causes. The address is left out: the messages name it already.
fn chain(error: &dyn std::error::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    match causes.pop() {
        Some(root) => root.to_lowercase(),
        None => error.to_string(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::Request;
    use axum::http::HeaderMap as Headers;
    use axum::response::Response;
    use std::sync::Mutex;

    /// What a fake server got.
    #[derive(Debug, Clone)]
    pub struct Got {
        pub method: String,
        pub path: String,
        pub headers: Headers,
        pub body: Vec<u8>,
    }

    impl Got {
        /// The lines of the body, decompressed.
        pub fn lines(&self) -> Vec<String> {
            let body = match self.headers.get("content-encoding") {
                Some(_) => zstd::decode_all(self.body.as_slice()).unwrap(),
                None => self.body.clone(),
            };
            String::from_utf8(body).unwrap().lines().map(str::to_owned).collect()
        }
    }

    /// A server on a free port that answers as `answer` says: status, headers, body.
    pub struct Fake {
        pub url: String,
        pub got: Arc<Mutex<Vec<Got>>>,
    }

    impl Fake {
        pub async fn start(
            answer: impl Fn(usize, &Got) -> (u16, Vec<(&'static str, String)>, String) + Send + Sync + 'static,
        ) -> Self {
            let got: Arc<Mutex<Vec<Got>>> = Arc::default();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let answer = Arc::new(answer);
            let seen = got.clone();
            let app = Router::new().fallback(move |request: Request| {
                let (answer, seen) = (answer.clone(), seen.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let one = Got {
                        method: parts.method.to_string(),
                        path: parts.uri.to_string(),
                        headers: parts.headers,
                        body: axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec(),
                    };
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(one.clone());
                        seen.len() - 1
                    };
                    let (status, headers, text) = answer(number, &one);
                    let mut response = Response::builder().status(status);
                    for (name, value) in headers {
                        response = response.header(name, value);
                    }
                    response.body(axum::body::Body::from(text)).unwrap()
                }
            });
            tokio::spawn(async move { axum::serve(listener, app).await });
            Self { url, got }
        }

        pub fn client(&self) -> Client {
            let quick = Patience { first_ms: 1, longest_ms: 4, away_ms: 5_000, busy_ms: 5_000 };
            Client::new(&self.url, "key-1", None).unwrap().with_patience(quick)
        }

        pub fn got(&self) -> Vec<Got> {
            self.got.lock().unwrap().clone()
        }
    }

    fn body() -> EventBody {
        EventBody { bytes: Bytes::from_static(b"{}\n"), encoding: None, idempotency_key: "k-1".into() }
    }

    #[tokio::test]
    async fn a_busy_server_is_asked_again_with_the_same_idempotency_key() {
        let fake = Fake::start(|number, _| match number {
            0 => (429, vec![("retry-after", "0".into())], r#"{"error":{"code":"busy","message":"slow down"}}"#.into()),
            1 => (503, vec![], String::new()),
            _ => (202, vec![], r#"{"accepted":1,"rejected":0,"errors":[]}"#.into()),
        })
        .await;
        let sent = fake.client().send_events(&body()).await;
        assert_eq!(sent.outcome, Ok(EventReply { status: 202, accepted: 1, ..EventReply::default() }));
        assert_eq!(sent.retries, 2);
        let got = fake.got();
        assert_eq!(got.len(), 3);
        assert!(got.iter().all(|g| g.headers["idempotency-key"] == "k-1" && g.body == b"{}\n"));
        assert!(got.iter().all(|g| g.headers["authorization"] == "Bearer key-1"));
    }

    #[tokio::test]
    async fn a_request_of_which_a_part_was_not_stored_is_made_again() {
        let fake = Fake::start(|number, _| match number {
            // The errors that are shown need not name an event that was not stored.
            0 => {
                let error = r#"{"index":0,"pointer":"/time","code":"time","reason":"bad"}"#;
                (202, vec![], format!(r#"{{"accepted":1,"rejected":1,"unavailable":7,"errors":[{error}]}}"#))
            }
            _ => (202, vec![], r#"{"accepted":8,"rejected":1,"unavailable":0,"errors":[]}"#.into()),
        })
        .await;
        let sent = fake.client().send_events(&body()).await;
        let reply = sent.outcome.unwrap();
        assert_eq!((reply.accepted, reply.rejected, sent.retries), (8, 1, 1));
        let got = fake.got();
        assert_eq!(
            (got.len(), &got[0].body, &got[0].headers["idempotency-key"]),
            (2, &got[1].body, &got[1].headers["idempotency-key"])
        );
    }

    #[tokio::test]
    async fn a_server_that_stays_busy_is_given_up() {
        let fake = Fake::start(|_, _| (503, vec![("retry-after", "60".into())], String::new())).await;
        let sent = fake.client().send_events(&body()).await;
        assert!(matches!(sent.outcome, Err(CallError::Busy(_))), "{sent:?}");
        assert_eq!(sent.retries, 0, "one minute is longer than the patience");
    }

    #[tokio::test]
    async fn a_refused_key_is_not_tried_again() {
        for status in [401, 403] {
            let fake =
                Fake::start(move |_, _| (status, vec![], r#"{"error":{"code":"key","message":"unknown key"}}"#.into()))
                    .await;
            let sent = fake.client().send_events(&body()).await;
            let failure = Failure::from(sent.outcome.unwrap_err());
            assert_eq!(failure.exit, Exit::Refused);
            assert!(failure.to_string().contains("unknown key"));
            assert_eq!(fake.got().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_request_without_any_good_event_is_an_answer() {
        let fake = Fake::start(|_, _| {
            let text =
                r#"{"accepted":0,"rejected":1,"errors":[{"index":0,"pointer":"/time","code":"time","reason":"bad"}]}"#;
            (400, vec![], text.into())
        })
        .await;
        let reply = fake.client().send_events(&body()).await.outcome.unwrap();
        assert_eq!((reply.rejected, reply.errors[0].pointer.as_str()), (1, "/time"));
    }

    #[tokio::test]
    async fn where_nothing_answers_the_failure_says_so() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = Client::new(&format!("http://{free}"), "k", Some("nobody there".into())).unwrap();
        let failure = Failure::from(client.check().await.unwrap_err());
        assert_eq!(failure, Failure::new(Exit::Unreachable, "nobody there"));
        let client = Client::new(&format!("http://{free}"), "k", None).unwrap();
        let failure = Failure::from(client.get::<Value>("/v1/status", &[]).await.unwrap_err());
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.to_string().contains("refused"), "{failure}");
    }

    #[tokio::test]
    async fn an_error_reply_becomes_a_sentence() {
        let fake = Fake::start(|_, g| match g.path.as_str() {
            "/v1/sql" => (400, vec![], r#"{"error":{"code":"sql","message":"no table `x`"}}"#.into()),
            "/v1/keys" => (404, vec![], "<html>".into()),
            _ => (200, vec![], "not json".into()),
        })
        .await;
        let client = fake.client();
        let error = client.post::<Value>("/v1/sql", &[], &Value::Null).await.unwrap_err();
        assert_eq!(error, CallError::Failed(400, "no table `x` (400)".into()));
        let error = client.get::<Value>("/v1/keys", &[]).await.unwrap_err();
        assert_eq!(error, CallError::Failed(404, "not found (404)".into()));
        let error = client.get::<Value>("/v1/status", &[]).await.unwrap_err();
        assert!(matches!(error, CallError::Strange(_)), "{error:?}");
    }

    #[test]
    fn what_no_key_may_do_is_not_blamed_on_the_key() {
        let failed = |code: &str| {
            let body = format!(r#"{{"error":{{"code":"{code}","message":"only SELECT"}}}}"#);
            super::failed(StatusCode::FORBIDDEN, body.as_bytes())
        };
        assert!(matches!(failed("refused"), CallError::Failed(403, said) if said == "only SELECT (403)"));
        assert!(matches!(failed("wrong_scope"), CallError::Refused(_)));
    }

    #[test]
    fn names_are_one_segment_of_a_path() {
        assert_eq!(segment("ConvertQueue"), "ConvertQueue");
        assert_eq!(segment("a/../b?c"), "a%2F..%2Fb%3Fc");
        assert_eq!(segment(".."), "%2E%2E");
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let patience = Patience { first_ms: 200, longest_ms: 10_000, away_ms: 0, busy_ms: 0 };
        let waits: Vec<u128> = [0, 1, 5, 6, 200].iter().map(|n| patience.wait(*n, 1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 6_400, 10_000, 10_000]);
        assert_eq!(patience.wait(0, 0.0).as_millis(), 100);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("2"), Some(Duration::from_secs(2)));
        assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("99999999999"), Some(Duration::from_millis(LONGEST_WAIT_MS)));
    }

    #[test]
    fn addresses_and_keys_that_cannot_be_are_wrong_usage() {
        for (url, key) in [("localhost:7070", "k"), ("ftp://a", "k"), ("http://a", "k\n1"), ("nothing", "k")] {
            assert_eq!(Client::new(url, key, None).unwrap_err().exit, Exit::Usage, "{url}");
        }
    }
}
