//! Events of one table and partition as one Parquet file.

use crate::lane::Lane;
use crate::schema::arrow_schema;
use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::compute::{interleave, take};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sluice_domain::event::{Data, Event, write_members};
use sluice_domain::json::{Object, Value, write_string};
use sluice_domain::lake::{EncodeError, EncodedFile, Encoder, Misfit};
use sluice_domain::schema::{Cell, Column, ColumnKind, ENVELOPE, EnvelopeKind, Schema};
use sluice_domain::time::Timestamp;
use std::borrow::Cow;
use std::cmp::Ordering;

/// Most rows of a row group: enough for the codec to work with, few enough for a reader to skip by.
const ROW_GROUP_ROWS: usize = 256 * 1024;
/// Most bytes of a row group, as the writer estimates them.
const ROW_GROUP_BYTES: usize = 128 << 20;
/// Most rows of one set of Arrow arrays.
const CHUNK_ROWS: usize = 32 * 1024;
/// Most text of one set of Arrow arrays; far below the 2 GiB that the offsets of an array can say.
const CHUNK_BYTES: usize = 32 << 20;

/// Writes Parquet: zstd level 1, with field ids, statistics, page index, the sort order, and bloom filters for `x-bloom` columns.
///
/// Rows are sorted ascending by (`x-sort`, `time`, `source`, `id`), absent values first, text by its bytes; rows that are equal in all
/// four keep the order in which they were given. Fields that the schema does not name and the envelope's unknown attributes stand
/// together in the column `extra` as one JSON object. In the generic table `data` holds the payload's JSON text, `{"value": …}` around
/// one that is not an object. The Arrow schema is not embedded: readers see what the Parquet schema says, which is [`arrow_schema`].
#[derive(Debug, Clone, Copy, Default)]
pub struct ParquetEncoder;

impl ParquetEncoder {
    /// A new encoder; it has no state.
    pub fn new() -> Self {
        Self
    }
}

impl Encoder for ParquetEncoder {
    fn encode(&self, schema: &Schema, events: &[Event<'_>]) -> Result<(Option<EncodedFile>, Vec<Misfit>), EncodeError> {
        encode(schema, events).map_err(|e| EncodeError(e.to_string()))
    }
}

fn encode(schema: &Schema, events: &[Event<'_>]) -> Result<(Option<EncodedFile>, Vec<Misfit>), ParquetError> {
    // Events are read in the order in which they lie in memory, and the columns are sorted afterwards: reading them in sorted order
    // waits for memory at every field.
    let mut misfits = Vec::new();
    let mut rows = Rows::new(schema)?;
    let mut chunks = Vec::new();
    let mut reader = RowReader::new(schema);
    let sort_column = schema.column_index(&schema.sort);
    let sort_attribute = attribute(&schema.sort);
    let mut keys: Vec<Key<'_>> = Vec::with_capacity(events.len());
    for (position, event) in events.iter().enumerate() {
        if let Err((pointer, reason)) = reader.read(event) {
            misfits.push(Misfit { position, pointer, reason });
            continue;
        }
        let cell = match sort_column {
            Some(column) => reader.cell(column),
            None => sort_attribute.map_or(Cell::Null, |read| read(event)),
        };
        let time = event.time.micros();
        keys.push(Key {
            prefix: prefix(&cell),
            cell,
            time,
            position,
            place: (chunks.len(), rows.count),
            bytes: reader.bytes,
        });
        rows.push(event, &reader)?;
        if rows.is_full() {
            chunks.push(rows.finish()?);
        }
    }
    if rows.count > 0 {
        chunks.push(rows.finish()?);
    }
    let (Some(min), Some(max)) = (keys.iter().map(|k| k.time).min(), keys.iter().map(|k| k.time).max()) else {
        return Ok((None, misfits));
    };
    sort(&mut keys, events);

    let arrow = arrow_schema(schema);
    let options = ArrowWriterOptions::new()
        .with_properties(properties(schema, &chunks, keys.len()))
        .with_schema_root(schema.table.clone())
        .with_skip_arrow_metadata(true);
    let mut file = ArrowWriter::try_new_with_options(Vec::new(), arrow.clone(), options)?;
    for block in blocks(&keys) {
        file.write(&RecordBatch::try_new(arrow.clone(), gather(&chunks, block)?)?)?;
    }
    let file = EncodedFile {
        bytes: file.into_inner()?,
        rows: keys.len() as u64,
        min_time: Timestamp::from_micros(min).unwrap_or_default(),
        max_time: Timestamp::from_micros(max).unwrap_or_default(),
    };
    Ok((Some(file), misfits))
}

/// The value of an envelope column.
type Attribute = for<'e, 'a> fn(&'e Event<'a>) -> Cell<'e>;

fn attribute(name: &str) -> Option<Attribute> {
    fn text<'e>(value: Option<&'e str>) -> Cell<'e> {
        value.map_or(Cell::Null, Cell::Text)
    }
    Some(match name {
        "id" => |e| Cell::Text(&e.id),
        "source" => |e| Cell::Text(&e.source),
        "type" => |e| Cell::Text(&e.event_type),
        "time" => |e| Cell::Timestamp(e.time.micros()),
        "receivedtime" => |e| Cell::Timestamp(e.received.micros()),
        "subject" => |e| text(e.subject.as_deref()),
        "userid" => |e| text(e.user_id.as_deref()),
        "sessionid" => |e| text(e.session_id.as_deref()),
        "clientip" => |e| text(e.client_ip.as_deref()),
        "useragent" => |e| text(e.user_agent.as_deref()),
        "specversion" => |e| text(e.spec_version.as_deref()),
        "datacontenttype" => |e| text(e.data_content_type.as_deref()),
        "dataschema" => |e| text(e.data_schema.as_deref()),
        "tracestate" => |e| text(e.trace_state.as_deref()),
        "traceparent" => |e| text(e.trace_parent.as_deref()),
        "hops" => |e| e.hops.map_or(Cell::Null, Cell::Integer),
        // Put together by the row reader.
        "extra" => |_| Cell::Null,
        _ => return None,
    })
}

