//! Wrappers that make a port fail by script.

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use sluice_ports::{
    Append, Catalog, Delivery, Depth, Document, DocumentId, DocumentOutcome, Email, ErrorKind, Forget, HookCall, Hooks,
    IndexTemplate, Item, Key, Mail, Message, ObjectMeta, Objects, PortError, PutMode, Query, Queue, QueueConsole,
    Receipt, Replace, Search, SearchRemoval, Settlement, Sql, SqlLimits, SqlResult, Table, TableFigures, TableFile,
    TableHead, Topic, Write,
};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the call goes through.
    Pass,
    /// The call fails with this kind and has no effect.
    Before(ErrorKind),
    /// The call has its effect, and then the caller sees [`ErrorKind::Timeout`].
    After,
    /// Of a batch call, the items at these positions fail with this kind and have no effect; the others go through. A call without
    /// items counts as one item at position 0.
    Items(Vec<usize>, ErrorKind),
}

/// The operations a script may name.
const OPERATIONS: [&str; 32] = [
    "catalog.append",
    "catalog.create",
    "catalog.figures",
    "catalog.files",
    "catalog.forget",
    "catalog.load",
    "catalog.needed",
    "catalog.replace",
    "console.list",
    "console.peek",
    "console.redrive",
    "hook.post",
    "mail.send",
    "objects.delete",
    "objects.get",
    "objects.list",
    "objects.put",
    "queue.depth",
    "queue.receive",
    "queue.send",
    "queue.settle",
    "search.create",
    "search.define",
    "search.indices",
    "search.remove",
    "search.remove_index",
    "search.search",
    "sql.query",
    "table.get",
    "table.query",
    "table.write",
    "topic.publish",
];

/// A port of which single calls fail. Calls beyond the script go through.
///
/// ```
/// use sluice_testkit::{fault::{Fault, Faulty}, memory::MemoryTable};
/// use sluice_ports::ErrorKind;
///
/// let table = Faulty::new(MemoryTable::new());
/// table.script("table.write", [Fault::Pass, Fault::Before(ErrorKind::Throttled), Fault::After]);
/// ```
#[derive(Debug)]
pub struct Faulty<T: ?Sized> {
    scripts: Mutex<HashMap<&'static str, VecDeque<Fault>>>,
    always: Mutex<HashMap<&'static str, Fault>>,
    calls: Mutex<HashMap<&'static str, usize>>,
    inner: Arc<T>,
}

impl<T> Faulty<T> {
    /// Wraps a port.
    pub fn new(inner: T) -> Self {
        Self::over(Arc::new(inner))
    }
}

impl<T: ?Sized> Faulty<T> {
    /// Wraps a port that others hold too.
    pub fn over(inner: Arc<T>) -> Self {
        Self { scripts: Mutex::default(), always: Mutex::default(), calls: Mutex::default(), inner }
    }

    /// The wrapped port.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// Appends faults for the next calls of `operation` (`port.verb`, as in [`PortError::operation`]). Panics for an operation that no
    /// port has.
    pub fn script(&self, operation: &'static str, faults: impl IntoIterator<Item = Fault>) {
        known(operation);
        lock(&self.scripts).entry(operation).or_default().extend(faults);
    }

    /// Applies a fault to every call of `operation` beyond its script; [`Fault::Pass`] ends it.
    pub fn always(&self, operation: &'static str, fault: Fault) {
        known(operation);
        lock(&self.always).insert(operation, fault);
    }

    /// How often `operation` was called.
    pub fn calls(&self, operation: &'static str) -> usize {
        known(operation);
        lock(&self.calls).get(operation).copied().unwrap_or(0)
    }

    fn next(&self, operation: &'static str) -> Fault {
        *lock(&self.calls).entry(operation).or_default() += 1;
        let scripted = lock(&self.scripts).get_mut(operation).and_then(VecDeque::pop_front);
        scripted.or_else(|| lock(&self.always).get(operation).cloned()).unwrap_or(Fault::Pass)
    }

    async fn one<R>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<R, PortError>>,
    ) -> Result<R, PortError> {
        match self.next(operation) {
            Fault::Pass => call.await,
            Fault::Before(kind) => Err(injected(kind, operation)),
            Fault::After => call.await.and(Err(injected(ErrorKind::Timeout, operation))),
            Fault::Items(positions, kind) if positions.contains(&0) => Err(injected(kind, operation)),
            Fault::Items(..) => call.await,
        }
    }

    async fn each<I, F>(&self, operation: &'static str, items: Vec<I>, call: F) -> Vec<Result<(), PortError>>
    where
        F: AsyncFnOnce(Vec<I>) -> Vec<Result<(), PortError>>,
    {
        let all = |kind, count: usize| (0..count).map(|_| Err(injected(kind, operation))).collect();
        match self.next(operation) {
            Fault::Pass => call(items).await,
            Fault::Before(kind) => all(kind, items.len()),
            Fault::After => all(ErrorKind::Timeout, call(items).await.len()),
            Fault::Items(positions, kind) => {
                let (failing, passing) = split(items, &positions);
                let passed = call(passing).await;
                merge(passed, failing, || Err(injected(kind, operation)))
            }
        }
    }
}

