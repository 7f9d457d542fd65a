//! Quarantine: the bytes of what could not be taken in, stored or indexed, with the reason and where it came from.
//!
//! A stage that meets something which can never succeed puts a [`Quarantined`] into the quarantine queue; this stage writes each as one
//! object, so that nothing is lost and all of it can be listed, repaired and sent again.

pub mod desk;
pub mod sweep;

use crate::item::{Item, Outcome};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use sluice_domain::time::Timestamp;
use sluice_domain::{identity, lake};
use sluice_ports::{ErrorKind, Message, Objects, PortError, PutMode, Queue, Tally};
use std::sync::Arc;

/// Version of the record that this code writes.
pub const VERSION: u32 = 1;
/// Code of a record that carries no bytes, only the count of what is no longer kept; it becomes no object.
pub const COUNTED: &str = "counted";
/// Bytes up to this size stay plain base64; more are packed with zstd.
const PLAIN_BYTES: usize = 4 * 1024;
/// Largest base64 text in a body: what a queue message takes (1 MiB) without the other fields.
const MAX_BASE64_BYTES: usize = 1_000 * 1024;
/// This much always fits, even where nothing compresses.
const SAFE_BYTES: usize = 700 * 1024;
/// Most bytes that are unpacked again: the largest request there is, with room to spare.
const MAX_UNPACKED_BYTES: usize = 64 * 1024 * 1024;
/// Reason and pointer are cut to this.
const MAX_TEXT_BYTES: usize = 512;
/// Objects written at the same time.
const CONCURRENT_PUTS: usize = 8;

/// Something in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Names it: 1–128 of `[0-9A-Za-z_-]`, a hash of its cause, so that a retry makes the same.
    pub id: String,
    /// The stage that put it here: `ingest`, `convert`, `index`, `detect`.
    pub origin: String,
    /// Stable code of the reason, for example `schema`.
    pub code: String,
    /// The reason, for people.
    pub reason: String,
    /// JSON pointer inside the event; empty for the whole.
    pub pointer: String,
    /// Id of the key that sent it, where one is known.
    pub key: Option<String>,
    /// From which address and with which program it was sent, where that is known and kept.
    pub client_ip: Option<String>,
    /// See `client_ip`.
    pub user_agent: Option<String>,
    /// When ingest received it.
    pub received: Timestamp,
    /// The bytes as they came, or the first of them where `truncated`.
    pub bytes: Vec<u8>,
    /// How many bytes came.
    pub size_bytes: u64,
    /// Whether bytes were cut off.
    pub truncated: bool,
    /// Type of the event as it is counted, where the bytes were counted as one rejected event.
    pub event_type: Option<String>,
    /// What an operator put in the place of the bytes.
    pub repaired: Option<Vec<u8>>,
}

/// The body of a message and of an object.
#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    code: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    pointer: String,
    #[serde(default)]
    origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clientip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    useragent: Option<String>,
    received: String,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encoding: Option<String>,
    #[serde(default)]
    bytes: String,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repaired: Option<Repaired>,
}

/// What an operator put in the place of the bytes.
#[derive(Serialize, Deserialize)]
struct Repaired {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encoding: Option<String>,
    bytes: String,
}

impl Quarantined {
    /// A record of these bytes, whose id comes from `cause`: what makes it this one and no other, for example batch id and position.
    pub fn new(origin: &str, cause: &[&[u8]], code: &str, reason: &str, received: Timestamp, bytes: Vec<u8>) -> Self {
        let mut parts = vec![origin.as_bytes()];
        parts.extend_from_slice(cause);
        Self {
            id: identity::hex_id(&parts),
            origin: origin.into(),
            code: code.into(),
            reason: reason.into(),
            pointer: String::new(),
            key: None,
            client_ip: None,
            user_agent: None,
            received,
            size_bytes: bytes.len() as u64,
            bytes,
            truncated: false,
            event_type: None,
            repaired: None,
        }
    }

    /// The body of its message. Bytes beyond a few KiB are packed with zstd; what does not fit a queue message even so is cut, and says
    /// so.
    pub fn body(&self) -> String {
        self.text(MAX_BASE64_BYTES)
    }

    fn text(&self, max_base64_bytes: usize) -> String {
        let (bytes, encoding, taken) = encode(&self.bytes, max_base64_bytes);
        let truncated = self.truncated || taken < self.bytes.len();
        let wire = Wire {
            v: VERSION,
            code: self.code.clone(),
            reason: clip(&self.reason).to_owned(),
            pointer: clip(&self.pointer).to_owned(),
            origin: self.origin.clone(),
            key: self.key.clone(),
            clientip: self.client_ip.clone(),
            useragent: self.user_agent.clone(),
            received: self.received.to_micros_text(),
            id: self.id.clone(),
            size_bytes: truncated.then_some(self.size_bytes),
            truncated,
            encoding: encoding.map(str::to_owned),
            bytes,
            event_type: self.event_type.clone(),
            repaired: self.repaired.as_deref().map(|bytes| {
                let (bytes, encoding, _) = encode(bytes, usize::MAX);
                Repaired { encoding: encoding.map(str::to_owned), bytes }
            }),
        };
        to_text(&wire)
    }

