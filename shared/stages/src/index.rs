//! `index`: queued messages to search documents.
//!
//! A batch is begun, its documents are created, and then it is recorded together with its counters; [`crate::indexed`] says why each event
//! is one document and counted once. What is recorded makes a redelivery cheap.

pub mod documents;

use crate::indexed::{self, Begin, Begun};
use crate::intake::{self, Counted, Slices, Taken, retry};
use crate::item::{Item, Outcome};
use crate::ledger::{self, Sink};
use crate::quarantine::{self, Quarantined};
use documents::Documents;
use futures::future::join_all;
use serde_json::Value as Json;
use sluice_domain::message::Header;
use sluice_domain::schema::{Registry, Schema};
use sluice_domain::time::Timestamp;
use sluice_ports::{Document, DocumentOutcome, ErrorKind, IndexTemplate, PortError, Queue, Search, Table, Write};
use std::collections::BTreeMap;
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
    /// For each document its position in the message, and that of its counter row in `counters`.
    origins: Vec<(u32, usize)>,
    counters: Vec<String>,
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

    fn make<'m>(&'m self, taken: &'m Taken, begun: Begun, item: &'m Item) -> Made<'m> {
        let place = |event_type: &str| begun.place(&self.registry, event_type);
        let found = taken.unpacked().and_then(|unpacked| {
            let mut documents = Documents::new(&unpacked.shared(), place);
            let unreadable = documents.read(unpacked)?;
            Some((taken.count(&item.body, documents.types(), unreadable), documents))
        });
        let (read, documents) = found.unwrap_or_else(|| {
            let mut read = taken.read(&item.body);
            let mut documents = Documents::new(&taken.shared(), place);
            for (position, event) in std::mem::take(&mut read.events) {
                documents.push(position, &event);
            }
            (read, documents)
        });
        let refused = taken.unreadable(ORIGIN, &read);
        let counters = documents.event_types().map(|name| ledger::counter(taken.head.received, name)).collect();
        let (documents, origins) = if read.is_refused() { Default::default() } else { documents.finish() };
        Made { taken, begun, counted: read.counted, documents, origins, counters, refused }
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
        let Some(counted) = message.counted.get_mut(&message.counters[*counter]) else { continue };
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
