//! From a queue that is behind to two mails: `watch` looks, `incidents` decides, `notify` tells, over ports that fail and with several at once.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use async_trait::async_trait;
use serde_json::{Value, json};
use sluice_domain::alert::{Incident, IncidentKind, IncidentState, Recipient};
use sluice_domain::message;
use sluice_domain::time::{SECOND_US, Timestamp};
use sluice_ports::{
    Condition, Delivery, Depth, ErrorKind, Item as Row, Key, Message, PortError, Query, QueueConsole, Table, Write,
};
use sluice_stages::channels::{Channel, Channels};
use sluice_stages::incidents::{Incidents, Sighting};
use sluice_stages::item::{Item, Outcome};
use sluice_stages::notify::{Notify, NotifyPorts, NotifySettings};
use sluice_stages::watch::{Machine, Watch, WatchPorts, WatchSettings};
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::{MemoryHooks, MemoryMail, MemoryQueue, MemoryTable, MemoryTopic};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_795_255_200_000_000 + seconds * SECOND_US).unwrap()
}

/// The queues and the machine, as a test says that they are.
#[derive(Default)]
struct Sights {
    queues: Mutex<BTreeMap<String, Depth>>,
    free_bytes: Mutex<Option<u64>>,
    failed_calls: Mutex<BTreeMap<String, u64>>,
    is_blind: Mutex<bool>,
}

#[async_trait]
impl QueueConsole for Sights {
    async fn list(&self) -> Result<Vec<(String, Depth, Option<String>)>, PortError> {
        if *self.is_blind.lock().unwrap() {
            return Err(PortError::new(ErrorKind::Unavailable, "console.list", "as asked"));
        }
        Ok(self.queues.lock().unwrap().iter().map(|(name, depth)| (name.clone(), *depth, None)).collect())
    }
    async fn peek(&self, _: &str, _: usize) -> Result<Vec<Delivery>, PortError> {
        unreachable!("a watch does not read messages")
    }
    async fn redrive(&self, _: &str, _: u64) -> Result<u64, PortError> {
        unreachable!("a watch changes nothing")
    }
}

impl Machine for Sights {
    fn free_bytes(&self) -> Option<u64> {
        *self.free_bytes.lock().unwrap()
    }
    fn failed_calls(&self) -> BTreeMap<String, u64> {
        self.failed_calls.lock().unwrap().clone()
    }
}

struct World {
    table: Arc<Faulty<MemoryTable>>,
    topic: Arc<Faulty<MemoryTopic>>,
    events: Arc<MemoryTopic>,
    mail: Arc<Faulty<MemoryMail>>,
    hooks: Arc<Faulty<MemoryHooks>>,
    quarantine: Arc<MemoryQueue>,
    sights: Arc<Sights>,
    told: Mutex<usize>,
}

impl World {
    /// With one admin, who is told.
    async fn new() -> Self {
        let rows = Arc::new(MemoryTable::new());
        let member = json!({
            "id": "m_1", "email": "kim@example.org", "name": "Kim", "role": "admin", "created_at": "2026-11-20T00:00:00Z",
            "generation": 1,
        });
        let put = |sort: &str, value: Value| Write::Put {
            key: Key::new("member", sort),
            value,
            condition: Condition::Any,
            expires_at: None,
        };
        let mut viewer = member.clone();
        (viewer["role"], viewer["email"]) = ("viewer".into(), "v@example.org".into());
        rows.write(vec![put("m_1", member), put("m_2", viewer)]).await.unwrap();
        let events = Arc::new(MemoryTopic::with_table(rows.clone()));
        Self {
            table: Arc::new(Faulty::over(rows)),
            topic: Arc::new(Faulty::over(events.clone())),
            events,
            mail: Arc::new(Faulty::new(MemoryMail::new())),
            hooks: Arc::new(Faulty::new(MemoryHooks::new())),
            quarantine: Arc::new(MemoryQueue::new()),
            sights: Arc::default(),
            told: Mutex::default(),
        }
    }

    fn incidents(&self) -> Incidents {
        Incidents::new(self.table.clone(), self.topic.clone())
    }

    fn turns(&self) -> Incidents {
        Incidents::new(Arc::new(Turns(self.table.clone())), self.topic.clone())
    }

    fn watch(&self) -> Watch {
        self.watch_over(self.incidents())
    }

