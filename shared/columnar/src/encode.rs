//! Events of one table and partition as one Parquet file.

use crate::lane::Lane;
use crate::schema::arrow_schema;
use arrow::datatypes::SchemaRef;
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
use std::borrow::Cow;
use std::cmp::Ordering;

/// Most rows of a row group: enough for the codec to work with, few enough for a reader to skip by.
const ROW_GROUP_ROWS: usize = 256 * 1024;
/// Most bytes of a row group, as the writer estimates them.
const ROW_GROUP_BYTES: usize = 128 << 20;
/// Most rows that are held as Arrow arrays at a time.
const CHUNK_ROWS: usize = 32 * 1024;
/// Text held as Arrow arrays at a time; far below the 2 GiB that the offsets of an array can say.
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
    let mut misfits = Vec::new();
    let mut rows = Rows::new(schema)?;
    let mut reader = RowReader::new(schema);
    let mut file: Option<ArrowWriter<Vec<u8>>> = None;
    let (mut written, mut times) = (0u64, None);
    for position in sorted(schema, events) {
        let event = &events[position];
        if let Err((pointer, reason)) = reader.read(event) {
            misfits.push(Misfit { position, pointer, reason });
            continue;
        }
        rows.push(event, &reader)?;
        let (min, max) = times.unwrap_or((event.time, event.time));
        times = Some((min.min(event.time), max.max(event.time)));
        if rows.is_full() {
            written += rows.write(&mut file, schema, events.len())?;
        }
    }
    misfits.sort_by_key(|m| m.position);
    written += rows.write(&mut file, schema, events.len())?;
    match (file, times) {
        (Some(file), Some((min_time, max_time))) => {
            let bytes = file.into_inner()?;
            Ok((Some(EncodedFile { bytes, rows: written, min_time, max_time }), misfits))
        }
        _ => Ok((None, misfits)),
    }
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

/// Positions of the events in the order of the file.
fn sorted(schema: &Schema, events: &[Event<'_>]) -> Vec<usize> {
    let column = schema.column_index(&schema.sort).map(|i| &schema.columns[i]);
    let envelope = attribute(&schema.sort);
    let mut keys: Vec<Key<'_>> = events
        .iter()
        .enumerate()
        .map(|(position, event)| {
            let cell = match (column, &event.data) {
                // A value that does not fit is reported when its row is read.
                (Some(column), Data::Json(node)) => node
                    .as_object()
                    .and_then(|object| object.get(&column.name))
                    .and_then(|node| column.read(node).ok())
                    .unwrap_or(Cell::Null),
                (Some(_), _) => Cell::Null,
                (None, _) => envelope.map_or(Cell::Null, |read| read(event)),
            };
            Key { prefix: prefix(&cell), cell, position }
        })
        .collect();
    keys.sort_unstable_by(|a, b| {
        let rest = || {
            let (x, y) = (&events[a.position], &events[b.position]);
            x.time.cmp(&y.time).then_with(|| x.source.cmp(&y.source)).then_with(|| x.id.cmp(&y.id))
        };
        let by_cell = a.prefix.cmp(&b.prefix).then_with(|| order(&a.cell, &b.cell));
        by_cell.then_with(rest).then(a.position.cmp(&b.position))
    });
    keys.into_iter().map(|key| key.position).collect()
}

struct Key<'e> {
    prefix: u128,
    cell: Cell<'e>,
    position: usize,
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

/// Rows on their way into a file.
struct Rows {
    arrow: SchemaRef,
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
            arrow: arrow_schema(schema),
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

    /// Moves the rows into the file, which is begun with the first of them; answers how many there were.
    fn write(
        &mut self,
        file: &mut Option<ArrowWriter<Vec<u8>>>,
        schema: &Schema,
        most_rows: usize,
    ) -> Result<u64, ParquetError> {
        let rows = self.count;
        if rows == 0 {
            return Ok(0);
        }
        let lanes = self.envelope.iter_mut().map(|(_, lane)| lane).chain(&mut self.data);
        let columns = lanes.map(|lane| lane.finish(rows)).collect::<Result<Vec<_>, ArrowError>>()?;
        let batch = RecordBatch::try_new(self.arrow.clone(), columns)?;
        (self.count, self.bytes) = (0, 0);
        let writer = match file {
            Some(writer) => writer,
            None => {
                let options = ArrowWriterOptions::new()
                    .with_properties(properties(schema, most_rows))
                    .with_skip_arrow_metadata(true);
                file.insert(ArrowWriter::try_new_with_options(Vec::new(), self.arrow.clone(), options)?)
            }
        };
        writer.write(&batch)?;
        Ok(rows as u64)
    }
}

fn properties(schema: &Schema, most_rows: usize) -> WriterProperties {
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
            builder = builder.set_column_bloom_filter_ndv(path.clone(), most_rows.clamp(1, ROW_GROUP_ROWS) as u64);
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
