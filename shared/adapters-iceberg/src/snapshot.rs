//! A change of a table on its way: manifests, their list, the next metadata. Nobody sees any of it before the pointer is swapped.

use crate::bucket::Bucket;
use crate::columns::{SORT_ORDER, TIME};
use crate::unreadable;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, Literal, MAIN_BRANCH,
    ManifestContentType, ManifestEntryRef, ManifestFile, ManifestList, ManifestListWriter, ManifestWriter,
    ManifestWriterBuilder, Operation, Snapshot, SnapshotReference, SnapshotRetention, Struct, Summary, TableMetadata,
    TableMetadataBuilder,
};
use iceberg::transform::create_transform_function;
use serde_json::Value;
use sluice_domain::time::Timestamp;
use sluice_ports::{ErrorKind, PortError, TableFile};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// So many manifests of one size become one of the next size.
const MERGED_AT: usize = 100;
/// Files of a manifest of each size, from and to. One with more is not merged any more.
const SIZES: [(u64, u64); 2] = [(0, 100), (100, 10_000)];
/// Snapshots that are kept whatever their age.
const SNAPSHOTS_KEPT: usize = 100;
/// How long a tag of a day is kept: 30 days.
const TAG_KEPT_MS: i64 = 30 * 86_400_000;
/// How the tags of days begin.
const TAG: &str = "day-";

/// What a table becomes.
pub(crate) struct Change {
    pub(crate) metadata: TableMetadata,
    /// Locations that nothing refers to any more once the change has come about.
    pub(crate) expired: Vec<String>,
}

/// The state that a change is made on, and when.
#[derive(Clone, Copy)]
pub(crate) struct State<'a> {
    pub(crate) bucket: &'a Bucket,
    /// Where `metadata` stands.
    pub(crate) location: &'a str,
    pub(crate) metadata: &'a TableMetadata,
    /// A snapshot that is younger than this is kept: whoever reads it may finish.
    pub(crate) kept_ms: i64,
    pub(crate) now_ms: i64,
}

/// A change of a table on its way.
pub(crate) struct Changing<'a> {
    operation: &'static str,
    bucket: &'a Bucket,
    /// Where `metadata` stands.
    location: &'a str,
    metadata: &'a TableMetadata,
    now_ms: i64,
    kept_ms: i64,
    builder: TableMetadataBuilder,
    properties: HashMap<String, String>,
    memory: FileIO,
    /// The snapshot's.
    id: i64,
    uuid: Uuid,
    manifests: usize,
}

/// Files that a change adds and removes.
pub(crate) struct Delta<'f> {
    pub(crate) added: &'f [DataFile],
    pub(crate) removed: &'f [DataFile],
}

impl<'a> Changing<'a> {
    /// Begins to change a table by setting properties.
    pub(crate) fn begin(
        operation: &'static str,
        state: State<'a>,
        properties: HashMap<String, String>,
    ) -> Result<Self, PortError> {
        let State { bucket, location, metadata, kept_ms, now_ms } = state;
        if metadata.format_version() != FormatVersion::V2 {
            let version = metadata.format_version();
            let what = format!("the table at `{location}` is of {version}, and only format version 2 is written");
            return Err(PortError::new(ErrorKind::Invalid, operation, what));
        }
        let fail = |error| unreadable(operation, location, error);
        let builder = metadata.clone().into_builder(Some(location.to_owned()));
        let builder = builder.set_properties(properties.clone()).map_err(fail)?;
        Ok(Self {
            operation,
            bucket,
            location,
            metadata,
            now_ms,
            kept_ms,
            builder,
            properties,
            memory: FileIO::new_with_memory(),
            id: snapshot_id(metadata),
            uuid: Uuid::now_v7(),
            manifests: 0,
        })
    }

    /// Ends the change: snapshots that are old enough go.
    pub(crate) fn finish(self) -> Result<Change, PortError> {
        self.finish_without(&HashSet::new())
    }

