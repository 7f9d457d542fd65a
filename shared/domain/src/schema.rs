//! Event schemas: one JSON Schema file per event type, the only description of its data.
//!
//! A subset of draft 2020-12 is understood: `type`, `properties`, `required`, `enum`, `minimum`, `maximum`, `minLength`, `maxLength`,
//! `items`, `minItems`, `maxItems`, `format` (`date-time`, `date`), the annotations `title`, `description`, `examples`, `default`,
//! `$schema`, `$id`, `$comment`, and the `x-…` annotations of the vocabulary. Any other keyword is an error at load, since a check that is
//! not made would otherwise look as if it were.

mod infer;
mod relation;

pub use infer::{Draft, infer};

use crate::json::{self, Node, Object, Value};
use crate::time::{DAY_US, HOUR_US, Timestamp};
use chrono_tz::Tz;
use relation::Relations;
use serde_json::{Map, Value as Json, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Name of the schema and table for events whose type has no schema.
pub const GENERIC_TYPE: &str = "event";

/// Field ids of the envelope are below this; those of data fields begin here.
pub const FIRST_DATA_COLUMN_ID: i32 = 101;

/// A list's element has the list's own field id plus this.
pub const ELEMENT_ID_OFFSET: i32 = 1_000;

/// How a column is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnKind {
    /// 64-bit integer.
    Integer,
    /// 64-bit float.
    Number,
    /// Decimal of `precision` digits, `scale` of them behind the point.
    Decimal {
        /// Total digits, 1–38.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// Text.
    Text,
    /// Microseconds since the epoch, UTC.
    Timestamp,
    /// Days since the epoch.
    Date,
    /// True or false.
    Boolean,
    /// JSON text.
    Json,
    /// A list of scalars.
    List(Box<ColumnKind>),
}

/// A field of an event type.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Name in `data`, in the lake and in the index.
    pub name: String,
    /// Iceberg and Parquet field id.
    pub id: i32,
    /// How it is stored.
    pub kind: ColumnKind,
    /// Whether an event without it is refused.
    pub required: bool,
    /// `x-low-cardinality`: few distinct values.
    pub low_cardinality: bool,
    /// `x-text`: full text, found by parts.
    pub text: bool,
    /// `x-personal`: erased with a person.
    pub personal: bool,
    /// `x-bloom`: a bloom filter is worth its bytes.
    pub bloom: bool,
    /// `x-unit`, for people.
    pub unit: Option<String>,
    /// `description`, for people.
    pub description: String,
    bounds: Bounds,
    token: String,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Bounds {
    allowed: Vec<String>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    min_items: Option<usize>,
    max_items: Option<usize>,
}

/// How a table is cut by the event's own time (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Partition {
    /// `dt=YYYY-MM-DD/hour=HH`
    Hour,
    /// `dt=YYYY-MM-DD`
    Day,
    /// `dt=YYYY-MM-01`
    Month,
}

impl Partition {
    /// The folder of a moment.
    pub fn folder(self, time: Timestamp) -> String {
        let date = time.date_text();
        match self {
            Self::Hour => format!("dt={date}/hour={:02}", time.hour()),
            Self::Day => format!("dt={date}"),
            Self::Month => format!("dt={}-01", &date[..7]),
        }
    }

    /// The first moment of the partition of a moment, and the first one after it.
    pub fn span(self, time: Timestamp) -> (Timestamp, Timestamp) {
        match self {
            Self::Hour => time.window(HOUR_US, Tz::UTC),
            Self::Day => time.window(DAY_US, Tz::UTC),
            Self::Month => time.month(),
        }
    }
}

/// The schema of one event type.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// Event type, for example `game.start`.
    pub event_type: String,
    /// Lake table, for example `game_start`.
    pub table: String,
    /// What it is, for people.
    pub description: String,
    /// Data columns in the order of their ids.
    pub columns: Vec<Column>,
    /// How the table is cut.
    pub partition: Partition,
    /// First sort column: an envelope attribute or a data field.
    pub sort: String,
    /// Days to keep, where bounded.
    pub retention_days: Option<u32>,
    by_name: HashMap<String, usize>,
    relations: Relations,
}

/// A field that the server computes, whatever was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Computed<'s> {
    /// Name of the field in `data`.
    pub name: &'s str,
    /// Its value: a number, or text.
    pub value: Json,
}

/// The value of one cell, borrowed from the event.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// Absent or null.
    Null,
    /// See [`ColumnKind::Integer`].
    Integer(i64),
    /// See [`ColumnKind::Number`].
    Number(f64),
    /// The unscaled value; see [`ColumnKind::Decimal`].
    Decimal(i128),
    /// See [`ColumnKind::Text`].
    Text(&'a str),
    /// Microseconds since the epoch.
    Timestamp(i64),
    /// Days since the epoch.
    Date(i32),
    /// See [`ColumnKind::Boolean`].
    Boolean(bool),
    /// JSON text.
    Json(&'a str),
    /// A list.
    List(Vec<Cell<'a>>),
}

/// Why data does not fit a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer inside the event, for example `/data/clicked_count`.
    pub pointer: String,
    /// Stable code: `schema`.
    pub code: &'static str,
    /// What is wrong, for people.
    pub reason: String,
}

/// A schema file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError {
    /// File name.
    pub file: String,
    /// JSON pointer inside the file.
    pub pointer: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schema file `{}`, at `{}`: {}", self.file, self.pointer, self.reason)
    }
}

