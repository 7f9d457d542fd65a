//! What an append makes of a table: data files in a manifest, a manifest list, the next metadata.

use crate::bucket::Bucket;
use crate::columns::{SORT_ORDER, TIME};
use crate::unreadable;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, Literal, MAIN_BRANCH,
    ManifestContentType, ManifestFile, ManifestList, ManifestListWriter, ManifestWriter, ManifestWriterBuilder,
    Operation, Snapshot, SnapshotReference, SnapshotRetention, Struct, Summary, TableMetadata,
};
use iceberg::transform::create_transform_function;
use serde_json::Value;
use sluice_ports::{Append, ErrorKind, NewFile, PortError};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

const APPEND: &str = "catalog.append";
/// So many manifests of one size become one of the next size.
const MERGED_AT: usize = 100;
/// Files of a manifest of each size, from and to. One with more is not merged any more.
const SIZES: [(u64, u64); 2] = [(0, 100), (100, 10_000)];
/// Snapshots that are kept whatever their age.
const SNAPSHOTS_KEPT: usize = 100;
/// A snapshot that is younger than this is kept: whoever reads it may finish.
const SNAPSHOT_KEPT_MS: i64 = 3_600_000;

/// What a table becomes.
pub(crate) struct Change {
    pub(crate) metadata: TableMetadata,
    /// Locations that nothing refers to any more once the change has come about.
    pub(crate) expired: Vec<String>,
}

/// Writes all objects of an append but the metadata. `location` is where `metadata` stands.
pub(crate) async fn change(
    bucket: &Bucket,
    location: &str,
    metadata: &TableMetadata,
    append: &Append,
    now_ms: i64,
) -> Result<Change, PortError> {
    if metadata.format_version() != FormatVersion::V2 {
        let what = format!(
            "the table `{}` is of {}, and only format version 2 is written",
            append.table,
            metadata.format_version()
        );
        return Err(PortError::new(ErrorKind::Invalid, APPEND, what));
    }
    let fail = |error| unreadable(APPEND, location, error);
    let (name, value) = append.property.clone();
    let mut builder = metadata
        .clone()
        .into_builder(Some(location.to_owned()))
        .set_properties(HashMap::from([(name, value)]))
        .map_err(fail)?;
    if !append.files.is_empty() {
        let files = append.files.iter().map(|file| data_file(bucket, metadata, file)).collect::<Result<Vec<_>, _>>()?;
        let snapshot = snapshot(bucket, metadata, append, files, now_ms).await?;
        let branch = SnapshotReference::new(snapshot.snapshot_id(), SnapshotRetention::branch(None, None, None));
        builder = builder.add_snapshot(snapshot).and_then(|b| b.set_ref(MAIN_BRANCH, branch)).map_err(fail)?;
    }
    let old = old_snapshots(metadata, now_ms)?;
    let mut expired: Vec<String> =
        old.iter().filter_map(|id| Some(metadata.snapshot_by_id(*id)?.manifest_list().to_owned())).collect();
    let built = builder.remove_snapshots(&old).build().map_err(fail)?;
    expired.extend(built.expired_metadata_logs.into_iter().map(|log| log.metadata_file));
    Ok(Change { metadata: built.metadata, expired })
}

