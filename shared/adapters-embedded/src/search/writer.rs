//! The one thread that writes the index. Calls that wait together share a commit.

use super::document::Prepared;
use super::failure;
use super::fields::{Fields, key};
use super::lookup::{self, Suspect};
use sluice_ports::{DocumentOutcome, ErrorKind, PortError};
use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, UserOperation};
use tantivy::{Index, IndexReader, IndexWriter, Searcher, TantivyError, Term};
use tokio::sync::oneshot;

const CREATE: &str = "search.create";
const REMOVE: &str = "search.remove";

/// Calls that may wait; the next one blocks its thread.
const WAITING_CALLS: usize = 64;
/// A commit takes no further call once it has this many documents.
const COMMIT_DOCUMENTS: usize = 20_000;
/// Documents handed to the indexing thread at once.
const BATCH_DOCUMENTS: usize = 256;
/// A segment of more documents than this is merged no further, so that a merge is bounded in time, memory and space. A merge costs about
/// half of what indexing does, and each step of a merge hierarchy costs that again.
const MERGED_DOCUMENTS: usize = 100_000;
/// So many segments of about one size become one.
const MERGED_SEGMENTS: usize = 16;
/// After this long without a call, the reader lets go of the segments that were merged away.
const IDLE: Duration = Duration::from_secs(15);
/// After this long without a call, the next segment that still has what was removed is written anew.
const PURGE_PAUSE: Duration = Duration::from_millis(100);
/// While calls come, a segment is written anew this long after the last one; without calls, where one could not be.
const PURGE_BESIDE: Duration = Duration::from_secs(5);

/// What to do, and where the outcome goes.
pub(super) enum Call {
    /// Documents come in.
    Create(Create),
    /// Documents go.
    Remove {
        /// Each names one document, or all of an index.
        terms: Vec<Term>,
        /// Takes the outcome.
        reply: oneshot::Sender<Result<(), PortError>>,
    },
}

/// What to add, and where the outcomes go.
pub(super) struct Create {
    /// Each document, or why it can never be indexed.
    pub documents: Vec<Result<Prepared, String>>,
    /// Takes one outcome per document.
    pub reply: oneshot::Sender<Vec<DocumentOutcome>>,
}

/// Owns the thread; dropping it finishes the calls that wait.
pub(super) struct Writer {
    calls: Option<SyncSender<Call>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. Fails if the index cannot be written.
    pub(super) fn start(
        index: Index,
        reader: IndexReader,
        fields: Fields,
        memory_bytes: usize,
    ) -> Result<Self, PortError> {
        let mut state = State {
            index,
            reader,
            fields,
            memory_bytes,
            writer: None,
            seen: None,
            purging: true,
            purged: None,
            pause: PURGE_PAUSE,
        };
        state.open().map_err(|error| failure::tantivy("search.open", error))?;
        let (calls, waiting) = mpsc::sync_channel(WAITING_CALLS);
        let thread = std::thread::Builder::new()
            .name("search-writer".to_owned())
            .spawn(move || state.run(&waiting))
            .map_err(|error| failure::io("search.open", "a thread", error))?;
        Ok(Self { calls: Some(calls), thread: Some(thread) })
    }

    /// Where calls go.
    pub(super) fn calls(&self) -> Option<SyncSender<Call>> {
        self.calls.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.calls.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the search writer panicked");
        }
    }
}

struct State {
    index: Index,
    reader: IndexReader,
    fields: Fields,
    memory_bytes: usize,
    /// `None` after a failure, until it can be opened again.
    writer: Option<IndexWriter<Prepared>>,
    /// `None` until the first call.
    seen: Option<Seen>,
    /// Whether a segment may still have the text of documents that were removed.
    purging: bool,
    /// When a segment was last written anew, or could not be.
    purged: Option<Instant>,
    /// How long no call may come before the next one is.
    pause: Duration,
}

