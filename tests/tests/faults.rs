//! What goes wrong on a real machine: a full disk, a read-only one, a stage that cannot write, a backlog that grows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panic")]

use serde_json::{Value, json};
use sluice_tests::{Server, eventually, send_raw, skipped, sluice, sluice_text};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    (dir, data)
}

/// A small file system of its own, unmounted when it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one; `None` where that is not permitted, which is said. In CI that is an error.
    fn mount(path: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let options = format!("size={mib}m");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        let reason = match output {
            Ok(output) if output.status.success() => return Some(Self(path.to_owned())),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(e) => e.to_string(),
        };
        skipped(&format!("no small disk can be mounted: {reason}")).unwrap();
        None
    }

    /// Fills it but for so many MiB; room for what was accepted by then, several times over, comes back when the file is removed: database,
    /// log, lake and search each have their copy, and search a second one while it merges.
    fn leave(&self, mib: usize) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = std::fs::File::create(&ballast).unwrap();
        let piece = vec![1; 1 << 20];
        while file.write_all(&piece).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length - ((mib as u64) << 20)).unwrap();
        ballast
    }

    fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        let output = Command::new("mount").args(["-o", &options]).arg(&self.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// So many events as NDJSON, each about 1 KB that does not compress.
fn heavy(numbers: std::ops::Range<u64>) -> String {
    let mut text = String::new();
    for number in numbers {
        let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let padding: String = (0..64)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                format!("{state:016x}")
            })
            .collect();
        text.push_str(&format!(
            "{{\"id\":\"f{number}\",\"source\":\"s\",\"type\":\"x.y\",\"data\":{{\"n\":{number},\"padding\":\"{padding}\"}}}}\n"
        ));
    }
    text
}

/// Posts request after request of 100 events until so many were answered 202, or refused. Answers what was accepted; a reply that is
/// neither 202 nor a plea to come again later ends the test.
fn send_until(server: &Server, next: &mut u64, accepted: u32, refused: u32) -> (BTreeSet<String>, Vec<u16>) {
    let bearer = format!("Bearer {}", server.key);
    let headers = [("content-type", "application/x-ndjson"), ("authorization", bearer.as_str())];
    let (mut ids, mut refusals, mut taken) = (BTreeSet::new(), Vec::new(), 0);
    let until = Instant::now() + Duration::from_secs(90);
    while taken < accepted && refusals.len() < refused as usize {
        assert!(Instant::now() < until, "{taken} accepted, {} refused", refusals.len());
        let numbers = *next..*next + 100;
        let reply = send_raw(&server.url, "POST", "/v1/events", &headers, heavy(numbers.clone()).as_bytes()).unwrap();
        match reply.status {
            202 => {
                ids.extend(numbers.map(|n| format!("f{n}")));
                *next += 100;
                taken += 1;
            }
            429 | 503 => {
                assert!(reply.head.contains("retry-after:"), "{}", reply.head);
                refusals.push(reply.status);
            }
            other => panic!("{other} {}", reply.json()),
        }
    }
    (ids, refusals)
}

/// The ids in the lake.
fn stored(server: &Server) -> BTreeSet<String> {
    let (status, reply) = server
        .post_json("/v1/sql", &json!({"sql": "SELECT DISTINCT id FROM event WHERE type = 'x.y'", "max_rows": 200_000}))
        .unwrap();
    assert_eq!((status, &reply["truncated"]), (200, &json!(false)), "{reply}");
    reply["rows"].as_array().unwrap().iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
}

const MANY_ROWS: (&str, &str) = ("SLUICE_SQL_MAX_ROWS", "200000");

#[test]
fn a_full_disk_refuses_events_loses_none_and_goes_on_when_there_is_room() {
    let (_dir, data) = folder();
    let Some(disk) = Disk::mount(&data, 400) else { return };
    let server = Server::start_with(&data, &[MANY_ROWS]).unwrap();
    let ballast = disk.leave(24);
    let mut next = 0;
    let (mut acknowledged, refusals) = send_until(&server, &mut next, u32::MAX, 30);
    assert!(!acknowledged.is_empty(), "it was full from the start");
    assert!(refusals.contains(&503), "{refusals:?}");
    assert_eq!(server.get("/health").unwrap().0, 200, "it lives on");
    std::fs::remove_file(&ballast).unwrap();
    let (more, _) = send_until(&server, &mut next, 3, u32::MAX);
    acknowledged.extend(more);
    server.settle().unwrap();
    let stored = stored(&server);
    let lost: Vec<&String> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
    assert_eq!(server.stop().unwrap(), Some(0));
}

