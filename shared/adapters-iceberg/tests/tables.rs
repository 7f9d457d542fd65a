//! Iceberg tables over a SQLite catalog: the contract, and what a table becomes over many appends.
#![allow(clippy::unwrap_used, reason = "a test reports by panic")]

use async_trait::async_trait;
use sluice_adapters_iceberg::{IcebergCatalog, SqlitePointers};
use sluice_domain::schema::Registry;
use sluice_ports::{Append, Catalog, ErrorKind, Objects, TableFile};
use sluice_testkit::contract;
use sluice_testkit::memory::MemoryObjects;
use std::sync::Arc;
use std::time::Duration;

/// How long snapshots are kept.
const KEPT: Duration = Duration::from_secs(3_600);
/// 2026-11-21T10:00:00Z.
const TIME: i64 = 1_795_255_200_000_000;

fn registry() -> Arc<Registry> {
    let schema = |name: &str, partition: &str| {
        format!(
            r#"{{"type":"object","x-type":"t.{name}","x-partition":"{partition}","properties":{{"n":{{"type":"integer","x-column-id":101}}}}}}"#
        )
    };
    let texts =
        [("a", "hour"), ("b", "day"), ("c", "month"), ("d", "day"), ("e", "hour")].map(|(n, p)| (n, schema(n, p)));
    let generic = ("event", include_str!("../../../schemas/event.json").to_owned());
    let files: Vec<(&str, String)> = texts.into_iter().chain([generic]).collect();
    Arc::new(Registry::load(files.iter().map(|(name, text)| (*name, text.as_str()))).unwrap())
}

struct World {
    objects: Arc<MemoryObjects>,
    catalog: Arc<IcebergCatalog>,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let objects = Arc::new(MemoryObjects::new());
        let catalog = Self::open(&folder, &objects);
        Self { objects, catalog, folder }
    }

    fn open(folder: &tempfile::TempDir, objects: &Arc<MemoryObjects>) -> Arc<IcebergCatalog> {
        let pointers = SqlitePointers::open(&folder.path().join("catalog.sqlite")).unwrap();
        Arc::new(IcebergCatalog::new(Arc::new(pointers), objects.clone(), "file:///data", registry(), KEPT))
    }

    /// The catalog of another process.
    fn another(&self) -> Arc<IcebergCatalog> {
        Self::open(&self.folder, &self.objects)
    }

    async fn append(&self, table: &str, files: Vec<TableFile>, number: usize) {
        let token = self.catalog.load(table).await.unwrap().unwrap().token;
        let property = ("n".to_owned(), number.to_string());
        self.catalog.append(Append { table: table.into(), token, files, property }).await.unwrap();
    }
}

fn file(table: &str, n: usize) -> TableFile {
    let key = format!("lake/{table}/data/dt=2026-11-21/hour=10/g{n:05}-0.parquet");
    TableFile { key, rows: 10, size_bytes: 1_000, time_us: (TIME, TIME + 1_000_000) }
}

#[async_trait]
impl contract::catalog::Lake for World {
    async fn file(&self, table: &str, n: usize) -> TableFile {
        file(table, n)
    }

    async fn read(&self, table: &str) -> Vec<String> {
        let mut keys: Vec<String> =
            self.another().files(table).await.unwrap().unwrap().1.into_iter().map(|file| file.key).collect();
        keys.sort();
        keys
    }
}

#[tokio::test]
async fn iceberg_tables_keep_the_contract() {
    let world = World::new();
    contract::catalog::all(world.catalog.clone(), &world, ["t_a", "t_b", "t_c", "t_d", "t_e"], Some("unknown")).await;
}

