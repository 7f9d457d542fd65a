//! Topics, queues, the table and the operator's console in one SQLite database, `sluice.db`.
//!
//! One thread writes. It takes everything that waits, does it in one transaction with one flush, and only then answers, so that many
//! requests share the price of being durable. Each operation runs in a savepoint of its own: one that fails leaves its neighbours
//! alone. Reads run beside it on connections of their own and see everything that was answered.

mod console;
mod database;
mod failure;
mod messages;
mod queue;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use crate::state::console::SqliteConsole;
use crate::state::failure::Failure;
use crate::state::queue::{SqliteQueue, SqliteTopic};
use crate::state::table::SqliteTable;
use crate::state::writer::{Shared, Store, Writer};
use sluice_ports::{ErrorKind, PortError, Queue, QueueConsole, Table, Topic};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Tells the time in milliseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Which attribute values a subscription wants: every key must be there with at least one of its values.
pub type Filter = BTreeMap<String, Vec<String>>;

/// The queues and subscriptions to open with. Queues that lie in the database but not here keep their messages.
#[derive(Clone)]
pub struct StateConfig {
    /// The queues, dead-letter queues included.
    pub queues: Vec<QueueConfig>,
    /// Which queue gets copies of what is published to which topic.
    pub subscriptions: Vec<SubscriptionConfig>,
    /// How many bytes of bodies a queue may hold before senders are asked to slow down. Dead-letter queues are exempt.
    pub max_backlog_bytes: u64,
    /// The clock of visibility, retention and expiry.
    pub clock: Clock,
}

impl Default for StateConfig {
    /// No queues, a backlog of 4 GiB, the clock of the machine.
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            subscriptions: Vec::new(),
            max_backlog_bytes: 4 << 30,
            clock: Arc::new(|| {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }),
        }
    }
}

/// One queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// Its name, unique.
    pub name: String,
    /// How long a delivered message stays invisible.
    pub visibility_timeout: Duration,
    /// How long a message is kept; moving to a dead-letter queue does not start this anew.
    pub retention: Duration,
    /// Where messages go that were received too often.
    pub dead_letter: Option<DeadLetterConfig>,
}

/// When and where messages die.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterConfig {
    /// Name of the dead-letter queue.
    pub queue: String,
    /// How often a message is received at most, from 1.
    pub max_receive_count: u32,
}

/// A queue that gets copies of what is published to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionConfig {
    /// Name of the topic.
    pub topic: String,
    /// Name of the queue.
    pub queue: String,
    /// Which messages; all without one.
    pub filter: Option<Filter>,
}

/// The open database. Dropping it finishes what was asked for, then closes; handles that outlive it answer
/// [`ErrorKind::Unavailable`].
pub struct State {
    shared: Arc<Shared>,
    writer: Option<Writer>,
    subscriptions: Vec<SubscriptionConfig>,
}

impl State {
    /// Opens `dir/sluice.db`, creating it as needed. Messages that were being consumed when the database was last closed, or its
    /// process killed, are visible at once: nobody holds them any more. So one process at a time may do this.
    ///
    /// [`ErrorKind::Invalid`] for a configuration that contradicts itself, [`ErrorKind::Corrupt`] for a file that is no database of
    /// ours, [`ErrorKind::Full`] where nothing can be written.
    pub fn open(dir: impl AsRef<Path>, config: StateConfig) -> Result<Self, PortError> {
        let failed = |failure: Failure| failure.in_operation("state.open");
        check(&config).map_err(failed)?;
        let path = dir.as_ref().join("sluice.db");
        let conn = database::open_writer(&path).map_err(failed)?;
        let rules = messages::open_queues(&conn, &config).map_err(failed)?;
        messages::release_all(&conn, (config.clock)()).map_err(failed)?;
        let totals = messages::totals(&conn, &rules).map_err(failed)?;
        let shared = Arc::new(Shared::new(path, rules, totals, config.clock.clone()));
        let store = Store::new(conn, shared.clone(), config.max_backlog_bytes);
        let writer = Writer::start(store, shared.clone()).map_err(failed)?;
        Ok(Self { shared, writer: Some(writer), subscriptions: config.subscriptions })
    }

    /// The topic of this name. One without subscriptions takes messages and keeps none.
    pub fn topic(&self, name: &str) -> Result<Arc<dyn Topic>, PortError> {
        let mut targets = Vec::new();
        for subscription in self.subscriptions.iter().filter(|subscription| subscription.topic == name) {
            targets.push((self.position(&subscription.queue, "state.topic")?, subscription.filter.clone()));
        }
        Ok(Arc::new(SqliteTopic::new(self.shared.clone(), targets)))
    }

    /// The queue of this name, or [`ErrorKind::NotFound`].
    pub fn queue(&self, name: &str) -> Result<Arc<dyn Queue>, PortError> {
        let at = self.position(name, "state.queue")?;
        Ok(Arc::new(SqliteQueue::new(self.shared.clone(), at)))
    }

    /// The table.
    pub fn table(&self) -> Arc<dyn Table> {
        Arc::new(SqliteTable::new(self.shared.clone()))
    }

    /// The operator's view of the queues.
    pub fn console(&self) -> Arc<dyn QueueConsole> {
        Arc::new(SqliteConsole::new(self.shared.clone()))
    }

    /// Removes expired messages and items now. The writer does the same by itself every few seconds.
    pub async fn sweep(&self) -> Result<(), PortError> {
        self.shared.submit("state.sweep", |store| writer::sweep(store).map(|_| ())).await
    }

    fn position(&self, name: &str, operation: &'static str) -> Result<usize, PortError> {
        let found = self.shared.queues.iter().position(|queue| queue.name == name && queue.is_configured);
        found.ok_or_else(|| PortError::new(ErrorKind::NotFound, operation, format!("no queue `{name}`")))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(writer) = self.writer.take() {
            writer.join();
        }
    }
}

fn check(config: &StateConfig) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    for queue in &config.queues {
        if queue.name.is_empty() || !names.insert(queue.name.as_str()) {
            return Err(Failure::new(
                ErrorKind::Invalid,
                format!("queue `{}` is named twice or not at all", queue.name),
            ));
        }
    }
    let dead_letters = config.queues.iter().filter_map(|queue| Some((&queue.name, queue.dead_letter.as_ref()?)));
    for (name, dead_letter) in dead_letters {
        if dead_letter.max_receive_count == 0 || dead_letter.queue == *name {
            return Err(Failure::new(ErrorKind::Invalid, format!("the dead-letter rule of `{name}` never ends")));
        }
        if !names.contains(dead_letter.queue.as_str()) {
            let what = format!("no queue `{}`, the dead-letter queue of `{name}`", dead_letter.queue);
            return Err(Failure::new(ErrorKind::Invalid, what));
        }
    }
    for SubscriptionConfig { topic, queue, .. } in &config.subscriptions {
        if !names.contains(queue.as_str()) {
            return Err(Failure::new(ErrorKind::Invalid, format!("no queue `{queue}`, subscribed to `{topic}`")));
        }
    }
    Ok(())
}