impl std::error::Error for SchemaError {}

/// A column of the envelope, the same in every table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvelopeColumn {
    /// Attribute name.
    pub name: &'static str,
    /// Field id.
    pub id: i32,
    /// How it is stored.
    pub kind: EnvelopeKind,
    /// Never null.
    pub required: bool,
}

/// Storage kinds of the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeKind {
    /// Text.
    Text,
    /// Text of few distinct values.
    Word,
    /// Microseconds since the epoch, UTC.
    Timestamp,
    /// 64-bit integer.
    Integer,
    /// JSON text.
    Json,
}

/// The envelope's columns, in the order in which they stand in every table (spec, Envelope). Ids are append-only.
pub const ENVELOPE: [EnvelopeColumn; 17] = {
    const fn column(name: &'static str, id: i32, kind: EnvelopeKind, required: bool) -> EnvelopeColumn {
        EnvelopeColumn { name, id, kind, required }
    }
    use EnvelopeKind::{Integer, Json, Text, Timestamp, Word};
    [
        column("id", 1, Text, true),
        column("source", 2, Word, true),
        column("type", 3, Word, true),
        column("time", 4, Timestamp, true),
        column("receivedtime", 5, Timestamp, true),
        column("subject", 6, Text, false),
        column("userid", 7, Text, false),
        column("sessionid", 8, Text, false),
        column("clientip", 9, Text, false),
        column("useragent", 10, Word, false),
        column("specversion", 11, Word, false),
        column("datacontenttype", 12, Word, false),
        column("dataschema", 13, Word, false),
        column("tracestate", 14, Text, false),
        column("traceparent", 15, Text, false),
        column("hops", 16, Integer, false),
        column("extra", 17, Json, false),
    ]
};

