//! Exhaustive schedules: one disturbance at every port call of a stage, over every order of up to four messages and every way to cut that
//! order into deliveries.

use crate::backend::{Backend, Fate};
use crate::call::QueueName;
use crate::check::check;
use crate::random::Random;
use crate::rest::{come_to_rest, deliver_everything};
use crate::scenario::{self, Sent};
use crate::simulation::{Function, LastCall, Simulation};
use sluice_ports::ErrorKind;
use std::fmt;
use std::sync::Arc;

/// What happens at one port call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// The call is refused.
    Refused,
    /// The call does what it says, and times out.
    ReplyLost,
    /// The call times out, and does what it says when the invocation is over.
    Late,
    /// The call times out, and does what it says when everything else is done.
    VeryLate,
    /// The process is killed; the call never happens.
    Killed,
    /// The process is killed; the call has happened.
    KilledAfter,
    /// The process is killed; the call happens after the next delivery has begun.
    KilledThenLate,
    /// The process is killed; the call happens when everything else is done.
    KilledThenVeryLate,
    /// The process stands still, another consumer takes the same messages and finishes, and then it goes on.
    Overtaken,
    /// The same, and the clock moves on by more than the lease before the other consumer begins.
    OvertakenAfterLease,
    /// Before the call happens, another engine compacts the tables.
    Compacted,
    /// Before the call happens, recorded files become part of the tables.
    Committed,
}

impl Disturbance {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Refused,
        Self::ReplyLost,
        Self::Late,
        Self::VeryLate,
        Self::Killed,
        Self::KilledAfter,
        Self::KilledThenLate,
        Self::KilledThenVeryLate,
        Self::Overtaken,
        Self::OvertakenAfterLease,
        Self::Compacted,
        Self::Committed,
    ];
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The messages in order, cut into deliveries.
    pub deliveries: Vec<Vec<usize>>,
    /// Before which call, counted from 0, and what; none for the schedule in which nothing happens.
    pub disturbance: Option<(usize, Disturbance)>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.disturbance {
            Some((call, what)) => write!(f, "{:?}, {what:?} at call {call}", self.deliveries),
            None => write!(f, "{:?}, undisturbed", self.deliveries),
        }
    }
}

/// The stage whose calls are disturbed, and the state before its first message.
pub struct Stage {
    function: Function,
    backend: Backend,
    sent: Arc<[Sent]>,
    answered: Vec<usize>,
    messages: usize,
}

impl Stage {
    /// `ingest`, with this many requests to take.
    pub fn ingest(requests: usize) -> Self {
        let sent: Arc<[Sent]> = (0..requests).map(scenario::of_each_naming).collect();
        let simulation = Simulation::new(&[QueueName::Convert, QueueName::Index], Arc::clone(&sent), false);
        let answered = simulation.answered.clone();
        Self { function: Function::Ingest, backend: simulation.backend, sent, answered, messages: requests }
    }

    /// The consumer of a queue, with this many messages in it.
    pub fn consumer(queue: QueueName, messages: usize) -> Self {
        let (subscribed, request): (&[QueueName], fn(usize) -> Sent) = match queue {
            QueueName::Convert | QueueName::Index => (&[queue], scenario::plain),
            QueueName::Quarantine => (&[QueueName::Convert], scenario::half_bad),
            QueueName::Commit => (&[QueueName::Convert], scenario::of_one_table),
            QueueName::Detect => (&[QueueName::Detect, QueueName::Alerts], scenario::plain),
            QueueName::Alerts => (&[QueueName::Detect, QueueName::Alerts], scenario::alerting),
        };
        let sent: Arc<[Sent]> = (0..messages).map(request).collect();
        let mut simulation = Simulation::new(subscribed, Arc::clone(&sent), false);
        for request in 0..messages {
            simulation.send(request, 0);
            finish(&mut simulation);
        }
        if queue == QueueName::Alerts {
            let which = simulation.waiting(QueueName::Detect);
            simulation.deliver(QueueName::Detect, which, 0);
            finish(&mut simulation);
        }
        if queue == QueueName::Commit {
            // Each in a group of its own.
            for message in simulation.waiting(QueueName::Convert) {
                simulation.deliver(QueueName::Convert, vec![message], 0);
                finish(&mut simulation);
            }
        }
        let (function, answered) = (Function::Consumer(queue), simulation.answered.clone());
        assert_eq!(simulation.waiting(queue).len(), messages, "what the stage is given");
        Self { function, backend: simulation.backend, sent, answered, messages }
    }

