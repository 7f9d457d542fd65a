//! OpenSearch queries as tantivy queries.

use super::dates::{self, Span};
use super::fields::{self, Fields, KEYWORD, NUMBER, path_term, text_term};
use super::mapping::{Kind, Node, Templates};
use super::pattern::{Pattern, PatternQuery};
use super::query_string::{self, Ast, Dialect, Operator};
use super::text::{Piece, pieces};
use super::writer::key_term;
use serde_json::{Map, Value};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};
use tantivy::columnar::{ColumnType, ColumnarReader};
use tantivy::index::SegmentComponent;
use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, EmptyQuery, ExistsQuery, FastFieldRangeQuery, Occur,
    PhraseQuery, Query, TermQuery, TermSetQuery,
};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DateTime, Searcher, TantivyError, Term};

/// Most clauses of one request, as OpenSearch's `indices.query.bool.max_clause_count`.
const CLAUSES: usize = 1_024;
/// Deepest nesting of queries.
const DEPTH: usize = 32;
/// Most values of one `terms` query, as OpenSearch's `index.max_terms_count`.
const TERMS: usize = 65_536;
/// Longest `prefix` or `wildcard`.
const PATTERN_BYTES: usize = 1_024;

/// A request that cannot be understood.
#[derive(Debug)]
pub(super) struct Malformed {
    /// Where in the body, for example `query.bool.must[0].term`.
    pub path: String,
    /// What is wrong.
    pub why: String,
}

pub(super) fn malformed<T>(path: &str, why: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed { path: path.to_owned(), why: why.into() })
}

/// What a request is read against: one state of the index.
#[derive(Debug)]
pub(super) struct Context {
    pub fields: Fields,
    pub templates: Arc<Templates>,
    pub searcher: Searcher,
    /// Time of the request.
    pub now_ms: i64,
    /// The logical indices that the request is about.
    pub indices: Vec<String>,
    roots: Vec<Arc<Node>>,
    /// Whether one of the indices has no template.
    free: bool,
    columns: OnceLock<Columns>,
}

/// Dotted paths that have columns, and the types of the columns.
#[derive(Debug, Default)]
pub(super) struct Columns {
    text: BTreeSet<String>,
    number: BTreeMap<String, NumberColumns>,
}

#[derive(Debug, Default, Clone, Copy)]
struct NumberColumns {
    number: bool,
    date: bool,
}

/// How the values of a path may be indexed.
#[derive(Debug, Clone, Copy, Default)]
struct Faces {
    keyword: bool,
    boolean: bool,
    number: bool,
    date: bool,
    words: bool,
    ip: bool,
    flat: bool,
    /// Each index has the path mapped, so that a value of no fitting type is a mistake.
    certain: bool,
}

impl Context {
    pub(super) fn new(
        fields: Fields,
        templates: Arc<Templates>,
        searcher: Searcher,
        indices: Vec<String>,
        now_ms: i64,
    ) -> Self {
        let mut roots: Vec<Arc<Node>> = Vec::new();
        let mut free = false;
        for index in &indices {
            match templates.root(index) {
                Some(root) if roots.iter().any(|known| Arc::ptr_eq(known, &root)) => {}
                Some(root) => roots.push(root),
                None => free = true,
            }
        }
        Self { fields, templates, searcher, now_ms, indices, roots, free, columns: OnceLock::new() }
    }

    /// Columns of all segments.
    pub(super) fn columns(&self) -> tantivy::Result<&Columns> {
        if let Some(columns) = self.columns.get() {
            return Ok(columns);
        }
        let mut columns = Columns::default();
        for reader in self.searcher.segment_readers() {
            let file = reader.open_read(SegmentComponent::FastFields)?;
            for (name, handle) in ColumnarReader::open(file)?.list_columns()? {
                // Columnar joins the parts of a path by this character.
                let Some((field, path)) = name.split_once('\u{1}') else { continue };
                let path = path.replace('\u{1}', ".");
                match handle.column_type() {
                    ColumnType::Str if field == KEYWORD => {
                        columns.text.insert(path);
                    }
                    ColumnType::DateTime if field == NUMBER => columns.number.entry(path).or_default().date = true,
                    _ if field == NUMBER => columns.number.entry(path).or_default().number = true,
                    _ => {}
                }
            }
        }
        Ok(self.columns.get_or_init(|| columns))
    }

    /// Whether the values of a path are dates and nothing else.
    pub(super) fn is_date(&self, path: &str) -> tantivy::Result<bool> {
        let columns = self.columns()?;
        Ok(columns.number.get(path).is_some_and(|number| number.date && !number.number))
    }

    /// The column that an aggregation or a sort over a path reads.
    pub(super) fn column(&self, path: &str) -> tantivy::Result<String> {
        if path == fields::INDEX || path == fields::ID {
            return Ok(path.to_owned());
        }
        let field = if self.columns()?.number.contains_key(path) { NUMBER } else { KEYWORD };
        Ok(fields::column(field, path))
    }

