//! `quarantine`.

use crate::start::run as start;
use sluice_entry::Function;
use sluice_entry::functions::QueueFunction;
use sluice_stages::quarantine::Quarantine;
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the function.
pub fn run() -> ExitCode {
    start("quarantine", async |start| {
        Ok(Arc::new(QueueFunction(Quarantine::new(start.objects()?))) as Arc<dyn Function>)
    })
}
