//! `GET /metrics`: what Prometheus collects. For addresses of the setting `metrics_allowed`, and for whoever may read.
//!
//! A label has only so many values: routes are templates, and types beyond the [`MAX_TYPES`] with the most events count as one.

use super::{Api, Call, Reply};
use crate::exposition::{Format, Kind, Page};
use crate::http::Response;
use crate::ledger::{self, Counts, Report, Sink, SinkCounts};
use crate::requests::{Answered, BOUNDS_US, OTHER};
use bytes::Bytes;
use serde_json::json;
use sluice_domain::time::Timestamp;
use sluice_ports::{Depth, PortError, Search};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Types of events that have series of their own.
pub const MAX_TYPES: usize = 50;

impl Api {
    pub(super) async fn metrics(&self, call: Call<'_>) -> Reply {
        let address = call.request.client_ip.parse::<IpAddr>();
        if !address.is_ok_and(|address| self.settings.metrics_allowed.contains(address)) {
            self.allow_reading(call).await?;
        }
        let mut page = Page::new(Format::accepted(call.request.header("accept")));
        page.metric(
            "sluice_build_info",
            Kind::Gauge,
            "Always 1; the version of the server.",
            ["version"],
            [([env!("CARGO_PKG_VERSION")], 1.0)],
        );
        let mut failed = Vec::new();
        self.ports.requests.flush(call.now).await;
        match self.ports.requests.numbers().await {
            Ok(counts) => {
                let rows: Vec<(String, &Answered, f64)> =
                    counts.iter().map(|(answered, n)| (answered.status.to_string(), answered, *n as f64)).collect();
                let samples = rows.iter().map(|(status, a, n)| ([a.method.as_str(), &a.route, status], *n));
                let help = "HTTP requests that were answered, by method, route and status.";
                page.metric("http_requests_total", Kind::Counter, help, ["method", "route", "status"], samples);
            }
            Err(error) => failed.push(left_out("requests", &error)),
        }
        match self.ports.requests.times().await {
            Ok(times) => {
                let series = times
                    .iter()
                    .map(|(route, times)| (route.as_str(), times.counts.map(|n| n as f64), times.sum_us as f64 / 1e6));
                let (help, bounds) = ("How long requests took, by route.", BOUNDS_US.map(|us| us as f64 / 1e6));
                page.histogram("http_request_duration_seconds", help, "route", bounds, series);
            }
            Err(error) => failed.push(left_out("request_times", &error)),
        }
        match self.ports.queues.list().await {
            Ok(queues) => {
                queue_metrics(&mut page, &queues);
                match ledger::report(self.ports.table.as_ref(), &self.waiting(&queues)).await {
                    Ok(report) => ledger_metrics(&mut page, &report),
                    Err(error) => failed.push(left_out("ledger", &error)),
                }
            }
            Err(error) => failed.push(left_out("queues", &error)),
        }
        if self.settings.sink_queues.contains_key(&Sink::Search) {
            match visitors(self.ports.search.as_ref(), call.now).await {
                Ok(visitors) => {
                    let help = "Sessions of web.event on the present day, UTC, about.";
                    page.metric("sluice_visitors_today", Kind::Gauge, help, [], [([], visitors)]);
                }
                Err(error) => failed.push(left_out("visitors", &error)),
            }
        }
        let help = "1 for a part of this page that could not be read and is left out.";
        page.metric(
            "sluice_metrics_left_out",
            Kind::Gauge,
            help,
            ["part"],
            failed.into_iter().map(|part| ([part], 1.0)),
        );
        let content_type = Format::accepted(call.request.header("accept")).content_type();
        let reply = Response::text(200, "").with_header("content-type", content_type);
        Ok(Response { body: Bytes::from(page.finish()), ..reply })
    }
}

