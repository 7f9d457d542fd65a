//! What the contract suites cannot see: shared transactions, faults of the disk, callers that go away, what a restart finds.

use super::*;
use serde_json::json;
use sluice_ports::{Condition, Delivery, Depth, Key, Message, Receipt, Settlement, Tally, Write};
use sluice_testkit::clock::FakeClock;
use std::sync::mpsc;
use std::task::Poll;
use tempfile::TempDir;

const VISIBILITY: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);

struct Fixture {
    dir: TempDir,
    clock: FakeClock,
    max_backlog_bytes: u64,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: FakeClock::default(), max_backlog_bytes: u64::MAX }
    }

    fn config(&self) -> StateConfig {
        let queue = |name: &str, dead_letter: Option<&str>| QueueConfig {
            name: name.to_owned(),
            visibility_timeout: VISIBILITY,
            retention: if dead_letter.is_some() { 4 * DAY } else { 14 * DAY },
            dead_letter: dead_letter.map(|queue| DeadLetterConfig { queue: queue.to_owned(), max_receive_count: 1 }),
        };
        let subscription =
            |queue: &str| SubscriptionConfig { topic: "Events".into(), queue: queue.into(), filter: None };
        StateConfig {
            queues: vec![queue("Convert", Some("Dead")), queue("Index", Some("Dead")), queue("Dead", None)],
            subscriptions: vec![subscription("Convert"), subscription("Index")],
            max_backlog_bytes: self.max_backlog_bytes,
            clock: self.clock.closure(),
        }
    }

    fn open(&self) -> State {
        State::open(self.dir.path(), self.config()).unwrap()
    }
}

#[tokio::test]
async fn what_is_stored_is_its_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new();
    std::fs::write(fixture.dir.path().join("sluice.db"), "").unwrap();
    let state = fixture.open();
    send(&state.queue("Convert").unwrap(), "x").await.unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(fixture.dir.path()).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("sluice.db") {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
            seen += 1;
        }
    }
    assert!(seen > 1, "the log too");
}

fn message(body: &str) -> Message {
    Message { body: body.to_owned(), events: 2, ..Message::default() }
}

async fn send(queue: &Arc<dyn Queue>, body: &str) -> Result<(), PortError> {
    queue.send(vec![message(body)]).await.pop().unwrap()
}

async fn receive(queue: &Arc<dyn Queue>) -> Vec<Delivery> {
    queue.receive(10, Duration::ZERO).await.unwrap()
}

async fn delete(queue: &Arc<dyn Queue>, delivery: &Delivery) {
    queue.settle(vec![(delivery.receipt.clone(), Settlement::Delete)]).await.pop().unwrap().unwrap();
}

fn put(sort: &str, condition: Condition) -> Vec<Write> {
    vec![Write::Put { key: Key::new("p", sort), value: json!({"x": "x".repeat(2_000)}), condition, expires_at: None }]
}

async fn pragma(state: &State, name: &'static str, value: i64) {
    let set = move |store: &mut Store| {
        Ok(store.conn.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(nothing)?)
    };
    state.shared.submit("test.pragma", set).await.unwrap();
}

/// Some pragmas answer no row.
fn nothing(error: rusqlite::Error) -> rusqlite::Result<()> {
    if matches!(error, rusqlite::Error::QueryReturnedNoRows) { Ok(()) } else { Err(error) }
}

async fn count(state: &State, sql: &'static str) -> i64 {
    state.shared.read("test.count", move |conn| Ok(conn.query_row(sql, [], |row| row.get(0))?)).await.unwrap()
}

/// Holds the writer in the middle of a transaction until the sender is used or dropped.
async fn hold(state: &State) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (started, running) = tokio::sync::oneshot::channel();
    let shared = state.shared.clone();
    tokio::spawn(async move {
        let wait = move |_: &mut Store| {
            let _ = started.send(());
            let _ = released.recv();
            Ok(())
        };
        let _ = shared.submit("test.hold", wait).await;
    });
    running.await.unwrap();
    release
}

/// Polls once, so that the operation is on its way to the writer.
async fn begin<F: Future + Unpin>(operation: &mut F) {
    std::future::poll_fn(|context| {
        assert!(std::pin::Pin::new(&mut *operation).poll(context).is_pending(), "the writer is held");
        Poll::Ready(())
    })
    .await;
}

