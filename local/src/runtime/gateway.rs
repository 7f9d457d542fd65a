//! The HTTP side: takes requests, finds the function by the template's routes, hands over the event JSON that API Gateway would, and
//! answers with the function's reply.

use crate::runtime::{now, triggers};
use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ipnet::IpNet;
use serde_json::json;
use sluice_entry::Function;
use sluice_entry::gateway::{HttpEvent, HttpReply, RequestContext, RequestLine};
use sluice_template::Topology;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// The permits of the memory bound are counted in units of this many bytes.
const MEMORY_UNIT: usize = 1_024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

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
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Gateway {
    /// A bound of this many bytes for [`Self::memory`].
    pub fn memory_bound(bytes: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new((bytes / MEMORY_UNIT).clamp(1, Semaphore::MAX_PERMITS)))
    }

    /// Serves until `stop` turns true; requests in flight are finished.
    pub async fn serve(self, listener: TcpListener, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let app = Router::new().fallback(handle).with_state(Arc::new(self));
        axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
            .with_graceful_shutdown(async move {
                let _ = stop.wait_for(|stop| *stop).await;
            })
            .await
            .context("the HTTP server stopped")
    }

    /// Units of [`Self::memory`] for a body: about four copies of it are held at once (as sent, in the event, parsed, packed). One of unknown
    /// length counts as the largest, and a compressed one as what it may unpack to.
    fn units_for(&self, bytes: Option<usize>, headers: &axum::http::HeaderMap) -> u32 {
        let sent = bytes.unwrap_or(self.max_body_bytes) * 4;
        let unpacked = if headers.contains_key("content-encoding") { self.max_decompressed_bytes * 2 } else { 0 };
        u32::try_from(sent.max(unpacked) / MEMORY_UNIT).unwrap_or(u32::MAX)
    }

    /// The client's address: the peer's, or what a trusted peer says it forwards for (the last address that is not trusted itself).
    fn client_ip(&self, peer: IpAddr, forwarded: Option<&str>) -> IpAddr {
        let trusted = |ip: &IpAddr| self.trusted_proxies.iter().any(|net| net.contains(&ip.to_canonical()));
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

async fn handle(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let Some(route) = gateway.topology.route(parts.method.as_str(), path) else {
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
    let permits =
        gateway.units_for(announced.or(body.size_hint().exact().and_then(|n| usize::try_from(n).ok())), &parts.headers);
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
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.as_str().to_owned())
            .and_modify(|v| *v = format!("{v},{value}"))
            .or_insert_with(|| value.into_owned());
    }
    let client_ip = gateway.client_ip(peer.ip(), headers.get("x-forwarded-for").map(String::as_str)).to_string();
    let is_text = !headers.contains_key("content-encoding");
    let (text, is_base64_encoded) = match std::str::from_utf8(&body) {
        Ok(text) if is_text => (Cow::Borrowed(text), false),
        _ => (Cow::Owned(STANDARD.encode(&body)), true),
    };
    let event = HttpEvent {
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
        body: (!body.is_empty()).then_some(text),
        path_parameters: route.path_parameters,
        is_base64_encoded,
    };
    let Ok(event) = serde_json::to_vec(&event) else {
        return error(500, "internal", "the request could not be handed over", &[]);
    };
    drop(body);
    match triggers::call(route.function, function, event, *timeout).await.map(|reply| reply_of(&reply)) {
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

fn error(status: u16, code: &str, message: &str, headers: &[(&str, String)]) -> Response {
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

    fn gateway(trusted: &[&str]) -> Gateway {
        Gateway {
            topology: Topology::default(),
            functions: HashMap::new(),
            max_body_bytes: 1 << 20,
            max_decompressed_bytes: 16 << 20,
            memory: Gateway::memory_bound(1_000_000),
            trusted_proxies: trusted.iter().map(|n| n.parse().unwrap()).collect(),
        }
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
    fn only_a_trusted_peer_says_whom_it_forwards_for() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let spoofed = Some("198.51.100.7, 203.0.113.9, 10.0.0.2");
        assert_eq!(gateway(&[]).client_ip(ip("10.0.0.1"), spoofed), ip("10.0.0.1"));
        assert_eq!(gateway(&["10.0.0.0/8"]).client_ip(ip("10.0.0.1"), spoofed), ip("203.0.113.9"));
        assert_eq!(gateway(&["10.0.0.0/8"]).client_ip(ip("::ffff:10.0.0.1"), None), ip("10.0.0.1"));
    }
}