    /// The path of a field, and how a query on the field sees its values. A text and its `keyword` sub-field lie under one path.
    fn field<'f>(&'f self, field: &'f str) -> (&'f str, Faces) {
        let path = self.templates.resolve(field);
        (path, self.faces(path, self.templates.sub_field_words(field)))
    }

    fn faces(&self, path: &str, sub_field_words: Option<bool>) -> Faces {
        let mut faces = Faces { certain: !self.free && !self.roots.is_empty(), ..Faces::default() };
        for root in &self.roots {
            match root.find(path).map(|node| (node, &node.kind)) {
                Some((_, Kind::Keyword { words, .. })) => match sub_field_words {
                    Some(true) => faces.words |= words,
                    _ => faces.keyword = true,
                },
                Some((_, Kind::Text { exact })) => match sub_field_words {
                    Some(false) => faces.keyword |= exact,
                    _ => faces.words = true,
                },
                Some((_, Kind::Long | Kind::Double)) => faces.number = true,
                Some((_, Kind::Boolean)) => faces.boolean = true,
                Some((_, Kind::Date)) => faces.date = true,
                Some((_, Kind::Ip)) => faces.ip = true,
                Some((_, Kind::Flat)) => faces.flat = true,
                Some((_, Kind::Stored)) => {}
                Some((_, Kind::Object(_))) | None => faces.certain &= !root.dynamic,
            }
        }
        if faces.certain {
            return faces;
        }
        // Somewhere the path goes by the JSON type of its values; words are never made without a mapping.
        Faces { keyword: true, boolean: true, number: true, date: true, flat: true, ..faces }
    }
}

/// Reads the `query` of a body.
pub(super) fn compile(context: &Context, query: &Value, path: &str) -> Result<Box<dyn Query>, Malformed> {
    Compiler { context, clauses: Cell::new(0) }.query(query, path, 0)
}

/// A clause that restricts a search to its logical indices; `None` if that is all of them.
pub(super) fn of_indices(context: &Context, existing: usize) -> Option<Box<dyn Query>> {
    if context.indices.len() == existing {
        return None;
    }
    let terms = context.indices.iter().map(|index| Term::from_field_text(context.fields.index, index));
    Some(Box::new(ConstScoreQuery::new(Box::new(TermSetQuery::new(terms)), 0.0)))
}

struct Compiler<'a> {
    context: &'a Context,
    clauses: Cell<usize>,
}

type Compiled = Result<Box<dyn Query>, Malformed>;