/// Describes a data file: it is added as it is, with what is known of it.
fn data_file(bucket: &Bucket, metadata: &TableMetadata, file: &NewFile) -> Result<DataFile, PortError> {
    let invalid = |what: String| PortError::new(ErrorKind::Invalid, APPEND, format!("the file `{}`: {what}", file.key));
    let spec = metadata.default_partition_spec();
    let time = metadata.current_schema().field_by_name(TIME).map(|field| field.id);
    let time = time.ok_or_else(|| invalid(format!("the table has no column `{TIME}`")))?;
    let (first, last) = (Datum::timestamptz_micros(file.time_us.0), Datum::timestamptz_micros(file.time_us.1));
    let mut partition = Vec::new();
    for field in spec.fields() {
        if field.source_id != time {
            return Err(invalid(format!("the table is cut by `{}`, which is not its time", field.name)));
        }
        let value = |of: &Datum| create_transform_function(&field.transform)?.transform_literal(of);
        let values = value(&first).and_then(|first| Ok((first, value(&last)?)));
        let (from, to) = values.map_err(|e| unreadable(APPEND, &file.key, e))?;
        if from != to {
            return Err(invalid(format!("its rows are of more than one partition by `{}`", field.name)));
        }
        partition.push(from.map(Literal::from));
    }
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(bucket.location(&file.key))
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

async fn snapshot(
    bucket: &Bucket,
    metadata: &TableMetadata,
    append: &Append,
    files: Vec<DataFile>,
    now_ms: i64,
) -> Result<Snapshot, PortError> {
    let memory = FileIO::new_with_memory();
    let mut writing =
        Writing { bucket, metadata, memory, id: snapshot_id(metadata), uuid: Uuid::now_v7(), manifests: 0 };
    let summary = summary(metadata, &files, append);
    let mut manifests = match metadata.current_snapshot() {
        Some(current) => manifests(bucket, current).await?,
        None => Vec::new(),
    };
    manifests = writing.merge(manifests).await?;
    manifests.insert(0, writing.added(files).await?);
    let location = format!("{}/metadata/snap-{}-0-{}.avro", metadata.location(), writing.id, writing.uuid);
    let sequence_number = metadata.next_sequence_number();
    let list = async {
        let writer = writing.memory.new_output(&location)?.writer().await?;
        let mut list = ManifestListWriter::v2(writer, writing.id, metadata.current_snapshot_id(), sequence_number);
        list.add_manifests(manifests.into_iter())?;
        list.close().await
    };
    list.await.map_err(|e| unreadable(APPEND, &location, e))?;
    bucket.store(&location, &writing.memory).await?;
    Ok(Snapshot::builder()
        .with_snapshot_id(writing.id)
        .with_parent_snapshot_id(metadata.current_snapshot_id())
        .with_sequence_number(sequence_number)
        // Clocks differ, and history goes on.
        .with_timestamp_ms(now_ms.max(metadata.last_updated_ms()))
        .with_manifest_list(location)
        .with_summary(summary)
        .with_schema_id(metadata.current_schema_id())
        .build())
}

/// The manifests of a snapshot.
pub(crate) async fn manifests(bucket: &Bucket, snapshot: &Snapshot) -> Result<Vec<ManifestFile>, PortError> {
    let bytes = bucket.read(snapshot.manifest_list()).await?;
    let list = ManifestList::parse_with_version(&bytes, FormatVersion::V2)
        .map_err(|e| unreadable("catalog.load", snapshot.manifest_list(), e))?;
    Ok(list.consume_entries().into_iter().collect())
}

/// The manifests of a snapshot that comes to be.
struct Writing<'a> {
    bucket: &'a Bucket,
    metadata: &'a TableMetadata,
    memory: FileIO,
    id: i64,
    uuid: Uuid,
    manifests: usize,
}