    fn watch_over(&self, incidents: Incidents) -> Watch {
        let ports = WatchPorts {
            queues: self.sights.clone(),
            table: self.table.clone(),
            machine: self.sights.clone(),
            incidents,
        };
        let settings = WatchSettings {
            consumed: BTreeSet::from(["IndexQueue".to_owned(), "ConvertQueue".to_owned()]),
            max_lag: Duration::from_secs(30),
            min_free_bytes: 1_000,
        };
        Watch::new(ports, settings)
    }

    fn lag(&self, queue: &str, seconds: u64) {
        let depth = Depth { visible: 1, oldest_ms: Some(seconds * 1_000), ..Depth::default() };
        self.sights.queues.lock().unwrap().insert(queue.to_owned(), depth);
    }

    fn notify(&self) -> Notify {
        let ports = NotifyPorts {
            mail: self.mail.clone(),
            hooks: self.hooks.clone(),
            table: self.table.clone(),
            topic: self.topic.clone(),
            quarantine: self.quarantine.clone(),
        };
        Notify::new(ports, NotifySettings { from: "sluice@example.org".into(), console_url: String::new() })
    }

    /// What was published since the last call, as the alerts queue delivers it.
    fn published(&self) -> Vec<Item> {
        let item = |(n, message): (usize, Message)| {
            assert_eq!(message.attributes["areas"], ["alert"]);
            Item { id: format!("a{n}"), body: message.body, receive_count: 1 }
        };
        self.events.take().into_iter().enumerate().map(item).collect()
    }

    /// Takes messages; whether all are done.
    async fn take(&self, items: &[Item]) -> bool {
        self.notify().run(items, at(0)).await.iter().all(|outcome| *outcome == Outcome::Done)
    }

    /// Subjects of the mails since the last call.
    fn mails(&self) -> Vec<String> {
        let sent = self.mail.inner().sent();
        let mut told = self.told.lock().unwrap();
        let new = sent[*told..].iter().map(|mail| format!("{} to {}", mail.subject, mail.to)).collect();
        *told = sent.len();
        new
    }
}

const FIRED: &str = "[Sluice] Firing: lag of IndexQueue to kim@example.org";
const OVER: &str = "[Sluice] Resolved: lag of IndexQueue to kim@example.org";

fn seen(state: IncidentState) -> Sighting {
    Sighting {
        kind: IncidentKind::Lag,
        subject: "IndexQueue".into(),
        state,
        message: "it is behind".into(),
        value: Some(42.0),
        threshold: Some(30.0),
        order: None,
    }
}

use IncidentState::{Firing, Resolved};

#[tokio::test]
async fn a_queue_that_is_behind_is_told_once_and_so_is_its_end() {
    let world = World::new().await;
    let watch = world.watch();
    world.lag("ConvertQueue", 30);
    for (look, waits) in [29, 31, 36, 41, 900, 0, 0, 0, 0, 0, 0, 0, 0].into_iter().enumerate() {
        world.lag("IndexQueue", waits);
        watch.look(at(look as i64 * 5)).await.unwrap();
        let items = world.published();
        assert!(world.take(&items).await && world.take(&items).await);
        let expected: &[&str] = match look {
            2 => &[FIRED],
            10 => &[OVER],
            _ => &[],
        };
        assert_eq!(world.mails(), expected, "look {look}");
    }
    let mail = &world.mail.inner().sent()[0];
    assert!(mail.text.contains("the oldest of 1 messages in IndexQueue waits for 36 s"), "{}", mail.text);
    // Later it is another incident.
    world.lag("IndexQueue", 31);
    watch.look(at(100)).await.unwrap();
    watch.look(at(105)).await.unwrap();
    let items = world.published();
    assert!(world.take(&items).await);
    assert_eq!(world.mails(), [FIRED]);
}

#[tokio::test]
async fn what_comes_and_goes_quickly_is_one_incident() {
    let world = World::new().await;
    let watch = world.watch();
    for look in 0..100 {
        world.lag("IndexQueue", if look % 4 == 3 { 0 } else { 60 });
        watch.look(at(look * 5)).await.unwrap();
    }
    let items = world.published();
    assert!(world.take(&items).await);
    assert_eq!(world.mails(), [FIRED]);
    // And what is behind for a single look only is none.
    let world = World::new().await;
    let watch = world.watch();
    for look in 0..100 {
        world.lag("IndexQueue", if look % 2 == 1 { 0 } else { 60 });
        watch.look(at(look * 5)).await.unwrap();
    }
    assert!(world.published().is_empty());
}

/// A table at which whoever comes at the same time takes turns.
struct Turns(Arc<Faulty<MemoryTable>>);