impl Schema {
    /// Reads a schema file; `file` names it in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, SchemaError> {
        let fail = |pointer: &str, reason: String| SchemaError { file: file.into(), pointer: pointer.into(), reason };
        let root: Json = serde_json::from_str(text).map_err(|e| fail("", format!("not JSON: {e}")))?;
        let root = root.as_object().ok_or_else(|| fail("", "must be an object".into()))?;
        let known = [
            "$schema",
            "$id",
            "$comment",
            "title",
            "description",
            "examples",
            "type",
            "properties",
            "required",
            "x-type",
            "x-partition",
            "x-sort",
            "x-retention-days",
        ];
        if let Some(key) = root.keys().find(|k| !known.contains(&k.as_str())) {
            return Err(fail(&format!("/{key}"), format!("keyword `{key}` is not understood here")));
        }
        if root.get("type").and_then(Json::as_str) != Some("object") {
            return Err(fail("/type", "must be `object`".into()));
        }
        let event_type = root
            .get("x-type")
            .and_then(Json::as_str)
            .ok_or_else(|| fail("/x-type", "the event type is missing".into()))?
            .to_owned();
        if event_type != GENERIC_TYPE && !is_own_type(&event_type) {
            return Err(fail("/x-type", format!("`{event_type}` is not of the form `area.name` in `[a-z][a-z0-9_]*`")));
        }
        let partition = match root.get("x-partition").map(|v| v.as_str().unwrap_or_default()) {
            None | Some("day") => Partition::Day,
            Some("hour") => Partition::Hour,
            Some("month") => Partition::Month,
            Some(_) => return Err(fail("/x-partition", "must be `hour`, `day` or `month`".into())),
        };
        let required: Vec<&str> = match root.get("required") {
            None => Vec::new(),
            Some(Json::Array(names)) if names.iter().all(Json::is_string) => {
                names.iter().filter_map(Json::as_str).collect()
            }
            Some(_) => return Err(fail("/required", "must be a list of names".into())),
        };
        let empty = Map::new();
        let properties = match root.get("properties") {
            None => &empty,
            Some(Json::Object(map)) => map,
            Some(_) => return Err(fail("/properties", "must be an object".into())),
        };
        let mut columns = Vec::with_capacity(properties.len());
        for (name, property) in properties {
            let mut pointer = String::from("/properties");
            json::push_pointer(&mut pointer, name);
            let column = Column::parse(name, property, required.contains(&name.as_str()))
                .map_err(|(at, reason)| fail(&format!("{pointer}{at}"), reason))?;
            columns.push(column);
        }
        if let Some(name) = required.iter().find(|n| !properties.contains_key(**n)) {
            return Err(fail("/required", format!("`{name}` is not among the properties")));
        }
        columns.sort_by_key(|c| c.id);
        if let Some(pair) = columns.windows(2).find(|w| w[0].id == w[1].id) {
            return Err(fail(
                "/properties",
                format!("`{}` and `{}` have the same x-column-id {}", pair[0].name, pair[1].name, pair[0].id),
            ));
        }
        let relations =
            Relations::parse(properties, &columns).map_err(|(at, reason)| fail(&format!("/properties{at}"), reason))?;
        let by_name: HashMap<String, usize> = columns.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();
        let sort = root.get("x-sort").and_then(Json::as_str).unwrap_or("subject").to_owned();
        if !by_name.contains_key(&sort) && !ENVELOPE.iter().any(|c| c.name == sort) {
            return Err(fail("/x-sort", format!("`{sort}` is neither an envelope attribute nor a property")));
        }
        let retention_days = match root.get("x-retention-days") {
            None => None,
            Some(v) => Some(
                v.as_u64()
                    .and_then(|d| u32::try_from(d).ok())
                    .filter(|d| *d > 0)
                    .ok_or_else(|| fail("/x-retention-days", "must be a whole number of days above 0".into()))?,
            ),
        };
        Ok(Self {
            table: event_type.replace('.', "_"),
            event_type,
            description: root.get("description").and_then(Json::as_str).unwrap_or_default().to_owned(),
            columns,
            partition,
            sort,
            retention_days,
            by_name,
            relations,
        })
    }

    /// Whether this is the schema of events without one.
    pub fn is_generic(&self) -> bool {
        self.event_type == GENERIC_TYPE
    }

    /// The position in [`Self::columns`] of a data field.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Checks an event's data.
    pub fn check(&self, data: &Object<'_>) -> Result<(), Violation> {
        let mut seen_required = 0;
        for (name, node) in &data.0 {
            if let Some(column) = self.column_index(name).map(|i| &self.columns[i]) {
                let cell = column.read(node)?;
                seen_required += usize::from(column.required && cell != Cell::Null);
            }
        }
        if seen_required < self.columns.iter().filter(|c| c.required).count() {
            for column in self.columns.iter().filter(|c| c.required) {
                if data.get(&column.name).is_none_or(|n| n.value == Value::Null) {
                    return Err(violation(&column.name, "is missing".into()));
                }
            }
        }
        self.relations.check(&self.columns, |i| relation::integer(&self.columns[i], data))
    }

    /// Whether fields are checked against each other or computed from each other.
    pub(crate) fn has_relations(&self) -> bool {
        !self.relations.is_empty()
    }

    /// Whether data whose fields each fit their own column fits as a whole; `integer` answers the integer of a column that was sent.
    pub(crate) fn relates(&self, integer: impl Fn(usize) -> Option<i64>) -> bool {
        self.relations.check(&self.columns, integer).is_ok()
    }

    /// As [`Self::computed`], of the integers that were sent, with the columns' positions.
    pub(crate) fn computed_from(&self, integer: impl Fn(usize) -> Option<i64>) -> impl Iterator<Item = (usize, f64)> {
        self.relations.compute(integer)
    }

    /// Whether something speaks against the play in an event of this source. `integer` as in [`Self::relates`]; `integers` answers those of a
    /// list that was sent.
    pub(crate) fn is_doubted(
        &self,
        source: &str,
        integer: impl Fn(usize) -> Option<i64>,
        integers: impl Fn(usize) -> Vec<i64>,
    ) -> bool {
        self.relations.doubts(source, integer, integers).next().is_some()
    }

    /// The fields of checked data that the server computes in an event of this source, with their values.
    pub fn computed(&self, data: &Object<'_>, source: &str) -> Vec<Computed<'_>> {
        let integer = |i: usize| relation::integer(&self.columns[i], data);
        let integers = |i: usize| {
            let column = &self.columns[i];
            data.get(&column.name).map_or_else(Vec::new, |node| relation::integers(column, node))
        };
        let numbers = self.computed_from(integer).map(|(i, value)| (i, Json::from(value)));
        let doubts = self.relations.doubts(source, integer, integers).map(|(i, why)| (i, Json::from(why)));
        numbers.chain(doubts).map(|(i, value)| Computed { name: &self.columns[i].name, value }).collect()
    }

    /// The OpenSearch `mappings` of this type's documents: the envelope at the top, the data fields under `data`.
    pub fn search_mapping(&self) -> Json {
        let mut top = Map::new();
        for column in ENVELOPE {
            let mapping = match column.kind {
                EnvelopeKind::Text | EnvelopeKind::Word => json!({"type": "keyword"}),
                EnvelopeKind::Timestamp => json!({"type": "date"}),
                EnvelopeKind::Integer => json!({"type": "long"}),
                EnvelopeKind::Json => json!({"type": "flat_object"}),
            };
            top.insert(column.name.into(), mapping);
        }
        if self.is_generic() {
            top.insert("data".into(), json!({"type": "flat_object"}));
        } else {
            let fields: Map<String, Json> = self.columns.iter().map(|c| (c.name.clone(), c.search_mapping())).collect();
            top.insert("data".into(), json!({"properties": fields}));
        }
        json!({"properties": top})
    }
}

/// Whether a type is of the form `area.name` in `[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+`.
pub fn is_own_type(event_type: &str) -> bool {
    // Whether a word may begin, and how many have begun.
    let (mut begins, mut words) = (true, 0);
    for byte in event_type.bytes() {
        match byte {
            b'a'..=b'z' => {
                words += usize::from(begins);
                begins = false;
            }
            b'0'..=b'9' | b'_' if !begins => {}
            b'.' if !begins => begins = true,
            _ => return false,
        }
    }
    words > 1 && !begins
}

/// The area of a type: what stands before its first dot, or `other` for types that are not of our form.
pub fn area(event_type: &str) -> &str {
    if is_own_type(event_type) { event_type.split('.').next().unwrap_or("other") } else { "other" }
}

