//! Ingest: takes events in over HTTP, checks and stamps them, packs them into messages and publishes them.
//!
//! A request is answered when the topic has its events, not before. One bad event never rejects its neighbours: it is answered with its
//! index, JSON pointer, code and reason, and kept in quarantine. What the reply says:
//!
//! | status | when |
//! |---|---|
//! | 202 | at least one event is durably published |
//! | 400 | every event was rejected, or the body as a whole |
//! | 401, 403 | the key; 403 also when every event is one that the key may not write |
//! | 404, 405 | the path, the method |
//! | 413 | the body, its unpacked size, its number of events, or its only event is too large |
//! | 415 | content type or content encoding |
//! | 429 | the key's rate, its share while the topic asks for fewer calls, or the topic itself; with `Retry-After` |
//! | 503 | the topic did not take the events; with `Retry-After`. Also when the disk is full: 507 belongs to WebDAV, and clients repeat a 503 |
//!
//! Body: `{"accepted", "rejected", "unavailable", "kept", "batch": [ids], "errors": [{"index", "pointer", "code", "reason"}]}`, at most
//! [`MAX_SHOWN_ERRORS`] errors; beside it `"error": {"code", "message"}` where nothing was accepted. The first three numbers add up to the
//! events that were sent; `unavailable` ones are good and not published this time: the same request again publishes them, and what it has
//! in common with this one is stored once. A body that is refused as a whole counts as one rejected event. `kept` says how many rejected events are in quarantine: not those that the key may not write, not those
//! beyond the hourly allowance of the key (they are counted only), and none of a request answered with 429 or 503, which is to be sent
//! again.

mod form;
mod legacy;
mod replay;

pub use replay::Replayed;

use crate::access::{self, KeyRecord, Keys, Scope};
use crate::http::{Request, Response};
use crate::ledger;
use crate::limits::{Allowance, FairShare, Rate};
use crate::quarantine::{self, Quarantined};
use chrono_tz::Tz;
use form::{Form, Refusal, refusal};
use legacy::Legacy;
use serde_json::{Map, Value as Json, json};
use sluice_domain::accept::{Acceptor, Sent};
use sluice_domain::event::{Acceptance, Clock, Event, RESERVED_AREAS, Shared};
use sluice_domain::identity;
use sluice_domain::json::{self, JsonErrorKind, Node, Value};
use sluice_domain::message::{self, Entry, Packed};
use sluice_domain::schema::{Registry, area, counted_as};
use sluice_domain::time::Timestamp;
use sluice_ports::{ErrorKind, Message, PortError, Queue, Tally, Topic};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Errors that a reply shows; `rejected` counts them all.
pub const MAX_SHOWN_ERRORS: usize = 100;
/// Longest `Idempotency-Key`.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 256;
/// A longer `User-Agent` is cut.
pub const MAX_USER_AGENT_BYTES: usize = 512;
/// Reasons and pointers in replies are cut to this.
const MAX_REASON_BYTES: usize = 256;
/// Types that are counted by name among rejections that are not kept; the rest counts as `other`.
const MAX_COUNTED_TYPES: usize = 20;
/// One request of so many is logged.
const LOG_ONE_OF: u64 = 100;
/// Field of a counter row: events whose own time was replaced by the receive time.
const CLOCK_REPLACED: &str = "clock_replaced";

/// The ports of ingest.
#[derive(Clone)]
pub struct IngestPorts {
    /// Where accepted events go.
    pub topic: Arc<dyn Topic>,
    /// Where rejected events go.
    pub quarantine: Arc<dyn Queue>,
    /// Who may send.
    pub keys: Arc<Keys>,
}

/// How much of a client's address is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientIp {
    /// All of it.
    Full,
    /// Its network: /24 of IPv4, /48 of IPv6.
    Truncated,
    /// Nothing.
    None,
}

impl ClientIp {
    /// The mode of this name: `full`, `truncated` or `none`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "full" => Some(Self::Full),
            "truncated" => Some(Self::Truncated),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    /// What is kept of an address; nothing of a text that is none.
    fn keep(self, address: &str) -> Option<String> {
        let address: IpAddr = address.trim().parse().ok()?;
        match (self, address.to_canonical()) {
            (Self::None, _) => None,
            (Self::Full, address) => Some(address.to_string()),
            (Self::Truncated, IpAddr::V4(v4)) => Some(std::net::Ipv4Addr::from(u32::from(v4) & !0xff).to_string()),
            (Self::Truncated, IpAddr::V6(v6)) => {
                Some(std::net::Ipv6Addr::from(u128::from(v6) & !(u128::MAX >> 48)).to_string())
            }
        }
    }
}