#[tokio::test]
async fn many_appends_leave_few_manifests_and_metadata_of_bounded_size() {
    const APPENDS: usize = 350;
    let world = World::new();
    world.catalog.create("t_a").await.unwrap();
    for n in 0..APPENDS {
        world.append("t_a", vec![file("t_a", n)], n).await;
    }
    let table = world.another().figures().await.unwrap().remove(0);
    assert_eq!((table.files, table.rows), (APPENDS as u64, 10 * APPENDS as u64));
    let (_, files) = world.another().files("t_a").await.unwrap().unwrap();
    let mut keys: Vec<String> = files.iter().map(|file| file.key.clone()).collect();
    keys.sort();
    assert_eq!(keys, (0..APPENDS).map(|n| file("t_a", n).key).collect::<Vec<_>>());
    assert!(files.iter().all(|file| (file.rows, file.time_us) == (10, (TIME, TIME + 1_000_000))));
    assert_eq!(table.snapshots, APPENDS as u64, "all of them are young");
    let objects = world.objects.list("lake/t_a/metadata/", None, 10_000).await.unwrap();
    let metadata = objects.iter().filter(|object| object.key.ends_with(".metadata.json")).count();
    assert!(metadata <= 102, "{metadata}");
    let newest_list =
        objects.iter().filter(|object| object.key.contains("/snap-")).max_by_key(|object| object.modified_ms).unwrap();
    assert!(newest_list.size_bytes < 40_000, "the list of manifests has {} bytes", newest_list.size_bytes);
}

#[tokio::test]
async fn a_file_of_two_partitions_is_refused() {
    let world = World::new();
    for (table, apart_us) in [("t_a", 3_600_000_000), ("t_b", 86_400_000_000), ("t_c", 31 * 86_400_000_000)] {
        world.catalog.create(table).await.unwrap();
        let token = world.catalog.load(table).await.unwrap().unwrap().token;
        let files = vec![TableFile { time_us: (TIME, TIME + apart_us), ..file(table, 0) }];
        let append = Append { table: table.into(), token, files, property: ("n".into(), "1".into()) };
        let error = world.catalog.append(append).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.detail.contains("more than one partition"), "{error}");
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis().try_into().unwrap()
}

#[tokio::test]
async fn a_table_can_be_read_as_it_stood() {
    let world = World::new();
    assert_eq!(world.catalog.files_at("t_a", now_ms()).await.unwrap(), None, "there is no table");
    let begin = now_ms() - 1;
    world.catalog.create("t_a").await.unwrap();
    let mut moments = Vec::new();
    for n in 0..3 {
        world.append("t_a", vec![file("t_a", n)], n).await;
        moments.push(now_ms());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let keys = async |at| {
        let files = world.another().files_at("t_a", at).await.unwrap().unwrap();
        files.into_iter().map(|file| file.key).collect::<std::collections::BTreeSet<_>>()
    };
    assert!(keys(begin).await.is_empty());
    for (n, at) in moments.iter().enumerate() {
        assert_eq!(keys(*at).await, (0..=n).map(|n| file("t_a", n).key).collect());
    }
    assert_eq!(world.catalog.files("t_a").await.unwrap().unwrap().1.len(), 3, "the newest is another question");
}

#[tokio::test]
async fn a_moment_of_which_no_state_is_left_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pointers = Arc::new(SqlitePointers::open(&folder.path().join("catalog.sqlite")).unwrap());
    let catalog =
        IcebergCatalog::new(pointers, Arc::new(MemoryObjects::new()), "file:///data", registry(), Duration::ZERO);
    catalog.create("t_a").await.unwrap();
    let mut first = 0;
    for n in 0..103 {
        let token = catalog.load("t_a").await.unwrap().unwrap().token;
        let property = ("n".to_owned(), n.to_string());
        catalog.append(Append { table: "t_a".into(), token, files: vec![file("t_a", n)], property }).await.unwrap();
        if n == 0 {
            first = now_ms();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let error = catalog.files_at("t_a", first).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(
        error.detail.contains("no state of the table `t_a` is left of that moment; the oldest that is left is of 2"),
        "{error}"
    );
    assert_eq!(catalog.files_at("t_a", now_ms()).await.unwrap().unwrap().len(), 103);
}
