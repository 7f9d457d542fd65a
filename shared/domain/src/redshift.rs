//! Amazon Redshift's SQL for the lake's tables, from their schemas: tables that `COPY` fills, and materialized views over the Iceberg tables.
//!
//! The texts are files of `infra/redshift/`, with `{schema}` and `{external}` where the names of Redshift's schemas belong. Every name stands
//! in quotes, so that none is taken for a word of the language.

use crate::schema::{ColumnKind, ENVELOPE, EnvelopeKind, Schema};
use std::fmt::Write as _;

/// The longest `VARCHAR` there is, in bytes (Amazon Redshift, Character types). Not by `maxLength`, which a schema file may raise: a
/// column that is too narrow would hold up its objects.
const TEXT: &str = "VARCHAR(65535)";

/// `CREATE TABLE` for each of these schemas, by their tables' names. What says which objects are loaded comes first.
pub fn tables<'s>(schemas: impl Iterator<Item = &'s Schema>) -> String {
    let mut sql = String::from(
        "-- Made from `schemas/` by `UPDATE=1 cargo test --workspace --test redshift_sql`. Tables for `redshift.py load`.
CREATE SCHEMA IF NOT EXISTS \"{schema}\";

-- Which objects are loaded (`loaded_at`), and which are to be (no `loaded_at`). A row without an object is a mark: all that was appended
-- up to its snapshot has its rows. Below 0 it is of a load of the whole table that is not ended.
CREATE TABLE IF NOT EXISTS \"{schema}\".\"_loaded\" (
  \"table_name\" VARCHAR(255) NOT NULL,
  \"object\" VARCHAR(1024) NOT NULL,
  \"snapshot_id\" BIGINT,
  \"loaded_at\" TIMESTAMPTZ
);
",
    );
    for schema in sorted(schemas) {
        let columns: Vec<String> =
            columns(schema).map(|(name, kind, null)| format!("  \"{name}\" {kind}{null}")).collect();
        let _ = write!(
            sql,
            "\nCREATE TABLE IF NOT EXISTS \"{{schema}}\".\"{}\" (\n{}\n)\nSORTKEY (\"time\");\n",
            schema.table,
            columns.join(",\n")
        );
    }
    sql
}

/// A materialized view for each of these schemas, by their tables' names, made anew: that is how one gets the columns that a table has
/// gained.
pub fn views<'s>(schemas: impl Iterator<Item = &'s Schema>) -> String {
    let mut sql = String::from(
        "-- Made from `schemas/` by `UPDATE=1 cargo test --workspace --test redshift_sql`. Views for `redshift.py views` and `redshift.py refresh`.
CREATE SCHEMA IF NOT EXISTS \"{schema}\";
",
    );
    for schema in sorted(schemas) {
        let lists = schema.columns.iter().filter(|column| matches!(column.kind, ColumnKind::List(_)));
        let lists: Vec<String> = lists.map(|column| format!("`{}`", column.name)).collect();
        sql.push('\n');
        if !lists.is_empty() {
            let _ = writeln!(sql, "-- Has lists ({}): a refresh may make it as a whole.", lists.join(", "));
        }
        let columns: Vec<String> = columns(schema).map(|(name, ..)| format!("  \"{name}\"")).collect();
        let _ = write!(
            sql,
            "DROP MATERIALIZED VIEW IF EXISTS \"{{schema}}\".\"{table}\";\nCREATE MATERIALIZED VIEW \"{{schema}}\".\"{table}\" SORTKEY (\"time\") AS\nSELECT\n{}\nFROM \"{{external}}\".\"{table}\";\n",
            columns.join(",\n"),
            table = schema.table,
        );
    }
    sql
}

fn sorted<'s>(schemas: impl Iterator<Item = &'s Schema>) -> Vec<&'s Schema> {
    let mut schemas: Vec<_> = schemas.collect();
    schemas.sort_by(|a, b| a.table.cmp(&b.table));
    schemas
}