    /// Reads a body back; an error says what is wrong with it.
    pub fn parse(body: &str) -> Result<Self, String> {
        let wire: Wire = serde_json::from_str(body).map_err(|e| format!("not a quarantine record: {e}"))?;
        if wire.v != VERSION {
            return Err(format!("version {} of the record is not known here, only {VERSION}", wire.v));
        }
        if !is_id(&wire.id) {
            return Err("`id` is not 1 to 128 of `[0-9A-Za-z_-]`".into());
        }
        let received = Timestamp::parse_rfc3339(&wire.received).ok_or("`received` is not RFC 3339")?;
        let bytes = decode(&wire.bytes, wire.encoding.as_deref())?;
        let repaired = wire.repaired.map(|r| decode(&r.bytes, r.encoding.as_deref())).transpose()?;
        Ok(Self {
            id: wire.id,
            origin: wire.origin,
            code: wire.code,
            reason: wire.reason,
            pointer: wire.pointer,
            key: wire.key,
            client_ip: wire.clientip,
            user_agent: wire.useragent,
            received,
            size_bytes: wire.size_bytes.unwrap_or(bytes.len() as u64),
            bytes,
            truncated: wire.truncated,
            event_type: wire.event_type,
            repaired,
        })
    }

    /// The object that keeps it: key and bytes.
    pub fn object(&self) -> (String, Bytes) {
        (lake::quarantine_key(self.received, &self.id), Bytes::from(self.text(usize::MAX)))
    }

    /// The message that carries it to the quarantine queue, and what is counted with it.
    pub fn message(&self, tally: Vec<Tally>) -> Message {
        Message { body: self.body(), events: 1, tally, ..Message::default() }
    }
}

/// A message that only counts: for rejections that are not kept.
pub fn counted(received: Timestamp, tally: Vec<Tally>) -> Message {
    let wire = Wire {
        v: VERSION,
        code: COUNTED.into(),
        reason: String::new(),
        pointer: String::new(),
        origin: String::new(),
        key: None,
        clientip: None,
        useragent: None,
        received: received.to_micros_text(),
        id: COUNTED.into(),
        size_bytes: None,
        truncated: false,
        encoding: None,
        bytes: String::new(),
        event_type: None,
        repaired: None,
    };
    Message { body: to_text(&wire), events: 0, tally, ..Message::default() }
}

/// Sends records to the quarantine queue; one result per record, in order. Sinks count what they quarantine in their own transaction, so
/// nothing is counted with the send.
pub async fn send_all(queue: &dyn Queue, items: &[Quarantined]) -> Vec<Result<(), PortError>> {
    if items.is_empty() {
        return Vec::new();
    }
    queue.send(items.iter().map(|item| item.message(Vec::new())).collect()).await
}

/// The stage: writes what is in the queue as objects.
pub struct Quarantine {
    objects: Arc<dyn Objects>,
}

impl Quarantine {
    /// A stage that writes to these objects.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    /// Writes each item as the object [`lake::quarantine_key`] of its receive time and id; one outcome per item, in order.
    ///
    /// A second delivery finds the object there and is done. A body that is no record is itself kept, under the day of `now` and a hash
    /// of it. Every failure of the store is a retry: behind the last one is the dead-letter queue, so nothing is lost.
    pub async fn run(&self, items: &[Item], now: Timestamp) -> Vec<Outcome> {
        // Collected first: a stream over borrowed items would ask more of the caller's future than it can give.
        let puts: Vec<_> = items.iter().map(|item| self.keep(object_of(&item.body, now))).collect();
        let outcomes: Vec<Outcome> = futures::stream::iter(puts).buffered(CONCURRENT_PUTS).collect().await;
        let failed = outcomes.iter().filter(|o| **o != Outcome::Done).count();
        tracing::info!(
            quarantine.items = items.len(),
            quarantine.failed = failed,
            events.stored = items.len() - failed,
            "quarantine kept"
        );
        outcomes
    }

    async fn keep(&self, object: Option<(String, Bytes)>) -> Outcome {
        let Some((key, bytes)) = object else { return Outcome::Done };
        match self.objects.put(&key, bytes, PutMode::IfAbsent).await {
            Ok(()) => Outcome::Done,
            Err(error) if error.kind == ErrorKind::Conflict => Outcome::Done,
            Err(error) => Outcome::Retry(error.to_string()),
        }
    }
}

