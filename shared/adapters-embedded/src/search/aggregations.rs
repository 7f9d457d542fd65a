//! OpenSearch aggregations by tantivy's. Field names become columns, `filters` and ranges become one filter each, and the answers get
//! OpenSearch's shape back.

use super::dates;
use super::query::{Context, Malformed, compile, malformed, object, required, text_of};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tantivy::TantivyError;
use tantivy::aggregation::agg_req::{Aggregation, AggregationVariants, Aggregations};
use tantivy::aggregation::agg_result::AggregationResults;
use tantivy::aggregation::bucket::{FilterAggregation, QueryBuilder};
use tantivy::query::Query;
use tantivy::schema::Schema;
use tantivy::tokenizer::TokenizerManager;

/// Most buckets of an answer, as OpenSearch's `search.max_buckets`.
pub(super) const BUCKETS: u32 = 65_535;
/// Deepest nesting.
const DEPTH: usize = 10;
/// Most aggregations of one request, all levels together.
const COUNT: usize = 256;

/// How one aggregation's answer is read.
#[derive(Debug)]
pub(super) struct Plan {
    name: String,
    shape: Shape,
    children: Vec<Plan>,
}

#[derive(Debug)]
enum Shape {
    /// One number; `None` of a date is printed as such.
    Metric {
        date: bool,
        whole: bool,
    },
    Stats {
        date: bool,
    },
    Percentiles {
        keyed: bool,
    },
    Terms {
        date: bool,
        by_count: bool,
    },
    Histogram {
        keyed: bool,
    },
    DateHistogram {
        keyed: bool,
        format: DateFormat,
        offset_ms: i64,
    },
    /// One bucket.
    Filter,
    /// Several filters under `name` with a number behind a NUL.
    Filters {
        buckets: Vec<Bucket>,
        keyed: bool,
    },
}

/// What is known of a filter's bucket beforehand.
#[derive(Debug)]
struct Bucket {
    key: String,
    head: Map<String, Value>,
}

#[derive(Debug, Clone, Copy)]
enum DateFormat {
    Full,
    Day,
    EpochMs,
}

/// Reads `aggs` into a request and the plan of its answer.
pub(super) fn read(context: &Arc<Context>, aggs: &Value, path: &str) -> Result<(Aggregations, Vec<Plan>), Malformed> {
    let mut left = COUNT;
    Reader { context, left: &mut left }.level(aggs, path, 0)
}

/// The answer in OpenSearch's shape.
pub(super) fn answer(results: AggregationResults, plans: &[Plan]) -> Result<Value, TantivyError> {
    let results = serde_json::to_value(results)?;
    Ok(Value::Object(level(&results, plans)))
}

struct Reader<'a> {
    context: &'a Arc<Context>,
    left: &'a mut usize,
}

