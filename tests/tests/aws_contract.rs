//! The AWS adapters keep the contracts of their ports, against ministack or whatever `AWS_ENDPOINT_URL` names.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panic")]

use async_trait::async_trait;
use bytes::Bytes;
use iceberg::spec::TableMetadata;
use serde_json::{Value, json};
use sluice_adapters_aws::athena::AthenaSql;
use sluice_adapters_aws::dynamodb::DynamoTable;
use sluice_adapters_aws::glue::GluePointers;
use sluice_adapters_aws::s3::S3Objects;
use sluice_adapters_aws::ses::SesMail;
use sluice_adapters_aws::sns::SnsTopic;
use sluice_adapters_aws::sqs::{ConsoleQueue, SqsConsole, SqsQueue};
use sluice_adapters_aws::{Resource, secrets};
use sluice_adapters_iceberg::{IcebergCatalog, Pointers as _};
use sluice_ports::{Catalog as _, ErrorKind, Objects, PutMode, TableFile};
use sluice_testkit::contract::{self, topic_queue};
use sluice_tests::ministack::{Account, Ministack};
use sluice_tests::stack::{Clients, PATIENT, make_database};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn account() -> Option<Account> {
    Ministack::shared().unwrap().map(Ministack::account)
}

async fn objects(account: &Account) -> S3Objects {
    let bucket = account.name("contract");
    Clients::new(account).make_bucket(&bucket).await.unwrap();
    S3Objects::new(&account.connection(PATIENT), Resource::new("bucket", bucket, "SLUICE_BUCKET"))
}

