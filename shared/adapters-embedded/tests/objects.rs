//! Objects on disk keep the contract of their port.
#![cfg(feature = "objects")]

use sluice_adapters_embedded::objects::DiskObjects;
use sluice_testkit::contract;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_on_disk_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::objects::all(Arc::new(DiskObjects::open(dir.path()).unwrap())).await;
}