#[async_trait]
impl Table for Turns {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, PortError> {
        tokio::task::yield_now().await;
        self.0.get(keys).await
    }
    async fn write(&self, writes: Vec<Write>) -> Result<(), PortError> {
        tokio::task::yield_now().await;
        self.0.write(writes).await
    }
    async fn query(&self, query: Query) -> Result<Vec<Row>, PortError> {
        tokio::task::yield_now().await;
        self.0.query(query).await
    }
}

#[tokio::test]
async fn two_watches_tell_it_once() {
    let world = World::new().await;
    let (one, two) = (world.watch_over(world.turns()), world.watch_over(world.turns()));
    for (look, waits) in [60, 60, 60, 0, 0, 0, 0, 0, 0, 0].into_iter().enumerate() {
        world.lag("IndexQueue", waits);
        let now = at(look as i64 * 5);
        let (a, b) = tokio::join!(one.look(now), two.look(now));
        a.and(b).unwrap();
    }
    let rows = world.table.query(Query::prefix("incident", "", 9)).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    let items = world.published();
    world.take(&items).await;
    assert!(world.take(&items).await);
    assert_eq!(world.mails(), [FIRED, OVER]);
}

#[tokio::test]
async fn a_reply_that_is_lost_changes_nothing() {
    for lost in 0..4 {
        for operation in ["table.write", "topic.publish"] {
            let world = World::new().await;
            let incidents = world.incidents();
            let script = (0..lost).map(|_| Fault::Pass).chain([Fault::After]);
            world.topic.script("topic.publish", if operation == "topic.publish" { vec![Fault::After] } else { vec![] });
            if operation == "table.write" {
                world.table.script(operation, script);
            }
            for state in [Firing, Firing, Resolved, Resolved] {
                let _ = incidents.see(&seen(state), at(0)).await;
                incidents.open().await.unwrap();
            }
            let items = world.published();
            world.take(&items).await;
            assert!(world.take(&items).await);
            assert_eq!(world.mails(), [FIRED, OVER], "{operation} {lost}");
        }
    }
}

#[tokio::test]
async fn what_was_decided_and_not_published_is_published_by_whoever_looks_next() {
    let world = World::new().await;
    world.topic.script("topic.publish", [Fault::Before(ErrorKind::Unavailable)]);
    assert!(world.incidents().see(&seen(Firing), at(0)).await.is_err());
    assert!(world.published().is_empty());
    let open = world.incidents().open().await.unwrap();
    assert_eq!(open, [(IncidentKind::Lag, "IndexQueue".to_owned())]);
    let items = world.published();
    assert!(world.take(&items).await);
    world.incidents().open().await.unwrap();
    assert!(world.published().is_empty());
    assert_eq!(world.mails(), [FIRED]);
}

#[tokio::test]
async fn the_end_is_told_after_the_beginning() {
    let world = World::new().await;
    let incidents = world.incidents();
    incidents.see(&seen(Firing), at(0)).await.unwrap().unwrap();
    let fired = world.published();
    incidents.see(&seen(Resolved), at(90)).await.unwrap().unwrap();
    let over = world.published();
    assert!(!world.take(&over).await, "it waits");
    assert!(world.mails().is_empty());
    world.mail.script("mail.send", [Fault::Before(ErrorKind::Unavailable)]);
    assert!(!world.take(&fired).await);
    assert!(!world.take(&over).await, "and waits on");
    assert!(world.take(&fired).await && world.take(&over).await);
    assert_eq!(world.mails(), [FIRED, OVER]);
}

#[tokio::test]
async fn an_older_sighting_turns_nothing_back() {
    let world = World::new().await;
    let incidents = world.incidents();
    let ordered = |state, order: &str| Sighting { order: Some(order.into()), ..seen(state) };
    let mut decided = Vec::new();
    for (state, order) in
        [(Firing, "2"), (Resolved, "1"), (Firing, "2"), (Resolved, "4"), (Firing, "3"), (Resolved, "4"), (Firing, "5")]
    {
        let incident = incidents.see(&ordered(state, order), at(0)).await.unwrap();
        decided.extend(incident.map(|incident| (incident.state, order)));
    }
    assert_eq!(decided, [(Firing, "2"), (Resolved, "4"), (Firing, "5")]);
}

