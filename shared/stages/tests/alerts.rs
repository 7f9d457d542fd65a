//! From quotes to mail: `detect` decides, `notify` sends, over ports that fail, die and are used by several consumers at once.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use async_trait::async_trait;
use serde_json::{Value, json};
use sluice_domain::event::{Event, Shared};
use sluice_domain::json::parse_str;
use sluice_domain::message::{self, Entry};
use sluice_domain::schema::Registry;
use sluice_domain::time::{DAY_US, HOUR_US, SECOND_US, Timestamp};
use sluice_ports::{
    Condition, Email, ErrorKind, Item as Row, Key, Mail, Message, PortError, Query, Queue, Table, Topic, Write,
};
use sluice_stages::detect::{Detect, DetectPorts, DetectSettings};
use sluice_stages::item::{Item, Outcome};
use sluice_stages::notify::{LEASE_US, Notify, NotifyPorts, NotifySettings};
use sluice_stages::quarantine::Quarantined;
use sluice_stages::rules::Rules;
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::{MemoryHooks, MemoryMail, MemoryQueue, MemoryTable, MemoryTopic};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The power supply of a process: counts the port calls down, and from the last one on nothing works any more.
struct Power {
    calls: AtomicI64,
    last_call: LastCall,
    seed: AtomicU64,
}

/// What becomes of the call during which the process dies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum LastCall {
    Lost,
    Effective,
}

impl Power {
    fn new(calls: i64, last_call: LastCall, seed: u64) -> Arc<Self> {
        Arc::new(Self { calls: AtomicI64::new(calls), last_call, seed: AtomicU64::new(seed) })
    }

    async fn call<R>(&self, call: impl Future<Output = R>, dead: impl FnOnce() -> R) -> R {
        // Lets other consumers go first, differently for each seed.
        let seed = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        for _ in 0..(seed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 62) {
            tokio::task::yield_now().await;
        }
        match self.calls.fetch_sub(1, Ordering::SeqCst) {
            1 if self.last_call == LastCall::Effective => {
                call.await;
                dead()
            }
            ..=1 => dead(),
            _ => call.await,
        }
    }

    fn is_out(&self) -> bool {
        self.calls.load(Ordering::SeqCst) < 1
    }
}

struct Powered<T: ?Sized>(Arc<T>, Arc<Power>);

fn dead() -> PortError {
    PortError::new(ErrorKind::Timeout, "power", "the process is dead")
}

#[async_trait]
impl<T: Table + ?Sized> Table for Powered<T> {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, PortError> {
        self.1.call(self.0.get(keys), || Err(dead())).await
    }
    async fn write(&self, writes: Vec<Write>) -> Result<(), PortError> {
        self.1.call(self.0.write(writes), || Err(dead())).await
    }
    async fn query(&self, query: Query) -> Result<Vec<Row>, PortError> {
        self.1.call(self.0.query(query), || Err(dead())).await
    }
}

#[async_trait]
impl<T: Topic + ?Sized> Topic for Powered<T> {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        let count = messages.len();
        self.1.call(self.0.publish(messages), || (0..count).map(|_| Err(dead())).collect()).await
    }
}

#[async_trait]
impl<T: Mail + ?Sized> Mail for Powered<T> {
    async fn send(&self, email: Email) -> Result<(), PortError> {
        self.1.call(self.0.send(email), || Err(dead())).await
    }
}

#[async_trait]
impl<T: Queue + ?Sized> Queue for Powered<T> {
    async fn send(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        let count = messages.len();
        self.1.call(self.0.send(messages), || (0..count).map(|_| Err(dead())).collect()).await
    }
    async fn receive(&self, _: usize, _: std::time::Duration) -> Result<Vec<sluice_ports::Delivery>, PortError> {
        unreachable!("a stage does not receive")
    }
    async fn settle(&self, _: Vec<(sluice_ports::Receipt, sluice_ports::Settlement)>) -> Vec<Result<(), PortError>> {
        unreachable!("a stage does not settle")
    }
    async fn depth(&self) -> Result<sluice_ports::Depth, PortError> {
        unreachable!("a stage does not ask")
    }
}

/// What outlives a process.
struct World {
    rows: Arc<MemoryTable>,
    table: Arc<Faulty<MemoryTable>>,
    events: Arc<MemoryTopic>,
    topic: Arc<Faulty<MemoryTopic>>,
    quarantine: Arc<Faulty<MemoryQueue>>,
    mail: Arc<Faulty<MemoryMail>>,
}

const RULE: &str = r#"{"id":"five","kind":"fluctuation","user":"u","threshold_pct":5,"comparison":">=","channels":[{"kind":"email","to":"a@example.org"}]}"#;

impl World {
    fn new() -> Self {
        let rows = Arc::new(MemoryTable::new());
        let events = Arc::new(MemoryTopic::with_table(rows.clone()));
        Self {
            table: Arc::new(Faulty::over(rows.clone())),
            topic: Arc::new(Faulty::over(events.clone())),
            rows,
            events,
            quarantine: Arc::new(Faulty::new(MemoryQueue::new())),
            mail: Arc::new(Faulty::new(MemoryMail::new())),
        }
    }

    async fn with(rules: &[&str]) -> Self {
        let world = Self::new();
        for rule in rules {
            world.rules().create(rule, now()).await.unwrap();
        }
        world
    }

