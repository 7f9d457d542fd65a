//! `sluice rules`: what alerts are about.

use crate::cli::collection::{Collection, text};
use crate::cli::exit::Failure;
use crate::cli::terminal::Out;
use crate::client::{CallError, Client};
use serde_json::{Value, json};

const RULES: Collection =
    Collection { noun: "rule", name: "rules", headings: &["id", "user", "symbols", "fires when", "sends to"], row };

/// Add, list and remove alert rules
#[derive(Debug, clap::Subcommand)]
pub enum Rules {
    #[command(subcommand)]
    Add(Add),
    List(List),
    Remove(Remove),
}

/// Add a rule
#[derive(Debug, clap::Subcommand)]
pub enum Add {
    Fluctuation(Box<Fluctuation>),
}

/// Tell about changes of a price against the previous close.
///
/// A rule fires once per symbol and direction in a window of event time.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  sluice rules add fluctuation --symbol SPX --threshold 5 --comparison at-least --side both --email a@example.com
  sluice rules add fluctuation --symbol 005930 --threshold 2.5 --comparison 초과 --email a@example.com --language ko")]
pub struct Fluctuation {
    /// Symbol; may be given several times; all symbols where it is not given
    #[arg(long = "symbol", value_name = "CODE")]
    pub symbols: Vec<String>,
    /// Size of the change in percent
    #[arg(long, value_name = "PERCENT")]
    pub threshold: String,
    /// How the change is compared to it: over (초과), at-least (이상), under (미만), at-most (이하)
    #[arg(long, value_name = "WORD", default_value = "at-least", value_parser = comparison)]
    pub comparison: String,
    /// Which direction counts
    #[arg(long, value_enum, default_value = "both")]
    pub side: Side,
    /// Address to mail to; may be given several times
    #[arg(long = "email", value_name = "ADDRESS")]
    pub emails: Vec<String>,
    /// Language of the mail
    #[arg(long, value_parser = ["en", "ko"], default_value = "en")]
    pub language: String,
    /// Zone whose hours the windows follow, and whose clock the mail shows; the server's choice where it is not given
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// Length of the window in minutes; an hour where it is not given
    #[arg(long, value_name = "N")]
    pub window_minutes: Option<u32>,
    /// Whose rule it is; the first address where it is not given
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Name for people
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Id; made by the server where it is not given
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The server's reply as it is
    #[arg(long)]
    pub json: bool,
}

/// Directions of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// By magnitude: 5 % is +5 % and -5 %
    Both,
    /// Only up
    Up,
    /// Only down
    Down,
}

/// List the rules
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice rules list
  sluice rules list --json | jq '.rules[].id'")]
pub struct List {
    /// The server's reply as it is
    #[arg(long)]
    json: bool,
}

/// Remove a rule; what it fired stays
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice rules remove 0192f0c1-7c39-7e1b-a6a5-3f2a8f2b7a10")]
pub struct Remove {
    /// Id, as `sluice rules list` shows it
    #[arg(value_name = "ID")]
    id: String,
}

/// The word as the server's sign.
fn comparison(word: &str) -> Result<String, String> {
    Ok(match word {
        "over" | ">" | "초과" => ">",
        "at-least" | "at_least" | ">=" | "≥" | "이상" => ">=",
        "under" | "<" | "미만" => "<",
        "at-most" | "at_most" | "<=" | "≤" | "이하" => "<=",
        _ => return Err("it is one of over (초과), at-least (이상), under (미만), at-most (이하)".into()),
    }
    .to_owned())
}

impl Rules {
    /// Does what is asked.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::Add(Add::Fluctuation(rule)) => rule.run(client, out).await,
            Self::List(List { json }) => RULES.list(client, out, json).await,
            Self::Remove(Remove { id }) => RULES.remove(client, &id, "removed").await,
        }
    }
}

