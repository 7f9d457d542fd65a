//! Detect: looks at events with the alert rules, and decides what is told.
//!
//! What a batch leads to is decided once. Its **plan** (`("plan", batch id)`) is written if there is none, and that is the commit point:
//! whoever comes later, by redelivery or at the same time, goes on with the plan that is there, whatever the rules say by then. A plan
//! with alerts is open until each of them is
//!
//! 1. decided: its row `("alert", alert id)` names the batch that caused it, and the first batch wins. The id is made of rule, symbol,
//!    direction and window, so a row that names another batch means that this was told already;
//! 2. published, always as the same event in the same batch, so that a repetition is stored once.
//!
//! Then one transaction closes the plan and counts the batch. Until then a row `("plan-open", batch id)` lets the clock's tick go on with it
//! although the message may never come again. A batch that leads to nothing gets its closed plan and is counted at once, many in one
//! transaction.
//!
//! # Why an alert is decided once, and none is lost
//!
//! - *A batch has one plan.* It is written on the condition that there is none, and closed on the condition of the version that is open; so a
//!   write that lands late, or a second time, finds what it was decided on or does nothing. Rules and schemas that change in between
//!   change nothing: whoever did not write the plan forgets his own and takes the one that is there.
//! - *An alert has one decision.* Its row requires that there is none and is never written again. Only the batch that the row names
//!   publishes; a time-out is followed by a look at the row.
//! - *Nothing is forgotten.* A plan closes after each of its alerts was seen decided, and its own were published; a message is acknowledged
//!   after its plan was seen closed. Whoever dies in between leaves the plan open, for the redelivery or the tick.
//! - *A batch is counted once*, in the transaction that closes its plan or writes it closed; other publishes of it are duplicates.
//! - *No clock decides.* The tick leaves young plans to the consumer at work, and where it does not, both do the same.
//!
//! What of a batch goes to quarantine is sent before its plan, always under the same ids.

use crate::intake::{self, Counted, Head};
use crate::item::{Item, Outcome};
use crate::ledger::{self, Sink};
use crate::quarantine::{self, Quarantined};
use crate::rows::{corrupt, expiry};
use crate::rules::Rules;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice_domain::alert::{Alert, FIRED, Trade, Watchlist};
use sluice_domain::event::{Event, MAX_HOPS, Shared};
use sluice_domain::message::{self, Entry, MessageError};
use sluice_domain::schema::{Registry, counted_as};
use sluice_domain::time::{DAY_US, Timestamp};
use sluice_ports::{Condition, ErrorKind, Item as Row, Key, Message, PortError, Query, Queue, Table, Topic, Write};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Partition of the plans; the sort key is the batch id.
const PLANS: &str = "plan";
/// Partition of what names the open plans.
const OPEN: &str = "plan-open";
/// Partition of the decided alerts.
pub const ALERTS: &str = "alert";
/// How long plans are remembered: longer than queue and dead-letter queue keep a message.
const KEEP_PLAN_US: i64 = 35 * DAY_US;
/// How long alerts and deliveries are remembered, so that events up to the usual age of a write key are not told again.
pub const KEEP_ALERT_US: i64 = 400 * DAY_US;
/// Alerts of one plan row, in bytes of their text; more go to rows of their own (a row takes 400 KB).
const PART_BYTES: usize = 256 * 1024;
/// Writes of one transaction.
const MAX_WRITES: usize = 100;
/// How often a write is tried again after looking what is there.
const ATTEMPTS: usize = 4;
/// Plans that are carried out at the same time.
const CONCURRENT_PLANS: usize = 8;
const ORIGIN: &str = "detect";

/// What `detect` works with.
pub struct DetectPorts {
    /// Rules, plans, alerts and counters.
    pub table: Arc<dyn Table>,
    /// Where alert events go.
    pub topic: Arc<dyn Topic>,
    /// Where goes what cannot be read.
    pub quarantine: Arc<dyn Queue>,
}

/// What `detect` is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetectSettings {
    /// A batch that would fire more alerts than this goes to quarantine instead: it is a mistake, and each is a mail to somebody.
    pub max_alerts_per_batch: usize,
    /// The tick goes on with plans that have been open for longer than this; younger ones are left to the consumer at work.
    pub open_plan_ms: u64,
}

impl Default for DetectSettings {
    /// 5,000 alerts; one minute.
    fn default() -> Self {
        Self { max_alerts_per_batch: 5_000, open_plan_ms: 60_000 }
    }
}

