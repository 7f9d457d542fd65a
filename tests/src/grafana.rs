//! The dashboards of `infra/grafana` as a list of questions, each written as Grafana and its plugins write it for the server behind.
//!
//! Sources: `macros.go` of grafana/athena-datasource, `QueryBuilder.ts` of grafana/opensearch-datasource, and Grafana's "Global variables".

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};
use sluice_domain::time::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The folder of the dashboards and of what Grafana is told of them.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/grafana"))
}

/// Every dashboard by the name of its file.
pub fn dashboards() -> anyhow::Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder().join("dashboards"))? {
        let path = entry?.path();
        let name = path.file_stem().context("no name")?.to_string_lossy().into_owned();
        let read = serde_json::from_slice(&std::fs::read(&path)?).with_context(|| path.display().to_string())?;
        found.insert(name, read);
    }
    Ok(found)
}

/// What a dashboard is shown for, seconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// From, inclusive.
    pub from: i64,
    /// To, inclusive.
    pub to: i64,
}

/// A question of a panel.
#[derive(Debug, Clone)]
pub struct Question {
    /// Dashboard, panel and letter, for messages.
    pub place: String,
    /// What is asked.
    pub asks: Asks,
}

/// By whom it is answered.
#[derive(Debug, Clone)]
pub enum Asks {
    /// A PromQL expression.
    Prometheus(String),
    /// A search body for the indices `sluice-*`.
    OpenSearch(Value),
    /// A statement in Athena's SQL.
    Athena(String),
    /// A search expression over the metrics of CloudWatch.
    CloudWatch(String),
}

/// All questions of all dashboards. One that nobody here knows how to ask is an error.
pub fn questions(range: Range) -> anyhow::Result<Vec<Question>> {
    let mut all = Vec::new();
    for (name, dashboard) in dashboards()? {
        for panel in dashboard["panels"].as_array().context("no panels")? {
            let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
            anyhow::ensure!(!targets.is_empty(), "{name}: panel {} asks nothing", panel["title"]);
            for target in targets {
                let place = format!("{name}: {} {}", panel["title"], target["refId"]);
                let asks = asks(target, range).with_context(|| place.clone())?;
                all.push(Question { place, asks });
            }
        }
    }
    Ok(all)
}

fn asks(target: &Value, range: Range) -> anyhow::Result<Asks> {
    let text = |name: &str| target[name].as_str().with_context(|| format!("no `{name}`"));
    Ok(match target["datasource"]["uid"].as_str() {
        Some("sluice-prometheus") => Asks::Prometheus(with_variables(text("expr")?)?),
        Some("sluice-opensearch") => Asks::OpenSearch(search_body(target, range)?),
        Some("sluice-athena") => Asks::Athena(athena_sql(text("rawSQL")?, range)?),
        Some("sluice-cloudwatch") => {
            anyhow::ensure!(target["metricEditorMode"] == 1, "only expressions are known");
            Asks::CloudWatch(with_variables(text("expression")?)?)
        }
        other => bail!("{other:?} is no source of infra/grafana/datasources.yaml"),
    })
}

/// Grafana's variables: all servers, an hour, and pauses that fit one scrape a second.
fn with_variables(text: &str) -> anyhow::Result<String> {
    let known = [("$__rate_interval", "1m"), ("$__range", "1h"), ("$instance", ".*"), ("$stack", "sluice-dev")];
    let text = known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    match text.find('$') {
        None => Ok(text),
        Some(at) => bail!("a variable that the tests do not know: {}", text.get(at..).unwrap_or_default()),
    }
}

/// `2026-11-21 00:00:00`
fn timestamp(seconds: i64) -> anyhow::Result<String> {
    let time = Timestamp::from_micros(seconds * 1_000_000).context("no time")?.to_string();
    Ok(time.get(..19).context("no time")?.replace('T', " "))
}

/// The macro `$__timeFilter(column)` of the Athena plugin.
fn athena_sql(sql: &str, range: Range) -> anyhow::Result<String> {
    let (from, to) = (timestamp(range.from)?, timestamp(range.to)?);
    let mut text = sql.to_owned();
    while let Some((before, after)) = text.split_once("$__timeFilter(") {
        let (column, after) = after.split_once(')').context("`$__timeFilter` without an end")?;
        text = format!("{before}{column} BETWEEN TIMESTAMP '{from}' AND TIMESTAMP '{to}'{after}");
    }
    anyhow::ensure!(!text.contains('$'), "a macro that the tests do not know: {text}");
    Ok(text)
}

/// The body that the OpenSearch plugin makes of a target.
fn search_body(target: &Value, range: Range) -> anyhow::Result<Value> {
    let (from, to) = (range.from * 1_000, range.to * 1_000);
    let query = target["query"].as_str().context("no `query`")?;
    anyhow::ensure!(!query.contains('$') && target["timeField"] == "time", "what the tests do not know: {query}");
    let mut metrics = Map::new();
    for metric in target["metrics"].as_array().context("no `metrics`")? {
        let (id, kind) = (metric["id"].as_str().context("no `id`")?, metric["type"].as_str().context("no `type`")?);
        match kind {
            "count" => {}
            "avg" | "cardinality" | "max" | "min" | "sum" => {
                metrics.insert(id.to_owned(), json!({kind: {"field": metric["field"]}}));
            }
            other => bail!("a metric that the tests do not know: {other}"),
        }
    }
    let buckets = target["bucketAggs"].as_array().context("no `bucketAggs`")?;
    anyhow::ensure!(!buckets.is_empty(), "no buckets");
    let mut aggregations = Value::Object(metrics);
    for bucket in buckets.iter().rev() {
        let settings = &bucket["settings"];
        let number = |name: &str| settings[name].as_str().and_then(|text| text.parse::<u64>().ok());
        let mut made = match bucket["type"].as_str() {
            Some("date_histogram") => json!({"date_histogram": {
                "field": bucket["field"], "fixed_interval": "600s", "min_doc_count": number("min_doc_count"),
                "extended_bounds": {"min": from, "max": to}, "format": "epoch_millis",
            }}),
            Some("terms") => json!({"terms": {
                "field": bucket["field"], "size": number("size"), "min_doc_count": number("min_doc_count"),
                "order": {(settings["orderBy"].as_str().context("no `orderBy`")?): settings["order"]},
            }}),
            other => bail!("a bucket that the tests do not know: {other:?}"),
        };
        made["aggs"] = aggregations;
        aggregations = json!({(bucket["id"].as_str().context("no `id`")?): made});
    }
    let time = json!({"range": {"time": {"gte": from, "lte": to, "format": "epoch_millis"}}});
    let words = json!({"query_string": {"analyze_wildcard": true, "query": query}});
    Ok(json!({"size": 0, "query": {"bool": {"filter": [time, words]}}, "aggs": aggregations}))
}

/// Whether an answer to a search body has what a panel shows: documents in a bucket, and a number for each metric of it.
pub fn has_data(aggregations: &Value) -> bool {
    let Some(by_id) = aggregations.as_object() else { return false };
    let buckets = by_id.values().filter_map(|one| one["buckets"].as_array());
    buckets.flatten().filter(|bucket| bucket["doc_count"].as_u64() > Some(0)).any(|bucket| {
        let parts = bucket.as_object().into_iter().flatten().filter(|(_, part)| part.is_object());
        let parts: Map<String, Value> = parts.map(|(id, part)| (id.clone(), part.clone())).collect();
        let is_inner = parts.values().any(|part| part.get("buckets").is_some());
        if is_inner { has_data(&Value::Object(parts)) } else { parts.values().all(|part| part["value"].is_number()) }
    })
}
