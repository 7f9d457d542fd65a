//! What happens to table items inside the writer's transaction.

use super::failure::Failure;
use super::messages::LOGGED_BYTES_PER_CHANGE;
use super::writer::Store;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};
use sluice_ports::{Condition, ErrorKind, Item, Key, Query, Tally, Write};
use std::collections::BTreeMap;

/// DynamoDB takes 400 KB in an item.
const MAX_VALUE_BYTES: usize = 400 * 1_024;
/// How many expired items a sweep removes at a time.
const SWEEP_LIMIT: usize = 200;

/// Does one write of a transaction; the savepoint around it undoes those before it if it fails.
pub(super) fn write(store: &mut Store, write: Write) -> Result<(), Failure> {
    match write {
        Write::Check { key, condition } => hold(&store.conn, &key, condition).map(|_| ()),
        Write::Delete { key, condition } => {
            if hold(&store.conn, &key, condition)?.is_some() {
                let mut delete = store.conn.prepare_cached("DELETE FROM item WHERE partition = ?1 AND sort = ?2")?;
                delete.execute([&key.partition, &key.sort])?;
                store.logged_bytes += LOGGED_BYTES_PER_CHANGE;
            }
            Ok(())
        }
        Write::Put { key, value, condition, expires_at } => {
            let version = hold(&store.conn, &key, condition)?.unwrap_or(0) + 1;
            put(store, &key, &value, version, expires_at)
        }
        Write::Add { key, deltas, expires_at } => add(store, &key, &deltas, expires_at),
    }
}

/// Adds the tallies of a message to their counters: all or none.
pub(super) fn tally(store: &mut Store, tallies: &[Tally]) -> Result<(), Failure> {
    let mut counters: BTreeMap<&str, Vec<(String, i64)>> = BTreeMap::new();
    for tally in tallies {
        counters.entry(&tally.counter).or_default().push((tally.field.clone(), tally.by));
    }
    let mut sums = Vec::new();
    for (counter, deltas) in counters {
        let key = Key::new("counter", counter);
        check_key(&key)?;
        sums.push((summed(&store.conn, &key, &deltas)?, key));
    }
    for (sum, key) in sums {
        put(store, &key, &sum.value, sum.version, sum.expires_at)?;
    }
    Ok(())
}

fn add(store: &mut Store, key: &Key, deltas: &[(String, i64)], expires_at: Option<i64>) -> Result<(), Failure> {
    let sum = summed(&store.conn, key, deltas)?;
    put(store, key, &sum.value, sum.version, expires_at.or(sum.expires_at))
}

struct Sum {
    value: Value,
    version: u64,
    expires_at: Option<i64>,
}

fn summed(conn: &Connection, key: &Key, deltas: &[(String, i64)]) -> Result<Sum, Failure> {
    let old = get(conn, key)?;
    let version = old.as_ref().map_or(0, |item| item.version) + 1;
    let expires_at = old.as_ref().and_then(|item| item.expires_at);
    let mut fields = match old.map(|item| item.value) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    for (field, by) in deltas {
        let from = fields.get(field).map_or(Some(0), Value::as_i64);
        let Some(sum) = from.and_then(|from| from.checked_add(*by)) else {
            let what =
                format!("`{field}` of `{}`/`{}` is no integer, or the sum leaves 64 bits", key.partition, key.sort);
            return Err(Failure::new(ErrorKind::Invalid, what));
        };
        fields.insert(field.clone(), sum.into());
    }
    Ok(Sum { value: Value::Object(fields), version, expires_at })
}

/// The version under the key, if the condition holds.
fn hold(conn: &Connection, key: &Key, condition: Condition) -> Result<Option<u64>, Failure> {
    let mut select = conn.prepare_cached("SELECT version FROM item WHERE partition = ?1 AND sort = ?2")?;
    let found: Option<u64> = select.query_row([&key.partition, &key.sort], |row| row.get(0)).optional()?;
    let holds = match condition {
        Condition::Any => true,
        Condition::Absent => found.is_none(),
        Condition::Version(version) => found == Some(version),
    };
    if holds {
        return Ok(found);
    }
    let what = format!("`{}`/`{}` does not meet {condition:?}", key.partition, key.sort);
    Err(Failure::new(ErrorKind::Conflict, what))
}

