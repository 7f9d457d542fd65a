//! The outbox keeps the contract of its port.
#![cfg(feature = "mail")]

use sluice_adapters_embedded::mail::OutboxMail;
use sluice_testkit::contract;

#[tokio::test]
async fn the_outbox_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::mail::all(&OutboxMail::open(dir.path()).unwrap()).await;
}
