//! `compact`.

use crate::start::run as start;
use sluice_columnar::ParquetRewriter;
use sluice_entry::Function;
use sluice_entry::functions::CompactFunction;
use sluice_stages::compact::{Compact, CompactPorts, CompactSettings};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the function.
pub fn run() -> ExitCode {
    start("compact", async |start| {
        let registry = start.registry().await?;
        let ports = CompactPorts {
            table: Arc::new(start.table()?),
            catalog: start.catalog(registry.clone())?,
            objects: start.objects()?,
            rewriter: Arc::new(ParquetRewriter::default()),
        };
        let compact = Compact::new(ports, registry, CompactSettings::default());
        Ok(Arc::new(CompactFunction(compact)) as Arc<dyn Function>)
    })
}