impl Compiler<'_> {
    fn query(&self, query: &Value, path: &str, depth: usize) -> Compiled {
        if depth > DEPTH {
            return malformed(path, format!("queries nest deeper than {DEPTH}"));
        }
        self.count(1, path)?;
        let (name, body) = only(query, path, "a query")?;
        let path = &format!("{path}.{name}");
        match name {
            "match_all" => self.boosted(Box::new(AllQuery), body, path),
            "match_none" => Ok(Box::new(EmptyQuery)),
            "term" => self.term(body, path),
            "terms" => self.terms(body, path),
            "range" => {
                let (field, bounds) = only(body, path, "one field")?;
                let at = format!("{path}.{field}");
                let query = self.range(field, object(bounds, &at)?, &at)?;
                self.boosted(query, bounds, &at)
            }
            "exists" => {
                let field = text_of(body, "field", path)?;
                Ok(self.exists(field))
            }
            "prefix" => self.pattern(body, path, "value", Pattern::prefix),
            "wildcard" => {
                let other =
                    body.as_object().and_then(|body| body.values().next()).and_then(|spec| spec.get("wildcard"));
                self.pattern(body, path, if other.is_some() { "wildcard" } else { "value" }, Pattern::wildcard)
            }
            "ids" => {
                let values = array_of(body, "values", path)?;
                self.ids(values.iter(), path)
            }
            "match" => self.matching(body, path),
            "match_phrase" => {
                let (field, spec) = only(body, path, "one field")?;
                let at = format!("{path}.{field}");
                let text = scalar_text(spec.get("query").unwrap_or(spec), &at)?;
                let slop =
                    spec.get("slop").and_then(Value::as_u64).and_then(|slop| u32::try_from(slop).ok()).unwrap_or(0);
                let query = self.phrase(field, &text, slop)?;
                self.boosted(query, spec, &at)
            }
            "multi_match" => {
                let text = scalar_text(required(body, "query", path)?, path)?;
                let operator = operator_of(body, "operator", path)?;
                let (fields, phrase) =
                    (self.fields_of(body, path)?, body.get("type").and_then(Value::as_str) == Some("phrase"));
                let mut parts = Vec::new();
                for (field, boost) in fields.unwrap_or_default() {
                    let query =
                        if phrase { self.phrase(&field, &text, 0)? } else { self.words(&field, &text, operator)? };
                    parts.push(boost_by(query, boost));
                }
                Ok(any_of(parts))
            }
            "bool" => self.boolean(body, path, depth),
            "constant_score" => {
                let inner = self.query(required(body, "filter", path)?, &format!("{path}.filter"), depth + 1)?;
                let boost = boost_of(body, path)?.unwrap_or(1.0);
                Ok(Box::new(ConstScoreQuery::new(inner, boost)))
            }
            "query_string" => self.query_string(body, path, Dialect::Lucene),
            "simple_query_string" => self.query_string(body, path, Dialect::Simple),
            _ => malformed(
                path,
                "an unknown query; there are bool, constant_score, exists, ids, match, match_all, match_none, match_phrase, multi_match, \
                 prefix, query_string, range, simple_query_string, term, terms and wildcard",
            ),
        }
    }

    fn count(&self, clauses: usize, path: &str) -> Result<(), Malformed> {
        self.clauses.set(self.clauses.get() + clauses);
        if self.clauses.get() > CLAUSES { malformed(path, format!("more than {CLAUSES} clauses")) } else { Ok(()) }
    }

    fn boosted(&self, query: Box<dyn Query>, body: &Value, path: &str) -> Compiled {
        Ok(boost_by(query, boost_of(body, path)?.unwrap_or(1.0)))
    }

    fn term(&self, body: &Value, path: &str) -> Compiled {
        let (field, spec) = only(body, path, "one field")?;
        let at = format!("{path}.{field}");
        let value = match spec {
            Value::Object(_) => required(spec, "value", &at)?,
            value => value,
        };
        if spec.get("case_insensitive") == Some(&Value::Bool(true)) {
            let text = scalar_text(value, &at)?;
            let escaped = text.replace('\\', "\\\\").replace('*', "\\*").replace('?', "\\?");
            let query = self.pattern_on(field, Pattern::wildcard(&escaped).folding_case());
            return self.boosted(query, spec, &at);
        }
        let query = self.exact(field, value, &at)?;
        self.boosted(query, spec, &at)
    }

    fn terms(&self, body: &Value, path: &str) -> Compiled {
        let fields: Map<String, Value> = object(body, path)?
            .iter()
            .filter(|(name, _)| *name != "boost")
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        let fields = Value::Object(fields);
        let (field, values) = only(&fields, path, "one field")?;
        let at = format!("{path}.{field}");
        let Some(values) = values.as_array() else { return malformed(&at, "it takes a list") };
        if values.len() > TERMS {
            return malformed(&at, format!("more than {TERMS} values"));
        }
        if field == fields::ID {
            return self.ids(values.iter(), &at);
        }
        // As in OpenSearch, each hit scores 1, however many of the values it has.
        let (path_of, faces) = self.context.field(field);
        let texts_only = values.iter().all(Value::is_string)
            && faces.certain
            && !faces.number
            && !faces.date
            && !faces.boolean
            && !faces.ip;
        let query: Box<dyn Query> = if texts_only && field != fields::INDEX {
            let mut terms = Vec::new();
            for text in values.iter().filter_map(Value::as_str) {
                let sides = [
                    (faces.keyword, self.context.fields.keyword),
                    (faces.words, self.context.fields.text),
                    (faces.flat, self.context.fields.flat),
                ];
                terms.extend(sides.into_iter().filter(|(on, _)| *on).map(|(_, side)| text_term(side, path_of, text)));
            }
            Box::new(TermSetQuery::new(terms))
        } else {
            self.count(values.len() / 8, &at)?;
            let mut parts = Vec::new();
            for (n, value) in values.iter().enumerate() {
                parts.push(self.exact(field, value, &format!("{at}[{n}]"))?);
            }
            any_of(parts)
        };
        self.boosted(Box::new(ConstScoreQuery::new(query, 1.0)), body, path)
    }

    fn ids<'v>(&self, values: impl Iterator<Item = &'v Value>, path: &str) -> Compiled {
        let mut terms = Vec::new();
        for value in values {
            let id = scalar_text(value, path)?;
            terms.extend(self.context.indices.iter().map(|index| key_term(self.context.fields, index, &id)));
            if terms.len() > 16 * TERMS {
                return malformed(path, "too many ids for so many indices");
            }
        }
        Ok(Box::new(ConstScoreQuery::new(Box::new(TermSetQuery::new(terms)), 1.0)))
    }

    /// Documents with exactly this value.
    fn exact(&self, field: &str, value: &Value, at: &str) -> Compiled {
        let Context { fields, now_ms, .. } = self.context;
        if field == fields::ID {
            return self.ids([value].into_iter(), at);
        }
        let text = scalar_text(value, at)?;
        if field == fields::INDEX {
            return Ok(Box::new(TermQuery::new(Term::from_field_text(fields.index, &text), IndexRecordOption::Basic)));
        }
        let (path, faces) = self.context.field(field);
        let mut parts: Vec<Box<dyn Query>> = Vec::new();
        let mut term = |on: bool, side: Field, text: &str| {
            if on {
                let query = TermQuery::new(text_term(side, path, text), IndexRecordOption::Basic);
                parts.push(Box::new(query));
            }
        };
        term(faces.keyword, fields.keyword, &text);
        term(faces.words, fields.text, &text);
        term(faces.flat, fields.flat, &text);
        if let Some(address) = text.parse::<std::net::IpAddr>().ok().filter(|_| faces.ip) {
            term(true, fields.keyword, &address.to_canonical().to_string());
        }
        if let Some(boolean) = text.parse::<bool>().ok().filter(|_| faces.boolean) {
            let mut term = path_term(fields.keyword, path);
            term.append_type_and_fast_value(boolean);
            parts.push(Box::new(TermQuery::new(term, IndexRecordOption::Basic)));
        }
        if let Some(number) = Number::read(&text).filter(|_| faces.number) {
            parts.extend(number_range(self.context, path, Bound::Included(number), Bound::Included(number)));
        }
        if let Some(span) = dates::parse_math(&text, *now_ms).filter(|_| faces.date) {
            parts.push(date_range(self.context, path, Some(span.first_ms), Some(span.last_ms)));
        }
        if parts.is_empty() && faces.certain && (faces.number || faces.date || faces.boolean || faces.ip) {
            return malformed(at, format!("`{text}` is not a value of this field"));
        }
        Ok(any_of(parts))
    }

    fn range(&self, field: &str, bounds: &Map<String, Value>, at: &str) -> Compiled {
        let Context { fields, now_ms, .. } = self.context;
        let (mut low, mut high): (Bound<&Value>, Bound<&Value>) = (Bound::Unbounded, Bound::Unbounded);
        for (name, value) in bounds {
            let side = match name.as_str() {
                "gt" => (&mut low, Bound::Excluded(value)),
                "gte" | "from" => (&mut low, Bound::Included(value)),
                "lt" => (&mut high, Bound::Excluded(value)),
                "lte" | "to" => (&mut high, Bound::Included(value)),
                "boost" | "format" | "relation" | "time_zone" if name != "time_zone" => continue,
                _ => return malformed(&format!("{at}.{name}"), "unknown; a range takes gt, gte, lt, lte and boost"),
            };
            if value.is_null() {
                continue;
            }
            scalar_text(value, &format!("{at}.{name}"))?;
            *side.0 = side.1;
        }
        if matches!((&low, &high), (Bound::Unbounded, Bound::Unbounded)) {
            return Ok(self.exists(field));
        }
        let text = |bound: Bound<&Value>| bound.map(|value| scalar_text(value, at).unwrap_or_default());
        let (low_text, high_text) = (text(low), text(high));
        if field == fields::INDEX {
            let term = |bound: Bound<String>| bound.map(|text| Term::from_field_text(fields.index, &text));
            return Ok(Box::new(FastFieldRangeQuery::new(term(low_text), term(high_text))));
        }
        let (path, faces) = self.context.field(field);
        let mut parts: Vec<Box<dyn Query>> = Vec::new();
        if faces.number
            && let (Some(low), Some(high)) = (convert(&low_text, Number::read), convert(&high_text, Number::read))
        {
            parts.extend(number_range(self.context, path, low, high));
        }
        let date = |text: &str| dates::parse_math(text, *now_ms);
        if faces.date
            && let (Some(low), Some(high)) = (convert(&low_text, date), convert(&high_text, date))
        {
            // OpenSearch rounds: `gt` and `lte` mean the end of what was written, `gte` and `lt` its begin.
            let low = match low {
                Bound::Included(span) => Some(span.first_ms),
                Bound::Excluded(Span { last_ms, .. }) => Some(last_ms.saturating_add(1)),
                Bound::Unbounded => None,
            };
            let high = match high {
                Bound::Included(span) => Some(span.last_ms),
                Bound::Excluded(Span { first_ms, .. }) => Some(first_ms.saturating_sub(1)),
                Bound::Unbounded => None,
            };
            parts.push(date_range(self.context, path, low, high));
        }
        let texts_given = [low, high]
            .into_iter()
            .all(|bound| !matches!(bound, Bound::Included(v) | Bound::Excluded(v) if !v.is_string()));
        if faces.keyword && (texts_given || faces.certain) {
            let term = |bound: Bound<String>| bound.map(|text| text_term(fields.keyword, path, &text));
            parts.push(Box::new(FastFieldRangeQuery::new(term(low_text), term(high_text))));
        }
        if parts.is_empty() && faces.certain && (faces.number || faces.date) {
            return malformed(at, "a bound is not a value of this field");
        }
        Ok(any_of(parts))
    }

    fn exists(&self, field: &str) -> Box<dyn Query> {
        let Context { fields, templates, .. } = self.context;
        if field.starts_with('_') && matches!(field, fields::ID | fields::INDEX) {
            return Box::new(AllQuery);
        }
        let path = templates.resolve(field);
        let present = TermQuery::new(Term::from_field_text(fields.present, path), IndexRecordOption::Basic);
        let below =
            PatternQuery { field: fields.present, head: Vec::new(), pattern: Pattern::prefix(&format!("{path}.")) };
        let parts: Vec<Box<dyn Query>> = vec![
            Box::new(ExistsQuery::new(fields::column(KEYWORD, path), true)),
            Box::new(ExistsQuery::new(fields::column(NUMBER, path), true)),
            Box::new(present),
            Box::new(below),
        ];
        Box::new(ConstScoreQuery::new(any_of(parts), 1.0))
    }

    fn pattern(&self, body: &Value, path: &str, name: &str, make: impl Fn(&str) -> Pattern) -> Compiled {
        let (field, spec) = only(body, path, "one field")?;
        let at = format!("{path}.{field}");
        let text = match spec {
            Value::Object(_) => scalar_text(required(spec, name, &at)?, &at)?,
            value => scalar_text(value, &at)?,
        };
        if text.len() > PATTERN_BYTES {
            return malformed(&at, format!("it takes up to {PATTERN_BYTES} bytes"));
        }
        if field == fields::ID {
            return malformed(&at, "`_id` takes `term`, `terms` and `ids`");
        }
        let mut pattern = make(&text);
        if spec.get("case_insensitive") == Some(&Value::Bool(true)) {
            pattern = pattern.folding_case();
        }
        self.boosted(self.pattern_on(field, pattern), spec, &at)
    }

    fn pattern_on(&self, field: &str, pattern: Pattern) -> Box<dyn Query> {
        let fields = self.context.fields;
        if field == fields::INDEX {
            return Box::new(PatternQuery { field: fields.index, head: Vec::new(), pattern });
        }
        let (path, faces) = self.context.field(field);
        let sides = [(faces.keyword || faces.ip, fields.keyword), (faces.flat, fields.flat)];
        let mut parts: Vec<Box<dyn Query>> = Vec::new();
        for (_, side) in sides.into_iter().filter(|(on, _)| *on) {
            parts.push(Box::new(pattern_query(side, path, pattern.clone())));
        }
        if faces.words {
            parts.push(Box::new(pattern_query(fields.text, path, pattern.folding_case())));
        }
        any_of(parts)
    }

    fn matching(&self, body: &Value, path: &str) -> Compiled {
        let (field, spec) = only(body, path, "one field")?;
        let at = format!("{path}.{field}");
        let text = match spec {
            Value::Object(_) => scalar_text(required(spec, "query", &at)?, &at)?,
            value => scalar_text(value, &at)?,
        };
        let operator = operator_of(spec, "operator", &at)?;
        let query = self.words(field, &text, operator)?;
        self.boosted(query, spec, &at)
    }

    /// Documents with these words in a text field, or with the whole text as the value of another.
    fn words(&self, field: &str, text: &str, operator: Operator) -> Compiled {
        let mut parts = Vec::new();
        let (path, faces) = self.context.field(field);
        if faces.words {
            parts.push(self.words_in(path, text, operator));
        }
        if !(faces.words && faces.certain) || faces.keyword {
            // What is no value of the field matches nothing here.
            parts.extend(self.exact(field, &Value::String(text.to_owned()), "").ok());
        }
        Ok(any_of(parts))
    }

    fn words_in(&self, path: &str, text: &str, operator: Operator) -> Box<dyn Query> {
        let field = self.context.fields.text;
        let mut parts: Vec<Box<dyn Query>> = Vec::new();
        for (_, piece) in pieces(text) {
            match piece {
                // As OpenSearch takes the terms of one word: each is a clause. Who wants them in a row asks for a phrase.
                Piece::Run(pairs) => {
                    parts.extend(pairs.into_iter().map(|pair| piece_query(field, path, Piece::Term(pair))))
                }
                piece => parts.push(piece_query(field, path, piece)),
            }
        }
        match operator {
            Operator::Or => any_of(parts),
            Operator::And => all_of(parts),
        }
    }

    fn phrase(&self, field: &str, text: &str, slop: u32) -> Compiled {
        let (path, faces) = self.context.field(field);
        let mut parts = Vec::new();
        if faces.words {
            parts.push(self.phrase_in(path, text, slop));
        }
        if !(faces.words && faces.certain) || faces.keyword {
            parts.extend(self.exact(field, &Value::String(text.to_owned()), "").ok());
        }
        Ok(any_of(parts))
    }

    fn phrase_in(&self, path: &str, text: &str, slop: u32) -> Box<dyn Query> {
        let field = self.context.fields.text;
        let mut pieces = pieces(text);
        if pieces.len() == 1
            && let Some((_, piece)) = pieces.pop()
        {
            return piece_query(field, path, piece);
        }
        let mut terms = Vec::new();
        for (position, piece) in pieces {
            let texts = match piece {
                Piece::Term(text) | Piece::Begin(text) => vec![text],
                Piece::Run(texts) => texts,
            };
            terms.extend(texts.iter().enumerate().map(|(n, text)| (position + n, text_term(field, path, text))));
        }
        if terms.is_empty() {
            return Box::new(EmptyQuery);
        }
        Box::new(PhraseQuery::new_with_offset_and_slop(terms, slop))
    }

    fn boolean(&self, body: &Value, path: &str, depth: usize) -> Compiled {
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        let (mut should, mut required) = (0, 0);
        let mut minimum = None;
        for (name, value) in object(body, path)? {
            let at = format!("{path}.{name}");
            match name.as_str() {
                "boost" | "_name" | "adjust_pure_negative" => continue,
                "minimum_should_match" => {
                    minimum = Some(value);
                    continue;
                }
                "must" | "filter" | "should" | "must_not" => {}
                _ => {
                    return malformed(
                        &at,
                        "unknown; bool takes must, filter, should, must_not and minimum_should_match",
                    );
                }
            }
            let one = std::slice::from_ref(value);
            let (list, listed) = value.as_array().map_or((one, false), |list| (list.as_slice(), true));
            for (n, query) in list.iter().enumerate() {
                let at = if listed { format!("{at}[{n}]") } else { at.clone() };
                let query = self.query(query, &at, depth + 1)?;
                clauses.push(match name.as_str() {
                    "must" => (Occur::Must, query),
                    "filter" => (Occur::Must, Box::new(ConstScoreQuery::new(query, 0.0))),
                    "should" => (Occur::Should, query),
                    _ => (Occur::MustNot, query),
                });
                match name.as_str() {
                    "should" => should += 1,
                    "must" | "filter" => required += 1,
                    _ => {}
                }
            }
        }
        let minimum = match minimum {
            Some(value) => minimum_of(value, should, &format!("{path}.minimum_should_match"))?,
            None => usize::from(required == 0 && should > 0),
        };
        if minimum > should {
            return Ok(Box::new(EmptyQuery));
        }
        if required == 0 && minimum == 0 {
            clauses.push((
                Occur::Must,
                Box::new(ConstScoreQuery::new(Box::new(AllQuery), if clauses.is_empty() { 1.0 } else { 0.0 })),
            ));
        }
        let query = BooleanQuery::with_minimum_required_clauses(clauses, minimum);
        self.boosted(Box::new(query), body, path)
    }

    fn query_string(&self, body: &Value, path: &str, dialect: Dialect) -> Compiled {
        let text = text_of(body, "query", path)?;
        let operator = operator_of(body, "default_operator", path)?;
        let ast = match query_string::parse(text, dialect, operator) {
            Ok(ast) => ast,
            Err(why) => return malformed(&format!("{path}.query"), why),
        };
        let fields = self.fields_of(body, path)?;
        let query = self.ast(&ast, fields.as_deref(), operator, &format!("{path}.query"))?;
        self.boosted(query, body, path)
    }

    /// `fields` or `default_field`; `None` is all fields.
    fn fields_of(&self, body: &Value, path: &str) -> Result<Option<Vec<(String, f32)>>, Malformed> {
        let named: Vec<&str> = match (body.get("fields"), body.get("default_field")) {
            (Some(fields), _) => {
                let Some(list) = fields.as_array() else {
                    return malformed(&format!("{path}.fields"), "it takes a list");
                };
                list.iter().filter_map(Value::as_str).collect()
            }
            (None, Some(field)) => field.as_str().into_iter().collect(),
            (None, None) => return Ok(None),
        };
        let mut fields = Vec::new();
        for name in named {
            let (name, boost) = name.split_once('^').unwrap_or((name, "1"));
            let Ok(boost) = boost.parse() else {
                return malformed(&format!("{path}.fields"), "a boost that is not a number");
            };
            if name == "*" {
                return Ok(None);
            }
            if name.contains('*') {
                let pattern = Pattern::wildcard(name);
                let mut all: Vec<String> = self.columns(path)?.text.iter().cloned().collect();
                all.extend(self.context.templates.text_paths().iter().map(|p| p.to_string()));
                all.retain(|name| pattern.fits(name));
                all.sort();
                all.dedup();
                fields.extend(all.into_iter().map(|name| (name, boost)));
            } else {
                fields.push((name.to_owned(), boost));
            }
        }
        Ok(Some(fields))
    }

    fn columns(&self, path: &str) -> Result<&Columns, Malformed> {
        self.context.columns().or_else(|error| malformed(path, format!("the fields cannot be listed: {error}")))
    }

    fn ast(&self, ast: &Ast, fields: Option<&[(String, f32)]>, operator: Operator, path: &str) -> Compiled {
        self.count(1, path)?;
        let inner = |ast: &Ast| self.ast(ast, fields, operator, path);
        match ast {
            Ast::All => Ok(Box::new(AllQuery)),
            Ast::Boost(ast, boost) => Ok(boost_by(inner(ast)?, *boost)),
            Ast::Bool { must, should, must_not } => {
                let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
                for (occur, list) in [(Occur::Must, must), (Occur::Should, should), (Occur::MustNot, must_not)] {
                    for ast in list {
                        clauses.push((occur, inner(ast)?));
                    }
                }
                if must.is_empty() && should.is_empty() {
                    clauses.push((Occur::Must, Box::new(AllQuery)));
                }
                Ok(Box::new(BooleanQuery::new(clauses)))
            }
            Ast::Exists { field } => Ok(self.exists(field)),
            Ast::Range { field, low, high } => {
                let side = |bound: &Option<(String, bool)>, open: &str, closed: &str| {
                    bound.as_ref().map(|(text, included)| {
                        (if *included { closed } else { open }.to_owned(), Value::String(text.clone()))
                    })
                };
                let bounds = side(low, "gt", "gte").into_iter().chain(side(high, "lt", "lte")).collect();
                self.range(field, &bounds, path)
            }
            Ast::Word { field: Some(field), text } => {
                let (_, faces) = self.context.field(field);
                if faces.words {
                    self.words(field, text, operator)
                } else {
                    self.exact(field, &Value::String(text.clone()), path)
                }
            }
            Ast::Phrase { field: Some(field), text, slop } => self.phrase(field, text, *slop),
            Ast::Pattern { field: Some(field), text } => {
                if text.len() > PATTERN_BYTES || field == fields::ID {
                    return malformed(path, format!("a pattern on `{field}` is not possible or too long"));
                }
                Ok(self.pattern_on(field, Pattern::wildcard(text)))
            }
            Ast::Word { field: None, .. } | Ast::Phrase { field: None, .. } | Ast::Pattern { field: None, .. } => {
                if let Some(fields) = fields {
                    let mut parts = Vec::new();
                    for (field, boost) in fields {
                        let field = Some(field.clone());
                        let ast = match ast.clone() {
                            Ast::Word { text, .. } => Ast::Word { field, text },
                            Ast::Phrase { text, slop, .. } => Ast::Phrase { field, text, slop },
                            Ast::Pattern { text, .. } => Ast::Pattern { field, text },
                            other => other,
                        };
                        // A word that is no value of one field may be one of another.
                        parts.extend(self.ast(&ast, None, operator, path).ok().map(|query| boost_by(query, *boost)));
                    }
                    return Ok(any_of(parts));
                }
                self.anywhere(ast, operator, path)
            }
        }
    }

    /// A clause without a field: text fields by words, every other field by its whole value.
    fn anywhere(&self, ast: &Ast, operator: Operator, path: &str) -> Compiled {
        let Context { fields, templates, .. } = self.context;
        let columns = self.columns(path)?;
        let texts = templates.text_paths();
        let flats = templates.flat_paths();
        let mut parts: Vec<Box<dyn Query>> = Vec::new();
        let exact = |text: &str, parts: &mut Vec<Box<dyn Query>>| {
            let terms = columns.text.iter().map(|path| text_term(fields.keyword, path, text));
            let terms = terms.chain(flats.iter().map(|path| text_term(fields.flat, path, text)));
            parts.push(Box::new(TermSetQuery::new(terms)));
        };
        match ast {
            Ast::Word { text, .. } => {
                parts.extend(texts.iter().map(|path| self.words_in(path, text, operator)));
                exact(text, &mut parts);
                if let Some(number) = Number::read(text) {
                    for (path, _) in columns.number.iter().filter(|(_, kinds)| kinds.number) {
                        parts.extend(number_range(
                            self.context,
                            path,
                            Bound::Included(number),
                            Bound::Included(number),
                        ));
                    }
                }
            }
            Ast::Phrase { text, slop, .. } => {
                parts.extend(texts.iter().map(|path| self.phrase_in(path, text, *slop)));
                exact(text, &mut parts);
            }
            Ast::Pattern { text, .. } => {
                if text.len() > PATTERN_BYTES {
                    return malformed(path, format!("a pattern takes up to {PATTERN_BYTES} bytes"));
                }
                let pattern = Pattern::wildcard(text);
                let side = |field: Field, path: &str, pattern: &Pattern| -> Box<dyn Query> {
                    Box::new(pattern_query(field, path, pattern.clone()))
                };
                parts.extend(columns.text.iter().map(|path| side(fields.keyword, path, &pattern)));
                parts.extend(flats.iter().map(|path| side(fields.flat, path, &pattern)));
                let folded = pattern.folding_case();
                parts.extend(texts.iter().map(|path| side(fields.text, path, &folded)));
            }
            _ => {}
        }
        Ok(any_of(parts))
    }
}

