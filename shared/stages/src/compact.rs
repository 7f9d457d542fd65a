//! `compact`: the small files of closed partitions become few large ones, sorted, with one row per identity; what is kept long enough goes.
//!
//! A partition is closed an hour after its end. What was written there by `convert`, or by others, is rewritten, and files of our own making
//! only where they are small or where a row of theirs is repeated: a partition that gets late rows is compacted again, and one that does not
//! is left alone. Nothing is written where nothing changes.
//!
//! # Why no row is lost, and none comes twice
//!
//! - *A replacement stands for what it replaces.* New files hold the rows of the removed ones, but those whose identity the table has in a row
//!   that stays. All were read from one state of the table.
//! - *It happens in one step or not at all.* The swap of the metadata removes the old files and adds the new ones; readers see either.
//! - *It happens on what was read.* Where the table has gone on (a commit, another engine, another run of this stage), the files are looked
//!   for again: as long as the table has all that are to be removed, and all that have the rows for whose sake repeated ones go, the same
//!   replacement is made on the new state; if one is missing, nothing is. A repeated row that came in between is found the next time, since its file is new.
//! - *It happens once.* Names of new files are never used again. When it is not known whether a swap took place, the table says: it has the
//!   new files, or it has the old ones, and a swap that lands later finds another state than its own, or is the one that is tried again.
//! - *Files that nobody refers to* are removed by the sweep when they are [`ORPHAN_AGE`] old, never earlier: whoever put them may still be about to record
//!   them. What counts is asked for after the objects were listed, and what is recorded before what the tables have, since files go from
//!   there to here.
//!
//! How many rows were removed as repeated, as kept long enough, or because their user is to be forgotten, is added up in properties of the
//! table, in the same swap: rows that were stored = rows in the table + those (see [`crate::ledger::audit`]).

use crate::groups;
use crate::listing;
use crate::rows::corrupt;
use futures::future::try_join_all;
use serde::Serialize;
use sluice_domain::lake::{EncodeError, Erased, Rewriter, data_key};
use sluice_domain::schema::{Registry, Schema};
use sluice_domain::time::{DAY_US, HOUR_US, Timestamp};
use sluice_ports::{Catalog, ErrorKind, Key, Objects, PortError, PutMode, Replace, Table, TableFile, TableHead};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The table property that counts rows that were removed since another of their identity stays.
pub const REPEATED: &str = "sluice.repeated";
/// The table property that counts rows that were removed when they had been kept long enough.
pub const EXPIRED: &str = "sluice.expired";
/// The table property that counts rows that were removed since their user is to be forgotten.
pub const ERASED: &str = "sluice.erased";

/// An object that nobody refers to is removed at this age.
pub const ORPHAN_AGE: Duration = Duration::from_secs(3 * 86_400);

/// How file names of this stage begin; groups' ids are hexadecimal.
const NAME: &str = "compact-";
/// After its end a partition is closed this much later.
const CLOSES_AFTER_US: i64 = HOUR_US;
/// Files that are read at the same time.
const READ_AT_ONCE: usize = 8;
/// Bytes of files that are read at the same time, unless it is one.
const READ_BYTES: u64 = 32 << 20;
/// Files of one rewriting that are kept between the looks at them.
const HELD_BYTES: u64 = 64 << 20;
/// Removed files after which a replacement is brought about.
const MAX_REMOVED: usize = 2_000;
/// How often a replacement is tried.
const LOOKS: usize = 6;

/// What the stage reaches the outside through.
#[derive(Clone)]
pub struct CompactPorts {
    /// Recorded files.
    pub table: Arc<dyn Table>,
    /// The lake's tables.
    pub catalog: Arc<dyn Catalog>,
    /// Their files.
    pub objects: Arc<dyn Objects>,
    /// Makes few files of many.
    pub rewriter: Arc<dyn Rewriter>,
}

/// How the stage works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactSettings {
    /// Size of a full file. One of our own making that has half of it is left alone.
    pub file_bytes: u64,
    /// Files of a partition that are rewritten together; of a larger one the rest follows.
    pub rewritten_bytes: u64,
    /// Time after which no further partition is begun; the next tick goes on.
    pub budget: Duration,
}

