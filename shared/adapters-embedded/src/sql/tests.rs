use super::*;
use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

const DAY_US: i64 = 86_400_000_000;
/// 2026-11-01.
const START_US: i64 = 1_793_491_200_000_000;

#[derive(Default)]
struct Recorded {
    tables: Vec<LakeTable>,
    files: HashMap<String, Vec<LakeFile>>,
}

#[async_trait]
impl Lake for Recorded {
    async fn tables(&self) -> Result<Vec<LakeTable>, PortError> {
        Ok(self.tables.clone())
    }

    async fn files(&self, table: &str, at_us: Option<i64>) -> Result<Vec<LakeFile>, PortError> {
        if at_us.is_some_and(|at| at < 0) {
            return Ok(Vec::new());
        }
        if table == "broken" {
            return Err(PortError::new(ErrorKind::Unavailable, "lake.files", "the record cannot be read"));
        }
        Ok(self.files.get(table).cloned().unwrap_or_default())
    }
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("time", time_type(), false),
        Field::new("id", DataType::Int64, true),
        Field::new("memberId", DataType::Utf8, true),
        Field::new("price", DataType::Decimal128(18, 4), true),
    ]))
}

/// `rows` rows a minute apart from `day` on; without the column `price` if the file is old.
fn write(path: &Path, day: i64, rows: i64, old: bool) -> LakeFile {
    let times: Vec<i64> = (0..rows).map(|n| START_US + day * DAY_US + n * 60_000_000).collect();
    let ids: Vec<i64> = (0..rows).map(|n| day * 1_000 + n).collect();
    let (min_time_us, max_time_us) = (times[0], times[times.len() - 1]);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(Int64Array::from(ids.clone())),
        Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("m{}", id % 3)))),
    ];
    let mut fields = schema().fields().to_vec();
    if old {
        fields.pop();
    } else {
        let prices = ids.iter().map(|id| i128::from(*id) * 10_000 + 5_000);
        columns.push(Arc::new(Decimal128Array::from_iter_values(prices).with_precision_and_scale(18, 4).unwrap()));
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let size_bytes = std::fs::metadata(path).unwrap().len();
    LakeFile { path: path.to_owned(), size_bytes, rows: rows as u64, min_time_us, max_time_us }
}

struct Engine {
    sql: EmbeddedSql,
    _dir: tempfile::TempDir,
}

/// Table `trade` with a file a day for three days (the first one old) and `empty` without files.
fn engine() -> Engine {
    let dir = tempfile::tempdir().unwrap();
    // A name that a URL would write in another way.
    let folder = dir.path().join("lake dt=ä%20+1");
    std::fs::create_dir(&folder).unwrap();
    let files = (0..3).map(|day| write(&folder.join(format!("{day}.parquet")), day, 10, day == 0)).collect();
    let table = |name: &str| LakeTable { name: name.to_owned(), schema: schema() };
    let lake = Recorded {
        tables: vec![table("trade"), table("empty"), table("broken"), table("gone")],
        files: HashMap::from([
            ("trade".to_owned(), files),
            (
                "gone".to_owned(),
                vec![LakeFile {
                    path: folder.join("no.parquet"),
                    size_bytes: 10,
                    rows: 1,
                    min_time_us: 0,
                    max_time_us: 0,
                }],
            ),
        ]),
    };
    Engine { sql: EmbeddedSql::new(Arc::new(lake), EmbeddedSqlConfig::default()), _dir: dir }
}

const LIMITS: SqlLimits =
    SqlLimits { max_rows: 1_000, timeout: Duration::from_secs(60), max_memory_bytes: 100_000_000 };

