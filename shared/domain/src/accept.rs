//! Events from outside, checked and completed straight from their text.
//!
//! As in [`crate::scan`], nothing here judges: an event that is not as events mostly are, or that does not fit, is left to
//! [`Event::accept`](crate::event::Event::accept), which alone says what is wrong. What is written here is what it would have written.

use crate::event::{
    Acceptance, MAX_AHEAD_US, MAX_ATTRIBUTE_BYTES, MAX_ID_BYTES, MAX_SOURCE_BYTES, MAX_TYPE_BYTES, ROUNDING,
};
use crate::json::MAX_DEPTH;
use crate::scan::{Attributes, Cursor, Field, Fields, TOKENS, digits_of, place};
use crate::schema::{Cell, Column, ColumnKind, Schema};
use crate::time::{DAY_US, Timestamp};
use serde_json::Value as Json;

/// Lists and objects around `data`.
const DATA_DEPTH: usize = 1;
/// Lists and objects around a field of it.
const FIELD_DEPTH: usize = 2;

/// Reads the events of a request.
#[derive(Debug)]
pub struct Acceptor<'c> {
    context: Acceptance<'c>,
    attributes: Attributes,
    kinds: Vec<Kind<'c>>,
    relation: Relation,
}

/// What was sent in those attributes that decide about rights and repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent<'t> {
    /// `id`
    pub id: Option<&'t str>,
    /// `source`
    pub source: Option<&'t str>,
    /// `type`
    pub event_type: &'t str,
    /// The JSON text of `time`.
    pub time: Option<&'t str>,
}

/// Events of one schema.
#[derive(Debug)]
struct Kind<'c> {
    fields: Fields<'c>,
    required: usize,
}

/// What relations between fields need to know of the data that was read last; empty where its schema has none.
#[derive(Debug, Default)]
struct Relation {
    members: Vec<Member>,
    integers: Vec<(usize, i64)>,
    computed: Vec<(usize, f64)>,
}

/// A member of `data`, by byte offsets.
#[derive(Debug, Clone, Copy)]
struct Member {
    field: Field,
    from: usize,
    to: usize,
}

/// A value that fits its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Null,
    Integer(i64),
    Other,
}

impl<'c> Acceptor<'c> {
    /// Before the first event of a request.
    pub fn new(context: Acceptance<'c>) -> Self {
        Self { context, attributes: Attributes::default(), kinds: Vec::new(), relation: Relation::default() }
    }

