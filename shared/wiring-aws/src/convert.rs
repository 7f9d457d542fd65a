//! `convert`.

use crate::start::run as start;
use sluice_columnar::ParquetEncoder;
use sluice_entry::Function;
use sluice_entry::functions::QueueFunction;
use sluice_stages::convert::{Convert, ConvertPorts, ConvertSettings};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the function.
pub fn run() -> ExitCode {
    start("convert", async |start| {
        let ports = ConvertPorts {
            objects: start.objects()?,
            table: Arc::new(start.table()?),
            quarantine: start.quarantine()?,
            commit: Some(start.queue("commit_queue", "SLUICE_COMMIT_QUEUE")?),
        };
        let registry = start.registry().await?;
        let convert = Convert::new(ports, registry, Arc::new(ParquetEncoder::new()), ConvertSettings::default());
        Ok(Arc::new(QueueFunction(convert)) as Arc<dyn Function>)
    })
}
