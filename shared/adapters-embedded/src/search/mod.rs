//! Search in tantivy, with OpenSearch's requests and answers.
//!
//! One tantivy index holds all logical indices, so that each costs neither threads nor memory. One thread writes it; calls that wait
//! together share a commit, and a call returns when its documents are durable and searchable. A search looks through several segments at a
//! time, on as many threads as there are cores, and no more searches than that go at a time: each gets its turn, and memory has a bound.

mod aggregations;
mod dates;
mod document;
mod failure;
mod fields;
mod lookup;
mod mapping;
mod pattern;
mod query;
mod query_string;
mod request;
mod sort;
#[cfg(test)]
mod tests;
mod text;
mod writer;

use async_trait::async_trait;
use document::Prepared;
use fields::Fields;
use mapping::{Node, Templates};
use serde_json::Value;
use sluice_ports::{Document, DocumentId, DocumentOutcome, ErrorKind, IndexTemplate, PortError, Search, SearchRemoval};
use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tantivy::Term;
use tantivy::directory::{Directory, MmapDirectory};
use tantivy::schema::Schema;
use tantivy::tokenizer::{TextAnalyzer, TokenizerManager};
use tantivy::{Index, IndexReader, IndexSettings, ReloadPolicy};
use tokio::sync::{Semaphore, oneshot};
use writer::{Call, Create, Writer, key_term};

/// Most fields of their own that documents may bring beyond those of the templates, as OpenSearch's `mapping.total_fields.limit`; later
/// ones are searchable like the leaves of a `flat_object`, without sorting and aggregations.
const FREE_FIELDS: usize = 1_000;

/// Settings of the embedded search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedSearchConfig {
    /// Memory in which documents are gathered before they go to disk, from 15,000,000 bytes; it is given back after each commit.
    pub writer_memory_bytes: usize,
    /// Memory that the aggregations of one search may use.
    pub aggregation_memory_bytes: u64,
}

impl Default for EmbeddedSearchConfig {
    fn default() -> Self {
        Self { writer_memory_bytes: 50_000_000, aggregation_memory_bytes: 100_000_000 }
    }
}

/// A search engine in a folder. Cheap to clone; the folder is free again when the last clone is dropped.
#[derive(Clone)]
pub struct EmbeddedSearch(Arc<Inner>);

struct Inner {
    templates_file: PathBuf,
    fields: Fields,
    index: Index,
    reader: IndexReader,
    templates: RwLock<Arc<Templates>>,
    /// One `define` at a time.
    defining: Mutex<()>,
    free_fields: RwLock<HashSet<String>>,
    aggregation_memory_bytes: u64,
    /// Turns of searches. A search that waits for its segments helps others with theirs, on the same stack: it may not be any number.
    turns: Arc<Semaphore>,
    writer: Writer,
}

impl EmbeddedSearch {
    /// Opens the folder, which it makes if it is not there. One process at a time: another is told [`ErrorKind::Unavailable`].
    pub fn open(dir: &Path, config: EmbeddedSearchConfig) -> Result<Self, PortError> {
        let index_dir = dir.join("index");
        std::fs::create_dir_all(&index_dir).map_err(|error| failure::io("search.open", "the search folder", error))?;
        let directory =
            MmapDirectory::open(&index_dir).map_err(|error| failure::tantivy("search.open", error.into()))?;
        Self::open_in(Box::new(directory), dir, config)
    }

    fn open_in(directory: Box<dyn Directory>, dir: &Path, config: EmbeddedSearchConfig) -> Result<Self, PortError> {
        let failed = |error| failure::tantivy("search.open", error);
        let (schema, fields) = fields::schema();
        let templates_file = dir.join("templates.json");
        let templates = Templates::load(&templates_file)?;
        let mut index = open_index(directory, schema).map_err(failed)?;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        index.set_multithread_executor(cores).map_err(failed)?;
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(8)
            .try_into()
            .map_err(failed)?;
        readable(&reader, fields)?;
        let writer = Writer::start(index.clone(), reader.clone(), fields, config.writer_memory_bytes)?;
        Ok(Self(Arc::new(Inner {
            templates_file,
            fields,
            index,
            reader,
            templates: RwLock::new(Arc::new(templates)),
            defining: Mutex::new(()),
            free_fields: RwLock::new(HashSet::new()),
            aggregation_memory_bytes: config.aggregation_memory_bytes,
            turns: Arc::new(Semaphore::new(cores)),
            writer,
        })))
    }
}

/// Whether this build can read the segments that are there; better known at the start than by each search.
fn readable(reader: &IndexReader, fields: Fields) -> Result<(), PortError> {
    for segment in reader.searcher().segment_readers() {
        segment.inverted_index(fields.key).map_err(|error| {
            let detail = format!(
                "the index in the folder `search` cannot be read by this build ({error}); \
                 move the folder away, and what comes in from then on is indexed"
            );
            PortError::new(ErrorKind::Corrupt, "search.open", detail).with_source(error)
        })?;
    }
    Ok(())
}