async fn transactions(state: &State) -> u64 {
    state.shared.submit("test.transactions", |store| Ok(store.transactions)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_wait_share_one_transaction() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let topic = state.topic("Events").unwrap();
    let before = transactions(&state).await;
    let held = hold(&state).await;
    let mut publishes: Vec<_> = (0..100).map(|n| Box::pin(topic.publish(vec![message(&n.to_string())]))).collect();
    for publish in &mut publishes {
        begin(publish).await;
    }
    drop(held);
    for publish in publishes {
        publish.await.pop().unwrap().unwrap();
    }
    assert_eq!(transactions(&state).await - before, 3, "the one that held, one for all hundred, and the one that asks");
    assert_eq!(state.queue("Index").unwrap().depth().await.unwrap().visible, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_fails_leaves_its_neighbours_alone() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let table = state.table();
    let held = hold(&state).await;
    let add = Write::Add { key: Key::new("p", "sum"), deltas: vec![("n".into(), 1)], expires_at: None };
    let mut half = put("half", Condition::Any);
    half.extend(put("none", Condition::Version(1)));
    let mut writes = [
        Box::pin(table.write(put("a", Condition::Absent))),
        Box::pin(table.write(half)),
        Box::pin(table.write(vec![add])),
    ];
    for write in &mut writes {
        begin(write).await;
    }
    drop(held);
    let [first, second, third] = writes;
    first.await.unwrap();
    assert_eq!(second.await.unwrap_err().kind, ErrorKind::Conflict);
    third.await.unwrap();
    let keys = ["a", "half", "sum"].map(|sort| Key::new("p", sort));
    let found: Vec<bool> = table.get(&keys).await.unwrap().iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false, true]);
}

#[tokio::test]
async fn a_full_disk_refuses_and_harms_nothing() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let queue = state.queue("Convert").unwrap();
    send(&queue, "before").await.unwrap();
    let pages = count(&state, "PRAGMA page_count").await;
    pragma(&state, "max_page_count", pages + 2).await;
    let large = "x".repeat(200_000);
    for _ in 0..3 {
        assert_eq!(send(&queue, &large).await.unwrap_err().kind, ErrorKind::Full);
    }
    let results = queue.send(vec![message("fits"), message(&large)]).await;
    assert!(results.iter().all(Result::is_err), "what shares a call with it is not half done: {results:?}");
    let tallied = Message { tally: vec![Tally { counter: "c".into(), field: "n".into(), by: 1 }], ..message(&large) };
    let error = state.topic("Events").unwrap().publish(vec![tallied]).await.pop().unwrap().unwrap_err();
    assert!(error.is_transient(), "{error}");
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.bytes), (1, Some(6)), "nothing of what was refused counts");
    assert_eq!(state.table().get(&[Key::new("counter", "c")]).await.unwrap(), [None], "nor its tally");
    pragma(&state, "max_page_count", i64::from(u32::MAX - 1)).await;
    send(&queue, &large).await.unwrap();
    let bodies: Vec<usize> = receive(&queue).await.iter().map(|delivery| delivery.body.len()).collect();
    assert_eq!(bodies, [6, 200_000], "after someone made room it goes on");
}

#[tokio::test]
async fn a_folder_that_turned_read_only_refuses_and_recovers() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let queue = state.queue("Convert").unwrap();
    let write = |store: &mut Store| {
        messages::accept(store, &[0], &message("a moment earlier"))?;
        store.conn.pragma_update(None, "query_only", true)?;
        let refused = messages::accept(store, &[0], &message("a"));
        store.conn.pragma_update(None, "query_only", false)?;
        refused
    };
    assert_eq!(state.shared.submit("test.write", write).await.unwrap_err().kind, ErrorKind::Full);
    assert_eq!(queue.depth().await.unwrap(), Depth { events: Some(0), bytes: Some(0), ..Depth::default() });
    send(&queue, "b").await.unwrap();
    assert_eq!(receive(&queue).await.len(), 1);
}

