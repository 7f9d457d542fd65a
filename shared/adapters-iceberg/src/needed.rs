//! What the states of a table that can still be read are made of.

use crate::bucket::Bucket;
use crate::snapshot::manifests;
use iceberg::spec::TableMetadata;
use sluice_ports::PortError;
use std::collections::{BTreeSet, HashSet};

/// Keys of the metadata, and of the lists, manifests and data files of all its snapshots.
pub(crate) async fn keys(
    bucket: &Bucket,
    location: &str,
    metadata: &TableMetadata,
) -> Result<BTreeSet<String>, PortError> {
    let mut locations: HashSet<String> = HashSet::from([location.to_owned()]);
    locations.extend(metadata.metadata_log().iter().map(|log| log.metadata_file.clone()));
    locations.extend(metadata.statistics_iter().map(|statistics| statistics.statistics_path.clone()));
    locations.extend(metadata.partition_statistics_iter().map(|statistics| statistics.statistics_path.clone()));
    for snapshot in metadata.snapshots() {
        locations.insert(snapshot.manifest_list().to_owned());
        for manifest in manifests(bucket, snapshot).await? {
            if !locations.insert(manifest.manifest_path.clone()) {
                continue;
            }
            let entries = bucket.entries("catalog.needed", &manifest).await?;
            locations.extend(entries.iter().map(|entry| entry.data_file().file_path().to_owned()));
        }
    }
    locations.iter().map(|location| bucket.key(location).map(str::to_owned)).collect()
}
