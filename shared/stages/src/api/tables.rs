//! `GET /v1/tables`: the tables of the lake with their columns, by the schemas, and in figures where there are tables.

use super::{Api, Call, Reply, failed};
use crate::http::Response;
use serde_json::{Value, json};
use sluice_domain::schema::{ColumnKind, ENVELOPE, EnvelopeKind, Schema};
use sluice_domain::time::Timestamp;

impl Api {
    pub(super) async fn tables(&self, call: Call<'_>) -> Reply {
        self.allow_reading(call).await?;
        let mut tables: Vec<Value> = self.ports.registry.iter().map(table).collect();
        if let Some(catalog) = &self.ports.catalog {
            let figures = catalog.figures().await.map_err(|e| failed("the tables could not be read", &e))?;
            for table in &mut tables {
                let of = figures.iter().find(|figures| table["name"] == figures.name.as_str());
                table["rows"] = json!(of.map_or(0, |of| of.rows));
                table["bytes"] = json!(of.map_or(0, |of| of.size_bytes));
                table["files"] = json!(of.map_or(0, |of| of.files));
                table["snapshots"] = json!(of.map_or(0, |of| of.snapshots));
                let changed = of.and_then(|of| Timestamp::from_micros(of.changed_ms.saturating_mul(1_000)));
                table["last_commit"] = json!(changed.map(|at| at.to_string()));
            }
        }
        Ok(Response::json(200, &json!({"tables": tables})))
    }
}

fn table(schema: &Schema) -> Value {
    let envelope = ENVELOPE.iter().map(|column| json!({"name": column.name, "type": envelope_type(column.kind)}));
    let data = schema.columns.iter().map(|column| json!({"name": column.name, "type": sql_type(&column.kind)}));
    let columns: Vec<Value> = envelope.chain(data).collect();
    json!({"name": schema.table, "columns": columns})
}

fn envelope_type(kind: EnvelopeKind) -> &'static str {
    match kind {
        EnvelopeKind::Text | EnvelopeKind::Word | EnvelopeKind::Json => "varchar",
        EnvelopeKind::Timestamp => "timestamp",
        EnvelopeKind::Integer => "bigint",
    }
}

/// The words of a query's own answer ([`sluice_ports::SqlColumn`]).
fn sql_type(kind: &ColumnKind) -> String {
    match kind {
        ColumnKind::Integer => "bigint".into(),
        ColumnKind::Number => "double".into(),
        ColumnKind::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        ColumnKind::Text | ColumnKind::Json => "varchar".into(),
        ColumnKind::Timestamp => "timestamp".into(),
        ColumnKind::Date => "date".into(),
        ColumnKind::Boolean => "boolean".into(),
        ColumnKind::List(_) => "array".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_the_envelope_and_the_fields_of_its_schema() {
        let schema = Schema::parse("f", include_str!("../../../../schemas/game.result.json")).unwrap();
        let table = table(&schema);
        assert_eq!(table["name"], "game_result");
        let columns = table["columns"].as_array().unwrap();
        assert_eq!(columns.len(), ENVELOPE.len() + schema.columns.len());
        for column in [
            json!({"name": "time", "type": "timestamp"}),
            json!({"name": "hops", "type": "bigint"}),
            json!({"name": "clicked_count", "type": "bigint"}),
            json!({"name": "success_rate", "type": "double"}),
            json!({"name": "reaction_ms", "type": "array"}),
            json!({"name": "nickname", "type": "varchar"}),
        ] {
            assert!(columns.contains(&column), "{column}");
        }
        assert_eq!(sql_type(&ColumnKind::Decimal { precision: 20, scale: 4 }), "decimal(20,4)");
    }
}
