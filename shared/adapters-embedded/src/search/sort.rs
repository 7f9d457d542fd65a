//! The best documents in a given order, one segment after the other, with the memory of one page.

use super::fields::{self, ID, KEYWORD, NUMBER};
use super::query::{Context, Malformed, malformed, object, only};
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::{Column, DynamicColumn, StrColumn};
use tantivy::{DocAddress, DocId, Score, SegmentOrdinal, SegmentReader, TantivyError};

/// Most sort fields.
const SORTS: usize = 16;

/// One field of the order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sort {
    by: By,
    descending: bool,
    missing_first: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum By {
    Score,
    Path(String),
}

/// A value of the order, as it is given out and taken back by `search_after`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Key {
    Number(Numeric),
    Text(String),
    Missing,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Numeric {
    Integer(i64),
    Unsigned(u64),
    Float(f64),
}

/// One document of the page.
#[derive(Debug, Clone)]
pub(super) struct Hit {
    pub address: DocAddress,
    pub score: Score,
    /// One per sort field.
    pub keys: Vec<Key>,
    pub id: String,
}

/// The page, and the number of documents that match.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub hits: Vec<Hit>,
    pub total: u64,
    pub max_score: Option<Score>,
}

/// Collects a [`Page`].
pub(super) struct Pager {
    sorts: Vec<Sort>,
    after: Option<Vec<Key>>,
    limit: usize,
    paths: Vec<Option<String>>,
}

/// Reads `sort`; nothing is by score.
pub(super) fn read(sort: Option<&Value>) -> Result<Vec<Sort>, Malformed> {
    let Some(sort) = sort else { return Ok(vec![Sort { by: By::Score, descending: true, missing_first: false }]) };
    let one = std::slice::from_ref(sort);
    let list = sort.as_array().map_or(one, Vec::as_slice);
    if list.len() > SORTS {
        return malformed("sort", format!("more than {SORTS} fields"));
    }
    list.iter().enumerate().map(|(n, sort)| read_one(sort, &format!("sort[{n}]"))).collect()
}

fn read_one(sort: &Value, path: &str) -> Result<Sort, Malformed> {
    let (field, spec) = match sort {
        Value::String(field) => (field.as_str(), &Value::Null),
        sort => only(sort, path, "one field")?,
    };
    let order = match spec {
        Value::Null => None,
        Value::String(order) => Some(order.as_str()),
        spec => {
            let known = ["order", "missing", "mode", "unmapped_type", "format", "numeric_type", "nested"];
            if let Some(name) = object(spec, path)?.keys().find(|name| !known.contains(&name.as_str())) {
                return malformed(&format!("{path}.{field}.{name}"), "unknown");
            }
            spec.get("order").and_then(Value::as_str)
        }
    };
    let descending = match order {
        Some("asc") => false,
        Some("desc") => true,
        None => field == "_score",
        Some(_) => return malformed(&format!("{path}.{field}"), "it takes `asc` or `desc`"),
    };
    let missing_first = match spec.get("missing").and_then(Value::as_str) {
        None | Some("_last") => false,
        Some("_first") => true,
        Some(_) => return malformed(&format!("{path}.{field}.missing"), "it takes `_first` or `_last`"),
    };
    let by = if field == "_score" { By::Score } else { By::Path(if field == "_doc" { ID } else { field }.to_owned()) };
    Ok(Sort { by, descending, missing_first })
}

/// Reads `search_after`.
pub(super) fn read_after(after: Option<&Value>, sorts: &[Sort]) -> Result<Option<Vec<Key>>, Malformed> {
    let Some(after) = after else { return Ok(None) };
    let Some(values) = after.as_array().filter(|values| values.len() == sorts.len()) else {
        return malformed("search_after", format!("it takes one value for each of the {} sort fields", sorts.len()));
    };
    let keys = values.iter().enumerate().map(|(n, value)| match value {
        Value::Null => Ok(Key::Missing),
        Value::String(text) => Ok(Key::Text(text.clone())),
        Value::Bool(value) => Ok(Key::Number(Numeric::Integer(i64::from(*value)))),
        Value::Number(number) => Ok(Key::Number(match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Numeric::Integer(value),
            (None, Some(value)) => Numeric::Unsigned(value),
            (None, None) => Numeric::Float(number.as_f64().unwrap_or_default()),
        })),
        _ => malformed(&format!("search_after[{n}]"), "it takes a value"),
    });
    keys.collect::<Result<_, _>>().map(Some)
}

