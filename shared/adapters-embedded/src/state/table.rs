//! The table as the port has it.

use super::failure::Failure;
use super::rows;
use super::writer::{Shared, Store};
use async_trait::async_trait;
use rusqlite::Connection;
use sluice_ports::{ErrorKind, Item, Key, PortError, Query, Table, Write};
use std::collections::BTreeSet;
use std::sync::Arc;

/// DynamoDB takes 100 items in a transaction.
const MAX_WRITES: usize = 100;

pub(super) struct SqliteTable {
    shared: Arc<Shared>,
}

impl SqliteTable {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl Table for SqliteTable {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, PortError> {
        let keys = keys.to_vec();
        let get = move |conn: &Connection| {
            let get_one = |key: &Key| rows::check_key(key).and_then(|()| rows::get(conn, key));
            keys.iter().map(get_one).collect()
        };
        self.shared.read("table.get", get).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), PortError> {
        check(&writes).map_err(|failure| failure.in_operation("table.write"))?;
        let write = move |store: &mut Store| writes.into_iter().try_for_each(|write| rows::write(store, write));
        self.shared.submit("table.write", write).await
    }

    async fn query(&self, query: Query) -> Result<Vec<Item>, PortError> {
        self.shared.read("table.query", move |conn| rows::query(conn, &query)).await
    }
}

fn check(writes: &[Write]) -> Result<(), Failure> {
    if writes.len() > MAX_WRITES {
        let what = format!("{} writes in one transaction; it takes {MAX_WRITES}", writes.len());
        return Err(Failure::new(ErrorKind::Invalid, what));
    }
    let mut keys = BTreeSet::new();
    for write in writes {
        let (Write::Put { key, .. } | Write::Delete { key, .. } | Write::Add { key, .. } | Write::Check { key, .. }) =
            write;
        rows::check_key(key)?;
        if !keys.insert(key) {
            let what = format!("`{}`/`{}` is written twice in one transaction", key.partition, key.sort);
            return Err(Failure::new(ErrorKind::Invalid, what));
        }
    }
    Ok(())
}
