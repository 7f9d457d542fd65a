//! The lake's tables as Apache Iceberg tables of format version 2: metadata, manifests and data files are objects of the [`Objects`] port,
//! and a catalog holds one pointer per table, to the newest metadata.
//!
//! A change of a table is a new metadata object and one conditional update of the pointer; whoever reads follows the pointer and sees the
//! table before the change or after it. Objects of a change that did not come about are in no table.
//!
//! This crate knows the schemas' columns, and nothing of events, groups or commits. Crate `iceberg` reads and writes the formats; its
//! transactions are not used: they load and retry by themselves, and have no action that replaces files.
//!
//! [`Objects`]: sluice_ports::Objects

mod append;
mod bucket;
mod catalog;
mod columns;
mod evolve;
mod forget;
mod live;
mod needed;
mod pointers;
mod relocate;
mod replace;
mod snapshot;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use catalog::IcebergCatalog;
pub use pointers::Pointers;
pub use relocate::{Moved, Relocation};
#[cfg(feature = "sqlite")]
pub use sqlite::SqlitePointers;

use sluice_ports::{ErrorKind, PortError};

/// What crate `iceberg` says against what a table has, or against what is to be written.
fn unreadable(operation: &'static str, what: &str, error: iceberg::Error) -> PortError {
    PortError::new(ErrorKind::Corrupt, operation, format!("{what}: {error}")).with_source(error)
}
