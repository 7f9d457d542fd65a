//! Random schedules: everything that can happen, drawn from a seed.

use crate::backend::Fate;
use crate::call::QueueName;
use crate::check::check;
use crate::random::Random;
use crate::rest::{come_to_rest, deliver_everything, land};
use crate::scenario;
use crate::simulation::{Function, LastCall, Simulation};
use sluice_ports::ErrorKind;
use std::collections::{BTreeMap, BTreeSet};

/// Moves of a schedule before its disturbances end.
const MOVES: usize = 400;
/// Processes of a function.
const PROCESSES: usize = 2;

/// What was seen of a schedule.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Moves: answered calls, deliveries, kills and the rest.
    pub moves: usize,
    /// Everything that is not an undisturbed delivery or answer.
    pub disturbances: u32,
    /// What happened, line by line, where it was asked for.
    pub trace: Vec<String>,
}

/// A schedule after which something did not hold.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What did not hold.
    pub what: String,
    /// Disturbances, counted from 0, that were left out because it fails without them too.
    pub without: BTreeSet<u32>,
    /// What happened.
    pub seen: Seen,
}

/// Runs the schedule of a seed.
pub fn run(seed: u64) -> Result<Seen, Box<Failure>> {
    attempt(seed, BTreeSet::new(), false)
}

/// Runs the schedule of a seed that fails again and again, each time without one more of its disturbances, until all that is left is needed;
/// answers that one with its trace.
pub fn explain(seed: u64) -> Result<Seen, Box<Failure>> {
    let Err(mut failure) = attempt(seed, BTreeSet::new(), true) else { return attempt(seed, BTreeSet::new(), true) };
    loop {
        let before = failure.without.len();
        // From the last one on: what is left out changes what comes after it.
        for disturbance in (0..failure.seen.disturbances).rev() {
            let mut without = failure.without.clone();
            if without.insert(disturbance)
                && let Err(shorter) = attempt(seed, without, true)
                && shorter.seen.trace.len() <= failure.seen.trace.len()
            {
                failure = shorter;
            }
        }
        if failure.without.len() == before {
            return Err(failure);
        }
    }
}

fn attempt(seed: u64, without: BTreeSet<u32>, is_traced: bool) -> Result<Seen, Box<Failure>> {
    let mut schedule = Schedule::new(seed, without, is_traced);
    let result = schedule.play().and_then(|()| check(&schedule.simulation));
    let seen =
        Seen { moves: schedule.moves, disturbances: schedule.drawn, trace: named(schedule.simulation.into_trace()) };
    match result {
        Ok(()) => Ok(seen),
        Err(what) => Err(Box::new(Failure { seed, what, without: schedule.without, seen })),
    }
}

/// Ids that are made anew in each run get names in the order in which they come up.
fn named(trace: Vec<String>) -> Vec<String> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut name = |token: &str| -> Option<String> {
        let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        let of_compaction = token.strip_prefix("compact-");
        let token = of_compaction.unwrap_or(token);
        let length = match token.len() {
            22 => 22,
            36 if is_hex(token) && token.as_bytes()[8] == b'-' => 36,
            32.. if is_hex(&token[..32]) => 32,
            _ => return None,
        };
        let next = names.len();
        let number = *names.entry(token[..length].to_owned()).or_insert(next);
        let kind = if of_compaction.is_some() { "compact-" } else { "" };
        Some(format!("{kind}x{number}{}", &token[length..]))
    };
    let line = |line: String| {
        let mut out = String::with_capacity(line.len());
        for part in line.split_inclusive(|c| !is_part(c)) {
            let token = part.trim_end_matches(|c| !is_part(c));
            out.push_str(&name(token).unwrap_or_else(|| token.to_owned()));
            out.push_str(&part[token.len()..]);
        }
        out
    };
    trace.into_iter().map(line).collect()
}

struct Schedule {
    random: Random,
    simulation: Simulation,
    /// Disturbances that are left out.
    without: BTreeSet<u32>,
    /// Disturbances drawn so far.
    drawn: u32,
    /// Disturbances that may still be drawn.
    budget: u32,
    moves: usize,
}

impl Schedule {
    fn new(seed: u64, without: BTreeSet<u32>, is_traced: bool) -> Self {
        let mut random = Random::new(seed);
        // Alone each sink is disturbed more often than together with the others.
        let subscribed: &[QueueName] = match random.below(5) {
            0 | 1 => &[QueueName::Convert],
            2 => &[QueueName::Index],
            3 => &[QueueName::Detect, QueueName::Alerts],
            _ => &[QueueName::Convert, QueueName::Index, QueueName::Detect, QueueName::Alerts],
        };
        let requests = 1 + random.below(4);
        let sent = (0..requests).map(|number| scenario::any(number, &mut random)).collect();
        let simulation = Simulation::new(subscribed, sent, is_traced);
        let budget = random.below(13) as u32;
        Self { random, simulation, without, drawn: 0, budget, moves: 0 }
    }

    fn play(&mut self) -> Result<(), String> {
        while self.moves < MOVES && self.one_move() {
            self.moves += 1;
        }
        come_to_rest(&mut self.simulation, &mut self.random)?;
        if self.random.one_of(4) {
            deliver_everything(&mut self.simulation, &mut self.random)?;
        }
        Ok(())
    }

