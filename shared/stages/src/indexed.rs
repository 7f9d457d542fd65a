//! Batch records of the search index: how the events of a batch become one document each, and are counted once.
//!
//! The row `("indexed", batch)` goes from nothing to `begun` to recorded, and never back. `begun` names the publish whose documents are
//! made, and the tables of its types; it is written before the first document. Recorded names the publish that is counted, and is written
//! together with the counters when every event is searchable or in quarantine.
//!
//! # Why an event is one document
//!
//! Documents are only ever created, under an id made of the event's identity, in an index named after its table. So a bulk that is repeated,
//! overlaps another or lands late changes nothing, *as long as it makes the same ids in the same indices*. Two things could change them:
//!
//! - *Another publish of the batch.* A repeated request is the same events under the same batch id, but an event that brought no time of its
//!   own has the receive time of each request, and with it another identity. Only the publish that `begun` names makes documents; the
//!   messages of others wait until it is recorded and count as duplicates then. They cannot wait for ever: a message that is not
//!   acknowledged comes again, and nobody acknowledges the named publish before it is recorded.
//! - *Another version of the schemas.* A type that gets a schema gets a table, and with it another index. The tables that `begun` names
//!   stay, whoever goes on with the batch.
//!
//! The first write of `begun` wins, since it requires that there is no row; whatever is seen to be there is final in publish and tables.
//! No lease and no clock decides anything: overlapping consumers of one publish do the same work, and the second finds it done.
//!
//! Rows live 35 days, longer than a queue and its dead-letter queue keep a message.

use crate::groups::KEEP_US;
use crate::intake::Head;
use crate::rows::expiry;
use futures::StreamExt as _;
use serde_json::{Value, json};
use sluice_domain::event::Event;
use sluice_domain::lake::index_name;
use sluice_domain::schema::{GENERIC_TYPE, Registry, Schema};
use sluice_domain::time::Timestamp;
use sluice_ports::{Condition, ErrorKind, Item, Key, PortError, Table, Write};
use std::collections::BTreeMap;

/// Records that are begun at the same time.
const BEGUN_AT_ONCE: usize = 32;
/// How often a record is begun, and looked at where that fails, before its batch is given back.
const LOOKS: usize = 4;

/// The tables of a batch that is begun for a publish, and the version of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Table by type, for types that had one of their own; events of others go to the generic one.
    tables: BTreeMap<String, String>,
    version: u64,
}

/// What is to be done with a message.
#[derive(Debug)]
pub(crate) enum Begin {
    /// Its documents are to be made.
    Here(Begun),
    /// Its batch is recorded, by this publish or another.
    Recorded,
    /// It has to come again: why.
    Later(String),
}

impl Begun {
    /// The index of an event, and the schema by which its document is written.
    pub(crate) fn place<'r>(&self, registry: &'r Registry, event: &Event<'_>) -> (String, &'r Schema) {
        match self.tables.get(event.event_type.as_ref()) {
            // A process of another version may not know the type and writes the document as one without a schema.
            Some(table) => (index_name(table, event.time), registry.resolve(&event.event_type)),
            None => {
                let generic = registry.resolve(GENERIC_TYPE);
                (index_name(&generic.table, event.time), generic)
            }
        }
    }

    /// The write that records a batch, to be made with its counters.
    pub(crate) fn record(&self, head: &Head, now: Timestamp) -> Write {
        put(head, json!({"publish": head.publish}), Condition::Version(self.version), now)
    }
}

/// The publish for which a batch is recorded; `None` where it is not, or only begun.
pub(crate) fn recorded(row: Option<&Item>) -> Option<&str> {
    let value = &row?.value;
    if is_begun(value) { None } else { Some(value["publish"].as_str().unwrap_or("")) }
}

/// Whether a batch is searchable or in quarantine as a whole.
pub(crate) async fn is_recorded(table: &dyn Table, batch: &str) -> Result<bool, PortError> {
    Ok(table.get(&[key(batch)]).await?.iter().any(|row| recorded(row.as_ref()).is_some()))
}

/// The key of a batch's record.
pub(crate) fn key(batch: &str) -> Key {
    Key::new("indexed", batch)
}

/// Begins batches, each named once; one answer per message, in order.
pub(crate) async fn begin(table: &dyn Table, registry: &Registry, heads: &[&Head], now: Timestamp) -> Vec<Begin> {
    let mut begins: Vec<Option<Begin>> = heads.iter().map(|_| None).collect();
    let mut open: Vec<usize> = (0..heads.len()).collect();
    for _ in 0..LOOKS {
        // Each alone and most of them new: a lone conditional put costs less than a look and its part of a transaction.
        let puts = open.iter().map(|i| {
            let (i, head) = (*i, heads[*i]);
            async move {
                let tables = tables(registry, head);
                let value = json!({"state": "begun", "publish": head.publish, "tables": tables});
                let written = table.write(vec![put(head, value, Condition::Absent, now)]).await;
                (i, written.map(|()| Begun { tables, version: 1 }))
            }
        });
        let puts: Vec<_> = puts.collect();
        let written: Vec<_> = futures::stream::iter(puts).buffered(BEGUN_AT_ONCE).collect().await;
        for (i, result) in written {
            begins[i] = match result {
                Ok(begun) => Some(Begin::Here(begun)),
                Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => None,
                Err(e) => Some(Begin::Later(e.to_string())),
            };
        }
        open.retain(|i| begins[*i].is_none());
        if open.is_empty() {
            break;
        }
        let keys: Vec<Key> = open.iter().map(|i| key(&heads[*i].header.batch)).collect();
        match table.get(&keys).await {
            Ok(rows) => {
                for (i, row) in open.iter().zip(rows) {
                    begins[*i] = row.map(|row| read(&row, &heads[*i].publish));
                }
            }
            Err(e) => open.iter().for_each(|i| begins[*i] = Some(Begin::Later(e.to_string()))),
        }
        open.retain(|i| begins[*i].is_none());
    }
    let contended = || Begin::Later("the batch is being begun by others".into());
    begins.into_iter().map(|begin| begin.unwrap_or_else(contended)).collect()
}

fn read(row: &Item, publish: &str) -> Begin {
    if !is_begun(&row.value) {
        return Begin::Recorded;
    }
    if row.value["publish"] != publish {
        return Begin::Later("another publish of the batch is being indexed".into());
    }
    match serde_json::from_value(row.value["tables"].clone()) {
        Ok(tables) => Begin::Here(Begun { tables, version: row.version }),
        Err(e) => Begin::Later(format!("the record of the batch cannot be read: {e}")),
    }
}

fn is_begun(value: &Value) -> bool {
    value["state"] == "begun"
}

fn tables(registry: &Registry, head: &Head) -> BTreeMap<String, String> {
    let own = head.header.types.keys().map(|name| (name, registry.resolve(name))).filter(|(_, s)| !s.is_generic());
    own.map(|(name, schema)| (name.clone(), schema.table.clone())).collect()
}

fn put(head: &Head, value: Value, condition: Condition, now: Timestamp) -> Write {
    Write::Put { key: key(&head.header.batch), value, condition, expires_at: Some(expiry(now, KEEP_US)) }
}