impl Default for CompactSettings {
    fn default() -> Self {
        Self { file_bytes: 128 << 20, rewritten_bytes: 2 << 30, budget: Duration::from_secs(450) }
    }
}

/// The stage.
pub struct Compact {
    pub(crate) ports: CompactPorts,
    pub(crate) registry: Arc<Registry>,
    settings: CompactSettings,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Only this table.
    pub table: Option<&'a str>,
    /// Only this partition, as its folder is called: `dt=2026-11-21/hour=10`. It need not be closed.
    pub partition: Option<&'a str>,
    /// Nothing is done.
    pub dry_run: bool,
}

/// A partition that was rewritten, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// The table.
    pub table: String,
    /// The partition, as its folder is called.
    pub partition: String,
    /// Files and bytes that go.
    pub removed: Extent,
    /// Files and bytes that come; of a dry run nobody knows.
    pub added: Option<Extent>,
}

/// Files in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// How many.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Their size.
    pub bytes: u64,
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Run {
    /// What was rewritten.
    pub compacted: Vec<Compacted>,
    /// Whether nothing is left to do; else there was no time.
    pub finished: bool,
}

/// A change of a partition that waits to be brought about.
pub(crate) struct Pending {
    partition: String,
    pub(crate) removed: Vec<TableFile>,
    added: Vec<TableFile>,
    /// What the removed rows that are in no new file are counted as.
    pub(crate) counted: BTreeMap<&'static str, u64>,
    /// Files that have the first rows of repeated identities: without them nothing may go.
    witnesses: Vec<String>,
}

impl Compact {
    /// The stage over its ports. `registry` knows the tables' columns.
    pub fn new(ports: CompactPorts, registry: Arc<Registry>, settings: CompactSettings) -> Self {
        Self { ports, registry, settings }
    }