/// The stage.
pub struct Detect {
    ports: DetectPorts,
    registry: Arc<Registry>,
    settings: DetectSettings,
    rules: Rules,
}

/// A message whose header is read.
struct Parcel<'i> {
    at: usize,
    body: &'i str,
    head: Head,
}

/// What a batch leads to, before it is written down.
struct Draft {
    counts: Counts,
    alerts: Vec<Alert>,
    quarantine: Vec<Quarantined>,
}

/// By counter row; evaluated is stored.
type Counts = BTreeMap<String, Counted>;

/// The row of a plan.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    v: u32,
    state: PlanState,
    /// The publish that is counted as stored; any other publish of the batch is a duplicate.
    publish: String,
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    counts: Counts,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alerts: Vec<Alert>,
    /// Sort keys of further rows with alerts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PlanState {
    Open,
    Done,
}

/// The closed plan of a batch that leads to nothing, to be written with its counts.
struct Mark {
    batch: String,
    publish: String,
    counts: Counts,
}

/// What came of a batch.
enum Carried {
    /// Its plan is done; it is counted for this publish.
    Out { publish: String },
    /// It leads to nothing and is still to be counted.
    Nothing(Mark),
}

enum Marked {
    Written,
    /// There was a row already.
    Found(Row),
}

impl Detect {
    /// A stage over these ports.
    pub fn new(ports: DetectPorts, registry: Arc<Registry>, settings: DetectSettings) -> Self {
        let rules = Rules::new(Arc::clone(&ports.table));
        Self { ports, registry, settings, rules }
    }

