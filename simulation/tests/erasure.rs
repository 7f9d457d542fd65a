//! What `erase` takes away and what it leaves, wherever it is killed.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use sluice_domain::lake::{EncodeError, Erased, Rewrite, Rewriter};
use sluice_domain::schema::{Registry, Schema};
use sluice_domain::time::{DAY_US, HOUR_US, Timestamp};
use sluice_ports::{
    Append, Catalog, Document, ErrorKind, Key, Objects, Outbox, PortError, PutMode, Replace, Search, SentMail, Table,
    TableFile,
};
use sluice_simulation::lines::Lines;
use sluice_stages::compact::{Asked, Compact, CompactPorts, CompactSettings, ERASED};
use sluice_stages::erase::{Counts, Erase, ErasePorts, Erasures, Receipt, State, WATCHED_US};
use sluice_stages::groups::{Contents, Groups, RecordedFile};
use sluice_stages::quarantine::Quarantined;
use sluice_stages::rules::Rules;
use sluice_testkit::fault::{Fault, Faulty};
use sluice_testkit::memory::{MemoryCatalog, MemoryObjects, MemorySearch, MemoryTable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TABLE: &str = "web_event";
const SCHEMA: &str = r#"{"type":"object","x-type":"web.event","x-partition":"hour","properties":{}}"#;
const USER: &str = "kim@example.org";
/// The erasure's.
const ID: &str = "first";

/// Mails by id: address and text.
#[derive(Default)]
struct Mails(Mutex<BTreeMap<String, (String, String)>>);

#[async_trait]
impl Outbox for Mails {
    async fn list(&self, _: usize) -> Result<Vec<SentMail>, PortError> {
        let at = received().to_string();
        let mail = |(id, (to, _)): (&String, &(String, String))| SentMail {
            id: id.clone(),
            to: to.clone(),
            subject: "It rose".into(),
            at: at.clone(),
        };
        Ok(self.0.lock().unwrap().iter().map(mail).collect())
    }

    async fn get(&self, id: &str) -> Result<Option<(SentMail, String, String)>, PortError> {
        let mails = self.list(9).await?.into_iter().find(|mail| mail.id == id);
        let text = self.0.lock().unwrap().get(id).map(|(_, text)| text.clone()).unwrap_or_default();
        Ok(mails.map(|mail| (mail, text, String::new())))
    }

    async fn remove(&self, id: &str) -> Result<(), PortError> {
        self.0.lock().unwrap().remove(id);
        Ok(())
    }
}

struct World {
    table: Arc<Faulty<MemoryTable>>,
    catalog: Arc<Faulty<MemoryCatalog>>,
    objects: Arc<Faulty<MemoryObjects>>,
    search: Arc<Faulty<MemorySearch>>,
    mails: Arc<Mails>,
    registry: Arc<Registry>,
}

/// When everything was received.
fn received() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
}

fn asked() -> Timestamp {
    received().plus_micros(HOUR_US)
}