    fn rules(&self) -> Rules {
        Rules::new(self.table.clone())
    }

    fn detect(&self) -> Detect {
        self.detect_with(DetectSettings::default())
    }

    fn detect_with(&self, settings: DetectSettings) -> Detect {
        let ports =
            DetectPorts { table: self.table.clone(), topic: self.topic.clone(), quarantine: self.quarantine.clone() };
        Detect::new(ports, registry(), settings)
    }

    fn powered_detect(&self, power: &Arc<Power>) -> Detect {
        let ports = DetectPorts {
            table: Arc::new(Powered(self.table.clone(), power.clone())),
            topic: Arc::new(Powered(self.topic.clone(), power.clone())),
            quarantine: Arc::new(Powered(self.quarantine.clone(), power.clone())),
        };
        Detect::new(ports, registry(), DetectSettings::default())
    }

    fn notify(&self) -> Notify {
        let ports = NotifyPorts {
            mail: self.mail.clone(),
            hooks: Arc::new(MemoryHooks::new()),
            table: self.table.clone(),
            topic: self.topic.clone(),
            quarantine: self.quarantine.clone(),
        };
        Notify::new(ports, notify_settings())
    }

    fn powered_notify(&self, power: &Arc<Power>) -> Notify {
        let ports = NotifyPorts {
            mail: Arc::new(Powered(self.mail.clone(), power.clone())),
            hooks: Arc::new(MemoryHooks::new()),
            topic: self.topic.clone(),
            table: Arc::new(Powered(self.table.clone(), power.clone())),
            quarantine: Arc::new(Powered(self.quarantine.clone(), power.clone())),
        };
        Notify::new(ports, notify_settings())
    }

    /// What was published, as the alerts queue delivers it.
    fn alerts(&self) -> Vec<Item> {
        let item = |(n, message): (usize, Message)| {
            assert_eq!(message.attributes["areas"], ["alert"]);
            Item { id: format!("a{n}"), body: message.body, receive_count: 1 }
        };
        self.events.published().into_iter().enumerate().map(item).collect()
    }

    /// The texts of the alert events, each once.
    fn alert_events(&self) -> BTreeSet<String> {
        self.alerts().iter().map(|item| message::unpack(&item.body).unwrap().text().to_owned()).collect()
    }

    fn alert_rows(&self) -> Vec<Value> {
        self.partition("alert")
    }

    fn partition(&self, partition: &str) -> Vec<Value> {
        self.rows.items().into_iter().filter(|row| row.key.partition == partition).map(|row| row.value).collect()
    }

    /// A counter of a type in the hour of [`now`].
    fn counted(&self, event_type: &str, field: &str) -> u64 {
        let row = self.rows.value("counter", &format!("2026-11-21T10#{event_type}"));
        row.and_then(|row| row[field].as_u64()).unwrap_or(0)
    }

    fn quarantined(&self) -> Vec<Quarantined> {
        self.quarantine.inner().sent().iter().map(|m| Quarantined::parse(&m.body).unwrap()).collect()
    }

    fn mails(&self) -> Vec<Email> {
        self.mail.inner().sent()
    }
}

fn notify_settings() -> NotifySettings {
    NotifySettings { from: "sluice@example.org".into(), console_url: "https://console.example.org".into() }
}

fn registry() -> Arc<Registry> {
    let files = [
        ("event.json", include_str!("../../../schemas/event.json")),
        ("quote.trade.json", include_str!("../../../schemas/quote.trade.json")),
        ("alert.fired.json", include_str!("../../../schemas/alert.fired.json")),
    ];
    Arc::new(Registry::load(files).unwrap())
}

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
}

fn later(us: i64) -> Timestamp {
    now().plus_micros(us)
}

/// An event of any type about nothing.
fn other(id: &str) -> Entry {
    let mut text = String::new();
    Event::derived(id, "shop", "web.event", now(), now(), parse_str("{}").unwrap()).write(&mut text);
    Entry { event_type: "web.event".into(), text }
}

fn trade_of(symbol: &str, time: Timestamp, price: i64, change: i64) -> Entry {
    trade_data(
        &format!("{symbol}-{time}"),
        time,
        &json!({"symbol": symbol, "name": "삼성전자", "currency": "KRW", "price": price, "change": change}),
    )
}

fn trade_data(id: &str, time: Timestamp, data: &Value) -> Entry {
    let data = data.to_string();
    let mut text = String::new();
    let mut event = Event::derived(id, "kis", "quote.trade", time, now(), parse_str(&data).unwrap());
    event.subject = Some("005930".into());
    event.write(&mut text);
    Entry { event_type: "quote.trade".into(), text }
}

/// A rise of 10 %.
fn rise(time: Timestamp) -> Entry {
    trade_of("005930", time, 110, 10)
}

fn batch(batch: &str, entries: &[Entry]) -> Item {
    published(batch, batch, entries)
}

fn published(batch: &str, publish: &str, entries: &[Entry]) -> Item {
    let shared = Shared { received: now(), client_ip: None, user_agent: None };
    let packed = message::pack(batch, &shared, entries).unwrap().published_as(publish);
    Item { id: format!("m-{batch}-{publish}"), body: packed.body, receive_count: 1 }
}

fn all_done(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|o| *o == Outcome::Done)
}