#[tokio::test]
async fn a_backlog_slows_senders_down_until_it_shrinks() {
    let fixture = Fixture { max_backlog_bytes: 10, ..Fixture::new() };
    let state = fixture.open();
    let (topic, convert, index) =
        (state.topic("Events").unwrap(), state.queue("Convert").unwrap(), state.queue("Index").unwrap());
    send(&convert, "123456789").await.unwrap();
    topic.publish(vec![message("1")]).await.pop().unwrap().unwrap();
    let mut refused = topic.publish(vec![message("1")]).await;
    let error = refused.pop().unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Throttled, "one of two subscribed queues is full");
    assert!(error.retry_after.is_some() && error.detail.contains("`Convert`"), "{error}");
    assert_eq!(index.depth().await.unwrap().visible, 1, "the other one gets no copy of what was refused");
    send(&index, "1").await.unwrap();
    let state = {
        drop((topic, convert, index, state));
        fixture.open()
    };
    let convert = state.queue("Convert").unwrap();
    assert_eq!(send(&convert, "1").await.unwrap_err().kind, ErrorKind::Throttled, "a restart still knows");
    for delivery in receive(&convert).await {
        delete(&convert, &delivery).await;
    }
    send(&convert, "1").await.unwrap();
    let dead = state.queue("Dead").unwrap();
    for _ in 0..3 {
        send(&dead, "1234567890").await.unwrap();
    }
}

#[tokio::test]
async fn a_body_is_stored_once_and_goes_with_its_last_copy() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let (convert, index) = (state.queue("Convert").unwrap(), state.queue("Index").unwrap());
    state.topic("Events").unwrap().publish(vec![message("a")]).await.pop().unwrap().unwrap();
    assert_eq!(count(&state, "SELECT count(*) FROM body").await, 1);
    delete(&convert, &receive(&convert).await[0]).await;
    assert_eq!(count(&state, "SELECT count(*) FROM body").await, 1, "the other queue still needs it");
    delete(&index, &receive(&index).await[0]).await;
    for sql in ["SELECT count(*) FROM body", "SELECT count(*) FROM message", "SELECT count(*) FROM delivery"] {
        assert_eq!(count(&state, sql).await, 0, "{sql}");
    }
    state.topic("Nobody").unwrap().publish(vec![message("a")]).await.pop().unwrap().unwrap();
    assert_eq!(count(&state, "SELECT count(*) FROM body").await, 0, "what nobody subscribes to is not kept");
}

#[tokio::test]
async fn two_queues_can_share_a_dead_letter_queue() {
    let fixture = Fixture::new();
    let state = fixture.open();
    state.topic("Events").unwrap().publish(vec![message("a")]).await.pop().unwrap().unwrap();
    let (convert, index, dead) =
        (state.queue("Convert").unwrap(), state.queue("Index").unwrap(), state.queue("Dead").unwrap());
    for queue in [&convert, &index] {
        assert_eq!(receive(queue).await.len(), 1);
    }
    fixture.clock.advance(VISIBILITY);
    for queue in [&convert, &index] {
        assert_eq!(receive(queue).await, []);
    }
    let letters = receive(&dead).await;
    assert_eq!(letters.len(), 2);
    assert_ne!(letters[0].id, letters[1].id, "a consumer can tell them apart in its batch");
    for letter in &letters {
        let release = vec![(letter.receipt.clone(), Settlement::Release(Duration::ZERO))];
        dead.settle(release).await.pop().unwrap().unwrap();
    }
    assert_eq!(state.console().redrive("Dead", 10).await.unwrap(), 2);
    assert_eq!((receive(&convert).await.len(), receive(&index).await.len()), (1, 1), "each goes home");
    assert_eq!(count(&state, "SELECT count(*) FROM body").await, 2);
}

#[tokio::test]
async fn redriven_letters_begin_a_new_life() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let (convert, dead) = (state.queue("Convert").unwrap(), state.queue("Dead").unwrap());
    send(&convert, "old").await.unwrap();
    assert_eq!(receive(&convert).await.len(), 1);
    fixture.clock.advance(VISIBILITY);
    assert_eq!(receive(&convert).await, []);
    fixture.clock.advance(10 * DAY);
    state.sweep().await.unwrap();
    assert_eq!(dead.depth().await.unwrap().visible, 1, "a dead-letter queue keeps for longer");
    let letter = state.console().peek("Dead", 1).await.unwrap().pop().unwrap();
    assert_eq!(letter.receive_count, 1, "it is said how often it was tried");
    send(&dead, "sent here").await.unwrap();
    assert_eq!(state.console().redrive("Dead", 10).await.unwrap(), 1, "only what came from somewhere can go back");
    state.sweep().await.unwrap();
    let again = receive(&convert).await;
    assert_eq!(again.len(), 1, "it is not too old for its queue");
    assert_eq!(again[0].receive_count, 1, "and it is tried as often as a new one");
}

