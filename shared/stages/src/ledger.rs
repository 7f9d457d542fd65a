//! The ledger: what came in and what each sink made of it, per type and hour of receive time.
//!
//! received = accepted + rejected, and for each sink accepted = stored + quarantined + duplicates + off + in flight. `accepted` and `off`
//! are counted with the publish, by the producer; a sink's other counts are written in the same transaction as what they count.

pub mod audit;

use crate::groups::KEEP_US;
use crate::rows::{all, expiry, write_once};
use async_trait::async_trait;
use serde::Serialize;
use serde_json::json;
use sluice_domain::message::Header;
use sluice_domain::schema::counted_as;
use sluice_domain::time::Timestamp;
use sluice_ports::{Key, Message, PortError, Table, Tally, Topic, Write};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Partition of the table that holds the counters (see [`Tally`]).
pub const PARTITION: &str = "counter";

/// Writes in one transaction.
const MAX_WRITES: usize = 100;

/// Where accepted events end up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sink {
    /// Parquet files of committed groups.
    Lake,
    /// Search documents.
    Search,
    /// Rules and scenarios.
    Detect,
}

impl Sink {
    /// All sinks.
    pub const ALL: [Self; 3] = [Self::Lake, Self::Search, Self::Detect];

    /// Its name in counters and replies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lake => "lake",
            Self::Search => "search",
            Self::Detect => "detect",
        }
    }

    /// The verb of the stage that fills it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Lake => "convert",
            Self::Search => "index",
            Self::Detect => "detect",
        }
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is there (for detect: it was evaluated).
    Stored,
    /// Its bytes and the reason are in quarantine.
    Quarantined,
    /// It was there already.
    Duplicate,
    /// It never came here: the sink was switched off when the event was published.
    Off,
    /// It was there, and was taken away again: its user was erased, or its index was kept long enough. Counted before it is done, so that it
    /// may be counted more than once.
    Removed,
    /// It left quarantine: it was sent to the sink again, and is counted there as what became of it this time.
    Returned,
}

/// The counter row of a type in the hour of a receive time: `YYYY-MM-DDTHH#type`.
pub fn counter(received: Timestamp, event_type: &str) -> String {
    format!("{}#{}", &received.to_micros_text()[..13], counted_as(event_type))
}

/// The field of a counter row for a sink and a fate, for example `lake_stored`.
pub fn field(sink: Sink, fate: Fate) -> String {
    let fate = match fate {
        Fate::Stored => "stored",
        Fate::Quarantined => "quarantined",
        Fate::Duplicate => "duplicates",
        Fate::Off => "off",
        Fate::Removed => "removed",
        Fate::Returned => "returned",
    };
    format!("{}_{fate}", sink.name())
}

/// Counts accepted events with their publish.
pub fn accepted(received: Timestamp, event_type: &str, count: u64) -> Tally {
    Tally {
        counter: counter(received, event_type),
        field: "accepted".into(),
        by: i64::try_from(count).unwrap_or(i64::MAX),
    }
}

/// Counts, beside the accepted events of a message, that these sinks do not get them.
fn count_off(tally: &mut Vec<Tally>, off: &[Sink]) {
    let accepted: Vec<Tally> = tally.iter().filter(|t| t.field == "accepted").cloned().collect();
    for sink in off {
        tally.extend(accepted.iter().map(|t| Tally { field: field(*sink, Fate::Off), ..t.clone() }));
    }
}

/// A topic that counts what the sinks that are off do not get, in the same step as the publish: whenever they are on again, the ledger adds
/// up.
pub struct CountingOff {
    /// Where messages go.
    pub topic: Arc<dyn Topic>,
    /// The sinks that are not subscribed.
    pub off: Vec<Sink>,
}

#[async_trait]
impl Topic for CountingOff {
    async fn publish(&self, mut messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        for message in &mut messages {
            count_off(&mut message.tally, &self.off);
        }
        self.topic.publish(messages).await
    }
}