impl Reader<'_> {
    fn level(&mut self, aggs: &Value, path: &str, depth: usize) -> Result<(Aggregations, Vec<Plan>), Malformed> {
        if depth >= DEPTH {
            return malformed(path, format!("aggregations nest deeper than {DEPTH}"));
        }
        let (mut requests, mut plans) = (Aggregations::default(), Vec::new());
        for (name, body) in object(aggs, path)? {
            let at = format!("{path}.{name}");
            if name.contains('\0') {
                return malformed(&at, "not a name");
            }
            *self.left = match self.left.checked_sub(1) {
                Some(left) => left,
                None => return malformed(path, format!("more than {COUNT} aggregations")),
            };
            let (mut kind, mut below) = (None, None);
            for (key, value) in object(body, &at)? {
                match key.as_str() {
                    "aggs" | "aggregations" => below = Some((key, value)),
                    "meta" => {}
                    _ if kind.is_some() => return malformed(&at, "it takes one aggregation"),
                    _ => kind = Some((key.as_str(), value)),
                }
            }
            let Some((kind, body)) = kind else { return malformed(&at, "it lacks an aggregation") };
            let (sub_aggregation, children) = match below {
                Some((key, below)) => self.level(below, &format!("{at}.{key}"), depth + 1)?,
                None => (Aggregations::default(), Vec::new()),
            };
            let at = format!("{at}.{kind}");
            let (variants, shape) = self.one(kind, body, &at)?;
            let bucket = !matches!(shape, Shape::Metric { .. } | Shape::Stats { .. } | Shape::Percentiles { .. });
            if !bucket && !children.is_empty() {
                return malformed(&at, "it has no buckets, so it takes no aggregations below it");
            }
            let split = matches!(shape, Shape::Filters { .. });
            for (n, agg) in variants.into_iter().enumerate() {
                let key = if split { format!("{name}\0{n}") } else { name.clone() };
                requests.insert(key, Aggregation { agg, sub_aggregation: sub_aggregation.clone() });
            }
            plans.push(Plan { name: name.clone(), shape, children });
        }
        Ok((requests, plans))
    }

    fn one(&mut self, kind: &str, body: &Value, at: &str) -> Result<(Vec<AggregationVariants>, Shape), Malformed> {
        match kind {
            "min" | "max" | "sum" | "avg" | "value_count" | "cardinality" => {
                allow(body, at, &["field", "missing", "format", "precision_threshold"])?;
                let (column, date) = self.field(body, at)?;
                let whole = matches!(kind, "value_count" | "cardinality");
                let date = date && !whole;
                let agg = variant(kind, json!({"field": column}), body, &["missing"], at)?;
                Ok((vec![agg], Shape::Metric { date, whole }))
            }
            "stats" | "extended_stats" => {
                allow(body, at, &["field", "missing", "format", "sigma"])?;
                let (column, date) = self.field(body, at)?;
                Ok((
                    vec![variant(kind, json!({"field": column}), body, &["missing", "sigma"], at)?],
                    Shape::Stats { date },
                ))
            }
            "percentiles" => {
                allow(body, at, &["field", "missing", "percents", "keyed", "tdigest", "hdr"])?;
                let (column, _) = self.field(body, at)?;
                let request = json!({"field": column, "keyed": false});
                let agg = variant(kind, request, body, &["missing", "percents"], at)?;
                Ok((vec![agg], Shape::Percentiles { keyed: keyed(body, true) }))
            }
            "terms" => {
                allow(
                    body,
                    at,
                    &[
                        "field",
                        "size",
                        "order",
                        "min_doc_count",
                        "missing",
                        "include",
                        "exclude",
                        "shard_size",
                        "show_term_doc_count_error",
                        "execution_hint",
                        "collect_mode",
                    ],
                )?;
                let (column, date) = self.field(body, at)?;
                let size = match body.get("size") {
                    None => 10,
                    Some(size) => match size.as_u64().filter(|size| (1..=u64::from(BUCKETS)).contains(size)) {
                        Some(size) => size,
                        None => return malformed(&format!("{at}.size"), format!("it takes 1 to {BUCKETS}")),
                    },
                };
                // A segment gives up no term that the whole might need, up to the limit of buckets.
                let mut request = json!({"field": column, "size": size, "segment_size": BUCKETS});
                let order =
                    body.get("order").map(|order| order.as_array().and_then(|list| list.first()).unwrap_or(order));
                if let Some(order) = order {
                    request["order"] = order.clone();
                }
                let by_count = order.is_none_or(|order| order.get("_count") == Some(&json!("desc")));
                let agg = variant(kind, request, body, &["min_doc_count", "missing", "include", "exclude"], at)?;
                Ok((vec![agg], Shape::Terms { date, by_count }))
            }
            "histogram" => {
                allow(
                    body,
                    at,
                    &["field", "interval", "offset", "min_doc_count", "hard_bounds", "extended_bounds", "keyed"],
                )?;
                let (column, _) = self.field(body, at)?;
                required(body, "interval", at)?;
                let copied = ["interval", "offset", "min_doc_count", "hard_bounds", "extended_bounds"];
                let agg = variant(kind, json!({"field": column}), body, &copied, at)?;
                Ok((vec![agg], Shape::Histogram { keyed: keyed(body, false) }))
            }
            "date_histogram" => self.date_histogram(body, at),
            "filter" => {
                let agg = self.filter(body.clone(), at)?;
                Ok((vec![agg], Shape::Filter))
            }
            "missing" => {
                let field = text_of(body, "field", at)?;
                let agg = self.filter(json!({"bool": {"must_not": {"exists": {"field": field}}}}), at)?;
                Ok((vec![agg], Shape::Filter))
            }
            "filters" => self.filters(body, at),
            "range" | "date_range" => self.ranges(body, at, kind == "date_range"),
            _ => malformed(
                at,
                "an unknown aggregation; there are avg, cardinality, date_histogram, date_range, extended_stats, filter, filters, \
                 histogram, max, min, missing, percentiles, range, stats, sum, terms and value_count",
            ),
        }
    }

    /// The column of `field`, and whether it holds dates.
    fn field(&self, body: &Value, at: &str) -> Result<(String, bool), Malformed> {
        let path = self.context.templates.resolve(text_of(body, "field", at)?);
        let found = self.context.column(path).and_then(|column| Ok((column, self.context.is_date(path)?)));
        found.or_else(|error| malformed(at, format!("the fields cannot be listed: {error}")))
    }

    fn filter(&mut self, body: Value, at: &str) -> Result<AggregationVariants, Malformed> {
        // A mistake is found here, where its place is known; per segment the query is made again.
        compile(self.context, &body, at)?;
        let builder = BodyQuery { body, path: at.to_owned(), context: Some(self.context.clone()) };
        Ok(AggregationVariants::Filter(FilterAggregation::new_with_builder(Box::new(builder))))
    }

    fn filters(&mut self, body: &Value, at: &str) -> Result<(Vec<AggregationVariants>, Shape), Malformed> {
        allow(body, at, &["filters", "keyed"])?;
        let at = &format!("{at}.filters");
        let (mut aggs, mut buckets) = (Vec::new(), Vec::new());
        let keyed = match &body["filters"] {
            Value::Object(filters) => {
                for (name, filter) in filters {
                    aggs.push(self.filter(filter.clone(), &format!("{at}.{name}"))?);
                    buckets.push(Bucket { key: name.clone(), head: Map::new() });
                }
                true
            }
            Value::Array(filters) => {
                for (n, filter) in filters.iter().enumerate() {
                    aggs.push(self.filter(filter.clone(), &format!("{at}[{n}]"))?);
                    buckets.push(Bucket { key: n.to_string(), head: Map::new() });
                }
                false
            }
            _ => return malformed(at, "it takes an object or a list"),
        };
        Ok((aggs, Shape::Filters { buckets, keyed }))
    }

    fn ranges(&mut self, body: &Value, at: &str, dates: bool) -> Result<(Vec<AggregationVariants>, Shape), Malformed> {
        allow(body, at, &["field", "ranges", "keyed", "format", "time_zone"])?;
        let field = text_of(body, "field", at)?;
        let Some(ranges) = required(body, "ranges", at)?.as_array() else {
            return malformed(&format!("{at}.ranges"), "it takes a list");
        };
        if ranges.len() > COUNT {
            return malformed(&format!("{at}.ranges"), format!("more than {COUNT} ranges"));
        }
        let (mut aggs, mut buckets) = (Vec::new(), Vec::new());
        for (n, range) in ranges.iter().enumerate() {
            let at = format!("{at}.ranges[{n}]");
            let mut head = Map::new();
            let mut bounds = Map::new();
            let mut names = Vec::new();
            for (side, bound) in [("from", "gte"), ("to", "lt")] {
                let Some(value) = range.get(side).filter(|value| !value.is_null()) else {
                    names.push("*".to_owned());
                    continue;
                };
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let span = dates::parse_math(&text, self.context.now_ms).filter(|_| dates);
                let number = text.parse::<f64>().ok().filter(|_| !dates);
                match (span, number) {
                    (Some(span), _) => {
                        let shown = dates::format(span.first_ms);
                        head.insert(side.to_owned(), json!(ms_float(span.first_ms)));
                        head.insert(format!("{side}_as_string"), json!(shown));
                        bounds.insert(bound.to_owned(), json!(shown));
                        names.push(shown);
                    }
                    (None, Some(number)) => {
                        head.insert(side.to_owned(), json!(number));
                        bounds.insert(bound.to_owned(), value.clone());
                        names.push(float_text(number));
                    }
                    (None, None) => {
                        return malformed(
                            &format!("{at}.{side}"),
                            if dates { "it takes a date" } else { "it takes a number" },
                        );
                    }
                }
            }
            let key = range.get("key").and_then(Value::as_str).map_or_else(|| names.join("-"), str::to_owned);
            aggs.push(self.filter(json!({"range": {field: bounds}}), &at)?);
            buckets.push(Bucket { key, head });
        }
        Ok((aggs, Shape::Filters { buckets, keyed: keyed(body, false) }.ranged()))
    }

    fn date_histogram(&mut self, body: &Value, at: &str) -> Result<(Vec<AggregationVariants>, Shape), Malformed> {
        allow(
            body,
            at,
            &[
                "field",
                "fixed_interval",
                "calendar_interval",
                "offset",
                "min_doc_count",
                "extended_bounds",
                "hard_bounds",
                "keyed",
                "format",
                "time_zone",
            ],
        )?;
        let (column, _) = self.field(body, at)?;
        let mut shift_ms = 0;
        let interval = match (body.get("fixed_interval"), body.get("calendar_interval")) {
            (Some(fixed), None) => fixed.as_str().and_then(interval_ms).map(|ms| (ms, "fixed_interval")),
            (None, Some(calendar)) => match calendar.as_str().unwrap_or_default() {
                "minute" | "1m" => Some((60_000, "calendar_interval")),
                "hour" | "1h" => Some((3_600_000, "calendar_interval")),
                "day" | "1d" => Some((86_400_000, "calendar_interval")),
                "week" | "1w" => {
                    // Weeks begin on Monday and the epoch on a Thursday.
                    shift_ms = 4 * 86_400_000;
                    Some((7 * 86_400_000, "calendar_interval"))
                }
                _ => return malformed(&format!("{at}.calendar_interval"), "it takes minute, hour, day or week here"),
            },
            _ => return malformed(at, "it takes one of `fixed_interval` and `calendar_interval`"),
        };
        let Some((interval_ms, _)) = interval else {
            return malformed(
                &format!("{at}.fixed_interval"),
                "it takes a count and one of ms, s, m, h and d, for example `15m`",
            );
        };
        let offset_ms = match body.get("time_zone").map(|zone| zone.as_str().unwrap_or_default()) {
            None => 0,
            Some(zone) => match zone_ms(zone) {
                Some(ms) => ms,
                None => {
                    return malformed(&format!("{at}.time_zone"), "it takes `UTC` or an offset such as `+09:00` here");
                }
            },
        };
        if let Some(offset) = body.get("offset") {
            let text = offset.as_str().unwrap_or_default();
            let (sign, length) =
                text.strip_prefix('-').map_or((1, text.strip_prefix('+').unwrap_or(text)), |rest| (-1, rest));
            match self::interval_ms(length) {
                Some(ms) => shift_ms += sign * ms,
                None => return malformed(&format!("{at}.offset"), "it takes an interval, for example `+6h`"),
            }
        }
        let format = match body.get("format").map(|format| format.as_str().unwrap_or_default()) {
            None | Some("strict_date_optional_time" | "date_time" | "strict_date_time") => DateFormat::Full,
            Some("yyyy-MM-dd" | "strict_date" | "date") => DateFormat::Day,
            Some("epoch_millis") => DateFormat::EpochMs,
            Some(_) => {
                return malformed(
                    &format!("{at}.format"),
                    "it takes `yyyy-MM-dd`, `epoch_millis` or `strict_date_time` here",
                );
            }
        };
        let shift_ms = (shift_ms - offset_ms).rem_euclid(interval_ms);
        let mut request =
            json!({"field": column, "fixed_interval": format!("{interval_ms}ms"), "offset": format!("{shift_ms}ms")});
        for name in ["extended_bounds", "hard_bounds"] {
            let Some(bounds) = body.get(name) else { continue };
            let mut read = Map::new();
            for side in ["min", "max"] {
                let value = required(bounds, side, &format!("{at}.{name}"))?;
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let ms =
                    value.as_i64().or_else(|| dates::parse_math(&text, self.context.now_ms).map(|span| span.first_ms));
                match ms {
                    Some(ms) => read.insert(side.to_owned(), json!(ms_float(ms))),
                    None => return malformed(&format!("{at}.{name}.{side}"), "it takes a date"),
                };
            }
            request[name] = Value::Object(read);
        }
        let agg = variant("date_histogram", request, body, &["min_doc_count"], at)?;
        Ok((vec![agg], Shape::DateHistogram { keyed: keyed(body, false), format, offset_ms }))
    }
}

