use crate::PortError;
use async_trait::async_trait;
use serde_json::Value;

/// The key of an item: items of one partition are sorted by `sort` (byte order).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Partition key, 1–2,048 bytes.
    pub partition: String,
    /// Sort key, 1–1,024 bytes.
    pub sort: String,
}

impl Key {
    /// A key of these two parts.
    pub fn new(partition: impl Into<String>, sort: impl Into<String>) -> Self {
        Self { partition: partition.into(), sort: sort.into() }
    }
}

/// An item as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its key.
    pub key: Key,
    /// A JSON object.
    pub value: Value,
    /// Changes with every write to the item; from 1.
    pub version: u64,
    /// Seconds since the epoch after which the item may be removed; it may live on for days. Never part of a condition.
    pub expires_at: Option<i64>,
}

/// What must hold for a write to take effect. An expired item that is still there counts as there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Any,
    /// There is no item under the key.
    Absent,
    /// The item has this version.
    Version(u64),
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Replaces the item.
    Put {
        /// The item's key.
        key: Key,
        /// The new value, a JSON object, at most 400 KB as text.
        value: Value,
        /// What must hold.
        condition: Condition,
        /// Expiry in seconds since the epoch.
        expires_at: Option<i64>,
    },
    /// Removes the item; removing what is not there is no error unless the condition says so.
    Delete {
        /// The item's key.
        key: Key,
        /// What must hold.
        condition: Condition,
    },
    /// Adds to integer fields of the item, creating item and fields (from 0) as needed.
    Add {
        /// The item's key.
        key: Key,
        /// Field and what to add to it.
        deltas: Vec<(String, i64)>,
        /// Expiry in seconds since the epoch; set when given.
        expires_at: Option<i64>,
    },
    /// Only a condition.
    Check {
        /// The item's key.
        key: Key,
        /// What must hold.
        condition: Condition,
    },
}

/// A range of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The partition.
    pub partition: String,
    /// Only sort keys that begin with this; empty for all.
    pub prefix: String,
    /// Only sort keys strictly beyond this one, in the direction of reading.
    pub after: Option<String>,
    /// At most this many items.
    pub limit: usize,
    /// Newest (greatest sort key) first.
    pub descending: bool,
}

impl Query {
    /// All items of the partition whose sort key begins with `prefix`, ascending, at most `limit`.
    pub fn prefix(partition: impl Into<String>, prefix: impl Into<String>, limit: usize) -> Self {
        Self { partition: partition.into(), prefix: prefix.into(), after: None, limit, descending: false }
    }
}

/// The table: strongly consistent reads, conditional and transactional writes (DynamoDB semantics).
#[async_trait]
pub trait Table: Send + Sync {
    /// Reads items; one answer per key, in order, `None` where there is none.
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, PortError>;

    /// Does all of the writes or none. At most 100, each to another key. A condition that does not hold is
    /// [`crate::ErrorKind::Conflict`].
    async fn write(&self, writes: Vec<Write>) -> Result<(), PortError>;

    /// Reads a range, in order of the sort key.
    async fn query(&self, query: Query) -> Result<Vec<Item>, PortError>;
}