/// The name under which events of a type are counted: the type itself where it is of our form, else `other`, so that free text never
/// becomes a counter. It does not depend on which schemas there are.
pub fn counted_as(event_type: &str) -> &str {
    if is_own_type(event_type) { event_type } else { "other" }
}

fn violation(name: &str, what: String) -> Violation {
    let mut pointer = String::from("/data");
    json::push_pointer(&mut pointer, name);
    Violation { pointer, code: "schema", reason: format!("`{name}` {what}") }
}

impl Column {
    fn parse(name: &str, property: &Json, required: bool) -> Result<Self, (String, String)> {
        let fail = |at: &str, reason: &str| (at.to_owned(), reason.to_owned());
        let map = property.as_object().ok_or_else(|| fail("", "must be an object"))?;
        let known = [
            "type",
            "description",
            "title",
            "examples",
            "default",
            "$comment",
            "enum",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "items",
            "minItems",
            "maxItems",
            "format",
            "x-column-id",
            "x-decimal",
            "x-json",
            "x-text",
            "x-low-cardinality",
            "x-personal",
            "x-bloom",
            "x-unit",
            "x-max-field",
            "x-percent-of",
            "x-judge",
        ];
        if let Some(key) = map.keys().find(|k| !known.contains(&k.as_str())) {
            return Err((format!("/{key}"), format!("keyword `{key}` is not understood")));
        }
        if name.is_empty() || name.len() > 128 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(fail("", "a property's name is 1–128 of `[A-Za-z0-9_]`"));
        }
        if ENVELOPE.iter().any(|c| c.name == name) {
            return Err(fail("", "an envelope attribute has this name"));
        }
        let id = map.get("x-column-id").and_then(Json::as_i64).and_then(|id| i32::try_from(id).ok());
        let id = id.filter(|id| (FIRST_DATA_COLUMN_ID..ELEMENT_ID_OFFSET).contains(id)).ok_or_else(|| {
            fail("/x-column-id", "must be a whole number from 101 to 999, never used before in this file")
        })?;
        let flag = |key: &str| map.get(key) == Some(&Json::Bool(true));
        let size = |key: &str| map.get(key).and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok());
        let allowed = match map.get("enum") {
            None => Vec::new(),
            Some(Json::Array(values)) => {
                values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect()
            }
            Some(_) => return Err(fail("/enum", "must be a list")),
        };
        let text_of = |key: &str| map.get(key).and_then(Json::as_str).map(str::to_owned);
        Ok(Self {
            name: name.into(),
            token: format!("\"{name}\":"),
            id,
            kind: kind_of(map, false)?,
            required,
            low_cardinality: flag("x-low-cardinality") || !allowed.is_empty(),
            text: flag("x-text"),
            personal: flag("x-personal"),
            bloom: flag("x-bloom"),
            unit: text_of("x-unit"),
            description: text_of("description").unwrap_or_default(),
            bounds: Bounds {
                allowed,
                minimum: map.get("minimum").and_then(Json::as_f64),
                maximum: map.get("maximum").and_then(Json::as_f64),
                min_length: size("minLength"),
                max_length: size("maxLength"),
                min_items: size("minItems"),
                max_items: size("maxItems"),
            },
        })
    }

    /// Reads and checks a value of this column.
    pub fn read<'n>(&self, node: &'n Node<'_>) -> Result<Cell<'n>, Violation> {
        let cell = read_cell(&self.kind, node).map_err(|what| violation(&self.name, what))?;
        self.bounds.check(&cell, node).map_err(|what| violation(&self.name, what))?;
        Ok(cell)
    }

    /// Whether a text is in the bounds of this column, which holds text. [`Self::read`] says why not.
    pub fn takes_text(&self, text: &str) -> bool {
        let Bounds { allowed, min_length, max_length, .. } = &self.bounds;
        let in_length = || {
            // Bytes bound characters from above, and a quarter of them from below.
            let sure = max_length.is_none_or(|max| text.len() <= max) && min_length.unwrap_or(0) <= text.len() / 4;
            let fits = |length| max_length.is_none_or(|max| length <= max) && min_length.unwrap_or(0) <= length;
            sure || fits(text.chars().count())
        };
        (allowed.is_empty() || allowed.iter().any(|a| a == text)) && in_length()
    }

    /// The name as it mostly stands before its value: `"name":`.
    pub fn token(&self) -> &[u8] {
        self.token.as_bytes()
    }

    /// Whether numbers are bounded.
    pub(crate) fn is_ranged(&self) -> bool {
        self.bounds.minimum.is_some() || self.bounds.maximum.is_some()
    }

    /// Whether only listed values are allowed.
    pub fn is_enumerated(&self) -> bool {
        !self.bounds.allowed.is_empty()
    }

    /// Whether a number that was sent is in the range of this column, which is not enumerated.
    pub fn takes_number(&self, number: f64) -> bool {
        self.bounds.minimum.is_none_or(|min| number >= min) && self.bounds.maximum.is_none_or(|max| number <= max)
    }

    /// Whether this column, which is not enumerated, takes a list of so many elements.
    pub fn takes_items(&self, count: usize) -> bool {
        self.bounds.min_items.is_none_or(|min| count >= min) && self.bounds.max_items.is_none_or(|max| count <= max)
    }

    fn search_mapping(&self) -> Json {
        let scalar = match &self.kind {
            ColumnKind::List(element) => element.as_ref(),
            kind => kind,
        };
        match scalar {
            ColumnKind::Integer => json!({"type": "long"}),
            ColumnKind::Number | ColumnKind::Decimal { .. } => json!({"type": "double"}),
            ColumnKind::Text | ColumnKind::List(_) if self.text => {
                json!({"type": "text", "fields": {"keyword": {"type": "keyword"}}})
            }
            ColumnKind::Text | ColumnKind::List(_) => json!({"type": "keyword"}),
            ColumnKind::Timestamp | ColumnKind::Date => json!({"type": "date"}),
            ColumnKind::Boolean => json!({"type": "boolean"}),
            ColumnKind::Json => json!({"type": "flat_object"}),
        }
    }
}

