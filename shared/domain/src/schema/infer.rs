//! A draft of a schema file from sample events.
//!
//! What samples cannot tell, the draft leaves open and says so: it refuses nothing that was in the samples, and where it could only guess,
//! the field is JSON, which takes everything.

use super::{ELEMENT_ID_OFFSET, ENVELOPE, FIRST_DATA_COLUMN_ID, decimal, integer};
use crate::json::{Node, Object, Value};
use crate::time::Timestamp;
use serde_json::{Map, Value as Json, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Samples from which on the values of a field are few or many.
const ENOUGH: usize = 20;
/// Most words of an enumeration, and its longest, in bytes.
const MOST_WORDS: usize = 8;
const LONGEST_WORD: usize = 32;
/// So many samples for each distinct value make a text one of few values.
const SAMPLES_PER_VALUE: usize = 10;
/// Digits of a decimal where the samples have fewer.
const USUAL_DIGITS: usize = 18;
/// Most digits of a decimal.
const MOST_DIGITS: usize = 38;

/// A draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The schema file.
    pub text: String,
    /// What could not be decided, and what to look at: a sentence each.
    pub notes: Vec<String>,
}

/// Drafts a schema file of a type from the data of its samples.
pub fn infer(event_type: &str, samples: &[&Object<'_>]) -> Draft {
    let mut fields: Vec<(&Cow<'_, str>, Vec<&Node<'_>>)> = Vec::new();
    let mut positions: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, node) in samples.iter().flat_map(|sample| &sample.0) {
        let at = *positions.entry(name).or_insert_with(|| {
            fields.push((name, Vec::new()));
            fields.len() - 1
        });
        fields[at].1.push(node);
    }
    let mut notes = vec![match samples.len() {
        1 => "from one sample: what is required, and what is optional, cannot be seen".to_owned(),
        count => format!("from {count} samples; what is in all of them is required"),
    }];
    let (mut properties, mut required, mut id) = (Map::new(), Vec::new(), FIRST_DATA_COLUMN_ID);
    for (name, nodes) in &fields {
        if let Err(why) = takes_name(name, &properties) {
            notes.push(format!("`{name}` is left out: {why}; it stays in `extra`"));
            continue;
        }
        if id >= ELEMENT_ID_OFFSET {
            notes.push(format!("`{name}` is left out: there are no more ids for columns; it stays in `extra`"));
            continue;
        }
        let present: Vec<&Node<'_>> = nodes.iter().filter(|node| node.value != Value::Null).copied().collect();
        let (mut property, note) = property(&present);
        notes.extend(note.map(|note| format!("`{name}` {note}")));
        property.insert("x-column-id".into(), id.into());
        properties.insert(name.to_string(), property.into());
        if present.len() == samples.len() {
            required.push(Json::from(name.as_ref()));
        }
        id += 1;
    }
    let draft = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "",
        "type": "object",
        "x-type": event_type,
        "x-partition": "day",
        "required": required,
        "properties": properties,
    });
    Draft { text: format!("{draft:#}\n"), notes }
}

/// Why a field cannot be a column, if it cannot.
fn takes_name(name: &str, taken: &Map<String, Json>) -> Result<(), String> {
    if name.is_empty() || name.len() > 128 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err("a column's name is 1–128 of `[A-Za-z0-9_]`".into());
    }
    let other = ENVELOPE.iter().map(|column| column.name).chain(taken.keys().map(String::as_str));
    match other.into_iter().find(|other| other.eq_ignore_ascii_case(name)) {
        Some(other) => Err(format!("there is a column `{other}`, and engines take no notice of case")),
        None => Ok(()),
    }
}