async fn run_until_done(detect: &Detect, items: &[Item]) {
    for _ in 0..10 {
        if all_done(&detect.run(items, now()).await) {
            return;
        }
    }
    panic!("the messages are given back for ever");
}

// Deciding

#[tokio::test]
async fn a_change_beyond_the_threshold_becomes_one_event_and_one_mail() {
    let world = World::with(&[RULE]).await;
    let items = [batch("b1", &[rise(now()), trade_of("000660", now(), 104, 4), other("o")])];
    assert!(all_done(&world.detect().run(&items, now()).await));
    assert_eq!(world.alert_events().len(), 1);
    assert!(all_done(&world.notify().run(&world.alerts(), now()).await));
    let mails = world.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!((mails[0].to.as_str(), mails[0].from.as_str()), ("a@example.org", "sluice@example.org"));
    assert_eq!(mails[0].subject, "[Change alert] 19:00 - 삼성전자");
    assert!(mails[0].text.contains("+10.00 %") && mails[0].html.contains("https://console.example.org/rules/five"));
    assert_eq!((world.counted("quote.trade", "detect_stored"), world.counted("web.event", "detect_stored")), (2, 1));
    assert_eq!(world.counted("alert.fired", "accepted"), 1);
    assert!(world.quarantined().is_empty());
}

#[tokio::test]
async fn the_alert_event_fits_its_schema_and_names_no_recipient() {
    let world = World::with(&[RULE]).await;
    world.detect().run(&[batch("b1", &[rise(now())])], now()).await;
    let published = world.events.published();
    let unpacked = message::unpack(&published[0].body).unwrap();
    let events = unpacked.events().unwrap();
    let event = events[0].as_ref().unwrap();
    assert_eq!(event.check_data(&registry()), Ok(()));
    assert_eq!((event.source.as_ref(), event.subject.as_deref(), event.hops), ("sluice", Some("005930"), Some(1)));
    assert_eq!(published[0].events, 1);
    assert!(!published[0].body.contains('@'));
}

#[tokio::test]
async fn an_hour_has_one_alert_for_each_rule_symbol_and_direction() {
    let world = World::with(&[RULE, &RULE.replace("five", "six")]).await;
    let at = |minutes: i64| later(minutes * 60 * SECOND_US);
    let items = [
        batch("b1", &[rise(at(10)), rise(at(5)), trade_of("005930", at(20), 90, -10)]),
        batch("b2", &[rise(at(59)), trade_of("000660", at(1), 110, 10)]),
        batch("b3", &[rise(at(60))]),
    ];
    assert!(all_done(&world.detect().run(&items, now()).await));
    // Two rules; Samsung up and down and Hynix up in the first hour, Samsung up in the second.
    assert_eq!(world.alert_rows().len(), 2 * 4);
    assert_eq!(world.alert_events().len(), 2 * 4);
    let first = world.alert_events().iter().filter(|e| e.contains("T10:05:00")).count();
    assert_eq!(first, 2, "the first trade of a window is the one that is told");
}

#[tokio::test]
async fn halted_trades_and_trades_without_a_change_fire_nothing() {
    let world = World::with(&[RULE]).await;
    let items = [batch(
        "b1",
        &[
            trade_data("1", now(), &json!({"symbol": "a", "price": 110, "change": 10, "halted": true})),
            trade_data("2", now(), &json!({"symbol": "a", "price": 110, "change": null})),
            trade_data("3", now(), &json!({"symbol": "a", "price": 110})),
            trade_data("4", now(), &json!({"symbol": "a", "price": 10, "change": 10})),
        ],
    )];
    assert!(all_done(&world.detect().run(&items, now()).await));
    assert!(world.alert_rows().is_empty() && world.events.published().is_empty());
    assert_eq!(world.counted("quote.trade", "detect_stored"), 4);
}

#[tokio::test]
async fn a_daily_series_fires_once_for_each_qualifying_day() {
    let world = World::with(&[RULE]).await;
    let mut seed = 7u64;
    let (mut close, mut expected_days) = (100_000i64, BTreeSet::new());
    let mut items = Vec::new();
    let mut entries = Vec::new();
    for day in 0..400 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // −8 % to +8 % in steps of 0.01 %.
        let change = close * (i64::try_from(seed >> 33).unwrap() % 1_601 - 800) / 10_000;
        if change.abs() * 20 >= close {
            expected_days.insert(day);
        }
        entries.push(trade_of("^X", later((day - 500) * DAY_US), close + change, change));
        close = (close + change).clamp(50_000, 200_000);
        // What is clamped has another previous close, which the change is not against.
        if entries.len() == 100 {
            items.push(batch(&format!("b{day}"), &std::mem::take(&mut entries)));
        }
    }
    assert!(expected_days.len() > 80 && expected_days.len() < 300, "{}", expected_days.len());
    let detect = world.detect();
    assert!(all_done(&detect.run(&items, now()).await));
    assert!(all_done(&detect.run(&items, now()).await));
    assert_eq!(world.alert_events().len(), expected_days.len());
    assert!(all_done(&world.notify().run(&world.alerts(), now()).await));
    assert_eq!(world.mails().len(), expected_days.len());
    assert_eq!(world.counted("quote.trade", "detect_stored"), 400);
}

