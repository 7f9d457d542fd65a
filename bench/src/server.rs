//! The programs that are measured, each as a process of its own.

use anyhow::{Context as _, bail};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running `sluice up` (release build), killed when dropped.
pub struct Sluice {
    child: Child,
    url: String,
    /// Admin key.
    pub key: String,
}

impl Sluice {
    /// Starts and waits until it answers.
    pub fn start(data: &Path, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let binary = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/release/sluice");
        std::fs::create_dir_all(data)?;
        let log = std::fs::File::create(data.with_extension("log"))?;
        let mut child = Command::new(&binary)
            .arg("--data")
            .arg(data)
            .args(["up", "--listen", "127.0.0.1:0"])
            .env("SLUICE_LOG_LEVEL", "warn")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start `{}`: build it with `make build`", binary.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        lines.next().context("`sluice up` did not start; see its log")??;
        std::thread::spawn(move || lines.for_each(drop));
        let server: Value = serde_json::from_str(&std::fs::read_to_string(data.join("server.json"))?)?;
        let url = server["url"].as_str().context("no url")?.to_owned();
        let key = std::fs::read_to_string(data.join("admin.key"))?.trim().to_owned();
        let sluice = Self { child, url, key };
        sluice.get("/health")?;
        Ok(sluice)
    }

    /// `host:port`
    pub fn address(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let mut stream = TcpStream::connect(self.address())?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
            self.key
        )?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        let body = reply.split_once("\r\n\r\n").context("no reply")?.1;
        Ok(serde_json::from_str(body)?)
    }

    /// Waits until every queue is empty.
    pub fn wait_until_stored(&self) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(1_800);
        while Instant::now() < until {
            let queues = self.get("/v1/queues")?;
            let busy = queues["queues"]
                .as_array()
                .context("no queues")?
                .iter()
                .any(|q| q["visible"] != 0 || q["in_flight"] != 0);
            if !busy {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the queues did not get empty")
    }

    /// Fails unless exactly these events are stored and the ledger adds up.
    pub fn check_stored(&self, events: usize) -> anyhow::Result<()> {
        let status = self.get("/v1/status")?;
        let ledger = &status["ledger"];
        if ledger["totals"]["lake"]["stored"] != events || ledger["adds_up"] != true {
            bail!("{events} were sent, the ledger says {ledger:#}");
        }
        Ok(())
    }

    fn status_field(&self, field: &str) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find(|l| l.starts_with(field)).context("no such field")?;
        let kb: f64 = line.split_whitespace().nth(1).context("no value")?.parse()?;
        Ok(kb / 1_024.0)
    }

    /// Most memory that it ever had resident.
    pub fn peak_mb(&self) -> anyhow::Result<f64> {
        self.status_field("VmHWM:")
    }

    /// Memory that it has resident.
    pub fn resident_mb(&self) -> anyhow::Result<f64> {
        self.status_field("VmRSS:")
    }

    /// Processor time that it has used.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = text.rsplit(") ").next().context("no fields")?.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Drop for Sluice {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A peer in Python.
pub struct Peer {
    child: Child,
    /// `host:port`
    pub address: String,
    /// Most memory that it had resident.
    pub peak_mb: f64,
}

impl Peer {
    /// Starts a script that prints its port.
    pub fn start(python: &Path, script: &Path, data: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data)?;
        let mut child =
            Command::new(python).arg(script).arg(data).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut port = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut port)?;
        Ok(Self { child, address: format!("127.0.0.1:{}", port.trim()), peak_mb: 0.0 })
    }

    /// Lets it convert what it has and waits for its end.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let peak =
            status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
        self.peak_mb = peak.unwrap_or_default() / 1_024.0;
        drop(self.child.stdin.take());
        anyhow::ensure!(self.child.wait()?.success(), "the peer failed");
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