/// What a row is sorted by, and where it is.
struct Key<'e> {
    prefix: u128,
    cell: Cell<'e>,
    time: i64,
    /// Among the events.
    position: usize,
    /// Chunk, and row in it.
    place: (usize, usize),
    /// About how much text the row holds.
    bytes: usize,
}

fn sort(keys: &mut [Key<'_>], events: &[Event<'_>]) {
    keys.sort_unstable_by(|a, b| {
        let by_identity = || {
            let (x, y) = (&events[a.position], &events[b.position]);
            x.source.cmp(&y.source).then_with(|| x.id.cmp(&y.id)).then(a.position.cmp(&b.position))
        };
        let by_cell = a.prefix.cmp(&b.prefix).then_with(|| order(&a.cell, &b.cell));
        by_cell.then(a.time.cmp(&b.time)).then_with(by_identity)
    });
}

/// The sorted rows in parts whose text an Arrow array can hold.
fn blocks<'k, 'e>(keys: &'k [Key<'e>]) -> impl Iterator<Item = &'k [Key<'e>]> {
    let mut rest = keys;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let full = rest.iter().position(|key| {
            bytes += key.bytes;
            bytes >= CHUNK_BYTES
        });
        let length = full.map_or(rest.len(), |last| last + 1).min(CHUNK_ROWS);
        let (block, after) = rest.split_at(length);
        rest = after;
        (length > 0).then_some(block)
    })
}