impl Shape {
    /// Ranges are listed under their keys also when they are not keyed.
    fn ranged(self) -> Self {
        match self {
            Shape::Filters { mut buckets, keyed: false } => {
                for bucket in &mut buckets {
                    let mut head = Map::new();
                    head.insert("key".to_owned(), json!(bucket.key));
                    head.append(&mut bucket.head);
                    bucket.head = head;
                }
                Shape::Filters { buckets, keyed: false }
            }
            other => other,
        }
    }
}

fn allow(body: &Value, at: &str, names: &[&str]) -> Result<(), Malformed> {
    match object(body, at)?.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => malformed(&format!("{at}.{name}"), "unknown here"),
        None => Ok(()),
    }
}

/// `request` and the named parts of `body` as tantivy's request.
fn variant(
    kind: &str,
    mut request: Value,
    body: &Value,
    copied: &[&str],
    at: &str,
) -> Result<AggregationVariants, Malformed> {
    for name in copied {
        if let Some(value) = body.get(*name) {
            request[*name] = value.clone();
        }
    }
    serde_json::from_value(json!({kind: request})).or_else(|error| malformed(at, error.to_string()))
}

fn keyed(body: &Value, default: bool) -> bool {
    body.get("keyed").and_then(Value::as_bool).unwrap_or(default)
}

