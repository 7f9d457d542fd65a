//! What SQL reads on one machine: the files of the tables' newest snapshots.

use async_trait::async_trait;
use sluice_adapters_embedded::sql::{Lake, LakeFile, LakeTable};
use sluice_adapters_iceberg::IcebergCatalog;
use sluice_columnar::arrow_schema;
use sluice_domain::schema::Registry;
use sluice_ports::{Catalog as _, PortError, TableFile};
use std::path::PathBuf;
use std::sync::Arc;

/// The lake's tables.
pub struct TableLake {
    /// What is in them.
    pub catalog: Arc<IcebergCatalog>,
    /// Which tables there may be.
    pub registry: Arc<Registry>,
    /// Folder of the objects.
    pub objects: PathBuf,
}

#[async_trait]
impl Lake for TableLake {
    async fn tables(&self) -> Result<Vec<LakeTable>, PortError> {
        Ok(self.registry.iter().map(|s| LakeTable { name: s.table.clone(), schema: arrow_schema(s) }).collect())
    }

    async fn files(&self, table: &str, at_us: Option<i64>) -> Result<Vec<LakeFile>, PortError> {
        let files = match at_us {
            Some(at_us) => self.catalog.files_at(table, at_us / 1_000).await?,
            None => self.catalog.files(table).await?.map(|(_, files)| files),
        };
        let Some(files) = files else { return Ok(Vec::new()) };
        let file = |file: TableFile| LakeFile {
            path: self.objects.join(&file.key),
            size_bytes: file.size_bytes,
            rows: file.rows,
            min_time_us: file.time_us.0,
            max_time_us: file.time_us.1,
        };
        Ok(files.into_iter().map(file).collect())
    }
}
