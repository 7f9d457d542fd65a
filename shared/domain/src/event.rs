//! The event: the CloudEvents 1.0 envelope with Sluice's extension attributes, as it is accepted from outside and as it travels inside.

use crate::json::{self, Node, Object, Value};
use crate::schema::{Computed, ENVELOPE, Registry, Violation};
use crate::time::{DAY_US, Timestamp};
use chrono_tz::Tz;
use std::borrow::Cow;
use std::collections::HashSet;

/// Longest `id`, in bytes.
pub const MAX_ID_BYTES: usize = 128;
/// Longest `source`, in bytes.
pub const MAX_SOURCE_BYTES: usize = 256;
/// Longest `type`, in bytes.
pub const MAX_TYPE_BYTES: usize = 128;
/// Longest other text attribute (`subject`, `userid`, …), in bytes.
pub const MAX_ATTRIBUTE_BYTES: usize = 1_024;
/// How far ahead of the receive time an event's own time may lie.
pub const MAX_AHEAD_US: i64 = DAY_US;
/// A sent number this far from what the server computes is another one: clients round to whole numbers, up or down.
pub const ROUNDING: f64 = 1.0;
/// Areas of types that only the product itself writes.
pub const RESERVED_AREAS: [&str; 3] = ["alert", "scenario", "sluice"];
/// Derived events whose cause already has this many hops go to quarantine.
pub const MAX_HOPS: i64 = 3;

/// What an event carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Data<'a> {
    /// No data.
    Absent,
    /// A JSON value; an object for every type with a schema.
    Json(Node<'a>),
    /// Binary data in base64, kept as it came.
    Base64(Cow<'a, str>),
}

/// An event. Texts borrow from the request or message that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// Unique per source.
    pub id: Cow<'a, str>,
    /// The application.
    pub source: Cow<'a, str>,
    /// Picks the schema; the attribute `type`.
    pub event_type: Cow<'a, str>,
    /// When it happened.
    pub time: Timestamp,
    /// When ingest received it.
    pub received: Timestamp,
    /// What it is about.
    pub subject: Option<Cow<'a, str>>,
    /// Who did it.
    pub user_id: Option<Cow<'a, str>>,
    /// In which session.
    pub session_id: Option<Cow<'a, str>>,
    /// From which address, as the setting keeps it.
    pub client_ip: Option<Cow<'a, str>>,
    /// With which program.
    pub user_agent: Option<Cow<'a, str>>,
    /// `specversion` as sent.
    pub spec_version: Option<Cow<'a, str>>,
    /// `datacontenttype` as sent.
    pub data_content_type: Option<Cow<'a, str>>,
    /// `dataschema` as sent.
    pub data_schema: Option<Cow<'a, str>>,
    /// `tracestate` as sent.
    pub trace_state: Option<Cow<'a, str>>,
    /// `traceparent` as sent.
    pub trace_parent: Option<Cow<'a, str>>,
    /// How many events stand between this one and the one from outside that caused it.
    pub hops: Option<i64>,
    /// The payload as it was sent.
    pub data: Data<'a>,
    /// Fields of `data` that the server computed, as name and JSON text: written in place of what was sent.
    pub computed: Vec<(String, String)>,
    /// Attributes that the envelope does not name, as name and JSON text, in order.
    pub extra: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// What ingest knows beside the event itself.
#[derive(Debug, Clone, Copy)]
pub struct Acceptance<'c> {
    /// Receive time of the request.
    pub received: Timestamp,
    /// Zone in which times without an offset are read.
    pub zone: Tz,
    /// `source` of events that name none: the only source that the key may write, where it is one.
    pub default_source: Option<&'c str>,
    /// `type` of events that name none.
    pub default_type: Option<&'c str>,
    /// Oldest allowed age of an event in days; `None` for imports and replays.
    pub max_age_days: Option<u32>,
    /// The schemas.
    pub registry: &'c Registry,
}

