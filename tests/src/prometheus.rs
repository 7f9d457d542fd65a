//! A real Prometheus for tests, over the project's own configuration and rules, on a free port and a folder of its own.

use crate::{eventually, send_raw, skipped};
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Exit code of the script where there is none.
const LACKING: i32 = 3;
/// Address of `sluice up` in the project's configuration.
const TARGET: &str = "127.0.0.1:7070";

/// The folder of the configuration, its rules and their tests.
pub fn configuration() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/prometheus"))
}

/// The folder of `prometheus` and `promtool`; `None` where this machine has none, which is said. In CI that is an error.
pub fn programs() -> anyhow::Result<Option<PathBuf>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/prometheus.sh");
    let found = Command::new(script).output()?;
    if found.status.code() == Some(LACKING) {
        let said = String::from_utf8_lossy(&found.stderr);
        skipped(said.trim().lines().last().unwrap_or_default())?;
        return Ok(None);
    }
    anyhow::ensure!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    Ok(Some(PathBuf::from(String::from_utf8_lossy(&found.stdout).trim())))
}

/// Runs `promtool` with this on its standard input; what it complains of is the error.
pub fn promtool(programs: &Path, arguments: &[&str], input: &[u8]) -> anyhow::Result<()> {
    let mut child = Command::new(programs.join("promtool"))
        .args(arguments)
        .current_dir(configuration())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no standard input")?.write_all(input)?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    anyhow::ensure!(output.status.success(), "promtool {}: {said}", arguments.join(" "));
    Ok(())
}

/// A running Prometheus, killed when it is dropped.
pub struct Prometheus {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts by the project's configuration, but with this server in place of its own and every pause of it a second.
    pub fn start(programs: &Path, server: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("prometheus-").tempdir()?;
        let server = server.strip_prefix("http://").context("not an http URL")?;
        let config = std::fs::read_to_string(configuration().join("prometheus.yaml"))?;
        let mut edited = config.replace(TARGET, server);
        for pause in ["scrape_interval: 15s", "evaluation_interval: 30s"] {
            anyhow::ensure!(config.contains(pause) && config.contains(TARGET), "prometheus.yaml has no `{pause}`");
            let (name, _) = pause.split_once(' ').context("no value")?;
            edited = edited.replace(pause, &format!("{name} 1s"));
        }
        std::fs::write(folder.path().join("prometheus.yaml"), edited)?;
        std::fs::copy(configuration().join("rules.yaml"), folder.path().join("rules.yaml"))?;
        let mut child = Command::new(programs.join("prometheus"))
            .arg(format!("--config.file={}", folder.path().join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut log = BufReader::new(child.stderr.take().context("no standard error")?).lines();
        let mut said = Vec::new();
        // The line tells the port that it was given.
        let address = loop {
            let Some(line) = log.next().transpose()? else {
                bail!("Prometheus ended with {}:\n{}", child.wait()?, said.join("\n"));
            };
            if line.contains("msg=\"Listening on\"")
                && let Some((_, address)) = line.split_once("address=")
            {
                break address.split(' ').next().unwrap_or_default().to_owned();
            }
            said.push(line);
        };
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        let prometheus = Self { child, url: format!("http://{address}"), _folder: folder };
        eventually("Prometheus is ready", || {
            Ok(send_raw(&prometheus.url, "GET", "/-/ready", &[], b"").is_ok_and(|reply| reply.status == 200))
        })?;
        Ok(prometheus)
    }

    /// Asks its HTTP API; answers `data`.
    fn ask(&self, path: &str, form: &str) -> anyhow::Result<Value> {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let method = if form.is_empty() { "GET" } else { "POST" };
        let reply = send_raw(&self.url, method, path, &headers, form.as_bytes())?.json();
        anyhow::ensure!(reply["status"] == "success", "{}", reply["error"]);
        Ok(reply["data"].clone())
    }

    /// What an expression comes to now: the value of each series. Text that is no expression is an error.
    pub fn query(&self, expression: &str) -> anyhow::Result<Vec<f64>> {
        let data = self.ask("/api/v1/query", &format!("query={}", percent_encoded(expression)))?;
        let series = data["result"].as_array().context("no result")?;
        let value = |series: &Value| series["value"][1].as_str().and_then(|value| value.parse().ok());
        Ok(series.iter().filter_map(value).collect())
    }

    /// Every rule: its name, its expression, and what is wrong with it (empty for nothing). Those that were not yet worked out are wrong.
    pub fn rules(&self) -> anyhow::Result<Vec<(String, String, String)>> {
        let data = self.ask("/api/v1/rules", "")?;
        let groups = data["groups"].as_array().context("no groups")?;
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let wrong = |rule: &Value| match rule["health"].as_str() {
            Some("ok") => String::new(),
            health => format!("{} {}", health.unwrap_or_default(), text(&rule["lastError"])),
        };
        Ok(rules.map(|rule| (text(&rule["name"]), text(&rule["query"]), wrong(rule))).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
