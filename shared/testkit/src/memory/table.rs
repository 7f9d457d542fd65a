use super::lock;
use async_trait::async_trait;
use serde_json::{Map, Value};
use sluice_ports::{Condition, ErrorKind, Item, Key, PortError, Query, Table, Tally, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// A table in memory. Expired items stay.
#[derive(Debug, Default)]
pub struct MemoryTable(Mutex<BTreeMap<Key, Item>>);

impl Clone for MemoryTable {
    /// Another one that holds the same.
    fn clone(&self) -> Self {
        Self(Mutex::new(lock(&self.0).clone()))
    }
}

impl MemoryTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// All items, sorted by key.
    pub fn items(&self) -> Vec<Item> {
        lock(&self.0).values().cloned().collect()
    }

    /// The value under a key, if there is one.
    pub fn value(&self, partition: &str, sort: &str) -> Option<Value> {
        lock(&self.0).get(&Key::new(partition, sort)).map(|item| item.value.clone())
    }

    pub(super) fn tally(&self, tallies: &[Tally]) -> Result<(), PortError> {
        let mut sums: BTreeMap<&str, Vec<(String, i64)>> = BTreeMap::new();
        for tally in tallies {
            sums.entry(&tally.counter).or_default().push((tally.field.clone(), tally.by));
        }
        let add = |(counter, deltas)| Write::Add { key: Key::new("counter", counter), deltas, expires_at: None };
        apply(&mut lock(&self.0), sums.into_iter().map(add).collect())
    }
}

#[async_trait]
impl Table for MemoryTable {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, PortError> {
        for key in keys {
            check("table.get", key)?;
        }
        let rows = lock(&self.0);
        Ok(keys.iter().map(|key| rows.get(key).cloned()).collect())
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), PortError> {
        if writes.len() > 100 {
            return Err(PortError::new(ErrorKind::Invalid, "table.write", "a transaction takes at most 100 writes"));
        }
        let mut keys = BTreeSet::new();
        for write in &writes {
            let key = key_of(write);
            check("table.write", key)?;
            if !keys.insert(key) {
                let what = format!("`{}`/`{}` is written twice in one transaction", key.partition, key.sort);
                return Err(PortError::new(ErrorKind::Invalid, "table.write", what));
            }
        }
        apply(&mut lock(&self.0), writes)
    }

    async fn query(&self, query: Query) -> Result<Vec<Item>, PortError> {
        let rows = lock(&self.0);
        let of_partition = rows.range(Key::new(&query.partition, &query.prefix)..).map(|(_, item)| item);
        let mut found: Vec<&Item> = of_partition
            .take_while(|item| item.key.partition == query.partition && item.key.sort.starts_with(&query.prefix))
            .collect();
        if query.descending {
            found.reverse();
        }
        let beyond = |sort: &String| match &query.after {
            Some(after) if query.descending => sort < after,
            Some(after) => sort > after,
            None => true,
        };
        Ok(found.into_iter().filter(|item| beyond(&item.key.sort)).take(query.limit).cloned().collect())
    }
}

fn key_of(write: &Write) -> &Key {
    match write {
        Write::Put { key, .. } | Write::Delete { key, .. } | Write::Add { key, .. } | Write::Check { key, .. } => key,
    }
}

fn check(operation: &'static str, key: &Key) -> Result<(), PortError> {
    for (part, text, max) in [("partition", &key.partition, 2_048), ("sort", &key.sort, 1_024)] {
        if text.is_empty() || text.len() > max {
            let what = format!("the {part} key has {} bytes; it takes 1 to {max}", text.len());
            return Err(PortError::new(ErrorKind::Invalid, operation, what));
        }
    }
    Ok(())
}

fn hold(rows: &BTreeMap<Key, Item>, key: &Key, condition: Condition) -> Result<(), PortError> {
    let found = rows.get(key).map(|item| item.version);
    let holds = match condition {
        Condition::Any => true,
        Condition::Absent => found.is_none(),
        Condition::Version(version) => found == Some(version),
    };
    if holds {
        return Ok(());
    }
    let what = format!("`{}`/`{}` does not meet {condition:?}", key.partition, key.sort);
    Err(PortError::new(ErrorKind::Conflict, "table.write", what))
}

/// All of the writes, each to another row, or none.
fn apply(rows: &mut BTreeMap<Key, Item>, writes: Vec<Write>) -> Result<(), PortError> {
    let mut changed: Vec<(Key, Option<Item>)> = Vec::with_capacity(writes.len());
    for write in writes {
        match write {
            Write::Check { key, condition } => hold(rows, &key, condition)?,
            Write::Delete { key, condition } => {
                hold(rows, &key, condition)?;
                changed.push((key, None));
            }
            Write::Put { key, value, condition, expires_at } => {
                hold(rows, &key, condition)?;
                changed.push((key.clone(), Some(next(rows, key, value, expires_at)?)));
            }
            Write::Add { key, deltas, expires_at } => {
                let old = rows.get(&key);
                let expires_at = expires_at.or(old.and_then(|item| item.expires_at));
                let mut fields = match old.map(|item| item.value.clone()) {
                    Some(Value::Object(fields)) => fields,
                    _ => Map::new(),
                };
                for (field, by) in deltas {
                    let from = fields.get(&field).map_or(Some(0), Value::as_i64);
                    let Some(sum) = from.and_then(|from| from.checked_add(by)) else {
                        let what = format!("`{field}` is no integer, or the sum leaves 64 bits");
                        return Err(PortError::new(ErrorKind::Invalid, "table.write", what));
                    };
                    fields.insert(field, sum.into());
                }
                changed.push((key.clone(), Some(next(rows, key, Value::Object(fields), expires_at)?)));
            }
        }
    }
    for (key, item) in changed {
        match item {
            Some(item) => _ = rows.insert(key, item),
            None => _ = rows.remove(&key),
        }
    }
    Ok(())
}

/// The item that stands under a key after a write.
fn next(rows: &BTreeMap<Key, Item>, key: Key, value: Value, expires_at: Option<i64>) -> Result<Item, PortError> {
    if !value.is_object() {
        return Err(PortError::new(ErrorKind::Invalid, "table.write", "the value is not a JSON object"));
    }
    if value.to_string().len() > 400 * 1_024 {
        return Err(PortError::new(ErrorKind::TooLarge, "table.write", "the value has more than 400 KiB"));
    }
    let version = rows.get(&key).map_or(1, |item| item.version + 1);
    Ok(Item { key, value, version, expires_at })
}