impl State {
    fn run(mut self, calls: &Receiver<Call>) {
        let mut settled = true;
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(call) => Ok(call),
                None if self.purging => calls.recv_timeout(self.pause),
                None if settled => calls.recv().map_err(|_| RecvTimeoutError::Disconnected),
                None => calls.recv_timeout(IDLE),
            };
            match first {
                Ok(Call::Create(first)) => {
                    settled = false;
                    next = self.group(first, calls);
                    if self.purging && self.purged.is_none_or(|at| at.elapsed() > PURGE_BESIDE) {
                        self.purge();
                    }
                }
                Ok(Call::Remove { terms, reply }) => {
                    settled = false;
                    // A caller that went away does not need its answer.
                    let _ = reply.send(self.remove(terms));
                }
                Err(RecvTimeoutError::Timeout) if self.purging => {
                    settled = false;
                    self.purge();
                }
                Err(RecvTimeoutError::Timeout) => {
                    settled = true;
                    self.settle();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn settle(&mut self) {
        if let Err(error) = self.reader.reload() {
            tracing::warn!(error = %error, "the search reader cannot be reloaded");
        }
        if let Some(writer) = &self.writer
            && let Err(error) = writer.garbage_collect_files().wait()
        {
            tracing::warn!(error = %error, "old search files cannot be removed");
        }
    }

    /// Commits the removal of what has one of the terms.
    fn remove(&mut self, terms: Vec<Term>) -> Result<(), PortError> {
        let removed = self.ready().and_then(|()| match self.writer.as_mut() {
            Some(writer) => {
                terms.into_iter().for_each(|term| _ = writer.delete_term(term));
                writer.commit()?;
                self.reader.reload()
            }
            None => Ok(()),
        });
        if removed.is_err() {
            self.writer = None;
            self.seen = None;
        }
        self.purging = true;
        removed.map_err(|error| failure::tantivy(REMOVE, error))
    }

    /// Writes one segment anew that still has what was removed from it, so that its text is on the disk no more.
    fn purge(&mut self) {
        let step = self.index.searchable_segment_metas().and_then(|segments| {
            let Some(segment) = segments.iter().find(|segment| segment.num_deleted_docs() > 0) else {
                self.purging = false;
                return Ok(());
            };
            // Only now: it reads the keys of all documents.
            self.ready()?;
            let Some(writer) = self.writer.as_mut() else { return Ok(()) };
            writer.merge(&[segment.id()]).wait()?;
            self.reader.reload()?;
            writer.garbage_collect_files().wait().map(drop)
        });
        self.purged = Some(Instant::now());
        // A merge of the index's own may have taken the segment meanwhile.
        self.pause = if step.is_ok() { PURGE_PAUSE } else { PURGE_BESIDE };
        if let Err(error) = step {
            tracing::debug!(error = %error, "what was removed from the search stays on the disk for now");
        }
    }

    /// Takes this call and those that wait in one commit; answers one that is of another kind and comes next.
    fn group(&mut self, first: Create, calls: &Receiver<Call>) -> Option<Call> {
        let mut group = Vec::new();
        let mut documents = 0;
        let (mut next, mut other) = (Some(first), None);
        while let Some(call) = next {
            documents += call.documents.len();
            group.push(call);
            next = match (documents < COMMIT_DOCUMENTS).then(|| calls.try_recv().ok()).flatten() {
                Some(Call::Create(call)) => Some(call),
                call => {
                    other = call;
                    None
                }
            };
        }
        let (inputs, replies): (Vec<_>, Vec<_>) = group.into_iter().map(|call| (call.documents, call.reply)).unzip();
        let mut plans: Vec<Vec<Plan>> = inputs.iter().map(|documents| Vec::with_capacity(documents.len())).collect();
        let written = self.write(inputs, &mut plans);
        if let Err(error) = &written {
            tracing::warn!(error = %error, documents, "documents cannot be indexed");
            // Whatever was added is undone; the next call opens a new writer at the last commit.
            self.writer = None;
            self.seen = None;
        }
        for (plan, reply) in plans.into_iter().zip(replies) {
            let outcomes = plan.into_iter().map(|plan| plan.outcome(written.as_ref().err())).collect();
            let _ = reply.send(outcomes);
        }
        other
    }

    /// Adds what is new and commits. On an error the plans are as they would have been.
    fn write(&mut self, inputs: Vec<Vec<Result<Prepared, String>>>, plans: &mut [Vec<Plan>]) -> tantivy::Result<()> {
        let (existing, mut problem) = match self.ready().and_then(|()| self.existing(&inputs)) {
            Ok(existing) => (existing, None),
            Err(error) => (HashSet::new(), Some(error)),
        };
        let mut pending: HashMap<u64, Vec<(String, String)>> = HashMap::new();
        let mut batch = Vec::with_capacity(BATCH_DOCUMENTS);
        let mut added = false;
        let mut positions = 0..;
        for (documents, plan) in inputs.into_iter().zip(plans) {
            for (document, position) in documents.into_iter().zip(positions.by_ref()) {
                let document = match document {
                    Ok(document) => document,
                    Err(why) => {
                        plan.push(Plan::Reject(why));
                        continue;
                    }
                };
                if problem.is_some() {
                    plan.push(Plan::Create);
                    continue;
                }
                if existing.contains(&position) || !is_first(&document, &mut pending) {
                    plan.push(Plan::Exists);
                    continue;
                }
                plan.push(Plan::Create);
                added = true;
                batch.push(UserOperation::Add(document));
                if batch.len() == BATCH_DOCUMENTS {
                    problem = self.add(&mut batch).err();
                }
            }
        }
        if problem.is_none() {
            problem = self.add(&mut batch).err();
        }
        let Some(writer) = self.writer.as_mut().filter(|_| added) else { return problem.map_or(Ok(()), Err) };
        match problem {
            None => {
                writer.commit()?;
                self.reader.reload()
            }
            // The indexing thread keeps the reason; a commit brings it out and, as the thread has failed, commits nothing.
            Some(error @ TantivyError::ErrorInThread(_)) => Err(writer.prepare_commit().err().unwrap_or(error)),
            Some(error) => Err(error),
        }
    }

    fn add(&self, batch: &mut Vec<UserOperation<Prepared>>) -> tantivy::Result<()> {
        match &self.writer {
            Some(writer) if !batch.is_empty() => writer.run(batch.drain(..)).map(|_| ()),
            _ => Ok(()),
        }
    }

    fn open(&mut self) -> tantivy::Result<()> {
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(self.memory_bytes)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        let writer = self.index.writer_with_options(options)?;
        let mut policy = LogMergePolicy::default();
        policy.set_max_docs_before_merge(MERGED_DOCUMENTS);
        policy.set_min_num_segments(MERGED_SEGMENTS);
        writer.set_merge_policy(Box::new(policy));
        self.writer = Some(writer);
        Ok(())
    }

    fn ready(&mut self) -> tantivy::Result<()> {
        if self.writer.is_none() {
            self.open()?;
            // A commit that failed late may be there nevertheless.
            self.reader.reload()?;
        }
        let searcher = self.reader.searcher();
        if self.seen.as_ref().is_none_or(Seen::is_full) {
            self.seen = Some(Seen::read(&searcher, self.fields)?);
        }
        Ok(())
    }

    /// Positions of the documents that are in the index already.
    fn existing(&mut self, inputs: &[Vec<Result<Prepared, String>>]) -> tantivy::Result<HashSet<usize>> {
        let mut suspects = Vec::new();
        for (position, document) in inputs.iter().flatten().enumerate() {
            if let Ok(document) = document
                && self.seen.as_mut().is_none_or(|seen| seen.insert(document.key))
            {
                suspects.push(Suspect { position, document });
            }
        }
        lookup::existing(&self.reader.searcher(), self.fields, suspects)
    }
}

/// Whether a document is the first of its kind in the commit.
fn is_first(document: &Prepared, pending: &mut HashMap<u64, Vec<(String, String)>>) -> bool {
    let Prepared { key, index, id, .. } = document;
    let same = pending.entry(*key).or_default();
    if same.iter().any(|(i, d)| i == index && d == id) {
        return false;
    }
    same.push((index.clone(), id.clone()));
    true
}

/// What becomes of a document if the commit succeeds.
enum Plan {
    Create,
    Exists,
    Reject(String),
}

impl Plan {
    fn outcome(self, failure: Option<&TantivyError>) -> DocumentOutcome {
        match (self, failure) {
            (Plan::Reject(why), _) => DocumentOutcome::Rejected(why),
            // It may exist only in what was undone.
            (_, Some(error)) => DocumentOutcome::Failed(failure::tantivy(CREATE, error.clone())),
            (Plan::Create, None) => DocumentOutcome::Created,
            (Plan::Exists, None) => DocumentOutcome::Exists,
        }
    }
}

/// Answers a call whose writer is gone.
pub(super) fn gone() -> PortError {
    PortError::new(ErrorKind::Unavailable, CREATE, "the search writer has stopped")
}

/// A Bloom filter over the keys of all documents, so that a new document is mostly known to be new without a look at any segment.
///
/// Each key sets 6 bits within one 512-bit block (Putze, Sanders, Singler, "Cache-, hash- and space-efficient Bloom filters", 2007); at
/// 12 bits per key about one in 200 is looked up in vain.
struct Seen {
    blocks: Vec<[u64; 8]>,
    keys: usize,
}

const KEYS_PER_BLOCK: usize = 512 / 12;

impl Seen {
    /// A filter with the keys of all segments and room for as many again.
    fn read(searcher: &Searcher, fields: Fields) -> tantivy::Result<Self> {
        let documents = usize::try_from(searcher.num_docs()).unwrap_or(usize::MAX / 2);
        let blocks = (documents * 2).max(1 << 15).div_ceil(KEYS_PER_BLOCK).next_power_of_two();
        let mut seen = Self { blocks: vec![[0; 8]; blocks], keys: 0 };
        for reader in searcher.segment_readers() {
            let inverted = reader.inverted_index(fields.key)?;
            let mut keys = inverted.terms().stream()?;
            while keys.advance() {
                if let Ok(key) = keys.key().try_into() {
                    seen.insert(u64::from_be_bytes(key));
                }
            }
        }
        Ok(seen)
    }

    fn is_full(&self) -> bool {
        self.keys > self.blocks.len() * KEYS_PER_BLOCK
    }

    /// Adds a key; answers whether it may have been there.
    fn insert(&mut self, key: u64) -> bool {
        let mask = self.blocks.len() - 1;
        // The low bits pick the block, the high 54 the bits in it.
        #[allow(clippy::cast_possible_truncation)]
        let block = &mut self.blocks[key as usize & mask];
        let mut bits = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut there = true;
        for _ in 0..6 {
            let (word, bit) = ((bits >> 61) as usize, 1u64 << ((bits >> 55) & 63));
            there &= block[word] & bit != 0;
            block[word] |= bit;
            bits = bits.rotate_left(9).wrapping_add(key);
        }
        self.keys += usize::from(!there);
        there
    }
}

/// The hash under which a document is looked up; here so that the two sides cannot drift apart.
pub(super) fn key_term(fields: Fields, index: &str, id: &str) -> Term {
    Term::from_field_u64(fields.key, key(index, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_forgets_nothing_and_is_seldom_wrong() {
        let mut seen = Seen { blocks: vec![[0; 8]; 1024], keys: 0 };
        let full = 1024 * KEYS_PER_BLOCK;
        for n in 0..full {
            seen.insert(key("index", &n.to_string()));
        }
        assert!((0..full).all(|n| seen.insert(key("index", &n.to_string()))));
        let wrong = (0..20_000).filter(|n| {
            let mut copy = Seen { blocks: seen.blocks.clone(), keys: 0 };
            copy.insert(key("other", &n.to_string()))
        });
        let wrong = wrong.take(1_000).count();
        assert!(wrong < 400, "{wrong} of 20,000 were taken for known");
    }
}
