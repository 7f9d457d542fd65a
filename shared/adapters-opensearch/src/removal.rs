//! What is taken out again.

use crate::cluster::Call;
use crate::failure::{self, INDICES, REMOVE, REMOVE_INDEX};
use crate::{OpenSearch, search_path};
use async_trait::async_trait;
use bytes::Bytes;
use opensearch::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_ports::{DocumentId, ErrorKind, PortError, Search as _, SearchRemoval};

/// Documents of one request.
const DOCUMENTS: usize = 5_000;
/// Most indices that a pattern may match: as many buckets as an aggregation may have by default.
const MAX_INDICES: usize = 10_000;

#[async_trait]
impl SearchRemoval for OpenSearch {
    async fn remove(&self, documents: Vec<DocumentId>) -> Result<(), PortError> {
        for documents in documents.chunks(DOCUMENTS) {
            let line = |document: &DocumentId| {
                let action = json!({"delete": {"_index": document.index, "_id": document.id}});
                format!("{action}\n")
            };
            let body = Bytes::from(documents.iter().map(line).collect::<String>());
            let query = [("filter_path", "items.*.status,items.*.error")];
            let call = Call { method: Method::Post, path: "_bulk", query: &query, body, operation: REMOVE };
            let answer = self.cluster.send(call).await?;
            failure::check(REMOVE, &answer)?;
            outcome(&answer.body, documents.len())?;
        }
        Ok(())
    }

    async fn indices(&self, pattern: &str) -> Result<Vec<String>, PortError> {
        let ask = json!({"size": 0, "track_total_hits": false, "aggs": {"names": {"terms": {"field": "_index", "size": MAX_INDICES}}}});
        let found = self.search(pattern, &ask).await.map_err(|mut error| {
            error.operation = INDICES;
            error
        })?;
        let buckets = found["aggregations"]["names"]["buckets"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut names: Vec<String> = buckets.iter().filter_map(|b| b["key"].as_str().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn remove_index(&self, index: &str) -> Result<(), PortError> {
        // One name: a pattern would take others with it.
        if index.contains(['*', ',']) {
            return Err(failure::invalid(REMOVE_INDEX, &format!("`{index}` is not the name of one index")));
        }
        let path = search_path(index)?;
        let query = [("ignore_unavailable", "true")];
        let call =
            Call { method: Method::Delete, path: &path, query: &query, body: Bytes::new(), operation: REMOVE_INDEX };
        match failure::check(REMOVE_INDEX, &self.cluster.send(call).await?) {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

/// Whether all documents of a request are gone. The first that is not says why.
fn outcome(body: &[u8], count: usize) -> Result<(), PortError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        items: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        delete: Deleted,
    }
    #[derive(Deserialize)]
    struct Deleted {
        status: u16,
        error: Option<Value>,
    }
    let unknown = |detail: String| PortError::new(ErrorKind::Timeout, REMOVE, detail);
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|e| unknown("the answer to a bulk request cannot be read".to_owned()).with_source(e))?;
    if answer.items.len() != count {
        return Err(unknown(format!("the answer tells of {} documents of {count}", answer.items.len())));
    }
    match answer.items.into_iter().map(|item| item.delete).find(|deleted| !matches!(deleted.status, 200 | 404)) {
        Some(deleted) => Err(failure::of_removal(deleted.status, deleted.error.as_ref())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_or_never_was_is_removed_and_anything_else_is_not() {
        let item = |status: u16| json!({"delete": {"status": status}});
        let body = |items: &[Value]| json!({"items": items}).to_string();
        assert!(outcome(body(&[item(200), item(404)]).as_bytes(), 2).is_ok());
        let missing = json!({"delete": {"status": 404, "error": {"type": "index_not_found_exception", "reason": "no such index"}}});
        assert!(outcome(body(&[missing]).as_bytes(), 1).is_ok());
        let busy =
            json!({"delete": {"status": 429, "error": {"type": "rejected_execution_exception", "reason": "full"}}});
        let error = outcome(body(&[item(200), busy]).as_bytes(), 2).unwrap_err();
        assert_eq!((error.kind, error.operation), (ErrorKind::Throttled, REMOVE));
        assert_eq!(outcome(body(&[item(200)]).as_bytes(), 2).unwrap_err().kind, ErrorKind::Timeout);
        assert_eq!(outcome(b"", 1).unwrap_err().kind, ErrorKind::Timeout);
    }
}
