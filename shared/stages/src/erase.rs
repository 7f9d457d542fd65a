//! Erasure: what was received of a user goes, from everywhere.
//!
//! Who asks gets a receipt, which does not name the user; [`Erase::run`] does it, and may be killed anywhere and run again. Rows go out of
//! the lake's files, and the files that had them with every state of a table that has them; documents go; records of quarantine and
//! mails are blanked or go; so do the user's rules, and their alerts forget whose they were.
//!
//! What was received up to the moment of asking is meant, and some of that may still be on its way, in a queue or among dead letters. So
//! an erasure that is done is looked after once a day, at what has come since, for longer than anything can be on its way
//! ([`WATCHED_US`]); then the row forgets the user too.
//!
//! # Why nothing of it stays, and nothing else goes
//!
//! - *Files that had rows of the user are noted before they are replaced*, and a note goes when its files are in no state of the table and
//!   are removed as objects. So a crash in between leaves a note, which the next look finishes.
//! - *A file that others rewrote meanwhile* is another file, and is looked at: a look ends when there is no file that it has not seen.
//! - *What came after the look had begun* has an object that was written later, and is seen by the next one, an hour of clocks' difference
//!   included ([`SLACK_US`]). Where a file waits for its table longer than that, the next look begins anew.
//! - *Others' rows stay*: files are replaced as by [`crate::compact`], by the same code and under its argument. Objects that no note names are
//!   never removed here.
//! - *The ledger adds up*: rows that went are counted in the table's property `sluice.erased`, in the swap that takes them away. Documents are
//!   counted before they go, so a crash may count some twice; where documents were removed the audit takes the count for the most that may
//!   be missing.

mod documents;
mod lake;

use crate::compact::Compact;
use crate::detect::ALERTS;
use crate::listing;
use crate::quarantine::Quarantined;
use crate::rows;
use crate::rules::{Rules, RulesError};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sluice_domain::alert::Channel;
use sluice_domain::event::MAX_ATTRIBUTE_BYTES;
use sluice_domain::lake::Erased;
use sluice_domain::personal;
use sluice_domain::time::{DAY_US, HOUR_US, Timestamp};
use sluice_ports::{
    Condition, ErrorKind, Item, Key, ObjectMeta, Objects, Outbox, PortError, PutMode, SearchRemoval, Table, Write,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// For so long what comes in late is looked for: the days of a queue, of its dead letters, and of the records that make a replay the same.
pub const WATCHED_US: i64 = 36 * DAY_US;
/// Longest id of a user, in bytes: what an event takes.
pub const MAX_USER_BYTES: usize = MAX_ATTRIBUTE_BYTES;

/// Partition of the rows, by the erasure's id.
const PARTITION: &str = "erasure";
/// Partition of what was erased so far, in numbers.
const COUNTS: &str = "erasure-counts";
/// An erasure that is done is looked after this often.
const LOOK_EVERY_US: i64 = DAY_US;
/// What was written this long before a look began may have been missed by it: clocks differ.
const SLACK_US: i64 = HOUR_US;
/// Records read at the same time.
const CONCURRENT_GETS: usize = 16;
/// The operation that writes an erasure's row.
const SAVE: &str = "erasure.put";
/// The reason of a record that told of the user.
const REASON: &str = "erased with its user";

/// What erasing reaches the outside through, beside what [`Compact`] has.
#[derive(Clone)]
pub struct ErasePorts {
    /// Erasures and counters.
    pub table: Arc<dyn Table>,
    /// Records of quarantine.
    pub objects: Arc<dyn Objects>,
    /// Documents; `None` where there is no search.
    pub search: Option<Arc<dyn SearchRemoval>>,
    /// Mails in a folder; `None` where mails are sent.
    pub outbox: Option<Arc<dyn Outbox>>,
}

/// The stage.
pub struct Erase {
    ports: ErasePorts,
    compact: Arc<Compact>,
    budget: Duration,
}

/// The erasures that were asked for.
pub struct Erasures(Arc<dyn Table>);

/// What is told of an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// A random id: nobody finds the user by it.
    pub id: String,
    /// How far it is.
    pub state: State,
    /// What was received up to then is meant. RFC 3339, as all times here.
    pub until: String,
    /// When everything that was there had gone.
    pub erased_at: Option<String>,
    /// Until then what comes in late is looked for.
    pub watched_until: String,
    /// What has gone so far.
    pub erased: Counts,
}

