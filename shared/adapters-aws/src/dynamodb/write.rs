//! Writes as items of a transaction.

use super::WRITE;
use super::item::{EXPIRES_AT, PARTITION, VALUE, VERSION, WRITER, encode, key as key_of, number};
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, Delete, TransactWriteItem, Update};
use serde_json::{Map, Value};
use sluice_ports::{Condition, ErrorKind, Item, Key, PortError, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Most writes of a transaction.
const MAX_WRITES: usize = 100;
/// Most bytes of an item, its names and its key included.
const ITEM_BYTES: usize = 400 * 1_024;
/// Most bytes of all items of a transaction.
const TRANSACTION_BYTES: usize = 4 * 1_024 * 1_024;

/// What an addition finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddTo {
    /// An item with a value.
    Existing,
    /// No item.
    New,
}

/// The key that a write is for.
pub(super) fn key(write: &Write) -> &Key {
    let (Write::Put { key, .. } | Write::Delete { key, .. } | Write::Add { key, .. } | Write::Check { key, .. }) =
        write;
    key
}

/// A check of nothing, which the service does not take and which always holds.
pub(super) fn is_nothing(write: &Write) -> bool {
    matches!(write, Write::Check { condition: Condition::Any, .. })
}

/// Refuses what the service would refuse, and values that are no objects.
pub(super) fn check(writes: &[Write]) -> Result<(), PortError> {
    let invalid = |detail| Err(PortError::new(ErrorKind::Invalid, WRITE, detail));
    if writes.len() > MAX_WRITES {
        return invalid(format!("{} writes in one transaction; it takes {MAX_WRITES}", writes.len()));
    }
    let (mut keys, mut all_bytes) = (BTreeSet::new(), 0);
    for write in writes {
        let key = key(write);
        check_key(WRITE, key)?;
        if !keys.insert(key) {
            return invalid(format!("`{}`/`{}` is written twice in one transaction", key.partition, key.sort));
        }
        let Write::Put { value, .. } = write else { continue };
        let Value::Object(fields) = value else {
            return invalid(format!("the value of `{}`/`{}` is not a JSON object", key.partition, key.sort));
        };
        let bytes = size(key, fields);
        all_bytes += bytes;
        if bytes > ITEM_BYTES {
            let detail =
                format!("the item `{}`/`{}` has {bytes} bytes; it takes {ITEM_BYTES}", key.partition, key.sort);
            return Err(PortError::new(ErrorKind::TooLarge, WRITE, detail));
        }
    }
    if all_bytes > TRANSACTION_BYTES {
        let detail = format!("a transaction of {all_bytes} bytes; it takes {TRANSACTION_BYTES}");
        return Err(PortError::new(ErrorKind::TooLarge, WRITE, detail));
    }
    Ok(())
}

/// Refuses a key that the service refuses.
pub(super) fn check_key(operation: &'static str, key: &Key) -> Result<(), PortError> {
    for (part, text, max) in [("partition", &key.partition, 2_048), ("sort", &key.sort, 1_024)] {
        if text.is_empty() || text.len() > max {
            let detail = format!("the {part} key has {} bytes; it takes 1 to {max}", text.len());
            return Err(PortError::new(ErrorKind::Invalid, operation, detail));
        }
    }
    Ok(())
}

/// About the bytes of an item as the service counts them ("DynamoDB item sizes and formats"): names, texts, three bytes and one per
/// entry for a map, up to 21 for a number.
fn size(key: &Key, fields: &Map<String, Value>) -> usize {
    const FIXED: usize = 2 + 2 + 1 + 1 + 10 + 3 + 21 + 21;
    let field =
        |(name, value): (&String, &Value)| 1 + name.len() + if value.is_i64() { 21 } else { value.to_string().len() };
    FIXED + key.partition.len() + key.sort.len() + fields.iter().map(field).sum::<usize>()
}