impl World {
    /// Three files, of which two tell of the user, one of a state that is gone; documents, a record, mails and a rule.
    async fn new() -> Self {
        let files = [("event.json", include_str!("../../schemas/event.json")), ("web.json", SCHEMA)];
        let world = Self {
            table: Arc::new(Faulty::new(MemoryTable::new())),
            catalog: Arc::new(Faulty::new(MemoryCatalog::new())),
            objects: Arc::new(Faulty::new(MemoryObjects::new())),
            search: Arc::new(Faulty::new(MemorySearch::new())),
            mails: Arc::default(),
            registry: Arc::new(Registry::load(files).unwrap()),
        };
        world.objects.inner().set_clock((received().micros() - HOUR_US) / 1_000);
        world.catalog.create(TABLE).await.unwrap();
        let before = world.add("before", &[("1", USER), ("2", "lee")], received()).await;
        let merged = world.file("merged", &[("1", USER), ("2", "lee")], received()).await;
        let token = world.token().await;
        let (removed, added) = (vec![before], vec![merged]);
        let replace = Replace { table: TABLE.into(), token, removed, added, properties: BTreeMap::new() };
        world.catalog.replace(replace).await.unwrap();
        world.add("mine", &[("3", USER), ("4", USER), ("5", "cho")], received()).await;
        world.add("others", &[("6", "lee"), ("7", "cho")], received()).await;
        for (id, user) in [("1", USER), ("2", "lee"), ("3", USER), ("4", USER)] {
            world.document(id, user, received()).await;
        }
        for (n, user) in [(1, USER), (2, "lee")] {
            let bytes = format!(r#"{{"id":"{n}","userid":"{user}","type":7}}"#);
            world.record(n, &bytes).await;
        }
        for (id, to, text) in [
            ("a", "alerts@example.org", "It rose."),
            ("b", "lee@example.org", "It rose."),
            ("c", "ops@example.org", "kim@example.org has written 9,000 events."),
        ] {
            world.mails.0.lock().unwrap().insert(id.into(), (to.into(), text.into()));
        }
        let rules = Rules::new(world.table.clone());
        for (id, user, to) in [("mine", USER, "alerts@example.org"), ("theirs", "lee", "lee@example.org")] {
            let rule = json!({"id": id, "kind": "fluctuation", "user": user, "threshold_pct": 5, "comparison": ">=",
                "channels": [{"kind": "email", "to": to}]});
            rules.create(&rule.to_string(), received()).await.unwrap();
        }
        world
    }

    fn erase(&self, budget: Duration) -> Erase {
        self.erase_by(budget, Arc::new(Lines))
    }

    fn erase_by(&self, budget: Duration, rewriter: Arc<dyn Rewriter>) -> Erase {
        let ports = CompactPorts {
            table: self.table.clone(),
            catalog: self.catalog.clone(),
            objects: self.objects.clone(),
            rewriter,
        };
        let compact = Compact::new(ports, self.registry.clone(), CompactSettings::default());
        let ports = ErasePorts {
            table: self.table.clone(),
            objects: self.objects.clone(),
            search: Some(self.search.clone()),
            outbox: Some(self.mails.clone()),
        };
        Erase::new(ports, Arc::new(compact), budget)
    }

    async fn run(&self, now: Timestamp) -> Result<bool, PortError> {
        self.erase(Duration::from_secs(600)).run(now).await
    }

    fn erasures(&self) -> Erasures {
        Erasures::new(self.table.clone())
    }

    async fn receipt(&self) -> Receipt {
        self.erasures().find(ID).await.unwrap().unwrap()
    }

    async fn token(&self) -> String {
        self.catalog.inner().load(TABLE).await.unwrap().unwrap().token
    }

    async fn file(&self, name: &str, rows: &[(&str, &str)], received: Timestamp) -> TableFile {
        let (at, time) = (received.micros(), self::received().micros());
        let lines: Vec<String> = rows.iter().map(|(id, user)| format!("{id}\t{id}\t{user}\t{at}\t{time}")).collect();
        let key = format!("lake/{TABLE}/data/{name}.parquet");
        let bytes = Bytes::from(lines.join("\n"));
        let size_bytes = bytes.len() as u64;
        self.objects.inner().put(&key, bytes, PutMode::IfAbsent).await.unwrap();
        TableFile { key, rows: rows.len() as u64, size_bytes, time_us: (time, time) }
    }

    async fn add(&self, name: &str, rows: &[(&str, &str)], received: Timestamp) -> String {
        let file = self.file(name, rows, received).await;
        let (key, token) = (file.key.clone(), self.token().await);
        let append = Append { table: TABLE.into(), token, files: vec![file], property: ("n".into(), name.into()) };
        self.catalog.inner().append(append).await.unwrap();
        key
    }

    async fn document(&self, id: &str, user: &str, received: Timestamp) {
        let source = json!({"id": id, "source": "s", "type": "web.event", "userid": user,
            "receivedtime": received.to_micros_text()});
        let document = Document { index: "sluice-web_event-2026.11".into(), id: id.into(), source: source.to_string() };
        self.search.inner().create(vec![document]).await.unwrap();
    }

    async fn record(&self, n: u8, bytes: &str) {
        let cause: &[&[u8]] = &[&[n]];
        let mut record = Quarantined::new("ingest", cause, "schema", "why", received(), bytes.into());
        record.client_ip = Some("192.0.2.7".into());
        let (key, bytes) = record.object();
        self.objects.inner().put(&key, bytes, PutMode::Overwrite).await.unwrap();
    }

    /// Names of all rows, sorted.
    fn rows(&self) -> Vec<String> {
        let files = self.catalog.inner().live(TABLE);
        let texts = files.iter().map(|file| self.text(&file.key));
        let name = |line: &str| line.split('\t').next().unwrap().to_owned();
        let mut rows: Vec<String> = texts.flat_map(|text| text.lines().map(name).collect::<Vec<_>>()).collect();
        rows.sort();
        rows
    }

    fn text(&self, key: &str) -> String {
        String::from_utf8(self.objects.inner().bytes(key).unwrap().into()).unwrap()
    }

    fn documents(&self) -> Vec<String> {
        self.search.inner().documents().into_iter().map(|(_, id, _)| id).collect()
    }

    /// Everything that is kept, but the erasure itself.
    async fn check(&self, what: &str) {
        for key in self.objects.inner().keys().iter().filter(|key| key.starts_with("lake/")) {
            assert!(!self.text(key).contains(USER), "{what}: `{key}` tells of the user");
        }
        assert_eq!(self.rows(), ["2", "5", "6", "7"], "{what}");
        assert_eq!(self.documents(), ["2"], "{what}");
        let records = self.objects.inner().keys().into_iter().filter(|key| key.starts_with("quarantine/"));
        let records: Vec<Quarantined> = records.map(|key| Quarantined::parse(&self.text(&key)).unwrap()).collect();
        let bytes: BTreeSet<&str> = records.iter().map(|record| std::str::from_utf8(&record.bytes).unwrap()).collect();
        let left = [r#"{"id":"1","type":7}"#, r#"{"id":"2","userid":"lee","type":7}"#];
        assert_eq!(bytes, BTreeSet::from(left), "{what}");
        assert_eq!(records.iter().filter(|record| record.client_ip.is_none()).count(), 1, "{what}");
        assert_eq!(self.mails.0.lock().unwrap().keys().collect::<Vec<_>>(), ["b"], "{what}");
        let rules = Rules::new(self.table.clone()).list().await.unwrap();
        assert_eq!(rules.iter().map(|stored| stored.rule.id.as_str()).collect::<Vec<_>>(), ["theirs"], "{what}");
        let head = self.catalog.inner().load(TABLE).await.unwrap().unwrap();
        assert_eq!(head.properties.get(ERASED).map(String::as_str), Some("3"), "{what}");
        let counter = self.table.inner().value("counter", "2026-11-21T10#web.event").unwrap();
        let removed = counter["search_removed"].as_i64().unwrap();
        assert!(removed >= 3, "{what}: {removed} documents are counted");
    }
}

#[tokio::test]
async fn what_tells_of_the_user_goes_and_the_rest_stays() {
    let world = World::new().await;
    let receipt = world.erasures().ask(ID, USER, asked()).await.unwrap();
    assert_eq!((receipt.state, receipt.erased), (State::Waiting, Counts::default()));
    assert!(world.run(asked()).await.unwrap());
    world.check("at once").await;
    let receipt = world.receipt().await;
    let erased = Counts { rows: 3, files: 3, documents: 3, records: 1, mails: 2, rules: 1 };
    assert_eq!((receipt.state, receipt.erased), (State::Erased, erased));
    assert!(!json!(receipt).to_string().contains(USER), "{receipt:?}");
    let puts = world.objects.calls("objects.put");
    assert!(world.run(asked().plus_micros(HOUR_US)).await.unwrap());
    assert_eq!((world.objects.calls("objects.put"), world.receipt().await), (puts, receipt), "nothing is left to do");
}

#[tokio::test]
async fn a_kill_at_any_call_loses_nothing_and_leaves_nothing() {
    let mut disturbed = 0;
    for operation in [
        "catalog.files",
        "catalog.forget",
        "catalog.load",
        "catalog.needed",
        "catalog.replace",
        "objects.delete",
        "objects.get",
        "objects.list",
        "objects.put",
        "search.remove",
        "search.search",
        "table.get",
        "table.query",
        "table.write",
    ] {
        for fault in [Fault::Before(ErrorKind::Unavailable), Fault::After] {
            for n in 0.. {
                let world = World::new().await;
                world.erasures().ask(ID, USER, asked()).await.unwrap();
                let faults = [vec![Fault::Pass; n], vec![fault.clone(); 1]].concat();
                let calls = |world: &World| {
                    let [table, catalog] = [world.table.calls(operation), world.catalog.calls(operation)];
                    table + catalog + world.objects.calls(operation) + world.search.calls(operation)
                };
                let before = calls(&world);
                match operation.split('.').next().unwrap() {
                    "catalog" => world.catalog.script(operation, faults),
                    "objects" => world.objects.script(operation, faults),
                    "search" => world.search.script(operation, faults),
                    _ => world.table.script(operation, faults),
                }
                let _ = world.run(asked()).await;
                if calls(&world) - before <= n {
                    break;
                }
                disturbed += 1;
                let mut tries = 0;
                while world.receipt().await.state == State::Waiting {
                    let _ = world.run(asked().plus_micros(HOUR_US)).await;
                    tries += 1;
                    assert!(tries < 4, "{operation} {n} {fault:?}");
                }
                // A note may be left where it is not known whether the table has changed; the look of the next day clears it.
                world.run(asked().plus_micros(2 * DAY_US)).await.unwrap();
                world.check(&format!("{operation} {n} {fault:?}")).await;
            }
        }
    }
    assert!(disturbed > 100, "{disturbed} calls were disturbed");
}

#[tokio::test]
async fn what_was_on_its_way_goes_when_it_comes_and_what_was_received_later_stays() {
    let world = World::new().await;
    world.erasures().ask(ID, USER, asked()).await.unwrap();
    world.run(asked()).await.unwrap();
    world.objects.inner().set_clock((asked().micros() + HOUR_US) / 1_000);
    world.add("late", &[("8", USER)], received()).await;
    world.add("new", &[("9", USER)], asked().plus_micros(1)).await;
    world.document("8", USER, received()).await;
    world.document("9", USER, asked().plus_micros(1_000)).await;
    world.run(asked().plus_micros(DAY_US - 1)).await.unwrap();
    assert_eq!(world.rows(), ["2", "5", "6", "7", "8", "9"], "it is not looked at all the time");
    world.run(asked().plus_micros(DAY_US)).await.unwrap();
    assert_eq!(
        (world.rows(), world.documents()),
        (["2", "5", "6", "7", "9"].map(str::to_owned).to_vec(), ["2", "9"].map(str::to_owned).to_vec())
    );
    assert_eq!((world.receipt().await.erased.rows, world.receipt().await.state), (4, State::Erased));
    world.run(asked().plus_micros(WATCHED_US)).await.unwrap();
    assert_eq!(world.receipt().await.state, State::Closed);
    let row = world.table.inner().get(&[Key::new("erasure", ID)]).await.unwrap().pop().flatten().unwrap();
    assert!(!row.value.to_string().contains("kim") && !row.value.to_string().contains("alerts@"), "{}", row.value);
    world.add("more", &[("a", USER)], received()).await;
    world.run(asked().plus_micros(2 * WATCHED_US)).await.unwrap();
    assert!(world.rows().contains(&"a".to_owned()), "nothing is looked for any more");
    world.erasures().ask("again", USER, asked().plus_micros(2 * WATCHED_US)).await.unwrap();
    world.run(asked().plus_micros(2 * WATCHED_US)).await.unwrap();
    assert_eq!(world.rows(), ["2", "5", "6", "7"], "asked again, what came later is meant too");
}

#[tokio::test]
async fn a_look_that_has_no_time_goes_on_where_it_was() {
    let world = World::new().await;
    for n in 0..150 {
        world.add(&format!("more-{n:03}"), &[(&format!("m{n:03}"), USER)], received()).await;
    }
    world.erasures().ask(ID, USER, asked()).await.unwrap();
    let mut runs = 0;
    // Without any time a run does one step, so that it goes on.
    while !world.erase(Duration::ZERO).run(asked()).await.unwrap() {
        runs += 1;
        assert!(runs < 50, "{:?}", world.receipt().await);
    }
    world.rows().iter().for_each(|row| assert!(!row.starts_with('m'), "{row}"));
    assert_eq!(world.receipt().await.erased.rows, 153);
}

#[tokio::test]
async fn compaction_goes_on_beside_it() {
    let world = World::new().await;
    world.erasures().ask(ID, USER, asked()).await.unwrap();
    let ports = CompactPorts {
        table: world.table.clone(),
        catalog: world.catalog.clone(),
        objects: world.objects.clone(),
        rewriter: Arc::new(Lines),
    };
    let compact = Compact::new(ports, world.registry.clone(), CompactSettings::default());
    let now = asked().plus_micros(3 * HOUR_US);
    let erase = world.erase(Duration::from_secs(600));
    let (erased, compacted) = futures::join!(erase.run(now), compact.run(Asked::default(), now));
    erased.unwrap();
    compacted.unwrap();
    world.run(now.plus_micros(DAY_US)).await.unwrap();
    world.check("beside a compaction").await;
}

#[tokio::test]
async fn an_id_that_no_event_can_have_is_refused() {
    let world = World::new().await;
    for user in [String::new(), "x".repeat(1_025)] {
        assert_eq!(world.erasures().ask(ID, &user, asked()).await.unwrap_err().kind, ErrorKind::Invalid);
    }
    assert!(world.erasures().list().await.unwrap().is_empty());
}

/// While the first partition is rewritten another engine takes one of its files away, and puts another one in its place.
struct Meddling {
    catalog: Arc<Faulty<MemoryCatalog>>,
    from: String,
    to: TableFile,
}

impl Rewriter for Meddling {
    fn begin(&self, schema: &Schema, rows: u64, erased: &Erased) -> Result<Box<dyn Rewrite>, EncodeError> {
        let swap = |files: Vec<TableFile>| {
            let is_there = files.iter().any(|file| file.key == self.from);
            let others = files.into_iter().filter(|file| file.key != self.from);
            others.chain(is_there.then(|| self.to.clone())).collect()
        };
        self.catalog.inner().rewrite(TABLE, swap);
        Lines.begin(schema, rows, erased)
    }

    fn erased_rows(&self, schema: &Schema, bytes: Bytes, erased: &Erased) -> Result<u64, EncodeError> {
        Lines.erased_rows(schema, bytes, erased)
    }
}

#[tokio::test]
async fn files_beside_one_that_others_replaced_are_looked_at_again() {
    let world = World::new().await;
    world.erasures().ask(ID, USER, asked()).await.unwrap();
    let to = world.file("by-others", &[("3", USER), ("4", USER), ("5", "cho")], received()).await;
    let from = format!("lake/{TABLE}/data/mine.parquet");
    let rewriter = Arc::new(Meddling { catalog: world.catalog.clone(), from: from.clone(), to });
    assert!(world.erase_by(Duration::from_secs(600), rewriter).run(asked()).await.unwrap());
    // Nobody but that engine knows of what it has replaced.
    world.objects.inner().delete(&from).await.unwrap();
    world.check("beside another engine").await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_holds_up_the_end_and_nothing_else() {
    let world = World::new().await;
    let broken = world.add("broken", &[("0", "lee")], received()).await;
    let whole = world.objects.inner().bytes(&broken).unwrap();
    world.objects.inner().put(&broken, Bytes::from_static(b"\xff"), PutMode::Overwrite).await.unwrap();
    world.erasures().ask(ID, USER, asked()).await.unwrap();
    for _ in 0..2 {
        let error = world.run(asked()).await.unwrap_err();
        assert!(error.detail.contains("broken"), "{error}");
        assert_eq!((world.receipt().await.state, world.receipt().await.erased.rows), (State::Waiting, 3));
        assert_eq!(world.documents(), ["2"]);
    }
    world.objects.inner().put(&broken, whole, PutMode::Overwrite).await.unwrap();
    assert!(world.run(asked()).await.unwrap());
    assert_eq!(world.receipt().await.state, State::Erased);
}

#[tokio::test]
async fn what_waits_for_its_table_is_looked_at_when_it_is_there() {
    let world = World::new().await;
    let waiting = world.file("waiting", &[("8", USER)], received()).await;
    let groups = Groups::new(world.table.clone(), 1_000);
    let group = groups.begin(received()).await.unwrap();
    let file = RecordedFile {
        key: waiting.key.clone(),
        rows: 1,
        size_bytes: waiting.size_bytes,
        min_time: received(),
        max_time: received(),
        group: group.id.clone(),
        counted: BTreeMap::new(),
    };
    let files = BTreeMap::from([(TABLE.to_owned(), vec![file])]);
    let contents = Contents { batches: Vec::new(), files, counters: Vec::new() };
    groups.commit(&group, &contents, received()).await.unwrap();
    world.erasures().ask(ID, USER, asked()).await.unwrap();
    let late = asked().plus_micros(5 * HOUR_US);
    assert!(world.run(late).await.unwrap());
    let token = world.token().await;
    let append = Append { table: TABLE.into(), token, files: vec![waiting], property: ("n".into(), "8".into()) };
    world.catalog.inner().append(append).await.unwrap();
    assert!(world.run(late.plus_micros(DAY_US)).await.unwrap());
    assert_eq!(world.rows(), ["2", "5", "6", "7"]);
}
