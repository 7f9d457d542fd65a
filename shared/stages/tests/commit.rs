//! `commit` over ports in memory: what is recorded becomes part of its table, once.
#![allow(clippy::unwrap_used, reason = "a test reports by panic")]

use sluice_domain::time::Timestamp;
use sluice_ports::{Catalog, Condition, ErrorKind, Key, Table, Write};
use sluice_stages::commit::{Commit, CommitPorts, CommitSettings, PROPERTY};
use sluice_stages::groups::{Contents, Ended, Groups, RecordedFile, recorded_files};
use sluice_stages::item::{Item, Outcome};
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::{MemoryCatalog, MemoryTable};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
}

struct World {
    table: Arc<Faulty<MemoryTable>>,
    catalog: Arc<Faulty<MemoryCatalog>>,
    recorded: std::sync::Mutex<BTreeMap<String, Vec<String>>>,
}

impl World {
    fn new() -> Self {
        Self {
            table: Arc::new(Faulty::new(MemoryTable::new())),
            catalog: Arc::new(Faulty::new(MemoryCatalog::new())),
            recorded: Default::default(),
        }
    }

    fn commit(&self, settings: CommitSettings) -> Commit {
        Commit::new(CommitPorts { table: self.table.clone(), catalog: self.catalog.clone() }, settings)
    }

    /// A group with so many files of a table.
    async fn record(&self, table: &str, files: usize) {
        let groups = Groups::new(self.table.clone(), 1_000);
        let group = groups.begin(now()).await.unwrap();
        let file = |n: usize| RecordedFile {
            key: format!("lake/{table}/data/{}-{n}.parquet", group.id),
            rows: 3,
            size_bytes: 100,
            min_time: now(),
            max_time: now(),
            group: group.id.clone(),
            counted: BTreeMap::from([(format!("2026-11-21T10#{table}"), 3)]),
        };
        let files: Vec<RecordedFile> = (0..files).map(file).collect();
        let keys = files.iter().map(|file| file.key.clone());
        self.recorded.lock().unwrap().entry(table.into()).or_default().extend(keys);
        let contents = Contents { files: BTreeMap::from([(table.to_owned(), files)]), ..Contents::default() };
        assert_eq!(groups.commit(&group, &contents, now()).await.unwrap(), Ended::Committed);
    }

    /// Every recorded file is in its table once and no item is open; the lake's list is what it was.
    async fn assert_committed(&self, table: &str) {
        let mut recorded = self.recorded.lock().unwrap()[table].clone();
        recorded.sort();
        let mut live: Vec<String> = self.catalog.inner().live(table).into_iter().map(|file| file.key).collect();
        live.sort();
        assert_eq!(live, recorded, "the table's files");
        let open = format!("file#{table}");
        assert!(self.table.inner().items().iter().all(|item| item.key.partition != open), "nothing is open");
        let mut listed: Vec<String> =
            recorded_files(self.table.inner(), table).await.unwrap().into_iter().map(|file| file.key).collect();
        listed.sort();
        assert_eq!(listed, recorded, "what the lake holds");
    }

    async fn number(&self, table: &str) -> u64 {
        self.catalog.inner().load(table).await.unwrap().unwrap().properties[PROPERTY].parse().unwrap()
    }
}

fn message(body: &str) -> Item {
    Item { id: "m".into(), body: body.into(), receive_count: 1 }
}

