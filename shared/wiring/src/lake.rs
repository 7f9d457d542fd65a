//! What SQL reads on one machine: the files that committed groups recorded.

use async_trait::async_trait;
use sluice_adapters_embedded::sql::{Lake, LakeFile, LakeTable};
use sluice_columnar::arrow_schema;
use sluice_domain::schema::Registry;
use sluice_ports::{PortError, Table};
use sluice_stages::groups::recorded_files;
use std::path::PathBuf;
use std::sync::Arc;

/// The recorded files as tables.
pub struct RecordedLake {
    /// Where the group records lie.
    pub table: Arc<dyn Table>,
    /// Which tables there are.
    pub registry: Arc<Registry>,
    /// Folder of the objects.
    pub objects: PathBuf,
}

#[async_trait]
impl Lake for RecordedLake {
    async fn tables(&self) -> Result<Vec<LakeTable>, PortError> {
        Ok(self.registry.iter().map(|s| LakeTable { name: s.table.clone(), schema: arrow_schema(s) }).collect())
    }

    async fn files(&self, table: &str) -> Result<Vec<LakeFile>, PortError> {
        let files = recorded_files(self.table.as_ref(), table).await?;
        Ok(files
            .into_iter()
            .map(|f| LakeFile {
                path: self.objects.join(&f.key),
                size_bytes: f.size_bytes,
                rows: f.rows,
                min_time_us: f.min_time.micros(),
                max_time_us: f.max_time.micros(),
            })
            .collect())
    }
}
