//! A table's first metadata: its columns, partitions and order by the schema of its event type.

use iceberg::spec::{DEFAULT_SCHEMA_NAME_MAPPING, TableMetadata};
use serde_json::{Value, json};
use sluice_domain::schema::{Column, ColumnKind, ELEMENT_ID_OFFSET, ENVELOPE, EnvelopeKind, Partition, Schema};
use std::collections::BTreeMap;

/// Name and field id of the column that tables are cut by.
pub(crate) const TIME: &str = "time";
/// Id of the order in which rows stand in our files.
pub(crate) const SORT_ORDER: i32 = 1;
/// Ids of partition fields begin here.
const FIRST_PARTITION_FIELD: i32 = 1_000;
/// Metadata that the table remembers beside the newest.
const METADATA_KEPT: usize = 100;

/// The metadata of a table without files.
///
/// It is written as JSON, since the crate's builder draws field ids anew: ours stand in the Parquet files already.
pub(crate) fn first_metadata(
    schema: &Schema,
    location: &str,
    uuid: uuid::Uuid,
    now_ms: i64,
) -> Result<TableMetadata, serde_json::Error> {
    let fields: Vec<Value> = fields(schema).into_iter().map(|field| field.json()).collect();
    let transform = transform(schema.partition);
    let partition = format!("{TIME}_{transform}");
    let elements = schema.columns.iter().filter(|c| matches!(c.kind, ColumnKind::List(_)));
    let element_ids = elements.map(|c| c.id + ELEMENT_ID_OFFSET);
    let ids = ENVELOPE.iter().map(|c| c.id).chain(schema.columns.iter().map(|c| c.id)).chain(element_ids);
    let time = ENVELOPE.iter().find(|c| c.name == TIME).map(|c| c.id);
    let properties: BTreeMap<&str, String> = BTreeMap::from([
        (DEFAULT_SCHEMA_NAME_MAPPING, name_mapping(schema).to_string()),
        ("write.format.default", "parquet".into()),
        ("write.parquet.compression-codec", "zstd".into()),
        ("write.metadata.delete-after-commit.enabled", "true".into()),
        ("write.metadata.previous-versions-max", METADATA_KEPT.to_string()),
        ("comment", schema.description.clone()),
    ]);
    let metadata = json!({
        "format-version": 2,
        "table-uuid": uuid,
        "location": location,
        "last-sequence-number": 0,
        "last-updated-ms": now_ms,
        "last-column-id": ids.max(),
        "current-schema-id": 0,
        "schemas": [{"type": "struct", "schema-id": 0, "fields": fields}],
        "default-spec-id": 0,
        "partition-specs": [{"spec-id": 0, "fields": [
            {"name": partition, "transform": transform, "source-id": time, "field-id": FIRST_PARTITION_FIELD},
        ]}],
        "last-partition-id": FIRST_PARTITION_FIELD,
        "default-sort-order-id": SORT_ORDER,
        "sort-orders": [{"order-id": SORT_ORDER, "fields": sort_fields(schema)}],
        "properties": properties,
        "current-snapshot-id": null,
        "snapshots": [],
        "snapshot-log": [],
        "metadata-log": [],
        "refs": {},
    });
    serde_json::from_value(metadata)
}

/// The transform of the time by which a table is cut.
pub(crate) fn transform(partition: Partition) -> &'static str {
    match partition {
        Partition::Hour => "hour",
        Partition::Day => "day",
        Partition::Month => "month",
    }
}

/// The order of rows in a file, as `sluice-columnar` writes them: absent values first.
fn sort_fields(schema: &Schema) -> Vec<Value> {
    let mut ids: Vec<i32> = Vec::new();
    for name in [schema.sort.as_str(), TIME, "source", "id"] {
        let envelope = ENVELOPE.iter().find(|c| c.name == name).map(|c| c.id);
        // Lists have no order.
        let data = || schema.columns.iter().find(|c| c.name == name && !matches!(c.kind, ColumnKind::List(_)));
        ids.extend(envelope.or_else(|| data().map(|c| c.id)).filter(|id| !ids.contains(id)));
    }
    let field = |id| json!({"transform": "identity", "source-id": id, "direction": "asc", "null-order": "nulls-first"});
    ids.into_iter().map(field).collect()
}

pub(crate) struct Field<'s> {
    id: i32,
    name: &'s str,
    required: bool,
    kind: Value,
    doc: &'s str,
}

impl Field<'_> {
    pub(crate) fn json(self) -> Value {
        let mut field = json!({"id": self.id, "name": self.name, "required": self.required, "type": self.kind});
        if !self.doc.is_empty() {
            field["doc"] = self.doc.into();
        }
        field
    }
}

