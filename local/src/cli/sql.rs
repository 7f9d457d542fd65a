//! `sluice sql`: asks the lake.

use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::{Out, clean, counted, note, table};
use crate::client::Client;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::io::Read as _;

/// Ask the lake with one SELECT.
///
/// Each event type is a table, its name with `_` for `.`; types without a schema are in the table `event`. Ends with exit code 1 where
/// the statement is refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice sql 'SHOW TABLES'
  sluice sql 'SELECT status, count(*) AS requests FROM http_access GROUP BY status ORDER BY 2 DESC'
  sluice sql --format csv 'SELECT * FROM quote_trade' > quotes.csv
  sluice sql - < report.sql")]
pub struct Sql {
    /// Statement, or `-` to read it from standard input
    #[arg(value_name = "SELECT")]
    statement: String,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Most rows
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_rows: u32,
    /// The same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Forms of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Columns for people
    Table,
    /// RFC 4180 with a heading; no value is an empty field, empty text is `""`
    Csv,
    /// One array of objects
    Json,
    /// One object per line
    Ndjson,
}

/// Values stay the text that the server sent, so that no digit is lost.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Box<RawValue>>>,
    #[serde(default)]
    pub(super) truncated: bool,
    files_read: Option<u64>,
    elapsed_ms: Option<u64>,
    /// Of a report's.
    pub(super) made_at: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Column {
    name: String,
    #[serde(rename = "type", default)]
    data_type: String,
}

impl Sql {
    /// Asks and shows.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let statement = match self.statement.as_str() {
            "-" => {
                let mut text = String::new();
                std::io::stdin()
                    .read_to_string(&mut text)
                    .map_err(|e| Failure::new(Exit::Failed, format!("cannot read the statement: {e}")))?;
                text
            }
            text => text.to_owned(),
        };
        let format = if self.json { Format::Json } else { self.format };
        let body = json!({"sql": statement, "max_rows": self.max_rows});
        let answer: Answer = client.post("/v1/sql", &[], &body).await?;
        show(&answer, format, out)?;
        out.flush()?;
        let rows = counted(answer.rows.len() as u64, "row");
        if answer.truncated {
            note(format!("only the first {rows}: there are more, see --max-rows"));
        } else if format == Format::Table {
            let files = answer.files_read.map(|n| format!(", {} read", counted(n, "file"))).unwrap_or_default();
            let elapsed = answer.elapsed_ms.map(|ms| format!(", {ms} ms")).unwrap_or_default();
            note(format!("{rows}{files}{elapsed}"));
        }
        Ok(())
    }
}

/// Writes an answer in a form.
pub(super) fn show(answer: &Answer, format: Format, out: &mut Out) -> Result<(), Failure> {
    match format {
        Format::Table => {
            let headings: Vec<&str> = answer.columns.iter().map(|c| c.name.as_str()).collect();
            let right: Vec<usize> =
                (0..headings.len()).filter(|at| is_number(&answer.columns[*at].data_type)).collect();
            let rows = answer.rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect());
            if headings.is_empty() { Ok(()) } else { out.line(table(&headings, &right, rows)) }
        }
        Format::Csv => out.bytes(&csv(answer)?),
        Format::Json => {
            out.line("[")?;
            for (at, row) in answer.rows.iter().enumerate() {
                let comma = if at + 1 < answer.rows.len() { "," } else { "" };
                out.line(format!("{}{comma}", object(answer, row)))?;
            }
            out.line("]")
        }
        Format::Ndjson => answer.rows.iter().try_for_each(|row| out.line(object(answer, row))),
    }
}

/// The row as one JSON object. A name that stands twice gets a number, since a JSON object has each name once.
fn object(answer: &Answer, row: &[Box<RawValue>]) -> String {
    let mut text = String::from("{");
    for (at, (column, cell)) in answer.columns.iter().zip(row).enumerate() {
        let before = answer.columns[..at].iter().filter(|c| c.name == column.name).count();
        let name = if before == 0 { column.name.clone() } else { format!("{}_{}", column.name, before + 1) };
        if at > 0 {
            text.push(',');
        }
        text.push_str(&Value::String(name).to_string());
        text.push(':');
        text.push_str(cell.get());
    }
    text.push('}');
    text
}