/// The settings of ingest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestSettings {
    /// Zone in which times without an offset are read.
    pub zone: Tz,
    /// How much of the client's address is kept.
    pub client_ip: ClientIp,
    /// Largest body as it comes over the wire.
    pub max_body_bytes: usize,
    /// Largest body after unpacking.
    pub max_decompressed_bytes: usize,
    /// Most events in one request.
    pub max_events_per_request: usize,
    /// Rejected events that are kept per key and hour, in each process; beyond it they are counted.
    pub quarantine_per_key_hour: u32,
}

/// The stage.
pub struct Ingest {
    ports: IngestPorts,
    registry: Arc<Registry>,
    settings: IngestSettings,
    rate: Rate,
    share: FairShare,
    allowance: Allowance,
    requests: AtomicU64,
}

/// A rejected event, or a body that was refused as a whole.
struct Rejection<'b> {
    index: usize,
    pointer: String,
    code: &'static str,
    reason: String,
    event_type: String,
    bytes: Cow<'b, [u8]>,
}

impl Rejection<'_> {
    /// Whether it is about what the key may write: such events are answered and counted, not kept.
    fn is_forbidden(&self) -> bool {
        matches!(self.code, "forbidden_source" | "forbidden_type" | "reserved_type")
    }
}

/// What is remembered of an accepted event.
struct Accepted<'b> {
    index: usize,
    bytes: Cow<'b, [u8]>,
    noted: Noted,
    clock: Clock,
    /// Where its text stands in [`Judged::texts`].
    text: Range<usize>,
}

/// How an event names itself.
struct Noted {
    has_id: bool,
    /// Where its type stands in [`Judged::types`].
    event_type: Range<usize>,
    /// Where its identity stands in [`Judged::identities`].
    identity: Range<usize>,
}

/// The events of a request, judged. What is kept of each stands in one buffer for all, since a request may have very many.
#[derive(Default)]
struct Judged<'b> {
    accepted: Vec<Accepted<'b>>,
    types: String,
    texts: String,
    /// For each accepted event its index, `id`, `source` and `time` as sent.
    identities: Vec<u8>,
    rejections: Vec<Rejection<'b>>,
}

impl Judged<'_> {
    fn type_of(&self, accepted: &Accepted<'_>) -> &str {
        &self.types[accepted.noted.event_type.clone()]
    }

    /// The accepted events, as they are packed.
    fn entries(&self) -> Vec<Entry<&str>> {
        let entry = |accepted: &Accepted<'_>| Entry {
            event_type: &self.types[accepted.noted.event_type.clone()],
            text: &self.texts[accepted.text.clone()],
        };
        self.accepted.iter().map(entry).collect()
    }
}

/// A message and the events in it, by position among the accepted.
struct Part {
    packed: Packed,
    range: Range<usize>,
}

impl Part {
    /// The message, with what is counted in the publish.
    fn message(self, judged: &Judged<'_>, received: Timestamp) -> Message {
        let header = self.packed.header;
        let mut tally: Vec<Tally> =
            header.types.iter().map(|(name, count)| ledger::accepted(received, name, *count)).collect();
        tally.extend(replaced_clocks(judged, &self.range, received));
        Message {
            body: self.packed.body,
            attributes: BTreeMap::from([("areas".to_owned(), header.areas)]),
            events: header.count,
            tally,
        }
    }
}

/// What became of a request.
#[derive(Default)]
struct Outcome {
    accepted: usize,
    rejected: usize,
    /// Good, and not published.
    unavailable: usize,
    kept: usize,
    batches: Vec<String>,
    errors: Vec<Json>,
    /// Why nothing was accepted.
    refused: Option<Refusal>,
    retry_after_s: Option<u64>,
}

impl Ingest {
    /// A stage over these ports.
    pub fn new(ports: IngestPorts, registry: Arc<Registry>, settings: IngestSettings) -> Self {
        Self {
            ports,
            registry,
            settings,
            rate: Rate::default(),
            share: FairShare::default(),
            allowance: Allowance::default(),
            requests: AtomicU64::new(0),
        }
    }