/// How far an erasure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is to be done.
    Waiting,
    /// It was done. What comes in late is looked for.
    Erased,
    /// Nothing can come in any more.
    Closed,
}

/// What has gone. A process that is killed may have left some of it uncounted, but for the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Rows of the lake.
    pub rows: u64,
    /// Data files that had such rows, removed as objects.
    pub files: u64,
    /// Documents of the search.
    pub documents: u64,
    /// Records of quarantine, blanked.
    pub records: u64,
    /// Mails in the outbox.
    pub mails: u64,
    /// The user's rules.
    pub rules: u64,
}

/// An erasure as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    state: State,
    /// Until the erasure is closed.
    user: Option<String>,
    until: Timestamp,
    erased_at: Option<Timestamp>,
    /// When the last look began that came to its end.
    looked: Option<Timestamp>,
    /// The look that is on.
    look: Option<Look>,
    /// Addresses of rules that were the user's.
    #[serde(default)]
    addresses: BTreeSet<String>,
}

/// A look that has not come to its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Look {
    began: Timestamp,
    /// Whether all but the lake is done.
    #[serde(default)]
    elsewhere: bool,
    /// Table and file up to which the lake was looked through, in their order.
    through: Option<(String, String)>,
}

/// An erasure at hand.
struct Open {
    id: String,
    version: u64,
    row: Row,
}

/// What is meant, for one look.
struct Target {
    id: String,
    user: String,
    until: Timestamp,
    /// What was written before was seen by an earlier look, milliseconds since the epoch.
    since_ms: Option<i64>,
    /// What was written before may have been seen by this look, milliseconds since the epoch.
    look_began_ms: i64,
    /// The run's time, and its begin by the machine's clock.
    now: Timestamp,
    began: Instant,
}

impl Target {
    fn erased(&self) -> Erased {
        Erased::from([(self.user.clone(), self.until)])
    }

    /// Whether what was written then is to be looked at.
    fn is_new(&self, modified_ms: i64) -> bool {
        self.since_ms.is_none_or(|since| modified_ms >= since)
    }
}

impl Erasures {
    /// The erasures of a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self(table)
    }

    /// An id for another erasure.
    pub fn new_id() -> String {
        Uuid::now_v7().simple().to_string()
    }

    /// Asks for a user to be erased, under an id of [`Self::new_id`]. An id that no user can have is [`ErrorKind::Invalid`].
    pub async fn ask(&self, id: &str, user: &str, now: Timestamp) -> Result<Receipt, PortError> {
        if user.is_empty() || user.len() > MAX_USER_BYTES {
            let what = format!("a user's id has 1 to {MAX_USER_BYTES} bytes, not {}", user.len());
            return Err(PortError::new(ErrorKind::Invalid, "erasure.ask", what));
        }
        let row = Row {
            state: State::Waiting,
            user: Some(user.to_owned()),
            until: now,
            erased_at: None,
            looked: None,
            look: None,
            addresses: BTreeSet::new(),
        };
        match self.put(id, None, &row).await {
            Err(e) if e.kind == ErrorKind::Timeout && self.get(id).await?.is_some() => {}
            put => put?,
        }
        self.receipt(id.to_owned(), &row).await
    }

    /// All of them, by their ids.
    pub async fn list(&self) -> Result<Vec<Receipt>, PortError> {
        let mut receipts = Vec::new();
        for open in self.all().await? {
            receipts.push(self.receipt(open.id, &open.row).await?);
        }
        Ok(receipts)
    }

    /// The one of this id.
    pub async fn find(&self, id: &str) -> Result<Option<Receipt>, PortError> {
        match self.get(id).await? {
            Some(open) => self.receipt(open.id, &open.row).await.map(Some),
            None => Ok(None),
        }
    }

    async fn all(&self) -> Result<Vec<Open>, PortError> {
        rows::all(self.0.as_ref(), PARTITION).await?.into_iter().map(Open::read).collect()
    }

    async fn get(&self, id: &str) -> Result<Option<Open>, PortError> {
        self.0.get(&[Key::new(PARTITION, id)]).await?.pop().flatten().map(Open::read).transpose()
    }

    async fn put(&self, id: &str, version: Option<u64>, row: &Row) -> Result<(), PortError> {
        let value = serde_json::to_value(row)
            .map_err(|e| PortError::new(ErrorKind::Invalid, SAVE, "an erasure cannot be written").with_source(e))?;
        let condition = version.map_or(Condition::Absent, Condition::Version);
        // A receipt is proof, so it does not expire.
        let put = Write::Put { key: Key::new(PARTITION, id), value, condition, expires_at: None };
        self.0.write(vec![put]).await.map_err(|mut error| {
            error.operation = SAVE;
            error
        })
    }

    async fn count(&self, id: &str, more: Counts) -> Result<(), PortError> {
        let value = json!(more);
        let deltas = value.as_object().into_iter().flatten().filter_map(|(name, n)| Some((name.clone(), n.as_i64()?)));
        let deltas: Vec<(String, i64)> = deltas.filter(|(_, n)| *n > 0).collect();
        if deltas.is_empty() {
            return Ok(());
        }
        self.0.write(vec![Write::Add { key: Key::new(COUNTS, id), deltas, expires_at: None }]).await
    }

    async fn receipt(&self, id: String, row: &Row) -> Result<Receipt, PortError> {
        let key = Key::new(COUNTS, &id);
        let erased = match self.0.get(std::slice::from_ref(&key)).await?.pop().flatten() {
            Some(item) => serde_json::from_value(item.value).map_err(|e| rows::corrupt(&key).with_source(e))?,
            None => Counts::default(),
        };
        Ok(Receipt {
            id,
            state: row.state,
            until: row.until.to_string(),
            erased_at: row.erased_at.map(|at| at.to_string()),
            watched_until: row.until.plus_micros(WATCHED_US).to_string(),
            erased,
        })
    }
}

