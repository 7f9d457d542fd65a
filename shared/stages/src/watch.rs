//! The watch of one machine: looks every few seconds at what CloudWatch's alarms look at on AWS, and says what is wrong.
//!
//! One look may be a moment's, so what passes by itself must be seen several times in a row before it counts, and be well several times
//! before it is over: what comes and goes in between is one incident. Each process counts its own looks; what they lead to is decided once,
//! by [`Incidents`], however many watch.

use crate::incidents::{Incidents, Sighting};
use crate::ledger::audit;
use sluice_domain::alert::{IncidentKind, IncidentState};
use sluice_domain::time::Timestamp;
use sluice_ports::{Depth, PortError, QueueConsole, Table};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two looks.
pub const EVERY: Duration = Duration::from_secs(5);
/// Looks over which failed calls are summed: a minute.
const CALLS_OVER: usize = 12;
/// Failed calls in that time from which on a function is said to fail. One alone may be chance.
const MANY_FAILED: u64 = 3;

/// What only the machine knows.
pub trait Machine: Send + Sync {
    /// Bytes that are free where the data lies; `None` where that cannot be said.
    fn free_bytes(&self) -> Option<u64>;
    /// Calls that failed since the start, by function.
    fn failed_calls(&self) -> BTreeMap<String, u64>;
}

/// What the watch looks at.
pub struct WatchPorts {
    /// The queues.
    pub queues: Arc<dyn QueueConsole>,
    /// Where the last audit of the ledger stands.
    pub table: Arc<dyn Table>,
    /// The machine.
    pub machine: Arc<dyn Machine>,
    /// Where incidents are decided.
    pub incidents: Incidents,
}

/// What the watch is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSettings {
    /// Queues that a running stage takes from. What lies in any other is a dead letter.
    pub consumed: BTreeSet<String>,
    /// A queue whose oldest message waits for longer is behind.
    pub max_lag: Duration,
    /// Less room than this is too little.
    pub min_free_bytes: u64,
}

/// The watch.
pub struct Watch {
    ports: WatchPorts,
    settings: WatchSettings,
    seen: Mutex<Seen>,
}

/// What this process has seen so far.
#[derive(Default)]
struct Seen {
    /// How often in a row a subject was seen in a state.
    streaks: HashMap<(IncidentKind, String), (IncidentState, u32)>,
    /// Failed calls at the last looks, the oldest first.
    failed_calls: VecDeque<BTreeMap<String, u64>>,
}

impl Watch {
    /// A watch over these ports.
    pub fn new(ports: WatchPorts, settings: WatchSettings) -> Self {
        Self { ports, settings, seen: Mutex::default() }
    }

    /// Looks once. The first error is answered after all was looked at; the next look makes up for it.
    pub async fn look(&self, now: Timestamp) -> Result<(), PortError> {
        let mut failed = Ok(());
        let open: BTreeSet<(IncidentKind, String)> = self.ports.incidents.open().await?.into_iter().collect();
        let queues = self.ports.queues.list().await;
        let verdict = audit::last(self.ports.table.as_ref()).await;
        let mut sightings = Vec::new();
        match queues {
            Ok(queues) => self.queues(&queues, &open, &mut sightings),
            Err(e) => failed = failed.and(Err(e)),
        }
        match verdict {
            Ok(problems) => sightings.extend(problems.map(ledger)),
            Err(e) => failed = failed.and(Err(e)),
        }
        sightings.extend(self.ports.machine.free_bytes().map(|free| self.disk(free)));
        self.calls(&mut sightings);
        for sighting in sightings {
            let subject = (sighting.kind, sighting.subject.clone());
            // The state is read from the table once for all: what is as it was needs no more.
            let is_open = open.contains(&subject);
            let changes = is_open == (sighting.state == IncidentState::Resolved);
            if self.is_sure(subject, sighting.state) && changes {
                match self.ports.incidents.see(&sighting, now).await {
                    Ok(Some(incident)) => tracing::warn!(
                        incident.id = %incident.id,
                        incident.kind = incident.kind.name(),
                        incident.subject = %incident.subject,
                        incident.state = incident.state.name(),
                        "{}",
                        incident.sentence()
                    ),
                    Ok(None) => {}
                    Err(e) => failed = failed.and(Err(e)),
                }
            }
        }
        failed
    }

