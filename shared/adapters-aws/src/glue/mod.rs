//! Pointers to the lake's tables in the Glue Data Catalog, where Athena, Redshift, Trino, Spark and PyIceberg look for them.
//!
//! A table is an entry of the database with the parameters `table_type=ICEBERG` and `metadata_location`. Each update names the version that it
//! was read with, and the service refuses it where that is another by now, whoever made it. `SkipArchive` keeps it from storing the version
//! before, of which an account may have a million; the number goes up all the same, so the condition holds.
//!
//! An update or a creation is not sent again when its reply was lost: what became of it is not known, and the caller looks.
//!
//! Sources: AWS Glue Web API Reference, "UpdateTable"; what stands in an entry is as Iceberg's `GlueTableOperations` and
//! `IcebergToGlueConverter` write it.

mod call;

use crate::failure::failed;
use crate::{Connection, Resource};
use async_trait::async_trait;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use call::{Glue, Refusal, Repeats};
use iceberg::spec::{NestedField, PrimitiveType, TableMetadata, Type};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sluice_adapters_iceberg::Pointers;
use sluice_ports::{ErrorKind, PortError};
use std::collections::BTreeMap;

const LIST: &str = "catalog.tables";
const LOAD: &str = "catalog.load";
const CREATE: &str = "catalog.create";
const CHANGE: &str = "catalog.append";

const TABLE_TYPE: &str = "table_type";
const ICEBERG: &str = "ICEBERG";
const LOCATION: &str = "metadata_location";
const LOCATION_BEFORE: &str = "previous_metadata_location";
/// Glue keeps no longer texts of a column and of a table.
const MAX_COMMENT_CHARS: usize = 255;
const MAX_DESCRIPTION_CHARS: usize = 2_048;
/// What an update writes anew, so that what others have put there stays. Times and owner are Glue's own.
const KEPT: [&str; 6] = ["Description", "Owner", "PartitionKeys", "Retention", "StorageDescriptor", "TableType"];

/// The tables of a Glue database.
#[derive(Debug, Clone)]
pub struct GluePointers {
    glue: Glue,
    database: Resource,
}

/// An entry as Glue has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    name: String,
    version_id: Option<String>,
    #[serde(default)]
    parameters: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl GluePointers {
    /// The tables of this database.
    pub fn new(connection: &Connection, database: Resource) -> Self {
        Self { glue: Glue::new(connection), database }
    }

    async fn entry(&self, operation: &'static str, table: &str) -> Result<Option<Entry>, PortError> {
        let input = json!({"DatabaseName": self.database.name, "Name": table});
        let mut found = match self.glue.call("GetTable", &input, Repeats::Always).await {
            Ok(found) => found,
            Err(error) if code(&error) == Some("EntityNotFoundException") => return Ok(None),
            Err(error) => return Err(failed(operation, &self.database, error)),
        };
        serde_json::from_value(found["Table"].take()).map(Some).map_err(|e| self.unreadable(operation, e))
    }

    /// Where an entry's metadata is. What is there under the name and is no Iceberg table is somebody else's.
    fn location<'e>(&self, operation: &'static str, entry: &'e Entry) -> Result<&'e str, PortError> {
        let name = &entry.name;
        if !entry.is_iceberg() {
            let what = format!(
                "{} has an entry `{name}` that is no Iceberg table, and so was not made by `commit`: drop or rename it, and the table is made",
                self.database
            );
            return Err(PortError::new(ErrorKind::Invalid, operation, what));
        }
        entry.parameter(LOCATION).ok_or_else(|| {
            let what = format!("{}: the table `{name}` has no parameter `{LOCATION}`", self.database);
            PortError::new(ErrorKind::Corrupt, operation, what)
        })
    }

    fn unreadable(&self, operation: &'static str, error: serde_json::Error) -> PortError {
        PortError::new(ErrorKind::Corrupt, operation, format!("{}: its answer is not as expected", self.database))
            .with_source(error)
    }
}

