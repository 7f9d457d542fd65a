//! The end of every schedule: nothing disturbs any more, and all that is left to do is done.

use crate::backend::Fate;
use crate::call::QueueName;
use crate::random::Random;
use crate::simulation::Simulation;

/// Rounds within which a pipeline that nothing disturbs any more has to come to rest.
const ROUNDS: usize = 40;

/// Every client sends until it is answered, and every message is delivered until it is acknowledged. Late effects land in between, or never.
pub fn come_to_rest(simulation: &mut Simulation, random: &mut Random) -> Result<(), String> {
    for round in 0..ROUNDS {
        settle(simulation, random);
        let mut is_at_rest = true;
        for request in 0..simulation.sent.len() {
            if simulation.answered[request] == 0 {
                is_at_rest = false;
                simulation.send(request, 0);
                settle(simulation, random);
            }
        }
        for queue in QueueName::ALL {
            let mut which = simulation.waiting(queue);
            if !which.is_empty() {
                is_at_rest = false;
                random.shuffle(&mut which);
                simulation.deliver(queue, which, 0);
                settle(simulation, random);
            }
        }
        if simulation.has_open_plans() {
            is_at_rest = false;
            simulation.tick(0);
            settle(simulation, random);
        }
        if simulation.has_open_files() {
            is_at_rest = false;
            simulation.commit_tick(0);
            settle(simulation, random);
        }
        if is_at_rest {
            return Ok(());
        }
        if round > 0 {
            simulation.pass_time();
        }
    }
    Err("the pipeline does not come to rest".into())
}

/// Every message comes once more, acknowledged as it is.
pub fn deliver_everything(simulation: &mut Simulation, random: &mut Random) -> Result<(), String> {
    for queue in QueueName::ALL {
        let which: Vec<usize> = (0..simulation.backend.queue(queue).len()).collect();
        if !which.is_empty() {
            simulation.deliver(queue, which, 1);
            settle(simulation, random);
        }
    }
    come_to_rest(simulation, random)
}

/// One of the late effects lands, or never does.
pub fn land(simulation: &mut Simulation, random: &mut Random) {
    if !simulation.late.is_empty() {
        let (at, happens) = (random.below(simulation.late.len()), !random.one_of(4));
        simulation.land(at, happens);
    }
}

fn settle(simulation: &mut Simulation, random: &mut Random) {
    while !simulation.calls.is_empty() {
        simulation.answer(0, Fate::Done);
        if random.one_of(6) {
            land(simulation, random);
        }
    }
    while !simulation.late.is_empty() {
        land(simulation, random);
    }
}
