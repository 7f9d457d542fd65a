//! `sluice cost`: what traffic costs on AWS, by service and line.
//!
//! Prices and the work behind an event stand in a file with its date and region (`infra/prices.toml`); here is only the arithmetic. Sizes
//! of messages are measured: sample events are cut and packed as `ingest` does it.

use crate::cli::exit::{Exit, Failure};
use crate::cli::hits::{ALL_INDICES, Found};
use crate::cli::terminal::{Out, Style, grouped, table};
use crate::client::Client;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sluice_domain::demo;
use sluice_domain::event::Shared;
use sluice_domain::message::{self, Entry};
use sluice_domain::time::{DAY_US, Timestamp};
use std::path::PathBuf;
use std::time::SystemTime;

/// The prices that are bundled with the binary.
const PRICES: &str = include_str!("../../../infra/prices.toml");
/// Largest request that is taken, in bytes: the setting `max_body_bytes`.
const MAX_REQUEST_BYTES: f64 = 4_500_000.0;
/// Messages in one receive or delete (Amazon SQS quotas).
const SQS_BATCH: f64 = 10.0;
/// Requests that are packed to learn what a message is.
const SAMPLE_REQUESTS: u64 = 4;
/// Newest events whose size is taken for the average.
const SAMPLE_HITS: u32 = 100;
/// Long polls of 20 seconds by the five pollers of a queue's event source, of five queues (AWS Lambda Developer Guide).
const IDLE_POLLS_PER_DAY: f64 = 5.0 * 5.0 * 86_400.0 / 20.0;
const DAYS_PER_MONTH: f64 = 365.0 / 12.0;
const BILLION: f64 = 1e9;

/// Show what the traffic costs on AWS, by service, per day and per billion events.
///
/// The traffic is that of the last 24 hours, as search has it, or what the options say.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice cost
  sluice cost --events-per-day 1000000000 --bytes 1000 --events-per-request 500
  sluice cost --events-per-day 5000000 --prices frankfurt.toml --json")]
pub struct Cost {
    /// Events on a day; what the last 24 hours brought where it is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    events_per_day: Option<u64>,
    /// Bytes of an event as it is sent; 1,000 where nothing was measured
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=200_000))]
    bytes: Option<u64>,
    /// Events in one request; 100 where nothing was measured
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    events_per_request: Option<u64>,
    /// Prices of another day or region, in the form of the bundled file `infra/prices.toml`
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// The lines as JSON
    #[arg(long)]
    json: bool,
}

/// What comes in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Traffic {
    events_per_day: f64,
    bytes_per_event: f64,
    events_per_request: f64,
}

impl Cost {
    /// Whether nothing has to be asked of a server.
    pub fn knows_the_traffic(&self) -> bool {
        self.events_per_day.is_some()
    }

    /// The bill of the traffic that the options say.
    pub fn tell(self, out: &mut Out) -> Result<(), Failure> {
        let traffic = Traffic {
            events_per_day: float(self.events_per_day.unwrap_or_default()),
            bytes_per_event: float(self.bytes.unwrap_or(1_000)),
            events_per_request: float(self.events_per_request.unwrap_or(100)),
        };
        self.bill(traffic, out)
    }

