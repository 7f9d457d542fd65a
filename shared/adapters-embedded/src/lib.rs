//! The ports on one machine: queues and table in SQLite, objects and mail as files, search in tantivy, SQL in DataFusion.
//!
//! This crate knows nothing of events, schemas, rules or templates: names of queues, keys and mappings come in as plain values. It
//! takes no lock on the data folder either; whoever opens these parts sees to it that one process does so at a time.

#[cfg(any(feature = "objects", feature = "mail"))]
mod durable;
#[cfg(feature = "mail")]
pub mod mail;
#[cfg(feature = "objects")]
pub mod objects;
#[cfg(feature = "search")]
pub mod search;
#[cfg(feature = "sql")]
pub mod sql;
#[cfg(feature = "state")]
pub mod state;
