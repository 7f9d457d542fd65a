//! Search on an OpenSearch cluster: a managed domain, a Serverless collection of the search type, or a cluster of one's own.
//!
//! This crate knows nothing of events, schemas or rules. It repeats no request by itself: a bulk request that got no answer may have
//! created its documents, and only the caller knows what a document that exists then means.

mod access;
mod bulk;
mod cluster;
#[cfg(feature = "domain")]
mod domain;
mod failure;
mod removal;
mod template;

pub use access::Access;
#[cfg(feature = "sigv4")]
pub use access::SignedService;

use async_trait::async_trait;
use bytes::Bytes;
use cluster::{Call, Cluster};
use failure::{CREATE, DEFINE, SEARCH};
use futures::stream::{self, StreamExt, TryStreamExt};
use opensearch::http::Method;
use serde_json::{Value, json};
use sluice_ports::{Document, DocumentOutcome, ErrorKind, IndexTemplate, PortError, Search};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Templates that are put at the same time: each is a task of the cluster's one manager.
const DEFINING: usize = 4;

/// Where a cluster is.
pub enum Place {
    /// Its address, `https://…` or `http://…`; a path in it goes before every request's.
    Url(String),
    /// A managed domain, looked up by its name at the first call. The endpoint is kept from then on, a failed look-up is not.
    #[cfg(feature = "domain")]
    Domain {
        /// The domain's name.
        name: String,
        /// Whom to ask for it.
        client: aws_sdk_opensearch::Client,
    },
}

/// Bounds of one adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSearchSettings {
    /// Longest time for one request, connecting and reading included. A search is told to end somewhat earlier.
    pub request_timeout: Duration,
    /// Most bytes of one bulk request; OpenSearch advises 5 to 15 MiB, and small managed domains refuse more than 10 MiB.
    pub bulk_bytes: usize,
    /// Most bytes of one answer.
    pub answer_bytes: u64,
}

impl Default for OpenSearchSettings {
    fn default() -> Self {
        Self { request_timeout: Duration::from_secs(20), bulk_bytes: 5 * 1024 * 1024, answer_bytes: 32 * 1024 * 1024 }
    }
}

/// A cluster. Made once; it keeps its connections.
pub struct OpenSearch {
    cluster: Cluster,
    settings: OpenSearchSettings,
}

impl OpenSearch {
    /// The cluster at `place`. Nothing is sent yet; an address that is none and access that cannot be used are [`ErrorKind::Invalid`].
    pub fn new(place: Place, access: Access, settings: OpenSearchSettings) -> Result<Self, PortError> {
        Ok(Self { cluster: Cluster::new(place, access, settings)?, settings })
    }

    async fn define_one(&self, template: IndexTemplate) -> Result<(), PortError> {
        let name = template::path_of(&template.name)?;
        let body = Bytes::from(template::body(&template).to_string());
        let call = Call { method: Method::Put, path: &name, query: &[], body, operation: DEFINE };
        let answer = self.cluster.send(call).await?;
        failure::check(DEFINE, &answer).map_err(|mut e| {
            e.detail.insert_str(0, &format!("template `{}`: ", template.name));
            e
        })
    }

    /// One bulk request: what became of each document, or nothing where the server takes no request of that size.
    async fn create_some(&self, documents: &[&Document]) -> Result<Option<Vec<DocumentOutcome>>, PortError> {
        // Per document only what is read: the answer is a tenth as long.
        let query = [("filter_path", "items.*.status,items.*.error")];
        let body = bulk::body(documents);
        let call = Call { method: Method::Post, path: "_bulk", query: &query, body, operation: CREATE };
        let answer = self.cluster.send(call).await?;
        if answer.status == 413 {
            return Ok(None);
        }
        failure::check(CREATE, &answer)?;
        bulk::outcomes(&answer.body, documents.len()).map(Some)
    }
}

#[async_trait]
impl Search for OpenSearch {
    async fn define(&self, templates: Vec<IndexTemplate>) -> Result<(), PortError> {
        let puts = stream::iter(templates.into_iter().map(|template| self.define_one(template)));
        puts.buffer_unordered(DEFINING).try_collect().await
    }

