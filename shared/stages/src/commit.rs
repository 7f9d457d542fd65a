//! `commit`: recorded files become part of their tables, each of them once.
//!
//! A group that commits leaves an item for each of its tables in the partition `file#<table>`: files that count and are in no table's metadata
//! yet, *open* ones. The table's row `("commit", table)` is the numbered commit record: which open items are the next change of the table. The
//! property [`PROPERTY`] of the table itself is the number of the last record that took effect; it is set in the same swap of the metadata
//! that appends the record's files. Items whose files a table has are *settled*: moved to `filed#<table>`.
//!
//! A committer loads the table (property `p`), and reads the record (number `n`):
//!
//! 1. `n = p`: the record has taken effect. Its items are settled. Then the oldest open items become record `p + 1`, on the condition that the
//!    row is still the one that was read.
//! 2. `n = p + 1`: exactly the files of the record's items are appended and the property is set to `n`, on the condition that the table's
//!    metadata is still the one that was loaded. After a conflict, or when it is not known what happened, all begins again with the load.
//! 3. Anything else was overtaken between the two reads, and begins again.
//!
//! # Why no file is in its table twice, and none is left out
//!
//! - *Numbers only grow.* A swap sets `n` on metadata that says `n - 1`; other engines carry properties over. The row goes from `n` to
//!   `n + 1` by a write on its version, made after metadata that said `n` was loaded. So the row is always `p` or `p + 1`, and each number
//!   stands for one list of items, which nothing replaces before it has taken effect: whoever executes record `n` appends the same files.
//! - *A record takes effect once.* Its swap needs metadata that says `n - 1`, and makes it say `n`. Two committers, a process that died, a
//!   reply that was lost, a swap that lands weeks late: whatever comes second finds other metadata, and does nothing. It is of no matter what
//!   the table's files are by then: snapshots may have expired, and files may have been compacted by us or by others. A conflict with such a
//!   change is no commit of ours, so the same record is executed again on the new metadata.
//! - *An item is in one record.* Record `n + 1` is written after all items of record `n` were seen to be no longer open; the items of earlier
//!   ones were not open by then, and nothing opens an item again: its put is part of the one conditional transaction by which its group
//!   commits. A record is made of items that are open, so of none of an earlier one. What was read before another committer went on
//!   fails by the row's version.
//! - *A settled item is in the table.* It is settled on the evidence that a record lists it and that the property has reached the record's
//!   number. Both stay true, so a settlement may land late. Its rows are counted in the same step, which finds the item as it was read or
//!   does nothing, so they are counted once.
//! - *An incomplete record is not executed.* Items that are missing were settled, so the table has gone on, and the swap would find that out;
//!   the committer begins again with the load.
//! - *No item is forgotten.* It stays open until its files are in the table, and whatever made it, a lost message included, the clock's tick
//!   finds the tables that have open items.
//!
//! A table whose metadata and record disagree otherwise (it was dropped, or its row was) is left alone, with an error that says so: to guess
//! would be to lose rows or to have them twice.

use crate::groups::{self, RecordedFile};
use crate::intake::retry;
use crate::item::{Item, Outcome};
use crate::rows::corrupt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sluice_domain::time::Timestamp;
use sluice_ports::{
    Append, Catalog, Condition, ErrorKind, Key, Message, PortError, Queue, Table, TableFile, TableHead, Write,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The table property that holds the number of the last commit that took effect.
pub const PROPERTY: &str = "sluice.commit";

/// Items of a record: their names fit its row.
const MAX_ITEMS: usize = 1_000;
/// How often a table is looked at without getting on before it is left for another delivery.
const LOOKS: usize = 6;

/// What the stage reaches the outside through.
#[derive(Clone)]
pub struct CommitPorts {
    /// Recorded files and commit records.
    pub table: Arc<dyn Table>,
    /// The lake's tables.
    pub catalog: Arc<dyn Catalog>,
}

/// How the stage works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitSettings {
    /// Files after which a record takes no further item.
    pub max_files: usize,
    /// Time after which no further table, and no further record, is begun; what is left is given back.
    pub budget: Duration,
}

impl Default for CommitSettings {
    fn default() -> Self {
        Self { max_files: 1_000, budget: Duration::from_secs(30) }
    }
}

