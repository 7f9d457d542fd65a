//! What calls functions beside HTTP: queues and the clock, as Lambda's event-source mappings and EventBridge Scheduler do on AWS.

use crate::runtime::now;
use serde_json::Value;
use sluice_entry::sqs::{SqsAttributes, SqsEvent, SqsRecord, SqsReply};
use sluice_entry::{Function, telemetry};
use sluice_ports::{Delivery, ErrorKind, Queue, Receipt, Settlement};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Bodies of one call: Lambda takes 6 MB of event JSON, and a body may need escaping.
const CALL_BYTES: usize = 5 * 1024 * 1024;
/// How long one wait for messages lasts; waiting costs nothing, so it only bounds how late a stop is seen where a queue cannot be woken.
const WAIT: Duration = Duration::from_secs(20);
/// Messages asked for at a time while a batch fills.
const RECEIVE_LIMIT: usize = 16;
/// A failed message comes again after this long, doubling with each time up to the queue's visibility time-out.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Between attempts to settle what could not be settled.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// A queue that calls a function.
pub struct QueueTrigger {
    /// The function's verb, for logs.
    pub verb: String,
    /// What is called.
    pub function: Arc<dyn Function>,
    /// Where messages come from.
    pub queue: Arc<dyn Queue>,
    /// Logical id of the queue.
    pub queue_name: String,
    /// At most this many messages in one call.
    pub batch_size: usize,
    /// How long a batch may fill.
    pub window: Duration,
    /// Whether the reply names failed messages; else a call fails as a whole.
    pub partial_failures: bool,
    /// The longest that one call may take.
    pub timeout: Duration,
    /// Longest pause before a failed message comes again.
    pub max_retry: Duration,
}

