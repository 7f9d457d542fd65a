//! Groups: how the files of many batches become rows of the lake exactly once.
//!
//! A group is one attempt of one consumer to store some batches. It is a row `("group", id)` that is `pending` and then, once and for
//! ever, `committed` or `aborted`; a row `("batch", id)` points from a batch to the group that holds it. **A row of the lake is stored when
//! the group whose file holds it is committed**, and that is one conditional transaction: group `pending → committed` with the list of
//! batches in it, the files by table, and the counters of the ledger.
//!
//! # Why nothing is lost or repeated
//!
//! Every write names the version that its author had seen, so a write that lands late, twice or out of order either meets the state it was
//! decided on or does nothing. Group ids are never used again, and only its own consumer commits a group. From that:
//!
//! - *A group ends once.* Commit and abort both require the version of the pending row. A commit that timed out is looked up, tried again
//!   or aborted; whichever lands first, the other finds another version.
//! - *At most one committed group lists a batch.* A consumer lists a batch only if it has seen the batch's row point to its own group `g`.
//!   The row leaves `g` only by a write made after seeing `g` aborted, or committed without the batch. Both are final, so `g` never comes to
//!   list it. By induction along the row's history, of all the groups that it ever pointed to at most one is committed with the batch.
//! - *What is acknowledged is stored.* A message is done only after a committed group was seen to list its batch: the own one, or the one
//!   that the row points to. To be pointed to is not enough: a claim that was given up as timed out may land after the commit.
//! - *What is not stored can be stored.* A dead consumer's group stays pending until its lease has run out; then anyone aborts it and takes
//!   the batches over. The lease and the clocks decide only who works when, never what counts.
//! - *Objects.* Keys hold the group id, puts never replace, and a file is listed only after its put has succeeded. An object that is put
//!   late, or by a group that does not commit, is in no list and nobody reads it.
//! - *Counters* go with the commit, so they count what is stored and as often.
//!
//! `group` and `batch` rows live 35 days, longer than a queue (4) and its dead-letter queue (14) keep a message. A batch that comes later
//! than that is stored again. Rows `("table", name)` say which tables there are.
//!
//! Rows `("file#<table>", …)` list files that count and are *open*: not in the table's own metadata yet. [`crate::commit`] moves them to
//! `("filed#<table>", …)` when they are, where they live 35 days, and adds their rows to `("filed-rows#<table>", <counter>)` in the same
//! step. What the table has made of them since is its own to say.

use crate::rows::{all, corrupt, expiry};
use futures::StreamExt as _;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice_domain::time::{DAY_US, Timestamp};
use sluice_ports::{Condition, ErrorKind, Item, Key, PortError, Query, Table, Write};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Batches in one group: their ids stand in one item of at most 400 KB.
pub const MAX_BATCHES: usize = 2_000;
/// Tables that one group writes to.
pub const MAX_TABLES: usize = 32;
/// Counter rows that one group adds to. With [`MAX_TABLES`], the items that [`MAX_FILES`] split into and the group itself they are
/// the 100 writes of a transaction.
pub const MAX_COUNTERS: usize = 55;
/// Files of one group: their items (about 300 bytes a file) fit the 4 MB that a DynamoDB transaction takes.
pub const MAX_FILES: usize = 9_000;
/// How long groups and batches are remembered.
pub const KEEP_US: i64 = 35 * DAY_US;
/// Longest batch id, in bytes.
pub const MAX_BATCH_ID_BYTES: usize = 128;

/// A file item is cut at this size, below the 400 KB of an item.
const FILE_ITEM_BYTES: usize = 300_000;
/// Open items that are read at once; each may have [`FILE_ITEM_BYTES`].
const OPEN_PAGE: usize = 100;
/// Items that are settled in one transaction: an item has up to [`FILE_ITEM_BYTES`], and DynamoDB takes 4 MB.
const SETTLED_AT_ONCE: usize = 10;
/// Writes of a transaction, as DynamoDB takes them.
const MAX_WRITES: usize = 100;
/// Field of a row that counts rows.
const ROWS: &str = "rows";
/// Claims that are written at the same time.
const CLAIMS_AT_ONCE: usize = 32;
/// How often a claim looks at the rows before it gives a batch back.
const LOOKS: usize = 4;
/// How often a commit is tried.
const COMMIT_TRIES: usize = 3;