impl Fluctuation {
    async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let Some(reply) = RULES.add(client, out, &self.body(), self.json).await? else { return Ok(()) };
        match reply.get("id").and_then(Value::as_str) {
            Some(id) => out.line(id),
            None => Err(CallError::Strange("the server made a rule but its reply does not name it".into()).into()),
        }
    }

    /// The rule as the server takes it.
    pub fn body(&self) -> Value {
        let side = match self.side {
            Side::Both => "both",
            Side::Up => "up",
            Side::Down => "down",
        };
        let user = self.user.clone().or_else(|| self.emails.first().cloned()).unwrap_or_else(|| "admin".into());
        let channels: Vec<Value> = self.emails.iter().map(|to| json!({"kind": "email", "to": to})).collect();
        json!({
            "id": self.id, "kind": "fluctuation", "name": self.name, "user": user, "symbols": self.symbols,
            "threshold_pct": self.threshold, "comparison": self.comparison, "side": side,
            "window_minutes": self.window_minutes, "zone": self.zone, "channels": channels, "language": self.language,
        })
    }
}

fn row(rule: &Value) -> Vec<String> {
    let get = |name| text(rule, name);
    let list = |name: &str, each: fn(&Value) -> Option<&str>| {
        let items = rule.get(name).and_then(Value::as_array);
        items.map(|all| all.iter().filter_map(each).collect::<Vec<_>>().join(", ")).unwrap_or_default()
    };
    let symbols = match list("symbols", Value::as_str) {
        none if none.is_empty() => "all".to_owned(),
        some => some,
    };
    let side = match get("side").as_str() {
        "both" => String::new(),
        side => format!(" {side}"),
    };
    let off = if rule.get("enabled") == Some(&Value::Bool(false)) { " (off)" } else { "" };
    let condition = format!("{}{side} {} {} %{off}", get("kind"), get("comparison"), get("threshold_pct"));
    vec![get("id"), get("user"), symbols, condition, list("channels", |c| c.get("to")?.as_str())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        rules: Rules,
    }

    fn added(line: &str) -> Fluctuation {
        let args = ["rules", "add", "fluctuation"].into_iter().chain(line.split_whitespace());
        match Line::try_parse_from(args).unwrap().rules {
            Rules::Add(Add::Fluctuation(rule)) => *rule,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_added_is_a_rule_for_the_server() {
        let rule = added(
            "--symbol SPX --symbol AAPL --threshold 5 --comparison 초과 --side up --email a@example.com --language ko",
        );
        let now = sluice_domain::time::Timestamp::default();
        let read = sluice_domain::alert::Rule::parse(&rule.body().to_string(), now, || "new".into()).unwrap();
        let json = read.to_json();
        assert_eq!(json["symbols"], json!(["AAPL", "SPX"]));
        assert_eq!((json["comparison"].as_str(), json["side"].as_str()), (Some(">"), Some("up")));
        assert_eq!((json["user"].as_str(), json["language"].as_str()), (Some("a@example.com"), Some("ko")));
        let rule = added("--threshold 2.5 --comparison at-least");
        assert!(sluice_domain::alert::Rule::parse(&rule.body().to_string(), now, || "new".into()).is_ok());
    }

    #[test]
    fn comparisons_are_words_in_two_languages() {
        assert_eq!(comparison("at-least").unwrap(), ">=");
        assert_eq!(comparison("미만").unwrap(), "<");
        assert!(comparison("about").is_err());
    }

    #[tokio::test]
    async fn rules_are_listed_and_removed() {
        let fake = Fake::start(|_, got| match got.method.as_str() {
            "GET" => (
                200,
                vec![],
                r#"{"rules":[{"id":"r","kind":"fluctuation","user":"u","symbols":[],"threshold_pct":"5","comparison":">=","side":"down",
                "channels":[{"kind":"email","to":"a@example.com"}],"enabled":true}]}"#
                    .into(),
            ),
            _ => (204, vec![], String::new()),
        })
        .await;
        let (mut out, written) = Out::captured();
        Rules::List(List { json: false }).run(&fake.client(), &mut out).await.unwrap();
        assert!(written.text().contains("fluctuation down >= 5 %"), "{}", written.text());
        Rules::Remove(Remove { id: "a/b".into() }).run(&fake.client(), &mut out).await.unwrap();
        assert_eq!((fake.got()[1].method.as_str(), fake.got()[1].path.as_str()), ("DELETE", "/v1/rules/a%2Fb"));
    }
}
