//! `commit`.

use crate::start::run as start;
use sluice_entry::Function;
use sluice_entry::functions::CommitFunction;
use sluice_stages::commit::{Commit, CommitPorts, CommitSettings};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the function.
pub fn run() -> ExitCode {
    start("commit", async |start| {
        let registry = start.registry().await?;
        let ports = CommitPorts { table: Arc::new(start.table()?), catalog: start.catalog(registry)? };
        Ok(Arc::new(CommitFunction(Commit::new(ports, CommitSettings::default()))) as Arc<dyn Function>)
    })
}
