//! Events to search documents: of most straight from their text, of others by way of [`Event`], which is the slow, obvious reader.

use crate::intake::Counted;
use sluice_domain::event::{Data, Event, Shared, write_members};
use sluice_domain::identity::document_id;
use sluice_domain::json::{Node, Object, Value, write_string};
use sluice_domain::lake::index_name;
use sluice_domain::message::{MessageError, Unpacked};
use sluice_domain::scan::{Cursor, Events, Field, Fields, Head, place};
use sluice_domain::schema::{Cell, Column, ColumnKind, ENVELOPE, Schema, counted_as};
use sluice_domain::time::Timestamp;
use sluice_ports::Document;
use std::collections::{BTreeMap, HashMap};

/// Lists and objects around the data of an event: the message's list, the event.
const DATA_DEPTH: usize = 2;
/// Lists and objects around a field of it.
const FIELD_DEPTH: usize = 3;
/// Types of a message that are compared one by one; those that come later are looked up.
const FEW_KINDS: usize = 16;

/// The documents of a message's events.
pub struct Documents<'r, P> {
    /// The table of a type, and the schema by which its documents are written.
    place: P,
    kinds: Vec<Kind<'r>>,
    /// The kinds beyond [`FEW_KINDS`].
    others: HashMap<String, usize>,
    received: String,
    /// What the message says of its sender, as members of a document.
    sender: String,
    /// The document that is being written.
    source: String,
    documents: Vec<Document>,
    origins: Vec<(u32, usize)>,
}

/// Events of one type.
struct Kind<'r> {
    event_type: String,
    table: &'r str,
    fields: Fields<'r>,
    /// The day of the event that came last, and its index: neighbours mostly share it.
    last: Option<(i32, String)>,
    count: u64,
}

impl<'r, P: Fn(&str) -> (&'r str, &'r Schema)> Documents<'r, P> {
    /// No documents yet. `shared` is what the message says of all of its events, `place` names the table of a type and the schema by which its
    /// documents are written.
    pub fn new(shared: &Shared<'_>, place: P) -> Self {
        let mut sender = String::new();
        for (name, value) in [("clientip", &shared.client_ip), ("useragent", &shared.user_agent)] {
            if let Some(value) = value {
                write_attribute(&mut sender, name, value);
            }
        }
        let received = shared.received.to_micros_text();
        let (kinds, others, source) = (Vec::new(), HashMap::new(), String::new());
        Self { place, kinds, others, received, sender, source, documents: Vec::new(), origins: Vec::new() }
    }

