//! A real OpenSearch server for tests, started by `scripts/opensearch.sh` on a free port and a folder of its own.

use crate::{eventually, send_raw, skipped};
use anyhow::{Context as _, bail};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

/// Exit code of the script where something that the server needs is missing.
const LACKING: i32 = 3;
/// Lines of the server's log that an error repeats.
const TAIL: usize = 20;

/// A running server, killed when it is dropped. A test program runs one at a time: each takes a core until it is up, and several on a
/// small machine make each other run out of time.
pub struct OpenSearchServer {
    _turn: Turn,
    child: Option<Child>,
    port: u16,
    settings: Vec<String>,
    folder: tempfile::TempDir,
}

impl OpenSearchServer {
    /// The server that tests which run at the same time share, each under index names of its own.
    pub fn shared() -> anyhow::Result<Option<Arc<Self>>> {
        static SHARED: Mutex<Weak<OpenSearchServer>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Ok(Some(server));
        }
        let server = Self::start(&[])?.map(Arc::new);
        *shared = server.as_ref().map(Arc::downgrade).unwrap_or_default();
        Ok(server)
    }

    /// A server of one's own with further settings (`key=value`). `None` where this machine lacks what it needs, which is said; in CI
    /// that is an error. Waits for its turn: who holds one must not start another.
    pub fn start(settings: &[&str]) -> anyhow::Result<Option<Self>> {
        let turn = Turn::take();
        let folder = tempfile::Builder::new().prefix("opensearch-").tempdir()?;
        // Run by root, the server is another user, who has to get into its folder.
        Command::new("chmod").arg("755").arg(folder.path()).status()?;
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { _turn: turn, child: None, port: 0, settings, folder };
        match server.run()? {
            Started::Up => Ok(Some(server)),
            Started::Lacking(why) => {
                skipped(&why)?;
                Ok(None)
            }
        }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts it again on its data and at its address.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        match self.run()? {
            Started::Up => Ok(()),
            Started::Lacking(why) => bail!("OpenSearch does not start again: {why}"),
        }
    }

    fn run(&mut self) -> anyhow::Result<Started> {
        let script = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/opensearch.sh"));
        let mut command = Command::new(script);
        command.arg("run").arg(self.folder.path().join("node")).arg(self.port.to_string());
        for setting in &self.settings {
            command.arg("-E").arg(setting);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (told, port) = mpsc::channel();
        let log = BufReader::new(stdout.context("no standard output")?);
        let reader = std::thread::spawn(move || {
            let mut tail = VecDeque::new();
            for line in log.lines().map_while(Result::ok) {
                if let Some(port) = port_of(&line) {
                    let _ = told.send(port);
                }
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(line);
            }
            tail
        });
        let mut stderr = stderr.context("no standard error")?;
        let complaint = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        // The address comes, or the log ends because the server did.
        let Ok(port) = port.recv() else {
            let status = child.wait()?;
            let complaint = complaint.join().unwrap_or_default();
            if status.code() == Some(LACKING) {
                return Ok(Started::Lacking(complaint.trim().to_owned()));
            }
            let tail: Vec<String> = reader.join().unwrap_or_default().into();
            bail!("OpenSearch ended with {status}:\n{complaint}\n{}", tail.join("\n"));
        };
        (self.child, self.port) = (Some(child), port);
        let url = self.url();
        eventually("OpenSearch takes documents", || {
            let health = send_raw(&url, "GET", "/_cluster/health?wait_for_status=yellow&timeout=5s", &[], b"");
            Ok(health.is_ok_and(|reply| reply.status == 200))
        })?;
        Ok(Started::Up)
    }
}

impl Drop for OpenSearchServer {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// The right to run a server.
struct Turn;

static TAKEN: Mutex<bool> = Mutex::new(false);
static GIVEN_BACK: Condvar = Condvar::new();

impl Turn {
    fn take() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        *GIVEN_BACK.wait_while(taken, |taken| *taken).unwrap_or_else(PoisonError::into_inner) = true;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
        GIVEN_BACK.notify_one();
    }
}

enum Started {
    Up,
    Lacking(String),
}

/// The port in the line by which the server tells its address.
fn port_of(line: &str) -> Option<u16> {
    let (_, told) = line.split_once("HttpServerTransport")?;
    let (_, address) = told.split_once("publish_address {")?;
    address.split_once('}')?.0.rsplit_once(':')?.1.parse().ok()
}