/// A data file of a committed group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedFile {
    /// Object key.
    pub key: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub size_bytes: u64,
    /// Earliest `time` in it.
    pub min_time: Timestamp,
    /// Latest `time` in it.
    pub max_time: Timestamp,
    /// The group that wrote it.
    pub group: String,
    /// How many of its rows belong to each counter row of the ledger (hour of receive time and type).
    pub counted: BTreeMap<String, u64>,
}

/// A file as its item lists it.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    key: String,
    rows: u64,
    bytes: u64,
    /// Microseconds since the epoch.
    min: i64,
    max: i64,
    /// Position among the item's counters, and rows. Rows that were written before there was an audit say nothing here: their files can be
    /// read, and the ledger shows them as not accounted for.
    #[serde(default)]
    counted: Vec<(usize, u64)>,
}

/// The item that lists files: what they share stands once.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Entries {
    #[serde(default)]
    counters: Vec<String>,
    files: Vec<Entry>,
}

/// The files of committed groups of a lake table as they were recorded, open ones and those that were settled in the last 35 days, in no
/// particular order of time. An error is the table's own, or [`ErrorKind::Corrupt`] for an item that cannot be read.
pub async fn recorded_files(table: &dyn Table, lake_table: &str) -> Result<Vec<RecordedFile>, PortError> {
    // The open ones first: an item that is settled meanwhile is in both lists, and never in none.
    let open = all(table, &open_partition(lake_table)).await?;
    let settled = all(table, &settled_partition(lake_table)).await?;
    let mut seen = HashSet::new();
    let mut files = Vec::new();
    for item in settled.into_iter().chain(open) {
        if seen.insert(item.key.sort.clone()) {
            files.append(&mut files_of(item)?);
        }
    }
    Ok(files)
}

