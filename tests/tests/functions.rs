//! The Lambda binaries as Lambda runs them: each is started against a runtime API that this test plays, takes the sample events of
//! `events/`, and answers.
//!
//! Source of the runtime API: AWS documentation, "Using the Lambda runtime API for custom runtimes".

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panic")]

use serde_json::{Value, json};
use sluice_tests::{Server, binary, eventually, sluice_text};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// How long a call may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a function said: a reply, or the error that it reported.
type Said = Result<Value, Value>;

/// A running function and the runtime API that it asks for events.
struct Lambda {
    child: Child,
    log: PathBuf,
    events: mpsc::Sender<String>,
    said: mpsc::Receiver<Said>,
}

impl Lambda {
    fn start(verb: &str, data: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (events, waiting) = mpsc::channel::<String>();
        let (say, said) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), waiting, say) = (stream, waiting.clone(), say.clone()) else { return };
                std::thread::spawn(move || serve(stream, &waiting, &say));
            }
        });
        let program = binary().with_file_name(verb);
        let log = data.with_extension(format!("{verb}.log"));
        let mut command = Command::new(&program);
        for (name, _) in std::env::vars_os() {
            if ["SLUICE_", "AWS_"].iter().any(|of_others| name.to_string_lossy().starts_with(of_others)) {
                command.env_remove(name);
            }
        }
        let child = command
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", verb)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("SLUICE_DATA", data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap_or_else(|e| panic!("`{}`: {e}; build it with `cargo build --workspace --bins`", program.display()));
        Self { child, log, events, said }
    }

    /// Hands over an event and waits for what the function says.
    fn call(&mut self, event: &str) -> Said {
        self.events.send(event.to_owned()).unwrap();
        match self.said.recv_timeout(PATIENCE) {
            Ok(said) => said,
            Err(e) => panic!("{e}\n{}", std::fs::read_to_string(&self.log).unwrap()),
        }
    }

    /// What it logged so far.
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Lambda {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection of the runtime: `next` waits for an event, `response` and `error` hand back what became of it.
fn serve(stream: TcpStream, waiting: &Mutex<mpsc::Receiver<String>>, say: &mpsc::Sender<Said>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    let mut number = 0;
    while let Some((path, body)) = read_request(&mut reader) {
        let reply = if path == "GET /2018-06-01/runtime/invocation/next" {
            // The sender is gone when the test is over.
            let Ok(event) = waiting.lock().unwrap().recv() else { return };
            number += 1;
            let deadline = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + PATIENCE;
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nLambda-Runtime-Aws-Request-Id: request-{number}\r\n\
                 Lambda-Runtime-Deadline-Ms: {}\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:123456789012:function:f\r\n\
                 content-length: {}\r\n\r\n{event}",
                deadline.as_millis(),
                event.len()
            )
        } else {
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let said = match path.rsplit('/').next() {
                Some("response") => Ok(body),
                _ => Err(json!({"path": path, "error": body})),
            };
            if say.send(said).is_err() {
                return;
            }
            "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned()
        };
        if writer.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// Method with path, and body.
fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let header = |name: &str| {
        lines
            .iter()
            .filter_map(|l| l.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.to_owned())
    };
    let mut body = vec![0; header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    if header("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).ok()? + 2];
            reader.read_exact(&mut chunk).ok()?;
            if chunk.len() == 2 {
                break;
            }
            body.extend_from_slice(&chunk[..chunk.len() - 2]);
        }
    }
    let request = lines.first()?.rsplit_once(' ')?.0.to_owned();
    Some((request, body))
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    (dir, data)
}

/// The text of `events/<name>.json`.
fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events").join(name).with_extension("json");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// How many events of a type the messages of a delivery say they have.
fn events_in(delivery: &str, event_type: &str) -> u64 {
    let delivery: Value = serde_json::from_str(delivery).unwrap();
    let messages = delivery["Records"].as_array().unwrap().iter().map(|r| r["body"].as_str().unwrap());
    messages
        .filter_map(|body| serde_json::from_str::<Value>(body).ok())
        .map(|message| message["types"][event_type].as_u64().unwrap_or(0))
        .sum()
}

/// The quarantine records that the running pieces left in the folder.
fn quarantined(data: &Path) -> Vec<Value> {
    let days = std::fs::read_dir(data.join("quarantine")).into_iter().flatten().flatten();
    let files = days.flat_map(|day| std::fs::read_dir(day.path()).unwrap().flatten());
    files.map(|f| serde_json::from_slice(&std::fs::read(f.path()).unwrap()).unwrap()).collect()
}

fn all_acknowledged() -> Said {
    Ok(json!({"batchItemFailures": []}))
}

#[test]
fn the_convert_function_stores_what_is_queued_once() {
    let (_dir, data) = folder();
    let mut convert = Lambda::start("convert", &data);
    let delivery = sample("convert/two-messages");
    assert_eq!(convert.call(&delivery), all_acknowledged());
    // Queues deliver at least once.
    assert_eq!(convert.call(&delivery), all_acknowledged());
    drop(convert);
    let server = Server::start(&data).unwrap();
    for kind in ["game.start", "game.result"] {
        let expected = events_in(&delivery, kind);
        assert!(expected > 0);
        let table = kind.replace('.', "_");
        assert_eq!(server.sql_value(&format!("SELECT count(*) FROM {table}")).unwrap(), expected, "{kind}");
    }
}

#[test]
fn the_index_function_makes_what_is_queued_findable_once() {
    let (_dir, data) = folder();
    let mut index = Lambda::start("index", &data);
    let delivery = sample("index/two-messages");
    assert_eq!(index.call(&delivery), all_acknowledged());
    assert_eq!(index.call(&delivery), all_acknowledged());
    drop(index);
    let server = Server::start(&data).unwrap();
    for kind in ["game.start", "game.result"] {
        let search = json!({"size": 0, "track_total_hits": true, "query": {"term": {"type": kind}}});
        let found = server.post_json("/v1/search", &search).unwrap().1;
        assert_eq!(found["hits"]["total"]["value"], events_in(&delivery, kind), "{kind}: {found}");
    }
}

#[test]
fn a_message_that_cannot_be_read_goes_to_quarantine_and_its_neighbour_is_stored() {
    // Convert and index get the same message: what neither can read is kept once.
    for verbs in [["convert", "index"].as_slice(), &["detect"]] {
        let (_dir, data) = folder();
        if verbs.contains(&"detect") {
            // Without a rule it has no reason to look inside.
            let server = Server::start(&data).unwrap();
            sluice_text(&data, &["rules", "add", "fluctuation", "--threshold", "5"]).unwrap();
            server.stop().unwrap();
        }
        for verb in verbs {
            let mut function = Lambda::start(verb, &data);
            // It can never be read: to deliver it again would help nobody.
            let said = function.call(&sample(&format!("{verb}/one-bad")));
            assert_eq!(said, all_acknowledged(), "{verb}: {}", function.log());
        }
        let server = Server::start(&data).unwrap();
        eventually("the bad one is kept", || Ok(!quarantined(&data).is_empty())).unwrap();
        assert_eq!(quarantined(&data).len(), 1, "{:#?}", quarantined(&data));
        let bad: Value = serde_json::from_str(&sample(&format!("{}/one-bad", verbs[0]))).unwrap();
        let bad = bad["Records"][1]["body"].as_str().unwrap();
        let kept = &quarantined(&data)[0];
        assert_eq!(kept["bytes"], base64(bad), "{kept}");
        if verbs[0] == "convert" {
            assert_eq!(server.sql_value("SELECT count(*) FROM game_start").unwrap(), 1);
            assert_eq!(server.sql_value("SELECT count(*) FROM game_result").unwrap(), 1);
        }
    }
}

/// The standard alphabet, with padding.
fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let digit = |at: usize| ALPHABET[(bits >> (18 - 6 * at)) as usize % 64] as char;
        (0..4).map(|at| if at > three.len() { '=' } else { digit(at) }).collect::<String>()
    };
    text.as_bytes().chunks(3).map(group).collect()
}

