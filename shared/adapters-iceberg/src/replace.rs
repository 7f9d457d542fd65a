//! Files of a table give way to others.

use crate::snapshot::{Change, Changing, Delta, State};
use iceberg::spec::Operation;
use sluice_ports::{ErrorKind, PortError, Replace};
use std::collections::HashSet;

const REPLACE: &str = "catalog.replace";

/// Writes all objects of a replacement but the metadata.
pub(crate) async fn change(state: State<'_>, replace: &Replace) -> Result<Change, PortError> {
    let properties = replace.properties.clone().into_iter().collect();
    let mut changing = Changing::begin(REPLACE, state, properties)?;
    if replace.removed.is_empty() && replace.added.is_empty() {
        return changing.finish();
    }
    let added = replace.added.iter().map(|file| changing.data_file(file)).collect::<Result<Vec<_>, _>>()?;
    let keys: HashSet<&str> = replace.removed.iter().map(String::as_str).collect();
    let before = changing.manifests().await?;
    let (rest, removed) =
        changing.without(before, |location| state.bucket.key(location).is_ok_and(|key| keys.contains(key))).await?;
    if removed.len() != keys.len() {
        let found: HashSet<&str> = removed.iter().filter_map(|file| state.bucket.key(file.file_path()).ok()).collect();
        let missing = keys.difference(&found).next().copied().unwrap_or_default();
        let what = format!("the table `{}` has no file `{missing}`", replace.table);
        return Err(PortError::new(ErrorKind::Invalid, REPLACE, what));
    }
    let mut manifests = Vec::new();
    if !added.is_empty() {
        manifests.push(changing.added(&added).await?);
    }
    manifests.extend(changing.merge(rest).await?);
    let operation = if added.is_empty() { Operation::Delete } else { Operation::Replace };
    changing.snapshot(operation, manifests, Delta { added: &added, removed: &removed }).await?.finish()
}