#[test]
fn a_crash_on_a_full_disk_loses_nothing() {
    let (_dir, data) = folder();
    let Some(disk) = Disk::mount(&data, 400) else { return };
    let server = Server::start_with(&data, &[MANY_ROWS]).unwrap();
    let ballast = disk.leave(24);
    let (acknowledged, _) = send_until(&server, &mut 0, u32::MAX, 10);
    server.kill().unwrap();
    std::fs::remove_file(&ballast).unwrap();
    let server = Server::start_with(&data, &[MANY_ROWS]).unwrap();
    server.settle().unwrap();
    assert!(acknowledged.is_subset(&stored(&server)));
}

/// Size and content of every file.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn a_read_only_data_folder_is_said_to_be_one_and_left_as_it_is() {
    let (_dir, data) = folder();
    let Some(disk) = Disk::mount(&data, 96) else { return };
    let server = Server::start_with(&data, &[MANY_ROWS]).unwrap();
    let (acknowledged, _) = send_until(&server, &mut 0, 2, u32::MAX);
    server.settle().unwrap();
    assert_eq!(server.stop().unwrap(), Some(0));
    let before = contents(&data);
    disk.remount("ro");
    let output = sluice(&data, &["up", "--listen", "127.0.0.1:0"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(data.to_str().unwrap()) && said.contains("it lies on a read-only file system"), "{said}");
    disk.remount("rw");
    assert!(contents(&data) == before, "something was changed");
    let server = Server::start_with(&data, &[MANY_ROWS]).unwrap();
    assert_eq!(stored(&server), acknowledged);
}

/// Makes the lake unwritable as long as it lives: its folder is a link to itself, which a store reports as unavailable.
struct BrokenLake(PathBuf);

impl BrokenLake {
    fn new(data: &Path) -> Self {
        let lake = data.join("lake");
        if lake.exists() {
            std::fs::rename(&lake, data.join("lake.aside")).unwrap();
        }
        std::os::unix::fs::symlink("lake", &lake).unwrap();
        Self(lake)
    }
}

impl Drop for BrokenLake {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let aside = self.0.with_extension("aside");
        if aside.exists() {
            let _ = std::fs::rename(aside, &self.0);
        }
    }
}

fn queue(server: &Server, name: &str) -> Value {
    let queues = server.get("/v1/queues").unwrap().1;
    queues["queues"].as_array().unwrap().iter().find(|q| q["name"] == name).cloned().unwrap()
}