impl Key {
    /// As `sort` of a hit.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Key::Number(Numeric::Integer(value)) => json!(value),
            Key::Number(Numeric::Unsigned(value)) => json!(value),
            Key::Number(Numeric::Float(value)) => json!(value),
            Key::Text(text) => json!(text),
            Key::Missing => Value::Null,
        }
    }
}

impl Numeric {
    #[allow(clippy::cast_precision_loss)]
    fn cmp(self, other: Self) -> Ordering {
        let integer = |numeric| match numeric {
            Numeric::Integer(value) => Some(i128::from(value)),
            Numeric::Unsigned(value) => Some(i128::from(value)),
            Numeric::Float(_) => None,
        };
        let float = |numeric| match numeric {
            Numeric::Integer(value) => value as f64,
            Numeric::Unsigned(value) => value as f64,
            Numeric::Float(value) => value,
        };
        match (integer(self), integer(other)) {
            (Some(left), Some(right)) => left.cmp(&right),
            _ => float(self).total_cmp(&float(other)),
        }
    }
}

impl Sort {
    /// Whether this order is by score, so that scores are needed.
    fn needs_score(&self) -> bool {
        self.by == By::Score
    }

    fn cmp(&self, left: &Key, right: &Key) -> Ordering {
        let missing = if self.missing_first { Ordering::Less } else { Ordering::Greater };
        let ascending = match (left, right) {
            (Key::Missing, Key::Missing) => return Ordering::Equal,
            (Key::Missing, _) => return missing,
            (_, Key::Missing) => return missing.reverse(),
            (Key::Number(left), Key::Number(right)) => left.cmp(*right),
            (Key::Text(left), Key::Text(right)) => left.cmp(right),
            (Key::Number(_), Key::Text(_)) => Ordering::Less,
            (Key::Text(_), Key::Number(_)) => Ordering::Greater,
        };
        if self.descending { ascending.reverse() } else { ascending }
    }
}

impl Pager {
    /// A page of at most `limit` documents behind `after`.
    pub(super) fn new(context: &Context, sorts: Vec<Sort>, after: Option<Vec<Key>>, limit: usize) -> Self {
        let paths = sorts
            .iter()
            .map(|sort| match &sort.by {
                By::Path(path) => Some(context.templates.resolve(path).to_owned()),
                By::Score => None,
            })
            .collect();
        Self { sorts, after, limit, paths }
    }

    fn order(&self, left: &Hit, right: &Hit) -> Ordering {
        for (sort, (l, r)) in self.sorts.iter().zip(left.keys.iter().zip(&right.keys)) {
            match sort.cmp(l, r) {
                Ordering::Equal => {}
                other => return other,
            }
        }
        left.id.cmp(&right.id).then(left.address.cmp(&right.address))
    }
}

impl Collector for Pager {
    type Fruit = Page;
    type Child = SegmentPager;

    fn for_segment(&self, segment: SegmentOrdinal, reader: &SegmentReader) -> tantivy::Result<SegmentPager> {
        let mut sources = Vec::new();
        for path in &self.paths {
            sources.push(match path {
                None => Source::Score,
                Some(path) => Source::open(reader, path)?,
            });
        }
        let ids = reader.fast_fields().str(ID)?;
        let after = match &self.after {
            Some(after) => Some(
                after
                    .iter()
                    .zip(&sources)
                    .map(|(key, source)| source.bound(key))
                    .collect::<tantivy::Result<Vec<_>>>()?,
            ),
            None => None,
        };
        Ok(SegmentPager {
            segment,
            sorts: self.sorts.clone(),
            sources,
            ids,
            after,
            limit: self.limit,
            best: BinaryHeap::with_capacity(self.limit.min(1_024) + 1),
            total: 0,
            max_score: None,
        })
    }