#[tokio::test]
async fn a_new_rule_takes_effect_at_once_and_a_deleted_one_no_longer() {
    let world = World::new();
    let detect = world.detect();
    detect.run(&[batch("b1", &[rise(now())])], now()).await;
    world.rules().create(RULE, now()).await.unwrap();
    detect.run(&[batch("b2", &[rise(later(HOUR_US))])], now()).await;
    world.rules().delete("five").await.unwrap();
    detect.run(&[batch("b3", &[rise(later(2 * HOUR_US))])], now()).await;
    assert_eq!(world.alert_events().len(), 1);
}

#[tokio::test]
async fn without_rules_a_hundred_messages_cost_two_calls_to_the_table() {
    let world = World::new();
    let detect = world.detect();
    detect.run(&[], now()).await;
    let calls = || ["table.get", "table.write", "table.query"].map(|o| world.table.calls(o));
    let before = calls();
    let items: Vec<Item> = (0..99).map(|i| batch(&format!("b{i}"), &[rise(now())])).collect();
    assert!(all_done(&detect.run(&items, now()).await));
    let made: Vec<usize> = calls().iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(made, [1, 1, 0]);
    assert_eq!(world.counted("quote.trade", "detect_stored"), 99);
    // More than a transaction takes go in several.
    let items: Vec<Item> = (0..250).map(|i| batch(&format!("c{i}"), &[rise(now()), other("o")])).collect();
    assert!(all_done(&detect.run(&items, now()).await));
    assert_eq!(
        (world.counted("quote.trade", "detect_stored"), world.counted("web.event", "detect_stored")),
        (349, 250)
    );
}

#[tokio::test]
async fn events_that_no_rule_looks_at_are_not_unpacked() {
    let world = World::with(&[RULE]).await;
    let broken = |entries: &[Entry]| {
        let mut item = batch(&format!("b{}", entries.len()), entries);
        item.body = item.body.replace("\"events\":[", "\"events\":[[],");
        item
    };
    assert!(all_done(&world.detect().run(&[broken(&[other("o")]), broken(&[other("o"), rise(now())])], now()).await));
    assert_eq!(world.counted("web.event", "detect_stored"), 2);
    assert_eq!(
        world.quarantined().len(),
        1,
        "only the message with a trade was unpacked, and its first event is no event"
    );
}

// Bad input

#[tokio::test]
async fn what_cannot_be_read_goes_to_quarantine_and_its_neighbours_are_evaluated() {
    let world = World::with(&[RULE]).await;
    let mut unreadable = batch("b2", &[rise(now())]);
    unreadable.body = unreadable.body.replace("\"events\":", "\"zstd\":\"!\",\"e\":");
    let newer = batch("b3", &[rise(now())]);
    let newer = Item { body: newer.body.replace("\"v\":1", "\"v\":9"), ..newer };
    let items = [
        batch(
            "b1",
            &[
                trade_data("1", now(), &json!({"symbol": "a", "price": "dear", "change": 1})),
                trade_data("2", now(), &json!({"symbol": "a", "price": 1, "change": 1, "halted": "no"})),
                trade_data("3", now(), &json!({"symbol": "a", "price": 110, "change": 10, "volume": "many"})),
                rise(now()),
            ],
        ),
        Item { id: "x".into(), body: "{".into(), receive_count: 1 },
        Item { id: "y".into(), body: batch("", &[other("o")]).body, receive_count: 1 },
        unreadable,
        newer,
    ];
    assert!(all_done(&world.detect().run(&items, now()).await));
    let mut kept: Vec<(String, String)> = world.quarantined().into_iter().map(|q| (q.code, q.pointer)).collect();
    kept.sort();
    let expected = [
        ("malformed_message", ""),
        ("malformed_message", ""),
        ("malformed_message", ""),
        ("schema", "/data/halted"),
        ("schema", "/data/price"),
        ("schema", "/data/volume"),
        ("unknown_encoding", ""),
    ];
    assert_eq!(kept, expected.map(|(code, pointer)| (code.to_owned(), pointer.to_owned())));
    assert_eq!(world.alert_rows().len(), 1);
    // Four trades of `b1`, one each of `b2` and `b3`.
    assert_eq!(
        (world.counted("quote.trade", "detect_stored"), world.counted("quote.trade", "detect_quarantined")),
        (1, 5)
    );
    assert!(all_done(&world.detect().run(&items, now()).await), "again is the same");
    assert_eq!(world.counted("quote.trade", "detect_quarantined"), 5);
}

#[tokio::test]
async fn a_message_of_an_unknown_version_goes_to_quarantine_although_no_rule_looks_at_it() {
    for rules in [[].as_slice(), &[RULE]] {
        let world = World::with(rules).await;
        let newer = batch("b1", &[other("o"), other("p")]);
        let newer = Item { body: newer.body.replace("\"v\":1", "\"v\":9"), ..newer };
        let items = [newer.clone(), batch("b2", &[other("o")])];
        assert!(all_done(&world.detect().run(&items, now()).await));
        let kept = world.quarantined();
        assert_eq!(kept.iter().map(|q| q.code.as_str()).collect::<Vec<_>>(), ["unknown_encoding"]);
        assert_eq!(kept[0].bytes, newer.body.as_bytes());
        let counted = |fate| world.counted("web.event", fate);
        assert_eq!((counted("detect_stored"), counted("detect_quarantined")), (1, 2));
    }
}