    /// What ingest knows beside the events.
    pub fn context(&self) -> &Acceptance<'c> {
        &self.context
    }

    /// Checks and completes the event of a text and appends it as it stands in a message. Where it answers nothing, nothing was appended.
    pub fn accept<'t>(&mut self, text: &'t str, new_id: impl FnOnce() -> String, out: &mut String) -> Option<Sent<'t>> {
        let mut cursor = Cursor::within(text, MAX_DEPTH);
        cursor.skip_space();
        if !cursor.eat(b'{') {
            return None;
        }
        let mut texts: [Option<&'t str>; place::DATA] = [None; place::DATA];
        let (mut time, mut data, mut schema) = (None, None, None);
        let mut last = 0;
        loop {
            cursor.skip_space();
            let attribute = self.attributes.next(&mut cursor, last)?;
            last = attribute + 1;
            cursor.skip_space();
            let from = cursor.at();
            match attribute {
                place::DATA if data.is_none() => {
                    match texts[place::TYPE] {
                        Some(event_type) => schema = Some(self.check(event_type, &mut cursor)?),
                        None => _ = cursor.raw(DATA_DEPTH)?,
                    }
                    data = Some((from, cursor.at()));
                }
                place::TIME if time.is_none() => {
                    let read = match cursor.peek()? {
                        b'"' => Timestamp::parse_rfc3339(cursor.string()?)?,
                        _ => Timestamp::parse_epoch(cursor.number()?)?,
                    };
                    time = Some((read, cursor.text(from, cursor.at())));
                }
                place::DATA | place::TIME | place::HOPS => return None,
                _ if texts[attribute].is_some() => return None,
                _ => {
                    let may_be_number = matches!(attribute, place::USER_ID | place::SESSION_ID);
                    let text = match cursor.peek()? {
                        b'-' | b'0'..=b'9' if may_be_number => cursor.number()?,
                        _ => cursor.string()?,
                    };
                    let max_bytes = match attribute {
                        place::ID => MAX_ID_BYTES,
                        place::SOURCE => MAX_SOURCE_BYTES,
                        place::TYPE => MAX_TYPE_BYTES,
                        _ => MAX_ATTRIBUTE_BYTES,
                    };
                    let is_wrong = attribute == place::SPEC_VERSION && text != "1.0";
                    if is_wrong || !(1..=max_bytes).contains(&text.len()) {
                        return None;
                    }
                    texts[attribute] = Some(text);
                }
            }
            if !cursor.next_member()? {
                break;
            }
        }
        cursor.skip_space();
        if cursor.peek().is_some() {
            return None;
        }
        let (event_type, source) = (texts[place::TYPE]?, texts[place::SOURCE].or(self.context.default_source)?);
        let schema = match (schema, data) {
            (Some(schema), _) => schema,
            (None, Some((from, _))) => {
                cursor.go_to(from);
                self.check(event_type, &mut cursor)?
            }
            (None, None) => Some(self.context.registry.resolve(event_type)).filter(|schema| schema.is_generic())?,
        };
        if self.relation.is_doubted(schema, source, &cursor) {
            return None;
        }
        let moment = time.map_or(self.context.received, |(moment, _)| moment);
        if self.is_replaced(moment) {
            return None;
        }
        out.push_str("{\"id\":\"");
        match texts[place::ID] {
            Some(id) => out.push_str(id),
            None => out.push_str(&new_id()),
        }
        out.push_str("\",\"source\":");
        // It comes from the key where it was not sent, and may need escapes.
        match texts[place::SOURCE] {
            Some(source) => push_quoted(out, source),
            None => crate::json::write_string(out, source),
        }
        out.push_str(",\"type\":");
        push_quoted(out, event_type);
        out.push_str(",\"time\":\"");
        moment.write_micros(out);
        out.push('"');
        for (text, token) in texts.iter().zip(TOKENS).skip(place::SUBJECT) {
            if let Some(text) = text {
                out.push(',');
                out.push_str(token);
                push_quoted(out, text);
            }
        }
        if let Some((from, to)) = data {
            out.push_str(",\"data\":");
            if self.relation.computed.is_empty() {
                out.push_str(cursor.text(from, to));
            } else {
                self.relation.write(out, &cursor, schema);
            }
        }
        out.push('}');
        Some(Sent { id: texts[place::ID], source: texts[place::SOURCE], event_type, time: time.map(|(_, raw)| raw) })
    }

    /// Whether an event's own time is too far from the receive time to be kept.
    fn is_replaced(&self, time: Timestamp) -> bool {
        let Acceptance { received, max_age_days, .. } = self.context;
        let is_old = max_age_days.is_some_and(|days| time < received.plus_micros(-i64::from(days) * DAY_US));
        is_old || time > received.plus_micros(MAX_AHEAD_US)
    }

    /// Goes over the data of an event and checks it by the schema of its type, which it answers.
    fn check(&mut self, event_type: &str, cursor: &mut Cursor<'_>) -> Option<&'c Schema> {
        let schema = self.context.registry.resolve(event_type);
        self.relation.members.clear();
        self.relation.integers.clear();
        self.relation.computed.clear();
        if schema.is_generic() {
            // Data that is null counts as absent.
            if cursor.peek() == Some(b'n') {
                return None;
            }
            cursor.raw(DATA_DEPTH)?;
            return Some(schema);
        }
        let known = self.kinds.iter().position(|kind| std::ptr::eq(kind.fields.schema, schema));
        let index = known.unwrap_or_else(|| {
            let required = schema.columns.iter().filter(|column| column.required).count();
            self.kinds.push(Kind { fields: Fields::new(schema), required });
            self.kinds.len() - 1
        });
        let (kind, relation) = (&mut self.kinds[index], &mut self.relation);
        let (related, mut required) = (schema.has_relations(), kind.required);
        kind.fields.walk(cursor, |cursor, field| {
            let from = cursor.at();
            match field.column {
                Some(index) => {
                    let column = &schema.columns[index];
                    let fit = fit(column, cursor)?;
                    required -= usize::from(column.required && fit != Fit::Null);
                    if let (true, Fit::Integer(n)) = (related, fit) {
                        relation.integers.push((index, n));
                    }
                }
                None => _ = cursor.raw(FIELD_DEPTH)?,
            }
            if related {
                relation.members.push(Member { field, from, to: cursor.at() });
            }
            Some(())
        })?;
        if required > 0 || (related && !relation.relates(schema, cursor)) {
            return None;
        }
        Some(schema)
    }
}

impl Relation {
    /// Whether the fields fit each other, and what was sent of those that the server computes says what the server says.
    fn relates(&mut self, schema: &Schema, cursor: &Cursor<'_>) -> bool {
        let Self { members, integers, computed } = self;
        let integer = |column| sent_integer(integers, column);
        computed.extend(schema.computed_from(integer));
        let differs = |(column, value): &(usize, f64)| {
            let sent = members.iter().find(|member| member.field.column == Some(*column));
            let number = sent.and_then(|sent| cursor.text(sent.from, sent.to).parse::<f64>().ok());
            number.is_some_and(|number| (number - value).abs() >= ROUNDING)
        };
        schema.relates(integer) && !computed.iter().any(differs)
    }

    /// Whether something speaks against the play that the data tells of, or its list is not written as lists mostly are.
    fn is_doubted(&self, schema: &Schema, source: &str, cursor: &Cursor<'_>) -> bool {
        let is_unread = std::cell::Cell::new(false);
        let integers = |column| {
            let Some(sent) = self.members.iter().find(|member| member.field.column == Some(column)) else {
                return Vec::new();
            };
            let read = integers_of(cursor.text(sent.from, sent.to));
            is_unread.set(read.is_none());
            read.unwrap_or_default()
        };
        schema.is_doubted(source, |column| sent_integer(&self.integers, column), integers) || is_unread.get()
    }

