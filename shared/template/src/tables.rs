//! The lake's files as tables of the Glue catalog, for Athena: `infra/tables.yaml`, made from the schemas.
//!
//! The tables find their partitions by projection: the folders follow from the schema's `x-partition`, so nothing has to be registered
//! when a new day begins. Source: Amazon Athena User Guide, "Partition projection" and "Data types in Amazon Athena".

use sluice_domain::schema::{ColumnKind, ENVELOPE, EnvelopeKind, Partition, Registry, Schema};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// Glue keeps no longer comment.
const MAX_COMMENT_CHARS: usize = 255;

const HEAD: &str = r#"# Made from schemas/: do not edit. `UPDATE=1 cargo test -p sluice-tests --test template` writes it again.
AWSTemplateFormatVersion: "2010-09-09"
Description: The Parquet files of the lake as Athena sees them, one table per event type. Part of the stack of template.yaml.

Parameters:
  Database:
    Type: String
    Description: Name of the Glue database.
  Lake:
    Type: String
    Description: Where the lake's folders are, for example s3://bucket/lake.
  FirstDay:
    Type: String
    Description: First day that Athena looks for, the first of a month.

Outputs:
  Database:
    Description: Name of the Glue database, once it is there.
    Value: !Ref FilesDatabase

Resources:
  FilesDatabase:
    Type: AWS::Glue::Database
    Properties:
      CatalogId: !Ref AWS::AccountId
      DatabaseInput:
        Name: !Ref Database
        Description: The files of the lake as they lie in the bucket.
"#;

/// Schemas that Glue cannot tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablesError {
    /// Lake table.
    pub table: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for TablesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table `{}`: {}", self.table, self.reason)
    }
}

impl std::error::Error for TablesError {}

/// The text of the CloudFormation template with the database and a table per schema.
///
/// # Errors
/// Names that differ in Parquet and are the same to Glue, which knows small letters only.
pub fn tables_template(registry: &Registry) -> Result<String, TablesError> {
    let mut text = HEAD.to_owned();
    let mut ids = BTreeMap::new();
    for schema in registry.iter() {
        let id = logical_id(&schema.table);
        if let Some(other) = ids.insert(id.clone(), &schema.table) {
            let reason = format!("CloudFormation cannot tell it from `{other}`: rename the type");
            return Err(TablesError { table: schema.table.clone(), reason });
        }
        table(&mut text, &id, schema)?;
    }
    Ok(text)
}

/// `game_result` → `GameResultTable`
fn logical_id(table: &str) -> String {
    let words = table.split('_').filter_map(|word| Some(word.get(..1)?.to_ascii_uppercase() + &word[1..]));
    words.collect::<String>() + "Table"
}

fn table(text: &mut String, id: &str, schema: &Schema) -> Result<(), TablesError> {
    let name = &schema.table;
    let partitions = partition_keys(schema.partition);
    // Writing to a text cannot fail.
    let _ = write!(
        text,
        r#"
  {id}:
    Type: AWS::Glue::Table
    Properties:
      CatalogId: !Ref AWS::AccountId
      DatabaseName: !Ref FilesDatabase
      TableInput:
        Name: {name}
        Description: {}
        TableType: EXTERNAL_TABLE
        Parameters:
          EXTERNAL: "TRUE"
          classification: parquet
          projection.enabled: "true"
"#,
        quoted(&schema.description)
    );
    for line in projection(schema.partition) {
        let _ = writeln!(text, "          {line}");
    }
    let folders: String = partitions.iter().map(|(key, _)| format!("/{key}=${{!{key}}}")).collect();
    let _ = writeln!(text, "          storage.location.template: !Sub ${{Lake}}/{name}/data{folders}/");
    text.push_str("        PartitionKeys:\n");
    for (key, comment) in partitions {
        let _ = writeln!(text, "          - {{ Name: {key}, Type: string, Comment: {} }}", quoted(comment));
    }
    let _ = write!(
        text,
        "        StorageDescriptor:
          Location: !Sub ${{Lake}}/{name}/data/
          InputFormat: org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat
          OutputFormat: org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat
          SerdeInfo: {{ SerializationLibrary: org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe }}
          Columns:
"
    );
    let envelope = ENVELOPE.iter().map(|c| (c.name, envelope_type(c.kind).to_owned(), ""));
    let data = schema.columns.iter().map(|c| (c.name.as_str(), data_type(&c.kind), c.description.as_str()));
    let mut taken: BTreeMap<String, &str> = partitions.iter().map(|(key, _)| ((*key).to_owned(), *key)).collect();
    for (column, data_type, comment) in envelope.chain(data) {
        let small = column.to_ascii_lowercase();
        if let Some(other) = taken.insert(small.clone(), column) {
            let reason = format!("Glue cannot tell column `{column}` from `{other}`: rename it");
            return Err(TablesError { table: name.clone(), reason });
        }
        let comment = if comment.is_empty() { String::new() } else { format!(", Comment: {}", quoted(comment)) };
        let _ = writeln!(text, "            - {{ Name: {small}, Type: \"{data_type}\"{comment} }}");
    }
    Ok(())
}

/// The folders of a partition, outermost first, with what they say.
fn partition_keys(partition: Partition) -> &'static [(&'static str, &'static str)] {
    match partition {
        Partition::Hour => &[("dt", "Day of `time`, UTC: YYYY-MM-DD"), ("hour", "Hour of `time`, UTC: 00 to 23")],
        Partition::Day => &[("dt", "Day of `time`, UTC: YYYY-MM-DD")],
        Partition::Month => &[("dt", "First day of the month of `time`, UTC: YYYY-MM-01")],
    }
}