    /// Takes a delivery; one outcome per item, in order.
    pub async fn run(&self, items: &[Item], now: Timestamp) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = items.iter().map(|_| None).collect();
        let (parcels, broken) = open(items);
        let queue = self.ports.quarantine.as_ref();
        for (at, outcome) in intake::refuse_unknown(ORIGIN, queue, items, &broken, now).await {
            outcomes[at] = Some(outcome);
        }
        // The first message of a batch leads; the others of the same batch follow what became of it.
        let mut batches: BTreeMap<&str, &Parcel<'_>> = BTreeMap::new();
        for parcel in &parcels {
            batches.entry(&parcel.head.header.batch).or_insert(parcel);
        }
        let owners = match self.rules.watchlist().await {
            Ok(watchlist) => self.decide(&watchlist, batches.values().copied().collect(), now).await,
            Err(e) => batches.keys().map(|batch| ((*batch).to_owned(), Err(full_text(&e)))).collect(),
        };
        for parcel in &parcels {
            outcomes[parcel.at] = Some(self.repeat(parcel, owners.get(&parcel.head.header.batch), now).await);
        }
        let outcomes: Vec<Outcome> = outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| Outcome::Retry("the message was not looked at".into())))
            .collect();
        let again = outcomes.iter().filter(|o| **o != Outcome::Done).count();
        tracing::info!(
            detect.messages = items.len(),
            detect.batches = batches.len(),
            detect.quarantined = broken.len(),
            detect.again = again,
            "looked at"
        );
        outcomes
    }

    /// What the clock does each minute: goes on with plans that were left open.
    pub async fn tick(&self, now: Timestamp) -> Result<(), PortError> {
        let old = now.plus_micros(-i64::try_from(self.settings.open_plan_ms).unwrap_or(i64::MAX).saturating_mul(1_000));
        let (mut found, mut failed) = (0u64, 0u64);
        let mut first_failure = None;
        let mut query = Query::prefix(OPEN, "", MAX_WRITES);
        loop {
            let page = self.ports.table.query(query.clone()).await?;
            let Some(last) = page.last() else { break };
            query.after = Some(last.key.sort.clone());
            for row in page {
                let since = row.value["since"].as_str().and_then(Timestamp::parse_rfc3339);
                if since.is_some_and(|since| since > old) {
                    continue;
                }
                found += 1;
                if let Err(error) = self.resume(&row.key.sort, now).await {
                    failed += 1;
                    first_failure.get_or_insert(error);
                }
            }
        }
        if found > 0 {
            tracing::warn!(detect.plans = found, detect.failed = failed, "plans were left open");
        }
        first_failure.map_or(Ok(()), Err)
    }

    async fn resume(&self, batch: &str, now: Timestamp) -> Result<(), PortError> {
        match self.plan(batch).await? {
            Some(row) if read_plan(&row)?.state == PlanState::Open => self.carry_out(batch, row, now).await.map(|_| ()),
            _ => {
                let delete = Write::Delete { key: Key::new(OPEN, batch), condition: Condition::Any };
                self.ports.table.write(vec![delete]).await
            }
        }
    }

    /// Decides batches, each given by its first message. Answers for each batch the publish that it is counted for, or why it has to come
    /// again.
    async fn decide(
        &self,
        watchlist: &Watchlist,
        leads: Vec<&Parcel<'_>>,
        now: Timestamp,
    ) -> HashMap<String, Result<String, String>> {
        let mut owners = HashMap::new();
        let mut without_alerts = Vec::new();
        // Few at a time, so that memory is bounded by what some messages lead to and not by what all do.
        // Collected first (nothing has begun yet): a stream with a closure in it asks more of the caller's future than it can give.
        let drafts: Vec<_> = leads.iter().map(|lead| self.draft_and_carry_out(watchlist, lead, now)).collect();
        let carried: Vec<_> = futures::stream::iter(drafts).buffered(CONCURRENT_PLANS).collect().await;
        for (lead, carried) in leads.iter().zip(carried) {
            let batch = &lead.head.header.batch;
            match carried {
                Ok(Carried::Out { publish }) => _ = owners.insert(batch.clone(), Ok(publish)),
                Ok(Carried::Nothing(mark)) => without_alerts.push(mark),
                Err(e) => _ = owners.insert(batch.clone(), Err(full_text(&e))),
            }
        }
        for (mark, marked) in without_alerts.iter().zip(self.mark(&without_alerts, now).await) {
            let owner = match marked {
                Ok(Marked::Written) => {
                    meter(&mark.counts);
                    Ok(mark.publish.clone())
                }
                Ok(Marked::Found(row)) => self.carry_out(&mark.batch, row, now).await.map_err(|e| full_text(&e)),
                Err(e) => Err(e),
            };
            owners.insert(mark.batch.clone(), owner);
        }
        owners
    }

    async fn draft_and_carry_out(
        &self,
        watchlist: &Watchlist,
        lead: &Parcel<'_>,
        now: Timestamp,
    ) -> Result<Carried, PortError> {
        let (batch, publish) = (&lead.head.header.batch, &lead.head.publish);
        let draft = self.draft(watchlist, lead, now);
        let sent = quarantine::send_all(self.ports.quarantine.as_ref(), &draft.quarantine).await;
        sent.into_iter().collect::<Result<(), _>>()?;
        if draft.alerts.is_empty() {
            let mark = Mark { batch: batch.clone(), publish: publish.clone(), counts: draft.counts };
            return Ok(Carried::Nothing(mark));
        }
        let row = self.write_plan(batch, publish, draft, now).await?;
        Ok(Carried::Out { publish: self.carry_out(batch, row, now).await? })
    }

    /// What becomes of a message when its batch is counted for the publish `owner`.
    async fn repeat(&self, parcel: &Parcel<'_>, owner: Option<&Result<String, String>>, now: Timestamp) -> Outcome {
        match owner {
            Some(Ok(owner)) if *owner == parcel.head.publish => Outcome::Done,
            Some(Ok(_)) => {
                let table = self.ports.table.as_ref();
                done_or_retry(
                    ledger::count_duplicate(table, Sink::Detect, &parcel.head.header, &parcel.head.publish, now).await,
                )
            }
            Some(Err(reason)) => Outcome::Retry(reason.clone()),
            None => Outcome::Retry("the batch was not decided".into()),
        }
    }

    /// Evaluates a message. It is unpacked only where a rule looks at one of its types.
    fn draft(&self, watchlist: &Watchlist, parcel: &Parcel<'_>, now: Timestamp) -> Draft {
        let header = &parcel.head.header;
        let drafted = match header.types.keys().any(|event_type| watchlist.looks_at(event_type)) {
            true => self.evaluate(watchlist, parcel, now),
            false => header.check_version().map(|()| Draft {
                counts: counts(parcel, &header.types),
                alerts: Vec::new(),
                quarantine: Vec::new(),
            }),
        };
        drafted.unwrap_or_else(|e| Draft {
            counts: counts(parcel, &BTreeMap::new()),
            alerts: Vec::new(),
            quarantine: vec![parcel.head.refuse(ORIGIN, None, e.code, &e.reason, parcel.body)],
        })
    }

    fn evaluate(&self, watchlist: &Watchlist, parcel: &Parcel<'_>, now: Timestamp) -> Result<Draft, MessageError> {
        let unpacked = message::unpack(parcel.body)?;
        let events = unpacked.events()?;
        let mut quarantine = Vec::new();
        let mut refuse = |at: usize, code: &str, reason: &str, pointer: &str, bytes: &str| {
            let cause = [parcel.head.header.batch.as_bytes(), &at.to_le_bytes()];
            let mut record =
                Quarantined::new(ORIGIN, &cause, code, reason, parcel.head.received, bytes.as_bytes().to_vec());
            pointer.clone_into(&mut record.pointer);
            quarantine.push(record);
        };
        let mut evaluated: BTreeMap<String, u64> = BTreeMap::new();
        let mut trades = Vec::new();
        for (at, event) in events.iter().enumerate() {
            let read = match event {
                Ok(event) => self.trade(watchlist, event).map_err(|v| {
                    let mut text = String::new();
                    event.write(&mut text);
                    refuse(at, v.code, &v.reason, &v.pointer, &text);
                }),
                Err((raw, e)) => {
                    refuse(at, e.code, &e.reason, "", raw);
                    Err(())
                }
            };
            if let (Ok(trade), Ok(event)) = (read, event) {
                *evaluated.entry(counted_as(&event.event_type).to_owned()).or_default() += 1;
                trades.extend(trade);
            }
        }
        // In order of time, so that the first trade of a window is the one that is told.
        trades.sort_by_key(|trade| trade.time);
        let mut seen = BTreeSet::new();
        let mut alerts = Vec::new();
        for trade in &trades {
            for (rule, direction) in watchlist.fired_by(trade) {
                let alert = Alert::new(rule, trade, direction, now);
                if !seen.insert(alert.id.clone()) {
                    continue;
                }
                if alert.hops > MAX_HOPS {
                    let reason = format!("the alert's cause has {} hops, allowed are {MAX_HOPS}", alert.hops - 1);
                    let bytes = alert.event_text().into_bytes();
                    let cause = [b"hops".as_slice(), alert.id.as_bytes()];
                    quarantine.push(Quarantined::new(ORIGIN, &cause, "too_many_hops", &reason, now, bytes));
                    continue;
                }
                if alerts.len() == self.settings.max_alerts_per_batch {
                    let reason =
                        format!("the batch would fire more than {} alerts; are the rules right?", alerts.len());
                    return Err(MessageError { code: "too_many_alerts", reason });
                }
                alerts.push(alert);
            }
        }
        Ok(Draft { counts: counts(parcel, &evaluated), alerts, quarantine })
    }

    /// What the rules look at in an event, if anything.
    fn trade<'e>(
        &self,
        watchlist: &Watchlist,
        event: &'e Event<'_>,
    ) -> Result<Option<Trade<'e>>, sluice_domain::schema::Violation> {
        if !watchlist.looks_at(&event.event_type) {
            return Ok(None);
        }
        // Ingest has checked it, but the schema may have changed since.
        event.check_data(&self.registry)?;
        Trade::read(event)
    }

    async fn plan(&self, batch: &str) -> Result<Option<Row>, PortError> {
        Ok(self.ports.table.get(&[Key::new(PLANS, batch)]).await?.pop().flatten())
    }

    /// Writes the plan of a batch if there is none, and answers the one that there is.
    async fn write_plan(&self, batch: &str, publish: &str, draft: Draft, now: Timestamp) -> Result<Row, PortError> {
        let mut parts = parts(draft.alerts);
        let mut plan = Plan {
            v: 1,
            state: PlanState::Open,
            publish: publish.to_owned(),
            counts: draft.counts,
            alerts: if parts.is_empty() { Vec::new() } else { parts.remove(0) },
            parts: Vec::new(),
        };
        // Rows of their own, under a name that nobody else uses: they count only where a plan names them.
        let nonce = uuid::Uuid::now_v7().simple().to_string();
        for (n, alerts) in parts.into_iter().enumerate() {
            let sort = format!("{batch}/{nonce}/{n:04}");
            let put = Write::Put {
                key: Key::new(PLANS, &sort),
                value: json!({"alerts": alerts}),
                condition: Condition::Any,
                expires_at: Some(expiry(now, KEEP_PLAN_US)),
            };
            self.ports.table.write(vec![put]).await?;
            plan.parts.push(sort);
        }
        let writes = vec![
            put_plan(batch, &plan, Condition::Absent, now)?,
            Write::Put {
                key: Key::new(OPEN, batch),
                value: json!({"since": now.to_micros_text()}),
                condition: Condition::Any,
                expires_at: Some(expiry(now, KEEP_PLAN_US)),
            },
        ];
        let failed = match self.ports.table.write(writes).await {
            Err(e) if !matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => return Err(e),
            written => written.err(),
        };
        let gone = || PortError::new(ErrorKind::Corrupt, "table.get", format!("plan `{batch}` is gone"));
        self.plan(batch).await?.ok_or_else(|| failed.unwrap_or_else(gone))
    }

    /// Does what a plan says, if it is open. Answers the publish that the batch is counted for.
    async fn carry_out(&self, batch: &str, row: Row, now: Timestamp) -> Result<String, PortError> {
        let mut plan = read_plan(&row)?;
        if plan.state == PlanState::Done {
            return Ok(plan.publish);
        }
        if !plan.parts.is_empty() {
            let keys: Vec<Key> = plan.parts.iter().map(|sort| Key::new(PLANS, sort)).collect();
            for (key, part) in keys.iter().zip(self.ports.table.get(&keys).await?) {
                let alerts =
                    part.and_then(|part| serde_json::from_value::<Vec<Alert>>(part.value["alerts"].clone()).ok());
                plan.alerts.extend(alerts.ok_or_else(|| corrupt(key))?);
            }
        }
        for alerts in plan.alerts.chunks(MAX_WRITES) {
            let told = self.decide_alerts(batch, alerts, now).await?;
            self.publish(&told).await?;
        }
        let done =
            Plan { state: PlanState::Done, counts: Counts::new(), alerts: Vec::new(), parts: Vec::new(), ..plan };
        let mut writes = vec![
            put_plan(batch, &done, Condition::Version(row.version), now)?,
            Write::Delete { key: Key::new(OPEN, batch), condition: Condition::Any },
        ];
        writes.extend(plan.counts.iter().map(|(counter, n)| ledger::sink_write(counter, &n.fields(Sink::Detect))));
        match self.ports.table.write(writes).await {
            Ok(()) => {
                meter(&plan.counts);
                Ok(done.publish)
            }
            Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => match self.plan(batch).await? {
                Some(row) if read_plan(&row)?.state == PlanState::Done => Ok(done.publish),
                _ => Err(e),
            },
            Err(e) => Err(e),
        }
    }

    /// Writes the alerts that nobody has decided, and answers those that this batch has decided, now or before.
    async fn decide_alerts<'a>(
        &self,
        batch: &str,
        alerts: &'a [Alert],
        now: Timestamp,
    ) -> Result<Vec<&'a Alert>, PortError> {
        let mut told = Vec::new();
        let mut open: Vec<&Alert> = alerts.iter().collect();
        let mut last = None;
        for look in 0..ATTEMPTS {
            let keys: Vec<Key> = open.iter().map(|alert| Key::new(ALERTS, &alert.id)).collect();
            let rows = self.ports.table.get(&keys).await?;
            let mut absent = Vec::new();
            for (alert, row) in open.drain(..).zip(rows) {
                match row {
                    None => absent.push(alert),
                    Some(row) if row.value["cause"] == batch => told.push(alert),
                    Some(_) => tracing::debug!(alert.id = %alert.id, "told already"),
                }
            }
            // Alone after the first look: together they fail for one that somebody else has decided.
            for alerts in absent.chunks(if look == 0 { MAX_WRITES } else { 1 }) {
                let puts = alerts.iter().map(|alert| put_alert(batch, alert, now)).collect::<Result<Vec<_>, _>>()?;
                match self.ports.table.write(puts).await {
                    Ok(()) => told.extend_from_slice(alerts),
                    Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => {
                        last = Some(e);
                        open.extend_from_slice(alerts);
                    }
                    Err(e) => return Err(e),
                }
            }
            if open.is_empty() {
                return Ok(told);
            }
        }
        Err(last.unwrap_or_else(|| PortError::new(ErrorKind::Unavailable, "table.write", "an alert was not written")))
    }

    async fn publish(&self, alerts: &[&Alert]) -> Result<(), PortError> {
        if alerts.is_empty() {
            return Ok(());
        }
        let messages = alerts.iter().map(|alert| alert_message(alert)).collect::<Result<Vec<_>, _>>()?;
        self.ports.topic.publish(messages).await.into_iter().collect()
    }

    /// Writes closed plans, each only if there is none; as many in one transaction as fit.
    async fn mark(&self, marks: &[Mark], now: Timestamp) -> Vec<Result<Marked, String>> {
        let mut marked = Vec::with_capacity(marks.len());
        let mut rest = marks;
        while !rest.is_empty() {
            let mut counters = BTreeSet::new();
            let fits = rest.iter().enumerate().take_while(|(i, mark)| {
                counters.extend(mark.counts.keys().map(String::as_str));
                *i == 0 || i + 1 + counters.len() <= MAX_WRITES
            });
            let (chunk, later) = rest.split_at(fits.count());
            marked.extend(self.mark_together(chunk, now).await);
            rest = later;
        }
        marked
    }

    async fn mark_together(&self, marks: &[Mark], now: Timestamp) -> Vec<Result<Marked, String>> {
        let mut marked: Vec<Option<Result<Marked, String>>> = marks.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..marks.len()).collect();
        let mut last = String::from("the batch is being counted by others");
        for _ in 0..ATTEMPTS {
            match self.ports.table.write(mark_writes(open.iter().map(|i| &marks[*i]), now)).await {
                Ok(()) => open.drain(..).for_each(|i| marked[i] = Some(Ok(Marked::Written))),
                Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => {
                    last = full_text(&e);
                    let keys: Vec<Key> = open.iter().map(|i| Key::new(PLANS, &marks[*i].batch)).collect();
                    match self.ports.table.get(&keys).await {
                        Ok(rows) => {
                            open.iter().zip(rows).for_each(|(i, row)| marked[*i] = row.map(|r| Ok(Marked::Found(r))))
                        }
                        Err(e) => open.iter().for_each(|i| marked[*i] = Some(Err(full_text(&e)))),
                    }
                }
                Err(e) => open.iter().for_each(|i| marked[*i] = Some(Err(full_text(&e)))),
            }
            open.retain(|i| marked[*i].is_none());
            if open.is_empty() {
                break;
            }
        }
        marked.into_iter().map(|m| m.unwrap_or_else(|| Err(last.clone()))).collect()
    }
}

