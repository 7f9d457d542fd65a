//! The thread that writes, and what it shares with the handles.

use super::failure::Failure;
use super::messages::{QueueRules, Totals};
use super::{Clock, database, messages, rows};
use rusqlite::Connection;
use sluice_ports::{ErrorKind, PortError};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

/// Operations that may wait for the writer; more callers than this wait before they may ask.
const MAX_WAITING: usize = 1_024;
/// Operations in one transaction.
const MAX_BATCH: usize = 256;
/// How often expired things are removed.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How much may be written before the log is copied back into the database. Most pages are overwritten by then, so a longer log means
/// less copying and a slower start after a crash.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Reads side by side, each on a connection of its own; more callers wait.
const MAX_READERS: usize = 4;
/// How often a full disk makes the writer try to get by with less.
const RELIEF_EVERY: Duration = Duration::from_secs(1);

type Answer = Box<dyn FnOnce(Option<&Failure>) -> Option<Job> + Send>;

/// Something for the writer to do; what it gives back is called after the commit, with the failure if there was one, and may ask for
/// one thing more.
struct Job(Box<dyn FnOnce(&mut Store) -> Answer + Send>);

/// What the handles share with the writer.
pub(super) struct Shared {
    path: PathBuf,
    pub(super) queues: Vec<QueueRules>,
    pub(super) clock: Clock,
    /// Wakes who waits for messages of a queue.
    pub(super) arrivals: Vec<Notify>,
    totals: Mutex<Vec<Totals>>,
    jobs: Mutex<Option<Sender<Job>>>,
    waiting: Arc<Semaphore>,
    readers: Mutex<Vec<Connection>>,
    reading: Semaphore,
}

impl Shared {
    pub(super) fn new(path: PathBuf, queues: Vec<QueueRules>, totals: Vec<Totals>, clock: Clock) -> Self {
        Self {
            path,
            arrivals: queues.iter().map(|_| Notify::new()).collect(),
            queues,
            clock,
            totals: Mutex::new(totals),
            jobs: Mutex::new(None),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            readers: Mutex::new(Vec::new()),
            reading: Semaphore::new(MAX_READERS),
        }
    }

    /// What lies in each queue as of the last commit.
    pub(super) fn totals(&self) -> Vec<Totals> {
        lock(&self.totals).clone()
    }

    /// Whether nothing lies in this queue as of the last commit.
    pub(super) fn is_empty(&self, queue: usize) -> bool {
        lock(&self.totals)[queue].messages == 0
    }

    pub(super) fn is_open(&self) -> bool {
        lock(&self.jobs).is_some()
    }

    pub(super) fn close(&self) {
        lock(&self.jobs).take();
        lock(&self.readers).clear();
    }

    /// Has the writer do something and waits until it is durable.
    pub(super) async fn submit<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&mut Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, PortError> {
        self.submit_or(operation, run, |_, _: T| Ok(())).await
    }

    /// Like [`Self::submit`]; where the caller has gone away before the answer came, `undo` gets it.
    pub(super) async fn submit_or<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&mut Store) -> Result<T, Failure> + Send + 'static,
        undo: impl FnOnce(&mut Store, T) -> Result<(), Failure> + Send + 'static,
    ) -> Result<T, PortError> {
        let closed = || Failure::closed().in_operation(operation);
        let permit = self.waiting.clone().acquire_owned().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let sent = match &*lock(&self.jobs) {
            Some(jobs) => jobs.send(job(permit, reply, run, undo)).is_ok(),
            None => false,
        };
        if !sent {
            return Err(closed());
        }
        let outcome: Result<T, Failure> = answer.await.map_err(|_| closed())?;
        outcome.map_err(|failure| failure.in_operation(operation))
    }

    /// Reads in one snapshot that holds everything answered so far.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        read: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, PortError> {
        // Never closed, so it is always granted in the end.
        let _turn = self.reading.acquire().await;
        let shared = self.clone();
        let done = tokio::task::spawn_blocking(move || shared.read_now(read)).await;
        let outcome = done.map_err(|error| {
            PortError::new(ErrorKind::Unavailable, operation, "the read was cut off").with_source(error)
        })?;
        outcome.map_err(|failure| failure.in_operation(operation))
    }

    fn read_now<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T, Failure> {
        if !self.is_open() {
            return Err(Failure::closed());
        }
        let kept = lock(&self.readers).pop();
        let conn = kept.map_or_else(|| database::open_reader(&self.path), Ok)?;
        let snapshot = conn.unchecked_transaction()?;
        let outcome = read(&snapshot);
        drop(snapshot);
        let mut readers = lock(&self.readers);
        if self.is_open() {
            readers.push(conn);
        }
        outcome
    }
}