/// The object of a body: key and bytes; `None` for a body that only counts.
fn object_of(body: &str, now: Timestamp) -> Option<(String, Bytes)> {
    match Quarantined::parse(body) {
        Ok(record) if record.code == COUNTED && record.bytes.is_empty() => None,
        // The body is kept as it came: a newer producer may say more than this code reads.
        Ok(record) => Some((lake::quarantine_key(record.received, &record.id), Bytes::from(body.to_owned()))),
        Err(reason) => {
            let bytes = body.as_bytes();
            let record = Quarantined::new("quarantine", &[bytes], "malformed_message", &reason, now, bytes.to_vec());
            Some(record.object())
        }
    }
}

/// Base64 text, its encoding, and how many of the bytes are in it.
fn encode(bytes: &[u8], max_base64_bytes: usize) -> (String, Option<&'static str>, usize) {
    if bytes.len() <= PLAIN_BYTES {
        return (STANDARD.encode(bytes), None, bytes.len());
    }
    let mut taken = bytes.len();
    loop {
        let Ok(packed) = zstd::bulk::compress(&bytes[..taken], 1) else {
            // Compressing into memory has no other reason to fail than memory itself.
            let taken = taken.min(SAFE_BYTES);
            return (STANDARD.encode(&bytes[..taken]), None, taken);
        };
        let base64_bytes = packed.len().div_ceil(3) * 4;
        if base64_bytes <= max_base64_bytes {
            return (STANDARD.encode(packed), Some("zstd"), taken);
        }
        // A tenth less than the proportion, since the rest need not compress like the whole.
        let fits = (taken as u128 * max_base64_bytes as u128 * 9 / (base64_bytes as u128 * 10)) as usize;
        taken = if taken > SAFE_BYTES { fits.max(SAFE_BYTES) } else { fits };
    }
}

fn decode(base64: &str, encoding: Option<&str>) -> Result<Vec<u8>, String> {
    let bytes = STANDARD.decode(base64).map_err(|e| format!("`bytes` is not base64: {e}"))?;
    match encoding {
        None => Ok(bytes),
        Some("zstd") => unpack(&bytes).ok_or_else(|| "`bytes` does not unpack".into()),
        Some(_) => Err("`encoding` is not known here, only `zstd`".into()),
    }
}

fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let size = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten()?;
    let size = usize::try_from(size).ok().filter(|size| *size <= MAX_UNPACKED_BYTES)?;
    zstd::bulk::decompress(packed, size).ok()
}

pub(crate) fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The text, cut to a bounded length at a character.
fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

