use super::{MemoryTable, lock};
use crate::clock::FakeClock;
use async_trait::async_trait;
use sluice_ports::{Delivery, Depth, ErrorKind, Message, PortError, Queue, QueueConsole, Receipt, Settlement};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// What SQS takes in one message.
const MAX_BODY_BYTES: usize = 1_024 * 1_024;

/// How a queue treats its messages.
#[derive(Debug, Clone)]
pub struct QueueRules {
    /// How long a delivered message stays invisible.
    pub visibility_timeout: Duration,
    /// How long a message is kept.
    pub retention: Duration,
    /// The dead-letter queue, and how often a message is received before it goes there.
    pub dead_letter: Option<(Arc<MemoryQueue>, u32)>,
    /// The clock of visibility and retention.
    pub clock: FakeClock,
    /// Where tallies of sent messages go.
    pub table: Option<Arc<MemoryTable>>,
}

impl Default for QueueRules {
    /// 30 s of invisibility, 4 days of retention, no dead-letter queue, a clock of its own.
    fn default() -> Self {
        Self {
            visibility_timeout: Duration::from_secs(30),
            retention: Duration::from_secs(4 * 86_400),
            dead_letter: None,
            clock: FakeClock::default(),
            table: None,
        }
    }
}

/// A queue in memory that also records what was sent to it.
#[derive(Debug, Default)]
pub struct MemoryQueue {
    rules: QueueRules,
    held: Mutex<Held>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Held {
    sent: Vec<Message>,
    entries: Vec<Entry>,
    ids: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    id: String,
    message: Message,
    sent_ms: i64,
    visible_ms: i64,
    receive_count: u32,
}

impl Entry {
    fn receipt(&self, id: &str) -> Receipt {
        Receipt(format!("{id}#{}", self.receive_count))
    }

    fn delivery(&self) -> Delivery {
        Delivery {
            id: self.id.clone(),
            receipt: self.receipt(&self.id),
            body: self.message.body.clone(),
            attributes: self.message.attributes.clone(),
            receive_count: self.receive_count,
            sent_ms: self.sent_ms,
            events: self.message.events,
        }
    }
}

impl MemoryQueue {
    /// An empty queue under the default rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty queue under these rules.
    pub fn with(rules: QueueRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Everything sent so far (through the queue or a topic), in order, settled or not.
    pub fn sent(&self) -> Vec<Message> {
        lock(&self.held).sent.clone()
    }

    /// Everything sent since the last call, in order; the queue itself is not touched.
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut lock(&self.held).sent)
    }

    pub(super) fn accept(&self, message: Message) {
        let now_ms = self.rules.clock.now_ms();
        let mut held = lock(&self.held);
        held.ids += 1;
        let id = format!("m{}", held.ids);
        held.sent.push(message.clone());
        held.entries.push(Entry { id, message, sent_ms: now_ms, visible_ms: now_ms, receive_count: 0 });
        drop(held);
        self.arrived.notify_waiters();
    }

    fn inherit(&self, entry: Entry) {
        let now_ms = self.rules.clock.now_ms();
        let mut held = lock(&self.held);
        held.ids += 1;
        let id = format!("m{}", held.ids);
        held.entries.push(Entry { id, visible_ms: now_ms, receive_count: 0, ..entry });
        drop(held);
        self.arrived.notify_waiters();
    }

    fn expire(&self, held: &mut Held) {
        let oldest_ms = self.rules.clock.now_ms() - i64::try_from(self.rules.retention.as_millis()).unwrap();
        held.entries.retain(|entry| entry.sent_ms > oldest_ms);
    }

    fn receive_now(&self, limit: usize) -> Vec<Delivery> {
        let now_ms = self.rules.clock.now_ms();
        let until_ms = now_ms + i64::try_from(self.rules.visibility_timeout.as_millis()).unwrap();
        let mut held = lock(&self.held);
        self.expire(&mut held);
        let mut found = Vec::new();
        let mut dead = Vec::new();
        held.entries.retain_mut(|entry| {
            if found.len() == limit || entry.visible_ms > now_ms {
                return true;
            }
            if let Some((_, max_receive_count)) = self.rules.dead_letter
                && entry.receive_count >= max_receive_count
            {
                dead.push(entry.clone());
                return false;
            }
            entry.receive_count += 1;
            entry.visible_ms = until_ms;
            found.push(entry.delivery());
            true
        });
        drop(held);
        if let Some((queue, _)) = &self.rules.dead_letter {
            dead.into_iter().for_each(|entry| queue.inherit(entry));
        }
        found
    }

