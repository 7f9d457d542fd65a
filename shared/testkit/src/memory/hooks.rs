use super::lock;
use async_trait::async_trait;
use sluice_ports::{HookCall, Hooks, PortError};
use std::sync::Mutex;

/// Keeps every call, repeats included.
#[derive(Debug, Default)]
pub struct MemoryHooks(Mutex<Vec<HookCall>>);

impl MemoryHooks {
    /// One that nobody has called.
    pub fn new() -> Self {
        Self::default()
    }

    /// All calls since the last time that this was asked, in order.
    pub fn take(&self) -> Vec<HookCall> {
        std::mem::take(&mut lock(&self.0))
    }
}

#[async_trait]
impl Hooks for MemoryHooks {
    async fn post(&self, call: HookCall) -> Result<(), PortError> {
        lock(&self.0).push(call);
        Ok(())
    }
}