fn to_text(wire: &Wire) -> String {
    // Texts and numbers always become JSON; an empty body would be kept by the stage as what it is.
    serde_json::to_string(wire).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sluice_testkit::fault::{Fault, Faulty};
    use sluice_testkit::memory::{MemoryObjects, MemoryQueue};

    fn now() -> Timestamp {
        Timestamp::from_micros(1_795_255_200_000_000).unwrap()
    }

    fn record(n: u8, bytes: &[u8]) -> Quarantined {
        Quarantined {
            pointer: "/data/a".into(),
            key: Some("k_1".into()),
            ..Quarantined::new("ingest", &[&[n]], "schema", "`a` is missing", now(), bytes.to_vec())
        }
    }

    fn item(body: impl Into<String>) -> Item {
        Item { id: "m".into(), body: body.into(), receive_count: 1 }
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut seed = 1u64;
        let next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u8
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    #[test]
    fn the_body_is_the_agreed_one() {
        let id = identity::hex_id(&[b"ingest", &[1]]);
        assert_eq!(
            record(1, b"{}").body(),
            format!(
                r#"{{"v":1,"code":"schema","reason":"`a` is missing","pointer":"/data/a","origin":"ingest","key":"k_1","received":"2026-11-21T10:00:00.000000Z","id":"{id}","bytes":"e30="}}"#
            )
        );
    }

    #[test]
    fn large_bytes_are_packed_and_only_cut_when_they_do_not_compress() {
        let text = vec![b'x'; 10 * 1024 * 1024];
        assert_eq!(Quarantined::parse(&record(1, &text).body()).unwrap(), record(1, &text));
        let noise = noise(5 * 1024 * 1024);
        let body = record(1, &noise).body();
        assert!(body.len() < 1024 * 1024, "{}", body.len());
        let back = Quarantined::parse(&body).unwrap();
        assert!(back.truncated && back.size_bytes == noise.len() as u64);
        assert!(back.bytes.len() >= 600 * 1024 && noise.starts_with(&back.bytes), "{}", back.bytes.len());
        assert_eq!(Quarantined::parse(&back.body()).unwrap(), back);
    }

    #[test]
    fn long_reasons_are_cut_at_a_character() {
        let long = Quarantined { reason: "가".repeat(1_000), ..record(1, b"") };
        assert_eq!(Quarantined::parse(&long.body()).unwrap().reason, "가".repeat(170));
    }

    #[tokio::test]
    async fn each_item_becomes_one_object_however_often_it_comes() {
        let objects = Arc::new(MemoryObjects::new());
        let stage = Quarantine::new(objects.clone());
        let items = [item(record(1, b"a").body()), item(record(2, b"b").body()), item(record(1, b"a").body())];
        for _ in 0..2 {
            assert_eq!(stage.run(&items, now()).await, [Outcome::Done, Outcome::Done, Outcome::Done]);
        }
        assert_eq!(objects.keys().len(), 2);
        let key = lake::quarantine_key(now(), &record(1, b"a").id);
        let text = String::from_utf8(objects.bytes(&key).unwrap().to_vec()).unwrap();
        assert_eq!(Quarantined::parse(&text).unwrap(), record(1, b"a"));
    }

    #[tokio::test]
    async fn a_body_that_is_no_record_is_kept_itself() {
        let objects = Arc::new(MemoryObjects::new());
        let stage = Quarantine::new(objects.clone());
        let large = STANDARD.encode(noise(1_000_000));
        let bad = [
            "",
            "rubbish",
            &large,
            "{\"v\":1}",
            &record(1, b"a").body().replace("\"v\":1", "\"v\":2"),
            &Quarantined { id: "../../etc".into(), ..record(1, b"a") }.body(),
            &record(1, b"a").body().replace("\"bytes\":\"", "\"bytes\":\"!"),
            &record(1, b"a").body().replace("\"bytes\"", "\"encoding\":\"zstd\",\"bytes\""),
        ];
        let outcomes = stage.run(&bad.map(item), now()).await;
        assert!(outcomes.iter().all(|o| *o == Outcome::Done), "{outcomes:?}");
        let kept: Vec<String> = objects
            .keys()
            .iter()
            .map(|key| {
                assert!(key.starts_with("quarantine/dt=2026-11-21/"), "{key}");
                let text = String::from_utf8(objects.bytes(key).unwrap().to_vec()).unwrap();
                let record = Quarantined::parse(&text).unwrap();
                assert_eq!(record.code, "malformed_message");
                String::from_utf8(record.bytes).unwrap()
            })
            .collect();
        assert!(kept.len() == bad.len() && bad.iter().all(|b| kept.iter().any(|k| k == b)));
    }

    #[tokio::test]
    async fn a_store_that_fails_brings_back_only_what_failed() {
        let objects = Arc::new(Faulty::new(MemoryObjects::new()));
        let stage = Quarantine::new(objects.clone());
        let faults = [Fault::Pass, Fault::Before(ErrorKind::Full), Fault::After, Fault::Before(ErrorKind::Denied)];
        objects.script("objects.put", faults);
        let items: Vec<Item> = (0..5).map(|n| item(record(n, b"x").body())).collect();
        let outcomes = stage.run(&items, now()).await;
        let done: Vec<bool> = outcomes.iter().map(|o| *o == Outcome::Done).collect();
        assert_eq!(done, [true, false, false, false, true]);
        assert!(stage.run(&items, now()).await.iter().all(|o| *o == Outcome::Done));
        assert_eq!(objects.inner().keys().len(), 5);
    }

    #[tokio::test]
    async fn a_message_that_only_counts_becomes_no_object() {
        let objects = Arc::new(MemoryObjects::new());
        let counted = counted(now(), Vec::new());
        let outcomes = Quarantine::new(objects.clone()).run(&[item(counted.body)], now()).await;
        assert_eq!((outcomes, objects.keys().len()), (vec![Outcome::Done], 0));
    }

    #[tokio::test]
    async fn records_are_sent_one_message_each() {
        let queue = Faulty::new(MemoryQueue::new());
        queue.script("queue.send", [Fault::Items(vec![1], ErrorKind::Unavailable)]);
        assert!(send_all(&queue, &[]).await.is_empty());
        let results = send_all(&queue, &[record(1, b"a"), record(2, b"b"), record(3, b"c")]).await;
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        let bodies: Vec<String> = queue.inner().sent().into_iter().map(|m| m.body).collect();
        assert_eq!(bodies, [record(1, b"a").body(), record(3, b"c").body()]);
    }

    proptest! {
        #[test]
        fn a_record_reads_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..9_000),
            reason in "\\PC{0,40}",
            pointer in "\\PC{0,40}",
        ) {
            let record = Quarantined { reason, pointer, ..record(0, &bytes) };
            prop_assert_eq!(Quarantined::parse(&record.body()).unwrap(), record);
        }

        #[test]
        fn parsing_never_panics(body in "\\PC{0,200}") {
            let _ = Quarantined::parse(&body);
        }
    }
}
