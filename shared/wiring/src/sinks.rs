//! The sinks of the ledger: which are on, and what is counted for those that are off.

use async_trait::async_trait;
use sluice_ports::{Message, PortError, Topic};
use sluice_stages::ledger::{self, Sink};
use sluice_template::{Topology, Trigger};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The sinks of a template.
pub struct Sinks {
    /// The queues behind each sink that is on.
    pub queues: BTreeMap<Sink, Vec<String>>,
    /// Those that are switched off, and so not subscribed.
    pub off: Vec<Sink>,
}

impl Sinks {
    /// The sinks of this template, without those whose stage is in `off`.
    pub fn of(topology: &Topology, off: &[String]) -> Self {
        let mut sinks = Self { queues: BTreeMap::new(), off: Vec::new() };
        for (sink, verb) in [(Sink::Lake, "convert"), (Sink::Search, "index"), (Sink::Detect, "detect")] {
            if off.iter().any(|o| o == verb) {
                sinks.off.push(sink);
                continue;
            }
            let Some((_, function)) = topology.function_of(verb) else { continue };
            let queue_of = |trigger: &Trigger| match trigger {
                Trigger::Queue { queue, .. } => Some(queue.clone()),
                Trigger::Schedule { .. } => None,
            };
            sinks.queues.insert(sink, function.triggers.iter().filter_map(queue_of).collect());
        }
        sinks
    }
}

/// A topic that counts what the sinks that are off do not get, in the same step as the publish: whenever they are on again, the ledger adds
/// up.
pub struct CountingOff {
    /// Where messages go.
    pub topic: Arc<dyn Topic>,
    /// The sinks that are not subscribed.
    pub off: Vec<Sink>,
}

#[async_trait]
impl Topic for CountingOff {
    async fn publish(&self, mut messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        for message in &mut messages {
            ledger::count_off(&mut message.tally, &self.off);
        }
        self.topic.publish(messages).await
    }
}
