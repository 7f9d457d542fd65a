//! The sinks of the ledger: which are on.

use sluice_stages::ledger::Sink;
use sluice_template::{Topology, Trigger};
use std::collections::BTreeMap;

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
        for sink in Sink::ALL {
            let verb = sink.verb();
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

/// Whether there is a function of this stage and it is not switched off.
pub fn is_on(topology: &Topology, off: &[String], verb: &str) -> bool {
    topology.function_of(verb).is_some() && off.iter().all(|off| off != verb)
}