#[test]
fn what_a_stage_fails_at_too_often_is_a_dead_letter_and_can_be_brought_back() {
    let (dir, data) = folder();
    // The same wiring, less patient: the last attempt would come after hours.
    let template = include_str!("../../template.yaml");
    let impatient = template.replace("maxReceiveCount: 24", "maxReceiveCount: 2");
    assert_ne!(impatient, template);
    let path = dir.path().join("template.yaml");
    std::fs::write(&path, impatient).unwrap();
    let server = Server::start_by(&data, &["--template", path.to_str().unwrap()], &[MANY_ROWS]).unwrap();
    let broken = BrokenLake::new(&data);
    let (acknowledged, _) = send_until(&server, &mut 0, 3, u32::MAX);
    eventually("the messages are dead letters", || {
        let dead = queue(&server, "ConvertDeadLetterQueue");
        Ok(dead["events"] == acknowledged.len() && queue(&server, "ConvertQueue")["in_flight"] == 0)
    })
    .unwrap();
    let listed = sluice_text(&data, &["queues"]).unwrap();
    let row = listed.lines().find(|l| l.starts_with("ConvertQueue")).unwrap();
    assert_ne!(row.split_whitespace().last(), Some("0"), "{listed}");
    let peeked = sluice_text(&data, &["queues", "peek", "ConvertDeadLetterQueue", "--limit", "1"]).unwrap();
    assert!(peeked.contains(", sent 20") && peeked.contains(", 100 events"), "{peeked}");
    // Search has them, the lake waits for them: nobody says that this adds up.
    let status = server.get("/v1/status").unwrap().1;
    assert_ne!(status["ledger"]["totals"]["lake"]["stored"], json!(acknowledged.len()), "{status:#}");
    drop(broken);
    let one = sluice_text(&data, &["queues", "redrive", "ConvertDeadLetterQueue", "--limit", "1"]).unwrap();
    assert_eq!(one, "1 message moved back\n");
    let rest = sluice_text(&data, &["queues", "redrive", "ConvertDeadLetterQueue"]).unwrap();
    assert!(rest.ends_with(" moved back\n") && !rest.starts_with("0 "), "{rest}");
    let status = server.settle().unwrap();
    assert_eq!(stored(&server), acknowledged, "{status:#}");
    let refused = sluice(&data, &["queues", "redrive", "NoSuchQueue"]).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[test]
fn a_backlog_that_is_too_large_asks_senders_to_slow_down_until_it_is_worked_off() {
    let (_dir, data) = folder();
    let server = Server::start_with(&data, &[MANY_ROWS, ("SLUICE_MAX_BACKLOG_BYTES", "1000000")]).unwrap();
    let broken = BrokenLake::new(&data);
    let mut next = 0;
    let (mut acknowledged, refusals) = send_until(&server, &mut next, u32::MAX, 3);
    assert_eq!(refusals, [429; 3]);
    let bytes = queue(&server, "ConvertQueue")["bytes"].as_u64().unwrap();
    assert!((1_000_000..2_000_000).contains(&bytes), "{bytes}");
    drop(broken);
    let (more, _) = send_until(&server, &mut next, 1, u32::MAX);
    acknowledged.extend(more);
    server.settle().unwrap();
    assert_eq!(stored(&server), acknowledged);
}

/// How often a noisy source fills all room.
const ROUNDS: usize = 5;

#[test]
fn one_noisy_source_does_not_shut_out_a_quiet_one() {
    let (_dir, data) = folder();
    let server = Server::start_with(&data, &[MANY_ROWS, ("SLUICE_MAX_BACKLOG_BYTES", "1000000")]).unwrap();
    let key = |source: &str| {
        let key = sluice_text(&data, &["keys", "add", "--source", source]).unwrap();
        format!("Bearer {}", key.trim())
    };
    let (noisy, quiet) = (key("s"), key("quiet"));
    let send = |bearer: &str, body: &str| {
        let headers = [("content-type", "application/x-ndjson"), ("authorization", bearer)];
        let reply = send_raw(&server.url, "POST", "/v1/events", &headers, body.as_bytes()).unwrap();
        assert!([202, 429].contains(&reply.status), "{} {}", reply.status, reply.json());
        assert!(reply.status == 202 || reply.head.contains("retry-after:"), "{}", reply.head);
        reply.status == 202
    };
    let mut acknowledged = BTreeSet::new();
    let (mut next, mut quiet_was_first) = (0, 0);
    let mut flood = |acknowledged: &mut BTreeSet<String>| {
        let taken = send(&noisy, &heavy(next..next + 100));
        if taken {
            acknowledged.extend((next..next + 100).map(|n| format!("f{n}")));
        }
        next += 100;
        taken
    };
    for round in 0..ROUNDS {
        while flood(&mut acknowledged) {}
        // There is no room. Both come again and again, the noisy one first each time.
        let id = format!("q{round}");
        let event = format!("{{\"id\":\"{id}\",\"source\":\"quiet\",\"type\":\"x.y\"}}\n");
        let mut noisy_was_in = false;
        eventually("the quiet one gets in", || {
            noisy_was_in |= flood(&mut acknowledged);
            Ok(send(&quiet, &event))
        })
        .unwrap();
        acknowledged.insert(id);
        quiet_was_first += usize::from(!noisy_was_in);
    }
    assert!(quiet_was_first > ROUNDS / 2, "the quiet one was first in {quiet_was_first} of {ROUNDS} rounds");
    server.settle().unwrap();
    assert_eq!(stored(&server), acknowledged);
}

/// Makes each flush of a file slow, and lets none end while `hold` exists; writes the name of each flushed file to `log`. Preloaded before the
/// C library, by which the program, SQLite in it included, flushes.
const SLOW_FLUSH: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static int slowly(const char *name, int fd) {
    const char *hold = getenv("SLOW_FLUSH_HOLD"), *log = getenv("SLOW_FLUSH_LOG");
    struct timespec pause = {0, 20 * 1000 * 1000};
    do nanosleep(&pause, NULL); while (hold && access(hold, F_OK) == 0);
    int (*flush)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = flush(fd);
    char link[64], line[4097];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, line, sizeof line - 1);
    int out = log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (out >= 0) {
        if (length > 0) { line[length] = '\n'; if (write(out, line, length + 1) < 0) {} }
        close(out);
    }
    return result;
}
int fsync(int fd) { return slowly("fsync", fd); }
int fdatasync(int fd) { return slowly("fdatasync", fd); }
"#;