/// A number, as it compares to columns of any numeric type.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Integer(i64),
    Unsigned(u64),
    Float(f64),
}

impl Number {
    #[allow(clippy::cast_possible_truncation)]
    fn read(text: &str) -> Option<Self> {
        if let Ok(value) = text.parse::<i64>() {
            return Some(Self::Integer(value));
        }
        if let Ok(value) = text.parse::<u64>() {
            return Some(Self::Unsigned(value));
        }
        // `inf`, `nan` and the like are words.
        if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
            return None;
        }
        let value = text.parse::<f64>().ok().filter(|value| value.is_finite())?;
        let whole = value.fract() == 0.0 && value.abs() < 9e15;
        Some(if whole { Self::Integer(value as i64) } else { Self::Float(value) })
    }

    fn term(self, field: Field, path: &str) -> Term {
        let mut term = path_term(field, path);
        match self {
            Self::Integer(value) => term.append_type_and_fast_value(value),
            Self::Unsigned(value) => term.append_type_and_fast_value(value),
            Self::Float(value) => term.append_type_and_fast_value(value),
        }
        term
    }
}

/// Documents whose number lies within bounds; tantivy takes bounds of different types apart by the type of the first.
fn number_range(context: &Context, path: &str, low: Bound<Number>, high: Bound<Number>) -> Vec<Box<dyn Query>> {
    let half = |low: Bound<Number>, high: Bound<Number>| -> Box<dyn Query> {
        let term = |bound: Bound<Number>| bound.map(|number| number.term(context.fields.number, path));
        Box::new(FastFieldRangeQuery::new(term(low), term(high)))
    };
    // Beyond what a 64-bit integer holds, tantivy takes a floating bound for none.
    let beyond = |bound: &Bound<Number>, sign: f64| matches!(bound, Bound::Included(Number::Float(v)) | Bound::Excluded(Number::Float(v)) if v * sign > 9.2e18);
    if beyond(&low, 1.0) || beyond(&high, -1.0) {
        return Vec::new();
    }
    let low = if beyond(&low, -1.0) { Bound::Unbounded } else { low };
    let high = if beyond(&high, 1.0) { Bound::Unbounded } else { high };
    match (low, high) {
        (Bound::Unbounded, Bound::Unbounded) => vec![Box::new(ExistsQuery::new(fields::column(NUMBER, path), false))],
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b))
            if std::mem::discriminant(&a) != std::mem::discriminant(&b) =>
        {
            vec![all_of(vec![half(low, Bound::Unbounded), half(Bound::Unbounded, high)])]
        }
        (low, high) => vec![half(low, high)],
    }
}

