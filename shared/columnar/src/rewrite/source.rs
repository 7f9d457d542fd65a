//! The rows of a data file in the columns of a table, whoever wrote it.

use crate::lane::{Lane, Unset};
use crate::plan::Plan;
use crate::schema::arrow_schema;
use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray,
    StringArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float64Type, Int64Type, SchemaRef, TimestampMicrosecondType,
};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::ChunkReader;
use sluice_domain::schema::Cell;

/// A data file being read.
pub(super) struct Source {
    reader: ParquetRecordBatchReader,
    /// The columns of the table.
    table: SchemaRef,
    /// For each of them its place in a batch; `None` where the file has none, or it is not wanted.
    places: Vec<Option<usize>>,
}

/// Some rows.
pub(super) struct Batch {
    pub(super) rows: usize,
    /// What their values take, about.
    pub(super) bytes: usize,
    columns: Vec<Column>,
}

/// The values of a column.
enum Column {
    /// The file is older than the column.
    Absent,
    Text(StringArray),
    Integer(Int64Array),
    Timestamp(TimestampMicrosecondArray),
    Date(Date32Array),
    Number(Float64Array),
    Decimal(Decimal128Array),
    Boolean(BooleanArray),
    List(ListArray, Box<Self>),
}

impl Source {
    /// Opens a file. `wanted` names columns by their places in the table; all of them are read where it does not, and then a column that the
    /// table has not is an error, since it would be lost.
    pub(super) fn open<R: ChunkReader + 'static>(
        input: R,
        plan: &Plan,
        wanted: Option<&[usize]>,
        batch_rows: usize,
    ) -> Result<Self> {
        // What the Parquet schema says is enough, and it is what Iceberg goes by.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(input, options)?;
        let table = arrow_schema(&plan.schema);
        let file = builder.schema();
        let mut roots: Vec<(usize, usize)> = Vec::new();
        for (root, field) in file.fields().iter().enumerate() {
            let Some(column) = table.fields().iter().position(|column| is_same(column, field)) else {
                if wanted.is_some() {
                    continue;
                }
                let (name, table) = (field.name(), &plan.schema.table);
                let what = format!("it has a column `{name}` that the table `{table}` has not by its schema");
                return Err(ParquetError::General(what));
            };
            if wanted.is_none_or(|wanted| wanted.contains(&column)) {
                roots.push((root, column));
            }
        }
        let mut places = vec![None; table.fields().len()];
        for (place, (_, column)) in roots.iter().enumerate() {
            places[*column] = Some(place);
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().map(|(root, _)| *root));
        let reader = builder.with_projection(mask).with_batch_size(batch_rows).build()?;
        Ok(Self { reader, table, places })
    }

    pub(super) fn next_batch(&mut self) -> Result<Option<Batch>> {
        let Some(batch) = self.reader.next().transpose()? else { return Ok(None) };
        let (rows, bytes) = (batch.num_rows(), batch.get_array_memory_size());
        let columns = self.table.fields().iter().zip(&self.places);
        let columns = columns.map(|(field, place)| match place {
            Some(place) => Column::new(batch.column(*place), field.data_type()),
            None => Ok(Column::Absent),
        });
        Ok(Some(Batch { rows, bytes, columns: columns.collect::<Result<_>>()? }))
    }
}

/// Whether a file's column is the table's: by its field id, by its name where it has none.
fn is_same(column: &Field, field: &Field) -> bool {
    let id = |field: &Field| field.metadata().get(PARQUET_FIELD_ID_META_KEY).cloned();
    match id(field) {
        Some(of_file) => id(column) == Some(of_file),
        None => column.name() == field.name(),
    }
}

impl Batch {
    /// The text of a row; `None` where it has none.
    pub(super) fn text(&self, column: usize, at: usize) -> Option<&str> {
        match &self.columns[column] {
            Column::Text(values) if values.is_valid(at) => Some(values.value(at)),
            _ => None,
        }
    }

