use super::lock;
use async_trait::async_trait;
use sluice_ports::{Append, Catalog, ErrorKind, Forget, PortError, Replace, TableFigures, TableFile, TableHead};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Tables in memory. Any name may become a table. Files that were replaced are needed until they are forgotten.
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
    files: Vec<TableFile>,
    /// Keys of files that only states before this one have.
    past: BTreeSet<String>,
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
    pub fn live(&self, table: &str) -> Vec<TableFile> {
        lock(&self.0).by_name.get(table).map(|stored| stored.files.clone()).unwrap_or_default()
    }

    /// What another engine does to a table: `change` the files, which is a new state. Properties stay as they are.
    pub fn rewrite(&self, table: &str, change: impl FnOnce(Vec<TableFile>) -> Vec<TableFile>) {
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

    /// A table that is in this state, and what its next one is called.
    fn change(&mut self, operation: &'static str, table: &str, state: &str) -> Result<(u64, &mut Stored), PortError> {
        let token = self.next();
        let Some(stored) = self.by_name.get_mut(table) else {
            return Err(PortError::new(ErrorKind::NotFound, operation, format!("there is no table `{table}`")));
        };
        if state != stored.token.to_string() {
            let what = format!("`{table}` is in another state than `{state}`");
            return Err(PortError::new(ErrorKind::Conflict, operation, what));
        }
        Ok((token, stored))
    }
}

impl Stored {
    fn head(&self) -> TableHead {
        TableHead { token: self.token.to_string(), properties: self.properties.clone() }
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn load(&self, table: &str) -> Result<Option<TableHead>, PortError> {
        let tables = lock(&self.0);
        Ok(tables.by_name.get(table).map(Stored::head))
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
        let (token, stored) = tables.change("catalog.append", &append.table, &append.token)?;
        stored.token = token;
        stored.properties.extend([append.property]);
        stored.files.extend(append.files);
        Ok(())
    }

    async fn files(&self, table: &str) -> Result<Option<(TableHead, Vec<TableFile>)>, PortError> {
        Ok(lock(&self.0).by_name.get(table).map(|stored| (stored.head(), stored.files.clone())))
    }

    async fn replace(&self, replace: Replace) -> Result<(), PortError> {
        let mut tables = lock(&self.0);
        let (token, stored) = tables.change("catalog.replace", &replace.table, &replace.token)?;
        if let Some(unknown) = replace.removed.iter().find(|key| stored.files.iter().all(|file| file.key != **key)) {
            let what = format!("`{}` has no file `{unknown}`", replace.table);
            return Err(PortError::new(ErrorKind::Invalid, "catalog.replace", what));
        }
        stored.token = token;
        stored.properties.extend(replace.properties);
        stored.past.extend(replace.removed.iter().cloned());
        stored.files.retain(|file| !replace.removed.contains(&file.key));
        stored.files.extend(replace.added);
        Ok(())
    }

    async fn needed(&self, table: &str) -> Result<Option<BTreeSet<String>>, PortError> {
        let keys = |stored: &Stored| {
            let live = stored.files.iter().map(|file| &file.key);
            live.chain(&stored.past).cloned().collect()
        };
        Ok(lock(&self.0).by_name.get(table).map(keys))
    }

    async fn forget(&self, forget: Forget) -> Result<(), PortError> {
        let mut tables = lock(&self.0);
        let (token, stored) = tables.change("catalog.forget", &forget.table, &forget.token)?;
        if let Some(live) = stored.files.iter().find(|file| forget.files.contains(&file.key)) {
            let what = format!("`{}` has the file `{}`", forget.table, live.key);
            return Err(PortError::new(ErrorKind::Invalid, "catalog.forget", what));
        }
        let before = stored.past.len();
        stored.past.retain(|key| !forget.files.contains(key));
        if stored.past.len() < before {
            stored.token = token;
        }
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