    /// Ends the change: snapshots that are old enough go, and these with whatever names them. The newest is not among them.
    pub(crate) fn finish_without(self, forgotten: &HashSet<i64>) -> Result<Change, PortError> {
        let metadata = self.metadata;
        let Tagging { new, old: old_tags, named } = Tagging::of(metadata, self.now_ms)?;
        let fail = |error| unreadable(self.operation, self.location, error);
        let mut builder = self.builder;
        for tag in old_tags {
            builder = builder.remove_ref(&tag);
        }
        for (name, _) in refs(metadata)?.into_iter().filter(|(_, id)| forgotten.contains(id)) {
            builder = builder.remove_ref(&name);
        }
        if let Some((tag, id)) = new {
            let retention = SnapshotRetention::Tag { max_ref_age_ms: Some(TAG_KEPT_MS) };
            builder = builder.set_ref(&tag, SnapshotReference::new(id, retention)).map_err(fail)?;
        }
        let mut old = old_snapshots(metadata, &named, self.kept_ms, self.now_ms);
        old.extend(forgotten.iter().filter(|id| !old.contains(id)).collect::<Vec<_>>());
        let mut expired: Vec<String> =
            old.iter().filter_map(|id| Some(metadata.snapshot_by_id(*id)?.manifest_list().to_owned())).collect();
        let built = builder.remove_snapshots(&old).build().map_err(fail)?;
        expired.extend(built.expired_metadata_logs.into_iter().map(|log| log.metadata_file));
        Ok(Change { metadata: built.metadata, expired })
    }

    /// Makes these manifests the table's next snapshot.
    pub(crate) async fn snapshot(
        mut self,
        operation: Operation,
        manifests: Vec<ManifestFile>,
        delta: Delta<'_>,
    ) -> Result<Self, PortError> {
        let metadata = self.metadata;
        let location = format!("{}/metadata/snap-{}-0-{}.avro", metadata.location(), self.id, self.uuid);
        let fail = |error| unreadable(self.operation, &location, error);
        let sequence_number = metadata.next_sequence_number();
        let list = async {
            let writer = self.memory.new_output(&location)?.writer().await?;
            let mut list = ManifestListWriter::v2(writer, self.id, metadata.current_snapshot_id(), sequence_number);
            list.add_manifests(manifests.into_iter())?;
            list.close().await
        };
        list.await.map_err(fail)?;
        self.bucket.store(&location, &self.memory).await?;
        let snapshot = Snapshot::builder()
            .with_snapshot_id(self.id)
            .with_parent_snapshot_id(metadata.current_snapshot_id())
            .with_sequence_number(sequence_number)
            // Clocks differ, and history goes on.
            .with_timestamp_ms(self.now_ms.max(metadata.last_updated_ms()))
            .with_summary(self.summary(operation, &delta))
            .with_manifest_list(location.clone())
            .with_schema_id(metadata.current_schema_id())
            .build();
        let branch = SnapshotReference::new(self.id, SnapshotRetention::branch(None, None, None));
        let builder = self.builder.add_snapshot(snapshot).and_then(|b| b.set_ref(MAIN_BRANCH, branch)).map_err(fail)?;
        self.builder = builder;
        Ok(self)
    }

    /// The manifests of the table as it stands, but those that only say what is gone: they have told of it.
    pub(crate) async fn manifests(&self) -> Result<Vec<ManifestFile>, PortError> {
        let Some(current) = self.metadata.current_snapshot() else { return Ok(Vec::new()) };
        let mut manifests = manifests(self.bucket, current).await?;
        manifests.retain(|manifest| manifest.added_files_count != Some(0) || manifest.existing_files_count != Some(0));
        Ok(manifests)
    }

    pub(crate) async fn added(&mut self, files: &[DataFile]) -> Result<ManifestFile, PortError> {
        let mut writer = self.writer()?;
        for file in files {
            // Below 0: the number is the snapshot's own, by the list.
            writer.add_file(file.clone(), -1).map_err(|e| unreadable(self.operation, "a manifest", e))?;
        }
        self.finish_manifest(writer).await
    }