/// Whether the own time of an event was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Kept.
    Kept,
    /// Too far ahead or too old: replaced by the receive time, and kept as `original_time` in `extra`.
    Replaced,
}

impl<'a> Event<'a> {
    /// Checks and completes an event from outside. `new_id` makes the id of an event that has none.
    pub fn accept(
        node: Node<'a>,
        context: &Acceptance<'_>,
        new_id: impl FnOnce() -> String,
    ) -> Result<(Self, Clock), Violation> {
        let kind = node.kind();
        let Value::Object(Object(members)) = node.value else {
            return Err(violation("", "schema", format!("an event is an object, not {kind}")));
        };
        let mut event = Self::empty(context.received);
        let (mut id, mut source, mut event_type, mut time, mut data, mut base64) = (None, None, None, None, None, None);
        for (name, node) in members {
            if node.value == Value::Null && name != "data" {
                continue;
            }
            match name.as_ref() {
                "id" => id = Some(text(&name, node, MAX_ID_BYTES)?),
                "source" => source = Some(text(&name, node, MAX_SOURCE_BYTES)?),
                "type" => event_type = Some(text(&name, node, MAX_TYPE_BYTES)?),
                "time" => {
                    let read = match &node.value {
                        Value::String(s) => Timestamp::parse_in(s, context.zone).or_else(|| Timestamp::parse_epoch(s)),
                        Value::Number(n) => Timestamp::parse_epoch(n),
                        _ => None,
                    };
                    let read = read.ok_or_else(|| {
                        violation(
                            "/time",
                            "time",
                            "`time` is RFC 3339 text, or seconds, milliseconds or microseconds since the epoch".into(),
                        )
                    })?;
                    time = Some((read, node.raw));
                }
                "subject" => event.subject = Some(text(&name, node, MAX_ATTRIBUTE_BYTES)?),
                "userid" => event.user_id = Some(text_or_number(&name, node)?),
                "sessionid" => event.session_id = Some(text_or_number(&name, node)?),
                "specversion" => {
                    if node.as_str() != Some("1.0") {
                        return Err(violation("/specversion", "specversion", "`specversion` must be \"1.0\"".into()));
                    }
                    event.spec_version = Some(Cow::Borrowed("1.0"));
                }
                "datacontenttype" => event.data_content_type = Some(text(&name, node, MAX_ATTRIBUTE_BYTES)?),
                "dataschema" => event.data_schema = Some(text(&name, node, MAX_ATTRIBUTE_BYTES)?),
                "tracestate" => event.trace_state = Some(text(&name, node, MAX_ATTRIBUTE_BYTES)?),
                "traceparent" => event.trace_parent = Some(text(&name, node, MAX_ATTRIBUTE_BYTES)?),
                "data" => data = Some(node),
                "data_base64" => base64 = Some(text(&name, node, usize::MAX)?),
                _ => event.extra.push((name, Cow::Borrowed(node.raw))),
            }
        }
        event.source = required("source", source, context.default_source)?;
        event.event_type = required("type", event_type, context.default_type)?;
        event.id = id.unwrap_or_else(|| Cow::Owned(new_id()));
        event.data = match (data, base64) {
            (Some(_), Some(_)) => {
                return Err(violation("/data_base64", "schema", "`data` and `data_base64` exclude each other".into()));
            }
            (Some(node), None) if node.value != Value::Null => Data::Json(node),
            (None, Some(base64)) => Data::Base64(base64),
            _ => Data::Absent,
        };
        event.check_data(context.registry)?;
        event.compute(context.registry);
        let clock = event.set_time(time, context);
        Ok((event, clock))
    }

