use crate::pointers::Pointers;
use async_trait::async_trait;
use iceberg::spec::TableMetadata;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use sluice_ports::{ErrorKind, PortError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Name of the catalog: one database may hold several.
const CATALOG: &str = "sluice";
/// Namespace of the tables.
const NAMESPACE: &str = "lake";

/// The layout of Iceberg's JDBC catalog, with the words of PyIceberg: readers look for these very names.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS iceberg_tables (
  catalog_name VARCHAR(255) NOT NULL,
  table_namespace VARCHAR(255) NOT NULL,
  table_name VARCHAR(255) NOT NULL,
  metadata_location VARCHAR(1000),
  previous_metadata_location VARCHAR(1000),
  iceberg_type VARCHAR(5),
  PRIMARY KEY (catalog_name, table_namespace, table_name)
);
CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
  catalog_name VARCHAR(255) NOT NULL,
  namespace VARCHAR(255) NOT NULL,
  property_key VARCHAR(255) NOT NULL,
  property_value VARCHAR(1000) NOT NULL,
  PRIMARY KEY (catalog_name, namespace, property_key)
);
";

/// Pointers in a SQLite database that other engines open as it is (Iceberg's JDBC catalog, PyIceberg's `SqlCatalog`).
#[derive(Debug, Clone)]
pub struct SqlitePointers {
    connection: Arc<Mutex<Connection>>,
    file: Arc<PathBuf>,
}

impl SqlitePointers {
    /// Opens the database, creating it as needed.
    pub fn open(file: &Path) -> Result<Self, PortError> {
        let fail = |error| failed("catalog.open", file, error);
        let connection = Connection::open(file).map_err(fail)?;
        // Others may hold the lock for as long as their own change takes.
        connection.busy_timeout(Duration::from_secs(5)).map_err(fail)?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(fail)?;
        // What was answered survives a power cut: what is settled in the table is settled on it.
        connection.pragma_update(None, "synchronous", "full").map_err(fail)?;
        connection.pragma_update(None, "fullfsync", true).map_err(fail)?;
        connection.execute_batch(SCHEMA).map_err(fail)?;
        let insert = "INSERT OR IGNORE INTO iceberg_namespace_properties VALUES (?1, ?2, 'exists', 'true')";
        connection.execute(insert, [CATALOG, NAMESPACE]).map_err(fail)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), file: Arc::new(file.to_owned()) })
    }

    async fn run<R: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, PortError> {
        let (connection, file) = (self.connection.clone(), self.file.clone());
        let work = move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner));
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result.map_err(|error| failed(operation, &file, error)),
            // The runtime ends, or the work panicked: nobody knows whether it was done.
            Err(error) => {
                Err(PortError::new(ErrorKind::Timeout, operation, "the catalog did not answer").with_source(error))
            }
        }
    }
}

#[async_trait]
impl Pointers for SqlitePointers {
    async fn tables(&self) -> Result<Vec<String>, PortError> {
        self.run("catalog.tables", |connection| {
            let select = "SELECT table_name FROM iceberg_tables WHERE catalog_name = ?1 AND table_namespace = ?2
                          AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL) ORDER BY table_name";
            connection.prepare_cached(select)?.query_map([CATALOG, NAMESPACE], |row| row.get(0))?.collect()
        })
        .await
    }

    async fn get(&self, table: &str) -> Result<Option<String>, PortError> {
        let table = table.to_owned();
        self.run("catalog.load", move |connection| {
            let select = "SELECT metadata_location FROM iceberg_tables
                          WHERE catalog_name = ?1 AND table_namespace = ?2 AND table_name = ?3";
            connection
                .prepare_cached(select)?
                .query_row(params![CATALOG, NAMESPACE, table], |row| row.get(0))
                .optional()
                .map(Option::flatten)
        })
        .await
    }

    async fn create(&self, table: &str, location: &str, _: &TableMetadata) -> Result<(), PortError> {
        let (name, location) = (table.to_owned(), location.to_owned());
        let inserted = self
            .run("catalog.create", move |connection| {
                let insert = "INSERT OR IGNORE INTO iceberg_tables VALUES (?1, ?2, ?3, ?4, NULL, 'TABLE')";
                connection.execute(insert, params![CATALOG, NAMESPACE, name, location])
            })
            .await?;
        if inserted == 1 {
            return Ok(());
        }
        Err(PortError::new(ErrorKind::Conflict, "catalog.create", format!("there is a table `{table}`")))
    }

    async fn swap(&self, table: &str, from: &str, to: &str, _: &TableMetadata) -> Result<(), PortError> {
        let (name, old, new) = (table.to_owned(), from.to_owned(), to.to_owned());
        let changed = self
            .run("catalog.append", move |connection| {
                let update = "UPDATE iceberg_tables SET metadata_location = ?5, previous_metadata_location = ?4
                              WHERE catalog_name = ?1 AND table_namespace = ?2 AND table_name = ?3 AND metadata_location = ?4";
                connection.execute(update, params![CATALOG, NAMESPACE, name, old, new])
            })
            .await?;
        if changed == 1 {
            return Ok(());
        }
        let what = format!("the table `{table}` is in another state than `{from}`");
        Err(PortError::new(ErrorKind::Conflict, "catalog.append", what))
    }
}

fn failed(operation: &'static str, file: &Path, error: rusqlite::Error) -> PortError {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => ErrorKind::Full,
        // It may have failed after the log had the change.
        Some(ErrorCode::SystemIoFailure) => ErrorKind::Timeout,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => ErrorKind::Corrupt,
        Some(_) => ErrorKind::Unavailable,
    };
    PortError::new(kind, operation, format!("the catalog `{}`: {error}", file.display())).with_source(error)
}