    /// The moment of a row, microseconds since the epoch; `None` where it has none.
    pub(super) fn micros(&self, column: usize, at: usize) -> Option<i64> {
        match &self.columns[column] {
            Column::Timestamp(values) if values.is_valid(at) => Some(values.value(at)),
            _ => None,
        }
    }

    /// Appends rows to lanes that have so many.
    pub(super) fn append(&self, rows: &[usize], lanes: &mut [Lane], first: usize) -> Result<()> {
        for (column, lane) in self.columns.iter().zip(lanes) {
            for (row, at) in (first..).zip(rows) {
                column.append(*at, lane, row).map_err(|Unset| unset())?;
            }
        }
        Ok(())
    }

    /// A column as an array of its table's type.
    pub(super) fn array(&self, column: usize) -> Option<&dyn Array> {
        Some(match &self.columns[column] {
            Column::Absent => return None,
            Column::Text(values) => values,
            Column::Integer(values) => values,
            Column::Timestamp(values) => values,
            Column::Date(values) => values,
            Column::Number(values) => values,
            Column::Decimal(values) => values,
            Column::Boolean(values) => values,
            Column::List(values, _) => values,
        })
    }
}

impl Column {
    fn new(array: &ArrayRef, wanted: &DataType) -> Result<Self> {
        let is_list = matches!((array.data_type(), wanted), (DataType::List(_), DataType::List(_)));
        let array = if array.data_type() == wanted || is_list { array.clone() } else { cast(array, wanted)? };
        Ok(match wanted {
            DataType::Utf8 => Self::Text(array.as_string::<i32>().clone()),
            DataType::Int64 => Self::Integer(array.as_primitive::<Int64Type>().clone()),
            DataType::Timestamp(..) => Self::Timestamp(array.as_primitive::<TimestampMicrosecondType>().clone()),
            DataType::Date32 => Self::Date(array.as_primitive::<Date32Type>().clone()),
            DataType::Float64 => Self::Number(array.as_primitive::<Float64Type>().clone()),
            DataType::Decimal128(..) => Self::Decimal(array.as_primitive::<Decimal128Type>().clone()),
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::List(element) => {
                let lists = array.as_list::<i32>().clone();
                let elements = Self::new(lists.values(), element.data_type())?;
                Self::List(lists, Box::new(elements))
            }
            other => return Err(ParquetError::General(format!("no column is of type {other}"))),
        })
    }

    /// Appends a value to a lane, as the value of this row. One that is absent is null without being named.
    #[inline]
    fn append(&self, at: usize, lane: &mut Lane, row: usize) -> std::result::Result<(), Unset> {
        match self {
            Self::Text(values) if values.is_valid(at) => lane.set_text(row, values.value(at), || true),
            Self::Integer(values) if values.is_valid(at) => lane.set_whole(row, values.value(at)),
            Self::Timestamp(values) if values.is_valid(at) => lane.set_whole(row, values.value(at)),
            Self::Date(values) if values.is_valid(at) => lane.set_whole(row, i64::from(values.value(at))),
            Self::Number(values) if values.is_valid(at) => lane.set_number(row, values.value(at)),
            Self::Decimal(values) if values.is_valid(at) => lane.set(row, &Cell::Decimal(values.value(at))),
            Self::Boolean(values) if values.is_valid(at) => lane.set_boolean(row, values.value(at)),
            Self::List(lists, elements) if lists.is_valid(at) => {
                let offsets = lists.value_offsets();
                let (from, to) = (offsets[at] as usize, offsets[at + 1] as usize);
                lane.set_list(row, |lane, start| {
                    (from..to).zip(start..).try_for_each(|(at, row)| elements.append(at, lane, row))?;
                    Ok::<_, Unset>(to - from)
                })
            }
            _ => Ok(()),
        }
    }
}

fn unset() -> ParquetError {
    ParquetError::General("its values are not those of the table's columns".into())
}