fn interval_ms(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    // A hundred years, so that nanoseconds stay far from their end.
    text[..digits].parse::<i64>().ok()?.checked_mul(unit).filter(|ms| (1..=3_155_760_000_000).contains(ms))
}

fn zone_ms(zone: &str) -> Option<i64> {
    if matches!(zone, "UTC" | "Z" | "GMT") {
        return Some(0);
    }
    let (sign, rest) = zone.strip_prefix('-').map_or_else(|| (1, zone.strip_prefix('+')), |rest| (-1, Some(rest)));
    let (hours, minutes) = rest?.split_once(':')?;
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    (hours <= 18 && minutes < 60).then(|| sign * (i64::from(hours) * 60 + i64::from(minutes)) * 60_000)
}

/// Milliseconds as OpenSearch writes them in buckets; exact far beyond any date.
#[allow(clippy::cast_precision_loss)]
fn ms_float(ms: i64) -> f64 {
    ms as f64
}

fn float_text(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number:.1}") } else { number.to_string() }
}

/// A query body that becomes a query for each segment.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct BodyQuery {
    body: Value,
    path: String,
    #[serde(skip)]
    context: Option<Arc<Context>>,
}

#[typetag::serde(name = "sluice_body")]
impl QueryBuilder for BodyQuery {
    fn build_query(&self, _: &Schema, _: &TokenizerManager) -> tantivy::Result<Box<dyn Query>> {
        match &self.context {
            Some(context) => Ok(compile(context, &self.body, &self.path)?),
            // Only a copy that went through text lacks it, and nothing here writes any.
            None => Err(TantivyError::InternalError("a filter lost its context".to_owned())),
        }
    }

