//! A folder that was moved: its tables follow, whole or not at all.
#![allow(clippy::unwrap_used, reason = "a test reports by panic")]

use apache_avro::types::Value;
use bytes::Bytes;
use sluice_adapters_iceberg::{IcebergCatalog, Moved, Relocation, SqlitePointers};
use sluice_domain::schema::Registry;
use sluice_ports::{Append, Catalog, ErrorKind, Objects, PutMode, Replace, TableFile};
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::MemoryObjects;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// 2026-11-21T10:00:00Z.
const TIME: i64 = 1_795_255_200_000_000;
const OLD: &str = "file:///srv/old";
const NEW: &str = "file:///mnt/new folder";

struct World {
    folder: tempfile::TempDir,
    objects: Arc<Faulty<MemoryObjects>>,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), objects: Arc::new(Faulty::new(MemoryObjects::new())) }
    }

    fn pointers(&self) -> Arc<SqlitePointers> {
        Arc::new(SqlitePointers::open(&self.folder.path().join("catalog.sqlite")).unwrap())
    }

    fn catalog(&self, root: &str) -> IcebergCatalog {
        let schema = r#"{"type":"object","x-type":"t.a","x-partition":"hour","properties":{"n":{"type":"integer","x-column-id":101}}}"#;
        let other = schema.replace("t.a", "t.b");
        let event = include_str!("../../../schemas/event.json");
        let registry = Registry::load([("a", schema), ("b", other.as_str()), ("event", event)]).unwrap();
        let kept = Duration::from_secs(3_600);
        IcebergCatalog::new(self.pointers(), self.objects.clone(), root, Arc::new(registry), kept)
    }

    fn relocation(&self, root: &str) -> Relocation {
        Relocation::new(self.pointers(), self.objects.clone(), root)
    }

    /// Follows; answers the tables that have.
    async fn relocate(&self, root: &str) -> Vec<String> {
        let relocation = self.relocation(root);
        let moved = relocation.moved().await.unwrap();
        for table in &moved {
            assert!(relocation.relocate(table).await.unwrap() >= 1);
        }
        moved.into_iter().map(|moved| moved.table).collect()
    }
}

fn file(table: &str, n: usize) -> TableFile {
    let key = format!("lake/{table}/data/dt=2026-11-21/hour=10/g{n:05}-0.parquet");
    TableFile { key, rows: 10, size_bytes: 1_000, time_us: (TIME, TIME + 1_000_000) }
}

async fn append(catalog: &IcebergCatalog, table: &str, n: usize) {
    let token = catalog.load(table).await.unwrap().unwrap().token;
    let property = ("n".to_owned(), n.to_string());
    catalog.append(Append { table: table.into(), token, files: vec![file(table, n)], property }).await.unwrap();
}

