//! Files become part of a table.

use crate::snapshot::{Change, Changing, Delta, State};
use iceberg::spec::Operation;
use sluice_ports::{Append, PortError};
use std::collections::HashMap;

/// Writes all objects of an append but the metadata.
pub(crate) async fn change(state: State<'_>, append: &Append) -> Result<Change, PortError> {
    let properties = HashMap::from([append.property.clone()]);
    let mut changing = Changing::begin("catalog.append", state, properties)?;
    if append.files.is_empty() {
        return changing.finish();
    }
    let files = append.files.iter().map(|file| changing.data_file(file)).collect::<Result<Vec<_>, _>>()?;
    let before = changing.manifests().await?;
    let mut manifests = vec![changing.added(&files).await?];
    manifests.extend(changing.merge(before).await?);
    let delta = Delta { added: &files, removed: &[] };
    changing.snapshot(Operation::Append, manifests, delta).await?.finish()
}