#[test]
fn the_detect_function_takes_messages_and_ticks() {
    let (_dir, data) = folder();
    let mut detect = Lambda::start("detect", &data);
    assert_eq!(detect.call(&sample("detect/two-messages")), all_acknowledged());
    assert_eq!(detect.call(&sample("detect/tick")), Ok(json!({})));
}

#[test]
fn the_notify_function_acknowledges_alerts_that_nobody_decided() {
    let (_dir, data) = folder();
    let mut notify = Lambda::start("notify", &data);
    for name in ["notify/two-messages", "notify/one-bad"] {
        assert_eq!(notify.call(&sample(name)), all_acknowledged(), "{name}: {}", notify.log());
    }
    let mails = std::fs::read_dir(data.join("outbox")).unwrap().flatten();
    assert_eq!(mails.filter(|e| e.path().extension().is_some_and(|e| e == "eml")).count(), 0);
}

#[test]
fn the_quarantine_function_keeps_bytes_and_reason_once() {
    let (_dir, data) = folder();
    let mut quarantine = Lambda::start("quarantine", &data);
    let delivery = sample("quarantine/two-messages");
    assert_eq!(quarantine.call(&delivery), all_acknowledged());
    assert_eq!(quarantine.call(&delivery), all_acknowledged());
    let kept = quarantined(&data);
    let sent: Value = serde_json::from_str(&delivery).unwrap();
    let sent = sent["Records"].as_array().unwrap();
    assert_eq!(kept.len(), sent.len());
    for record in sent {
        let record: Value = serde_json::from_str(record["body"].as_str().unwrap()).unwrap();
        let same = kept.iter().any(|k| k["bytes"] == record["bytes"] && k["reason"] == record["reason"]);
        assert!(same, "{record} is not among {kept:?}");
    }
    assert_eq!(quarantine.call(&sample("quarantine/one-bad")), all_acknowledged());
}

