use super::lock;
use async_trait::async_trait;
use sluice_ports::{Append, Catalog, ErrorKind, NewFile, PortError, TableFigures, TableHead};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Tables in memory. Any name may become a table.
#[derive(Debug, Default)]
pub struct MemoryCatalog(Mutex<Tables>);

#[derive(Debug, Clone, Default)]
struct Tables {
    /// Changes of all tables so far.
    changes: u64,
    by_name: BTreeMap<String, Stored>,
}

#[derive(Debug, Clone, Default)]
struct Stored {
    /// The number of the change that made it what it is.
    token: u64,
    properties: BTreeMap<String, String>,
    files: Vec<NewFile>,
}

impl Clone for MemoryCatalog {
    /// Another one that holds the same.
    fn clone(&self) -> Self {
        Self(Mutex::new(lock(&self.0).clone()))
    }
}

impl MemoryCatalog {
    /// No tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tables by name.
    pub fn tables(&self) -> Vec<String> {
        lock(&self.0).by_name.keys().cloned().collect()
    }

    /// The files of a table as it stands.
    pub fn files(&self, table: &str) -> Vec<NewFile> {
        lock(&self.0).by_name.get(table).map(|stored| stored.files.clone()).unwrap_or_default()
    }

    /// What another engine does to a table: `change` the files, which is a new state. Properties stay as they are.
    pub fn rewrite(&self, table: &str, change: impl FnOnce(Vec<NewFile>) -> Vec<NewFile>) {
        let mut tables = lock(&self.0);
        let token = tables.next();
        if let Some(stored) = tables.by_name.get_mut(table) {
            stored.token = token;
            stored.files = change(std::mem::take(&mut stored.files));
        }
    }

    /// Takes a table away, as nobody should.
    pub fn drop_table(&self, table: &str) {
        lock(&self.0).by_name.remove(table);
    }
}

impl Tables {
    fn next(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn load(&self, table: &str) -> Result<Option<TableHead>, PortError> {
        let tables = lock(&self.0);
        let head =
            |stored: &Stored| TableHead { token: stored.token.to_string(), properties: stored.properties.clone() };
        Ok(tables.by_name.get(table).map(head))
    }

    async fn create(&self, table: &str) -> Result<(), PortError> {
        let mut tables = lock(&self.0);
        if tables.by_name.contains_key(table) {
            return Err(PortError::new(ErrorKind::Conflict, "catalog.create", format!("there is a table `{table}`")));
        }
        let token = tables.next();
        tables.by_name.insert(table.to_owned(), Stored { token, ..Stored::default() });
        Ok(())
    }

    async fn append(&self, append: Append) -> Result<(), PortError> {
        let mut tables = lock(&self.0);
        let token = tables.next();
        let Some(stored) = tables.by_name.get_mut(&append.table) else {
            let what = format!("there is no table `{}`", append.table);
            return Err(PortError::new(ErrorKind::NotFound, "catalog.append", what));
        };
        if append.token != stored.token.to_string() {
            let what = format!("`{}` is in another state than `{}`", append.table, append.token);
            return Err(PortError::new(ErrorKind::Conflict, "catalog.append", what));
        }
        stored.token = token;
        stored.properties.extend([append.property]);
        stored.files.extend(append.files);
        Ok(())
    }

    async fn figures(&self) -> Result<Vec<TableFigures>, PortError> {
        let figures = |(name, stored): (&String, &Stored)| TableFigures {
            name: name.clone(),
            rows: stored.files.iter().map(|file| file.rows).sum(),
            size_bytes: stored.files.iter().map(|file| file.size_bytes).sum(),
            files: stored.files.len() as u64,
            snapshots: 1,
            changed_ms: stored.token.cast_signed(),
        };
        Ok(lock(&self.0).by_name.iter().map(figures).collect())
    }
}
