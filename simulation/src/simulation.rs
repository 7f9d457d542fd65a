//! Processes, tasks and the clock: the moves that a schedule is made of.
//!
//! A task is one invocation of a stage. It runs until it waits for a port call; then nothing happens until the schedule says what becomes
//! of one of the waiting calls, kills a process, delivers messages, lands a late effect or moves the clock.

use crate::backend::{Backend, Fate, now};
use crate::call::{Calls, Operation, QueueName, Reply};
use crate::lines::Lines;
use crate::port::{Ports, SendingQueue};
use crate::scenario::{self, Sent};
use sluice_domain::schema::Registry;
use sluice_domain::time::{DAY_US, SECOND_US, Timestamp};
use sluice_ports::{ErrorKind, Query, Queue, Table as _};
use sluice_stages::access::Keys;
use sluice_stages::commit::{Commit, CommitPorts, CommitSettings};
use sluice_stages::compact::{Asked, Compact, CompactPorts, CompactSettings};
use sluice_stages::convert::{Convert, ConvertPorts, ConvertSettings};
use sluice_stages::detect::{Detect, DetectPorts, DetectSettings};
use sluice_stages::http::Response;
use sluice_stages::index::{Index, IndexPorts, IndexSettings};
use sluice_stages::ingest::{ClientIp, Ingest, IngestPorts, IngestSettings};
use sluice_stages::item::{Item, Outcome};
use sluice_stages::notify::{Notify, NotifyPorts, NotifySettings};
use sluice_stages::quarantine::Quarantine;
use sluice_testkit::memory::{MemoryHooks, MemoryTable};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long a group's lease lasts. Beside it and [`CLOCK_STEP_US`] the microseconds that a stage measures itself never decide.
const LEASE_MS: u32 = 30 * 60 * 1_000;
/// How far the clock moves at once: every lease has run out then.
pub const CLOCK_STEP_US: i64 = 3_600 * SECOND_US;
/// Between two tasks the clock moves a little, so that no two requests have the same time.
const TICK_US: i64 = 1_000;

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// Takes a request.
    Ingest,
    /// Works on a queue.
    Consumer(QueueName),
    /// The clock of `detect`.
    Tick,
    /// The clock of `commit`.
    CommitTick,
    /// The clock of `compact`.
    CompactTick,
}

/// What becomes of a call whose task is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastCall {
    /// It never happens.
    Lost,
    /// It has happened.
    Effective,
    /// It happens later, or never.
    Late,
}

enum Stage {
    Ingest(Arc<Ingest>),
    Convert(Arc<Convert>),
    Commit(Arc<Commit>),
    Compact(Arc<Compact>),
    Index(Arc<Index>),
    Detect(Arc<Detect>),
    Notify(Arc<Notify>),
    Quarantine(Arc<Quarantine>),
}

struct Task {
    function: Function,
    process: usize,
    future: Pin<Box<dyn Future<Output = Option<Response>>>>,
    delivery: Vec<usize>,
    request: Option<usize>,
}

/// The pipeline, its clients, and all that can happen to them.
pub struct Simulation {
    /// What outlives every process.
    pub backend: Backend,
    /// The calls that wait.
    pub calls: Arc<Calls>,
    /// Effects of calls that timed out, to land later or never.
    pub late: Vec<Operation>,
    /// The requests of the clients.
    pub sent: Arc<[Sent]>,
    /// Which requests were answered with 202, and how often.
    pub answered: Vec<usize>,
    /// Whether something befell a notifier, so that a mail may have gone out twice.
    pub notify_disturbed: bool,
    /// Whether the second rule was made.
    pub has_later_rule: bool,
    tasks: BTreeMap<usize, Task>,
    begun: usize,
    processes: BTreeMap<(Function, usize), Stage>,
    deployed: usize,
    clock_us: i64,
    trace: Option<Vec<String>>,
}

