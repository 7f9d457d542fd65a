//! AWS for tests: ministack, started for the test and gone with it, or whatever `AWS_ENDPOINT_URL` names.

use crate::skipped;
use anyhow::{Context as _, bail};
use serde_json::Value;
use sluice_adapters_aws::{Bounds, Connection, Credentials};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The region of everything.
pub const REGION: &str = "eu-central-1";

/// How long the emulator may take to answer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Lines of its log that a failed test repeats.
const TAIL: usize = 40;

/// An emulated AWS.
pub struct Ministack {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    process: Option<Process>,
}

struct Process {
    child: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    /// What it and the functions that it runs log; the file has no name, so that nothing is left of it.
    log: File,
}

impl Process {
    /// What was logged; to be asked for when nothing is written any more.
    fn logged(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = self.log.rewind().and_then(|()| self.log.read_to_end(&mut bytes));
        read.map_or_else(|e| e.to_string(), |_| String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Ministack {
    /// The emulator that the tests of one program share; each takes an account of its own. It ends with the program, by the end of its
    /// standard input.
    pub fn shared() -> anyhow::Result<Option<&'static Self>> {
        static SHARED: Mutex<Option<&'static Ministack>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.is_none() {
            *shared = Self::start()?.map(|started| &*Box::leak(Box::new(started)));
        }
        Ok(*shared)
    }

    /// Starts the emulator on a port of its own, or takes the one that `AWS_ENDPOINT_URL` names. `None` where there is neither, which is
    /// said; in CI that is an error.
    pub fn start() -> anyhow::Result<Option<Self>> {
        if let Some(url) = std::env::var("AWS_ENDPOINT_URL").ok().filter(|url| !url.is_empty()) {
            return Ok(Some(Self { url, process: None }));
        }
        let Some(python) = std::env::var_os("SLUICE_TEST_PYTHON") else {
            skipped("no Python with ministack: run the tests by `make test`, which prepares one")?;
            return Ok(None);
        };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let url = format!("http://127.0.0.1:{port}");
        let log = tempfile::tempfile()?;
        let mut child = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("emulator.py"))
            .env("AWS_ENDPOINT_URL", &url)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", REGION)
            .env("AWS_DEFAULT_REGION", REGION)
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            // Without it the emulator would listen on every address.
            .env("BIND_HOST", "127.0.0.1")
            .env("IOT_MTLS_ENABLED", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?)
            .spawn()
            .context("cannot start ministack")?;
        let pipes =
            (child.stdin.take().context("no stdin")?, BufReader::new(child.stdout.take().context("no stdout")?));
        let mut started = Self { url, process: Some(Process { child, pipes: Mutex::new(pipes), log }) };
        started.wait_until_healthy()?;
        Ok(Some(started))
    }

    fn wait_until_healthy(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(process) = &mut self.process
                && let Some(status) = process.child.try_wait()?
            {
                bail!("ministack ended with {status}:\n{}", process.logged());
            }
            let health = crate::send_raw(&self.url, "GET", "/_ministack/health", &[], b"");
            if health.is_ok_and(|reply| reply.status == 200) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("ministack at {} does not answer", self.url)
    }

    /// Whether its clock can be set forward.
    pub fn has_clock(&self) -> bool {
        self.process.is_some()
    }

    /// Sets the clock forward; where that cannot be done, waits.
    pub fn advance(&self, by: Duration) {
        let Some(process) = &self.process else { return std::thread::sleep(by) };
        let mut pipes = process.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let (stdin, stdout) = &mut *pipes;
        let wanted = by.as_secs_f64().to_string();
        let mut line = String::new();
        let moved = writeln!(stdin, "{wanted}").and_then(|()| stdin.flush()).is_ok();
        // Its own lines come first.
        while moved && stdout.read_line(&mut line).is_ok_and(|n| n > 0) {
            if line.trim().parse::<f64>().is_ok() {
                return;
            }
            line.clear();
        }
        eprintln!("ministack's clock could not be set forward");
    }

    /// An account that nobody else uses; where the service has one account only, that one.
    pub fn account(&self) -> Account {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let own = |name: &str, value: String| if self.has_clock() { value } else { variable(name).unwrap_or(value) };
        Account {
            url: self.url.clone(),
            access_key: own("AWS_ACCESS_KEY_ID", format!("{number:012}")),
            secret_key: own("AWS_SECRET_ACCESS_KEY", "test-secret-key".into()),
            // An outside account may hold what an earlier run left.
            suffix: format!("{}-{number}", std::process::id()),
        }
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.child.kill();
            let _ = process.child.wait();
            if std::thread::panicking() {
                let log = process.logged();
                let telling = log.lines().filter(|line| ["WARN", "ERROR"].iter().any(|level| line.contains(level)));
                let tail: Vec<&str> = telling.rev().take(TAIL).collect();
                eprintln!(
                    "--- the emulator's last complaints\n{}",
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
        }
    }
}

/// An account of the emulated AWS.
#[derive(Debug, Clone)]
pub struct Account {
    /// Endpoint of all services.
    pub url: String,
    /// Access key; twelve digits are the account's number.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
    suffix: String,
}

impl Account {
    /// A connection for the adapters.
    pub fn connection(&self, bounds: Bounds) -> Connection {
        self.connection_by(&self.url, bounds)
    }

    /// A connection by another way to the same services, such as a proxy.
    pub fn connection_by(&self, url: &str, bounds: Bounds) -> Connection {
        let credentials = Credentials::new(&self.access_key, &self.secret_key, None, None, "test");
        Connection::new(credentials, REGION.to_owned(), Some(url.to_owned()), bounds)
    }

    /// A name that nothing else has.
    pub fn name(&self, of: &str) -> String {
        format!("{of}-{}", self.suffix)
    }

    /// A call of Glue, for which there is no client that could prepare something: `name` as in the API, `input` as its JSON.
    pub fn glue(&self, name: &str, input: &Value) -> anyhow::Result<Value> {
        let scope = format!("{}/20260101/{REGION}/glue/aws4_request", self.access_key);
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", &format!("AWSGlue.{name}") as &str),
            // Emulators look at who calls, and not whether it is so.
            ("authorization", &format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0")),
        ];
        let reply = crate::send_raw(&self.url, "POST", "/", &headers, input.to_string().as_bytes())?;
        anyhow::ensure!(reply.status == 200, "{name}: {} {}", reply.status, reply.json());
        Ok(reply.json())
    }

    /// The environment that a function gets from Lambda.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.url.as_str()),
            ("AWS_ACCESS_KEY_ID", &self.access_key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_key),
            ("AWS_REGION", REGION),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}