impl Engine {
    async fn ask(&self, statement: &str) -> SqlResult {
        self.sql.query(statement, &[], LIMITS).await.unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    async fn rows(&self, statement: &str) -> Value {
        json!(self.ask(statement).await.rows)
    }

    async fn fault(&self, statement: &str) -> PortError {
        self.sql.query(statement, &[], LIMITS).await.map(|_| ()).unwrap_err()
    }
}

#[tokio::test]
async fn it_keeps_the_contract_of_its_port() {
    sluice_testkit::contract::sql::all(&engine().sql).await;
}

#[tokio::test]
async fn a_select_reads_what_is_on_record() {
    let engine = engine();
    let result = engine.ask("SELECT id, time, price, memberId FROM trade WHERE id IN (1, 2001) ORDER BY id").await;
    assert_eq!(
        json!(result.rows),
        json!([[1, "2026-11-01T00:01:00.000Z", null, "m1"], [2001, "2026-11-03T00:01:00.000Z", "2001.5000", "m0"],]),
        "an older file lacks the price"
    );
    let types: Vec<&str> = result.columns.iter().map(|column| column.data_type.as_str()).collect();
    assert_eq!(types, ["bigint", "timestamp", "decimal(18,4)", "varchar"]);
    assert_eq!(
        engine.rows("SELECT memberId, count(*) AS n, sum(price) FROM trade GROUP BY memberId ORDER BY 1").await,
        json!([["m0", 10, "9030.0000"], ["m1", 10, "10036.5000"], ["m2", 10, "11033.5000"]])
    );
    assert_eq!(engine.rows("SELECT count(*) FROM trade WHERE price IS NULL").await, json!([[10]]));
    assert_eq!(
        engine.rows("SELECT date_trunc('day', time) AS d, max(id) FROM trade GROUP BY d ORDER BY d LIMIT 1").await,
        json!([["2026-11-01T00:00:00.000Z", 9]])
    );
}

#[tokio::test]
async fn files_of_other_times_are_not_opened() {
    let engine = engine();
    for (condition, rows, files) in [
        ("true", 30, 3),
        ("time >= '2026-11-02'", 20, 2),
        ("time >= '2026-11-02' AND time < '2026-11-03T00:00:00Z'", 10, 1),
        ("time < TIMESTAMP '2026-11-01 00:05:00Z'", 5, 1),
        ("time BETWEEN '2026-11-03' AND '2026-11-04' AND id > 2005", 4, 1),
        ("time > '2027-01-01'", 0, 0),
        ("date_trunc('day', time) = '2026-11-02'", 10, 1),
    ] {
        let result = engine.ask(&format!("SELECT id FROM trade WHERE {condition}")).await;
        assert_eq!(result.rows.len(), rows, "{condition}");
        assert!(
            result.files_read <= Some(files.max(if condition.contains("trunc") { 3 } else { 0 })),
            "{condition}: {result:?}"
        );
        if !condition.contains("trunc") {
            assert_eq!(result.files_read, Some(files), "{condition}");
        }
    }
    let parameters = [json!("2026-11-03T00:00:00Z"), json!(2_007)];
    let result =
        engine.sql.query("SELECT id FROM trade WHERE time >= $1 AND id > $2", &parameters, LIMITS).await.unwrap();
    assert_eq!((json!(result.rows), result.files_read), (json!([[2_008], [2_009]]), Some(1)));
}

#[tokio::test]
async fn a_table_is_read_as_it_stood_at_a_moment() {
    let engine = engine();
    for (moment, rows) in [("2026-11-21T10:00:00Z", 30), ("1969-12-31T23:00:00Z", 0), ("1970-01-01T08:00:00+09:00", 0)]
    {
        let counted = engine.rows(&format!("SELECT count(*) FROM table_at('trade', '{moment}')")).await;
        assert_eq!(counted, json!([[rows]]), "{moment}");
    }
    let both = "SELECT count(*) FROM trade JOIN table_at('trade', '2026-11-21T10:00:00Z') old ON trade.id = old.id";
    assert_eq!(engine.rows(both).await, json!([[30]]));
    for (arguments, says) in [
        ("'nothing', '2026-11-21T10:00:00Z'", "`nothing` does not exist"),
        ("'trade', 'yesterday'", "`yesterday` is no moment"),
        ("'trade'", "takes the name of a table and a moment"),
        ("'trade', 7", "takes two texts"),
    ] {
        let fault = engine.fault(&format!("SELECT * FROM table_at({arguments})")).await;
        assert_eq!(fault.kind, ErrorKind::Invalid);
        assert!(fault.detail.contains(says), "{arguments}: {fault}");
    }
}

#[tokio::test]
async fn names_may_be_written_in_any_case() {
    let engine = engine();
    for statement in [
        "SELECT max(memberId) FROM trade",
        "select MAX(MEMBERID) from TRADE",
        "SELECT max(t.memberid) FROM Trade AS T",
        "SELECT max(\"memberId\") FROM \"trade\"",
        "WITH x AS (SELECT memberid AS M FROM trade) SELECT max(m) FROM X",
    ] {
        assert_eq!(engine.rows(statement).await, json!([["m2"]]), "{statement}");
    }
}

#[tokio::test]
async fn tables_and_columns_can_be_listed() {
    let engine = engine();
    let tables = engine.rows("SHOW TABLES").await.to_string();
    assert!(tables.contains(r#"["sluice","lake","trade","BASE TABLE"]"#), "{tables}");
    let columns = engine.rows("SHOW COLUMNS FROM trade").await.to_string();
    assert!(columns.contains("memberId"), "{columns}");
    assert!(engine.rows("DESCRIBE trade").await.to_string().contains("memberId"));
    assert!(
        engine
            .rows("EXPLAIN SELECT * FROM trade WHERE time > '2026-11-03'")
            .await
            .to_string()
            .contains("DataSourceExec")
    );
    assert_eq!(
        engine.rows("SELECT count(*) FROM information_schema.columns WHERE table_name = 'empty'").await,
        json!([[4]])
    );
}

#[tokio::test]
async fn a_table_without_files_is_empty() {
    let engine = engine();
    let result = engine.ask("SELECT id, memberId FROM empty WHERE time > now()").await;
    assert_eq!((result.rows.len(), result.columns.len(), result.files_read), (0, 2, Some(0)));
    assert_eq!(engine.rows("SELECT count(*) FROM empty").await, json!([[0]]));
    assert_eq!(engine.rows("SELECT count(*) FROM trade t LEFT JOIN empty e ON t.id = e.id").await, json!([[30]]));
}

#[tokio::test]
async fn mistakes_are_said_clearly() {
    let engine = engine();
    for (statement, detail) in [
        ("SELECT * FROM tarde", "table `tarde` does not exist; there are `broken`, `empty`, `gone`, `trade`"),
        ("SELECT * FROM 'x.parquet'", "table `x.parquet` does not exist; there are `broken`, `empty`, `gone`, `trade`"),
        ("SELECT nope FROM trade", "No field named nope."),
        ("SELECT 1 / 0", "Divide by zero error"),
        ("SELECT read_parquet('x')", "Invalid function 'read_parquet'."),
        ("SELECT named_struct('a', 1)", "Invalid function 'named_struct'."),
    ] {
        let error = engine.fault(statement).await;
        assert_eq!(error.kind, ErrorKind::Invalid, "{statement}");
        assert!(error.detail.starts_with(detail), "{statement}: {}", error.detail);
    }
    for statement in [
        "SELECT generate_series(1, 100000000000)",
        "SELECT * FROM read_parquet('x')",
        "SELECT * FROM other.schema.t",
        "SELECT CAST('x' AS bigint)",
    ] {
        assert_eq!(engine.fault(statement).await.kind, ErrorKind::Invalid, "{statement}");
    }
    let error = engine.fault("SELECT * FROM broken").await;
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Unavailable, "the record cannot be read"));
    let error = engine.fault("SELECT * FROM gone").await;
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Unavailable, "a data file cannot be opened"));
}