fn job<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<T, Failure>>,
    run: impl FnOnce(&mut Store) -> Result<T, Failure> + Send + 'static,
    undo: impl FnOnce(&mut Store, T) -> Result<(), Failure> + Send + 'static,
) -> Job {
    Job(Box::new(move |store| {
        // Nobody waits for it any more, and nobody was told that it happened.
        if reply.is_closed() {
            return Box::new(|_| None);
        }
        let outcome = store.in_savepoint(run);
        Box::new(move |failure| {
            drop(permit);
            let outcome = failure.map_or(outcome, |failure| Err(failure.clone()));
            let Err(Ok(unheard)) = reply.send(outcome) else { return None };
            Some(Job(Box::new(move |store| {
                let undone = store.in_savepoint(|store| undo(store, unheard));
                if let Err(failure) = undone {
                    tracing::debug!(error = failure.detail, "what nobody waited for could not be undone");
                }
                Box::new(|_| None)
            })))
        })
    }))
}

/// What the writer works on.
pub(super) struct Store {
    pub(super) conn: Connection,
    pub(super) shared: Arc<Shared>,
    /// What lies in each queue, the open transaction included.
    pub(super) totals: Vec<Totals>,
    /// Queues that got something to receive in the open transaction.
    pub(super) woken: BTreeSet<usize>,
    pub(super) max_backlog_bytes: u64,
    /// Rough count of what was written since the log was last copied back.
    pub(super) logged_bytes: u64,
    /// Why the open transaction is lost, if it is. Nothing may run then: each statement would commit by itself.
    broken: Option<Failure>,
    relieved: Instant,
    /// Transactions so far.
    #[cfg(test)]
    pub(super) transactions: u64,
    /// Names the next delivery.
    pub(super) next_ticket: i64,
}

impl Store {
    pub(super) fn new(conn: Connection, shared: Arc<Shared>, max_backlog_bytes: u64) -> Self {
        let totals = shared.totals();
        let next_ticket = messages::first_ticket();
        Self {
            conn,
            shared,
            totals,
            woken: BTreeSet::new(),
            max_backlog_bytes,
            logged_bytes: 0,
            broken: None,
            relieved: Instant::now(),
            #[cfg(test)]
            transactions: 0,
            next_ticket,
        }
    }

    pub(super) fn now_ms(&self) -> i64 {
        (self.shared.clock)()
    }

