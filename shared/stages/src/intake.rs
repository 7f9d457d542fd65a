//! How the sinks read a delivery: slice by slice, and of each message header, publish, events, what cannot be read, and how each is counted.

use crate::groups::{MAX_BATCH_ID_BYTES, MAX_COUNTERS};
use crate::item::{Item, Outcome};
use crate::ledger::{self, Fate, Sink};
use crate::quarantine::{self, Quarantined};
use serde::{Deserialize, Serialize};
use sluice_domain::event::{Event, Shared};
use sluice_domain::identity::hex_id;
use sluice_domain::message::{self, Header, MessageError, Unpacked};
use sluice_domain::schema::counted_as;
use sluice_domain::time::Timestamp;
use sluice_ports::Queue;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// A delivery that is taken slice by slice, until nothing or no time is left. Of several messages of one batch only the first is taken.
pub(crate) struct Slices<'i> {
    items: &'i [Item],
    next: usize,
    started: Instant,
    budget_ms: u32,
    first: HashMap<String, usize>,
    again: Vec<(usize, usize, Header)>,
}

/// Messages that are worked on together.
#[derive(Default)]
pub(crate) struct Slice {
    /// Messages by their order in the delivery.
    pub(crate) taken: Vec<Taken>,
    /// Positions of bodies that do not even say which batch they are, and why.
    pub(crate) unknown: Vec<(usize, MessageError)>,
    /// Microseconds from the beginning of the delivery to that of the slice.
    pub(crate) after_us: i64,
}

/// What a message says of itself.
pub(crate) struct Head {
    pub(crate) header: Header,
    pub(crate) publish: String,
    pub(crate) received: Timestamp,
}

/// A message whose events are unpacked, or why they cannot be.
pub(crate) struct Taken {
    /// Its position in the delivery.
    pub(crate) item: usize,
    pub(crate) head: Head,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counted {
    pub(crate) stored: u64,
    pub(crate) quarantined: u64,
    pub(crate) duplicates: u64,
    /// Those of a replay: they leave quarantine with this delivery.
    pub(crate) returned: u64,
}

impl Counted {
    /// Adds what is counted in another message.
    pub(crate) fn add(&mut self, other: &Self) {
        self.stored += other.stored;
        self.quarantined += other.quarantined;
        self.duplicates += other.duplicates;
        self.returned += other.returned;
    }

    /// What a sink's counter row gets: fields that are not 0.
    pub(crate) fn fields(&self, sink: Sink) -> Vec<(Sink, Fate, u64)> {
        let fields = [
            (Fate::Stored, self.stored),
            (Fate::Quarantined, self.quarantined),
            (Fate::Duplicate, self.duplicates),
            (Fate::Returned, self.returned),
        ];
        fields.into_iter().filter(|(_, n)| *n > 0).map(|(fate, n)| (sink, fate, n)).collect()
    }
}

impl Read<'_> {
    /// Whether the whole message goes to quarantine.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.unreadable.first(), Some((None, ..)))
    }

    /// An event that was readable goes to quarantine; `name` is what it is counted under.
    pub(crate) fn move_to_quarantine(&mut self, head: &Head, name: &str) {
        if let Some(counted) = self.counted.get_mut(&ledger::counter(head.received, name)) {
            counted.stored = counted.stored.saturating_sub(1);
            counted.quarantined += 1;
        }
    }
}

impl<'i> Slices<'i> {
    /// After `budget_ms` milliseconds no further slice is begun.
    pub(crate) fn new(items: &'i [Item], budget_ms: u32) -> Self {
        let (started, first, again) = (Instant::now(), HashMap::new(), Vec::new());
        Self { items, next: 0, started, budget_ms, first, again }
    }

    /// The next slice: at most `messages`, and full when their texts together reach `bytes`.
    pub(crate) fn next(&mut self, messages: usize, bytes: usize) -> Option<Slice> {
        let elapsed = self.started.elapsed();
        if self.next == self.items.len() || elapsed.as_millis() > u128::from(self.budget_ms) {
            return None;
        }
        let after_us = i64::try_from(elapsed.as_micros()).unwrap_or(0);
        let (mut slice, mut sum) = (Slice { after_us, ..Slice::default() }, 0);
        while self.next < self.items.len() && slice.taken.len() < messages && sum < bytes {
            let position = self.next;
            self.next += 1;
            match Taken::new(position, &self.items[position]) {
                Err(e) => slice.unknown.push((position, e)),
                Ok(taken) => match self.first.get(&taken.head.header.batch) {
                    Some(earlier) => self.again.push((position, *earlier, taken.head.header)),
                    None => {
                        self.first.insert(taken.head.header.batch.clone(), position);
                        sum += taken.text_bytes();
                        slice.taken.push(taken);
                    }
                },
            }
        }
        Some(slice)
    }