fn keys(files: Vec<TableFile>) -> BTreeSet<String> {
    files.into_iter().map(|file| file.key).collect()
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// Some appends, one that merges manifests, and files that are replaced by one. Answers a moment before that.
async fn fill(world: &World, table: &str) -> i64 {
    let catalog = world.catalog(OLD);
    catalog.create(table).await.unwrap();
    for n in 0..103 {
        append(&catalog, table, n).await;
    }
    let before = now_ms();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (head, _) = catalog.files(table).await.unwrap().unwrap();
    let removed: Vec<String> = (0..50).map(|n| file(table, n).key).collect();
    let added = vec![file(table, 1_000)];
    catalog
        .replace(Replace { table: table.into(), token: head.token, added, removed, properties: Default::default() })
        .await
        .unwrap();
    before
}

#[tokio::test]
async fn tables_follow_their_folder_with_all_states_and_can_be_changed_there() {
    let world = World::new();
    let before = fill(&world, "t_a").await;
    world.catalog(OLD).create("t_b").await.unwrap();
    let (old, was) = (world.catalog(OLD), world.objects.list("", None, 100_000).await.unwrap().len());
    let newest = keys(old.files("t_a").await.unwrap().unwrap().1);
    let as_it_stood = keys(old.files_at("t_a", before).await.unwrap().unwrap());
    assert_eq!((newest.len(), as_it_stood.len()), (54, 103));
    assert!(world.catalog(NEW).files("t_a").await.is_err(), "the metadata names the old place");
    let moved = world.relocation(NEW).moved().await.unwrap();
    assert_eq!(
        moved.iter().map(|m| (m.table.as_str(), m.from.as_str())).collect::<Vec<_>>(),
        [("t_a", OLD), ("t_b", OLD)]
    );
    assert_eq!(world.relocate(NEW).await, ["t_a", "t_b"]);
    let new = world.catalog(NEW);
    let (head, files) = new.files("t_a").await.unwrap().unwrap();
    assert_eq!(head.properties["n"], "102");
    assert!(
        files.iter().all(|file| (file.rows, file.size_bytes, file.time_us) == (10, 1_000, (TIME, TIME + 1_000_000)))
    );
    assert_eq!(keys(files), newest);
    assert_eq!(keys(new.files_at("t_a", before).await.unwrap().unwrap()), as_it_stood);
    let figures = new.figures().await.unwrap();
    assert_eq!((figures[0].snapshots, figures[0].rows), (104, 540));
    // All that can still be read is at the new place, by name.
    let needed = new.needed("t_a").await.unwrap().unwrap();
    for key in needed.iter().filter(|key| key.contains("/metadata/")) {
        let bytes = world.objects.get(key, None).await.unwrap();
        assert!(!bytes.windows(OLD.len()).any(|window| window == OLD.as_bytes()), "{key} names the old place");
    }
    // Readers go by the size of manifests that the lists say.
    for key in needed.iter().filter(|key| key.contains("/snap-")) {
        let list = world.objects.get(key, None).await.unwrap();
        for row in apache_avro::Reader::new(list.as_ref()).unwrap() {
            let Value::Record(fields) = row.unwrap() else { panic!("no record") };
            let of = |name: &str| fields.iter().find(|(field, _)| field == name).unwrap().1.clone();
            let Value::String(path) = of("manifest_path") else { panic!("no path") };
            let manifest = world.objects.get(path.strip_prefix(&format!("{NEW}/")).unwrap(), None).await.unwrap();
            assert_eq!(of("manifest_length"), Value::Long(manifest.len().try_into().unwrap()), "{path}");
        }
    }
    append(&new, "t_a", 200).await;
    append(&new, "t_b", 1).await;
    assert_eq!(keys(new.files("t_a").await.unwrap().unwrap().1).len(), 55);
    // A second time there is nothing to do, and back again there is.
    let now = world.objects.list("", None, 100_000).await.unwrap().len();
    assert!(now > was, "nothing was written over");
    assert!(world.relocate(NEW).await.is_empty());
    assert_eq!(world.objects.list("", None, 100_000).await.unwrap().len(), now);
    assert_eq!(world.relocate(OLD).await, ["t_a", "t_b"]);
    assert_eq!(keys(world.catalog(OLD).files_at("t_a", before).await.unwrap().unwrap()), as_it_stood);
}

#[tokio::test]
async fn a_folder_may_be_moved_into_itself_and_out_of_itself() {
    let world = World::new();
    let catalog = world.catalog(OLD);
    catalog.create("t_a").await.unwrap();
    append(&catalog, "t_a", 0).await;
    let deeper = format!("{OLD}/lake/t_a/metadata/deeper");
    for root in [deeper.as_str(), OLD, "file:///srv", OLD] {
        assert_eq!(world.relocate(root).await, ["t_a"], "{root}");
        assert!(world.relocate(root).await.is_empty(), "{root}");
        assert_eq!(
            keys(world.catalog(root).files("t_a").await.unwrap().unwrap().1),
            BTreeSet::from([file("t_a", 0).key])
        );
    }
}

#[tokio::test]
async fn a_run_that_ends_anywhere_leaves_the_table_as_it_was_and_the_next_one_ends_it() {
    let world = World::new();
    let catalog = world.catalog(OLD);
    catalog.create("t_a").await.unwrap();
    for n in 0..3 {
        append(&catalog, "t_a", n).await;
    }
    let moved = world.relocation(NEW).moved().await.unwrap().remove(0);
    let begin = world.objects.calls("objects.put");
    let mut ended = 0;
    loop {
        // Each run gets one write further than the one before.
        world.objects.script("objects.put", (0..ended).map(|_| Fault::Pass));
        world
            .objects
            .script("objects.put", [if ended % 2 == 0 { Fault::Before(ErrorKind::Full) } else { Fault::After }]);
        let done = world.relocation(NEW).relocate(&moved).await;
        if done.is_ok() {
            break;
        }
        ended += 1;
        assert_eq!(keys(world.catalog(OLD).files("t_a").await.unwrap().unwrap().1).len(), 3, "as it was");
    }
    assert!(ended >= 5 && world.objects.calls("objects.put") > begin + ended, "{ended}");
    assert_eq!(keys(world.catalog(NEW).files("t_a").await.unwrap().unwrap().1).len(), 3);
    // One that began before that changes nothing any more.
    let _ = world.objects.put("takes the fault that is left", Bytes::new(), PutMode::IfAbsent).await;
    let error = world.relocation(NEW).relocate(&moved).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert_eq!(keys(world.catalog(NEW).files("t_a").await.unwrap().unwrap().1).len(), 3);
}

#[tokio::test]
async fn what_is_missing_or_cannot_be_read_is_named() {
    let world = World::new();
    let catalog = world.catalog(OLD);
    catalog.create("t_a").await.unwrap();
    append(&catalog, "t_a", 0).await;
    let relocation = world.relocation(NEW);
    let moved: Moved = relocation.moved().await.unwrap().remove(0);
    let listed = world.objects.list("lake/t_a/metadata/", None, 100).await.unwrap();
    let list = listed.into_iter().map(|object| object.key).find(|key| key.contains("/snap-")).unwrap();
    let whole = world.objects.get(&list, None).await.unwrap();
    world.objects.put(&list, Bytes::from_static(b"Obj\x01x"), PutMode::Overwrite).await.unwrap();
    let error = relocation.relocate(&moved).await.unwrap_err();
    assert!(error.kind == ErrorKind::Corrupt && error.detail.contains(&list), "{error}");
    world.objects.delete(&list).await.unwrap();
    let error = relocation.relocate(&moved).await.unwrap_err();
    assert!(error.kind == ErrorKind::NotFound && error.detail.contains(&list), "{error}");
    world.objects.put(&list, whole, PutMode::IfAbsent).await.unwrap();
    relocation.relocate(&moved).await.unwrap();
}

#[tokio::test]
async fn a_table_whose_rows_were_deleted_by_their_places_is_named_and_stays() {
    let world = World::new();
    let catalog = world.catalog(OLD);
    catalog.create("t_a").await.unwrap();
    append(&catalog, "t_a", 0).await;
    let listed = world.objects.list("lake/t_a/metadata/", None, 100).await.unwrap();
    let manifest = listed.into_iter().map(|object| object.key).find(|key| key.ends_with("-m0.avro")).unwrap();
    let bytes = world.objects.get(&manifest, None).await.unwrap();
    // As if its file were a list of deleted rows.
    let reader = apache_avro::Reader::new(bytes.as_ref()).unwrap();
    let schema = reader.writer_schema().clone();
    let metadata = reader.user_metadata().clone();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new());
    metadata.into_iter().for_each(|(name, value)| writer.add_user_metadata(name, value).unwrap());
    for row in reader {
        let Value::Record(mut fields) = row.unwrap() else { panic!("no record") };
        let (_, file) = fields.iter_mut().find(|(name, _)| name == "data_file").unwrap();
        let Value::Record(of_file) = file else { panic!("no file") };
        of_file.iter_mut().find(|(name, _)| name == "content").unwrap().1 = Value::Int(1);
        writer.append(Value::Record(fields)).unwrap();
    }
    let changed = writer.into_inner().unwrap();
    world.objects.put(&manifest, changed.into(), PutMode::Overwrite).await.unwrap();
    let relocation = world.relocation(NEW);
    let moved = relocation.moved().await.unwrap();
    let error = relocation.relocate(&moved[0]).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Invalid && error.detail.contains("`t_a` has rows that another engine deleted"),
        "{error}"
    );
    assert_eq!(relocation.moved().await.unwrap(), moved);
}
