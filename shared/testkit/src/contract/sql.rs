//! What every [`Sql`] must do without any table.

use super::assert_kind;
use serde_json::{Value, json};
use sluice_ports::{ErrorKind, Sql, SqlLimits, SqlResult};
use std::time::Duration;

/// Runs every check.
pub async fn all(sql: &dyn Sql) {
    a_select_answers_columns_and_rows(sql).await;
    parameters_are_bound_not_pasted(sql).await;
    rows_beyond_the_limit_are_left_out(sql).await;
    mistakes_are_invalid(sql).await;
    whatever_changes_or_reaches_out_is_denied(sql).await;
}

const LIMITS: SqlLimits =
    SqlLimits { max_rows: 100, timeout: Duration::from_secs(30), max_memory_bytes: 256 * 1_024 * 1_024 };

async fn query(sql: &dyn Sql, statement: &str, parameters: &[Value]) -> SqlResult {
    let outcome = sql.query(statement, parameters, LIMITS).await;
    outcome.unwrap_or_else(|error| panic!("`{statement}` failed: {error}"))
}

async fn a_select_answers_columns_and_rows(sql: &dyn Sql) {
    let result =
        query(sql, "SELECT 1 AS n, 'ä' AS t, true AS b, CAST(NULL AS varchar) AS nothing, 0.5e0 AS d", &[]).await;
    let names: Vec<&str> = result.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["n", "t", "b", "nothing", "d"]);
    let types: Vec<&str> = result.columns.iter().map(|column| column.data_type.as_str()).collect();
    assert!(matches!(types[0], "bigint" | "integer"), "{types:?}");
    assert_eq!(types[1..], ["varchar", "boolean", "varchar", "double"]);
    assert_eq!(result.rows, [vec![json!(1), json!("ä"), json!(true), json!(null), json!(0.5)]]);
    assert!(!result.truncated);
    let with = query(sql, "WITH t AS (SELECT 1 AS n) SELECT n FROM t WHERE n > 1", &[]).await;
    assert_eq!(with.rows, Vec::<Vec<Value>>::new(), "no rows");
    assert_eq!(with.columns.len(), 1, "but columns");
}

async fn parameters_are_bound_not_pasted(sql: &dyn Sql) {
    let evil = "' OR 1=1 --";
    let result = query(sql, "SELECT $1 AS t, $2 AS n WHERE $1 = $3", &[json!(evil), json!(7), json!(evil)]).await;
    assert_eq!(result.rows, [vec![json!(evil), json!(7)]]);
    assert_kind(sql.query("SELECT $2", &[json!(1)], LIMITS).await, ErrorKind::Invalid, "a parameter that is not given");
}

async fn rows_beyond_the_limit_are_left_out(sql: &dyn Sql) {
    let statement = "SELECT n FROM (VALUES (1), (2), (3)) AS t(n) ORDER BY n";
    for (max_rows, rows, truncated) in [(2, 2, true), (3, 3, false), (9, 3, false)] {
        let result = sql.query(statement, &[], SqlLimits { max_rows, ..LIMITS }).await.unwrap();
        assert_eq!((result.rows.len(), result.truncated), (rows, truncated), "at most {max_rows} of 3 rows");
    }
}

async fn mistakes_are_invalid(sql: &dyn Sql) {
    for statement in ["SELEC 1", "SELECT", "SELECT * FROM contract_no_such_table", "SELECT no_such_column", "SELECT (1"]
    {
        assert_kind(sql.query(statement, &[], LIMITS).await, ErrorKind::Invalid, statement);
    }
}

async fn whatever_changes_or_reaches_out_is_denied(sql: &dyn Sql) {
    for statement in [
        "CREATE TABLE t (n int)",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/contract.csv'",
        "DROP TABLE t",
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET n = 1",
        "DELETE FROM t",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; SELECT 2",
        "EXPLAIN DROP TABLE t",
    ] {
        assert_kind(sql.query(statement, &[], LIMITS).await, ErrorKind::Denied, statement);
    }
    let outcome = sql.query("SELECT * FROM '/etc/passwd'", &[], LIMITS).await;
    let kind = outcome.map(|_| ()).expect_err("a file is no table").kind;
    assert!(matches!(kind, ErrorKind::Denied | ErrorKind::Invalid), "a file is no table, but the answer was {kind:?}");
}
