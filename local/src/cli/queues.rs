//! `sluice queues`: what waits, and what could not be handled.

use crate::cli::exit::Failure;
use crate::cli::terminal::{Out, clean, counted, duration, grouped, note, size, table};
use crate::client::Client;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Look at queues and bring dead letters back
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Queues {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    List(List),
    Peek(Peek),
    Redrive(Redrive),
}

/// List the queues with what lies in them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice queues
  sluice queues list --json")]
struct List {
    /// The server's reply as it is
    #[arg(long)]
    json: bool,
}

/// Look at the oldest messages of a queue, which stay there
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice queues peek ConvertDeadLetterQueue
  sluice queues peek IndexQueue --limit 1 --json")]
struct Peek {
    /// Queue, as `sluice queues` names it
    #[arg(value_name = "QUEUE")]
    name: String,
    /// Most messages
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// The server's reply as it is
    #[arg(long)]
    json: bool,
}

/// Move messages of a dead-letter queue back to the queue that they came from
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice queues redrive ConvertDeadLetterQueue
  sluice queues redrive ConvertDeadLetterQueue --limit 1")]
struct Redrive {
    /// Dead-letter queue
    #[arg(value_name = "QUEUE")]
    name: String,
    /// Most messages; all where it is not given
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// The server's reply as it is
    #[arg(long)]
    json: bool,
}

/// One queue.
#[derive(Debug, Clone, Deserialize)]
pub struct QueueState {
    /// Its name in the template.
    pub name: String,
    /// Messages that can be received.
    #[serde(default)]
    pub visible: u64,
    /// Messages that are being handled.
    #[serde(default)]
    pub in_flight: u64,
    /// Events in all of them, where that is known.
    #[serde(default)]
    pub events: Option<u64>,
    /// Bytes of all of them, where that is known.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Age of the oldest one.
    #[serde(default)]
    pub oldest_ms: Option<u64>,
    /// Where messages go that cannot be handled.
    #[serde(default)]
    pub dead_letter_queue: Option<String>,
    /// Messages there.
    #[serde(default)]
    pub dead_letters: u64,
}

#[derive(Debug, Deserialize)]
struct Listed {
    queues: Vec<QueueState>,
}

#[derive(Debug, Deserialize)]
struct Peeked {
    messages: Vec<Message>,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    id: String,
    #[serde(default)]
    receive_count: u64,
    #[serde(default)]
    sent: String,
    #[serde(default)]
    events: u64,
    #[serde(default)]
    body: Value,
}

#[derive(Debug, Deserialize)]
struct Moved {
    moved: u64,
}

/// The queues as a table: those with a dead-letter queue, which are the ones that work; what lies in the others is their dead letters.
pub fn table_of(queues: &[QueueState]) -> String {
    let unknown = || "-".to_owned();
    let rows = queues.iter().map(|q| {
        vec![
            q.name.clone(),
            grouped(q.visible),
            grouped(q.in_flight),
            q.events.map_or_else(unknown, grouped),
            q.bytes.map_or_else(unknown, size),
            q.oldest_ms.map_or_else(unknown, duration),
            if q.dead_letter_queue.is_some() { grouped(q.dead_letters) } else { unknown() },
        ]
    });
    table(&["queue", "waiting", "in flight", "events", "size", "oldest", "dead letters"], &[1, 2, 3, 4, 5, 6], rows)
}

impl Queues {
    /// Does what is asked.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        match self.action.unwrap_or(Action::List(self.list)) {
            Action::List(list) => list.run(client, out).await,
            Action::Peek(peek) => peek.run(client, out).await,
            Action::Redrive(redrive) => redrive.run(client, out).await,
        }
    }
}

impl List {
    async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        if self.json {
            let raw: Box<RawValue> = client.get("/v1/queues", &[]).await?;
            return out.line(raw.get());
        }
        let listed: Listed = client.get("/v1/queues", &[]).await?;
        out.line(table_of(&listed.queues))
    }
}

impl Peek {
    async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let path = format!("/v1/queues/{}/messages", segment(&self.name));
        let limit = self.limit.to_string();
        let query = [("limit", limit.as_str())];
        if self.json {
            let raw: Box<RawValue> = client.get(&path, &query).await?;
            return out.line(raw.get());
        }
        let peeked: Peeked = client.get(&path, &query).await?;
        for message in &peeked.messages {
            let sent = match message.sent.as_str() {
                "" => String::new(),
                time => format!(", sent {}", clean(time)),
            };
            let received = counted(message.receive_count, "time");
            let events = counted(message.events, "event");
            out.line(format!("{}{sent}, received {received}, {events}", clean(&message.id)))?;
            let body = match &message.body {
                Value::String(text) => text.clone(),
                body => body.to_string(),
            };
            out.line(format!("  {}", super::terminal::clip(&clean(&body), 400)))?;
        }
        if peeked.messages.is_empty() {
            out.flush()?;
            note(format!("`{}` is empty", self.name));
        }
        Ok(())
    }
}

impl Redrive {
    async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let path = format!("/v1/queues/{}/redrive", segment(&self.name));
        let body = match self.limit {
            Some(limit) => json!({"limit": limit}),
            None => json!({}),
        };
        let raw: Box<RawValue> = client.post(&path, &[], &body).await?;
        if self.json {
            return out.line(raw.get());
        }
        match serde_json::from_str::<Moved>(raw.get()) {
            Ok(Moved { moved }) => out.line(format!("{} moved back", counted(moved, "message"))),
            Err(_) => out.line("moved back"),
        }
    }
}

/// A name as one segment of a path.
pub fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(byte as char);
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    // These two alone would be another path.
    if matches!(text.as_str(), "." | "..") { text.replace('.', "%2E") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;

    #[test]
    fn names_are_one_segment_of_a_path() {
        assert_eq!(segment("ConvertQueue"), "ConvertQueue");
        assert_eq!(segment("a/../b?c"), "a%2F..%2Fb%3Fc");
        assert_eq!(segment(".."), "%2E%2E");
    }

    #[tokio::test]
    async fn queues_are_listed_peeked_and_redriven() {
        let fake = Fake::start(|_, got| match got.path.as_str() {
            "/v1/queues" => (
                200,
                vec![],
                r#"{"queues":[{"name":"A","visible":2,"dead_letter_queue":"B","dead_letters":1}]}"#.into(),
            ),
            "/v1/queues/B/messages?limit=3" => (
                200,
                vec![],
                r#"{"messages":[{"id":"m","receive_count":5,"sent":"1970-01-01T00:00:00.000Z","events":7,"body":"{}"}]}"#.into(),
            ),
            "/v1/queues/B/redrive" => (200, vec![], r#"{"moved":1}"#.into()),
            _ => (404, vec![], String::new()),
        })
        .await;
        let run = async |action| {
            let (mut out, written) = Out::captured();
            let queues = Queues { action, list: List { json: false } };
            queues.run(&fake.client(), &mut out).await.unwrap();
            written.text()
        };
        let list = run(None).await;
        assert!(list.lines().nth(1).unwrap().starts_with("A"), "{list}");
        let peek = run(Some(Action::Peek(Peek { name: "B".into(), limit: 3, json: false }))).await;
        assert!(peek.starts_with("m, sent 1970-01-01T00:00:00.000Z, received 5 times, 7 events\n"), "{peek}");
        let redrive = run(Some(Action::Redrive(Redrive { name: "B".into(), limit: Some(1), json: false }))).await;
        assert_eq!(redrive, "1 message moved back\n");
        assert_eq!(fake.got()[2].body, b"{\"limit\":1}");
    }
}