    /// `compact`, with so many files in a table and one more that is recorded; some events are in each of them.
    pub fn compaction(files: usize) -> Self {
        let sent: Arc<[Sent]> = (0..=files).map(scenario::repeating).collect();
        let mut simulation = Simulation::new(&[QueueName::Convert], Arc::clone(&sent), false);
        for request in 0..sent.len() {
            simulation.send(request, 0);
            finish(&mut simulation);
            let which = simulation.waiting(QueueName::Convert);
            simulation.deliver(QueueName::Convert, which, 0);
            finish(&mut simulation);
            if request < files {
                let which = simulation.waiting(QueueName::Commit);
                simulation.deliver(QueueName::Commit, which, 0);
                finish(&mut simulation);
            }
        }
        let (function, answered) = (Function::CompactTick, simulation.answered.clone());
        Self { function, backend: simulation.backend, sent, answered, messages: files }
    }

    /// Every schedule; answers how many there were, or the first after which something does not hold.
    pub fn run_all(&self) -> Result<usize, String> {
        let mut runs = 0;
        for deliveries in self.deliveries() {
            let mut plan = Plan { deliveries, disturbance: None };
            let calls = self.run(&plan)?;
            let possible = Disturbance::ALL.into_iter().filter(|what| match what {
                Disturbance::Compacted => self.changes_tables(),
                Disturbance::Committed => self.function == Function::CompactTick,
                _ => true,
            });
            let disturbances = (0..calls).flat_map(|call| possible.clone().map(move |what| (call, what)));
            runs += 1;
            for disturbance in disturbances {
                plan.disturbance = Some(disturbance);
                self.run(&plan).map_err(|what| format!("schedule {runs} of {} messages: {what}", self.messages))?;
                runs += 1;
            }
        }
        Ok(runs)
    }

    /// Whether the tables matter to the stage.
    fn changes_tables(&self) -> bool {
        matches!(self.function, Function::Consumer(QueueName::Commit) | Function::CompactTick)
    }

    /// All orders of the messages and all ways to cut them. A request is taken alone.
    fn deliveries(&self) -> Vec<Vec<Vec<usize>>> {
        if self.function == Function::CompactTick {
            // The clock ticks twice, with nothing in its hands.
            return vec![vec![Vec::new(); 2]];
        }
        let all = (1 << self.messages.saturating_sub(1)) - 1;
        let cuts = if self.function == Function::Ingest { all..=all } else { 0..=all };
        orders(self.messages).iter().flat_map(|order| cuts.clone().map(move |cuts| cut(order, cuts))).collect()
    }

    /// One schedule; answers how many calls the stage made before everything came to rest.
    pub fn run(&self, plan: &Plan) -> Result<usize, String> {
        self.attempt(plan, false).map_err(|(what, _)| {
            let trace = match self.attempt(plan, true) {
                Err((_, trace)) => trace.join("\n  "),
                Ok(_) => "(it holds when it is repeated)".into(),
            };
            format!("{plan}: {what}\n  {trace}")
        })
    }

    fn attempt(&self, plan: &Plan, is_traced: bool) -> Result<usize, (String, Vec<String>)> {
        let simulation =
            Simulation::over(self.backend.clone(), Arc::clone(&self.sent), self.answered.clone(), is_traced);
        let mut play = Play { stage: self, plan, simulation, calls: 0, landing: None };
        match play.run().and_then(|()| check(&play.simulation)) {
            Ok(()) => Ok(play.calls),
            Err(what) => Err((what, play.simulation.into_trace())),
        }
    }
}

/// When what is late lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Landing {
    AfterTheInvocation,
    IntoTheNext,
    AtTheEnd,
}

struct Play<'p> {
    stage: &'p Stage,
    plan: &'p Plan,
    simulation: Simulation,
    calls: usize,
    landing: Option<Landing>,
}

