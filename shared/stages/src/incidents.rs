//! Incidents: what goes wrong in the product itself, each decided once and told as `alert.fired` and `alert.resolved`.
//!
//! | row | holds |
//! |---|---|
//! | `incident-state` / `kind#subject` | whether it is firing, how many incidents the subject has had, what is still to be published |
//! | `incident` / `time#id` | an incident, from its beginning on |
//! | `alert` / id of the event | the incident as it is told by that event, for `notify` |
//!
//! Whoever watches may see the same at the same time, die, or not hear what became of a write. So a change of state is one transaction on the
//! condition of the version of the state row that was read: one of two wins, and the other reads what is there. The ids of incident and
//! events are hashed from kind, subject and the number in the state row, so that a repetition makes the same. What is to be published stands
//! in that row until it was, so whoever looks next goes on with it; `notify` sends an event's mail once, however often it was published. No
//! clock is compared with another: the time of an incident is only shown.

use crate::channels;
use crate::detect::{ALERTS, KEEP_ALERT_US, event_message};
use crate::members::Members;
use crate::rows::{self, corrupt, expiry};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sluice_domain::alert::{Incident, IncidentKind, IncidentState, Recipient};
use sluice_domain::time::Timestamp;
use sluice_ports::{Condition, ErrorKind, Item, Key, PortError, Query, Table, Topic, Write};
use std::sync::Arc;

/// Partition of the states.
const STATES: &str = "incident-state";
/// Partition of the incidents.
const INCIDENTS: &str = "incident";
/// How often a decision is tried again when others decide at the same time.
const ATTEMPTS: usize = 5;
/// Most whom one incident is told.
const MAX_TOLD: usize = 50;

/// What somebody has seen of a subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// What may be wrong.
    pub kind: IncidentKind,
    /// What it is about.
    pub subject: String,
    /// Whether it is wrong.
    pub state: IncidentState,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What was measured.
    pub value: Option<f64>,
    /// What it was compared with.
    pub threshold: Option<f64>,
    /// Where who sees it gives his sightings an order: a text that sorts by it. An older sighting then never turns a state back.
    pub order: Option<String>,
}

/// The incidents of a table.
pub struct Incidents {
    table: Arc<dyn Table>,
    topic: Arc<dyn Topic>,
}

/// The row of a subject.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// Sort key of the incident that goes on.
    firing: Option<String>,
    /// How many incidents there were.
    number: u64,
    /// The newest sighting, where they have an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    /// Ids of events that are to be published, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    untold: Vec<String>,
}

impl Incidents {
    /// The incidents of this table, told by this topic.
    pub fn new(table: Arc<dyn Table>, topic: Arc<dyn Topic>) -> Self {
        Self { table, topic }
    }