    /// Answers a request: `POST /v1/events`, the routes of the first Square-Blitz server, their CORS preflight, `GET /health`.
    pub async fn handle(&self, request: &Request, now: Timestamp) -> Response {
        match (request.path.as_str(), request.method.as_str()) {
            ("/v1/events", "POST") => self.events(request, now).await,
            ("/v1/events", "OPTIONS") => preflight(request),
            ("/v1/events", _) => method_not_allowed("OPTIONS, POST"),
            ("/health" | "/api/status", "GET" | "HEAD") => {
                Response::json(200, &json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
            }
            ("/health" | "/api/status", _) => method_not_allowed("GET, HEAD"),
            (path, method) if Legacy::of(path).is_some() => match method {
                "POST" => self.play(request, now).await,
                "OPTIONS" => preflight(request),
                _ => method_not_allowed("OPTIONS, POST"),
            },
            _ => Response::error(404, "not_found", "there is no such path; events go to `POST /v1/events`"),
        }
    }

    async fn events(&self, request: &Request, now: Timestamp) -> Response {
        let key = match access::authorize_key(request, &self.ports.keys, Scope::Write, now).await {
            Ok(key) => key,
            Err(denial) => return with_cors(denial.reply, request),
        };
        match self.admit(request, &key, now).await {
            Ok(outcome) => with_cors(outcome.reply(), request),
            Err(reply) => reply,
        }
    }

    /// A play as the first Square-Blitz server took it: what it answered, for what is durably published.
    async fn play(&self, request: &Request, now: Timestamp) -> Response {
        let key = match self.ports.keys.game_key(now).await {
            Ok(Some((_, key))) => key,
            Ok(None) => return with_cors(Response::error(403, "no_game", "the game is closed here"), request),
            Err(error) => return with_cors(access::unreadable(&error), request),
        };
        match self.admit(request, &key, now).await {
            Ok(outcome) if outcome.accepted > 0 => with_cors(Response::text(200, "Log saved"), request),
            Ok(outcome) => with_cors(outcome.reply(), request),
            Err(reply) => reply,
        }
    }

    /// Takes a request in whose key is known, or answers why it has to wait or may not come from there.
    async fn admit(&self, request: &Request, key: &KeyRecord, now: Timestamp) -> Result<Outcome, Response> {
        if !key.may_be_used_from(request.header("origin")) {
            return Err(Response::error(403, "forbidden_origin", "the key may not be used from this origin"));
        }
        if let Err(after_s) = self.rate.admit(&key.id, key.rate_per_s, now) {
            let reply = Response::error(429, "rate", "the key sends more events than it may");
            return Err(with_cors(reply.with_header("retry-after", after_s.to_string()), request));
        }
        if let Err(after_s) = self.share.admit(&key.id, now) {
            let reply = Response::error(429, "busy", "others send too, and there is no room for all; send slower");
            return Err(with_cors(reply.with_header("retry-after", after_s.to_string()), request));
        }
        let outcome = self.take(request, key, now).await;
        if outcome.accepted > 0 {
            self.share.charge(&key.id, request.body.len(), now);
        }
        self.rate.charge(&key.id, (outcome.accepted + outcome.rejected + outcome.unavailable).max(1));
        tracing::event!(
            target: "metrics",
            tracing::Level::TRACE,
            events.received = outcome.accepted + outcome.rejected,
            events.stored = outcome.accepted,
            events.rejected = outcome.rejected,
            bytes = request.body.len(),
        );
        if self.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOG_ONE_OF) {
            tracing::debug!(
                ingest.key = key.id,
                ingest.bytes = request.body.len(),
                ingest.accepted = outcome.accepted,
                ingest.rejected = outcome.rejected,
                ingest.unavailable = outcome.unavailable,
                ingest.kept = outcome.kept,
                "one request of {LOG_ONE_OF}"
            );
        }
        Ok(outcome)
    }

    async fn take(&self, request: &Request, key: &KeyRecord, now: Timestamp) -> Outcome {
        let body = match form::open(request, self.settings.max_body_bytes, self.settings.max_decompressed_bytes) {
            Ok(body) => body,
            Err(refused) => return self.refuse(refused, &request.body, key, &self.shared(request, now)).await,
        };
        let shared = self.shared(request, now);
        match self.judge(request, &body, key, &shared) {
            Ok((judged, parts)) => self.publish(judged, parts, key, &shared).await,
            Err(refused) => self.refuse(refused, &body, key, &shared).await,
        }
    }

