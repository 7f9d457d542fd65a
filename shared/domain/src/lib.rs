//! The domain: events and their envelope, schemas, the packed message, identities, object keys, alert rules, when to try again.
//!
//! Pure: no I/O, no clock, no async, and no knowledge of the ports, of AWS, of Arrow or of any storage.

pub mod accept;
pub mod access_log;
pub mod alert;
pub mod demo;
pub mod event;
pub mod game;
pub mod identity;
pub mod json;
pub mod lake;
pub mod message;
pub mod personal;
pub mod redshift;
pub mod report;
pub mod retry;
pub mod scan;
pub mod schema;
pub mod time;
