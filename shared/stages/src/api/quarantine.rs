//! `/v1/quarantine`: what an operator does with what is kept there. All of it takes an admin key or an editor: the
//! bytes are other people's. A list shows how they begin, so each look at one is recorded too; a count shows none.
//!
//! | call | answers |
//! |---|---|
//! | `GET /v1/quarantine?from&to&code&origin&type&key&state&limit&after` | `{"records": […], "next"}` |
//! | `GET /v1/quarantine/count?…` | `{"groups": [{"day", "origin", "code", "state", "records"}], "next"}` |
//! | `GET /v1/quarantine/{day}/{id}` | the record with its bytes, and what a replay would make of it |
//! | `POST /v1/quarantine/repair` `{"repairs": [{"handle", "text"}], "dry_run"}` | `{"results": [{"handle", "outcome", …}]}` |
//! | `POST /v1/quarantine/replay` `{"handles": […]}` or `{"select": {…}, "after"}`, `"dry_run"` | the same, with `"next"` |

use super::{Api, Call, Reply, body, failed, of};
use crate::access::Right;
use crate::http::{Request, Response};
use crate::quarantine::desk::{Found, MAX_RECORDS, Outcome, Select, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_ports::PortError;
use std::collections::BTreeMap;

/// Characters of a record's bytes that a list shows.
const PREVIEW_CHARS: usize = 160;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repairs {
    repairs: Vec<Repair>,
    /// Only looks at what would become of them, unless told otherwise.
    #[serde(default = "yes")]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repair {
    handle: String,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replays {
    handles: Option<Vec<String>>,
    select: Option<Select>,
    after: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

fn yes() -> bool {
    true
}

impl Api {
    pub(super) async fn list_quarantine(&self, call: Call<'_>) -> Reply {
        let (select, limit) = self.allow(call, Right::Edit, "quarantine.list", "", asked).await?;
        let page = self.ports.desk.list(&select, call.request.query("after"), limit).await.map_err(unreadable)?;
        let records: Vec<Value> = page.found.iter().map(row).collect();
        Ok(Response::json(200, &json!({"records": records, "next": page.next})))
    }

    pub(super) async fn count_quarantine(&self, call: Call<'_>) -> Reply {
        self.look(call, Right::Edit, "quarantine.count", "").await?;
        let ((select, _), _) = asked(call.request)?;
        let page = self.ports.desk.list(&select, call.request.query("after"), MAX_RECORDS).await.map_err(unreadable)?;
        let mut groups: BTreeMap<(String, String, String, &str), u64> = BTreeMap::new();
        for found in &page.found {
            let (day, record) = (found.record.received.date_text(), &found.record);
            let group = (day, record.origin.clone(), record.code.clone(), found.state().name());
            *groups.entry(group).or_default() += 1;
        }
        let groups: Vec<Value> = groups
            .into_iter()
            .map(|((day, origin, code, state), records)| {
                json!({"day": day, "origin": origin, "code": code, "state": state, "records": records})
            })
            .collect();
        Ok(Response::json(200, &json!({"groups": groups, "next": page.next})))
    }

    pub(super) async fn show_quarantine(&self, call: Call<'_>, day: &str, id: &str) -> Reply {
        let handle = format!("{day}/{id}");
        self.allow(call, Right::Edit, "quarantine.show", &handle, of(&handle)).await?;
        let Some(found) = self.ports.desk.get(&handle).await.map_err(unreadable)? else {
            return Err(super::missing("record", &handle));
        };
        let outcome = self.ports.desk.send(&found, None, true, call.now).await.map_err(unreadable)?;
        let mut row = row(&found);
        row["bytes"] = shown(&found.record.bytes);
        row["repaired"] = found.record.repaired.as_deref().map_or(Value::Null, shown);
        row["replay"] = told(&outcome);
        Ok(Response::json(200, &row))
    }

    pub(super) async fn repair_quarantine(&self, call: Call<'_>) -> Reply {
        let read = |request: &Request| {
            let asked: Repairs = body(request)?;
            bounded(asked.repairs.len())?;
            let target = targets(asked.repairs.iter().map(|r| r.handle.as_str()), asked.dry_run);
            Ok((asked, target))
        };
        let Repairs { repairs, dry_run } = self.allow(call, Right::Edit, "quarantine.repair", "", read).await?;
        let mut results = Vec::with_capacity(repairs.len());
        for Repair { handle, text } in &repairs {
            let outcome = self.ports.desk.replay(handle, Some(text), true, call.now).await.map_err(unreadable)?;
            // A repair that would be refused again is none.
            if !dry_run && matches!(outcome, Outcome::Sent(_)) {
                self.ports.desk.repair(handle, text).await.map_err(unreadable)?;
            }
            results.push(with_handle(handle, &outcome));
        }
        Ok(Response::json(200, &json!({"dry_run": dry_run, "results": results})))
    }

    pub(super) async fn replay_quarantine(&self, call: Call<'_>) -> Reply {
        let read = |request: &Request| {
            let asked: Replays = body(request)?;
            if asked.handles.is_some() == asked.select.is_some() {
                return Err(Response::error(400, super::UNREADABLE, "give either `handles` or `select`"));
            }
            bounded(asked.handles.as_ref().map_or(0, Vec::len))?;
            let target = match &asked.handles {
                Some(handles) => targets(handles.iter().map(String::as_str), asked.dry_run),
                None => targets([call.request.body.escape_ascii().to_string().as_str()].into_iter(), asked.dry_run),
            };
            Ok((asked, target))
        };
        let Replays { handles, select, after, dry_run } =
            self.allow(call, Right::Edit, "quarantine.replay", "", read).await?;
        let desk = &self.ports.desk;
        let mut results = Vec::new();
        let mut next = None;
        match select {
            None => {
                for handle in handles.iter().flatten() {
                    let outcome = desk.replay(handle, None, dry_run, call.now).await.map_err(unreadable)?;
                    results.push(with_handle(handle, &outcome));
                }
            }
            Some(select) => {
                let page = desk.list(&select, after.as_deref(), MAX_RECORDS).await.map_err(unreadable)?;
                for found in page.found.iter().filter(|found| found.state() != State::Replayed) {
                    let outcome = desk.send(found, None, dry_run, call.now).await.map_err(unreadable)?;
                    results.push(with_handle(&found.handle, &outcome));
                }
                next = page.next;
            }
        }
        Ok(Response::json(200, &json!({"dry_run": dry_run, "results": results, "next": next})))
    }
}

/// What a query string selects, and how many.
fn asked(request: &Request) -> Result<((Select, usize), String), Response> {
    let text = |name: &str| request.query(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let state = text("state").map(|name| {
        let refused = || Response::error(400, "state", "`state` is `open`, `repaired` or `replayed`");
        State::parse(&name).ok_or_else(refused)
    });
    let limit = match text("limit").map(|limit| limit.parse::<usize>()) {
        None => 100,
        Some(Ok(limit)) if (1..=MAX_RECORDS).contains(&limit) => limit,
        Some(_) => return Err(Response::error(400, "limit", format!("`limit` is 1 to {MAX_RECORDS}"))),
    };
    let select = Select {
        from: text("from"),
        to: text("to"),
        code: text("code"),
        origin: text("origin"),
        key: text("key"),
        event_type: text("type"),
        state: state.transpose()?,
    };
    Ok(((select, limit), String::new()))
}

fn bounded(records: usize) -> Result<(), Response> {
    if records <= MAX_RECORDS {
        return Ok(());
    }
    Err(Response::error(413, "too_many", format!("one call takes at most {MAX_RECORDS} records, not {records}")))
}

/// What is written down of a call.
fn targets<'t>(handles: impl Iterator<Item = &'t str>, dry_run: bool) -> String {
    let first: Vec<&str> = handles.take(8).collect();
    format!("{}{}", if dry_run { "dry run: " } else { "" }, first.join(" "))
}

fn unreadable(error: PortError) -> Response {
    failed("the quarantine cannot be reached", &error)
}

fn row(found: &Found) -> Value {
    let record = &found.record;
    let preview: String = String::from_utf8_lossy(found.bytes()).chars().take(PREVIEW_CHARS).collect();
    json!({
        "handle": found.handle, "state": found.state().name(), "origin": record.origin, "code": record.code,
        "reason": record.reason, "pointer": record.pointer, "type": record.event_type, "key": record.key,
        "received": record.received.to_string(), "size_bytes": record.size_bytes, "truncated": record.truncated,
        "replayed": found.replayed, "preview": preview,
    })
}

/// Bytes as text where they are text, else in base64.
fn shown(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({"text": text}),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

fn with_handle(handle: &str, outcome: &Outcome) -> Value {
    let mut row = told(outcome);
    row["handle"] = handle.into();
    row
}

fn told(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Sent(types) => json!({"outcome": "sent", "events": types}),
        Outcome::AlreadySent(at) => json!({"outcome": "already_sent", "at": at}),
        Outcome::Refused(errors) => json!({"outcome": "refused", "errors": errors}),
        Outcome::Missing => json!({"outcome": "missing"}),
    }
}
