//! The sweep: moves what has lain in a dead-letter queue for long into quarantine, before the queue forgets it.
//!
//! A message is deleted after its bytes are durable and counted. Dying in between leaves it where it is; the next sweep finds the object
//! and the row `("swept", queue # batch)`, and goes on from there. A batch that its sink has stored meanwhile is only deleted.

use super::{Quarantined, object_of};
use crate::groups::Groups;
use crate::ledger::{self, Fate, Sink};
use crate::{detect, indexed};
use sluice_domain::identity;
use sluice_domain::message::{self, Header};
use sluice_domain::time::{DAY_US, Timestamp};
use sluice_ports::{Delivery, ErrorKind, Key, Objects, PortError, PutMode, Queue, Receipt, Settlement, Table};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Code of a record that was a dead letter.
pub const DEAD_LETTER: &str = "dead_letter";
/// A dead letter this old is swept: its queue keeps it twice as long.
pub const SWEEP_AFTER_US: i64 = 7 * DAY_US;
/// Partition of the rows that say what was counted.
const SWEPT: &str = "swept";
/// Messages received at once.
const RECEIVE: usize = 10;

/// A dead-letter queue, and whose letters lie there.
#[derive(Clone)]
pub struct Letters {
    /// Its name, as in the template.
    pub name: String,
    /// The stage that could not handle them.
    pub origin: String,
    /// The queue.
    pub queue: Arc<dyn Queue>,
}

/// The sweep over all dead-letter queues.
pub struct Sweep {
    /// The queues.
    pub letters: Vec<Letters>,
    /// Where records go.
    pub objects: Arc<dyn Objects>,
    /// Counters, and what the sinks have stored.
    pub table: Arc<dyn Table>,
    /// After this time no further messages are received.
    pub budget: Duration,
}

impl Sweep {
    /// Sweeps; answers how many messages went to quarantine. A queue that fails is told in the log and does not hold up the others.
    pub async fn run(&self, now: Timestamp) -> u64 {
        let started = Instant::now();
        let mut moved = 0;
        for letters in &self.letters {
            match self.sweep(letters, started, now).await {
                Ok(0) => {}
                Ok(n) => {
                    moved += n;
                    tracing::warn!(queue = %letters.name, messages = n, "dead letters went to quarantine");
                }
                Err(error) => tracing::error!(queue = %letters.name, %error, "dead letters cannot be swept"),
            }
        }
        moved
    }

    async fn sweep(&self, letters: &Letters, started: Instant, now: Timestamp) -> Result<u64, PortError> {
        let mut moved = 0;
        // What is too young becomes visible again at the end, so that no message is received twice.
        let mut young: Vec<Receipt> = Vec::new();
        let mut result = Ok(());
        while started.elapsed() < self.budget {
            let batch = match letters.queue.receive(RECEIVE, Duration::ZERO).await {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => batch,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            let mut kept = Vec::new();
            for delivery in batch {
                if now.micros().saturating_sub(delivery.sent_ms.saturating_mul(1_000)) < SWEEP_AFTER_US {
                    young.push(delivery.receipt);
                    continue;
                }
                match self.keep(letters, &delivery, now).await {
                    Ok(()) => kept.push((delivery.receipt, Settlement::Delete)),
                    Err(error) => {
                        young.push(delivery.receipt);
                        result = Err(error);
                    }
                }
            }
            moved += kept.len() as u64;
            // What cannot be deleted is found as done by the next sweep.
            letters.queue.settle(kept).await.into_iter().collect::<Result<(), PortError>>()?;
            if result.is_err() {
                break;
            }
        }
        let released = young.into_iter().map(|receipt| (receipt, Settlement::Release(Duration::ZERO))).collect();
        letters.queue.settle(released).await;
        result.map(|()| moved)
    }

    async fn keep(&self, letters: &Letters, delivery: &Delivery, now: Timestamp) -> Result<(), PortError> {
        if letters.origin == "quarantine" {
            return match object_of(&delivery.body, now) {
                Some((key, bytes)) => self.put(&key, bytes).await,
                None => Ok(()),
            };
        }
        let header = message::read_header(&delivery.body).ok();
        let sink = Sink::ALL.into_iter().find(|sink| sink.verb() == letters.origin);
        if let (Some(sink), Some(header)) = (sink, &header)
            && self.is_stored(sink, header).await?
        {
            return Ok(());
        }
        let sent = Timestamp::from_micros(delivery.sent_ms.saturating_mul(1_000)).unwrap_or(now);
        let received = header.as_ref().and_then(|h| Timestamp::parse_rfc3339(&h.received)).unwrap_or(sent);
        let bytes = delivery.body.as_bytes();
        let reason = "it could not be handled in any delivery, and lay among the dead letters for a week";
        let mut record = Quarantined::new(&letters.origin, &[], DEAD_LETTER, reason, received, bytes.to_vec());
        // A batch that is dead twice, by two publishes, is one record.
        let cause = header.as_ref().map_or(bytes, |h| h.batch.as_bytes());
        record.id = identity::hex_id(&[DEAD_LETTER.as_bytes(), letters.origin.as_bytes(), cause]);
        let (key, bytes) = record.object();
        self.put(&key, bytes).await?;
        match (sink, header) {
            (Some(sink), Some(header)) => self.count(sink, &header, received, delivery, now).await,
            _ => Ok(()),
        }
    }

    async fn put(&self, key: &str, bytes: bytes::Bytes) -> Result<(), PortError> {
        match self.objects.put(key, bytes, PutMode::IfAbsent).await {
            Err(error) if error.kind == ErrorKind::Conflict => Ok(()),
            put => put,
        }
    }

    /// Whether the sink has the batch; another publish of it counts as duplicates then.
    async fn is_stored(&self, sink: Sink, header: &Header) -> Result<bool, PortError> {
        let table = self.table.as_ref();
        match sink {
            Sink::Lake => {
                Ok(Groups::new(self.table.clone(), 0).stored(&[&header.batch]).await?.iter().any(Option::is_some))
            }
            Sink::Search => indexed::is_recorded(table, &header.batch).await,
            Sink::Detect => detect::is_done(table, &header.batch).await,
        }
    }

    /// Counts the events of a message as quarantined, once per publish.
    async fn count(
        &self,
        sink: Sink,
        header: &Header,
        received: Timestamp,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<(), PortError> {
        let publish = ledger::publish_of(header, &delivery.id);
        let marker = Key::new(SWEPT, format!("{}#{}#{publish}", sink.name(), header.batch));
        let counted = (sink, Fate::Quarantined);
        ledger::count_once(self.table.as_ref(), marker, counted, header, received, now).await.map(drop)
    }
}