    fn set_time(&mut self, time: Option<(Timestamp, &'a str)>, context: &Acceptance<'_>) -> Clock {
        let Some((time, raw)) = time else {
            self.time = context.received;
            return Clock::Kept;
        };
        let too_old =
            context.max_age_days.is_some_and(|days| time < context.received.plus_micros(-i64::from(days) * DAY_US));
        if too_old || time > context.received.plus_micros(MAX_AHEAD_US) {
            self.time = context.received;
            self.extra.push((Cow::Borrowed("original_time"), Cow::Borrowed(raw)));
            return Clock::Replaced;
        }
        self.time = time;
        Clock::Kept
    }

    /// Checks the data against the schema of the type.
    pub fn check_data(&self, registry: &Registry) -> Result<(), Violation> {
        let schema = registry.resolve(&self.event_type);
        if schema.is_generic() {
            return Ok(());
        }
        match &self.data {
            Data::Json(Node { value: Value::Object(object), .. }) => schema.check(object),
            Data::Absent => schema.check(&Object::default()),
            Data::Json(node) => Err(violation(
                "/data",
                "schema",
                format!("`data` of type `{}` is an object, not {}", schema.event_type, node.kind()),
            )),
            Data::Base64(_) => Err(violation(
                "/data_base64",
                "schema",
                format!("type `{}` has a schema: it takes `data`, not `data_base64`", schema.event_type),
            )),
        }
    }

    /// Computes what the schema leaves to the server. What was sent and says something else is kept in `extra` as `original_<field>`; a number
    /// less than [`ROUNDING`] away says the same.
    fn compute(&mut self, registry: &Registry) {
        let Data::Json(Node { value: Value::Object(object), .. }) = &self.data else { return };
        for Computed { name, value } in registry.resolve(&self.event_type).computed(object, &self.source) {
            let differs = |sent: &&Node<'_>| match (&sent.value, value.as_f64()) {
                (Value::Null, _) => false,
                (_, Some(value)) => sent.raw.parse::<f64>().is_ok_and(|sent| (sent - value).abs() >= ROUNDING),
                (_, None) => sent.as_str() != value.as_str(),
            };
            if let Some(sent) = object.get(name).filter(differs) {
                self.extra.push((Cow::Owned(format!("original_{name}")), Cow::Borrowed(sent.raw)));
            }
            self.computed.push((name.to_owned(), value.to_string()));
        }
    }