#[test]
fn the_ingest_function_answers_what_the_gateway_hands_over() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let key = sluice_text(&data, &["keys", "add", "--source", "*", "--max-age-days", "none"]).unwrap();
    server.stop().unwrap();
    let mut ingest = Lambda::start("ingest", &data);
    let health = ingest.call(&sample("ingest/health")).unwrap();
    assert_eq!(health["statusCode"], 200, "{health}");
    let preflight = ingest.call(&sample("ingest/preflight")).unwrap();
    assert_eq!(preflight["statusCode"], 204, "{preflight}");
    assert!(preflight["headers"]["access-control-allow-origin"].is_string(), "{preflight}");
    for name in ["one-event", "batch", "beacon", "ndjson-zstd", "bad-body"] {
        let unknown = ingest.call(&sample(&format!("ingest/{name}"))).unwrap();
        assert_eq!(unknown["statusCode"], 401, "{name}: {unknown}");
        let known = sample(&format!("ingest/{name}")).replace("sample-write-key", key.trim());
        let reply = ingest.call(&known).unwrap();
        let expected = if name == "bad-body" { 400 } else { 202 };
        assert_eq!(reply["statusCode"], expected, "{name}: {reply}");
        assert_eq!(reply["headers"]["content-type"], "application/json", "{name}: {reply}");
    }
    drop(ingest);
    // The machine's own stages find what the function published.
    let server = Server::start(&data).unwrap();
    server.settle().unwrap();
    assert_eq!(server.sql_value("SELECT count(*) FROM web_event").unwrap(), 1);
    assert!(server.sql_value("SELECT count(*) FROM game_start WHERE play_id = 'p1'").unwrap().as_u64().unwrap() > 0);
    // One event of `batch` and the body of `bad-body`.
    eventually("the bad ones are kept", || Ok(quarantined(&data).len() == 2)).unwrap();
    let codes: BTreeSet<String> = quarantined(&data).iter().map(|r| r["code"].to_string()).collect();
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["\"malformed_json\"", "\"schema\""]);
}

#[test]
fn the_api_function_answers_what_the_gateway_hands_over() {
    let (_dir, data) = folder();
    let server = Server::start(&data).unwrap();
    let (admin, read) = (server.key.clone(), sluice_text(&data, &["keys", "add", "--scope", "read"]).unwrap());
    server.stop().unwrap();
    let mut api = Lambda::start("api", &data);
    let with_keys = |name: &str| {
        sample(&format!("api/{name}")).replace("sample-admin-key", &admin).replace("sample-read-key", read.trim())
    };
    for name in ["rules-add", "rules-list", "search", "sql"] {
        let unknown = api.call(&sample(&format!("api/{name}"))).unwrap();
        assert_eq!(unknown["statusCode"], 401, "{name}: {unknown}");
    }
    let added = api.call(&with_keys("rules-add")).unwrap();
    assert_eq!(added["statusCode"], 201, "{added}");
    let listed = api.call(&with_keys("rules-list")).unwrap();
    assert_eq!(listed["statusCode"], 200, "{listed}");
    let rules: Value = serde_json::from_str(listed["body"].as_str().unwrap()).unwrap();
    assert_eq!(rules["rules"].as_array().unwrap().len(), 1, "{rules}");
    for name in ["search", "sql"] {
        let reply = api.call(&with_keys(name)).unwrap();
        assert_eq!(reply["statusCode"], 200, "{name}: {reply}");
    }
    assert_eq!(api.call(&with_keys("unknown-route")).unwrap()["statusCode"], 404);
}

#[test]
fn an_event_of_another_shape_is_reported_as_failed_and_the_function_lives_on() {
    let (_dir, data) = folder();
    let mut convert = Lambda::start("convert", &data);
    let error = convert.call("{\"rawPath\":\"/\"}").unwrap_err();
    assert!(error["path"].as_str().unwrap().ends_with("/error"), "{error}");
    assert!(error["error"]["errorMessage"].as_str().unwrap().contains("missing field `Records`"), "{error}");
    assert_eq!(convert.call(&sample("convert/two-messages")), all_acknowledged());
}

#[test]
fn every_function_of_the_template_is_tried_here() {
    let text = include_str!("functions.rs");
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions")).unwrap();
    for folder in folders.flatten() {
        let verb = folder.file_name().into_string().unwrap();
        let started = text.contains(&format!("Lambda::start(\"{verb}\""));
        assert!(started, "no test starts `{verb}`");
    }
}
