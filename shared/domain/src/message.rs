//! The message: how the events of one request travel through topic and queues.
//!
//! A message is versioned JSON text. Its header says which batch it is, when it was received, what is inside and how much; the events
//! stand in it as they are when it is small, and as zstd in base64 when it is not. Where a request is cut into messages depends only on the
//! texts that the client sent, never on what a compressor makes of them or on the clock, so that a repeated request is cut in the same
//! places and its batch ids mean the same events.

use crate::event::{Event, Shared};
use crate::json::{self, Node, Value};
use crate::schema::{Violation, area, counted_as};
use crate::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Version of the message that this code writes.
pub const VERSION: u32 = 1;
/// Largest message body of a topic (SNS), in bytes.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// Room for header and attributes inside [`MAX_MESSAGE_BYTES`].
const HEADER_ROOM_BYTES: usize = 8 * 1024;
/// Room that the names of the types in one message may take in its header (they stand there twice at most: as type and as area).
const TYPE_NAMES_BYTES: usize = 3 * 1024;
/// Types in one message: a sink writes its counters, one per type, and the files of its tables in one transaction of 100 writes.
pub const MAX_TYPES: usize = 32;
/// Bodies up to this size stay readable.
const PLAIN_BYTES: usize = 4 * 1024;
/// What completing an event adds to its text at most: id, time, `original_time`, a default source of usual length.
const EVENT_ROOM_BYTES: usize = 320;
/// What of that is new in each event: a random id, and digits of its time.
const EVENT_NOVEL_BYTES: usize = 32;
/// A message takes events until what is new in them ([`Novelty`]) reaches this. Base64 leaves three quarters of the room, 186 KiB, and of
/// printable text in which nothing repeats a compressor leaves 82 %: 6.5 bits of each byte.
const CUT_NOVEL_BYTES: usize = 220 * 1024;
/// A message takes no more text than this however well it compresses: a stage unpacks messages one by one, and this is its memory.
const CUT_BYTES: usize = 1024 * 1024;
/// Largest text of events that a message may unpack to: a request's bound on AWS with room to spare.
pub const MAX_UNPACKED_BYTES: usize = 16 * 1024 * 1024;

/// Deepest nesting of a message's events: their list takes one level, and attributes that were moved to `extra` one more.
pub const MAX_EVENT_DEPTH: usize = json::MAX_DEPTH + 2;

/// What a message says about its events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Message version.
    pub v: u32,
    /// Batch id: the unit of exactly once.
    pub batch: String,
    /// Which publish of the batch this is: what counted its events as accepted once. A repeated request has the same batch and another
    /// publish; a message without it is told apart by the queue's message id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<String>,
    /// Whether its events come out of quarantine: a sink that takes them in counts them as returned too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replay: bool,
    /// Receive time, RFC 3339.
    pub received: String,
    /// Client address as the setting keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clientip: Option<String>,
    /// User agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub useragent: Option<String>,
    /// Areas of the events' types, sorted.
    pub areas: Vec<String>,
    /// How many events.
    pub count: u64,
    /// How many of each type, by [`counted_as`].
    pub types: BTreeMap<String, u64>,
}

impl Header {
    /// Whether this code knows the version of the message: else `unknown_encoding`. What a message of another version carries, and how it is
    /// counted, is not known.
    pub fn check_version(&self) -> Result<(), MessageError> {
        if self.v == VERSION {
            return Ok(());
        }
        let reason = format!("message version {} is not known here, only {VERSION}", self.v);
        Err(MessageError { code: "unknown_encoding", reason })
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(flatten)]
    header: Header,
    #[serde(borrow, default)]
    events: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, default)]
    zstd: Option<Cow<'a, str>>,
}

/// An event ready to be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T = String> {
    /// Its type.
    pub event_type: T,
    /// Its JSON text ([`Event::write`]).
    pub text: T,
}

/// A packed message.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// The header, as it stands in the body.
    pub header: Header,
    /// The body.
    pub body: String,
}

impl Packed {
    /// Names the publish ([`Header::publish`]): 1–64 letters, digits or `-`, unique to each time that the events are counted as accepted.
    #[must_use]
    pub fn published_as(mut self, publish: &str) -> Self {
        self.body.insert_str(1, &format!("\"publish\":\"{publish}\","));
        self.header.publish = Some(publish.to_owned());
        self
    }
}

