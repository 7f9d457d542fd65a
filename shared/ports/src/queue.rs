use crate::{Message, PortError};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::time::Duration;

/// What names one delivery of one message; a later delivery has another receipt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt(pub String);

/// One message as a consumer gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Identifies the message, the same in every delivery.
    pub id: String,
    /// Identifies this delivery.
    pub receipt: Receipt,
    /// The body as it was sent.
    pub body: String,
    /// The attributes as they were sent.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// How often it was delivered, this time included; from 1.
    pub receive_count: u32,
    /// When it was sent, milliseconds since the epoch.
    pub sent_ms: i64,
    /// How many events it carries, where the adapter knows (0 otherwise).
    pub events: u64,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Done: the message goes away.
    Delete,
    /// Given back: visible again after this long.
    Release(Duration),
}

/// How much lies in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that can be received now.
    pub visible: u64,
    /// Messages delivered and not yet settled.
    pub in_flight: u64,
    /// Events in all of them, where the adapter knows.
    pub events: Option<u64>,
    /// Bytes of their bodies, where the adapter knows.
    pub bytes: Option<u64>,
    /// Age of the oldest message in milliseconds, where there is one.
    pub oldest_ms: Option<u64>,
}

/// A queue with visibility time-out, redelivery and a dead-letter queue behind it (SQS semantics).
#[async_trait]
pub trait Queue: Send + Sync {
    /// Sends; `Ok` means durable.
    async fn send(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>>;

    /// Receives at most `limit` messages, waiting up to `wait` for the first one. Each stays invisible for the queue's visibility
    /// time-out. A message received more often than the queue's `maxReceiveCount` moves to the dead-letter queue instead.
    async fn receive(&self, limit: usize, wait: Duration) -> Result<Vec<Delivery>, PortError>;

    /// Settles deliveries. A receipt that is no longer the newest of its message is [`crate::ErrorKind::NotFound`].
    async fn settle(&self, outcomes: Vec<(Receipt, Settlement)>) -> Vec<Result<(), PortError>>;

    /// How much lies in the queue.
    async fn depth(&self) -> Result<Depth, PortError>;
}

/// What an operator does to queues, beside their traffic. Queues are named as in the template (`ConvertQueue`).
#[async_trait]
pub trait QueueConsole: Send + Sync {
    /// All queues: name, depth, and the name of the dead-letter queue where there is one; sorted by name.
    async fn list(&self) -> Result<Vec<(String, Depth, Option<String>)>, PortError>;

    /// Looks at up to `limit` messages, oldest first, without receiving them (receive counts stay).
    async fn peek(&self, queue: &str, limit: usize) -> Result<Vec<Delivery>, PortError>;

    /// Moves up to `limit` messages of a dead-letter queue back to the queue that they came from; answers how many.
    async fn redrive(&self, dead_letter_queue: &str, limit: u64) -> Result<u64, PortError>;
}
