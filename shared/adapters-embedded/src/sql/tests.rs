use super::*;
use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const HOUR: i64 = 3_600_000_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("memberId", DataType::Int64, true),
        Field::new("price", DataType::Decimal128(9, 2), true),
        Field::new("day", DataType::Date32, true),
        Field::new("ms", DataType::List(Arc::new(Field::new("element", DataType::Int64, true))), true),
        Field::new("added_later", DataType::Utf8, true),
    ]))
}

/// A file with one row per hour from `hour` on; it knows nothing of `added_later`.
fn write(folder: &Path, hour: i64, rows: i64) -> LakeFile {
    let fields: Vec<_> = schema().fields().iter().take(6).cloned().collect();
    let schema = Arc::new(Schema::new(fields));
    let times: Vec<i64> = (hour..hour + rows).map(|h| h * HOUR).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((hour..hour + rows).map(|h| format!("e{h}")))),
        Arc::new(TimestampMicrosecondArray::from(times.clone()).with_timezone("UTC")),
        Arc::new(Int64Array::from_iter((hour..hour + rows).map(|h| (h % 2 == 0).then_some(h)))),
        Arc::new(
            Decimal128Array::from_iter_values((hour..hour + rows).map(|h| i128::from(-h)))
                .with_precision_and_scale(9, 2)
                .unwrap(),
        ),
        Arc::new(Date32Array::from_iter_values((0..rows).map(|_| 0))),
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>((0..rows).map(|r| Some(vec![Some(r), None])))),
    ];
    let columns = columns
        .into_iter()
        .zip(schema.fields())
        .map(|(c, f)| arrow::compute::cast(&c, f.data_type()).unwrap())
        .collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let path = folder.join(format!("dt=x y%{hour}.parquet"));
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let size_bytes = std::fs::metadata(&path).unwrap().len();
    LakeFile { path, size_bytes, rows: rows as u64, min_time_us: times[0], max_time_us: times[times.len() - 1] }
}

struct Fixed(Vec<LakeFile>);

#[async_trait]
impl Lake for Fixed {
    async fn tables(&self) -> Result<Vec<LakeTable>, PortError> {
        Ok(["shop", "empty"].map(|name| LakeTable { name: name.into(), schema: schema() }).to_vec())
    }

    async fn files(&self, table: &str) -> Result<Vec<LakeFile>, PortError> {
        Ok(if table == "shop" { self.0.clone() } else { Vec::new() })
    }
}

const LIMITS: SqlLimits = SqlLimits { max_rows: 100, timeout: Duration::from_secs(60), max_memory_bytes: 64 << 20 };

struct Shop {
    _folder: tempfile::TempDir,
    sql: EmbeddedSql,
}

fn shop() -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let files = vec![write(folder.path(), 0, 10), write(folder.path(), 100, 10), write(folder.path(), 200, 1)];
    let sql = EmbeddedSql::new(Arc::new(Fixed(files)), EmbeddedSqlConfig { threads: 2 });
    Shop { _folder: folder, sql }
}

async fn ask(shop: &Shop, statement: &str) -> SqlResult {
    shop.sql.query(statement, &[], LIMITS).await.unwrap_or_else(|e| panic!("{statement}: {e}"))
}

async fn refused(shop: &Shop, statement: &str) -> PortError {
    shop.sql.query(statement, &[], LIMITS).await.map(|r| format!("{r:?}")).expect_err(statement)
}

#[tokio::test]
async fn rows_come_back_in_the_words_of_the_port() {
    let shop = shop();
    let result =
        ask(&shop, "SELECT id, time, memberId, price, day, ms, added_later FROM shop ORDER BY time LIMIT 2").await;
    assert_eq!(
        result.rows,
        [
            vec![
                json!("e0"),
                json!("1970-01-01T00:00:00.000Z"),
                json!(0),
                json!("0.00"),
                json!("1970-01-01"),
                json!([0, null]),
                json!(null)
            ],
            vec![
                json!("e1"),
                json!("1970-01-01T01:00:00.000Z"),
                json!(null),
                json!("-0.01"),
                json!("1970-01-01"),
                json!([1, null]),
                json!(null)
            ],
        ]
    );
    let types: Vec<&str> = result.columns.iter().map(|c| c.data_type.as_str()).collect();
    assert_eq!(types, ["varchar", "timestamp", "bigint", "decimal(9,2)", "date", "array", "varchar"]);
}

