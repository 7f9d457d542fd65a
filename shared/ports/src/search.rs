use crate::PortError;
use async_trait::async_trait;
use serde_json::Value;

/// How the indices whose names match a pattern are mapped.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexTemplate {
    /// Template name.
    pub name: String,
    /// Index pattern with `*` at its end, for example `sluice-web_event-*`.
    pub pattern: String,
    /// OpenSearch `mappings` object: `{"properties": {"status": {"type": "long"}, …}}`. Nested objects hold `properties` again.
    /// Types in use: `keyword`, `text`, `long`, `double`, `boolean`, `date`, `ip`, `flat_object`.
    pub mappings: Value,
}

/// A document to index.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Index name, for example `sluice-web_event-2026.11`.
    pub index: String,
    /// Document id, 1–512 bytes.
    pub id: String,
    /// The document as JSON text (an object).
    pub source: String,
}

/// What became of one document.
#[derive(Debug)]
pub enum DocumentOutcome {
    /// It is durable, and searchable within a second.
    Created,
    /// A document with its id was there; nothing was changed (status 409).
    Exists,
    /// It can never be indexed (a mapping conflict): why.
    Rejected(String),
    /// It was not indexed this time.
    Failed(PortError),
}

/// Names a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentId {
    /// Index name.
    pub index: String,
    /// Document id.
    pub id: String,
}

/// A search engine (OpenSearch semantics).
#[async_trait]
pub trait Search: Send + Sync {
    /// Puts index templates; the same again changes nothing.
    async fn define(&self, templates: Vec<IndexTemplate>) -> Result<(), PortError>;

    /// Creates documents (bulk `create`); one outcome per document, in order.
    async fn create(&self, documents: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError>;

    /// Searches the indices that match `pattern` (names and `*`, comma-separated) with an OpenSearch request body; answers an
    /// OpenSearch response body (`hits.total.value`, `hits.hits[]._index/_id/_source/sort`, `aggregations`). A query that cannot be
    /// understood is [`crate::ErrorKind::Invalid`] and its detail says what and where.
    async fn search(&self, pattern: &str, body: &Value) -> Result<Value, PortError>;
}

/// A search engine whose documents can be taken out again.
#[async_trait]
pub trait SearchRemoval: Search {
    /// Removes documents; one that is not there is no error. `Ok` means that this is durable, and that within a second they are found no more.
    async fn remove(&self, documents: Vec<DocumentId>) -> Result<(), PortError>;

    /// Names of the indices that have documents and match `pattern` (a name with at most one `*`), sorted.
    async fn indices(&self, pattern: &str) -> Result<Vec<String>, PortError>;

    /// Removes an index with its documents; one that is not there is no error.
    async fn remove_index(&self, index: &str) -> Result<(), PortError>;
}