impl Simulation {
    /// Nothing sent yet of these requests; only these queues are subscribed.
    pub fn new(subscribed: &[QueueName], sent: Arc<[Sent]>, is_traced: bool) -> Self {
        let backend = Backend::new(subscribed);
        scenario::prepare(&backend.table);
        let answered = vec![0; sent.len()];
        Self::over(backend, sent, answered, is_traced)
    }

    /// Processes that begin over a state that is there.
    pub fn over(backend: Backend, sent: Arc<[Sent]>, answered: Vec<usize>, is_traced: bool) -> Self {
        Self {
            backend,
            calls: Arc::default(),
            late: Vec::new(),
            sent,
            answered,
            notify_disturbed: false,
            has_later_rule: false,
            tasks: BTreeMap::new(),
            begun: 0,
            processes: BTreeMap::new(),
            deployed: 0,
            clock_us: scenario::begin().micros(),
            trace: is_traced.then(Vec::new),
        }
    }

    /// What happened, where it was asked for.
    pub fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    /// Whether messages of this queue come to somebody.
    pub fn uses(&self, queue: QueueName) -> bool {
        self.backend.queues().contains(&queue)
    }

    /// Ids of the running tasks.
    pub fn tasks(&self) -> Vec<usize> {
        self.tasks.keys().copied().collect()
    }

    /// How many tasks of a function run.
    pub fn running(&self, function: Function) -> usize {
        self.tasks.values().filter(|task| task.function == function).count()
    }

    /// The queue and the messages that a task works on, where it is a consumer.
    pub fn delivery(&self, task: usize) -> Option<(QueueName, Vec<usize>)> {
        match self.tasks[&task].function {
            Function::Consumer(queue) => Some((queue, self.tasks[&task].delivery.clone())),
            Function::Ingest | Function::Tick | Function::CommitTick | Function::CompactTick => None,
        }
    }

    /// Whether a task works on this request.
    pub fn is_being_sent(&self, request: usize) -> bool {
        self.tasks.values().any(|task| task.request == Some(request))
    }

    /// Positions of the messages of a queue that wait: neither acknowledged nor at work.
    pub fn waiting(&self, queue: QueueName) -> Vec<usize> {
        let waits = |(_, entry): &(usize, &crate::backend::Entry)| !entry.acknowledged && entry.at_work == 0;
        self.backend.queue(queue).iter().enumerate().filter(waits).map(|(at, _)| at).collect()
    }

    /// Whether plans of `detect` are open.
    pub fn has_open_plans(&self) -> bool {
        !rows(&self.backend.table, "plan-open").is_empty()
    }

    /// Whether files are recorded that no table has.
    pub fn has_open_files(&self) -> bool {
        let rows = self.backend.table.items();
        self.uses(QueueName::Commit) && rows.iter().any(|item| item.key.partition.starts_with("file#"))
    }

    /// Another engine compacts the tables.
    pub fn compact(&mut self) {
        self.note(|| "another engine compacts the tables".into());
        self.backend.compact();
    }

    /// Moves the clock on.
    pub fn pass_time(&mut self) {
        self.note(|| "the clock moves on by an hour".into());
        // A claim may run out under a notifier.
        self.notify_disturbed |= self.running(Function::Consumer(QueueName::Alerts)) > 0;
        self.clock_us += CLOCK_STEP_US;
    }

    /// From now on processes begin with the next version of the schemas.
    pub fn deploy(&mut self) {
        self.note(|| "the next version of the schemas is deployed".into());
        self.deployed = 1;
    }

    /// Somebody makes the second rule.
    pub fn add_rule(&mut self) {
        if !std::mem::replace(&mut self.has_later_rule, true) {
            self.note(|| "a second rule is made".into());
            scenario::add_rule(&self.backend.table, scenario::LATER_RULE);
        }
    }

    /// A client sends a request, for the first time or again.
    pub fn send(&mut self, request: usize, process: usize) {
        let body = self.sent[request].request.clone();
        let at = self.time();
        let Stage::Ingest(stage) = self.stage(Function::Ingest, process) else { unreachable!() };
        let stage = Arc::clone(stage);
        let future = Box::pin(async move { Some(stage.handle(&body, at).await) });
        self.begin(Function::Ingest, process, future, Vec::new(), Some(request));
    }

