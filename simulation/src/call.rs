//! Port calls as data: what a stage asks for, what it is told, and the list of calls that wait for the scheduler.

use bytes::Bytes;
use sluice_ports::{
    Append, Document, DocumentOutcome, Email, ErrorKind, Item, Key, Message, PortError, PutMode, Query, Replace,
    TableFile, TableHead, Write,
};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// The queues of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueName {
    /// Before `convert`.
    Convert,
    /// Before `index`.
    Index,
    /// Before `detect`.
    Detect,
    /// Before `notify`: what is of area `alert`.
    Alerts,
    /// Before `quarantine`.
    Quarantine,
    /// Before `commit`.
    Commit,
}

impl QueueName {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Convert, Self::Index, Self::Detect, Self::Alerts, Self::Quarantine, Self::Commit];

    /// Whether the topic copies to it; to the others stages send.
    pub fn is_subscribed(self) -> bool {
        !matches!(self, Self::Quarantine | Self::Commit)
    }
}

/// What a stage, or who runs it, asks for.
#[derive(Debug, Clone)]
pub enum Operation {
    /// `table.get`
    Get(Vec<Key>),
    /// `table.write`
    Write(Vec<Write>),
    /// `table.query`
    Query(Query),
    /// `topic.publish`
    Publish(Vec<Message>),
    /// `queue.send`
    Send(QueueName, Vec<Message>),
    /// `objects.put`
    Put(String, Bytes, PutMode),
    /// `search.create`
    Create(Vec<Document>),
    /// `mail.send`
    Mail(Email),
    /// `catalog.load`
    Load(String),
    /// `catalog.create`
    Make(String),
    /// `catalog.append`
    Append(Append),
    /// `catalog.files`
    Files(String),
    /// `catalog.replace`
    Replace(Replace),
    /// `objects.get`
    Read(String),
    /// The runtime acknowledges these messages after the stage has answered.
    Acknowledge(QueueName, Vec<String>),
}

/// What the caller is told.
#[derive(Debug)]
pub enum Reply {
    /// To [`Operation::Get`].
    Rows(Result<Vec<Option<Item>>, PortError>),
    /// To [`Operation::Query`].
    Range(Result<Vec<Item>, PortError>),
    /// To [`Operation::Publish`] and [`Operation::Send`].
    Each(Vec<Result<(), PortError>>),
    /// To [`Operation::Create`].
    Documents(Result<Vec<DocumentOutcome>, PortError>),
    /// To [`Operation::Load`].
    Head(Result<Option<TableHead>, PortError>),
    /// To [`Operation::Files`].
    Files(Result<Option<(TableHead, Vec<TableFile>)>, PortError>),
    /// To [`Operation::Read`].
    Bytes(Result<Bytes, PortError>),
    /// To the others.
    Unit(Result<(), PortError>),
}

