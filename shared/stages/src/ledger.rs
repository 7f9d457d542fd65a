//! The ledger: what came in and what each sink made of it, per type and hour of receive time.
//!
//! received = accepted + rejected, and for each sink accepted = stored + quarantined + duplicates + in flight. `accepted` is counted with
//! the publish, by the producer; a sink's counts are written in the same transaction as what they count.

use crate::groups::KEEP_US;
use serde_json::json;
use sluice_domain::message::Header;
use sluice_domain::schema::counted_as;
use sluice_domain::time::{SECOND_US, Timestamp};
use sluice_ports::{Condition, ErrorKind, Key, PortError, Table, Tally, Write};

/// Partition of the table that holds the counters (see [`Tally`]).
pub const PARTITION: &str = "counter";

/// Where accepted events end up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    let mut writes = vec![Write::Put {
        key: marker.clone(),
        value: json!({}),
        condition: Condition::Absent,
        expires_at: Some(now.micros().saturating_add(KEEP_US) / SECOND_US),
    }];
    writes.extend(
        header.types.iter().map(|(name, n)| sink_write(&counter(received, name), &[(sink, Fate::Duplicate, *n)])),
    );
    match table.write(writes).await {
        Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => {
            if table.get(&[marker]).await?.iter().any(Option::is_some) { Ok(()) } else { Err(e) }
        }
        result => result,
    }
}