fn kind_of(map: &Map<String, Json>, is_element: bool) -> Result<ColumnKind, (String, String)> {
    let fail = |at: &str, reason: &str| Err((at.to_owned(), reason.to_owned()));
    if map.get("x-json") == Some(&Json::Bool(true)) {
        return if is_element { fail("/x-json", "not inside a list") } else { Ok(ColumnKind::Json) };
    }
    match map.get("type").and_then(Json::as_str) {
        Some("integer") => Ok(ColumnKind::Integer),
        Some("number") => Ok(ColumnKind::Number),
        Some("boolean") => Ok(ColumnKind::Boolean),
        Some("string") => match (map.get("x-decimal"), map.get("format").and_then(Json::as_str)) {
            (Some(decimal), None) => {
                let digits = |i: usize| decimal.get(i).and_then(Json::as_u64).and_then(|n| u8::try_from(n).ok());
                match (digits(0), digits(1)) {
                    (Some(precision @ 1..=38), Some(scale)) if scale <= precision => {
                        Ok(ColumnKind::Decimal { precision, scale })
                    }
                    _ => fail("/x-decimal", "must be [precision 1–38, scale ≤ precision]"),
                }
            }
            (None, None) => Ok(ColumnKind::Text),
            (None, Some("date-time")) => Ok(ColumnKind::Timestamp),
            (None, Some("date")) => Ok(ColumnKind::Date),
            _ => fail("/format", "must be `date-time` or `date`, and not together with x-decimal"),
        },
        Some("array") if !is_element => match map.get("items").and_then(Json::as_object) {
            Some(items) => {
                Ok(ColumnKind::List(Box::new(kind_of(items, true).map_err(|(at, r)| (format!("/items{at}"), r))?)))
            }
            None => fail("/items", "a list says what its elements are"),
        },
        Some("object") if !is_element => Ok(ColumnKind::Json),
        _ => fail("/type", "must be integer, number, string, boolean, array of a scalar, or object"),
    }
}

fn read_cell<'n>(kind: &ColumnKind, node: &'n Node<'_>) -> Result<Cell<'n>, String> {
    let wrong = |wanted: &str| format!("must be {wanted}, not {} `{}`", node.kind(), clip(node.raw));
    Ok(match (kind, &node.value) {
        (_, Value::Null) => Cell::Null,
        (ColumnKind::Integer, Value::Number(text)) => Cell::Integer(integer(text)?),
        (ColumnKind::Integer, _) => return Err(wrong("a whole number")),
        (ColumnKind::Number, Value::Number(text)) => match text.parse::<f64>() {
            Ok(n) if n.is_finite() => Cell::Number(n),
            _ => return Err(format!("is beyond a 64-bit float: `{}`", clip(text))),
        },
        (ColumnKind::Number, _) => return Err(wrong("a number")),
        (ColumnKind::Decimal { precision, scale }, Value::Number(text)) => {
            Cell::Decimal(decimal(text, *precision, *scale)?)
        }
        (ColumnKind::Decimal { precision, scale }, Value::String(text)) => {
            Cell::Decimal(decimal(text, *precision, *scale)?)
        }
        (ColumnKind::Decimal { .. }, _) => return Err(wrong("a decimal number or its text")),
        (ColumnKind::Text, Value::String(text)) => Cell::Text(text),
        (ColumnKind::Text, _) => return Err(wrong("text")),
        (ColumnKind::Timestamp, Value::String(text)) => match Timestamp::parse_in(text, Tz::UTC) {
            Some(t) => Cell::Timestamp(t.micros()),
            None => return Err(format!("is not an RFC 3339 time: `{}`", clip(text))),
        },
        (ColumnKind::Timestamp, Value::Number(text)) => match Timestamp::parse_epoch(text) {
            Some(t) => Cell::Timestamp(t.micros()),
            None => return Err(format!("is not a time since the epoch: `{}`", clip(text))),
        },
        (ColumnKind::Timestamp, _) => return Err(wrong("a time")),
        (ColumnKind::Date, Value::String(text)) => match Timestamp::parse_date(text) {
            Some(day) => Cell::Date(day),
            None => return Err(format!("is not a day `YYYY-MM-DD`: `{}`", clip(text))),
        },
        (ColumnKind::Date, _) => return Err(wrong("a day")),
        (ColumnKind::Boolean, Value::Bool(b)) => Cell::Boolean(*b),
        (ColumnKind::Boolean, _) => return Err(wrong("true or false")),
        (ColumnKind::Json, _) => Cell::Json(node.raw),
        (ColumnKind::List(element), Value::Array(items)) => Cell::List(
            items
                .iter()
                .enumerate()
                .map(|(i, n)| read_cell(element, n).map_err(|e| format!("[{i}] {e}")))
                .collect::<Result<_, _>>()?,
        ),
        (ColumnKind::List(_), _) => return Err(wrong("a list")),
    })
}