/// Counts rejected events with their way to quarantine.
pub fn rejected(received: Timestamp, event_type: &str, count: u64) -> Tally {
    Tally {
        counter: counter(received, event_type),
        field: "rejected".into(),
        by: i64::try_from(count).unwrap_or(i64::MAX),
    }
}

/// Counts what a sink did, to be written in the sink's own transaction. Counts for one (received hour, type) must be given together: a
/// transaction takes one write per row.
pub fn sink_write(counter: &str, fields: &[(Sink, Fate, u64)]) -> Write {
    Write::Add {
        key: Key::new(PARTITION, counter),
        deltas: fields
            .iter()
            .map(|(sink, fate, n)| (field(*sink, *fate), i64::try_from(*n).unwrap_or(i64::MAX)))
            .collect(),
        expires_at: None,
    }
}

/// Counts documents that are to be taken away, by counter. Before they are: a count may be repeated, a document that is gone may not be
/// missing from it.
pub(crate) async fn count_removed(
    table: &dyn Table,
    documents: impl IntoIterator<Item = (String, u64)>,
) -> Result<(), PortError> {
    let count = |(counter, n): (String, u64)| sink_write(&counter, &[(Sink::Search, Fate::Removed, n)]);
    let writes: Vec<Write> = documents.into_iter().map(count).collect();
    for some in writes.chunks(MAX_WRITES) {
        table.write(some.to_vec()).await?;
    }
    Ok(())
}

/// What the counters say, all hours together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Over all types.
    pub total: Counts,
    /// By type; events whose type is not of our form are `other`.
    pub types: BTreeMap<String, Counts>,
    /// Whether what waits before each sink is what the counters say; by sink.
    pub checks: BTreeMap<Sink, Check>,
    /// Whether every check that can be made holds. Only a pipeline at rest adds up exactly: what is stored and not yet acknowledged still
    /// waits in its queue.
    pub adds_up: bool,
}

/// Events by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Accepted and rejected.
    pub received: i64,
    /// Published.
    pub accepted: i64,
    /// Refused at the door.
    pub rejected: i64,
    /// By sink.
    pub sinks: BTreeMap<Sink, SinkCounts>,
}

/// What a sink made of the accepted events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SinkCounts {
    /// There.
    pub stored: i64,
    /// In quarantine.
    pub quarantined: i64,
    /// There already.
    pub duplicates: i64,
    /// Published while the sink was switched off.
    pub off: i64,
    /// Of the stored ones, those that were taken away again, at most.
    #[serde(skip_serializing_if = "is_none")]
    pub removed: i64,
    /// None of these: accepted − stored − quarantined − duplicates − off. Below zero, something was counted twice.
    pub in_flight: i64,
}

/// What is in flight to a sink by the counters, and by its queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// By the counters.
    pub in_flight: i64,
    /// In its queue and dead-letter queue, where they can tell.
    pub waiting: Option<u64>,
    /// Whether the two are equal; `None` where the queues cannot tell.
    pub adds_up: Option<bool>,
    /// The earliest hour of receive time (`YYYY-MM-DDTHH`) from which something is in flight or counted twice.
    pub oldest_hour: Option<String>,
}

/// Sums the counters up. `waiting` names the sinks that are in use, with the events in each one's queue and dead-letter queue where those
/// can tell; it should be read before the counters.
pub async fn report(table: &dyn Table, waiting: &BTreeMap<Sink, Option<u64>>) -> Result<Report, PortError> {
    let mut report = Report::default();
    let mut oldest: BTreeMap<Sink, String> = BTreeMap::new();
    report.total.sinks = waiting.keys().map(|sink| (*sink, SinkCounts::default())).collect();
    let sinks: Vec<Sink> = waiting.keys().copied().collect();
    for ((hour, event_type), counts) in by_hour(table, &sinks).await? {
        for (sink, n) in &counts.sinks {
            if n.in_flight != 0 && oldest.get(sink).is_none_or(|oldest| hour < *oldest) {
                oldest.insert(*sink, hour.clone());
            }
        }
        report.total.add(&counts);
        match report.types.get_mut(&event_type) {
            Some(sum) => sum.add(&counts),
            None => _ = report.types.insert(event_type, counts),
        }
    }
    report.adds_up(waiting, &oldest);
    Ok(report)
}

