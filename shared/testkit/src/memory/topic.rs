use super::{MemoryQueue, MemoryTable, lock};
use async_trait::async_trait;
use sluice_ports::{ErrorKind, Message, PortError, Topic};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What SNS takes in one message.
const MAX_BODY_BYTES: usize = 256 * 1_024;

/// Attribute name and the values of which one must be there.
type Filter = BTreeMap<String, Vec<String>>;

/// Records what is published, and passes it on to subscribed queues.
#[derive(Debug, Default)]
pub struct MemoryTopic {
    published: Mutex<Vec<Message>>,
    subscriptions: Mutex<Vec<(Arc<MemoryQueue>, Option<Filter>)>>,
    table: Option<Arc<MemoryTable>>,
}

impl MemoryTopic {
    /// A topic without subscriptions.
    pub fn new() -> Self {
        Self::default()
    }

    /// A topic that applies the messages' tallies to `table`.
    pub fn with_table(table: Arc<MemoryTable>) -> Self {
        Self { table: Some(table), ..Self::default() }
    }

    /// Copies to `queue` what matches `filter`: for each key, the attribute holds one of the values.
    pub fn subscribe(&self, queue: Arc<MemoryQueue>, filter: Option<Filter>) {
        lock(&self.subscriptions).push((queue, filter));
    }

    /// Everything published so far, in order.
    pub fn published(&self) -> Vec<Message> {
        lock(&self.published).clone()
    }

    /// Everything published since the last call, in order.
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut lock(&self.published))
    }

    fn publish_one(&self, message: Message) -> Result<(), PortError> {
        if message.body.len() > MAX_BODY_BYTES {
            return Err(PortError::new(ErrorKind::TooLarge, "topic.publish", "the body has more than 256 KiB"));
        }
        if let Some(table) = &self.table {
            table.tally(&message.tally)?;
        }
        for (queue, filter) in lock(&self.subscriptions).iter() {
            if filter.as_ref().is_none_or(|filter| matches(filter, &message.attributes)) {
                queue.accept(message.clone());
            }
        }
        lock(&self.published).push(message);
        Ok(())
    }
}

#[async_trait]
impl Topic for MemoryTopic {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        messages.into_iter().map(|message| self.publish_one(message)).collect()
    }
}

fn matches(filter: &Filter, attributes: &BTreeMap<String, Vec<String>>) -> bool {
    filter.iter().all(|(key, wanted)| {
        attributes.get(key).is_some_and(|values| values.iter().any(|value| wanted.contains(value)))
    })
}
