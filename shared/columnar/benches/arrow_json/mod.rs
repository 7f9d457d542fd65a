//! The peer in Rust: `arrow-json` and the Parquet crate's `ArrowWriter`, for events of one type that were flattened beforehand.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use arrow::json::ReaderBuilder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use sluice_columnar::arrow_schema;
use sluice_domain::schema::Schema;
use std::sync::Arc;

/// An event's envelope and data in one object, a line.
pub fn flat(text: &str) -> String {
    let mut event: serde_json::Value = serde_json::from_str(text).unwrap();
    let event = event.as_object_mut().unwrap();
    event.insert("receivedtime".into(), "2026-01-15T00:00:00Z".into());
    if let Some(serde_json::Value::Object(data)) = event.remove("data") {
        event.extend(data);
    }
    serde_json::to_string(event).unwrap() + "\n"
}

/// Parquet of flat events, with the columns that we write.
pub fn convert(schema: &Schema, flat: &str) -> Vec<u8> {
    let arrow = arrow_schema(schema);
    let fields = arrow.fields().iter().map(|field| match field.data_type() {
        // Its reader knows zones by name only with another feature.
        DataType::Timestamp(unit, _) => {
            Field::new(field.name(), DataType::Timestamp(*unit, Some("+00:00".into())), true)
        }
        _ => field.as_ref().clone(),
    });
    let arrow = Arc::new(ArrowSchema::new(fields.collect::<Vec<Field>>()));
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), arrow.clone(), Some(properties)).unwrap();
    for batch in ReaderBuilder::new(arrow).with_batch_size(8_192).build(flat.as_bytes()).unwrap() {
        writer.write(&batch.unwrap()).unwrap();
    }
    writer.into_inner().unwrap()
}