#[tokio::test]
async fn a_batch_that_would_fire_too_much_goes_to_quarantine() {
    let world = World::with(&[RULE, &RULE.replace("five", "six")]).await;
    let settings = DetectSettings { max_alerts_per_batch: 3, ..DetectSettings::default() };
    let trades = |n: i64| (0..n).map(|i| trade_of(&format!("s{i}"), now(), 110, 10)).collect::<Vec<_>>();
    let items = [batch("b1", &trades(2)), batch("b2", &[trade_of("x", now(), 110, 10)])];
    assert!(all_done(&world.detect_with(settings).run(&items, now()).await));
    assert_eq!(world.quarantined()[0].code, "too_many_alerts");
    assert_eq!(world.alert_rows().len(), 2);
    assert_eq!(
        (world.counted("quote.trade", "detect_stored"), world.counted("quote.trade", "detect_quarantined")),
        (1, 2)
    );
}

#[tokio::test]
async fn an_alert_beyond_the_hops_goes_to_quarantine() {
    let world = World::with(&[RULE]).await;
    let hops = |n: i64| {
        let entry = rise(later(n * HOUR_US));
        Entry { text: entry.text.replace(",\"data\":", &format!(",\"hops\":{n},\"data\":")), ..entry }
    };
    assert!(all_done(&world.detect().run(&[batch("b1", &[hops(2), hops(3)])], now()).await));
    let kept = world.quarantined();
    assert_eq!((kept.len(), kept[0].code.as_str()), (1, "too_many_hops"));
    assert!(String::from_utf8_lossy(&kept[0].bytes).contains("\"hops\":4"));
    assert_eq!(world.alert_events().len(), 1);
    assert!(world.alert_events().iter().all(|e| e.contains("\"hops\":3")));
}

