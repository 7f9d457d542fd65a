//! Rows of a user go, and the files that had them, with every state of their table that has those.

use super::{Counts, Erase, Erasures, Open, Target};
use crate::compact::{ERASED, Pending, Run, timeless};
use crate::groups;
use crate::listing;
use crate::rows;
use futures::StreamExt as _;
use serde_json::{Value, json};
use sluice_domain::lake::{EncodeError, Erased};
use sluice_domain::schema::Schema;
use sluice_domain::time::{DAY_US, Timestamp};
use sluice_ports::{Condition, ErrorKind, Forget, Item, Key, ObjectMeta, PortError, Query, TableFile, Write};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use uuid::Uuid;

/// Partition of the notes: files that had rows of a user, until they are gone.
const NOTES: &str = "erasure-files";
/// A note whose files are still part of the table was made for a replacement that others may yet bring about; it goes when it is this old.
const NOTE_KEPT_US: i64 = DAY_US;
/// Files looked at before it is noted how far the look has come.
const STEP: usize = 64;
/// Bytes of such files, unless it is one.
const STEP_BYTES: u64 = 512 << 20;
/// Files read at the same time.
const CONCURRENT_GETS: usize = 4;
/// How often a table is tried to be changed, or looked through for files that it has got meanwhile.
const LOOKS: usize = 6;

/// Files to look at, by their keys: those that the table has, and those that only older states have.
type Files = BTreeMap<String, Option<TableFile>>;

impl Erase {
    /// Goes through all tables; `None` where there was no time to come to the end, else whether everything was seen that is older than this
    /// look. A file that cannot be read does not keep the others from their turn; the first error is answered at the end.
    pub(super) async fn lake(
        &self,
        erasures: &Erasures,
        target: &Target,
        open: &mut Open,
    ) -> Result<Option<bool>, PortError> {
        let registry = self.compact.registry.clone();
        let mut schemas: Vec<&Schema> = registry.iter().collect();
        schemas.sort_by(|a, b| a.table.cmp(&b.table));
        let (mut failure, mut is_seen) = (None, true);
        for schema in &schemas {
            let through = open.row.look.as_ref().and_then(|look| look.through.clone());
            let after = match &through {
                Some((table, _)) if *table > schema.table => continue,
                Some((table, key)) if *table == schema.table => Some(key.as_str()),
                _ => None,
            };
            match self.table(erasures, target, open, schema, after).await {
                Ok(true) => is_seen &= self.nothing_waits(target, schema).await?,
                Ok(false) => return failure.map_or(Ok(None), Err),
                Err(error) => _ = failure.get_or_insert(error),
            }
        }
        for table in self.compact.ports.catalog.figures().await? {
            if schemas.iter().all(|schema| schema.table != table.name) {
                let what =
                    format!("the table `{}` has no schema file, so nobody can look for the user in it", table.name);
                failure.get_or_insert(PortError::new(ErrorKind::Invalid, "catalog.figures", what));
            }
        }
        failure.map_or(Ok(Some(is_seen)), Err)
    }

    async fn table(
        &self,
        erasures: &Erasures,
        target: &Target,
        open: &mut Open,
        schema: &Schema,
        after: Option<&str>,
    ) -> Result<bool, PortError> {
        self.finish(erasures, target, schema).await?;
        let (mut seen, mut failure): (HashSet<String>, _) = (HashSet::new(), None);
        for look in 0..=LOOKS {
            let mut files = self.files(target, schema, after).await?;
            files.retain(|key, _| !seen.contains(key));
            if files.is_empty() {
                return failure.map_or(Ok(true), Err);
            }
            // What an earlier run has not come to goes first, so that each run comes further.
            let behind = after.map_or_else(Files::new, |after| {
                let ahead = files.split_off(after);
                std::mem::replace(&mut files, ahead)
            });
            let files: Vec<(String, Option<TableFile>)> = files.into_iter().chain(behind).collect();
            for step in steps(&files) {
                seen.extend(self.step(erasures, target, schema, step, &mut failure).await?);
                if let (0, Some(progress), Some((last, _))) = (look, open.row.look.as_mut(), step.last()) {
                    let through = Some((schema.table.clone(), last.clone()));
                    progress.through = through.max(progress.through.take());
                    self.save(erasures, open).await?;
                }
                if target.began.elapsed() > self.budget {
                    return failure.map_or(Ok(false), Err);
                }
            }
        }
        // Files came faster than they were looked at, or others replaced them again and again: the next run goes on.
        failure.map_or(Ok(false), Err)
    }

