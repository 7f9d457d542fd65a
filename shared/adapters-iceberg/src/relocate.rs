//! Follows a folder or bucket that was moved or copied. Iceberg's metadata names everything by absolute locations: the metadata itself its
//! lists, the lists their manifests, the manifests the data files.
//!
//! All of a table that names its files by the old place is written anew, under new names, and then the pointer is swapped: who looks sees
//! the old state or the new one. What was written by a run that ended before that is in no table. Data files are neither read nor written.

use crate::bucket::Bucket;
use crate::catalog::next_location;
use crate::pointers::Pointers;
use apache_avro::types::Value;
use apache_avro::{Codec, Reader, Writer, read_marker};
use bytes::Bytes;
use iceberg::spec::TableMetadata;
use serde_json::{Value as Json, json};
use sluice_ports::{ErrorKind, Objects, PortError};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

const OPERATION: &str = "catalog.relocate";
/// Content of a data file that lists deleted rows by the locations of their files (Iceberg's spec, Manifests).
const POSITION_DELETES: i32 = 1;

/// A table whose metadata names another place than the one where the objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Name of the table.
    pub table: String,
    /// The root that its metadata names: a URI, without `/` at its end.
    pub from: String,
    location: String,
}

/// The tables of a catalog, and the place where their objects are now.
pub struct Relocation {
    pointers: Arc<dyn Pointers>,
    to: Bucket,
}

impl Relocation {
    /// Tables with these pointers and objects; `root` is the URI of the folder or bucket as it is now.
    pub fn new(pointers: Arc<dyn Pointers>, objects: Arc<dyn Objects>, root: &str) -> Self {
        Self { pointers, to: Bucket::new(objects, root) }
    }

    /// The tables that name another place, sorted by name. Reads the pointers only. A table that lies elsewhere and not as ours do was put
    /// there by another engine, and is none of them.
    pub async fn moved(&self) -> Result<Vec<Moved>, PortError> {
        let mut moved = Vec::new();
        for table in self.pointers.tables().await? {
            let Some(location) = self.pointers.get(&table).await? else { continue };
            let folder = format!("lake/{table}/metadata/");
            // A folder may have been moved up: then the old place lies under the new one.
            let name = self.to.key(&location).ok().and_then(|key| key.strip_prefix(&folder));
            if name.is_some_and(|name| !name.contains('/')) {
                continue;
            }
            if let Some((from, _)) = location.rsplit_once(&format!("/{folder}")) {
                moved.push(Moved { from: from.to_owned(), table, location });
            }
        }
        Ok(moved)
    }

    /// Makes a table name the place where its objects are, all states that can be read included; answers how many objects were written.
    ///
    /// [`ErrorKind::NotFound`] where metadata is not in the folder, [`ErrorKind::Invalid`] where a data file itself names locations, and
    /// [`ErrorKind::Conflict`] where another process has changed the table meanwhile; then nothing has changed.
    pub async fn relocate(&self, moved: &Moved) -> Result<usize, PortError> {
        let from = Bucket::new(self.to.objects.clone(), &moved.from);
        let metadata = from.metadata(OPERATION, &moved.location).await?;
        let mut json = serde_json::to_value(&metadata).map_err(|e| damaged(&moved.location, e))?;
        let mut writing = Writing { from, to: &self.to, table: moved, id: Uuid::now_v7(), manifests: HashMap::new() };
        let mut lists = 0;
        for snapshot in rows(&mut json, "snapshots") {
            snapshot["manifest-list"] = writing.list(snapshot).await?.into();
            lists += 1;
        }
        // Older metadata names the old place too, and all that it leads to is in the newest; what nothing names goes with the other orphans.
        json["metadata-log"] = json!([]);
        writing.change(&mut json["location"]);
        for what in ["statistics", "partition-statistics"] {
            rows(&mut json, what).for_each(|statistics| writing.change(&mut statistics["statistics-path"]));
        }
        // Engines keep folders of their own choice there, such as `write.data.path`.
        let properties = json.get_mut("properties").and_then(Json::as_object_mut).into_iter().flatten();
        properties.for_each(|(_, value)| writing.change(value));
        let manifests = writing.manifests.len();
        let metadata: TableMetadata = serde_json::from_value(json).map_err(|e| damaged(&moved.location, e))?;
        let next = next_location(metadata.location(), Some(&moved.location));
        let bytes = serde_json::to_vec(&metadata).map_err(|e| damaged(&next, e))?;
        self.to.write(&next, bytes.into()).await?;
        self.pointers.swap(&moved.table, &moved.location, &next, &metadata).await?;
        Ok(lists + manifests + 1)
    }
}

/// The rows of a list in the metadata, which need not be there.
fn rows<'j>(metadata: &'j mut Json, name: &str) -> impl Iterator<Item = &'j mut Json> {
    metadata.get_mut(name).and_then(Json::as_array_mut).into_iter().flatten()
}

/// The objects of one table on their way.
struct Writing<'a> {
    from: Bucket,
    to: &'a Bucket,
    table: &'a Moved,
    /// In the names of all that is written.
    id: Uuid,
    /// What became of manifests, by their old locations: several lists name the same ones.
    manifests: HashMap<String, Manifest>,
}

#[derive(Clone)]
struct Manifest {
    location: String,
    size_bytes: i64,
}