    async fn create(&self, documents: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        let mut outcomes: Vec<Option<DocumentOutcome>> = Vec::with_capacity(documents.len());
        let (mut sent, mut places) = (Vec::with_capacity(documents.len()), Vec::with_capacity(documents.len()));
        for (place, document) in documents.iter().enumerate() {
            let rejected = bulk::check(document).err().map(DocumentOutcome::Rejected);
            if rejected.is_none() {
                sent.push(document);
                places.push(place);
            }
            outcomes.push(rejected);
        }
        let mut requests: VecDeque<Range<usize>> = bulk::requests(&sent, self.settings.bulk_bytes).into();
        while let Some(request) = requests.pop_front() {
            let first = request.start;
            let results = match self.create_some(&sent[request.clone()]).await {
                Ok(Some(results)) => results,
                Ok(None) if request.len() > 1 => {
                    let middle = first + request.len() / 2;
                    requests.push_front(middle..request.end);
                    requests.push_front(first..middle);
                    continue;
                }
                Ok(None) => vec![DocumentOutcome::Rejected(bulk::too_large(sent[first]))],
                Err(e) if outcomes.iter().all(Option::is_none) => return Err(e),
                Err(e) => {
                    // A server that did not take this request is not sent the next one.
                    requests.clear();
                    (first..sent.len()).map(|_| DocumentOutcome::Failed(e.again())).collect()
                }
            };
            for (place, outcome) in places[first..].iter().zip(results) {
                outcomes[*place] = Some(outcome);
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    async fn search(&self, pattern: &str, body: &Value) -> Result<Value, PortError> {
        let path = format!("{}/_search", search_path(pattern)?);
        let seconds = self.settings.request_timeout.mul_f32(0.9).as_millis();
        let timeout = format!("{seconds}ms");
        let query = [
            ("timeout", timeout.as_str()),
            // Half an answer that looks whole would be worse than none.
            ("allow_partial_search_results", "false"),
            ("ignore_unavailable", "true"),
        ];
        let body = Bytes::from(counted(body).to_string());
        let call = Call { method: Method::Post, path: &path, query: &query, body, operation: SEARCH };
        let answer = self.cluster.send(call).await?;
        failure::check(SEARCH, &answer)?;
        let found: Value = serde_json::from_slice(&answer.body).map_err(|e| {
            PortError::new(ErrorKind::Unavailable, SEARCH, "the server's answer is not JSON").with_source(e)
        })?;
        if found["timed_out"] == true {
            return Err(PortError::new(ErrorKind::Timeout, SEARCH, format!("the search took longer than {timeout}")));
        }
        if found.get("aggregations").is_some_and(has_nameless_keys) {
            return Err(failure::mixed_types());
        }
        Ok(found)
    }
}

/// The body, asking for the exact count of hits unless it says otherwise: counting stops at 10,000 by default.
fn counted(body: &Value) -> Cow<'_, Value> {
    match body {
        Value::Null => Cow::Owned(json!({"track_total_hits": true})),
        Value::Object(members) if !members.contains_key("track_total_hits") => {
            let mut members = members.clone();
            members.insert("track_total_hits".to_owned(), Value::Bool(true));
            Cow::Owned(Value::Object(members))
        }
        body => Cow::Borrowed(body),
    }
}

/// Whether buckets have the names of Java objects for keys. OpenSearch answers so, to every bucket of it, where a `terms` aggregation meets a
/// field that one of the indices has within a `flat_object`.
fn has_nameless_keys(aggregations: &Value) -> bool {
    match aggregations {
        Value::Object(members) => members.iter().any(|(name, value)| match value.as_str() {
            Some(key) => name == "key" && key.starts_with("java.lang.Object@"),
            None => has_nameless_keys(value),
        }),
        Value::Array(values) => values.iter().any(has_nameless_keys),
        _ => false,
    }
}

/// An index pattern as a part of a path.
fn search_path(pattern: &str) -> Result<String, PortError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '*' | ',' | '+');
    // A first character other than these would be another request, or another cluster's index.
    if pattern.is_empty() || pattern.starts_with('_') && pattern != "_all" || !pattern.chars().all(is_plain) {
        return Err(PortError::new(ErrorKind::Invalid, SEARCH, format!("`{pattern}` names no indices")));
    }
    Ok(pattern.to_owned())
}