/// Reads the headers; beside the messages stand the positions of those that have none that can be used, and why.
fn open(items: &[Item]) -> (Vec<Parcel<'_>>, Vec<(usize, MessageError)>) {
    let (mut parcels, mut broken) = (Vec::new(), Vec::new());
    for (at, item) in items.iter().enumerate() {
        match head(item) {
            Ok(head) => parcels.push(Parcel { at, body: &item.body, head }),
            Err(e) => broken.push((at, e)),
        }
    }
    (parcels, broken)
}

fn head(item: &Item) -> Result<Head, MessageError> {
    let head = Head::read(item)?;
    if head.header.types.len() > message::MAX_TYPES {
        return Err(MessageError { code: "malformed_message", reason: "`types` names too many types".into() });
    }
    Ok(head)
}

/// Whether a batch is decided, and all that it leads to is published.
pub(crate) async fn is_done(table: &dyn Table, batch: &str) -> Result<bool, PortError> {
    match table.get(&[Key::new(PLANS, batch)]).await?.into_iter().next().flatten() {
        Some(row) => Ok(read_plan(&row)?.state == PlanState::Done),
        None => Ok(false),
    }
}

/// What a message counts when this many of each type were evaluated: the others are in quarantine.
fn counts(parcel: &Parcel<'_>, evaluated: &BTreeMap<String, u64>) -> Counts {
    let mut counts = Counts::new();
    for (event_type, accepted) in &parcel.head.header.types {
        let stored = evaluated.get(event_type).copied().unwrap_or(0).min(*accepted);
        let returned = if parcel.head.header.replay { *accepted } else { 0 };
        let counted = Counted { stored, quarantined: accepted - stored, returned, ..Counted::default() };
        counts.entry(ledger::counter(parcel.head.received, event_type)).or_default().add(&counted);
    }
    counts
}

