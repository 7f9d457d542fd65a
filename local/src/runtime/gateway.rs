//! The HTTP side: takes requests, finds the function by the template's routes, hands over the event JSON that API Gateway would, and
//! answers with the function's reply.

use crate::runtime::live::{self, Doorman, Live};
use crate::runtime::{console, now, triggers};
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::serve::Listener;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use sluice_entry::Function;
use sluice_entry::gateway::{self, HttpEvent, HttpReply, RequestContext, RequestLine};
use sluice_stages::access::{self, Keys};
use sluice_stages::networks::Networks;
use sluice_stages::sessions::Sessions;
use sluice_template::Topology;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// The permits of the memory bound are counted in units of this many bytes.
const MEMORY_UNIT: usize = 1_024;

/// How long the head of a request may take to arrive, and so how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request, which nobody's key has been asked for yet.
const HEAD_BYTES: usize = 64 * 1_024;
/// A body that takes up to this many units of memory is read before it is known who sends it.
const UNASKED_UNITS: u32 = 64;
/// Connections at once; a further one waits until one is closed.
const MAX_CONNECTIONS: usize = 1_000;

/// What the HTTP side works with.
pub struct Gateway {
    /// The routes.
    pub topology: Topology,
    /// Functions by logical id, with their time-outs.
    pub functions: HashMap<String, (Arc<dyn Function>, Duration)>,
    /// Largest body in bytes.
    pub max_body_bytes: usize,
    /// Largest body in bytes after decompression.
    pub max_decompressed_bytes: usize,
    /// Bytes of bodies in memory at once.
    pub memory: Arc<Semaphore>,
    /// The keys: who is not known by one or by a session gets no room for a large body.
    pub keys: Arc<Keys>,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// Tells pages what has changed.
    pub live: Live,
    /// Connections at once.
    pub connections: usize,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Networks,
}

impl Gateway {
    /// A bound of this many bytes for [`Self::memory`].
    pub fn memory_bound(bytes: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new((bytes / MEMORY_UNIT).clamp(1, Semaphore::MAX_PERMITS)))
    }

    /// How many connections this many files that may be open allow for: the stages open files too.
    pub fn connections_for(open_files: usize) -> usize {
        (open_files / 2).clamp(1, MAX_CONNECTIONS)
    }

    /// Serves until `stop` turns true; requests in flight are finished.
    pub async fn serve(self, mut listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let places = self.connections;
        let room = Arc::new(Semaphore::new(places));
        let gateway = Arc::new(self);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES);
        loop {
            let next = async {
                let place = room.clone().acquire_owned().await;
                (place, Listener::accept(&mut listener).await)
            };
            let (place, (stream, peer)) = tokio::select! {
                next = next => next,
                () = asked(&mut stop) => break,
            };
            let (gateway, mut stop) = (gateway.clone(), stop.clone());
            let stopped = stop.clone();
            let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (gateway, stop) = (gateway.clone(), stopped.clone());
                async move { Ok::<_, Infallible>(handle(&gateway, peer, request.map(Body::new), stop).await) }
            });
            let connection = http.serve_connection(TokioIo::new(stream), answer).with_upgrades();
            tokio::spawn(async move {
                let mut connection = pin!(connection);
                let ended = tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = asked(&mut stop) => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                };
                // A client that breaks off or dawdles harms nobody else.
                if let Err(e) = ended {
                    tracing::debug!(error = %e, "a connection ended early");
                }
                drop(place);
            });
        }
        drop(listener);
        // Each connection has its place until it has ended.
        let _ = room.acquire_many(u32::try_from(places).unwrap_or(u32::MAX)).await;
    }

    /// Whether the request is from anybody known. What they may do is up to the function.
    async fn is_known(&self, event: &HttpEvent<'_>) -> bool {
        let Ok(event) = serde_json::to_vec(event) else { return false };
        let Ok(request) = gateway::read("gateway", &event) else { return false };
        access::is_known(&request, &self.keys, &self.sessions, now()).await
    }

    /// Units of [`Self::memory`] for a body: about four copies of it are held at once (as sent, in the event, parsed, packed). One of unknown
    /// length counts as the largest, and a compressed one as what it may unpack to.
    fn units_for(&self, bytes: Option<usize>, headers: &HeaderMap) -> u32 {
        let sent = bytes.unwrap_or(self.max_body_bytes) * 4;
        let unpacked = if headers.contains_key("content-encoding") { self.max_decompressed_bytes * 2 } else { 0 };
        u32::try_from(sent.max(unpacked) / MEMORY_UNIT).unwrap_or(u32::MAX)
    }

    /// The client's address: the peer's, or what a trusted peer says it forwards for (the last address that is not trusted itself).
    fn client_ip(&self, peer: IpAddr, forwarded: Option<&str>) -> IpAddr {
        let trusted = |ip: &IpAddr| self.trusted_proxies.contains(*ip);
        if !trusted(&peer) {
            return peer.to_canonical();
        }
        let mut client = peer;
        for hop in forwarded.unwrap_or_default().rsplit(',') {
            let Ok(ip) = hop.trim().parse::<IpAddr>() else { break };
            client = ip;
            if !trusted(&ip) {
                break;
            }
        }
        client.to_canonical()
    }
}

