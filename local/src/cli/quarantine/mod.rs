//! `sluice quarantine`: what was refused, and how it comes in after all.

mod expression;

use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::{Out, Style, clean, clip, counted, grouped, note, table};
use crate::client::{CallError, Client, segment};
use expression::Expression;
use serde_json::{Value, json};

/// Columns of a record's bytes in a list.
const PREVIEW_COLUMNS: usize = 60;
/// Records shown in one listing where no number is given.
const USUAL_LIMIT: usize = 50;
/// Repairs sent in one request.
const REPAIRS_AT_ONCE: usize = 100;

/// Look at what was refused; repair it and send it again
#[derive(Debug, clap::Subcommand)]
pub enum Quarantine {
    List(List),
    Show(Show),
    Count(Count),
    Repair(Repair),
    Replay(Replay),
}

/// Which records; all where nothing is said.
#[derive(Debug, Default, clap::Args)]
struct Select {
    /// First day of receive time
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<String>,
    /// Last day of receive time
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Option<String>,
    /// The reason's code, for example `schema`
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// The stage that refused it: ingest, convert, index, detect, notify
    #[arg(long, value_name = "STAGE")]
    origin: Option<String>,
    /// Type of the event
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Id of the key that sent it
    #[arg(long = "sent-by", value_name = "KEY-ID")]
    sent_by: Option<String>,
}

impl Select {
    fn fields(&self) -> [(&'static str, &Option<String>); 6] {
        [
            ("from", &self.from),
            ("to", &self.to),
            ("code", &self.code),
            ("origin", &self.origin),
            ("type", &self.event_type),
            ("key", &self.sent_by),
        ]
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        self.fields().into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }

    fn json(&self) -> Value {
        self.fields().into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?)))).collect()
    }
}

/// List records, the oldest day first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice quarantine list
  sluice quarantine list --code schema --type http.access --limit 5
  sluice quarantine list --json | jq -r '.records[].handle'")]
pub struct List {
    #[command(flatten)]
    select: Select,
    /// Only what is open, repaired or replayed
    #[arg(long, value_name = "STATE", value_parser = ["open", "repaired", "replayed"])]
    state: Option<String>,
    /// Most records
    #[arg(long, value_name = "N", default_value_t = USUAL_LIMIT)]
    limit: usize,
    /// The records as JSON
    #[arg(long)]
    json: bool,
}

/// Show one record with its bytes, and what sending it again would do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice quarantine show 2026-11-21/0af1
  sluice quarantine show 2026-11-21/0af1 --json | jq -r .bytes.text")]
pub struct Show {
    /// Handle, as `sluice quarantine list` shows it
    #[arg(value_name = "HANDLE")]
    handle: String,
    /// The server's reply as it is
    #[arg(long)]
    json: bool,
}

/// Count records by day, stage, reason and what was done with them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice quarantine count
  sluice quarantine count --from 2026-11-01 --json")]
pub struct Count {
    #[command(flatten)]
    select: Select,
    /// The groups as JSON
    #[arg(long)]
    json: bool,
}

/// Change refused bytes by a jq expression: first only to see what would become of them.
///
/// The expression is applied to the bytes as they came. They are never changed: the repair stands beside them and is what
/// `sluice quarantine replay` sends. A repair that would be refused again is not kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice quarantine repair --code schema --type http.access --jq '.data.status |= tonumber'
  sluice quarantine repair 2026-11-21/0af1 --jq '.data.price = \"12.50\"' --apply")]
pub struct Repair {
    /// Handles; without any, what the options select and was not sent again yet
    #[arg(value_name = "HANDLE")]
    handles: Vec<String>,
    #[command(flatten)]
    select: Select,
    /// The expression
    #[arg(long, value_name = "EXPRESSION")]
    jq: String,
    /// Keep the repairs; without it nothing is changed
    #[arg(long)]
    apply: bool,
}

/// Send refused bytes, or their repairs, again. A record is sent once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice quarantine replay --code schema --dry-run
  sluice quarantine replay --code schema
  sluice quarantine replay 2026-11-21/0af1")]
pub struct Replay {
    /// Handles; without any, what the options select and was not sent again yet
    #[arg(value_name = "HANDLE")]
    handles: Vec<String>,
    #[command(flatten)]
    select: Select,
    /// Only say what would become of it
    #[arg(long)]
    dry_run: bool,
    /// The results as JSON
    #[arg(long)]
    json: bool,
}

impl Quarantine {
    /// Does what is asked.
    pub async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::List(args) => args.run(client, out).await,
            Self::Show(args) => args.run(client, out).await,
            Self::Count(args) => args.run(client, out).await,
            Self::Repair(args) => args.run(client, out).await,
            Self::Replay(args) => args.run(client, out).await,
        }
    }
}