    fn requires_scoring(&self) -> bool {
        self.limit > 0 && self.sorts.iter().any(Sort::needs_score)
    }

    fn merge_fruits(&self, fruits: Vec<tantivy::Result<Page>>) -> tantivy::Result<Page> {
        let mut page = Page::default();
        for fruit in fruits {
            let fruit = fruit?;
            page.total += fruit.total;
            page.max_score = match (page.max_score, fruit.max_score) {
                (Some(left), Some(right)) => Some(left.max(right)),
                (left, right) => left.or(right),
            };
            page.hits.extend(fruit.hits);
        }
        page.hits.sort_by(|left, right| self.order(left, right));
        page.hits.truncate(self.limit);
        Ok(page)
    }
}

/// Where the values of a sort field are.
enum Source {
    Score,
    Columns(Box<Columns>),
}

struct Columns {
    number: Option<NumberColumn>,
    text: Option<StrColumn>,
}

enum NumberColumn {
    Integer(Column<i64>),
    Unsigned(Column<u64>),
    Float(Column<f64>),
    Date(Column<tantivy::DateTime>),
    Bool(Column<bool>),
}

/// A value within one segment: a text is 2 · ordinal + 1, so that an even number lies between two texts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Local {
    Number(Numeric),
    Text(u64),
    Missing,
}

impl Source {
    fn open(reader: &SegmentReader, path: &str) -> tantivy::Result<Self> {
        let columns = reader.fast_fields();
        if path == ID || path == fields::INDEX {
            return Ok(Self::Columns(Box::new(Columns { number: None, text: columns.str(path)? })));
        }
        let (mut number, mut text) = (None, None);
        for field in [NUMBER, KEYWORD] {
            for handle in columns.dynamic_column_handles(&fields::column(field, path))? {
                match handle.open()? {
                    DynamicColumn::I64(column) => number = Some(NumberColumn::Integer(column)),
                    DynamicColumn::U64(column) => number = Some(NumberColumn::Unsigned(column)),
                    DynamicColumn::F64(column) => number = Some(NumberColumn::Float(column)),
                    DynamicColumn::DateTime(column) => number = number.or(Some(NumberColumn::Date(column))),
                    DynamicColumn::Bool(column) => number = number.or(Some(NumberColumn::Bool(column))),
                    DynamicColumn::Str(column) => text = Some(column),
                    DynamicColumn::IpAddr(_) | DynamicColumn::Bytes(_) => {}
                }
            }
        }
        Ok(Self::Columns(Box::new(Columns { number, text })))
    }

    /// Of several values the least, or the greatest when descending.
    fn value(&self, doc: DocId, score: Score, descending: bool) -> Local {
        let Self::Columns(columns) = self else { return Local::Number(Numeric::Float(f64::from(score))) };
        let Columns { number, text } = &**columns;
        if let Some(value) = number.as_ref().and_then(|column| column.value(doc, descending)) {
            return Local::Number(value);
        }
        let ord = text.as_ref().and_then(|column| pick(column.term_ords(doc), descending, u64::cmp));
        ord.map_or(Local::Missing, |ord| Local::Text(ord * 2 + 1))
    }

    fn text(&self) -> Option<&StrColumn> {
        match self {
            Self::Score => None,
            Self::Columns(columns) => columns.text.as_ref(),
        }
    }

    fn bound(&self, key: &Key) -> tantivy::Result<Local> {
        Ok(match (key, self.text()) {
            (Key::Number(number), _) => Local::Number(*number),
            (Key::Text(text), Some(column)) => match column.dictionary().term_ord(text)? {
                Some(ord) => Local::Text(ord * 2 + 1),
                None => Local::Text(first_after(column, text)? * 2),
            },
            (Key::Text(_), None) => Local::Text(0),
            (Key::Missing, _) => Local::Missing,
        })
    }

