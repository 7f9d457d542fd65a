use crate::PortError;
use async_trait::async_trait;
use std::collections::BTreeMap;

/// A number to add to a named counter, in the same durable step as the send where the adapter can.
///
/// The counter is the table row `(partition "counter", sort = counter)`, its field `field`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Sort key of the counter row.
    pub counter: String,
    /// Field of the row.
    pub field: String,
    /// What to add.
    pub by: i64,
}

/// One message for a topic or a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Text, at most 256 KiB for a topic and 1 MiB for a queue.
    pub body: String,
    /// String-array attributes that subscriptions filter by (SNS `String.Array`).
    pub attributes: BTreeMap<String, Vec<String>>,
    /// How many events the body carries; queues report the sum as [`crate::Depth::events`] where they can.
    pub events: u64,
    /// Counters that go with the send.
    pub tally: Vec<Tally>,
}

/// A topic: one durable publish, copied to each subscription whose filter matches.
#[async_trait]
pub trait Topic: Send + Sync {
    /// Publishes; `Ok` means that the message is durable and will reach every matching subscription at least once.
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>>;
}