    /// What the events of a request share.
    fn shared<'r>(&self, request: &'r Request, now: Timestamp) -> Shared<'r> {
        let agent = request.header("user-agent").filter(|agent| !agent.is_empty());
        Shared {
            received: now,
            client_ip: self.settings.client_ip.keep(&request.client_ip).map(Cow::Owned),
            user_agent: agent.map(|agent| Cow::Borrowed(&agent[..agent.floor_char_boundary(MAX_USER_AGENT_BYTES)])),
        }
    }

    fn context<'c>(&'c self, key: &'c KeyRecord, received: Timestamp) -> Acceptance<'c> {
        Acceptance {
            received,
            zone: self.settings.zone,
            default_source: key.default_source(),
            default_type: None,
            max_age_days: key.max_age_days,
            registry: &self.registry,
        }
    }

    /// Everything between the body and the messages; no waiting in it.
    fn judge<'b>(
        &self,
        request: &Request,
        body: &'b [u8],
        key: &KeyRecord,
        shared: &Shared<'_>,
    ) -> Result<(Judged<'b>, Vec<Part>), Refusal> {
        let idempotency_key = request.header("idempotency-key");
        if idempotency_key.is_some_and(|k| !(1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&k.len())) {
            let reason = format!("`idempotency-key` has 1 to {MAX_IDEMPOTENCY_KEY_BYTES} bytes");
            return Err(refusal(400, "idempotency_key", reason));
        }
        let ids = Ids::new(&key.id, idempotency_key, shared.received)
            .map_err(|_| refusal(503, "unavailable", "no random bytes for ids; send the request again"))?;
        let context = self.context(key, shared.received);
        let mut judge = Judge::new(key, context, &ids);
        let form = form::form(request)?;
        if let Form::Legacy(legacy) = form {
            let text = legacy.event(body, &ids.event(0))?;
            judge.text(0, text.as_bytes(), Cow::Owned(text.clone().into_bytes()), 0);
        } else if let Form::Binary(content) = form {
            let text = form::binary(request, content, body)?;
            judge.text(0, text.as_bytes(), Cow::Owned(text.clone().into_bytes()), 0);
        } else {
            let events = form::split(&form, body, self.settings.max_events_per_request)?;
            judge.expect(events.len(), body.len());
            for (index, event) in events.into_iter().enumerate() {
                let offset = event.as_ptr() as usize - body.as_ptr() as usize;
                judge.text(index, event, Cow::Borrowed(event), offset);
            }
        }
        let mut judged = judge.judged;
        let parts = pack(&mut judged, shared, &ids);
        Ok((judged, parts))
    }

    async fn publish(&self, mut judged: Judged<'_>, parts: Vec<Part>, key: &KeyRecord, shared: &Shared<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        let sent: Vec<_> = parts.iter().map(|part| (part.packed.header.batch.clone(), part.range.clone())).collect();
        let messages: Vec<Message> = parts.into_iter().map(|part| part.message(&judged, shared.received)).collect();
        let results = if messages.is_empty() { Vec::new() } else { self.ports.topic.publish(messages).await };
        let mut failure: Option<PortError> = None;
        let mut unpublished: Vec<Rejection<'_>> = Vec::new();
        let mut results = results.into_iter();
        for (batch, range) in sent {
            match results.next() {
                Some(Ok(())) => {
                    outcome.accepted += range.len();
                    outcome.batches.push(batch);
                }
                result => {
                    let lost = || PortError::new(ErrorKind::Unavailable, "topic.publish", "no result for a message");
                    let error = result.and_then(Result::err).unwrap_or_else(lost);
                    unpublished.extend(judged.accepted[range].iter().map(|accepted| Rejection {
                        index: accepted.index,
                        pointer: String::new(),
                        code: "unavailable",
                        reason: "not stored for the moment; send it again".into(),
                        event_type: judged.type_of(accepted).to_owned(),
                        bytes: accepted.bytes.clone(),
                    }));
                    // The word of a service that names its time goes before others.
                    if failure.as_ref().is_none_or(|first| first.retry_after.is_none() && error.retry_after.is_some()) {
                        failure = Some(error);
                    }
                }
            }
        }
        outcome.rejected = judged.rejections.len();
        outcome.unavailable = unpublished.len();
        if let Some(error) = &failure {
            log_failure(error, "events cannot be published");
            if error.kind == ErrorKind::Throttled {
                self.share.press(shared.received);
            }
            let (status, code, default_s) = match error.kind {
                ErrorKind::Throttled => (429, "throttled", 1),
                ErrorKind::Full => (503, "full", 30),
                _ => (503, "unavailable", 2),
            };
            outcome.retry_after_s = Some(error.retry_after.map_or(default_s, |d| d.as_secs().max(1)));
            if outcome.accepted == 0 {
                outcome.refused = Some(refusal(status, code, "the events are not stored; send the request again"));
            }
        } else if outcome.accepted == 0 {
            outcome.refused = Some(why_nothing(&judged.rejections));
        }
        // A request of which nothing was taken comes again, and its rejected events with it.
        if failure.is_none() || outcome.accepted > 0 {
            outcome.kept = self.keep(&judged.rejections, key, shared).await;
        }
        judged.rejections.extend(unpublished);
        judged.rejections.sort_by_key(|r| r.index);
        outcome.errors = judged.rejections.iter().take(MAX_SHOWN_ERRORS).map(shown).collect();
        outcome
    }

    /// Answers a body that is refused as a whole, and keeps it; an empty one leaves nothing to keep.
    async fn refuse(&self, refused: Refusal, body: &[u8], key: &KeyRecord, shared: &Shared<'_>) -> Outcome {
        let mut outcome = Outcome { refused: Some(refused.clone()), ..Outcome::default() };
        if refused.status == 503 {
            outcome.retry_after_s = Some(1);
            return outcome;
        }
        if refused.code == "no_events" {
            return outcome;
        }
        let rejection = Rejection {
            index: 0,
            pointer: refused.pointer,
            code: refused.code,
            reason: refused.reason,
            event_type: counted_as("").to_owned(),
            bytes: Cow::Borrowed(body),
        };
        outcome.rejected = 1;
        outcome.errors = vec![shown(&rejection)];
        outcome.kept = self.keep(&[rejection], key, shared).await;
        outcome
    }

    /// Sends rejected events to quarantine and counts them; answers how many are kept.
    async fn keep(&self, rejections: &[Rejection<'_>], key: &KeyRecord, shared: &Shared<'_>) -> usize {
        let now = shared.received;
        if rejections.is_empty() {
            return 0;
        }
        let wanted = rejections.iter().filter(|r| !r.is_forbidden()).count();
        let granted = self.allowance.take(&key.id, self.settings.quarantine_per_key_hour, wanted, now);
        // The same bytes sent twice are two rejections, so their ids are new ones, like those of anonymous events. Without random bytes
        // the receive time has to do.
        let mut nonce = [0; 16];
        if access::random("ingest.keep", &mut nonce).is_err() {
            nonce[..8].copy_from_slice(&now.micros().to_le_bytes());
        }
        let mut messages = Vec::with_capacity(granted + 1);
        let mut only_counted: BTreeMap<&str, u64> = BTreeMap::new();
        for rejection in rejections {
            if rejection.is_forbidden() || messages.len() == granted {
                let known = only_counted.len() < MAX_COUNTED_TYPES || only_counted.contains_key(&*rejection.event_type);
                let name = if known { &*rejection.event_type } else { counted_as("") };
                *only_counted.entry(name).or_default() += 1;
                continue;
            }
            let cause: [&[u8]; 3] = [key.id.as_bytes(), &nonce, &(rejection.index as u64).to_le_bytes()];
            let bytes = rejection.bytes.to_vec();
            let record = Quarantined {
                pointer: rejection.pointer.clone(),
                event_type: Some(rejection.event_type.clone()),
                key: Some(key.id.clone()),
                client_ip: shared.client_ip.as_deref().map(str::to_owned),
                user_agent: shared.user_agent.as_deref().map(str::to_owned),
                ..Quarantined::new("ingest", &cause, rejection.code, &rejection.reason, now, bytes)
            };
            messages.push(record.message(vec![ledger::rejected(now, &rejection.event_type, 1)]));
        }
        if !only_counted.is_empty() {
            let tally = only_counted.into_iter().map(|(name, count)| ledger::rejected(now, name, count)).collect();
            messages.push(quarantine::counted(now, tally));
        }
        let results = self.ports.quarantine.send(messages).await;
        if let Some(error) = results.iter().find_map(|r| r.as_ref().err()) {
            log_failure(error, "rejected events cannot be kept");
        }
        results.iter().take(granted).filter(|r| r.is_ok()).count()
    }
}

