//! Items as attributes and back.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Value};
use sluice_ports::{Item, Key};
use std::collections::HashMap;

pub(super) const PARTITION: &str = "pk";
pub(super) const SORT: &str = "sk";
pub(super) const VALUE: &str = "v";
pub(super) const VERSION: &str = "n";
/// Token of the last lone put.
pub(super) const WRITER: &str = "w";
pub(super) const EXPIRES_AT: &str = "expires_at";

pub(super) type Attributes = HashMap<String, AttributeValue>;

/// The key alone.
pub(super) fn key(key: &Key) -> Attributes {
    HashMap::from([
        (PARTITION.to_owned(), AttributeValue::S(key.partition.clone())),
        (SORT.to_owned(), AttributeValue::S(key.sort.clone())),
    ])
}

/// A number attribute.
pub(super) fn number(n: impl ToString) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

/// The fields of a JSON object as a map attribute: a field that is a 64-bit integer is a number, which can be added to; every other is
/// its JSON text, so that it comes back as it was (the service knows neither 64-bit floats nor the difference of 1 and 1.0).
pub(super) fn encode(fields: &Map<String, Value>) -> AttributeValue {
    let attribute = |value: &Value| match value.as_i64() {
        Some(n) => number(n),
        None => AttributeValue::S(value.to_string()),
    };
    AttributeValue::M(fields.iter().map(|(name, value)| (name.clone(), attribute(value))).collect())
}

/// An item as it was read, or what is wrong with it.
pub(super) fn decode(mut item: Attributes) -> Result<Item, String> {
    let mut text = |name: &str| match item.remove(name) {
        Some(AttributeValue::S(text)) => Ok(text),
        _ => Err(format!("an item has no text in `{name}`")),
    };
    let key = Key { partition: text(PARTITION)?, sort: text(SORT)? };
    let at = |name: &str| format!("item `{}`/`{}`: `{name}` cannot be read", key.partition, key.sort);
    let Some(AttributeValue::M(fields)) = item.remove(VALUE) else { return Err(at(VALUE)) };
    let mut value = Map::new();
    // Fields in one order, whatever order they came in.
    let mut fields: Vec<(String, AttributeValue)> = fields.into_iter().collect();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, attribute) in fields {
        let decoded = match attribute {
            AttributeValue::N(n) => n.parse::<i64>().ok().map(Value::from),
            AttributeValue::S(text) => serde_json::from_str(&text).ok(),
            _ => None,
        };
        let decoded = decoded.ok_or_else(|| at(&name))?;
        value.insert(name, decoded);
    }
    let version = match item.remove(VERSION) {
        Some(AttributeValue::N(n)) => n.parse().map_err(|_| at(VERSION))?,
        _ => return Err(at(VERSION)),
    };
    let expires_at = match item.remove(EXPIRES_AT) {
        None => None,
        Some(AttributeValue::N(n)) => Some(n.parse().map_err(|_| at(EXPIRES_AT))?),
        Some(_) => return Err(at(EXPIRES_AT)),
    };
    Ok(Item { key, value: Value::Object(value), version, expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stored(value: &Value) -> Attributes {
        let mut item = key(&Key::new("p", "s"));
        item.insert(VALUE.into(), encode(value.as_object().unwrap()));
        item.insert(VERSION.into(), number(3));
        item
    }

    #[test]
    fn a_value_comes_back_as_it_was() {
        let value = json!({"n": i64::MIN, "u": u64::MAX, "one": 1.0, "tenth": 0.1, "huge": 1e300, "text": "5", "nothing": null, "list": [1, {"a": 2}]});
        let item = decode(stored(&value)).unwrap();
        assert_eq!(item, Item { key: Key::new("p", "s"), value, version: 3, expires_at: None });
        assert!(item.value["one"].is_f64(), "a float stays one");
    }

    #[test]
    fn only_integers_are_numbers() {
        let AttributeValue::M(fields) = encode(json!({"n": 5, "text": "5", "half": 0.5}).as_object().unwrap()) else {
            panic!("no map")
        };
        assert_eq!(fields["n"], AttributeValue::N("5".into()));
        assert_eq!(fields["text"], AttributeValue::S("\"5\"".into()));
        assert_eq!(fields["half"], AttributeValue::S("0.5".into()));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut item = stored(&json!({}));
        item.insert(VALUE.into(), AttributeValue::S("x".into()));
        assert_eq!(decode(item).unwrap_err(), "item `p`/`s`: `v` cannot be read");
        assert!(decode(HashMap::new()).is_err());
    }
}