/// Name, type and `NOT NULL` of the columns, as they stand in the table.
fn columns(schema: &Schema) -> impl Iterator<Item = (&str, String, &'static str)> {
    let envelope = ENVELOPE.iter().map(|column| {
        let kind = match column.kind {
            // JSON as text: `JSON_PARSE` refuses numbers that JSON allows, and one of them would hold up its object.
            EnvelopeKind::Text | EnvelopeKind::Word | EnvelopeKind::Json => TEXT,
            EnvelopeKind::Timestamp => "TIMESTAMPTZ",
            EnvelopeKind::Integer => "BIGINT",
        };
        (column.name, kind.to_owned(), if column.required { " NOT NULL" } else { "" })
    });
    envelope.chain(schema.columns.iter().map(|column| (column.name.as_str(), kind(&column.kind), "")))
}

fn kind(kind: &ColumnKind) -> String {
    match kind {
        ColumnKind::Integer => "BIGINT".into(),
        ColumnKind::Number => "DOUBLE PRECISION".into(),
        ColumnKind::Decimal { precision, scale } => format!("DECIMAL({precision}, {scale})"),
        ColumnKind::Text | ColumnKind::Json => TEXT.into(),
        ColumnKind::Timestamp => "TIMESTAMPTZ".into(),
        ColumnKind::Date => "DATE".into(),
        ColumnKind::Boolean => "BOOLEAN".into(),
        ColumnKind::List(_) => "SUPER".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        let fields = [
            ("table", r#""type":"integer""#),
            ("ratio", r#""type":"number""#),
            ("price", r#""type":"string","x-decimal":[18,6]"#),
            ("note", r#""type":"string","maxLength":5"#),
            ("day", r#""type":"string","format":"date""#),
            ("at", r#""type":"string","format":"date-time""#),
            ("paid", r#""type":"boolean""#),
            ("more", r#""type":"object""#),
            ("tags", r#""type":"array","items":{"type":"string"}"#),
        ];
        let property =
            |(n, (name, of)): (usize, &(&str, &str))| format!(r#""{name}":{{{of},"x-column-id":{}}}"#, 101 + n);
        let properties: Vec<String> = fields.iter().enumerate().map(property).collect();
        let text = format!(r#"{{"type":"object","x-type":"order.paid","properties":{{{}}}}}"#, properties.join(","));
        Schema::parse("f", &text).unwrap()
    }

    #[test]
    fn a_table_has_the_envelope_and_each_field_in_the_type_that_holds_it() {
        let sql = tables([&schema()].into_iter());
        let (_, of_table) = sql.split_once("\"{schema}\".\"order_paid\" (\n").unwrap();
        let lines: Vec<&str> = of_table.lines().map(|line| line.trim().trim_end_matches(',')).collect();
        assert_eq!(
            lines[..3],
            [
                "\"id\" VARCHAR(65535) NOT NULL",
                "\"source\" VARCHAR(65535) NOT NULL",
                "\"type\" VARCHAR(65535) NOT NULL"
            ]
        );
        assert_eq!(lines[3..5], ["\"time\" TIMESTAMPTZ NOT NULL", "\"receivedtime\" TIMESTAMPTZ NOT NULL"]);
        assert_eq!(lines[15..17], ["\"hops\" BIGINT", "\"extra\" VARCHAR(65535)"]);
        assert_eq!(
            lines[17..],
            [
                "\"table\" BIGINT",
                "\"ratio\" DOUBLE PRECISION",
                "\"price\" DECIMAL(18, 6)",
                "\"note\" VARCHAR(65535)",
                "\"day\" DATE",
                "\"at\" TIMESTAMPTZ",
                "\"paid\" BOOLEAN",
                "\"more\" VARCHAR(65535)",
                "\"tags\" SUPER",
                ")",
                "SORTKEY (\"time\");"
            ]
        );
    }

    #[test]
    fn a_view_has_the_columns_of_its_table_and_says_which_are_lists() {
        let sql = views([&schema()].into_iter());
        assert!(sql.contains("-- Has lists (`tags`)"), "{sql}");
        let (_, of_view) = sql.split_once("SELECT\n").unwrap();
        assert_eq!(of_view.lines().filter(|line| line.starts_with("  \"")).count(), ENVELOPE.len() + 9);
        assert!(of_view.ends_with("FROM \"{external}\".\"order_paid\";\n"), "{sql}");
    }
}
