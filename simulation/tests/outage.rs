//! A sink that is down holds up nothing but itself, and has everything when it is back.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use sluice_ports::ErrorKind;
use sluice_simulation::backend::Fate;
use sluice_simulation::call::QueueName;
use sluice_simulation::check::check;
use sluice_simulation::random::Random;
use sluice_simulation::rest::come_to_rest;
use sluice_simulation::scenario;
use sluice_simulation::simulation::Simulation;

const REQUESTS: usize = 12;
/// Deliveries while the sink is down: as many as make a dead letter.
const DELIVERIES: usize = 24;

/// Answers what waits; calls to `down` are refused. Says how many were.
fn settle(simulation: &mut Simulation, down: &str) -> usize {
    let mut refused = 0;
    while !simulation.calls.is_empty() {
        let is_down = simulation.calls.with(0, |call| call.operation.name() == down);
        refused += usize::from(is_down);
        simulation.answer(0, if is_down { Fate::Refused(ErrorKind::Unavailable) } else { Fate::Done });
    }
    refused
}

/// Sends requests and delivers their messages for an hour in which a port is down.
fn an_hour_without(down: &str) -> (Simulation, usize) {
    let mut simulation = Simulation::new(&QueueName::ALL, (0..REQUESTS).map(scenario::of_each_naming).collect(), false);
    let mut refused = 0;
    for request in 0..REQUESTS {
        simulation.send(request, 0);
        refused += settle(&mut simulation, down);
    }
    for delivery in 0..DELIVERIES {
        if delivery == DELIVERIES / 2 {
            simulation.pass_time();
        }
        for queue in QueueName::ALL {
            let waiting = simulation.waiting(queue);
            if !waiting.is_empty() {
                simulation.deliver(queue, waiting, 0);
                refused += settle(&mut simulation, down);
            }
        }
    }
    (simulation, refused)
}

fn all_messages_wait(simulation: &Simulation, queue: QueueName) -> bool {
    simulation.waiting(queue).len() == simulation.backend.queue(queue).len()
}

fn has_everything_when_it_is_back(mut simulation: Simulation) {
    come_to_rest(&mut simulation, &mut Random::new(1)).unwrap();
    check(&simulation).unwrap();
}

#[test]
fn search_that_is_down_for_an_hour_does_not_hold_up_the_lake() {
    let (simulation, refused) = an_hour_without("search.create");
    assert!(refused >= DELIVERIES, "search was asked {refused} times");
    assert!(simulation.backend.search.documents().is_empty());
    assert!(all_messages_wait(&simulation, QueueName::Index), "nothing is acknowledged that is not searchable");
    assert!(simulation.waiting(QueueName::Convert).is_empty());
    assert!(simulation.waiting(QueueName::Detect).is_empty());
    has_everything_when_it_is_back(simulation);
}

#[test]
fn a_lake_that_is_down_for_an_hour_does_not_hold_up_search() {
    let (simulation, refused) = an_hour_without("objects.put");
    assert!(refused >= DELIVERIES, "the lake was asked {refused} times");
    assert!(all_messages_wait(&simulation, QueueName::Convert), "nothing is acknowledged that is not stored");
    assert!(simulation.waiting(QueueName::Index).is_empty());
    assert!(simulation.waiting(QueueName::Detect).is_empty());
    has_everything_when_it_is_back(simulation);
}