/// A message whose body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageError {
    /// Stable code: `malformed_message`, `unknown_encoding`, `too_large`.
    pub code: &'static str,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for MessageError {}

impl From<Violation> for MessageError {
    /// Of an event that cannot be read.
    fn from(violation: Violation) -> Self {
        error("malformed_message", format!("{}: {}", violation.pointer, violation.reason))
    }
}

fn error(code: &'static str, reason: impl Into<String>) -> MessageError {
    MessageError { code, reason: reason.into() }
}

/// Where to cut events into messages: ranges in order. Each event is given by its text as sent and its type.
pub fn cut(events: &[(&[u8], &str)]) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let (mut from, mut sum, mut novel, mut type_bytes) = (0, 0, 0, 0);
    let mut types: BTreeSet<&str> = BTreeSet::new();
    let all: usize = events.iter().map(|(text, _)| text.len() + EVENT_ROOM_BYTES).sum();
    // What fits even if all of it is new need not be looked at.
    let mut novelty = (all > CUT_NOVEL_BYTES).then(Novelty::new);
    for (i, (text, event_type)) in events.iter().enumerate() {
        let size = text.len() + EVENT_ROOM_BYTES;
        let mut more = novelty.as_mut().map_or(0, |novelty| novelty.of(text) + EVENT_NOVEL_BYTES);
        let name = counted_as(event_type);
        let full = types.len() == MAX_TYPES || type_bytes + name.len() > TYPE_NAMES_BYTES;
        let too_much = sum + size > CUT_BYTES || novel + more > CUT_NOVEL_BYTES;
        if i > from && (too_much || (!types.contains(name) && full)) {
            ranges.push(from..i);
            (from, sum, novel, type_bytes) = (i, 0, 0, 0);
            types.clear();
            // A new message repeats nothing of the one before.
            novelty = novelty.map(|_| Novelty::new());
            more = novelty.as_mut().map_or(0, |novelty| novelty.of(text) + EVENT_NOVEL_BYTES);
        }
        (sum, novel) = (sum + size, novel + more);
        if types.insert(name) {
            type_bytes += name.len() + 16;
        }
    }
    if from < events.len() {
        ranges.push(from..events.len());
    }
    ranges
}

/// How much of a text is not in what came before it: about what a compressor keeps of it, and the same in every version of the program,
/// which a compressor's output is not.
///
/// As in Lempel and Ziv's coding, what was seen before is told by where it was: the first piece of six bytes of it counts as two bytes,
/// each further one as one. Every other byte counts as itself. That is one and a half times to three times what zstd makes of such text.
struct Novelty {
    /// By the hash of a piece, some further bits of its hash; the last piece of a slot stays.
    seen: Vec<u32>,
}

impl Novelty {
    const SLOTS_LOG: u32 = 14;
    const PIECE: usize = 6;
    const FIRST_PIECE: usize = 2;

    fn new() -> Self {
        Self { seen: vec![0; 1 << Self::SLOTS_LOG] }
    }

    fn of(&mut self, text: &[u8]) -> usize {
        let (mut at, mut novel, mut piece_cost) = (0, 0, Self::FIRST_PIECE);
        while let Some(piece) = text.get(at..).and_then(|rest| rest.first_chunk::<{ Self::PIECE }>()) {
            // Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, 6.4): the high bits are the mixed ones.
            let [a, b, c, d, e, f] = *piece;
            let hash = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let slot = &mut self.seen[(hash >> (u64::BITS - Self::SLOTS_LOG)) as usize];
            let tag = (hash >> 16) as u32 | 1;
            if *slot == tag {
                (at, novel, piece_cost) = (at + Self::PIECE, novel + piece_cost, 1);
            } else {
                (at, novel, piece_cost) = (at + 1, novel + 1, Self::FIRST_PIECE);
            }
            *slot = tag;
        }
        novel + text.len() - at
    }
}

