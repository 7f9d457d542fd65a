//! The ports: the few small traits through which the stages reach the outside.
//!
//! This crate knows nothing of events, schemas or rules, and of no technology either. An adapter implements a port for one
//! technology and passes the port's contract suite in `sluice-testkit`. Conventions that hold for every port:
//!
//! - A batch call answers one result per input, in the order of the inputs.
//! - [`ErrorKind::Timeout`] means *unknown*: the effect may have happened, may happen later, or never. Every other error means that it
//!   did not happen.
//! - Time is an argument where it decides anything; adapters read a clock only for leases, visibility and expiry.

mod catalog;
mod error;
mod hook;
mod mail;
mod objects;
mod queue;
mod search;
mod sql;
mod table;
mod topic;

pub use catalog::{Append, Catalog, Forget, Replace, TableFigures, TableFile, TableHead};
pub use error::{ErrorKind, PortError};
pub use hook::{HookCall, Hooks};
pub use mail::{Email, Mail, Outbox, SEND_TIMEOUT, SentMail};
pub use objects::{ObjectMeta, Objects, PutMode};
pub use queue::{Delivery, Depth, Queue, QueueConsole, Receipt, Settlement};
pub use search::{Document, DocumentId, DocumentOutcome, IndexTemplate, Search, SearchRemoval};
pub use sql::{Sql, SqlColumn, SqlLimits, SqlResult};
pub use table::{Condition, Item, Key, Query, Table, Write};
pub use topic::{Message, Tally, Topic};