/// The counters by hour of receive time (`YYYY-MM-DDTHH`) and type.
async fn by_hour(table: &dyn Table, sinks: &[Sink]) -> Result<BTreeMap<(String, String), Counts>, PortError> {
    let mut counters: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for tally in all(table, PARTITION).await?.iter().flat_map(Tally::of) {
        *counters.entry(tally.counter).or_default().entry(tally.field).or_default() += tally.by;
    }
    // The partition holds other counters too; those of the ledger are `hour#type`.
    let of_ledger = |(counter, fields): (&String, &BTreeMap<String, i64>)| {
        let (hour, event_type) = counter.split_once('#').filter(|(hour, _)| is_hour(hour))?;
        Some(((hour.to_owned(), event_type.to_owned()), Counts::read(fields, sinks.iter())))
    };
    Ok(counters.iter().filter_map(of_ledger).collect())
}

/// What the counters say of one counter row; `None` where nothing was counted there.
pub(crate) async fn of(table: &dyn Table, counter: &str, sinks: &[Sink]) -> Result<Option<Counts>, PortError> {
    let Some((hour, event_type)) = counter.split_once('#') else { return Ok(None) };
    Ok(by_hour(table, sinks).await?.remove(&(hour.to_owned(), event_type.to_owned())))
}

impl Report {
    fn adds_up(&mut self, waiting: &BTreeMap<Sink, Option<u64>>, oldest: &BTreeMap<Sink, String>) {
        for (sink, waiting) in waiting {
            let in_flight = self.total.sinks.get(sink).map_or(0, |n| n.in_flight);
            let adds_up = waiting.map(|n| i64::try_from(n) == Ok(in_flight));
            let oldest_hour = oldest.get(sink).cloned();
            self.checks.insert(*sink, Check { in_flight, waiting: *waiting, adds_up, oldest_hour });
        }
        self.adds_up = self.checks.values().all(|check| check.adds_up != Some(false) && check.in_flight >= 0);
    }
}

