//! The desk: what an operator does with what lies in quarantine. Look, count, repair, replay.
//!
//! A record is named by its handle, `YYYY-MM-DD/id`: the day of its receive time and its id. Its bytes are never changed: a repair stands
//! beside them. A replay goes to whoever refused the bytes: through ingest's checks to the topic, or as a message to the one sink that
//! kept them, since the others have the event. Batch ids come from the record's id, so a replay that is done twice is stored once, and the
//! row `("replayed", id)` says that it was done; it is written in one transaction with what leaves the count of rejections.

use super::{Quarantined, is_id};
use crate::access::{KeyRecord, Keys};
use crate::ingest::{Ingest, Replayed};
use crate::ledger;
use crate::rows::write_once;
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_domain::event::{Event, Shared};
use sluice_domain::identity;
use sluice_domain::json as strict;
use sluice_domain::message::{self, Entry};
use sluice_domain::schema::Registry;
use sluice_domain::time::Timestamp;
use sluice_ports::{ErrorKind, Item, Key, Message, Objects, PortError, PutMode, Queue, Table, Write};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Partition of the rows that say what was replayed. They do not expire: the objects may outlive every other row.
const REPLAYED: &str = "replayed";
/// What all keys of objects in quarantine begin with.
const PREFIX: &str = "quarantine/dt=";
/// Objects listed, and rows read, at once.
const PAGE: usize = 100;
/// Objects read at the same time.
const CONCURRENT_GETS: usize = 16;
/// Objects that one call looks at; what is left is told as `next`.
pub const MAX_SCANNED: usize = 2_000;
/// Records that one call answers or works on.
pub const MAX_RECORDS: usize = 500;
/// Largest repaired text.
pub const MAX_REPAIR_BYTES: usize = 4 * 1024 * 1024;

/// What the desk works with.
pub struct DeskPorts {
    /// Where the records lie.
    pub objects: Arc<dyn Objects>,
    /// What was replayed, and the counters.
    pub table: Arc<dyn Table>,
    /// The keys: an event without a source gets it from the key that sent it.
    pub keys: Arc<Keys>,
    /// Takes in again what ingest has rejected.
    pub ingest: Arc<Ingest>,
    /// The queue of each stage that keeps bytes, by its name: `convert`, `index`, `detect`, `notify`. A stage that is switched off is
    /// not here.
    pub queues: BTreeMap<String, Arc<dyn Queue>>,
}

/// The desk.
pub struct Desk {
    ports: DeskPorts,
    registry: Arc<Registry>,
}

/// Which records; what is not said is any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Select {
    /// First day of receive time, `YYYY-MM-DD`.
    pub from: Option<String>,
    /// Last day of receive time.
    pub to: Option<String>,
    /// The reason's code, for example `schema`.
    pub code: Option<String>,
    /// The stage that kept it.
    pub origin: Option<String>,
    /// Id of the key that sent it.
    pub key: Option<String>,
    /// Type, as it is counted.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// What was done with it.
    pub state: Option<State>,
}

/// What was done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing.
    Open,
    /// It has a repair, and was not sent again.
    Repaired,
    /// It was sent again.
    Replayed,
}

impl State {
    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Open, Self::Repaired, Self::Replayed].into_iter().find(|state| state.name() == name)
    }

    /// Its name in replies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Repaired => "repaired",
            Self::Replayed => "replayed",
        }
    }
}

/// A record as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `YYYY-MM-DD/id`.
    pub handle: String,
    /// The record.
    pub record: Quarantined,
    /// When it was replayed, RFC 3339.
    pub replayed: Option<String>,
}

impl Found {
    /// What was done with it.
    pub fn state(&self) -> State {
        match (&self.replayed, &self.record.repaired) {
            (Some(_), _) => State::Replayed,
            (None, Some(_)) => State::Repaired,
            (None, None) => State::Open,
        }
    }

    /// The bytes that a replay takes.
    pub fn bytes(&self) -> &[u8] {
        self.record.repaired.as_deref().unwrap_or(&self.record.bytes)
    }
}

/// Some of the records that were asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The records, by day and id.
    pub found: Vec<Found>,
    /// Where to go on, where there may be more.
    pub next: Option<String>,
}