#[tokio::test]
async fn a_query_is_stopped_when_its_time_is_over() {
    let engine = engine();
    let limits = SqlLimits { timeout: Duration::from_millis(300), ..LIMITS };
    let pairs = "FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    for statement in [
        format!("SELECT count(*) {pairs} WHERE a.value + b.value = 7"),
        format!("SELECT count(*), sum(a.value) {pairs}"),
        format!("SELECT count(*) {pairs} WHERE a.value % 2 = b.value % 2"),
        "SELECT max(value) FROM generate_series(1, 1000000000000)".to_owned(),
    ] {
        for _ in 0..2 {
            let error = engine.sql.query(&statement, &[], limits).await.map(|_| ()).unwrap_err();
            assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Timeout, "the query was stopped after 300 ms"));
        }
        assert_eq!(engine.rows("SELECT 1").await, json!([[1]]), "the next one runs after {statement}");
    }
}

#[tokio::test]
async fn a_query_may_not_use_more_memory_than_allowed() {
    let engine = engine();
    let limits = SqlLimits { max_memory_bytes: 2_000_000, ..LIMITS };
    for statement in [
        "SELECT count(*) FROM (SELECT DISTINCT value, value || 'some longer text' FROM generate_series(1, 1000000))",
        "SELECT value FROM generate_series(1, 2000000) ORDER BY value % 1000, value",
        "SELECT repeat('x', 3000000)",
        "SELECT repeat('x', 3000000000)",
        "SELECT lpad('x', 300000000)",
        "SELECT repeat(CAST(value AS varchar), 1000000) FROM generate_series(1, 100)",
        "SELECT concat_ws(repeat('-', 200), CAST(value AS varchar), 'a', 'b') FROM generate_series(1, 8000)",
        "SELECT replace(repeat('a', 200), 'a', repeat('b', 200)) FROM generate_series(1, 10)",
        "SELECT regexp_replace(memberId, '', repeat('b', 200), 'g'), repeat(memberId, id) FROM trade, generate_series(1, 8000)",
        "SELECT array_to_string([value, value, value, value], repeat('-', 200)) FROM generate_series(1, 8000)",
        "SELECT string_to_array(repeat(CAST(value AS varchar), 200), '') FROM generate_series(1, 8000)",
    ] {
        let error = engine.sql.query(statement, &[], limits).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge, "{statement}: {error}");
    }
    let constant = "x".repeat(1_000);
    for statement in [format!("SELECT '{constant}' FROM generate_series(1, 10000)"), "SELECT $1".to_owned()] {
        let error = engine.sql.query(&statement, &[json!(constant)], limits).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge, "a constant stands in every row of a batch");
    }
}

