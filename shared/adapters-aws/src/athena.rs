//! SQL by Athena.
//!
//! Parameters are literals of the statement's own tree, bound where its tokens are read and never as text: the same code binds them for
//! the one-machine engine. Athena's execution parameters are text too, and do not go everywhere that a literal does.

use crate::failure::failed;
use crate::{Connection, Resource};
use async_trait::async_trait;
use aws_sdk_athena::Client;
use aws_sdk_athena::types::{ColumnInfo, QueryExecutionContext, QueryExecutionState, QueryExecutionStatus, Row};
use serde_json::Value;
use sluice_ports::{ErrorKind, PortError, Sql, SqlColumn, SqlLimits, SqlResult};
use std::time::{Duration, Instant};

const QUERY: &str = "sql.query";
/// First and longest pause between two looks at a running query.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// Most rows of a page of results.
const PAGE: i32 = 1_000;
/// `ErrorCategory` of a mistake in the query ("AthenaError").
const USER: i32 = 2;

/// A workgroup, which says where results lie and how much a query may scan, and the database that queries mean.
#[derive(Debug, Clone)]
pub struct AthenaSql {
    client: Client,
    workgroup: Resource,
    database: String,
}

impl AthenaSql {
    /// Queries in this workgroup over this database.
    pub fn new(connection: &Connection, workgroup: Resource, database: &Resource) -> Self {
        Self { client: Client::new(connection.sdk()), workgroup, database: database.name.clone() }
    }

    async fn start(&self, statement: String) -> Result<String, PortError> {
        let started = self
            .client
            .start_query_execution()
            .query_string(statement)
            .work_group(&self.workgroup.name)
            .query_execution_context(QueryExecutionContext::builder().database(&self.database).build())
            .send()
            .await
            .map_err(|error| failed(QUERY, &self.workgroup, error))?;
        let id = started.query_execution_id().map(str::to_owned);
        id.ok_or_else(|| self.fail(ErrorKind::Timeout, "a query without id"))
    }