    /// Messages whose batch came before in this delivery follow what became of the first. Where that is done, they are answered here, since
    /// another publish of the batch has to be counted.
    pub(crate) fn followers(self, outcomes: &mut [Option<Outcome>]) -> Vec<(usize, Header)> {
        let mut done = Vec::new();
        for (position, earlier, header) in self.again {
            match &outcomes[earlier] {
                Some(Outcome::Done) => done.push((position, header)),
                other => outcomes[position] = other.clone(),
            }
        }
        done
    }
}

/// One outcome per message: what no slice took is given back.
pub(crate) fn finished(outcomes: Vec<Option<Outcome>>) -> Vec<Outcome> {
    let outcome = |outcome: Option<Outcome>| outcome.unwrap_or_else(|| retry("no time was left for it"));
    outcomes.into_iter().map(outcome).collect()
}

/// The message has to come again.
pub(crate) fn retry(why: &str) -> Outcome {
    Outcome::Retry(why.to_owned())
}

impl Head {
    /// Reads the header of a message; an error means that it does not even say which batch it is.
    pub(crate) fn read(item: &Item) -> Result<Self, MessageError> {
        Self::of(message::read_header(&item.body)?, item)
    }

    fn of(header: Header, item: &Item) -> Result<Self, MessageError> {
        let malformed = |reason: String| MessageError { code: "malformed_message", reason };
        if !(1..=MAX_BATCH_ID_BYTES).contains(&header.batch.len()) {
            let bytes = header.batch.len();
            return Err(malformed(format!("`batch` has {bytes} bytes, allowed are 1 to {MAX_BATCH_ID_BYTES}")));
        }
        let received =
            Timestamp::parse_rfc3339(&header.received).ok_or_else(|| malformed("`received` is not RFC 3339".into()))?;
        let publish = ledger::publish_of(&header, &item.id).to_owned();
        Ok(Self { header, publish, received })
    }

    fn shared(&self) -> Shared<'_> {
        Shared {
            received: self.received,
            client_ip: self.header.clientip.as_deref().map(Cow::Borrowed),
            user_agent: self.header.useragent.as_deref().map(Cow::Borrowed),
        }
    }

    /// An event (or the whole message) on its way to quarantine. Each sink keeps it by itself, so that each can be given it again.
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
        record.id = hex_id(&[origin.as_bytes(), self.header.batch.as_bytes(), place.as_bytes()]);
        record.client_ip.clone_from(&self.header.clientip);
        record.user_agent.clone_from(&self.header.useragent);
        record
    }
}

impl Taken {
    fn new(position: usize, item: &Item) -> Result<Self, MessageError> {
        // A body that can be unpacked, which is nearly every one, is gone through once.
        let unpacked = message::unpack(&item.body);
        let head = match &unpacked {
            Ok(unpacked) => Head::of(unpacked.header.clone(), item)?,
            Err(_) => Head::read(item)?,
        };
        Ok(Self { item: position, head, unpacked })
    }

    /// Bytes of its events' text.
    pub(crate) fn text_bytes(&self) -> usize {
        self.unpacked.as_ref().map_or(0, |unpacked| unpacked.text().len())
    }

    /// Its events, unpacked but not parsed; nothing where they cannot be unpacked.
    pub(crate) fn unpacked(&self) -> Option<&Unpacked> {
        self.unpacked.as_ref().ok()
    }

