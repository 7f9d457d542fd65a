//! Documents of a user go, counted by type and hour of receive time.

use super::{Counts, Erase, Erasures, Target};
use crate::ledger;
use serde_json::{Value, json};
use sluice_domain::time::Timestamp;
use sluice_ports::{DocumentId, ErrorKind, PortError};
use std::collections::{BTreeMap, HashSet};

/// Documents of one step.
const PAGE: usize = 1_000;
/// How often the documents are looked through at most.
const ROUNDS: usize = 3;

impl Erase {
    /// Removes the user's documents.
    pub(super) async fn documents(&self, erasures: &Erasures, target: &Target) -> Result<(), PortError> {
        let Some(search) = &self.ports.search else { return Ok(()) };
        let ask = json!({
            "size": PAGE, "track_total_hits": false, "_source": ["receivedtime", "type"],
            "query": {"bool": {"filter": [
                {"term": {"userid": target.user}}, {"range": {"receivedtime": {"lte": target.until.to_micros_text()}}},
            ]}},
            "sort": [{"receivedtime": "asc"}, {"source": "asc"}, {"id": "asc"}],
        });
        // Documents of equal keys may stand on both sides of a page's edge; and a cluster may show for a moment what is gone.
        let mut seen: HashSet<DocumentId> = HashSet::new();
        for _ in 0..ROUNDS {
            let before = seen.len();
            let mut page = ask.clone();
            loop {
                let found = search.search("sluice-*", &page).await?;
                let hits = found["hits"]["hits"].as_array().map(Vec::as_slice).unwrap_or_default();
                let Some(last) = hits.last() else { break };
                let mut counters: BTreeMap<String, u64> = BTreeMap::new();
                let mut ids = Vec::with_capacity(hits.len());
                for hit in hits {
                    let id = id(hit)?;
                    if seen.insert(id.clone()) {
                        *counters.entry(counter(hit, target.until)).or_default() += 1;
                        ids.push(id);
                    }
                }
                ledger::count_removed(self.ports.table.as_ref(), counters).await?;
                let documents = ids.len() as u64;
                search.remove(ids).await?;
                erasures.count(&target.id, Counts { documents, ..Counts::default() }).await?;
                if hits.len() < PAGE {
                    break;
                }
                page["search_after"] = last["sort"].clone();
            }
            if seen.len() == before {
                break;
            }
        }
        Ok(())
    }
}

fn counter(hit: &Value, otherwise: Timestamp) -> String {
    let source = &hit["_source"];
    let received = source["receivedtime"].as_str().and_then(Timestamp::parse_rfc3339).unwrap_or(otherwise);
    ledger::counter(received, source["type"].as_str().unwrap_or_default())
}

fn id(hit: &Value) -> Result<DocumentId, PortError> {
    match (hit["_index"].as_str(), hit["_id"].as_str()) {
        (Some(index), Some(id)) => Ok(DocumentId { index: index.to_owned(), id: id.to_owned() }),
        _ => Err(PortError::new(ErrorKind::Corrupt, "search.search", "a hit without index and id")),
    }
}