#[tokio::test]
async fn files_outside_the_asked_time_are_not_opened() {
    let shop = shop();
    for (filter, files, rows) in [
        ("", 3, 21),
        ("WHERE time >= TIMESTAMP '1970-01-05T00:00:00Z'", 2, 11),
        ("WHERE time >= '1970-01-05T00:00:00Z' AND time < '1970-01-06T00:00:00Z'", 1, 10),
        ("WHERE time > '1990-01-01T00:00:00Z'", 0, 0),
    ] {
        let result = ask(&shop, &format!("SELECT count(*) FROM shop {filter}")).await;
        assert_eq!((result.files_read, &result.rows[0][0]), (Some(files), &json!(rows)), "{filter}");
    }
}

#[tokio::test]
async fn a_table_without_files_is_empty_and_an_unknown_one_is_named() {
    let shop = shop();
    assert_eq!(ask(&shop, "SELECT count(*), max(price) FROM empty").await.rows, [[json!(0), json!(null)]]);
    assert!(ask(&shop, "SELECT id FROM empty").await.rows.is_empty());
    let error = refused(&shop, "SELECT * FROM shoop").await;
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.detail.contains("shoop"), "{error}");
    let tables = ask(&shop, "SHOW TABLES").await;
    assert!(tables.rows.iter().any(|r| r.contains(&json!("shop"))), "{tables:?}");
    assert!(!ask(&shop, "DESCRIBE shop").await.rows.is_empty());
}

#[tokio::test]
async fn whatever_is_not_one_select_is_refused() {
    let shop = shop();
    for statement in [
        "DROP TABLE shop",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "INSERT INTO shop SELECT * FROM shop",
        "DELETE FROM shop",
        "COPY shop TO '/tmp/x.csv'",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; SELECT 2",
        "EXPLAIN INSERT INTO shop SELECT * FROM shop",
        "PREPARE x AS SELECT 1",
        "BEGIN",
        "",
    ] {
        assert_eq!(refused(&shop, statement).await.kind, ErrorKind::Denied, "{statement}");
    }
    for statement in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT",
        "SELECT nothing FROM shop",
        "SELEC 1",
        "SELECT 1/0",
    ] {
        assert_eq!(refused(&shop, statement).await.kind, ErrorKind::Invalid, "{statement}");
    }
}

#[tokio::test]
async fn parameters_are_bound_and_never_spliced() {
    let shop = shop();
    let one = |text: &str| vec![json!(text)];
    let sql = "SELECT count(*) FROM shop WHERE id = $1";
    assert_eq!(shop.sql.query(sql, &one("e3"), LIMITS).await.unwrap().rows, [[json!(1)]]);
    assert_eq!(shop.sql.query(sql, &one("e3' OR '1'='1"), LIMITS).await.unwrap().rows, [[json!(0)]]);
    assert_eq!(
        shop.sql.query("SELECT count(*) FROM shop WHERE memberId >= $1", &[json!(100)], LIMITS).await.unwrap().rows,
        [[json!(6)]]
    );
    assert_eq!(shop.sql.query(sql, &[json!({})], LIMITS).await.unwrap_err().kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn rows_time_and_memory_are_bounded() {
    let shop = shop();
    let few = SqlLimits { max_rows: 5, ..LIMITS };
    let result = shop.sql.query("SELECT id FROM shop", &[], few).await.unwrap();
    assert_eq!((result.rows.len(), result.truncated), (5, true));
    assert!(!shop.sql.query("SELECT id FROM shop LIMIT 5", &[], few).await.unwrap().truncated);
    let endless =
        "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b, generate_series(1, 100000) c";
    let short = SqlLimits { timeout: Duration::from_millis(200), ..LIMITS };
    assert_eq!(shop.sql.query(endless, &[], short).await.unwrap_err().kind, ErrorKind::Timeout);
    let small = SqlLimits { max_memory_bytes: 100_000, ..LIMITS };
    let large = "SELECT value, count(*) FROM generate_series(1, 1000000) GROUP BY value ORDER BY 2";
    assert_eq!(shop.sql.query(large, &[], small).await.unwrap_err().kind, ErrorKind::TooLarge);
    assert_eq!(ask(&shop, "SELECT count(*) FROM shop").await.rows, [[json!(21)]], "the engine lives on");
}

#[tokio::test]
async fn a_recorded_file_that_is_gone_is_an_error_and_not_missing_rows() {
    let shop = shop();
    for entry in std::fs::read_dir(shop._folder.path()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let error = refused(&shop, "SELECT count(*) FROM shop").await;
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(!error.detail.contains(".parquet"), "{error}");
}
