//! `index`.

use crate::search;
use crate::start::run as start;
use anyhow::Context as _;
use sluice_entry::Function;
use sluice_entry::functions::QueueFunction;
use sluice_stages::index::{Index, IndexPorts, IndexSettings};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the function.
pub fn run() -> ExitCode {
    start("index", async |start| {
        let search = search::open(start).await?.context(
            "there is no search: neither setting `search_endpoint` (`SLUICE_SEARCH_ENDPOINT`) nor `search_domain` is given",
        )?;
        let ports = IndexPorts { search, table: Arc::new(start.table()?), quarantine: start.quarantine()? };
        let index = Index::new(ports, start.registry().await?, IndexSettings::default());
        index.define_templates().await.context("the search index cannot be prepared")?;
        Ok(Arc::new(QueueFunction(index)) as Arc<dyn Function>)
    })
}
