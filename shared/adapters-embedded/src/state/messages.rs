//! What happens to messages inside the writer's transaction.

use super::failure::Failure;
use super::writer::Store;
use super::{Filter, StateConfig, rows};
use rusqlite::{Connection, OptionalExtension, Row, params};
use sluice_ports::{Delivery, ErrorKind, Message, Receipt, Settlement};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// When a sender may try again that met a full queue.
const BACKLOG_RETRY: Duration = Duration::from_secs(1);
/// How much a sweep removes from each queue at a time.
const SWEEP_LIMIT: usize = 200;
/// What one small change to a row costs in the log, roughly: a page of the table and one of its index.
pub(super) const LOGGED_BYTES_PER_CHANGE: u64 = 8_192;

/// A queue as the writer knows it.
#[derive(Debug, Clone)]
pub(super) struct QueueRules {
    /// Its row in the database.
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) visibility_ms: i64,
    /// None for a queue that is no longer configured: its messages wait for someone to look.
    pub(super) retention_ms: Option<i64>,
    /// Position of the dead-letter queue and how often a message is received before it goes there.
    pub(super) dead_letter: Option<(usize, u32)>,
    /// Whether some queue's dead letters come here.
    pub(super) takes_dead_letters: bool,
    pub(super) is_configured: bool,
}

/// What lies in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) messages: u64,
    pub(super) events: u64,
    pub(super) bytes: u64,
}

impl Totals {
    fn add(&mut self, size: Size) {
        self.messages += 1;
        self.events += size.events;
        self.bytes += size.bytes;
    }

    fn remove(&mut self, size: Size) {
        self.messages = self.messages.saturating_sub(1);
        self.events = self.events.saturating_sub(size.events);
        self.bytes = self.bytes.saturating_sub(size.bytes);
    }
}

/// What one message adds to the totals.
#[derive(Debug, Clone, Copy)]
struct Size {
    events: u64,
    bytes: u64,
}

/// One delivery, named: (message, the queue it was first meant for, ticket).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handle {
    message: i64,
    origin: i64,
    ticket: i64,
}

impl Handle {
    pub(super) fn parse(receipt: &Receipt) -> Option<Self> {
        let mut parts = receipt.0.splitn(3, '.').map(str::parse);
        match (parts.next()?, parts.next()?, parts.next()?) {
            (Ok(message), Ok(origin), Ok(ticket)) => Some(Self { message, origin, ticket }),
            _ => None,
        }
    }

    fn receipt(self) -> Receipt {
        Receipt(format!("{}.{}.{}", self.message, self.origin, self.ticket))
    }

    fn id(self) -> String {
        format!("{}-{}", self.message, self.origin)
    }
}

/// Starts anywhere, so that no receipt of an earlier run fits by chance.
pub(super) fn first_ticket() -> i64 {
    let random = RandomState::new().build_hasher().finish();
    i64::from(u32::try_from(random & 0x7fff_ffff).unwrap_or(1)) << 32 | 1
}

/// Writes down the configured queues and answers all that the database knows; the position in this list names a queue from here on.
pub(super) fn open_queues(conn: &Connection, config: &StateConfig) -> Result<Vec<QueueRules>, Failure> {
    for queue in &config.queues {
        conn.execute("INSERT INTO queue (name) VALUES (?1) ON CONFLICT DO NOTHING", [&queue.name])?;
    }
    let mut select = conn.prepare("SELECT id, name FROM queue ORDER BY name")?;
    let stored = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let stored: Vec<(i64, String)> = stored.collect::<Result<_, _>>()?;
    let position = |name: &str| stored.iter().position(|(_, stored)| stored == name);
    let rules = stored.iter().map(|(id, name)| {
        let queue = config.queues.iter().find(|queue| queue.name == *name);
        let dead_letter = queue.and_then(|queue| queue.dead_letter.as_ref());
        let dead_letters = config.queues.iter().filter_map(|queue| queue.dead_letter.as_ref());
        QueueRules {
            id: *id,
            name: name.clone(),
            visibility_ms: queue.map_or(0, |queue| millis(queue.visibility_timeout)),
            retention_ms: queue.map(|queue| millis(queue.retention)),
            dead_letter: dead_letter.and_then(|rule| Some((position(&rule.queue)?, rule.max_receive_count))),
            takes_dead_letters: dead_letters.map(|rule| &rule.queue).any(|taker| taker == name),
            is_configured: queue.is_some(),
        }
    });
    Ok(rules.collect())
}

