//! `ingest`.

use crate::start::run as start;
use sluice_entry::Function;
use sluice_entry::functions::{HttpFunction, ingest_settings};
use sluice_stages::access::Keys;
use sluice_stages::ingest::{Ingest, IngestPorts};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the function.
pub fn run() -> ExitCode {
    start("ingest", async |start| {
        let keys = Arc::new(Keys::new(Arc::new(start.table()?)));
        let ports = IngestPorts { topic: start.topic()?, quarantine: start.quarantine()?, keys };
        let settings = ingest_settings(&start.settings)?;
        let stage = Ingest::new(ports, start.registry().await?, settings);
        Ok(Arc::new(HttpFunction { stage, counting: start.counting()?, front: start.front()? }) as Arc<dyn Function>)
    })
}
