//! A table gets the columns that its schema file has more than it. Nothing else of a table follows the file: what would change the meaning
//! of files that are written is refused.

use crate::columns::{fields, name_mapping, transform};
use iceberg::spec::{DEFAULT_SCHEMA_NAME_MAPPING, NestedField, NestedFieldRef, Schema as Columns, TableMetadata, Type};
use serde_json::{Value, json};
use sluice_domain::schema::Schema;
use sluice_ports::{ErrorKind, PortError};
use std::sync::Arc;

const APPEND: &str = "catalog.append";

/// The metadata with a further schema that has the missing columns as well, as optional ones behind the others, and what the file says of
/// all of them; `None` where none is missing. Columns that only the table has stay.
///
/// # Errors
/// [`ErrorKind::Invalid`] where the file is not the table's columns and further ones: another id, name, type or partition.
pub(crate) fn evolved(metadata: &TableMetadata, schema: &Schema) -> Result<Option<TableMetadata>, PortError> {
    let refuse = |why: String| {
        let what =
            format!("the schema file of `{}` does not go with the table `{}`: {why}", schema.event_type, schema.table);
        PortError::new(ErrorKind::Invalid, APPEND, what)
    };
    let wanted = fields(schema).into_iter().map(|field| serde_json::from_value(field.json()).map(Arc::new));
    let wanted: Vec<NestedFieldRef> = wanted.collect::<Result<_, _>>().map_err(|e| refuse(e.to_string()))?;
    is_cut_alike(metadata, schema).map_err(refuse)?;
    let mut added = Vec::new();
    for field in &wanted {
        if is_new(metadata, field).map_err(refuse)? {
            added.push(field.clone());
        }
    }
    if added.is_empty() {
        return Ok(None);
    }
    let present = metadata.current_schema().as_struct().fields().iter().map(|field| described(field, &wanted));
    let columns = Columns::builder()
        .with_schema_id(metadata.schemas_iter().map(|schema| schema.schema_id()).max().unwrap_or_default() + 1)
        .with_fields(present.chain(added.iter().cloned()))
        .with_identifier_field_ids(metadata.current_schema().identifier_field_ids())
        .build()
        .map_err(|e| refuse(e.to_string()))?;
    // As JSON: the crate's builder would make a change of its own of it, with a time of its own.
    let evolved = serde_json::to_value(metadata).and_then(|mut json| {
        json["current-schema-id"] = columns.schema_id().into();
        json["last-column-id"] = metadata.last_column_id().max(columns.highest_field_id()).into();
        json["properties"][DEFAULT_SCHEMA_NAME_MAPPING] = mapping(metadata, schema, &added).to_string().into();
        json["properties"]["comment"] = schema.description.as_str().into();
        if let Some(schemas) = json["schemas"].as_array_mut() {
            schemas.push(serde_json::to_value(&columns)?);
        }
        serde_json::from_value(json)
    });
    evolved.map(Some).map_err(|e| refuse(e.to_string()))
}

fn is_cut_alike(metadata: &TableMetadata, schema: &Schema) -> Result<(), String> {
    let file = transform(schema.partition);
    for field in metadata.default_partition_spec().fields() {
        let table = field.transform.to_string();
        if table != file {
            return Err(format!(
                "the table is cut by the {table} and the file's `x-partition` says {file}; files lie where the first one said, so leave it"
            ));
        }
    }
    Ok(())
}

/// Whether the table lacks a column; what it has instead of it is the error.
fn is_new(metadata: &TableMetadata, field: &NestedField) -> Result<bool, String> {
    let (name, id) = (&field.name, field.id);
    let table = metadata.current_schema();
    let same_name = table
        .as_struct()
        .fields()
        .iter()
        .find(|there| there.name.to_lowercase() == name.to_lowercase() && there.id != id);
    if let Some(there) = same_name {
        return Err(format!(
            "the column `{}` has the id {} in the table, and `{name}` has {id} in the file; a column keeps its id, and names differ in more than case",
            there.name, there.id
        ));
    }
    // Also of columns that somebody took away: files may have them still.
    let ever = std::iter::once(table).chain(metadata.schemas_iter());
    if let Some(there) = ever.filter_map(|schema| schema.field_by_id(id)).find(|there| !is_same(there, field)) {
        return Err(format!(
            "the id {id} is the column `{}` ({}) in the table and `{name}` ({}) in the file; a column keeps its id, name and type: give another one an id that was never used",
            there.name, there.field_type, field.field_type
        ));
    }
    let names_of_partitions = metadata.partition_specs_iter().flat_map(|spec| spec.fields());
    if table.field_by_id(id).is_none() && names_of_partitions.into_iter().any(|partition| partition.name == *name) {
        return Err(format!("the table has a partition of the name `{name}`; rename the new field"));
    }
    Ok(table.field_by_id(id).is_none())
}

fn is_same(there: &NestedField, field: &NestedField) -> bool {
    let element = |of: &Type| match of {
        Type::List(list) => Some((list.element_field.id, list.element_field.field_type.clone())),
        _ => None,
    };
    let same_type = match (element(&there.field_type), element(&field.field_type)) {
        (None, None) => there.field_type == field.field_type,
        (there, field) => there == field,
    };
    there.name == field.name && same_type
}

/// A column of the table, with what the file says of it.
fn described(field: &NestedFieldRef, wanted: &[NestedFieldRef]) -> NestedFieldRef {
    match wanted.iter().find(|wanted| wanted.id == field.id).and_then(|wanted| wanted.doc.as_ref()) {
        Some(doc) => Arc::new(field.as_ref().clone().with_doc(doc)),
        None => field.clone(),
    }
}