/// Makes visible what some earlier process was consuming.
pub(super) fn release_all(conn: &Connection, now_ms: i64) -> Result<(), Failure> {
    let held = "UPDATE delivery SET visible_ms = ?1, held = 0 WHERE held = 1 AND visible_ms > ?1";
    conn.execute(held, [now_ms])?;
    Ok(())
}

/// What lies in each queue.
pub(super) fn totals(conn: &Connection, rules: &[QueueRules]) -> Result<Vec<Totals>, Failure> {
    let mut totals = vec![Totals::default(); rules.len()];
    let mut select = conn.prepare(
        "SELECT d.queue, count(*), coalesce(sum(m.events), 0), coalesce(sum(m.size_bytes), 0)
         FROM delivery d JOIN message m ON m.id = d.message GROUP BY d.queue",
    )?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        let queue: i64 = row.get(0)?;
        if let Some(at) = rules.iter().position(|rules| rules.id == queue) {
            totals[at] = Totals { messages: row.get(1)?, events: row.get(2)?, bytes: row.get(3)? };
        }
    }
    Ok(totals)
}

/// Stores a message once and a delivery for each of `targets`; adds its tallies.
pub(super) fn accept(store: &mut Store, targets: &[usize], message: &Message) -> Result<(), Failure> {
    for &target in targets {
        let rules = &store.shared.queues[target];
        if store.totals[target].bytes >= store.max_backlog_bytes && !rules.takes_dead_letters {
            let what =
                format!("queue `{}` holds {} bytes and takes no more for now", rules.name, store.totals[target].bytes);
            return Err(Failure::new(ErrorKind::Throttled, what).retry_after(BACKLOG_RETRY));
        }
    }
    rows::tally(store, &message.tally)?;
    if targets.is_empty() {
        return Ok(());
    }
    let size = Size { events: message.events, bytes: message.body.len() as u64 };
    let now_ms = store.now_ms();
    let id = insert(
        store,
        &serde_json::to_string(&message.attributes)?,
        message.body.as_bytes(),
        size,
        now_ms,
        targets.len(),
    )?;
    for &target in targets {
        deliver(store, target, id, store.shared.queues[target].id, now_ms)?;
        store.totals[target].add(size);
    }
    Ok(())
}

fn insert(
    store: &mut Store,
    attributes: &str,
    body: &[u8],
    size: Size,
    now_ms: i64,
    copies: usize,
) -> Result<i64, Failure> {
    store.logged_bytes += size.bytes + LOGGED_BYTES_PER_CHANGE;
    let conn = &store.conn;
    conn.prepare_cached(
        "INSERT INTO message (attributes, events, size_bytes, sent_ms, copies) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![attributes, size.events, size.bytes, now_ms, copies])?;
    let id = conn.last_insert_rowid();
    conn.prepare_cached("INSERT INTO body (message, content) VALUES (?1, ?2)")?.execute(params![id, body])?;
    Ok(id)
}

fn deliver(store: &mut Store, target: usize, message: i64, origin: i64, visible_ms: i64) -> Result<(), Failure> {
    store.logged_bytes += LOGGED_BYTES_PER_CHANGE;
    store.woken.insert(target);
    let queue = store.shared.queues[target].id;
    store
        .conn
        .prepare_cached(
            "INSERT INTO delivery (queue, message, origin, visible_ms, receive_count, ticket, held)
             VALUES (?1, ?2, ?3, ?4, 0, 0, 0)",
        )?
        .execute(params![queue, message, origin, visible_ms])?;
    Ok(())
}

/// What a receive found.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) deliveries: Vec<Delivery>,
    /// When the next message becomes visible, where nothing was found and something is coming.
    pub(super) next_visible_ms: Option<i64>,
}

struct Candidate {
    message: i64,
    origin: i64,
    receive_count: u32,
    sent_ms: i64,
    size: Size,
    attributes: String,
}