    /// Where there are too many manifests of one size, they become one: each append adds one, and a reader opens them all.
    pub(crate) async fn merge(&mut self, manifests: Vec<ManifestFile>) -> Result<Vec<ManifestFile>, PortError> {
        let spec = self.metadata.default_partition_spec_id();
        let files = |m: &ManifestFile| {
            let of = |count: Option<u32>| count.map_or(u64::MAX / 4, u64::from);
            of(m.added_files_count) + of(m.existing_files_count) + of(m.deleted_files_count)
        };
        let mut kept = manifests;
        for (from, to) in SIZES {
            let fits = |m: &ManifestFile| {
                m.content == ManifestContentType::Data && m.partition_spec_id == spec && (from..to).contains(&files(m))
            };
            let (small, rest): (Vec<_>, Vec<_>) = kept.into_iter().partition(fits);
            if small.len() < MERGED_AT {
                kept = small.into_iter().chain(rest).collect();
                continue;
            }
            kept = vec![self.merged(small).await?];
            kept.extend(rest);
        }
        Ok(kept)
    }

    async fn merged(&mut self, small: Vec<ManifestFile>) -> Result<ManifestFile, PortError> {
        let mut writer = self.writer()?;
        for manifest in small {
            for entry in self.bucket.entries(self.operation, &manifest).await? {
                self.carry(&mut writer, &manifest, &entry, false)?;
            }
        }
        self.finish_manifest(writer).await
    }

    /// A manifest with the files of these, but those that are removed; and what they say of the removed ones.
    pub(crate) async fn without(
        &mut self,
        manifests: Vec<ManifestFile>,
        is_gone: impl Fn(&str) -> bool,
    ) -> Result<(Vec<ManifestFile>, Vec<DataFile>), PortError> {
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        let mut writer: Option<ManifestWriter> = None;
        let mut written = 0;
        for manifest in manifests {
            let entries = self.bucket.entries(self.operation, &manifest).await?;
            let is_removed = |entry: &ManifestEntryRef| is_gone(entry.data_file().file_path());
            if !entries.iter().any(is_removed) {
                kept.push(manifest);
                continue;
            }
            for entry in &entries {
                let to = match &mut writer {
                    Some(writer) => writer,
                    None => writer.insert(self.writer()?),
                };
                let is_removed = is_removed(entry);
                self.carry(to, &manifest, entry, is_removed)?;
                if is_removed {
                    gone.push(entry.data_file().clone());
                }
                written += 1;
            }
            if written >= SIZES[1].1
                && let Some(full) = writer.take()
            {
                kept.push(self.finish_manifest(full).await?);
                written = 0;
            }
        }
        if let Some(last) = writer {
            kept.push(self.finish_manifest(last).await?);
        }
        Ok((kept, gone))
    }

    /// Writes an entry of another manifest on, as one of a file that stays or of one that goes.
    fn carry(
        &self,
        to: &mut ManifestWriter,
        from: &ManifestFile,
        entry: &ManifestEntryRef,
        goes: bool,
    ) -> Result<(), PortError> {
        let (Some(snapshot), Some(sequence)) = (entry.snapshot_id(), entry.sequence_number()) else {
            let what = format!("`{}` has an entry without its snapshot", from.manifest_path);
            return Err(PortError::new(ErrorKind::Corrupt, self.operation, what));
        };
        let (file, number) = (entry.data_file().clone(), entry.file_sequence_number);
        let written = match goes {
            true => to.add_delete_file(file, sequence, number),
            false => to.add_existing_file(file, snapshot, sequence, number),
        };
        written.map_err(|e| unreadable(self.operation, &from.manifest_path, e))
    }

    fn writer(&mut self) -> Result<ManifestWriter, PortError> {
        let location = format!("{}/metadata/{}-m{}.avro", self.metadata.location(), self.uuid, self.manifests);
        self.manifests += 1;
        let output = self.memory.new_output(&location).map_err(|e| unreadable(self.operation, &location, e))?;
        let spec = self.metadata.default_partition_spec().as_ref().clone();
        Ok(ManifestWriterBuilder::new(output, Some(self.id), self.metadata.current_schema().clone(), spec)
            .build_v2_data())
    }