/// A disk whose flushes are slow, for a program that is started with its environment.
struct SlowDisk {
    library: PathBuf,
    hold: PathBuf,
    log: PathBuf,
}

impl SlowDisk {
    fn new(dir: &Path) -> Self {
        let (source, library) = (dir.join("slow.c"), dir.join("slow.so"));
        std::fs::write(&source, SLOW_FLUSH).unwrap();
        // The C compiler is there: SQLite is built with it.
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").output();
        let built = built.unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Self { library, hold: dir.join("hold"), log: dir.join("flushed") }
    }

    fn environment(&self) -> [(&'static str, String); 4] {
        let text = |path: &Path| -> String { path.to_str().unwrap().into() };
        [
            ("LD_PRELOAD", text(&self.library)),
            ("SLOW_FLUSH_HOLD", text(&self.hold)),
            ("SLOW_FLUSH_LOG", text(&self.log)),
            (MANY_ROWS.0, MANY_ROWS.1.into()),
        ]
    }

    /// How often the file of queues and table was flushed.
    fn flushes(&self) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("/sluice.db")).count()
    }
}

/// Requests of one event each, from so many senders at once.
const SENDERS: usize = 16;
const REQUESTS: usize = 8;

#[test]
fn on_a_slow_disk_requests_share_flushes_and_nobody_who_reads_waits_for_one() {
    let (dir, data) = folder();
    let disk = SlowDisk::new(dir.path());
    let environment = disk.environment();
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = Server::start_with(&data, &environment).unwrap();
    let bearer = format!("Bearer {}", server.key);
    let send = |id: String| {
        let event = format!(r#"{{"id":"{id}","source":"s","type":"x.y"}}"#);
        let headers = [("content-type", "application/cloudevents+json"), ("authorization", bearer.as_str())];
        let reply = send_raw(&server.url, "POST", "/v1/events", &headers, event.as_bytes()).unwrap();
        assert_eq!(reply.status, 202, "{}", reply.json());
        id
    };
    let before = disk.flushes();
    let mut acknowledged: BTreeSet<String> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let send = &send;
                scope.spawn(move || (0..REQUESTS).map(|n| send(format!("f{sender}-{n}"))).collect::<Vec<_>>())
            })
            .collect();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });
    let flushes = disk.flushes() - before;
    assert!(flushes < SENDERS * REQUESTS, "{flushes} flushes for {} requests", SENDERS * REQUESTS);

    // No flush ends now.
    std::fs::write(&disk.hold, "").unwrap();
    std::thread::scope(|scope| {
        let held = scope.spawn(|| send("held".into()));
        for path in ["/health", "/v1/queues", "/v1/ledger", "/v1/tables"] {
            assert_eq!(
                send_raw(&server.url, "GET", path, &[("authorization", &bearer)], b"").unwrap().status,
                200,
                "{path}"
            );
        }
        let ids = stored(&server);
        assert!(!held.is_finished() && !ids.contains("held"), "it was answered before it was durable");
        std::fs::remove_file(&disk.hold).unwrap();
        acknowledged.insert(held.join().unwrap());
    });

    // A crash while a flush is under way: what was answered is there.
    std::fs::write(&disk.hold, "").unwrap();
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let event = r#"{"id":"cut","source":"s","type":"x.y"}"#;
            let headers = [("content-type", "application/cloudevents+json"), ("authorization", bearer.as_str())];
            send_raw(&server.url, "POST", "/v1/events", &headers, event.as_bytes()).map(|reply| reply.status)
        });
        std::thread::sleep(Duration::from_millis(200));
        Command::new("kill").args(["-KILL", &server.pid().to_string()]).status().unwrap();
        sender.join().unwrap()
    });
    assert!(sent.is_err(), "it was answered before it was durable: {sent:?}");
    server.kill().unwrap();
    let server = Server::start_with(&data, &[MANY_ROWS]).unwrap();
    server.settle().unwrap();
    let mut ids = stored(&server);
    // Never answered, so that either is right.
    ids.remove("cut");
    assert_eq!(ids, acknowledged);
    let rows = server.sql_value("SELECT count(*) - count(DISTINCT id) FROM event WHERE type = 'x.y'").unwrap();
    assert_eq!(rows, json!(0), "rows that are there twice");
}