fn csv(answer: &Answer) -> Result<Vec<u8>, Failure> {
    let broken = |e: csv::Error| Failure::new(Exit::Failed, format!("cannot write CSV: {e}"));
    let mut heading = csv::Writer::from_writer(Vec::new());
    heading.write_record(answer.columns.iter().map(|c| c.name.as_str())).map_err(broken)?;
    let mut bytes = heading.into_inner().map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
    for row in &answer.rows {
        for (at, cell) in row.iter().enumerate() {
            if at > 0 {
                bytes.push(b',');
            }
            match cell.get() {
                "null" => {}
                _ => field(&mut bytes, &plain(cell)),
            }
        }
        // A row of one column without a value would be an empty line, which readers skip.
        if row.len() == 1 && row[0].get() == "null" {
            bytes.extend_from_slice(b"\"\"");
        }
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn field(bytes: &mut Vec<u8>, text: &str) {
    if !text.is_empty() && !text.contains([',', '"', '\n', '\r']) && text.trim() == text {
        bytes.extend_from_slice(text.as_bytes());
        return;
    }
    bytes.push(b'"');
    bytes.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    bytes.push(b'"');
}

/// A value as plain text; none for null.
fn plain(cell: &RawValue) -> String {
    match cell.get() {
        "null" => String::new(),
        text if text.starts_with('"') => serde_json::from_str(text).unwrap_or_else(|_| clean(text).into_owned()),
        text => text.to_owned(),
    }
}

fn is_number(data_type: &str) -> bool {
    let name = data_type.split('(').next().unwrap_or_default().to_ascii_lowercase();
    matches!(
        name.as_str(),
        "bigint" | "integer" | "int" | "smallint" | "tinyint" | "double" | "real" | "float" | "decimal" | "hugeint"
    ) || ["int", "uint", "float", "decimal"]
        .iter()
        .any(|start| name.starts_with(start) && !name.starts_with("interval"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        serde_json::from_str(
            r#"{"columns":[{"name":"n","type":"bigint"},{"name":"a,b","type":"varchar"},{"name":"n","type":"decimal(18,6)"}],
            "rows":[[9007199254740993,"x \"y\"\n",1.10],[null,"",null],[1,null,-0.5]],"truncated":false,"files_read":2}"#,
        )
        .unwrap()
    }

    #[test]
    fn csv_survives_every_value() {
        let text = String::from_utf8(csv(&answer()).unwrap()).unwrap();
        assert_eq!(text, "n,\"a,b\",n\n9007199254740993,\"x \"\"y\"\"\n\",1.10\n,\"\",\n1,,-0.5\n");
        let mut reader = ::csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.records().map(Result::unwrap).count(), 3);
    }

    #[test]
    fn csv_of_one_column_has_a_line_per_row() {
        let answer: Answer = serde_json::from_str(r#"{"columns":[{"name":"a"}],"rows":[[null],["b"]]}"#).unwrap();
        assert_eq!(String::from_utf8(csv(&answer).unwrap()).unwrap(), "a\n\"\"\nb\n");
    }

    #[test]
    fn json_keeps_digits_and_every_column() {
        let answer = answer();
        assert_eq!(object(&answer, &answer.rows[0]), r#"{"n":9007199254740993,"a,b":"x \"y\"\n","n_2":1.10}"#);
    }

    #[test]
    fn numbers_are_known_by_their_type() {
        for (name, expected) in
            [("bigint", true), ("decimal(18,6)", true), ("Int64", true), ("varchar", false), ("interval", false)]
        {
            assert_eq!(is_number(name), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn a_refused_statement_is_exit_code_1() {
        let fake = crate::client::tests::Fake::start(|_, _| {
            (400, vec![], r#"{"error":{"code":"sql","message":"only SELECT"}}"#.into())
        })
        .await;
        let sql = Sql { statement: "DROP".into(), format: Format::Csv, max_rows: 7, json: false };
        let failure = sql.run(&fake.client(), &mut Out::captured().0).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        let sent: Value = serde_json::from_slice(&fake.got()[0].body).unwrap();
        assert_eq!(sent, json!({"sql": "DROP", "max_rows": 7}));
    }
}