    async fn finish_manifest(&self, writer: ManifestWriter) -> Result<ManifestFile, PortError> {
        let manifest = writer.write_manifest_file().await.map_err(|e| unreadable(self.operation, "a manifest", e))?;
        self.bucket.store(&manifest.manifest_path, &self.memory).await?;
        Ok(manifest)
    }

    /// What the snapshot says of itself. The totals go on from the snapshot before; where that does not say them, neither does this one.
    fn summary(&self, operation: Operation, delta: &Delta<'_>) -> Summary {
        let figures = |files: &[DataFile]| {
            let rows: u64 = files.iter().map(DataFile::record_count).sum();
            let bytes: u64 = files.iter().map(DataFile::file_size_in_bytes).sum();
            [files.len() as u64, rows, bytes]
        };
        let (added, removed) = (figures(delta.added), figures(delta.removed));
        let changed = delta.added.iter().chain(delta.removed).map(|file| format!("{:?}", file.partition()));
        let changed: HashSet<String> = changed.collect();
        let mut says = self.properties.clone();
        says.insert("changed-partition-count".to_owned(), changed.len().to_string());
        let mut say = |names: [&str; 3], figures: [u64; 3]| {
            for (name, n) in names.into_iter().zip(figures) {
                says.insert(name.to_owned(), n.to_string());
            }
        };
        say(["added-data-files", "added-records", "added-files-size"], added);
        if !delta.removed.is_empty() {
            say(["deleted-data-files", "deleted-records", "removed-files-size"], removed);
        }
        let before = self.metadata.current_snapshot().map(|snapshot| &snapshot.summary().additional_properties);
        let names = ["total-data-files", "total-records", "total-files-size"];
        let deletes = ["total-delete-files", "total-position-deletes", "total-equality-deletes"];
        let totals = names.into_iter().zip(added.into_iter().zip(removed));
        for (name, (added, removed)) in totals.chain(deletes.map(|name| (name, (0, 0)))) {
            let total = match before {
                None => Some(0),
                Some(before) => before.get(name).and_then(|total| total.parse::<u64>().ok()),
            };
            if let Some(total) = total.and_then(|total| (total + added).checked_sub(removed)) {
                says.insert(name.to_owned(), total.to_string());
            }
        }
        Summary { operation, additional_properties: says }
    }

    /// Describes a data file: it is added as it is, with what is known of it.
    pub(crate) fn data_file(&self, file: &TableFile) -> Result<DataFile, PortError> {
        let invalid = |what: String| {
            PortError::new(ErrorKind::Invalid, self.operation, format!("the file `{}`: {what}", file.key))
        };
        let spec = self.metadata.default_partition_spec();
        let time = self.metadata.current_schema().field_by_name(TIME).map(|field| field.id);
        let time = time.ok_or_else(|| invalid(format!("the table has no column `{TIME}`")))?;
        let (first, last) = (Datum::timestamptz_micros(file.time_us.0), Datum::timestamptz_micros(file.time_us.1));
        let mut partition = Vec::new();
        for field in spec.fields() {
            if field.source_id != time {
                return Err(invalid(format!("the table is cut by `{}`, which is not its time", field.name)));
            }
            let value = |of: &Datum| create_transform_function(&field.transform)?.transform_literal(of);
            let values = value(&first).and_then(|first| Ok((first, value(&last)?)));
            let (from, to) = values.map_err(|e| unreadable(self.operation, &file.key, e))?;
            if from != to {
                return Err(invalid(format!("its rows are of more than one partition by `{}`", field.name)));
            }
            partition.push(from.map(Literal::from));
        }
        DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(self.bucket.location(&file.key))
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::from_iter(partition))
            .partition_spec_id(spec.spec_id())
            .record_count(file.rows)
            .file_size_in_bytes(file.size_bytes)
            .value_counts(HashMap::from([(time, file.rows)]))
            .null_value_counts(HashMap::from([(time, 0)]))
            .lower_bounds(HashMap::from([(time, first)]))
            .upper_bounds(HashMap::from([(time, last)]))
            .sort_order_id(SORT_ORDER)
            .build()
            .map_err(|error| invalid(error.to_string()))
    }
}