/// Judges the events of one request, in order.
struct Judge<'r, 'b> {
    key: &'r KeyRecord,
    acceptor: Acceptor<'r>,
    ids: &'r Ids<'r>,
    judged: Judged<'b>,
}

impl<'r, 'b> Judge<'r, 'b> {
    fn new(key: &'r KeyRecord, context: Acceptance<'r>, ids: &'r Ids<'r>) -> Self {
        Self { key, acceptor: Acceptor::new(context), ids, judged: Judged::default() }
    }

    /// Makes room for so many events, which have so many bytes together.
    fn expect(&mut self, events: usize, bytes: usize) {
        self.judged.accepted.reserve(events);
        // What completing them adds differs; too little room costs a copy.
        self.judged.texts.reserve(bytes + bytes / 8);
    }

    /// Judges the text of an event, which begins at `offset` of the body; `bytes` is what is kept of it when it is rejected.
    fn text(&mut self, index: usize, text: &[u8], bytes: Cow<'b, [u8]>, offset: usize) {
        let (parsed, bytes) = match json::text(text) {
            Ok(text) => match self.quick(index, text, bytes) {
                Ok(()) => return,
                Err(bytes) => (json::parse_str(text), bytes),
            },
            Err(error) => (Err(error), bytes),
        };
        match parsed {
            Ok(node) => self.node(index, bytes, node),
            Err(error) => {
                let hint = match error.kind {
                    JsonErrorKind::TrailingText => "; one event per line is `application/x-ndjson`",
                    _ => "",
                };
                let reason = format!("{} at byte {}{hint}", error.kind, offset + error.offset);
                self.reject(index, bytes, error.kind.code(), &error.pointer, &reason, "");
            }
        }
    }

