//! The memory ports pass the contract suites.

use sluice_testkit::clock::FakeClock;
use sluice_testkit::contract::{self, topic_queue};
use sluice_testkit::memory::{
    MemoryConsole, MemoryMail, MemoryObjects, MemoryQueue, MemorySearch, MemoryTable, MemoryTopic, QueueRules,
};
use std::collections::BTreeMap;
use std::sync::Arc;

#[tokio::test]
async fn the_memory_table_keeps_the_contract() {
    contract::table::all(Arc::new(MemoryTable::new())).await;
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
