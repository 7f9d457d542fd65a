//! What a reader of the tables sees: the files of the newest snapshot.

use crate::snapshot::manifests;
use crate::catalog::IcebergCatalog;
use crate::columns::TIME;
use crate::unreadable;
use iceberg::io::FileIO;
use iceberg::spec::{ManifestContentType, ManifestFile, PrimitiveLiteral, TableMetadata};
use sluice_ports::{ErrorKind, PortError, TableFigures, TableFile};
use std::collections::HashMap;
use std::sync::Arc;

impl IcebergCatalog {
    pub(crate) async fn table_figures(&self, table: &str) -> Result<Option<TableFigures>, PortError> {
        let Some((_, metadata)) = self.metadata(table).await? else { return Ok(None) };
        let files = self.files_of(table, &metadata).await?;
        Ok(Some(TableFigures {
            name: table.to_owned(),
            rows: files.iter().map(|file| file.rows).sum(),
            size_bytes: files.iter().map(|file| file.size_bytes).sum(),
            files: files.len() as u64,
            snapshots: metadata.snapshots().len() as u64,
            changed_ms: metadata.last_updated_ms(),
        }))
    }

    /// A table with delete files, which another engine wrote, is [`ErrorKind::Invalid`]: its rows are not the rows of its files.
    pub(crate) async fn files_of(&self, table: &str, metadata: &TableMetadata) -> Result<Vec<TableFile>, PortError> {
        let time = metadata.current_schema().field_by_name(TIME).map(|field| field.id).unwrap_or_default();
        let mut files = Vec::new();
        let Some(snapshot) = metadata.current_snapshot() else { return Ok(files) };
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
        Ok(files)
    }

    async fn read_manifest(&self, table: &str, manifest: &ManifestFile, time: i32) -> Result<Vec<TableFile>, PortError> {
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
            files.push(TableFile {
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