    fn in_savepoint<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        if let Some(failure) = &self.broken {
            return Err(failure.clone());
        }
        self.execute("SAVEPOINT job")?;
        let before = self.totals.clone();
        let outcome = run(self);
        if let Err(failure) = &outcome {
            self.totals = before;
            // SQLite gives up the whole transaction after some errors.
            if self.conn.is_autocommit() {
                self.broken = Some(failure.clone());
                return outcome;
            }
            self.execute("ROLLBACK TO job")?;
        }
        self.execute("RELEASE job")?;
        outcome
    }

    fn execute(&self, sql: &str) -> Result<(), Failure> {
        self.conn.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Does all jobs in one transaction and answers them; gives back what they ask for further.
    fn batch(&mut self, jobs: impl IntoIterator<Item = Job>) -> Vec<Job> {
        self.woken.clear();
        #[cfg(test)]
        {
            self.transactions += 1;
        }
        self.broken = self.execute("BEGIN IMMEDIATE").err();
        let answers: Vec<Answer> = jobs.into_iter().map(|Job(run)| run(self)).collect();
        if self.broken.is_none() {
            self.broken = self.execute("COMMIT").err();
        }
        let failure = self.broken.take();
        if failure.is_some() {
            if !self.conn.is_autocommit()
                && let Err(failure) = self.execute("ROLLBACK")
            {
                tracing::error!(error = failure.detail, "a transaction could neither be committed nor rolled back");
            }
            self.totals = self.shared.totals();
        } else {
            lock(&self.shared.totals).clone_from(&self.totals);
        }
        if failure.as_ref().is_some_and(|failure| failure.kind == ErrorKind::Full)
            && self.relieved.elapsed() >= RELIEF_EVERY
        {
            // With the log copied back its file is used from the start again, so consumers may empty queues although it cannot grow.
            self.checkpoint();
            self.relieved = Instant::now();
        }
        let further = answers.into_iter().filter_map(|answer| answer(failure.as_ref())).collect();
        if failure.is_none() {
            self.woken.iter().for_each(|&queue| self.shared.arrivals[queue].notify_waiters());
        }
        further
    }

    /// Copies the log back into the database.
    fn checkpoint(&mut self) {
        self.logged_bytes = 0;
        let done = self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = done {
            tracing::warn!(%error, "the log of `sluice.db` could not be copied back; it grows until that works");
        }
    }
}

/// The running thread.
pub(super) struct Writer(JoinHandle<()>);

impl Writer {
    pub(super) fn start(store: Store, shared: Arc<Shared>) -> Result<Self, Failure> {
        let (jobs, waiting) = mpsc::channel();
        lock(&shared.jobs).replace(jobs);
        let thread = std::thread::Builder::new().name("sluice-state".to_owned());
        let started = thread.spawn(move || write(store, &waiting));
        started
            .map(Self)
            .map_err(|error| Failure::new(ErrorKind::Unavailable, format!("the writing thread did not start: {error}")))
    }

    pub(super) fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the thread that writes `sluice.db` panicked");
        }
    }
}

fn write(mut store: Store, waiting: &Receiver<Job>) {
    let mut swept = Instant::now();
    let mut further = Vec::new();
    loop {
        let mut jobs = std::mem::take(&mut further);
        if jobs.is_empty() {
            match waiting.recv_timeout(SWEEP_EVERY.saturating_sub(swept.elapsed())) {
                Ok(job) => jobs.push(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        jobs.extend(waiting.try_iter().take(MAX_BATCH));
        let is_idle = jobs.is_empty();
        if !is_idle {
            further = store.batch(jobs);
        }
        if swept.elapsed() >= SWEEP_EVERY {
            further.extend(store.batch([Job(Box::new(sweep_job))]));
            swept = Instant::now();
        }
        if store.logged_bytes >= CHECKPOINT_BYTES || (is_idle && store.logged_bytes > 0) {
            store.checkpoint();
        }
    }
}

fn sweep_job(store: &mut Store) -> Answer {
    let swept = store.in_savepoint(sweep);
    Box::new(move |failure| {
        let failure = failure.cloned().or(swept.as_ref().err().cloned());
        if let Some(failure) = failure {
            tracing::warn!(error = failure.detail, "what expired could not be removed");
        } else if matches!(swept, Ok(SweepEnd::More)) {
            return Some(Job(Box::new(sweep_job)));
        }
        None
    })
}

/// Whether a sweep got through.
pub(super) enum SweepEnd {
    Clean,
    More,
}

/// Removes some of what has expired: not all at once, since everyone else waits for it.
pub(super) fn sweep(store: &mut Store) -> Result<SweepEnd, Failure> {
    let messages = messages::expire(store)?;
    let items = rows::expire(store)?;
    Ok(if messages || items { SweepEnd::More } else { SweepEnd::Clean })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
