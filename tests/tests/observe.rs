//! What is told of a running system: the metrics, Prometheus's rules over them, and the dashboards. Each question is asked of the real
//! thing: PromQL of a Prometheus that scrapes a real `sluice`, SQL of its engine; those of OpenSearch are asked in `opensearch.rs`. Those of
//! CloudWatch are only read: nothing here can answer them.

// `clippy.toml` allows these in test functions only, not in what they call.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use sluice_domain::time::Timestamp;
use sluice_entry::metrics::METRICS;
use sluice_tests::grafana::{self, Asks, Question, Range};
use sluice_tests::prometheus::{Prometheus, configuration, programs, promtool};
use sluice_tests::{Server, eventually, send_raw, sluice_text};
use std::collections::BTreeSet;
use std::fs;

/// The day of the sample events.
const DAY: &str = "2026-11-20";

fn day() -> Range {
    let at = |time: &str| Timestamp::parse_rfc3339(&format!("{DAY}T{time}Z")).unwrap().micros() / 1_000_000;
    Range { from: at("00:00:00"), to: at("23:59:59") }
}

fn questions() -> Vec<Question> {
    grafana::questions(day()).unwrap()
}

#[test]
fn the_rules_are_valid_and_each_alert_fires_when_it_should() {
    let Some(programs) = programs().unwrap() else { return };
    promtool(&programs, &["check", "config", "prometheus.yaml"], b"").unwrap();
    promtool(&programs, &["check", "rules", "rules.yaml"], b"").unwrap();
    promtool(&programs, &["test", "rules", "rules_test.yaml"], b"").unwrap();
    let [rules, tests] =
        ["rules.yaml", "rules_test.yaml"].map(|name| fs::read_to_string(configuration().join(name)).unwrap());
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 5, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "no test sees {alert} fire");
        assert!(tests.contains(&format!("alertname: {alert}, exp_alerts: []")), "no test sees {alert} be quiet");
    }
}

#[test]
fn prometheus_answers_every_question_of_the_rules_and_the_dashboards() {
    let Some(programs) = programs().unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data).unwrap();
    let prometheus = Prometheus::start(&programs, &server.url).unwrap();
    // A rate is of what changes between two scrapes, so the first comes before the events.
    eventually("the server is scraped", || Ok(prometheus.query("sluice_build_info")? == [1.0])).unwrap();
    sluice_text(&data, &["demo", "--day", DAY]).unwrap();
    let rejected = server.post_json("/v1/events", &json!({"type": "web.event", "data": {}})).unwrap();
    assert_eq!(rejected.0, 400, "{rejected:?}");
    server.settle().unwrap();
    assert!(server.sql_value("SELECT count(*) FROM game_start").unwrap().as_i64() > Some(0));
    assert_eq!(send_raw(&server.url, "GET", "/v1/status", &[], b"").unwrap().status, 401);

    for accept in ["text/plain", "application/openmetrics-text"] {
        let page = send_raw(&server.url, "GET", "/metrics", &[("accept", accept)], b"").unwrap();
        assert_eq!(page.status, 200);
        if accept == "text/plain" {
            promtool(&programs, &["check", "metrics"], &page.body).unwrap();
        }
    }
    let mut rules = Vec::new();
    eventually("every rule was worked out", || {
        rules = prometheus.rules()?;
        Ok(!rules.is_empty() && rules.iter().all(|(.., wrong)| wrong.is_empty()))
    })
    .map_err(|e| e.context(format!("{rules:#?}")))
    .unwrap();
    let text = fs::read_to_string(configuration().join("rules.yaml")).unwrap();
    assert_eq!(rules.len(), text.matches("- alert: ").count() + text.matches("- record: ").count());
    for (name, expression, _) in &rules {
        let series = prometheus.query(expression).unwrap_or_else(|error| panic!("{name}: {error}"));
        // What is recorded is there, and no alert is about to fire.
        if name.starts_with("sluice:") {
            assert!(!series.is_empty(), "{name} records nothing: {expression}");
        } else {
            assert_eq!(series, [] as [f64; 0], "{name}: {expression}");
        }
    }
    let asked: Vec<(String, String)> = questions()
        .into_iter()
        .filter_map(|question| match question.asks {
            Asks::Prometheus(expression) => Some((question.place, expression)),
            _ => None,
        })
        .collect();
    assert!(asked.len() > 20, "{asked:?}");
    for (place, expression) in asked {
        let mut series = Vec::new();
        eventually("there is data", || {
            series = prometheus.query(&expression)?;
            Ok(series.iter().any(|value| value.is_finite()))
        })
        .unwrap_or_else(|error| panic!("{place}: {error}: {expression} is {series:?}"));
    }
}

#[test]
fn every_statement_of_the_dashboards_answers_with_rows() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data).unwrap();
    sluice_text(&data, &["demo", "--day", DAY]).unwrap();
    server.settle().unwrap();
    let mut asked = 0;
    for question in questions() {
        let Asks::Athena(sql) = question.asks else { continue };
        let place = question.place;
        // Else each look at a dashboard would read the whole lake.
        let tables = sql.matches("FROM ").count() - sql.matches("FROM (").count();
        assert_eq!(sql.matches("BETWEEN TIMESTAMP").count(), tables, "{place}: {sql}");
        let (status, reply) = server.post_json("/v1/sql", &json!({"sql": sql})).unwrap();
        assert_eq!(status, 200, "{place}: {reply}");
        assert!(reply["rows"].as_array().is_some_and(|rows| !rows.is_empty()), "{place}: {sql}");
        asked += 1;
    }
    assert!(asked >= 5, "{asked}");
}