impl Writing<'_> {
    /// The new location of something under the old place; `None` for what is not.
    fn moved(&self, location: &str) -> Option<String> {
        self.from.key(location).ok().map(|key| self.to.location(key))
    }

    fn change(&self, value: &mut Json) {
        if let Some(moved) = value.as_str().and_then(|location| self.moved(location)) {
            *value = moved.into();
        }
    }

    fn new_location(&self, name: &str) -> String {
        self.to.location(&format!("lake/{}/metadata/{name}", self.table.table))
    }

    /// The bytes of an object that metadata names, wherever it says that it is.
    async fn read(&self, location: &str) -> Result<Bytes, PortError> {
        if self.from.key(location).is_ok() { self.from.read(location).await } else { self.to.read(location).await }
    }

    /// Writes a snapshot's list of manifests, and those of them that are not written yet; answers its location.
    async fn list(&mut self, snapshot: &Json) -> Result<String, PortError> {
        let location = snapshot["manifest-list"].as_str().unwrap_or_default().to_owned();
        let mut list = AvroFile::read(&location, self.read(&location).await?)?;
        for row in &mut list.rows {
            let Some(Value::String(path)) = field(row, "manifest_path") else {
                return Err(damaged(&location, "a row has no `manifest_path`"));
            };
            let path = path.clone();
            let manifest = match self.manifests.get(&path) {
                Some(manifest) => manifest.clone(),
                None => self.manifest(path.clone()).await?,
            };
            set(row, "manifest_path", Value::String(manifest.location));
            set(row, "manifest_length", Value::Long(manifest.size_bytes));
        }
        let new = self.new_location(&format!("snap-{}-0-{}.avro", snapshot["snapshot-id"], self.id));
        self.to.write(&new, list.bytes()?).await?;
        Ok(new)
    }

    async fn manifest(&mut self, location: String) -> Result<Manifest, PortError> {
        let mut manifest = AvroFile::read(&location, self.read(&location).await?)?;
        for row in &mut manifest.rows {
            let Some(file) = field(row, "data_file") else {
                return Err(damaged(&location, "a row has no `data_file`"));
            };
            if matches!(field(file, "content"), Some(Value::Int(POSITION_DELETES))) {
                let what = format!(
                    "the table `{}` has rows that another engine deleted by their places in files, and the lists of those name the old place; put the folder back, let that engine rewrite the table (`OPTIMIZE`), and move it then",
                    self.table.table
                );
                return Err(PortError::new(ErrorKind::Invalid, OPERATION, what));
            }
            for name in ["file_path", "referenced_data_file"] {
                if let Some(Value::String(path)) = field(file, name)
                    && let Some(moved) = self.moved(path)
                {
                    *path = moved;
                }
            }
        }
        let bytes = manifest.bytes()?;
        let new = self.new_location(&format!("{}-m{}.avro", self.id, self.manifests.len()));
        let size_bytes = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        self.to.write(&new, bytes).await?;
        let written = Manifest { location: new, size_bytes };
        self.manifests.insert(location, written.clone());
        Ok(written)
    }
}

/// A file of rows in Avro. Its header goes through as it is: what engines say in it of fields and partitions is theirs.
struct AvroFile {
    location: String,
    bytes: Bytes,
    schema: apache_avro::Schema,
    rows: Vec<Value>,
}

impl AvroFile {
    fn read(location: &str, bytes: Bytes) -> Result<Self, PortError> {
        let reader = Reader::new(bytes.as_ref()).map_err(|e| damaged(location, e))?;
        let schema = reader.writer_schema().clone();
        let rows = reader.collect::<Result<Vec<_>, _>>().map_err(|e| damaged(location, e))?;
        Ok(Self { location: location.to_owned(), bytes, schema, rows })
    }

    /// The rows as they are now, behind the header.
    fn bytes(&self) -> Result<Bytes, PortError> {
        let fail = |e| damaged(&self.location, e);
        // The header ends with the marker that ends each block, the last one too.
        let marker = read_marker(&self.bytes);
        let end = self.bytes.windows(marker.len()).position(|window| window == marker);
        let end = end.ok_or_else(|| damaged(&self.location, "it has no header"))? + marker.len();
        let codec = codec(&self.bytes[..end]).ok_or_else(|| damaged(&self.location, "it is of an unknown codec"))?;
        let mut writer = Writer::append_to_with_codec(&self.schema, self.bytes[..end].to_vec(), codec, marker);
        for row in &self.rows {
            writer.append_value_ref(row).map_err(fail)?;
        }
        writer.into_inner().map(Bytes::from).map_err(fail)
    }
}

/// How the blocks behind this header are written.
fn codec(header: &[u8]) -> Option<Codec> {
    const KEY: &[u8] = b"avro.codec";
    let Some(at) = header.windows(KEY.len()).position(|window| window == KEY) else { return Some(Codec::Null) };
    let (length, rest) = header[at + KEY.len()..].split_first()?;
    // Lengths are zigzag numbers; that of a name takes one byte.
    let name = std::str::from_utf8(rest.get(..usize::from(length / 2))?).ok()?;
    name.parse().ok()
}

/// A field of a record; what stands behind `null | …` where it is not null.
fn field<'v>(record: &'v mut Value, name: &str) -> Option<&'v mut Value> {
    let Value::Record(fields) = record else { return None };
    match fields.iter_mut().find(|(of, _)| of == name)? {
        (_, Value::Union(_, value)) => Some(value),
        (_, value) => Some(value),
    }
}

fn set(record: &mut Value, name: &str, to: Value) {
    if let Some(value) = field(record, name) {
        *value = to;
    }
}

fn damaged(location: &str, why: impl std::fmt::Display) -> PortError {
    PortError::new(ErrorKind::Corrupt, OPERATION, format!("`{location}`: {why}"))
}