/// A JSON number's text as a 64-bit integer; `5.0` and `5e0` are whole numbers too (JSON Schema 2020-12, 6.1.1).
fn integer(text: &str) -> Result<i64, String> {
    if let Ok(n) = text.parse::<i64>() {
        return Ok(n);
    }
    match decimal(text, 19, 0) {
        Ok(n) => i64::try_from(n).map_err(|_| format!("is beyond 64 bits: `{}`", clip(text))),
        Err(_) if !text.contains(['.', 'e', 'E']) => Err(format!("is beyond 64 bits: `{}`", clip(text))),
        Err(_) => Err(format!("must be a whole number of at most 64 bits, not `{}`", clip(text))),
    }
}

/// A number's text as an unscaled decimal, exactly; text that would need rounding is refused.
pub fn decimal(text: &str, precision: u8, scale: u8) -> Result<i128, String> {
    let bad = || format!("is not a decimal number: `{}`", clip(text));
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().ok().filter(|e| e.abs() <= 100).ok_or_else(bad)?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    if whole.is_empty() || fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    // The digit at position i of whole‖fraction stands for 10^(whole.len() − 1 − i + exponent).
    let too_fine = || format!("has more than {scale} digits behind the point: `{}`", clip(text));
    let too_large = || format!("has more than {precision} digits: `{}`", clip(text));
    let limit = 10i128.pow(u32::from(precision));
    let mut value: i128 = 0;
    let mut last_power = i32::from(scale) + 1;
    for (i, b) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let power =
            i32::try_from(whole.len()).map_err(|_| too_large())? - 1 - i32::try_from(i).map_err(|_| too_large())?
                + exponent;
        if power < -i32::from(scale) {
            if b != b'0' {
                return Err(too_fine());
            }
            continue;
        }
        value = value.checked_mul(10).and_then(|v| v.checked_add(i128::from(b - b'0'))).ok_or_else(too_large)?;
        last_power = power;
        if value >= limit {
            return Err(too_large());
        }
    }
    if value != 0 {
        for _ in 0..(last_power + i32::from(scale)) {
            value = value.checked_mul(10).filter(|value| *value < limit).ok_or_else(too_large)?;
        }
    }
    Ok(if negative { -value } else { value })
}

