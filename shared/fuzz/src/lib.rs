//! What must hold of any bytes. `fuzz/` looks for some of which it does not hold, and the kept ones are a test (`tests/corpus.rs`).
//!
//! Each function panics where something does not hold. None of them knows a port, a clock or a file.

// A panic is how a fuzz target says what it found.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(feature = "decoder")]
mod decoder;

#[cfg(feature = "decoder")]
pub use decoder::{decoder, quick_events};

use sluice_domain::accept::Acceptor;
use sluice_domain::event::{Acceptance, Clock, Event, Shared};
use sluice_domain::json::{self, Value};
use sluice_domain::message::{self, MAX_EVENT_DEPTH, Unpacked};
use sluice_domain::schema::Registry;
use sluice_domain::time::Timestamp;
use sluice_stages::index::documents::Documents;
use sluice_statement::Spellings;
use std::sync::LazyLock;

/// A target: its name, as its folder under `fuzz/corpus` has it, and what it does with some bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    #[cfg(feature = "decoder")]
    ("decoder", decoder),
    ("envelope", envelope),
    ("message", message),
    ("statement", statement),
];

/// A schema with a column of every kind.
const KINDS: &str = include_str!("kinds.json");

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    Registry::load([("event.json", include_str!("../../../schemas/event.json")), ("kinds.json", KINDS)]).unwrap()
});

/// An event from outside that is accepted the quick way is accepted by the slow one, and written alike; what is written reads back.
pub fn envelope(bytes: &[u8]) {
    let context = Acceptance {
        received: Timestamp::from_micros(1_795_255_200_000_000).unwrap(),
        zone: "Asia/Seoul".parse().unwrap(),
        default_source: Some("the \"key\""),
        default_type: None,
        max_age_days: Some(400),
        registry: &REGISTRY,
    };
    let new_id = || "new".to_owned();
    let mut quick = String::new();
    let sent = json::text(bytes).ok().and_then(|text| Acceptor::new(context).accept(text, new_id, &mut quick));
    let accepted = json::parse(bytes).ok().and_then(|node| Event::accept(node, &context, new_id).ok());
    let Some((event, clock)) = accepted else {
        assert_eq!((sent, quick.as_str()), (None, ""), "it was not acceptable");
        return;
    };
    let mut slow = String::new();
    event.write(&mut slow);
    if let Some(sent) = sent {
        assert_eq!((&quick, clock), (&slow, Clock::Kept));
        let node = json::parse(bytes).unwrap();
        let member = |name: &str| node.as_object().and_then(|object| object.get(name));
        assert_eq!(sent.id, member("id").and_then(|node| node.as_str()));
        assert_eq!(sent.source, member("source").and_then(|node| node.as_str()));
        assert_eq!(Some(sent.event_type), member("type").and_then(|node| node.as_str()));
        assert_eq!(sent.time, member("time").filter(|node| node.value != Value::Null).map(|node| node.raw));
    } else {
        assert_eq!(quick, "");
    }
    let again = Event::read(json::parse_within(&slow, MAX_EVENT_DEPTH).unwrap(), &Shared::default()).unwrap();
    let mut twice = String::new();
    again.write(&mut twice);
    assert_eq!(slow, twice);
}

/// A message's body is unpacked or refused; its documents are the same by the quick reader and by the slow one.
pub fn message(bytes: &[u8]) {
    let Ok(body) = std::str::from_utf8(bytes) else { return };
    if let Ok(again) = message::as_replay(body) {
        assert!(message::read_header(&again).unwrap().replay);
    }
    let Ok(unpacked) = message::unpack(body) else { return };
    assert_eq!(message::read_header(body).unwrap(), unpacked.header);
    documents(&unpacked);
}

fn documents(unpacked: &Unpacked) {
    let place = |name: &str| {
        let schema = REGISTRY.resolve(name);
        (schema.table.as_str(), schema)
    };
    let mut quick = Documents::new(&unpacked.shared(), place);
    let (Ok(events), Some(quick_unreadable)) = (unpacked.events(), quick.read(unpacked)) else {
        assert!(unpacked.events().is_err(), "the quick reader knows no list where there is one");
        return;
    };
    let (mut slow, mut unreadable) = (Documents::new(&unpacked.shared(), place), Vec::new());
    for (position, event) in (0u32..).zip(events) {
        match event {
            Ok(event) => slow.push(position, &event),
            Err((text, e)) => unreadable.push((position, text, e)),
        }
    }
    assert_eq!(quick_unreadable, unreadable);
    assert!(quick.event_types().eq(slow.event_types()));
    assert_eq!(quick.finish(), slow.finish());
}

/// A statement is read or refused, and the text that Athena gets reads as the same statement.
pub fn statement(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut spellings = Spellings::default();
    ["memberId", "e_c", "time", "both", "BOTH"].into_iter().for_each(|name| spellings.add(name));
    let parameters = [serde_json::json!("it's"), serde_json::json!(-1.5), serde_json::Value::Null];
    let _ = sluice_statement::read(text, &parameters, &spellings);
    if let Ok(standard) = sluice_statement::standard_text(text, &parameters) {
        let read = |text: &str, parameters: &[serde_json::Value]| {
            sluice_statement::read(text, parameters, &Spellings::default()).unwrap()
        };
        // A name in other quotes gets standard ones, which is another tree.
        if !text.contains('`') {
            assert_eq!(read(&standard, &[]), read(text, &parameters));
        }
        assert_eq!(sluice_statement::standard_text(&standard, &[]).unwrap(), standard);
    }
}
