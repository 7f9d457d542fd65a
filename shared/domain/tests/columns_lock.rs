//! `schemas/columns.lock` holds what was ever released of the schema files: how each table is cut, and each column's id, name and kind. Files in
//! lakes have them, so lines are only ever added. `UPDATE=1 cargo test --workspace --test columns_lock` adds those of new types and fields.
#![allow(clippy::unwrap_used, reason = "a test reports by panic")]

use sluice_domain::schema::{Registry, Schema};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const HEAD: &str = "# What was released: of each type how its table is cut, and each field's id, name and kind. Lines are only added.\n";

/// What was released of a type.
#[derive(Debug, Default, Clone, PartialEq)]
struct Released {
    partition: Option<String>,
    /// Name and kind by id.
    columns: BTreeMap<i32, (String, String)>,
}

type Lock = BTreeMap<String, Released>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

fn bundled() -> Registry {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let texts: Vec<(String, String)> =
        files.map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap())).collect();
    Registry::load(texts.iter().map(|(name, text)| (name.as_str(), text.as_str()))).unwrap()
}

fn read(text: &str) -> Lock {
    let mut lock = Lock::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let [event_type, what, rest] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("`{line}`") };
        let released = lock.entry(event_type.to_owned()).or_default();
        if what == "partition" {
            released.partition = Some(rest.to_owned());
        } else {
            let (name, kind) = rest.split_once(' ').unwrap();
            released.columns.insert(what.parse().unwrap(), (name.to_owned(), kind.to_owned()));
        }
    }
    lock
}

fn write(lock: &Lock) -> String {
    let mut text = HEAD.to_owned();
    for (event_type, released) in lock {
        if let Some(partition) = &released.partition {
            text.push_str(&format!("{event_type} partition {partition}\n"));
        }
        for (id, (name, kind)) in &released.columns {
            text.push_str(&format!("{event_type} {id} {name} {kind}\n"));
        }
    }
    text
}

fn of<'s>(schemas: impl Iterator<Item = &'s Schema>) -> Lock {
    let released = |schema: &Schema| Released {
        partition: Some(format!("{:?}", schema.partition).to_lowercase()),
        columns: schema.columns.iter().map(|c| (c.id, (c.name.clone(), format!("{:?}", c.kind)))).collect(),
    };
    schemas.map(|schema| (schema.event_type.clone(), released(schema))).collect()
}

/// A sentence for each change that tables cannot follow.
fn broken(locked: &Lock, now: &Lock) -> Vec<String> {
    let mut broken = Vec::new();
    for (event_type, released) in locked {
        let Some(now) = now.get(event_type) else {
            broken.push(format!(
                "`{event_type}` was released and has no schema file any more: its table has rows; put the file back"
            ));
            continue;
        };
        if let (Some(was), Some(is)) = (&released.partition, &now.partition)
            && was != is
        {
            broken.push(format!(
                "`{event_type}` was released with `x-partition` {was} and says {is} now: its files lie in folders by {was}, which one table cannot have beside others; leave it"
            ));
        }
        for (id, (name, kind)) in &released.columns {
            let moved = now.columns.iter().find(|(_, (other, _))| other == name).map(|(id, _)| id);
            let what = match (now.columns.get(id), moved) {
                (Some((is, now)), _) if is == name && now == kind => continue,
                (Some((is, now)), _) if is == name => format!("was released as {kind} and is {now} now: files hold the first"),
                (_, Some(moved)) => {
                    format!("was released with `x-column-id` {id} and has {moved} now: files have it under the first, and its values would be gone")
                }
                (Some((is, _)), None) => format!("was released with `x-column-id` {id}, which `{is}` has now: its values would be taken for the other's"),
                (None, None) => "was released and is not in the file any more: what producers still send of it would not get into its column".to_owned(),
            };
            broken.push(format!(
                "`{event_type}`: the field `{name}` {what}. Leave it as it is, and give what is new a new name and an id that was never used"
            ));
        }
    }
    broken
}

#[test]
fn what_was_released_stays_as_it_is() {
    let path = folder().join("columns.lock");
    let (locked, now) = (read(&std::fs::read_to_string(&path).unwrap()), of(bundled().iter()));
    let broken = broken(&locked, &now);
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    if locked == now {
        return;
    }
    assert!(
        std::env::var_os("UPDATE").is_some(),
        "schemas/columns.lock lacks new types or fields: run `UPDATE=1 cargo test --workspace --test columns_lock`, look at the difference and commit it"
    );
    std::fs::write(path, write(&now)).unwrap();
}

#[test]
fn the_lock_is_read_as_it_is_written() {
    let now = of(bundled().iter());
    assert_eq!(read(&write(&now)), now);
}

#[test]
fn an_addition_is_none_of_its_business_and_every_other_change_has_its_sentence() {
    let lock = |partition: &str, properties: &str| {
        let text =
            format!(r#"{{"type":"object","x-type":"a.b","x-partition":"{partition}","properties":{{{properties}}}}}"#);
        of([Schema::parse("f", &text).unwrap()].iter())
    };
    let n = r#""n":{"type":"integer","x-column-id":101}"#;
    let released = lock("day", n);
    let changed = |now: Lock| broken(&released, &now);
    assert!(changed(lock("day", &format!(r#"{n},"m":{{"type":"string","x-column-id":102}}"#))).is_empty());
    for (now, said) in [
        (lock("hour", n), "`a.b` was released with `x-partition` day and says hour now"),
        (lock("day", r#""n":{"type":"string","x-column-id":101}"#), "`n` was released as Integer and is Text now"),
        (
            lock("day", r#""n":{"type":"integer","x-column-id":102}"#),
            "`n` was released with `x-column-id` 101 and has 102 now",
        ),
        (
            lock("day", r#""m":{"type":"integer","x-column-id":101}"#),
            "`n` was released with `x-column-id` 101, which `m` has now",
        ),
        (lock("day", ""), "`n` was released and is not in the file any more"),
        (Lock::new(), "`a.b` was released and has no schema file any more"),
    ] {
        let said_of = changed(now);
        assert!(said_of.len() == 1 && said_of[0].contains(said), "{said}: {said_of:?}");
    }
}
