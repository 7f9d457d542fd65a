//! `GET /v1/reports` and `GET /v1/reports/{name}`: the questions to the lake that have a name.
//!
//! A result is kept for as long as its report says, for each set of parameters, in this process; all who ask for it at once wait for one
//! query.

use super::{Api, Call, Reply, failed, missing};
use crate::csv;
use crate::http::{Request, Response};
use serde_json::{Map, Value, json};
use sluice_domain::report::{FORMAT, Refusal, Report, ReportError};
use sluice_domain::time::{SECOND_US, Timestamp};
use sluice_ports::{PortError, SqlResult};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Results that are kept at most, and how large they may be together, as CSV.
const MOST_KEPT: usize = 500;
const MOST_KEPT_BYTES: usize = 32 * 1_024 * 1_024;

/// Results by what was asked.
#[derive(Default)]
pub(super) struct Results(Mutex<BTreeMap<String, Kept>>);

#[derive(Default)]
struct Kept {
    /// Held while the result is made.
    slot: Arc<futures::lock::Mutex<Option<Arc<Made>>>>,
    at: Timestamp,
    until: Timestamp,
    size_bytes: usize,
}

struct Made {
    at: Timestamp,
    until: Timestamp,
    result: SqlResult,
    csv: String,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

impl Api {
    pub(super) async fn list_reports(&self, call: Call<'_>) -> Reply {
        self.allow_reading(call).await?;
        let rows: Vec<Value> = self.ports.reports.usable.iter().map(row).collect();
        let refused = self.ports.reports.refused.iter();
        let refused: Vec<Value> =
            refused.map(|e| json!({"file": e.file, "line": e.line, "reason": e.reason})).collect();
        Ok(Response::json(200, &json!({"reports": rows, "refused": refused})))
    }

    pub(super) async fn report(&self, call: Call<'_>, name: &str) -> Reply {
        self.allow_reading(call).await?;
        let report = self.ports.reports.usable.iter().find(|report| report.name == name);
        let report = report.ok_or_else(|| self.no_report(name))?;
        let format = format(call.request)?;
        let values = report.bind(&call.request.query, call.now).map_err(refused)?;
        let made =
            self.made(report, &values, call.now).await.map_err(|e| failed("the report could not be made", &e))?;
        Ok(match format {
            Format::Json => as_json(report, values, &made),
            Format::Csv => as_csv(report, &made),
        })
    }

    /// There is none of this name, or its file cannot be used.
    fn no_report(&self, name: &str) -> Response {
        let is_its_file = |error: &&ReportError| error.file.strip_suffix(".sql") == Some(name);
        match self.ports.reports.refused.iter().find(is_its_file) {
            Some(error) => Response::error(404, "not_found", error.to_string()),
            None => missing("report", name),
        }
    }

    /// Names of the tables that have been made; of all that there may be, where none has been or nobody makes them.
    async fn tables_there_are(&self) -> Result<Vec<String>, PortError> {
        let mut tables: Vec<String> = self.ports.registry.iter().map(|schema| schema.table.clone()).collect();
        if let Some(catalog) = &self.ports.catalog {
            let made: BTreeSet<String> = catalog.figures().await?.into_iter().map(|table| table.name).collect();
            if tables.iter().any(|table| made.contains(table)) {
                tables.retain(|table| made.contains(table));
            }
        }
        Ok(tables)
    }

    async fn made(&self, report: &Report, values: &[Value], now: Timestamp) -> Result<Arc<Made>, PortError> {
        let asked = json!([report.name, values]).to_string();
        let slot = self.results.slot(&asked, now);
        let mut slot = slot.lock().await;
        if let Some(made) = slot.as_ref().filter(|made| made.at <= now && now < made.until) {
            return Ok(made.clone());
        }
        let tables = if report.is_of_every_table() { self.tables_there_are().await? } else { Vec::new() };
        let statement = report.statement(tables.iter().map(String::as_str));
        let result = self.ports.sql.query(&statement, values, self.settings.sql_limits).await?;
        let until = now.plus_micros(i64::from(report.cache_s) * SECOND_US);
        let made = Arc::new(Made { at: now, until, csv: csv::of(&result), result });
        *slot = Some(made.clone());
        self.results.keep(&asked, &made);
        Ok(made)
    }
}

impl Results {
    /// Where the result is, or will be.
    fn slot(&self, asked: &str, now: Timestamp) -> Arc<futures::lock::Mutex<Option<Arc<Made>>>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that failed leaves nothing; those who still wait have theirs.
        kept.retain(|_, kept| now < kept.until || Arc::strong_count(&kept.slot) > 1);
        kept.entry(asked.to_owned()).or_default().slot.clone()
    }

