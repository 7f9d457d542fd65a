use crate::PortError;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};

/// A table of the lake as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableHead {
    /// Names this state among all that the table ever had. Each change, by whomever, makes another one; none comes back.
    pub token: String,
    /// The table's properties.
    pub properties: BTreeMap<String, String>,
}

/// A data file of a table, or an object that is to become one. All its rows fall into one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFile {
    /// Object key.
    pub key: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub size_bytes: u64,
    /// Least and greatest value of the time column that the table is cut by, microseconds since the epoch.
    pub time_us: (i64, i64),
}

/// A change of a table: all of it in one step, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The table's name.
    pub table: String,
    /// The state that the change is made on.
    pub token: String,
    /// Files that become part of the table.
    pub files: Vec<TableFile>,
    /// A property that is set: name and value.
    pub property: (String, String),
}

/// A change of the files that a table has: all of it in one step, or nothing. Whoever reads sees the files before or the files after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replace {
    /// The table's name.
    pub table: String,
    /// The state that the change is made on.
    pub token: String,
    /// Keys of files that are no longer part of the table.
    pub removed: Vec<String>,
    /// Files that become part of it.
    pub added: Vec<TableFile>,
    /// Properties that are set: names and values.
    pub properties: BTreeMap<String, String>,
}

/// A change of what can still be read of a table: files are forgotten with every state that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forget {
    /// The table's name.
    pub table: String,
    /// The state that the change is made on.
    pub token: String,
    /// Keys of files that are no longer part of the table.
    pub files: BTreeSet<String>,
}

/// A table in figures, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFigures {
    /// Its name.
    pub name: String,
    /// Rows in it.
    pub rows: u64,
    /// Size of its data files.
    pub size_bytes: u64,
    /// Data files.
    pub files: u64,
    /// States that can be read.
    pub snapshots: u64,
    /// When it last changed, milliseconds since the epoch.
    pub changed_ms: i64,
}

/// The tables of the lake (Apache Iceberg semantics). Reads are strongly consistent.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// The table as it stands; `None` where there is none.
    async fn load(&self, table: &str) -> Result<Option<TableHead>, PortError>;

    /// Makes a table without files and properties. One that is there is [`crate::ErrorKind::Conflict`]; one whose columns nobody knows is
    /// [`crate::ErrorKind::NotFound`].
    async fn create(&self, table: &str) -> Result<(), PortError>;

    /// Changes a table, provided that its state is still the one named; any other is [`crate::ErrorKind::Conflict`], and nothing has
    /// happened. The files are not looked for in the table: the same file twice is the caller's mistake.
    async fn append(&self, append: Append) -> Result<(), PortError>;

    /// The table as it stands with its files, in no particular order; `None` where there is none. Bounds of time that a file does not say are
    /// those of its partition, or the widest there are. Rows that were deleted and are still in files are [`crate::ErrorKind::Invalid`].
    async fn files(&self, table: &str) -> Result<Option<(TableHead, Vec<TableFile>)>, PortError>;

    /// Changes the files of a table, provided that its state is still the one named; any other is [`crate::ErrorKind::Conflict`], and
    /// nothing has happened. A removed file that the table does not have is [`crate::ErrorKind::Invalid`].
    async fn replace(&self, replace: Replace) -> Result<(), PortError>;

    /// Keys of all objects that some state of the table needs which can still be read; `None` where there is no such table.
    async fn needed(&self, table: &str) -> Result<Option<BTreeSet<String>>, PortError>;

    /// Makes every state of the table unreadable that has one of the files, provided that the table's state is still the one named; any other
    /// is [`crate::ErrorKind::Conflict`], and nothing has happened. A file that the table as it stands has is
    /// [`crate::ErrorKind::Invalid`]. The objects themselves stay. Where no state has any of them nothing changes.
    async fn forget(&self, forget: Forget) -> Result<(), PortError>;

    /// All tables in figures, sorted by name.
    async fn figures(&self) -> Result<Vec<TableFigures>, PortError>;
}