impl Open {
    fn read(item: Item) -> Result<Self, PortError> {
        let row = serde_json::from_value(item.value).map_err(|e| rows::corrupt(&item.key).with_source(e))?;
        Ok(Self { id: item.key.sort, version: item.version, row })
    }

    /// Whether it is to be looked after now.
    fn is_due(&self, now: Timestamp) -> bool {
        match self.row.state {
            State::Waiting => true,
            State::Erased => {
                let last = self.row.looked.unwrap_or_default();
                self.row.look.is_some() || last.plus_micros(LOOK_EVERY_US) <= now
            }
            State::Closed => false,
        }
    }
}

impl Erase {
    /// The stage. After `budget` no further part of the lake is begun; the next run goes on there.
    pub fn new(ports: ErasePorts, compact: Arc<Compact>, budget: Duration) -> Self {
        Self { ports, compact, budget }
    }

    /// Does what is due; answers whether nothing is left. An erasure that fails does not hold up the others: the first error is answered
    /// when all have had their turn.
    pub async fn run(&self, now: Timestamp) -> Result<bool, PortError> {
        let (began, mut finished, mut failure) = (Instant::now(), true, None);
        let erasures = Erasures::new(self.ports.table.clone());
        let due = erasures.all().await?.into_iter().filter(|open| open.is_due(now));
        for (n, open) in due.enumerate() {
            if n > 0 && began.elapsed() > self.budget {
                finished = false;
                break;
            }
            match self.look(&erasures, open, began, now).await {
                Ok(whole) => finished &= whole,
                Err(error) => _ = failure.get_or_insert(error),
            }
        }
        failure.map_or(Ok(finished), Err)
    }

    /// Does one erasure, if it is due; answers whether nothing of it is left.
    pub async fn run_one(&self, id: &str, now: Timestamp) -> Result<bool, PortError> {
        let erasures = Erasures::new(self.ports.table.clone());
        match erasures.get(id).await?.filter(|open| open.is_due(now)) {
            Some(open) => self.look(&erasures, open, Instant::now(), now).await,
            None => Ok(true),
        }
    }