    /// Whether a subject was seen in this state often enough.
    fn is_sure(&self, subject: (IncidentKind, String), state: IncidentState) -> bool {
        let needed = match (subject.0, state) {
            (IncidentKind::Lag | IncidentKind::Disk, IncidentState::Firing) => 2,
            (IncidentKind::Lag | IncidentKind::Disk, IncidentState::Resolved) => 6,
            (IncidentKind::DeadLetters, IncidentState::Resolved) => 2,
            _ => 1,
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let streak = seen.streaks.entry(subject).or_insert((state, 0));
        *streak = if streak.0 == state { (state, streak.1.saturating_add(1)) } else { (state, 1) };
        streak.1 >= needed
    }

    fn queues(
        &self,
        queues: &[(String, Depth, Option<String>)],
        open: &BTreeSet<(IncidentKind, String)>,
        sightings: &mut Vec<Sighting>,
    ) {
        for (name, depth, _) in queues {
            sightings.push(match self.settings.consumed.contains(name) {
                true => self.lag(name, depth),
                false => dead_letters(name, depth.visible + depth.in_flight),
            });
        }
        // A queue that is there no more has neither.
        for (kind, name) in open {
            if matches!(kind, IncidentKind::Lag | IncidentKind::DeadLetters)
                && !sightings.iter().any(|sighting| sighting.kind == *kind && sighting.subject == *name)
            {
                sightings.push(Sighting { kind: *kind, ..dead_letters(name, 0) });
            }
        }
    }

    fn lag(&self, queue: &str, depth: &Depth) -> Sighting {
        let waits = Duration::from_millis(depth.oldest_ms.unwrap_or(0));
        let message = format!(
            "the oldest of {} messages in {queue} waits for {} s",
            depth.visible + depth.in_flight,
            waits.as_secs()
        );
        Sighting {
            kind: IncidentKind::Lag,
            subject: queue.to_owned(),
            state: firing_if(waits > self.settings.max_lag),
            message,
            value: Some(seconds(waits)),
            threshold: Some(seconds(self.settings.max_lag)),
            order: None,
        }
    }

    fn disk(&self, free_bytes: u64) -> Sighting {
        const MIB: u64 = 1 << 20;
        Sighting {
            kind: IncidentKind::Disk,
            subject: "data".to_owned(),
            state: firing_if(free_bytes < self.settings.min_free_bytes),
            message: format!("the disk of the data folder has {} MiB left", free_bytes / MIB),
            value: Some(number(free_bytes)),
            threshold: Some(number(self.settings.min_free_bytes)),
            order: None,
        }
    }

    /// Functions that failed often in the last minute, and those that did not fail in a whole one. Of what is between nothing is said.
    fn calls(&self, sightings: &mut Vec<Sighting>) {
        let totals = self.ports.machine.failed_calls();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_whole = seen.failed_calls.len() >= CALLS_OVER;
        for (function, total) in &totals {
            let before = seen.failed_calls.front().and_then(|before| before.get(function)).copied().unwrap_or(0);
            let failed = total.saturating_sub(before);
            let state = match failed {
                0 if is_whole => IncidentState::Resolved,
                MANY_FAILED.. => IncidentState::Firing,
                _ => continue,
            };
            sightings.push(Sighting {
                kind: IncidentKind::FunctionErrors,
                subject: function.clone(),
                state,
                message: format!("{failed} calls of {function} failed within a minute"),
                value: Some(number(failed)),
                threshold: Some(number(MANY_FAILED)),
                order: None,
            });
        }
        seen.failed_calls.push_back(totals);
        if seen.failed_calls.len() > CALLS_OVER {
            seen.failed_calls.pop_front();
        }
    }
}

fn dead_letters(queue: &str, messages: u64) -> Sighting {
    Sighting {
        kind: IncidentKind::DeadLetters,
        subject: queue.to_owned(),
        state: firing_if(messages > 0),
        message: format!("{messages} messages lie in {queue}: see `sluice queues peek {queue}`"),
        value: Some(number(messages)),
        threshold: Some(0.0),
        order: None,
    }
}

fn ledger(problems: u64) -> Sighting {
    Sighting {
        kind: IncidentKind::Ledger,
        subject: "ledger".to_owned(),
        state: firing_if(problems > 0),
        message: format!(
            "what was accepted and what is stored do not add up in {problems} places: see `sluice ledger`"
        ),
        value: Some(number(problems)),
        threshold: Some(0.0),
        order: None,
    }
}

fn firing_if(is_wrong: bool) -> IncidentState {
    if is_wrong { IncidentState::Firing } else { IncidentState::Resolved }
}

fn seconds(duration: Duration) -> f64 {
    number(duration.as_secs())
}

/// As it is shown: no count here has 53 bits.
fn number(count: u64) -> f64 {
    count as f64
}