impl Operation {
    /// `port.verb`, as in [`PortError::operation`].
    pub fn name(&self) -> &'static str {
        match self {
            Self::Get(_) => "table.get",
            Self::Write(_) => "table.write",
            Self::Query(_) => "table.query",
            Self::Publish(_) => "topic.publish",
            Self::Send(..) => "queue.send",
            Self::Put(..) => "objects.put",
            Self::Create(_) => "search.create",
            Self::Mail(_) => "mail.send",
            Self::Load(_) => "catalog.load",
            Self::Make(_) => "catalog.create",
            Self::Append(_) => "catalog.append",
            Self::Files(_) => "catalog.files",
            Self::Replace(_) => "catalog.replace",
            Self::Read(_) => "objects.get",
            Self::Acknowledge(..) => "queue.settle",
        }
    }

    /// Whether it only reads.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Get(_) | Self::Query(_) | Self::Load(_) | Self::Files(_) | Self::Read(_))
    }

    /// The reply of a call that failed as a whole.
    pub fn failed(&self, kind: ErrorKind) -> Reply {
        let error = || PortError::new(kind, self.name(), "injected by the schedule");
        match self {
            Self::Get(_) => Reply::Rows(Err(error())),
            Self::Query(_) => Reply::Range(Err(error())),
            Self::Publish(messages) | Self::Send(_, messages) => {
                Reply::Each(messages.iter().map(|_| Err(error())).collect())
            }
            Self::Create(_) => Reply::Documents(Err(error())),
            Self::Load(_) => Reply::Head(Err(error())),
            Self::Files(_) => Reply::Files(Err(error())),
            Self::Read(_) => Reply::Bytes(Err(error())),
            Self::Write(_)
            | Self::Put(..)
            | Self::Mail(_)
            | Self::Make(_)
            | Self::Append(_)
            | Self::Replace(_)
            | Self::Acknowledge(..) => Reply::Unit(Err(error())),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |key: &Key| format!("{}/{}", key.partition, key.sort);
        let bodies = |messages: &[Message]| messages.iter().map(|m| batch_of(&m.body)).collect::<Vec<_>>().join(" ");
        write!(f, "{} ", self.name())?;
        match self {
            Self::Get(keys) => f.write_str(&keys.iter().map(key).collect::<Vec<_>>().join(" ")),
            Self::Query(query) => write!(f, "{}/{}", query.partition, query.prefix),
            Self::Publish(messages) => f.write_str(&bodies(messages)),
            Self::Send(queue, messages) => write!(f, "{queue:?} {}", bodies(messages)),
            Self::Put(at, ..) => f.write_str(at),
            Self::Create(documents) => {
                f.write_str(&documents.iter().map(|d| format!("{}/{}", d.index, d.id)).collect::<Vec<_>>().join(" "))
            }
            Self::Mail(email) => write!(f, "{} to {}", email.message_id, email.to),
            Self::Load(table) | Self::Make(table) | Self::Files(table) => f.write_str(table),
            Self::Read(at) => f.write_str(at),
            Self::Replace(replace) => {
                let keys: Vec<&str> = replace.added.iter().map(|file| file.key.as_str()).collect();
                let (removed, added) = (replace.removed.join(" "), keys.join(" "));
                write!(f, "{} {removed} by {added} if {}", replace.table, replace.token)
            }
            Self::Append(append) => {
                let keys: Vec<&str> = append.files.iter().map(|file| file.key.as_str()).collect();
                write!(f, "{} {} {} if {}", append.table, append.property.1, keys.join(" "), append.token)
            }
            Self::Acknowledge(queue, ids) => write!(f, "{queue:?} {}", ids.join(" ")),
            Self::Write(writes) => {
                let text = |write: &Write| match write {
                    Write::Put { key: at, value, condition, .. } => {
                        // What says how it goes on; not times, which differ from run to run by what a stage measures.
                        let says =
                            ["state", "group", "publish", "batches", "number", "items"].map(|name| value.get(name));
                        let says: Vec<String> = says.into_iter().flatten().map(ToString::to_string).collect();
                        format!("{}={} if {condition:?}", key(at), says.join(" "))
                    }
                    Write::Add { key: at, deltas, .. } => format!("{}+{deltas:?}", key(at)),
                    Write::Delete { key: at, .. } => format!("delete {}", key(at)),
                    Write::Check { key: at, .. } => format!("check {}", key(at)),
                };
                f.write_str(&writes.iter().map(text).collect::<Vec<_>>().join("; "))
            }
        }
    }
}

fn batch_of(body: &str) -> String {
    // What is not an event's message is short enough to be told as it is.
    sluice_domain::message::read_header(body).map_or_else(|_| body.chars().take(40).collect(), |header| header.batch)
}

/// A call that waits for the scheduler.
#[derive(Debug)]
pub struct Call {
    /// The task that waits for it.
    pub task: usize,
    /// What it asks for.
    pub operation: Operation,
    slot: Arc<Slot>,
}

#[derive(Debug, Default)]
struct Slot(Mutex<(Option<Reply>, Option<Waker>)>);

impl Call {
    /// Answers it.
    pub fn answer(self, reply: Reply) {
        let mut slot = lock(&self.slot.0);
        slot.0 = Some(reply);
        if let Some(waker) = slot.1.take() {
            waker.wake();
        }
    }
}

/// Where calls wait.
#[derive(Debug, Default)]
pub struct Calls(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// The task that is being polled.
    task: usize,
    calls: Vec<Call>,
}

impl Calls {
    /// Says which task is polled from now on.
    pub fn polling(&self, task: usize) {
        lock(&self.0).task = task;
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        lock(&self.0).calls.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the one at this position, in the order in which they were made.
    pub fn take(&self, at: usize) -> Call {
        lock(&self.0).calls.remove(at)
    }

    /// Takes all of a task.
    pub fn take_of(&self, task: usize) -> Vec<Call> {
        lock(&self.0).calls.extract_if(.., |call| call.task == task).collect()
    }

    /// Looks at the one at this position.
    pub fn with<R>(&self, at: usize, look: impl FnOnce(&Call) -> R) -> R {
        look(&lock(&self.0).calls[at])
    }

    /// Makes a call and waits for its answer.
    pub async fn call(&self, operation: Operation) -> Reply {
        let slot = Arc::new(Slot::default());
        {
            let mut waiting = lock(&self.0);
            let task = waiting.task;
            waiting.calls.push(Call { task, operation, slot: Arc::clone(&slot) });
        }
        poll_fn(|cx| {
            let mut slot = lock(&slot.0);
            match slot.0.take() {
                Some(reply) => Poll::Ready(reply),
                None => {
                    slot.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