fn mark_writes<'m>(marks: impl Iterator<Item = &'m Mark>, now: Timestamp) -> Vec<Write> {
    let mut writes = Vec::new();
    // A transaction takes one write per row, so the counts of all are summed.
    let mut sums: BTreeMap<&str, Counted> = BTreeMap::new();
    for mark in marks {
        writes.push(Write::Put {
            key: Key::new(PLANS, &mark.batch),
            value: json!({"v": 1, "state": "done", "publish": mark.publish}),
            condition: Condition::Absent,
            expires_at: Some(expiry(now, KEEP_PLAN_US)),
        });
        for (counter, n) in &mark.counts {
            sums.entry(counter).or_default().add(n);
        }
    }
    let counted = sums.into_iter().map(|(counter, n)| (counter, n.fields(Sink::Detect)));
    writes.extend(counted.filter(|(_, n)| !n.is_empty()).map(|(counter, n)| ledger::sink_write(counter, &n)));
    writes
}

/// Cuts alerts so that each part fits a row.
fn parts(alerts: Vec<Alert>) -> Vec<Vec<Alert>> {
    let mut parts: Vec<Vec<Alert>> = Vec::new();
    let mut bytes = usize::MAX;
    for alert in alerts {
        let size = serde_json::to_string(&alert).map_or(PART_BYTES, |text| text.len() + 1);
        if bytes.saturating_add(size) > PART_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.push(alert);
        }
    }
    parts
}