/// The table's name mapping with the new columns; what another engine put there stays.
fn mapping(metadata: &TableMetadata, schema: &Schema, added: &[NestedFieldRef]) -> Value {
    let all = name_mapping(schema);
    let there = metadata.properties().get(DEFAULT_SCHEMA_NAME_MAPPING).and_then(|text| serde_json::from_str(text).ok());
    let Some(Value::Array(mut mapped)) = there else { return all };
    let is_added = |entry: &&Value| added.iter().any(|field| entry["field-id"] == json!(field.id));
    mapped.extend(all.as_array().into_iter().flatten().filter(is_added).cloned());
    mapped.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::first_metadata;

    fn schema(properties: &str) -> Schema {
        let text = format!(r#"{{"type":"object","x-type":"a.b","description":"All.","properties":{{{properties}}}}}"#);
        Schema::parse("f", &text).unwrap()
    }

    fn table(schema: &Schema) -> TableMetadata {
        first_metadata(schema, "file:///d/lake/a_b", uuid::Uuid::nil(), 1).unwrap()
    }

    const N: &str = r#""n":{"type":"integer","x-column-id":101}"#;

    #[test]
    fn columns_that_are_missing_are_added_and_the_others_stay() {
        let before = table(&schema(&format!(r#"{N},"gone":{{"type":"string","x-column-id":102}}"#)));
        let list = r#""list":{"type":"array","items":{"type":"string"},"description":"Some.","x-column-id":103}"#;
        let file = schema(&format!(r#""n":{{"type":"integer","description":"How many.","x-column-id":101}},{list}"#));
        let after = evolved(&before, &file).unwrap().unwrap();
        let columns = after.current_schema();
        assert_eq!((after.current_schema_id(), after.schemas_iter().count(), after.last_column_id()), (1, 2, 1_103));
        let names: Vec<&str> = columns.as_struct().fields().iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names[names.len() - 3..], ["n", "gone", "list"]);
        let list = columns.field_by_name("list").unwrap();
        assert_eq!((list.id, list.required, list.doc.as_deref()), (103, false, Some("Some.")));
        assert_eq!(columns.field_by_name("n").unwrap().doc.as_deref(), Some("How many."));
        let mapping: Value = serde_json::from_str(&after.properties()[DEFAULT_SCHEMA_NAME_MAPPING]).unwrap();
        let last = mapping.as_array().unwrap().last().unwrap();
        assert_eq!(
            *last,
            json!({"field-id": 103, "names": ["list"], "fields": [{"field-id": 1103, "names": ["element"]}]})
        );
        assert_eq!(mapping.as_array().unwrap().len(), names.len());
        assert_eq!(after.last_updated_ms(), before.last_updated_ms());
        assert!(evolved(&after, &file).unwrap().is_none(), "once");
        assert!(evolved(&after, &schema(N)).unwrap().is_none(), "a column that the file lacks stays");
    }

    #[test]
    fn what_is_no_addition_is_refused_with_a_sentence() {
        let before =
            table(&schema(&format!(r#"{N},"l":{{"type":"array","items":{{"type":"integer"}},"x-column-id":102}}"#)));
        for (properties, said) in [
            (
                r#""n":{"type":"string","x-column-id":101}"#,
                "the id 101 is the column `n` (long) in the table and `n` (string) in the file",
            ),
            (
                r#""m":{"type":"integer","x-column-id":101}"#,
                "the id 101 is the column `n` (long) in the table and `m` (long) in the file",
            ),
            (
                r#""n":{"type":"integer","x-column-id":103}"#,
                "the column `n` has the id 101 in the table, and `n` has 103 in the file",
            ),
            (
                r#""N":{"type":"integer","x-column-id":103}"#,
                "the column `n` has the id 101 in the table, and `N` has 103 in the file",
            ),
            (r#""l":{"type":"array","items":{"type":"string"},"x-column-id":102}"#, "the id 102 is the column `l`"),
            (r#""time_day":{"type":"integer","x-column-id":103}"#, "a partition of the name `time_day`"),
        ] {
            let error = evolved(&before, &schema(properties)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid);
            assert!(error.detail.starts_with("the schema file of `a.b` does not go with the table `a_b`: "), "{error}");
            assert!(error.detail.contains(said), "{properties}: {error}");
        }
        let hourly = r#"{"type":"object","x-type":"a.b","x-partition":"hour"}"#;
        let error = evolved(&before, &Schema::parse("f", hourly).unwrap()).unwrap_err();
        assert!(error.detail.contains("cut by the day and the file's `x-partition` says hour"), "{error}");
    }

    #[test]
    fn an_id_that_a_dropped_column_had_is_not_given_again() {
        let two = schema(&format!(r#"{N},"old":{{"type":"string","x-column-id":102}}"#));
        let mut json = serde_json::to_value(table(&two)).unwrap();
        let mut columns = json["schemas"][0].clone();
        columns["schema-id"] = json!(1);
        columns["fields"].as_array_mut().unwrap().pop();
        json["schemas"].as_array_mut().unwrap().push(columns);
        json["current-schema-id"] = json!(1);
        let dropped: TableMetadata = serde_json::from_value(json).unwrap();
        let other = schema(&format!(r#"{N},"new":{{"type":"string","x-column-id":102}}"#));
        let error = evolved(&dropped, &other).unwrap_err();
        assert!(error.detail.contains("the id 102 is the column `old` (string) in the table and `new`"), "{error}");
        let back = evolved(&dropped, &two).unwrap().unwrap();
        assert!(back.current_schema().field_by_name("old").is_some(), "the same column comes back");
    }
}