    /// Appends the data with what the server computed in place of what was sent.
    fn write(&self, out: &mut String, cursor: &Cursor<'_>, schema: &Schema) {
        let is_sent = |member: &&Member| self.computed.iter().all(|(column, _)| member.field.column != Some(*column));
        out.push('{');
        for member in self.members.iter().filter(is_sent) {
            let Member { field, from, to } = *member;
            out.push_str(cursor.text(field.start, field.start + field.name_bytes + 2));
            out.push(':');
            out.push_str(cursor.text(from, to));
            out.push(',');
        }
        for (column, value) in &self.computed {
            push_quoted(out, &schema.columns[*column].name);
            out.push(':');
            // As `Event` writes it: the shortest text that reads back as it.
            out.push_str(&Json::from(*value).to_string());
            out.push(',');
        }
        out.pop();
        out.push('}');
    }
}

/// The integers of a JSON list of nothing else.
fn integers_of(list: &str) -> Option<Vec<i64>> {
    let inside = list.strip_prefix('[')?.strip_suffix(']')?.trim();
    if inside.is_empty() {
        return Some(Vec::new());
    }
    inside.split(',').map(|number| number.trim().parse().ok()).collect()
}

fn sent_integer(integers: &[(usize, i64)], column: usize) -> Option<i64> {
    integers.iter().find(|(of, _)| *of == column).map(|(_, n)| *n)
}

/// Appends a text that needs no escapes.
fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    out.push_str(text);
    out.push('"');
}

/// Goes over a value and answers whether it fits its column.
#[inline]
fn fit(column: &Column, cursor: &mut Cursor<'_>) -> Option<Fit> {
    let from = cursor.at();
    if let Some(fit) = quick_fit(column, cursor) {
        return Some(fit);
    }
    // An escape, an exponent, a time in another form: the slow reader knows.
    cursor.go_to(from);
    let node = cursor.node(FIELD_DEPTH)?;
    match column.read(&node).ok()? {
        Cell::Null => Some(Fit::Null),
        Cell::Integer(n) => Some(Fit::Integer(n)),
        _ => Some(Fit::Other),
    }
}

#[inline]
fn quick_fit(column: &Column, cursor: &mut Cursor<'_>) -> Option<Fit> {
    if cursor.peek() == Some(b'n') {
        return cursor.eat_text(b"null").then_some(Fit::Null);
    }
    match &column.kind {
        ColumnKind::Text => column.takes_text(cursor.string()?).then_some(Fit::Other),
        _ if column.is_enumerated() => None,
        ColumnKind::Json => cursor.raw(FIELD_DEPTH).map(|_| Fit::Other),
        ColumnKind::List(element) => {
            let mut count = 0;
            if !cursor.eat(b'[') {
                return None;
            }
            cursor.skip_space();
            if !cursor.eat(b']') {
                loop {
                    scalar(element, None, cursor)?;
                    count += 1;
                    cursor.skip_space();
                    if cursor.eat(b']') {
                        break;
                    }
                    if !cursor.eat(b',') {
                        return None;
                    }
                    cursor.skip_space();
                }
            }
            column.takes_items(count).then_some(Fit::Other)
        }
        kind => scalar(kind, Some(column).filter(|column| column.is_ranged()), cursor),
    }
}

/// A scalar in the range of a column, where it has one.
#[inline]
fn scalar(kind: &ColumnKind, range: Option<&Column>, cursor: &mut Cursor<'_>) -> Option<Fit> {
    match kind {
        ColumnKind::Integer => {
            let digits = cursor.digits().filter(|digits| digits.scale == 0)?;
            #[allow(clippy::cast_precision_loss, reason = "bounds are floats")]
            let is_inside = range.is_none_or(|column| column.takes_number(digits.unscaled as f64));
            is_inside.then_some(Fit::Integer(digits.unscaled))
        }
        ColumnKind::Number => {
            let digits = cursor.digits()?;
            match range {
                Some(column) => column.takes_number(digits.float()?).then_some(Fit::Other),
                None => Some(Fit::Other),
            }
        }
        ColumnKind::Decimal { precision: precision @ 0..=18, scale } => {
            let digits = match cursor.peek()? {
                b'"' => digits_of(cursor.string()?)?,
                _ if range.is_none() => cursor.digits()?,
                _ => return None,
            };
            let unscaled = digits.rescaled(*scale)?;
            (unscaled.unsigned_abs() < 10u64.pow(u32::from(*precision))).then_some(Fit::Other)
        }
        ColumnKind::Timestamp => Timestamp::parse_rfc3339(cursor.string()?).map(|_| Fit::Other),
        ColumnKind::Date => Timestamp::parse_date(cursor.string()?).map(|_| Fit::Other),
        ColumnKind::Boolean => cursor.boolean().map(|_| Fit::Other),
        ColumnKind::Text => cursor.string().map(|_| Fit::Other),
        ColumnKind::Decimal { .. } | ColumnKind::Json | ColumnKind::List(_) => None,
    }
}
