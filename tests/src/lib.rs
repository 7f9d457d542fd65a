//! What the end-to-end tests share: the real `sluice` binary, started on a folder and a port of its own, and other programs that look at
//! what it stored.

pub mod grafana;
pub mod lambda;
pub mod ministack;
pub mod opensearch;
pub mod prometheus;
pub mod proxy;
pub mod request;
pub mod stack;
pub mod trino;

use anyhow::{Context as _, bail};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a condition may take to come true. Not a bound on speed: a loaded machine is slow, a broken program never gets there.
const PATIENCE: Duration = Duration::from_secs(90);

/// The `sluice` binary that was built with these tests, or the one that `SLUICE_TEST_BINARY` names.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("SLUICE_TEST_BINARY") {
        return named.into();
    }
    let mut path = std::env::current_exe().unwrap_or_default();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.join("sluice")
}

/// Runs the command line.
pub fn sluice(data: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    command(data, arguments).output().context("cannot start `sluice`: build it with `cargo build -p sluice`")
}

/// Runs the command line and answers what it printed; an exit code other than 0 is an error.
pub fn sluice_text(data: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = sluice(data, arguments)?;
    if !output.status.success() {
        bail!("sluice {}: {}\n{}", arguments.join(" "), output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the command line with text on its standard input.
pub fn sluice_with_input(data: &Path, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
    let mut child =
        command(data, arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

/// The command line as a process that is still to be started.
pub fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("--data").arg(data).args(arguments).stdin(Stdio::null());
    // Settings of whoever runs the tests must not reach them.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SLUICE_") {
            command.env_remove(name);
        }
    }
    command
}

/// A running `sluice up`, killed when it is dropped.
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// The admin key.
    pub key: String,
    data: PathBuf,
}

impl Server {
    /// Starts on a folder, on a free port.
    pub fn start(data: &Path) -> anyhow::Result<Self> {
        Self::start_with(data, &[])
    }

    /// Starts with settings given as environment variables.
    pub fn start_with(data: &Path, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_by(data, &[], environment)
    }

    /// Starts with further arguments and settings.
    pub fn start_by(data: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let _ = std::fs::remove_file(data.join("server.json"));
        let mut command = command(data, &["up", "--listen", "127.0.0.1:0"]);
        command.args(arguments);
        // Incidents are events too: a slow machine, or a full one, must not make some where a test counts.
        command.envs([("SLUICE_LAG_ALERT_S", "86400"), ("SLUICE_DISK_FREE_ALERT_BYTES", "1")]);
        let log = std::fs::File::create(data.with_extension("log"))?;
        let mut child = command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(log).spawn()?;
        // The first line says that it is up; end of file says that it is not.
        let stdout = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = lines.next();
        std::thread::spawn(move || lines.for_each(drop));
        if first.is_none() {
            let status = child.wait()?;
            bail!("`sluice up` ended with {status}:\n{}", std::fs::read_to_string(data.with_extension("log"))?);
        }
        let server: Value = serde_json::from_str(&std::fs::read_to_string(data.join("server.json"))?)?;
        let url = server["url"].as_str().context("server.json has no url")?.to_owned();
        let key = std::fs::read_to_string(data.join("admin.key"))?.trim().to_owned();
        Ok(Self { child, url, key, data: data.to_owned() })
    }

    /// Kills the process as a crash would.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop and waits for the end; answers the exit code.
    pub fn stop(mut self) -> anyhow::Result<Option<i32>> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        Ok(self.child.wait()?.code())
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Posts a body with the admin key; answers status and reply.
    pub fn post(&self, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> anyhow::Result<(u16, Value)> {
        let reply = send_raw(
            &self.url,
            "POST",
            path,
            &[("content-type", content_type), ("authorization", &format!("Bearer {}", self.key))],
            &body.into(),
        )?;
        Ok((reply.status, reply.json()))
    }

    /// Posts JSON.
    pub fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        self.post(path, "application/json", body.to_string())
    }

    /// Reads a path with the admin key.
    pub fn get(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        let reply = send_raw(&self.url, "GET", path, &[("authorization", &format!("Bearer {}", self.key))], b"")?;
        Ok((reply.status, reply.json()))
    }

    /// The first value of a query's first row.
    pub fn sql_value(&self, sql: &str) -> anyhow::Result<Value> {
        let (status, reply) = self.post_json("/v1/sql", &serde_json::json!({"sql": sql}))?;
        if status != 200 {
            bail!("{sql}: {status} {reply}");
        }
        Ok(reply["rows"][0][0].clone())
    }

    /// Waits until the lake, search and detect have all that was accepted, and checks that it adds up and nothing is in a dead-letter queue.
    pub fn settle(&self) -> anyhow::Result<Value> {
        let mut status = Value::Null;
        eventually("everything is stored", || {
            status = self.get("/v1/status")?.1;
            let waiting = status["queues"]
                .as_array()
                .context("no queues")?
                .iter()
                .any(|q| q["visible"] != 0 || q["in_flight"] != 0);
            Ok(!waiting && status["ledger"]["adds_up"] == true)
        })
        .with_context(|| format!("{status:#}"))?;
        Ok(status)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("--- the server's last lines\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Waits until a condition holds; the error says what did not come true.
pub fn eventually(what: &str, holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    eventually_within(PATIENCE, what, holds)
}

/// The same for what takes many steps, each of which may be slow.
pub fn eventually_within(
    patience: Duration,
    what: &str,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let until = Instant::now() + patience;
    loop {
        if holds()? {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("it never came true that {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A raw HTTP reply.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Head as text, names in lower case.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as JSON, null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// One HTTP/1.1 request on a connection of its own, written out by hand so that a test can send what no client library would.
pub fn send_raw(url: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<Reply> {
    use std::io::Read as _;
    let address = url.strip_prefix("http://").context("not an http URL")?;
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    // A server may answer before it has read a body that it does not want.
    let _ = stream.write_all(body);
    let mut raw = Vec::new();
    let _ = stream.read_to_end(&mut raw);
    let split = raw.windows(4).position(|w| w == b"\r\n\r\n").context("no reply")?;
    let head = String::from_utf8_lossy(&raw[..split]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("no status")?;
    let mut body = raw[split + 4..].to_vec();
    if head.contains("transfer-encoding: chunked") {
        body = dechunk(&body);
    }
    Ok(Reply { status, head, body })
}

fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = raw.windows(2).position(|w| w == b"\r\n") {
        let size =
            std::str::from_utf8(&raw[..end]).ok().and_then(|s| usize::from_str_radix(s.trim(), 16).ok()).unwrap_or(0);
        if size == 0 || raw.len() < end + 2 + size {
            break;
        }
        out.extend_from_slice(&raw[end + 2..end + 2 + size]);
        raw = raw.get(end + 2 + size + 2..).unwrap_or_default();
    }
    out
}

/// Says that a check was skipped, and why, past the test harness, which hides what passing tests print; `make test` counts these lines. In
/// CI nothing may be skipped: there it is an error.
pub fn skipped(why: &str) -> anyhow::Result<()> {
    if std::env::var_os("CI").is_some() {
        bail!("skipped in CI: {why}");
    }
    writeln!(std::io::stdout().lock(), "\nSKIPPED: {why}")?;
    Ok(())
}

/// A program of the project's Python environment (`python`, `sam`, `cfn-lint`); `None` where there is none, which is said. In CI that is an
/// error.
pub fn tool(name: &str) -> anyhow::Result<Option<Command>> {
    let python = std::env::var_os("SLUICE_TEST_PYTHON").map(PathBuf::from);
    let path = python.as_deref().and_then(Path::parent).map(|folder| folder.join(name));
    match path.filter(|path| path.exists()) {
        Some(path) => {
            let mut command = Command::new(path);
            command.env("SAM_CLI_TELEMETRY", "0");
            Ok(Some(command))
        }
        None => {
            skipped(&format!("no `{name}`: run the tests by `make test`, which prepares it"))?;
            Ok(None)
        }
    }
}

/// Runs a Python program with DuckDB and pyarrow at hand and answers what it printed; `None` where there is no such Python, which is said
/// on standard error. In CI that is an error.
pub fn python(program: &str, arguments: &[&str]) -> anyhow::Result<Option<String>> {
    let Some(python) = std::env::var_os("SLUICE_TEST_PYTHON") else {
        skipped("no Python with DuckDB and pyarrow: run the tests by `make test`, which prepares one")?;
        return Ok(None);
    };
    let output = Command::new(python).arg("-c").arg(program).args(arguments).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}