    /// Delivers messages of a queue, by position, to a process.
    pub fn deliver(&mut self, queue: QueueName, which: Vec<usize>, process: usize) {
        let items = self.backend.deliver(queue, &which);
        let at = self.time();
        let calls = Arc::clone(&self.calls);
        let function = Function::Consumer(queue);
        let future: Pin<Box<dyn Future<Output = Option<Response>>>> = match self.stage(function, process) {
            Stage::Convert(stage) => {
                consume(calls, queue, items, at, Arc::clone(stage), async |s, i, t| s.run(i, t).await)
            }
            Stage::Commit(stage) => {
                consume(calls, queue, items, at, Arc::clone(stage), async |s, i, t| s.run(i, t).await)
            }
            Stage::Index(stage) => {
                consume(calls, queue, items, at, Arc::clone(stage), async |s, i, t| s.run(i, t).await)
            }
            Stage::Detect(stage) => {
                consume(calls, queue, items, at, Arc::clone(stage), async |s, i, t| s.run(i, t).await)
            }
            Stage::Notify(stage) => {
                consume(calls, queue, items, at, Arc::clone(stage), async |s, i, t| s.run(i, t).await)
            }
            Stage::Quarantine(stage) => {
                consume(calls, queue, items, at, Arc::clone(stage), async |s, i, t| s.run(i, t).await)
            }
            Stage::Ingest(_) | Stage::Compact(_) => unreachable!("it has no queue"),
        };
        self.begin(function, process, future, which, None);
    }

    /// The clock of `commit` ticks.
    pub fn commit_tick(&mut self, process: usize) {
        let at = self.time();
        let Stage::Commit(stage) = self.stage(Function::CommitTick, process) else { unreachable!() };
        let stage = Arc::clone(stage);
        let future = Box::pin(async move {
            // What fails stays open for the next tick.
            _ = stage.tick(at).await;
            None
        });
        self.begin(Function::CommitTick, process, future, Vec::new(), None);
    }

    /// The clock of `compact` ticks, so much later that every partition is closed.
    pub fn compact_tick(&mut self, process: usize) {
        let at = self.time().plus_micros(40 * DAY_US);
        let Stage::Compact(stage) = self.stage(Function::CompactTick, process) else { unreachable!() };
        let stage = Arc::clone(stage);
        let future = Box::pin(async move {
            // What fails is due at the next tick.
            _ = stage.run(Asked::default(), at).await;
            None
        });
        self.begin(Function::CompactTick, process, future, Vec::new(), None);
    }

    /// The clock of `detect` ticks.
    pub fn tick(&mut self, process: usize) {
        let at = self.time();
        let Stage::Detect(stage) = self.stage(Function::Tick, process) else { unreachable!() };
        let stage = Arc::clone(stage);
        let future = Box::pin(async move {
            // What fails stays open for the next tick.
            _ = stage.tick(at).await;
            None
        });
        self.begin(Function::Tick, process, future, Vec::new(), None);
    }

    /// Answers the waiting call at this position.
    pub fn answer(&mut self, at: usize, fate: Fate) {
        let call = self.calls.take(at);
        let task = call.task;
        if fate != Fate::Done && self.tasks[&task].function == Function::Consumer(QueueName::Alerts) {
            self.notify_disturbed = true;
        }
        self.note(|| format!("task {task}: {}: {fate:?}", call.operation));
        let operation = call.operation.clone();
        let reply = match fate {
            Fate::Done => self.apply(operation),
            Fate::Refused(kind) => operation.failed(kind),
            Fate::Partly(failing) => self.backend.apply_partly(operation, failing),
            Fate::ReplyLost => {
                let failed = operation.failed(ErrorKind::Timeout);
                self.apply(operation);
                failed
            }
            Fate::Late => {
                let failed = operation.failed(ErrorKind::Timeout);
                if !operation.is_read() {
                    self.late.push(operation);
                }
                failed
            }
        };
        call.answer(reply);
        self.poll(task);
    }