#[tokio::test]
async fn dead_letters_room_failed_calls_and_the_ledger_are_watched() {
    let world = World::new().await;
    let watch = world.watch();
    let mut look = 0;
    let mut open = async || {
        for _ in 0..14 {
            look += 1;
            watch.look(at(look * 5)).await.unwrap();
        }
        let open = world.incidents().open().await.unwrap();
        open.into_iter().map(|(kind, subject)| format!("{} {subject}", kind.name())).collect::<Vec<_>>()
    };
    *world.sights.free_bytes.lock().unwrap() = Some(1_000);
    world.sights.failed_calls.lock().unwrap().insert("convert".into(), 0);
    world.lag("IndexQueue", 1);
    assert_eq!(open().await, [""; 0]);
    *world.sights.free_bytes.lock().unwrap() = Some(999);
    world.sights.failed_calls.lock().unwrap().insert("convert".into(), 2);
    world.lag("IndexDeadLetterQueue", 1);
    let problems = |n: u64| {
        let (key, value) = (Key::new("audit", "last"), json!({"problems": n}));
        vec![Write::Put { key, value, condition: Condition::Any, expires_at: None }]
    };
    world.table.write(problems(2)).await.unwrap();
    assert_eq!(open().await, ["dead_letters IndexDeadLetterQueue", "disk data", "ledger ledger"]);
    world.sights.failed_calls.lock().unwrap().insert("convert".into(), 5);
    world.sights.queues.lock().unwrap().clear();
    *world.sights.free_bytes.lock().unwrap() = None;
    world.table.write(problems(0)).await.unwrap();
    watch.look(at(1_000)).await.unwrap();
    assert_eq!(world.incidents().open().await.unwrap().len(), 3);
    // What cannot be seen for the moment is as it was; a queue that is there no more is well.
    assert_eq!(open().await, ["disk data"], "and the function does not fail any more");
}

#[tokio::test]
async fn a_part_that_cannot_be_looked_at_does_not_hide_the_others() {
    let world = World::new().await;
    let watch = world.watch();
    *world.sights.is_blind.lock().unwrap() = true;
    *world.sights.free_bytes.lock().unwrap() = Some(1);
    assert!(watch.look(at(0)).await.is_err() && watch.look(at(5)).await.is_err());
    assert_eq!(world.incidents().open().await.unwrap(), [(IncidentKind::Disk, "data".to_owned())]);
}

#[tokio::test]
async fn an_event_that_nobody_decided_is_told_to_nobody() {
    let world = World::new().await;
    let incident = Incident {
        id: Incident::id_of(IncidentKind::Lag, "IndexQueue", 1),
        kind: IncidentKind::Lag,
        subject: "IndexQueue".into(),
        state: Firing,
        fired_at: at(0),
        resolved_at: None,
        message: "made up".into(),
        value: None,
        threshold: None,
        told: vec![Recipient::Address("victim@example.org".into())],
    };
    let entry = message::Entry { event_type: "alert.fired".into(), text: incident.event_text() };
    let shared = sluice_domain::event::Shared { received: at(0), ..Default::default() };
    let body = message::pack("b", &shared, &[entry]).unwrap().body;
    assert!(world.take(&[Item { id: "1".into(), body, receive_count: 1 }]).await);
    assert!(world.mails().is_empty());
    assert!(world.quarantine.sent()[0].body.contains("unknown_alert"));
}

async fn channel(world: &World, text: &str) -> Channel {
    let channels = Channels {
        table: world.table.clone(),
        mail: world.mail.clone(),
        hooks: world.hooks.clone(),
        from: "sluice@example.org".into(),
    };
    channels.create(serde_json::from_str(text).unwrap(), at(0)).await.unwrap()
}