/// How many sessions there were today.
async fn visitors(search: &dyn Search, now: Timestamp) -> Result<f64, PortError> {
    let body = json!({
        "size": 0,
        "query": {"range": {"time": {"gte": format!("{}T00:00:00.000Z", now.date_text()), "lte": now.to_string()}}},
        "aggs": {"visitors": {"cardinality": {"field": "sessionid"}}},
    });
    let found = search.search(&format!("sluice-web_event-{}*", now.month_text()), &body).await?;
    // Without an index there is nothing to count, and no aggregation either.
    Ok(found["aggregations"]["visitors"]["value"].as_f64().unwrap_or(0.0))
}

fn left_out(part: &'static str, error: &PortError) -> &'static str {
    tracing::warn!(error.kind = ?error.kind, error.message = %error, part, "a part of the metrics is left out");
    part
}

fn queue_metrics(page: &mut Page, queues: &[(String, Depth, Option<String>)]) {
    let messages = queues.iter().flat_map(|(name, depth, _)| {
        [("visible", depth.visible), ("in_flight", depth.in_flight)]
            .map(|(state, n)| ([name.as_str(), state], n as f64))
    });
    let help = "Messages in a queue, those that wait and those that were delivered and not settled.";
    page.metric("sluice_queue_messages", Kind::Gauge, help, ["queue", "state"], messages);
    let events = queues.iter().filter_map(|(name, depth, _)| Some(([name.as_str()], depth.events? as f64)));
    page.metric("sluice_queue_events", Kind::Gauge, "Events in the messages of a queue.", ["queue"], events);
    // A queue without messages has no lag.
    let age = |(name, depth, _): &'_ (String, Depth, Option<String>)| {
        let is_empty = depth.visible + depth.in_flight == 0;
        let oldest_ms = depth.oldest_ms.or(is_empty.then_some(0))?;
        Some((name.clone(), oldest_ms as f64 / 1_000.0))
    };
    let ages: Vec<(String, f64)> = queues.iter().filter_map(age).collect();
    let ages = ages.iter().map(|(name, seconds)| ([name.as_str()], *seconds));
    page.metric("sluice_queue_oldest_seconds", Kind::Gauge, "Age of the oldest message of a queue.", ["queue"], ages);
}

fn ledger_metrics(page: &mut Page, report: &Report) {
    let types = bounded(&report.types);
    let by_type =
        |number: fn(&Counts) -> i64| types.iter().map(move |(name, counts)| ([name.as_str()], number(counts) as f64));
    for (name, help, number) in [
        ("sluice_events_received_total", "Events that came in, by type.", (|c| c.received) as fn(&Counts) -> i64),
        ("sluice_events_accepted_total", "Events that were accepted, by type.", |c| c.accepted),
        ("sluice_events_rejected_total", "Events that were refused at the door, by type.", |c| c.rejected),
    ] {
        page.metric(name, Kind::Counter, help, ["type"], by_type(number));
    }
    let by_sink = |number: fn(&SinkCounts) -> i64| {
        types.iter().flat_map(move |(name, counts)| {
            counts.sinks.iter().map(move |(sink, n)| ([sink.name(), name.as_str()], number(n) as f64))
        })
    };
    for (name, kind, help, number) in [
        (
            "sluice_sink_stored_total",
            Kind::Counter,
            "Events that a sink has, by type.",
            (|n| n.stored) as fn(&SinkCounts) -> i64,
        ),
        ("sluice_sink_duplicates_total", Kind::Counter, "Events that a sink had already.", |n| n.duplicates),
        ("sluice_sink_off_total", Kind::Counter, "Events that came while the sink was switched off.", |n| n.off),
        ("sluice_sink_quarantined", Kind::Gauge, "Events in quarantine in place of the sink.", |n| n.quarantined),
        ("sluice_sink_in_flight", Kind::Gauge, "Accepted events that the sink has not settled.", |n| n.in_flight),
    ] {
        page.metric(name, kind, help, ["sink", "type"], by_sink(number));
    }
    let is_off = |(sink, check): (&Sink, &ledger::Check)| {
        let adds_up = check.adds_up? && check.in_flight >= 0;
        Some(([sink.name()], f64::from(u8::from(!adds_up))))
    };
    let help = "1 where what waits before a sink is not what its counters say; for a moment that is usual.";
    page.metric("sluice_ledger_imbalance", Kind::Gauge, help, ["sink"], report.checks.iter().filter_map(is_off));
}