    async fn finish(&self, id: &str, until: Instant) -> Result<(), PortError> {
        let mut pause = FIRST_LOOK;
        loop {
            let found = self.client.get_query_execution().query_execution_id(id).send().await;
            let found = found.map_err(|error| failed(QUERY, &self.workgroup, error))?;
            let status = found.query_execution().and_then(|execution| execution.status());
            match status.and_then(QueryExecutionStatus::state) {
                Some(QueryExecutionState::Succeeded) => return Ok(()),
                Some(QueryExecutionState::Failed | QueryExecutionState::Cancelled) => return Err(self.ended(status)),
                _ => {}
            }
            if Instant::now() + pause > until {
                return Err(self.fail(ErrorKind::Timeout, "the query took longer than it may and was stopped"));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    fn ended(&self, status: Option<&QueryExecutionStatus>) -> PortError {
        let reason = status.and_then(QueryExecutionStatus::state_change_reason).unwrap_or("no reason given");
        let error = status.and_then(QueryExecutionStatus::athena_error);
        let kind = match error {
            _ if reason.contains("Bytes scanned limit") => ErrorKind::TooLarge,
            _ if reason.contains("Access Denied") || reason.contains("is not authorized") => ErrorKind::Denied,
            Some(error) if error.retryable() => ErrorKind::Unavailable,
            Some(error) if error.error_category().is_some_and(|category| category != USER) => ErrorKind::Unavailable,
            None if matches!(status.and_then(|s| s.state()), Some(QueryExecutionState::Cancelled)) => {
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Invalid,
        };
        PortError::new(kind, QUERY, reason)
    }

    async fn results(&self, id: &str, limits: SqlLimits) -> Result<SqlResult, PortError> {
        let mut pages =
            self.client.get_query_results().query_execution_id(id).max_results(PAGE).into_paginator().send();
        let mut result = SqlResult::default();
        let mut columns: Vec<ColumnInfo> = Vec::new();
        let mut is_first = true;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed(QUERY, &self.workgroup, error))?;
            let Some(set) = page.result_set() else { break };
            let mut rows = set.rows();
            if is_first {
                is_first = false;
                columns = set.result_set_metadata().map(|meta| meta.column_info().to_vec()).unwrap_or_default();
                result.columns = columns.iter().map(column).collect();
                // The results of a SELECT begin with the names of its columns.
                if let [first, rest @ ..] = rows
                    && is_header(first, &columns)
                {
                    rows = rest;
                }
            }
            for row in rows {
                if result.rows.len() == limits.max_rows {
                    result.truncated = true;
                    return Ok(result);
                }
                let values = columns.iter().enumerate().map(|(at, column)| {
                    row.data()
                        .get(at)
                        .and_then(|datum| datum.var_char_value())
                        .map_or(Value::Null, |text| value(column, text))
                });
                result.rows.push(values.collect());
            }
        }
        Ok(result)
    }

    fn fail(&self, kind: ErrorKind, what: &str) -> PortError {
        PortError::new(kind, QUERY, format!("{}: {what}", self.workgroup))
    }
}

#[async_trait]
impl Sql for AthenaSql {
    async fn query(&self, statement: &str, parameters: &[Value], limits: SqlLimits) -> Result<SqlResult, PortError> {
        let until = Instant::now() + limits.timeout;
        let id = self.start(sluice_statement::standard_text(statement, parameters)?).await?;
        let finished = self.finish(&id, until).await;
        if finished.as_ref().is_err_and(PortError::is_transient) {
            // Nobody waits for it any more, and what it scans is paid for.
            if let Err(error) = self.client.stop_query_execution().query_execution_id(&id).send().await {
                tracing::warn!(query.id = id, error = %failed(QUERY, &self.workgroup, error), "a query could not be stopped");
            }
        }
        finished?;
        self.results(&id, limits).await
    }
}

fn is_header(row: &Row, columns: &[ColumnInfo]) -> bool {
    let texts = row.data().iter().map(|datum| datum.var_char_value());
    row.data().len() == columns.len()
        && texts.zip(columns).all(|(text, column)| text == Some(column.label().unwrap_or(column.name())))
}

fn column(column: &ColumnInfo) -> SqlColumn {
    let data_type = match column.r#type() {
        "decimal" => format!("decimal({},{})", column.precision(), column.scale()),
        "float" => "real".to_owned(),
        "timestamp with time zone" => "timestamp".to_owned(),
        other => other.to_owned(),
    };
    SqlColumn { name: column.label().unwrap_or(column.name()).to_owned(), data_type }
}

/// A value, which Athena answers as text. Lists of texts come without quotes, so a list stays text unless it reads as JSON.
fn value(column: &ColumnInfo, text: &str) -> Value {
    let own = || Value::String(text.to_owned());
    match column.r#type() {
        "tinyint" | "smallint" | "integer" | "bigint" => text.parse::<i64>().map_or_else(|_| own(), Value::from),
        // JSON has no NaN and no infinities.
        "float" | "real" | "double" => text.parse::<f64>().map_or_else(|_| own(), Value::from),
        "boolean" => text.parse::<bool>().map_or_else(|_| own(), Value::from),
        "timestamp" | "timestamp with time zone" => Value::String(time(text)),
        "array" => serde_json::from_str(text).ok().filter(Value::is_array).unwrap_or_else(own),
        _ => own(),
    }
}

/// `2026-11-21 10:00:00.000 UTC` as RFC 3339; a time in another zone as it is.
fn time(text: &str) -> String {
    let bare = text.strip_suffix(" UTC").unwrap_or(text);
    match bare.split_once(' ') {
        Some((day, time)) if time.bytes().all(|b| b.is_ascii_digit() || b":.".contains(&b)) => format!("{day}T{time}Z"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(data_type: &str, text: &str) -> Value {
        value(&ColumnInfo::builder().name("c").r#type(data_type).build().unwrap(), text)
    }

    #[test]
    fn texts_become_the_values_of_the_port() {
        for (data_type, text, expected) in [
            ("integer", "-5", json!(-5)),
            ("bigint", "9223372036854775807", json!(i64::MAX)),
            ("double", "0.1", json!(0.1)),
            ("double", "NaN", json!(null)),
            ("decimal", "12.3400", json!("12.3400")),
            ("boolean", "true", json!(true)),
            ("timestamp", "2026-11-21 10:00:00.123", json!("2026-11-21T10:00:00.123Z")),
            ("timestamp with time zone", "2026-11-21 10:00:00.000 UTC", json!("2026-11-21T10:00:00.000Z")),
            (
                "timestamp with time zone",
                "2026-11-21 10:00:00.000 Asia/Seoul",
                json!("2026-11-21 10:00:00.000 Asia/Seoul"),
            ),
            ("date", "2026-11-21", json!("2026-11-21")),
            ("array", "[1, 2]", json!([1, 2])),
            ("array", "[a, b]", json!("[a, b]")),
            ("varchar", "5", json!("5")),
        ] {
            assert_eq!(of(data_type, text), expected, "{data_type} {text}");
        }
    }
}