impl QueueTrigger {
    /// Receives, calls and settles until `stop` turns true; what is in flight then is finished.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let first = tokio::select! {
                received = self.queue.receive(RECEIVE_LIMIT.min(self.batch_size), WAIT) => received,
                _ = stop.changed() => break,
            };
            match first {
                Ok(batch) if batch.is_empty() => {}
                Ok(batch) => {
                    let batch = self.fill(batch, &mut stop).await;
                    self.call(batch, &mut stop).await;
                }
                Err(e) => {
                    tracing::error!(queue = %self.queue_name, error = %telemetry::chain(&e), "cannot receive");
                    let pause = e.retry_after.unwrap_or(Duration::from_secs(1));
                    tokio::select! { () = tokio::time::sleep(pause) => {}, _ = stop.changed() => break }
                }
            }
        }
    }

    async fn fill(&self, mut batch: Vec<Delivery>, stop: &mut watch::Receiver<bool>) -> Vec<Delivery> {
        let until = Instant::now() + self.window;
        let mut bytes: usize = batch.iter().map(|d| d.body.len()).sum();
        while batch.len() < self.batch_size && bytes < CALL_BYTES && !*stop.borrow() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let limit = RECEIVE_LIMIT.min(self.batch_size - batch.len());
            let more = tokio::select! {
                received = self.queue.receive(limit, left) => received,
                _ = stop.changed() => break,
            };
            match more {
                Ok(more) => {
                    bytes += more.iter().map(|d| d.body.len()).sum::<usize>();
                    batch.extend(more);
                }
                Err(_) => break,
            }
        }
        batch
    }

    async fn call(&self, batch: Vec<Delivery>, stop: &mut watch::Receiver<bool>) {
        let started = Instant::now();
        let event = SqsEvent { records: batch.iter().map(|d| self.record(d)).collect() };
        let failed: HashSet<String> = match serde_json::to_vec(&event) {
            Ok(event) => self.invoke(event, &batch).await,
            Err(e) => {
                tracing::error!(function = %self.verb, error = %e, "cannot write the event");
                batch.iter().map(|d| d.id.clone()).collect()
            }
        };
        let settlements = batch
            .iter()
            .map(|d| {
                let settlement = if failed.contains(&d.id) {
                    Settlement::Release(self.pause(d.receive_count))
                } else {
                    Settlement::Delete
                };
                (d.receipt.clone(), settlement)
            })
            .collect();
        self.settle(settlements, stop).await;
        tracing::info!(
            function = %self.verb,
            messages = batch.len(),
            failed = failed.len(),
            elapsed.ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "batch"
        );
    }

    /// Settles, again and again while the store cannot write: on a full disk the messages would else stay invisible for minutes after
    /// there is room. Ends when the receipts are too old to count.
    async fn settle(&self, mut settlements: Vec<(Receipt, Settlement)>, stop: &mut watch::Receiver<bool>) {
        let until = Instant::now() + self.max_retry;
        loop {
            let results = self.queue.settle(settlements.clone()).await;
            let failed: Vec<_> =
                settlements.into_iter().zip(results).filter_map(|(s, result)| Some((s, result.err()?))).collect();
            let Some((_, first)) = failed.first() else { return };
            // The message comes again; the stages take that for what it is.
            tracing::warn!(
                queue = %self.queue_name,
                messages = failed.len(),
                error = %telemetry::chain(first),
                "cannot settle messages"
            );
            settlements = failed.into_iter().filter(|(_, e)| is_passing(e.kind)).map(|(s, _)| s).collect();
            if settlements.is_empty() || Instant::now() + SETTLE_PAUSE >= until {
                return;
            }
            tokio::select! { () = tokio::time::sleep(SETTLE_PAUSE) => {}, _ = stop.changed() => return }
        }
    }

    fn pause(&self, receive_count: u32) -> Duration {
        FIRST_RETRY.saturating_mul(1 << receive_count.saturating_sub(1).min(16)).min(self.max_retry.max(FIRST_RETRY))
    }

    fn record<'d>(&'d self, delivery: &'d Delivery) -> SqsRecord<'d> {
        SqsRecord {
            message_id: Cow::Borrowed(&delivery.id),
            receipt_handle: Cow::Borrowed(&delivery.receipt.0),
            body: Cow::Borrowed(&delivery.body),
            attributes: SqsAttributes {
                approximate_receive_count: Cow::Owned(delivery.receive_count.to_string()),
                sent_timestamp: Cow::Owned(delivery.sent_ms.to_string()),
            },
            event_source: Cow::Borrowed("aws:sqs"),
            event_source_arn: Cow::Borrowed(&self.queue_name),
        }
    }

    /// Calls the function; answers the ids of the messages that are to come again.
    async fn invoke(&self, event: Vec<u8>, batch: &[Delivery]) -> HashSet<String> {
        let all = || batch.iter().map(|d| d.id.clone()).collect();
        let reply = match call(&self.verb, &self.function, event, self.timeout).await {
            Some(reply) => reply,
            None => return all(),
        };
        if !self.partial_failures {
            return HashSet::new();
        }
        match serde_json::from_slice::<SqsReply>(&reply) {
            Ok(reply) => reply.batch_item_failures.into_iter().map(|f| f.item_identifier).collect(),
            Err(e) => {
                tracing::error!(function = %self.verb, error = %e, "the reply cannot be read");
                all()
            }
        }
    }
}

/// Whether the same call may work later.
fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Full | ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Timeout)
}

/// Calls a function in a task of its own, so that a panic or a time-out fails the call and not the process; `None` when it failed.
pub async fn call(verb: &str, function: &Arc<dyn Function>, event: Vec<u8>, timeout: Duration) -> Option<Vec<u8>> {
    let function = function.clone();
    let task = tokio::spawn(async move { tokio::time::timeout(timeout, function.invoke(&event, now())).await });
    match task.await {
        Ok(Ok(Ok(reply))) => Some(reply),
        Ok(Ok(Err(e))) => {
            tracing::error!(function = verb, error = %telemetry::chain(&e), "the call failed");
            None
        }
        Ok(Err(_)) => {
            tracing::error!(
                function = verb,
                timeout.ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
                "the call took too long"
            );
            None
        }
        Err(e) => {
            tracing::error!(function = verb, error = %e, "the call panicked");
            None
        }
    }
}

/// Calls a function at a fixed rate until `stop` turns true. A tick that is missed is not made up for.
pub async fn run_schedule(
    verb: String,
    function: Arc<dyn Function>,
    every: Duration,
    input: Value,
    timeout: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let event = input.to_string().into_bytes();
    while !*stop.borrow() {
        tokio::select! {
            _ = ticks.tick() => { call(&verb, &function, event.clone(), timeout).await; }
            _ = stop.changed() => break,
        }
    }
}
