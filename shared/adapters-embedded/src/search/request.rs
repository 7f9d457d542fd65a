//! A search from its body to its answer.

use super::aggregations::{self, BUCKETS};
use super::fields::Fields;
use super::mapping::fits;
use super::pattern::Pattern;
use super::query::{Context, Malformed, compile, malformed, object, of_indices};
use super::sort::{self, Hit, Page, Pager};
use super::{Inner, failure};
use serde_json::{Map, Value, json};
use sluice_ports::{ErrorKind, PortError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tantivy::aggregation::{AggContextParams, AggregationCollector, AggregationLimitsGuard};
use tantivy::collector::Count;
use tantivy::query::{AllQuery, BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{Searcher, TantivyDocument, TantivyError, Term};

const SEARCH: &str = "search.search";

/// Most documents of a page, `from` included, as OpenSearch's `index.max_result_window`.
const WINDOW: u64 = 10_000;

impl From<Malformed> for PortError {
    fn from(malformed: Malformed) -> Self {
        PortError::new(ErrorKind::Invalid, SEARCH, format!("`{}`: {}", malformed.path, malformed.why))
    }
}

pub(super) fn search(inner: &Inner, pattern: &str, body: &Value) -> Result<Value, PortError> {
    let started = Instant::now();
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    let failed = |error| failure::tantivy(SEARCH, error);
    let empty = json!({});
    let body = if body.is_null() { &empty } else { body };
    let request = Request::read(body)?;

    let searcher = inner.reader.searcher();
    let existing = indices(&searcher, inner.fields).map_err(failed)?;
    let wanted = existing.iter().filter(|index| pattern_fits(pattern, index)).cloned().collect();
    let context = Arc::new(Context::new(inner.fields, inner.templates(), searcher, wanted, now_ms));

    let query = match body.get("query") {
        Some(query) => compile(&context, query, "query")?,
        None => Box::new(AllQuery),
    };
    let query: Box<dyn Query> = match of_indices(&context, existing.len()) {
        Some(of_indices) => Box::new(BooleanQuery::new(vec![(Occur::Must, query), (Occur::Must, of_indices)])),
        None => query,
    };
    let pager = Pager::new(&context, request.sorts, request.after, request.from + request.size);
    let aggs = body
        .get("aggs")
        .map(|aggs| ("aggs", aggs))
        .or_else(|| body.get("aggregations").map(|aggs| ("aggregations", aggs)));
    let (collector, plans) = match aggs {
        Some((name, aggs)) => {
            let (aggs, plans) = aggregations::read(&context, aggs, name)?;
            let limits = AggregationLimitsGuard::new(Some(inner.aggregation_memory_bytes), Some(BUCKETS));
            let params = AggContextParams::new(limits, inner.index.tokenizers().clone());
            (Some(AggregationCollector::from_aggs(aggs, params)), plans)
        }
        None => (None, Vec::new()),
    };
    let (page, results) = context.searcher.search(&*query, &(pager, collector)).map_err(failed)?;

    let scored = body.get("sort").is_none() && request.size > 0;
    let mut response = json!({
        "took": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "timed_out": false,
        "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
        "hits": {},
    });
    let mut hits = Map::new();
    if let Some(total) = request.track.total(page.total) {
        hits.insert("total".to_owned(), total);
    }
    hits.insert("max_score".to_owned(), page.max_score.filter(|_| scored).map_or(Value::Null, |score| json!(score)));
    let sorted = body.get("sort").is_some();
    hits.insert("hits".to_owned(), fetch(&context, page, request.from, &request.source, sorted).map_err(failed)?);
    response["hits"] = Value::Object(hits);
    if let Some(results) = results {
        response["aggregations"] = aggregations::answer(results, &plans).map_err(failed)?;
    }
    Ok(response)
}

/// Names of the logical indices that have documents and match a pattern, sorted.
pub(super) fn indices_that_match(inner: &Inner, pattern: &str) -> tantivy::Result<Vec<String>> {
    let searcher = inner.reader.searcher();
    let mut names = Vec::new();
    for name in indices(&searcher, inner.fields)?.into_iter().filter(|name| pattern_fits(pattern, name)) {
        let term = Term::from_field_text(inner.fields.index, &name);
        if searcher.search(&TermQuery::new(term, IndexRecordOption::Basic), &Count)? > 0 {
            names.push(name);
        }
    }
    Ok(names)
}

/// Names of the logical indices that have documents, or had some that still lie in a segment.
fn indices(searcher: &Searcher, fields: Fields) -> tantivy::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for reader in searcher.segment_readers() {
        let inverted = reader.inverted_index(fields.index)?;
        let mut terms = inverted.terms().stream()?;
        while terms.advance() {
            if let Ok(name) = std::str::from_utf8(terms.key()) {
                names.insert(name.to_owned());
            }
        }
    }
    Ok(names)
}

fn pattern_fits(patterns: &str, index: &str) -> bool {
    let mut fitting = false;
    for pattern in patterns.split(',').map(str::trim) {
        match pattern.strip_prefix('-') {
            Some(pattern) if fits(pattern, index) => fitting = false,
            Some(_) => {}
            None => fitting |= pattern == "_all" || fits(pattern, index),
        }
    }
    fitting
}

/// A body's parts around its query.
struct Request {
    from: usize,
    size: usize,
    sorts: Vec<sort::Sort>,
    after: Option<Vec<sort::Key>>,
    source: SourceFilter,
    track: Track,
}

/// What `track_total_hits` asks for.
enum Track {
    Exact,
    UpTo(u64),
    Not,
}

impl Track {
    fn total(&self, found: u64) -> Option<Value> {
        match self {
            Self::Exact => Some(json!({"value": found, "relation": "eq"})),
            Self::UpTo(limit) if found > *limit => Some(json!({"value": limit, "relation": "gte"})),
            Self::UpTo(_) => Some(json!({"value": found, "relation": "eq"})),
            Self::Not => None,
        }
    }
}

impl Request {
    fn read(body: &Value) -> Result<Self, Malformed> {
        for (name, value) in object(body, "the body")? {
            match name.as_str() {
                "query" | "size" | "from" | "sort" | "search_after" | "_source" | "track_total_hits" | "aggs"
                | "aggregations" => {}
                // Asked for and not needed, or asked not to.
                "timeout"
                | "track_scores"
                | "version"
                | "seq_no_primary_term"
                | "preference"
                | "request_cache"
                | "batched_reduce_size" => {}
                "explain" | "profile" if *value == json!(false) => {}
                _ => {
                    return malformed(
                        name,
                        "unknown here; a body takes query, size, from, sort, search_after, _source, track_total_hits and aggs",
                    );
                }
            }
        }
        if body.get("aggs").is_some() && body.get("aggregations").is_some() {
            return malformed("aggs", "`aggregations` is there as well");
        }
        let count = |name: &str, default: u64| match body.get(name) {
            None => Ok(default),
            Some(count) => match count.as_u64().filter(|count| *count <= WINDOW) {
                Some(count) => Ok(count),
                None => malformed(name, format!("it takes 0 to {WINDOW}")),
            },
        };
        let (from, size) = (count("from", 0)?, count("size", 10)?);
        if from + size > WINDOW {
            return malformed("from", format!("`from` and `size` together reach {WINDOW}; use `search_after` beyond"));
        }
        let sorts = sort::read(body.get("sort"))?;
        let after = match body.get("search_after") {
            Some(_) if body.get("sort").is_none() => return malformed("search_after", "it takes a `sort` as well"),
            Some(_) if from > 0 => return malformed("search_after", "it does not go with `from`"),
            after => sort::read_after(after, &sorts)?,
        };
        let track = match body.get("track_total_hits") {
            None | Some(Value::Bool(true)) => Track::Exact,
            Some(Value::Bool(false)) => Track::Not,
            Some(limit) => match limit.as_u64() {
                Some(limit) => Track::UpTo(limit),
                None => return malformed("track_total_hits", "it takes true, false or a count"),
            },
        };
        #[allow(clippy::cast_possible_truncation)]
        let (from, size) = (from as usize, size as usize);
        Ok(Self { from, size, sorts, after, source: SourceFilter::read(body.get("_source"))?, track })
    }
}

/// What `_source` asks for.
enum SourceFilter {
    All,
    Nothing,
    Some { includes: Vec<Pattern>, excludes: Vec<Pattern> },
}

impl SourceFilter {
    fn read(source: Option<&Value>) -> Result<Self, Malformed> {
        let patterns = |value: Option<&Value>, path: &str| match value {
            None => Ok(Vec::new()),
            Some(Value::String(one)) => Ok(vec![Pattern::wildcard(one)]),
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                Ok(list.iter().filter_map(Value::as_str).map(Pattern::wildcard).collect())
            }
            Some(_) => malformed(path, "it takes a field or a list of fields"),
        };
        Ok(match source {
            None | Some(Value::Bool(true)) => Self::All,
            Some(Value::Bool(false)) => Self::Nothing,
            Some(Value::Object(parts)) => {
                if let Some(name) =
                    parts.keys().find(|name| !matches!(name.as_str(), "includes" | "excludes" | "include" | "exclude"))
                {
                    return malformed(&format!("_source.{name}"), "unknown");
                }
                let side = |one: &str, other: &str| parts.get(one).or_else(|| parts.get(other));
                Self::Some {
                    includes: patterns(side("includes", "include"), "_source.includes")?,
                    excludes: patterns(side("excludes", "exclude"), "_source.excludes")?,
                }
            }
            list => Self::Some { includes: patterns(list, "_source")?, excludes: Vec::new() },
        })
    }

    fn apply(&self, source: Value) -> Option<Value> {
        match self {
            Self::All => Some(source),
            Self::Nothing => None,
            Self::Some { includes, excludes } => {
                Some(cut(source, "", includes.is_empty(), includes, excludes).unwrap_or_else(|| json!({})))
            }
        }
    }
}