#[tokio::test]
async fn what_expired_is_swept_away() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let convert = state.queue("Convert").unwrap();
    convert.send(vec![message("old"); 450]).await.into_iter().for_each(Result::unwrap);
    let now_s = fixture.clock.now_ms() / 1_000;
    let expiring = |sort: &str, expires_at| Write::Put {
        key: Key::new("p", sort),
        value: json!({}),
        condition: Condition::Any,
        expires_at,
    };
    let writes =
        vec![expiring("soon", Some(now_s + 60)), expiring("later", Some(now_s + 400_000)), expiring("never", None)];
    state.table().write(writes).await.unwrap();
    state.sweep().await.unwrap();
    assert_eq!(count(&state, "SELECT count(*) FROM item").await, 3);
    fixture.clock.advance(4 * DAY);
    send(&convert, "young").await.unwrap();
    for _ in 0..3 {
        state.sweep().await.unwrap();
    }
    assert_eq!(count(&state, "SELECT count(*) FROM body").await, 1, "the young one stays");
    assert_eq!(convert.depth().await.unwrap().visible, 1);
    let keys = ["soon", "later", "never"].map(|sort| Key::new("p", sort));
    let found: Vec<bool> = state.table().get(&keys).await.unwrap().iter().map(Option::is_some).collect();
    assert_eq!(found, [false, true, true]);
}

#[tokio::test]
async fn a_restart_keeps_everything_and_frees_what_was_in_flight() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let index = state.queue("Index").unwrap();
    state.topic("Events").unwrap().publish(vec![message("a"), message("b")]).await.into_iter().for_each(Result::unwrap);
    state.table().write(put("a", Condition::Absent)).await.unwrap();
    let first = receive(&index).await;
    let later = vec![(first[1].receipt.clone(), Settlement::Release(VISIBILITY * 2))];
    index.settle(later).await.pop().unwrap().unwrap();
    drop((index, state));

    let state = fixture.open();
    assert_eq!(state.table().get(&[Key::new("p", "a")]).await.unwrap()[0].as_ref().unwrap().version, 1);
    let index = state.queue("Index").unwrap();
    let depth = index.depth().await.unwrap();
    assert_eq!(
        (depth.visible, depth.in_flight, depth.events),
        (1, 1, Some(4)),
        "what was given back for later stays back"
    );
    let dead = state.queue("Dead").unwrap();
    assert_eq!(receive(&index).await, [], "its receive before the restart counts");
    let letter = receive(&dead).await.pop().unwrap();
    assert_eq!((letter.id.as_str(), letter.body.as_str()), (first[0].id.as_str(), "a"));
    let stale = index.settle(vec![(first[0].receipt.clone(), Settlement::Delete)]).await.pop().unwrap();
    assert_eq!(stale.unwrap_err().kind, ErrorKind::NotFound, "receipts of the earlier life are void");
    assert_eq!(receive(&state.queue("Convert").unwrap()).await.len(), 2);
}

