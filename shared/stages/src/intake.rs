//! How the sinks read queued messages: header, publish, events, what cannot be read, and how each is counted.

use crate::groups::{MAX_BATCH_ID_BYTES, MAX_COUNTERS};
use crate::item::Item;
use crate::ledger;
use crate::quarantine::Quarantined;
use sluice_domain::event::Event;
use sluice_domain::identity::hex_id;
use sluice_domain::message::{self, Header, MessageError, Unpacked};
use sluice_domain::schema::counted_as;
use sluice_domain::time::Timestamp;
use std::collections::BTreeMap;

/// A message whose events are unpacked, or why they cannot be.
pub(crate) struct Taken {
    /// Its position in the delivery.
    pub(crate) item: usize,
    pub(crate) header: Header,
    pub(crate) publish: String,
    pub(crate) received: Timestamp,
    unpacked: Result<Unpacked, MessageError>,
}

/// A message's events.
#[derive(Default)]
pub(crate) struct Read<'m> {
    /// Position in the message and event.
    pub(crate) events: Vec<(u32, Event<'m>)>,
    /// Position (`None` for the whole message), text, and why it cannot be read.
    unreadable: Vec<(Option<u32>, &'m str, MessageError)>,
    /// Counter rows.
    pub(crate) counted: BTreeMap<String, Counted>,
}

/// Events of one counter row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) stored: u64,
    pub(crate) quarantined: u64,
    pub(crate) duplicates: u64,
}

impl Taken {
    /// Takes a message; an error means that it does not even say which batch it is.
    pub(crate) fn new(position: usize, item: &Item) -> Result<Self, MessageError> {
        let malformed = |reason: String| MessageError { code: "malformed_message", reason };
        let header = message::read_header(&item.body)?;
        if !(1..=MAX_BATCH_ID_BYTES).contains(&header.batch.len()) {
            let bytes = header.batch.len();
            return Err(malformed(format!("`batch` has {bytes} bytes, allowed are 1 to {MAX_BATCH_ID_BYTES}")));
        }
        let received =
            Timestamp::parse_rfc3339(&header.received).ok_or_else(|| malformed("`received` is not RFC 3339".into()))?;
        let publish = ledger::publish_of(&header, &item.id).to_owned();
        Ok(Self { item: position, publish, received, unpacked: message::unpack(&item.body), header })
    }

    /// Bytes of its events' text.
    pub(crate) fn text_bytes(&self) -> usize {
        self.unpacked.as_ref().map_or(0, |unpacked| unpacked.text().len())
    }

    /// Parses the events. `body` is the whole message.
    pub(crate) fn read<'m>(&'m self, body: &'m str) -> Read<'m> {
        let events = match self.unpacked.as_ref().map_err(Clone::clone).and_then(Unpacked::events) {
            Ok(events) => events,
            Err(e) => return self.refuse_all(body, e),
        };
        let mut read = Read { events: Vec::with_capacity(events.len()), ..Read::default() };
        let mut by_type: BTreeMap<String, u64> = BTreeMap::new();
        for (position, event) in (0u32..).zip(events) {
            match event {
                Ok(event) => {
                    let name = counted_as(&event.event_type);
                    match by_type.get_mut(name) {
                        Some(n) => *n += 1,
                        None => _ = by_type.insert(name.to_owned(), 1),
                    }
                    read.events.push((position, event));
                }
                Err((text, e)) => read.unreadable.push((Some(position), text, e)),
            }
        }
        // The type of an unreadable event is what the header counts beyond the readable ones.
        let mut left = read.unreadable.len() as u64;
        for (name, n) in &self.header.types {
            let missing = n.saturating_sub(by_type.get(name).copied().unwrap_or(0)).min(left);
            if missing > 0 {
                read.counted.entry(ledger::counter(self.received, name)).or_default().quarantined += missing;
                left -= missing;
            }
        }
        if left > 0 {
            read.counted.entry(ledger::counter(self.received, "other")).or_default().quarantined += left;
        }
        for (name, n) in by_type {
            read.counted.entry(ledger::counter(self.received, &name)).or_default().stored += n;
        }
        if read.counted.len() > MAX_COUNTERS {
            let reason = format!("a message has at most {MAX_COUNTERS} types, this one {}", read.counted.len());
            return self.refuse_all(body, MessageError { code: "too_large", reason });
        }
        read
    }

    /// The whole message goes to quarantine, and with it each event that its header counts.
    pub(crate) fn refuse_all<'m>(&self, body: &'m str, error: MessageError) -> Read<'m> {
        let mut read = Read { unreadable: vec![(None, body, error)], ..Read::default() };
        for (name, n) in self.header.types.iter().take(MAX_COUNTERS) {
            read.counted.entry(ledger::counter(self.received, name)).or_default().quarantined += n;
        }
        read
    }

    /// What of it cannot be read, on its way to quarantine. All sinks give it the same ids, so that it is kept once.
    pub(crate) fn unreadable(&self, origin: &str, read: &Read<'_>) -> Vec<Quarantined> {
        let one = |(position, text, e): &(Option<u32>, &str, MessageError)| {
            self.refuse(origin, *position, e.code, &e.reason, text)
        };
        read.unreadable.iter().map(one).collect()
    }

    /// An event (or the whole message) on its way to quarantine.
    pub(crate) fn refuse(
        &self,
        origin: &str,
        position: Option<u32>,
        code: &str,
        reason: &str,
        text: &str,
    ) -> Quarantined {
        let place = position.map_or_else(|| "all".to_owned(), |n| n.to_string());
        let mut record = Quarantined::new(origin, &[], code, reason, self.received, text.as_bytes().to_vec());
        record.id = hex_id(&[self.header.batch.as_bytes(), place.as_bytes()]);
        record
    }
}

/// A body that does not even say which batch it is, on its way to quarantine.
pub(crate) fn refuse_unknown(origin: &str, body: &str, error: &MessageError, now: Timestamp) -> Quarantined {
    let mut record = Quarantined::new(origin, &[], error.code, &error.reason, now, body.as_bytes().to_vec());
    record.id = hex_id(&[body.as_bytes()]);
    record
}