/// Delivers up to `limit` visible messages, longest visible first; expired ones go away, and those received too often move on.
pub(super) fn receive(store: &mut Store, queue: usize, limit: usize) -> Result<Received, Failure> {
    let rules = store.shared.queues[queue].clone();
    let now_ms = store.now_ms();
    let mut deliveries = Vec::new();
    while deliveries.len() < limit {
        let wanted = limit - deliveries.len();
        let found = candidates(store, rules.id, now_ms, wanted)?;
        let is_last = found.len() < wanted;
        for candidate in found {
            if rules.retention_ms.is_some_and(|retention_ms| candidate.sent_ms <= now_ms.saturating_sub(retention_ms)) {
                remove(store, queue, candidate.message, candidate.origin)?;
                continue;
            }
            match rules.dead_letter {
                Some((target, max)) if candidate.receive_count >= max => {
                    bury(store, queue, target, &candidate, now_ms)?
                }
                _ => deliveries.push(hand_over(store, &rules, candidate, now_ms)?),
            }
        }
        if is_last {
            break;
        }
    }
    let next_visible_ms = if deliveries.is_empty() { next_visible(store, rules.id)? } else { None };
    Ok(Received { deliveries, next_visible_ms })
}

fn candidates(store: &Store, queue: i64, now_ms: i64, limit: usize) -> Result<Vec<Candidate>, Failure> {
    let mut select = store.conn.prepare_cached(
        "SELECT d.message, d.origin, d.receive_count, m.sent_ms, m.events, m.size_bytes, m.attributes
         FROM delivery d JOIN message m ON m.id = d.message
         WHERE d.queue = ?1 AND d.visible_ms <= ?2 ORDER BY d.visible_ms, d.message LIMIT ?3",
    )?;
    let candidate = |row: &Row<'_>| {
        Ok(Candidate {
            message: row.get(0)?,
            origin: row.get(1)?,
            receive_count: row.get(2)?,
            sent_ms: row.get(3)?,
            size: Size { events: row.get(4)?, bytes: row.get(5)? },
            attributes: row.get(6)?,
        })
    };
    let found = select.query_map(params![queue, now_ms, limit], candidate)?.collect::<Result<_, _>>()?;
    Ok(found)
}

fn next_visible(store: &Store, queue: i64) -> Result<Option<i64>, Failure> {
    let mut select = store.conn.prepare_cached("SELECT min(visible_ms) FROM delivery WHERE queue = ?1")?;
    Ok(select.query_row([queue], |row| row.get(0))?)
}

fn hand_over(store: &mut Store, rules: &QueueRules, found: Candidate, now_ms: i64) -> Result<Delivery, Failure> {
    let handle = Handle { message: found.message, origin: found.origin, ticket: store.next_ticket };
    store.next_ticket += 1;
    store.logged_bytes += LOGGED_BYTES_PER_CHANGE;
    store
        .conn
        .prepare_cached(
            "UPDATE delivery SET visible_ms = ?4, receive_count = receive_count + 1, ticket = ?5, held = 1
             WHERE queue = ?1 AND message = ?2 AND origin = ?3",
        )?
        .execute(params![
            rules.id,
            found.message,
            found.origin,
            now_ms.saturating_add(rules.visibility_ms),
            handle.ticket
        ])?;
    Ok(Delivery {
        id: handle.id(),
        receipt: handle.receipt(),
        body: body(&store.conn, found.message)?,
        attributes: attributes(&found.attributes)?,
        receive_count: found.receive_count + 1,
        sent_ms: found.sent_ms,
        events: found.size.events,
    })
}

fn attributes(json: &str) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    Ok(if json == "{}" { BTreeMap::new() } else { serde_json::from_str(json)? })
}

fn body(conn: &Connection, message: i64) -> Result<String, Failure> {
    let mut select = conn.prepare_cached("SELECT content FROM body WHERE message = ?1")?;
    let content: Vec<u8> = select.query_row([message], |row| row.get(0))?;
    String::from_utf8(content)
        .map_err(|_| Failure::new(ErrorKind::Corrupt, format!("the body of message {message} is not text")))
}

/// Moves a message to the dead-letter queue as it is, with its receive count: whoever looks at it sees how often it was tried.
fn bury(store: &mut Store, from: usize, to: usize, found: &Candidate, now_ms: i64) -> Result<(), Failure> {
    let target = store.shared.queues[to].id;
    tracing::warn!(
        queue.name = store.shared.queues[from].name,
        queue.dead_letter = store.shared.queues[to].name,
        message.id = found.message,
        message.receive_count = found.receive_count,
        "a message was received too often"
    );
    store
        .conn
        .prepare_cached(
            "UPDATE delivery SET queue = ?4, visible_ms = ?5, ticket = 0, held = 0
             WHERE queue = ?1 AND message = ?2 AND origin = ?3",
        )?
        .execute(params![store.shared.queues[from].id, found.message, found.origin, target, now_ms])?;
    store.totals[from].remove(found.size);
    store.totals[to].add(found.size);
    store.woken.insert(to);
    store.logged_bytes += LOGGED_BYTES_PER_CHANGE;
    Ok(())
}