#[tokio::test]
async fn a_queue_that_left_the_configuration_keeps_its_messages() {
    let fixture = Fixture::new();
    let state = fixture.open();
    send(&state.queue("Index").unwrap(), "kept").await.unwrap();
    drop(state);
    let mut config = fixture.config();
    config.queues.remove(1);
    config.subscriptions.remove(1);
    let state = State::open(fixture.dir.path(), config).unwrap();
    assert_eq!(state.queue("Index").err().unwrap().kind, ErrorKind::NotFound);
    fixture.clock.advance(100 * DAY);
    state.sweep().await.unwrap();
    let listed: Vec<String> = state.console().list().await.unwrap().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(listed, ["Convert", "Dead", "Index"], "an operator sees that something lies there");
    assert_eq!(state.console().peek("Index", 1).await.unwrap()[0].body, "kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_went_away_takes_nothing_with_it() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let queue = state.queue("Dead").unwrap();
    send(&queue, "a").await.unwrap();

    let held = hold(&state).await;
    let mut receiving = Box::pin(queue.receive(10, Duration::ZERO));
    begin(&mut receiving).await;
    drop(receiving);
    drop(held);
    transactions(&state).await;
    assert_eq!(queue.depth().await.unwrap().visible, 1, "gone before its turn: nothing is delivered");

    // The receive is done and the transaction still open when the consumer goes.
    let first = hold(&state).await;
    let mut receiving = Box::pin(queue.receive(10, Duration::ZERO));
    begin(&mut receiving).await;
    let (started, running) = tokio::sync::oneshot::channel();
    let (release, released) = mpsc::channel::<()>();
    let wait = move |_: &mut Store| {
        let _ = started.send(());
        let _ = released.recv();
        Ok(())
    };
    let mut second = Box::pin(state.shared.submit("test.hold", wait));
    begin(&mut second).await;
    drop(first);
    running.await.unwrap();
    drop(receiving);
    drop(release);
    second.await.unwrap();
    transactions(&state).await;
    let delivery = receive(&queue).await.pop().unwrap();
    assert_eq!(delivery.receive_count, 1, "a delivery that nobody got does not count");
}

#[tokio::test]
async fn a_waiting_receiver_wakes_when_a_message_becomes_visible() {
    let fixture = Fixture::new();
    let config = StateConfig { clock: StateConfig::default().clock, ..fixture.config() };
    let state = State::open(fixture.dir.path(), config).unwrap();
    let queue = state.queue("Dead").unwrap();
    send(&queue, "a").await.unwrap();
    let delivery = receive(&queue).await.pop().unwrap();
    let release = vec![(delivery.receipt, Settlement::Release(Duration::from_millis(80)))];
    queue.settle(release).await.pop().unwrap().unwrap();
    let waiting = tokio::time::timeout(Duration::from_secs(20), queue.receive(1, Duration::from_secs(60)));
    assert_eq!(waiting.await.expect("it does not wait to the end").unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_finishes_what_was_asked_for() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let queue = state.queue("Dead").unwrap();
    let held = hold(&state).await;
    let mut sends: Vec<_> = (0..20).map(|n| Box::pin(queue.send(vec![message(&n.to_string())]))).collect();
    for sending in &mut sends {
        begin(sending).await;
    }
    let closing = tokio::task::spawn_blocking(move || drop(state));
    drop(held);
    closing.await.unwrap();
    for sending in sends {
        sending.await.pop().unwrap().unwrap();
    }
    assert_eq!(send(&queue, "late").await.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(queue.depth().await.unwrap_err().kind, ErrorKind::Unavailable);
    let log = fixture.dir.path().join("sluice.db-wal");
    assert!(!log.exists(), "a clean end leaves no log behind");
    assert_eq!(fixture.open().queue("Dead").unwrap().depth().await.unwrap().visible, 20);
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let fixture = Fixture::new();
    let refused = |change: fn(&mut StateConfig)| {
        let mut config = fixture.config();
        change(&mut config);
        let error = State::open(fixture.dir.path(), config).err().expect("it is refused");
        assert_eq!(error.kind, ErrorKind::Invalid);
        error.detail
    };
    assert!(refused(|config| config.queues[1].name = "Convert".into()).contains("`Convert`"));
    assert!(refused(|config| config.queues[0].name = String::new()).contains("not at all"));
    assert!(refused(|config| config.subscriptions[0].queue = "Typo".into()).contains("`Typo`"));
    let dead_letter =
        |queue: &str, max_receive_count| Some(DeadLetterConfig { queue: queue.into(), max_receive_count });
    let rules = [dead_letter("Typo", 1), dead_letter("Convert", 1), dead_letter("Dead", 0)];
    for rule in rules {
        let mut config = fixture.config();
        config.queues[0].dead_letter = rule;
        let error = State::open(fixture.dir.path(), config).err().expect("it is refused");
        assert_eq!(error.kind, ErrorKind::Invalid);
    }
}

#[test]
fn a_file_that_is_no_database_of_ours_is_told_apart() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("sluice.db");
    std::fs::write(&path, "this is no database, although it is long enough for the header of one ".repeat(20)).unwrap();
    assert_eq!(State::open(fixture.dir.path(), fixture.config()).err().unwrap().kind, ErrorKind::Corrupt);
    std::fs::remove_file(&path).unwrap();
    drop(fixture.open());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = State::open(fixture.dir.path(), fixture.config()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.detail.contains("99"), "{error}");
    let missing = State::open(fixture.dir.path().join("missing"), fixture.config());
    assert_eq!(missing.err().unwrap().kind, ErrorKind::Full);
}

#[tokio::test]
async fn a_receipt_of_another_queue_settles_nothing() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let (convert, index) = (state.queue("Convert").unwrap(), state.queue("Index").unwrap());
    state.topic("Events").unwrap().publish(vec![message("a")]).await.pop().unwrap().unwrap();
    let Receipt(receipt) = receive(&convert).await[0].receipt.clone();
    let outcome = index.settle(vec![(Receipt(receipt), Settlement::Delete)]).await.pop().unwrap();
    assert_eq!(outcome.unwrap_err().kind, ErrorKind::NotFound);
}