    /// Notes what was made, and lets go of the oldest where there is too much.
    fn keep(&self, asked: &str, made: &Made) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.get_mut(asked) {
            (kept.at, kept.until, kept.size_bytes) = (made.at, made.until, made.csv.len());
        }
        while kept.len() > MOST_KEPT || kept.values().map(|kept| kept.size_bytes).sum::<usize>() > MOST_KEPT_BYTES {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.at).map(|(asked, _)| asked.clone());
            let Some(oldest) = oldest else { return };
            kept.remove(&oldest);
        }
    }
}

fn row(report: &Report) -> Value {
    let parameters: Vec<Value> = report
        .parameters
        .iter()
        .map(|p| json!({"name": p.name, "type": p.kind.name(), "default": p.default_text(), "description": p.description}))
        .collect();
    json!({"name": report.name, "description": report.description, "parameters": parameters, "cache_s": report.cache_s})
}

/// `?format`, or the first of the two that `Accept` names; JSON where it names neither.
fn format(request: &Request) -> Result<Format, Response> {
    let by_type = |accepted: &str| match accepted.split(';').next().map(str::trim) {
        Some("application/json") => Some(Format::Json),
        Some("text/csv") => Some(Format::Csv),
        _ => None,
    };
    match request.query(FORMAT) {
        Some("json") => Ok(Format::Json),
        Some("csv") => Ok(Format::Csv),
        Some(_) => Err(Response::error(400, FORMAT, "`format` is `json` or `csv`")),
        None => Ok(request.header("accept").and_then(|all| all.split(',').find_map(by_type)).unwrap_or(Format::Json)),
    }
}

fn as_json(report: &Report, values: Vec<Value>, made: &Made) -> Response {
    let result = &made.result;
    let parameters: Map<String, Value> = report.parameters.iter().map(|p| p.name.clone()).zip(values).collect();
    let columns: Vec<Value> = result.columns.iter().map(|c| json!({"name": c.name, "type": c.data_type})).collect();
    let reply = json!({
        "report": report.name, "parameters": parameters, "made_at": made.at.to_string(), "cache_s": report.cache_s,
        "columns": columns, "rows": result.rows, "truncated": result.truncated,
    });
    Response::json(200, &reply)
}

fn as_csv(report: &Report, made: &Made) -> Response {
    Response::text(200, made.csv.clone())
        .with_header("content-type", "text/csv; charset=utf-8; header=present")
        .with_header("content-disposition", format!("attachment; filename=\"{}.csv\"", report.name))
        .with_header("x-sluice-made-at", made.at.to_string())
        .with_header("x-sluice-truncated", made.result.truncated.to_string())
}

fn refused(refusal: Refusal) -> Response {
    let Refusal { parameter, reason } = refusal;
    let message = format!("`{parameter}` {reason}");
    Response::json(400, &json!({"error": {"code": "parameter", "message": message, "field": parameter}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps a result of this size under a name, made so many seconds after the epoch and good for an hour.
    fn keep(results: &Results, name: &str, at_s: i64, size_bytes: usize) {
        let at = Timestamp::default().plus_micros(at_s * SECOND_US);
        let until = at.plus_micros(3_600 * SECOND_US);
        results.slot(name, at);
        results.keep(name, &Made { at, until, result: SqlResult::default(), csv: "x".repeat(size_bytes) });
    }

    fn names(results: &Results) -> Vec<String> {
        results.0.lock().unwrap().keys().cloned().collect()
    }

    #[test]
    fn the_oldest_results_give_way_where_there_are_too_many_or_they_are_too_large() {
        let results = Results::default();
        for n in 0..=MOST_KEPT {
            keep(&results, &format!("{n:03}"), i64::try_from(n).unwrap(), 1);
        }
        let kept = names(&results);
        assert_eq!((kept.len(), kept[0].as_str()), (MOST_KEPT, "001"));
        let results = Results::default();
        for n in 0..4 {
            keep(&results, &n.to_string(), n, MOST_KEPT_BYTES / 3);
        }
        assert_eq!(names(&results), ["1", "2", "3"]);
    }

    #[test]
    fn what_is_out_of_date_is_let_go_but_for_those_who_wait_for_it() {
        let results = Results::default();
        keep(&results, "old", 0, 1);
        let waiting = results.slot("waited for", Timestamp::default());
        let later = Timestamp::default().plus_micros(3_600 * SECOND_US);
        drop(results.slot("new", later));
        assert_eq!(names(&results), ["new", "waited for"]);
        drop(waiting);
        drop(results.slot("new", later));
        assert_eq!(names(&results), ["new"]);
    }
}
