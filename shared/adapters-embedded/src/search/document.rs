//! A document on its way into the index: read once, straight from its text into typed leaves.

use super::dates;
use super::fields::{Fields, key};
use super::mapping::{IGNORE_ABOVE, Kind, Node, Path};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use sluice_ports::Document;
use std::fmt;
use std::net::IpAddr;
use std::slice;
use tantivy::DateTime;
use tantivy::schema::Field;
use tantivy::schema::document::{ReferenceValue, ReferenceValueLeaf, Value};

/// OpenSearch's limit of an id.
const ID_BYTES: std::ops::RangeInclusive<usize> = 1..=512;
/// OpenSearch's limit of an index name.
const INDEX_BYTES: std::ops::RangeInclusive<usize> = 1..=255;
/// Longest dotted path of a field that no template names.
const PATH_BYTES: usize = 1_024;

/// A document ready to be added.
#[derive(Debug)]
pub(super) struct Prepared {
    fields: Fields,
    pub key: u64,
    pub index: String,
    pub id: String,
    source: String,
    leaves: Leaves,
}

#[derive(Debug, Default)]
struct Leaves {
    keyword: Vec<(Path, Leaf)>,
    number: Vec<(Path, Leaf)>,
    text: Vec<(Path, Leaf)>,
    flat: Vec<(Path, Leaf)>,
    present: Vec<Path>,
}

/// A typed value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Leaf {
    Text(String),
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    DateMs(i64),
}

impl Prepared {
    /// Reads a document by its mapping; the error says why it can never be indexed. `admit` is asked for each path that no template names
    /// whether it may have columns of its own.
    pub(super) fn read(
        document: Document,
        fields: Fields,
        root: Option<&Node>,
        admit: &dyn Fn(&str) -> bool,
    ) -> Result<Self, String> {
        let Document { index, id, source } = document;
        if !ID_BYTES.contains(&id.len()) {
            return Err(format!("the id has {} bytes; it takes 1 to 512", id.len()));
        }
        if !INDEX_BYTES.contains(&index.len()) || index.contains(['*', ',', '\0']) {
            return Err(format!("`{index}` is not an index name"));
        }
        let mut leaves = Leaves::default();
        let mut rejection = None;
        let mut json = serde_json::Deserializer::from_str(&source);
        let at = root.map_or(At::Dynamic(""), At::Node);
        let walk = Walk { at, out: &mut leaves, rejection: &mut rejection, admit };
        if let Err(error) = json.deserialize_map(walk).and_then(|()| json.end()) {
            return Err(rejection.unwrap_or_else(|| format!("the source is not a JSON object: {error}")));
        }
        leaves.present.sort();
        leaves.present.dedup();
        Ok(Self { fields, key: key(&index, &id), index, id, source, leaves })
    }
}

#[derive(Clone, Copy)]
enum At<'a> {
    /// A mapped field.
    Node(&'a Node),
    /// A field that no template names, by its path.
    Dynamic(&'a str),
    /// Inside of a flat object: the object's path and the path of the leaf.
    Flat(&'a Path, &'a str),
    /// A field that no template names, in an object that is not `dynamic`.
    Unnamed,
}

struct Walk<'a> {
    at: At<'a>,
    out: &'a mut Leaves,
    rejection: &'a mut Option<String>,
    admit: &'a dyn Fn(&str) -> bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if let At::Unnamed | At::Node(Node { kind: Kind::Stored, .. }) = self.at {
            return deserializer.deserialize_ignored_any(serde::de::IgnoredAny).map(|_| ());
        }
        deserializer.deserialize_any(self)
    }
}

/// Reads a key into a buffer that is used again.
struct Key<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        self.0.clear();
        self.0.push_str(key);
        Ok(())
    }
}

/// A scalar of the source.
enum Scalar<'a> {
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(&'a str),
}