/// The columns of a block, its rows in order.
fn gather(chunks: &[Vec<ArrayRef>], block: &[Key<'_>]) -> Result<Vec<ArrayRef>, ArrowError> {
    let in_order = block.windows(2).all(|w| w[0].place.0 == w[1].place.0 && w[0].place.1 + 1 == w[1].place.1);
    let places: Vec<(usize, usize)> = block.iter().map(|key| key.place).collect();
    let rows: UInt64Array = block.iter().map(|key| key.place.1 as u64).collect::<Vec<_>>().into();
    let width = chunks.first().map_or(0, Vec::len);
    let column = |i: usize| match chunks {
        _ if in_order => {
            let (chunk, row) = places[0];
            Ok(chunks[chunk][i].slice(row, block.len()))
        }
        [only] if only[i].null_count() == only[i].len() => Ok(only[i].slice(0, block.len())),
        [only] => take(&only[i], &rows, None),
        _ => {
            let arrays: Vec<&dyn Array> = chunks.iter().map(|chunk| chunk[i].as_ref()).collect();
            interleave(&arrays, &places)
        }
    };
    (0..width).map(column).collect()
}

/// A number that is smaller only where the cell is smaller, so that most comparisons need no look at the cell.
fn prefix(cell: &Cell<'_>) -> u128 {
    const PRESENT: u128 = 1 << 127;
    let signed = |n: i64| u128::from(n.cast_unsigned() ^ (1 << 63));
    PRESENT
        | match cell {
            Cell::Null => return 0,
            Cell::Text(text) | Cell::Json(text) => {
                let mut first = [0; 16];
                let length = text.len().min(15);
                first[1..=length].copy_from_slice(&text.as_bytes()[..length]);
                u128::from_be_bytes(first)
            }
            Cell::Integer(n) | Cell::Timestamp(n) => signed(*n),
            Cell::Date(day) => signed(i64::from(*day)),
            Cell::Boolean(b) => u128::from(*b),
            // Not worth it: told apart by the cell.
            Cell::Number(_) | Cell::Decimal(_) | Cell::List(_) => 0,
        }
}

fn order(a: &Cell<'_>, b: &Cell<'_>) -> Ordering {
    match (a, b) {
        (Cell::Text(a), Cell::Text(b)) | (Cell::Json(a), Cell::Json(b)) => a.cmp(b),
        (Cell::Number(a), Cell::Number(b)) => a.total_cmp(b),
        (Cell::Decimal(a), Cell::Decimal(b)) => a.cmp(b),
        // The prefix has decided all others; lists have no order.
        _ => Ordering::Equal,
    }
}

/// Reads an event's data into cells, whole rows only, so that a value that does not fit leaves nothing behind.
struct RowReader<'s, 'e> {
    schema: &'s Schema,
    /// The column that came last time after a column (and, at 0, first): fields mostly repeat in one order.
    follows: Vec<usize>,
    /// Columns that have a value, and their values.
    cells: Vec<(usize, Cell<'e>)>,
    /// Fields without a column, as JSON text.
    unknown: Vec<(&'e str, Cow<'e, str>)>,
    /// The column `extra`, empty where it is null.
    extra: String,
    generic: Option<Generic>,
    /// About how much text the row holds.
    bytes: usize,
}

/// Where the generic table keeps a payload; a schema file of the user's own may lack the columns.
struct Generic {
    data: Option<usize>,
    base64: Option<usize>,
    /// A payload that was put into an object, and its column.
    wrapped: Option<(usize, String)>,
}

type Unfit = (String, String);

impl<'s, 'e> RowReader<'s, 'e> {
    fn new(schema: &'s Schema) -> Self {
        Self {
            schema,
            follows: (0..=schema.columns.len()).collect(),
            cells: Vec::with_capacity(schema.columns.len()),
            unknown: Vec::new(),
            extra: String::new(),
            generic: schema.is_generic().then(|| Generic::new(schema)),
            bytes: 0,
        }
    }

    fn read(&mut self, event: &'e Event<'_>) -> Result<(), Unfit> {
        self.cells.clear();
        self.unknown.clear();
        self.extra.clear();
        self.bytes = event.id.len() + event.source.len();
        if let Some(generic) = &mut self.generic {
            self.bytes += generic.read(&event.data, &mut self.cells, &mut self.unknown);
        } else {
            match &event.data {
                Data::Json(node) => match &node.value {
                    Value::Object(object) => self.read_fields(object)?,
                    _ => return Err(("/data".into(), format!("`data` is an object, not {}", node.kind()))),
                },
                Data::Absent => {}
                Data::Base64(_) => return Err(("/data_base64".into(), "a type with a schema takes `data`".into())),
            }
        }
        if !self.unknown.is_empty() || !event.extra.is_empty() {
            let fields = self.unknown.iter().map(|(name, raw)| (*name, raw.as_ref()));
            let attributes = event.extra.iter().map(|(name, raw)| (name.as_ref(), raw.as_ref()));
            write_members(&mut self.extra, fields.chain(attributes));
            self.bytes += self.extra.len();
        }
        Ok(())
    }

    fn read_fields(&mut self, object: &'e Object<'_>) -> Result<(), Unfit> {
        let columns = &self.schema.columns;
        let mut last = 0;
        for (name, node) in &object.0 {
            let guess = self.follows[last];
            let known = columns.get(guess).is_some_and(|c| c.name == *name);
            let Some(index) = (if known { Some(guess) } else { self.schema.column_index(name) }) else {
                self.unknown.push((name, Cow::Borrowed(node.raw)));
                continue;
            };
            self.follows[last] = index;
            last = index + 1;
            match columns[index].read(node) {
                Ok(Cell::Null) => {}
                Ok(cell) => self.cells.push((index, cell)),
                Err(violation) => return Err((violation.pointer, violation.reason)),
            }
            self.bytes += node.raw.len();
        }
        Ok(())
    }

    /// The value of a column in the row that was read last.
    fn cell(&self, column: usize) -> Cell<'e> {
        let found = self.cells.iter().find(|(index, _)| *index == column);
        found.map_or(Cell::Null, |(_, cell)| cell.clone())
    }

    fn wrapped(&self) -> Option<(usize, Cell<'_>)> {
        let (index, text) = self.generic.as_ref()?.wrapped.as_ref()?;
        Some((*index, Cell::Json(text)))
    }
}

impl Generic {
    fn new(schema: &Schema) -> Self {
        let text_column = |name: &str| {
            let index = schema.column_index(name)?;
            matches!(schema.columns[index].kind, ColumnKind::Json | ColumnKind::Text).then_some(index)
        };
        Self { data: text_column("data"), base64: text_column("data_base64"), wrapped: None }
    }

    /// Puts a payload into its column, or among the unknown fields where there is none; answers its size in bytes.
    fn read<'e>(
        &mut self,
        data: &'e Data<'_>,
        cells: &mut Vec<(usize, Cell<'e>)>,
        unknown: &mut Vec<(&'e str, Cow<'e, str>)>,
    ) -> usize {
        self.wrapped = None;
        match data {
            Data::Absent => 0,
            Data::Json(node) => {
                match self.data {
                    Some(index) if node.as_object().is_some() => cells.push((index, Cell::Json(node.raw))),
                    Some(index) => self.wrapped = Some((index, format!("{{\"value\":{}}}", node.raw))),
                    None => unknown.push(("data", Cow::Borrowed(node.raw))),
                }
                node.raw.len()
            }
            Data::Base64(text) => {
                match self.base64 {
                    Some(index) => cells.push((index, Cell::Text(text))),
                    None => {
                        let mut json = String::with_capacity(text.len() + 2);
                        write_string(&mut json, text);
                        unknown.push(("data_base64", Cow::Owned(json)));
                    }
                }
                text.len()
            }
        }
    }
}

/// Rows on their way into columns.
struct Rows {
    envelope: Vec<(Attribute, Lane)>,
    /// Position of `extra` in the envelope.
    extra: usize,
    data: Vec<Lane>,
    count: usize,
    bytes: usize,
}

impl Rows {
    fn new(schema: &Schema) -> Result<Self, ArrowError> {
        let envelope = ENVELOPE.iter().map(|column| {
            let kind = match column.kind {
                EnvelopeKind::Text | EnvelopeKind::Word | EnvelopeKind::Json => ColumnKind::Text,
                EnvelopeKind::Timestamp => ColumnKind::Timestamp,
                EnvelopeKind::Integer => ColumnKind::Integer,
            };
            let read = attribute(column.name)
                .ok_or_else(|| ArrowError::SchemaError(format!("attribute `{}` is not known here", column.name)))?;
            Ok((read, Lane::new(&kind, column.id)?))
        });
        Ok(Self {
            envelope: envelope.collect::<Result<_, ArrowError>>()?,
            extra: ENVELOPE.iter().position(|c| c.name == "extra").unwrap_or(ENVELOPE.len()),
            data: schema.columns.iter().map(|c| Lane::new(&c.kind, c.id)).collect::<Result<_, ArrowError>>()?,
            count: 0,
            bytes: 0,
        })
    }

    fn push(&mut self, event: &Event<'_>, row: &RowReader<'_, '_>) -> Result<(), ArrowError> {
        for (read, lane) in &mut self.envelope {
            lane.set(self.count, &read(event))?;
        }
        if !row.extra.is_empty()
            && let Some((_, lane)) = self.envelope.get_mut(self.extra)
        {
            lane.set(self.count, &Cell::Text(&row.extra))?;
        }
        for (index, cell) in &row.cells {
            self.data[*index].set(self.count, cell)?;
        }
        if let Some((index, cell)) = row.wrapped() {
            self.data[index].set(self.count, &cell)?;
        }
        self.count += 1;
        self.bytes += row.bytes;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.count >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES
    }

    /// The rows as columns; there are none after it.
    fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        let rows = std::mem::take(&mut self.count);
        self.bytes = 0;
        let lanes = self.envelope.iter_mut().map(|(_, lane)| lane).chain(&mut self.data);
        lanes.map(|lane| lane.finish(rows)).collect()
    }
}