fn date_range(context: &Context, path: &str, low_ms: Option<i64>, high_ms: Option<i64>) -> Box<dyn Query> {
    let term = |ms: Option<i64>| {
        ms.map_or(Bound::Unbounded, |ms| {
            let ms = ms.clamp(*dates::RANGE_MS.start(), *dates::RANGE_MS.end());
            let mut term = path_term(context.fields.number, path);
            term.append_type_and_fast_value(DateTime::from_timestamp_millis(ms));
            Bound::Included(term)
        })
    };
    if matches!((low_ms, high_ms), (Some(low), Some(high)) if low > high) {
        return Box::new(EmptyQuery);
    }
    Box::new(FastFieldRangeQuery::new(term(low_ms), term(high_ms)))
}

fn pattern_query(field: Field, path: &str, pattern: Pattern) -> PatternQuery {
    let head = text_term(field, path, "").serialized_value_bytes().to_vec();
    PatternQuery { field, head, pattern }
}

fn piece_query(field: Field, path: &str, piece: Piece) -> Box<dyn Query> {
    match piece {
        Piece::Term(text) => Box::new(TermQuery::new(text_term(field, path, &text), IndexRecordOption::WithFreqs)),
        Piece::Run(texts) => {
            Box::new(PhraseQuery::new(texts.iter().map(|text| text_term(field, path, text)).collect()))
        }
        Piece::Begin(text) => Box::new(pattern_query(field, path, Pattern::prefix(&text))),
    }
}