/// The files of a lake table that count and are open.
pub(crate) async fn open(table: &dyn Table, lake_table: &str) -> Result<Vec<RecordedFile>, PortError> {
    let items = all(table, &open_partition(lake_table)).await?;
    Ok(items.into_iter().map(files_of).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// The files that an item lists.
fn files_of(item: Item) -> Result<Vec<RecordedFile>, PortError> {
    let group = item.key.sort.rsplit_once('-').map_or(item.key.sort.as_str(), |(group, _)| group).to_owned();
    let Entries { counters, files: entries } =
        serde_json::from_value(item.value).map_err(|e| corrupt(&item.key).with_source(e))?;
    let mut files = Vec::with_capacity(entries.len());
    for entry in entries {
        let counted = entry.counted.into_iter().map(|(at, n)| Some((counters.get(at)?.clone(), n)));
        let counted = counted.collect::<Option<_>>().ok_or_else(|| corrupt(&item.key))?;
        let time = |micros| Timestamp::from_micros(micros).ok_or_else(|| corrupt(&item.key));
        files.push(RecordedFile {
            min_time: time(entry.min)?,
            max_time: time(entry.max)?,
            key: entry.key,
            rows: entry.rows,
            size_bytes: entry.bytes,
            group: group.clone(),
            counted,
        });
    }
    Ok(files)
}

/// Names of the oldest open items of a lake table: as many as have `max_files` files, the last one with all that it has, and at most
/// `max_items`.
pub(crate) async fn oldest_open(
    table: &dyn Table,
    lake_table: &str,
    max_items: usize,
    max_files: usize,
) -> Result<Vec<String>, PortError> {
    let mut names: Vec<String> = Vec::new();
    let mut files = 0;
    while names.len() < max_items {
        let limit = OPEN_PAGE.min(max_items - names.len());
        let after = names.last().cloned();
        let page = table.query(Query { after, ..Query::prefix(open_partition(lake_table), "", limit) }).await?;
        if page.is_empty() {
            break;
        }
        for item in page {
            names.push(item.key.sort.clone());
            files += files_of(item)?.len();
            if files >= max_files {
                return Ok(names);
            }
        }
    }
    Ok(names)
}

/// The files of open items, or nothing where one of the items is not open any more.
pub(crate) async fn open_files(
    table: &dyn Table,
    lake_table: &str,
    names: &[String],
) -> Result<Option<Vec<RecordedFile>>, PortError> {
    let items = still_open(table, lake_table, names).await?;
    if items.len() < names.len() {
        return Ok(None);
    }
    let files = items.into_iter().map(files_of).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(files.into_iter().flatten().collect()))
}

/// Those of these items that are open, as they are stored.
pub(crate) async fn still_open(table: &dyn Table, lake_table: &str, names: &[String]) -> Result<Vec<Item>, PortError> {
    let partition = open_partition(lake_table);
    let keys: Vec<Key> = names.iter().map(|name| Key::new(&partition, name)).collect();
    Ok(table.get(&keys).await?.into_iter().flatten().collect())
}

/// What settles open items whose files are in the table, as transactions: as many items in each as fit. An item that is not open any more as
/// it was read is a conflict, so that its rows are counted once.
pub(crate) fn settlements(lake_table: &str, items: Vec<Item>, now: Timestamp) -> Result<Vec<Vec<Write>>, PortError> {
    let mut transactions = Vec::new();
    let mut moves: Vec<Write> = Vec::new();
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    let mut close = |moves: &mut Vec<Write>, counted: &mut BTreeMap<String, u64>| {
        let add = |(counter, rows): (String, u64)| Write::Add {
            key: Key::new(settled_counters(lake_table), counter),
            deltas: vec![(ROWS.into(), i64::try_from(rows).unwrap_or(i64::MAX))],
            expires_at: None,
        };
        let mut writes = std::mem::take(moves);
        writes.extend(std::mem::take(counted).into_iter().map(add));
        transactions.push(writes);
    };
    for item in items {
        let (key, version, value) = (item.key.clone(), item.version, item.value.clone());
        let mut of_item: BTreeMap<String, u64> = BTreeMap::new();
        for (counter, rows) in files_of(item)?.into_iter().flat_map(|file| file.counted) {
            *of_item.entry(counter).or_default() += rows;
        }
        let more = of_item.keys().filter(|counter| !counted.contains_key(*counter)).count();
        if moves.len() == 2 * SETTLED_AT_ONCE || moves.len() + 2 + counted.len() + more > MAX_WRITES {
            close(&mut moves, &mut counted);
        }
        for (counter, rows) in of_item {
            *counted.entry(counter).or_default() += rows;
        }
        let settled = Key::new(settled_partition(lake_table), &key.sort);
        let expires_at = Some(expiry(now, KEEP_US));
        moves.push(Write::Put { key: settled, value, condition: Condition::Any, expires_at });
        moves.push(Write::Delete { key, condition: Condition::Version(version) });
    }
    if !moves.is_empty() {
        close(&mut moves, &mut counted);
    }
    Ok(transactions)
}

/// How many rows of a lake table were settled, by the counter of the ledger that they belong to.
pub(crate) async fn settled_rows(table: &dyn Table, lake_table: &str) -> Result<BTreeMap<String, u64>, PortError> {
    let rows = |item: Item| match item.value[ROWS].as_u64() {
        Some(rows) => Ok((item.key.sort, rows)),
        None => Err(corrupt(&item.key)),
    };
    all(table, &settled_counters(lake_table)).await?.into_iter().map(rows).collect()
}

/// The lake tables that groups have written to, sorted. One of them may have no file yet.
pub async fn recorded_tables(table: &dyn Table) -> Result<Vec<String>, PortError> {
    Ok(all(table, "table").await?.into_iter().map(|item| item.key.sort).collect())
}

fn open_partition(lake_table: &str) -> String {
    format!("file#{lake_table}")
}

fn settled_counters(lake_table: &str) -> String {
    format!("filed-rows#{lake_table}")
}

fn settled_partition(lake_table: &str) -> String {
    format!("filed#{lake_table}")
}

/// A pending group of this consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id: 32 lower-case hexadecimal digits, in order of time.
    pub id: String,
    version: u64,
}

/// A batch to store, and which publish of it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Batch id, 1 to [`MAX_BATCH_ID_BYTES`] bytes.
    pub batch: &'a str,
    /// Publish id.
    pub publish: &'a str,
}

