//! The lake's layout: object keys, and what turns events into a file's bytes.

use crate::event::Event;
use crate::scan::{Cursor, Head};
use crate::schema::Schema;
use crate::time::Timestamp;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;

/// Partitions that one group may touch in one table; the rest goes to the next group.
pub const MAX_PARTITIONS: usize = 200;

/// A data file's bytes and what is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedFile {
    /// Parquet bytes.
    pub bytes: Vec<u8>,
    /// Rows in it.
    pub rows: u64,
    /// Earliest `time`.
    pub min_time: Timestamp,
    /// Latest `time`.
    pub max_time: Timestamp,
}

/// Why an event does not fit the schema of its table. Ingest has checked it, but the schema may have changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// JSON pointer inside the event.
    pub pointer: String,
    /// What is wrong.
    pub reason: String,
}

/// The bytes could not be made; the events are not at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeError(pub String);

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot encode: {}", self.0)
    }
}

impl std::error::Error for EncodeError {}

/// Makes the data files of tables.
pub trait Encoder: Send + Sync {
    /// A table without rows, for the events of one partition.
    fn table(&self, schema: &Schema) -> Result<Box<dyn TableBuilder>, EncodeError>;
}

/// The rows of one partition of one table.
pub trait TableBuilder: Send + Sync {
    /// Reads an event straight from its text: `head` is what stands before its data, and the cursor stands behind that. Answers whether it
    /// became the next row, and then the cursor stands behind the event. Where it answers `false` nothing has happened, and
    /// [`Self::push`] has to say why.
    fn push_text<'t>(&mut self, head: &Head<'t>, cursor: &mut Cursor<'t>) -> bool;

    /// Makes an event the next row, or says why it does not fit.
    fn push(&mut self, event: &Event<'_>) -> Result<(), Misfit>;

    /// How many rows there are.
    fn rows(&self) -> u32;

    /// A data file of some of the rows (at least one, each at most once), sorted by (`x-sort`, `time`, `source`, `id`).
    fn encode(&self, rows: &[u32]) -> Result<EncodedFile, EncodeError>;
}

/// Says how many rows a data file has by its own footer.
pub trait RowCount: Send + Sync {
    /// Rows of the file with these bytes; an error means that it is no data file, or a damaged one.
    fn rows(&self, bytes: &[u8]) -> Result<u64, EncodeError>;
}

/// Users who are to be forgotten, by their `userid`, each with the moment up to which: rows that were received later are not meant.
pub type Erased = BTreeMap<String, Timestamp>;

/// Makes few data files of many.
pub trait Rewriter: Send + Sync {
    /// Begins on a partition of so many rows. Rows of `erased` users are left out.
    fn begin(&self, schema: &Schema, rows: u64, erased: &Erased) -> Result<Box<dyn Rewrite>, EncodeError>;

    /// How many rows of a file are of `erased` users. An error means that it is no data file of this table, or a damaged one.
    fn erased_rows(&self, schema: &Schema, bytes: Bytes, erased: &Erased) -> Result<u64, EncodeError>;
}

/// The rows of one partition on their way into other files: sorted by (`x-sort`, `time`, `source`, `id`), one row per identity (`source`,
/// `id`, `time`), which is the one that was received first. Bounded in memory, whatever the partition's size.
///
/// Files are known by numbers of the caller's: first each is shown in every pass, so that repeated rows are known; then those that are to be
/// rewritten are taken, and the new ones come out.
pub trait Rewrite: Send {
    /// How often all files are shown: the identities of a large partition do not fit the memory at once.
    fn passes(&self) -> u32;

    /// Shows a file in the pass that is on. An error means that it is no data file of this table, or a damaged one.
    fn show(&mut self, file: u32, bytes: Bytes) -> Result<Shown, EncodeError>;

    /// Ends a pass.
    fn end_pass(&mut self);

    /// Rows of a file that are repeated by others, once all passes have ended.
    fn repeated(&self, file: u32) -> u64;

    /// Takes the rows of a file that are neither repeated nor erased; answers how many.
    fn take(&mut self, file: u32, bytes: Bytes) -> Result<u64, EncodeError>;

    /// The next new file; `None` when all rows that were taken are in files.
    fn next_file(&mut self) -> Result<Option<EncodedFile>, EncodeError>;
}

/// What is seen of a file that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Rows in it.
    pub rows: u64,
    /// Those of them that are to be erased.
    pub erased: u64,
}

/// The key of a data file: `lake/{table}/data/{partition}/{name}.parquet`. `name` is a group id and a number, never text from outside.
pub fn data_key(schema: &Schema, time: Timestamp, name: &str) -> String {
    format!("lake/{}/data/{}/{name}.parquet", schema.table, schema.partition.folder(time))
}

/// The key of a quarantined item: `quarantine/dt=YYYY-MM-DD/{id}.json`.
pub fn quarantine_key(received: Timestamp, id: &str) -> String {
    format!("quarantine/dt={}/{id}.json", received.date_text())
}

/// The search index of an event of this table: `sluice-{table}-{yyyy.MM}` by its own time.
pub fn index_name(table: &str, time: Timestamp) -> String {
    format!("sluice-{table}-{}", time.month_text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_partition() {
        let schema = |partition: &str| {
            Schema::parse("f", &format!(r#"{{"type":"object","x-type":"web.event","x-partition":"{partition}"}}"#))
                .unwrap()
        };
        let time = Timestamp::parse_rfc3339("2026-11-21T09:30:00Z").unwrap();
        assert_eq!(data_key(&schema("hour"), time, "g-0"), "lake/web_event/data/dt=2026-11-21/hour=09/g-0.parquet");
        assert_eq!(data_key(&schema("day"), time, "g-0"), "lake/web_event/data/dt=2026-11-21/g-0.parquet");
        assert_eq!(data_key(&schema("month"), time, "g-0"), "lake/web_event/data/dt=2026-11-01/g-0.parquet");
        assert_eq!(index_name("web_event", time), "sluice-web_event-2026.11");
        assert_eq!(quarantine_key(time, "x"), "quarantine/dt=2026-11-21/x.json");
    }
}
