//! The deterministic simulation of exactly-once: the stages as they are, on ports of which every call waits for a schedule.
//!
//! Nothing here knows Lambda, SQLite or AWS; time and chance come from the schedule alone, and no thread or timer is used. What a schedule
//! can do: answer any waiting call in any order; refuse it, lose its reply, or let its effect land later or never; kill a process at any
//! call; deliver any messages together, in any order, to overlapping consumers, again and again; move the clock on, so that leases run
//! out; deploy other schemas; change the rules; let clients send again. Then everything comes to rest, and [`check`](check::check) counts.

#![allow(clippy::expect_used, reason = "it is a test: what cannot be is a mistake in it")]

pub mod backend;
pub mod call;
pub mod check;
pub mod exhaustive;
pub mod lines;
pub mod port;
pub mod random;
pub mod rest;
pub mod scenario;
pub mod schedule;
pub mod simulation;
