//! `sluice compact`: small files of the lake become large ones.

use crate::cli::exit::Failure;
use crate::cli::terminal::{Out, clean, counted, grouped, note, size, table};
use crate::client::Client;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Merge the small files of closed partitions, sorted and without repeated rows; the clock does so each hour
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice compact --dry-run
  sluice compact --table web_event
  sluice compact --table web_event --partition dt=2026-11-21/hour=10")]
pub struct Compact {
    /// Only this table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Only this partition, closed or not, as its folder is called
    #[arg(long, value_name = "PARTITION", requires = "table")]
    partition: Option<String>,
    /// Say what would be merged, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// What was done as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Run {
    compacted: Vec<Compacted>,
    finished: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Compacted {
    table: String,
    partition: String,
    removed: Extent,
    added: Option<Extent>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
struct Extent {
    files: u64,
    rows: u64,
    bytes: u64,
}

impl Compact {
    /// Asks until all is done, and shows.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let body = json!({"table": self.table, "partition": self.partition, "dry_run": self.dry_run});
        let mut run = Run::default();
        while !run.finished {
            let part: Run = client.post("/v1/tables/compact", &[], &body).await?;
            run.compacted.extend(part.compacted);
            run.finished = part.finished;
        }
        if self.json {
            out.json(&json!(run))?;
            return out.flush();
        }
        if !run.compacted.is_empty() {
            let headings = ["table", "partition", "files", "rows", "size", "into", "rows", "size"];
            out.line(table(&headings, &[2, 3, 4, 5, 6, 7], run.compacted.iter().map(row)))?;
        }
        out.flush()?;
        let partitions = counted(run.compacted.len() as u64, "partition");
        note(if self.dry_run { format!("{partitions} to compact") } else { format!("{partitions} compacted") });
        Ok(())
    }
}

fn row(compacted: &Compacted) -> Vec<String> {
    let mut row = vec![clean(&compacted.table).into_owned(), clean(&compacted.partition).into_owned()];
    for extent in [Some(compacted.removed), compacted.added] {
        match extent {
            Some(of) => row.extend([grouped(of.files), grouped(of.rows), size(of.bytes)]),
            None => row.extend(["-"; 3].map(str::to_owned)),
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn it_asks_until_all_is_done() {
        let calls = AtomicUsize::new(0);
        let fake = Fake::start(move |_, _| {
            let n = calls.fetch_add(1, Ordering::SeqCst);
            let reply = json!({"compacted": [{"table": format!("t{n}"), "partition": "dt=2026-11-21",
                "removed": {"files": 1200, "rows": 50_000, "bytes": 9_000}, "added": {"files": 1, "rows": 49_999, "bytes": 4_000}}],
                "finished": n == 1});
            (200, vec![], reply.to_string())
        })
        .await;
        let (mut out, written) = Out::captured();
        let ask = Compact { table: None, partition: None, dry_run: false, json: false };
        ask.run(&fake.client(), &mut out).await.unwrap();
        let text = written.text();
        for part in ["t0", "t1", "1,200", "49,999"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("t2"), "{text}");
    }
}
