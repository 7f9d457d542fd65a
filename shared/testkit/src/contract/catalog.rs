//! What every [`Catalog`] must do.

use super::assert_kind;
use async_trait::async_trait;
use sluice_ports::{Append, Catalog, ErrorKind, NewFile, TableHead};
use std::sync::Arc;

/// What a suite needs beside the port: tables to fill, and a look into them that does not go by the port.
#[async_trait]
pub trait Lake: Send + Sync {
    /// Puts a data file for a table where the catalog finds it; `n` tells it from others.
    async fn file(&self, table: &str, n: usize) -> NewFile;

    /// Keys of the files that a reader of the table reads, sorted.
    async fn read(&self, table: &str) -> Vec<String>;
}

/// Runs every check. `tables` are four names that may become tables and are none yet, `unknown` one whose columns nobody knows, where there
/// is such.
pub async fn all(catalog: Arc<dyn Catalog>, lake: &dyn Lake, tables: [&str; 4], unknown: Option<&str>) {
    let [created, appended, raced, replayed] = tables;
    a_table_is_made_once(&*catalog, created, unknown).await;
    an_append_adds_files_and_sets_the_property(&*catalog, lake, appended).await;
    of_many_appends_on_one_state_one_wins(catalog.clone(), lake, raced).await;
    a_state_does_not_come_back(&*catalog, lake, replayed).await;
}

async fn head(catalog: &dyn Catalog, table: &str) -> TableHead {
    catalog.load(table).await.unwrap().expect("the table is there")
}

fn append(table: &str, token: &str, files: Vec<NewFile>, number: u64) -> Append {
    Append {
        table: table.to_owned(),
        token: token.to_owned(),
        files,
        property: ("contract.number".to_owned(), number.to_string()),
    }
}

async fn a_table_is_made_once(catalog: &dyn Catalog, table: &str, unknown: Option<&str>) {
    assert_eq!(catalog.load(table).await.unwrap(), None, "there is no table yet");
    let nowhere = catalog.append(append(table, "", vec![], 1)).await;
    assert_kind(nowhere, ErrorKind::NotFound, "nothing to append to");
    catalog.create(table).await.unwrap();
    assert_eq!(head(catalog, table).await, head(catalog, table).await, "reading changes nothing");
    assert_eq!(head(catalog, table).await.properties.get("contract.number"), None);
    assert_kind(catalog.create(table).await, ErrorKind::Conflict, "the table is there");
    if let Some(unknown) = unknown {
        assert_kind(catalog.create(unknown).await, ErrorKind::NotFound, "nobody knows its columns");
        assert_eq!(catalog.load(unknown).await.unwrap(), None);
    }
}

async fn an_append_adds_files_and_sets_the_property(catalog: &dyn Catalog, lake: &dyn Lake, table: &str) {
    catalog.create(table).await.unwrap();
    let (mut keys, mut rows): (Vec<String>, u64) = (Vec::new(), 0);
    for number in 1..=3_u64 {
        let before = head(catalog, table).await;
        let mut files = Vec::new();
        for n in 0..2 {
            files.push(lake.file(table, 2 * number as usize + n).await);
        }
        let appended: u64 = files.iter().map(|file| file.rows).sum();
        keys.extend(files.iter().map(|file| file.key.clone()));
        catalog.append(append(table, &before.token, files, number)).await.unwrap();
        let after = head(catalog, table).await;
        assert_ne!(after.token, before.token, "it is another state");
        assert_eq!(after.properties.get("contract.number"), Some(&number.to_string()));
        keys.sort();
        assert_eq!(lake.read(table).await, keys, "what was there stays, and what was appended is there once");
        let figures = catalog.figures().await.unwrap().into_iter().find(|figures| figures.name == table);
        let figures = figures.expect("the table is among all");
        rows += appended;
        assert_eq!((figures.files, figures.rows), (keys.len() as u64, rows), "the table in figures");
    }
}

async fn of_many_appends_on_one_state_one_wins(catalog: Arc<dyn Catalog>, lake: &dyn Lake, table: &str) {
    catalog.create(table).await.unwrap();
    let token = head(&*catalog, table).await.token;
    let mut appends = Vec::new();
    for n in 0..8 {
        appends.push((lake.file(table, n).await, append(table, &token, vec![], n as u64)));
    }
    let tasks: Vec<_> = appends
        .into_iter()
        .map(|(file, append)| {
            let catalog = catalog.clone();
            let key = file.key.clone();
            let append = Append { files: vec![file], ..append };
            tokio::spawn(async move { (key, append.property.1.clone(), catalog.append(append).await) })
        })
        .collect();
    let mut won = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            (key, number, Ok(())) => won.push((key, number)),
            (_, _, outcome) => assert_kind(outcome, ErrorKind::Conflict, "the state has changed"),
        }
    }
    assert_eq!(won.len(), 1, "a state is replaced once");
    assert_eq!(lake.read(table).await, [won[0].0.clone()], "the losers' files are not there");
    assert_eq!(head(&*catalog, table).await.properties.get("contract.number"), Some(&won[0].1));
}

async fn a_state_does_not_come_back(catalog: &dyn Catalog, lake: &dyn Lake, table: &str) {
    catalog.create(table).await.unwrap();
    let mut tokens = vec![head(catalog, table).await.token];
    for n in 0..3 {
        let last = tokens.last().cloned().unwrap_or_default();
        catalog.append(append(table, &last, vec![lake.file(table, n).await], 7)).await.unwrap();
        tokens.push(head(catalog, table).await.token);
    }
    let read = lake.read(table).await;
    for (n, old) in tokens[..3].iter().enumerate() {
        let outcome = catalog.append(append(table, old, vec![lake.file(table, 10 + n).await], 8)).await;
        assert_kind(outcome, ErrorKind::Conflict, "a late append finds another state");
    }
    let never = catalog.append(append(table, "no such state", vec![], 8)).await;
    assert_kind(never, ErrorKind::Conflict, "the table never was in that state");
    assert_eq!((lake.read(table).await, head(catalog, table).await.token), (read, tokens[3].clone()));
}
