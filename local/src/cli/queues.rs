//! `sluice queues`: what waits, and what could not be handled.

use crate::cli::exit::Failure;
use crate::cli::terminal::{Out, Style, clean, counted, duration, grouped, note, size, table};
use crate::client::{Client, segment};
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
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
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

impl QueueState {
    fn is_empty(&self) -> bool {
        self.visible + self.in_flight == 0
    }
}

/// The queues as a table: those that work, which are the ones with a dead-letter queue, and of the others those in which something lies.
pub fn table_of(queues: &[QueueState]) -> String {
    let unknown = || "-".to_owned();
    let rows = queues.iter().filter(|q| q.dead_letter_queue.is_some() || !q.is_empty()).map(|q| {
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

/// The queues in which something lies, as a table; `None` where all are empty.
pub fn table_of_filled(queues: &[QueueState]) -> Option<String> {
    let filled: Vec<QueueState> = queues.iter().filter(|q| !q.is_empty() || q.dead_letters > 0).cloned().collect();
    (!filled.is_empty()).then(|| table_of(&filled))
}

/// A line for each queue whose messages could not be handled: how many, and what to do.
pub fn dead_letters_of(queues: &[QueueState]) -> Vec<String> {
    let line = |q: &QueueState| {
        let dead = q.dead_letter_queue.as_deref().filter(|_| q.dead_letters > 0)?;
        let count = counted(q.dead_letters, "message");
        Some(format!("{count} of `{}` could not be handled: see `sluice queues peek {dead}`", q.name))
    };
    queues.iter().filter_map(line).collect()
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
        out.line(table_of(&listed.queues))?;
        for line in dead_letters_of(&listed.queues) {
            let painted = out.paint(Style::Bad, &line);
            out.line(painted)?;
        }
        Ok(())
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
        out.flush()?;
        if peeked.messages.is_empty() {
            note(format!("`{}` is empty", self.name));
            return Ok(());
        }
        let listed: Listed = client.get("/v1/queues", &[]).await?;
        let owners = listed.queues.iter().filter(|q| q.dead_letter_queue.as_deref() == Some(self.name.as_str()));
        for owner in owners {
            note(format!(
                "these were taken from `{}` as often as they were received, and never got through: the server's log says why\n\
                 `sluice queues redrive {}` tries them again",
                owner.name, self.name
            ));
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
            Ok(Moved { moved: 0 }) => {
                note(format!("nothing to move: `{}` holds no dead letters", self.name));
                Ok(())
            }
            Ok(Moved { moved }) => out.line(format!("{} moved back", counted(moved, "message"))),
            Err(_) => out.line("moved back"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::Fake;

    #[tokio::test]
    async fn queues_are_listed_peeked_and_redriven() {
        let fake = Fake::start(|_, got| match got.path.as_str() {
            "/v1/queues" => (
                200,
                vec![],
                r#"{"queues":[{"name":"A","visible":2,"dead_letter_queue":"B","dead_letters":1},{"name":"B"}]}"#.into(),
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
        assert!(list.ends_with("1 message of `A` could not be handled: see `sluice queues peek B`\n"), "{list}");
        assert_eq!(
            list.lines().count(),
            3,
            "a dead-letter queue shows up with its queue, or when it holds something: {list}"
        );
        let peek = run(Some(Action::Peek(Peek { name: "B".into(), limit: 3, json: false }))).await;
        assert!(peek.starts_with("m, sent 1970-01-01T00:00:00.000Z, received 5 times, 7 events\n"), "{peek}");
        let redrive = run(Some(Action::Redrive(Redrive { name: "B".into(), limit: Some(1), json: false }))).await;
        assert_eq!(redrive, "1 message moved back\n");
        let redriven = fake.got().into_iter().find(|got| got.path.ends_with("redrive")).unwrap();
        assert_eq!(redriven.body, b"{\"limit\":1}");
    }
}