#[async_trait]
impl Pointers for GluePointers {
    async fn tables(&self) -> Result<Vec<String>, PortError> {
        let mut names = Vec::new();
        let mut input = json!({"DatabaseName": self.database.name});
        loop {
            let page = self.glue.call("GetTables", &input, Repeats::Always).await;
            let mut page = page.map_err(|error| failed(LIST, &self.database, error))?;
            let entries: Vec<Entry> =
                serde_json::from_value(page["TableList"].take()).map_err(|e| self.unreadable(LIST, e))?;
            names.extend(entries.into_iter().filter(Entry::is_iceberg).map(|entry| entry.name));
            match page["NextToken"].take() {
                Value::String(token) if !token.is_empty() => input["NextToken"] = token.into(),
                _ => break,
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    async fn get(&self, table: &str) -> Result<Option<String>, PortError> {
        let Some(entry) = self.entry(LOAD, table).await? else { return Ok(None) };
        self.location(LOAD, &entry).map(|location| Some(location.to_owned()))
    }

    async fn create(&self, table: &str, location: &str, metadata: &TableMetadata) -> Result<(), PortError> {
        let columns = columns(CREATE, table, metadata)?;
        let mut entry = json!({
            "Name": table,
            "TableType": "EXTERNAL_TABLE",
            "Parameters": {TABLE_TYPE: ICEBERG, LOCATION: location},
            "StorageDescriptor": {"Location": metadata.location(), "Columns": columns},
        });
        if let Some(comment) = metadata.properties().get("comment") {
            entry["Description"] = line(comment, MAX_DESCRIPTION_CHARS).into();
        }
        let input = json!({"DatabaseName": self.database.name, "TableInput": entry});
        let created = self.glue.call("CreateTable", &input, Repeats::WhereNothingHappened).await;
        created.map(drop).map_err(|error| failed(CREATE, &self.database, error))
    }

    async fn swap(&self, table: &str, from: &str, to: &str, metadata: &TableMetadata) -> Result<(), PortError> {
        let changed = || {
            let what = format!("the table `{table}` is in another state than `{from}`");
            Err(PortError::new(ErrorKind::Conflict, CHANGE, what))
        };
        let Some(entry) = self.entry(CHANGE, table).await? else { return changed() };
        if self.location(CHANGE, &entry)? != from {
            return changed();
        }
        let Some(version) = entry.version_id.clone() else {
            let what =
                format!("{}: the table `{table}` has no version, on which a change could be made", self.database);
            return Err(PortError::new(ErrorKind::Corrupt, CHANGE, what));
        };
        let input = json!({
            "DatabaseName": self.database.name,
            "TableInput": entry.pointing(from, to, columns(CHANGE, table, metadata)?),
            "SkipArchive": true,
            "VersionId": version,
        });
        let swapped = self.glue.call("UpdateTable", &input, Repeats::WhereNothingHappened).await;
        swapped.map(drop).map_err(|error| failed(CHANGE, &self.database, error))
    }
}

impl Entry {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.as_ref()?.get(name).map(String::as_str)
    }

    fn is_iceberg(&self) -> bool {
        self.parameter(TABLE_TYPE).is_some_and(|kind| kind.eq_ignore_ascii_case(ICEBERG))
    }

    /// The same entry with other metadata and these columns, as an input.
    fn pointing(self, from: &str, to: &str, columns: Vec<Value>) -> Value {
        let mut parameters = self.parameters.unwrap_or_default();
        parameters.insert(LOCATION.to_owned(), to.to_owned());
        parameters.insert(LOCATION_BEFORE.to_owned(), from.to_owned());
        let kept = self.rest.into_iter().filter(|(name, value)| KEPT.contains(&name.as_str()) && !value.is_null());
        let mut input: Map<String, Value> = kept.collect();
        input.insert("Name".to_owned(), self.name.into());
        input.insert("Parameters".to_owned(), json!(parameters));
        let mut input = Value::from(input);
        input["StorageDescriptor"]["Columns"] = columns.into();
        input
    }
}

fn code(error: &SdkError<Refusal, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(|refusal| refusal.meta().code())
}

/// The columns for those who look at the entry; engines read them in the metadata.
fn columns(operation: &'static str, table: &str, metadata: &TableMetadata) -> Result<Vec<Value>, PortError> {
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    let mut columns = Vec::new();
    for field in metadata.current_schema().as_struct().fields() {
        if let Some(other) = taken.insert(field.name.to_ascii_lowercase(), &field.name) {
            let what = format!(
                "the table `{table}`: Athena cannot tell the column `{}` from `{other}`: rename one of them in the schema",
                field.name
            );
            return Err(PortError::new(ErrorKind::Invalid, operation, what));
        }
        columns.push(column(field));
    }
    Ok(columns)
}

fn column(field: &NestedField) -> Value {
    let mut column = json!({
        "Name": field.name,
        "Type": data_type(&field.field_type),
        "Parameters": {
            "iceberg.field.id": field.id.to_string(),
            "iceberg.field.optional": (!field.required).to_string(),
            "iceberg.field.current": "true",
        },
    });
    if let Some(doc) = field.doc.as_deref().filter(|doc| !doc.is_empty()) {
        column["Comment"] = line(doc, MAX_COMMENT_CHARS).into();
    }
    column
}

/// A type in the words of Hive.
fn data_type(of: &Type) -> String {
    match of {
        Type::Primitive(primitive) => match primitive {
            PrimitiveType::Boolean => "boolean".into(),
            PrimitiveType::Int => "int".into(),
            PrimitiveType::Long => "bigint".into(),
            PrimitiveType::Float => "float".into(),
            PrimitiveType::Double => "double".into(),
            PrimitiveType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            PrimitiveType::Date => "date".into(),
            PrimitiveType::Timestamp
            | PrimitiveType::Timestamptz
            | PrimitiveType::TimestampNs
            | PrimitiveType::TimestamptzNs => "timestamp".into(),
            PrimitiveType::Time | PrimitiveType::String | PrimitiveType::Uuid => "string".into(),
            PrimitiveType::Fixed(_) | PrimitiveType::Binary => "binary".into(),
        },
        Type::List(list) => format!("array<{}>", data_type(&list.element_field.field_type)),
        Type::Map(map) => {
            format!("map<{},{}>", data_type(&map.key_field.field_type), data_type(&map.value_field.field_type))
        }
        Type::Struct(fields) => {
            let fields = fields.fields().iter().map(|field| format!("{}:{}", field.name, data_type(&field.field_type)));
            format!("struct<{}>", fields.collect::<Vec<_>>().join(","))
        }
    }
}

/// A text on one line, cut to what Glue keeps.
fn line(text: &str, chars: usize) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(fields: Value) -> TableMetadata {
        let metadata = json!({
            "format-version": 2, "table-uuid": "019aa5f0-4a00-7c31-9d52-6b1f0e8a7c01", "location": "s3://b/lake/t", "last-sequence-number": 0,
            "last-updated-ms": 1, "last-column-id": 200, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": fields}],
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}], "properties": {}, "snapshots": [], "refs": {},
        });
        serde_json::from_value(metadata).unwrap()
    }

    #[test]
    fn a_column_has_its_type_its_id_and_a_comment_that_glue_keeps() {
        let list = json!({"type": "list", "element-id": 1103, "element-required": false, "element": "decimal(20, 4)"});
        let columns = columns(CREATE, "t", &metadata(json!([
            {"id": 1, "name": "id", "required": true, "type": "string"},
            {"id": 4, "name": "time", "required": true, "type": "timestamptz"},
            {"id": 101, "name": "memberId", "required": false, "type": "long", "doc": format!("Who\n  it {}", "가".repeat(300))},
            {"id": 103, "name": "prices", "required": false, "type": list},
        ])))
        .unwrap();
        let types: Vec<&Value> = columns.iter().map(|column| &column["Type"]).collect();
        assert_eq!(types, ["string", "timestamp", "bigint", "array<decimal(20,4)>"]);
        assert_eq!(columns[0]["Parameters"]["iceberg.field.optional"], "false");
        assert_eq!(
            columns[2]["Parameters"],
            json!({"iceberg.field.id": "101", "iceberg.field.optional": "true", "iceberg.field.current": "true"})
        );
        let comment = columns[2]["Comment"].as_str().unwrap();
        assert!(comment.starts_with("Who it 가") && comment.chars().count() == MAX_COMMENT_CHARS, "{comment}");
    }

    #[test]
    fn columns_that_athena_cannot_tell_apart_are_refused() {
        let field = |id: i32, name: &str| json!({"id": id, "name": name, "required": false, "type": "long"});
        let twice = columns(CREATE, "t", &metadata(json!([field(101, "ab"), field(102, "aB")])));
        let error = twice.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.detail.contains("the column `aB` from `ab`"), "{error}");
    }

    #[test]
    fn an_update_keeps_what_others_have_put_into_the_entry() {
        let entry: Entry = serde_json::from_value(json!({
            "Name": "t", "DatabaseName": "d", "CreateTime": 1, "VersionId": "7", "Description": "Says it.", "ViewOriginalText": null,
            "TableType": "EXTERNAL_TABLE", "Retention": 0, "Owner": null,
            "Parameters": {"table_type": "iceberg", "metadata_location": "s3://b/1", "previous_metadata_location": "s3://b/0", "own": "x"},
            "StorageDescriptor": {"Location": "s3://b/lake/t", "Columns": []},
        }))
        .unwrap();
        assert!(entry.is_iceberg());
        assert_eq!(
            entry.pointing("s3://b/1", "s3://b/2", vec![json!({"Name": "n", "Type": "bigint"})]),
            json!({
                "Name": "t", "Description": "Says it.", "TableType": "EXTERNAL_TABLE", "Retention": 0,
                "Parameters": {"table_type": "iceberg", "metadata_location": "s3://b/2", "previous_metadata_location": "s3://b/1", "own": "x"},
                "StorageDescriptor": {"Location": "s3://b/lake/t", "Columns": [{"Name": "n", "Type": "bigint"}]},
            })
        );
    }
}