async fn table(account: &Account) -> DynamoTable {
    let name = account.name("contract");
    Clients::new(account).make_table(&name, "pk", "sk").await.unwrap();
    DynamoTable::new(&account.connection(PATIENT), Resource::new("table", name, "SLUICE_TABLE"))
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_keeps_the_contract() {
    let Some(account) = account() else { return };
    contract::objects::all(Arc::new(objects(&account).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_goes_in_parts_and_comes_back_whole() {
    let Some(account) = account() else { return };
    let objects = objects(&account).await;
    let bytes: Vec<u8> = (0..40_000_000_u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    let bytes = Bytes::from(bytes);
    objects.put("large", bytes.clone(), PutMode::IfAbsent).await.unwrap();
    assert!(objects.get("large", None).await.unwrap() == bytes, "what was put in parts is read as it was");
    let again = objects.put("large", Bytes::from(vec![0; 20_000_000]), PutMode::IfAbsent).await;
    assert_eq!(again.unwrap_err().kind, ErrorKind::Conflict, "the condition holds for parts too");
    let part = objects.get("large", Some(8_388_600..8_388_620)).await.unwrap();
    assert_eq!(part, bytes[8_388_600..8_388_620], "a range across parts");
    let clients = Clients::new(&account);
    let unfinished = clients.s3.list_multipart_uploads().bucket(account.name("contract")).send().await.unwrap();
    assert_eq!(unfinished.uploads().len(), 0, "what was refused is not left half done");
}

#[tokio::test(flavor = "multi_thread")]
async fn dynamodb_keeps_the_contract() {
    let Some(account) = account() else { return };
    contract::table::all(Arc::new(table(&account).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sns_and_sqs_keep_the_contract() {
    // The clock of this one is set forward.
    let Some(ministack) = Ministack::start().unwrap() else { return };
    let account = ministack.account();
    let (connection, clients, table) = (account.connection(PATIENT), Clients::new(&account), table(&account).await);
    let (visible, kept) = (topic_queue::VISIBILITY_TIMEOUT, topic_queue::RETENTION);
    let (dead_url, dead_arn) = clients.make_queue(&account.name("dead"), visible, kept, None).await.unwrap();
    let dead = Some((dead_arn.as_str(), topic_queue::MAX_RECEIVE_COUNT));
    let (all_url, all_arn) = clients.make_queue(&account.name("all"), visible, kept, dead).await.unwrap();
    let (some_url, some_arn) = clients.make_queue(&account.name("some"), visible, kept, None).await.unwrap();
    let topic = clients.make_topic(&account.name("topic")).await.unwrap();
    clients.subscribe(&topic, &all_arn, &BTreeMap::new()).await.unwrap();
    let filter = BTreeMap::from([("area".to_owned(), vec!["alert".to_owned(), "audit".to_owned()])]);
    clients.subscribe(&topic, &some_arn, &filter).await.unwrap();
    let queue =
        |url: &str| Arc::new(SqsQueue::new(&connection, Resource::new("queue", url, "SLUICE_QUEUES"), table.clone()));
    let named = |name: &str, url: &str| ConsoleQueue { name: name.into(), url: url.into(), returns_to: None };
    let queues = vec![named("Everything", &all_url), named("Filtered", &some_url), named("DeadLetters", &dead_url)];
    let world = topic_queue::World {
        topic: Arc::new(SnsTopic::new(&connection, Resource::new("topic", topic, "SLUICE_TOPIC"), table.clone())),
        everything: queue(&all_url),
        filtered: queue(&some_url),
        dead_letters: queue(&dead_url),
        console: Some(Arc::new(SqsConsole::new(&connection, "SLUICE_QUEUES", queues))),
        looks_count: true,
        days_can_pass: ministack.has_clock(),
        table: Some(Arc::new(table)),
        advance: Box::new(move |by| ministack.advance(by)),
    };
    topic_queue::all(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ses_keeps_the_contract() {
    let Some(account) = account() else { return };
    for address in ["alerts@sluice.example", "reader@sluice.example"] {
        Clients::new(&account).ses.create_email_identity().email_identity(address).send().await.unwrap();
    }
    let identity = Resource::new("sender", "alerts@sluice.example", "SLUICE_MAIL_FROM");
    contract::mail::all(&SesMail::new(&account.connection(PATIENT), identity)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn athena_keeps_the_contract() {
    let Some(account) = account() else { return };
    let (clients, name) = (Clients::new(&account), account.name("results"));
    clients.make_bucket(&name).await.unwrap();
    clients.make_workgroup(&name, &name).await.unwrap();
    let workgroup = Resource::new("workgroup", &name, "SLUICE_ATHENA_WORKGROUP");
    let database = Resource::new("database", "default", "SLUICE_GLUE_DATABASE");
    contract::sql::all(&AthenaSql::new(&account.connection(PATIENT), workgroup, &database)).await;
}

/// Tables of a database and a bucket.
struct GlueLake {
    account: Account,
    database: Resource,
}

impl GlueLake {
    async fn make(account: Account) -> Self {
        Clients::new(&account).make_bucket(&account.name("lake")).await.unwrap();
        let database = Resource::new("database", make_database(&account).unwrap(), "SLUICE_GLUE_DATABASE");
        Self { account, database }
    }

    fn pointers(&self) -> GluePointers {
        GluePointers::new(&self.account.connection(PATIENT), self.database.clone())
    }

    /// The catalog as another process opens it.
    fn open(&self) -> IcebergCatalog {
        let bucket = self.account.name("lake");
        let root = format!("s3://{bucket}");
        let objects =
            S3Objects::new(&self.account.connection(PATIENT), Resource::new("bucket", bucket, "SLUICE_BUCKET"));
        let registry = sluice_entry::schemas::registry(&[]).unwrap();
        IcebergCatalog::new(Arc::new(self.pointers()), Arc::new(objects), &root, Arc::new(registry), Duration::MAX)
    }
}

#[async_trait]
impl contract::catalog::Lake for GlueLake {
    async fn file(&self, table: &str, n: usize) -> TableFile {
        // 2026-11-21T10:00:00Z.
        let time = 1_795_255_200_000_000;
        let key = format!("lake/{table}/data/dt=2026-11-21/g{n:05}-0.parquet");
        TableFile { key, rows: 10, size_bytes: 1_000, time_us: (time, time + 1_000_000) }
    }

    async fn read(&self, table: &str) -> Vec<String> {
        let (_, files) = self.open().files(table).await.unwrap().unwrap();
        let mut keys: Vec<String> = files.into_iter().map(|file| file.key).collect();
        keys.sort();
        keys
    }
}

/// The metadata at a location, with a column more.
async fn with_a_column(lake: &GlueLake, location: &str) -> TableMetadata {
    let bucket = Resource::new("bucket", lake.account.name("lake"), "SLUICE_BUCKET");
    let key = location.strip_prefix(&format!("s3://{}/", bucket.name)).unwrap();
    let bytes = S3Objects::new(&lake.account.connection(PATIENT), bucket.clone()).get(key, None).await.unwrap();
    let mut metadata: Value = serde_json::from_slice(&bytes).unwrap();
    let fields = metadata["schemas"][0]["fields"].as_array_mut().unwrap();
    fields.push(json!({"id": 999, "name": "gained", "required": false, "type": "long"}));
    serde_json::from_value(metadata).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_in_glue_keep_the_contract() {
    let Some(account) = account() else { return };
    let lake = GlueLake::make(account).await;
    let tables = ["game_start", "game_result", "quote_trade", "http_access", "web_event"];
    contract::catalog::all(Arc::new(lake.open()), &lake, tables, Some("unknown")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_glue_is_what_engines_look_for() {
    let Some(account) = account() else { return };
    let lake = GlueLake::make(account).await;
    let catalog = lake.open();
    catalog.create("game_result").await.unwrap();
    let ask = json!({"DatabaseName": lake.database.name, "Name": "game_result"});
    let made = lake.account.glue("GetTable", &ask).unwrap()["Table"].take();
    let location = format!("s3://{}/lake/game_result", lake.account.name("lake"));
    assert_eq!((&made["TableType"], &made["Parameters"]["table_type"]), (&json!("EXTERNAL_TABLE"), &json!("ICEBERG")));
    assert_eq!(made["StorageDescriptor"]["Location"], location);
    let first = made["Parameters"]["metadata_location"].as_str().unwrap().to_owned();
    assert!(first.starts_with(&format!("{location}/metadata/00000-")), "{first}");
    let columns = made["StorageDescriptor"]["Columns"].as_array().unwrap();
    let rate = columns.iter().find(|column| column["Name"] == "success_rate").unwrap();
    assert_eq!((&rate["Type"], &rate["Parameters"]["iceberg.field.current"]), (&json!("double"), &json!("true")));
    // What somebody puts there stays.
    let mut own = made.clone();
    own["Parameters"]["team"] = json!("games");
    for name in ["CreateTime", "UpdateTime", "DatabaseName", "CatalogId", "VersionId"] {
        own.as_object_mut().unwrap().remove(name);
    }
    lake.account.glue("UpdateTable", &json!({"DatabaseName": lake.database.name, "TableInput": own})).unwrap();
    let next = first.replace("00000-", "00001-");
    // A column more, which it has by then.
    let metadata = with_a_column(&lake, &first).await;
    lake.pointers().swap("game_result", &first, &next, &metadata).await.unwrap();
    let changed = lake.account.glue("GetTable", &ask).unwrap()["Table"].take();
    assert_eq!(
        changed["Parameters"],
        json!({"table_type": "ICEBERG", "metadata_location": next, "previous_metadata_location": first, "team": "games"})
    );
    assert_eq!(changed["StorageDescriptor"]["Location"], made["StorageDescriptor"]["Location"]);
    let shown = changed["StorageDescriptor"]["Columns"].as_array().unwrap();
    assert_eq!((shown.len(), &shown.last().unwrap()["Name"]), (columns.len() + 1, &json!("gained")));
    let again = lake.pointers().swap("game_result", &first, &next, &metadata).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::Conflict, "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_glue_under_the_name_of_a_table_and_is_none_is_said_and_left_alone() {
    let Some(account) = account() else { return };
    let lake = GlueLake::make(account).await;
    // As versions before tables made it.
    let old = json!({"Name": "game_start", "TableType": "EXTERNAL_TABLE", "Parameters": {"classification": "parquet"}});
    lake.account.glue("CreateTable", &json!({"DatabaseName": lake.database.name, "TableInput": old})).unwrap();
    let catalog = lake.open();
    for error in [catalog.load("game_start").await.unwrap_err(), catalog.create("game_start").await.unwrap_err()] {
        assert_eq!(error.kind, ErrorKind::Invalid);
        for part in
            [lake.database.name.as_str(), "(setting `SLUICE_GLUE_DATABASE`)", "`game_start`", "drop or rename it"]
        {
            assert!(error.detail.contains(part), "{part} is not in {error}");
        }
    }
    assert_eq!(catalog.figures().await.unwrap(), [], "it is no table of the lake");
    let ask = json!({"DatabaseName": lake.database.name, "Name": "game_start"});
    let found = lake.account.glue("GetTable", &ask).unwrap();
    assert_eq!(found["Table"]["Parameters"], old["Parameters"]);
    let nowhere = Resource::new("database", "no_such", "SLUICE_GLUE_DATABASE");
    let nowhere = GlueLake { account: lake.account, database: nowhere };
    let error = nowhere.open().create("game_start").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.detail.contains("database `no_such` (setting `SLUICE_GLUE_DATABASE`) is not there"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_read_and_a_missing_one_is_named() {
    let Some(account) = account() else { return };
    let connection = account.connection(PATIENT);
    let name = account.name("search");
    Clients::new(&account).secrets.create_secret().name(&name).secret_string("user:very-secret").send().await.unwrap();
    let secret = secrets::read(&connection, &Resource::new("secret", &name, "SLUICE_SEARCH_SECRET")).await.unwrap();
    assert_eq!(secret.expose(), "user:very-secret");
    assert!(!format!("{secret:?}").contains("very"), "a secret does not show itself");
    let missing = secrets::read(&connection, &Resource::new("secret", "no-such", "SLUICE_SEARCH_SECRET")).await;
    let error = missing.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.detail.contains("secret `no-such` (setting `SLUICE_SEARCH_SECRET`) is not there"), "{error}");
}