/// The types with the most events, and all others as one.
fn bounded(types: &BTreeMap<String, Counts>) -> BTreeMap<String, Counts> {
    let mut by_size: Vec<(&String, &Counts)> = types.iter().collect();
    by_size.sort_by_key(|(name, counts)| (*name == OTHER, -counts.received, *name));
    let mut bounded: BTreeMap<String, Counts> = BTreeMap::new();
    for (at, (name, counts)) in by_size.into_iter().enumerate() {
        let name = if at < MAX_TYPES { name.as_str() } else { OTHER };
        bounded.entry(name.to_owned()).or_default().add(counts);
    }
    bounded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(accepted: i64, stored: i64) -> Counts {
        let lake = SinkCounts { stored, in_flight: accepted - stored, ..SinkCounts::default() };
        Counts { received: accepted + 1, accepted, rejected: 1, sinks: [(Sink::Lake, lake)].into() }
    }

    #[test]
    fn the_ledger_becomes_counters_by_type_and_sink() {
        let types = BTreeMap::from([("game.start".to_owned(), counts(5, 3)), ("other".to_owned(), counts(2, 2))]);
        let check = ledger::Check { in_flight: 2, waiting: Some(1), adds_up: Some(false), oldest_hour: None };
        let report = Report { types, checks: [(Sink::Lake, check)].into(), ..Report::default() };
        let mut page = Page::new(Format::Prometheus);
        ledger_metrics(&mut page, &report);
        let page = page.finish();
        for line in [
            r#"sluice_events_received_total{type="game.start"} 6"#,
            r#"sluice_events_accepted_total{type="game.start"} 5"#,
            r#"sluice_events_rejected_total{type="other"} 1"#,
            r#"sluice_sink_stored_total{sink="lake",type="game.start"} 3"#,
            r#"sluice_sink_in_flight{sink="lake",type="game.start"} 2"#,
            r#"sluice_ledger_imbalance{sink="lake"} 1"#,
            "# TYPE sluice_sink_quarantined gauge",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
    }

    #[test]
    fn a_queue_says_how_much_waits_and_for_how_long() {
        let waits = Depth { visible: 3, in_flight: 1, events: Some(7), bytes: None, oldest_ms: Some(1_500) };
        let unknown = Depth { visible: 1, ..Depth::default() };
        let queues =
            [("A".to_owned(), waits, None), ("B".to_owned(), Depth::default(), None), ("C".to_owned(), unknown, None)];
        let mut page = Page::new(Format::Prometheus);
        queue_metrics(&mut page, &queues);
        let page = page.finish();
        let lines: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                r#"sluice_queue_messages{queue="A",state="visible"} 3"#,
                r#"sluice_queue_messages{queue="A",state="in_flight"} 1"#,
                r#"sluice_queue_messages{queue="B",state="visible"} 0"#,
                r#"sluice_queue_messages{queue="B",state="in_flight"} 0"#,
                r#"sluice_queue_messages{queue="C",state="visible"} 1"#,
                r#"sluice_queue_messages{queue="C",state="in_flight"} 0"#,
                r#"sluice_queue_events{queue="A"} 7"#,
                r#"sluice_queue_oldest_seconds{queue="A"} 1.5"#,
                r#"sluice_queue_oldest_seconds{queue="B"} 0"#,
            ]
        );
    }

    #[test]
    fn types_beyond_the_bound_count_as_one() {
        let mut types: BTreeMap<String, Counts> =
            (0..200).map(|n| (format!("a.t{n}"), counts(i64::from(n), 0))).collect();
        types.insert(OTHER.to_owned(), counts(1_000, 0));
        let bounded = bounded(&types);
        assert_eq!(bounded.len(), MAX_TYPES + 1);
        assert!(bounded.contains_key("a.t199") && bounded.contains_key("a.t150") && !bounded.contains_key("a.t149"));
        let sum = |types: &BTreeMap<String, Counts>| types.values().map(|c| c.accepted).sum::<i64>();
        assert_eq!(sum(&bounded), sum(&types));
    }
}