    fn box_clone(&self) -> Box<dyn QueryBuilder> {
        Box::new(self.clone())
    }
}

fn level(results: &Value, plans: &[Plan]) -> Map<String, Value> {
    plans.iter().map(|plan| (plan.name.clone(), plan.answer(results))).collect()
}

impl Plan {
    fn answer(&self, results: &Value) -> Value {
        let result = &results[&self.name];
        match &self.shape {
            Shape::Metric { date, whole } => metric(&result["value"], *date, *whole),
            Shape::Stats { date } => stats(result, *date),
            Shape::Percentiles { keyed } => percentiles(&result["values"], *keyed),
            Shape::Terms { date, by_count } => {
                let mut buckets: Vec<Value> =
                    list(&result["buckets"]).iter().map(|bucket| self.bucket(bucket, *date)).collect();
                if *by_count {
                    buckets.sort_by(|left, right| {
                        right["doc_count"]
                            .as_u64()
                            .cmp(&left["doc_count"].as_u64())
                            .then_with(|| order(&left["key"], &right["key"]))
                    });
                }
                json!({
                    "doc_count_error_upper_bound": result["doc_count_error_upper_bound"].as_u64().unwrap_or(0),
                    "sum_other_doc_count": result["sum_other_doc_count"].as_u64().unwrap_or(0),
                    "buckets": buckets,
                })
            }
            Shape::Histogram { keyed } => {
                let buckets = list(&result["buckets"]).iter().map(|bucket| {
                    let key = bucket["key"].as_f64().unwrap_or_default();
                    (float_text(key), self.with_children(json!({"key": key, "doc_count": bucket["doc_count"]}), bucket))
                });
                json!({"buckets": collect(buckets, *keyed)})
            }
            Shape::DateHistogram { keyed, format, offset_ms } => {
                let buckets = list(&result["buckets"]).iter().map(|bucket| {
                    let ms = whole_number(&bucket["key"]);
                    let text = date_text(ms, *format, *offset_ms);
                    let head = json!({"key_as_string": text, "key": ms, "doc_count": bucket["doc_count"]});
                    (text, self.with_children(head, bucket))
                });
                json!({"buckets": collect(buckets, *keyed)})
            }
            Shape::Filter => {
                self.with_children(json!({"doc_count": result["doc_count"].as_u64().unwrap_or(0)}), result)
            }
            Shape::Filters { buckets, keyed } => {
                let buckets = buckets.iter().enumerate().map(|(n, bucket)| {
                    let result = &results[format!("{}\0{n}", self.name)];
                    let mut head = bucket.head.clone();
                    head.insert("doc_count".to_owned(), json!(result["doc_count"].as_u64().unwrap_or(0)));
                    (bucket.key.clone(), self.with_children(Value::Object(head), result))
                });
                json!({"buckets": collect(buckets, *keyed)})
            }
        }
    }

