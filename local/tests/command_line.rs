//! The command line as a script sees it: what it prints where, and how it ends. The server is a small one of this file.

// Helpers of tests may unwrap as tests do; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

/// A server on a free port that gives the same answer to everything.
fn server(status: &'static str, body: String) -> String {
    watched_server(status, body).0
}

/// The same, and the first line of each request.
fn watched_server(status: &'static str, body: String) -> (String, Receiver<String>) {
    let (to, asked) = channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (body, to) = (body.clone(), to.clone());
            std::thread::spawn(move || answer(stream.unwrap(), status, &body, &to));
        }
    });
    (url, asked)
}

fn answer(stream: TcpStream, status: &str, body: &str, to: &Sender<String>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let (mut length, mut request) = (0, None);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            request.get_or_insert(line);
        }
        let mut sent = vec![0; length];
        if reader.read_exact(&mut sent).is_err() {
            return;
        }
        let _ = to.send(request.unwrap_or_default());
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}

fn sluice(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    for name in ["SLUICE_DATA", "SLUICE_URL", "SLUICE_KEY", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
    sluice(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn no_panic(output: &Output) {
    assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
}

#[test]
fn each_kind_of_end_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let refusing = server("401 Unauthorized", r#"{"error":{"code":"key","message":"unknown key"}}"#.into());
    let failing = server("400 Bad Request", r#"{"error":{"code":"sql","message":"no table `x`"}}"#.into());
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for (args, code, words) in [
        (vec!["--help"], 0, ""),
        (vec!["completion", "bash"], 0, ""),
        (vec!["sql", "SELECT 1 FROM x", "--url", &failing, "--key", "k"], 1, "no table `x`"),
        (vec!["nonsense"], 2, "unrecognized subcommand"),
        (vec!["status", "--url", &gone, "--data", data], 2, "give its key"),
        (vec!["status", "--data", data], 3, "start one with `sluice up"),
        (vec!["status", "--url", &gone, "--key", "k"], 3, "does not answer"),
        (vec!["send", "-", "--url", &gone, "--key", "k"], 3, "does not answer"),
        (vec!["keys", "list", "--url", &refusing, "--key", "k"], 4, "unknown key"),
    ] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(words), "{args:?}: {}", text(&output.stderr));
        assert_eq!(output.stdout.is_empty(), code != 0, "{args:?}: {}", text(&output.stdout));
        no_panic(&output);
    }
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let rows: Vec<String> = (0..200_000).map(|n| format!("[{n}]")).collect();
    let url =
        server("200 OK", format!(r#"{{"columns":[{{"name":"n","type":"bigint"}}],"rows":[{}]}}"#, rows.join(",")));
    for args in [vec!["--format", "csv"], vec!["--format", "ndjson"], vec!["--format", "table"], vec!["--json"]] {
        let args = [vec!["sql", "SELECT", "--url", &url, "--key", "k"], args].concat();
        let mut child = sluice(&args).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(!first.is_empty());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!text(&output.stderr).contains("error"), "{}", text(&output.stderr));
        no_panic(&output);
    }
    let mut help = sluice(&["--help"]).spawn().unwrap();
    drop(help.stdout.take());
    no_panic(&help.wait_with_output().unwrap());
}

#[test]
fn a_new_key_is_all_that_standard_output_holds() {
    let url = server("201 Created", r#"{"id":"k_1","key":"the-secret"}"#.into());
    let output = run(&["keys", "add", "--source", "shop", "--url", &url, "--key", "k"]);
    assert_eq!(text(&output.stdout), "the-secret\n");
    assert!(!text(&output.stderr).contains("the-secret"));
}

#[test]
fn nothing_is_coloured_where_no_terminal_is() {
    let url = server(
        "200 OK",
        r#"{"took":1,"hits":{"total":{"value":1},"hits":[{"_id":"a","_source":{"time":"t","type":"a.b","source":"s\u001b[31m"}}]}}"#.into(),
    );
    let output = run(&["search", "*", "--url", &url, "--key", "k"]);
    assert_eq!(text(&output.stdout), "t  a.b  s\\u{1b}[31m\n");
    assert_eq!(text(&output.stderr), "1 event found in 1 ms\n");
}

#[test]
fn events_are_read_from_standard_input_and_counted() {
    let url = server("202 Accepted", r#"{"accepted":2,"rejected":0,"errors":[]}"#.into());
    let mut child =
        sluice(&["send", "-", "--url", &url, "--key", "k", "--json"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{\"a\":1}\n{\"a\":2}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["accepted"], &summary["complete"]), (&2.into(), &true.into()));
}

#[test]
fn the_key_from_the_data_folder_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let url = server("200 OK", r#"{"keys":[]}"#.into());
    std::fs::write(folder.path().join("server.json"), format!(r#"{{"url":"{url}","pid":1}}"#)).unwrap();
    let data = folder.path().to_str().unwrap();
    assert_eq!(run(&["keys", "list", "--data", data]).status.code(), Some(2), "no key yet");
    std::fs::write(folder.path().join("admin.key"), "secret\n").unwrap();
    assert_eq!(run(&["keys", "list", "--data", data]).status.code(), Some(0));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_sending_and_tells_what_was_sent() {
    let (url, asked) = watched_server("202 Accepted", r#"{"accepted":1,"rejected":0,"errors":[]}"#.into());
    let mut child =
        sluice(&["send", "-", "--batch-size", "1", "--url", &url, "--key", "k"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // Keeps standard input open; the events are taken one by one.
    let feeding = std::thread::spawn(move || while input.write_all(b"{\"a\":1}\n").is_ok() {});
    // By its first event it listens to signals.
    while !asked.recv().unwrap().starts_with("POST /v1/events") {}
    let done = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(done.success());
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(" accepted"), "{}", text(&output.stdout));
    no_panic(&output);
}

/// `sluice up` with a request of four bytes in flight, of which none has arrived.
#[cfg(unix)]
struct Up {
    child: std::process::Child,
    _output: BufReader<std::process::ChildStdout>,
    errors: BufReader<std::process::ChildStderr>,
    request: TcpStream,
    _data: tempfile::TempDir,
}

#[cfg(unix)]
impl Up {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let args = ["up", "--listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()];
        let mut child = sluice(&args).spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut welcome = String::new();
        output.read_line(&mut welcome).unwrap();
        let address = welcome.trim().rsplit("http://").next().unwrap().to_owned();
        let mut request = TcpStream::connect(address).unwrap();
        request
            .write_all(b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
            .unwrap();
        let mut asked_for_body = [0; 25];
        request.read_exact(&mut asked_for_body).unwrap();
        assert!(asked_for_body.starts_with(b"HTTP/1.1 100"));
        Self { child, _output: output, errors, request, _data: data }
    }

    fn interrupt(&self) {
        assert!(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Reads what it says up to a line with these words.
    fn wait_for(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(self.errors.read_line(&mut line).unwrap() > 0, "it ended without `{words}`");
        }
    }
}

#[cfg(unix)]
#[test]
fn one_ctrl_c_finishes_what_is_in_flight() {
    let mut up = Up::start();
    up.interrupt();
    up.wait_for("finishing what is in flight");
    up.request.write_all(b"null").unwrap();
    let mut reply = String::new();
    up.request.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 401"), "{reply}");
    assert_eq!(up.child.wait().unwrap().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn a_server_does_not_need_a_reader_of_its_welcome() {
    let data = tempfile::tempdir().unwrap();
    let args = ["up", "--listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()];
    let mut child = sluice(&args).spawn().unwrap();
    drop(child.stdout.take());
    // It is there before the welcome, and goes away when the server stops.
    let found = data.path().join("server.json");
    while !found.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    no_panic(&output);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let mut up = Up::start();
    up.interrupt();
    up.wait_for("once more Ctrl-C stops at once");
    up.interrupt();
    up.wait_for("stopped at once");
    assert_eq!(up.child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_draft_of_a_schema_goes_to_standard_output_and_what_is_undecided_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.ndjson");
    std::fs::write(&file, "{\"total\":1,\"at\":\"2026-11-20T10:00:00Z\"}\n{\"total\":2.5,\"more\":null}\n").unwrap();
    let said = sluice(&["schema", "infer", "--type", "order.paid", file.to_str().unwrap()]).output().unwrap();
    assert!(said.status.success(), "no server is asked");
    let draft: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((&draft["x-type"], &draft["required"]), (&"order.paid".into(), &serde_json::json!(["total"])));
    let notes = String::from_utf8(said.stderr).unwrap();
    assert!(notes.contains("`total` is a 64-bit float") && notes.contains("`more` is null in all samples"), "{notes}");
    let refused = sluice(&["schema", "infer", file.to_str().unwrap()]).output().unwrap();
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
}
