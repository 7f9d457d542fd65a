//! One disturbance at every port call of every stage, over all orders and cuts of up to four messages.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use sluice_simulation::call::QueueName;
use sluice_simulation::exhaustive::Stage;

fn runs(stage: impl Fn(usize) -> Stage) -> usize {
    let runs = (1..=4).map(|messages| stage(messages).run_all().unwrap_or_else(|what| panic!("{what}")));
    let runs = runs.sum();
    println!("{runs} schedules");
    runs
}

#[test]
fn ingest_may_be_disturbed_at_any_call() {
    assert!(runs(Stage::ingest) > 1_000);
}

#[test]
fn convert_may_be_disturbed_at_any_call() {
    assert!(runs(|messages| Stage::consumer(QueueName::Convert, messages)) > 10_000);
}

#[test]
fn index_may_be_disturbed_at_any_call() {
    assert!(runs(|messages| Stage::consumer(QueueName::Index, messages)) > 10_000);
}

#[test]
fn detect_may_be_disturbed_at_any_call() {
    assert!(runs(|messages| Stage::consumer(QueueName::Detect, messages)) > 10_000);
}

#[test]
fn notify_may_be_disturbed_at_any_call() {
    assert!(runs(|messages| Stage::consumer(QueueName::Alerts, messages)) > 10_000);
}

#[test]
fn quarantine_may_be_disturbed_at_any_call() {
    assert!(runs(|messages| Stage::consumer(QueueName::Quarantine, messages)) > 1_000);
}

#[test]
fn commit_may_be_disturbed_at_any_call() {
    assert!(runs(|messages| Stage::consumer(QueueName::Commit, messages)) > 10_000);
}

#[test]
fn compact_may_be_disturbed_at_any_call() {
    assert!(runs(Stage::compaction) > 300);
}
