//! Counters that go with a message.
//!
//! SNS and SQS share no transaction with DynamoDB, so a count is written *after* the service has confirmed the message: what was never
//! sent is never counted. A producer keeps sums of what it has sent and writes them, whole, to rows of its own ([`Tally`] says how they are
//! read). To write a sum again changes nothing, so this needs neither a transaction nor a token, however often a call is repeated; one write
//! of one unit counts all types of a request, and no two producers meet in one item. A count that cannot be written does not fail the
//! send, which would make the client send events again that are there; it is logged, and the next send writes it.
//!
//! What is left: a process that dies between the two, and a send whose outcome nobody knows but which arrived, leave events that were
//! not counted as accepted. The ledger shows them as *more stored than accepted* in that hour; it never shows a loss that is none, and
//! never hides one.

use crate::dynamodb::{DynamoTable, token};
use futures::future::join_all;
use serde_json::{Map, Value};
use sluice_ports::{Key, Message, PortError, Tally};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The pause between two tries, each of which has its own retries.
const PAUSE: Duration = Duration::from_millis(200);
/// Sums in one row. A sum takes about 50 bytes, and up to 1 KB a write is one unit.
const SUMS: usize = 16;

/// The counters of one producer.
#[derive(Debug, Clone)]
pub(crate) struct Counters {
    table: DynamoTable,
    /// The rows that may still change or are not written, the newest last.
    rows: Arc<Mutex<Vec<Row>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    sort: String,
    /// `counter field` → sum.
    sums: BTreeMap<String, i64>,
    /// How often the sums have changed; the greater number is the newer state.
    changed: u64,
    /// The change that the table is known to have.
    written: u64,
}

impl Counters {
    /// Counters of a new producer.
    pub(crate) fn new(table: DynamoTable) -> Self {
        Self { table, rows: Arc::default() }
    }

    /// Counts the messages that were sent. A counter that cannot be written holds up the send no longer than half of what a call to
    /// the table may take.
    pub(crate) async fn count(&self, messages: &[Message], results: &[Result<(), PortError>]) {
        let sent = messages.iter().zip(results).filter(|(_, result)| result.is_ok());
        let open = self.with_rows(|rows| {
            add(rows, sent.flat_map(|(message, _)| &message.tally));
            rows.iter().filter(|row| row.written < row.changed).cloned().collect::<Vec<_>>()
        });
        let writes = open.iter().map(|row| self.write(row));
        let Err(why) = join_all(writes).await.into_iter().collect::<Result<Vec<()>, _>>() else { return };
        let missing: Vec<String> =
            open.iter().flat_map(|row| &row.sums).map(|(name, n)| format!("{name}={n}")).collect();
        tracing::error!(error.message = why, counters.missing = missing.join(" "), "what was sent is not counted yet");
    }

    async fn write(&self, row: &Row) -> Result<(), String> {
        let mut last = None;
        let tries = async {
            let key = Key::new("counter", &row.sort);
            let value: Map<String, Value> = row.sums.iter().map(|(name, n)| (name.clone(), (*n).into())).collect();
            while let Err(error) = self.table.put_newer(&key, &value, row.changed).await {
                let may_succeed = error.is_transient();
                last = Some(error);
                if !may_succeed {
                    return false;
                }
                tokio::time::sleep(PAUSE).await;
            }
            true
        };
        if let Ok(true) = tokio::time::timeout(self.table.patience() / 2, tries).await {
            self.with_rows(|rows| written(rows, row));
            return Ok(());
        }
        Err(last.map_or_else(|| "no answer in time".to_owned(), |error: PortError| error.to_string()))
    }

    fn with_rows<T>(&self, change: impl FnOnce(&mut Vec<Row>) -> T) -> T {
        change(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Adds to the sums of the newest row, and where that is full, to a new one.
fn add<'t>(rows: &mut Vec<Row>, tallies: impl Iterator<Item = &'t Tally>) {
    for tally in tallies {
        let name = format!("{} {}", tally.counter, tally.field);
        let fits = |row: &&mut Row| row.sums.len() < SUMS || row.sums.contains_key(&name);
        let row = match rows.last_mut().filter(fits) {
            Some(row) => row,
            None => {
                rows.push(Row { sort: format!("@{}", token()), sums: BTreeMap::new(), changed: 0, written: 0 });
                let Some(row) = rows.last_mut() else { return };
                row
            }
        };
        *row.sums.entry(name).or_default() += tally.by;
        row.changed += 1;
    }
}

/// Notes what the table has; a row that is full and written is let go.
fn written(rows: &mut Vec<Row>, row: &Row) {
    if let Some(known) = rows.iter_mut().find(|known| known.sort == row.sort) {
        known.written = known.written.max(row.changed);
    }
    let newest = rows.len().saturating_sub(1);
    let mut at = 0..;
    rows.retain(|row| at.next() == Some(newest) || row.written < row.changed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(counter: &str, field: &str, by: i64) -> Tally {
        Tally { counter: counter.into(), field: field.into(), by }
    }

    #[test]
    fn counts_are_summed_by_counter_and_field() {
        let mut rows = Vec::new();
        add(&mut rows, [tally("a", "x", 1), tally("b", "x", 2), tally("a", "x", 3), tally("a", "y", 4)].iter());
        let sums: Vec<_> = rows[0].sums.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!((sums, rows.len()), (vec![("a x", 4), ("a y", 4), ("b x", 2)], 1));
        assert!(rows[0].sort.starts_with('@') && rows[0].written < rows[0].changed);
    }

    #[test]
    fn a_full_row_is_kept_until_it_is_written() {
        let mut rows = Vec::new();
        let many: Vec<Tally> = (0..=SUMS).map(|n| tally(&n.to_string(), "x", 1)).collect();
        add(&mut rows, many.iter());
        assert_eq!(rows.iter().map(|row| row.sums.len()).collect::<Vec<_>>(), [SUMS, 1]);
        let [full, newest] = [rows[0].clone(), rows[1].clone()];
        add(&mut rows, [tally("0", "x", 1)].iter());
        assert_eq!(rows[1].sums["0 x"], 1, "a row that is full does not change any more");
        written(&mut rows, &newest);
        assert_eq!(rows.len(), 2, "the full one is not written");
        written(&mut rows, &full);
        assert_eq!(rows.len(), 1);
        assert!(rows[0].written < rows[0].changed, "it has changed since");
    }
}