/// Removes one delivery, and the message with the last one.
fn remove(store: &mut Store, queue: usize, message: i64, origin: i64) -> Result<(), Failure> {
    let conn = &store.conn;
    conn.prepare_cached("DELETE FROM delivery WHERE queue = ?1 AND message = ?2 AND origin = ?3")?.execute(params![
        store.shared.queues[queue].id,
        message,
        origin
    ])?;
    store.logged_bytes += LOGGED_BYTES_PER_CHANGE;
    let (copies, size) = conn
        .prepare_cached("UPDATE message SET copies = copies - 1 WHERE id = ?1 RETURNING copies, events, size_bytes")?
        .query_row([message], |row| Ok((row.get::<_, i64>(0)?, Size { events: row.get(1)?, bytes: row.get(2)? })))?;
    if copies <= 0 {
        conn.prepare_cached("DELETE FROM message WHERE id = ?1")?.execute([message])?;
        conn.prepare_cached("DELETE FROM body WHERE message = ?1")?.execute([message])?;
    }
    store.totals[queue].remove(size);
    Ok(())
}

/// Settles one delivery.
pub(super) fn settle(store: &mut Store, queue: usize, handle: Handle, settlement: Settlement) -> Result<(), Failure> {
    let id = store.shared.queues[queue].id;
    let newest = store
        .conn
        .prepare_cached("SELECT 1 FROM delivery WHERE queue = ?1 AND message = ?2 AND origin = ?3 AND ticket = ?4")?
        .exists(params![id, handle.message, handle.origin, handle.ticket])?;
    if !newest {
        return Err(Failure::new(ErrorKind::NotFound, "the receipt is not the newest of its message"));
    }
    match settlement {
        Settlement::Delete => remove(store, queue, handle.message, handle.origin),
        Settlement::Release(after) => {
            let visible_ms = store.now_ms().saturating_add(millis(after));
            store
                .conn
                .prepare_cached(
                    "UPDATE delivery SET visible_ms = ?4, held = 0 WHERE queue = ?1 AND message = ?2 AND origin = ?3",
                )?
                .execute(params![id, handle.message, handle.origin, visible_ms])?;
            store.woken.insert(queue);
            store.logged_bytes += LOGGED_BYTES_PER_CHANGE;
            Ok(())
        }
    }
}

/// Takes back a delivery that nobody got to see: it does not count.
pub(super) fn take_back(store: &mut Store, queue: usize, delivery: &Delivery) -> Result<(), Failure> {
    let Some(handle) = Handle::parse(&delivery.receipt) else { return Ok(()) };
    let id = store.shared.queues[queue].id;
    let now_ms = store.now_ms();
    store
        .conn
        .prepare_cached(
            "UPDATE delivery SET visible_ms = ?5, receive_count = receive_count - 1, ticket = 0, held = 0
             WHERE queue = ?1 AND message = ?2 AND origin = ?3 AND ticket = ?4",
        )?
        .execute(params![id, handle.message, handle.origin, handle.ticket, now_ms])?;
    store.woken.insert(queue);
    store.logged_bytes += LOGGED_BYTES_PER_CHANGE;
    Ok(())
}

/// Removes the oldest messages that were kept for long enough; whether there may be more.
pub(super) fn expire(store: &mut Store) -> Result<bool, Failure> {
    let now_ms = store.now_ms();
    let mut is_more = false;
    for queue in 0..store.shared.queues.len() {
        let Some(retention_ms) = store.shared.queues[queue].retention_ms else { continue };
        if store.totals[queue].messages == 0 {
            continue;
        }
        let mut oldest = oldest(&store.conn, store.shared.queues[queue].id, SWEEP_LIMIT)?;
        let kept_from_ms = now_ms.saturating_sub(retention_ms);
        // Ids rise with time, so the first one to stay ends it.
        let expired = oldest.iter().position(|(.., sent_ms)| *sent_ms > kept_from_ms).unwrap_or(oldest.len());
        oldest.truncate(expired);
        is_more |= expired == SWEEP_LIMIT;
        if expired > 0 {
            tracing::warn!(queue.name = store.shared.queues[queue].name, expired, "messages were kept for too long");
        }
        for (message, origin, _) in oldest {
            remove(store, queue, message, origin)?;
        }
    }
    Ok(is_more)
}