    /// Makes the documents of a message's events in one pass over their text. Answers those events that cannot be read, with position and
    /// text; nothing where the message has to be read as a whole.
    pub fn read<'m>(&mut self, unpacked: &'m Unpacked) -> Option<Vec<(u32, &'m str, MessageError)>> {
        let (text, shared) = (unpacked.text(), unpacked.shared());
        let mut events = Events::new(text, &shared);
        let mut unreadable = Vec::new();
        for position in 0u32.. {
            if !events.advance()? {
                return Some(unreadable);
            }
            if let Some((head, cursor)) = events.head()
                && let [Some(id), Some(source), Some(event_type), ..] = head.texts
            {
                let kind = self.kind(event_type);
                if self.write(kind, head, cursor).is_some() {
                    let id = document_id(source, id, head.time);
                    let source = self.source.as_str().to_owned();
                    self.add(position, kind, head.time, id, source);
                    continue;
                }
            }
            let start = events.start();
            match events.event()? {
                (raw, Err(violation)) => {
                    unreadable.push((position, &text[start..start + raw.len()], violation.into()));
                }
                (_, Ok(event)) => self.push(position, &event),
            }
        }
        None
    }

    /// Makes the document of an event.
    pub fn push(&mut self, position: u32, event: &Event<'_>) {
        let kind = self.kind(&event.event_type);
        let source = document(self.kinds[kind].fields.schema, event, &self.received);
        let id = document_id(&event.source, &event.id, event.time);
        self.add(position, kind, event.time, id, source);
    }

    /// The types of the events, in the order in which they came first.
    pub fn event_types(&self) -> impl Iterator<Item = &str> {
        self.kinds.iter().map(|kind| kind.event_type.as_str())
    }

    /// How many events of each type have documents, by the names that [`counted_as`] gives.
    pub(crate) fn types(&self) -> BTreeMap<String, Counted> {
        let mut types: BTreeMap<String, Counted> = BTreeMap::new();
        for kind in self.kinds.iter().filter(|kind| kind.count > 0) {
            types.entry(counted_as(&kind.event_type).to_owned()).or_default().stored += kind.count;
        }
        types
    }

    /// The documents, and for each the position of its event in the message and that of its type in [`Self::event_types`].
    pub fn finish(self) -> (Vec<Document>, Vec<(u32, usize)>) {
        (self.documents, self.origins)
    }

    fn kind(&mut self, event_type: &str) -> usize {
        let few = self.kinds.iter().take(FEW_KINDS).position(|kind| kind.event_type == event_type);
        if let Some(kind) = few.or_else(|| self.others.get(event_type).copied()) {
            return kind;
        }
        let ((table, schema), number) = ((self.place)(event_type), self.kinds.len());
        let (event_type, fields) = (event_type.to_owned(), Fields::new(schema));
        if number >= FEW_KINDS {
            self.others.insert(event_type.clone(), number);
        }
        self.kinds.push(Kind { event_type, table, fields, last: None, count: 0 });
        number
    }

    fn add(&mut self, position: u32, kind: usize, time: Timestamp, id: String, source: String) {
        self.origins.push((position, kind));
        let kind = &mut self.kinds[kind];
        kind.count += 1;
        let index = match &kind.last {
            Some((day, index)) if *day == time.day() => index.clone(),
            _ => kind.last.insert((time.day(), index_name(kind.table, time))).1.clone(),
        };
        self.documents.push(Document { index, id, source });
    }

    /// Writes the document of an event whose data, or end, comes next, and goes over it. Answers nothing where the event is not as events
    /// mostly are: [`document`] writes the same of it.
    fn write(&mut self, kind: usize, head: &Head<'_>, cursor: &mut Cursor<'_>) -> Option<()> {
        let Self { kinds, received, sender, source: out, .. } = self;
        out.clear();
        // Texts that were read the quick way need no escapes.
        for (token, text) in [("{\"id\":\"", 0), ("\",\"source\":\"", 1), ("\",\"type\":\"", 2)] {
            out.push_str(token);
            out.push_str(head.texts[text]?);
        }
        out.push_str("\",\"time\":\"");
        head.time.write_micros(out);
        out.push_str("\",\"receivedtime\":\"");
        out.push_str(received);
        out.push('"');
        write_texts(out, head, place::RECEIVED + 1..place::CLIENT_IP);
        out.push_str(sender);
        write_texts(out, head, place::USER_AGENT + 1..place::HOPS);
        if let Some(hops) = head.hops {
            out.push_str(",\"hops\":");
            out.push_str(&hops.to_string());
        }
        if head.has_data {
            out.push_str(",\"data\":");
            let mut unknown = Vec::new();
            write_data(out, &mut kinds[kind].fields, cursor, &mut unknown)?;
            cursor.skip_space();
            let attributes = match cursor.eat_text(b",\"extra\":") {
                true => Some(cursor.node(DATA_DEPTH)?),
                false => None,
            };
            cursor.skip_space();
            if !cursor.eat(b'}') {
                return None;
            }
            let attributes = match &attributes {
                Some(node) => node.as_object()?.0.as_slice(),
                None => &[],
            };
            if !unknown.is_empty() || !attributes.is_empty() {
                out.push_str(",\"extra\":");
                let attributes = attributes.iter().map(|(name, node)| (name.as_ref(), node.raw));
                write_members(out, unknown.into_iter().chain(attributes));
            }
        }
        out.push('}');
        Some(())
    }
}

