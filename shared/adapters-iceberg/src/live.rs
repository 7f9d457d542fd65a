//! What a reader of the tables sees: the files of the newest snapshot.

use crate::append::manifests;
use crate::catalog::IcebergCatalog;
use crate::columns::TIME;
use crate::unreadable;
use iceberg::io::FileIO;
use iceberg::spec::{ManifestContentType, ManifestFile, PrimitiveLiteral};
use sluice_ports::{ErrorKind, PortError};
use std::collections::HashMap;
use std::sync::Arc;

/// A data file of a table's newest snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFile {
    /// Object key.
    pub key: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub size_bytes: u64,
    /// Bounds of its times, microseconds since the epoch.
    pub time_us: (i64, i64),
}

/// A table in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTable {
    /// Its name.
    pub name: String,
    /// Its files.
    pub files: Vec<LiveFile>,
    /// Snapshots that can be read.
    pub snapshots: usize,
    /// When it last changed, milliseconds since the epoch.
    pub changed_ms: i64,
}

impl IcebergCatalog {
    /// The files of a table; none where there is no such table. A table with delete files, which another engine wrote, is
    /// [`ErrorKind::Invalid`]: its rows are not the rows of its files.
    pub async fn live_files(&self, table: &str) -> Result<Vec<LiveFile>, PortError> {
        Ok(self.live_table(table).await?.map(|table| table.files).unwrap_or_default())
    }

    /// All tables, sorted by name.
    pub async fn live_tables(&self) -> Result<Vec<LiveTable>, PortError> {
        let mut tables = Vec::new();
        for name in self.pointers.tables().await? {
            tables.extend(self.live_table(&name).await?);
        }
        Ok(tables)
    }

    async fn live_table(&self, table: &str) -> Result<Option<LiveTable>, PortError> {
        let Some((_, metadata)) = self.metadata(table).await? else { return Ok(None) };
        let time = metadata.current_schema().field_by_name(TIME).map(|field| field.id).unwrap_or_default();
        let mut files = Vec::new();
        if let Some(snapshot) = metadata.current_snapshot() {
            let known = self.manifests().remove(table).unwrap_or_default();
            let mut used = HashMap::new();
            for manifest in manifests(&self.bucket, snapshot).await? {
                let read = match known.get(&manifest.manifest_path) {
                    Some(read) => read.clone(),
                    None => Arc::new(self.read_manifest(table, &manifest, time).await?),
                };
                files.extend(read.iter().cloned());
                used.insert(manifest.manifest_path, read);
            }
            self.manifests().insert(table.to_owned(), used);
        }
        Ok(Some(LiveTable {
            name: table.to_owned(),
            files,
            snapshots: metadata.snapshots().len(),
            changed_ms: metadata.last_updated_ms(),
        }))
    }

    async fn read_manifest(&self, table: &str, manifest: &ManifestFile, time: i32) -> Result<Vec<LiveFile>, PortError> {
        let mut files = Vec::new();
        let memory = FileIO::new_with_memory();
        self.bucket.fetch(&manifest.manifest_path, &memory).await?;
        let read = manifest.load_manifest(&memory).await;
        let read = read.map_err(|e| unreadable("catalog.load", &manifest.manifest_path, e))?;
        for entry in read.entries().iter().filter(|entry| entry.is_alive()) {
            if manifest.content == ManifestContentType::Deletes {
                let what = format!(
                    "the table `{table}` has rows that another engine deleted and that are still in its files; let that engine rewrite them (`OPTIMIZE`)"
                );
                return Err(PortError::new(ErrorKind::Invalid, "catalog.load", what));
            }
            let file = entry.data_file();
            let bound = |datum: Option<&iceberg::spec::Datum>| match datum.map(|datum| datum.literal()) {
                Some(PrimitiveLiteral::Long(micros)) => Some(*micros),
                _ => None,
            };
            files.push(LiveFile {
                key: self.bucket.key(file.file_path())?.to_owned(),
                rows: file.record_count(),
                size_bytes: file.file_size_in_bytes(),
                time_us: (
                    bound(file.lower_bounds().get(&time)).unwrap_or(i64::MIN),
                    bound(file.upper_bounds().get(&time)).unwrap_or(i64::MAX),
                ),
            });
        }
        Ok(files)
    }
}
