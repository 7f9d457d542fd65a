//! What is known of a table before its first row.

use crate::lane::Lane;
use crate::reference::Generic;
use crate::schema::arrow_schema;
use parquet::arrow::ArrowSchemaConverter;
use parquet::errors::Result;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::schema::types::SchemaDescPtr;
use sluice_domain::schema::{ColumnKind, ENVELOPE, EnvelopeKind, Schema};
use std::sync::Arc;

/// The columns of a table: the envelope's, then those of the data, as in [`arrow_schema`].
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) schema: Schema,
    /// The data column that takes the whole of `data`, in the table of events without a schema.
    pub(crate) payload: Option<usize>,
    pub(crate) columns: Vec<Spec>,
    /// The column that rows are sorted by first.
    pub(crate) sort: Option<usize>,
    pub(crate) parquet: SchemaDescPtr,
    pub(crate) properties: WriterPropertiesPtr,
}

/// How a column is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    /// Whether its values are expected to repeat.
    pub(crate) repeats: bool,
    /// Whether each page says its least and its greatest value.
    pub(crate) is_indexed: bool,
    /// Whether it has a bloom filter.
    pub(crate) bloom: bool,
}

impl Plan {
    pub(crate) fn new(schema: &Schema) -> Result<Self> {
        let envelope = ENVELOPE.iter().map(|column| {
            let is_json = column.kind == EnvelopeKind::Json;
            // Ids hardly repeat, and neither do traces.
            let repeats = !is_json && !matches!(column.name, "id" | "time" | "traceparent");
            Spec { repeats, is_indexed: !is_json, bloom: false }
        });
        let data = schema.columns.iter().map(|column| Spec {
            repeats: match column.kind {
                ColumnKind::Json | ColumnKind::Timestamp => false,
                ColumnKind::Text => column.low_cardinality || !column.bloom,
                _ => true,
            },
            is_indexed: column.kind != ColumnKind::Json,
            bloom: column.bloom,
        });
        let sorting = sorting_columns(schema);
        let sort = envelope_index(&schema.sort).or_else(|| data_index(schema, &schema.sort));
        let parquet = ArrowSchemaConverter::new().schema_root(&schema.table).convert(&arrow_schema(schema))?;
        let properties = WriterProperties::builder()
            // `application version X` is the form that the format asks for; readers that cannot parse it distrust the statistics.
            .set_created_by(concat!("sluice version ", env!("CARGO_PKG_VERSION")).into())
            .set_sorting_columns(Some(sorting))
            .build();
        Ok(Self {
            payload: Generic::new(schema).data.filter(|_| schema.is_generic()),
            columns: envelope.chain(data).collect(),
            sort,
            parquet: Arc::new(parquet),
            properties: Arc::new(properties),
            schema: schema.clone(),
        })
    }

    /// A lane for each column.
    pub(crate) fn lanes(&self) -> Vec<Lane> {
        let envelope = ENVELOPE.iter().zip(&self.columns).map(|(column, spec)| match column.name {
            "time" | "receivedtime" | "hops" => Lane::new(&ColumnKind::Integer, spec.repeats),
            _ => Lane::text(spec.repeats),
        });
        let data = self.schema.columns.iter().zip(&self.columns[ENVELOPE.len()..]);
        envelope.chain(data.map(|(column, spec)| Lane::new(&column.kind, spec.repeats))).collect()
    }
}

fn envelope_index(name: &str) -> Option<usize> {
    ENVELOPE.iter().position(|c| c.name == name && c.kind != EnvelopeKind::Json)
}

fn data_index(schema: &Schema, name: &str) -> Option<usize> {
    schema.column_index(name).map(|index| ENVELOPE.len() + index)
}

fn sorting_columns(schema: &Schema) -> Vec<SortingColumn> {
    let mut sorting: Vec<SortingColumn> = Vec::with_capacity(4);
    let is_list = |index: &usize| {
        let column = index.checked_sub(ENVELOPE.len()).and_then(|i| schema.columns.get(i));
        column.is_some_and(|c| matches!(c.kind, ColumnKind::List(_)))
    };
    for name in [schema.sort.as_str(), "time", "source", "id"] {
        let index = envelope_index(name).or_else(|| data_index(schema, name).filter(|index| !is_list(index)));
        // Each column has one leaf, so that its position is the leaf's.
        if let Some(index) = index.and_then(|i| i32::try_from(i).ok())
            && sorting.iter().all(|s| s.column_idx != index)
        {
            sorting.push(SortingColumn { column_idx: index, descending: false, nulls_first: true });
        }
    }
    sorting
}