fn known(operation: &'static str) {
    assert!(OPERATIONS.contains(&operation), "`{operation}` is no operation of a port; one of {OPERATIONS:?}");
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn injected(kind: ErrorKind, operation: &'static str) -> PortError {
    PortError::new(kind, operation, "injected by the test")
}

/// Takes the items at `positions` out; answers for each item whether it fails, and the items that do not.
fn split<I>(items: Vec<I>, positions: &[usize]) -> (Vec<bool>, Vec<I>) {
    let failing: Vec<bool> = (0..items.len()).map(|at| positions.contains(&at)).collect();
    let mut fails = failing.iter();
    let passing = items.into_iter().filter(|_| !fails.next().copied().unwrap_or(false)).collect();
    (failing, passing)
}

fn merge<R>(passed: Vec<R>, failing: Vec<bool>, error: impl Fn() -> R) -> Vec<R> {
    let mut passed = passed.into_iter();
    failing.into_iter().filter_map(|fails| if fails { Some(error()) } else { passed.next() }).collect()
}

#[async_trait]
impl<T: Topic + ?Sized> Topic for Faulty<T> {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        self.each("topic.publish", messages, async |messages| self.inner.publish(messages).await).await
    }
}

#[async_trait]
impl<T: Queue + ?Sized> Queue for Faulty<T> {
    async fn send(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        self.each("queue.send", messages, async |messages| self.inner.send(messages).await).await
    }

    async fn receive(&self, limit: usize, wait: Duration) -> Result<Vec<Delivery>, PortError> {
        self.one("queue.receive", self.inner.receive(limit, wait)).await
    }

    async fn settle(&self, outcomes: Vec<(Receipt, Settlement)>) -> Vec<Result<(), PortError>> {
        self.each("queue.settle", outcomes, async |outcomes| self.inner.settle(outcomes).await).await
    }

    async fn depth(&self) -> Result<Depth, PortError> {
        self.one("queue.depth", self.inner.depth()).await
    }
}

#[async_trait]
impl<T: QueueConsole + ?Sized> QueueConsole for Faulty<T> {
    async fn list(&self) -> Result<Vec<(String, Depth, Option<String>)>, PortError> {
        self.one("console.list", self.inner.list()).await
    }

    async fn peek(&self, queue: &str, limit: usize) -> Result<Vec<Delivery>, PortError> {
        self.one("console.peek", self.inner.peek(queue, limit)).await
    }

    async fn redrive(&self, dead_letter_queue: &str, limit: u64) -> Result<u64, PortError> {
        self.one("console.redrive", self.inner.redrive(dead_letter_queue, limit)).await
    }
}

#[async_trait]
impl<T: Table + ?Sized> Table for Faulty<T> {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, PortError> {
        self.one("table.get", self.inner.get(keys)).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), PortError> {
        self.one("table.write", self.inner.write(writes)).await
    }

    async fn query(&self, query: Query) -> Result<Vec<Item>, PortError> {
        self.one("table.query", self.inner.query(query)).await
    }
}

#[async_trait]
impl<T: Catalog + ?Sized> Catalog for Faulty<T> {
    async fn load(&self, table: &str) -> Result<Option<TableHead>, PortError> {
        self.one("catalog.load", self.inner.load(table)).await
    }

    async fn create(&self, table: &str) -> Result<(), PortError> {
        self.one("catalog.create", self.inner.create(table)).await
    }

    async fn append(&self, append: Append) -> Result<(), PortError> {
        self.one("catalog.append", self.inner.append(append)).await
    }

    async fn files(&self, table: &str) -> Result<Option<(TableHead, Vec<TableFile>)>, PortError> {
        self.one("catalog.files", self.inner.files(table)).await
    }

    async fn replace(&self, replace: Replace) -> Result<(), PortError> {
        self.one("catalog.replace", self.inner.replace(replace)).await
    }

    async fn needed(&self, table: &str) -> Result<Option<BTreeSet<String>>, PortError> {
        self.one("catalog.needed", self.inner.needed(table)).await
    }

    async fn forget(&self, forget: Forget) -> Result<(), PortError> {
        self.one("catalog.forget", self.inner.forget(forget)).await
    }

    async fn figures(&self) -> Result<Vec<TableFigures>, PortError> {
        self.one("catalog.figures", self.inner.figures()).await
    }
}