fn any_of(mut parts: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    match parts.pop() {
        None => Box::new(EmptyQuery),
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            Box::new(BooleanQuery::union(parts))
        }
    }
}

fn all_of(mut parts: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    match parts.pop() {
        None => Box::new(EmptyQuery),
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            Box::new(BooleanQuery::intersection(parts))
        }
    }
}

fn boost_by(query: Box<dyn Query>, boost: f32) -> Box<dyn Query> {
    #[allow(clippy::float_cmp)]
    let neutral = boost == 1.0;
    if neutral { query } else { Box::new(BoostQuery::new(query, boost)) }
}

/// All bounds read, or `None` if one cannot be.
fn convert<T>(bound: &Bound<String>, read: impl Fn(&str) -> Option<T>) -> Option<Bound<T>> {
    Some(match bound {
        Bound::Included(text) => Bound::Included(read(text)?),
        Bound::Excluded(text) => Bound::Excluded(read(text)?),
        Bound::Unbounded => Bound::Unbounded,
    })
}

pub(super) fn object<'v>(value: &'v Value, path: &str) -> Result<&'v Map<String, Value>, Malformed> {
    value.as_object().map_or_else(|| malformed(path, "it takes an object"), Ok)
}

/// The one entry of an object.
pub(super) fn only<'v>(value: &'v Value, path: &str, what: &str) -> Result<(&'v str, &'v Value), Malformed> {
    let mut entries = object(value, path)?.iter();
    match (entries.next(), entries.next()) {
        (Some((name, body)), None) => Ok((name, body)),
        _ => malformed(path, format!("it takes {what}, under its name")),
    }
}

