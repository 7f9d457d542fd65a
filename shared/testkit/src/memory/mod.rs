//! The ports in memory: small, exact enough to pass the contract suites, and open for inspection by a test.

mod catalog;
mod hooks;
mod mail;
mod objects;
mod queue;
mod search;
mod table;
mod topic;

pub use catalog::MemoryCatalog;
pub use hooks::MemoryHooks;
pub use mail::MemoryMail;
pub use objects::MemoryObjects;
pub use queue::{MemoryConsole, MemoryQueue, QueueRules};
pub use search::MemorySearch;
pub use table::MemoryTable;
pub use topic::MemoryTopic;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks although another test thread may have panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