/// Rows of `seed`, then so many queries that each take `doubled` of the `s` of the one before.
fn chained(seed: &str, doubled: &str, queries: usize) -> String {
    let mut text = format!("WITH t0 AS (SELECT {seed} AS s FROM generate_series(1, 1000))");
    for n in 0..queries {
        text += &format!(", t{} AS (SELECT {doubled} AS s FROM t{n})", n + 1);
    }
    text + &format!(" SELECT s FROM t{queries}")
}

#[tokio::test]
async fn text_that_is_doubled_again_and_again_meets_the_bound() {
    let engine = engine();
    let limits = SqlLimits { max_memory_bytes: 50_000_000, ..LIMITS };
    for (seed, doubled) in [
        ("CAST(value AS varchar)", "s || s"),
        ("CAST(value AS varchar)", "concat(s, s)"),
        ("CAST(value AS varchar)", "overlay(s placing s from 1 for 0)"),
        ("CAST(value AS varchar)", "replace(s, '1', '11')"),
        ("[value]", "s || s"),
        ("[value]", "array_concat(s, s)"),
        ("[value]", "[s, s]"),
        ("'x'", "s || s"),
    ] {
        let statement = chained(seed, doubled, 34);
        let error = engine.sql.query(&statement, &[], limits).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge, "{doubled} of {seed}: {error}");
    }
}