fn write_texts(out: &mut String, head: &Head<'_>, places: std::ops::Range<usize>) {
    for place in places {
        if let Some(text) = head.texts[place] {
            for part in [",\"", ENVELOPE[place].name, "\":\"", text, "\""] {
                out.push_str(part);
            }
        }
    }
}

fn write_attribute(out: &mut String, name: &str, value: &str) {
    for part in [",\"", name, "\":"] {
        out.push_str(part);
    }
    write_string(out, value);
}

/// Writes the object that comes next as [`write_fields`] does.
fn write_data<'t>(
    out: &mut String,
    fields: &mut Fields<'_>,
    cursor: &mut Cursor<'t>,
    unknown: &mut Vec<(&'t str, &'t str)>,
) -> Option<()> {
    let schema = fields.schema;
    if schema.is_generic() {
        if cursor.peek() != Some(b'{') {
            return None;
        }
        out.push_str(cursor.raw(DATA_DEPTH)?);
        return Some(());
    }
    // Members that stand side by side as they are to be written are copied together: where the first of them begins and the last one ends.
    let (mut from, mut to) = (0, 0);
    out.push('{');
    let start = out.len();
    let flush = |out: &mut String, text: &str| {
        if !text.is_empty() {
            if out.len() > start {
                out.push(',');
            }
            out.push_str(text);
        }
    };
    fields.walk(cursor, |cursor, field| {
        let Field { column, start: begin, name_bytes } = field;
        let value = cursor.at();
        let Some(column) = column.map(|column| &schema.columns[column]) else {
            unknown.push((cursor.text(begin + 1, begin + 1 + name_bytes), cursor.raw(FIELD_DEPTH)?));
            return Some(());
        };
        let is_time = is_time(column);
        if !is_time {
            cursor.raw(FIELD_DEPTH)?;
        }
        let is_compact = !is_time && value == begin + name_bytes + 3;
        if is_compact && begin == to + 1 {
            to = cursor.at();
            return Some(());
        }
        flush(out, cursor.text(from, to));
        (from, to) = if is_compact { (begin, cursor.at()) } else { (0, 0) };
        if !is_compact {
            flush(out, cursor.text(begin, begin + name_bytes + 2));
            out.push(':');
            if is_time {
                write_time(out, column, cursor)?;
            } else {
                out.push_str(cursor.text(value, cursor.at()));
            }
        }
        Some(())
    })?;
    flush(out, cursor.text(from, to));
    out.push('}');
    Some(())
}

/// Writes the value of a column of times that comes next.
fn write_time(out: &mut String, column: &Column, cursor: &mut Cursor<'_>) -> Option<()> {
    let start = cursor.at();
    let is_one = column.kind == ColumnKind::Timestamp && !column.is_enumerated();
    if let Some(time) = cursor.string().filter(|_| is_one).and_then(Timestamp::parse_rfc3339) {
        out.push('"');
        time.write_micros(out);
        out.push('"');
        return Some(());
    }
    cursor.go_to(start);
    let node = cursor.node(FIELD_DEPTH)?;
    write_value(out, column, &node);
    Some(())
}

/// Whether a column holds times. One may come as a number in one of three units; the index would read each as milliseconds.
fn is_time(column: &Column) -> bool {
    match &column.kind {
        ColumnKind::List(element) => **element == ColumnKind::Timestamp,
        kind => *kind == ColumnKind::Timestamp,
    }
}

