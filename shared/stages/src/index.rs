//! `index`: queued messages to search documents.
//!
//! A batch is begun, its documents are created, and then it is recorded together with its counters; [`crate::indexed`] says why each event
//! is one document and counted once. What is recorded makes a redelivery cheap.

use crate::indexed::{self, Begin, Begun};
use crate::intake::{self, Counted, Slices, Taken, retry};
use crate::item::{Item, Outcome};
use crate::ledger::{self, Sink};
use crate::quarantine::{self, Quarantined};
use futures::future::join_all;
use serde_json::Value as Json;
use sluice_domain::event::{Data, Event, write_members};
use sluice_domain::identity::document_id;
use sluice_domain::json::{Node, Object, Value, write_string};
use sluice_domain::message::Header;
use sluice_domain::schema::{Cell, ColumnKind, Registry, Schema};
use sluice_domain::time::Timestamp;
use sluice_ports::{Document, DocumentOutcome, ErrorKind, IndexTemplate, PortError, Queue, Search, Table, Write};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const ORIGIN: &str = "index";
/// Writes in one transaction.
const MAX_WRITES: usize = 100;

/// What the stage reaches the outside through.
#[derive(Clone)]
pub struct IndexPorts {
    /// Where documents go.
    pub search: Arc<dyn Search>,
    /// Batch records and counters.
    pub table: Arc<dyn Table>,
    /// The quarantine queue.
    pub quarantine: Arc<dyn Queue>,
}

/// How the stage works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexSettings {
    /// Documents are sent when their texts together reach this (OpenSearch advises 5 to 15 MiB a request).
    pub bulk_bytes: usize,
    /// Time after which nothing further is begun; what is left is given back.
    pub budget_ms: u32,
}

impl Default for IndexSettings {
    fn default() -> Self {
        Self { bulk_bytes: 5 * 1024 * 1024, budget_ms: 45_000 }
    }
}

/// The stage.
pub struct Index {
    ports: IndexPorts,
    registry: Arc<Registry>,
    settings: IndexSettings,
}

/// A message whose documents are made.
struct Made<'m> {
    taken: &'m Taken,
    begun: Begun,
    counted: BTreeMap<String, Counted>,
    documents: Vec<Document>,
    /// For each document its position in the message and its counter row.
    origins: Vec<(u32, String)>,
    refused: Vec<Quarantined>,
}

/// A message that is searchable or in quarantine, to be recorded.
struct Finished<'m> {
    taken: &'m Taken,
    begun: Begun,
    counted: BTreeMap<String, Counted>,
}

impl Index {
    /// The stage over its ports.
    pub fn new(ports: IndexPorts, registry: Arc<Registry>, settings: IndexSettings) -> Self {
        Self { ports, registry, settings }
    }

    /// Says how the indices of each table are mapped. To be called at start, before the first document.
    pub async fn define_templates(&self) -> Result<(), PortError> {
        let template = |schema: &Schema| {
            let mut mappings = schema.search_mapping();
            // What the schema does not name stands in `extra`; mapping it anew in each index would let any client grow the mapping.
            mappings["dynamic"] = Json::Bool(false);
            IndexTemplate {
                name: format!("sluice-{}", schema.table),
                pattern: format!("sluice-{}-*", schema.table),
                mappings,
            }
        };
        self.ports.search.define(self.registry.iter().map(template).collect()).await
    }