    fn settle_one(&self, receipt: &Receipt, settlement: Settlement) -> Result<(), PortError> {
        let now_ms = self.rules.clock.now_ms();
        let mut held = lock(&self.held);
        let at = held.entries.iter().position(|entry| entry.receive_count > 0 && entry.receipt(&entry.id) == *receipt);
        let Some(at) = at else {
            let what = "the receipt is not the newest of its message";
            return Err(PortError::new(ErrorKind::NotFound, "queue.settle", what));
        };
        match settlement {
            Settlement::Delete => {
                held.entries.remove(at);
            }
            Settlement::Release(after) => {
                let entry = &mut held.entries[at];
                entry.visible_ms = now_ms + i64::try_from(after.as_millis()).unwrap();
            }
        }
        drop(held);
        self.arrived.notify_waiters();
        Ok(())
    }

    fn depth_now(&self) -> Depth {
        let now_ms = self.rules.clock.now_ms();
        let mut held = lock(&self.held);
        self.expire(&mut held);
        let visible = held.entries.iter().filter(|entry| entry.visible_ms <= now_ms).count() as u64;
        Depth {
            visible,
            in_flight: held.entries.len() as u64 - visible,
            events: Some(held.entries.iter().map(|entry| entry.message.events).sum()),
            bytes: Some(held.entries.iter().map(|entry| entry.message.body.len() as u64).sum()),
            oldest_ms: held.entries.iter().map(|entry| u64::try_from(now_ms - entry.sent_ms).unwrap_or(0)).max(),
        }
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn send(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        let mut results = Vec::new();
        for message in messages {
            if message.body.len() > MAX_BODY_BYTES {
                let what = "the body has more than 1 MiB";
                results.push(Err(PortError::new(ErrorKind::TooLarge, "queue.send", what)));
                continue;
            }
            let tallied = self.rules.table.as_ref().map_or(Ok(()), |table| table.tally(&message.tally));
            if tallied.is_ok() {
                self.accept(message);
            }
            results.push(tallied);
        }
        results
    }

    async fn receive(&self, limit: usize, wait: Duration) -> Result<Vec<Delivery>, PortError> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let found = self.receive_now(limit);
            if !found.is_empty() || limit == 0 || tokio::time::timeout_at(deadline, arrived).await.is_err() {
                return Ok(found);
            }
        }
    }

    async fn settle(&self, outcomes: Vec<(Receipt, Settlement)>) -> Vec<Result<(), PortError>> {
        outcomes.into_iter().map(|(receipt, settlement)| self.settle_one(&receipt, settlement)).collect()
    }

    async fn depth(&self) -> Result<Depth, PortError> {
        Ok(self.depth_now())
    }
}

/// The console over some memory queues.
#[derive(Debug, Default)]
pub struct MemoryConsole(BTreeMap<String, (Arc<MemoryQueue>, Option<String>)>);

impl MemoryConsole {
    /// A console over these queues: name, queue, name of its dead-letter queue.
    pub fn new(queues: impl IntoIterator<Item = (String, Arc<MemoryQueue>, Option<String>)>) -> Self {
        Self(queues.into_iter().map(|(name, queue, dead_letter)| (name, (queue, dead_letter))).collect())
    }

    fn queue(&self, operation: &'static str, name: &str) -> Result<&Arc<MemoryQueue>, PortError> {
        let missing = || PortError::new(ErrorKind::NotFound, operation, format!("no queue `{name}`"));
        self.0.get(name).map(|(queue, _)| queue).ok_or_else(missing)
    }
}

#[async_trait]
impl QueueConsole for MemoryConsole {
    async fn list(&self) -> Result<Vec<(String, Depth, Option<String>)>, PortError> {
        let row = |(name, (queue, dead_letter)): (&String, &(Arc<MemoryQueue>, Option<String>))| {
            (name.clone(), queue.depth_now(), dead_letter.clone())
        };
        Ok(self.0.iter().map(row).collect())
    }

    async fn peek(&self, queue: &str, limit: usize) -> Result<Vec<Delivery>, PortError> {
        let queue = self.queue("console.peek", queue)?;
        let held = lock(&queue.held);
        let seen = |entry: &Entry| Delivery { receipt: Receipt(String::new()), ..entry.delivery() };
        Ok(held.entries.iter().take(limit).map(seen).collect())
    }

    async fn redrive(&self, dead_letter_queue: &str, limit: u64) -> Result<u64, PortError> {
        let dead = self.queue("console.redrive", dead_letter_queue)?;
        let origin = self.0.values().find(|(_, dead_letter)| dead_letter.as_deref() == Some(dead_letter_queue));
        let Some((origin, _)) = origin else {
            let what = format!("`{dead_letter_queue}` is no dead-letter queue");
            return Err(PortError::new(ErrorKind::Invalid, "console.redrive", what));
        };
        let now_ms = dead.rules.clock.now_ms();
        let mut moved = Vec::new();
        lock(&dead.held).entries.retain(|entry| {
            let goes = entry.visible_ms <= now_ms && (moved.len() as u64) < limit;
            if goes {
                moved.push(entry.clone());
            }
            !goes
        });
        let count = moved.len() as u64;
        moved.into_iter().for_each(|entry| origin.inherit(entry));
        Ok(count)
    }
}