    /// Compacts what is asked for, or everything that is due. A table that fails does not hold up the others: the first error is answered
    /// when all have had their turn.
    pub async fn run(&self, asked: Asked<'_>, now: Timestamp) -> Result<Run, PortError> {
        let began = Instant::now();
        let mut run = Run { compacted: Vec::new(), finished: true };
        let mut failure = None;
        let schemas = self.registry.iter().filter(|schema| asked.table.is_none_or(|table| table == schema.table));
        for schema in schemas {
            if let Err(error) = self.table(schema, asked, now, began, &mut run).await {
                tracing::error!(stage = "compact", lake.table = %schema.table, %error, "a table is left as it is");
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(run), Err)
    }

    async fn table(
        &self,
        schema: &Schema,
        asked: Asked<'_>,
        now: Timestamp,
        began: Instant,
        run: &mut Run,
    ) -> Result<(), PortError> {
        let Some((_, files)) = self.ports.catalog.files(&schema.table).await? else { return Ok(()) };
        let mut partitions: BTreeMap<String, Vec<TableFile>> = BTreeMap::new();
        for file in files {
            let time = Timestamp::from_micros(file.time_us.0).ok_or_else(|| timeless(schema, &file))?;
            partitions.entry(schema.partition.folder(time)).or_default().push(file);
        }
        let (mut waiting, mut failure): (Vec<Pending>, _) = (Vec::new(), None);
        for (partition, files) in partitions {
            if asked.partition.is_some_and(|wanted| wanted != partition) {
                continue;
            }
            let work = self.work(schema, &files, asked.partition.is_some(), now);
            if matches!(work, Work::Nothing) {
                continue;
            }
            if asked.dry_run {
                let removed = work.extent(&files);
                run.compacted.push(Compacted { table: schema.table.clone(), partition, removed, added: None });
                continue;
            }
            if began.elapsed() > self.settings.budget {
                run.finished = false;
                break;
            }
            let pending = match work {
                Work::Expired => {
                    let counted = BTreeMap::from([(EXPIRED, files.iter().map(|file| file.rows).sum())]);
                    Some(Pending { partition, removed: files, added: Vec::new(), counted, witnesses: Vec::new() })
                }
                _ => match self.rewrite(schema, partition.clone(), files, &Erased::new()).await {
                    Ok(pending) => pending,
                    Err(error) => {
                        tracing::error!(stage = "compact", lake.table = %schema.table, %partition, %error, "left as it is");
                        failure.get_or_insert(error);
                        None
                    }
                },
            };
            waiting.extend(pending);
            if waiting.iter().map(|pending| pending.removed.len()).sum::<usize>() >= MAX_REMOVED {
                self.bring_about(schema, std::mem::take(&mut waiting), run).await?;
            }
        }
        self.bring_about(schema, waiting, run).await?;
        failure.map_or(Ok(()), Err)
    }

    /// What a partition needs.
    fn work(&self, schema: &Schema, files: &[TableFile], is_asked_for: bool, now: Timestamp) -> Work {
        let Some(time) = files.first().and_then(|file| Timestamp::from_micros(file.time_us.0)) else {
            return Work::Nothing;
        };
        let (_, end) = schema.partition.span(time);
        if schema.retention_days.is_some_and(|days| end.plus_micros(i64::from(days) * DAY_US) <= now) {
            return Work::Expired;
        }
        let is_closed = end.plus_micros(CLOSES_AFTER_US) <= now;
        if (is_closed || is_asked_for) && files.iter().any(|file| !is_compacted(file)) {
            return Work::Compaction { most: self.settings.file_bytes / 2 };
        }
        Work::Nothing
    }

    /// Writes new files for those of a partition that need it; nothing where it needs none. Where there are `erased` users, those files need
    /// it that have rows of theirs.
    pub(crate) async fn rewrite(
        &self,
        schema: &Schema,
        partition: String,
        mut files: Vec<TableFile>,
        erased: &Erased,
    ) -> Result<Option<Pending>, PortError> {
        let fail = |file: &TableFile, error: EncodeError| {
            PortError::new(ErrorKind::Corrupt, "objects.get", format!("the file `{}`: {error}", file.key))
        };
        files.sort_by(|a, b| a.time_us.cmp(&b.time_us).then_with(|| a.key.cmp(&b.key)));
        let rows = files.iter().map(|file| file.rows).sum();
        let begun = self.ports.rewriter.begin(schema, rows, erased);
        let mut rewriting = begun.map_err(|error| fail(&files[0], error))?;
        let holds = files.iter().map(|file| file.size_bytes).sum::<u64>() <= HELD_BYTES;
        let mut held = Vec::new();
        let mut of_erased = vec![0; files.len()];
        for pass in 0..rewriting.passes() {
            for (first, part) in parts(&files) {
                for (at, bytes) in (first..).zip(self.read(part).await?) {
                    let shown = rewriting.show(at as u32, bytes.clone()).map_err(|error| fail(&files[at], error))?;
                    if shown.rows != files[at].rows {
                        let what = format!("it has {} rows and not {}", shown.rows, files[at].rows);
                        return Err(fail(&files[at], EncodeError(what)));
                    }
                    of_erased[at] = shown.erased;
                    if holds && pass == 0 {
                        held.push(bytes);
                    }
                }
            }
            rewriting.end_pass();
        }
        let mut size = 0;
        let mut chosen: Vec<usize> = Vec::new();
        for (at, file) in files.iter().enumerate() {
            let is_small = !is_compacted(file) || file.size_bytes < self.settings.file_bytes / 2;
            let is_due = match erased.is_empty() {
                true => is_small || rewriting.repeated(at as u32) > 0,
                false => of_erased[at] > 0,
            };
            if is_due && (size == 0 || size + file.size_bytes <= self.settings.rewritten_bytes) {
                size += file.size_bytes;
                chosen.push(at);
            }
        }
        if chosen.is_empty() {
            return Ok(None);
        }
        let (mut repeated, mut gone) = (0, 0);
        for at in &chosen {
            let bytes = match held.get(*at) {
                Some(bytes) => bytes.clone(),
                None => self.ports.objects.get(&files[*at].key, None).await?,
            };
            let taken = rewriting.take(*at as u32, bytes).map_err(|error| fail(&files[*at], error))?;
            let of_file = rewriting.repeated(*at as u32);
            repeated += of_file;
            gone += files[*at].rows.saturating_sub(of_file + taken);
        }
        drop(held);
        let run = Uuid::now_v7().simple();
        let mut added = Vec::new();
        while let Some(file) = rewriting.next_file().map_err(|error| fail(&files[0], error))? {
            let key = data_key(schema, file.min_time, &format!("{NAME}{run}-{}", added.len()));
            let size_bytes = file.bytes.len() as u64;
            self.ports.objects.put(&key, file.bytes.into(), PutMode::IfAbsent).await?;
            let time_us = (file.min_time.micros(), file.max_time.micros());
            added.push(TableFile { key, rows: file.rows, size_bytes, time_us });
        }
        let removed: Vec<TableFile> = chosen.into_iter().map(|at| files[at].clone()).collect();
        let rows = |files: &[TableFile]| files.iter().map(|file| file.rows).sum::<u64>();
        if rows(&removed) != rows(&added) + repeated + gone {
            let what = format!("{} rows became {}", rows(&removed), rows(&added));
            return Err(fail(&removed[0], EncodeError(what)));
        }
        let witnesses = if repeated > 0 { files.into_iter().map(|file| file.key).collect() } else { Vec::new() };
        let counted = BTreeMap::from([(REPEATED, repeated), (ERASED, gone)]);
        Ok(Some(Pending { partition, removed, added, counted, witnesses }))
    }

    async fn read(&self, files: &[TableFile]) -> Result<Vec<bytes::Bytes>, PortError> {
        try_join_all(files.iter().map(|file| self.ports.objects.get(&file.key, None))).await
    }

    /// Makes what waits part of the table, as far as its old files are still there.
    pub(crate) async fn bring_about(
        &self,
        schema: &Schema,
        mut waiting: Vec<Pending>,
        run: &mut Run,
    ) -> Result<(), PortError> {
        let table = schema.table.as_str();
        let mut last = None;
        for _ in 0..LOOKS {
            if waiting.is_empty() {
                return Ok(());
            }
            let Some((head, files)) = self.ports.catalog.files(table).await? else { return Ok(()) };
            let live: HashSet<&str> = files.iter().map(|file| file.key.as_str()).collect();
            let has = |files: &[TableFile]| files.iter().all(|file| live.contains(file.key.as_str()));
            waiting.retain(|pending| {
                let is_possible =
                    has(&pending.removed) && pending.witnesses.iter().all(|key| live.contains(key.as_str()));
                if last.is_some() && !pending.added.is_empty() && has(&pending.added) {
                    run.compacted.push(pending.told(table));
                } else if !is_possible {
                    tracing::info!(stage = "compact", lake.table = %table, partition = %pending.partition, "others were faster");
                }
                is_possible
            });
            if waiting.is_empty() {
                return Ok(());
            }
            match self.ports.catalog.replace(replacement(table, &head, &waiting)?).await {
                Ok(()) => {
                    run.compacted.extend(waiting.drain(..).map(|pending| pending.told(table)));
                    return Ok(());
                }
                Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        last.map_or(Ok(()), Err)
    }

    /// Removes objects of the lake's tables that nothing refers to and that are [`ORPHAN_AGE`] old; answers how many.
    pub async fn sweep(&self, now: Timestamp) -> Result<u64, PortError> {
        let mut removed = 0;
        let old = i64::try_from(ORPHAN_AGE.as_millis()).unwrap_or(i64::MAX);
        let before = now.micros() / 1_000 - old;
        for schema in self.registry.iter() {
            let prefix = format!("lake/{}/", schema.table);
            let aged = listing::all(self.ports.objects.as_ref(), &prefix, |meta| meta.modified_ms < before).await?;
            if aged.is_empty() {
                continue;
            }
            let open = groups::open(self.ports.table.as_ref(), &schema.table).await?;
            // Without a table nobody knows what an object is for.
            let Some(needed) = self.ports.catalog.needed(&schema.table).await? else { continue };
            let open: HashSet<&str> = open.iter().map(|file| file.key.as_str()).collect();
            let keys = aged.iter().map(|meta| &meta.key);
            for key in keys.filter(|key| !needed.contains(*key) && !open.contains(key.as_str())) {
                self.ports.objects.delete(key).await?;
                removed += 1;
            }
        }
        if removed > 0 {
            tracing::info!(stage = "compact", objects = removed, "nothing referred to them");
        }
        Ok(removed)
    }
}

/// What a partition needs.
enum Work {
    Nothing,
    /// It has been kept long enough.
    Expired,
    /// It has files that are not of our own making, or smaller than this.
    Compaction {
        most: u64,
    },
}

impl Work {
    fn extent(&self, files: &[TableFile]) -> Extent {
        let is_due = |file: &&TableFile| match self {
            Self::Nothing => false,
            Self::Expired => true,
            Self::Compaction { most } => !is_compacted(file) || file.size_bytes < *most,
        };
        extent(files.iter().filter(is_due))
    }
}

impl Pending {
    fn told(&self, table: &str) -> Compacted {
        let (removed, added) = (extent(&self.removed), extent(&self.added));
        tracing::info!(
            stage = "compact",
            lake.table = %table,
            partition = %self.partition,
            files = removed.files,
            rows = removed.rows,
            into.files = added.files,
            into.rows = added.rows,
            "compacted"
        );
        Compacted { table: table.to_owned(), partition: self.partition.clone(), removed, added: Some(added) }
    }
}

fn extent<'f>(files: impl IntoIterator<Item = &'f TableFile>) -> Extent {
    files.into_iter().fold(Extent::default(), |sum, file| Extent {
        files: sum.files + 1,
        rows: sum.rows + file.rows,
        bytes: sum.bytes + file.size_bytes,
    })
}

/// Whether a file is of this stage's making.
fn is_compacted(file: &TableFile) -> bool {
    file.key.rsplit('/').next().is_some_and(|name| name.starts_with(NAME))
}

/// Files with the position of the first, so many together as are read at the same time.
fn parts(files: &[TableFile]) -> Vec<(usize, &[TableFile])> {
    let mut parts = Vec::new();
    let (mut first, mut size) = (0, 0);
    for (at, file) in files.iter().enumerate() {
        if at > first && (at - first == READ_AT_ONCE || size + file.size_bytes > READ_BYTES) {
            parts.push((first, &files[first..at]));
            (first, size) = (at, 0);
        }
        size += file.size_bytes;
    }
    parts.push((first, &files[first..]));
    parts
}

fn replacement(table: &str, head: &TableHead, waiting: &[Pending]) -> Result<Replace, PortError> {
    let mut properties = BTreeMap::new();
    for name in [REPEATED, EXPIRED, ERASED] {
        let more: u64 = waiting.iter().filter_map(|pending| pending.counted.get(name)).sum();
        if more > 0 {
            properties.insert(name.to_owned(), (count(table, head, name)? + more).to_string());
        }
    }
    Ok(Replace {
        table: table.to_owned(),
        token: head.token.clone(),
        removed: waiting.iter().flat_map(|pending| &pending.removed).map(|file| file.key.clone()).collect(),
        added: waiting.iter().flat_map(|pending| pending.added.clone()).collect(),
        properties,
    })
}

/// A count that is a property of a table.
pub(crate) fn count(table: &str, head: &TableHead, name: &str) -> Result<u64, PortError> {
    let Some(text) = head.properties.get(name) else { return Ok(0) };
    text.parse().map_err(|e| corrupt(&Key::new(table, name)).with_source(e))
}

pub(crate) fn timeless(schema: &Schema, file: &TableFile) -> PortError {
    let what = format!("the file `{}` of the table `{}` does not say its times", file.key, schema.table);
    PortError::new(ErrorKind::Invalid, "catalog.files", what)
}
