//! `compact`.

use crate::search;
use crate::start::run as start;
use sluice_columnar::ParquetRewriter;
use sluice_entry::Function;
use sluice_entry::functions::CompactFunction;
use sluice_ports::{SearchRemoval, Table};
use sluice_stages::compact::{Compact, CompactPorts, CompactSettings};
use sluice_stages::erase::{Erase, ErasePorts};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Time in which parts of the lake are looked through for users. The tables are compacted in the rest of the function's time.
const ERASE_BUDGET: Duration = Duration::from_secs(300);

/// Runs the function.
pub fn run() -> ExitCode {
    start("compact", async |start| {
        let registry = start.registry().await?;
        let table: Arc<dyn Table> = Arc::new(start.table()?);
        let objects = start.objects()?;
        let ports = CompactPorts {
            table: table.clone(),
            catalog: start.catalog(registry.clone())?,
            objects: objects.clone(),
            rewriter: Arc::new(ParquetRewriter::default()),
        };
        let compact = Arc::new(Compact::new(ports, registry.clone(), CompactSettings::default()));
        let search = search::open(start).await?.map(|search| search as Arc<dyn SearchRemoval>);
        let ports = ErasePorts { table: table.clone(), objects, search: search.clone(), outbox: None };
        let erase = Erase::new(ports, compact.clone(), ERASE_BUDGET);
        Ok(Arc::new(CompactFunction { compact, erase, search, table, registry }) as Arc<dyn Function>)
    })
}