    fn empty(received: Timestamp) -> Self {
        Self {
            id: Cow::Borrowed(""),
            source: Cow::Borrowed(""),
            event_type: Cow::Borrowed(""),
            time: received,
            received,
            subject: None,
            user_id: None,
            session_id: None,
            client_ip: None,
            user_agent: None,
            spec_version: None,
            data_content_type: None,
            data_schema: None,
            trace_state: None,
            trace_parent: None,
            hops: None,
            data: Data::Absent,
            computed: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// A new event of the product's own (an alert, a probe result): `data` is the JSON text of an object.
    pub fn derived(
        id: &'a str,
        source: &'a str,
        event_type: &'a str,
        time: Timestamp,
        received: Timestamp,
        data: Node<'a>,
    ) -> Self {
        Self {
            id: Cow::Borrowed(id),
            source: Cow::Borrowed(source),
            event_type: Cow::Borrowed(event_type),
            time,
            spec_version: Some(Cow::Borrowed("1.0")),
            data: Data::Json(data),
            ..Self::empty(received)
        }
    }

    /// Appends the event as it stands in a message: one JSON object. What the whole request shares (receive time, address, program)
    /// stands in the message's header.
    pub fn write(&self, out: &mut String) {
        out.push_str("{\"id\":");
        json::write_string(out, &self.id);
        out.push_str(",\"source\":");
        json::write_string(out, &self.source);
        out.push_str(",\"type\":");
        json::write_string(out, &self.event_type);
        out.push_str(",\"time\":\"");
        self.time.write_micros(out);
        out.push('"');
        for (name, value) in [
            ("subject", &self.subject),
            ("userid", &self.user_id),
            ("sessionid", &self.session_id),
            ("specversion", &self.spec_version),
            ("datacontenttype", &self.data_content_type),
            ("dataschema", &self.data_schema),
            ("tracestate", &self.trace_state),
            ("traceparent", &self.trace_parent),
        ] {
            if let Some(value) = value {
                out.push_str(",\"");
                out.push_str(name);
                out.push_str("\":");
                json::write_string(out, value);
            }
        }
        if let Some(hops) = self.hops {
            out.push_str(",\"hops\":");
            out.push_str(&hops.to_string());
        }
        match &self.data {
            Data::Absent => {}
            Data::Json(node) => {
                out.push_str(",\"data\":");
                match &node.value {
                    Value::Object(Object(members)) if !self.computed.is_empty() => {
                        let is_sent = |name: &str| self.computed.iter().all(|(computed, _)| computed != name);
                        let sent = members.iter().map(|(k, v)| (k.as_ref(), v.raw)).filter(|(k, _)| is_sent(k));
                        write_members(out, sent.chain(self.computed.iter().map(|(k, v)| (k.as_str(), v.as_str()))));
                    }
                    _ => out.push_str(node.raw),
                }
            }
            Data::Base64(text) => {
                out.push_str(",\"data_base64\":");
                json::write_string(out, text);
            }
        }
        if !self.extra.is_empty() {
            out.push_str(",\"extra\":");
            write_members(out, self.extra.iter().map(|(k, v)| (k.as_ref(), v.as_ref())));
        }
        out.push('}');
    }

    /// Reads an event of a message; `shared` holds what its header says of all of them.
    pub fn read(node: Node<'a>, shared: &Shared<'a>) -> Result<Self, Violation> {
        let Value::Object(Object(members)) = node.value else {
            return Err(violation("", "malformed_message", "an event is an object".into()));
        };
        let mut event = Self::empty(shared.received);
        event.client_ip.clone_from(&shared.client_ip);
        event.user_agent.clone_from(&shared.user_agent);
        let mut timed = false;
        for (name, node) in members {
            match (name.as_ref(), node.value) {
                ("id", Value::String(s)) => event.id = s,
                ("source", Value::String(s)) => event.source = s,
                ("type", Value::String(s)) => event.event_type = s,
                ("time", Value::String(s)) => {
                    event.time = Timestamp::parse_rfc3339(&s)
                        .ok_or_else(|| violation("/time", "malformed_message", "`time` is not RFC 3339".into()))?;
                    timed = true;
                }
                ("subject", Value::String(s)) => event.subject = Some(s),
                ("userid", Value::String(s)) => event.user_id = Some(s),
                ("sessionid", Value::String(s)) => event.session_id = Some(s),
                ("specversion", Value::String(s)) => event.spec_version = Some(s),
                ("datacontenttype", Value::String(s)) => event.data_content_type = Some(s),
                ("dataschema", Value::String(s)) => event.data_schema = Some(s),
                ("tracestate", Value::String(s)) => event.trace_state = Some(s),
                ("traceparent", Value::String(s)) => event.trace_parent = Some(s),
                ("hops", Value::Number(n)) => event.hops = n.parse().ok(),
                ("data", value) => event.data = Data::Json(Node { raw: node.raw, value }),
                ("data_base64", Value::String(s)) => event.data = Data::Base64(s),
                ("extra", Value::Object(Object(members))) => {
                    event.extra = members.into_iter().map(|(k, v)| (k, Cow::Borrowed(v.raw))).collect();
                }
                // A message of a newer version may say more; it is kept where it can be read again.
                (_, _) => event.extra.push((name, Cow::Borrowed(node.raw))),
            }
        }
        if event.id.is_empty() || event.source.is_empty() || event.event_type.is_empty() || !timed {
            return Err(violation("", "malformed_message", "`id`, `source`, `type` or `time` is missing".into()));
        }
        Ok(event)
    }
}

/// What all events of one message share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shared<'a> {
    /// Receive time.
    pub received: Timestamp,
    /// Client address as the setting keeps it.
    pub client_ip: Option<Cow<'a, str>>,
    /// User agent.
    pub user_agent: Option<Cow<'a, str>>,
}

/// Appends a JSON object of (name, JSON text); a name that is taken gets `ce-` before it, so that nothing is dropped.
pub fn write_members<'m>(out: &mut String, members: impl Iterator<Item = (&'m str, &'m str)>) {
    // Few are compared with each other; the others are in a set, since an event may have as many unknown names as fit into a message.
    const FEW: usize = 16;
    let (mut few, mut others): (Vec<Cow<'m, str>>, HashSet<Cow<'m, str>>) = (Vec::new(), HashSet::new());
    out.push('{');
    for (name, raw) in members {
        let mut name = Cow::Borrowed(name);
        while few.contains(&name) || others.contains(&name) {
            name.to_mut().insert_str(0, "ce-");
        }
        if !few.is_empty() {
            out.push(',');
        }
        json::write_string(out, &name);
        out.push(':');
        out.push_str(raw);
        if few.len() < FEW {
            few.push(name);
        } else {
            others.insert(name);
        }
    }
    out.push('}');
}

