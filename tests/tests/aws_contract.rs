//! The AWS adapters keep the contracts of their ports, against ministack or whatever `AWS_ENDPOINT_URL` names.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panic")]

use bytes::Bytes;
use sluice_adapters_aws::athena::AthenaSql;
use sluice_adapters_aws::dynamodb::DynamoTable;
use sluice_adapters_aws::s3::S3Objects;
use sluice_adapters_aws::ses::SesMail;
use sluice_adapters_aws::sns::SnsTopic;
use sluice_adapters_aws::sqs::{ConsoleQueue, SqsConsole, SqsQueue};
use sluice_adapters_aws::{Resource, secrets};
use sluice_ports::{ErrorKind, Objects, PutMode};
use sluice_testkit::contract::{self, topic_queue};
use sluice_tests::ministack::{Account, Ministack};
use sluice_tests::stack::{Clients, PATIENT};
use std::collections::BTreeMap;
use std::sync::Arc;

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
    let database = Resource::new("database", "default", "SLUICE_ATHENA_DATABASE");
    contract::sql::all(&AthenaSql::new(&account.connection(PATIENT), workgroup, &database)).await;
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