    /// One look; answers whether it came to its end. Each part has its turn, and the first that failed is told at the end: then the look
    /// begins anew the next time.
    async fn look(
        &self,
        erasures: &Erasures,
        mut open: Open,
        began: Instant,
        now: Timestamp,
    ) -> Result<bool, PortError> {
        let Some(user) = open.row.user.clone() else { return Ok(true) };
        let look = open.row.look.clone().unwrap_or(Look { began: now, elsewhere: false, through: None });
        let with_slack = |at: Timestamp| (at.micros() - SLACK_US) / 1_000;
        let (since_ms, look_began_ms) = (open.row.looked.map(with_slack), with_slack(look.began));
        let target = Target { id: open.id.clone(), user, until: open.row.until, since_ms, look_began_ms, now, began };
        match self.look_at(erasures, &target, &mut open, &look).await {
            Ok(ended) => Ok(ended),
            // Others are at the same erasure.
            Err(error) if error.kind == ErrorKind::Conflict && error.operation == SAVE => Ok(false),
            Err(error) => {
                tracing::error!(stage = "erase", erasure = %target.id, %error, "a user cannot be erased yet");
                open.row.look = None;
                let _ = self.save(erasures, &mut open).await;
                Err(error)
            }
        }
    }

    async fn look_at(
        &self,
        erasures: &Erasures,
        target: &Target,
        open: &mut Open,
        look: &Look,
    ) -> Result<bool, PortError> {
        let mut failure = None;
        if !look.elsewhere {
            failure = self.elsewhere(erasures, target, open, look).await?;
            if failure.is_none() {
                open.row.look = Some(Look { elsewhere: true, ..look.clone() });
                self.save(erasures, open).await?;
                if target.began.elapsed() > self.budget {
                    return Ok(false);
                }
            }
        }
        let is_seen = match self.lake(erasures, target, open).await {
            Ok(Some(is_seen)) => is_seen,
            Ok(None) => return failure.map_or(Ok(false), Err),
            Err(error) => return Err(failure.unwrap_or(error)),
        };
        if let Some(error) = failure {
            return Err(error);
        }
        if is_seen {
            open.row.looked = Some(look.began);
        }
        open.row.look = None;
        open.row.state = State::Erased;
        open.row.erased_at.get_or_insert(target.now);
        if target.now >= open.row.until.plus_micros(WATCHED_US) {
            open.row.state = State::Closed;
            open.row.user = None;
            open.row.addresses.clear();
        }
        self.save(erasures, open).await?;
        tracing::info!(stage = "erase", erasure = %target.id, "a user was erased from what is there");
        Ok(true)
    }

    /// All but the lake; answers the first failure, after every part has had its turn.
    async fn elsewhere(
        &self,
        erasures: &Erasures,
        target: &Target,
        open: &mut Open,
        look: &Look,
    ) -> Result<Option<PortError>, PortError> {
        let own = self.rules(target, &mut open.row.addresses).await?;
        open.row.look = Some(look.clone());
        self.save(erasures, open).await?;
        // Addresses are kept by now.
        let outcomes = [
            self.remove_rules(erasures, target, own).await,
            self.alerts(target).await,
            self.documents(erasures, target).await,
            self.records(erasures, target).await,
            self.mails(erasures, target, &open.row.addresses).await,
        ];
        Ok(outcomes.into_iter().find_map(Result::err))
    }

    async fn save(&self, erasures: &Erasures, open: &mut Open) -> Result<(), PortError> {
        erasures.put(&open.id, Some(open.version), &open.row).await?;
        open.version += 1;
        Ok(())
    }

    /// Ids of the user's rules. Their addresses come to `addresses`, but those that others' rules have too.
    async fn rules(&self, target: &Target, addresses: &mut BTreeSet<String>) -> Result<Vec<String>, PortError> {
        let rules = Rules::new(self.ports.table.clone()).list().await.map_err(of_rules)?;
        let (mut ids, mut others) = (Vec::new(), BTreeSet::new());
        for rule in rules.into_iter().map(|stored| stored.rule) {
            let is_own = rule.user == target.user && rule.created <= target.until;
            let to = rule.channels.into_iter().map(|Channel::Email { to }| to);
            if is_own {
                addresses.extend(to)
            } else {
                others.extend(to)
            }
            ids.extend(is_own.then_some(rule.id));
        }
        addresses.retain(|address| !others.contains(address));
        Ok(ids)
    }

    async fn remove_rules(&self, erasures: &Erasures, target: &Target, ids: Vec<String>) -> Result<(), PortError> {
        let rules = Rules::new(self.ports.table.clone());
        for id in ids {
            let removed = u64::from(rules.delete(&id).await.map_err(of_rules)?);
            erasures.count(&target.id, Counts { rules: removed, ..Counts::default() }).await?;
        }
        Ok(())
    }