    /// Takes a sighting. Where it changes the state of its subject, that is decided here or by somebody else; answers the incident where it
    /// was decided here. What was decided is published when this returns without an error.
    pub async fn see(&self, sighting: &Sighting, now: Timestamp) -> Result<Option<Incident>, PortError> {
        let key = state_key(sighting.kind, &sighting.subject);
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let (state, version) = self.state(&key).await?;
            let Some((next, incident)) = self.next(&state, sighting, now).await? else {
                self.tell(&key).await?;
                return Ok(None);
            };
            let mut writes = vec![put_state(&key, &next, version)?];
            if let Some(incident) = &incident {
                writes.extend(self.decided(incident, now)?);
            }
            match self.table.write(writes).await {
                Ok(()) => {
                    self.tell(&key).await?;
                    return Ok(incident);
                }
                // Somebody else was first, or it is not known who was: the state says it.
                Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        let busy = || PortError::new(ErrorKind::Unavailable, "table.write", "an incident is being decided by others");
        Err(last.unwrap_or_else(busy))
    }

    /// The state after a sighting, and the incident where one begins or ends; `None` where nothing changes.
    async fn next(
        &self,
        state: &State,
        sighting: &Sighting,
        now: Timestamp,
    ) -> Result<Option<(State, Option<Incident>)>, PortError> {
        if sighting.order.is_some() && sighting.order <= state.seen {
            return Ok(None);
        }
        let mut next = State { seen: sighting.order.clone().or_else(|| state.seen.clone()), ..state.clone() };
        let incident = match (&state.firing, sighting.state) {
            (None, IncidentState::Firing) => {
                next.number += 1;
                let (kind, subject) = (sighting.kind, Incident::subject_of(&sighting.subject));
                let incident = Incident {
                    id: Incident::id_of(kind, &subject, next.number),
                    kind,
                    subject,
                    state: IncidentState::Firing,
                    fired_at: now,
                    resolved_at: None,
                    message: Incident::message_of(&sighting.message),
                    value: sighting.value,
                    threshold: sighting.threshold,
                    told: self.recipients().await?,
                };
                next.firing = Some(row_of(&incident));
                incident
            }
            (Some(row), IncidentState::Resolved) => {
                let key = Key::new(INCIDENTS, row);
                let found = self.table.get(std::slice::from_ref(&key)).await?.pop().flatten();
                next.firing = None;
                // It went on for longer than it is remembered, and whoever was told has forgotten it too.
                let Some(found) = found else { return Ok(Some((next, None))) };
                let begun = read(&found)?;
                // A clock that was set back must not let it end before it began.
                let resolved_at = Some(now.max(begun.fired_at).to_micros_text());
                Incident { state: IncidentState::Resolved, resolved_at, ..begun }
            }
            _ if next.seen == state.seen => return Ok(None),
            _ => return Ok(Some((next, None))),
        };
        next.untold.push(incident.event_id(incident.state));
        Ok(Some((next, Some(incident))))
    }

    fn decided(&self, incident: &Incident, now: Timestamp) -> Result<[Write; 2], PortError> {
        let value = serde_json::to_value(incident).map_err(|e| unwritable(incident).with_source(e))?;
        let expires_at = Some(expiry(now, KEEP_ALERT_US));
        let told = Key::new(ALERTS, incident.event_id(incident.state));
        let incident = Key::new(INCIDENTS, row_of(incident));
        Ok([
            Write::Put { key: incident, value: value.clone(), condition: Condition::Any, expires_at },
            Write::Put { key: told, value: json!({"incident": value}), condition: Condition::Any, expires_at },
        ])
    }

    /// Whom an incident that begins now is told: the channels for operators, or else the admins.
    async fn recipients(&self) -> Result<Vec<Recipient>, PortError> {
        let operators = channels::operators(self.table.as_ref()).await?;
        if !operators.is_empty() {
            return Ok(operators.into_iter().take(MAX_TOLD).collect());
        }
        let admins = Members::admin_addresses(self.table.as_ref()).await?;
        Ok(admins.into_iter().map(Recipient::Address).take(MAX_TOLD).collect())
    }

    /// Publishes what is still to be published of a subject.
    async fn tell(&self, key: &Key) -> Result<(), PortError> {
        for _ in 0..ATTEMPTS {
            let (state, version) = self.state(key).await?;
            if state.untold.is_empty() {
                return Ok(());
            }
            let rows: Vec<Key> = state.untold.iter().map(|id| Key::new(ALERTS, id)).collect();
            let mut messages = Vec::with_capacity(rows.len());
            for (row, found) in rows.iter().zip(self.table.get(&rows).await?) {
                let incident = told(&found.ok_or_else(|| corrupt(row))?)?;
                let text = incident.event_text();
                messages.push(event_message(&incident.batch_id(), incident.event_type(), text, incident.since())?);
            }
            self.topic.publish(messages).await.into_iter().collect::<Result<(), _>>()?;
            let next = State { untold: Vec::new(), ..state };
            match self.table.write(vec![put_state(key, &next, version)?]).await {
                Ok(()) => return Ok(()),
                // Where it stays noted it is published once more, and told once all the same.
                Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The subjects with an incident that goes on. What was decided and not published is published.
    pub async fn open(&self) -> Result<Vec<(IncidentKind, String)>, PortError> {
        let mut open = Vec::new();
        for item in rows::all(self.table.as_ref(), STATES).await? {
            let state: State = serde_json::from_value(item.value).map_err(|e| corrupt(&item.key).with_source(e))?;
            if !state.untold.is_empty() {
                self.tell(&item.key).await?;
            }
            let Some((kind, subject)) = item.key.sort.split_once('#') else { continue };
            if state.firing.is_some()
                && let Ok(kind) = serde_json::from_value(json!(kind))
            {
                open.push((kind, subject.to_owned()));
            }
        }
        Ok(open)
    }

    async fn state(&self, key: &Key) -> Result<(State, Condition), PortError> {
        match self.table.get(std::slice::from_ref(key)).await?.pop().flatten() {
            None => Ok((State::default(), Condition::Absent)),
            Some(item) => {
                let state = serde_json::from_value(item.value).map_err(|e| corrupt(key).with_source(e))?;
                Ok((state, Condition::Version(item.version)))
            }
        }
    }
}

/// Incidents, newest first: those that go on, or all, at most `limit`.
pub(crate) async fn newest(
    table: &dyn Table,
    is_wanted: impl Fn(&Incident) -> bool + Send,
    limit: usize,
) -> Result<Vec<Incident>, PortError> {
    let mut newest = Vec::new();
    let mut after = None;
    while newest.len() < limit {
        let query = Query { after, descending: true, ..Query::prefix(INCIDENTS, "", rows::PAGE) };
        let page = table.query(query).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.sort.clone());
        for item in &page {
            let incident = read(item)?;
            if newest.len() < limit && is_wanted(&incident) {
                newest.push(incident);
            }
        }
    }
    Ok(newest)
}

/// The incident of a row of [`ALERTS`].
pub(crate) fn told(row: &Item) -> Result<Incident, PortError> {
    serde_json::from_value(row.value["incident"].clone()).map_err(|e| corrupt(&row.key).with_source(e))
}

fn read(row: &Item) -> Result<Incident, PortError> {
    serde_json::from_value(row.value.clone()).map_err(|e| corrupt(&row.key).with_source(e))
}

fn state_key(kind: IncidentKind, subject: &str) -> Key {
    Key::new(STATES, format!("{}#{}", kind.name(), Incident::subject_of(subject)))
}

fn row_of(incident: &Incident) -> String {
    format!("{}#{}", incident.fired_at.to_micros_text(), incident.id)
}

fn put_state(key: &Key, state: &State, condition: Condition) -> Result<Write, PortError> {
    let value = serde_json::to_value(state).map_err(|e| corrupt(key).with_source(e))?;
    // Never let go of: the number in it makes the ids.
    Ok(Write::Put { key: key.clone(), value, condition, expires_at: None })
}

fn unwritable(incident: &Incident) -> PortError {
    PortError::new(ErrorKind::Invalid, "table.write", format!("incident `{}`", incident.id))
}
