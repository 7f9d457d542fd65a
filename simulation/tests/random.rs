//! Random schedules: everything that the exhaustive ones leave out, and all of it together.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use sluice_simulation::schedule::{explain, run};

/// `make simulate` runs millions more.
const SCHEDULES: u64 = 20_000;

fn hold(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if run(seed).is_err() {
            let failure = explain(seed).unwrap_err();
            panic!("{}\n  {}\nagain: make simulate SEED={seed} RUNS=1", failure.what, failure.seen.trace.join("\n  "));
        }
    }
}

#[test]
fn one_half_of_the_schedules_holds() {
    hold(0..SCHEDULES / 2);
}

#[test]
fn the_other_half_holds_too() {
    hold(SCHEDULES / 2..SCHEDULES);
}

#[test]
fn the_same_seed_is_the_same_schedule() {
    for seed in 0..50 {
        let [one, other] = [explain(seed).unwrap(), explain(seed).unwrap()];
        assert!(one.trace.len() > 5, "{:?}", one.trace);
        assert_eq!(one.trace, other.trace);
    }
}

#[test]
fn schedules_are_disturbed_in_every_way() {
    let seen: Vec<String> = (0..3_000).flat_map(|seed| explain(seed).unwrap().trace).collect();
    for what in [
        "Refused(Unavailable)",
        "Refused(Throttled)",
        "ReplyLost",
        ": Late",
        "Partly(",
        "is killed at",
        ": Lost",
        ": Effective",
        ": lands",
        ": never happens",
        "the clock moves on",
        "the next version of the schemas",
        "a second rule",
        "Tick",
        "CommitTick",
        "compacts the tables",
        "request 0 to process",
    ] {
        assert!(seen.iter().any(|line| line.contains(what)), "no schedule has `{what}`");
    }
    for call in [
        "table.get",
        "table.write group",
        "table.write batch",
        "table.write indexed",
        "table.write plan",
        "table.write alert",
        "table.write delivery",
        "table.write duplicate",
        "topic.publish",
        "queue.send",
        "objects.put",
        "search.create",
        "mail.send",
        "catalog.load",
        "catalog.create",
        "catalog.append",
        "table.write commit",
        "table.write filed",
        "queue.send Commit",
        "queue.settle",
    ] {
        let killed = |line: &&String| line.contains("is killed at") && line.contains(call);
        assert!(seen.iter().any(|line| killed(&line)), "no process is killed at `{call}`");
    }
}
