//! `sluice keys`: who may do what.

use crate::cli::collection::{Collection, text};
use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::{Out, note};
use crate::client::{CallError, Client};
use serde_json::{Value, json};

const KEYS: Collection = Collection {
    noun: "key",
    name: "keys",
    headings: &["id", "scope", "sources", "types", "max age", "created", "name"],
    row,
};

/// Add, list and revoke keys
#[derive(Debug, clap::Subcommand)]
pub enum Keys {
    Add(Add),
    List(List),
    Revoke(Revoke),
}

/// Make a key and print it, alone, on standard output.
///
/// It is shown only now: the server keeps its hash. A write key is bound to sources; it may stand in a web page.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice keys add --source shop
  sluice keys add --source shop --origin https://shop.example.com --type web.event
  sluice keys add --source import --max-age-days none --name 'old logs'
  KEY=$(sluice keys add --scope read)")]
pub struct Add {
    /// Source that the key may write; may be given several times; `*` is any
    #[arg(long = "source", value_name = "NAME", required_unless_present = "scope", required_if_eq("scope", "write"))]
    sources: Vec<String>,
    /// What the key may do
    #[arg(long, value_enum, default_value = "write")]
    scope: Scope,
    /// Oldest events that it may bring, in days, or `none` for no limit; the server's choice where it is not given
    #[arg(long, value_name = "N|none", value_parser = max_age)]
    max_age_days: Option<MaxAge>,
    /// Type that the key may write; may be given several times; any where it is not given
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Web origin that the key may be used from; may be given several times; any where it is not given
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// What it is for, for people
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The server's reply as it is, in place of the key alone
    #[arg(long)]
    json: bool,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Scope {
    /// Send events
    Write,
    /// Search and SQL
    Read,
    /// Everything
    Admin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MaxAge {
    Days(u32),
    Unlimited,
}

fn max_age(text: &str) -> Result<MaxAge, String> {
    match text {
        "none" => Ok(MaxAge::Unlimited),
        days => days.parse().map(MaxAge::Days).map_err(|_| "it is a number of days, or `none`".to_owned()),
    }
}

/// List the keys, without their secrets
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice keys list
  sluice keys list --json | jq '.keys[].id'")]
pub struct List {
    /// The server's reply as it is
    #[arg(long)]
    json: bool,
}

/// Revoke a key: requests with it are refused within seconds
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice keys revoke k_0123456789abcdef")]
pub struct Revoke {
    /// Id, as `sluice keys list` shows it
    #[arg(value_name = "ID")]
    id: String,
}

impl Keys {
    /// Does what is asked.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run(client, out).await,
            Self::List(List { json }) => KEYS.list(client, out, json).await,
            Self::Revoke(Revoke { id }) => KEYS.remove(client, &id, "revoked").await,
        }
    }
}

impl Add {
    async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let Some(reply) = KEYS.add(client, out, &self.body(), self.json).await? else { return Ok(()) };
        let Some(key) = reply.get("key").and_then(Value::as_str) else {
            return Err(CallError::Strange("the server made a key but its reply does not hold it".into()).into());
        };
        out.line(key)?;
        out.flush().map_err(|failure| Failure { exit: Exit::Failed, ..failure })?;
        if let Some(id) = reply.get("id").and_then(Value::as_str) {
            note(format!("this is key `{id}`; it is not shown again"));
        }
        Ok(())
    }

    fn body(&self) -> Value {
        let scope = match self.scope {
            Scope::Write => "write",
            Scope::Read => "read",
            Scope::Admin => "admin",
        };
        let mut body = json!({"sources": self.sources, "scope": scope, "types": self.types, "origins": self.origins});
        if let Some(name) = &self.name {
            body["name"] = json!(name);
        }
        match self.max_age_days {
            Some(MaxAge::Days(days)) => body["max_age_days"] = json!(days),
            Some(MaxAge::Unlimited) => body["max_age_days"] = Value::Null,
            None => {}
        }
        body
    }
}

fn row(key: &Value) -> Vec<String> {
    let text = |name: &str| text(key, name);
    let list = |name: &str| {
        let items: Vec<&str> =
            key.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        if items.is_empty() { "any".to_owned() } else { items.join(", ") }
    };
    let scope = text("scope");
    let (sources, types, age) = match scope.as_str() {
        "read" => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        _ => {
            let age = key.get("max_age_days").and_then(Value::as_u64);
            (list("sources"), list("types"), age.map_or_else(|| "none".to_owned(), |days| format!("{days} d")))
        }
    };
    let revoked = if key.get("revoked_at").is_some_and(|at| !at.is_null()) { " (revoked)" } else { "" };
    vec![text("id"), format!("{scope}{revoked}"), sources, types, age, text("created"), text("name")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        keys: Keys,
    }

    async fn run(line: &str, answer: &'static str) -> (String, Vec<u8>) {
        let fake = Fake::start(move |_, _| (201, vec![], answer.into())).await;
        let (mut out, written) = Out::captured();
        let line = Line::try_parse_from(["keys"].into_iter().chain(line.split_whitespace())).unwrap();
        line.keys.run(&fake.client(), &mut out).await.unwrap();
        (written.text(), fake.got()[0].body.clone())
    }

    #[tokio::test]
    async fn a_new_key_is_alone_on_standard_output() {
        let (text, body) = run("add --source shop", r#"{"id":"k_1","key":"slk_secret"}"#).await;
        assert_eq!(text, "slk_secret\n");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, json!({"sources": ["shop"], "scope": "write", "types": [], "origins": []}));
    }

    #[tokio::test]
    async fn no_age_limit_is_said_by_null() {
        let reply = r#"{"id":"k_1","key":"s"}"#;
        let (_, body) = run("add --source a --max-age-days none", reply).await;
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap().get("max_age_days"), Some(&Value::Null));
        let (_, body) = run("add --source a --max-age-days 7", reply).await;
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["max_age_days"], 7);
    }

    #[test]
    fn a_write_key_names_its_sources() {
        assert!(Line::try_parse_from(["keys", "add"]).is_err());
        assert!(Line::try_parse_from(["keys", "add", "--scope", "read"]).is_ok());
        assert!(Line::try_parse_from(["keys", "add", "--source", "a", "--max-age-days", "-1"]).is_err());
    }

    #[tokio::test]
    async fn keys_are_listed() {
        let (text, _) = run(
            "list",
            r#"{"keys":[{"id":"k_1","scope":"write","sources":["shop"],"types":[],"max_age_days":400,"created":"2024","name":"n"}]}"#,
        )
        .await;
        assert!(text.lines().nth(1).unwrap().contains("shop"), "{text}");
        assert!(text.contains("400 d"), "{text}");
    }
}