#[async_trait]
impl<T: Objects + ?Sized> Objects for Faulty<T> {
    async fn put(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<(), PortError> {
        self.one("objects.put", self.inner.put(key, bytes, mode)).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, PortError> {
        self.one("objects.get", self.inner.get(key, range)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, PortError> {
        self.one("objects.list", self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &str) -> Result<(), PortError> {
        self.one("objects.delete", self.inner.delete(key)).await
    }
}

#[async_trait]
impl<T: Mail + ?Sized> Mail for Faulty<T> {
    async fn send(&self, email: Email) -> Result<(), PortError> {
        self.one("mail.send", self.inner.send(email)).await
    }
}

#[async_trait]
impl<T: Hooks + ?Sized> Hooks for Faulty<T> {
    async fn post(&self, call: HookCall) -> Result<(), PortError> {
        self.one("hook.post", self.inner.post(call)).await
    }
}

#[async_trait]
impl<T: Sql + ?Sized> Sql for Faulty<T> {
    async fn query(&self, statement: &str, parameters: &[Value], limits: SqlLimits) -> Result<SqlResult, PortError> {
        self.one("sql.query", self.inner.query(statement, parameters, limits)).await
    }
}

#[async_trait]
impl<T: Search + ?Sized> Search for Faulty<T> {
    async fn define(&self, templates: Vec<IndexTemplate>) -> Result<(), PortError> {
        self.one("search.define", self.inner.define(templates)).await
    }

    async fn create(&self, documents: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        match self.next("search.create") {
            Fault::Pass => self.inner.create(documents).await,
            Fault::Before(kind) => Err(injected(kind, "search.create")),
            Fault::After => self.inner.create(documents).await.and(Err(injected(ErrorKind::Timeout, "search.create"))),
            Fault::Items(positions, kind) => {
                let (failing, passing) = split(documents, &positions);
                let passed = self.inner.create(passing).await?;
                Ok(merge(passed, failing, || DocumentOutcome::Failed(injected(kind, "search.create"))))
            }
        }
    }

    async fn search(&self, pattern: &str, body: &Value) -> Result<Value, PortError> {
        self.one("search.search", self.inner.search(pattern, body)).await
    }
}

#[async_trait]
impl<T: SearchRemoval + ?Sized> SearchRemoval for Faulty<T> {
    async fn remove(&self, documents: Vec<DocumentId>) -> Result<(), PortError> {
        self.one("search.remove", self.inner.remove(documents)).await
    }

    async fn indices(&self, pattern: &str) -> Result<Vec<String>, PortError> {
        self.one("search.indices", self.inner.indices(pattern)).await
    }

    async fn remove_index(&self, index: &str) -> Result<(), PortError> {
        self.one("search.remove_index", self.inner.remove_index(index)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{MemoryTable, MemoryTopic};
    use serde_json::json;
    use sluice_ports::Condition;

    fn put(sort: &str) -> Vec<Write> {
        let key = Key::new("p", sort);
        vec![Write::Put { key, value: json!({}), condition: Condition::Any, expires_at: None }]
    }

    #[tokio::test]
    async fn faults_follow_the_script_and_then_calls_go_through() {
        let table = Faulty::new(MemoryTable::new());
        table.script("table.write", [Fault::Pass, Fault::Before(ErrorKind::Throttled), Fault::After]);
        assert!(table.write(put("1")).await.is_ok());
        assert_eq!(table.write(put("2")).await.unwrap_err().kind, ErrorKind::Throttled);
        assert_eq!(table.write(put("3")).await.unwrap_err().kind, ErrorKind::Timeout);
        assert!(table.write(put("4")).await.is_ok());
        let there: Vec<String> = table.inner().items().into_iter().map(|item| item.key.sort).collect();
        assert_eq!(there, ["1", "3", "4"], "a fault before the effect leaves nothing, one after it leaves the write");
        assert_eq!(table.calls("table.write"), 4);
    }

    #[tokio::test]
    async fn only_the_named_items_of_a_batch_fail() {
        let topic = Faulty::new(MemoryTopic::new());
        topic.script("topic.publish", [Fault::Items(vec![1], ErrorKind::Unavailable)]);
        let message = |body: &str| Message { body: body.to_owned(), ..Message::default() };
        let results = topic.publish(vec![message("a"), message("b"), message("c")]).await;
        let kinds: Vec<Option<ErrorKind>> = results.into_iter().map(|result| result.err().map(|e| e.kind)).collect();
        assert_eq!(kinds, [None, Some(ErrorKind::Unavailable), None]);
        let bodies: Vec<String> = topic.inner().take().into_iter().map(|message| message.body).collect();
        assert_eq!(bodies, ["a", "c"]);
    }

    #[test]
    #[should_panic(expected = "is no operation of a port")]
    fn a_misspelt_operation_is_a_mistake_in_the_test() {
        Faulty::new(MemoryTable::new()).script("table.put", [Fault::After]);
    }
}