fn put_alert(batch: &str, alert: &Alert, now: Timestamp) -> Result<Write, PortError> {
    let value = serde_json::to_value(alert).map_err(|e| {
        PortError::new(ErrorKind::Invalid, "table.write", format!("alert `{}`", alert.id)).with_source(e)
    })?;
    Ok(Write::Put {
        key: Key::new(ALERTS, &alert.id),
        value: json!({"cause": batch, "alert": value}),
        condition: Condition::Absent,
        expires_at: Some(expiry(now, KEEP_ALERT_US)),
    })
}

fn put_plan(batch: &str, plan: &Plan, condition: Condition, now: Timestamp) -> Result<Write, PortError> {
    let key = Key::new(PLANS, batch);
    let value: Value = serde_json::to_value(plan)
        .map_err(|e| PortError::new(ErrorKind::Invalid, "table.write", format!("plan `{batch}`")).with_source(e))?;
    Ok(Write::Put { key, value, condition, expires_at: Some(expiry(now, KEEP_PLAN_US)) })
}

fn read_plan(row: &Row) -> Result<Plan, PortError> {
    let plan: Plan = serde_json::from_value(row.value.clone()).map_err(|e| corrupt(&row.key).with_source(e))?;
    if plan.v == 1 { Ok(plan) } else { Err(corrupt(&row.key)) }
}