/// Whether a name belongs to the envelope.
pub fn is_attribute(name: &str) -> bool {
    name == "data" || name == "data_base64" || ENVELOPE.iter().any(|c| c.name == name)
}

fn violation(pointer: &str, code: &'static str, reason: String) -> Violation {
    Violation { pointer: pointer.into(), code, reason }
}

fn required<'a>(name: &str, value: Option<Cow<'a, str>>, default: Option<&str>) -> Result<Cow<'a, str>, Violation> {
    match (value, default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(Cow::Owned(default.to_owned())),
        (None, None) => Err(violation(&format!("/{name}"), "envelope", format!("`{name}` is missing"))),
    }
}

fn text<'a>(name: &str, node: Node<'a>, max_bytes: usize) -> Result<Cow<'a, str>, Violation> {
    let kind = node.kind();
    let Value::String(value) = node.value else {
        return Err(violation(&format!("/{name}"), "envelope", format!("`{name}` must be text, not {kind}")));
    };
    bounded(name, value, max_bytes)
}

fn text_or_number<'a>(name: &str, node: Node<'a>) -> Result<Cow<'a, str>, Violation> {
    match node.value {
        Value::Number(digits) => bounded(name, Cow::Borrowed(digits), MAX_ATTRIBUTE_BYTES),
        _ => text(name, node, MAX_ATTRIBUTE_BYTES),
    }
}

