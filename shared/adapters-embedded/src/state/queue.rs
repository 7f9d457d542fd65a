//! Topic and queue as the ports have them.

use super::Filter;
use super::failure::Failure;
use super::messages::{self, Handle, Received};
use super::writer::{Shared, Store};
use async_trait::async_trait;
use sluice_ports::{Delivery, Depth, ErrorKind, Message, PortError, Queue, Receipt, Settlement, Topic};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// SNS takes 256 KiB in a message, so one machine takes no more.
const MAX_TOPIC_BYTES: usize = 256 * 1_024;
/// SQS takes 1 MiB in a message.
const MAX_QUEUE_BYTES: usize = 1_024 * 1_024;

pub(super) struct SqliteTopic {
    shared: Arc<Shared>,
    targets: Vec<(usize, Option<Filter>)>,
}

impl SqliteTopic {
    pub(super) fn new(shared: Arc<Shared>, targets: Vec<(usize, Option<Filter>)>) -> Self {
        Self { shared, targets }
    }

    /// The queues that get this message, each once.
    fn targets(&self, message: &Message) -> Vec<usize> {
        let passes = |filter: &Option<Filter>| {
            filter.as_ref().is_none_or(|filter| messages::passes(filter, &message.attributes))
        };
        let matching = self.targets.iter().filter(|(_, filter)| passes(filter));
        let mut queues: Vec<usize> = matching.map(|(queue, _)| *queue).collect();
        queues.sort_unstable();
        queues.dedup();
        queues
    }
}

#[async_trait]
impl Topic for SqliteTopic {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        let addressed = messages.into_iter().map(|message| (self.targets(&message), message)).collect();
        accept(&self.shared, "topic.publish", addressed, MAX_TOPIC_BYTES).await
    }
}

pub(super) struct SqliteQueue {
    shared: Arc<Shared>,
    at: usize,
}

impl SqliteQueue {
    pub(super) fn new(shared: Arc<Shared>, at: usize) -> Self {
        Self { shared, at }
    }

    async fn receive_now(&self, limit: usize) -> Result<Received, PortError> {
        let at = self.at;
        if self.shared.is_empty(at) && self.shared.is_open() {
            return Ok(Received { deliveries: Vec::new(), next_visible_ms: None });
        }
        let receive = move |store: &mut Store| messages::receive(store, at, limit);
        let undo = move |store: &mut Store, unheard: Received| {
            unheard.deliveries.iter().try_for_each(|delivery| messages::take_back(store, at, delivery))
        };
        self.shared.submit_or("queue.receive", receive, undo).await
    }
}

#[async_trait]
impl Queue for SqliteQueue {
    async fn send(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        let addressed = messages.into_iter().map(|message| (vec![self.at], message)).collect();
        accept(&self.shared, "queue.send", addressed, MAX_QUEUE_BYTES).await
    }

    async fn receive(&self, limit: usize, wait: Duration) -> Result<Vec<Delivery>, PortError> {
        let deadline = Instant::now() + wait;
        if limit == 0 {
            return Ok(Vec::new());
        }
        loop {
            // Listens before it looks: what arrives in between is not missed.
            let arrival = self.shared.arrivals[self.at].notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            let Received { deliveries, next_visible_ms } = self.receive_now(limit).await?;
            let now = Instant::now();
            if !deliveries.is_empty() || now >= deadline {
                return Ok(deliveries);
            }
            let until_visible = next_visible_ms.map(|at_ms| at_ms.saturating_sub((self.shared.clock)()).max(1));
            let wake = until_visible
                .and_then(|ms| now.checked_add(Duration::from_millis(u64::try_from(ms).unwrap_or(1))))
                .map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                () = arrival => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    async fn settle(&self, outcomes: Vec<(Receipt, Settlement)>) -> Vec<Result<(), PortError>> {
        let (at, count) = (self.at, outcomes.len());
        let settle = move |store: &mut Store| {
            let settle_one = |(receipt, settlement): &(Receipt, Settlement)| match Handle::parse(receipt) {
                Some(handle) => messages::settle(store, at, handle, *settlement),
                None => Err(Failure::new(ErrorKind::NotFound, "the receipt is none of this queue")),
            };
            each(outcomes.iter().map(settle_one))
        };
        answers("queue.settle", count, self.shared.submit("queue.settle", settle).await)
    }

    async fn depth(&self) -> Result<Depth, PortError> {
        let (shared, at) = (self.shared.clone(), self.at);
        self.shared.read("queue.depth", move |conn| depth(&shared, conn, at)).await
    }
}

/// How much lies in the queue at this position.
pub(super) fn depth(shared: &Shared, conn: &rusqlite::Connection, at: usize) -> Result<Depth, Failure> {
    let now_ms = (shared.clock)();
    let (in_flight, oldest_ms) = messages::waiting(conn, shared.queues[at].id, now_ms)?;
    let totals = shared.totals()[at];
    Ok(Depth {
        visible: totals.messages.saturating_sub(in_flight),
        in_flight,
        events: Some(totals.events),
        bytes: Some(totals.bytes),
        oldest_ms: oldest_ms.map(|sent_ms| u64::try_from(now_ms - sent_ms).unwrap_or(0)),
    })
}

async fn accept(
    shared: &Shared,
    operation: &'static str,
    addressed: Vec<(Vec<usize>, Message)>,
    max_bytes: usize,
) -> Vec<Result<(), PortError>> {
    let count = addressed.len();
    let accept = move |store: &mut Store| {
        let accept_one = |(targets, message): &(Vec<usize>, Message)| {
            let size = message.body.len();
            if size > max_bytes {
                return Err(Failure::new(
                    ErrorKind::TooLarge,
                    format!("the body has {size} bytes; it takes {max_bytes}"),
                ));
            }
            messages::accept(store, targets, message)
        };
        each(addressed.iter().map(accept_one))
    };
    answers(operation, count, shared.submit(operation, accept).await)
}

/// One result per item; what went wrong with the database itself ends it for all of them.
fn each(results: impl Iterator<Item = Result<(), Failure>>) -> Result<Vec<Result<(), Failure>>, Failure> {
    results
        .map(|result| match result {
            Err(failure) if !is_about_the_item(&failure) => Err(failure),
            of_item => Ok(of_item),
        })
        .collect()
}

fn is_about_the_item(failure: &Failure) -> bool {
    matches!(failure.kind, ErrorKind::Throttled | ErrorKind::TooLarge | ErrorKind::Invalid | ErrorKind::NotFound)
}

fn answers(
    operation: &'static str,
    count: usize,
    outcome: Result<Vec<Result<(), Failure>>, PortError>,
) -> Vec<Result<(), PortError>> {
    match outcome {
        Ok(results) => {
            let results = results.into_iter().map(|result| result.map_err(|failure| failure.in_operation(operation)));
            results.collect()
        }
        Err(error) => (0..count).map(|_| Err(PortError::new(error.kind, operation, error.detail.clone()))).collect(),
    }
}