/// Packs events into one message. An error (`too_large`) means that it does not fit; that can only be one large event alone, when the
/// events were cut by [`cut`].
pub fn pack<T: AsRef<str>>(batch: &str, shared: &Shared<'_>, entries: &[Entry<T>]) -> Result<Packed, MessageError> {
    let mut areas: BTreeSet<&str> = BTreeSet::new();
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in entries {
        let count = types.entry(counted_as(entry.event_type.as_ref())).or_default();
        if *count == 0 {
            areas.insert(area(entry.event_type.as_ref()));
        }
        *count += 1;
    }
    let header = Header {
        v: VERSION,
        batch: batch.to_owned(),
        publish: None,
        replay: false,
        received: shared.received.to_micros_text(),
        clientip: shared.client_ip.as_deref().map(str::to_owned),
        useragent: shared.user_agent.as_deref().map(str::to_owned),
        areas: areas.into_iter().map(str::to_owned).collect(),
        count: entries.len() as u64,
        types: types.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
    };
    let mut events = String::with_capacity(entries.iter().map(|e| e.text.as_ref().len() + 1).sum::<usize>() + 2);
    events.push('[');
    for (i, entry) in entries.iter().enumerate() {
        if i > 0 {
            events.push(',');
        }
        events.push_str(entry.text.as_ref());
    }
    events.push(']');
    let mut body = serde_json::to_string(&header).map_err(|e| error("malformed_message", e.to_string()))?;
    body.pop();
    if events.len() <= PLAIN_BYTES {
        body.push_str(",\"events\":");
        body.push_str(&events);
    } else {
        let packed = compress(events.as_bytes()).map_err(|e| error("too_large", format!("zstd: {e}")))?;
        body.push_str(",\"zstd\":\"");
        STANDARD.encode_string(packed, &mut body);
        body.push('"');
    }
    body.push('}');
    if body.len() > MAX_MESSAGE_BYTES - HEADER_ROOM_BYTES {
        return Err(error(
            "too_large",
            format!(
                "the event needs {} bytes of a message after compression, there is room for {}",
                body.len(),
                MAX_MESSAGE_BYTES - HEADER_ROOM_BYTES
            ),
        ));
    }
    Ok(Packed { header, body })
}

/// What compresses and what decompresses, kept by each thread: making one costs more than a small message.
#[derive(Default)]
struct Codec {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

thread_local! {
    static CODEC: RefCell<Codec> = RefCell::default();
}

/// Compresses at level 1.
fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    CODEC.with_borrow_mut(|codec| {
        let compressor = match &mut codec.compressor {
            Some(compressor) => compressor,
            empty => empty.insert(zstd::bulk::Compressor::new(1)?),
        };
        compressor.compress(bytes)
    })
}

/// Decompresses to at most `capacity` bytes.
fn decompress(bytes: &[u8], capacity: usize) -> std::io::Result<Vec<u8>> {
    CODEC.with_borrow_mut(|codec| {
        let decompressor = match &mut codec.decompressor {
            Some(decompressor) => decompressor,
            empty => empty.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress(bytes, capacity)
    })
}

/// The message with the mark of a replay ([`Header::replay`]): the same batch, the same events.
pub fn as_replay(body: &str) -> Result<String, MessageError> {
    if read_header(body)?.replay {
        return Ok(body.to_owned());
    }
    // A header that can be read stands in an object, whatever space is before it.
    Ok(body.replacen('{', "{\"replay\":true,", 1))
}

/// A message whose header is read and whose events are unpacked, not yet parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Unpacked {
    /// The header.
    pub header: Header,
    received: Timestamp,
    events: String,
}

/// Reads the header of a message without unpacking its events.
pub fn read_header(body: &str) -> Result<Header, MessageError> {
    let wire: Wire<'_> =
        serde_json::from_str(body).map_err(|e| error("malformed_message", format!("not a message: {e}")))?;
    Ok(wire.header)
}