    /// Accepts an event that is as events mostly are, or gives its bytes back.
    fn quick(&mut self, index: usize, text: &str, bytes: Cow<'b, [u8]>) -> Result<(), Cow<'b, [u8]>> {
        let from = self.judged.texts.len();
        let Some(sent) = self.acceptor.accept(text, || self.ids.event(index), &mut self.judged.texts) else {
            return Err(bytes);
        };
        let Sent { id, source, event_type, time } = sent;
        let named = Named { id, source, event_type: Some(event_type), time };
        if may_write(self.key, &named).is_err() {
            self.judged.texts.truncate(from);
            return Err(bytes);
        }
        let noted = self.note(index, &named);
        self.take(index, bytes, noted, Clock::Kept, from);
        Ok(())
    }

    /// Judges a parsed event.
    fn node(&mut self, index: usize, bytes: Cow<'b, [u8]>, node: Node<'_>) {
        let named = Named::of(&node);
        let event_type = named.event_type.unwrap_or_default();
        if let Err((code, pointer, reason)) = may_write(self.key, &named) {
            return self.reject(index, bytes, code, pointer, reason, event_type);
        }
        let noted = self.note(index, &named);
        match Event::accept(node, self.acceptor.context(), || self.ids.event(index)) {
            Ok((event, clock)) => {
                let from = self.judged.texts.len();
                event.write(&mut self.judged.texts);
                self.take(index, bytes, noted, clock, from);
            }
            Err(violation) => {
                let event_type = self.judged.types.split_off(noted.event_type.start);
                self.judged.identities.truncate(noted.identity.start);
                self.reject(index, bytes, violation.code, &violation.pointer, &violation.reason, &event_type);
            }
        }
    }

    /// Notes what an event is called, before it is known whether it is accepted.
    fn note(&mut self, index: usize, named: &Named<'_>) -> Noted {
        let source = named.source.or(self.acceptor.context().default_source);
        let Judged { types, identities, .. } = &mut self.judged;
        let (types_from, identities_from) = (types.len(), identities.len());
        types.push_str(named.event_type.unwrap_or_default());
        push_part(identities, &(index as u64).to_le_bytes());
        for part in [named.id, source, named.time] {
            push_part(identities, part.unwrap_or_default().as_bytes());
        }
        Noted {
            has_id: named.id.is_some(),
            event_type: types_from..types.len(),
            identity: identities_from..identities.len(),
        }
    }

    /// Takes an accepted event, whose text was appended from `text` on.
    fn take(&mut self, index: usize, bytes: Cow<'b, [u8]>, noted: Noted, clock: Clock, text: usize) {
        let text = text..self.judged.texts.len();
        self.judged.accepted.push(Accepted { index, bytes, noted, clock, text });
    }

    fn reject(
        &mut self,
        index: usize,
        bytes: Cow<'b, [u8]>,
        code: &'static str,
        pointer: &str,
        reason: &str,
        event_type: &str,
    ) {
        self.judged.rejections.push(Rejection {
            index,
            pointer: clip(pointer).to_owned(),
            code,
            reason: clip(reason).to_owned(),
            event_type: counted_as(event_type).to_owned(),
            bytes,
        });
    }
}

fn push_part(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&(part.len() as u64).to_le_bytes());
    out.extend_from_slice(part);
}

/// The attributes that decide about rights and repetition, read before the event is judged.
#[derive(Default)]
struct Named<'n> {
    id: Option<&'n str>,
    source: Option<&'n str>,
    event_type: Option<&'n str>,
    /// Its JSON text.
    time: Option<&'n str>,
}