/// What came of claiming a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The own group holds it.
    Held,
    /// A committed group has it, from this publish.
    Stored {
        /// The publish that was stored.
        publish: String,
    },
    /// It has to come again: why.
    Later(String),
}

/// What a group commits.
#[derive(Debug, Default)]
pub struct Contents {
    /// Batches that it holds; at most [`MAX_BATCHES`].
    pub batches: Vec<String>,
    /// Files by lake table; at most [`MAX_TABLES`] and [`MAX_FILES`].
    pub files: BTreeMap<String, Vec<RecordedFile>>,
    /// Additions to counter rows, each row once; at most [`MAX_COUNTERS`].
    pub counters: Vec<Write>,
}

/// How a group ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything in it is stored.
    Committed,
    /// Nothing of it counts.
    Aborted,
}

#[derive(Debug)]
enum State {
    Pending { lease_until_us: i64, version: u64 },
    Committed(HashSet<String>),
    Aborted,
}

/// The groups of a consumer.
pub struct Groups {
    table: Arc<dyn Table>,
    lease_us: i64,
    known_tables: Mutex<BTreeSet<String>>,
}

impl Groups {
    /// Groups over a table. The lease saves others from doing the same work; it should outlast one group and end before the queue
    /// delivers again.
    pub fn new(table: Arc<dyn Table>, lease_ms: u32) -> Self {
        Self { table, lease_us: i64::from(lease_ms) * 1_000, known_tables: Mutex::default() }
    }

