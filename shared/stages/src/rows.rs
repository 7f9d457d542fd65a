//! Rows of the table, as all stages read and write them.

use serde_json::Value;
use sluice_domain::time::{SECOND_US, Timestamp};
use sluice_ports::{Condition, ErrorKind, Item, Key, PortError, Query, Table, Write};

/// Rows read at once.
pub(crate) const PAGE: usize = 1_000;

/// All rows of a partition in order of their sort keys, page by page.
pub(crate) async fn all(table: &dyn Table, partition: &str) -> Result<Vec<Item>, PortError> {
    let mut items: Vec<Item> = Vec::new();
    let mut after = None;
    loop {
        let page = table.query(Query { after, ..Query::prefix(partition, "", PAGE) }).await?;
        // A page may hold fewer items than asked for and not be the last (DynamoDB cuts at 1 MB): only an empty one is.
        let Some(last) = page.last() else { return Ok(items) };
        after = Some(last.key.sort.clone());
        items.extend(page);
    }
}

/// Writes once: together with the row `marker`, which must not be there. Answers whether it was written now; `false` means that it was
/// written before, or that the reply was lost.
pub(crate) async fn write_once(
    table: &dyn Table,
    marker: Key,
    value: Value,
    expires_at: Option<i64>,
    writes: impl Iterator<Item = Write> + Send,
) -> Result<bool, PortError> {
    let put = Write::Put { key: marker.clone(), value, condition: Condition::Absent, expires_at };
    match table.write([put].into_iter().chain(writes).collect()).await {
        Ok(()) => Ok(true),
        Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => {
            if table.get(&[marker]).await?.iter().any(Option::is_some) { Ok(false) } else { Err(e) }
        }
        Err(e) => Err(e),
    }
}

/// When a row that is kept for so many microseconds expires, in seconds since the epoch.
pub(crate) fn expiry(now: Timestamp, keep_us: i64) -> i64 {
    now.micros().saturating_add(keep_us) / SECOND_US
}

/// A row that cannot be read.
pub(crate) fn corrupt(key: &Key) -> PortError {
    PortError::new(ErrorKind::Corrupt, "table.get", format!("`{}`/`{}` cannot be read", key.partition, key.sort))
}
