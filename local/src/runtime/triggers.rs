//! What calls functions beside HTTP: queues and the clock, as Lambda's event-source mappings and EventBridge Scheduler do on AWS.

use crate::runtime::now;
use serde_json::Value;
use sluice_domain::retry;
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
    /// The queue's visibility time-out: how long a receipt counts.
    pub visibility: Duration,
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
                    Settlement::Release(retry::pause(d.receive_count, &d.id))
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
        let until = Instant::now() + self.visibility;
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

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use sluice_domain::time::Timestamp;
    use sluice_entry::InvokeError;
    use sluice_entry::sqs::ItemFailure;
    use sluice_ports::Message;
    use sluice_testkit::clock::FakeClock;
    use sluice_testkit::memory::{MemoryQueue, QueueRules};
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    /// Fails at everything until some time, and notes when what came.
    struct Recovering {
        clock: FakeClock,
        well_ms: i64,
        seen: Mutex<BTreeMap<String, Vec<i64>>>,
    }

    #[async_trait]
    impl Function for Recovering {
        async fn invoke(&self, event: &[u8], _: Timestamp) -> Result<Vec<u8>, InvokeError> {
            let event: SqsEvent<'_> = serde_json::from_slice(event).unwrap();
            let now_ms = self.clock.now_ms();
            let mut reply = SqsReply::default();
            for record in event.records {
                self.seen.lock().unwrap().entry(record.body.into_owned()).or_default().push(now_ms);
                if now_ms < self.well_ms {
                    reply.batch_item_failures.push(ItemFailure { item_identifier: record.message_id.into_owned() });
                }
            }
            Ok(serde_json::to_vec(&reply).unwrap())
        }
    }

    /// A queue with a trigger, on a clock that this test moves.
    struct World {
        clock: FakeClock,
        begun_ms: i64,
        queue: Arc<MemoryQueue>,
        dead: Arc<MemoryQueue>,
        function: Arc<Recovering>,
        trigger: QueueTrigger,
    }

    impl World {
        fn new(well_after: Duration, max_receive_count: u32) -> Self {
            let clock = FakeClock::default();
            let begun_ms = clock.now_ms();
            let dead = Arc::new(MemoryQueue::with(QueueRules { clock: clock.clone(), ..QueueRules::default() }));
            let visibility = Duration::from_secs(360);
            let queue = Arc::new(MemoryQueue::with(QueueRules {
                visibility_timeout: visibility,
                dead_letter: Some((dead.clone(), max_receive_count)),
                clock: clock.clone(),
                ..QueueRules::default()
            }));
            let well_ms = begun_ms + i64::try_from(well_after.as_millis()).unwrap();
            let function = Arc::new(Recovering { clock: clock.clone(), well_ms, seen: Mutex::default() });
            let trigger = QueueTrigger {
                verb: "convert".into(),
                function: function.clone(),
                queue: queue.clone(),
                queue_name: "ConvertQueue".into(),
                batch_size: 100,
                window: Duration::ZERO,
                partial_failures: true,
                timeout: Duration::from_secs(60),
                visibility,
            };
            Self { clock, begun_ms, queue, dead, function, trigger }
        }

        async fn send(&self, body: &str) {
            let sent = self.queue.send(vec![Message { body: body.into(), ..Message::default() }]).await;
            assert!(sent.iter().all(Result::is_ok));
        }

        /// Takes what is there, each second until then.
        async fn run_until(&self, after: Duration) {
            let (_keep, mut stop) = watch::channel(false);
            while self.clock.now_ms() < self.begun_ms + i64::try_from(after.as_millis()).unwrap() {
                let batch = self.queue.receive(100, Duration::ZERO).await.unwrap();
                if !batch.is_empty() {
                    self.trigger.call(batch, &mut stop).await;
                }
                self.clock.advance(Duration::from_secs(1));
            }
        }

        /// When a message was seen, in seconds since the beginning.
        fn seen(&self, body: &str) -> Vec<i64> {
            self.function.seen.lock().unwrap()[body].iter().map(|ms| (ms - self.begun_ms) / 1_000).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_fails_comes_again_later_each_time_and_is_done_soon_after_the_fault() {
        let world = World::new(Duration::from_mins(10), 24);
        world.send("old").await;
        world.run_until(Duration::from_mins(10)).await;
        world.send("new").await;
        world.run_until(Duration::from_mins(30)).await;
        let old = world.seen("old");
        let waits: Vec<i64> = old.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (n, wait) in (1u32..).zip(&waits) {
            let longest = 2i64.pow(n).min(900);
            assert!((longest / 2..=longest).contains(wait), "wait {n} of {waits:?}");
        }
        assert!((10..=11).contains(&old.len()), "{old:?}");
        assert!((600..1_500).contains(old.last().unwrap()), "{old:?}");
        assert_eq!(world.seen("new"), [600], "what comes after the fault is not held up");
        let depth = world.queue.depth().await.unwrap();
        assert_eq!((depth.visible, depth.in_flight), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_becomes_a_dead_letter_after_hours_and_not_after_minutes() {
        let world = World::new(Duration::from_hours(24), 24);
        world.send("poison").await;
        world.run_until(Duration::from_mins(110)).await;
        assert_eq!(world.dead.depth().await.unwrap().visible, 0);
        world.run_until(Duration::from_hours(5)).await;
        assert_eq!((world.dead.depth().await.unwrap().visible, world.seen("poison").len()), (1, 24));
    }
}