fn put(store: &mut Store, key: &Key, value: &Value, version: u64, expires_at: Option<i64>) -> Result<(), Failure> {
    if !value.is_object() {
        let what = format!("the value of `{}`/`{}` is not a JSON object", key.partition, key.sort);
        return Err(Failure::new(ErrorKind::Invalid, what));
    }
    let text = serde_json::to_string(value)?;
    if text.len() > MAX_VALUE_BYTES {
        let what = format!(
            "the value of `{}`/`{}` has {} bytes; it takes {MAX_VALUE_BYTES}",
            key.partition,
            key.sort,
            text.len()
        );
        return Err(Failure::new(ErrorKind::TooLarge, what));
    }
    store.logged_bytes += LOGGED_BYTES_PER_CHANGE + text.len() as u64;
    store
        .conn
        .prepare_cached(
            "INSERT INTO item (partition, sort, value, version, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET value = ?3, version = ?4, expires_at = ?5",
        )?
        .execute(params![key.partition, key.sort, text, version, expires_at])?;
    Ok(())
}

/// Refuses keys that DynamoDB refuses.
pub(super) fn check_key(key: &Key) -> Result<(), Failure> {
    for (part, text, max) in [("partition", &key.partition, 2_048), ("sort", &key.sort, 1_024)] {
        if text.is_empty() || text.len() > max {
            let what = format!("the {part} key has {} bytes; it takes 1 to {max}", text.len());
            return Err(Failure::new(ErrorKind::Invalid, what));
        }
    }
    Ok(())
}

pub(super) fn get(conn: &Connection, key: &Key) -> Result<Option<Item>, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT partition, sort, value, version, expires_at FROM item WHERE partition = ?1 AND sort = ?2",
    )?;
    let mut found = select.query([&key.partition, &key.sort])?;
    found.next()?.map(item).transpose()
}

pub(super) fn query(conn: &Connection, query: &Query) -> Result<Vec<Item>, Failure> {
    // No UTF-8 text has the byte 0xFF, so this is beyond everything with the prefix.
    let mut beyond = query.prefix.clone().into_bytes();
    beyond.push(0xff);
    let sql = if query.descending {
        "SELECT partition, sort, value, version, expires_at FROM item
         WHERE partition = ?1 AND sort >= ?2 AND sort < CAST(?3 AS TEXT) AND (?4 IS NULL OR sort < ?4)
         ORDER BY sort DESC LIMIT ?5"
    } else {
        "SELECT partition, sort, value, version, expires_at FROM item
         WHERE partition = ?1 AND sort >= max(?2, coalesce(?4, '')) AND sort < CAST(?3 AS TEXT) AND (?4 IS NULL OR sort > ?4)
         ORDER BY sort LIMIT ?5"
    };
    let mut select = conn.prepare_cached(sql)?;
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let mut found = select.query(params![query.partition, query.prefix, beyond, query.after, limit])?;
    let mut items = Vec::new();
    while let Some(row) = found.next()? {
        items.push(item(row)?);
    }
    Ok(items)
}

fn item(row: &Row<'_>) -> Result<Item, Failure> {
    Ok(Item {
        key: Key { partition: row.get(0)?, sort: row.get(1)? },
        value: serde_json::from_str(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?,
        version: row.get(3)?,
        expires_at: row.get(4)?,
    })
}

/// Removes some items whose time is over; whether there may be more.
pub(super) fn expire(store: &mut Store) -> Result<bool, Failure> {
    let now_s = store.now_ms() / 1_000;
    let mut select = store
        .conn
        .prepare_cached("SELECT partition, sort FROM item WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2")?;
    let expired = select.query_map(params![now_s, SWEEP_LIMIT], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let expired: Vec<(String, String)> = expired.collect::<Result<_, _>>()?;
    for (partition, sort) in &expired {
        let mut delete = store.conn.prepare_cached("DELETE FROM item WHERE partition = ?1 AND sort = ?2")?;
        delete.execute([partition, sort])?;
        store.logged_bytes += LOGGED_BYTES_PER_CHANGE;
    }
    Ok(expired.len() == SWEEP_LIMIT)
}