/// The columns of a table: the envelope's, then those of the schema file.
pub(crate) fn fields(schema: &Schema) -> Vec<Field<'_>> {
    let envelope = ENVELOPE.iter().map(|c| {
        let kind = match c.kind {
            EnvelopeKind::Text | EnvelopeKind::Word | EnvelopeKind::Json => "string",
            EnvelopeKind::Timestamp => "timestamptz",
            EnvelopeKind::Integer => "long",
        };
        Field { id: c.id, name: c.name, required: c.required, kind: kind.into(), doc: "" }
    });
    let data = |c: &'_ Column| kind(&c.kind, c.id);
    let columns = schema.columns.iter().map(|c| Field {
        id: c.id,
        name: &c.name,
        required: false,
        kind: data(c),
        doc: &c.description,
    });
    envelope.chain(columns).collect()
}

fn kind(kind: &ColumnKind, id: i32) -> Value {
    match kind {
        ColumnKind::Integer => "long".into(),
        ColumnKind::Number => "double".into(),
        ColumnKind::Decimal { precision, scale } => format!("decimal({precision},{scale})").into(),
        ColumnKind::Text | ColumnKind::Json => "string".into(),
        ColumnKind::Timestamp => "timestamptz".into(),
        ColumnKind::Date => "date".into(),
        ColumnKind::Boolean => "boolean".into(),
        ColumnKind::List(element) => {
            let element_id = id + ELEMENT_ID_OFFSET;
            let element = self::kind(element, element_id);
            json!({"type": "list", "element-id": element_id, "element-required": false, "element": element})
        }
    }
}

/// Which column a field id is where a file has names only.
pub(crate) fn name_mapping(schema: &Schema) -> Value {
    let envelope = ENVELOPE.iter().map(|c| json!({"field-id": c.id, "names": [c.name]}));
    let data = schema.columns.iter().map(|c| match c.kind {
        ColumnKind::List(_) => json!({
            "field-id": c.id,
            "names": [c.name],
            "fields": [{"field-id": c.id + ELEMENT_ID_OFFSET, "names": ["element"]}],
        }),
        _ => json!({"field-id": c.id, "names": [c.name]}),
    });
    envelope.chain(data).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use iceberg::spec::{PrimitiveType, Type};

    const RESULT: &str = include_str!("../../../schemas/game.result.json");

    #[test]
    fn the_columns_of_a_table_have_the_ids_of_its_schema() {
        for text in
            [RESULT, include_str!("../../../schemas/quote.trade.json"), include_str!("../../../schemas/event.json")]
        {
            let schema = Schema::parse("f", text).unwrap();
            let metadata = first_metadata(&schema, "file:///d/lake/t", uuid::Uuid::nil(), 1).unwrap();
            let columns = metadata.current_schema();
            for column in ENVELOPE {
                let field = columns.field_by_id(column.id).unwrap();
                assert_eq!((field.name.as_str(), field.required), (column.name, column.required));
            }
            for column in &schema.columns {
                let field = columns.field_by_id(column.id).unwrap();
                assert_eq!((field.name.as_str(), field.required), (column.name.as_str(), false));
                if let (ColumnKind::List(_), Type::List(list)) = (&column.kind, &*field.field_type) {
                    assert_eq!(list.element_field.id, column.id + ELEMENT_ID_OFFSET);
                }
                if let ColumnKind::Decimal { precision, scale } = column.kind {
                    let expected = PrimitiveType::Decimal { precision: precision.into(), scale: scale.into() };
                    assert_eq!(*field.field_type, Type::Primitive(expected));
                }
            }
            assert_eq!(columns.as_struct().fields().len(), ENVELOPE.len() + schema.columns.len());
            let order: Vec<i32> = metadata.default_sort_order().fields.iter().map(|f| f.source_id).collect();
            assert!(order.ends_with(&[4, 2, 1]) || order.ends_with(&[4, 2]) || order.ends_with(&[2, 1]), "{order:?}");
            let spec = metadata.default_partition_spec();
            assert_eq!((spec.fields()[0].source_id, spec.fields().len()), (4, 1));
        }
    }

    #[test]
    fn the_name_mapping_names_every_column() {
        let schema = Schema::parse("f", RESULT).unwrap();
        let metadata = first_metadata(&schema, "file:///d/lake/t", uuid::Uuid::nil(), 1).unwrap();
        let mapping: Value = serde_json::from_str(&metadata.properties()[DEFAULT_SCHEMA_NAME_MAPPING]).unwrap();
        let named = mapping.as_array().unwrap();
        assert_eq!(named.len(), ENVELOPE.len() + schema.columns.len());
        let list = named.iter().find(|field| field["names"][0] == "reaction_ms").unwrap();
        assert_eq!(list["fields"][0]["field-id"].as_i64(), list["field-id"].as_i64().map(|id| id + 1_000));
    }
}
