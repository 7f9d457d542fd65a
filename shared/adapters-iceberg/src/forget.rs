//! States of a table that have certain files go.

use crate::bucket::Bucket;
use crate::snapshot::{Change, Changing, State, manifests};
use iceberg::spec::{ManifestFile, TableMetadata};
use sluice_ports::{ErrorKind, Forget, PortError};
use std::collections::{HashMap, HashSet};

const FORGET: &str = "catalog.forget";

/// The change by which those snapshots go, whatever names them; `None` where there is none.
pub(crate) async fn change(state: State<'_>, forget: &Forget) -> Result<Option<Change>, PortError> {
    let having = snapshots_with(state.bucket, state.metadata, forget).await?;
    if state.metadata.current_snapshot_id().is_some_and(|current| having.contains(&current)) {
        let what = format!("the table `{}` has one of the files as it stands", forget.table);
        return Err(PortError::new(ErrorKind::Invalid, FORGET, what));
    }
    if having.is_empty() {
        return Ok(None);
    }
    Changing::begin(FORGET, state, HashMap::new())?.finish_without(&having).map(Some)
}

/// Ids of the snapshots that have one of the files.
async fn snapshots_with(bucket: &Bucket, metadata: &TableMetadata, forget: &Forget) -> Result<HashSet<i64>, PortError> {
    let mut having = HashSet::new();
    // Snapshots share manifests.
    let mut known: HashMap<String, bool> = HashMap::new();
    for snapshot in metadata.snapshots() {
        for manifest in manifests(bucket, snapshot).await? {
            let has = match known.get(&manifest.manifest_path) {
                Some(has) => *has,
                None => {
                    let has = lists(bucket, &manifest, forget).await?;
                    known.insert(manifest.manifest_path.clone(), has);
                    has
                }
            };
            if has {
                having.insert(snapshot.snapshot_id());
            }
        }
    }
    Ok(having)
}

/// Whether a manifest has one of the files alive.
async fn lists(bucket: &Bucket, manifest: &ManifestFile, forget: &Forget) -> Result<bool, PortError> {
    let entries = bucket.entries(FORGET, manifest).await?;
    let mut alive = entries.iter().map(|entry| entry.data_file().file_path());
    Ok(alive.any(|location| bucket.key(location).is_ok_and(|key| forget.files.contains(key))))
}