/// The stage.
pub struct Commit {
    ports: CommitPorts,
    settings: CommitSettings,
}

/// What the queue brings.
#[derive(Debug, Serialize, Deserialize)]
struct Announcement {
    table: String,
}

/// The record of a table, as its row holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    /// From 1.
    number: u64,
    /// Sort keys of items that were open when it was written.
    items: Vec<String>,
}

/// How far a table got.
enum Step {
    /// Nothing is open.
    Finished,
    /// Another step follows.
    Further,
    /// Somebody else went on, or it is not known what happened.
    Overtaken(PortError),
}

/// Says that tables have open items. A message that is lost costs time and nothing else: the tick finds the items.
pub(crate) async fn announce(queue: &dyn Queue, tables: impl Iterator<Item = &String>) {
    let messages: Vec<Message> = tables
        .map(|table| Message { body: json!(Announcement { table: table.clone() }).to_string(), ..Message::default() })
        .collect();
    if messages.is_empty() {
        return;
    }
    if let Some(error) = queue.send(messages).await.into_iter().find_map(Result::err) {
        tracing::warn!(%error, "new files are left for the tick to find");
    }
}

impl Commit {
    /// The stage over its ports.
    pub fn new(ports: CommitPorts, settings: CommitSettings) -> Self {
        Self { ports, settings }
    }

    /// Brings the tables that queued messages name up to date; one outcome per item, in order.
    pub async fn run(&self, items: &[Item], now: Timestamp) -> Vec<Outcome> {
        let began = Instant::now();
        let mut tables: BTreeMap<String, Outcome> = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(items.len());
        for item in items {
            let Ok(Announcement { table }) = serde_json::from_str(&item.body) else {
                // It says nothing that the tick would not find.
                tracing::error!(item.id = %item.id, "a message names no table");
                outcomes.push(Outcome::Done);
                continue;
            };
            if !tables.contains_key(&table) {
                let outcome = match self.bring_up_to_date(&table, now, began).await {
                    Ok(()) => Outcome::Done,
                    Err(e) => retry(&e.to_string()),
                };
                tables.insert(table.clone(), outcome);
            }
            outcomes.push(tables[&table].clone());
        }
        outcomes
    }

    /// Brings every table up to date that has open items, announced or not. The first error is answered, when all have had their turn.
    pub async fn tick(&self, now: Timestamp) -> Result<(), PortError> {
        let began = Instant::now();
        let mut first_failure = None;
        let state = self.ports.table.as_ref();
        for table in groups::recorded_tables(state).await? {
            if groups::oldest_open(state, &table, 1, 1).await?.is_empty() {
                continue;
            }
            if let Err(error) = self.bring_up_to_date(&table, now, began).await {
                first_failure.get_or_insert(error);
            }
        }
        first_failure.map_or(Ok(()), Err)
    }