#[tokio::test]
async fn a_channel_that_is_down_holds_back_no_other_and_is_told_later() {
    let world = World::new().await;
    channel(&world, r#"{"kind":"webhook","name":"Pager","operator":true,"url":"https://hooks.example.org/x"}"#).await;
    channel(&world, r#"{"kind":"email","name":"On call","operator":true,"to":["a@example.org","b@example.org"]}"#)
        .await;
    channel(&world, r#"{"kind":"email","name":"Others","to":["c@example.org"]}"#).await;
    let incidents = world.incidents();
    incidents.see(&seen(Firing), at(0)).await.unwrap();
    let fired = world.published();
    world.hooks.always("hook.post", Fault::Before(ErrorKind::Unavailable));
    assert!(!world.take(&fired).await && !world.take(&fired).await);
    let to = |address: &str| FIRED.replace("kim@example.org", address);
    assert_eq!(world.mails(), [to("a@example.org"), to("b@example.org")], "and not the admins, nor each try");
    // While the address is down the others hear of the end too, and it hears of both, in order.
    incidents.see(&seen(Resolved), at(60)).await.unwrap();
    let over = world.published();
    assert!(!world.take(&over).await);
    assert_eq!(world.mails().len(), 2);
    world.hooks.always("hook.post", Fault::Pass);
    assert!(
        !world.take(&over).await && world.take(&fired).await && world.take(&over).await && world.take(&fired).await
    );
    let posts: Vec<Value> =
        world.hooks.inner().take().iter().map(|call| serde_json::from_str(&call.body).unwrap()).collect();
    let told: Vec<&Value> = posts.iter().map(|post| &post["type"]).collect();
    assert_eq!(told, ["alert.fired", "alert.resolved"]);
    assert_eq!(
        (&posts[0]["state"], &posts[0]["subject"], &posts[0]["value"], &posts[0]["incident"]),
        (&json!("firing"), &json!("IndexQueue"), &json!(42.0), &posts[1]["incident"])
    );
    assert!(world.mails().is_empty() && world.quarantine.sent().is_empty());
}

#[tokio::test]
async fn a_channel_that_is_removed_meanwhile_is_not_told() {
    let world = World::new().await;
    let made = channel(&world, r#"{"kind":"email","name":"On call","operator":true,"to":["a@example.org"]}"#).await;
    world.incidents().see(&seen(Firing), at(0)).await.unwrap();
    let delete = Write::Delete { key: Key::new("channel", &made.id), condition: Condition::Any };
    world.table.write(vec![delete]).await.unwrap();
    let items = world.published();
    assert!(world.take(&items).await);
    assert!(world.mails().is_empty());
}

/// A message of CloudWatch, as SNS hands it on raw.
fn alarm(state: &str, second: u32) -> Item {
    let body = json!({
        "AlarmName": "sluice-prod-ConvertErrorsAlarm-1ABC", "AlarmDescription": "ConvertFunction failed or ran out of time.",
        "AWSAccountId": "000000000000", "NewStateValue": state, "OldStateValue": "OK",
        "NewStateReason": "Threshold Crossed: 1 datapoint [3.0] was greater than the threshold (0.0).",
        "StateChangeTime": format!("2026-11-21T10:00:{second:02}.000+0000"), "Region": "US East (N. Virginia)",
        "Trigger": {"MetricName": "Errors", "Namespace": "AWS/Lambda", "Threshold": 0.0},
    });
    Item { id: format!("{state}{second}"), body: body.to_string(), receive_count: 1 }
}

#[tokio::test]
async fn an_alarm_of_cloudwatch_is_an_incident_however_often_and_in_which_order_it_comes() {
    let world = World::new().await;
    assert!(world.take(&[alarm("OK", 0), alarm("ALARM", 1), alarm("ALARM", 1), alarm("INSUFFICIENT_DATA", 2)]).await);
    let fired = world.published();
    assert!(world.take(&fired).await);
    assert!(world.take(&[alarm("OK", 5), alarm("ALARM", 4), alarm("ALARM", 1), alarm("OK", 5)]).await);
    let over = world.published();
    assert!(world.take(&over).await && world.take(&fired).await);
    let subject = "of sluice-prod-ConvertErrorsAlarm-1ABC to kim@example.org";
    assert_eq!(
        world.mails(),
        [format!("[Sluice] Firing: alarm {subject}"), format!("[Sluice] Resolved: alarm {subject}")]
    );
    let mail = &world.mail.inner().sent()[0];
    assert!(mail.text.contains("ConvertFunction failed") && mail.text.contains("Threshold Crossed"), "{}", mail.text);
    assert!(world.quarantine.sent().is_empty());
}

#[tokio::test]
async fn an_alarm_that_cannot_be_decided_comes_again_and_one_that_cannot_be_read_is_kept() {
    let world = World::new().await;
    world.table.script("table.write", [Fault::Before(ErrorKind::Throttled)]);
    assert!(!world.take(&[alarm("ALARM", 1)]).await);
    world.topic.script("topic.publish", [Fault::Before(ErrorKind::Unavailable)]);
    assert!(!world.take(&[alarm("ALARM", 1)]).await, "it was decided and not published");
    assert!(world.take(&[alarm("ALARM", 1)]).await);
    let items = world.published();
    assert!(world.take(&items).await);
    assert_eq!(world.mails().len(), 1);
    let mut bad = alarm("ALARM", 2);
    bad.body = bad.body.replace("2026-11-21T10:00:02.000+0000", "now");
    assert!(world.take(&[bad]).await);
    assert!(world.quarantine.sent()[0].body.contains("malformed_alarm"));
}