/// The event of an alert in a batch of its own, so that it is the same however often it is published.
fn alert_message(alert: &Alert) -> Result<Message, PortError> {
    event_message(&alert.batch_id(), FIRED, alert.event_text(), alert.decided)
}

/// A decided event as the only one of a batch.
pub(crate) fn event_message(
    batch: &str,
    event_type: &str,
    text: String,
    decided: Timestamp,
) -> Result<Message, PortError> {
    let shared = Shared { received: decided, client_ip: None, user_agent: None };
    let entry = Entry { event_type: event_type.to_owned(), text };
    let packed = message::pack(batch, &shared, &[entry]).map_err(|e| {
        PortError::new(ErrorKind::TooLarge, "topic.publish", format!("batch `{batch}` of `{event_type}`"))
            .with_source(e)
    })?;
    let packed = packed.published_as(&uuid::Uuid::now_v7().simple().to_string());
    Ok(Message {
        body: packed.body,
        attributes: BTreeMap::from([("areas".to_owned(), packed.header.areas)]),
        events: packed.header.count,
        tally: vec![ledger::accepted(decided, event_type, 1)],
    })
}

fn done_or_retry(result: Result<(), PortError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(e) => Outcome::Retry(full_text(&e)),
    }
}

/// An error and what caused it, in one line.
pub(crate) fn full_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Counts for the metrics what was just written to the ledger.
fn meter(counts: &Counts) {
    let sum = |of: fn(&Counted) -> u64| counts.values().map(of).sum::<u64>();
    let (stored, quarantined) = (sum(|n| n.stored), sum(|n| n.quarantined));
    tracing::event!(
        target: "metrics",
        tracing::Level::TRACE,
        events.stored = stored,
        events.quarantined = quarantined
    );
}
