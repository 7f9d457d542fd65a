//! `detect`.

use crate::start::run as start;
use sluice_entry::Function;
use sluice_entry::functions::DetectFunction;
use sluice_stages::detect::{Detect, DetectPorts, DetectSettings};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the function.
pub fn run() -> ExitCode {
    start("detect", async |start| {
        let ports =
            DetectPorts { table: Arc::new(start.table()?), topic: start.topic()?, quarantine: start.quarantine()? };
        let detect = Detect::new(ports, start.registry().await?, DetectSettings::default());
        Ok(Arc::new(DetectFunction(detect)) as Arc<dyn Function>)
    })
}