async fn asked(stop: &mut watch::Receiver<bool>) {
    // Nobody left to ask is as good as being asked.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn handle(gateway: &Gateway, peer: SocketAddr, request: Request, stop: watch::Receiver<bool>) -> Response {
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::GET && parts.uri.path() == live::PATH {
        let request = sluice_stages::http::Request {
            method: "GET".into(),
            path: live::PATH.into(),
            headers: headers_of(&parts.headers),
            ..sluice_stages::http::Request::default()
        };
        let doorman = Doorman { keys: gateway.keys.clone(), sessions: gateway.sessions.clone() };
        return gateway.live.listen(&mut parts, request, doorman, stop).await;
    }
    let path = parts.uri.path();
    let Some(route) = gateway.topology.route(parts.method.as_str(), path) else {
        if let Some(page) = console::answer(&parts.method, path, &parts.headers) {
            return page;
        }
        let allowed = gateway.topology.allowed_methods(path);
        if allowed.is_empty() {
            return error(404, "not_found", "there is nothing at this path", &[]);
        }
        let allowed = allowed.into_iter().collect::<Vec<_>>().join(", ");
        return error(405, "method_not_allowed", "this path does not take this method", &[("allow", allowed)]);
    };
    let Some((function, timeout)) = gateway.functions.get(route.function) else {
        return error(503, "stage_off", "this part is switched off here (setting `stages_off`)", &[]);
    };
    let too_large =
        || error(413, "too_large", &format!("the body is larger than {} bytes", gateway.max_body_bytes), &[]);
    let announced = parts.headers.get("content-length").and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|n| n > gateway.max_body_bytes) {
        return too_large();
    }
    let headers = headers_of(&parts.headers);
    let client_ip = gateway.client_ip(peer.ip(), headers.get("x-forwarded-for").map(String::as_str)).to_string();
    let is_text = !headers.contains_key("content-encoding");
    let mut event = HttpEvent {
        version: "2.0".into(),
        route_key: Cow::Borrowed(&route.route_key),
        raw_path: path.into(),
        raw_query_string: parts.uri.query().unwrap_or_default().into(),
        cookies: Vec::new(),
        request_context: RequestContext {
            http: RequestLine {
                method: parts.method.as_str().into(),
                path: path.into(),
                protocol: format!("{:?}", parts.version).into(),
                source_ip: client_ip.into(),
                user_agent: headers.get("user-agent").cloned().unwrap_or_default().into(),
            },
            request_id: uuid::Uuid::now_v7().to_string().into(),
            stage: "$default".into(),
            time_epoch: now().micros() / 1_000,
        },
        headers,
        body: None,
        path_parameters: route.path_parameters,
        is_base64_encoded: false,
    };
    let expected = announced.or(body.size_hint().exact().and_then(|n| usize::try_from(n).ok()));
    let permits = gateway.units_for(expected, &parts.headers);
    if permits > UNASKED_UNITS && !gateway.is_known(&event).await {
        // The function refuses it without its body, in its own words.
        return invoke(route.function, function, serde_json::to_vec(&event), *timeout).await;
    }
    let _memory = match tokio::time::timeout(Duration::from_secs(2), gateway.memory.acquire_many(permits)).await {
        Ok(Ok(permit)) => permit,
        _ => return error(429, "busy", "too many requests at once; send slower", &[("retry-after", "1".into())]),
    };
    let body = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, gateway.max_body_bytes)).await {
        Ok(Ok(body)) => body,
        Ok(Err(e)) if is_length_limit(&e) => return too_large(),
        Err(_) => return error(408, "slow_body", "the body took too long to arrive", &[]),
        Ok(Err(_)) => return error(400, "incomplete_body", "the body ended too early", &[]),
    };
    if !body.is_empty() {
        event.body = Some(match std::str::from_utf8(&body) {
            Ok(text) if is_text => Cow::Borrowed(text),
            _ => {
                event.is_base64_encoded = true;
                Cow::Owned(STANDARD.encode(&body))
            }
        });
    }
    let event = serde_json::to_vec(&event);
    drop(body);
    invoke(route.function, function, event, *timeout).await
}

