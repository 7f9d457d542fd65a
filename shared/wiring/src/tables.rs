//! What brings recorded files into the lake's tables on one machine.
//!
//! The template does not have it yet: on AWS, Athena reads the files by the folders that they lie in.

use sluice_template::{DeadLetter, Function, Queue, Topology, Trigger};
use std::collections::BTreeMap;
use std::time::Duration;

/// Name of the queue of `commit`.
pub(crate) const COMMIT_QUEUE: &str = "CommitQueue";
const DEAD_LETTERS: &str = "CommitDeadLetterQueue";
const TIMEOUT: Duration = Duration::from_secs(60);
/// Files become part of their tables together that come within this time.
const WINDOW: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Adds the function `commit`, its queue and its clock.
pub fn add_tables(topology: &mut Topology) {
    let queue = |dead_letter, days| Queue { visibility: TIMEOUT * 6 + WINDOW, retention: DAY * days, dead_letter };
    let dead_letter = DeadLetter { queue: DEAD_LETTERS.into(), max_receive_count: 8 };
    topology.queues.insert(COMMIT_QUEUE.into(), queue(Some(dead_letter), 4));
    topology.queues.insert(DEAD_LETTERS.into(), queue(None, 14));
    let triggers = vec![
        Trigger::Schedule {
            name: "Clock".into(),
            every: Duration::from_secs(60),
            input: serde_json::json!({"tick": "commit"}),
            enabled: true,
        },
        Trigger::Queue {
            name: "Messages".into(),
            queue: COMMIT_QUEUE.into(),
            batch_size: 100,
            window: WINDOW,
            partial_failures: true,
            max_concurrency: Some(2),
            enabled: true,
        },
    ];
    let function = Function {
        verb: "commit".into(),
        code_uri: "functions/commit".into(),
        timeout: TIMEOUT,
        memory_mib: 512,
        environment: BTreeMap::new(),
        triggers,
    };
    topology.functions.insert("CommitFunction".into(), function);
    let function = Function {
        verb: "compact".into(),
        code_uri: "functions/compact".into(),
        timeout: Duration::from_secs(900),
        memory_mib: 2_048,
        environment: BTreeMap::new(),
        triggers: vec![Trigger::Schedule {
            name: "Clock".into(),
            every: Duration::from_secs(3_600),
            input: serde_json::json!({"tick": "compact"}),
            enabled: true,
        }],
    };
    topology.functions.insert("CompactFunction".into(), function);
}