    fn bucket(&self, bucket: &Value, date: bool) -> Value {
        let mut head = json!({"key": bucket["key"], "doc_count": bucket["doc_count"]});
        let text = bucket["key_as_string"].as_str().or_else(|| bucket["key"].as_str());
        if let Some(span) = text.and_then(dates::parse).filter(|_| date) {
            head = json!({"key": span.first_ms, "key_as_string": dates::format(span.first_ms), "doc_count": bucket["doc_count"]});
        } else if let Some(text) = bucket["key_as_string"].as_str() {
            head["key_as_string"] = json!(text);
        }
        // A whole number is one, whatever column it came from.
        if let Some(key) = bucket["key"]
            .as_f64()
            .filter(|key| key.fract() == 0.0 && key.abs() < 9e15 && !date && !bucket["key"].is_i64())
        {
            head["key"] = json!(whole_number(&json!(key)));
        }
        self.with_children(head, bucket)
    }

    fn with_children(&self, mut head: Value, result: &Value) -> Value {
        if let Some(head) = head.as_object_mut() {
            head.extend(level(result, &self.children));
        }
        head
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn collect(buckets: impl Iterator<Item = (String, Value)>, keyed: bool) -> Value {
    if keyed { Value::Object(buckets.collect()) } else { Value::Array(buckets.map(|(_, bucket)| bucket).collect()) }
}

fn order(left: &Value, right: &Value) -> std::cmp::Ordering {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.total_cmp(&right),
        _ => left.as_str().cmp(&right.as_str()),
    }
}

#[allow(clippy::cast_possible_truncation)]
fn whole_number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| value.as_f64().unwrap_or_default().round() as i64)
}

fn date_text(ms: i64, format: DateFormat, offset_ms: i64) -> String {
    let mut text = dates::format(ms + offset_ms);
    match format {
        DateFormat::EpochMs => return ms.to_string(),
        DateFormat::Day => text.truncate("yyyy-MM-dd".len()),
        DateFormat::Full if offset_ms != 0 => {
            text.pop();
            let minutes = offset_ms.abs() / 60_000;
            text.push_str(&format!("{}{:02}:{:02}", if offset_ms < 0 { '-' } else { '+' }, minutes / 60, minutes % 60));
        }
        DateFormat::Full => {}
    }
    text
}

fn metric(value: &Value, date: bool, whole: bool) -> Value {
    if date && !value.is_null() {
        let ms = date_ms(value);
        return json!({"value": ms_float(ms), "value_as_string": dates::format(ms)});
    }
    json!({"value": if whole { json!(whole_number(value)) } else { value.clone() }})
}

/// Tantivy's metrics of dates are nanoseconds.
fn date_ms(value: &Value) -> i64 {
    whole_number(&json!(value.as_f64().unwrap_or_default() / 1e6))
}

fn stats(result: &Value, date: bool) -> Value {
    let mut out = result.clone();
    if let Some(out) = out.as_object_mut() {
        out.insert("count".to_owned(), json!(whole_number(&result["count"])));
        for name in ["min", "max", "avg", "sum"] {
            if date && !result[name].is_null() {
                let ms = date_ms(&result[name]);
                out.insert(name.to_owned(), json!(ms_float(ms)));
                out.insert(format!("{name}_as_string"), json!(dates::format(ms)));
            }
        }
    }
    out
}

fn percentiles(values: &Value, keyed: bool) -> Value {
    if !keyed {
        return json!({"values": values});
    }
    let pairs = list(values)
        .iter()
        .map(|value| (float_text(value["key"].as_f64().unwrap_or_default()), value["value"].clone()));
    json!({"values": pairs.collect::<Map<_, _>>()})
}