fn bounded<'a>(name: &str, value: Cow<'a, str>, max_bytes: usize) -> Result<Cow<'a, str>, Violation> {
    if value.is_empty() || value.len() > max_bytes {
        return Err(violation(
            &format!("/{name}"),
            "envelope",
            format!("`{name}` has {} bytes, allowed are 1 to {max_bytes}", value.len()),
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GAME: &str = r#"{"type":"object","x-type":"game.start","required":["play_id"],"properties":{"play_id":{"type":"string","x-column-id":101}}}"#;
    const EVENT: &str = r#"{"type":"object","x-type":"event","properties":{"data":{"x-json":true,"x-column-id":101}}}"#;

    const RESULT: &str = r#"{"type":"object","x-type":"game.result","properties":{
        "total":{"type":"integer","minimum":0,"x-column-id":101},
        "hit":{"type":"integer","minimum":0,"x-max-field":"total","x-column-id":102},
        "rate":{"type":"number","maximum":100,"x-percent-of":["hit","total"],"x-column-id":103}}}"#;

    fn registry() -> Registry {
        Registry::load([("event.json", EVENT), ("game.json", GAME), ("result.json", RESULT)]).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
    }

    fn accept(text: &str) -> Result<(String, Clock), Violation> {
        let registry = registry();
        let context = Acceptance {
            received: now(),
            zone: Tz::Asia__Seoul,
            default_source: None,
            default_type: None,
            max_age_days: Some(400),
            registry: &registry,
        };
        let (event, clock) = Event::accept(json::parse_str(text).unwrap(), &context, || "made".into())?;
        let mut out = String::new();
        event.write(&mut out);
        Ok((out, clock))
    }

    #[test]
    fn an_event_is_completed() {
        let (out, clock) = accept(r#"{"source":"g","type":"game.start","userid":007e0,"data":{"play_id":"p"}}"#.replace("007e0", "70").as_str()).unwrap();
        assert_eq!(
            out,
            r#"{"id":"made","source":"g","type":"game.start","time":"2026-11-21T10:00:00.000000Z","userid":"70","data":{"play_id":"p"}}"#
        );
        assert_eq!(clock, Clock::Kept);
    }

    #[test]
    fn what_ingest_sets_is_not_taken_from_the_client() {
        let (out, _) = accept(r#"{"id":"1","source":"g","type":"x.y","receivedtime":"2000-01-01T00:00:00Z","clientip":"1.2.3.4","hops":9,"foo":[1]}"#).unwrap();
        assert!(
            out.contains(r#""extra":{"receivedtime":"2000-01-01T00:00:00Z","clientip":"1.2.3.4","hops":9,"foo":[1]}"#),
            "{out}"
        );
    }

    #[test]
    fn times_come_in_several_forms() {
        for time in
            ["\"2026-11-21T09:00:00Z\"", "1795251600", "1795251600000", "\"2026-11-21T18:00:00\"", "\"1795251600\""]
        {
            let (out, _) = accept(&format!(r#"{{"id":"1","source":"g","type":"x.y","time":{time}}}"#)).unwrap();
            assert!(out.contains("\"time\":\"2026-11-21T09:00:00.000000Z\""), "{time}: {out}");
        }
    }

    #[test]
    fn an_impossible_clock_is_replaced_and_kept() {
        for time in ["2026-11-23T00:00:00Z", "2020-01-01T00:00:00Z"] {
            let (out, clock) = accept(&format!(r#"{{"id":"1","source":"g","type":"x.y","time":"{time}"}}"#)).unwrap();
            assert_eq!(clock, Clock::Replaced);
            assert!(
                out.contains(&format!(r#""time":"2026-11-21T10:00:00.000000Z","extra":{{"original_time":"{time}"}}"#)),
                "{out}"
            );
        }
    }

    #[test]
    fn bad_envelopes_are_named_by_pointer() {
        for (text, pointer) in [
            ("[]", ""),
            (r#"{"type":"x.y"}"#, "/source"),
            (r#"{"source":"g"}"#, "/type"),
            (r#"{"source":"g","type":1}"#, "/type"),
            (r#"{"source":"g","type":"x.y","id":""}"#, "/id"),
            (r#"{"source":"g","type":"x.y","time":"soon"}"#, "/time"),
            (r#"{"source":"g","type":"x.y","time":true}"#, "/time"),
            (r#"{"source":"g","type":"x.y","specversion":"0.3"}"#, "/specversion"),
            (r#"{"source":"g","type":"x.y","userid":{}}"#, "/userid"),
            (r#"{"source":"g","type":"x.y","data":1,"data_base64":"AA=="}"#, "/data_base64"),
            (r#"{"source":"g","type":"game.start"}"#, "/data/play_id"),
            (r#"{"source":"g","type":"game.start","data":[]}"#, "/data"),
            (r#"{"source":"g","type":"game.start","data_base64":"AA=="}"#, "/data_base64"),
        ] {
            assert_eq!(accept(text).unwrap_err().pointer, pointer, "{text}");
        }
    }

    #[test]
    fn what_the_server_computes_takes_the_place_of_what_was_sent() {
        let written = |data: &str| {
            let text = format!(r#"{{"id":"1","source":"g","type":"game.result","data":{data}}}"#);
            let (out, _) = accept(&text).unwrap();
            out[out.find(",\"data\":").unwrap()..].to_owned()
        };
        let computed = r#","data":{"total":8,"hit":5,"new":[1],"rate":62.5}"#;
        assert_eq!(written(r#"{"total":8,"hit":5,"new":[1]}"#), format!("{computed}}}"));
        assert_eq!(written(r#"{"rate":null,"total":8,"hit":5,"new":[1]}"#), format!("{computed}}}"));
        for rounded in ["62", "63", "62.5", "6.25e1"] {
            let data = format!(r#"{{"rate":{rounded},"total":8,"hit":5,"new":[1]}}"#);
            assert_eq!(written(&data), format!("{computed}}}"), "{rounded}");
        }
        for other in ["100", "61.5", "-7", "0"] {
            let data = format!(r#"{{"rate":{other},"total":8,"hit":5,"new":[1]}}"#);
            assert_eq!(written(&data), format!(r#"{computed},"extra":{{"original_rate":{other}}}}}"#));
        }
        assert_eq!(written(r#"{"total":0,"hit":0}"#), r#","data":{"total":0,"hit":0,"rate":0.0}}"#);
        assert_eq!(
            written(r#"{"rate": 7, "total":8}"#),
            r#","data":{"rate": 7, "total":8}}"#,
            "nothing to compute it from"
        );
    }

    #[test]
    fn what_the_server_says_of_a_play_takes_the_place_of_what_the_player_says() {
        let registry =
            Registry::load([("event.json", EVENT), ("result.json", include_str!("../../../schemas/game.result.json"))]);
        let registry = registry.unwrap();
        let context = Acceptance {
            received: now(),
            zone: Tz::UTC,
            default_source: None,
            default_type: None,
            max_age_days: None,
            registry: &registry,
        };
        let accepted = |suspect: &str, reaction: u32| {
            let text = format!(
                r#"{{"id":"1","source":"square-blitz","type":"game.result","data":{{"play_id":"p","total_squares":50,"clicked_count":2,"reaction_ms":[{reaction},{reaction}]{suspect}}}}}"#
            );
            let (event, _) = Event::accept(json::parse_str(&text).unwrap(), &context, String::new).unwrap();
            let mut out = String::new();
            event.write(&mut out);
            out
        };
        assert!(!accepted("", 400).contains("suspect"));
        assert!(accepted(r#","suspect":"mine""#, 400).contains(r#""suspect":"mine""#));
        assert!(accepted("", 9).contains(r#""suspect":"reaction_too_short"}}"#));
        let both = accepted(r#","suspect":"not me""#, 9);
        assert!(both.contains(r#""suspect":"reaction_too_short"},"extra":{"original_suspect":"not me"}"#), "{both}");
    }

    #[test]
    fn names_that_clash_are_both_kept() {
        let mut out = String::new();
        write_members(&mut out, [("a", "1"), ("a", "2"), ("a", "3")].into_iter());
        assert_eq!(out, r#"{"a":1,"ce-a":2,"ce-ce-a":3}"#);
        let names: Vec<String> = (0..40).chain([3, 30, 30]).map(|n| n.to_string()).collect();
        let mut out = String::new();
        write_members(&mut out, names.iter().map(|name| (name.as_str(), "0")));
        assert!(out.ends_with(r#","39":0,"ce-3":0,"ce-30":0,"ce-ce-30":0}"#), "{out}");
    }

    proptest! {
        #[test]
        fn a_written_event_reads_back(id in "\\PC{1,20}", source in "\\PC{1,9}", kind in "\\PC{1,9}", us in 0i64..4_000_000_000_000_000, subject in proptest::option::of("\\PC{1,9}"), key in "\\PC{0,5}") {
            let data = format!("{{\"a\":{}}}", us);
            let extra = vec![(Cow::Owned(key), Cow::Borrowed("[1]"))];
            let mut event = Event::derived(&id, &source, &kind, Timestamp::from_micros(us).unwrap(), now(), json::parse_str(&data).unwrap());
            event.subject = subject.map(Cow::Owned);
            event.extra = extra;
            event.client_ip = Some("1.2.3.0".into());
            let mut out = String::new();
            event.write(&mut out);
            let shared = Shared { received: now(), client_ip: Some("1.2.3.0".into()), user_agent: None };
            let back = Event::read(json::parse_str(&out).unwrap(), &shared).unwrap();
            prop_assert_eq!(back, event);
        }
    }
}
