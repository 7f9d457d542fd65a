//! One suite per port: what every adapter must do, whatever its technology.
//!
//! Each suite has a function `all` that runs every check in turn on one instance and panics with a sentence at the first that does not
//! hold. Checks keep out of each other's way by name and leave queues empty, so a suite can run against a shared cloud resource too.

pub mod catalog;
pub mod mail;
pub mod objects;
pub mod search;
pub mod sql;
pub mod table;
pub mod topic_queue;

use sluice_ports::{ErrorKind, PortError};
use std::fmt::Debug;

/// Panics unless the call failed with this kind.
#[track_caller]
fn assert_kind<T: Debug>(outcome: Result<T, PortError>, kind: ErrorKind, why: &str) {
    match outcome {
        Err(error) if error.kind == kind => {}
        other => panic!("{why}: expected {kind:?}, got {other:?}"),
    }
}