/// The document of an event: its attributes, its `data` by the columns of the schema, and in `extra` what neither names. Written as text,
/// since numbers must stay as they came.
fn document(schema: &Schema, event: &Event<'_>, received: &str) -> String {
    let mut out = String::with_capacity(512);
    out.push_str("{\"id\":");
    write_string(&mut out, &event.id);
    out.push_str(",\"source\":");
    write_string(&mut out, &event.source);
    out.push_str(",\"type\":");
    write_string(&mut out, &event.event_type);
    out.push_str(",\"time\":\"");
    out.push_str(&event.time.to_micros_text());
    out.push_str("\",\"receivedtime\":\"");
    out.push_str(received);
    out.push('"');
    for (name, value) in [
        ("subject", &event.subject),
        ("userid", &event.user_id),
        ("sessionid", &event.session_id),
        ("clientip", &event.client_ip),
        ("useragent", &event.user_agent),
        ("specversion", &event.spec_version),
        ("datacontenttype", &event.data_content_type),
        ("dataschema", &event.data_schema),
        ("tracestate", &event.trace_state),
        ("traceparent", &event.trace_parent),
    ] {
        if let Some(value) = value {
            write_attribute(&mut out, name, value);
        }
    }
    if let Some(hops) = event.hops {
        out.push_str(",\"hops\":");
        out.push_str(&hops.to_string());
    }
    let mut unknown: Vec<(&str, &str)> = Vec::new();
    match &event.data {
        Data::Absent => {}
        Data::Json(Node { value: Value::Object(object), raw }) => {
            out.push_str(",\"data\":");
            if schema.is_generic() {
                out.push_str(raw);
            } else {
                write_fields(&mut out, schema, object, &mut unknown);
            }
        }
        Data::Json(node) => {
            out.push_str(",\"data\":{\"value\":");
            out.push_str(node.raw);
            out.push('}');
        }
        Data::Base64(text) => {
            out.push_str(",\"data_base64\":");
            write_string(&mut out, text);
        }
    }
    if !unknown.is_empty() || !event.extra.is_empty() {
        out.push_str(",\"extra\":");
        let attributes = event.extra.iter().map(|(name, raw)| (name.as_ref(), raw.as_ref()));
        write_members(&mut out, unknown.into_iter().chain(attributes));
    }
    out.push('}');
    out
}

fn write_fields<'e>(out: &mut String, schema: &Schema, object: &'e Object<'_>, unknown: &mut Vec<(&'e str, &'e str)>) {
    out.push('{');
    let mut separator = "";
    for (name, node) in &object.0 {
        let Some(column) = schema.column_index(name).map(|i| &schema.columns[i]) else {
            unknown.push((name, node.raw));
            continue;
        };
        out.push_str(separator);
        separator = ",";
        write_string(out, name);
        out.push(':');
        write_value(out, column, node);
    }
    out.push('}');
}

fn write_value(out: &mut String, column: &Column, node: &Node<'_>) {
    match if is_time(column) { column.read(node).ok() } else { None } {
        Some(cell) => write_times(out, &cell),
        None => out.push_str(node.raw),
    }
}

