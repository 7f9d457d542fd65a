use async_trait::async_trait;
use iceberg::spec::TableMetadata;
use sluice_ports::PortError;

/// Where the newest metadata of each table is. A location is never used again.
#[async_trait]
pub trait Pointers: Send + Sync {
    /// The names of all tables, sorted.
    async fn tables(&self) -> Result<Vec<String>, PortError>;

    /// Location of a table's metadata; `None` where there is no such table. Strongly consistent.
    async fn get(&self, table: &str) -> Result<Option<String>, PortError>;

    /// Points to the first metadata of a table; one that is there is [`sluice_ports::ErrorKind::Conflict`]. `metadata` is what stands at
    /// the location, for catalogs that show columns.
    async fn create(&self, table: &str, location: &str, metadata: &TableMetadata) -> Result<(), PortError>;

    /// Points to other metadata, provided that the pointer is still `from`; else [`sluice_ports::ErrorKind::Conflict`]. `metadata` is what
    /// stands at `to`.
    async fn swap(&self, table: &str, from: &str, to: &str, metadata: &TableMetadata) -> Result<(), PortError>;
}