impl Counts {
    fn read<'s>(fields: &BTreeMap<String, i64>, sinks: impl Iterator<Item = &'s Sink>) -> Self {
        let number = |field: &str| fields.get(field).copied().unwrap_or(0);
        let (accepted, rejected) = (number("accepted"), number("rejected"));
        let sinks = sinks.map(|sink| {
            let fates = [Fate::Stored, Fate::Quarantined, Fate::Duplicate, Fate::Off, Fate::Removed, Fate::Returned];
            let [stored, kept, duplicates, off, removed, returned] = fates.map(|fate| number(&field(*sink, fate)));
            let quarantined = kept - returned;
            let in_flight = accepted - stored - quarantined - duplicates - off;
            (*sink, SinkCounts { stored, quarantined, duplicates, off, removed, in_flight })
        });
        Self { received: accepted + rejected, accepted, rejected, sinks: sinks.collect() }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        for (sink, n) in &other.sinks {
            let sum = self.sinks.entry(*sink).or_default();
            sum.stored += n.stored;
            sum.quarantined += n.quarantined;
            sum.duplicates += n.duplicates;
            sum.off += n.off;
            sum.removed += n.removed;
            sum.in_flight += n.in_flight;
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(n: &i64) -> bool {
    *n == 0
}

fn is_hour(text: &str) -> bool {
    text.len() == 13 && text.as_bytes()[10] == b'T'
}

/// Which publish a message is: what its header says, else the queue's id of the message.
pub fn publish_of<'a>(header: &'a Header, message_id: &'a str) -> &'a str {
    header.publish.as_deref().filter(|publish| (1..=64).contains(&publish.len())).unwrap_or(message_id)
}

/// Counts the events of a message as duplicates in a sink, once per publish however often it is delivered: a row
/// `("duplicate", "<sink>#<batch>#<publish>")` is written with the counters. For messages whose batch the sink already has from *another*
/// publish; a redelivery of the publish that it has was not accepted twice and must not be counted here.
pub async fn count_duplicate(
    table: &dyn Table,
    sink: Sink,
    header: &Header,
    publish: &str,
    now: Timestamp,
) -> Result<(), PortError> {
    let received = Timestamp::parse_rfc3339(&header.received).unwrap_or(now);
    let marker = Key::new("duplicate", format!("{}#{}#{publish}", sink.name(), header.batch));
    if count_once(table, marker, (sink, Fate::Duplicate), header, received, now).await? {
        tracing::event!(target: "metrics", tracing::Level::TRACE, events.duplicates = header.count);
    }
    Ok(())
}

/// Counts the events of a message, once per marker; answers whether it was done now.
pub(crate) async fn count_once(
    table: &dyn Table,
    marker: Key,
    (sink, fate): (Sink, Fate),
    header: &Header,
    received: Timestamp,
    now: Timestamp,
) -> Result<bool, PortError> {
    let count = |(name, n): (&String, &u64)| sink_write(&counter(received, name), &[(sink, fate, *n)]);
    let expires_at = Some(expiry(now, KEEP_US));
    write_once(table, marker, json!({}), expires_at, header.types.iter().map(count)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_ports::{Condition, ErrorKind};
    use sluice_testkit::memory::MemoryTable;

    fn hour(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    async fn add(table: &MemoryTable, tally: Tally) {
        let key = Key::new(PARTITION, tally.counter);
        table.write(vec![Write::Add { key, deltas: vec![(tally.field, tally.by)], expires_at: None }]).await.unwrap();
    }

    async fn sink(table: &MemoryTable, received: Timestamp, name: &str, fields: &[(Sink, Fate, u64)]) {
        table.write(vec![sink_write(&counter(received, name), fields)]).await.unwrap();
    }

    #[tokio::test]
    async fn the_report_sums_types_and_hours_and_says_what_is_in_flight() {
        let table = MemoryTable::new();
        let (early, late) = (hour("2026-11-21T10:59:59Z"), hour("2026-11-21T11:00:00Z"));
        add(&table, accepted(early, "web.event", 5)).await;
        add(&table, accepted(late, "web.event", 4)).await;
        add(&table, accepted(late, "Some Thing", 2)).await;
        add(&table, rejected(late, "web.event", 3)).await;
        sink(&table, early, "web.event", &[(Sink::Lake, Fate::Stored, 3), (Sink::Lake, Fate::Quarantined, 2)]).await;
        sink(&table, late, "web.event", &[(Sink::Lake, Fate::Stored, 1), (Sink::Lake, Fate::Duplicate, 1)]).await;
        add(&table, Tally { counter: "probe".into(), field: "accepted".into(), by: 99 }).await;
        let waiting = BTreeMap::from([(Sink::Lake, Some(4)), (Sink::Search, None)]);
        let report = report(&table, &waiting).await.unwrap();
        assert_eq!((report.total.received, report.total.accepted, report.total.rejected), (14, 11, 3));
        let web = &report.types["web.event"];
        assert_eq!(
            web.sinks[&Sink::Lake],
            SinkCounts { stored: 4, quarantined: 2, duplicates: 1, in_flight: 2, ..SinkCounts::default() }
        );
        assert_eq!(report.types["other"].sinks[&Sink::Lake].in_flight, 2);
        let check = &report.checks[&Sink::Lake];
        assert_eq!(
            (check.in_flight, check.adds_up, check.oldest_hour.as_deref()),
            (4, Some(true), Some("2026-11-21T11"))
        );
        assert_eq!(report.checks[&Sink::Search].adds_up, None);
        assert!(report.adds_up && !report.total.sinks.contains_key(&Sink::Detect));
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains(r#""lake":{"stored":4,"quarantined":2,"duplicates":1,"off":0,"in_flight":4}"#), "{text}");
    }

    #[tokio::test]
    async fn the_sums_of_producers_are_part_of_it() {
        let table = MemoryTable::new();
        let now = hour("2026-11-21T10:00:00Z");
        add(&table, accepted(now, "web.event", 1)).await;
        for (producer, accepted) in [("@a-0", 5), ("@b-0", 7)] {
            let value = json!({"2026-11-21T10#web.event accepted": accepted, "2026-11-21T10#web.event search_off": 2});
            let key = Key::new(PARTITION, producer);
            let put = Write::Put { key, value, condition: Condition::Any, expires_at: None };
            table.write(vec![put]).await.unwrap();
        }
        sink(&table, now, "web.event", &[(Sink::Search, Fate::Stored, 9)]).await;
        let report = report(&table, &BTreeMap::from([(Sink::Search, Some(0))])).await.unwrap();
        let search = SinkCounts { stored: 9, off: 4, ..SinkCounts::default() };
        assert_eq!((report.total.accepted, report.total.sinks[&Sink::Search]), (13, search));
        assert!(report.adds_up && report.types.len() == 1, "{report:?}");
    }

    #[tokio::test]
    async fn what_is_lost_or_counted_twice_does_not_add_up() {
        for (stored, waiting) in [(3, 1), (6, 0)] {
            let table = MemoryTable::new();
            add(&table, accepted(hour("2026-11-21T10:00:00Z"), "web.event", 5)).await;
            sink(&table, hour("2026-11-21T10:00:00Z"), "web.event", &[(Sink::Lake, Fate::Stored, stored)]).await;
            assert!(!report(&table, &BTreeMap::from([(Sink::Lake, Some(waiting))])).await.unwrap().adds_up);
        }
    }

    #[tokio::test]
    async fn what_was_published_while_a_sink_was_off_is_not_missing() {
        let table = MemoryTable::new();
        let now = hour("2026-11-21T10:00:00Z");
        let mut tally =
            vec![accepted(now, "web.event", 5), accepted(now, "game.start", 1), rejected(now, "web.event", 9)];
        count_off(&mut tally, &[Sink::Search, Sink::Detect]);
        tally.push(accepted(now, "web.event", 2));
        for tally in tally {
            add(&table, tally).await;
        }
        sink(&table, now, "web.event", &[(Sink::Search, Fate::Stored, 2)]).await;
        let report = report(&table, &BTreeMap::from([(Sink::Lake, Some(8)), (Sink::Search, Some(0))])).await.unwrap();
        let search = SinkCounts { stored: 2, off: 6, ..SinkCounts::default() };
        assert_eq!(
            report.total.sinks,
            BTreeMap::from([
                (Sink::Lake, SinkCounts { in_flight: 8, ..SinkCounts::default() }),
                (Sink::Search, search),
            ])
        );
        assert!(report.adds_up, "{report:?}");
    }

    #[tokio::test]
    async fn more_counters_than_a_page_are_summed() {
        let table = MemoryTable::new();
        for i in 0..1_100 {
            add(&table, accepted(hour("2026-11-21T10:00:00Z"), &format!("a.t{i}"), 1)).await;
        }
        let report = report(&table, &BTreeMap::new()).await.unwrap();
        assert_eq!((report.total.accepted, report.types.len()), (1_100, 1_100));
    }

    #[tokio::test]
    async fn a_duplicate_is_counted_once_per_publish_even_when_the_reply_is_lost() {
        use sluice_testkit::fault::{Fault, Faulty};
        let table = Faulty::new(MemoryTable::new());
        let header = Header {
            v: 1,
            batch: "b".into(),
            publish: None,
            replay: false,
            received: "2026-11-21T10:00:00Z".into(),
            clientip: None,
            useragent: None,
            areas: vec!["web".into()],
            count: 2,
            types: BTreeMap::from([("web.event".into(), 2)]),
        };
        let now = hour("2026-11-21T10:00:00Z");
        table.script("table.write", [Fault::Before(ErrorKind::Unavailable), Fault::After]);
        assert!(count_duplicate(&table, Sink::Search, &header, "p2", now).await.is_err());
        for publish in ["p2", "p2", "p3"] {
            count_duplicate(&table, Sink::Search, &header, publish, now).await.unwrap();
        }
        assert_eq!(table.inner().value(PARTITION, "2026-11-21T10#web.event").unwrap()["search_duplicates"], 4);
    }
}