    /// Kills the process of a task, and with it all its tasks. `last_call` says for each waiting call what becomes of it.
    pub fn kill(&mut self, task: usize, mut last_call: impl FnMut() -> LastCall) {
        let (function, process) = (self.tasks[&task].function, self.tasks[&task].process);
        self.processes.remove(&(function, process));
        let dying: Vec<usize> = self
            .tasks
            .iter()
            .filter(|(_, t)| (t.function, t.process) == (function, process))
            .map(|(id, _)| *id)
            .collect();
        self.notify_disturbed |= function == Function::Consumer(QueueName::Alerts);
        for id in dying {
            for call in self.calls.take_of(id) {
                let what = last_call();
                self.note(|| format!("task {id} is killed at {}: {what:?}", call.operation));
                match what {
                    LastCall::Lost => {}
                    LastCall::Effective => _ = self.apply(call.operation),
                    LastCall::Late => self.late.extend((!call.operation.is_read()).then_some(call.operation)),
                }
            }
            self.end(id, None);
        }
    }

    /// A late effect lands, or never does.
    pub fn land(&mut self, at: usize, happens: bool) {
        let operation = self.late.remove(at);
        self.note(|| format!("late: {operation}: {}", if happens { "lands" } else { "never happens" }));
        if happens {
            self.apply(operation);
        }
    }

    /// Processes begin anew, with the version that is deployed.
    pub fn restart(&mut self, function: Function, process: usize) {
        if self.running(function) == 0 && self.processes.remove(&(function, process)).is_some() {
            self.note(|| format!("process {process} of {function:?} begins anew"));
        }
    }

    fn apply(&mut self, operation: Operation) -> Reply {
        let reply = self.backend.apply(operation);
        if let Reply::Unit(Err(error)) = &reply {
            self.note(|| format!("    → {error}"));
        }
        reply
    }

    fn time(&mut self) -> Timestamp {
        self.clock_us += TICK_US;
        Timestamp::from_micros(self.clock_us).expect("the clock stays within four digits of a year")
    }

    fn begin(
        &mut self,
        function: Function,
        process: usize,
        future: Pin<Box<dyn Future<Output = Option<Response>>>>,
        delivery: Vec<usize>,
        request: Option<usize>,
    ) {
        let id = self.begun;
        self.begun += 1;
        self.note(|| match request {
            Some(request) => format!("task {id}: request {request} to process {process}"),
            None => format!("task {id}: {function:?} {delivery:?} in process {process}"),
        });
        self.tasks.insert(id, Task { function, process, future, delivery, request });
        self.poll(id);
    }

    fn poll(&mut self, id: usize) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        self.calls.polling(id);
        if let Poll::Ready(reply) = task.future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            self.note(|| format!("task {id} is over"));
            self.end(id, reply);
        }
    }

    fn end(&mut self, id: usize, reply: Option<Response>) {
        let Some(task) = self.tasks.remove(&id) else { return };
        if let Function::Consumer(queue) = task.function {
            self.backend.give_back(queue, &task.delivery);
        }
        if let (Some(request), Some(reply)) = (task.request, reply) {
            self.note(|| format!("request {request} is answered with {}", reply.status));
            self.answered[request] += usize::from(reply.status == 202);
        }
    }

    fn stage(&mut self, function: Function, process: usize) -> &Stage {
        let registry = Arc::clone(&scenario::registries()[self.deployed]);
        let calls = &self.calls;
        self.processes.entry((function, process)).or_insert_with(|| stage(function, process, calls, registry))
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }
}

/// The rows of a partition.
pub fn rows(table: &MemoryTable, partition: &str) -> Vec<sluice_ports::Item> {
    now(table.query(Query::prefix(partition, "", usize::MAX))).expect("a table in memory answers")
}