    /// Whether no file has waited for its table for so long that the next look would take it for seen.
    async fn nothing_waits(&self, target: &Target, schema: &Schema) -> Result<bool, PortError> {
        for file in groups::open(self.ports.table.as_ref(), &schema.table).await? {
            let found = self.compact.ports.objects.list(&file.key, None, 1).await?;
            if found.first().is_some_and(|meta| meta.key == file.key && meta.modified_ms < target.look_began_ms) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The files of a table that are new to this look. `after` is how far an earlier run of it has come: up to there only what was written
    /// since it began is new.
    async fn files(&self, target: &Target, schema: &Schema, after: Option<&str>) -> Result<Files, PortError> {
        let ports = &self.compact.ports;
        let Some((_, live)) = ports.catalog.files(&schema.table).await? else { return Ok(Files::new()) };
        let needed = ports.catalog.needed(&schema.table).await?.unwrap_or_default();
        let prefix = format!("lake/{}/data/", schema.table);
        let past = needed.into_iter().filter(|key| key.starts_with(&prefix));
        let mut files: Files = past.map(|key| (key, None)).collect();
        files.extend(live.into_iter().map(|file| (file.key.clone(), Some(file))));
        if target.since_ms.is_some() || after.is_some() {
            let is_ahead = |key: &str| after.is_none_or(|after| key > after);
            let is_new = |meta: &ObjectMeta| match is_ahead(&meta.key) {
                true => target.is_new(meta.modified_ms),
                false => meta.modified_ms >= target.look_began_ms,
            };
            let new = listing::all(ports.objects.as_ref(), &prefix, is_new).await?;
            let new: HashSet<String> = new.into_iter().map(|meta| meta.key).collect();
            files.retain(|key, _| new.contains(key));
        }
        Ok(files)
    }

    /// Some files of a table. Answers those that need no further look: they have no rows of the user, or are of older states only, or
    /// cannot be read, which `failure` tells then.
    async fn step(
        &self,
        erasures: &Erasures,
        target: &Target,
        schema: &Schema,
        files: &[(String, Option<TableFile>)],
        failure: &mut Option<PortError>,
    ) -> Result<Vec<String>, PortError> {
        let erased = target.erased();
        let looks: Vec<_> = files.iter().map(|(key, _)| self.has_rows(schema, key, &erased)).collect();
        let found: Vec<_> = futures::stream::iter(looks).buffered(CONCURRENT_GETS).collect().await;
        let (mut done, mut noted, mut partitions) = (Vec::new(), Vec::new(), BTreeMap::<String, Vec<TableFile>>::new());
        for ((key, file), has_rows) in files.iter().zip(found) {
            match (has_rows, file) {
                (Err(error), _) => {
                    failure.get_or_insert(error);
                    done.push(key.clone());
                }
                (Ok(false), _) => done.push(key.clone()),
                (Ok(true), None) => {
                    noted.push(key.clone());
                    done.push(key.clone());
                }
                (Ok(true), Some(file)) => {
                    let time = Timestamp::from_micros(file.time_us.0).ok_or_else(|| timeless(schema, file))?;
                    partitions.entry(schema.partition.folder(time)).or_default().push(file.clone());
                }
            }
        }
        let (mut waiting, mut rows) = (Vec::<Pending>::new(), BTreeMap::<String, u64>::new());
        for (partition, files) in partitions {
            match self.compact.rewrite(schema, partition.clone(), files.clone(), &erased).await {
                Ok(None) => {}
                Ok(Some(pending)) => {
                    noted.extend(pending.removed.iter().map(|file| file.key.clone()));
                    rows.insert(partition, pending.counted.get(ERASED).copied().unwrap_or_default());
                    waiting.push(pending);
                }
                Err(error) => {
                    failure.get_or_insert(error);
                    done.extend(files.into_iter().map(|file| file.key));
                }
            }
        }
        if noted.is_empty() {
            return Ok(done);
        }
        self.note(target, schema, noted).await?;
        let mut run = Run::default();
        self.compact.bring_about(schema, waiting, &mut run).await?;
        let rows = run.compacted.iter().filter_map(|compacted| rows.get(&compacted.partition)).sum();
        erasures.count(&target.id, Counts { rows, ..Counts::default() }).await?;
        self.finish(erasures, target, schema).await?;
        Ok(done)
    }

    async fn has_rows(&self, schema: &Schema, key: &str, erased: &Erased) -> Result<bool, PortError> {
        let ports = &self.compact.ports;
        let bytes = match ports.objects.get(key, None).await {
            // Of a state that nobody can read any more.
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(false),
            bytes => bytes?,
        };
        let rows = ports.rewriter.erased_rows(schema, bytes, erased);
        let fail = |error: EncodeError| {
            PortError::new(ErrorKind::Corrupt, "objects.get", format!("the file `{key}`: {error}"))
        };
        rows.map(|rows| rows > 0).map_err(fail)
    }

    async fn note(&self, target: &Target, schema: &Schema, files: Vec<String>) -> Result<(), PortError> {
        let key = Key::new(NOTES, format!("{}#{}#{}", target.id, schema.table, Uuid::now_v7().simple()));
        let value = json!({"files": files, "at": target.now.to_micros_text()});
        self.ports.table.write(vec![Write::Put { key, value, condition: Condition::Absent, expires_at: None }]).await
    }

    /// Files that are noted and that the table does not have any more go, with all states that have them.
    async fn finish(&self, erasures: &Erasures, target: &Target, schema: &Schema) -> Result<(), PortError> {
        let prefix = format!("{}#{}#", target.id, schema.table);
        let notes = self.ports.table.query(Query::prefix(NOTES, &prefix, rows::PAGE)).await?;
        if notes.is_empty() {
            return Ok(());
        }
        let ports = &self.compact.ports;
        let Some((_, live)) = ports.catalog.files(&schema.table).await? else { return Ok(()) };
        let live: HashSet<String> = live.into_iter().map(|file| file.key).collect();
        let files_of = |value: &Value| {
            let files = value["files"].as_array().into_iter().flatten();
            files.filter_map(|file| file.as_str().map(str::to_owned)).collect::<BTreeSet<String>>()
        };
        let noted: BTreeSet<String> = notes.iter().flat_map(|note| files_of(&note.value)).collect();
        let gone: BTreeSet<String> = noted.into_iter().filter(|file| !live.contains(file)).collect();
        let mut needed = BTreeSet::new();
        if !gone.is_empty() {
            self.forget(schema, &gone).await?;
            needed = ports.catalog.needed(&schema.table).await?.unwrap_or_default();
        }
        let removed: BTreeSet<&String> = gone.iter().filter(|file| !needed.contains(*file)).collect();
        for file in &removed {
            ports.objects.delete(file).await?;
        }
        for Item { key, value, .. } in notes {
            let made = value["at"].as_str().and_then(Timestamp::parse_rfc3339).unwrap_or_default();
            let is_old = made.plus_micros(NOTE_KEPT_US) <= target.now;
            let of_note = files_of(&value);
            let files = of_note.iter().filter(|file| removed.contains(file)).count() as u64;
            if files == of_note.len() as u64 || is_old {
                erasures.count(&target.id, Counts { files, ..Counts::default() }).await?;
                self.ports.table.write(vec![Write::Delete { key, condition: Condition::Any }]).await?;
            }
        }
        Ok(())
    }

    async fn forget(&self, schema: &Schema, files: &BTreeSet<String>) -> Result<(), PortError> {
        let mut last = None;
        for _ in 0..LOOKS {
            let Some(head) = self.compact.ports.catalog.load(&schema.table).await? else { return Ok(()) };
            let forget = Forget { table: schema.table.clone(), token: head.token, files: files.clone() };
            match self.compact.ports.catalog.forget(forget).await {
                Ok(()) => return Ok(()),
                Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        last.map_or(Ok(()), Err)
    }
}

/// Files with the sizes of one step.
fn steps(files: &[(String, Option<TableFile>)]) -> Vec<&[(String, Option<TableFile>)]> {
    let (mut steps, mut first, mut bytes) = (Vec::new(), 0, 0);
    for (at, (_, file)) in files.iter().enumerate() {
        let size = file.as_ref().map_or(0, |file| file.size_bytes);
        if at > first && (at - first == STEP || bytes + size > STEP_BYTES) {
            steps.push(&files[first..at]);
            (first, bytes) = (at, 0);
        }
        bytes += size;
    }
    steps.push(&files[first..]);
    steps
}