impl Writing<'_> {
    async fn added(&mut self, files: Vec<DataFile>) -> Result<ManifestFile, PortError> {
        let mut writer = self.writer()?;
        for file in files {
            // Below 0: the number is the snapshot's own, by the list.
            writer.add_file(file, -1).map_err(|e| unreadable(APPEND, "a manifest", e))?;
        }
        self.finish(writer).await
    }

    /// Where there are too many manifests of one size, they become one: each append adds one, and a reader opens them all.
    async fn merge(&mut self, manifests: Vec<ManifestFile>) -> Result<Vec<ManifestFile>, PortError> {
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
            self.bucket.fetch(&manifest.manifest_path, &self.memory).await?;
            let fail = |e| unreadable(APPEND, &manifest.manifest_path, e);
            let read = manifest.load_manifest(&self.memory).await.map_err(fail)?;
            // An entry of a file that is gone has told of it.
            for entry in read.entries().iter().filter(|entry| entry.is_alive()) {
                let (Some(snapshot), Some(sequence)) = (entry.snapshot_id(), entry.sequence_number()) else {
                    let what = format!("`{}` has an entry without its snapshot", manifest.manifest_path);
                    return Err(PortError::new(ErrorKind::Corrupt, APPEND, what));
                };
                writer
                    .add_existing_file(entry.data_file().clone(), snapshot, sequence, entry.file_sequence_number)
                    .map_err(fail)?;
            }
        }
        self.finish(writer).await
    }

    fn writer(&mut self) -> Result<ManifestWriter, PortError> {
        let location = format!("{}/metadata/{}-m{}.avro", self.metadata.location(), self.uuid, self.manifests);
        self.manifests += 1;
        let output = self.memory.new_output(&location).map_err(|e| unreadable(APPEND, &location, e))?;
        let spec = self.metadata.default_partition_spec().as_ref().clone();
        Ok(ManifestWriterBuilder::new(output, Some(self.id), self.metadata.current_schema().clone(), spec)
            .build_v2_data())
    }

    async fn finish(&self, writer: ManifestWriter) -> Result<ManifestFile, PortError> {
        let manifest = writer.write_manifest_file().await.map_err(|e| unreadable(APPEND, "a manifest", e))?;
        self.bucket.store(&manifest.manifest_path, &self.memory).await?;
        Ok(manifest)
    }
}

/// What the snapshot says of itself. The totals go on from the snapshot before; where that does not say them, neither does this one.
fn summary(metadata: &TableMetadata, files: &[DataFile], append: &Append) -> Summary {
    let rows: u64 = files.iter().map(DataFile::record_count).sum();
    let bytes: u64 = files.iter().map(DataFile::file_size_in_bytes).sum();
    let partitions: HashSet<String> = files.iter().map(|file| format!("{:?}", file.partition())).collect();
    let mut says: HashMap<String, String> = HashMap::from([
        ("added-data-files".to_owned(), files.len().to_string()),
        ("added-records".to_owned(), rows.to_string()),
        ("added-files-size".to_owned(), bytes.to_string()),
        ("changed-partition-count".to_owned(), partitions.len().to_string()),
        append.property.clone(),
    ]);
    let totals = [
        ("total-data-files", files.len() as u64),
        ("total-records", rows),
        ("total-files-size", bytes),
        ("total-delete-files", 0),
        ("total-position-deletes", 0),
        ("total-equality-deletes", 0),
    ];
    let before = metadata.current_snapshot().map(|snapshot| &snapshot.summary().additional_properties);
    for (name, added) in totals {
        let total = match before {
            None => Some(0),
            Some(before) => before.get(name).and_then(|total| total.parse::<u64>().ok()),
        };
        if let Some(total) = total {
            says.insert(name.to_owned(), (total + added).to_string());
        }
    }
    Summary { operation: Operation::Append, additional_properties: says }
}

/// Ids of snapshots that are neither among the newest, nor young, nor named by a branch or tag.
fn old_snapshots(metadata: &TableMetadata, now_ms: i64) -> Result<Vec<i64>, PortError> {
    let mut snapshots: Vec<(i64, i64, i64)> =
        metadata.snapshots().map(|s| (s.sequence_number(), s.snapshot_id(), s.timestamp_ms())).collect();
    snapshots.sort_unstable();
    let mut old: Vec<i64> = snapshots
        .iter()
        .take(snapshots.len().saturating_sub(SNAPSHOTS_KEPT))
        .filter(|(_, _, at)| *at < now_ms - SNAPSHOT_KEPT_MS)
        .map(|(_, id, _)| *id)
        .collect();
    if old.is_empty() {
        return Ok(old);
    }
    // The crate tells the references in JSON only.
    let json = serde_json::to_value(metadata).map_err(|error| {
        PortError::new(ErrorKind::Corrupt, APPEND, "the metadata cannot be written").with_source(error)
    })?;
    let refs = json.get("refs").and_then(Value::as_object).into_iter().flatten();
    let named: HashSet<i64> = refs.filter_map(|(_, named)| named.get("snapshot-id").and_then(Value::as_i64)).collect();
    old.retain(|id| !named.contains(id));
    Ok(old)
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
