//! Files become part of a table.

use crate::bucket::Bucket;
use crate::snapshot::{Change, Changing, Delta};
use iceberg::spec::{Operation, TableMetadata};
use sluice_ports::{Append, PortError};
use std::collections::HashMap;

/// Writes all objects of an append but the metadata. `location` is where `metadata` stands.
pub(crate) async fn change(
    bucket: &Bucket,
    location: &str,
    metadata: &TableMetadata,
    append: &Append,
    now_ms: i64,
) -> Result<Change, PortError> {
    let properties = HashMap::from([append.property.clone()]);
    let mut changing = Changing::begin("catalog.append", bucket, location, metadata, properties, now_ms)?;
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