#[tokio::test]
async fn more_alerts_than_a_row_takes_are_all_told() {
    let domain = vec!["x".repeat(60); 3].join(".");
    let channels: Vec<String> = (0..10).map(|i| format!(r#"{{"kind":"email","to":"a{i}@{domain}"}}"#)).collect();
    let rule = RULE.replace(r#"{"kind":"email","to":"a@example.org"}"#, &channels.join(","));
    let world = World::with(&[&rule]).await;
    let trades: Vec<Entry> = (0..130).map(|i| trade_of(&format!("s{i}"), now(), 110, 10)).collect();
    let detect = world.detect();
    assert!(all_done(&detect.run(&[batch("b1", &trades)], now()).await));
    assert_eq!((world.alert_rows().len(), world.alert_events().len()), (130, 130));
    assert!(world.partition("plan").len() > 1, "the plan has a further row");
    assert!(world.partition("plan-open").is_empty());
}

// Repetition

#[tokio::test]
async fn a_repeated_request_counts_as_duplicate_and_tells_nothing_again() {
    let world = World::with(&[RULE]).await;
    let detect = world.detect();
    let entries = [rise(now()), other("o")];
    detect.run(&[published("b1", "p1", &entries), published("b1", "p2", &entries)], now()).await;
    for publish in ["p1", "p2", "p3", "p3"] {
        assert!(all_done(&detect.run(&[published("b1", publish, &entries)], now()).await));
    }
    assert_eq!(
        (world.counted("quote.trade", "detect_stored"), world.counted("quote.trade", "detect_duplicates")),
        (1, 2)
    );
    assert_eq!(world.events.published().len(), 1);
    let plain = World::new();
    let detect = plain.detect();
    for publish in ["p1", "p2", "p1", "p2"] {
        assert!(all_done(&detect.run(&[published("b1", publish, &entries)], now()).await));
    }
    assert_eq!((plain.counted("web.event", "detect_stored"), plain.counted("web.event", "detect_duplicates")), (1, 1));
}

#[tokio::test]
async fn a_plan_is_kept_although_the_rules_change_before_it_is_carried_out() {
    let world = World::with(&[RULE]).await;
    world.topic.script("topic.publish", [Fault::Before(ErrorKind::Unavailable)]);
    let items = [batch("b1", &[rise(now())])];
    assert!(!all_done(&world.detect().run(&items, now()).await));
    world.rules().delete("five").await.unwrap();
    assert!(all_done(&world.detect().run(&items, now()).await));
    assert_eq!(world.alert_events().len(), 1);
    assert_eq!(world.counted("quote.trade", "detect_stored"), 1);
}

#[tokio::test]
async fn the_tick_goes_on_with_plans_that_were_left_open() {
    let world = World::with(&[RULE]).await;
    world.topic.script("topic.publish", [Fault::Before(ErrorKind::Unavailable), Fault::Before(ErrorKind::Unavailable)]);
    assert!(!all_done(&world.detect().run(&[batch("b1", &[rise(now())])], now()).await));
    let detect = world.detect();
    detect.tick(later(59 * SECOND_US)).await.unwrap();
    assert_eq!(world.topic.calls("topic.publish"), 1, "a young plan is left to its consumer");
    let error = detect.tick(later(61 * SECOND_US)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    detect.tick(later(121 * SECOND_US)).await.unwrap();
    assert_eq!(world.alert_events().len(), 1);
    assert!(world.partition("plan-open").is_empty());
    assert_eq!(world.counted("quote.trade", "detect_stored"), 1);
    detect.tick(later(HOUR_US)).await.unwrap();
    assert_eq!(world.events.published().len(), 1);
}

// Faults of single calls

#[tokio::test]
async fn each_kind_of_fault_is_retried_until_all_is_told_and_counted_once() {
    for operation in ["table.get", "table.write", "topic.publish", "queue.send"] {
        for fault in [Fault::Before(ErrorKind::Throttled), Fault::Before(ErrorKind::Timeout), Fault::After] {
            for call in 0..6 {
                let world = World::with(&[RULE]).await;
                let faults = std::iter::repeat_n(Fault::Pass, call).chain([fault.clone()]);
                match operation {
                    "topic.publish" => world.topic.script(operation, faults),
                    "queue.send" => world.quarantine.script(operation, faults),
                    _ => world.table.script(operation, faults),
                }
                let bad = trade_data("1", now(), &json!({"symbol": "a", "price": "dear"}));
                let items = [batch("b1", &[rise(now()), bad]), batch("b2", &[other("o")]), batch("b3", &[other("o")])];
                let detect = world.detect();
                run_until_done(&detect, &items).await;
                let what = format!("{operation} {fault:?} at call {call}");
                assert_eq!(world.alert_rows().len(), 1, "{what}");
                assert_eq!(world.alert_events().len(), 1, "{what}");
                let counts =
                    |t: &str| ["stored", "quarantined", "duplicates"].map(|f| world.counted(t, &format!("detect_{f}")));
                assert_eq!((counts("quote.trade"), counts("web.event")), ([1, 1, 0], [2, 0, 0]), "{what}");
                assert!(world.quarantined().iter().all(|q| q.id == world.quarantined()[0].id), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_fault_of_one_message_leaves_the_others_done() {
    let world = World::with(&[RULE]).await;
    world.quarantine.always("queue.send", Fault::Before(ErrorKind::Unavailable));
    let bad = trade_data("1", now(), &json!({"symbol": "a", "price": "dear"}));
    let items = [
        batch("b1", &[bad]),
        batch("b2", &[rise(now())]),
        Item { id: "x".into(), body: "?".into(), receive_count: 1 },
        batch("b3", &[other("o")]),
    ];
    let outcomes = world.detect().run(&items, now()).await;
    let done: Vec<bool> = outcomes.iter().map(|o| *o == Outcome::Done).collect();
    assert_eq!(done, [false, true, false, true]);
    assert_eq!(world.alert_events().len(), 1);
    world.table.always("table.get", Fault::Before(ErrorKind::Unavailable));
    let outcomes = world.detect().run(&[batch("b4", &[other("o")])], now()).await;
    assert!(matches!(&outcomes[0], Outcome::Retry(reason) if reason.contains("injected")), "{outcomes:?}");
}

// Death and overlap

#[tokio::test]
async fn death_at_any_port_call_of_detect_decides_once_and_publishes_at_least_once() {
    let items = [
        batch("b1", &[rise(now()), trade_of("005930", now(), 90, -10)]),
        batch("b2", &[rise(later(60 * SECOND_US)), trade_of("000660", now(), 110, 10)]),
        batch("b3", &[other("o")]),
    ];
    for last_call in [LastCall::Lost, LastCall::Effective] {
        for calls in 1.. {
            assert!(calls < 200, "the stage never ends");
            let world = World::with(&[RULE]).await;
            let power = Power::new(calls, last_call, 0);
            let outcomes = world.powered_detect(&power).run(&items, now()).await;
            let survived = !power.is_out();
            let again: Vec<Item> =
                items.iter().zip(&outcomes).filter(|(_, o)| **o != Outcome::Done).map(|(i, _)| i.clone()).collect();
            // A dead process acknowledges nothing. Both ways must do: the messages come again, or they never do and the clock ticks.
            let by_tick = world.partition("plan-open").len();
            world.detect().tick(later(2 * 60 * SECOND_US)).await.unwrap();
            assert!(world.partition("plan-open").is_empty(), "{by_tick} plans were open");
            run_until_done(&world.detect(), if survived { &again } else { &items }).await;
            let what = format!("{last_call:?} at call {calls}");
            assert_eq!(world.alert_rows().len(), 3, "{what}");
            assert_eq!(world.alert_events().len(), 3, "{what}: the same event however often it is published");
            assert_eq!(world.counted("quote.trade", "detect_stored"), 4, "{what}");
            assert_eq!(world.counted("web.event", "detect_stored"), 1, "{what}");
            assert_eq!(world.counted("alert.fired", "accepted") as usize, world.events.published().len(), "{what}");
            if survived {
                assert!(calls > 10);
                break;
            }
        }
    }
}

#[tokio::test]
async fn consumers_at_the_same_time_decide_once() {
    for seed in 0..200 {
        let world = World::with(&[RULE]).await;
        let same = batch("b1", &[rise(now()), other("o")]);
        let repeated = published("b1", "again", &[rise(now()), other("o")]);
        let rival = batch("b2", &[rise(later(SECOND_US)), other("p")]);
        let deliveries = [vec![same.clone(), rival.clone()], vec![rival, same], vec![repeated]];
        let runs = deliveries.iter().enumerate().map(|(n, items)| {
            let detect = world.powered_detect(&Power::new(i64::MAX, LastCall::Lost, seed * 31 + n as u64));
            async move { run_until_done(&detect, items).await }
        });
        futures::future::join_all(runs).await;
        assert_eq!(world.alert_rows().len(), 1, "seed {seed}");
        assert_eq!(world.alert_events().len(), 1, "seed {seed}");
        let counts = |t: &str| ["stored", "duplicates"].map(|f| world.counted(t, &format!("detect_{f}")));
        assert_eq!((counts("quote.trade"), counts("web.event")), ([2, 1], [2, 1]), "seed {seed}");
        assert!(world.partition("plan-open").is_empty(), "seed {seed}");
        assert!(all_done(&world.notify().run(&world.alerts(), now()).await));
        assert_eq!(world.mails().len(), 1, "seed {seed}");
    }
}

// Telling

/// A world in which an alert with two channels was decided, and the alert as the queue delivers it.
async fn decided() -> (World, Vec<Item>) {
    let rule = RULE.replace(r#""channels":["#, r#""channels":[{"kind":"email","to":"first@example.org"},"#);
    let world = World::with(&[&rule]).await;
    assert!(all_done(&world.detect().run(&[batch("b1", &[rise(now())])], now()).await));
    let alerts = world.alerts();
    (world, alerts)
}

#[tokio::test]
async fn an_alert_is_sent_once_to_each_channel_however_often_it_comes() {
    let (world, alerts) = decided().await;
    let twice = [alerts[0].clone(), alerts[0].clone()];
    let notify = world.powered_notify(&Power::new(i64::MAX, LastCall::Lost, 0));
    assert!(all_done(&notify.run(&twice, now()).await), "copies in one delivery do not wait for each other");
    assert!(all_done(&notify.run(&twice, later(HOUR_US)).await));
    let mails = world.mails();
    assert_eq!(mails.iter().map(|m| m.to.as_str()).collect::<Vec<_>>(), ["first@example.org", "a@example.org"]);
    let id = world.alert_rows()[0]["alert"]["id"].as_str().unwrap().to_owned();
    assert_eq!(mails[0].message_id, format!("{id}.0@example.org"));
    assert_eq!(mails[1].message_id, format!("{id}.1@example.org"));
}

#[tokio::test]
async fn a_channel_that_is_down_is_tried_again_without_sending_the_other_twice() {
    let (world, alerts) = decided().await;
    world.mail.script("mail.send", [Fault::Before(ErrorKind::Unavailable), Fault::Pass]);
    let outcomes = world.notify().run(&alerts, now()).await;
    assert!(matches!(outcomes[0], Outcome::Retry(_)));
    assert_eq!(world.mails().len(), 1);
    assert!(
        all_done(&world.notify().run(&alerts, later(SECOND_US)).await),
        "it need not wait for the claim to run out"
    );
    assert_eq!(world.mails().iter().map(|m| m.to.as_str()).collect::<Vec<_>>(), ["a@example.org", "first@example.org"]);
    assert!(world.quarantined().is_empty());
}

#[tokio::test]
async fn a_mail_that_can_never_be_sent_is_recorded_and_the_other_goes_out() {
    let (world, alerts) = decided().await;
    world.mail.script("mail.send", [Fault::Before(ErrorKind::Invalid)]);
    assert!(all_done(&world.notify().run(&alerts, now()).await));
    assert!(all_done(&world.notify().run(&alerts, later(HOUR_US)).await));
    assert_eq!(world.mails().iter().map(|m| m.to.as_str()).collect::<Vec<_>>(), ["a@example.org"]);
    let states: Vec<Value> = world.partition("delivery").into_iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states, ["failed", "sent"]);
    let kept = world.quarantined();
    assert_eq!((kept.len(), kept[0].code.as_str()), (1, "undeliverable"));
    assert!(!String::from_utf8_lossy(&kept[0].bytes).contains('@'));
}

#[tokio::test]
async fn a_mail_that_cannot_be_put_aside_is_tried_again() {
    let (world, alerts) = decided().await;
    world.mail.script("mail.send", [Fault::Before(ErrorKind::Invalid), Fault::Pass, Fault::Before(ErrorKind::Invalid)]);
    world.quarantine.script("queue.send", [Fault::Before(ErrorKind::Unavailable)]);
    assert!(!all_done(&world.notify().run(&alerts, now()).await));
    assert!(all_done(&world.notify().run(&alerts, now()).await));
    assert_eq!((world.mails().len(), world.quarantined().len()), (1, 1));
}

#[tokio::test]
async fn unknown_alerts_and_unreadable_messages_go_to_quarantine_and_others_are_left_alone() {
    let (world, alerts) = decided().await;
    let event = |id: &str, event_type: &str| {
        let mut text = String::new();
        Event::derived(id, "sluice", event_type, now(), now(), parse_str("{}").unwrap()).write(&mut text);
        Entry { event_type: event_type.into(), text }
    };
    let corrupt = Write::Put {
        key: Key::new("alert", "corrupt"),
        value: json!({"cause": "b", "alert": {}}),
        condition: Condition::Absent,
        expires_at: None,
    };
    world.rows.write(vec![corrupt]).await.unwrap();
    let mut half = batch("c3", &[event("never ended", "alert.resolved")]);
    half.body = half.body.replace("\"events\":[", "\"events\":[{},");
    let items = [
        batch("c1", &[event("never", "alert.fired"), event("over", "alert.muted"), event("corrupt", "alert.fired")]),
        Item { id: "x".into(), body: "?".into(), receive_count: 1 },
        half,
        alerts[0].clone(),
    ];
    assert!(all_done(&world.notify().run(&items, now()).await));
    let mut codes: Vec<String> = world.quarantined().into_iter().map(|q| q.code).collect();
    codes.sort();
    assert_eq!(codes, ["malformed_message", "malformed_message", "unknown_alert", "unknown_alert", "unreadable_alert"]);
    assert_eq!(world.mails().len(), 2);
}

#[tokio::test]
async fn a_rule_without_channels_is_told_to_nobody() {
    let world =
        World::with(&[r#"{"id":"r","kind":"fluctuation","user":"u","threshold_pct":5,"comparison":">="}"#]).await;
    world.detect().run(&[batch("b1", &[rise(now())])], now()).await;
    assert_eq!(world.alert_events().len(), 1);
    assert!(all_done(&world.notify().run(&world.alerts(), now()).await));
    assert!(world.mails().is_empty() && world.quarantined().is_empty());
}

#[tokio::test]
async fn death_at_any_port_call_of_notify_sends_at_least_once_under_the_same_message_id() {
    for last_call in [LastCall::Lost, LastCall::Effective] {
        for calls in 1.. {
            assert!(calls < 100, "the stage never ends");
            let (world, alerts) = decided().await;
            let power = Power::new(calls, last_call, 0);
            let outcomes = world.powered_notify(&power).run(&alerts, now()).await;
            let what = format!("{last_call:?} at call {calls}");
            if !power.is_out() {
                assert!(all_done(&outcomes));
                assert_eq!(world.mails().len(), 2);
                assert!(calls > 6);
                break;
            }
            assert!(all_done(&world.notify().run(&alerts, later(LEASE_US + SECOND_US)).await), "{what}");
            let ids: BTreeSet<(String, String)> = world.mails().into_iter().map(|m| (m.to, m.message_id)).collect();
            assert_eq!(ids.len(), 2, "{what}");
            assert!(world.mails().len() <= 4, "{what}");
            let states: Vec<Value> = world.partition("delivery").into_iter().map(|row| row["state"].clone()).collect();
            assert_eq!(states, ["sent", "sent"], "{what}");
        }
    }
}

#[tokio::test]
async fn consumers_at_the_same_time_send_once() {
    for seed in 0..200 {
        let (world, alerts) = decided().await;
        let runs = (0..3).map(|n| {
            let notify = world.powered_notify(&Power::new(i64::MAX, LastCall::Lost, seed * 31 + n));
            let alerts = &alerts;
            async move { notify.run(alerts, now()).await }
        });
        let outcomes = futures::future::join_all(runs).await;
        assert!(all_done(&world.notify().run(&alerts, now()).await), "whoever gave it back finds it sent");
        assert_eq!(outcomes.len(), 3);
        assert_eq!(world.mails().len(), 2, "seed {seed}");
    }
}

#[tokio::test]
async fn a_claim_that_timed_out_and_took_effect_is_the_own_one() {
    let (world, alerts) = decided().await;
    world.table.script("table.write", [Fault::After]);
    assert!(all_done(&world.notify().run(&alerts, now()).await));
    assert_eq!(world.mails().len(), 2);
}

#[tokio::test]
async fn claims_of_a_dead_consumer_are_taken_over_by_one() {
    for seed in 0..100 {
        let (world, alerts) = decided().await;
        world.mail.always("mail.send", Fault::Before(ErrorKind::Unavailable));
        // Dies after the claims, before it can release them.
        let power = Power::new(5, LastCall::Effective, 0);
        assert!(!all_done(&world.powered_notify(&power).run(&alerts, now()).await));
        world.mail.always("mail.send", Fault::Pass);
        assert!(!all_done(&world.notify().run(&alerts, later(LEASE_US - SECOND_US)).await), "the claims still hold");
        let runs = (0..3).map(|n| {
            let notify = world.powered_notify(&Power::new(i64::MAX, LastCall::Lost, seed * 31 + n));
            let alerts = &alerts;
            async move { notify.run(alerts, later(LEASE_US + SECOND_US)).await }
        });
        futures::future::join_all(runs).await;
        assert_eq!(world.mails().len(), 2, "seed {seed}");
    }
}

#[tokio::test]
async fn each_kind_of_fault_of_notify_is_retried_until_all_is_sent() {
    for operation in ["table.get", "table.write", "mail.send"] {
        for fault in [Fault::Before(ErrorKind::Throttled), Fault::Before(ErrorKind::Timeout), Fault::After] {
            for call in 0..4 {
                let (world, alerts) = decided().await;
                let faults = std::iter::repeat_n(Fault::Pass, call).chain([fault.clone()]);
                match operation {
                    "mail.send" => world.mail.script(operation, faults),
                    _ => world.table.script(operation, faults),
                }
                let mut at = now();
                for _ in 0..5 {
                    if all_done(&world.notify().run(&alerts, at).await) {
                        break;
                    }
                    at = at.plus_micros(LEASE_US + SECOND_US);
                }
                let what = format!("{operation} {fault:?} at call {call}");
                let ids: BTreeSet<(String, String)> = world.mails().into_iter().map(|m| (m.to, m.message_id)).collect();
                assert_eq!(ids.len(), 2, "{what}");
                let repeats = usize::from(operation == "mail.send" && fault == Fault::After && call < 2);
                assert_eq!(world.mails().len(), 2 + repeats, "{what}: twice only where the send itself timed out");
            }
        }
    }
}
