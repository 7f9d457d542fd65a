//! What every [`Catalog`] must do.

use super::assert_kind;
use async_trait::async_trait;
use sluice_ports::{Append, Catalog, ErrorKind, Forget, Replace, TableFile, TableHead};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a suite needs beside the port: tables to fill, and a look into them that does not go by the port.
#[async_trait]
pub trait Lake: Send + Sync {
    /// Puts a data file for a table where the catalog finds it; `n` tells it from others.
    async fn file(&self, table: &str, n: usize) -> TableFile;

    /// Keys of the files that a reader of the table reads, sorted.
    async fn read(&self, table: &str) -> Vec<String>;
}

/// Runs every check. `tables` are five names that may become tables and are none yet, `unknown` one whose columns nobody knows, where there
/// is such.
pub async fn all(catalog: Arc<dyn Catalog>, lake: &dyn Lake, tables: [&str; 5], unknown: Option<&str>) {
    let [created, appended, replaced, raced, replayed] = tables;
    a_table_is_made_once(&*catalog, created, unknown).await;
    an_append_adds_files_and_sets_the_property(&*catalog, lake, appended).await;
    files_give_way_to_others(&*catalog, lake, replaced).await;
    of_many_appends_on_one_state_one_wins(catalog.clone(), lake, raced).await;
    a_state_does_not_come_back(&*catalog, lake, replayed).await;
}

async fn head(catalog: &dyn Catalog, table: &str) -> TableHead {
    catalog.load(table).await.unwrap().expect("the table is there")
}

fn append(table: &str, token: &str, files: Vec<TableFile>, number: u64) -> Append {
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

/// The table as a reader of the port sees it: its state, and the keys of its files, sorted.
async fn files(catalog: &dyn Catalog, table: &str) -> (String, Vec<String>) {
    let (head, files) = catalog.files(table).await.unwrap().expect("the table is there");
    let mut keys: Vec<String> = files.into_iter().map(|file| file.key).collect();
    keys.sort();
    (head.token, keys)
}

async fn files_give_way_to_others(catalog: &dyn Catalog, lake: &dyn Lake, table: &str) {
    assert!(catalog.files(table).await.unwrap().is_none(), "there is no table yet");
    assert!(catalog.needed(table).await.unwrap().is_none(), "there is no table yet");
    catalog.create(table).await.unwrap();
    assert_eq!(files(catalog, table).await.1, Vec::<String>::new());
    let mut all = Vec::new();
    for number in 0..3 {
        let file = lake.file(table, number).await;
        let token = head(catalog, table).await.token;
        catalog.append(append(table, &token, vec![file.clone()], number as u64)).await.unwrap();
        all.push(file);
    }
    let (_, read) = catalog.files(table).await.unwrap().expect("the table is there");
    for file in &all {
        assert!(read.contains(file), "{file:?} is not among {read:?}");
    }
    let keys = |files: &[&TableFile]| files.iter().map(|file| file.key.clone()).collect::<Vec<_>>();
    let replace = |token: &str, removed: &[&TableFile], added: Vec<TableFile>, number: u64| Replace {
        table: table.to_owned(),
        token: token.to_owned(),
        removed: keys(removed),
        added,
        properties: BTreeMap::from([("contract.number".to_owned(), number.to_string())]),
    };
    let (before, merged) = (head(catalog, table).await.token, lake.file(table, 10).await);
    catalog.replace(replace(&before, &[&all[0], &all[2]], vec![merged.clone()], 20)).await.unwrap();
    let mut left = keys(&[&all[1], &merged]);
    left.sort();
    let (token, found) = files(catalog, table).await;
    assert_eq!((&found, lake.read(table).await), (&left, left.clone()), "the others stay");
    assert_ne!(token, before, "it is another state");
    assert_eq!(head(catalog, table).await.properties.get("contract.number"), Some(&"20".to_owned()));
    let needed = catalog.needed(table).await.unwrap().expect("the table is there");
    assert!(left.iter().all(|key| needed.contains(key)), "{needed:?}");
    let late = catalog.replace(replace(&before, &[&all[1]], vec![], 21)).await;
    assert_kind(late, ErrorKind::Conflict, "the state has changed");
    for gone in [&all[0], &lake.file(table, 11).await] {
        let outcome = catalog.replace(replace(&token, &[gone, &all[1]], vec![], 22)).await;
        assert_kind(outcome, ErrorKind::Invalid, "the table has no such file");
    }
    assert_eq!(files(catalog, table).await, (token.clone(), left), "nothing has happened");
    catalog.replace(replace(&token, &[&all[1]], vec![], 23)).await.unwrap();
    let (token, found) = files(catalog, table).await;
    assert_eq!((&found, lake.read(table).await), (&keys(&[&merged]), keys(&[&merged])), "a file may go for nothing");
    let again = lake.file(table, 12).await;
    catalog.append(append(table, &token, vec![again.clone()], 24)).await.unwrap();
    let mut left = keys(&[&merged, &again]);
    left.sort();
    assert_eq!((files(catalog, table).await.1, lake.read(table).await), (left.clone(), left), "and it goes on");
    let figures = catalog.figures().await.unwrap().into_iter().find(|figures| figures.name == table);
    assert_eq!(figures.map(|figures| (figures.files, figures.rows)), Some((2, merged.rows + again.rows)));
    what_is_forgotten_is_in_no_state(catalog, lake, table, (&all, &[merged, again])).await;
}

/// `past` are files that states have which can still be read, `live` those of the table as it stands.
async fn what_is_forgotten_is_in_no_state(
    catalog: &dyn Catalog,
    lake: &dyn Lake,
    table: &str,
    (past, live): (&[TableFile], &[TableFile]),
) {
    let forget = |token: &str, files: &[&TableFile]| Forget {
        table: table.to_owned(),
        token: token.to_owned(),
        files: files.iter().map(|file| file.key.clone()).collect(),
    };
    let needed = async || catalog.needed(table).await.unwrap().expect("the table is there");
    let before = files(catalog, table).await;
    assert!(past.iter().all(|file| before.1.binary_search(&file.key).is_err()), "they were replaced");
    let late = catalog.forget(forget("no such state", &[&past[0]])).await;
    assert_kind(late, ErrorKind::Conflict, "the table never was in that state");
    let outcome = catalog.forget(forget(&before.0, &[&past[0], &live[0]])).await;
    assert_kind(outcome, ErrorKind::Invalid, "the table as it stands has the file");
    assert!(needed().await.contains(&past[0].key), "nothing has happened");
    catalog.forget(forget(&before.0, &[&past[0]])).await.unwrap();
    let after = files(catalog, table).await;
    let live: BTreeSet<String> = live.iter().map(|file| file.key.clone()).collect();
    assert_eq!(
        (after.1.iter().cloned().collect::<BTreeSet<_>>(), lake.read(table).await),
        (live.clone(), after.1.clone())
    );
    let still = needed().await;
    assert!(!still.contains(&past[0].key) && live.is_subset(&still), "{still:?}");
    catalog.forget(forget(&after.0, &past.iter().collect::<Vec<_>>())).await.unwrap();
    let still = needed().await;
    assert!(past.iter().all(|file| !still.contains(&file.key)) && live.is_subset(&still), "{still:?}");
    let token = head(catalog, table).await.token;
    catalog.forget(forget(&token, &past.iter().collect::<Vec<_>>())).await.unwrap();
    assert_eq!(head(catalog, table).await.token, token, "where nothing has them nothing changes");
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
