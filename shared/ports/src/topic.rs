use crate::{Item, PortError};
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;

/// A number to add to a named counter, in the same durable step as the send where the adapter can.
///
/// The counter is the field `field` of the table row `(partition "counter", sort = counter)`. An adapter that cannot add to it in the step of
/// the send may keep the sums of what it has sent in rows of its own, `(partition "counter", sort = "@…")`, whose fields are named
/// `counter field`. [`Tally::of`] reads both; the value of a counter is the sum over all rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Sort key of the counter row.
    pub counter: String,
    /// Field of the row.
    pub field: String,
    /// What to add.
    pub by: i64,
}

impl Tally {
    /// What a row of the partition `counter` says.
    pub fn of(row: &Item) -> Vec<Self> {
        let is_sums = row.key.sort.starts_with('@');
        let read = |(name, value): (&String, &Value)| {
            let (counter, field) =
                if is_sums { name.rsplit_once(' ')? } else { (row.key.sort.as_str(), name.as_str()) };
            Some(Self { counter: counter.to_owned(), field: field.to_owned(), by: value.as_i64()? })
        };
        row.value.as_object().into_iter().flatten().filter_map(read).collect()
    }
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