/// What a field is whose values, without nulls, are these.
fn property(nodes: &[&Node<'_>]) -> (Map<String, Json>, Option<String>) {
    let all = |is: fn(&Value<'_>) -> bool| nodes.iter().all(|node| is(&node.value));
    let strings: Vec<&str> = nodes.iter().filter_map(|node| node.as_str()).collect();
    let undecided =
        |why: &str| (object(json!({"x-json": true})), Some(format!("{why}: it is kept as JSON until you decide")));
    if nodes.is_empty() {
        undecided("is null in all samples")
    } else if all(|value| matches!(value, Value::Bool(_))) {
        (object(json!({"type": "boolean"})), None)
    } else if all(|value| matches!(value, Value::Number(_))) {
        number(nodes)
    } else if strings.len() == nodes.len() {
        text(&strings)
    } else if all(|value| matches!(value, Value::Object(_))) {
        (
            object(json!({"type": "object"})),
            Some("is an object: it is kept as JSON, and its members are no columns".into()),
        )
    } else if all(|value| matches!(value, Value::Array(_))) {
        list(nodes)
    } else if let Some(decimal) = decimals(nodes) {
        let note = "is a number in some samples and the text of one in others: it is a decimal, which takes both; see whether `x-decimal` has enough digits";
        (decimal, Some(note.into()))
    } else {
        let mut kinds: Vec<&str> = nodes.iter().map(|node| node.kind()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        undecided(&format!("is of several kinds ({})", kinds.join(", ")))
    }
}

fn number(nodes: &[&Node<'_>]) -> (Map<String, Json>, Option<String>) {
    let texts = || nodes.iter().map(|node| node.raw.trim());
    if texts().all(|text| integer(text).is_ok()) {
        return (object(json!({"type": "integer"})), None);
    }
    let note = match texts().any(|text| text.contains(['.', 'e', 'E'])) {
        true => {
            "is a 64-bit float; where every digit counts, as in a price, make it `\"type\": \"string\", \"x-decimal\": [18, 6]`, which takes numbers too"
        }
        false => {
            "has whole numbers beyond 64 bits, which a 64-bit float rounds; make it `\"type\": \"string\", \"x-decimal\": [38, 0]` to keep them"
        }
    };
    (object(json!({"type": "number"})), Some(note.into()))
}

fn text(values: &[&str]) -> (Map<String, Json>, Option<String>) {
    let all = |is: fn(&str) -> bool| values.iter().all(|value| is(value));
    let string = |more: Json| {
        let mut property = object(json!({"type": "string"}));
        property.extend(object(more));
        property
    };
    if all(|value| Timestamp::parse_rfc3339(value).is_some()) {
        return (string(json!({"format": "date-time"})), None);
    }
    if all(|value| Timestamp::parse_date(value).is_some()) {
        return (string(json!({"format": "date"})), None);
    }
    if all(|value| uuid::Uuid::try_parse(value).is_ok()) {
        return (
            string(json!({"x-bloom": true})),
            Some("looks like UUIDs, so one is looked for by a bloom filter".into()),
        );
    }
    if all(|value| value.parse::<IpAddr>().is_ok()) {
        return (
            string(json!({"x-personal": true})),
            Some("looks like addresses of machines, so it is personal data".into()),
        );
    }
    if all(is_email) {
        return (
            string(json!({"x-personal": true})),
            Some("looks like e-mail addresses, so it is personal data".into()),
        );
    }
    let are_numbers = all(is_plain_number);
    if are_numbers
        && values.iter().any(|value| value.contains('.'))
        && let Some(scale) = values.iter().map(|value| fraction(value)).max()
        && let Some(property) = digits(values, scale)
    {
        let note = format!(
            "looks like decimals; one with more than {scale} digits behind the point is refused, so see whether `x-decimal` has enough"
        );
        return (property, Some(note));
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    values.iter().for_each(|value| *counts.entry(value).or_default() += 1);
    let is_word = |word: &&str| {
        word.len() <= LONGEST_WORD
            && word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    };
    if values.len() < ENOUGH || counts.len() * SAMPLES_PER_VALUE > values.len() {
        let note =
            "is text, and a whole number in all samples; where it is one and no name, make it `\"x-decimal\": [18, 0]`";
        return (string(json!({})), are_numbers.then(|| note.into()));
    }
    if counts.len() <= MOST_WORDS && counts.keys().all(is_word) && counts.values().all(|count| *count > 1) {
        let words: Vec<&str> = counts.into_keys().collect();
        let note = format!(
            "is one of {}, and any other is refused; where there may be more, put `\"x-low-cardinality\": true` in place of `enum`",
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        );
        return (string(json!({"enum": words})), Some(note));
    }
    (string(json!({"x-low-cardinality": true})), None)
}

fn list(nodes: &[&Node<'_>]) -> (Map<String, Json>, Option<String>) {
    let elements = nodes.iter().filter_map(|node| match &node.value {
        Value::Array(elements) => Some(elements),
        _ => None,
    });
    let elements: Vec<&Node<'_>> = elements.flatten().filter(|node| node.value != Value::Null).collect();
    let as_json = |why: &str| (object(json!({"x-json": true})), Some(format!("{why}: it is kept as JSON")));
    if elements.is_empty() {
        return as_json("is an empty list in all samples");
    }
    // What is said of a text alone has no place at an element.
    let (property, note) = property(&elements);
    let kept = ["type", "format", "x-decimal"];
    let items: Map<String, Json> = property.into_iter().filter(|(key, _)| kept.contains(&key.as_str())).collect();
    match items.get("type").and_then(Json::as_str) {
        Some("integer" | "number" | "string" | "boolean") => {
            let note = note.filter(|_| items.get("type") == Some(&json!("number")));
            (object(json!({"type": "array", "items": items})), note)
        }
        _ => as_json("is a list of what is no scalar, or of several kinds"),
    }
}

/// Numbers and texts of numbers, mixed, as a decimal.
fn decimals(nodes: &[&Node<'_>]) -> Option<Map<String, Json>> {
    let text = |node: &&Node<'_>| match &node.value {
        Value::Number(text) => Some((*text).to_owned()),
        Value::String(text) if is_plain_number(text) => Some(text.to_string()),
        _ => None,
    };
    let texts: Vec<String> = nodes.iter().map(text).collect::<Option<_>>()?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let scale = texts.iter().map(|text| fraction(text)).max()?;
    digits(&texts, scale)
}

/// A decimal with so many digits behind the point that has room for all of these.
fn digits(texts: &[&str], scale: usize) -> Option<Map<String, Json>> {
    let whole =
        texts.iter().map(|text| text.trim_start_matches('-').split('.').next().unwrap_or_default().len()).max()?;
    let (precision, scale) = ((whole + scale).max(USUAL_DIGITS), scale);
    let (precision, scale) = (u8::try_from(precision).ok()?, u8::try_from(scale).ok()?);
    let fits =
        usize::from(precision) <= MOST_DIGITS && texts.iter().all(|text| decimal(text, precision, scale).is_ok());
    fits.then(|| object(json!({"type": "string", "x-decimal": [precision, scale]})))
}

/// Whether a text is a number without an exponent, as JSON has it: `007` is none.
fn is_plain_number(text: &str) -> bool {
    !text.contains(['e', 'E']) && text.trim() == text && serde_json::from_str::<serde_json::Number>(text).is_ok()
}

/// Digits behind the point.
fn fraction(text: &str) -> usize {
    text.split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

/// Roughly: `name@host.domain`.
fn is_email(text: &str) -> bool {
    let Some((name, host)) = text.split_once('@') else { return false };
    let is_host = |host: &str| host.contains('.') && !host.starts_with('.') && !host.ends_with('.');
    !name.is_empty() && !host.contains('@') && is_host(host) && !text.contains(char::is_whitespace)
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ColumnKind, Schema};
    use super::*;
    use crate::json::parse_str;

    /// The draft's properties and notes, having made sure that it takes its own samples.
    fn drafted(samples: &[String]) -> (Json, Vec<String>) {
        let nodes: Vec<Node<'_>> = samples.iter().map(|sample| parse_str(sample).unwrap()).collect();
        let objects: Vec<&Object<'_>> = nodes.iter().map(|node| node.as_object().unwrap()).collect();
        let draft = infer("a.b", &objects);
        let schema = Schema::parse("draft", &draft.text).unwrap_or_else(|e| panic!("{e}: {}", draft.text));
        for (sample, object) in samples.iter().zip(objects) {
            assert_eq!(schema.check(object), Ok(()), "{sample} by {}", draft.text);
        }
        (serde_json::from_str(&draft.text).unwrap(), draft.notes)
    }

    /// What one field is drafted as, without its id, and what is said of it.
    fn field(values: &[&str]) -> (Json, String) {
        let samples: Vec<String> = values.iter().map(|value| format!(r#"{{"f":{value}}}"#)).collect();
        let (draft, notes) = drafted(&samples);
        let mut property = draft["properties"]["f"].clone();
        assert_eq!(property.as_object_mut().unwrap().remove("x-column-id"), Some(json!(101)));
        (property, notes.get(1).cloned().unwrap_or_default())
    }

    #[test]
    fn a_field_is_what_its_values_are() {
        for (values, expected, said) in [
            (vec!["1", "-5", "5.0"], json!({"type": "integer"}), ""),
            (vec!["1", "1.5"], json!({"type": "number"}), "64-bit float"),
            (vec!["9223372036854775808"], json!({"type": "number"}), "beyond 64 bits"),
            (vec!["true", "null"], json!({"type": "boolean"}), ""),
            (vec![r#""2026-11-20T10:00:00Z""#], json!({"type": "string", "format": "date-time"}), ""),
            (vec![r#""2026-11-20""#], json!({"type": "string", "format": "date"}), ""),
            (vec![r#""2026-11-20""#, r#""soon""#], json!({"type": "string"}), ""),
            (vec![r#""0197a201-9b8f-7002-84d6-d7951b6248d6""#], json!({"type": "string", "x-bloom": true}), "UUIDs"),
            (vec![r#""192.0.2.1""#, r#""::1""#], json!({"type": "string", "x-personal": true}), "personal"),
            (vec![r#""kim@example.org""#], json!({"type": "string", "x-personal": true}), "personal"),
            (vec![r#""1.50""#, r#""-200.125""#], json!({"type": "string", "x-decimal": [18, 3]}), "decimals"),
            (vec![r#""1.50""#, r#""2""#], json!({"type": "string", "x-decimal": [18, 2]}), "decimals"),
            (vec![r#""1""#, r#""-20""#], json!({"type": "string"}), "a whole number in all samples"),
            (vec![r#""1.2.3""#, r#""2""#], json!({"type": "string"}), ""),
            (vec![r#""1.50""#, "2"], json!({"type": "string", "x-decimal": [18, 2]}), "takes both"),
            (vec![r#""007""#, "7"], json!({"x-json": true}), "several kinds (number, string)"),
            (vec![r#""007""#, r#""010""#], json!({"type": "string"}), ""),
            (vec!["[1,2]", "[]"], json!({"type": "array", "items": {"type": "integer"}}), ""),
            (vec![r#"["a"]"#, "[null]"], json!({"type": "array", "items": {"type": "string"}}), ""),
            (vec!["[1.5]"], json!({"type": "array", "items": {"type": "number"}}), "64-bit float"),
            (vec![r#"["1.5",2]"#], json!({"type": "array", "items": {"type": "string", "x-decimal": [18, 1]}}), ""),
            (vec!["[]"], json!({"x-json": true}), "an empty list"),
            (vec!["[[1]]"], json!({"x-json": true}), "no scalar"),
            (vec![r#"[1,"a"]"#], json!({"x-json": true}), "several kinds"),
            (vec![r#"{"a":1}"#], json!({"type": "object"}), "no columns"),
            (vec!["null"], json!({"x-json": true}), "is null in all samples"),
            (vec!["1", "true", "{}"], json!({"x-json": true}), "several kinds (boolean, number, object)"),
        ] {
            let (property, note) = field(&values);
            assert_eq!(property, expected, "{values:?}");
            assert!(note.contains(said) && note.is_empty() == said.is_empty(), "{values:?}: `{note}` and not `{said}`");
        }
    }

    #[test]
    fn few_words_are_an_enumeration_and_few_texts_are_said_to_be_few() {
        let of = |value: fn(usize) -> String, count: usize| {
            let values: Vec<String> = (0..count).map(|n| Json::from(value(n)).to_string()).collect();
            field(&values.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let (property, note) = of(|n| if n % 2 == 0 { "on" } else { "off" }.into(), 20);
        assert_eq!(property, json!({"type": "string", "enum": ["off", "on"]}));
        assert!(note.contains("is one of `off`, `on`, and any other is refused"), "{note}");
        let text = json!({"type": "string"});
        assert_eq!(of(|n| if n % 2 == 0 { "on" } else { "off" }.into(), 19).0, text, "too few samples");
        assert_eq!(of(|n| format!("w{}", n % 3), 29).0, text, "too many values");
        let few = json!({"type": "string", "x-low-cardinality": true});
        assert_eq!(of(|n| format!("two words {}", n % 2), 20).0, few);
        assert_eq!(of(|n| format!("w{}", n % 10), 100).0, few);
        assert_eq!(of(|n| if n == 0 { "once" } else { "often" }.into(), 20).0, few);
    }

    #[test]
    fn what_is_in_all_samples_is_required_and_ids_follow_the_first_appearance() {
        let samples = [r#"{"b":1,"a":1,"c":null}"#, r#"{"d":1,"b":2,"c":1}"#].map(str::to_owned);
        let (draft, notes) = drafted(&samples);
        assert_eq!((&draft["required"], &draft["x-type"]), (&json!(["b"]), &json!("a.b")));
        let ids = ["b", "a", "c", "d"].map(|name| draft["properties"][name]["x-column-id"].as_i64().unwrap());
        assert_eq!(ids, [101, 102, 103, 104]);
        assert_eq!(notes, ["from 2 samples; what is in all of them is required"]);
    }

    #[test]
    fn what_cannot_be_a_column_is_left_out_and_said() {
        let many: String = (0..900).map(|n| format!(r#""n{n}":1,"#)).collect();
        let sample = format!(r#"{{"a-b":1,"time":1,"x":1,"X":2,{many}"last":1}}"#);
        let (draft, notes) = drafted(&[sample]);
        assert_eq!(draft["properties"].as_object().unwrap().len(), 899);
        for said in [
            "`a-b` is left out: a column's name",
            "`time` is left out: there is a column `time`",
            "`X` is left out: there is a column `x`",
            "`last` is left out: there are no more ids",
        ] {
            assert!(notes.iter().any(|note| note.starts_with(said)), "{said}: {notes:?}");
        }
    }

    #[test]
    fn the_kinds_of_our_own_types_are_found_again() {
        let days = crate::demo::day(Timestamp::parse_rfc3339("2026-11-20T00:00:00Z").unwrap());
        let nodes: Vec<Node<'_>> = days.iter().map(|event| parse_str(event).unwrap()).collect();
        for (event_type, file) in [
            ("game.result", include_str!("../../../../schemas/game.result.json")),
            ("game.start", include_str!("../../../../schemas/game.start.json")),
            ("http.access", include_str!("../../../../schemas/http.access.json")),
            ("quote.trade", include_str!("../../../../schemas/quote.trade.json")),
            ("web.event", include_str!("../../../../schemas/web.event.json")),
        ] {
            let of_type =
                |node: &&Node<'_>| node.as_object().unwrap().get("type").and_then(Node::as_str) == Some(event_type);
            let data = |node| Node::as_object(node).unwrap().get("data").unwrap().as_object().unwrap();
            let samples: Vec<&Object<'_>> = nodes.iter().filter(of_type).map(data).collect();
            assert!(samples.len() > 100, "{event_type}");
            let (own, drafted) = (Schema::parse("own", file).unwrap(), infer(event_type, &samples));
            let drafted = Schema::parse("draft", &drafted.text).unwrap();
            for column in &drafted.columns {
                let own = own.columns.iter().find(|own| own.name == column.name).unwrap();
                // Every whole number might be a fraction, and the text of one might be a name.
                let is_alike = match (&own.kind, &column.kind) {
                    (ColumnKind::Number, ColumnKind::Integer) | (ColumnKind::Decimal { .. }, ColumnKind::Text) => true,
                    (ColumnKind::Decimal { scale: least, .. }, ColumnKind::Decimal { scale, .. }) => scale <= least,
                    (own, drafted) => own == drafted,
                };
                assert!(is_alike, "{event_type} {}: {:?} and not {:?}", column.name, column.kind, own.kind);
            }
            assert!(samples.iter().all(|sample| drafted.check(sample).is_ok()), "{event_type}");
        }
    }
}