impl Walk<'_> {
    fn path(&self) -> &str {
        match self.at {
            At::Node(node) => &node.path,
            At::Dynamic(path) | At::Flat(_, path) => path,
            At::Unnamed => "",
        }
    }

    fn reject<E: Error>(self, why: String) -> E {
        *self.rejection = Some(why);
        E::custom("rejected")
    }

    fn scalar<E: Error>(mut self, scalar: Scalar<'_>) -> Result<(), E> {
        match self.put(scalar) {
            Ok(()) => Ok(()),
            Err(why) => {
                let why = format!("failed to parse field `{}`: {why}", self.path());
                Err(self.reject(why))
            }
        }
    }

    fn put(&mut self, scalar: Scalar<'_>) -> Result<(), String> {
        let node = match self.at {
            At::Node(node) => node,
            At::Dynamic(path) => {
                self.put_dynamic(path, scalar);
                return Ok(());
            }
            At::Flat(object, path) => {
                self.put_flat(object, path, scalar);
                return Ok(());
            }
            At::Unnamed => return Ok(()),
        };
        let path = || node.path.clone();
        match &node.kind {
            Kind::Keyword { ignore_above, words } => {
                let text = scalar.into_text();
                if *words {
                    self.out.present.push(path());
                    self.out.text.push((path(), Leaf::Text(text.clone())));
                }
                if is_within(&text, *ignore_above) {
                    self.out.keyword.push((path(), Leaf::Text(text)));
                }
            }
            Kind::Text { exact } => {
                let text = scalar.into_text();
                if *exact && is_within(&text, IGNORE_ABOVE) {
                    self.out.keyword.push((path(), Leaf::Text(text.clone())));
                }
                self.out.present.push(path());
                self.out.text.push((path(), Leaf::Text(text)));
            }
            Kind::Long => self.out.number.push((path(), Leaf::Integer(scalar.into_long()?))),
            Kind::Double => self.out.number.push((path(), Leaf::Float(scalar.into_double()?))),
            Kind::Boolean => self.out.keyword.push((path(), Leaf::Bool(scalar.into_boolean()?))),
            Kind::Date => {
                let ms = scalar.into_date_ms()?;
                self.out
                    .number
                    .push((path(), Leaf::DateMs(ms.clamp(*dates::RANGE_MS.start(), *dates::RANGE_MS.end()))));
            }
            Kind::Ip => match scalar.into_text().parse::<IpAddr>() {
                Ok(address) => self.out.keyword.push((path(), Leaf::Text(address.to_canonical().to_string()))),
                Err(_) => return Err("it is not an IP address".to_owned()),
            },
            Kind::Flat | Kind::Object(_) => return Err("it takes an object".to_owned()),
            Kind::Stored => {}
        }
        Ok(())
    }

    fn put_dynamic(&mut self, path: &str, scalar: Scalar<'_>) {
        if !(self.admit)(path) {
            return self.put_flat(&Path::from(path), path, scalar);
        }
        let path = Path::from(path);
        match scalar {
            Scalar::Bool(value) => self.out.keyword.push((path, Leaf::Bool(value))),
            Scalar::Integer(value) => self.out.number.push((path, Leaf::Integer(value))),
            Scalar::Unsigned(value) => self.out.number.push((path, Leaf::Unsigned(value))),
            Scalar::Float(value) => self.out.number.push((path, Leaf::Float(value))),
            Scalar::Text(text) if text.len() <= PATH_BYTES * 8 => {
                self.out.keyword.push((path, Leaf::Text(text.to_owned())))
            }
            Scalar::Text(_) => {}
        }
    }

    /// A leaf is found under its own path and under that of the object, as in OpenSearch.
    fn put_flat(&mut self, object: &Path, path: &str, scalar: Scalar<'_>) {
        let text = scalar.into_text();
        let path = if path.len() <= PATH_BYTES { Path::from(path) } else { object.clone() };
        self.out.present.push(path.clone());
        if text.len() > PATH_BYTES * 8 {
            return;
        }
        if path != *object {
            self.out.present.push(object.clone());
            self.out.flat.push((object.clone(), Leaf::Text(text.clone())));
        }
        self.out.flat.push((path, Leaf::Text(text)));
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(Scalar::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.scalar(Scalar::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.scalar(i64::try_from(value).map_or(Scalar::Unsigned(value), Scalar::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.scalar(Scalar::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.scalar(Scalar::Text(value))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Walk { at, out, rejection, admit } = self;
        while sequence.next_element_seed(Walk { at, out, rejection, admit })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let At::Node(Node { kind, path, .. }) = self.at
            && !matches!(kind, Kind::Object(_) | Kind::Flat)
        {
            let why = format!("failed to parse field `{path}`: it does not take an object");
            return Err(self.reject(why));
        }
        let Walk { at, out, rejection, admit } = self;
        let mut name = String::new();
        let mut key = String::new();
        while map.next_key_seed(Key(&mut key))?.is_some() {
            let join = |parent: &str, name: &mut String| {
                name.clear();
                name.push_str(parent);
                if !parent.is_empty() {
                    name.push('.');
                }
                name.push_str(&key);
            };
            let child = match at {
                At::Node(Node { kind: Kind::Flat, path, .. }) => {
                    join(path, &mut name);
                    At::Flat(path, &name)
                }
                At::Node(parent) => match parent.find(&key) {
                    Some(node) if ends_with(&node.path, &key) => At::Node(node),
                    Some(node) if node.kind == Kind::Flat => {
                        join(&parent.path, &mut name);
                        At::Flat(&node.path, &name)
                    }
                    Some(node) => {
                        *rejection = Some(format!("failed to parse field `{}`: it does not take an object", node.path));
                        return Err(A::Error::custom("rejected"));
                    }
                    None if !parent.dynamic => At::Unnamed,
                    None => {
                        join(&parent.path, &mut name);
                        At::Dynamic(&name)
                    }
                },
                At::Unnamed => At::Unnamed,
                At::Dynamic(parent) => {
                    join(parent, &mut name);
                    At::Dynamic(&name)
                }
                At::Flat(object, parent) => {
                    join(parent, &mut name);
                    At::Flat(object, &name)
                }
            };
            map.next_value_seed(Walk { at: child, out, rejection, admit })?;
        }
        Ok(())
    }
}

/// Whether a text has at most `limit` characters as OpenSearch counts them.
fn is_within(text: &str, limit: usize) -> bool {
    text.len() <= limit || (text.len() <= 3 * limit && text.encode_utf16().count() <= limit)
}

/// Whether a document's key names the node itself and not something below it.
fn ends_with(path: &str, key: &str) -> bool {
    path.strip_suffix(key).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

impl Scalar<'_> {
    fn into_text(self) -> String {
        match self {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Integer(value) => value.to_string(),
            Scalar::Unsigned(value) => value.to_string(),
            Scalar::Float(value) => value.to_string(),
            Scalar::Text(text) => text.to_owned(),
        }
    }

    /// A fraction is cut off, as OpenSearch's `coerce` does.
    #[allow(clippy::cast_possible_truncation)]
    fn into_long(self) -> Result<i64, String> {
        let float = |value: f64| {
            // 2^63 itself is out of range.
            let fits = value.is_finite() && (-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&value);
            if fits { Ok(value as i64) } else { Err("it is beyond 64 bits".to_owned()) }
        };
        match self {
            Scalar::Integer(value) => Ok(value),
            Scalar::Unsigned(_) => Err("it is beyond 64 bits".to_owned()),
            Scalar::Float(value) => float(value),
            Scalar::Text(text) => match text.trim().parse::<i64>() {
                Ok(value) => Ok(value),
                Err(_) => text.trim().parse::<f64>().map_err(|_| "it is not a number".to_owned()).and_then(float),
            },
            Scalar::Bool(_) => Err("it is not a number".to_owned()),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn into_double(self) -> Result<f64, String> {
        let value = match self {
            Scalar::Integer(value) => value as f64,
            Scalar::Unsigned(value) => value as f64,
            Scalar::Float(value) => value,
            Scalar::Text(text) => text.trim().parse().map_err(|_| "it is not a number".to_owned())?,
            Scalar::Bool(_) => return Err("it is not a number".to_owned()),
        };
        if value.is_finite() { Ok(value) } else { Err("it is not a finite number".to_owned()) }
    }

    fn into_boolean(self) -> Result<bool, String> {
        match self {
            Scalar::Bool(value) => Ok(value),
            Scalar::Text("true") => Ok(true),
            Scalar::Text("false" | "") => Ok(false),
            _ => Err("it takes `true` or `false`".to_owned()),
        }
    }

    fn into_date_ms(self) -> Result<i64, String> {
        match self {
            Scalar::Integer(ms) => Ok(ms),
            Scalar::Text(text) => {
                dates::parse(text).map(|span| span.first_ms).ok_or_else(|| "it is not a date".to_owned())
            }
            _ => Err("it is not a date".to_owned()),
        }
    }
}

impl Leaf {
    fn as_reference(&self) -> ReferenceValueLeaf<'_> {
        match self {
            Leaf::Text(text) => ReferenceValueLeaf::Str(text),
            Leaf::Bool(value) => ReferenceValueLeaf::Bool(*value),
            Leaf::Integer(value) => ReferenceValueLeaf::I64(*value),
            Leaf::Unsigned(value) => ReferenceValueLeaf::U64(*value),
            Leaf::Float(value) => ReferenceValueLeaf::F64(*value),
            Leaf::DateMs(ms) => ReferenceValueLeaf::Date(DateTime::from_timestamp_millis(*ms)),
        }
    }
}

/// A value as tantivy reads it.
#[derive(Debug, Clone)]
pub(super) enum FieldValue<'a> {
    Key(u64),
    Text(&'a str),
    Leaf(&'a Leaf),
    Object(&'a [(Path, Leaf)]),
}

impl<'a> Value<'a> for FieldValue<'a> {
    type ArrayIter = std::iter::Empty<Self>;
    type ObjectIter = LeafIter<'a>;

    fn as_value(&self) -> ReferenceValue<'a, Self> {
        match self {
            FieldValue::Key(key) => ReferenceValueLeaf::U64(*key).into(),
            FieldValue::Text(text) => ReferenceValueLeaf::Str(text).into(),
            FieldValue::Leaf(leaf) => leaf.as_reference().into(),
            FieldValue::Object(leaves) => ReferenceValue::Object(LeafIter(leaves.iter())),
        }
    }
}

/// The leaves of one JSON field.
pub(super) struct LeafIter<'a>(slice::Iter<'a, (Path, Leaf)>);

impl<'a> Iterator for LeafIter<'a> {
    type Item = (&'a str, FieldValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(path, leaf)| (&**path, FieldValue::Leaf(leaf)))
    }
}

impl tantivy::Document for Prepared {
    type Value<'a> = FieldValue<'a>;
    type FieldsValuesIter<'a> = std::vec::IntoIter<(Field, FieldValue<'a>)>;

    fn iter_fields_and_values(&self) -> Self::FieldsValuesIter<'_> {
        let Self { fields, key, index, id, source, leaves } = self;
        let mut values = Vec::with_capacity(8 + leaves.present.len());
        values.extend([
            (fields.key, FieldValue::Key(*key)),
            (fields.index, FieldValue::Text(index)),
            (fields.id, FieldValue::Text(id)),
            (fields.source, FieldValue::Text(source)),
        ]);
        let objects = [
            (fields.keyword, &leaves.keyword),
            (fields.number, &leaves.number),
            (fields.text, &leaves.text),
            (fields.flat, &leaves.flat),
        ];
        values.extend(objects.into_iter().filter(|(_, l)| !l.is_empty()).map(|(f, l)| (f, FieldValue::Object(l))));
        values.extend(leaves.present.iter().map(|path| (fields.present, FieldValue::Text(path))));
        values.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::fields::schema;
    use crate::search::mapping::Templates;
    use serde_json::json;
    use sluice_ports::IndexTemplate;

    fn read(source: &str) -> Result<Prepared, String> {
        let mappings = json!({"properties": {
            "status": {"type": "long"}, "price": {"type": "double"}, "ok": {"type": "boolean"}, "time": {"type": "date"},
            "type": {"type": "keyword"}, "title": {"type": "text"}, "ip": {"type": "ip"}, "extra": {"type": "flat_object"},
            "data": {"properties": {"url": {"type": "keyword"}, "tag": {"type": "keyword"}}},
        }});
        let template = IndexTemplate { name: "t".to_owned(), pattern: "i".to_owned(), mappings };
        let templates = Templates::default().with(vec![template]).unwrap().unwrap();
        let document = Document { index: "i".to_owned(), id: "1".to_owned(), source: source.to_owned() };
        Prepared::read(document, schema().1, templates.root("i").as_deref(), &|path| !path.starts_with("many"))
    }

    fn pairs(leaves: &[(Path, Leaf)]) -> Vec<(String, Leaf)> {
        leaves.iter().map(|(path, leaf)| (path.to_string(), leaf.clone())).collect()
    }

    fn text(path: &str, text: &str) -> (String, Leaf) {
        (path.to_owned(), Leaf::Text(text.to_owned()))
    }

    #[test]
    fn fields_are_read_by_their_mapping() {
        let read = read(
            r#"{"status": "404", "price": 1, "ok": "true", "time": "2026-11-02T03:04:05.678901Z", "type": 7, "title": "Hi",
                "ip": "::ffff:10.0.0.1", "data": {"url": "/a"}, "data.tag": ["x", null, "y"]}"#,
        )
        .unwrap();
        assert_eq!(
            pairs(&read.leaves.keyword),
            [
                ("ok".to_owned(), Leaf::Bool(true)),
                text("type", "7"),
                text("ip", "10.0.0.1"),
                text("data.url", "/a"),
                text("data.tag", "x"),
                text("data.tag", "y"),
            ]
        );
        assert_eq!(
            pairs(&read.leaves.number),
            [
                ("status".to_owned(), Leaf::Integer(404)),
                ("price".to_owned(), Leaf::Float(1.0)),
                ("time".to_owned(), Leaf::DateMs(1_793_588_645_678)),
            ]
        );
        assert_eq!(pairs(&read.leaves.text), [text("title", "Hi")]);
    }

    #[test]
    fn fields_without_a_mapping_go_by_their_json_type() {
        let read = read(r#"{"a": {"b": "x", "c": 1.5}, "d": true, "e": 18446744073709551615, "many": {"keys": "v"}}"#)
            .unwrap();
        assert_eq!(pairs(&read.leaves.keyword), [text("a.b", "x"), ("d".to_owned(), Leaf::Bool(true))]);
        assert_eq!(
            pairs(&read.leaves.number),
            [("a.c".to_owned(), Leaf::Float(1.5)), ("e".to_owned(), Leaf::Unsigned(u64::MAX))]
        );
        assert_eq!(pairs(&read.leaves.flat), [text("many.keys", "v")], "a path that was not admitted has no column");
    }

    #[test]
    fn leaves_of_flat_objects_are_found_by_path_and_by_object() {
        for source in [r#"{"extra": {"a": {"b": 1}}}"#, r#"{"extra": {"a.b": 1}}"#, r#"{"extra.a.b": 1}"#] {
            let read = read(source).unwrap();
            assert_eq!(pairs(&read.leaves.flat), [text("extra", "1"), text("extra.a.b", "1")], "{source}");
        }
    }

    #[test]
    fn values_that_do_not_fit_their_mapping_are_rejected_with_the_path() {
        for (source, why) in [
            (r#"{"status": "abc"}"#, "failed to parse field `status`: it is not a number"),
            (r#"{"status": 1e30}"#, "failed to parse field `status`: it is beyond 64 bits"),
            (r#"{"price": "NaN"}"#, "failed to parse field `price`: it is not a finite number"),
            (r#"{"time": "soon"}"#, "failed to parse field `time`: it is not a date"),
            (r#"{"ok": 1}"#, "failed to parse field `ok`: it takes `true` or `false`"),
            (r#"{"ip": "1.2.3"}"#, "failed to parse field `ip`: it is not an IP address"),
            (r#"{"type": {"a": 1}}"#, "failed to parse field `type`: it does not take an object"),
            (r#"{"type.a": 1}"#, "failed to parse field `type`: it does not take an object"),
            (r#"{"data": 1}"#, "failed to parse field `data`: it takes an object"),
            (r#"{"data": {"url": {}}}"#, "failed to parse field `data.url`: it does not take an object"),
        ] {
            assert_eq!(read(source).unwrap_err(), why, "{source}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_rejected() {
        for source in ["", "[]", "1", "{", r#"{"a": }"#, r#"{} {}"#, "null"] {
            let why = read(source).unwrap_err();
            assert!(why.starts_with("the source is not a JSON object"), "{source}: {why}");
        }
    }

    #[test]
    fn deep_nesting_is_rejected_without_harm() {
        let source = format!("{}{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
        assert!(read(&source).is_err());
    }
}
