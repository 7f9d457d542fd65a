//! A data folder that was moved or copied: the tables in it name their files by the place where it was.

use anyhow::{Context as _, bail};
use sluice_adapters_embedded::objects::DiskObjects;
use sluice_adapters_iceberg::{Relocation, SqlitePointers};
use std::path::Path;
use std::sync::Arc;

/// The catalog of the lake's tables in the data folder.
pub const CATALOG_FILE: &str = "catalog.sqlite";

/// Says where the folder was and what to do, if it was moved.
///
/// Nobody follows it unasked: of a folder that is mounted in two places, each start would turn the tables away from who reads them at the
/// other.
pub(crate) async fn check(relocation: &Relocation, folder: &Path) -> anyhow::Result<()> {
    let moved = relocation.moved().await?;
    let Some(first) = moved.first() else { return Ok(()) };
    let (at, was) = (folder.display(), first.from.trim_start_matches("file://"));
    bail!(
        "the data folder was moved or copied: the tables of its lake name their files in `{was}`, and it is `{at}` now. Run `sluice lake relocate --data {at}` once, or put it back"
    )
}

/// Makes the tables in the folder `data`, which only one process may do at a time, name the place where it is. Calls `done` with each
/// table that has followed, where it was, and how many objects were written; without any where nothing was moved.
///
/// It may end at any point and be run again: a table has followed or has not.
pub async fn relocate(data: &Path, mut done: impl FnMut(&str, &str, usize)) -> anyhow::Result<()> {
    let folder = data.canonicalize().with_context(|| format!("cannot find the folder `{}`", data.display()))?;
    let pointers = Arc::new(SqlitePointers::open(&folder.join(CATALOG_FILE))?);
    let objects = Arc::new(DiskObjects::open(&folder)?);
    let relocation = Relocation::new(pointers, objects, &format!("file://{}", folder.display()));
    for moved in relocation.moved().await? {
        let written = relocation.relocate(&moved).await;
        let written = written.with_context(|| format!("the table `{}` has not followed", moved.table))?;
        done(&moved.table, moved.from.trim_start_matches("file://"), written);
    }
    Ok(())
}
