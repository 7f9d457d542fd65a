//! What stands behind the ports: the state that outlives every process, and what each operation does to it.

use crate::call::{Operation, QueueName, Reply};
use bytes::Bytes;
use futures::FutureExt as _;
use sluice_domain::message;
use sluice_ports::{
    Catalog as _, DocumentOutcome, ErrorKind, Key, Mail as _, Message, Objects as _, PortError, PutMode, Search as _,
    Table as _, TableFile, Write,
};
use sluice_stages::item::Item;
use sluice_testkit::memory::{MemoryCatalog, MemoryMail, MemoryObjects, MemorySearch, MemoryTable};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It does what it says and is answered.
    Done,
    /// It does nothing, and fails with this kind.
    Refused(ErrorKind),
    /// It does what it says; the caller hears of a time-out.
    ReplyLost,
    /// The caller hears of a time-out; what it does happens later, or never.
    Late,
    /// Of a batch call, the items with a bit here fail and do nothing.
    Partly(u64),
}

/// A message in a queue.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Its body.
    pub body: String,
    /// How often it was delivered.
    pub deliveries: u32,
    /// Deliveries that are being worked on.
    pub at_work: u32,
    /// Whether it was acknowledged.
    pub acknowledged: bool,
}

/// The state.
#[derive(Debug, Default)]
pub struct Backend {
    /// The table.
    pub table: Arc<MemoryTable>,
    /// The bucket.
    pub objects: MemoryObjects,
    /// The lake's tables.
    pub catalog: MemoryCatalog,
    /// The search engine.
    pub search: MemorySearch,
    /// Mails that went out.
    pub mail: MemoryMail,
    /// Every message that the topic took, in order.
    pub published: Vec<Message>,
    queues: BTreeMap<QueueName, Vec<Entry>>,
    messages: usize,
}

impl Clone for Backend {
    /// Another one that holds the same: the table is not shared.
    fn clone(&self) -> Self {
        Self {
            table: Arc::new(MemoryTable::clone(&self.table)),
            objects: self.objects.clone(),
            catalog: self.catalog.clone(),
            search: self.search.clone(),
            mail: self.mail.clone(),
            published: self.published.clone(),
            queues: self.queues.clone(),
            messages: self.messages,
        }
    }
}

impl Backend {
    /// Nothing stored; the topic copies to these queues, and to the others stages send.
    pub fn new(subscribed: &[QueueName]) -> Self {
        let sent_to = QueueName::ALL.into_iter().filter(|name| match name {
            QueueName::Commit => subscribed.contains(&QueueName::Convert),
            name => !name.is_subscribed(),
        });
        let queues = subscribed.iter().copied().chain(sent_to).map(|name| (name, Vec::new()));
        Self { queues: queues.collect(), ..Self::default() }
    }

    /// The queues that are in use.
    pub fn queues(&self) -> Vec<QueueName> {
        self.queues.keys().copied().collect()
    }

    /// The messages of a queue, acknowledged or not; none where the queue is not in use.
    pub fn queue(&self, name: QueueName) -> &[Entry] {
        self.queues.get(&name).map_or(&[], Vec::as_slice)
    }

    /// Delivers these messages (by position) together.
    pub fn deliver(&mut self, name: QueueName, which: &[usize]) -> Vec<Item> {
        let queue = self.queues.entry(name).or_default();
        let item = |at: &usize| {
            let entry = &mut queue[*at];
            entry.deliveries += 1;
            entry.at_work += 1;
            Item { id: entry.id.clone(), body: entry.body.clone(), receive_count: entry.deliveries }
        };
        which.iter().map(item).collect()
    }

    /// A delivery is over, acknowledged or not.
    pub fn give_back(&mut self, name: QueueName, which: &[usize]) {
        let queue = self.queues.entry(name).or_default();
        which.iter().for_each(|at| queue[*at].at_work -= 1);
    }

    /// Another engine merges all files of every table into one; the rows stay.
    pub fn compact(&mut self) {
        for table in self.catalog.tables() {
            self.messages += 1;
            let key = format!("lake/{table}/data/compacted-{}.parquet", self.messages);
            let old = self.catalog.live(&table);
            let texts: Vec<Bytes> = old.iter().filter_map(|file| self.objects.bytes(&file.key)).collect();
            let merged = TableFile {
                key: key.clone(),
                rows: old.iter().map(|file| file.rows).sum(),
                size_bytes: 0,
                time_us: (0, 0),
            };
            if !old.is_empty() {
                let put = self.objects.put(&key, Bytes::from(texts.join(&b'\n')), PutMode::IfAbsent);
                now(put).expect("the key is new");
            }
            // Also where there is nothing to merge the metadata is another one: engines expire snapshots too.
            self.catalog.rewrite(&table, |files| if files.is_empty() { files } else { vec![merged] });
        }
    }

