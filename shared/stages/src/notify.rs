//! Notify: tells people of decided alerts, one delivery per (alert, channel).
//!
//! A delivery has a row `("delivery", "<alert id>#<channel>")`: it is claimed before the sending and marked after it, so that overlapping
//! consumers do not both send. A message is sent twice only where the process dies, or a call times out, between sending and marking;
//! every copy has the same `Message-ID`. A channel that fails does not hold back the others: the message comes again, and those that are
//! marked are left out.
//!
//! What went wrong in the product itself (`crate::incidents`) is told to whom it was decided to be told when it fired, and its end only after
//! its beginning. On AWS the alarms of CloudWatch come the same way: a message of one is taken as a sighting, and what it leads to comes back
//! through the topic.
//!
//! A claim runs out [`LEASE_US`] after it was made, so a message whose consumer died is sent by the next delivery after that. It spares a
//! second mail and decides nothing else: where clocks differ or a consumer is held up for longer than that, a mail goes out twice, and
//! never not at all: only a delivery that was sent, or can never be, is marked, and only then its message is acknowledged. Claims and releases
//! name the version that they have seen, so one that lands late takes nothing from its successor; a mark is a fact and takes effect
//! whenever it lands.

use crate::alarm;
use crate::channels::{Channels, Letter, Sent};
use crate::detect::{ALERTS, KEEP_ALERT_US, full_text};
use crate::incidents::Incidents;
use crate::item::{Item, Outcome};
use crate::quarantine::{self, Quarantined};
use crate::rows::expiry;
use futures::StreamExt as _;
use serde::Deserialize as _;
use serde_json::{Value, json};
use sluice_domain::alert::{Alert, Channel, FIRED, Incident, IncidentState, RESOLVED, Recipient};
use sluice_domain::event::Event;
use sluice_domain::message;
use sluice_domain::time::{SECOND_US, Timestamp};
use sluice_ports::{Condition, ErrorKind, Hooks, Key, Mail, Queue, SEND_TIMEOUT, Table, Topic, Write};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Partition of the deliveries.
const DELIVERIES: &str = "delivery";
/// How long a claim keeps others from sending: what a send takes at most, and a margin for claiming, marking and clocks that differ.
pub const LEASE_US: i64 = SEND_TIMEOUT.as_micros() as i64 + LEASE_MARGIN_US;
const LEASE_MARGIN_US: i64 = 5 * SECOND_US;
/// Messages that are worked on at the same time.
const CONCURRENT_MESSAGES: usize = 8;
/// Of one message, deliveries that are made at the same time: more than a rule has channels.
const CONCURRENT_DELIVERIES: usize = 20;
/// How often a row is written again.
const ATTEMPTS: usize = 3;

/// What `notify` works with.
pub struct NotifyPorts {
    /// Sends mail.
    pub mail: Arc<dyn Mail>,
    /// Posts to web addresses.
    pub hooks: Arc<dyn Hooks>,
    /// Alerts and deliveries.
    pub table: Arc<dyn Table>,
    /// Where goes what CloudWatch's alarms lead to.
    pub topic: Arc<dyn Topic>,
    /// Where goes what can never be sent.
    pub quarantine: Arc<dyn Queue>,
}

/// What `notify` is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifySettings {
    /// Sender address of mails.
    pub from: String,
    /// Where people reach the console; the link in a mail begins with it. Empty: no link.
    pub console_url: String,
}

/// The stage.
pub struct Notify {
    ports: NotifyPorts,
    channels: Channels,
    incidents: Incidents,
    settings: NotifySettings,
}

/// The time, which goes on while a delivery is worked on.
#[derive(Debug, Clone, Copy)]
struct Clock {
    begun: Timestamp,
    started: Instant,
}

impl Clock {
    fn now(self) -> Timestamp {
        self.begun.plus_micros(i64::try_from(self.started.elapsed().as_micros()).unwrap_or(0))
    }
}

/// What is told.
enum Notice {
    /// A rule fired.
    Alert(Box<Alert>),
    /// Something in the product itself is wrong, or well again.
    Incident(Box<Incident>),
}