pub(super) fn required<'v>(body: &'v Value, name: &str, path: &str) -> Result<&'v Value, Malformed> {
    object(body, path)?.get(name).map_or_else(|| malformed(path, format!("it lacks `{name}`")), Ok)
}

pub(super) fn text_of<'v>(body: &'v Value, name: &str, path: &str) -> Result<&'v str, Malformed> {
    required(body, name, path)?.as_str().map_or_else(|| malformed(&format!("{path}.{name}"), "it takes text"), Ok)
}

fn array_of<'v>(body: &'v Value, name: &str, path: &str) -> Result<&'v Vec<Value>, Malformed> {
    required(body, name, path)?.as_array().map_or_else(|| malformed(&format!("{path}.{name}"), "it takes a list"), Ok)
}

fn scalar_text(value: &Value, path: &str) -> Result<String, Malformed> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => malformed(path, "it takes text, a number or a boolean"),
    }
}

#[allow(clippy::cast_possible_truncation)]
fn boost_of(body: &Value, path: &str) -> Result<Option<f32>, Malformed> {
    match body.get("boost") {
        None => Ok(None),
        Some(boost) => match boost.as_f64().filter(|boost| *boost >= 0.0) {
            Some(boost) => Ok(Some(boost as f32)),
            None => malformed(&format!("{path}.boost"), "it takes a number from 0"),
        },
    }
}