/// The parts of a value that are asked for; `None` if there are none.
fn cut(value: Value, path: &str, included: bool, includes: &[Pattern], excludes: &[Pattern]) -> Option<Value> {
    match value {
        Value::Object(fields) => {
            let mut kept = Map::new();
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if excludes.iter().any(|pattern| pattern.fits(&path)) {
                    continue;
                }
                let included = included || includes.iter().any(|pattern| pattern.fits(&path));
                if let Some(value) = cut(value, &path, included, includes, excludes) {
                    kept.insert(name, value);
                }
            }
            (included || !kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Array(values) if values.iter().any(Value::is_object) => {
            let kept: Vec<Value> =
                values.into_iter().filter_map(|value| cut(value, path, included, includes, excludes)).collect();
            (included || !kept.is_empty()).then_some(Value::Array(kept))
        }
        value => included.then_some(value),
    }
}

/// The hits of a page behind the first `from`.
fn fetch(context: &Context, page: Page, from: usize, source: &SourceFilter, sorted: bool) -> tantivy::Result<Value> {
    let mut hits = Vec::new();
    for Hit { address, score, keys, id, .. } in page.hits.into_iter().skip(from) {
        let reader = context.searcher.segment_reader(address.segment_ord);
        let mut index = String::new();
        if let Some(column) = reader.fast_fields().str(super::fields::INDEX)? {
            for ord in column.term_ords(address.doc_id) {
                column.ord_to_str(ord, &mut index)?;
            }
        }
        let mut hit = json!({"_index": index, "_id": id, "_score": if sorted { Value::Null } else { json!(score) }});
        if !matches!(source, SourceFilter::Nothing) {
            let stored: TantivyDocument = context.searcher.doc(address)?;
            let text = stored
                .get_first(context.fields.source)
                .and_then(|value| tantivy::schema::Value::as_str(&value))
                .unwrap_or("{}");
            let document =
                serde_json::from_str(text).map_err(|error| TantivyError::InternalError(error.to_string()))?;
            if let Some(document) = source.apply(document) {
                hit["_source"] = document;
            }
        }
        if sorted {
            hit["sort"] = keys.iter().map(sort::Key::to_json).collect();
        }
        hits.push(hit);
    }
    Ok(Value::Array(hits))
}
