//! `sluice tables`: the lake's tables in figures.

use crate::cli::exit::Failure;
use crate::cli::terminal::{Out, clean, grouped, size, table};
use crate::client::Client;
use serde_json::Value;

/// List the lake's tables: rows, bytes, files, snapshots, last commit
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice tables
  sluice tables --json | jq '.tables[] | select(.files > 1000).name'")]
pub struct Tables {
    /// The server's reply as it is, with the columns
    #[arg(long)]
    json: bool,
}

impl Tables {
    /// Asks and shows.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let reply: Value = client.get("/v1/tables", &[]).await?;
        if self.json {
            out.json(&reply)?;
        } else {
            let rows = reply["tables"].as_array().into_iter().flatten().map(row);
            out.line(table(&["table", "rows", "size", "files", "snapshots", "last commit"], &[1, 2, 3, 4], rows))?;
        }
        out.flush()
    }
}

fn row(table: &Value) -> Vec<String> {
    let text = |field: &str| clean(table[field].as_str().unwrap_or("-")).into_owned();
    // A server that makes no tables knows their columns only.
    let figure = |field: &str, shown: fn(u64) -> String| table[field].as_u64().map_or_else(|| "-".into(), shown);
    vec![
        text("name"),
        figure("rows", grouped),
        figure("bytes", size),
        figure("files", grouped),
        figure("snapshots", grouped),
        text("last_commit"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;

    #[tokio::test]
    async fn tables_are_listed_with_their_figures() {
        const REPLY: &str = r#"{"tables":[
            {"name":"game_start","columns":[],"rows":12345,"bytes":2000,"files":3,"snapshots":2,"last_commit":"2026-11-21T10:00:00Z"},
            {"name":"event","columns":[]}]}"#;
        let fake = Fake::start(move |_, _| (200, vec![], REPLY.into())).await;
        let (mut out, written) = Out::captured();
        Tables { json: false }.run(&fake.client(), &mut out).await.unwrap();
        let shown = written.text();
        let of = |name: &str| {
            shown.lines().find(|line| line.contains(name)).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            of("game_start"),
            format!("game_start {} {} 3 2 2026-11-21T10:00:00Z", grouped(12_345), size(2_000)),
            "{shown}"
        );
        assert_eq!(of("event"), "event - - - - -");
    }
}