impl Play<'_> {
    fn run(&mut self) -> Result<(), String> {
        for delivery in &self.plan.deliveries {
            self.start(delivery, 0);
            self.land(Landing::IntoTheNext);
            while !self.simulation.calls.is_empty() {
                match self.plan.disturbance.filter(|(call, _)| *call == self.calls) {
                    Some((_, what)) => self.disturb(what, delivery),
                    None => self.simulation.answer(0, Fate::Done),
                }
                self.calls += 1;
            }
            self.land(Landing::AfterTheInvocation);
        }
        // What waits for the end lands after all has come to rest, and then every message comes once more.
        let mut random = Random::new(0);
        let late = std::mem::take(&mut self.simulation.late);
        come_to_rest(&mut self.simulation, &mut random)?;
        if !late.is_empty() {
            self.simulation.late = late;
            self.land(self.landing.unwrap_or(Landing::AtTheEnd));
            deliver_everything(&mut self.simulation, &mut random)?;
        }
        Ok(())
    }

    fn start(&mut self, delivery: &[usize], process: usize) {
        match self.stage.function {
            Function::Consumer(queue) => self.simulation.deliver(queue, delivery.to_vec(), process),
            Function::CompactTick => self.simulation.compact_tick(process),
            _ => delivery.iter().for_each(|request| self.simulation.send(*request, process)),
        }
    }

    fn disturb(&mut self, what: Disturbance, delivery: &[usize]) {
        let kill = |play: &mut Self, last_call, landing| {
            play.landing = Some(landing);
            let task = play.simulation.calls.with(0, |call| call.task);
            let mut calls = 0;
            play.simulation.kill(task, || {
                calls += 1;
                if calls == 1 { last_call } else { LastCall::Lost }
            });
        };
        match what {
            Disturbance::Refused => self.simulation.answer(0, Fate::Refused(ErrorKind::Unavailable)),
            Disturbance::ReplyLost => self.simulation.answer(0, Fate::ReplyLost),
            Disturbance::Late | Disturbance::VeryLate => {
                let soon = what == Disturbance::Late;
                self.landing = Some(if soon { Landing::AfterTheInvocation } else { Landing::AtTheEnd });
                self.simulation.answer(0, Fate::Late);
            }
            Disturbance::Killed => kill(self, LastCall::Lost, Landing::AtTheEnd),
            Disturbance::KilledAfter => kill(self, LastCall::Effective, Landing::AtTheEnd),
            Disturbance::KilledThenLate => kill(self, LastCall::Late, Landing::IntoTheNext),
            Disturbance::KilledThenVeryLate => kill(self, LastCall::Late, Landing::AtTheEnd),
            Disturbance::Compacted => {
                self.simulation.compact();
                self.simulation.answer(0, Fate::Done);
            }
            Disturbance::Committed => {
                let held = self.simulation.calls.len();
                self.simulation.commit_tick(1);
                while self.simulation.calls.len() > held {
                    self.simulation.answer(held, Fate::Done);
                }
                self.simulation.answer(0, Fate::Done);
            }
            Disturbance::Overtaken | Disturbance::OvertakenAfterLease => {
                let held = self.simulation.calls.len();
                if what == Disturbance::OvertakenAfterLease {
                    self.simulation.pass_time();
                }
                self.start(delivery, 1);
                while self.simulation.calls.len() > held {
                    self.simulation.answer(held, Fate::Done);
                }
            }
        }
    }

    fn land(&mut self, when: Landing) {
        if self.landing == Some(when) {
            while !self.simulation.late.is_empty() {
                self.simulation.land(0, true);
            }
        }
    }
}

fn finish(simulation: &mut Simulation) {
    while !simulation.calls.is_empty() {
        simulation.answer(0, Fate::Done);
    }
}

/// All orders of so many messages.
fn orders(messages: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for message in 0..messages {
        let insert = |order: &Vec<usize>| -> Vec<Vec<usize>> {
            let place = |at| [&order[..at], &[message], &order[at..]].concat();
            (0..=order.len()).map(place).collect()
        };
        orders = orders.iter().flat_map(insert).collect();
    }
    orders
}

/// An order cut behind each message whose bit is set.
fn cut(order: &[usize], cuts: usize) -> Vec<Vec<usize>> {
    let mut deliveries = vec![Vec::new()];
    for (at, message) in order.iter().enumerate() {
        if let Some(delivery) = deliveries.last_mut() {
            delivery.push(*message);
        }
        if at + 1 < order.len() && cuts >> at & 1 == 1 {
            deliveries.push(Vec::new());
        }
    }
    deliveries
}