    /// What its events share.
    pub(crate) fn shared(&self) -> Shared<'_> {
        self.head.shared()
    }

    /// Parses the events. `body` is the whole message.
    pub(crate) fn read<'m>(&'m self, body: &'m str) -> Read<'m> {
        let events = match self.unpacked.as_ref().map_err(Clone::clone).and_then(Unpacked::events) {
            Ok(events) => events,
            Err(e) => return self.refuse_all(body, e),
        };
        let mut all = Vec::with_capacity(events.len());
        let mut unreadable = Vec::new();
        let mut types: BTreeMap<String, Counted> = BTreeMap::new();
        for (position, event) in (0u32..).zip(events) {
            match event {
                Ok(event) => {
                    let name = counted_as(&event.event_type);
                    match types.get_mut(name) {
                        Some(n) => n.stored += 1,
                        None => _ = types.insert(name.to_owned(), Counted { stored: 1, ..Counted::default() }),
                    }
                    all.push((position, event));
                }
                Err((text, e)) => unreadable.push((position, text, e)),
            }
        }
        let mut read = self.count(body, types, unreadable);
        if !read.is_refused() {
            read.events = all;
        }
        read
    }

    /// How the events of a message count: `types` by the names that [`counted_as`] gives, and those that cannot be read, with position and
    /// text.
    pub(crate) fn count<'m>(
        &self,
        body: &'m str,
        types: BTreeMap<String, Counted>,
        unreadable: Vec<(u32, &'m str, MessageError)>,
    ) -> Read<'m> {
        let mut read = Read::default();
        // The type of an unreadable event is what the header counts beyond the readable ones.
        let mut left = unreadable.len() as u64;
        for (name, n) in &self.head.header.types {
            let readable = types.get(name).map_or(0, |n| n.stored + n.quarantined);
            let missing = n.saturating_sub(readable).min(left);
            if missing > 0 {
                read.counted.entry(ledger::counter(self.head.received, name)).or_default().quarantined += missing;
                left -= missing;
            }
        }
        if left > 0 {
            read.counted.entry(ledger::counter(self.head.received, "other")).or_default().quarantined += left;
        }
        for (name, n) in types {
            let counted = read.counted.entry(ledger::counter(self.head.received, &name)).or_default();
            counted.stored += n.stored;
            counted.quarantined += n.quarantined;
        }
        if read.counted.len() > MAX_COUNTERS {
            let reason = format!("a message has at most {MAX_COUNTERS} types, this one {}", read.counted.len());
            return self.refuse_all(body, MessageError { code: "too_large", reason });
        }
        read.unreadable = unreadable.into_iter().map(|(position, text, e)| (Some(position), text, e)).collect();
        self.mark_returned(read)
    }

    /// Counts the events of a replay as returned.
    fn mark_returned<'m>(&self, mut read: Read<'m>) -> Read<'m> {
        if self.head.header.replay {
            read.counted.values_mut().for_each(|n| n.returned = n.stored + n.quarantined);
        }
        read
    }

    /// The whole message goes to quarantine, and with it each event that its header counts.
    pub(crate) fn refuse_all<'m>(&self, body: &'m str, error: MessageError) -> Read<'m> {
        let mut read = Read { unreadable: vec![(None, body, error)], ..Read::default() };
        for (name, n) in self.head.header.types.iter().take(MAX_COUNTERS) {
            read.counted.entry(ledger::counter(self.head.received, name)).or_default().quarantined += n;
        }
        self.mark_returned(read)
    }

    /// What of it cannot be read, on its way to quarantine.
    pub(crate) fn unreadable(&self, origin: &str, read: &Read<'_>) -> Vec<Quarantined> {
        let one = |(position, text, e): &(Option<u32>, &str, MessageError)| {
            self.head.refuse(origin, *position, e.code, &e.reason, text)
        };
        read.unreadable.iter().map(one).collect()
    }
}

/// Sends bodies that do not even say which batch they are to quarantine. Answers what becomes of each, by its position.
pub(crate) async fn refuse_unknown(
    origin: &str,
    queue: &dyn Queue,
    items: &[Item],
    unknown: &[(usize, MessageError)],
    now: Timestamp,
) -> Vec<(usize, Outcome)> {
    let record = |(position, e): &(usize, MessageError)| {
        let body = items[*position].body.as_bytes();
        let mut record = Quarantined::new(origin, &[], e.code, &e.reason, now, body.to_vec());
        record.id = hex_id(&[body]);
        record
    };
    let records: Vec<Quarantined> = unknown.iter().map(record).collect();
    let mut results = quarantine::send_all(queue, &records).await.into_iter();
    let outcome = |(position, _): &(usize, MessageError)| {
        let outcome = match results.next() {
            Some(Ok(())) => Outcome::Done,
            Some(Err(e)) => retry(&e.to_string()),
            None => retry("the quarantine queue gave no answer"),
        };
        (*position, outcome)
    };
    unknown.iter().map(outcome).collect()
}
