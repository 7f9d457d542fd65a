//! What an operator does to queues.

use super::failure::Failure;
use super::messages;
use super::queue::depth;
use super::writer::{Shared, Store};
use async_trait::async_trait;
use sluice_ports::{Delivery, Depth, ErrorKind, PortError, QueueConsole};
use std::sync::Arc;

/// How many letters one transaction moves back, so that traffic gets its turn in between.
const REDRIVE_CHUNK: u64 = 100;

pub(super) struct SqliteConsole {
    shared: Arc<Shared>,
}

impl SqliteConsole {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn position(&self, name: &str, operation: &'static str) -> Result<usize, PortError> {
        let found = self.shared.queues.iter().position(|queue| queue.name == name);
        found.ok_or_else(|| PortError::new(ErrorKind::NotFound, operation, format!("no queue `{name}`")))
    }
}

#[async_trait]
impl QueueConsole for SqliteConsole {
    async fn list(&self) -> Result<Vec<(String, Depth, Option<String>)>, PortError> {
        let shared = self.shared.clone();
        let list = move |conn: &rusqlite::Connection| {
            let mut list = Vec::new();
            for (at, queue) in shared.queues.iter().enumerate() {
                let depth = depth(&shared, conn, at)?;
                // One that was taken out of the template shows up as long as something lies in it.
                if queue.is_configured || depth.visible + depth.in_flight > 0 {
                    let dead_letter = queue.dead_letter.map(|(target, _)| shared.queues[target].name.clone());
                    list.push((queue.name.clone(), depth, dead_letter));
                }
            }
            Ok::<_, Failure>(list)
        };
        self.shared.read("console.list", list).await
    }

    async fn peek(&self, queue: &str, limit: usize) -> Result<Vec<Delivery>, PortError> {
        let at = self.position(queue, "console.peek")?;
        let id = self.shared.queues[at].id;
        self.shared.read("console.peek", move |conn| messages::peek(conn, id, limit)).await
    }

    async fn redrive(&self, dead_letter_queue: &str, limit: u64) -> Result<u64, PortError> {
        let at = self.position(dead_letter_queue, "console.redrive")?;
        let mut moved = 0;
        while moved < limit {
            let wanted = REDRIVE_CHUNK.min(limit - moved);
            let redrive = move |store: &mut Store| messages::redrive(store, at, wanted);
            let chunk = self.shared.submit("console.redrive", redrive).await?;
            moved += chunk;
            if chunk < wanted {
                break;
            }
        }
        Ok(moved)
    }
}