/// `SEARCH('{Namespace,Dimension} MetricName="Name" …', 'Statistic', 300)` → namespace and name.
fn searched(expression: &str) -> Option<(&str, &str)> {
    let inner = expression.strip_prefix("SEARCH('{")?.strip_suffix(", 300)")?;
    let (search, statistic) = inner.rsplit_once("', ")?;
    let (schema, words) = search.split_once("} MetricName=\"")?;
    let is_statistic = ["'Sum'", "'Maximum'", "'Average'"].contains(&statistic);
    is_statistic.then_some((schema.split(',').next()?, words.split('"').next()?))
}

#[test]
fn the_dashboards_ask_cloudwatch_only_for_metrics_that_there_are() {
    let of_aws = [
        ("AWS/ApiGateway", "4xx"),
        ("AWS/ApiGateway", "5xx"),
        ("AWS/Lambda", "Errors"),
        ("AWS/Lambda", "Throttles"),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage"),
    ];
    let own = METRICS.iter().map(|(_, name, _)| ("Sluice", *name)).chain([("Sluice", "OldestAge")]);
    let known: BTreeSet<(&str, &str)> = own.chain(of_aws).collect();
    let mut asked = 0;
    for question in questions() {
        let Asks::CloudWatch(expression) = question.asks else { continue };
        let metric = searched(&expression).unwrap_or_else(|| panic!("{}: {expression}", question.place));
        assert!(known.contains(&metric), "{}: {metric:?}", question.place);
        asked += 1;
    }
    assert!(asked > 5, "{asked}");
}

/// What is wrong with a dashboard, as Grafana's schema has it: `kinds/dashboard` of grafana/grafana, and its version 42.
fn faults(name: &str, dashboard: &Value, sources: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |holds: bool, fault: String| {
        if !holds {
            faults.push(format!("{name}: {fault}"));
        }
    };
    expect(dashboard["uid"] == format!("sluice-{name}"), "its uid is not its name".into());
    expect(dashboard["schemaVersion"] == 42 && dashboard.get("id").is_none(), "schema version or id".into());
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = &panel["title"];
        expect(ids.insert(panel["id"].as_u64()), format!("{title} has the id of another"));
        expect(title.as_str().is_some_and(|title| !title.is_empty()), format!("{} has no title", panel["id"]));
        let kinds = ["heatmap", "stat", "table", "timeseries"];
        expect(panel["type"].as_str().is_some_and(|kind| kinds.contains(&kind)), format!("{title} is of no kind"));
        let place = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap_or(0));
        let [x, y, w, h] = place;
        expect(w > 0 && h > 0 && x + w <= 24, format!("{title} lies beside the grid"));
        let is_free = (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column))).all(|c| cells.insert(c));
        expect(is_free, format!("{title} lies over another"));
        let defaults = &panel["fieldConfig"]["defaults"];
        expect(defaults["unit"].is_string(), format!("{title} has no unit"));
        let steps = defaults["thresholds"]["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
        let bounds: Vec<Option<f64>> = steps.iter().map(|step| step["value"].as_f64()).collect();
        expect(bounds.first() == Some(&None) && bounds.is_sorted(), format!("{title} has thresholds out of order"));
        let mut letters = BTreeSet::new();
        for target in panel["targets"].as_array().into_iter().flatten() {
            expect(letters.insert(target["refId"].as_str()), format!("{title} has a letter twice"));
            expect(target["datasource"] == panel["datasource"], format!("{title} asks two sources"));
            let uid = target["datasource"]["uid"].as_str().unwrap_or_default();
            let kind = target["datasource"]["type"].as_str().unwrap_or_default();
            let is_there = sources.contains(&format!("uid: {uid}\n    type: {kind}\n"));
            expect(is_there, format!("{title} asks `{uid}`, which Grafana is not told of"));
        }
    }
    let text = dashboard["panels"].to_string();
    for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default();
        expect(text.contains(&format!("${name}")), format!("nothing asks by `{name}`"));
    }
    faults
}

#[test]
fn the_dashboards_are_what_grafana_takes() {
    let sources = fs::read_to_string(grafana::folder().join("datasources.yaml")).unwrap();
    let dashboards = grafana::dashboards().unwrap();
    assert_eq!(dashboards.keys().collect::<Vec<_>>(), ["game", "http", "pipeline"]);
    for (name, dashboard) in &dashboards {
        assert_eq!(faults(name, dashboard, &sources), [] as [String; 0]);
    }
    let mut broken = dashboards["http"].clone();
    broken["panels"][1]["gridPos"]["x"] = json!(5);
    broken["panels"][2]["targets"][0]["datasource"]["uid"] = json!("elsewhere");
    broken["panels"][3]["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] = json!(7);
    let found = faults("http", &broken, &sources);
    for expected in ["lies over another", "asks two sources", "which Grafana is not told of", "out of order"] {
        assert!(found.iter().any(|fault| fault.contains(expected)), "{expected}: {found:#?}");
    }
}