/// A write as an item of a transaction; `None` for a check of nothing.
pub(super) fn item(table: &str, write: &Write, to: AddTo) -> Result<Option<TransactWriteItem>, BuildError> {
    let item = TransactWriteItem::builder();
    Ok(Some(
        match write {
            Write::Put { key, value, condition, expires_at } => {
                item.update(put(table, key, value, *condition, *expires_at, None)?)
            }
            Write::Delete { key, condition } => {
                let mut delete = Delete::builder().table_name(table).set_key(Some(key_of(key)));
                if let Some((expression, name, value)) = expression(*condition) {
                    delete = delete.condition_expression(expression).expression_attribute_names("#c", name);
                    if let Some(value) = value {
                        delete = delete.expression_attribute_values(":c", value);
                    }
                }
                item.delete(delete.build()?)
            }
            Write::Add { key, deltas, expires_at } => item.update(add(table, key, deltas, *expires_at, to)?),
            Write::Check { key, condition } => {
                let Some((expression, name, value)) = expression(*condition) else { return Ok(None) };
                let mut check = ConditionCheck::builder()
                    .table_name(table)
                    .set_key(Some(key_of(key)))
                    .condition_expression(expression)
                    .expression_attribute_names("#c", name);
                if let Some(value) = value {
                    check = check.expression_attribute_values(":c", value);
                }
                item.condition_check(check.build()?)
            }
        }
        .build(),
    ))
}

/// A lone write as an update that leaves this token in the item; `None` for what cannot be told from somebody else's by a token in the item:
/// a put without a condition, which would overwrite what came after it when it is repeated, and everything that is no put.
pub(super) fn alone(table: &str, write: &Write, token: &str) -> Result<Option<Update>, BuildError> {
    match write {
        Write::Put { condition: Condition::Any, .. }
        | Write::Delete { .. }
        | Write::Add { .. }
        | Write::Check { .. } => Ok(None),
        Write::Put { key, value, condition, expires_at } => {
            put(table, key, value, *condition, *expires_at, Some(token)).map(Some)
        }
    }
}

/// A condition as an expression over the attribute `#c` and, where it has one, the value `:c`.
fn expression(condition: Condition) -> Option<(&'static str, &'static str, Option<AttributeValue>)> {
    match condition {
        Condition::Any => None,
        Condition::Absent => Some(("attribute_not_exists(#c)", PARTITION, None)),
        Condition::Version(version) => Some(("#c = :c", VERSION, Some(number(version)))),
    }
}

fn put(
    table: &str,
    key: &Key,
    value: &Value,
    condition: Condition,
    expires_at: Option<i64>,
    token: Option<&str>,
) -> Result<Update, BuildError> {
    let empty = Map::new();
    let mut set = "SET #v = :v, #n = if_not_exists(#n, :zero) + :one".to_owned();
    let mut update = update(table, key)
        .expression_attribute_names("#e", EXPIRES_AT)
        .expression_attribute_values(":v", encode(value.as_object().unwrap_or(&empty)))
        .expression_attribute_values(":zero", number(0));
    if let Some(token) = token {
        set.push_str(", #w = :w");
        let token = AttributeValue::S(token.to_owned());
        update = update.expression_attribute_names("#w", WRITER).expression_attribute_values(":w", token);
    }
    match expires_at {
        Some(at) => {
            set.push_str(", #e = :e");
            update = update.expression_attribute_values(":e", number(at));
        }
        None => set.push_str(" REMOVE #e"),
    }
    if let Some((expression, name, value)) = expression(condition) {
        update = update.condition_expression(expression).expression_attribute_names("#c", name);
        if let Some(value) = value {
            update = update.expression_attribute_values(":c", value);
        }
    }
    update.update_expression(set).build()
}

/// An update that sets the version.
fn update(table: &str, key: &Key) -> UpdateBuilder {
    Update::builder()
        .table_name(table)
        .set_key(Some(key_of(key)))
        .expression_attribute_names("#v", VALUE)
        .expression_attribute_names("#n", VERSION)
        .expression_attribute_values(":one", number(1))
}