impl<'n> Named<'n> {
    fn of(node: &'n Node<'_>) -> Self {
        let mut named = Self::default();
        for (name, value) in node.as_object().map(|o| o.0.as_slice()).unwrap_or_default() {
            match name.as_ref() {
                "id" => named.id = value.as_str(),
                "source" => named.source = value.as_str(),
                "type" => named.event_type = value.as_str(),
                "time" if value.value != Value::Null => named.time = Some(value.raw),
                _ => {}
            }
        }
        named
    }
}

/// Whether the key may write an event: else code, pointer and reason.
fn may_write(key: &KeyRecord, named: &Named<'_>) -> Result<(), (&'static str, &'static str, &'static str)> {
    if let Some(event_type) = named.event_type {
        if RESERVED_AREAS.contains(&area(event_type)) {
            return Err(("reserved_type", "/type", "types of this area are written by the product only"));
        }
        if !key.may_write_type(event_type) {
            return Err(("forbidden_type", "/type", "the key may not write this type"));
        }
    }
    match named.source {
        Some(source) if !key.may_write_source(source) => {
            Err(("forbidden_source", "/source", "the key may not write this source"))
        }
        _ => Ok(()),
    }
}

/// Cuts the accepted events into messages. An event that does not fit one alone moves to the rejected.
fn pack(judged: &mut Judged<'_>, shared: &Shared<'_>, ids: &Ids<'_>) -> Vec<Part> {
    let entries = judged.entries();
    let sent =
        judged.accepted.iter().zip(&entries).map(|(accepted, entry)| (accepted.bytes.as_ref(), entry.event_type));
    let mut ranges = message::cut(&sent.collect::<Vec<_>>());
    ranges.reverse();
    let mut parts = Vec::with_capacity(ranges.len());
    let mut too_large = Vec::new();
    while let Some(range) = ranges.pop() {
        let batch = ids.batch(&judged.accepted[range.clone()], &judged.identities);
        match message::pack(&batch, shared, &entries[range.clone()]) {
            Ok(packed) => parts.push(Part { packed: packed.published_as(&ids.publish(range.start)), range }),
            // Texts can grow when they are written (a `\b` becomes `\u0008`), and compress less than was thought, so several may not fit.
            Err(_) if range.len() > 1 => {
                let middle = range.start + range.len() / 2;
                ranges.push(middle..range.end);
                ranges.push(range.start..middle);
            }
            Err(error) => {
                let accepted = &judged.accepted[range.start];
                too_large.push(Rejection {
                    index: accepted.index,
                    pointer: String::new(),
                    code: "too_large",
                    reason: clip(&error.reason).to_owned(),
                    event_type: counted_as(entries[range.start].event_type).to_owned(),
                    bytes: accepted.bytes.clone(),
                });
            }
        }
    }
    judged.rejections.append(&mut too_large);
    parts
}

fn replaced_clocks(judged: &Judged<'_>, range: &Range<usize>, now: Timestamp) -> Vec<Tally> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for accepted in judged.accepted[range.clone()].iter().filter(|accepted| accepted.clock == Clock::Replaced) {
        *counts.entry(counted_as(judged.type_of(accepted))).or_default() += 1;
    }
    let tally =
        |(name, by): (&str, i64)| Tally { counter: ledger::counter(now, name), field: CLOCK_REPLACED.into(), by };
    counts.into_iter().map(tally).collect()
}

/// Makes ids: of events that have none, and of batches.
///
/// With an idempotency key both come from it, so that a repeated request is the same events in the same batches. Where every accepted
/// event of a message has its own id, the batch id comes from their identities as sent. Otherwise ids are UUIDv7. Positions are part of
/// every batch id: a repetition of which another event is accepted (a schema changed between) is another batch, since it must not
/// count as stored.
struct Ids<'k> {
    key: &'k str,
    idempotency_key: Option<&'k str>,
    millis: u64,
    /// One draw per request; its ids count on from there (RFC 9562, 6.2).
    random: [u8; 10],
}

impl<'k> Ids<'k> {
    fn new(key: &'k str, idempotency_key: Option<&'k str>, now: Timestamp) -> Result<Self, PortError> {
        let mut random = [0; 10];
        access::random("ingest.ids", &mut random)?;
        let millis = u64::try_from(now.micros() / 1_000).unwrap_or(0);
        Ok(Self { key, idempotency_key, millis, random })
    }

    fn event(&self, index: usize) -> String {
        match self.idempotency_key {
            Some(given) => {
                let parts: [&[u8]; 4] =
                    [b"event", self.key.as_bytes(), given.as_bytes(), &(index as u64).to_le_bytes()];
                identity::hex_id(&parts)
            }
            None => self.uuid(index as u64),
        }
    }