    /// Makes a new pending group.
    pub async fn begin(&self, now: Timestamp) -> Result<Group, PortError> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let key = Key::new("group", &id);
        let value = json!({"state": "pending", "lease_until_us": now.micros().saturating_add(self.lease_us)});
        let write = Write::Put { key, value, condition: Condition::Absent, expires_at: Some(expiry(now, KEEP_US)) };
        match self.table.write(vec![write]).await {
            Err(e) if e.kind != ErrorKind::Timeout => return Err(e),
            _ => {}
        }
        match self.state(&id).await? {
            Some(State::Pending { version, .. }) => Ok(Group { id, version }),
            _ => Err(PortError::new(ErrorKind::Timeout, "table.write", format!("group `{id}` was not written"))),
        }
    }

    /// Claims batches for a group, each named once. One answer per batch, in order.
    pub async fn claim(&self, group: &Group, wanted: &[Wanted<'_>], now: Timestamp) -> Vec<Claim> {
        let mut claims: Vec<Option<Claim>> = wanted.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..wanted.len()).collect();
        // Most batches are new: the first claim is made unseen, and what has a row already is looked at afterwards.
        let mut seen: Vec<_> = open.iter().map(|i| (*i, Condition::Absent, Owner::Nobody)).collect();
        for looks in 0..=LOOKS {
            let mut writes = Vec::new();
            let mut expired: BTreeMap<String, u64> = BTreeMap::new();
            for (i, condition, owner) in seen {
                match owner {
                    Owner::Nobody => writes.push((i, condition)),
                    Owner::This => claims[i] = Some(Claim::Held),
                    Owner::Stored(publish) => claims[i] = Some(Claim::Stored { publish }),
                    Owner::Pending { lease_until_us, .. } if lease_until_us > now.micros() => {
                        claims[i] = Some(Claim::Later("another consumer holds the batch".into()));
                    }
                    Owner::Pending { id, version, .. } => {
                        expired.insert(id, version);
                    }
                }
            }
            if looks == LOOKS {
                break;
            }
            join_all(expired.iter().map(|(id, version)| self.write_aborted(id, *version, now))).await;
            // Each alone: a lone conditional put costs a fourth of one in a transaction, and what is taken does not hold up its neighbours.
            let puts = writes.into_iter().map(|(i, condition)| {
                let put = claim_put(group, wanted[i], condition, now);
                async move { (i, self.table.write(vec![put]).await) }
            });
            let written: Vec<_> = futures::stream::iter(puts).buffered(CLAIMS_AT_ONCE).collect().await;
            for (i, result) in written {
                match result {
                    // It is held: the row was made or changed on the condition of what was seen.
                    Ok(()) => claims[i] = Some(Claim::Held),
                    Err(e) if matches!(e.kind, ErrorKind::Timeout | ErrorKind::Conflict) => {}
                    Err(e) => claims[i] = Some(Claim::Later(e.to_string())),
                }
            }
            open.retain(|i| claims[*i].is_none());
            if open.is_empty() {
                break;
            }
            seen = match self.look(group, wanted, &open).await {
                Ok(seen) => seen,
                Err(e) => {
                    open.iter().for_each(|i| claims[*i] = Some(Claim::Later(e.to_string())));
                    break;
                }
            };
        }
        let contended = || Claim::Later("the batch is being claimed by others".into());
        claims.into_iter().map(|claim| claim.unwrap_or_else(contended)).collect()
    }

    /// Commits a group. An error means that it is not known how the group ended; the messages have to come again, and then it is.
    pub async fn commit(&self, group: &Group, contents: &Contents, now: Timestamp) -> Result<Ended, PortError> {
        let prepared = match self.remember_tables(contents.files.keys()).await {
            Ok(()) => commit_writes(group, contents, now),
            Err(e) => Err(e),
        };
        let writes = match prepared {
            Ok(writes) => writes,
            Err(e) => {
                tracing::warn!(group.id = %group.id, error = %e, "a group is given up before its commit");
                return self.abort(group, now).await;
            }
        };
        for _ in 0..COMMIT_TRIES {
            match self.table.write(writes.clone()).await {
                Ok(()) => return Ok(Ended::Committed),
                Err(e) if matches!(e.kind, ErrorKind::Timeout | ErrorKind::Conflict) => {
                    match self.state(&group.id).await {
                        Ok(Some(State::Pending { .. })) | Err(_) => {}
                        Ok(Some(State::Committed(_))) => return Ok(Ended::Committed),
                        Ok(Some(State::Aborted) | None) => return Ok(Ended::Aborted),
                    }
                }
                Err(e) if e.is_transient() => {}
                Err(e) => {
                    tracing::error!(group.id = %group.id, error = %e, "a group cannot be committed");
                    break;
                }
            }
        }
        self.abort(group, now).await
    }

    /// Gives a group up, so that others need not wait for its lease. Answers how it ended, which may be committed.
    pub async fn abort(&self, group: &Group, now: Timestamp) -> Result<Ended, PortError> {
        match self.write_aborted(&group.id, group.version, now).await {
            Ok(()) => Ok(Ended::Aborted),
            Err(e) => match self.state(&group.id).await? {
                Some(State::Committed(_)) => Ok(Ended::Committed),
                Some(State::Aborted) | None => Ok(Ended::Aborted),
                Some(State::Pending { .. }) => Err(e),
            },
        }
    }

    /// For each batch the publish that is stored, where one is.
    pub async fn stored(&self, batches: &[&str]) -> Result<Vec<Option<String>>, PortError> {
        let nobody = Group { id: "none".into(), version: 0 };
        let wanted: Vec<Wanted<'_>> = batches.iter().map(|batch| Wanted { batch, publish: "" }).collect();
        let open: Vec<usize> = (0..batches.len()).collect();
        let seen = self.look(&nobody, &wanted, &open).await?;
        Ok(seen
            .into_iter()
            .map(|(_, _, owner)| if let Owner::Stored(publish) = owner { Some(publish) } else { None })
            .collect())
    }

    async fn write_aborted(&self, id: &str, version: u64, now: Timestamp) -> Result<(), PortError> {
        let put = Write::Put {
            key: Key::new("group", id),
            value: json!({"state": "aborted"}),
            condition: Condition::Version(version),
            expires_at: Some(expiry(now, KEEP_US)),
        };
        self.table.write(vec![put]).await
    }

    /// For each open batch its position, the condition of a claim, and who has it.
    async fn look(
        &self,
        group: &Group,
        wanted: &[Wanted<'_>],
        open: &[usize],
    ) -> Result<Vec<(usize, Condition, Owner)>, PortError> {
        let keys: Vec<Key> = open.iter().map(|i| Key::new("batch", wanted[*i].batch)).collect();
        let rows = self.table.get(&keys).await?;
        let text = |row: &Item, field: &str| row.value.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        let others: BTreeSet<String> = rows
            .iter()
            .flatten()
            .map(|row| text(row, "group"))
            .filter(|id| !id.is_empty() && *id != group.id)
            .collect();
        let states = self.states(others.into_iter().collect()).await?;
        let owners = open.iter().zip(rows).map(|(i, row)| {
            let Some(row) = row else { return (*i, Condition::Absent, Owner::Nobody) };
            let id = text(&row, "group");
            let owner = match states.get(&id) {
                _ if id == group.id => Owner::This,
                Some(State::Committed(batches)) if batches.contains(wanted[*i].batch) => {
                    Owner::Stored(text(&row, "publish"))
                }
                Some(State::Pending { lease_until_us, version }) => {
                    Owner::Pending { id, lease_until_us: *lease_until_us, version: *version }
                }
                // Final and without the batch; or so old that it is forgotten, and then twice is better than never.
                Some(State::Committed(_) | State::Aborted) | None => Owner::Nobody,
            };
            (*i, Condition::Version(row.version), owner)
        });
        Ok(owners.collect())
    }

    async fn state(&self, id: &str) -> Result<Option<State>, PortError> {
        Ok(self.states(vec![id.to_owned()]).await?.remove(id))
    }

    async fn states(&self, ids: Vec<String>) -> Result<HashMap<String, State>, PortError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let keys: Vec<Key> = ids.iter().map(|id| Key::new("group", id)).collect();
        let rows = self.table.get(&keys).await?;
        let mut states = HashMap::with_capacity(ids.len());
        for (id, row) in ids.into_iter().zip(rows) {
            let Some(row) = row else { continue };
            let state = match row.value.get("state").and_then(Value::as_str) {
                Some("pending") => State::Pending {
                    lease_until_us: row.value.get("lease_until_us").and_then(Value::as_i64).unwrap_or(0),
                    version: row.version,
                },
                Some("aborted") => State::Aborted,
                Some("committed") => {
                    let batches =
                        row.value.get("batches").and_then(Value::as_array).ok_or_else(|| corrupt(&row.key))?;
                    State::Committed(batches.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                }
                _ => return Err(corrupt(&row.key)),
            };
            states.insert(id, state);
        }
        Ok(states)
    }

    /// Writes the rows that say which tables there are. Once per process and table, before the first commit to it: in the commit itself
    /// these rows would be contended by all consumers.
    async fn remember_tables(&self, tables: impl Iterator<Item = &String>) -> Result<(), PortError> {
        let new: Vec<String> = {
            let known = self.known_tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.filter(|table| !known.contains(*table)).cloned().collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let put = |table: &String| Write::Put {
            key: Key::new("table", table),
            value: json!({}),
            condition: Condition::Any,
            expires_at: None,
        };
        self.table.write(new.iter().map(put).collect()).await?;
        self.known_tables.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
        Ok(())
    }
}

enum Owner {
    Nobody,
    This,
    Stored(String),
    Pending { id: String, lease_until_us: i64, version: u64 },
}

fn claim_put(group: &Group, wanted: Wanted<'_>, condition: Condition, now: Timestamp) -> Write {
    Write::Put {
        key: Key::new("batch", wanted.batch),
        value: json!({"group": group.id, "publish": wanted.publish}),
        condition,
        expires_at: Some(expiry(now, KEEP_US)),
    }
}

fn commit_writes(group: &Group, contents: &Contents, now: Timestamp) -> Result<Vec<Write>, PortError> {
    let mut writes = vec![Write::Put {
        key: Key::new("group", &group.id),
        value: json!({"state": "committed", "batches": contents.batches}),
        condition: Condition::Version(group.version),
        expires_at: Some(expiry(now, KEEP_US)),
    }];
    for (table, files) in &contents.files {
        let mut items: Vec<Entries> = Vec::new();
        let mut size = usize::MAX;
        let counters: BTreeSet<&String> = files.iter().flat_map(|file| file.counted.keys()).collect();
        let counters: Vec<String> = counters.into_iter().cloned().collect();
        let counters_size: usize = counters.iter().map(|counter| counter.len() + 3).sum();
        for file in files {
            let counted =
                file.counted.iter().filter_map(|(counter, n)| Some((counters.binary_search(counter).ok()?, *n)));
            let entry = Entry {
                key: file.key.clone(),
                rows: file.rows,
                bytes: file.size_bytes,
                min: file.min_time.micros(),
                max: file.max_time.micros(),
                counted: counted.collect(),
            };
            let bytes = json!(entry).to_string().len() + 1;
            if size.saturating_add(bytes) > FILE_ITEM_BYTES {
                items.push(Entries { counters: counters.clone(), files: Vec::new() });
                size = counters_size;
            }
            size += bytes;
            if let Some(item) = items.last_mut() {
                item.files.push(entry);
            }
        }
        for (n, item) in items.into_iter().enumerate() {
            writes.push(Write::Put {
                key: Key::new(open_partition(table), format!("{}-{n:03}", group.id)),
                value: json!(item),
                condition: Condition::Absent,
                expires_at: None,
            });
        }
    }
    writes.extend(contents.counters.iter().cloned());
    if writes.len() > 100 {
        let what = format!("group `{}` would need {} writes, a transaction takes 100", group.id, writes.len());
        return Err(PortError::new(ErrorKind::Invalid, "table.write", what));
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::PAGE;
    use sluice_testkit::fault::{Fault, Faulty};
    use sluice_testkit::memory::MemoryTable;

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
    }

    fn file(table: &str, n: usize, group: &Group) -> RecordedFile {
        let key = format!("lake/{table}/data/dt=2026-11-21/hour=10/{}-{n}.parquet", group.id);
        let far = Timestamp::parse_rfc3339("9999-12-31T23:59:59.999999Z").unwrap();
        RecordedFile {
            key,
            rows: u64::MAX,
            size_bytes: u64::MAX,
            min_time: far,
            max_time: far,
            group: group.id.clone(),
            counted: (0..3).map(|hour| (format!("9999-12-31T{:02}#{table}", (n + hour) % 24), 123_456)).collect(),
        }
    }

    fn counter(n: usize) -> Write {
        let deltas = ["lake_stored", "lake_quarantined"].map(|field| (field.to_owned(), i64::MAX)).to_vec();
        Write::Add { key: Key::new("counter", n.to_string()), deltas, expires_at: None }
    }

    #[tokio::test]
    async fn the_largest_group_fits_a_transaction_of_dynamodb() {
        let groups = Groups::new(Arc::new(MemoryTable::new()), 1_000);
        let group = groups.begin(now()).await.unwrap();
        let batches = (0..MAX_BATCHES).map(|i| format!("{i:0>MAX_BATCH_ID_BYTES$}")).collect();
        let mut files: BTreeMap<String, Vec<RecordedFile>> = BTreeMap::new();
        for n in 0..MAX_FILES {
            // Most files in one table, where their items split, and one in each of the others.
            let table = format!("{:a>128}", n.min(MAX_TABLES - 1));
            files.entry(table.clone()).or_default().push(file(&table, n, &group));
        }
        let contents = Contents { batches, files, counters: (0..MAX_COUNTERS).map(counter).collect() };
        let writes = commit_writes(&group, &contents, now()).unwrap();
        let sizes = writes.iter().map(|write| match write {
            Write::Put { value, .. } => value.to_string().len(),
            _ => 1_024,
        });
        assert!(writes.len() <= 100, "{}", writes.len());
        assert!(sizes.clone().all(|size| size < 390_000), "{:?}", sizes.max());
        assert!(sizes.sum::<usize>() < 4_000_000);
        assert_eq!(groups.commit(&group, &contents, now()).await.unwrap(), Ended::Committed);
        let tables = recorded_tables(groups.table.as_ref()).await.unwrap();
        assert_eq!(tables.len(), MAX_TABLES);
        for (table, files) in contents.files {
            assert_eq!(recorded_files(groups.table.as_ref(), &table).await.unwrap(), files);
        }
    }

    #[tokio::test]
    async fn a_group_that_cannot_be_committed_is_aborted() {
        let groups = Groups::new(Arc::new(MemoryTable::new()), 1_000);
        let group = groups.begin(now()).await.unwrap();
        let contents = Contents { counters: (0..100).map(counter).collect(), ..Contents::default() };
        assert_eq!(groups.commit(&group, &contents, now()).await.unwrap(), Ended::Aborted);
        assert_eq!(groups.commit(&group, &Contents::default(), now()).await.unwrap(), Ended::Aborted);
        assert_eq!(groups.abort(&group, now()).await.unwrap(), Ended::Aborted);
    }

    #[tokio::test]
    async fn giving_up_a_committed_group_says_that_it_is_committed() {
        let groups = Groups::new(Arc::new(MemoryTable::new()), 1_000);
        let group = groups.begin(now()).await.unwrap();
        assert_eq!(groups.commit(&group, &Contents::default(), now()).await.unwrap(), Ended::Committed);
        assert_eq!(groups.abort(&group, now()).await.unwrap(), Ended::Committed);
    }

    #[tokio::test]
    async fn more_items_than_a_page_are_all_read() {
        let table: Arc<dyn Table> = Arc::new(MemoryTable::new());
        let groups = Groups::new(table.clone(), 1_000);
        for n in 0..PAGE + 3 {
            let key = Key::new("file#t", format!("g{n}-000"));
            let value = json!({"counters": ["h#t"], "files": [{"key": "k", "rows": 1, "bytes": 2, "min": 3, "max": 4, "counted": [[0, 1]]}]});
            table.write(vec![Write::Put { key, value, condition: Condition::Any, expires_at: None }]).await.unwrap();
        }
        let files = recorded_files(groups.table.as_ref(), "t").await.unwrap();
        assert_eq!(files.len(), PAGE + 3);
        assert_eq!((files[0].group.as_str(), files[0].max_time.micros()), ("g0", 4));
        assert_eq!(files[0].counted, BTreeMap::from([("h#t".to_owned(), 1)]));
        let old = json!({"files": [{"key": "k", "rows": 1, "bytes": 2, "min": 3, "max": 4}]});
        let key = Key::new("file#old", "g0-000");
        let put = Write::Put { key, value: old, condition: Condition::Any, expires_at: None };
        table.write(vec![put]).await.unwrap();
        assert_eq!(recorded_files(groups.table.as_ref(), "old").await.unwrap()[0].rows, 1);
    }

    #[tokio::test]
    async fn an_item_that_cannot_be_read_is_an_error_and_not_a_missing_file() {
        let table = MemoryTable::new();
        for value in [json!({}), json!({"files": [{"key": "k"}]})] {
            let put =
                Write::Put { key: Key::new("file#t", "g-000"), value, condition: Condition::Any, expires_at: None };
            table.write(vec![put]).await.unwrap();
            assert_eq!(recorded_files(&table, "t").await.unwrap_err().kind, ErrorKind::Corrupt);
        }
    }

    #[tokio::test]
    async fn a_new_batch_takes_one_write_and_a_taken_one_does_not_hold_up_its_neighbours() {
        let table = Arc::new(Faulty::new(MemoryTable::new()));
        let groups = Groups::new(table.clone(), 1_000);
        let names: Vec<String> = (0..200).map(|i| format!("b{i}")).collect();
        let wanted: Vec<Wanted<'_>> = names.iter().map(|batch| Wanted { batch, publish: "p" }).collect();
        let (one, other) = (groups.begin(now()).await.unwrap(), groups.begin(now()).await.unwrap());
        let before = (table.calls("table.write"), table.calls("table.get"));
        assert!(groups.claim(&one, &wanted[..100], now()).await.iter().all(|claim| *claim == Claim::Held));
        assert_eq!((table.calls("table.write") - before.0, table.calls("table.get") - before.1), (100, 0));
        let claims = groups.claim(&other, &wanted[50..], now()).await;
        assert!(claims[..50].iter().all(|claim| matches!(claim, Claim::Later(_))));
        assert!(claims[50..].iter().all(|claim| *claim == Claim::Held), "{claims:?}");
    }

    #[tokio::test]
    async fn a_claim_whose_reply_was_lost_is_found_to_be_held() {
        let table = Arc::new(Faulty::new(MemoryTable::new()));
        let groups = Groups::new(table.clone(), 1_000);
        let group = groups.begin(now()).await.unwrap();
        for (batch, fault) in [("b", Fault::After), ("c", Fault::Before(ErrorKind::Timeout))] {
            table.script("table.write", [fault]);
            assert_eq!(groups.claim(&group, &[Wanted { batch, publish: "p" }], now()).await, [Claim::Held]);
        }
    }
}
