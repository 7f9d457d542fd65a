use crate::PortError;
use async_trait::async_trait;
use serde_json::Value;
use std::time::Duration;

/// Bounds of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlLimits {
    /// At most this many rows come back; more sets [`SqlResult::truncated`].
    pub max_rows: usize,
    /// The query is stopped after this long.
    pub timeout: Duration,
    /// The query may use this much memory, where the engine can bound it.
    pub max_memory_bytes: usize,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlColumn {
    /// Its name.
    pub name: String,
    /// SQL type: `bigint`, `double`, `decimal(p,s)`, `varchar`, `boolean`, `timestamp`, `date`, `array`, or the engine's own word.
    pub data_type: String,
}

/// Rows of a SELECT.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SqlResult {
    /// The columns, in order.
    pub columns: Vec<SqlColumn>,
    /// The rows; each has one value per column. Integers are JSON numbers, decimals JSON strings in plain notation, timestamps RFC 3339
    /// text in UTC, dates `YYYY-MM-DD`, lists arrays, SQL NULL is JSON null.
    pub rows: Vec<Vec<Value>>,
    /// Whether rows beyond the limit were left out.
    pub truncated: bool,
    /// Data files opened for the query, where the engine says so.
    pub files_read: Option<u64>,
}

/// SQL over the lake: one SELECT at a time, reading only.
#[async_trait]
pub trait Sql: Send + Sync {
    /// Runs one SELECT with `$1`, `$2` … bound to `parameters`. Anything but one SELECT (or `WITH … SELECT`, `EXPLAIN`, `SHOW TABLES`,
    /// `DESCRIBE`) is [`crate::ErrorKind::Denied`]; a mistake in it is [`crate::ErrorKind::Invalid`].
    async fn query(&self, statement: &str, parameters: &[Value], limits: SqlLimits) -> Result<SqlResult, PortError>;
}
