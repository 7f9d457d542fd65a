//! A real Trino for tests, started by `scripts/trino.sh` on a free port: the engine behind Athena, on whatever Iceberg catalogs a test gives it.

use crate::{send_raw, skipped};
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Exit code of the script where something that the server needs is missing.
const LACKING: i32 = 3;
/// How long it may take to start on a loaded machine, the fetching included.
const PATIENCE: Duration = Duration::from_secs(600);
/// Lines of the server's log that an error repeats.
const TAIL: usize = 30;

/// A running server.
pub struct Trino {
    url: String,
    /// It ends with this, so with the test program too, however that ends.
    _until: ChildStdin,
}

impl Trino {
    /// The server that the tests of one program share, each with catalogs of its own names. `None` where this machine lacks what it needs,
    /// which is said; in CI that is an error.
    pub fn shared() -> anyhow::Result<Option<&'static Self>> {
        static SHARED: Mutex<Option<&'static Trino>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.is_none() {
            *shared = Self::start()?.map(|started| &*Box::leak(Box::new(started)));
        }
        Ok(*shared)
    }

    /// A server of one's own, which ends when it is dropped; otherwise as [`Self::shared`].
    pub fn start() -> anyhow::Result<Option<Self>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = tempfile::tempfile()?;
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/trino.sh"))
            .args(["run", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()?;
        let until = child.stdin.take().context("no standard input")?;
        let started = Self { url: format!("http://127.0.0.1:{port}"), _until: until };
        if let Some(lacking) = started.wait_until_up(&mut child, log)? {
            skipped(&lacking)?;
            return Ok(None);
        }
        Ok(Some(started))
    }

    /// Answers what the machine lacks, if anything.
    fn wait_until_up(&self, child: &mut Child, mut log: File) -> anyhow::Result<Option<String>> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = child.try_wait()? {
                let mut said = String::new();
                log.rewind()?;
                log.read_to_string(&mut said)?;
                if status.code() == Some(LACKING) {
                    return Ok(Some(said.trim().to_owned()));
                }
                let lines: Vec<&str> = said.lines().collect();
                bail!("Trino ended with {status}:\n{}", lines[lines.len().saturating_sub(TAIL)..].join("\n"));
            }
            let info = send_raw(&self.url, "GET", "/v1/info", &[], b"");
            if info.is_ok_and(|reply| reply.json()["starting"] == false) {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("Trino at {} does not answer", self.url)
    }

    /// Makes a catalog: its tables are `NAME.lake.TABLE`.
    pub fn add_catalog(&self, name: &str, properties: &[(&str, String)]) -> anyhow::Result<()> {
        let properties: Vec<String> = properties
            .iter()
            .map(|(property, value)| format!("\"{property}\" = '{}'", value.replace('\'', "''")))
            .collect();
        self.query(&format!("CREATE CATALOG {name} USING iceberg WITH ({})", properties.join(", "))).map(drop)
    }

    /// The rows of a statement: integers are numbers, decimals text in plain notation, times RFC 3339 text in UTC, lists arrays, as SQL of
    /// ours answers them. A statement that fails is an error with the server's own words.
    pub fn query(&self, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
        match self.ask(sql)? {
            // A server that has just started may not have found itself yet.
            Answer::Failed { name, .. } if name == "NO_NODES_AVAILABLE" => self.ask(sql)?,
            answer => answer,
        }
        .rows(sql)
    }

    /// By Trino's client protocol: the statement is posted, and each reply says where the next one is.
    fn ask(&self, sql: &str) -> anyhow::Result<Answer> {
        // Without the capability times come in milliseconds, whatever they are.
        let headers = [("x-trino-user", "test"), ("x-trino-client-capabilities", "PARAMETRIC_DATETIME")];
        let mut reply = send_raw(&self.url, "POST", "/v1/statement", &headers, sql.as_bytes())?;
        let (mut types, mut rows) = (Vec::new(), Vec::new());
        loop {
            anyhow::ensure!(reply.status == 200, "{sql}: {} {}", reply.status, String::from_utf8_lossy(&reply.body));
            let page = reply.json();
            if let Some(error) = page.get("error") {
                let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
                return Ok(Answer::Failed { name: text("errorName"), message: text("message") });
            }
            if let Some(columns) = page["columns"].as_array() {
                types = columns.iter().map(|c| c["type"].as_str().unwrap_or_default().to_owned()).collect();
            }
            for row in page["data"].as_array().into_iter().flatten().filter_map(Value::as_array) {
                rows.push(types.iter().zip(row).map(|(of, cell)| value(of, cell)).collect());
            }
            let Some(next) = page["nextUri"].as_str() else { return Ok(Answer::Rows(rows)) };
            let path = next.strip_prefix(&self.url).with_context(|| format!("{next} is elsewhere"))?;
            reply = send_raw(&self.url, "GET", path, &headers, b"")?;
        }
    }
}

enum Answer {
    Rows(Vec<Vec<Value>>),
    Failed { name: String, message: String },
}

impl Answer {
    fn rows(self, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Failed { name, message } => bail!("{sql}: {name}: {message}"),
        }
    }
}

/// `2026-11-21 10:00:00.500000 UTC` as `2026-11-21T10:00:00.500Z`; others as they are.
fn value(data_type: &str, cell: &Value) -> Value {
    let text = cell.as_str().filter(|_| data_type.starts_with("timestamp")).and_then(|text| text.strip_suffix(" UTC"));
    let Some(text) = text else { return cell.clone() };
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let micros = format!("{fraction:0<6}");
    let shown = micros.strip_suffix("000").unwrap_or(&micros);
    Value::String(format!("{}.{shown}Z", seconds.replacen(' ', "T", 1)))
}

/// The catalog of one machine, in its data folder.
pub fn sqlite_catalog(data: &Path) -> Vec<(&'static str, String)> {
    let data = data.display();
    vec![
        ("iceberg.catalog.type", "jdbc".into()),
        ("iceberg.jdbc-catalog.catalog-name", "sluice".into()),
        ("iceberg.jdbc-catalog.schema-version", "V1".into()),
        ("iceberg.jdbc-catalog.driver-class", "org.sqlite.JDBC".into()),
        ("iceberg.jdbc-catalog.connection-url", format!("jdbc:sqlite:{data}/catalog.sqlite")),
        ("iceberg.jdbc-catalog.default-warehouse-dir", format!("file://{data}")),
        ("fs.native-local.enabled", "true".into()),
        ("local.location", "/".into()),
    ]
}

/// Glue's catalog with its data in S3, both at one endpoint.
pub fn glue_catalog(endpoint: &str, region: &str, access_key: &str, secret_key: &str) -> Vec<(&'static str, String)> {
    vec![
        ("iceberg.catalog.type", "glue".into()),
        ("hive.metastore.glue.endpoint-url", endpoint.into()),
        ("hive.metastore.glue.region", region.into()),
        ("hive.metastore.glue.aws-access-key", access_key.into()),
        ("hive.metastore.glue.aws-secret-key", secret_key.into()),
        ("fs.native-s3.enabled", "true".into()),
        ("s3.endpoint", endpoint.into()),
        ("s3.region", region.into()),
        ("s3.aws-access-key", access_key.into()),
        ("s3.aws-secret-key", secret_key.into()),
        ("s3.path-style-access", "true".into()),
    ]
}
