//! `sluice users`: what was received of a user.

use crate::cli::exit::Failure;
use crate::cli::terminal::{Out, counted, grouped, note, table};
use crate::client::Client;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Erase users, and see what became of that
#[derive(Debug, clap::Subcommand)]
pub enum Users {
    Erase(Erase),
    Erasures(Erasures),
}

/// Erase what was received of a user, from lake, search, quarantine, outbox and rules; it cannot be undone.
///
/// What is still on its way is erased when it comes, for 36 days. What the user sends from now on is kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice users erase kim@example.org")]
pub struct Erase {
    /// The user's id, as events have it in `userid`
    #[arg(value_name = "USERID")]
    user: String,
    /// The receipt as JSON
    #[arg(long)]
    json: bool,
}

/// Show the receipts; they do not name the users
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice users erasures")]
pub struct Erasures {
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Receipt {
    id: String,
    state: String,
    until: String,
    erased_at: Option<String>,
    watched_until: String,
    erased: Counts,
}

#[derive(Debug, Deserialize, Serialize)]
struct Counts {
    rows: u64,
    files: u64,
    documents: u64,
    records: u64,
    mails: u64,
    rules: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct List {
    erasures: Vec<Receipt>,
}

impl Users {
    /// Does what is asked, and shows.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::Erase(Erase { user, json }) => {
                let receipt: Receipt = client.post("/v1/erasures", &[], &json!({"userid": user})).await?;
                note(said(&receipt));
                show(out, std::slice::from_ref(&receipt), json.then(|| json!(receipt)))
            }
            Self::Erasures(Erasures { json }) => {
                let list: List = client.get("/v1/erasures", &[]).await?;
                if list.erasures.is_empty() && !json {
                    note("nobody was erased");
                    return Ok(());
                }
                show(out, &list.erasures, json.then(|| json!(list)))
            }
        }
    }
}

fn said(receipt: &Receipt) -> String {
    let Receipt { erased, watched_until, .. } = receipt;
    match receipt.erased_at {
        Some(_) => format!(
            "erased {}, {} and {}; what comes in late is looked for until {watched_until}",
            counted(erased.rows, "row"),
            counted(erased.documents, "document"),
            counted(erased.records, "record")
        ),
        None => "noted; it is not done yet, and `sluice users erasures` says how far it is".to_owned(),
    }
}

fn show(out: &mut Out, receipts: &[Receipt], json: Option<serde_json::Value>) -> Result<(), Failure> {
    if let Some(json) = json {
        return out.json(&json);
    }
    let headings = ["erasure", "state", "received until", "rows", "files", "documents", "records", "mails", "rules"];
    let row = |receipt: &Receipt| {
        let Counts { rows, files, documents, records, mails, rules } = receipt.erased;
        let mut row = vec![receipt.id.clone(), receipt.state.clone(), receipt.until.clone()];
        row.extend([rows, files, documents, records, mails, rules].map(grouped));
        row
    };
    out.line(table(&headings, &[3, 4, 5, 6, 7, 8], receipts.iter().map(row)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;

    fn receipt() -> serde_json::Value {
        json!({"id": "0123", "state": "erased", "until": "2026-11-22T09:00:00.000Z", "erased_at": "2026-11-22T09:00:01.000Z",
            "watched_until": "2026-12-28T09:00:00.000Z",
            "erased": {"rows": 1_234, "files": 3, "documents": 1_200, "records": 2, "mails": 1, "rules": 0}})
    }

    #[tokio::test]
    async fn the_receipt_is_shown() {
        let fake = Fake::start(|_, got| match got.method.as_str() {
            "POST" => (200, vec![], receipt().to_string()),
            _ => (200, vec![], json!({"erasures": [receipt()]}).to_string()),
        })
        .await;
        for (ask, json) in [(true, false), (true, true), (false, false)] {
            let (mut out, written) = Out::captured();
            let ask = match ask {
                true => Users::Erase(Erase { user: "a/b@example.org".into(), json }),
                false => Users::Erasures(Erasures { json }),
            };
            ask.run(&fake.client(), &mut out).await.unwrap();
            let text = written.text();
            assert!(text.contains("0123") && text.contains(if json { "1234" } else { "1,234" }), "{text}");
        }
        let got = fake.got();
        let body = String::from_utf8(got[0].body.clone()).unwrap();
        assert_eq!((got[0].path.as_str(), body.as_str()), ("/v1/erasures", r#"{"userid":"a/b@example.org"}"#));
    }
}