/// Table properties from which Athena knows the folders without asking. An event is at most a day ahead of its receive time.
fn projection(partition: Partition) -> Vec<&'static str> {
    let unit = match partition {
        Partition::Hour | Partition::Day => "projection.dt.interval.unit: DAYS",
        Partition::Month => "projection.dt.interval.unit: MONTHS",
    };
    let mut lines = vec![
        "projection.dt.type: date",
        "projection.dt.format: yyyy-MM-dd",
        "projection.dt.range: !Sub ${FirstDay},NOW+2DAYS",
        "projection.dt.interval: \"1\"",
        unit,
    ];
    if partition == Partition::Hour {
        lines.extend([
            "projection.hour.type: integer",
            "projection.hour.range: \"0,23\"",
            "projection.hour.digits: \"2\"",
        ]);
    }
    lines
}

fn envelope_type(kind: EnvelopeKind) -> &'static str {
    match kind {
        EnvelopeKind::Text | EnvelopeKind::Word | EnvelopeKind::Json => "string",
        EnvelopeKind::Timestamp => "timestamp",
        EnvelopeKind::Integer => "bigint",
    }
}

fn data_type(kind: &ColumnKind) -> String {
    match kind {
        ColumnKind::Integer => "bigint".into(),
        ColumnKind::Number => "double".into(),
        ColumnKind::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        ColumnKind::Text | ColumnKind::Json => "string".into(),
        ColumnKind::Timestamp => "timestamp".into(),
        ColumnKind::Date => "date".into(),
        ColumnKind::Boolean => "boolean".into(),
        ColumnKind::List(element) => format!("array<{}>", data_type(element)),
    }
}

/// A text in double quotes, on one line, cut to what Glue keeps. JSON's quoting is YAML's too.
fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    serde_json::Value::String(line.chars().take(MAX_COMMENT_CHARS).collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"type":"object","x-type":"event","properties":{"data":{"x-json":true,"x-column-id":101}}}"#;

    fn template(schema: &str) -> Result<String, TablesError> {
        tables_template(&Registry::load([("event.json", EVENT), ("own.json", schema)]).unwrap())
    }

    fn own(partition: &str, properties: &str) -> String {
        format!(
            r#"{{"type":"object","x-type":"a.b_c","x-partition":"{partition}","description":"Says \"hi\".",
                "properties":{{{properties}}}}}"#
        )
    }

    #[test]
    fn every_kind_of_column_has_its_type() {
        let properties = r#"
            "whole":{"type":"integer","x-column-id":101,"description":"How many\n  there are."},
            "rate":{"type":"number","x-column-id":102},
            "price":{"type":"string","x-decimal":[20,4],"x-column-id":103},
            "at":{"type":"string","format":"date-time","x-column-id":104},
            "day":{"type":"string","format":"date","x-column-id":105},
            "good":{"type":"boolean","x-column-id":106},
            "more":{"type":"object","x-column-id":107},
            "memberId":{"type":"string","x-column-id":108},
            "times":{"type":"array","items":{"type":"integer"},"x-column-id":109}"#;
        let text = template(&own("day", properties)).unwrap();
        for line in [
            r#"- { Name: receivedtime, Type: "timestamp" }"#,
            r#"- { Name: hops, Type: "bigint" }"#,
            r#"- { Name: whole, Type: "bigint", Comment: "How many there are." }"#,
            r#"- { Name: rate, Type: "double" }"#,
            r#"- { Name: price, Type: "decimal(20,4)" }"#,
            r#"- { Name: at, Type: "timestamp" }"#,
            r#"- { Name: day, Type: "date" }"#,
            r#"- { Name: good, Type: "boolean" }"#,
            r#"- { Name: more, Type: "string" }"#,
            r#"- { Name: memberid, Type: "string" }"#,
            r#"- { Name: times, Type: "array<bigint>" }"#,
            "  ABCTable:\n",
            r#"Description: "Says \"hi\".""#,
        ] {
            assert!(text.contains(line), "no `{line}` in\n{text}");
        }
    }

    #[test]
    fn partitions_are_projected_as_the_folders_are_made() {
        let text = template(&own("hour", "")).unwrap();
        assert!(
            text.contains("storage.location.template: !Sub ${Lake}/a_b_c/data/dt=${!dt}/hour=${!hour}/\n"),
            "{text}"
        );
        assert!(text.contains("projection.hour.digits: \"2\"\n"), "{text}");
        let text = template(&own("month", "")).unwrap();
        assert!(text.contains("projection.dt.interval.unit: MONTHS\n"), "{text}");
        assert!(text.contains("Location: !Sub ${Lake}/a_b_c/data/\n"), "{text}");
    }

    #[test]
    fn names_that_glue_cannot_tell_apart_are_refused() {
        let twice = r#""ab":{"type":"string","x-column-id":101},"aB":{"type":"string","x-column-id":102}"#;
        let error = template(&own("day", twice)).unwrap_err();
        assert_eq!(error.to_string(), "table `a_b_c`: Glue cannot tell column `aB` from `ab`: rename it");
        let key = r#""hour":{"type":"integer","x-column-id":101}"#;
        assert!(template(&own("hour", key)).unwrap_err().reason.contains("column `hour`"));
        template(&own("day", key)).unwrap();
    }

    #[test]
    fn a_comment_is_cut_to_what_glue_keeps() {
        assert_eq!(quoted(&"가".repeat(300)).chars().count(), MAX_COMMENT_CHARS + 2);
    }
}
