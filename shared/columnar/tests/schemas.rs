//! The bundled schema files: they load, they become columns, and what was once released stays.
#![allow(clippy::unwrap_used)]

use sluice_columnar::arrow_schema;
use sluice_domain::schema::{Registry, Schema};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

fn bundled() -> Registry {
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().into(), std::fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    for (name, text) in &files {
        let schema = Schema::parse(name, text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(*name, format!("{}.json", schema.event_type), "a file is named by its type");
    }
    Registry::load(files.iter().map(|(name, text)| (name.as_str(), text.as_str()))).unwrap()
}

#[test]
fn the_types_of_the_first_release_are_there() {
    let types: Vec<String> = bundled().iter().map(|s| s.event_type.clone()).collect();
    let expected = [
        "alert.fired",
        "alert.resolved",
        "event",
        "game.result",
        "game.start",
        "http.access",
        "probe.result",
        "quote.trade",
        "sluice.audit",
        "web.event",
    ];
    assert_eq!(types, expected);
}

#[test]
fn every_type_and_field_is_described() {
    for schema in bundled().iter() {
        assert!(schema.description.ends_with('.'), "{}", schema.event_type);
        for column in &schema.columns {
            assert!(column.description.ends_with('.'), "{} {}", schema.event_type, column.name);
        }
    }
}

#[test]
fn every_column_has_a_field_id_and_a_name_that_no_other_has_even_where_case_does_not_count() {
    for schema in bundled().iter() {
        let arrow = arrow_schema(schema);
        let (mut ids, mut names) = (HashSet::new(), HashSet::new());
        for field in arrow.fields() {
            assert!(ids.insert(field.metadata()["PARQUET:field_id"].clone()), "{} {}", schema.event_type, field.name());
            assert!(names.insert(field.name().to_lowercase()), "{} {}", schema.event_type, field.name());
        }
    }
}

/// `schemas/columns.lock` holds every column that was ever released: type, id, name and kind. Files in lakes have them, so lines are
/// only ever added. `UPDATE=1 cargo test -p sluice-columnar` adds the lines of new columns.
#[test]
fn released_columns_keep_their_ids_and_kinds() {
    let path = folder().join("columns.lock");
    let locked_text = std::fs::read_to_string(&path).unwrap_or_default();
    let read = |text: &str| -> BTreeMap<(String, i32), String> {
        let lines = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
        lines
            .map(|line| {
                let mut words = line.splitn(3, ' ');
                let (event_type, id) = (words.next().unwrap(), words.next().unwrap());
                ((event_type.to_owned(), id.parse().unwrap()), words.next().unwrap().to_owned())
            })
            .collect()
    };
    let mut locked = read(&locked_text);
    let mut now = BTreeMap::new();
    for schema in bundled().iter() {
        for column in &schema.columns {
            let line = format!("{} {:?}", column.name, column.kind);
            now.insert((schema.event_type.clone(), column.id), line);
        }
    }
    for (column, line) in &locked {
        assert_eq!(
            now.get(column),
            Some(line),
            "column {} of `{}` was released as `{line}`: give a new field a new id and keep the old one",
            column.1,
            column.0
        );
    }
    let missing: Vec<_> = now.keys().filter(|column| !locked.contains_key(*column)).collect();
    if missing.is_empty() {
        return;
    }
    assert!(
        std::env::var_os("UPDATE").is_some(),
        "new columns {missing:?} are not in schemas/columns.lock: run with UPDATE=1 and commit it"
    );
    locked.extend(now);
    let mut text = String::from("# Columns that were released: type, field id, name, kind. Lines are only added.\n");
    for ((event_type, id), line) in &locked {
        text.push_str(&format!("{event_type} {id} {line}\n"));
    }
    std::fs::write(path, text).unwrap();
}
