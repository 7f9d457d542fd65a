//! Queued items and what becomes of them.

/// One message as a stage gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Identifies the message within its delivery.
    pub id: String,
    /// The body.
    pub body: String,
    /// How often it was delivered, this time included; from 1.
    pub receive_count: u32,
}

/// What becomes of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored, sent, counted, or safely in quarantine: it can be acknowledged.
    Done,
    /// It has to be delivered again: why.
    Retry(String),
}