/// What a replay made of a record, or would make of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is on its way: how many events of each type.
    Sent(BTreeMap<String, u64>),
    /// It was sent before, and is not sent again.
    AlreadySent(String),
    /// It is still refused: `{"index", "pointer", "code", "reason"}` each.
    Refused(Vec<Value>),
    /// There is no such record.
    Missing,
}

impl Outcome {
    fn refused(pointer: &str, code: &str, reason: impl Into<String>) -> Self {
        Self::Refused(vec![json!({"index": 0, "pointer": pointer, "code": code, "reason": reason.into()})])
    }
}

/// What goes to a sink again.
struct Again {
    body: String,
    types: BTreeMap<String, u64>,
}

impl Desk {
    /// A desk over these ports.
    pub fn new(ports: DeskPorts, registry: Arc<Registry>) -> Self {
        Self { ports, registry }
    }

    /// Records by day and id, strictly after the handle `after`, at most `limit`. A handle or day that is none is
    /// [`ErrorKind::Invalid`].
    pub async fn list(&self, select: &Select, after: Option<&str>, limit: usize) -> Result<Page, PortError> {
        let limit = limit.clamp(1, MAX_RECORDS);
        let mut after = self.start(select, after)?;
        let (mut page, mut scanned) = (Page::default(), 0);
        loop {
            let keys = self.ports.objects.list(PREFIX, after.as_deref(), PAGE).await?;
            let Some(last) = keys.last().map(|meta| meta.key.clone()) else { return Ok(page) };
            scanned += keys.len();
            let keys: Vec<String> = keys.into_iter().map(|meta| meta.key).collect();
            let beyond = |key: &String| select.to.as_deref().is_some_and(|to| day_of(key) > to);
            let is_end = keys.iter().any(beyond);
            let wanted: Vec<&String> = keys.iter().filter(|key| !beyond(key)).collect();
            for found in self.read(&wanted).await? {
                if !select.takes(&found) {
                    continue;
                }
                if page.found.len() == limit {
                    page.next = page.found.last().map(|last| last.handle.clone());
                    return Ok(page);
                }
                page.found.push(found);
            }
            if is_end {
                return Ok(page);
            }
            if scanned >= MAX_SCANNED {
                page.next = handle_of(&last);
                return Ok(page);
            }
            after = Some(last);
        }
    }

    /// The record with this handle; `None` where there is none.
    pub async fn get(&self, handle: &str) -> Result<Option<Found>, PortError> {
        let key = key_of(handle)?;
        Ok(self.read(&[&key]).await?.pop())
    }

    /// Puts a text in the place of a record's bytes, which stay beside it. `None` where there is no such record; one that was replayed is
    /// [`ErrorKind::Conflict`].
    pub async fn repair(&self, handle: &str, text: &str) -> Result<Option<Found>, PortError> {
        let Some(mut found) = self.get(handle).await? else { return Ok(None) };
        if text.len() > MAX_REPAIR_BYTES {
            let what = format!("a repaired text has at most {MAX_REPAIR_BYTES} bytes, not {}", text.len());
            return Err(PortError::new(ErrorKind::TooLarge, "quarantine.repair", what));
        }
        if found.replayed.is_some() {
            let what = format!("`{handle}` was sent again already");
            return Err(PortError::new(ErrorKind::Conflict, "quarantine.repair", what));
        }
        found.record.repaired = Some(text.as_bytes().to_vec());
        let (key, bytes) = found.record.object();
        self.ports.objects.put(&key, bytes, PutMode::Overwrite).await?;
        Ok(Some(found))
    }

