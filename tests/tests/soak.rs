//! Many events through the real binary while it is killed again and again, requests are repeated and come in another order: each event is
//! in the lake once. `make soak` sends ten times as many and reports memory, disk and queues over time.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use sluice_domain::demo::bench_event;
use sluice_tests::{Server, python, send_raw};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Events of one request.
const EVENTS: u64 = 1_000;
/// Requests on their way at once: more than cores, so that they overtake each other.
const SENDERS: usize = 6;
/// One of so many requests is sent again later.
const REPEAT_ONE_OF: u64 = 16;
/// How long a server lives, in milliseconds, in turn.
const LIVES_MS: [u64; 4] = [4_000, 2_500, 6_100, 3_300];
/// Between two looks at a server.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Counts rows and ids of the files that committed groups have recorded, read from the state database and not from the folder.
const COUNT: &str = r#"
import duckdb, json, sqlite3, sys
data = sys.argv[1]
items = sqlite3.connect(f'file:{data}/sluice.db?mode=ro', uri=True).execute("select value from item where partition like 'file#%' or partition like 'filed#%'")
files = [f"{data}/{file['key']}" for (value,) in items for file in json.loads(value)['files']]
rows, ids = 0, None
db = duckdb.connect()
db.execute('set enable_progress_bar = false')
db.execute('create table seen (id varchar)')
for start in range(0, len(files), 500):
    db.execute("insert into seen select id from read_parquet($f, hive_partitioning=false)", {'f': files[start:start + 500]})
print(*db.execute('select count(*), count(distinct id), min(substr(id, 17)), max(substr(id, 17)) from seen').fetchone())
"#;

/// Where the present server is.
struct Present {
    server: Option<Server>,
    url: String,
    key: String,
}

fn body(request: u64) -> Vec<u8> {
    let mut lines = String::with_capacity(EVENTS as usize * 520);
    for i in request * EVENTS..(request + 1) * EVENTS {
        lines.push_str(&bench_event(i));
        lines.push('\n');
    }
    lines.into_bytes()
}

/// Sends a request until it is answered 202.
fn send(present: &Mutex<Present>, body: &[u8]) {
    loop {
        let (url, key) = {
            let present = present.lock().unwrap();
            (present.url.clone(), present.key.clone())
        };
        let headers = [("content-type", "application/x-ndjson"), ("authorization", &format!("Bearer {key}") as &str)];
        match send_raw(&url, "POST", "/v1/events", &headers, body) {
            Ok(reply) if reply.status == 202 => return,
            Ok(reply) => assert!(matches!(reply.status, 429 | 503), "{} {}", reply.status, reply.json()),
            // The server is gone; nobody knows what it took.
            Err(_) => {}
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start(data: &Path) -> Server {
    // Documents are another sink and another test; with them this one takes three times as long.
    Server::start_with(data, &[("SLUICE_STAGES_OFF", "index"), ("SLUICE_LOG_LEVEL", "error")]).unwrap()
}

/// One line about a server: memory, disk, what waits.
fn look(server: &Server, data: &Path, began: Instant) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap_or_default();
    let rss = status.lines().find(|l| l.starts_with("VmRSS")).map(|l| l[6..].trim().to_owned()).unwrap_or_default();
    let database = std::fs::metadata(data.join("sluice.db")).map_or(0, |m| m.len() >> 20);
    let waiting = server.get("/v1/queues").map_or(0, |(_, reply)| {
        let queues = reply["queues"].as_array().cloned().unwrap_or_default();
        queues.iter().map(|q| q["visible"].as_u64().unwrap_or(0) + q["in_flight"].as_u64().unwrap_or(0)).sum::<u64>()
    });
    format!("{:>5} s  {rss} resident  {database} MiB of state  {waiting} messages wait", began.elapsed().as_secs())
}

#[test]
fn a_million_events_are_stored_once_although_the_server_dies_again_and_again() {
    let told = std::env::var("SLUICE_SOAK_EVENTS").ok().and_then(|n| n.parse::<u64>().ok());
    let requests = told.unwrap_or(1_000_000) / EVENTS;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = start(&data);
    let present = Mutex::new(Present { url: server.url.clone(), key: server.key.clone(), server: Some(server) });
    let (next, over, kills) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            for life_ms in LIVES_MS.iter().cycle() {
                let until = Instant::now() + Duration::from_millis(*life_ms);
                while Instant::now() < until {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                let mut present = present.lock().unwrap();
                if let Some(server) = present.server.take() {
                    server.kill().unwrap();
                }
                let server = start(&data);
                (present.url, present.key) = (server.url.clone(), server.key.clone());
                present.server = Some(server);
                kills.fetch_add(1, Ordering::Relaxed);
            }
        });
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut again = Vec::new();
                    loop {
                        let request = next.fetch_add(1, Ordering::Relaxed);
                        if request >= requests {
                            break;
                        }
                        send(&present, &body(request));
                        if request.is_multiple_of(REPEAT_ONE_OF) {
                            again.push(request);
                        }
                        if again.len() > 3 {
                            send(&present, &body(again.remove(0)));
                        }
                    }
                    again.into_iter().for_each(|request| send(&present, &body(request)));
                })
            })
            .collect();
        if told.is_some() {
            while senders.iter().any(|sender| !sender.is_finished()) {
                std::thread::sleep(LOOK_EVERY);
                let present = present.lock().unwrap();
                if let Some(server) = &present.server {
                    println!("{}", look(server, &data, began));
                }
            }
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        over.store(true, Ordering::Relaxed);
        killer.join().unwrap();
    });
    let sent_in = began.elapsed();
    let server = present.into_inner().unwrap().server.unwrap();
    // More patience than for one condition: what waits is bounded by what was sent.
    let mut settled = server.settle();
    while settled.is_err() && began.elapsed() < sent_in * 4 + Duration::from_secs(120) {
        settled = server.settle();
    }
    let status = settled.unwrap();
    let events = requests * EVENTS;
    let rows = |field: &str| status["ledger"]["totals"]["lake"][field].as_u64().unwrap();
    assert_eq!((rows("stored"), rows("quarantined")), (events, 0), "{status:#}");
    assert!(rows("duplicates") > 0, "no request was repeated");
    assert!(kills.load(Ordering::Relaxed) > 0, "it was never killed");
    if told.is_some() {
        println!("{}", look(&server, &data, began));
    }
    let ledger = server.get("/v1/ledger?deep=true").unwrap().1;
    assert_eq!(ledger["adds_up"], true, "{ledger}");
    assert_eq!(server.stop().unwrap(), Some(0));
    let counted = python(COUNT, &[data.to_str().unwrap()]).unwrap();
    if let Some(counted) = counted {
        assert_eq!(
            counted,
            format!("{events} {events} {:016x} {:016x}", 0, events - 1),
            "rows, ids, first and last by DuckDB"
        );
    }
    println!("{events} events, {} kills, {} duplicates", kills.load(Ordering::Relaxed), rows("duplicates"));
}
