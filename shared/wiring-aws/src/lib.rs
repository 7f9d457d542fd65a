//! The Lambda functions over AWS: one module per function, each of which takes the environment to a function that serves.
//!
//! Everything is built once, at cold start: settings, clients, schemas. What is missing is said then, in one line that names it. This
//! crate does not know the template; a test holds what it takes from the environment, and the time-outs below, against it.

mod start;

#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "commit")]
pub mod commit;
#[cfg(feature = "compact")]
pub mod compact;
#[cfg(feature = "convert")]
pub mod convert;
#[cfg(feature = "detect")]
pub mod detect;
#[cfg(feature = "index")]
pub mod index;
#[cfg(feature = "ingest")]
pub mod ingest;
#[cfg(feature = "notify")]
pub mod notify;
#[cfg(feature = "quarantine")]
pub mod quarantine;
#[cfg(feature = "search")]
mod search;

use std::time::Duration;

/// Days that quarantine keeps a record, as the template says: its bucket's lifecycle removes them.
pub const QUARANTINE_DAYS: u32 = 90;

/// How long a function may run before Lambda ends it, as the template says. What it calls is bounded by this.
pub fn timeout(verb: &str) -> Duration {
    Duration::from_secs(match verb {
        "ingest" => 15,
        "commit" | "convert" | "notify" => 60,
        "compact" => 900,
        _ => 30,
    })
}