impl Notice {
    fn read(row: &Value) -> Result<Self, serde_json::Error> {
        match row.get("incident") {
            Some(incident) => Incident::deserialize(incident).map(|incident| Self::Incident(Box::new(incident))),
            None => Alert::deserialize(&row["alert"]).map(|alert| Self::Alert(Box::new(alert))),
        }
    }

    /// Id of its event, the same for all copies of it.
    fn id(&self) -> String {
        match self {
            Self::Alert(alert) => alert.id.clone(),
            Self::Incident(incident) => incident.event_id(incident.state),
        }
    }

    fn decided(&self) -> Timestamp {
        match self {
            Self::Alert(alert) => alert.decided,
            Self::Incident(incident) => incident.since(),
        }
    }

    fn event_text(&self) -> String {
        match self {
            Self::Alert(alert) => alert.event_text(),
            Self::Incident(incident) => incident.event_text(),
        }
    }

    fn letter(&self, console_url: &str) -> Letter {
        let (mail, json) = match self {
            // A rule names mail addresses only.
            Self::Alert(alert) => (alert.mail(console_url), Value::Null),
            Self::Incident(incident) => (incident.mail(console_url), incident.to_json()),
        };
        Letter { id: self.id(), mail, json }
    }

    /// Whom it is told, in the order that deliveries are numbered by.
    fn recipients(&self) -> Vec<Recipient> {
        match self {
            Self::Alert(alert) => {
                let to = |Channel::Email { to }: &Channel| Recipient::Address(to.clone());
                alert.channels.iter().map(to).collect()
            }
            Self::Incident(incident) => incident.told.clone(),
        }
    }

    /// The event that whoever is told of this must have been told of before.
    fn after(&self) -> Option<String> {
        match self {
            Self::Incident(incident) if incident.state == IncidentState::Resolved => {
                Some(incident.event_id(IncidentState::Firing))
            }
            _ => None,
        }
    }
}

/// What a claim of a delivery came to.
enum Claim {
    /// It is to be made, and the row has this version.
    Held(u64),
    /// It was made, or can never be.
    Over,
}

impl Notify {
    /// A stage over these ports.
    pub fn new(ports: NotifyPorts, settings: NotifySettings) -> Self {
        let (table, mail, hooks) = (ports.table.clone(), ports.mail.clone(), ports.hooks.clone());
        let channels = Channels { table, mail, hooks, from: settings.from.clone() };
        let incidents = Incidents::new(ports.table.clone(), ports.topic.clone());
        Self { ports, channels, incidents, settings }
    }

    /// Takes a delivery; one outcome per item, in order.
    pub async fn run(&self, items: &[Item], now: Timestamp) -> Vec<Outcome> {
        let clock = Clock { begun: now, started: Instant::now() };
        // Copies of one batch in one delivery would only wait for each other.
        let mut first: HashMap<String, usize> = HashMap::new();
        let leads: Vec<usize> = items
            .iter()
            .enumerate()
            .map(|(at, item)| match message::read_header(&item.body) {
                Ok(header) => *first.entry(header.batch).or_insert(at),
                Err(_) => at,
            })
            .collect();
        let mut told = self.alarms(items, clock).await;
        let others: Vec<usize> = (0..items.len()).filter(|at| leads[*at] == *at && !told.contains_key(at)).collect();
        // Collected first (nothing has begun yet): a stream with a closure in it asks more of the caller's future than it can give.
        let calls: Vec<_> = others.iter().map(|at| self.message(&items[*at], clock)).collect();
        let results: Vec<_> = futures::stream::iter(calls).buffered(CONCURRENT_MESSAGES).collect().await;
        told.extend(others.into_iter().zip(results));
        let outcomes: Vec<Outcome> = leads
            .iter()
            .map(|lead| match told.get(lead) {
                Some(Err(reason)) => Outcome::Retry(reason.clone()),
                Some(Ok(())) => Outcome::Done,
                None => Outcome::Retry("the message was not looked at".into()),
            })
            .collect();
        let again = outcomes.iter().filter(|o| **o != Outcome::Done).count();
        tracing::info!(notify.messages = items.len(), notify.again = again, "told");
        outcomes
    }

