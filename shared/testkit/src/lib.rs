//! What tests build on: one contract suite per port, memory versions of the ports, and wrappers that inject faults.
//!
//! This crate knows nothing of events or rules and of no technology: it sees the ports only, so every adapter can use it in its own
//! tests. It is linked into tests alone and panics with a sentence when something does not hold.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "linked into tests only, where a panic is the report")]

pub mod clock;
pub mod contract;
pub mod fault;
pub mod memory;