/// Unpacks a message.
pub fn unpack(body: &str) -> Result<Unpacked, MessageError> {
    let wire: Wire<'_> =
        serde_json::from_str(body).map_err(|e| error("malformed_message", format!("not a message: {e}")))?;
    wire.header.check_version()?;
    let received = Timestamp::parse_rfc3339(&wire.header.received)
        .ok_or_else(|| error("malformed_message", "`received` is not RFC 3339"))?;
    let events = match (wire.events, wire.zstd) {
        (Some(raw), None) => raw.get().to_owned(),
        (None, Some(base64)) => {
            let packed = STANDARD
                .decode(base64.as_bytes())
                .map_err(|e| error("malformed_message", format!("`zstd` is not base64: {e}")))?;
            let size =
                zstd::zstd_safe::get_frame_content_size(&packed).ok().flatten().unwrap_or(MAX_UNPACKED_BYTES as u64);
            if size > MAX_UNPACKED_BYTES as u64 {
                return Err(error(
                    "too_large",
                    format!("the events unpack to {size} bytes, allowed are {MAX_UNPACKED_BYTES}"),
                ));
            }
            let capacity = usize::try_from(size).unwrap_or(MAX_UNPACKED_BYTES);
            let bytes = decompress(&packed, capacity)
                .map_err(|e| error("malformed_message", format!("`zstd` does not unpack: {e}")))?;
            String::from_utf8(bytes)
                .map_err(|e| error("malformed_message", format!("the events are not UTF-8: {e}")))?
        }
        _ => return Err(error("malformed_message", "a message has either `events` or `zstd`")),
    };
    Ok(Unpacked { header: wire.header, received, events })
}