fn of(table: &str) -> Item {
    message(&format!(r#"{{"table":"{table}"}}"#))
}

fn why(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Retry(why) => why,
        Outcome::Done => panic!("it is done"),
    }
}

#[tokio::test]
async fn recorded_files_become_part_of_their_tables() {
    let world = World::new();
    let commit = world.commit(CommitSettings::default());
    for files in [3, 1] {
        world.record("a", files).await;
        world.record("b", files).await;
        assert_eq!(
            commit.run(&[of("a"), of("b"), of("a")], now()).await,
            [Outcome::Done, Outcome::Done, Outcome::Done]
        );
        world.assert_committed("a").await;
        world.assert_committed("b").await;
    }
    assert_eq!(world.number("a").await, 2, "one commit for each group");
    let before = world.catalog.inner().load("a").await.unwrap();
    assert_eq!(commit.run(&[of("a")], now()).await, [Outcome::Done]);
    assert_eq!(world.catalog.inner().load("a").await.unwrap(), before, "a message that comes again changes nothing");
}

#[tokio::test]
async fn a_message_that_names_nothing_is_done() {
    let world = World::new();
    let commit = world.commit(CommitSettings::default());
    let messages = ["", "{}", "[]", r#"{"table":1}"#].map(message);
    assert!(commit.run(&messages, now()).await.iter().all(|outcome| *outcome == Outcome::Done));
    assert_eq!(commit.run(&[of("nothing")], now()).await, [Outcome::Done]);
    assert_eq!(world.catalog.inner().tables(), [""; 0], "a table is made for its first files");
}

#[tokio::test]
async fn a_backlog_is_committed_in_bounded_steps_of_the_oldest_first() {
    let world = World::new();
    let commit = world.commit(CommitSettings { max_files: 10, ..CommitSettings::default() });
    for files in [4, 4, 4, 25, 1] {
        world.record("a", files).await;
    }
    assert_eq!(commit.run(&[of("a")], now()).await, [Outcome::Done]);
    world.assert_committed("a").await;
    assert_eq!(world.number("a").await, 3, "12, 25 and 1 files");
    let keys: Vec<String> = world.catalog.inner().live("a").into_iter().map(|file| file.key).collect();
    let recorded = world.recorded.lock().unwrap()["a"].clone();
    assert_eq!(keys[..12], recorded[..12]);
}

#[tokio::test]
async fn the_tick_finds_what_no_message_told_of_and_leaves_the_rest_alone() {
    let world = World::new();
    let commit = world.commit(CommitSettings::default());
    world.record("a", 2).await;
    world.record("b", 2).await;
    commit.tick(now()).await.unwrap();
    world.assert_committed("a").await;
    world.assert_committed("b").await;
    let loads = world.catalog.calls("catalog.load");
    commit.tick(now()).await.unwrap();
    assert_eq!(world.catalog.calls("catalog.load"), loads, "no table is loaded that has nothing new");
    world.record("b", 1).await;
    world.record("a", 1).await;
    world.catalog.script("catalog.append", [Fault::Before(ErrorKind::Unavailable)]);
    assert_eq!(commit.tick(now()).await.unwrap_err().kind, ErrorKind::Unavailable);
    world.assert_committed("b").await;
}

#[tokio::test]
async fn what_timed_out_is_looked_up() {
    for operation in ["catalog.create", "catalog.append", "table.write"] {
        for fault in [Fault::After, Fault::Before(ErrorKind::Timeout)] {
            let world = World::new();
            world.record("a", 2).await;
            let on: &dyn Fn(&'static str, Fault) = &|operation, fault| match operation {
                "table.write" => world.table.script(operation, [fault.clone(), Fault::Pass, fault]),
                _ => world.catalog.script(operation, [fault]),
            };
            on(operation, fault.clone());
            assert_eq!(world.commit(CommitSettings::default()).run(&[of("a")], now()).await, [Outcome::Done]);
            world.assert_committed("a").await;
            assert_eq!(world.number("a").await, 1, "{operation} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_conflict_with_another_engine_is_tried_again_and_not_for_ever() {
    let world = World::new();
    world.record("a", 2).await;
    let commit = world.commit(CommitSettings::default());
    let conflict = || Fault::Before(ErrorKind::Conflict);
    world.catalog.script("catalog.append", [conflict(), conflict()]);
    assert_eq!(commit.run(&[of("a")], now()).await, [Outcome::Done]);
    world.record("a", 1).await;
    world.catalog.always("catalog.append", conflict());
    assert!(why(&commit.run(&[of("a")], now()).await[0]).contains("injected"));
    world.catalog.always("catalog.append", Fault::Pass);
    assert_eq!(commit.run(&[of("a")], now()).await, [Outcome::Done]);
    world.assert_committed("a").await;
}

#[tokio::test]
async fn a_table_that_was_dropped_is_not_begun_anew() {
    let world = World::new();
    let commit = world.commit(CommitSettings::default());
    world.record("a", 2).await;
    commit.run(&[of("a")], now()).await;
    world.record("a", 1).await;
    world.catalog.inner().drop_table("a");
    let outcomes = commit.run(&[of("a")], now()).await;
    assert!(why(&outcomes[0]).contains("the table `a` has commit 0, and its record is of commit 1"), "{outcomes:?}");
    assert_eq!(world.catalog.inner().tables(), [""; 0]);
    // Nor where somebody made it again.
    world.catalog.inner().create("a").await.unwrap();
    assert!(why(&commit.run(&[of("a")], now()).await[0]).contains("has commit 0"));
    assert_eq!(world.catalog.inner().live("a"), []);
}

#[tokio::test]
async fn a_record_that_was_lost_stops_the_table() {
    let world = World::new();
    let commit = world.commit(CommitSettings::default());
    world.record("a", 2).await;
    commit.run(&[of("a")], now()).await;
    world.record("a", 1).await;
    let delete = Write::Delete { key: Key::new("commit", "a"), condition: Condition::Any };
    world.table.write(vec![delete]).await.unwrap();
    let outcomes = commit.run(&[of("a")], now()).await;
    assert!(why(&outcomes[0]).contains("the table `a` has commit 1, and its record is of commit 0"), "{outcomes:?}");
    assert_eq!(world.catalog.inner().live("a").len(), 2);
}

#[tokio::test]
async fn without_time_messages_are_given_back() {
    let world = World::new();
    world.record("a", 1).await;
    let commit = world.commit(CommitSettings { budget: Duration::ZERO, ..CommitSettings::default() });
    assert!(why(&commit.run(&[of("a")], now()).await[0]).contains("no time left"));
}
