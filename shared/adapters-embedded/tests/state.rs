//! Queues and table in SQLite keep the contracts of their ports, survive being closed, and share flushes.
#![cfg(feature = "state")]
#![allow(clippy::unwrap_used, reason = "a test reports by panic")]

use sluice_adapters_embedded::state::{DeadLetterConfig, QueueConfig, State, StateConfig, SubscriptionConfig};
use sluice_testkit::clock::FakeClock;
use sluice_testkit::contract::{self, topic_queue};
use std::collections::BTreeMap;
use std::path::Path;

fn queue(name: &str, dead_letter: Option<&str>) -> QueueConfig {
    QueueConfig {
        name: name.to_owned(),
        visibility_timeout: topic_queue::VISIBILITY_TIMEOUT,
        retention: topic_queue::RETENTION,
        dead_letter: dead_letter.map(|queue| DeadLetterConfig {
            queue: queue.to_owned(),
            max_receive_count: topic_queue::MAX_RECEIVE_COUNT,
        }),
    }
}

fn config(clock: &FakeClock) -> StateConfig {
    let subscription = |queue: &str, filter| SubscriptionConfig { topic: "Events".into(), queue: queue.into(), filter };
    let areas = vec!["alert".to_owned(), "audit".to_owned()];
    StateConfig {
        queues: vec![queue("Everything", Some("DeadLetters")), queue("Filtered", None), queue("DeadLetters", None)],
        subscriptions: vec![
            subscription("Everything", None),
            subscription("Filtered", Some(BTreeMap::from([("area".to_owned(), areas)]))),
        ],
        clock: clock.closure(),
        ..StateConfig::default()
    }
}

fn open(dir: &Path, clock: &FakeClock) -> State {
    State::open(dir, config(clock)).unwrap()
}

#[tokio::test]
async fn topic_queues_and_console_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FakeClock::default();
    let state = open(dir.path(), &clock);
    let world = topic_queue::World {
        topic: state.topic("Events").unwrap(),
        everything: state.queue("Everything").unwrap(),
        filtered: state.queue("Filtered").unwrap(),
        dead_letters: state.queue("DeadLetters").unwrap(),
        console: Some(state.console()),
        looks_count: false,
        days_can_pass: true,
        table: Some(state.table()),
        advance: Box::new(move |by| clock.advance(by)),
    };
    topic_queue::all(&world).await;
}

#[tokio::test]
async fn the_table_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path(), &FakeClock::default());
    contract::table::all(state.table()).await;
}
