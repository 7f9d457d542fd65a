//! What compacts the lake's tables on one machine. The template does not have it yet.

use sluice_template::{Function, Topology, Trigger};
use std::collections::BTreeMap;
use std::time::Duration;

/// Adds the function `compact` and its clock.
pub fn add_compact(topology: &mut Topology) {
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