impl List {
    async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let mut query = self.select.query();
        query.extend(self.state.map(|state| ("state", state)));
        let (records, more) = pages(client, "/v1/quarantine", &query, "records", self.limit).await?;
        if self.json {
            return out.json(&json!({"records": records, "more": more}));
        }
        if records.is_empty() {
            note("nothing like that is in quarantine");
            return Ok(());
        }
        let rows = records.iter().map(|record| {
            let text = |field: &str| clean(text_of(record, field)).into_owned();
            let preview = text("preview");
            let reason = text("reason");
            vec![
                text("handle"),
                text("state"),
                text("origin"),
                text("code"),
                text("type"),
                clip(&reason, PREVIEW_COLUMNS).into_owned(),
                clip(&preview, PREVIEW_COLUMNS).into_owned(),
            ]
        });
        out.line(table(&["handle", "state", "refused by", "code", "type", "reason", "bytes"], &[], rows))?;
        if more {
            note(format!("there are more than {}: see `--limit`", grouped(self.limit as u64)));
        }
        Ok(())
    }
}

impl Show {
    async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let record: Value = client.get(&path_of(&self.handle)?, &[]).await?;
        if self.json {
            return out.json(&record);
        }
        let text = |field: &str| clean(text_of(&record, field)).into_owned();
        for (label, field) in [
            ("handle", "handle"),
            ("state", "state"),
            ("refused by", "origin"),
            ("code", "code"),
            ("reason", "reason"),
            ("pointer", "pointer"),
            ("type", "type"),
            ("key", "key"),
            ("received", "received"),
        ] {
            if !text(field).is_empty() {
                out.line(format!("{label:<10}  {}", text(field)))?;
            }
        }
        out.line(format!("{:<10}  {}", "again", told(&record["replay"])))?;
        for (label, field) in [("as it came", "bytes"), ("repaired", "repaired")] {
            let shown = record[field]["text"].as_str().or(record[field]["base64"].as_str());
            if let Some(shown) = shown {
                out.line("")?;
                let heading = out.paint(Style::Bold, label);
                out.line(heading)?;
                out.line(clean(shown))?;
            }
        }
        Ok(())
    }
}

impl Count {
    async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let (groups, _) = pages(client, "/v1/quarantine/count", &self.select.query(), "groups", usize::MAX).await?;
        // Pages may cut a group in two.
        let mut sums: std::collections::BTreeMap<[String; 4], u64> = std::collections::BTreeMap::new();
        for group in &groups {
            let key = ["day", "origin", "code", "state"].map(|field| text_of(group, field).to_owned());
            *sums.entry(key).or_default() += group["records"].as_u64().unwrap_or(0);
        }
        if self.json {
            let groups: Vec<Value> = sums
                .into_iter()
                .map(|([day, origin, code, state], records)| {
                    json!({"day": day, "origin": origin, "code": code, "state": state, "records": records})
                })
                .collect();
            return out.json(&json!({"groups": groups}));
        }
        let total = sums.values().sum();
        let rows = sums
            .into_iter()
            .map(|(key, n)| key.into_iter().map(|k| clean(&k).into_owned()).chain([grouped(n)]).collect());
        out.line(table(&["day", "refused by", "code", "state", "records"], &[4], rows))?;
        out.line(counted(total, "record"))
    }
}

impl Repair {
    async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let expression = Expression::new(&self.jq).map_err(Failure::usage)?;
        let handles = match self.handles.is_empty() {
            true => open_ones(client, &self.select).await?,
            false => self.handles,
        };
        let (mut repairs, mut failed) = (Vec::new(), 0u64);
        for handle in handles {
            let record: Value = client.get(&path_of(&handle)?, &[]).await?;
            let changed = match record["bytes"]["text"].as_str() {
                Some(text) => expression.apply(text),
                None => Err("the bytes are no text".to_owned()),
            };
            match changed {
                Ok(text) => repairs.push(json!({"handle": handle, "text": text})),
                Err(why) => {
                    failed += 1;
                    out.line(format!("{handle}  not changed: {}", clean(&why)))?;
                }
            }
        }
        let mut repaired = 0;
        for chunk in repairs.chunks(REPAIRS_AT_ONCE) {
            let body = json!({"repairs": chunk, "dry_run": !self.apply});
            let reply: Value = client.post("/v1/quarantine/repair", &[], &body).await?;
            for (repair, result) in chunk.iter().zip(reply["results"].as_array().into_iter().flatten()) {
                let is_good = text_of(result, "outcome") == "sent";
                repaired += u64::from(is_good);
                failed += u64::from(!is_good);
                let verdict = if is_good { "would be taken".to_owned() } else { told(result) };
                out.line(format!("{}  {verdict}", text_of(result, "handle")))?;
                out.line(format!("    {}", clean(text_of(repair, "text"))))?;
            }
        }
        match (self.apply, repaired) {
            (true, n) => {
                note(format!("{} repaired: `sluice quarantine replay` sends what is repaired", counted(n, "record")))
            }
            (false, n) => note(format!("{} would be repaired; `--apply` keeps the repairs", counted(n, "record"))),
        }
        if failed > 0 {
            Err(Failure::new(Exit::Failed, format!("{} cannot be repaired like this", counted(failed, "record"))))
        } else {
            Ok(())
        }
    }
}

