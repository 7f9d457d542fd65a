//! The memory ports pass the contract suites.

use async_trait::async_trait;
use sluice_ports::TableFile;
use sluice_testkit::clock::FakeClock;
use sluice_testkit::contract::{self, topic_queue};
use sluice_testkit::memory::{
    MemoryCatalog, MemoryConsole, MemoryMail, MemoryObjects, MemoryQueue, MemorySearch, MemoryTable, MemoryTopic,
    QueueRules,
};
use std::collections::BTreeMap;
use std::sync::Arc;

#[tokio::test]
async fn the_memory_table_keeps_the_contract() {
    contract::table::all(Arc::new(MemoryTable::new())).await;
}

struct Lake(Arc<MemoryCatalog>);

#[async_trait]
impl contract::catalog::Lake for Lake {
    async fn file(&self, table: &str, n: usize) -> TableFile {
        TableFile { key: format!("lake/{table}/data/{n:03}.parquet"), rows: 1, size_bytes: 1, time_us: (0, 0) }
    }

    async fn read(&self, table: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.0.live(table).into_iter().map(|file| file.key).collect();
        keys.sort();
        keys
    }
}

#[tokio::test]
async fn the_memory_catalog_keeps_the_contract() {
    let catalog = Arc::new(MemoryCatalog::new());
    contract::catalog::all(catalog.clone(), &Lake(catalog), ["a", "b", "c", "d", "e"], None).await;
}

#[tokio::test]
async fn the_memory_objects_keep_the_contract() {
    contract::objects::all(Arc::new(MemoryObjects::new())).await;
}

#[tokio::test]
async fn the_memory_search_keeps_the_contract() {
    contract::search::all(&MemorySearch::new()).await;
}

#[tokio::test]
async fn the_memory_mail_keeps_the_contract() {
    contract::mail::all(&MemoryMail::new()).await;
}

#[tokio::test]
async fn memory_topic_and_queues_keep_the_contract() {
    let clock = FakeClock::default();
    let table = Arc::new(MemoryTable::new());
    let rules = || QueueRules {
        visibility_timeout: topic_queue::VISIBILITY_TIMEOUT,
        retention: topic_queue::RETENTION,
        clock: clock.clone(),
        table: Some(table.clone()),
        dead_letter: None,
    };
    let dead_letters = Arc::new(MemoryQueue::with(rules()));
    let dead_letter = Some((dead_letters.clone(), topic_queue::MAX_RECEIVE_COUNT));
    let everything = Arc::new(MemoryQueue::with(QueueRules { dead_letter, ..rules() }));
    let filtered = Arc::new(MemoryQueue::with(rules()));
    let topic = MemoryTopic::with_table(table.clone());
    topic.subscribe(everything.clone(), None);
    let areas = vec!["alert".to_owned(), "audit".to_owned()];
    topic.subscribe(filtered.clone(), Some(BTreeMap::from([("area".to_owned(), areas)])));
    let console = MemoryConsole::new([
        ("Everything".to_owned(), everything.clone(), Some("DeadLetters".to_owned())),
        ("Filtered".to_owned(), filtered.clone(), None),
        ("DeadLetters".to_owned(), dead_letters.clone(), None),
    ]);
    let world = topic_queue::World {
        topic: Arc::new(topic),
        everything,
        filtered,
        dead_letters,
        console: Some(Arc::new(console)),
        looks_count: false,
        days_can_pass: true,
        table: Some(table),
        advance: Box::new(move |by| clock.advance(by)),
    };
    topic_queue::all(&world).await;
}