    fn key(&self, local: Local) -> tantivy::Result<Key> {
        Ok(match (local, self.text()) {
            (Local::Number(number), _) => Key::Number(number),
            (Local::Text(local), Some(column)) => {
                let mut text = String::new();
                column.ord_to_str(local / 2, &mut text)?;
                Key::Text(text)
            }
            _ => Key::Missing,
        })
    }
}

/// Ordinal of the first text after one that is not there.
fn first_after(column: &StrColumn, text: &str) -> tantivy::Result<u64> {
    let (mut low, mut high) = (0, column.num_terms() as u64);
    let mut found = String::new();
    while low < high {
        let middle = low + (high - low) / 2;
        found.clear();
        column.ord_to_str(middle, &mut found)?;
        if found.as_str() < text { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

fn pick<T>(values: impl Iterator<Item = T>, greatest: bool, order: impl Fn(&T, &T) -> Ordering) -> Option<T> {
    if greatest { values.max_by(|l, r| order(l, r)) } else { values.min_by(|l, r| order(l, r)) }
}

impl NumberColumn {
    fn value(&self, doc: DocId, descending: bool) -> Option<Numeric> {
        match self {
            Self::Integer(column) => pick(column.values_for_doc(doc), descending, Ord::cmp).map(Numeric::Integer),
            Self::Unsigned(column) => pick(column.values_for_doc(doc), descending, Ord::cmp).map(Numeric::Unsigned),
            Self::Float(column) => pick(column.values_for_doc(doc), descending, f64::total_cmp).map(Numeric::Float),
            Self::Date(column) => {
                let date = pick(column.values_for_doc(doc), descending, Ord::cmp)?;
                Some(Numeric::Integer(date.into_timestamp_millis()))
            }
            Self::Bool(column) => {
                pick(column.values_for_doc(doc), descending, Ord::cmp).map(|value| Numeric::Integer(i64::from(value)))
            }
        }
    }
}

/// Collects the best documents of one segment.
pub(super) struct SegmentPager {
    segment: SegmentOrdinal,
    sorts: Vec<Sort>,
    sources: Vec<Source>,
    ids: Option<StrColumn>,
    after: Option<Vec<Local>>,
    limit: usize,
    /// The worst on top.
    best: BinaryHeap<Entry>,
    total: u64,
    max_score: Option<Score>,
}

/// Ordered by how bad it is.
struct Entry {
    doc: DocId,
    score: Score,
    locals: Vec<Local>,
    ranks: Vec<u128>,
    id: u64,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.ranks.cmp(&other.ranks).then(self.id.cmp(&other.id)).then(self.doc.cmp(&other.doc))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// Less is better; comparable within one segment, where a field's numbers have one type.
fn rank(sort: &Sort, local: Local) -> u128 {
    let (class, bits) = match local {
        Local::Missing => return if sort.missing_first { 0 } else { u128::MAX },
        Local::Number(Numeric::Integer(value)) => (1, tantivy::i64_to_u64(value)),
        Local::Number(Numeric::Unsigned(value)) => (1, value),
        Local::Number(Numeric::Float(value)) => (1, tantivy::f64_to_u64(value)),
        Local::Text(value) => (2, value),
    };
    let ascending = (class << 64) | u128::from(bits);
    if sort.descending { (4 << 64) - ascending } else { ascending }
}

/// Compares what may have different types, for `search_after`.
fn order(sort: &Sort, left: Local, right: Local) -> Ordering {
    match (left, right) {
        (Local::Number(left), Local::Number(right)) => {
            let ascending = left.cmp(right);
            if sort.descending { ascending.reverse() } else { ascending }
        }
        (left, right) => rank(sort, left).cmp(&rank(sort, right)),
    }
}

impl SegmentPager {
    fn id(&self, doc: DocId) -> u64 {
        self.ids.as_ref().and_then(|ids| ids.ords().first(doc)).unwrap_or(u64::MAX)
    }

    fn is_after(&self, after: &[Local], doc: DocId, score: Score) -> bool {
        for ((sort, source), bound) in self.sorts.iter().zip(&self.sources).zip(after) {
            match order(sort, source.value(doc, score, sort.descending), *bound) {
                Ordering::Less => return false,
                Ordering::Greater => return true,
                Ordering::Equal => {}
            }
        }
        false
    }

    /// Whether the document is worse than the worst of a full page.
    fn is_hopeless(&self, doc: DocId, score: Score) -> bool {
        let Some(worst) = self.best.peek().filter(|_| self.best.len() >= self.limit) else { return false };
        for ((sort, source), worst) in self.sorts.iter().zip(&self.sources).zip(&worst.ranks) {
            match rank(sort, source.value(doc, score, sort.descending)).cmp(worst) {
                Ordering::Less => return false,
                Ordering::Greater => return true,
                Ordering::Equal => {}
            }
        }
        self.id(doc) > worst.id
    }
}

impl SegmentCollector for SegmentPager {
    type Fruit = tantivy::Result<Page>;

    fn collect(&mut self, doc: DocId, score: Score) {
        self.total += 1;
        if self.limit == 0 {
            return;
        }
        self.max_score = Some(self.max_score.map_or(score, |max| max.max(score)));
        if self.is_hopeless(doc, score) || self.after.as_ref().is_some_and(|after| !self.is_after(after, doc, score)) {
            return;
        }
        let pairs = self.sorts.iter().zip(&self.sources);
        let locals: Vec<Local> = pairs.map(|(sort, source)| source.value(doc, score, sort.descending)).collect();
        let ranks = self.sorts.iter().zip(&locals).map(|(sort, local)| rank(sort, *local)).collect();
        self.best.push(Entry { doc, score, locals, ranks, id: self.id(doc) });
        if self.best.len() > self.limit {
            self.best.pop();
        }
    }

    fn collect_block(&mut self, docs: &[DocId]) {
        if self.limit == 0 {
            self.total += docs.len() as u64;
            return;
        }
        for doc in docs {
            self.collect(*doc, 0.0);
        }
    }

    fn harvest(self) -> tantivy::Result<Page> {
        let mut hits = Vec::with_capacity(self.best.len());
        for entry in self.best {
            let mut id = String::new();
            if let Some(ids) = &self.ids {
                ids.ord_to_str(entry.id, &mut id).map_err(TantivyError::from)?;
            }
            let pairs = self.sources.iter().zip(entry.locals);
            let keys = pairs.map(|(source, local)| source.key(local)).collect::<tantivy::Result<_>>()?;
            hits.push(Hit { address: DocAddress::new(self.segment, entry.doc), score: entry.score, keys, id });
        }
        Ok(Page { hits, total: self.total, max_score: self.max_score })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_in_all_their_forms() {
        let sorts =
            read(Some(&json!(["a", {"b": "desc"}, {"c": {"order": "desc", "missing": "_first"}}, "_score"]))).unwrap();
        let flags: Vec<(bool, bool)> = sorts.iter().map(|sort| (sort.descending, sort.missing_first)).collect();
        assert_eq!(flags, [(false, false), (true, false), (true, true), (true, false)]);
        assert_eq!(read(Some(&json!([{"a": "up"}]))).unwrap_err().path, "sort[0].a");
        assert_eq!(read(Some(&json!([{"a": {"oder": "asc"}}]))).unwrap_err().path, "sort[0].a.oder");
    }

    #[test]
    fn ranks_agree_with_the_order_of_keys() {
        let values =
            [Local::Missing, Local::Number(Numeric::Integer(-5)), Local::Number(Numeric::Integer(7)), Local::Text(3)];
        let key = |local| match local {
            Local::Number(number) => Key::Number(number),
            Local::Text(text) => Key::Text(text.to_string()),
            Local::Missing => Key::Missing,
        };
        for (descending, missing_first) in [(false, false), (false, true), (true, false), (true, true)] {
            let sort = Sort { by: By::Path("a".to_owned()), descending, missing_first };
            for left in values {
                for right in values {
                    let ranks = rank(&sort, left).cmp(&rank(&sort, right));
                    assert_eq!(ranks, sort.cmp(&key(left), &key(right)), "{left:?} {right:?} {sort:?}");
                    assert_eq!(ranks, order(&sort, left, right));
                }
            }
        }
    }
}