impl Replay {
    async fn run(self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let mut results: Vec<Value> = Vec::new();
        let mut after = Value::Null;
        loop {
            let body = match self.handles.is_empty() {
                true => json!({"select": self.select.json(), "after": after, "dry_run": self.dry_run}),
                false => json!({"handles": self.handles, "dry_run": self.dry_run}),
            };
            let mut reply: Value = client.post("/v1/quarantine/replay", &[], &body).await?;
            if let Value::Array(more) = reply["results"].take() {
                results.extend(more);
            }
            after = reply["next"].take();
            if after.is_null() {
                break;
            }
        }
        let of = |outcome: &str| results.iter().filter(|r| text_of(r, "outcome") == outcome).count() as u64;
        let (sent, before) = (of("sent"), of("already_sent"));
        let refused = results.len() as u64 - sent - before;
        if self.json {
            out.json(&json!({"results": results}))?;
        } else {
            for result in results.iter().filter(|r| text_of(r, "outcome") != "sent") {
                out.line(format!("{}  {}", text_of(result, "handle"), told(result)))?;
            }
            let done = if self.dry_run { "would be sent" } else { "sent again" };
            out.line(format!(
                "{} {done}, {} refused, {} sent before",
                counted(sent, "record"),
                grouped(refused),
                grouped(before)
            ))?;
        }
        if refused > 0 { Err(Failure::silent(Exit::Failed)) } else { Ok(()) }
    }
}

/// What became of a record, or would.
fn told(result: &Value) -> String {
    match text_of(result, "outcome") {
        "sent" => {
            let events: u64 = result["events"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
            format!("would be taken as {}", counted(events, "event"))
        }
        "already_sent" => format!("was sent again at {}", clean(text_of(result, "at"))),
        "missing" => "there is no such record".to_owned(),
        _ => {
            let errors = result["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
            let first = errors.first().map(|e| {
                let pointer = text_of(e, "pointer");
                let place = if pointer.is_empty() { String::new() } else { format!(" at `{}`", clean(pointer)) };
                format!("{}{place}", clean(text_of(e, "reason")))
            });
            let rest = if errors.len() > 1 { format!(" (and {} more)", errors.len() - 1) } else { String::new() };
            format!("refused: {}{rest}", first.unwrap_or_default())
        }
    }
}

/// Handles of what is selected and was not sent again.
async fn open_ones(client: &Client, select: &Select) -> Result<Vec<String>, Failure> {
    let (records, _) = pages(client, "/v1/quarantine", &select.query(), "records", usize::MAX).await?;
    let open = records.iter().filter(|record| text_of(record, "state") != "replayed");
    Ok(open.map(|record| text_of(record, "handle").to_owned()).collect())
}

/// Asks page by page for at most `limit` items; and whether there are more.
async fn pages(
    client: &Client,
    path: &str,
    query: &[(&'static str, String)],
    items: &str,
    limit: usize,
) -> Result<(Vec<Value>, bool), CallError> {
    let (mut found, mut after): (Vec<Value>, Option<String>) = (Vec::new(), None);
    loop {
        let at_once = limit.saturating_sub(found.len()).clamp(1, 500).to_string();
        let mut asked: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        asked.push(("limit", &at_once));
        asked.extend(after.as_deref().map(|after| ("after", after)));
        let mut reply: Value = client.get(path, &asked).await?;
        if let Value::Array(more) = reply[items].take() {
            found.extend(more);
        }
        after = reply["next"].as_str().map(str::to_owned);
        if after.is_none() || found.len() >= limit {
            return Ok((found, after.is_some()));
        }
    }
}

fn path_of(handle: &str) -> Result<String, Failure> {
    let (day, id) = handle.split_once('/').ok_or_else(|| {
        Failure::usage(format!("`{}` is no handle: `sluice quarantine list` shows them", clean(handle)))
    })?;
    Ok(format!("/v1/quarantine/{}/{}", segment(day), segment(id)))
}

fn text_of<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