fn open_index(directory: Box<dyn Directory>, schema: Schema) -> tantivy::Result<Index> {
    let tokenizers = TokenizerManager::default();
    tokenizers.register(text::WORDS, TextAnalyzer::builder(text::Words::default()).build());
    // A thread of its own for compression would not be idle less often than the rest.
    let settings = IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
    Index::builder().schema(schema).settings(settings).tokenizers(tokenizers).open_or_create(directory)
}

#[async_trait]
impl Search for EmbeddedSearch {
    async fn define(&self, templates: Vec<IndexTemplate>) -> Result<(), PortError> {
        let inner = self.0.clone();
        blocking("search.define", move || inner.define(templates)).await
    }

    async fn create(&self, documents: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let inner = self.0.clone();
        let (reply, outcomes) = oneshot::channel();
        blocking("search.create", move || inner.create(documents, reply)).await?;
        outcomes.await.map_err(|_| writer::gone())
    }

    async fn search(&self, pattern: &str, body: &Value) -> Result<Value, PortError> {
        let inner = self.0.clone();
        let (pattern, body) = (pattern.to_owned(), body.clone());
        let turn = inner.turns.clone().acquire_owned().await.map_err(|error| {
            PortError::new(ErrorKind::Unavailable, "search.search", "no search begins any more").with_source(error)
        })?;
        blocking("search.search", move || {
            // Whoever asked may be gone: the work goes on until it is done, and so does its turn.
            let _turn = turn;
            request::search(&inner, &pattern, &body)
        })
        .await
    }
}

#[async_trait]
impl SearchRemoval for EmbeddedSearch {
    async fn remove(&self, documents: Vec<DocumentId>) -> Result<(), PortError> {
        let fields = self.0.fields;
        // Documents of one index with equal keys are not told apart: a foreign one is hit with a chance of 1 in 2^64 for each that is there.
        self.removal(documents.iter().map(|document| key_term(fields, &document.index, &document.id)).collect()).await
    }

    async fn indices(&self, pattern: &str) -> Result<Vec<String>, PortError> {
        let inner = self.0.clone();
        let pattern = pattern.to_owned();
        blocking("search.indices", move || {
            request::indices_that_match(&inner, &pattern).map_err(|error| failure::tantivy("search.indices", error))
        })
        .await
    }

    async fn remove_index(&self, index: &str) -> Result<(), PortError> {
        self.removal(vec![Term::from_field_text(self.0.fields.index, index)]).await
    }
}

impl EmbeddedSearch {
    /// Removes what has one of the terms.
    async fn removal(&self, terms: Vec<Term>) -> Result<(), PortError> {
        if terms.is_empty() {
            return Ok(());
        }
        let inner = self.0.clone();
        let (reply, outcome) = oneshot::channel();
        blocking("search.remove", move || {
            let calls = inner.writer.calls().ok_or_else(writer::gone)?;
            calls.send(Call::Remove { terms, reply }).map_err(|_| writer::gone())
        })
        .await?;
        outcome.await.map_err(|_| writer::gone())?
    }
}

async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, PortError> + Send + 'static,
) -> Result<T, PortError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(PortError::new(ErrorKind::Unavailable, operation, "the work was stopped").with_source(error)),
    }
}

impl Inner {
    fn templates(&self) -> Arc<Templates> {
        self.templates.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn define(&self, more: Vec<IndexTemplate>) -> Result<(), PortError> {
        let _one = self.defining.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(templates) = self.templates().with(more)? {
            templates.save(&self.templates_file)?;
            *self.templates.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(templates);
        }
        Ok(())
    }

    fn create(&self, documents: Vec<Document>, reply: oneshot::Sender<Vec<DocumentOutcome>>) -> Result<(), PortError> {
        let templates = self.templates();
        let mut roots: HashMap<String, Option<Arc<Node>>> = HashMap::new();
        let mut read = Vec::with_capacity(documents.len());
        for document in documents {
            if !roots.contains_key(&document.index) {
                roots.insert(document.index.clone(), templates.root(&document.index));
            }
            let root = roots.get(&document.index).and_then(Option::as_deref);
            read.push(Prepared::read(document, self.fields, root, &|path| self.admit(path)));
        }
        let calls = self.writer.calls().ok_or_else(writer::gone)?;
        calls.send(Call::Create(Create { documents: read, reply })).map_err(|_| writer::gone())
    }

    /// Whether a field that no template names may have columns.
    fn admit(&self, path: &str) -> bool {
        if self.free_fields.read().unwrap_or_else(PoisonError::into_inner).contains(path) {
            return true;
        }
        let mut fields = self.free_fields.write().unwrap_or_else(PoisonError::into_inner);
        if fields.len() >= FREE_FIELDS {
            return false;
        }
        fields.insert(path.to_owned());
        true
    }
}