fn oldest(conn: &Connection, queue: i64, limit: usize) -> Result<Vec<(i64, i64, i64)>, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT d.message, d.origin, m.sent_ms FROM delivery d JOIN message m ON m.id = d.message
         WHERE d.queue = ?1 ORDER BY d.message LIMIT ?2",
    )?;
    let found = select.query_map(params![queue, limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Moves up to `limit` dead letters back to where they came from, as new messages: their retention starts anew, and so does their
/// count. Letters that were sent to the dead-letter queue itself stay.
pub(super) fn redrive(store: &mut Store, queue: usize, limit: u64) -> Result<u64, Failure> {
    let now_ms = store.now_ms();
    let id = store.shared.queues[queue].id;
    let mut select = store.conn.prepare_cached(
        "SELECT d.message, d.origin, m.events, m.size_bytes, m.attributes
         FROM delivery d JOIN message m ON m.id = d.message
         WHERE d.queue = ?1 AND d.origin <> ?1 AND d.visible_ms <= ?2 ORDER BY d.message LIMIT ?3",
    )?;
    let letter = |row: &Row<'_>| {
        let size = Size { events: row.get(2)?, bytes: row.get(3)? };
        Ok((row.get(0)?, row.get(1)?, size, row.get(4)?))
    };
    let letters = select.query_map(params![id, now_ms, limit.min(i64::MAX as u64)], letter)?;
    let letters: Vec<(i64, i64, Size, String)> = letters.collect::<Result<_, _>>()?;
    drop(select);
    let mut moved = 0;
    for (message, origin, size, attributes) in letters {
        let Some(target) = store.shared.queues.iter().position(|rules| rules.id == origin) else { continue };
        let body = body(&store.conn, message)?;
        let renewed = insert(store, &attributes, body.as_bytes(), size, now_ms, 1)?;
        deliver(store, target, renewed, origin, now_ms)?;
        store.totals[target].add(size);
        remove(store, queue, message, origin)?;
        moved += 1;
    }
    Ok(moved)
}

/// How many messages of a queue are held back, and when its oldest was sent.
pub(super) fn waiting(conn: &Connection, queue: i64, now_ms: i64) -> Result<(u64, Option<i64>), Failure> {
    let in_flight = conn
        .prepare_cached("SELECT count(*) FROM delivery WHERE queue = ?1 AND visible_ms > ?2")?
        .query_row(params![queue, now_ms], |row| row.get(0))?;
    let first = conn
        .prepare_cached(
            "SELECT m.sent_ms FROM delivery d JOIN message m ON m.id = d.message
             WHERE d.queue = ?1 ORDER BY d.message LIMIT 1",
        )?
        .query_row([queue], |row| row.get(0))
        .optional()?;
    Ok((in_flight, first))
}

/// The oldest messages of a queue, untouched. Their receipts settle nothing.
pub(super) fn peek(conn: &Connection, queue: i64, limit: usize) -> Result<Vec<Delivery>, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT d.message, d.origin, d.receive_count, m.sent_ms, m.events, m.attributes
         FROM delivery d JOIN message m ON m.id = d.message
         WHERE d.queue = ?1 ORDER BY d.message LIMIT ?2",
    )?;
    let mut found = select.query(params![queue, limit])?;
    let mut deliveries = Vec::new();
    while let Some(row) = found.next()? {
        let handle = Handle { message: row.get(0)?, origin: row.get(1)?, ticket: 0 };
        deliveries.push(Delivery {
            id: handle.id(),
            receipt: Receipt(String::new()),
            body: body(conn, handle.message)?,
            attributes: attributes(&row.get::<_, String>(5)?)?,
            receive_count: row.get(2)?,
            sent_ms: row.get(3)?,
            events: row.get(4)?,
        });
    }
    Ok(deliveries)
}

/// Whether a message with these attributes goes through a filter.
pub(super) fn passes(filter: &Filter, attributes: &BTreeMap<String, Vec<String>>) -> bool {
    filter.iter().all(|(key, wanted)| {
        attributes.get(key).is_some_and(|values| values.iter().any(|value| wanted.contains(value)))
    })
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