/// One invocation: the stage, and then the acknowledgement of what is done.
fn consume<S: 'static>(
    calls: Arc<Calls>,
    queue: QueueName,
    items: Vec<Item>,
    at: Timestamp,
    stage: Arc<S>,
    run: impl AsyncFnOnce(&S, &[Item], Timestamp) -> Vec<Outcome> + 'static,
) -> Pin<Box<dyn Future<Output = Option<Response>>>> {
    Box::pin(async move {
        let outcomes = run(&stage, &items, at).await;
        assert_eq!(outcomes.len(), items.len(), "one outcome per message");
        let done = items.into_iter().zip(outcomes).filter(|(_, outcome)| *outcome == Outcome::Done);
        let done: Vec<String> = done.map(|(item, _)| item.id).collect();
        if !done.is_empty() {
            calls.call(Operation::Acknowledge(queue, done)).await;
        }
        None
    })
}

fn stage(function: Function, process: usize, calls: &Arc<Calls>, registry: Arc<Registry>) -> Stage {
    // The second process takes each message alone: a group or a bulk of its own.
    let slice_bytes = if process == 0 { 1 << 20 } else { 1 };
    let ports = Arc::new(Ports(Arc::clone(calls)));
    let quarantine = Arc::new(SendingQueue(Arc::clone(calls), QueueName::Quarantine));
    match function {
        Function::Ingest => {
            let settings = IngestSettings {
                zone: chrono_tz::Tz::UTC,
                client_ip: ClientIp::None,
                max_body_bytes: 4_500_000,
                max_decompressed_bytes: 16 * 1024 * 1024,
                max_events_per_request: 10_000,
                quarantine_per_key_hour: 1_000,
            };
            let keys = Arc::new(Keys::new(ports.clone()));
            Stage::Ingest(Arc::new(Ingest::new(IngestPorts { topic: ports, quarantine, keys }, registry, settings)))
        }
        Function::Consumer(QueueName::Convert) => {
            let settings = ConvertSettings { lease_ms: LEASE_MS, slice_bytes, budget_ms: u32::MAX };
            let commit: Arc<dyn Queue> = Arc::new(SendingQueue(Arc::clone(calls), QueueName::Commit));
            let ports = ConvertPorts { objects: ports.clone(), table: ports, quarantine, commit: Some(commit) };
            Stage::Convert(Arc::new(Convert::new(ports, registry, Arc::new(Lines), settings)))
        }
        Function::Consumer(QueueName::Commit) | Function::CommitTick => {
            // The second process makes records of one item.
            let max_files = if process == 0 { CommitSettings::default().max_files } else { 1 };
            let settings = CommitSettings { max_files, budget: Duration::MAX };
            Stage::Commit(Arc::new(Commit::new(CommitPorts { table: ports.clone(), catalog: ports }, settings)))
        }
        Function::CompactTick => {
            let settings = CompactSettings { budget: Duration::MAX, ..CompactSettings::default() };
            let (table, catalog, objects) = (ports.clone(), ports.clone(), ports);
            let ports = CompactPorts { table, catalog, objects, rewriter: Arc::new(Lines) };
            Stage::Compact(Arc::new(Compact::new(ports, registry, settings)))
        }
        Function::Consumer(QueueName::Index) => {
            let settings = IndexSettings { bulk_bytes: slice_bytes, budget_ms: u32::MAX };
            let ports = IndexPorts { search: ports.clone(), table: ports, quarantine };
            Stage::Index(Arc::new(Index::new(ports, registry, settings)))
        }
        Function::Consumer(QueueName::Detect) | Function::Tick => {
            let ports = DetectPorts { table: ports.clone(), topic: ports, quarantine };
            Stage::Detect(Arc::new(Detect::new(ports, registry, DetectSettings::default())))
        }
        Function::Consumer(QueueName::Alerts) => {
            let settings = NotifySettings { from: "sluice@example.org".into(), console_url: String::new() };
            Stage::Notify(Arc::new(Notify::new(
                NotifyPorts {
                    mail: ports.clone(),
                    hooks: Arc::new(MemoryHooks::new()),
                    table: ports.clone(),
                    topic: ports,
                    quarantine,
                },
                settings,
            )))
        }
        Function::Consumer(QueueName::Quarantine) => Stage::Quarantine(Arc::new(Quarantine::new(ports))),
    }
}