    /// Takes the alarms among the messages, in the order in which their states changed: of one that began and was over before anybody looked
    /// both is told. Answers what came of each, by its place.
    async fn alarms(&self, items: &[Item], clock: Clock) -> HashMap<usize, Result<(), String>> {
        let readable = |(at, item): (usize, &Item)| Some((at, alarm::read(&item.body)?.ok()?));
        let mut alarms: Vec<_> = items.iter().enumerate().filter_map(readable).collect();
        alarms.sort_by(|(_, a), (_, b)| a.as_ref().map(|a| &a.order).cmp(&b.as_ref().map(|b| &b.order)));
        let mut told = HashMap::new();
        for (at, sighting) in alarms {
            let result = match sighting {
                Some(sighting) => self.incidents.see(&sighting, clock.now()).await.map(drop).map_err(|e| full_text(&e)),
                None => Ok(()),
            };
            told.insert(at, result);
        }
        told
    }

    /// Works on one message; an error says why it has to come again.
    async fn message(&self, item: &Item, clock: Clock) -> Result<(), String> {
        let now = clock.now();
        let whole = |code: &str, reason: &str| {
            let bytes = item.body.as_bytes();
            Quarantined::new("notify", &[bytes], code, reason, now, bytes.to_vec())
        };
        if let Some(Err(reason)) = alarm::read(&item.body) {
            return self.give_up(whole("malformed_alarm", &reason)).await;
        }
        let unpacked = match message::unpack(&item.body) {
            Ok(unpacked) => unpacked,
            Err(e) => return self.give_up(whole(e.code, &e.reason)).await,
        };
        let events = match unpacked.events() {
            Ok(events) => events,
            Err(e) => return self.give_up(whole(e.code, &e.reason)).await,
        };
        let mut failed = Ok(());
        for event in &events {
            let told = match event {
                Ok(event) if event.event_type != FIRED && event.event_type != RESOLVED => Ok(()),
                Ok(event) => self.told(event, clock).await,
                Err((raw, e)) => {
                    let bytes = raw.as_bytes();
                    self.give_up(Quarantined::new("notify", &[bytes], e.code, &e.reason, now, bytes.to_vec())).await
                }
            };
            failed = failed.and(told);
        }
        failed
    }

    async fn told(&self, event: &Event<'_>, clock: Clock) -> Result<(), String> {
        let missing = |code: &str, reason: &str| {
            let mut text = String::new();
            event.write(&mut text);
            Quarantined::new("notify", &[event.id.as_bytes()], code, reason, event.received, text.into_bytes())
        };
        let rows = self.ports.table.get(&[Key::new(ALERTS, event.id.as_ref())]).await;
        let Some(row) = rows.map_err(|e| full_text(&e))?.pop().flatten() else {
            let reason = format!("alert `{}` was not decided here, or so long ago that it is forgotten", event.id);
            return self.give_up(missing("unknown_alert", &reason)).await;
        };
        let notice = match Notice::read(&row.value) {
            Ok(notice) => notice,
            Err(e) => return self.give_up(missing("unreadable_alert", &e.to_string())).await,
        };
        let recipients = notice.recipients();
        // Collected first (nothing has begun yet): a stream with a closure in it asks more of the caller's future than it can give.
        let deliveries: Vec<_> =
            recipients.iter().enumerate().map(|(n, to)| self.deliver(&notice, n, to, clock)).collect();
        let told: Vec<_> = futures::stream::iter(deliveries).buffer_unordered(CONCURRENT_DELIVERIES).collect().await;
        told.into_iter().fold(Ok(()), Result::and)
    }