    /// Whether a disturbance happens now: it was drawn, and it is not left out.
    fn disturbs(&mut self, one_of: usize) -> bool {
        if self.budget == 0 || !self.random.one_of(one_of) {
            return false;
        }
        self.budget -= 1;
        self.drawn += 1;
        !self.without.contains(&(self.drawn - 1))
    }

    /// One move; `false` when there is nothing left to do.
    fn one_move(&mut self) -> bool {
        match self.random.below(20) {
            0..=11 => self.answer() || self.start(),
            12..=16 => self.start() || self.answer(),
            17 => {
                if self.random.one_of(2) {
                    self.kill()
                } else {
                    self.overtake()
                }
                self.answer() || self.start()
            }
            18 => {
                land(&mut self.simulation, &mut self.random);
                self.answer() || self.start()
            }
            _ => {
                self.change();
                self.answer() || self.start()
            }
        }
    }

    fn answer(&mut self) -> bool {
        let waiting = self.simulation.calls.len();
        if waiting == 0 {
            return false;
        }
        let at = self.random.below(waiting);
        let drawn = match self.random.below(8) {
            0 => Fate::Refused(ErrorKind::Unavailable),
            1 => Fate::Refused(ErrorKind::Throttled),
            2..=4 => Fate::ReplyLost,
            5..=6 => Fate::Late,
            _ => Fate::Partly(self.random.number()),
        };
        let fate = if self.disturbs(12) { drawn } else { Fate::Done };
        self.simulation.answer(at, fate);
        true
    }

    fn start(&mut self) -> bool {
        let mut queues = QueueName::ALL;
        self.random.shuffle(&mut queues);
        if self.random.one_of(3) && self.send() {
            return true;
        }
        queues.into_iter().any(|queue| self.deliver(queue)) || self.send()
    }

    fn deliver(&mut self, queue: QueueName) -> bool {
        if self.simulation.running(Function::Consumer(queue)) >= PROCESSES {
            return false;
        }
        let mut which = self.simulation.waiting(queue);
        let others =
            (0..self.simulation.backend.queue(queue).len()).filter(|at| !which.contains(at)).collect::<Vec<_>>();
        // A message that another consumer still has, or that was acknowledged, comes again.
        if !others.is_empty() && self.disturbs(10) {
            which.push(others[self.random.below(others.len())]);
        }
        if which.is_empty() {
            return false;
        }
        self.random.shuffle(&mut which);
        // What is cut off comes with another delivery.
        which.truncate(1 + self.random.below(which.len()));
        let process = self.random.below(PROCESSES);
        self.simulation.deliver(queue, which, process);
        true
    }

    fn send(&mut self) -> bool {
        let all = 0..self.simulation.sent.len();
        let mut open: Vec<usize> = all
            .filter(|request| self.simulation.answered[*request] == 0 && !self.simulation.is_being_sent(*request))
            .collect();
        // A client that has heard nothing sends again; one that was answered may have lost the answer.
        if self.disturbs(30) {
            open.push(self.random.below(self.simulation.sent.len()));
        }
        if open.is_empty() {
            return false;
        }
        let (request, process) = (open[self.random.below(open.len())], self.random.below(PROCESSES));
        self.simulation.send(request, process);
        true
    }

    fn kill(&mut self) {
        let tasks = self.simulation.tasks();
        if tasks.is_empty() || !self.disturbs(1) {
            return;
        }
        let task = tasks[self.random.below(tasks.len())];
        let random = &mut self.random;
        self.simulation
            .kill(task, || [LastCall::Lost, LastCall::Effective, LastCall::Effective, LastCall::Late][random.below(4)]);
    }

    /// Another consumer takes what one works on, before or after its lease has run out.
    fn overtake(&mut self) {
        let tasks = self.simulation.tasks();
        let deliveries: Vec<_> = tasks.into_iter().filter_map(|task| self.simulation.delivery(task)).collect();
        let after_lease = !self.random.one_of(3);
        if deliveries.is_empty() || !self.disturbs(1) {
            return;
        }
        let (queue, which) = deliveries[self.random.below(deliveries.len())].clone();
        if after_lease {
            self.simulation.pass_time();
        }
        self.simulation.deliver(queue, which, self.moves % PROCESSES);
    }

    fn change(&mut self) {
        let drawn = self.random.below(9);
        if !self.disturbs(2) {
            return;
        }
        match drawn {
            0 | 1 => self.simulation.pass_time(),
            2 => {
                self.simulation.deploy();
                for queue in QueueName::ALL {
                    if self.random.one_of(2) {
                        self.simulation.restart(Function::Consumer(queue), 0);
                    }
                }
            }
            3 => self.simulation.add_rule(),
            4 if self.simulation.uses(QueueName::Detect) => self.simulation.tick(0),
            5 if self.simulation.uses(QueueName::Commit) => self.simulation.commit_tick(self.moves % PROCESSES),
            6 if self.simulation.uses(QueueName::Commit) => self.simulation.compact(),
            7 | 8 if self.simulation.uses(QueueName::Commit) => self.simulation.compact_tick(self.moves % PROCESSES),
            _ => {}
        }
    }
}
