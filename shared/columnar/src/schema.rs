//! The columns of a table as an Arrow schema.

use arrow::datatypes::{DataType, Field, FieldRef, Schema as ArrowSchema, SchemaRef, TimeUnit};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use sluice_domain::schema::{Column, ColumnKind, ELEMENT_ID_OFFSET, ENVELOPE, EnvelopeKind, Schema};
use std::collections::HashMap;
use std::sync::Arc;

/// The Arrow schema of an event type's table: the envelope's columns in the order of [`ENVELOPE`], then the data columns in the order of
/// their ids.
///
/// Every field carries its Iceberg field id under `PARQUET:field_id`, list elements included (the list's id plus
/// [`ELEMENT_ID_OFFSET`]). Text is always plain `Utf8`: few distinct values are a matter of the file's encoding, not of its schema.
///
/// Data columns are nullable even where the schema requires them: what ingest demands may become stricter, and rows of before stay
/// readable.
pub fn arrow_schema(schema: &Schema) -> SchemaRef {
    let envelope = ENVELOPE.iter().map(|c| field(c.name, c.id, envelope_type(c.kind), !c.required));
    let data = schema.columns.iter().map(data_field);
    Arc::new(ArrowSchema::new(envelope.chain(data).collect::<Vec<Field>>()))
}

fn data_field(column: &Column) -> Field {
    field(&column.name, column.id, data_type(&column.kind, column.id), true)
}

fn envelope_type(kind: EnvelopeKind) -> DataType {
    match kind {
        EnvelopeKind::Text | EnvelopeKind::Word | EnvelopeKind::Json => DataType::Utf8,
        EnvelopeKind::Timestamp => timestamp_type(),
        EnvelopeKind::Integer => DataType::Int64,
    }
}

/// Microseconds, UTC: `timestamptz` in Iceberg.
pub(crate) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn data_type(kind: &ColumnKind, id: i32) -> DataType {
    match kind {
        ColumnKind::Integer => DataType::Int64,
        ColumnKind::Number => DataType::Float64,
        ColumnKind::Decimal { precision, scale } => DataType::Decimal128(*precision, scale.cast_signed()),
        ColumnKind::Text | ColumnKind::Json => DataType::Utf8,
        ColumnKind::Timestamp => timestamp_type(),
        ColumnKind::Date => DataType::Date32,
        ColumnKind::Boolean => DataType::Boolean,
        ColumnKind::List(element) => DataType::List(element_field(element, id)),
    }
}

/// The element of a list column; `element` is the name that the Parquet format asks for.
pub(crate) fn element_field(kind: &ColumnKind, list_id: i32) -> FieldRef {
    let id = list_id + ELEMENT_ID_OFFSET;
    Arc::new(field("element", id, data_type(kind, id), true))
}

fn field(name: &str, id: i32, data_type: DataType, nullable: bool) -> Field {
    let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
    Field::new(name, data_type, nullable).with_metadata(metadata)
}