    /// Sends a record again; with `dry_run` only says what would become of it. `text` stands for its bytes where it is given, for looking at
    /// a repair before it is made.
    pub async fn replay(
        &self,
        handle: &str,
        text: Option<&str>,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<Outcome, PortError> {
        let Some(found) = self.get(handle).await? else { return Ok(Outcome::Missing) };
        self.send(&found, text.map(str::as_bytes), dry_run, now).await
    }

    /// Like [`Self::replay`], of a record at hand.
    pub async fn send(
        &self,
        found: &Found,
        bytes: Option<&[u8]>,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<Outcome, PortError> {
        if let Some(at) = &found.replayed {
            return Ok(Outcome::AlreadySent(at.clone()));
        }
        let record = &found.record;
        if record.truncated && record.repaired.is_none() && bytes.is_none() {
            let reason = format!("only the first {} of its {} bytes are here", record.bytes.len(), record.size_bytes);
            return Ok(Outcome::refused("", "truncated", reason));
        }
        let bytes = bytes.unwrap_or(found.bytes());
        if record.origin == "ingest" {
            return self.to_ingest(record, bytes, dry_run, now).await;
        }
        let again = match self.again(record, bytes) {
            Ok(again) => again,
            Err(refused) => return Ok(refused),
        };
        let Some(queue) = self.ports.queues.get(&record.origin) else {
            let reason = format!("there is no queue of `{}` here: it is switched off, or takes nothing", record.origin);
            return Ok(Outcome::refused("", "no_queue", reason));
        };
        if !dry_run {
            let events = again.types.values().sum();
            let message = Message { body: again.body, events, ..Message::default() };
            queue.send(vec![message]).await.into_iter().collect::<Result<(), PortError>>()?;
            self.mark(record, now, Vec::new()).await?;
        }
        Ok(Outcome::Sent(again.types))
    }

    async fn to_ingest(
        &self,
        record: &Quarantined,
        bytes: &[u8],
        dry_run: bool,
        now: Timestamp,
    ) -> Result<Outcome, PortError> {
        let key = self.key(record).await?;
        match self.ports.ingest.replay(record, bytes, key.as_ref(), dry_run).await? {
            Replayed::Rejected(errors) => Ok(Outcome::Refused(errors)),
            Replayed::Taken(types) => {
                if !dry_run {
                    let rejected = record.event_type.as_deref().map(|name| ledger::rejected(record.received, name, 1));
                    let writes = rejected.map(|tally| Write::Add {
                        key: Key::new(ledger::PARTITION, tally.counter),
                        deltas: vec![(tally.field, -tally.by)],
                        expires_at: None,
                    });
                    self.mark(record, now, writes.into_iter().collect()).await?;
                }
                Ok(Outcome::Sent(types))
            }
        }
    }

    /// The key that sent a record, revoked or not.
    async fn key(&self, record: &Quarantined) -> Result<Option<KeyRecord>, PortError> {
        let Some(id) = &record.key else { return Ok(None) };
        Ok(self.ports.keys.list().await?.into_iter().find(|key| key.id == *id))
    }

    /// The message for a sink: the one that was refused as a whole, or a new one around the event that was.
    fn again(&self, record: &Quarantined, bytes: &[u8]) -> Result<Again, Outcome> {
        let malformed = |reason: String| Outcome::refused("", "malformed_message", reason);
        let text = std::str::from_utf8(bytes).map_err(|e| malformed(format!("not UTF-8: {e}")))?;
        if let Ok(unpacked) = message::unpack(text) {
            if let Some((raw, error)) =
                unpacked.events().map_err(|e| malformed(e.reason))?.into_iter().find_map(Result::err)
            {
                return Err(malformed(format!("{error}: {}", raw.chars().take(80).collect::<String>())));
            }
            // What could not say which batch it is was never counted, so nothing of it leaves the count.
            let was_counted = message::read_header(&String::from_utf8_lossy(&record.bytes)).is_ok();
            let body = if was_counted { message::as_replay(text) } else { Ok(text.to_owned()) };
            return Ok(Again { body: body.map_err(|e| malformed(e.reason))?, types: unpacked.header.types });
        }
        let shared = Shared {
            received: record.received,
            client_ip: record.client_ip.as_deref().map(Cow::Borrowed),
            user_agent: record.user_agent.as_deref().map(Cow::Borrowed),
        };
        let node = strict::parse_str(text).map_err(|e| malformed(format!("neither a message nor an event: {e}")))?;
        let event = Event::read(node, &shared).map_err(|v| Outcome::refused(&v.pointer, v.code, v.reason))?;
        event.check_data(&self.registry).map_err(|v| Outcome::refused(&v.pointer, v.code, v.reason))?;
        let mut text = String::new();
        event.write(&mut text);
        let batch = identity::hex_id(&[b"replay", record.id.as_bytes()]);
        let entry = Entry { event_type: event.event_type.to_string(), text };
        let packed = message::pack(&batch, &shared, &[entry]).map_err(|e| Outcome::refused("", e.code, e.reason))?;
        let types = packed.header.types.clone();
        let body = message::as_replay(&packed.published_as(&batch).body).map_err(|e| malformed(e.reason))?;
        Ok(Again { body, types })
    }

    /// Records that a replay was done, once, together with these counters.
    async fn mark(&self, record: &Quarantined, now: Timestamp, counters: Vec<Write>) -> Result<(), PortError> {
        let (key, value) = (Key::new(REPLAYED, &record.id), json!({"at": now.to_micros_text()}));
        write_once(self.ports.table.as_ref(), key, value, None, counters.into_iter()).await.map(drop)
    }

    /// Where a listing begins: after a handle, or before the first day.
    fn start(&self, select: &Select, after: Option<&str>) -> Result<Option<String>, PortError> {
        for day in [&select.from, &select.to].into_iter().flatten() {
            if !is_day(day) {
                return Err(invalid(format!("`{}` is not a day `YYYY-MM-DD`", clip(day))));
            }
        }
        let from = select.from.as_ref().map(|day| format!("{PREFIX}{day}"));
        Ok(after.map(key_of).transpose()?.max(from))
    }

    /// Reads objects; those that are gone, or that were put there by hand, are left out.
    async fn read(&self, keys: &[&String]) -> Result<Vec<Found>, PortError> {
        let gets: Vec<_> = keys.iter().map(|key| self.read_one(key)).collect();
        let read: Vec<Result<Option<Found>, PortError>> =
            futures::stream::iter(gets).buffered(CONCURRENT_GETS).collect().await;
        let mut found = Vec::with_capacity(read.len());
        for one in read {
            found.extend(one?);
        }
        for chunk in found.chunks_mut(PAGE) {
            let keys: Vec<Key> = chunk.iter().map(|f| Key::new(REPLAYED, &f.record.id)).collect();
            for (found, row) in chunk.iter_mut().zip(self.ports.table.get(&keys).await?) {
                found.replayed = row.as_ref().map(replayed_at);
            }
        }
        Ok(found)
    }

    async fn read_one(&self, key: &str) -> Result<Option<Found>, PortError> {
        let bytes = match self.ports.objects.get(key, None).await {
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let record = std::str::from_utf8(&bytes).ok().and_then(|text| Quarantined::parse(text).ok());
        Ok(handle_of(key).zip(record).map(|(handle, record)| Found { handle, record, replayed: None }))
    }
}

impl Select {
    fn takes(&self, found: &Found) -> bool {
        let is = |wanted: &Option<String>, given: Option<&str>| wanted.as_deref().is_none_or(|w| given == Some(w));
        let record = &found.record;
        is(&self.code, Some(&record.code))
            && is(&self.origin, Some(&record.origin))
            && is(&self.key, record.key.as_deref())
            && is(&self.event_type, record.event_type.as_deref())
            && self.state.is_none_or(|state| state == found.state())
    }
}

fn replayed_at(row: &Item) -> String {
    row.value.get("at").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn invalid(what: String) -> PortError {
    PortError::new(ErrorKind::Invalid, "quarantine.find", what)
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

fn is_day(text: &str) -> bool {
    let shape = |(i, b): (usize, u8)| if matches!(i, 4 | 7) { b == b'-' } else { b.is_ascii_digit() };
    text.len() == 10 && text.bytes().enumerate().all(shape)
}

/// The key of a handle, which is checked: nothing else of the bucket is reached through it.
fn key_of(handle: &str) -> Result<String, PortError> {
    match handle.split_once('/') {
        Some((day, id)) if is_day(day) && is_id(id) => Ok(format!("{PREFIX}{day}/{id}.json")),
        _ => Err(invalid(format!("`{}` names no record: it is `YYYY-MM-DD/id`", clip(handle)))),
    }
}

fn handle_of(key: &str) -> Option<String> {
    Some(key.strip_prefix(PREFIX)?.strip_suffix(".json")?.to_owned())
}

fn day_of(key: &str) -> &str {
    key.strip_prefix(PREFIX).and_then(|rest| rest.get(..10)).unwrap_or_default()
}