    /// What an operation does. `Publish` and its tally are one step, as on one machine.
    pub fn apply(&mut self, operation: Operation) -> Reply {
        match operation {
            Operation::Get(keys) => Reply::Rows(now(self.table.get(&keys))),
            Operation::Query(query) => Reply::Range(now(self.table.query(query))),
            Operation::Write(writes) => Reply::Unit(now(self.table.write(writes))),
            Operation::Put(key, bytes, mode) => Reply::Unit(now(self.objects.put(&key, bytes, mode))),
            Operation::Create(documents) => Reply::Documents(now(self.search.create(documents))),
            Operation::Load(table) => Reply::Head(now(self.catalog.load(&table))),
            Operation::Make(table) => Reply::Unit(now(self.catalog.create(&table))),
            Operation::Append(append) => Reply::Unit(now(self.catalog.append(append))),
            Operation::Files(table) => Reply::Files(now(self.catalog.files(&table))),
            Operation::Replace(replace) => Reply::Unit(now(self.catalog.replace(replace))),
            Operation::Read(key) => Reply::Bytes(now(self.objects.get(&key, None))),
            Operation::Mail(email) => Reply::Unit(now(self.mail.send(email))),
            Operation::Publish(messages) => {
                Reply::Each(messages.into_iter().map(|message| self.publish(message)).collect())
            }
            Operation::Send(queue, messages) => {
                Reply::Each(messages.into_iter().map(|message| self.send(queue, message)).collect())
            }
            Operation::Acknowledge(queue, ids) => {
                for entry in self.queues.entry(queue).or_default() {
                    entry.acknowledged |= ids.contains(&entry.id);
                }
                Reply::Unit(Ok(()))
            }
        }
    }

    /// What an operation does of which some items fail.
    pub fn apply_partly(&mut self, operation: Operation, failing: u64) -> Reply {
        let name = operation.name();
        let fails = |at: usize| failing >> (at % 64) & 1 == 1;
        let error = || PortError::new(ErrorKind::Unavailable, name, "injected by the schedule");
        match operation {
            Operation::Publish(messages) => {
                let one = |(at, message)| if fails(at) { Err(error()) } else { self.publish(message) };
                Reply::Each(messages.into_iter().enumerate().map(one).collect())
            }
            Operation::Send(queue, messages) => {
                let one = |(at, message)| if fails(at) { Err(error()) } else { self.send(queue, message) };
                Reply::Each(messages.into_iter().enumerate().map(one).collect())
            }
            Operation::Create(documents) => {
                let one = |(at, document)| match fails(at) {
                    true => Ok(DocumentOutcome::Failed(error())),
                    false => now(self.search.create(vec![document])).map(|mut outcomes| outcomes.remove(0)),
                };
                Reply::Documents(documents.into_iter().enumerate().map(one).collect())
            }
            whole => self.apply(whole),
        }
    }

    fn publish(&mut self, message: Message) -> Result<(), PortError> {
        self.count(&message)?;
        let areas = message.attributes.get("areas");
        let is_alert = areas.is_some_and(|areas| areas.iter().any(|area| area == "alert"));
        let subscribed: Vec<QueueName> = self.queues.keys().copied().collect();
        for name in subscribed {
            match name {
                _ if !name.is_subscribed() => {}
                QueueName::Alerts if !is_alert => {}
                _ => self.enqueue(name, message.body.clone()),
            }
        }
        self.published.push(message);
        Ok(())
    }

    fn send(&mut self, queue: QueueName, message: Message) -> Result<(), PortError> {
        self.count(&message)?;
        self.enqueue(queue, message.body);
        Ok(())
    }

    fn enqueue(&mut self, name: QueueName, body: String) {
        self.messages += 1;
        let id = format!("m{}", self.messages);
        let entry = Entry { id, body, deliveries: 0, at_work: 0, acknowledged: false };
        self.queues.entry(name).or_default().push(entry);
    }

    fn count(&self, message: &Message) -> Result<(), PortError> {
        let mut rows: BTreeMap<&str, Vec<(String, i64)>> = BTreeMap::new();
        for tally in &message.tally {
            rows.entry(&tally.counter).or_default().push((tally.field.clone(), tally.by));
        }
        let add = |(counter, deltas)| Write::Add { key: Key::new("counter", counter), deltas, expires_at: None };
        if rows.is_empty() { Ok(()) } else { now(self.table.write(rows.into_iter().map(add).collect())) }
    }
}

/// The header of what was published, which the stages wrote themselves.
pub fn header(message: &Message) -> message::Header {
    message::read_header(&message.body).expect("a published message is one")
}

/// The ports in memory answer at once.
pub fn now<R>(call: impl Future<Output = R>) -> R {
    call.now_or_never().expect("a port in memory does not wait")
}