    fn batch(&self, accepted: &[Accepted<'_>], identities: &[u8]) -> String {
        let (Some(first), Some(last)) = (accepted.first(), accepted.last()) else { return self.uuid(u64::MAX) };
        if let Some(given) = self.idempotency_key {
            let positions: Vec<u8> = accepted.iter().flat_map(|a| (a.index as u64).to_le_bytes()).collect();
            return identity::hex_id(&[b"keyed", self.key.as_bytes(), given.as_bytes(), &positions]);
        }
        if accepted.iter().all(|a| a.noted.has_id) {
            let named = &identities[first.noted.identity.start..last.noted.identity.end];
            return identity::hex_id(&[b"named", self.key.as_bytes(), named]);
        }
        // Batches count from the far end, so that none has the id of an event.
        self.uuid(u64::MAX - first.index as u64)
    }

    /// Names one publish of the events from this position on: never the same again, whatever the batch id is made from.
    fn publish(&self, start: usize) -> String {
        self.uuid((1 << 40) + start as u64)
    }

    fn uuid(&self, number: u64) -> String {
        let mut random = self.random;
        let low = random[2..].iter().fold(0u64, |low, byte| low << 8 | u64::from(*byte));
        random[2..].copy_from_slice(&low.wrapping_add(number).to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(self.millis, &random).into_uuid().to_string()
    }
}

/// The status of a request of which every event was rejected.
fn why_nothing(rejections: &[Rejection<'_>]) -> Refusal {
    if rejections.iter().all(Rejection::is_forbidden) {
        return refusal(403, "forbidden", "the key may write none of these events");
    }
    if rejections.iter().all(|r| r.code == "too_large") {
        return refusal(413, "too_large", "no event fits a message");
    }
    refusal(400, "rejected", "every event was rejected; `errors` says why")
}

impl Outcome {
    fn reply(self) -> Response {
        let mut body = Map::new();
        if let Some(refused) = &self.refused {
            body.insert("error".into(), json!({"code": refused.code, "message": refused.reason}));
        }
        body.insert("accepted".into(), self.accepted.into());
        body.insert("rejected".into(), self.rejected.into());
        body.insert("unavailable".into(), self.unavailable.into());
        body.insert("kept".into(), self.kept.into());
        if !self.batches.is_empty() {
            body.insert("batch".into(), self.batches.into());
        }
        body.insert("errors".into(), self.errors.into());
        let status = self.refused.map_or(202, |refused| refused.status);
        let reply = Response::json(status, &Json::Object(body));
        match self.retry_after_s {
            Some(after_s) => reply.with_header("retry-after", after_s.to_string()),
            None => reply,
        }
    }
}

fn shown(rejection: &Rejection<'_>) -> Json {
    json!({
        "index": rejection.index,
        "pointer": rejection.pointer,
        "code": rejection.code,
        "reason": rejection.reason,
    })
}

fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_REASON_BYTES)]
}

fn log_failure(error: &PortError, what: &str) {
    let source = std::error::Error::source(error).map(ToString::to_string);
    if error.is_transient() {
        tracing::warn!(error.kind = ?error.kind, error.message = %error, error.source = source, "{what}");
    } else {
        tracing::error!(error.kind = ?error.kind, error.message = %error, error.source = source, "{what}");
    }
}

fn method_not_allowed(allow: &str) -> Response {
    Response::error(405, "method_not_allowed", format!("this path takes {allow}")).with_header("allow", allow)
}

/// A page may read the reply; whether its key may be used there was decided before.
fn with_cors(reply: Response, request: &Request) -> Response {
    let origin = request.header("origin").unwrap_or("*");
    reply
        .with_header("access-control-allow-origin", origin)
        .with_header("access-control-expose-headers", "retry-after")
        .with_header("vary", "origin")
}

/// The key, and so its origins, is not known in a preflight: any origin may ask, and the request itself is judged.
fn preflight(request: &Request) -> Response {
    let named = request.header("access-control-request-headers").filter(|names| {
        names.len() <= 1_024 && names.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_, ".contains(&b))
    });
    let usual = "authorization, content-encoding, content-type, idempotency-key, x-write-key";
    with_cors(Response::empty(204), request)
        .with_header("access-control-allow-methods", "POST")
        .with_header("access-control-allow-headers", named.unwrap_or(usual))
        .with_header("access-control-max-age", "86400")
        .with_header("vary", "origin, access-control-request-headers")
}

#[cfg(test)]
mod tests;