#[tokio::test]
async fn what_functions_made_counts_while_it_is_there() {
    let engine = engine();
    let limits = SqlLimits { max_memory_bytes: 20_000_000, ..LIMITS };
    let text = |n: usize| format!("repeat(CAST(value AS varchar), {})", 1_000 + n);
    let texts = |count| (0..count).map(text).collect::<Vec<_>>().join(", ");
    let ask = |count| format!("SELECT max(length(greatest({}))) FROM generate_series(1, 2000)", texts(count));
    assert_eq!(json!(engine.sql.query(&ask(1), &[], limits).await.unwrap().rows), json!([[4_000]]));
    let error = engine.sql.query(&ask(5), &[], limits).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge, "five texts of 7 MB each: {error}");
    let batches = "SELECT sum(length(repeat(CAST(value AS varchar), 100))) FROM generate_series(1, 100000)";
    assert_eq!(
        json!(engine.sql.query(batches, &[], limits).await.unwrap().rows),
        json!([[48_889_500]]),
        "what is gone does not count"
    );
}

#[tokio::test]
async fn texts_are_joined_as_before() {
    let engine = engine();
    let result = engine
        .ask("SELECT memberId || '-' || id, 'n' || 5, NULL || 'a', [1] || [2], [1] || 2 FROM trade WHERE id = 1")
        .await;
    assert_eq!(json!(result.rows), json!([["m1-1", "n5", null, [1, 2], [1, 2]]]));
    assert_eq!(result.columns[0].name, "trade.memberId || Utf8(\"-\") || trade.id");
    assert_eq!(result.columns[0].data_type, "varchar");
    assert_eq!(
        engine
            .rows(
                "SELECT max(s || 'x'), count(*) FROM (SELECT memberId || 'y' AS s FROM trade) WHERE s || 'z' = 'm2yz'"
            )
            .await,
        json!([["m2yx", 10]])
    );
    assert_eq!(engine.rows("SELECT id FROM trade WHERE (SELECT 'm' || '1') = memberId AND id < 2").await, json!([[1]]));
    assert_eq!(engine.fault("SELECT 1 || 2").await.kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn rows_beyond_the_limit_are_left_out_and_said_so() {
    let engine = engine();
    let limits = |max_rows| SqlLimits { max_rows, ..LIMITS };
    let all = engine.sql.query("SELECT id FROM trade", &[], limits(30)).await.unwrap();
    assert_eq!((all.rows.len(), all.truncated), (30, false), "{:?}", all.rows);
    let some = engine.sql.query("SELECT id FROM trade", &[], limits(29)).await.unwrap();
    assert_eq!((some.rows.len(), some.truncated), (29, true));
    let many = engine.sql.query("SELECT value FROM generate_series(1, 1000000000)", &[], limits(5)).await.unwrap();
    assert_eq!((many.rows.len(), many.truncated), (5, true));
}

#[tokio::test]
async fn texts_are_still_padded_and_repeated() {
    let engine = engine();
    assert_eq!(
        engine.rows("SELECT lpad(CAST(value AS varchar), 2, '0'), rpad('a', 3, '.'), repeat('ab', 2) FROM generate_series(9, 10)").await,
        json!([["09", "a..", "abab"], ["10", "a..", "abab"]])
    );
}

#[tokio::test]
async fn a_statement_of_many_operators_does_not_overflow_the_stack() {
    let engine = engine();
    let sum = format!("SELECT 1{}", " + 1".repeat(499));
    assert_eq!(engine.rows(&sum).await, json!([[500]]));
    let columns = format!("SELECT count(*) FROM trade WHERE id = 0{}", " OR id = 1".repeat(240));
    assert_eq!(engine.rows(&columns).await, json!([[2]]));
}
