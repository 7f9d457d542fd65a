//! Rows of a user go, and the files that had them, with every state of their table that has those.

use super::{Counts, Erase, Erasures, Open, Target};
use crate::compact::{ERASED, Pending, Run};
use crate::rows;
use futures::StreamExt as _;
use serde_json::json;
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
/// Files read at the same time.
const CONCURRENT_GETS: usize = 4;
/// How often a table is tried to be changed, or looked through for files that it has got meanwhile.
const LOOKS: usize = 6;
/// Objects listed at once.
const PAGE: usize = 1_000;

/// Files to look at, by their keys: those that the table has, and those that only older states have.
type Files = BTreeMap<String, Option<TableFile>>;

impl Erase {
    /// Goes through all tables; answers whether it came to the end.
    pub(super) async fn lake(&self, erasures: &Erasures, target: &Target, open: &mut Open) -> Result<bool, PortError> {
        let registry = self.compact.registry.clone();
        let mut schemas: Vec<&Schema> = registry.iter().collect();
        schemas.sort_by(|a, b| a.table.cmp(&b.table));
        for schema in schemas {
            let through = open.row.look.as_ref().and_then(|look| look.through.clone());
            let after = match &through {
                Some((table, _)) if *table > schema.table => continue,
                Some((table, key)) if *table == schema.table => Some(key.as_str()),
                _ => None,
            };
            let after = after.map(str::to_owned);
            if !self.table(erasures, target, open, schema, after.as_deref()).await? {
                return Ok(false);
            }
        }
        Ok(true)
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
        let mut seen: HashSet<String> = HashSet::new();
        for look in 0.. {
            let mut files = self.files(target, schema, after).await?;
            files.retain(|key, _| !seen.contains(key));
            if files.is_empty() {
                return Ok(true);
            }
            if look == LOOKS {
                let what = format!("the files of the table `{}` change faster than they are looked at", schema.table);
                return Err(PortError::new(ErrorKind::Conflict, "catalog.files", what));
            }
            // What an earlier run has not come to goes first, so that each run comes further.
            let behind = after.map_or_else(Files::new, |after| {
                let ahead = files.split_off(after);
                std::mem::replace(&mut files, ahead)
            });
            let files: Vec<(String, Option<TableFile>)> = files.into_iter().chain(behind).collect();
            for step in files.chunks(STEP) {
                self.step(erasures, target, schema, step).await?;
                seen.extend(step.iter().map(|(key, _)| key.clone()));
                if let (0, Some(progress), Some((last, _))) = (look, open.row.look.as_mut(), step.last()) {
                    let through = Some((schema.table.clone(), last.clone()));
                    progress.through = through.max(progress.through.take());
                    self.save(erasures, open).await?;
                    if target.began.elapsed() > self.budget {
                        return Ok(false);
                    }
                }
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
            let (mut new, mut last) = (HashSet::new(), None);
            loop {
                let page = ports.objects.list(&prefix, last.as_deref(), PAGE).await?;
                let Some(end) = page.last() else { break };
                last = Some(end.key.clone());
                let is_new = |meta: &ObjectMeta| match is_ahead(&meta.key) {
                    true => target.is_new(meta.modified_ms),
                    false => meta.modified_ms >= target.look_began_ms,
                };
                new.extend(page.into_iter().filter(is_new).map(|meta| meta.key));
            }
            files.retain(|key, _| new.contains(key));
        }
        Ok(files)
    }

    /// Some files of a table.
    async fn step(
        &self,
        erasures: &Erasures,
        target: &Target,
        schema: &Schema,
        files: &[(String, Option<TableFile>)],
    ) -> Result<(), PortError> {
        let erased = target.erased();
        let looks: Vec<_> = files.iter().map(|(key, _)| self.has_rows(schema, key, &erased)).collect();
        let found: Vec<_> = futures::stream::iter(looks).buffered(CONCURRENT_GETS).collect().await;
        let (mut past, mut partitions) = (Vec::new(), BTreeMap::<String, Vec<TableFile>>::new());
        for ((key, file), has_rows) in files.iter().zip(found) {
            match file {
                _ if !has_rows? => {}
                None => past.push(key.clone()),
                Some(file) => {
                    let time = Timestamp::from_micros(file.time_us.0).unwrap_or_default();
                    partitions.entry(schema.partition.folder(time)).or_default().push(file.clone());
                }
            }
        }
        if !past.is_empty() {
            self.note(target, schema, past).await?;
        }
        let mut waiting: Vec<Pending> = Vec::new();
        for (partition, files) in partitions {
            waiting.extend(self.compact.rewrite(schema, partition, files, &erased).await?);
        }
        let mut rows = 0;
        for pending in waiting {
            self.note(target, schema, pending.removed.iter().map(|file| file.key.clone()).collect()).await?;
            let of_user = pending.counted.get(ERASED).copied().unwrap_or_default();
            let mut run = Run::default();
            self.compact.bring_about(schema, vec![pending], &mut run).await?;
            rows += if run.compacted.is_empty() { 0 } else { of_user };
        }
        erasures.count(&target.id, Counts { rows, ..Counts::default() }).await?;
        self.finish(erasures, target, schema).await
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
        for Item { key, value, .. } in notes {
            let noted = value["files"].as_array().into_iter().flatten();
            let noted: BTreeSet<String> = noted.filter_map(|file| file.as_str().map(str::to_owned)).collect();
            let gone: BTreeSet<String> = noted.iter().filter(|file| !live.contains(*file)).cloned().collect();
            self.forget(schema, &gone).await?;
            let needed = ports.catalog.needed(&schema.table).await?.unwrap_or_default();
            let mut files = 0;
            for file in gone.iter().filter(|file| !needed.contains(*file)) {
                ports.objects.delete(file).await?;
                files += 1;
            }
            let made = value["at"].as_str().and_then(Timestamp::parse_rfc3339).unwrap_or_default();
            let is_old = || made.plus_micros(NOTE_KEPT_US) <= target.now;
            if gone.len() == noted.len() || is_old() {
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