/// Headers by their names in small letters; what comes more than once is one list, as API Gateway does it.
fn headers_of(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        texts
            .entry(name.as_str().to_owned())
            .and_modify(|v| *v = format!("{v},{value}"))
            .or_insert_with(|| value.into_owned());
    }
    texts
}

async fn invoke(
    verb: &str,
    function: &Arc<dyn Function>,
    event: serde_json::Result<Vec<u8>>,
    timeout: Duration,
) -> Response {
    let Ok(event) = event else {
        return error(500, "internal", "the request could not be handed over", &[]);
    };
    match triggers::call(verb, function, event, timeout).await.map(|reply| reply_of(&reply)) {
        Some(Some(response)) => response,
        _ => error(500, "internal", "something went wrong here; the log says what", &[]),
    }
}

fn reply_of(reply: &[u8]) -> Option<Response> {
    let reply: HttpReply = serde_json::from_slice(reply).ok()?;
    let body =
        if reply.is_base64_encoded { Bytes::from(STANDARD.decode(&reply.body).ok()?) } else { Bytes::from(reply.body) };
    let mut response = axum::http::Response::builder().status(reply.status_code);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(body)).ok()
}

/// Answers with an error, as the functions do.
pub(super) fn error(status: u16, code: &str, message: &str, headers: &[(&str, String)]) -> Response {
    let mut response = axum::http::Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("access-control-allow-origin", "*")
        .header("x-content-type-options", "nosniff");
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    let body = json!({"error": {"code": code, "message": message}}).to_string();
    response.body(Body::from(body)).unwrap_or_default()
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.to_string().contains("length limit exceeded") {
            return true;
        }
        source = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use sluice_domain::time::Timestamp;
    use sluice_entry::InvokeError;
    use sluice_stages::access::KeySpec;
    use sluice_stages::members::Members;
    use sluice_stages::passwords::{Cost, Passwords};
    use sluice_testkit::memory::MemoryTable;
    use sluice_wiring::TEMPLATE;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    fn gateway(trusted: &[&str]) -> Gateway {
        let table = Arc::new(MemoryTable::new());
        let members = Arc::new(Members::new(table.clone(), Passwords::new(Cost::USUAL).unwrap()));
        Gateway {
            topology: Topology::default(),
            functions: HashMap::new(),
            max_body_bytes: 1 << 20,
            max_decompressed_bytes: 16 << 20,
            memory: Gateway::memory_bound(1_000_000),
            keys: Arc::new(Keys::new(table.clone())),
            sessions: Arc::new(Sessions::new(table, members)),
            live: Live::default(),
            connections: 100,
            trusted_proxies: Networks::parse(trusted.iter().copied()).unwrap(),
        }
    }

    /// Answers with the size of the body that it got.
    struct Echo;

    #[async_trait]
    impl Function for Echo {
        async fn invoke(&self, event: &[u8], _: Timestamp) -> Result<Vec<u8>, InvokeError> {
            let request = gateway::read("echo", event)?;
            Ok(json!({"statusCode": 200, "body": format!("{} bytes", request.body.len())}).to_string().into_bytes())
        }
    }

    struct Served {
        address: SocketAddr,
        stop: watch::Sender<bool>,
        serving: tokio::task::JoinHandle<()>,
    }

    /// `POST /v1/events` answered by [`Echo`].
    async fn serve(mut gateway: Gateway) -> Served {
        gateway.topology = Topology::parse(TEMPLATE).unwrap();
        let ingest = gateway.topology.function_of("ingest").unwrap().0.to_owned();
        gateway.functions.insert(ingest, (Arc::new(Echo), Duration::from_secs(5)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        Served { address, stop, serving: tokio::spawn(gateway.serve(listener, stopped)) }
    }

    /// Sends bytes and reads until the server closes the connection.
    async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut reply = Vec::new();
        // A server that does not want the rest of a body may reset the connection after its reply.
        let _ = stream.read_to_end(&mut reply).await;
        String::from_utf8(reply).unwrap()
    }

    fn post(headers: &str, body_bytes: usize) -> Vec<u8> {
        let body = "x".repeat(body_bytes);
        let length = body.len();
        format!("POST /v1/events HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
            .into_bytes()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_is_not_waited_for() {
        let served = serve(Gateway { connections: 1, ..gateway(&[]) }).await;
        assert_eq!(talk(served.address, b"POST /v1/events HTTP/1.1\r\nhost: a\r\nx-slow: ").await, "");
        assert_eq!(talk(served.address, b"").await, "", "nor for one that does not begin");
        assert!(talk(served.address, &post("", 3)).await.ends_with("3 bytes"), "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_not_waited_for() {
        let served = serve(gateway(&[])).await;
        let head = b"POST /v1/events HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 10\r\n\r\nab";
        let reply = talk(served.address, head).await;
        assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("slow_body"), "{reply}");
    }

    #[tokio::test]
    async fn there_are_only_so_many_connections_at_once() {
        let served = serve(Gateway { connections: 1, ..gateway(&[]) }).await;
        let mut first = TcpStream::connect(served.address).await.unwrap();
        first.write_all(b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").await.unwrap();
        let mut answered = [0; 12];
        first.read_exact(&mut answered).await.unwrap();
        let request = post("", 3);
        let second = talk(served.address, &request);
        tokio::pin!(second);
        assert!(
            tokio::time::timeout(Duration::from_millis(200), &mut second).await.is_err(),
            "it waits as long as the first is open"
        );
        drop(first);
        assert!(second.await.ends_with("3 bytes"));
    }

    #[tokio::test]
    async fn a_large_body_is_taken_only_from_a_known_key() {
        let gateway = gateway(&[]);
        let (secret, _) = gateway.keys.create(KeySpec::write(["shop"]), None, now()).await.unwrap();
        let memory = gateway.memory.clone();
        // With no room left, whoever needs some is told to wait.
        let taken =
            memory.clone().acquire_many_owned(u32::try_from(memory.available_permits()).unwrap()).await.unwrap();
        let served = serve(gateway).await;
        let unknown = talk(served.address, &post("x-write-key: unknown\r\n", 100_000)).await;
        assert!(unknown.starts_with("HTTP/1.1 200") && unknown.ends_with("0 bytes"), "{unknown}");
        let known = format!("x-write-key: {secret}\r\n");
        let busy = talk(served.address, &post(&known, 100_000)).await;
        assert!(busy.starts_with("HTTP/1.1 429"), "{busy}");
        drop(taken);
        assert!(talk(served.address, &post(&known, 100_000)).await.ends_with("100000 bytes"));
        assert!(talk(served.address, &post("", 10_000)).await.ends_with("10000 bytes"), "a small one is just read");
        let packed = talk(served.address, &post("content-encoding: gzip\r\n", 10)).await;
        assert!(packed.ends_with("0 bytes"), "a packed one is not small: {packed}");
    }

    #[tokio::test]
    async fn a_stop_finishes_what_is_in_flight() {
        let served = serve(gateway(&[])).await;
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream
            .write_all(b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
            .await
            .unwrap();
        // The server asks for the body, so the request is in flight.
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).await.unwrap();
        assert!(asked.starts_with(b"HTTP/1.1 100 Continue"));
        served.stop.send(true).unwrap();
        stream.write_all(b"abcd").await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        assert!(reply.ends_with("4 bytes"), "{reply}");
        served.serving.await.unwrap();
    }

    #[test]
    fn a_request_without_a_body_takes_no_room_and_a_compressed_one_takes_what_it_may_unpack_to() {
        let gateway = gateway(&[]);
        let plain = axum::http::HeaderMap::new();
        assert_eq!(gateway.units_for(Some(0), &plain), 0);
        assert_eq!(gateway.units_for(Some(1024), &plain), 4);
        assert_eq!(gateway.units_for(None, &plain), 4096);
        let packed =
            axum::http::HeaderMap::from_iter([(axum::http::header::CONTENT_ENCODING, "gzip".parse().unwrap())]);
        assert_eq!(gateway.units_for(Some(1024), &packed), 32 * 1024);
    }

    #[test]
    fn files_that_may_be_open_are_shared_with_the_stages() {
        assert_eq!([0, 256, 1_024, 1_000_000].map(Gateway::connections_for), [1, 128, 512, 1_000]);
    }

    #[test]
    fn only_a_trusted_peer_says_whom_it_forwards_for() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let spoofed = Some("198.51.100.7, 203.0.113.9, 10.0.0.2");
        assert_eq!(gateway(&[]).client_ip(ip("10.0.0.1"), spoofed), ip("10.0.0.1"));
        assert_eq!(gateway(&["10.0.0.0/8"]).client_ip(ip("10.0.0.1"), spoofed), ip("203.0.113.9"));
        assert_eq!(gateway(&["10.0.0.0/8"]).client_ip(ip("::ffff:10.0.0.1"), None), ip("10.0.0.1"));
    }
}