/// An unscaled decimal as plain text with `scale` digits behind the point.
pub fn decimal_text(unscaled: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn clip(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(40) {
        Some((at, _)) => Cow::Owned(format!("{}…", &text[..at])),
        None => Cow::Borrowed(text),
    }
}

impl Bounds {
    fn check(&self, cell: &Cell<'_>, node: &Node<'_>) -> Result<(), String> {
        if let Cell::Null = cell {
            return Ok(());
        }
        if !self.allowed.is_empty() {
            let text = node.as_str().unwrap_or(node.raw);
            if !self.allowed.iter().any(|a| a == text) {
                return Err(format!("must be one of {}, not `{}`", self.allowed.join(", "), clip(text)));
            }
        }
        if (self.minimum.is_some() || self.maximum.is_some())
            && let Value::Number(text) = node.value
        {
            let n: f64 = text.parse().unwrap_or(f64::NAN);
            if self.minimum.is_some_and(|min| n < min) || self.maximum.is_some_and(|max| n > max) {
                let bound = |b: Option<f64>, open: &str| b.map_or_else(|| open.to_owned(), |b| b.to_string());
                let range = format!("{} to {}", bound(self.minimum, "−∞"), bound(self.maximum, "∞"));
                return Err(format!("must be in {range}, not `{}`", clip(text)));
            }
        }
        if let Cell::Text(text) = cell
            && (self.min_length.is_some() || self.max_length.is_some())
        {
            // Bytes bound characters from above: count only where that does not decide.
            let length = if self.max_length.is_none_or(|max| text.len() <= max)
                && self.min_length.unwrap_or(0) <= text.len() / 4
            {
                return Ok(());
            } else {
                text.chars().count()
            };
            if self.max_length.is_some_and(|max| length > max) || self.min_length.is_some_and(|min| length < min) {
                return Err(format!(
                    "has {length} characters, allowed are {} to {}",
                    self.min_length.unwrap_or(0),
                    self.max_length.unwrap_or(usize::MAX)
                ));
            }
        }
        if let Cell::List(items) = cell
            && (self.max_items.is_some_and(|max| items.len() > max)
                || self.min_items.is_some_and(|min| items.len() < min))
        {
            return Err(format!(
                "has {} elements, allowed are {} to {}",
                items.len(),
                self.min_items.unwrap_or(0),
                self.max_items.unwrap_or(usize::MAX)
            ));
        }
        Ok(())
    }
}

/// All schemas, by event type.
#[derive(Debug, Clone, PartialEq)]
pub struct Registry {
    by_type: BTreeMap<String, Schema>,
}

impl Registry {
    /// Loads schema files given as (name, text). A later file replaces an earlier one of the same type (a user's own `schemas/` overrides
    /// what is bundled); two types with one table name are refused, and so is a set without the generic `event`.
    pub fn load<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> Result<Self, SchemaError> {
        let mut by_type: BTreeMap<String, Schema> = BTreeMap::new();
        let mut tables: BTreeMap<String, (String, String)> = BTreeMap::new();
        for (file, text) in files {
            let schema = Schema::parse(file, text)?;
            if let Some((other, in_file)) = tables.get(&schema.table)
                && *other != schema.event_type
            {
                let reason = format!(
                    "type `{}` has the same table name `{}` as `{other}` of `{in_file}`",
                    schema.event_type, schema.table
                );
                return Err(SchemaError { file: file.into(), pointer: "/x-type".into(), reason });
            }
            tables.insert(schema.table.clone(), (schema.event_type.clone(), file.to_owned()));
            by_type.insert(schema.event_type.clone(), schema);
        }
        if !by_type.contains_key(GENERIC_TYPE) {
            let reason = format!("no schema file has x-type `{GENERIC_TYPE}`");
            return Err(SchemaError { file: "event.json".into(), pointer: "/x-type".into(), reason });
        }
        Ok(Self { by_type })
    }

    /// The schema that stores events of a type: its own, or the generic one.
    pub fn resolve(&self, event_type: &str) -> &Schema {
        match self.by_type.get(event_type) {
            Some(schema) => schema,
            None => &self.by_type[GENERIC_TYPE],
        }
    }

    /// The schema of a table.
    pub fn table(&self, table: &str) -> Option<&Schema> {
        self.by_type.values().find(|s| s.table == table)
    }

    /// All schemas in order of type.
    pub fn iter(&self) -> impl Iterator<Item = &Schema> {
        self.by_type.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = r#"{"type":"object","x-type":"game.result","x-sort":"play_id","required":["play_id","total"],"properties":{
        "play_id":{"type":"string","maxLength":4,"x-column-id":101},
        "total":{"type":"integer","minimum":0,"x-column-id":102},
        "price":{"type":"string","x-decimal":[9,2],"x-column-id":103},
        "rate":{"type":"number","maximum":100,"x-column-id":104},
        "at":{"type":"string","format":"date-time","x-column-id":105},
        "reaction_ms":{"type":"array","items":{"type":"integer"},"maxItems":2,"x-column-id":106},
        "state":{"type":"string","enum":["on","off"],"x-column-id":107},
        "more":{"type":"object","x-column-id":108}}}"#;
    const EVENT: &str = r#"{"type":"object","x-type":"event","properties":{"data":{"x-json":true,"x-column-id":101}}}"#;

    fn check(data: &str) -> Result<(), (String, String)> {
        let schema = Schema::parse("f", FILE).unwrap();
        let node = json::parse_str(data).unwrap();
        schema.check(node.as_object().unwrap()).map_err(|v| (v.pointer, v.reason))
    }

    #[test]
    fn data_that_fits_passes_with_unknown_fields() {
        check(r#"{"play_id":"p","total":5.0,"price":"1.50","rate":1e1,"at":"2026-01-01T00:00:00Z","reaction_ms":[1,2],"state":"on","more":{"a":1},"new":1}"#)
            .unwrap();
        check(r#"{"play_id":"p","total":5,"price":1.5,"at":null}"#).unwrap();
    }

    #[test]
    fn data_that_does_not_fit_is_named_by_pointer() {
        for (data, pointer, word) in [
            (r#"{"total":1}"#, "/data/play_id", "missing"),
            (r#"{"play_id":null,"total":1}"#, "/data/play_id", "missing"),
            (r#"{"play_id":1,"total":1}"#, "/data/play_id", "must be text"),
            (r#"{"play_id":"ppppp","total":1}"#, "/data/play_id", "5 characters"),
            (r#"{"play_id":"p","total":1.5}"#, "/data/total", "whole number"),
            (r#"{"play_id":"p","total":-1}"#, "/data/total", "must be in 0"),
            (r#"{"play_id":"p","total":9223372036854775808}"#, "/data/total", "beyond 64 bits"),
            (r#"{"play_id":"p","total":1,"price":"1.505"}"#, "/data/price", "more than 2 digits"),
            (r#"{"play_id":"p","total":1,"price":12345678}"#, "/data/price", "more than 9 digits"),
            (r#"{"play_id":"p","total":1,"rate":1e999}"#, "/data/rate", "64-bit float"),
            (r#"{"play_id":"p","total":1,"rate":101}"#, "/data/rate", "must be in"),
            (r#"{"play_id":"p","total":1,"at":"yesterday"}"#, "/data/at", "RFC 3339"),
            (r#"{"play_id":"p","total":1,"reaction_ms":[1,"x"]}"#, "/data/reaction_ms", "[1] must be"),
            (r#"{"play_id":"p","total":1,"reaction_ms":[1,2,3]}"#, "/data/reaction_ms", "3 elements"),
            (r#"{"play_id":"p","total":1,"state":"maybe"}"#, "/data/state", "one of on, off"),
        ] {
            let (at, reason) = check(data).unwrap_err();
            assert_eq!(at, pointer, "{data}");
            assert!(reason.contains(word), "{data}: {reason}");
        }
    }

    #[test]
    fn decimals_are_read_from_their_text() {
        assert_eq!(decimal("55700", 18, 6), Ok(55_700_000_000));
        assert_eq!(decimal("-0.36", 9, 2), Ok(-36));
        assert_eq!(decimal("1.5e2", 9, 2), Ok(15_000));
        assert_eq!(decimal("15e-1", 9, 2), Ok(150));
        assert_eq!(decimal("1.5000", 9, 2), Ok(150));
        assert_eq!(decimal("0e50", 9, 2), Ok(0));
        assert!(decimal("1e50", 9, 2).is_err());
        let nines = "9".repeat(38);
        assert_eq!(decimal(&nines, 38, 0), Ok(10i128.pow(38) - 1));
        for beyond in [format!("{nines}9"), (i128::MAX / 10).to_string() + "9"] {
            assert!(decimal(&beyond, 38, 0).is_err(), "{beyond} is beyond 128 bits");
        }
        assert!(decimal(&format!("{nines}e1"), 38, 0).is_err(), "beyond 128 bits");
        assert!(decimal("", 9, 2).is_err());
        assert!(decimal("1e-5", 9, 2).is_err());
        assert_eq!(decimal_text(-36, 2), "-0.36");
        assert_eq!(decimal_text(55_700_000_000, 6), "55700.000000");
        assert_eq!(decimal_text(7, 0), "7");
    }

    #[test]
    fn schema_files_with_mistakes_are_refused_at_the_place() {
        for (text, pointer) in [
            (r#"{"type":"object"}"#, "/x-type"),
            (r#"{"type":"object","x-type":"Bad"}"#, "/x-type"),
            (r#"{"type":"object","x-type":"a.b","allOf":[]}"#, "/allOf"),
            (r#"{"type":"object","x-type":"a.b","properties":{"x":{"type":"string"}}}"#, "/properties/x/x-column-id"),
            (
                r#"{"type":"object","x-type":"a.b","properties":{"x":{"type":"string","pattern":"a","x-column-id":101}}}"#,
                "/properties/x/pattern",
            ),
            (
                r#"{"type":"object","x-type":"a.b","properties":{"time":{"type":"string","x-column-id":101}}}"#,
                "/properties/time",
            ),
            (
                r#"{"type":"object","x-type":"a.b","properties":{"x":{"type":"string","x-column-id":101},"y":{"type":"string","x-column-id":101}}}"#,
                "/properties",
            ),
            (r#"{"type":"object","x-type":"a.b","x-sort":"q"}"#, "/x-sort"),
            (r#"{"type":"object","x-type":"a.b","required":["q"]}"#, "/required"),
        ] {
            let error = Schema::parse("f.json", text).unwrap_err();
            assert_eq!(error.pointer, pointer, "{error}");
        }
    }

    #[test]
    fn two_types_with_one_table_are_refused() {
        let a = r#"{"type":"object","x-type":"a.b_c"}"#;
        let b = r#"{"type":"object","x-type":"a.b.c"}"#;
        let error = Registry::load([("event.json", EVENT), ("a.json", a), ("b.json", b)]).unwrap_err();
        assert!(error.reason.contains("same table name `a_b_c`"), "{error}");
        assert!(Registry::load([("a.json", a)]).unwrap_err().reason.contains("`event`"));
    }

    #[test]
    fn types_without_a_schema_resolve_to_the_generic_one() {
        let registry = Registry::load([("event.json", EVENT), ("g.json", FILE)]).unwrap();
        assert_eq!(registry.resolve("game.result").table, "game_result");
        assert_eq!(registry.resolve("com.Example/x").table, "event");
        assert_eq!(area("game.result"), "game");
        assert_eq!(area("Game.x"), "other");
    }

    #[test]
    fn the_search_mapping_follows_the_columns() {
        let mapping = Schema::parse("f", FILE).unwrap().search_mapping();
        assert_eq!(mapping["properties"]["time"]["type"], "date");
        assert_eq!(mapping["properties"]["data"]["properties"]["price"]["type"], "double");
        assert_eq!(mapping["properties"]["data"]["properties"]["reaction_ms"]["type"], "long");
        assert_eq!(mapping["properties"]["data"]["properties"]["more"]["type"], "flat_object");
    }

    #[test]
    fn own_types_are_words_with_dots_between() {
        for own in ["a.b", "a.b.c", "area.na_me2"] {
            assert!(is_own_type(own), "{own}");
        }
        for other in ["", "a", ".", "a.", ".a", "a..b", "a.1", "a._", "A.b", "a.b ", "a.é", "a-b.c", "1.a", "other"] {
            assert!(!is_own_type(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn own_types_are_those_of_the_pattern(event_type in "[a.1_é]{0,6}") {
            let word = |w: &str| {
                w.starts_with(|c: char| c.is_ascii_lowercase())
                    && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            };
            prop_assert_eq!(is_own_type(&event_type), event_type.contains('.') && event_type.split('.').all(word));
        }

        #[test]
        fn decimals_round_trip(n in -10i128.pow(17)..10i128.pow(17), scale in 0u8..9) {
            prop_assert_eq!(decimal(&decimal_text(n, scale), 18, scale), Ok(n));
        }

        #[test]
        fn any_text_is_a_decimal_or_refused_without_panic(text in "[-0-9.eE+]{0,50}") {
            let _ = decimal(&text, 38, 10);
            let _ = integer(&text);
        }
    }
}
