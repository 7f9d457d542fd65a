//! The bundled schema files: they load, and they become columns.
#![allow(clippy::unwrap_used)]

use sluice_columnar::arrow_schema;
use sluice_domain::schema::{Registry, Schema};
use std::collections::HashSet;
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