fn write_times(out: &mut String, cell: &Cell<'_>) {
    match cell {
        Cell::Timestamp(micros) => {
            let time = Timestamp::from_micros(*micros).unwrap_or_default();
            out.push('"');
            out.push_str(&time.to_micros_text());
            out.push('"');
        }
        Cell::List(cells) => {
            for (i, cell) in cells.iter().enumerate() {
                out.push(if i == 0 { '[' } else { ',' });
                write_times(out, cell);
            }
            out.push_str(if cells.is_empty() { "[]" } else { "]" });
        }
        _ => out.push_str("null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use sluice_domain::demo::bench_event;
    use sluice_domain::json;
    use sluice_domain::message::{MAX_EVENT_DEPTH, unpack};
    use sluice_domain::schema::Registry;

    const KINDS: &str = r#"{"type":"object","x-type":"test.kinds","properties":{
        "word":{"type":"string","x-column-id":101},
        "at":{"type":"string","format":"date-time","x-column-id":102},
        "more":{"x-json":true,"x-column-id":103},
        "all":{"type":"array","items":{"type":"string","format":"date-time"},"x-column-id":104},
        "one":{"type":"string","format":"date-time","enum":["2026-01-01T00:00:00Z"],"x-column-id":105}}}"#;

    const CANONICAL: &str = r#"{"id":"1","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00.5Z","subject":"제목","userid":"007","sessionid":"z","specversion":"1.0","datacontenttype":"d","hops":2,"data":{"word":"한\n","new":1.50,"more":{"a":[1,{"b":null}]},"at":"2026-11-21T19:00:00+09:00","all":[1795251600,"2026-11-21T10:00:00"],"one":"2026-01-01T00:00:00Z","old":"x"},"extra":{"old":7}}"#;

    fn registry() -> Registry {
        Registry::load([
            ("event.json", include_str!("../../../../schemas/event.json")),
            ("web.event.json", include_str!("../../../../schemas/web.event.json")),
            ("http.access.json", include_str!("../../../../schemas/http.access.json")),
            ("game.result.json", include_str!("../../../../schemas/game.result.json")),
            ("kinds.json", KINDS),
        ])
        .unwrap()
    }

    /// A message with this text of events.
    fn message(text: &str) -> Unpacked {
        let zstd = STANDARD.encode(zstd::bulk::compress(text.as_bytes(), 1).unwrap());
        let head =
            r#""v":1,"batch":"b","received":"2026-11-21T10:00:00Z","clientip":"\"","areas":[],"count":1,"types":{}"#;
        unpack(&format!("{{{head},\"zstd\":\"{zstd}\"}}")).unwrap()
    }

    #[derive(Debug, PartialEq)]
    struct Outcome {
        documents: Vec<Document>,
        origins: Vec<(u32, usize)>,
        types: BTreeMap<String, Counted>,
        names: Vec<String>,
        unreadable: Vec<(u32, String, MessageError)>,
    }

    fn outcome<'r>(
        documents: Documents<'r, impl Fn(&str) -> (&'r str, &'r Schema)>,
        unreadable: Vec<(u32, &str, MessageError)>,
    ) -> Outcome {
        let (types, names) = (documents.types(), documents.event_types().map(str::to_owned).collect());
        let (documents, origins) = documents.finish();
        let unreadable = unreadable.into_iter().map(|(position, text, e)| (position, text.to_owned(), e)).collect();
        Outcome { documents, origins, types, names, unreadable }
    }

    /// Asserts that the text of a message is read as by its tree; answers what was made, unless the whole is left to the tree.
    fn compare(registry: &Registry, text: &str) -> Option<Outcome> {
        let place = |name: &str| {
            let schema = registry.resolve(name);
            (schema.table.as_str(), schema)
        };
        let unpacked = message(text);
        let mut quick = Documents::new(&unpacked.shared(), place);
        let quick = quick.read(&unpacked).map(|unreadable| outcome(quick, unreadable))?;
        let mut slow = Documents::new(&unpacked.shared(), place);
        let mut unreadable = Vec::new();
        for (position, event) in (0u32..).zip(unpacked.events().unwrap_or_else(|e| panic!("{e}: {text}"))) {
            match event {
                Ok(event) => slow.push(position, &event),
                Err((text, e)) => unreadable.push((position, text, e)),
            }
        }
        let slow = outcome(slow, unreadable);
        assert_eq!(quick, slow, "{text}");
        Some(quick)
    }

    /// Whether the only event of a message goes the quick way.
    fn is_quick(registry: &Registry, event: &str) -> bool {
        let text = format!("[{event}]");
        let shared = Shared::default();
        let mut documents = Documents::new(&shared, |name: &str| ("table", registry.resolve(name)));
        let mut events = Events::new(&text, &shared);
        assert_eq!(events.advance(), Some(true));
        let Some((head, cursor)) = events.head() else { return false };
        let kind = documents.kind(head.texts[place::TYPE].unwrap());
        documents.write(kind, head, cursor).is_some()
    }

    #[test]
    fn events_as_ingest_writes_them_go_the_quick_way() {
        let registry = registry();
        let texts: Vec<String> = (0..400).map(bench_event).chain([CANONICAL.to_owned()]).collect();
        assert!(texts.iter().all(|text| is_quick(&registry, text)));
        let made = compare(&registry, &format!("[{}]", texts.join(","))).unwrap();
        assert_eq!((made.documents.len(), made.names.len()), (401, 5));
        let last = made.documents.last().unwrap();
        assert_eq!(last.index, "sluice-test_kinds-2026.11");
        assert_eq!(
            last.source,
            r#"{"id":"1","source":"s","type":"test.kinds","time":"2026-11-21T10:00:00.500000Z","receivedtime":"2026-11-21T10:00:00.000000Z","subject":"제목","userid":"007","sessionid":"z","clientip":"\"","specversion":"1.0","datacontenttype":"d","hops":2,"data":{"word":"한\n","more":{"a":[1,{"b":null}]},"at":"2026-11-21T10:00:00.000000Z","all":["2026-11-21T09:00:00.000000Z","2026-11-21T10:00:00.000000Z"],"one":"2026-01-01T00:00:00.000000Z"},"extra":{"new":1.50,"old":"x","ce-old":7}}"#
        );
        let many: Vec<String> =
            (0..40).chain(0..40).map(|n| CANONICAL.replace("test.kinds", &format!("t{n}"))).collect();
        assert_eq!(compare(&registry, &format!("[{}]", many.join(","))).unwrap().names.len(), 40);
    }

    #[test]
    fn an_event_cut_or_changed_at_any_byte_is_read_alike() {
        let registry = registry();
        let text = format!("[{CANONICAL}]");
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            assert!(compare(&registry, &text[..at]).is_none());
            if !text.as_bytes()[at].is_ascii() {
                continue;
            }
            for with in ["", "\"", "\\", "0", ",", "}", "x", " ", "null", "{}"] {
                compare(&registry, &format!("{}{with}{}", &text[..at], &text[at + 1..]));
                compare(&registry, &format!("{}{with}{}", &text[..at], &text[at..]));
            }
        }
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("null".to_owned()),
            (-20i64..20).prop_map(|n| n.to_string()),
            "\"[a-z\\u{ac00}]{0,5}\"",
            "\"2026-1[0-2]-[0-3][0-9]([T ]1[0-9]:0[0-9]:00(\\.[0-9]{1,7})?(Z|\\+09:00)?)?\"",
            "\\[(\"2026-01-01T00:00:00Z\"|1|null)?\\]",
            Just(r#"{"a":{"b":[]}}"#.to_owned()),
            Just(r#"{"a" : 1, "a":"\u00e9"}"#.to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn any_message_is_read_alike(
            events in proptest::collection::vec(
                (
                    prop_oneof![Just("test.kinds"), Just("x.y"), Just("free")],
                    proptest::collection::vec((prop_oneof![Just("id"), Just("subject"), Just("hops"), Just("time"), Just("extra"), Just("data_base64"), Just("foo")], value()), 0..2),
                    proptest::collection::vec((prop_oneof![Just("word"), Just("at"), Just("more"), Just("all"), Just("one"), Just("new"), Just("ne")], value()), 0..7),
                    prop_oneof![Just(""), Just(" "), Just("\n\t")],
                ),
                1..4,
            ),
        ) {
            let registry = registry();
            let member = |(name, value): &(&str, String)| format!("\"{name}\":{value}");
            type Members = Vec<(&'static str, String)>;
            let event = |(event_type, head, data, space): &(&str, Members, Members, &str)| {
                let mut members = vec![r#""id":"1","source":"s","time":"2026-11-21T10:00:00Z""#.to_owned(), format!("\"type\":\"{event_type}\"")];
                members.extend(head.iter().map(member));
                let data: Vec<String> = data.iter().map(member).collect();
                members.push(format!("\"data\":{space}{{{space}{}{space}}}", data.join(&format!("{space},{space}"))));
                format!("{{{}}}", members.join(&format!("{space},")))
            };
            let text = format!("[{}]", events.iter().map(event).collect::<Vec<_>>().join(","));
            let quick = compare(&registry, &text);
            let whole = json::parse_within(&text, MAX_EVENT_DEPTH);
            prop_assert_eq!(quick.is_some(), whole.is_ok(), "one bad event does not send the others another way: {}", text);
        }
    }
}
