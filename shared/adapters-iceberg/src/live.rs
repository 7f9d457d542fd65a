//! What a reader of the tables sees: the files of the newest snapshot.

use crate::catalog::IcebergCatalog;
use crate::columns::TIME;
use crate::snapshot::{manifests, tag_of, tags};
use iceberg::spec::{
    Literal, ManifestContentType, ManifestFile, PrimitiveLiteral, SnapshotRef, Struct, TableMetadata, Transform,
};
use sluice_domain::time::{DAY_US, HOUR_US, Timestamp};
use sluice_ports::{ErrorKind, PortError, TableFigures, TableFile};
use std::collections::HashMap;
use std::sync::Arc;

impl IcebergCatalog {
    pub(crate) async fn table_figures(&self, table: &str) -> Result<Option<TableFigures>, PortError> {
        let Some((_, metadata)) = self.metadata(table).await? else { return Ok(None) };
        let [rows, size_bytes, files] = match totals(&metadata) {
            Some(totals) => totals,
            // Another engine did not say them.
            None => {
                let files = self.files_of(table, &metadata, metadata.current_snapshot()).await?;
                let sum = |of: fn(&TableFile) -> u64| files.iter().map(of).sum();
                [sum(|file| file.rows), sum(|file| file.size_bytes), files.len() as u64]
            }
        };
        Ok(Some(TableFigures {
            name: table.to_owned(),
            rows,
            size_bytes,
            files,
            snapshots: metadata.snapshots().len() as u64,
            changed_ms: metadata.last_updated_ms(),
        }))
    }

    /// The files of a table as it stood at a moment, milliseconds since the epoch; `None` where there is no such table. A moment that no
    /// state is left of is [`ErrorKind::Invalid`].
    pub async fn files_at(&self, table: &str, at_ms: i64) -> Result<Option<Vec<TableFile>>, PortError> {
        let Some((_, metadata)) = self.metadata(table).await? else { return Ok(None) };
        let mut snapshots: Vec<_> = metadata.snapshots().collect();
        snapshots.sort_unstable_by_key(|snapshot| snapshot.sequence_number());
        let next = snapshots.iter().position(|snapshot| snapshot.timestamp_ms() > at_ms).unwrap_or(snapshots.len());
        let before = next.checked_sub(1).map(|last| snapshots[last]);
        // Between the two there may have been states that are gone.
        let is_known = match (before, snapshots.get(next)) {
            (_, None) => true,
            (Some(before), Some(next)) => {
                next.parent_snapshot_id() == Some(before.snapshot_id())
                    || tags(&metadata)?.contains(&(tag_of(at_ms), before.snapshot_id()))
            }
            (None, Some(next)) => next.parent_snapshot_id().is_none(),
        };
        if is_known {
            return self.files_of(table, &metadata, before).await.map(Some);
        }
        let oldest = Timestamp::from_micros(snapshots[0].timestamp_ms().saturating_mul(1_000));
        let oldest = oldest.map(|at| format!("; the oldest that is left is of {at}")).unwrap_or_default();
        let what = format!("no state of the table `{table}` is left of that moment{oldest}");
        Err(PortError::new(ErrorKind::Invalid, "catalog.load", what))
    }

    /// A table with delete files, which another engine wrote, is [`ErrorKind::Invalid`]: its rows are not the rows of its files.
    pub(crate) async fn files_of(
        &self,
        table: &str,
        metadata: &TableMetadata,
        snapshot: Option<&SnapshotRef>,
    ) -> Result<Vec<TableFile>, PortError> {
        let mut files = Vec::new();
        let Some(snapshot) = snapshot else { return Ok(files) };
        let known = self.manifests().get(table).cloned().unwrap_or_default();
        let mut used = HashMap::new();
        for manifest in manifests(&self.bucket, snapshot).await? {
            let read = match known.get(&manifest.manifest_path) {
                Some(read) => read.clone(),
                None => Arc::new(self.read_manifest(table, &manifest, metadata).await?),
            };
            files.extend(read.iter().cloned());
            used.insert(manifest.manifest_path, read);
        }
        if metadata.current_snapshot_id() == Some(snapshot.snapshot_id()) {
            self.manifests().insert(table.to_owned(), used);
        }
        Ok(files)
    }

    async fn read_manifest(
        &self,
        table: &str,
        manifest: &ManifestFile,
        metadata: &TableMetadata,
    ) -> Result<Vec<TableFile>, PortError> {
        let time = metadata.current_schema().field_by_name(TIME).map(|field| field.id).unwrap_or_default();
        let mut files = Vec::new();
        for entry in self.bucket.entries("catalog.load", manifest).await? {
            if manifest.content == ManifestContentType::Deletes {
                let what = format!(
                    "the table `{table}` has rows that another engine deleted and that are still in its files; let that engine rewrite them (`OPTIMIZE`)"
                );
                return Err(PortError::new(ErrorKind::Invalid, "catalog.load", what));
            }
            let file = entry.data_file();
            let of_partition = partition_span(file.partition(), manifest.partition_spec_id, metadata);
            let bound = |datum: Option<&iceberg::spec::Datum>| match datum.map(|datum| datum.literal()) {
                Some(PrimitiveLiteral::Long(micros)) => Some(*micros),
                _ => None,
            };
            files.push(TableFile {
                key: self.bucket.key(file.file_path())?.to_owned(),
                rows: file.record_count(),
                size_bytes: file.file_size_in_bytes(),
                time_us: (
                    bound(file.lower_bounds().get(&time)).unwrap_or(of_partition.0),
                    bound(file.upper_bounds().get(&time)).unwrap_or(of_partition.1),
                ),
            });
        }
        Ok(files)
    }
}

/// Rows, bytes and files by the newest snapshot's own account.
fn totals(metadata: &TableMetadata) -> Option<[u64; 3]> {
    let Some(snapshot) = metadata.current_snapshot() else { return Some([0; 3]) };
    let says = &snapshot.summary().additional_properties;
    let total = |name: &str| says.get(name)?.parse().ok();
    // Rows that are deleted and still in files would be counted.
    let is_plain = total("total-delete-files") == Some(0);
    let totals = [total("total-records")?, total("total-files-size")?, total("total-data-files")?];
    is_plain.then_some(totals)
}

/// The times that a partition may have, microseconds since the epoch: all there are, where the table is not cut by hour, day or month.
fn partition_span(partition: &Struct, spec: i32, metadata: &TableMetadata) -> (i64, i64) {
    let all = (i64::MIN, i64::MAX);
    let Some(field) = metadata.partition_spec_by_id(spec).and_then(|spec| spec.fields().first()) else { return all };
    let Some(Some(Literal::Primitive(PrimitiveLiteral::Int(number)))) = partition.iter().next() else { return all };
    let unit = match field.transform {
        Transform::Hour => HOUR_US,
        Transform::Day => DAY_US,
        Transform::Month => {
            let year = 1970 + number.div_euclid(12);
            let first = Timestamp::parse_rfc3339(&format!("{year:04}-{:02}-01T00:00:00Z", 1 + number.rem_euclid(12)));
            return first.map_or(all, |first| (first.micros(), first.month().1.micros() - 1));
        }
        _ => return all,
    };
    let start = i64::from(*number) * unit;
    (start, start + unit - 1)
}