    async fn bring_up_to_date(&self, table: &str, now: Timestamp, began: Instant) -> Result<(), PortError> {
        let mut looks = 0;
        loop {
            if began.elapsed() > self.settings.budget {
                return Err(PortError::new(ErrorKind::Throttled, "catalog.append", "there is no time left"));
            }
            match self.step(table, now).await? {
                Step::Finished => return Ok(()),
                Step::Further => looks = 0,
                Step::Overtaken(error) => {
                    looks += 1;
                    if looks == LOOKS {
                        tracing::error!(lake.table = %table, %error, "a table does not get on");
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn step(&self, table: &str, now: Timestamp) -> Result<Step, PortError> {
        let state = self.ports.table.as_ref();
        let Some(head) = self.ports.catalog.load(table).await? else {
            return self.create(table).await;
        };
        let done = committed(table, &head)?;
        let (record, condition) = self.record(table).await?;
        match record {
            Some(record) if record.number == done + 1 => {
                let Some(files) = groups::open_files(state, table, &record.items).await? else {
                    return Ok(Step::Overtaken(disagree(table, done, &record)));
                };
                self.execute(table, &head, &record, files).await
            }
            Some(record) if record.number != done => Ok(Step::Overtaken(disagree(table, done, &record))),
            None if done != 0 => Ok(Step::Overtaken(disagree(table, done, &Record { number: 0, items: Vec::new() }))),
            record => {
                self.settle(table, record.as_ref(), now).await?;
                let items = groups::oldest_open(state, table, MAX_ITEMS, self.settings.max_files).await?;
                if items.is_empty() {
                    return Ok(Step::Finished);
                }
                let record = Record { number: done + 1, items };
                let put =
                    Write::Put { key: Key::new("commit", table), value: json!(record), condition, expires_at: None };
                match state.write(vec![put]).await {
                    Ok(()) => Ok(Step::Further),
                    Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => Ok(Step::Overtaken(e)),
                    Err(e) => Err(e),
                }
            }
        }
    }

    /// Makes a table for its first files.
    async fn create(&self, table: &str) -> Result<Step, PortError> {
        if groups::oldest_open(self.ports.table.as_ref(), table, 1, 1).await?.is_empty() {
            return Ok(Step::Finished);
        }
        if let (Some(record), _) = self.record(table).await? {
            return Ok(Step::Overtaken(disagree(table, 0, &record)));
        }
        match self.ports.catalog.create(table).await {
            Ok(()) => Ok(Step::Further),
            Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => Ok(Step::Overtaken(e)),
            Err(e) => Err(e),
        }
    }

    async fn execute(
        &self,
        table: &str,
        head: &TableHead,
        record: &Record,
        files: Vec<RecordedFile>,
    ) -> Result<Step, PortError> {
        let files: Vec<TableFile> = files
            .into_iter()
            .map(|file| TableFile {
                key: file.key,
                rows: file.rows,
                size_bytes: file.size_bytes,
                time_us: (file.min_time.micros(), file.max_time.micros()),
            })
            .collect();
        let (count, rows) = (files.len(), files.iter().map(|file| file.rows).sum::<u64>());
        let append = Append {
            table: table.to_owned(),
            token: head.token.clone(),
            files,
            property: (PROPERTY.to_owned(), record.number.to_string()),
        };
        match self.ports.catalog.append(append).await {
            Ok(()) => {
                tracing::info!(
                    stage = "commit",
                    lake.table = %table,
                    commit.number = record.number,
                    files = count,
                    rows,
                    "committed"
                );
                Ok(Step::Further)
            }
            Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => Ok(Step::Overtaken(e)),
            Err(e) => Err(e),
        }
    }

    /// Moves the items of a record that has taken effect out of the open ones. `Ok` means that none of them is open.
    async fn settle(&self, table: &str, record: Option<&Record>, now: Timestamp) -> Result<(), PortError> {
        let Some(record) = record else { return Ok(()) };
        let state = self.ports.table.as_ref();
        let mut failure = None;
        for _ in 0..LOOKS {
            let open = groups::still_open(state, table, &record.items).await?;
            if open.is_empty() {
                return Ok(());
            }
            for writes in groups::settlements(table, open, now)? {
                match state.write(writes).await {
                    Ok(()) => {}
                    // Another one settles them too, or it is not known whether they are.
                    Err(e) if e.kind == ErrorKind::Conflict || e.is_transient() => failure = Some(e),
                    Err(e) => return Err(e),
                }
            }
        }
        Err(failure.unwrap_or_else(|| corrupt(&Key::new("commit", table))))
    }

    /// The record of a table, and the condition on which the next one is written.
    async fn record(&self, table: &str) -> Result<(Option<Record>, Condition), PortError> {
        let key = Key::new("commit", table);
        let Some(row) = self.ports.table.get(std::slice::from_ref(&key)).await?.pop().flatten() else {
            return Ok((None, Condition::Absent));
        };
        let record = serde_json::from_value(row.value).map_err(|e| corrupt(&key).with_source(e))?;
        Ok((Some(record), Condition::Version(row.version)))
    }
}

/// The number of the last commit that a table has.
fn committed(table: &str, head: &TableHead) -> Result<u64, PortError> {
    let Some(text) = head.properties.get(PROPERTY) else { return Ok(0) };
    text.parse().map_err(|_| {
        let what = format!("the property `{PROPERTY}` of the table `{table}` is `{text}`, which is no number");
        PortError::new(ErrorKind::Corrupt, "catalog.load", what)
    })
}

fn disagree(table: &str, done: u64, record: &Record) -> PortError {
    let what = format!("the table `{table}` has commit {done}, and its record is of commit {}", record.number);
    PortError::new(ErrorKind::Corrupt, "catalog.load", what)
}
