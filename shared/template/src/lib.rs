//! Reads `template.yaml`, the SAM template that deploys the platform, into a typed [`Topology`].
//!
//! This crate does not know what a stage does, which adapters exist, or how a queue or a route is served; it knows only what the template
//! names and how the parts hang together. The one-machine runtime and the template rules are built on what it answers.
//!
//! It is strict: a section, resource type, property, function or name that it does not know is an error that says where in the file it
//! stands ([`TemplateError`]). What is known and means nothing on one machine (access rights, tags, encryption …) is listed in one table,
//! and its places in the file are in [`Topology::ignored`].

mod error;
mod filter;
mod known;
mod read;
mod resolve;
mod route;
mod scalar;
mod syntax;
mod topology;

pub use error::TemplateError;
pub use filter::{Filter, Pattern};
pub use route::{Route, RouteMatch};
pub use topology::{
    Alarm, Bucket, DeadLetter, Function, Parameter, Permission, Queue, Subscription, Table, Topology, Trigger,
};