/// The manifests of a snapshot.
pub(crate) async fn manifests(bucket: &Bucket, snapshot: &Snapshot) -> Result<Vec<ManifestFile>, PortError> {
    let bytes = bucket.read(snapshot.manifest_list()).await?;
    let list = ManifestList::parse_with_version(&bytes, FormatVersion::V2)
        .map_err(|e| unreadable("catalog.load", snapshot.manifest_list(), e))?;
    Ok(list.consume_entries().into_iter().collect())
}

/// The tags that a change brings: the last state of each day on which the table changed has one for [`TAG_KEPT_MS`].
struct Tagging {
    /// A tag that is to be, and its snapshot.
    new: Option<(String, i64)>,
    /// Tags that go.
    old: Vec<String>,
    /// Snapshots that a tag or a branch names, afterwards.
    named: HashSet<i64>,
}

impl Tagging {
    fn of(metadata: &TableMetadata, now_ms: i64) -> Result<Self, PortError> {
        let refs = refs(metadata)?;
        let last = metadata.current_snapshot().map(|last| (tag_of(last.timestamp_ms()), last.snapshot_id()));
        let new = last.filter(|(tag, _)| *tag != tag_of(now_ms) && refs.iter().all(|(name, _)| name != tag));
        let limit = tag_of(now_ms - TAG_KEPT_MS);
        let is_old = |name: &str| name.starts_with(TAG) && name.len() == limit.len() && name < limit.as_str();
        let (old, kept): (Vec<_>, Vec<_>) = refs.into_iter().partition(|(name, _)| is_old(name));
        let named = kept.into_iter().map(|(_, id)| id).chain(new.iter().map(|(_, id)| *id)).collect();
        Ok(Self { new, old: old.into_iter().map(|(name, _)| name).collect(), named })
    }
}

/// The tag of the last state of a day: `day-YYYY-MM-DD`.
pub(crate) fn tag_of(at_ms: i64) -> String {
    let at = Timestamp::from_micros(at_ms.saturating_mul(1_000)).unwrap_or_default();
    format!("{TAG}{}", at.date_text())
}

/// Names of a table's tags of days, each with its snapshot.
pub(crate) fn tags(metadata: &TableMetadata) -> Result<Vec<(String, i64)>, PortError> {
    Ok(refs(metadata)?.into_iter().filter(|(name, _)| name.starts_with(TAG)).collect())
}

/// The names that point to snapshots. The crate tells them in JSON only.
fn refs(metadata: &TableMetadata) -> Result<Vec<(String, i64)>, PortError> {
    let json = serde_json::to_value(metadata).map_err(|error| {
        PortError::new(ErrorKind::Corrupt, "catalog.load", "the metadata cannot be written").with_source(error)
    })?;
    let refs = json.get("refs").and_then(Value::as_object).into_iter().flatten();
    Ok(refs.filter_map(|(name, at)| Some((name.clone(), at.get("snapshot-id")?.as_i64()?))).collect())
}

/// Ids of snapshots that are neither among the newest, nor younger than `kept_ms`, nor named by a branch or tag.
fn old_snapshots(metadata: &TableMetadata, named: &HashSet<i64>, kept_ms: i64, now_ms: i64) -> Vec<i64> {
    let mut snapshots: Vec<(i64, i64, i64)> =
        metadata.snapshots().map(|s| (s.sequence_number(), s.snapshot_id(), s.timestamp_ms())).collect();
    snapshots.sort_unstable();
    let old = snapshots.iter().take(snapshots.len().saturating_sub(SNAPSHOTS_KEPT));
    let old = old.filter(|(_, id, at)| *at < now_ms - kept_ms && !named.contains(id));
    old.map(|(_, id, _)| *id).collect()
}