impl Unpacked {
    /// What the events share.
    pub fn shared(&self) -> Shared<'_> {
        Shared {
            received: self.received,
            client_ip: self.header.clientip.as_deref().map(Cow::Borrowed),
            user_agent: self.header.useragent.as_deref().map(Cow::Borrowed),
        }
    }

    /// The JSON text of all events, an array.
    pub fn text(&self) -> &str {
        &self.events
    }

    /// Parses the events, in order. An event that cannot be read stands in its place as its text and the reason; an error means that
    /// the whole is not a list.
    #[allow(clippy::type_complexity)]
    pub fn events(&self) -> Result<Vec<Result<Event<'_>, (&str, MessageError)>>, MessageError> {
        let shared = self.shared();
        match json::parse_within(&self.events, MAX_EVENT_DEPTH) {
            Ok(Node { value: Value::Array(nodes), .. }) => Ok(nodes
                .into_iter()
                .map(|node| {
                    let raw = node.raw;
                    Event::read(node, &shared).map_err(|v| (raw, MessageError::from(v)))
                })
                .collect()),
            Ok(_) => Err(error("malformed_message", "`events` is not a list")),
            Err(e) => Err(error(e.kind.code(), e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shared() -> Shared<'static> {
        Shared {
            received: Timestamp::from_micros(1_795_255_200_000_000).unwrap(),
            client_ip: Some("10.0.0.0".into()),
            user_agent: None,
        }
    }

    fn entries(count: usize, filler: &str) -> Vec<Entry> {
        (0..count)
            .map(|i| {
                let data = format!("{{\"n\":{i},\"f\":\"{filler}\"}}");
                let node = json::parse_str(&data).unwrap();
                let mut text = String::new();
                Event::derived(
                    &i.to_string(),
                    "shop",
                    if i % 2 == 0 { "web.event" } else { "Other" },
                    shared().received,
                    shared().received,
                    node,
                )
                .write(&mut text);
                Entry { event_type: if i % 2 == 0 { "web.event".into() } else { "Other".into() }, text }
            })
            .collect()
    }

    /// Events as `cut` takes them.
    fn sent(entries: &[Entry]) -> Vec<(&[u8], &str)> {
        entries.iter().map(|e| (e.text.as_bytes(), e.event_type.as_str())).collect()
    }

    #[test]
    fn a_request_of_mixed_events_goes_in_one_message() {
        let entries: Vec<Entry> =
            (0..1_000).map(|n| Entry { event_type: "web.event".into(), text: crate::demo::bench_event(n) }).collect();
        let bytes: usize = entries.iter().map(|e| e.text.len()).sum();
        assert!((480_000..512 * 1024).contains(&bytes), "what API Gateway counts as one request: {bytes}");
        let mut novelty = Novelty::new();
        let novel: usize = entries.iter().map(|e| novelty.of(e.text.as_bytes())).sum();
        let packed = compress(entries.iter().map(|e| e.text.as_str()).collect::<String>().as_bytes()).unwrap().len();
        assert!((packed..3 * packed).contains(&novel), "{novel} for {packed}: neither too little nor far too much");
        assert_eq!(cut(&sent(&entries)), vec![0..entries.len()]);
    }

    #[test]
    fn events_that_are_alike_go_in_one_message_and_noise_does_not() {
        let alike = entries(1_300, &"the same words in each event ".repeat(9));
        let text: usize = alike.iter().map(|e| e.text.len() + EVENT_ROOM_BYTES).sum();
        assert!((4 * CUT_NOVEL_BYTES..CUT_BYTES).contains(&text), "{text}");
        assert_eq!(cut(&sent(&alike)), vec![0..alike.len()]);
        assert!(pack("b", &shared(), &alike).unwrap().body.len() < 64 * 1024);
        // What is cut does not depend on what the stack does with the texts afterwards.
        let longer: Vec<Entry> = entries(9_000, "x");
        let (first, again) = (cut(&sent(&longer)), cut(&sent(&longer)));
        assert!(first.len() > 1 && first == again);
    }

    #[test]
    fn small_messages_stay_readable_and_large_ones_are_packed() {
        let small = pack("b", &shared(), &entries(3, "")).unwrap();
        assert!(small.body.contains("\"events\":[{\"id\":\"0\""), "{}", small.body);
        assert_eq!(small.header.areas, ["other", "web"]);
        assert_eq!((small.header.types["web.event"], small.header.types["other"]), (2, 1));
        let large = pack("b", &shared(), &entries(300, "0123456789")).unwrap();
        assert!(large.body.contains("\"zstd\":\""));
        assert_eq!(read_header(&large.body).unwrap(), large.header);
        assert_eq!(unpack(&large.body).unwrap().events().unwrap().len(), 300);
    }

    #[test]
    fn text_that_does_not_compress_fits_when_it_was_cut() {
        let mut seed = 1u64;
        let mut noise = || {
            (0..700)
                .map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    char::from(b'!' + ((seed >> 33) % 90) as u8)
                })
                .filter(|c| *c != '"' && *c != '\\')
                .collect::<String>()
        };
        let entries: Vec<Entry> = (0..600).map(|i| {
            let text = format!("{{\"id\":\"{i}\",\"source\":\"s\",\"type\":\"t\",\"time\":\"2026-11-21T10:00:00Z\",\"data\":\"{}\"}}", noise());
            Entry { event_type: "t".into(), text }
        }).collect();
        let ranges = cut(&sent(&entries));
        assert!(ranges.len() > 1);
        for range in ranges {
            pack("b", &shared(), &entries[range]).unwrap();
        }
    }

    #[test]
    fn many_types_do_not_burst_the_header() {
        let types: Vec<String> = (0..500).map(|i| format!("{}.{}{i}", "a".repeat(60), "b".repeat(60))).collect();
        let entries: Vec<Entry> = types.iter().map(|t| Entry { event_type: t.clone(), text: "{}".into() }).collect();
        let ranges = cut(&sent(&entries));
        assert!(ranges.len() > 10);
        for range in ranges {
            let header = serde_json::to_string(&pack("b", &shared(), &entries[range]).unwrap().header).unwrap();
            assert!(header.len() < HEADER_ROOM_BYTES, "{}", header.len());
        }
    }

    #[test]
    fn one_message_holds_at_most_32_types_so_that_a_sink_can_count_them_in_one_transaction() {
        let types: Vec<String> = (0..100).map(|i| format!("a.t{i}")).collect();
        for range in cut(&types.iter().map(|t| (b"{}".as_slice(), t.as_str())).collect::<Vec<_>>()) {
            assert!(range.len() <= MAX_TYPES, "{range:?}");
        }
    }

    #[test]
    fn the_publish_stands_in_header_and_body() {
        let packed = pack("b", &shared(), &entries(3, "")).unwrap().published_as("p-1");
        assert_eq!(read_header(&packed.body).unwrap(), packed.header);
        assert_eq!(unpack(&packed.body).unwrap().header.publish.as_deref(), Some("p-1"));
    }

    #[test]
    fn an_event_as_deep_as_ingest_takes_it_can_be_unpacked() {
        let deep = format!("{}1{}", "[".repeat(json::MAX_DEPTH - 1), "]".repeat(json::MAX_DEPTH - 1));
        for sent in [format!("{{\"data\":{deep}}}"), format!("{{\"foo\":{deep}}}")] {
            assert!(json::parse_str(&sent).is_ok());
        }
        let event =
            |tail: &str| format!(r#"{{"id":"1","source":"s","type":"t","time":"2026-11-21T10:00:00Z",{tail}}}"#);
        for text in [event(&format!("\"data\":{deep}")), event(&format!("\"extra\":{{\"foo\":{deep}}}"))] {
            let entry = Entry { event_type: "t".into(), text };
            let unpacked = unpack(&pack("b", &shared(), &[entry]).unwrap().body).unwrap();
            assert!(unpacked.events().unwrap()[0].is_ok());
        }
    }

    #[test]
    fn broken_messages_say_what_is_wrong() {
        let header = r#""v":1,"batch":"b","received":"2026-11-21T10:00:00Z","areas":[],"count":0,"types":{}"#;
        let code = |body: String| unpack(&body).and_then(|u| u.events().map(|_| ())).unwrap_err().code;
        assert_eq!(code("x".into()), "malformed_message");
        assert_eq!(code(format!("{{{header}}}")), "malformed_message");
        assert_eq!(code(format!("{{{header},\"zstd\":\"!\"}}")), "malformed_message");
        assert_eq!(code(format!("{{{header},\"zstd\":\"AAAA\"}}")), "malformed_message");
        assert_eq!(code(format!("{{{header},\"events\":{{}}}}")), "malformed_message");
        assert_eq!(code(format!("{{{header},\"events\":[]}}").replace("\"v\":1", "\"v\":2")), "unknown_encoding");
        let bomb = zstd::bulk::compress(&vec![b' '; MAX_UNPACKED_BYTES + 1], 1).unwrap();
        assert_eq!(code(format!("{{{header},\"zstd\":\"{}\"}}", STANDARD.encode(bomb))), "too_large");
    }

    #[test]
    fn a_broken_message_leaves_nothing_to_those_after_it() {
        let whole = pack("b", &shared(), &entries(200, "filler")).unwrap().body;
        let packed = serde_json::from_str::<serde_json::Value>(&whole).unwrap()["zstd"].as_str().unwrap().to_owned();
        let broken = whole.replace(&packed, &packed[..packed.len() / 8 * 4]);
        for _ in 0..2 {
            assert_eq!(unpack(&broken).unwrap_err().code, "malformed_message");
            assert_eq!(unpack(&whole).unwrap().events().unwrap().len(), 200);
        }
    }

    #[test]
    fn one_unreadable_event_leaves_its_neighbours() {
        let body = r#"{"v":1,"batch":"b","received":"2026-11-21T10:00:00Z","areas":[],"count":2,"types":{},"events":[{"id":"1"},{"id":"2","source":"s","type":"t","time":"2026-11-21T10:00:00Z"}]}"#;
        let unpacked = unpack(body).unwrap();
        let events = unpacked.events().unwrap();
        assert_eq!(events[0].as_ref().unwrap_err().0, r#"{"id":"1"}"#);
        assert_eq!(events[1].as_ref().unwrap().id, "2");
    }

    proptest! {
        #[test]
        fn packing_round_trips(count in 1usize..80, filler in "[a-zㄱ-ㅎ ]{0,60}") {
            let entries = entries(count, &filler);
            let packed = pack("batch", &shared(), &entries).unwrap();
            let unpacked = unpack(&packed.body).unwrap();
            prop_assert_eq!(&unpacked.header, &packed.header);
            for (event, entry) in unpacked.events().unwrap().into_iter().zip(&entries) {
                let mut text = String::new();
                event.unwrap().write(&mut text);
                prop_assert_eq!(&text, &entry.text);
            }
        }

        #[test]
        fn cuts_cover_everything_in_order(sizes in proptest::collection::vec(0usize..400_000, 0..40)) {
            let texts: Vec<Vec<u8>> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
            let ranges = cut(&texts.iter().map(|text| (text.as_slice(), "web.event")).collect::<Vec<_>>());
            let flat: Vec<usize> = ranges.iter().cloned().flatten().collect();
            prop_assert_eq!(flat, (0..sizes.len()).collect::<Vec<_>>());
            for range in ranges {
                prop_assert!(range.len() == 1 || sizes[range].iter().map(|s| s + EVENT_ROOM_BYTES).sum::<usize>() <= CUT_BYTES);
            }
        }

        #[test]
        fn nothing_is_more_than_new(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Novelty::new().of(&text) <= text.len());
        }

        #[test]
        fn unpacking_never_panics(body in "\\PC{0,200}") {
            let _ = unpack(&body);
        }
    }
}