    /// Makes the events of queued messages searchable; one outcome per item, in order.
    pub async fn run(&self, items: &[Item], now: Timestamp) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; items.len()];
        let mut slices = Slices::new(items, self.settings.budget_ms);
        while let Some(slice) = slices.next(usize::MAX, self.settings.bulk_bytes) {
            let queue = self.ports.quarantine.as_ref();
            for (item, outcome) in intake::refuse_unknown(ORIGIN, queue, items, &slice.unknown, now).await {
                outcomes[item] = Some(outcome);
            }
            self.index_bulk(items, &slice.taken, &mut outcomes, now).await;
        }
        for (item, header) in slices.followers(&mut outcomes) {
            let publish = ledger::publish_of(&header, &items[item].id);
            outcomes[item] = Some(self.settle_recorded(&header, publish, now).await);
        }
        intake::finished(outcomes)
    }

    async fn index_bulk(&self, items: &[Item], bulk: &[Taken], outcomes: &mut [Option<Outcome>], now: Timestamp) {
        let heads: Vec<_> = bulk.iter().map(|taken| &taken.head).collect();
        let begins = indexed::begin(self.ports.table.as_ref(), &self.registry, &heads, now).await;
        let mut made: Vec<Made<'_>> = Vec::with_capacity(bulk.len());
        for (taken, begin) in bulk.iter().zip(begins) {
            match begin {
                Begin::Here(begun) => made.push(self.make(taken, begun, &items[taken.item])),
                Begin::Recorded => {
                    outcomes[taken.item] =
                        Some(self.settle_recorded(&taken.head.header, &taken.head.publish, now).await);
                }
                Begin::Later(why) => outcomes[taken.item] = Some(retry(&why)),
            }
        }
        let mut documents = Vec::with_capacity(made.iter().map(|m| m.documents.len()).sum());
        made.iter_mut().for_each(|m| documents.append(&mut m.documents));
        let mut results = match self.create(documents).await {
            Ok(results) => results.into_iter(),
            Err(e) => return made.iter().for_each(|m| outcomes[m.taken.item] = Some(retry(&e.to_string()))),
        };
        let mut finished: Vec<(Finished<'_>, Vec<Quarantined>)> = Vec::with_capacity(made.len());
        for message in made {
            let results: Vec<DocumentOutcome> = results.by_ref().take(message.origins.len()).collect();
            let (taken, body) = (message.taken, &items[message.taken.item]);
            match judge(message, results, body) {
                Ok(done) => finished.push(done),
                Err(why) => outcomes[taken.item] = Some(retry(&why)),
            }
        }
        let kept = self.keep_each(&finished).await;
        let mut recorded = Vec::with_capacity(finished.len());
        for ((message, _), kept) in finished.into_iter().zip(kept) {
            match kept {
                Outcome::Done => recorded.push(message),
                retry => outcomes[message.taken.item] = Some(retry),
            }
        }
        let results = self.record(&recorded, now).await;
        for (message, outcome) in recorded.iter().zip(results) {
            outcomes[message.taken.item] = Some(outcome);
        }
        let count = |fate: fn(&Counted) -> u64| recorded.iter().flat_map(|m| m.counted.values()).map(fate).sum::<u64>();
        tracing::info!(
            stage = ORIGIN,
            batches = recorded.len(),
            batches.again = bulk.len() - recorded.len(),
            events.stored = count(|n| n.stored),
            events.duplicates = count(|n| n.duplicates),
            events.quarantined = count(|n| n.quarantined),
            "indexed"
        );
    }

    async fn create(&self, documents: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        let count = documents.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let outcomes = self.ports.search.create(documents).await?;
        if outcomes.len() != count {
            let what = format!("{} outcomes for {count} documents", outcomes.len());
            return Err(PortError::new(ErrorKind::Corrupt, "search.create", what));
        }
        Ok(outcomes)
    }

    fn make<'m>(&'m self, taken: &'m Taken, begun: Begun, item: &Item) -> Made<'m> {
        let read = taken.read(&item.body);
        let refused = taken.unreadable(ORIGIN, &read);
        let (mut documents, mut origins) =
            (Vec::with_capacity(read.events.len()), Vec::with_capacity(read.events.len()));
        let mut counters: HashMap<&str, String> = HashMap::new();
        let received = taken.head.received.to_micros_text();
        for (position, event) in &read.events {
            let (index, schema) = begun.place(&self.registry, event);
            let id = document_id(&event.source, &event.id, event.time);
            documents.push(Document { index, id, source: document(schema, event, &received) });
            let counter = counters
                .entry(&event.event_type)
                .or_insert_with(|| ledger::counter(taken.head.received, &event.event_type));
            origins.push((*position, counter.clone()));
        }
        Made { taken, begun, counted: read.counted, documents, origins, refused }
    }

    /// Sends what goes to quarantine in one call; one outcome per message.
    async fn keep_each(&self, messages: &[(Finished<'_>, Vec<Quarantined>)]) -> Vec<Outcome> {
        let records: Vec<Quarantined> = messages.iter().flat_map(|(_, records)| records.iter().cloned()).collect();
        let mut results = quarantine::send_all(self.ports.quarantine.as_ref(), &records).await.into_iter();
        let outcome = |(_, records): &(Finished<'_>, Vec<Quarantined>)| match results
            .by_ref()
            .take(records.len())
            .collect::<Result<Vec<()>, PortError>>()
        {
            Ok(sent) if sent.len() == records.len() => Outcome::Done,
            Ok(_) => retry("the quarantine queue gave no answer"),
            Err(e) => retry(&e.to_string()),
        };
        messages.iter().map(outcome).collect()
    }

    /// Writes the records of batches with their counters: many in a transaction, and alone where that fails.
    async fn record(&self, messages: &[Finished<'_>], now: Timestamp) -> Vec<Outcome> {
        let mut chunks: Vec<&[Finished<'_>]> = Vec::new();
        let (mut from, mut writes) = (0, 0);
        for (i, message) in messages.iter().enumerate() {
            // Rows are shared between messages, so this is at most what they need.
            let more = 1 + message.counted.len();
            if writes + more > MAX_WRITES && i > from {
                chunks.push(&messages[from..i]);
                (from, writes) = (i, 0);
            }
            writes += more;
        }
        if from < messages.len() {
            chunks.push(&messages[from..]);
        }
        let outcomes = join_all(chunks.iter().map(|chunk| async {
            if chunk.len() > 1 && self.ports.table.write(record_writes(chunk, now)).await.is_ok() {
                return chunk.iter().map(|_| Outcome::Done).collect::<Vec<_>>();
            }
            join_all(chunk.iter().map(|message| self.record_one(message, now))).await
        }));
        outcomes.await.into_iter().flatten().collect()
    }

    async fn record_one(&self, message: &Finished<'_>, now: Timestamp) -> Outcome {
        match self.ports.table.write(record_writes(std::slice::from_ref(message), now)).await {
            Ok(()) => Outcome::Done,
            Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => {
                self.settle_recorded(&message.taken.head.header, &message.taken.head.publish, now).await
            }
            Err(e) => retry(&e.to_string()),
        }
    }

    /// A message whose batch is recorded: it counts as duplicates if it is another publish than the recorded one.
    async fn settle_recorded(&self, header: &Header, publish: &str, now: Timestamp) -> Outcome {
        let record = match self.ports.table.get(&[indexed::key(&header.batch)]).await {
            Ok(mut found) => found.pop().flatten(),
            Err(e) => return retry(&e.to_string()),
        };
        match indexed::recorded(record.as_ref()) {
            None => retry("the batch is not recorded"),
            Some(recorded) if recorded == publish => Outcome::Done,
            Some(_) => {
                match ledger::count_duplicate(self.ports.table.as_ref(), Sink::Search, header, publish, now).await {
                    Ok(()) => Outcome::Done,
                    Err(e) => retry(&e.to_string()),
                }
            }
        }
    }
}

fn record_writes(messages: &[Finished<'_>], now: Timestamp) -> Vec<Write> {
    let mut counted: BTreeMap<&str, Counted> = BTreeMap::new();
    let mut writes = Vec::with_capacity(messages.len());
    for message in messages {
        writes.push(message.begun.record(&message.taken.head, now));
        for (counter, n) in &message.counted {
            counted.entry(counter).or_default().add(n);
        }
    }
    writes.extend(counted.into_iter().map(|(counter, n)| ledger::sink_write(counter, &n.fields(Sink::Search))));
    writes
}

/// What became of a message's documents; an error says why it has to come again.
///
/// A document that exists was made by another batch, or by an earlier delivery of this one. Which of the two cannot be told; it counts as
/// a duplicate in the first delivery and as stored in a later one, so that the counters add up either way.
fn judge<'m>(
    mut message: Made<'m>,
    results: Vec<DocumentOutcome>,
    item: &Item,
) -> Result<(Finished<'m>, Vec<Quarantined>), String> {
    let mut rejected: Vec<(u32, String)> = Vec::new();
    for ((position, counter), result) in message.origins.iter().zip(results) {
        let Some(counted) = message.counted.get_mut(counter) else { continue };
        match result {
            DocumentOutcome::Created => {}
            DocumentOutcome::Exists if item.receive_count > 1 => {}
            DocumentOutcome::Exists => {
                counted.stored = counted.stored.saturating_sub(1);
                counted.duplicates += 1;
            }
            DocumentOutcome::Rejected(why) => {
                counted.stored = counted.stored.saturating_sub(1);
                counted.quarantined += 1;
                rejected.push((*position, why));
            }
            DocumentOutcome::Failed(e) => return Err(e.to_string()),
        }
    }
    let mut refused = message.refused;
    if !rejected.is_empty() {
        let read = message.taken.read(&item.body);
        for (position, why) in rejected {
            let Some((_, event)) = read.events.iter().find(|(p, _)| *p == position) else { continue };
            let mut text = String::new();
            event.write(&mut text);
            let mut record = message.taken.head.refuse(ORIGIN, Some(position), "mapping_conflict", &why, &text);
            record.id.insert_str(0, "index-");
            refused.push(record);
        }
    }
    Ok((Finished { taken: message.taken, begun: message.begun, counted: message.counted }, refused))
}

/// The document of an event: its attributes, its `data` by the columns of the schema, and in `extra` what neither names. Written as text,
/// since numbers must stay as they came.
fn document(schema: &Schema, event: &Event<'_>, received: &str) -> String {
    let mut out = String::with_capacity(512);
    out.push_str("{\"id\":");
    write_string(&mut out, &event.id);
    out.push_str(",\"source\":");
    write_string(&mut out, &event.source);
    out.push_str(",\"type\":");
    write_string(&mut out, &event.event_type);
    out.push_str(",\"time\":\"");
    out.push_str(&event.time.to_micros_text());
    out.push_str("\",\"receivedtime\":\"");
    out.push_str(received);
    out.push('"');
    for (name, value) in [
        ("subject", &event.subject),
        ("userid", &event.user_id),
        ("sessionid", &event.session_id),
        ("clientip", &event.client_ip),
        ("useragent", &event.user_agent),
        ("specversion", &event.spec_version),
        ("datacontenttype", &event.data_content_type),
        ("dataschema", &event.data_schema),
        ("tracestate", &event.trace_state),
        ("traceparent", &event.trace_parent),
    ] {
        if let Some(value) = value {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            write_string(&mut out, value);
        }
    }
    if let Some(hops) = event.hops {
        out.push_str(",\"hops\":");
        out.push_str(&hops.to_string());
    }
    let mut unknown: Vec<(&str, &str)> = Vec::new();
    match &event.data {
        Data::Absent => {}
        Data::Json(Node { value: Value::Object(object), raw }) => {
            out.push_str(",\"data\":");
            if schema.is_generic() {
                out.push_str(raw);
            } else {
                write_fields(&mut out, schema, object, &mut unknown);
            }
        }
        Data::Json(node) => {
            out.push_str(",\"data\":{\"value\":");
            out.push_str(node.raw);
            out.push('}');
        }
        Data::Base64(text) => {
            out.push_str(",\"data_base64\":");
            write_string(&mut out, text);
        }
    }
    if !unknown.is_empty() || !event.extra.is_empty() {
        out.push_str(",\"extra\":");
        let attributes = event.extra.iter().map(|(name, raw)| (name.as_ref(), raw.as_ref()));
        write_members(&mut out, unknown.into_iter().chain(attributes));
    }
    out.push('}');
    out
}

fn write_fields<'e>(out: &mut String, schema: &Schema, object: &'e Object<'_>, unknown: &mut Vec<(&'e str, &'e str)>) {
    out.push('{');
    let mut separator = "";
    for (name, node) in &object.0 {
        let Some(column) = schema.column_index(name).map(|i| &schema.columns[i]) else {
            unknown.push((name, node.raw));
            continue;
        };
        out.push_str(separator);
        separator = ",";
        write_string(out, name);
        out.push(':');
        // A time may come as a number in one of three units; the index would read each as milliseconds.
        let is_time = match &column.kind {
            ColumnKind::List(element) => **element == ColumnKind::Timestamp,
            kind => *kind == ColumnKind::Timestamp,
        };
        match if is_time { column.read(node).ok() } else { None } {
            Some(cell) => write_times(out, &cell),
            None => out.push_str(node.raw),
        }
    }
    out.push('}');
}

fn write_times(out: &mut String, cell: &Cell<'_>) {
    match cell {
        Cell::Timestamp(micros) => {
            let time = Timestamp::from_micros(*micros).unwrap_or_default();
            out.push('"');
            out.push_str(&time.to_micros_text());
            out.push('"');
        }
        Cell::List(cells) => {
            for (i, cell) in cells.iter().enumerate() {
                out.push(if i == 0 { '[' } else { ',' });
                write_times(out, cell);
            }
            out.push_str(if cells.is_empty() { "[]" } else { "]" });
        }
        _ => out.push_str("null"),
    }
}