    /// Alerts that were decided for the user are kept, so that none is decided twice, and forget whose they are and where they go.
    async fn alerts(&self, target: &Target) -> Result<(), PortError> {
        for Item { key, mut value, version, expires_at } in rows::all(self.ports.table.as_ref(), ALERTS).await? {
            let alert = &mut value["alert"];
            if alert["user"] != target.user.as_str() {
                continue;
            }
            alert["user"] = json!("");
            alert["rule_name"] = json!(null);
            alert["channels"] = json!([]);
            let put = Write::Put { key, value, condition: Condition::Version(version), expires_at };
            self.ports.table.write(vec![put]).await?;
        }
        Ok(())
    }

    /// Blanks records of quarantine. One that cannot be read stays as it is, and is told when all others are done.
    async fn records(&self, erasures: &Erasures, target: &Target) -> Result<(), PortError> {
        let is_new = |meta: &ObjectMeta| target.is_new(meta.modified_ms);
        let found = listing::all(self.ports.objects.as_ref(), "quarantine/", is_new).await?;
        let each: Vec<_> = found.into_iter().map(|meta| self.record(target, meta.key)).collect();
        let mut done = futures::stream::iter(each).buffered(CONCURRENT_GETS);
        let (mut records, mut failure) = (0, None);
        while let Some(outcome) = done.next().await {
            match outcome {
                Ok(is_blanked) => records += u64::from(is_blanked),
                Err(error) => _ = failure.get_or_insert(error),
            }
        }
        drop(done);
        erasures.count(&target.id, Counts { records, ..Counts::default() }).await?;
        failure.map_or(Ok(()), Err)
    }

    async fn record(&self, target: &Target, key: String) -> Result<bool, PortError> {
        let bytes = match self.ports.objects.get(&key, None).await {
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(false),
            bytes => bytes?,
        };
        let record = std::str::from_utf8(&bytes).map_err(|e| e.to_string()).and_then(Quarantined::parse);
        let record = record.map_err(|why| {
            PortError::new(ErrorKind::Corrupt, "objects.get", format!("the record `{key}` cannot be read: {why}"))
        })?;
        let Some(left) = without(record, target) else { return Ok(false) };
        let (_, bytes) = left.object();
        self.ports.objects.put(&key, bytes, PutMode::Overwrite).await?;
        Ok(true)
    }

    /// Removes mails to the addresses of the user's rules, and those that name the user.
    async fn mails(&self, erasures: &Erasures, target: &Target, addresses: &BTreeSet<String>) -> Result<(), PortError> {
        let Some(outbox) = &self.ports.outbox else { return Ok(()) };
        let mut removed = 0;
        for mail in outbox.list(usize::MAX).await? {
            if Timestamp::parse_rfc3339(&mail.at).is_some_and(|at| at > target.until) {
                continue;
            }
            let is_named = |text: &str| personal::mentions(text, &target.user);
            let is_theirs = addresses.contains(&mail.to) || mail.to == target.user || is_named(&mail.subject);
            let is_theirs = is_theirs
                || outbox.get(&mail.id).await?.is_some_and(|(_, text, html)| is_named(&text) || is_named(&html));
            if is_theirs {
                outbox.remove(&mail.id).await?;
                removed += 1;
            }
        }
        erasures.count(&target.id, Counts { mails: removed, ..Counts::default() }).await
    }
}

/// What is left of a record; `None` where it does not tell of the user, or was received too late to be meant.
fn without(mut record: Quarantined, target: &Target) -> Option<Quarantined> {
    if record.received > target.until {
        return None;
    }
    let bytes = personal::without(&record.bytes, &target.user);
    let repaired = record.repaired.as_deref().and_then(|bytes| personal::without(bytes, &target.user));
    let is_told = personal::mentions(&record.reason, &target.user) || personal::mentions(&record.pointer, &target.user);
    if bytes.is_none() && repaired.is_none() && !is_told {
        return None;
    }
    if is_told {
        (record.reason, record.pointer) = (REASON.to_owned(), String::new());
    }
    (record.client_ip, record.user_agent) = (None, None);
    record.bytes = bytes.unwrap_or(record.bytes);
    record.repaired = repaired.or(record.repaired);
    Some(record)
}

fn of_rules(error: RulesError) -> PortError {
    match error {
        RulesError::Port(error) => error,
        other => PortError::new(ErrorKind::Corrupt, "rules.list", other.to_string()),
    }
}
