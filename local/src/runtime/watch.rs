//! The watch as this machine runs it: looks every few seconds, and knows the disk and the calls that failed.

use crate::runtime::calls::{self, Ending};
use crate::runtime::now;
use sluice_entry::{Function, telemetry};
use sluice_stages::watch::{EVERY, Machine, Watch};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// The disk of a data folder, and the functions that run here.
pub struct ThisMachine {
    data: PathBuf,
    failed: BTreeMap<String, Arc<AtomicU64>>,
}

impl ThisMachine {
    /// Counts from now on the failed calls of these functions.
    pub fn new(data: PathBuf, functions: &mut HashMap<String, Arc<dyn Function>>) -> Self {
        let mut failed = BTreeMap::new();
        calls::tell(functions, |verb| {
            let count = Arc::new(AtomicU64::new(0));
            failed.insert(verb.to_owned(), count.clone());
            Some(Box::new(move |ending| _ = count.fetch_add(u64::from(ending == Ending::Failed), Ordering::Relaxed)))
        });
        Self { data, failed }
    }
}

impl Machine for ThisMachine {
    fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.data);
        disk.ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn failed_calls(&self) -> BTreeMap<String, u64> {
        self.failed.iter().map(|(verb, count)| (verb.clone(), count.load(Ordering::Relaxed))).collect()
    }
}

/// Looks until `stop` turns true.
pub async fn run(watch: Watch, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stop.borrow() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.changed() => break,
        }
        if let Err(error) = watch.look(now()).await {
            tracing::warn!(error = %telemetry::chain(&error), "not all could be looked at");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use sluice_domain::time::Timestamp;
    use sluice_entry::InvokeError;
    use std::time::Duration;

    struct Moody;

    #[async_trait]
    impl Function for Moody {
        async fn invoke(&self, event: &[u8], _: Timestamp) -> Result<Vec<u8>, InvokeError> {
            match event {
                b"well" => Ok(Vec::new()),
                b"slow" => std::future::pending().await,
                b"panic" => panic!("as asked"),
                _ => Err(InvokeError::Event { function: "moody", reason: "as asked".into() }),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_fail_panic_or_take_too_long_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut functions: HashMap<String, Arc<dyn Function>> =
            HashMap::from([("moody".to_owned(), Arc::new(Moody) as Arc<dyn Function>)]);
        let machine = ThisMachine::new(dir.path().to_owned(), &mut functions);
        for (event, failed) in [("well", 0), ("fail", 1), ("slow", 2), ("panic", 3), ("well", 3)] {
            let function = functions["moody"].clone();
            super::super::triggers::call("moody", &function, event.into(), Duration::from_secs(1)).await;
            assert_eq!(machine.failed_calls()["moody"], failed, "{event}");
        }
        assert!(machine.free_bytes().is_some());
        assert!(ThisMachine { data: dir.path().join("none"), ..machine }.free_bytes().is_none());
    }
}