/// An addition. Fields inside a map can only be set where there is a map, and a sum must stay in 64 bits; both are conditions, so that
/// nothing is written where they do not hold.
fn add(
    table: &str,
    key: &Key,
    deltas: &[(String, i64)],
    expires_at: Option<i64>,
    to: AddTo,
) -> Result<Update, BuildError> {
    let sums = sums(deltas);
    let mut update = update(table, key);
    let (mut set, mut condition): (String, String);
    match to {
        AddTo::New => {
            set = "SET #v = :v, #n = :one".to_owned();
            condition = "attribute_not_exists(#v)".to_owned();
            let fields = sums.into_iter().map(|(field, by)| (field.to_owned(), number(by))).collect();
            update = update.expression_attribute_values(":v", AttributeValue::M(fields));
        }
        AddTo::Existing => {
            set = "SET #n = #n + :one".to_owned();
            condition = "attribute_exists(#v)".to_owned();
            for (i, (field, by)) in sums.into_iter().enumerate() {
                let _ = write!(set, ", #v.#f{i} = if_not_exists(#v.#f{i}, :zero) + :d{i}");
                let _ =
                    write!(condition, " AND (attribute_not_exists(#v.#f{i}) OR #v.#f{i} BETWEEN :lo{i} AND :hi{i})");
                let clamped = |bound: i64| bound.saturating_sub(by);
                let (low, high) = if by < 0 { (clamped(i64::MIN), i64::MAX) } else { (i64::MIN, clamped(i64::MAX)) };
                update = update
                    .expression_attribute_names(format!("#f{i}"), field)
                    .expression_attribute_values(format!(":d{i}"), number(by))
                    .expression_attribute_values(format!(":lo{i}"), number(low))
                    .expression_attribute_values(format!(":hi{i}"), number(high))
                    .expression_attribute_values(":zero", number(0));
            }
        }
    }
    if let Some(at) = expires_at {
        set.push_str(", #e = :e");
        update = update.expression_attribute_names("#e", EXPIRES_AT).expression_attribute_values(":e", number(at));
    }
    update.update_expression(set).condition_expression(condition).build()
}

/// What is added to each field.
fn sums(deltas: &[(String, i64)]) -> BTreeMap<&str, i64> {
    let mut sums = BTreeMap::new();
    for (field, by) in deltas {
        let sum: &mut i64 = sums.entry(field.as_str()).or_default();
        *sum = sum.saturating_add(*by);
    }
    sums
}

/// Why an addition to this item never succeeds, if so.
pub(super) fn cannot_add(write: &Write, item: &Item) -> Option<PortError> {
    let Write::Add { key, deltas, .. } = write else { return None };
    sums(deltas).into_iter().find_map(|(field, by)| {
        let fits = item.value.get(field).is_none_or(|value| value.as_i64().and_then(|n| n.checked_add(by)).is_some());
        let detail =
            format!("`{field}` of `{}`/`{}` is no integer, or the sum leaves 64 bits", key.partition, key.sort);
        (!fits).then(|| PortError::new(ErrorKind::Invalid, WRITE, detail))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_transaction_has_a_bound_of_its_own() {
        let put = |n: usize| Write::Put {
            key: Key::new("p", n.to_string()),
            value: json!({"x": "x".repeat(390_000)}),
            condition: Condition::Any,
            expires_at: None,
        };
        assert!(check(&(0..10).map(put).collect::<Vec<_>>()).is_ok());
        let error = check(&(0..11).map(put).collect::<Vec<_>>()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
    }

    #[test]
    fn an_addition_is_possible_to_integers_within_64_bits_only() {
        let add = |field: &str, by| Write::Add {
            key: Key::new("p", "s"),
            deltas: vec![(field.into(), by)],
            expires_at: None,
        };
        let value = json!({"n": 5, "text": "5", "half": 0.5, "max": i64::MAX});
        let item = Item { key: Key::new("p", "s"), value, version: 1, expires_at: None };
        for (field, by, possible) in [
            ("n", 1, true),
            ("new", 1, true),
            ("text", 1, false),
            ("half", 1, false),
            ("max", 1, false),
            ("max", -1, true),
        ] {
            assert_eq!(cannot_add(&add(field, by), &item).is_none(), possible, "{field} {by}");
        }
    }
}