fn snapshot_id(metadata: &TableMetadata) -> i64 {
    loop {
        // Its random part, positive as other engines draw it.
        let id = Uuid::now_v7().as_u64_pair().1.cast_signed() & i64::MAX;
        if metadata.snapshot_by_id(id).is_none() {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;
    /// 2026-11-21T00:00:00Z.
    const BEGIN: i64 = 1_795_219_200_000;

    /// A table whose snapshots, numbered from 1, were made at these times, with tags of some of them.
    fn table(times: &[i64], tags: &[(&str, i64)]) -> TableMetadata {
        let snapshots: Vec<Value> = (1..)
            .zip(times)
            .map(|(n, at)| {
                json!({"snapshot-id": n, "sequence-number": n, "timestamp-ms": at, "schema-id": 0,
                    "manifest-list": format!("s3://b/{n}.avro"), "summary": {"operation": "append"}})
            })
            .collect();
        let last = times.len();
        let mut refs = serde_json::Map::new();
        refs.insert("main".into(), json!({"snapshot-id": last, "type": "branch"}));
        refs.extend(tags.iter().map(|(tag, id)| ((*tag).to_owned(), json!({"snapshot-id": id, "type": "tag"}))));
        let metadata = json!({
            "format-version": 2, "table-uuid": Uuid::nil(), "location": "s3://b/t", "last-sequence-number": last,
            "last-updated-ms": times.last(), "last-column-id": 1, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "a", "required": false, "type": "long"}]}],
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}], "properties": {},
            "current-snapshot-id": last, "snapshots": snapshots, "snapshot-log": [], "metadata-log": [], "refs": refs,
        });
        serde_json::from_value(metadata).unwrap()
    }

    #[test]
    fn the_last_state_of_a_day_gets_a_tag_with_the_first_change_of_another_day() {
        let metadata = table(&[BEGIN + HOUR, BEGIN + 2 * HOUR], &[]);
        let tagging = |now| Tagging::of(&metadata, now).unwrap();
        assert_eq!(tagging(BEGIN + 23 * HOUR).new, None);
        for later in [BEGIN + DAY, BEGIN + 3 * DAY] {
            assert_eq!(tagging(later).new, Some(("day-2026-11-21".into(), 2)));
            assert!(tagging(later).named.contains(&2));
        }
        let tagged = table(&[BEGIN + HOUR], &[("day-2026-11-21", 1)]);
        assert_eq!(Tagging::of(&tagged, BEGIN + DAY).unwrap().new, None);
    }

    #[test]
    fn tags_of_days_go_after_thirty_days_and_those_of_others_stay() {
        let metadata =
            table(&[BEGIN, BEGIN + DAY, BEGIN + 2 * DAY], &[("day-2026-11-21", 1), ("day-2026-11-22", 2), ("mine", 1)]);
        let at = |days| Tagging::of(&metadata, BEGIN + days * DAY).unwrap();
        assert_eq!(at(30).old, Vec::<String>::new());
        assert_eq!(at(31).old, ["day-2026-11-21"]);
        assert!(at(31).named.contains(&1), "another one names it");
        assert_eq!(at(32).old.len(), 2);
        assert!(!at(32).named.contains(&2));
    }

    #[test]
    fn snapshots_go_that_are_old_and_not_among_the_newest_and_not_named() {
        let times: Vec<i64> = (0..150).map(|n| BEGIN + n * 60_000).collect();
        let metadata = table(&times, &[]);
        let old = |named: &[i64], now| old_snapshots(&metadata, &named.iter().copied().collect(), HOUR, now);
        assert_eq!(old(&[], BEGIN + HOUR), Vec::<i64>::new(), "all are young");
        assert_eq!(old(&[], BEGIN + HOUR + 180_000), [1, 2, 3]);
        assert_eq!(old(&[2], BEGIN + HOUR + 180_000), [1, 3]);
        assert_eq!(old(&[], BEGIN + DAY).len(), 50, "a hundred stay");
    }
}
