//! The stages: one module each, over the ports, the same code on AWS and on one machine.
//!
//! This crate does not know Lambda's event JSON, Arrow, Parquet, SQLite or any AWS service. A stage that takes queued messages answers one
//! question per item: done, or to be delivered again ([`item::Outcome`]); what can never succeed it sends to quarantine itself and answers
//! done. Time is an argument.

pub mod access;
mod alarm;
pub mod api;
pub mod attempts;
pub mod channels;
pub mod commit;
pub mod compact;
pub mod convert;
mod csv;
pub mod detect;
pub mod erase;
pub mod exposition;
pub mod game;
pub mod groups;
pub mod http;
pub mod incidents;
pub mod index;
mod indexed;
pub mod ingest;
mod intake;
pub mod item;
pub mod ledger;
mod limits;
mod listing;
pub mod members;
pub mod networks;
pub mod notify;
mod partitions;
pub mod passwords;
pub mod quarantine;
pub mod requests;
pub mod retire;
pub mod routes;
mod rows;
pub mod rules;
pub mod sessions;
pub mod watch;