fn operator_of(body: &Value, name: &str, path: &str) -> Result<Operator, Malformed> {
    match body.get(name).map(|value| value.as_str().unwrap_or_default().to_ascii_lowercase()).as_deref() {
        None | Some("or") => Ok(Operator::Or),
        Some("and") => Ok(Operator::And),
        Some(_) => malformed(&format!("{path}.{name}"), "it takes `and` or `or`"),
    }
}

/// `2`, `"2"`, `"75%"`, `-1` or `"-25%"` of `clauses`.
fn minimum_of(value: &Value, clauses: usize, path: &str) -> Result<usize, Malformed> {
    let total = i64::try_from(clauses).unwrap_or(i64::MAX);
    let text = scalar_text(value, path)?;
    let count = match text.strip_suffix('%') {
        Some(percent) => {
            percent.trim().parse::<i64>().ok().filter(|p| (-100..=100).contains(p)).map(|percent| total * percent / 100)
        }
        None => text.trim().parse::<i64>().ok(),
    };
    match count {
        Some(count) if count < 0 => Ok(usize::try_from(total + count).unwrap_or(0)),
        Some(count) => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
        None => malformed(path, "it takes a count or a percentage"),
    }
}

/// A request error inside of tantivy.
impl From<Malformed> for TantivyError {
    fn from(malformed: Malformed) -> Self {
        TantivyError::InvalidArgument(format!("`{}`: {}", malformed.path, malformed.why))
    }
}