fn properties(schema: &Schema, chunks: &[Vec<ArrayRef>], rows: usize) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        // `application version X` is the form that the format asks for; readers that cannot parse it distrust the statistics.
        .set_created_by(concat!("sluice version ", env!("CARGO_PKG_VERSION")).into())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_sorting_columns(Some(sorting_columns(schema)));
    // A dictionary of values that hardly repeat is work for nothing.
    for column in ENVELOPE {
        let path = ColumnPath::from(column.name);
        if matches!(column.name, "id" | "time" | "traceparent") {
            builder = builder.set_column_dictionary_enabled(path, false);
        } else if column.kind == EnvelopeKind::Json {
            builder = builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path, EnabledStatistics::Chunk);
        }
    }
    for column in &schema.columns {
        let path = leaf_path(column);
        if column.bloom {
            builder = builder.set_column_bloom_filter_ndv(path.clone(), rows.clamp(1, ROW_GROUP_ROWS) as u64);
        }
        match column.kind {
            ColumnKind::Json => {
                builder = builder
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_statistics_enabled(path, EnabledStatistics::Chunk);
            }
            ColumnKind::Timestamp => builder = builder.set_column_dictionary_enabled(path, false),
            ColumnKind::Text if column.bloom && !column.low_cardinality => {
                builder = builder.set_column_dictionary_enabled(path, false);
            }
            _ => {}
        }
    }
    // A codec for a column without values costs more than the rest of the column.
    let paths = ENVELOPE.iter().map(|c| ColumnPath::from(c.name)).chain(schema.columns.iter().map(leaf_path));
    for (i, path) in paths.enumerate() {
        if chunks.iter().all(|chunk| chunk[i].null_count() == chunk[i].len()) {
            builder = builder
                .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
                .set_column_dictionary_enabled(path, false);
        }
    }
    builder.build()
}

/// The path of a column's values in the file.
fn leaf_path(column: &Column) -> ColumnPath {
    let mut parts = vec![column.name.clone()];
    if let ColumnKind::List(_) = column.kind {
        parts.extend(["list".into(), "element".into()]);
    }
    ColumnPath::new(parts)
}

fn sorting_columns(schema: &Schema) -> Vec<SortingColumn> {
    let mut sorting: Vec<SortingColumn> = Vec::with_capacity(4);
    for name in [schema.sort.as_str(), "time", "source", "id"] {
        let envelope = ENVELOPE.iter().position(|c| c.name == name && c.kind != EnvelopeKind::Json);
        let data = || {
            let index = schema.column_index(name)?;
            let is_list = matches!(schema.columns[index].kind, ColumnKind::List(_));
            (!is_list).then_some(ENVELOPE.len() + index)
        };
        // Each column has one leaf, so that its position is the leaf's.
        if let Some(index) = envelope.or_else(data).and_then(|i| i32::try_from(i).ok())
            && sorting.iter().all(|s| s.column_idx != index)
        {
            sorting.push(SortingColumn { column_idx: index, descending: false, nulls_first: true });
        }
    }
    sorting
}