    /// The bill of the traffic that the server has seen.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let traffic = self.measured(client).await?;
        self.bill(traffic, out)
    }

    fn bill(&self, traffic: Traffic, out: &mut Out) -> Result<(), Failure> {
        let text = match &self.prices {
            None => PRICES.to_owned(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| Failure::usage(format!("cannot read the prices in `{}`: {e}", path.display())))?,
        };
        let prices: Prices =
            toml::from_str(&text).map_err(|e| Failure::usage(format!("the prices cannot be used: {e}")))?;
        let bill = Bill::of(traffic, &prices)?;
        match self.json {
            true => out.json(&bill.json(&prices)),
            false => bill.show(&prices, out),
        }
    }

    /// The traffic of the last 24 hours. Events of one request have one receive time, to the microsecond.
    async fn measured(&self, client: &Client) -> Result<Traffic, Failure> {
        let since = Timestamp::from_system(SystemTime::now()).plus_micros(-DAY_US);
        let body = json!({
            "size": SAMPLE_HITS,
            "track_total_hits": true,
            "query": {"range": {"receivedtime": {"gte": since.to_string()}}},
            "sort": [{"receivedtime": "desc"}],
            "aggs": {"requests": {"cardinality": {"field": "receivedtime"}}},
        });
        let found: Found = client.post("/v1/search", &[("index", ALL_INDICES)], &body).await?;
        let requests = found.aggregations["requests"]["value"].as_u64().unwrap_or_default();
        let events = found.hits.total.value;
        if events == 0 || requests == 0 || found.hits.hits.is_empty() {
            let message = "no event came in the last 24 hours: say what comes by `--events-per-day`";
            return Err(Failure::new(Exit::Failed, message));
        }
        let bytes: usize = found.hits.hits.iter().map(|hit| hit.event.to_string().len()).sum();
        let average = float(bytes as u64) / float(found.hits.hits.len() as u64);
        Ok(Traffic {
            events_per_day: float(events),
            bytes_per_event: self.bytes.map_or(average, float),
            events_per_request: self.events_per_request.map_or(float(events) / float(requests), float),
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "a bill needs no more than 53 bits")]
fn float(number: u64) -> f64 {
    number as f64
}

// ── Prices ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The file of prices; the units are in the names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prices {
    date: String,
    region: String,
    http_api: PerRequest,
    lambda: LambdaPrices,
    sns: PerRequest,
    sqs: PerRequest,
    dynamodb: DynamodbPrices,
    s3: S3Prices,
    cloudwatch: CloudwatchPrices,
    secrets_manager: SecretPrices,
    opensearch: OpensearchPrices,
    work: Work,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PerRequest {
    per_million_requests: f64,
    unit_bytes: f64,
}

impl PerRequest {
    /// How often something of this size is counted.
    fn units(&self, bytes: f64) -> f64 {
        (bytes / self.unit_bytes).ceil().max(1.0)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LambdaPrices {
    per_million_requests: f64,
    per_gb_second: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DynamodbPrices {
    per_million_write_units: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct S3Prices {
    per_million_puts: f64,
    per_gb_month: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CloudwatchPrices {
    per_gb_of_logs: f64,
    per_alarm_month: f64,
    per_metric_month: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretPrices {
    per_secret_month: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpensearchPrices {
    per_instance_hour: f64,
    per_gb_month: f64,
}

/// How much work an event is; see the comments in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Work {
    ingest_wait_ms: f64,
    ingest_ms_per_mb: f64,
    ingest_memory_gb: f64,
    convert_wait_ms: f64,
    convert_ms_per_mb: f64,
    convert_memory_gb: f64,
    convert_batch_bytes: f64,
    convert_batch_messages: f64,
    convert_window_s: f64,
    follow_wait_ms: f64,
    follow_ms_per_mb: f64,
    follow_memory_gb: f64,
    follow_batch_messages: f64,
    write_units_per_request: f64,
    convert_write_units_per_message: f64,
    convert_write_units_per_batch: f64,
    detect_write_units_per_message: f64,
    index_write_units_per_message: f64,
    follow_write_units_per_batch: f64,
    objects_per_batch: f64,
    lake_ratio: f64,
    http_log_bytes_per_request: f64,
    log_bytes_per_batch: f64,
    alarms: f64,
    metrics: f64,
    secrets: f64,
    search_instances: f64,
    search_volume_gb: f64,
}

// ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// What `ingest` makes of one request, on average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Packing {
    messages_per_request: f64,
    bytes_per_message: f64,
    /// As SNS and SQS count.
    units_per_request: f64,
}

impl Packing {
    /// Packs sample events of as many bytes as a request has.
    fn measure(request_bytes: f64, prices: &PerRequest) -> Result<Self, Failure> {
        let (mut messages, mut bytes, mut units, mut next) = (0.0, 0.0, 0.0, 0);
        for _ in 0..SAMPLE_REQUESTS {
            let mut entries = Vec::new();
            let mut sum = 0.0;
            while sum < request_bytes {
                let text = demo::bench_event(next);
                next += 1;
                sum += float(text.len() as u64);
                entries.push(Entry { event_type: TYPES[entries.len() % TYPES.len()].into(), text });
            }
            let sent: Vec<(&[u8], &str)> = entries.iter().map(|e| (e.text.as_bytes(), e.event_type.as_str())).collect();
            let shared = Shared { received: Timestamp::default(), client_ip: None, user_agent: None };
            for range in message::cut(&sent) {
                let packed = message::pack("0123456789abcdef0123456789abcdef", &shared, &entries[range])
                    .map_err(|e| Failure::new(Exit::Failed, format!("the sample cannot be packed: {e}")))?;
                let size = float(packed.body.len() as u64);
                messages += 1.0;
                bytes += size;
                units += prices.units(size);
            }
        }
        let requests = float(SAMPLE_REQUESTS);
        Ok(Self {
            messages_per_request: messages / requests,
            bytes_per_message: bytes / messages,
            units_per_request: units / requests,
        })
    }
}

/// The types of [`demo::bench_event`], in turn.
const TYPES: [&str; 4] = ["web.event", "http.access", "game.result", "quote.trade"];

// ── The bill ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    /// From the request to Parquet in the lake.
    Lake,
    /// Rules and mails.
    Alerts,
    /// Documents in OpenSearch.
    Search,
    /// What is there without any event.
    Standing,
}

impl Part {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Lake, "through API Gateway to the lake"),
        (Self::Alerts, "rules and alerts"),
        (Self::Search, "search"),
        (Self::Standing, "without any event"),
    ];
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Line {
    part: Part,
    service: &'static str,
    /// What `quantity` counts, per day.
    what: String,
    quantity: f64,
    dollars_per_day: f64,
}

#[derive(Debug, PartialEq)]
struct Bill {
    traffic: Traffic,
    packing: Packing,
    lines: Vec<Line>,
    /// What a month of keeping one day's events in the lake costs.
    kept_dollars_per_month: f64,
}

impl Bill {
    fn of(traffic: Traffic, prices: &Prices) -> Result<Self, Failure> {
        let work = &prices.work;
        let request_bytes = traffic.bytes_per_event * traffic.events_per_request;
        if request_bytes > MAX_REQUEST_BYTES {
            let most = (MAX_REQUEST_BYTES / traffic.bytes_per_event).floor();
            let message = format!("a request has at most {MAX_REQUEST_BYTES} bytes: {most} such events fit into one");
            return Err(Failure::usage(message));
        }
        let packing = Packing::measure(request_bytes, &prices.sns)?;
        let requests = traffic.events_per_day / traffic.events_per_request;
        let messages = requests * packing.messages_per_request;
        let megabytes = traffic.events_per_day * traffic.bytes_per_event / 1e6;
        // A batch goes when it is full, or when its window is over.
        let by_bytes = messages * packing.bytes_per_message / work.convert_batch_bytes;
        let by_messages = messages / work.convert_batch_messages;
        let batches = by_bytes.max(by_messages).max(messages.min(86_400.0 / work.convert_window_s));
        let follow_batches = messages / work.follow_batch_messages;

        let mut lines = Lines { prices, lines: Vec::new() };
        let http = requests * prices.http_api.units(request_bytes);
        lines.millions(Part::Lake, "API Gateway", "requests", http, prices.http_api.per_million_requests);
        let ingest_ms = requests * work.ingest_wait_ms + megabytes * work.ingest_ms_per_mb;
        lines.function(Part::Lake, "ingest", requests, ingest_ms, work.ingest_memory_gb);
        let published = requests * packing.units_per_request;
        lines.millions(Part::Lake, "SNS", "published 64 KiB", published, prices.sns.per_million_requests);
        lines.queue(Part::Lake, messages, published, packing.bytes_per_message);
        let convert_ms = batches * work.convert_wait_ms + megabytes * work.convert_ms_per_mb;
        lines.function(Part::Lake, "convert", batches, convert_ms, work.convert_memory_gb);
        let counted = requests * work.write_units_per_request;
        let claimed = messages * work.convert_write_units_per_message + batches * work.convert_write_units_per_batch;
        lines.millions(
            Part::Lake,
            "DynamoDB",
            "write units",
            counted + claimed,
            prices.dynamodb.per_million_write_units,
        );
        let objects = batches * work.objects_per_batch;
        lines.millions(Part::Lake, "S3", "objects put", objects, prices.s3.per_million_puts);
        lines.logs(Part::Lake, requests * work.http_log_bytes_per_request + batches * work.log_bytes_per_batch);

        let follow_ms = follow_batches * work.follow_wait_ms + megabytes * work.follow_ms_per_mb;
        let follow = [
            (Part::Alerts, "detect", work.detect_write_units_per_message),
            (Part::Search, "index", work.index_write_units_per_message),
        ];
        for (part, function, write_units_per_message) in follow {
            lines.queue(part, messages, published, packing.bytes_per_message);
            lines.function(part, function, follow_batches, follow_ms, work.follow_memory_gb);
            let written = messages * write_units_per_message + follow_batches * work.follow_write_units_per_batch;
            lines.millions(part, "DynamoDB", "write units", written, prices.dynamodb.per_million_write_units);
            lines.logs(part, follow_batches * work.log_bytes_per_batch);
        }
        let hours = work.search_instances * 24.0;
        lines.add(Part::Search, "OpenSearch", "instance hours", hours, hours * prices.opensearch.per_instance_hour);
        let volume = work.search_instances * work.search_volume_gb;
        let per_day = volume * prices.opensearch.per_gb_month / DAYS_PER_MONTH;
        lines.add(Part::Search, "OpenSearch", "GB of disk", volume, per_day);

        lines.millions(
            Part::Standing,
            "SQS",
            "polls of idle queues",
            IDLE_POLLS_PER_DAY,
            prices.sqs.per_million_requests,
        );
        let per_day = work.alarms * prices.cloudwatch.per_alarm_month / DAYS_PER_MONTH;
        lines.add(Part::Standing, "CloudWatch", "alarms", work.alarms, per_day);
        let per_day = work.metrics * prices.cloudwatch.per_metric_month / DAYS_PER_MONTH;
        lines.add(Part::Standing, "CloudWatch", "metrics", work.metrics, per_day);
        let per_day = work.secrets * prices.secrets_manager.per_secret_month / DAYS_PER_MONTH;
        lines.add(Part::Standing, "Secrets Manager", "secrets", work.secrets, per_day);

        let kept_dollars_per_month = megabytes / 1e3 * work.lake_ratio * prices.s3.per_gb_month;
        Ok(Self { traffic, packing, lines: lines.lines, kept_dollars_per_month })
    }

    fn dollars_per_day(&self, part: Part) -> f64 {
        self.lines.iter().filter(|line| line.part == part).map(|line| line.dollars_per_day).sum()
    }

    fn per_billion(&self, dollars_per_day: f64) -> f64 {
        dollars_per_day / self.traffic.events_per_day * BILLION
    }

    fn json(&self, prices: &Prices) -> serde_json::Value {
        let parts: Vec<serde_json::Value> = Part::ALL
            .iter()
            .map(|(part, _)| {
                let dollars = self.dollars_per_day(*part);
                json!({"part": part, "dollars_per_day": dollars, "dollars_per_billion_events": self.per_billion(dollars)})
            })
            .collect();
        json!({
            "prices": {"date": prices.date, "region": prices.region},
            "traffic": self.traffic,
            "packing": self.packing,
            "lines": self.lines,
            "parts": parts,
            "kept_dollars_per_month": self.kept_dollars_per_month,
        })
    }

    fn show(&self, prices: &Prices, out: &mut Out) -> Result<(), Failure> {
        let Traffic { events_per_day, bytes_per_event, events_per_request } = self.traffic;
        out.line(format!(
            "{} events a day of {bytes_per_event:.0} bytes, {events_per_request:.1} in a request ({} message of {:.0} bytes)",
            whole(events_per_day),
            if self.packing.messages_per_request > 1.0 {
                format!("{:.1}, each a", self.packing.messages_per_request)
            } else {
                "one".to_owned()
            },
            self.packing.bytes_per_message
        ))?;
        out.line(format!("prices of {} in {}, US dollars, without tax and free tiers", prices.date, prices.region))?;
        for (part, title) in Part::ALL {
            out.line("")?;
            let heading = out.paint(Style::Bold, title).into_owned();
            out.line(heading)?;
            let row = |service: &str, what: &str, quantity: &str, dollars: f64| {
                let billion = match part {
                    Part::Standing => "-".to_owned(),
                    _ => format!("{:.2}", self.per_billion(dollars)),
                };
                vec![service.to_owned(), what.to_owned(), quantity.to_owned(), format!("{dollars:.2}"), billion]
            };
            let own = self.lines.iter().filter(|line| line.part == part);
            let mut rows: Vec<_> =
                own.map(|line| row(line.service, &line.what, &whole(line.quantity), line.dollars_per_day)).collect();
            rows.push(row("total", "", "", self.dollars_per_day(part)));
            out.line(table(&["service", "what", "a day", "$ a day", "$ per billion events"], &[2, 3, 4], rows))?;
        }
        out.line("")?;
        out.line(format!(
            "each day's events in the lake: ${:.2} for every month that they are kept",
            self.kept_dollars_per_month
        ))
    }
}

/// A quantity without its fraction.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "quantities are positive and far below 2^64"
)]
fn whole(quantity: f64) -> String {
    grouped(quantity.round() as u64)
}

struct Lines<'p> {
    prices: &'p Prices,
    lines: Vec<Line>,
}

impl Lines<'_> {
    fn add(&mut self, part: Part, service: &'static str, what: &str, quantity: f64, dollars_per_day: f64) {
        self.lines.push(Line { part, service, what: what.to_owned(), quantity, dollars_per_day });
    }

    fn millions(&mut self, part: Part, service: &'static str, what: &str, quantity: f64, per_million: f64) {
        self.add(part, service, what, quantity, quantity / 1e6 * per_million);
    }

    /// Calls of a function and the memory that it holds meanwhile.
    fn function(&mut self, part: Part, function: &str, calls: f64, milliseconds: f64, memory_gb: f64) {
        let prices = self.prices;
        let calls_of = format!("calls of {function}");
        self.millions(part, "Lambda", &calls_of, calls, prices.lambda.per_million_requests);
        let gb_seconds = milliseconds / 1e3 * memory_gb;
        self.add(
            part,
            "Lambda",
            &format!("GB-seconds of {function}"),
            gb_seconds,
            gb_seconds * prices.lambda.per_gb_second,
        );
    }

    /// Messages into a queue, out of it ten at a time, and away.
    fn queue(&mut self, part: Part, messages: f64, sent: f64, bytes_per_message: f64) {
        let prices = self.prices;
        let calls = messages / SQS_BATCH;
        let received = calls * prices.sqs.units(bytes_per_message * SQS_BATCH);
        self.millions(part, "SQS", "sent, received, deleted", sent + received + calls, prices.sqs.per_million_requests);
    }

    fn logs(&mut self, part: Part, bytes: f64) {
        let gigabytes = bytes / 1e9;
        self.add(part, "CloudWatch", "GB of log lines", gigabytes, gigabytes * self.prices.cloudwatch.per_gb_of_logs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;

    fn prices() -> Prices {
        toml::from_str(PRICES).unwrap()
    }

    fn bill(events: f64, bytes: f64, per_request: f64) -> Bill {
        let traffic = Traffic { events_per_day: events, bytes_per_event: bytes, events_per_request: per_request };
        Bill::of(traffic, &prices()).unwrap()
    }

    fn cost(events_per_day: Option<u64>) -> Cost {
        Cost { events_per_day, bytes: None, events_per_request: None, prices: None, json: true }
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9 * right.abs().max(1.0)
    }

    #[test]
    fn the_lines_add_up_by_hand() {
        let bill = bill(1e6, 1_000.0, 100.0);
        let line = |service: &str, what: &str| {
            bill.lines.iter().find(|l| (l.part, l.service, l.what.as_str()) == (Part::Lake, service, what)).unwrap()
        };
        // 10,000 requests of 100 kB, each counted once.
        assert!(near(line("API Gateway", "requests").dollars_per_day, 0.01));
        assert!(near(line("Lambda", "calls of ingest").dollars_per_day, 0.002));
        let work = prices().work;
        let gb_seconds =
            (10_000.0 * work.ingest_wait_ms + 1_000.0 * work.ingest_ms_per_mb) / 1e3 * work.ingest_memory_gb;
        assert!(near(line("Lambda", "GB-seconds of ingest").quantity, gb_seconds));
        assert!(near(line("SNS", "published 64 KiB").quantity, 10_000.0 * bill.packing.units_per_request));
        // All day long a batch of `convert` waits for its window: 86,400 / 20.
        assert!(near(line("Lambda", "calls of convert").quantity, 4_320.0));
        assert!(near(line("S3", "objects put").quantity, 4_320.0 * work.objects_per_batch));
        let sum: f64 = bill.lines.iter().filter(|l| l.part == Part::Lake).map(|l| l.dollars_per_day).sum();
        assert!(near(bill.dollars_per_day(Part::Lake), sum));
        assert!(near(bill.per_billion(sum), sum * 1_000.0));
    }

    #[test]
    fn larger_requests_cost_less_and_opensearch_stands_apart() {
        let lake = |per_request| {
            let bill = bill(1e9, 1_000.0, per_request);
            bill.per_billion(bill.dollars_per_day(Part::Lake))
        };
        assert!(lake(500.0) < lake(100.0) && lake(100.0) < lake(1.0), "{} {} {}", lake(500.0), lake(100.0), lake(1.0));
        assert!(bill(1e9, 1_000.0, 100.0).lines.iter().all(|l| l.service != "OpenSearch" || l.part == Part::Search));
    }

    #[test]
    fn a_request_beyond_what_a_function_gets_is_refused_with_what_fits() {
        let traffic = Traffic { events_per_day: 1e6, bytes_per_event: 10_000.0, events_per_request: 1_000.0 };
        let failure = Bill::of(traffic, &prices()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("450 such events"), "{failure}");
    }

    #[test]
    fn a_message_is_packed_as_ingest_packs_it() {
        let small = Packing::measure(1_000.0, &prices().sns).unwrap();
        assert!(near(small.messages_per_request, 1.0) && near(small.units_per_request, 1.0), "{small:?}");
        let middle = Packing::measure(500_000.0, &prices().sns).unwrap();
        assert!(near(middle.messages_per_request, 1.0) && near(middle.units_per_request, 2.0), "{middle:?}");
        let large = Packing::measure(4_000_000.0, &prices().sns).unwrap();
        assert!(large.messages_per_request > 4.0, "a message has at most 1 MiB of text: {large:?}");
        assert!(large.bytes_per_message * large.messages_per_request < 1_000_000.0, "it is compressed: {large:?}");
    }

    #[tokio::test]
    async fn without_a_number_the_last_day_is_measured() {
        let fake = Fake::start(|_, _| {
            let hit = json!({"_id": "1", "_source": {"id": "x".repeat(391)}});
            let reply = json!({"hits": {"total": {"value": 5_000, "relation": "eq"}, "hits": [hit]},
                "aggregations": {"requests": {"value": 50}}});
            (200, vec![], reply.to_string())
        })
        .await;
        let (mut out, written) = Out::captured();
        cost(None).run(&fake.client(), &mut out).await.unwrap();
        let said: serde_json::Value = serde_json::from_str(&written.text()).unwrap();
        let expected = json!({"events_per_day": 5000.0, "bytes_per_event": 400.0, "events_per_request": 100.0});
        assert_eq!(said["traffic"], expected);
        assert_eq!(said["prices"]["region"], "us-east-1");
    }

    #[tokio::test]
    async fn a_day_without_events_asks_for_a_number() {
        let fake =
            Fake::start(|_, _| (200, vec![], json!({"hits": {"total": {"value": 0}, "hits": []}}).to_string())).await;
        let (mut out, _) = Out::captured();
        let failure = cost(None).run(&fake.client(), &mut out).await.unwrap_err();
        assert!(failure.to_string().contains("--events-per-day"), "{failure}");
    }

    #[test]
    fn the_bill_is_readable_and_says_of_when_its_prices_are() {
        let (mut out, written) = Out::captured();
        Cost { json: false, ..cost(Some(1_000_000_000)) }.tell(&mut out).unwrap();
        let text = written.text();
        for piece in [
            "1,000,000,000 events a day of 1000 bytes",
            "in us-east-1",
            "API Gateway",
            "OpenSearch",
            "$ PER BILLION EVENTS",
        ] {
            assert!(text.contains(piece), "no `{piece}` in\n{text}");
        }
    }

    #[test]
    fn prices_that_cannot_be_used_say_why() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), PRICES.replace("per_gb_second", "per_gb_hour")).unwrap();
        let (mut out, _) = Out::captured();
        let cost = Cost { prices: Some(file.path().to_owned()), ..cost(Some(1)) };
        let failure = cost.tell(&mut out).unwrap_err();
        assert!(failure.to_string().contains("per_gb_hour"), "{failure}");
    }
}