    async fn deliver(&self, notice: &Notice, n: usize, to: &Recipient, clock: Clock) -> Result<(), String> {
        let now = clock.now();
        let id = notice.id();
        if let Some(before) = notice.after()
            && !self.is_over(&Key::new(DELIVERIES, format!("{before}#{n}"))).await?
        {
            return Err(format!("`{id}` is told after `{before}`, which is not delivered yet"));
        }
        let key = Key::new(DELIVERIES, format!("{id}#{n}"));
        let version = match self.claim(&key, now).await? {
            Claim::Held(version) => version,
            Claim::Over => return Ok(()),
        };
        let letter = notice.letter(&self.settings.console_url);
        let failed = match self.channels.send(&letter, n, to, now).await {
            Ok(Sent::Gone) => {
                return self.mark(&key, &json!({"state": "gone", "at": now.to_micros_text()}), now).await;
            }
            Ok(Sent::Told) => {
                tracing::info!(alert.id = %id, notify.recipient = n, "sent");
                return self.mark(&key, &json!({"state": "sent", "at": now.to_micros_text()}), now).await;
            }
            Err(e) => e,
        };
        let reason = full_text(&failed);
        if matches!(failed.kind, ErrorKind::Invalid | ErrorKind::TooLarge) {
            tracing::warn!(alert.id = %id, notify.recipient = n, error = %failed, "can never be sent");
            let cause = [id.as_bytes(), &n.to_le_bytes()];
            let bytes = notice.event_text().into_bytes();
            let what = format!("recipient {n}: {reason}");
            let record = Quarantined::new("notify", &cause, "undeliverable", &what, notice.decided(), bytes);
            let given_up = self.give_up(record).await;
            if given_up.is_ok() {
                let value = json!({"state": "failed", "at": now.to_micros_text(), "reason": reason});
                return self.mark(&key, &value, now).await;
            }
        }
        // So that the next delivery need not wait for the claim to run out. Nothing is lost where this fails.
        let free = json!({"state": "waiting", "reason": reason});
        let released = self.ports.table.write(vec![put(&key, &free, Condition::Version(version), now)]).await;
        if let Err(error) = released {
            tracing::debug!(alert.id = %id, error = %error, "the claim stays until it runs out");
        }
        Err(reason)
    }

    /// Whether a delivery was made, or can never be.
    async fn is_over(&self, key: &Key) -> Result<bool, String> {
        let row = self.ports.table.get(std::slice::from_ref(key)).await.map_err(|e| full_text(&e))?.pop().flatten();
        Ok(row.is_some_and(|row| matches!(row.value["state"].as_str(), Some("sent" | "failed" | "gone"))))
    }

    async fn claim(&self, key: &Key, now: Timestamp) -> Result<Claim, String> {
        let by = uuid::Uuid::now_v7().simple().to_string();
        let until = now.plus_micros(LEASE_US).to_micros_text();
        let value = json!({"state": "sending", "by": by, "until": until});
        let mut last = String::from("the delivery is claimed by another consumer");
        for _ in 0..ATTEMPTS {
            let row = self.ports.table.get(std::slice::from_ref(key)).await.map_err(|e| full_text(&e))?.pop().flatten();
            let (condition, next) = match &row {
                None => (Condition::Absent, 1),
                Some(row) => match row.value["state"].as_str() {
                    Some("sent" | "failed" | "gone") => return Ok(Claim::Over),
                    Some("sending") if row.value["by"] == by.as_str() => return Ok(Claim::Held(row.version)),
                    Some("sending") if until_of(&row.value).is_some_and(|until| until > now) => return Err(last),
                    _ => (Condition::Version(row.version), row.version + 1),
                },
            };
            match self.ports.table.write(vec![put(key, &value, condition, now)]).await {
                Ok(()) => return Ok(Claim::Held(next)),
                Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => last = full_text(&e),
                Err(e) => return Err(full_text(&e)),
            }
        }
        Err(last)
    }

    /// Says what became of a delivery. It is a fact, so it is written whatever stands there.
    async fn mark(&self, key: &Key, value: &Value, now: Timestamp) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            match self.ports.table.write(vec![put(key, value, Condition::Any, now)]).await {
                Ok(()) => return Ok(()),
                Err(e) => last = full_text(&e),
            }
        }
        Err(last)
    }

    async fn give_up(&self, record: Quarantined) -> Result<(), String> {
        let sent = quarantine::send_all(self.ports.quarantine.as_ref(), &[record]).await;
        sent.into_iter().collect::<Result<(), _>>().map_err(|e| full_text(&e))
    }
}

fn until_of(value: &Value) -> Option<Timestamp> {
    value["until"].as_str().and_then(Timestamp::parse_rfc3339)
}

fn put(key: &Key, value: &Value, condition: Condition, now: Timestamp) -> Write {
    Write::Put { key: key.clone(), value: value.clone(), condition, expires_at: Some(expiry(now, KEEP_ALERT_US)) }
}
