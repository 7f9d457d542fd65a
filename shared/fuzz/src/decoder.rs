//! `convert`'s two readers of a message's events.

use crate::REGISTRY;
use sluice_columnar::ParquetEncoder;
use sluice_domain::event::{Event, Shared};
use sluice_domain::json::{self, Value};
use sluice_domain::lake::{Encoder, Misfit, TableBuilder};
use sluice_domain::message::{MAX_EVENT_DEPTH, MessageError};
use sluice_domain::scan::{Events, place};
use sluice_domain::schema::{GENERIC_TYPE, Schema};
use sluice_domain::time::Timestamp;

/// The type that has a column of every kind.
const TYPE: &str = "test.kinds";

/// What becomes of a message in `convert`: its file, and its events that are not in it.
#[derive(Debug, PartialEq)]
struct Rows {
    file: Option<Vec<u8>>,
    misfits: Vec<(usize, Misfit)>,
    unreadable: Vec<(usize, String, MessageError)>,
}

impl Rows {
    fn of(
        table: &dyn TableBuilder,
        misfits: Vec<(usize, Misfit)>,
        unreadable: Vec<(usize, String, MessageError)>,
    ) -> Self {
        let rows: Vec<u32> = (0..table.rows()).collect();
        let file = (!rows.is_empty()).then(|| table.encode(&rows).unwrap().bytes);
        Self { file, misfits, unreadable }
    }
}

/// The text of a message's events becomes the same rows, or the same refusal, by the quick reader and by the slow one.
pub fn decoder(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in [TYPE, GENERIC_TYPE] {
        let schema = REGISTRY.resolve(name);
        if let Some(quick) = quick_rows(schema, text) {
            assert_eq!(Some(quick), slow_rows(schema, text));
        } else {
            assert_eq!(None, slow_rows(schema, text));
        }
    }
}

fn shared() -> Shared<'static> {
    Shared { received: Timestamp::default(), client_ip: Some("10.0.0.0".into()), user_agent: None }
}

fn quick_rows(schema: &Schema, text: &str) -> Option<Rows> {
    let shared = shared();
    let mut table = ParquetEncoder::new().table(schema).unwrap();
    let (mut misfits, mut unreadable) = (Vec::new(), Vec::new());
    let (mut events, mut position) = (Events::new(text, &shared), 0);
    while events.advance()? {
        if !events.head().is_some_and(|(head, cursor)| table.push_text(head, cursor)) {
            match events.event()? {
                (raw, Err(e)) => unreadable.push((position, raw.to_owned(), e.into())),
                (_, Ok(event)) => misfits.extend(table.push(&event).err().map(|misfit| (position, misfit))),
            }
        }
        position += 1;
    }
    Some(Rows::of(table.as_ref(), misfits, unreadable))
}

fn slow_rows(schema: &Schema, text: &str) -> Option<Rows> {
    let shared = shared();
    let Value::Array(nodes) = json::parse_within(text, MAX_EVENT_DEPTH).ok()?.value else { return None };
    let mut table = ParquetEncoder::new().table(schema).unwrap();
    let (mut misfits, mut unreadable) = (Vec::new(), Vec::new());
    for (position, node) in nodes.into_iter().enumerate() {
        let raw = node.raw;
        match Event::read(node, &shared) {
            Err(e) => unreadable.push((position, raw.to_owned(), e.into())),
            Ok(event) => misfits.extend(table.push(&event).err().map(|misfit| (position, misfit))),
        }
    }
    Some(Rows::of(table.as_ref(), misfits, unreadable))
}

/// How many of a message's events are read the quick way: a corpus of texts that never are would test nothing.
pub fn quick_events(text: &str) -> usize {
    let (shared, mut count) = (shared(), 0);
    let mut table = ParquetEncoder::new().table(REGISTRY.resolve(TYPE)).unwrap();
    let mut events = Events::new(text, &shared);
    while events.advance() == Some(true) {
        let quick = events
            .head()
            .is_some_and(|(head, cursor)| head.texts[place::TYPE].is_some() && table.push_text(head, cursor));
        if !quick && events.event().is_none() {
            break;
        }
        count += usize::from(quick);
    }
    count
}
