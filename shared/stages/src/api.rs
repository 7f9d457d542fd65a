//! `api`: what the console and the command line ask for: search, SQL, status, queues, rules, keys.
//!
//! Reading takes a `read` key or a signed-in member; whatever changes something or shows other people's bytes takes an `admin` key or a
//! member in the role for it, and is recorded as `sluice.audit` before it is done, so that nothing is done unrecorded. So are the calls of
//! known keys and members that are refused, up to [`MAX_REFUSED_PER_HOUR`]; calls of nobody known are not, since anybody can make them.

mod channels;
mod compact;
mod erase;
mod game;
mod incidents;
pub mod members;
pub mod metrics;
mod outbox;
mod quarantine;
mod reports;
pub mod retention;
mod tables;
mod way;

use self::retention::Retention;
use crate::access::{self, DEFAULT_MAX_AGE_DAYS, Denial, KeySpec, Keys, Right, Scope};
use crate::attempts::Attempts;
use crate::channels::Channels;
use crate::compact::Compact;
use crate::erase::Erase;
use crate::http::{Request, Response};
use crate::ledger::audit::{self, Asked, AuditPorts, Audited};
use crate::ledger::{self, Counts, Sink};
use crate::limits::Allowance;
use crate::members::Members;
use crate::networks::Networks;
use crate::quarantine::desk::Desk;
use crate::requests::Requests;
use crate::routes;
use crate::rules::{Rules, RulesError, StoredRule};
use crate::sessions::Sessions;
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_domain::event::{Event, Shared};
use sluice_domain::json as strict;
use sluice_domain::message::{self, Entry};
use sluice_domain::report::Reports;
use sluice_domain::schema::Registry;
use sluice_domain::time::Timestamp;
use sluice_ports::{
    Catalog, Depth, ErrorKind, Message, Outbox, PortError, QueueConsole, Search, Sql, SqlLimits, Table, Topic,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// Indices that a search may name begin with this.
const INDEX_PREFIX: &str = "sluice-";
/// Refused calls that are recorded per key or member and hour, in each process: a write key is public, and whoever has it could fill the lake.
pub const MAX_REFUSED_PER_HOUR: u32 = 100;
/// What a record names as target is cut to this.
const MAX_TARGET_BYTES: usize = 512;
/// Code of a body that cannot be read.
const UNREADABLE: &str = "body";
/// Most messages that one look into a queue shows.
const MAX_PEEK: usize = 100;
/// Longest part of a body that a look into a queue shows, in characters.
const PEEK_CHARS: usize = 2_000;

/// What `api` works with.
pub struct ApiPorts {
    /// Search.
    pub search: Arc<dyn Search>,
    /// SQL over the lake.
    pub sql: Arc<dyn Sql>,
    /// Counters.
    pub table: Arc<dyn Table>,
    /// Where audit events go.
    pub topic: Arc<dyn Topic>,
    /// The queues.
    pub queues: Arc<dyn QueueConsole>,
    /// The keys.
    pub keys: Arc<Keys>,
    /// The members.
    pub members: Arc<Members>,
    /// Their sessions.
    pub sessions: Arc<Sessions>,
    /// The rules.
    pub rules: Arc<Rules>,
    /// Where alerts go.
    pub channels: Arc<Channels>,
    /// The quarantine.
    pub desk: Desk,
    /// What an audit of the ledger reads.
    pub audit: AuditPorts,
    /// The schemas.
    pub registry: Arc<Registry>,
    /// The questions to the lake that have a name.
    pub reports: Arc<Reports>,
    /// How many requests were answered.
    pub requests: Arc<Requests>,
    /// The lake's tables; `None` where nobody makes them.
    pub catalog: Option<Arc<dyn Catalog>>,
    /// Compacts them when it is asked to; `None` where only the clock asks.
    pub compact: Option<Arc<Compact>>,
    /// Erases users when it is asked to; `None` where the clock does.
    pub erase: Option<Arc<Erase>>,
    /// Mails in a folder; `None` where mails are sent.
    pub outbox: Option<Arc<dyn Outbox>>,
}

/// How `api` is set.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// Bounds of one SQL query.
    pub sql_limits: SqlLimits,
    /// The queues before each sink; a sink that is not here is switched off.
    pub sink_queues: BTreeMap<Sink, Vec<String>>,
    /// Who gets the metrics without a key.
    pub metrics_allowed: Networks,
    /// How long this deployment keeps what it keeps.
    pub retention: Retention,
}

/// The stage.
pub struct Api {
    ports: ApiPorts,
    settings: ApiSettings,
    attempts: Attempts,
    refused: Allowance,
    rankings: game::Rankings,
    results: reports::Results,
}

type Reply = Result<Response, Response>;

impl Api {
    /// A stage over these ports.
    pub fn new(ports: ApiPorts, settings: ApiSettings) -> Self {
        let attempts = Attempts::new(ports.table.clone());
        Self {
            ports,
            settings,
            attempts,
            refused: Allowance::default(),
            rankings: game::Rankings::default(),
            results: reports::Results::default(),
        }
    }

    /// Answers a request.
    pub async fn handle(&self, request: &Request, now: Timestamp) -> Response {
        let path = segments(&request.path);
        let call = Call { request, now };
        let reply = match (path.as_slice(), request.method.as_str()) {
            (["", "metrics"], "GET") => self.metrics(call).await,
            (["", "openapi.json"], "GET") => Ok(Response::json(200, &routes::document())),
            (["search"], "POST") => self.search(call).await,
            (["sql"], "POST") => self.sql(call).await,
            (["reports"], "GET") => self.list_reports(call).await,
            (["reports", name], "GET") => self.report(call, name).await,
            (["status"], "GET") => self.status(call).await,
            (["ledger"], "GET") => self.ledger(call).await,
            (["queues"], "GET") => self.queues(call).await,
            (["queues", name, "messages"], "GET") => self.peek(call, name).await,
            (["queues", name, "redrive"], "POST") => self.redrive(call, name).await,
            (["channels"], "GET") => self.list_channels(call).await,
            (["channels"], "POST") => self.create_channel(call).await,
            (["channels", id], "PATCH") => self.change_channel(call, id).await,
            (["channels", id], "DELETE") => self.remove_channel(call, id).await,
            (["channels", id, "test"], "POST") => self.test_channel(call, id).await,
            (["retention"], "GET") => self.retention(call).await,
            (["events", document, "way"], "GET") => self.way(call, document).await,
            (["incidents"], "GET") => self.incidents(call).await,
            (["rules"], "GET") => self.list_rules(call).await,
            (["rules"], "POST") => self.create_rule(call).await,
            (["rules", id], "GET") => self.get_rule(call, id).await,
            (["rules", id], "DELETE") => self.delete_rule(call, id).await,
            (["keys"], "GET") => self.list_keys(call).await,
            (["keys"], "POST") => self.create_key(call).await,
            (["keys", "current"], "GET") => self.current_key(call).await,
            (["keys", id], "DELETE") if *id != "current" => self.revoke_key(call, id).await,
            (["users", user], "DELETE") => self.erase_user(call, user).await,
            (["erasures"], "POST") => self.create_erasure(call).await,
            (["erasures"], "GET") => self.list_erasures(call).await,
            (["erasures", id], "GET") => self.show_erasure(call, id).await,
            (["tables"], "GET") => self.tables(call).await,
            (["tables", "compact"], "POST") => self.compact(call).await,
            (["game", "config"], "GET") => self.game_config(call).await,
            (["game", "ranking"], "GET") => self.ranking(call).await,
            (["outbox"], "GET") => self.list_outbox(call).await,
            (["outbox", id], "GET") => self.show_mail(call, id).await,
            (["sessions"], "POST") => self.sign_in(call).await,
            (["sessions", "current"], "GET") => self.who(call).await,
            (["sessions", "current"], "DELETE") => self.sign_out(call).await,
            (["members"], "GET") => self.list_members(call).await,
            (["members"], "POST") => self.invite(call).await,
            (["members", "me", "password"], "PUT") => self.set_password(call).await,
            (["members", id], "PATCH") => self.change_member(call, id).await,
            (["members", id], "DELETE") => self.remove_member(call, id).await,
            (["quarantine"], "GET") => self.list_quarantine(call).await,
            (["quarantine", "count"], "GET") => self.count_quarantine(call).await,
            (["quarantine", "repair"], "POST") => self.repair_quarantine(call).await,
            (["quarantine", "replay"], "POST") => self.replay_quarantine(call).await,
            (["quarantine", day, id], "GET") => self.show_quarantine(call, day, id).await,
            _ => Err(unknown(&request.path)),
        };
        reply.unwrap_or_else(|refusal| refusal)
    }

    async fn allow_reading(&self, call: Call<'_>) -> Result<(), Response> {
        let (keys, sessions) = (&self.ports.keys, &self.ports.sessions);
        let allowed = access::authorize(call.request, keys, sessions, Right::Read, call.now).await;
        allowed.map(drop).map_err(|denial| denial.reply)
    }

    /// Lets a call pass that looks at a list without secrets and without other people's bytes. Each look is not recorded, since pages ask
    /// again and again; one that is refused is.
    async fn look(&self, call: Call<'_>, right: Right, action: &str, target: &str) -> Result<(), Response> {
        self.admit(call, right, action, target).await.map(drop)
    }

    /// Who asks, where that may; a refusal of somebody known is recorded.
    async fn admit(&self, call: Call<'_>, right: Right, action: &str, target: &str) -> Result<String, Response> {
        let (keys, sessions) = (&self.ports.keys, &self.ports.sessions);
        match access::authorize(call.request, keys, sessions, right, call.now).await {
            Ok(who) => Ok(who.name()),
            Err(Denial { code, who, reply }) => {
                if let Some(who) = who.map(|who| who.name())
                    && self.refused.take(&who, MAX_REFUSED_PER_HOUR, 1, call.now) == 1
                {
                    self.record_refusal(call, &who, action, target, code).await;
                }
                Err(reply)
            }
        }
    }

    /// Lets a call pass that takes more than reading: looks who asks, reads what is asked and of what (`target` where that cannot be read),
    /// and records it.
    async fn allow<T: Send>(
        &self,
        call: Call<'_>,
        right: Right,
        action: &str,
        target: &str,
        read: impl FnOnce(&Request) -> Result<(T, String), Response> + Send,
    ) -> Result<T, Response> {
        let who = self.admit(call, right, action, target).await?;
        match read(call.request) {
            Ok((asked, target)) => {
                let recorded = self.record(call, &who, action, &target, "allowed").await;
                recorded.map_err(|e| failed("the call could not be recorded, so it was not done", &e))?;
                Ok(asked)
            }
            Err(reply) => {
                self.record_refusal(call, &who, action, target, UNREADABLE).await;
                Err(reply)
            }
        }
    }

    /// Nothing was done, so the reply stays a refusal where this fails.
    async fn record_refusal(&self, call: Call<'_>, who: &str, action: &str, target: &str, code: &str) {
        if let Err(error) = self.record(call, who, action, target, code).await {
            tracing::warn!(error.kind = ?error.kind, error.message = %error, "a refused call could not be recorded");
        }
    }

    async fn record(
        &self,
        call: Call<'_>,
        who: &str,
        action: &str,
        target: &str,
        outcome: &str,
    ) -> Result<(), PortError> {
        const TYPE: &str = "sluice.audit";
        let invalid = |e: &dyn std::error::Error| PortError::new(ErrorKind::Invalid, "api.record", e.to_string());
        let id = Uuid::now_v7().to_string();
        let target = &target[..target.floor_char_boundary(MAX_TARGET_BYTES)];
        let data = json!({"who": who, "action": action, "target": target, "outcome": outcome}).to_string();
        let node = strict::parse_str(&data).map_err(|e| invalid(&e))?;
        let mut event = Event::derived(&id, "sluice", TYPE, call.now, call.now, node);
        event.subject = (!target.is_empty()).then(|| target.into());
        let mut text = String::new();
        event.write(&mut text);
        let entry = Entry { event_type: TYPE.into(), text };
        let shared = Shared { received: call.now, ..Shared::default() };
        let packed = message::pack(&id, &shared, &[entry]).map_err(|e| invalid(&e))?;
        let message = Message {
            body: packed.body,
            attributes: BTreeMap::from([("areas".to_owned(), packed.header.areas)]),
            events: 1,
            tally: vec![ledger::accepted(call.now, TYPE, 1)],
        };
        self.ports.topic.publish(vec![message]).await.into_iter().collect()
    }

    async fn search(&self, call: Call<'_>) -> Reply {
        self.allow_reading(call).await?;
        let pattern = call.request.query("index").unwrap_or("sluice-*");
        if pattern.is_empty() || pattern.split(',').any(|p| !p.strip_prefix('-').unwrap_or(p).starts_with(INDEX_PREFIX))
        {
            return Err(Response::error(
                400,
                "index",
                format!("`index` names indices that begin with `{INDEX_PREFIX}`, separated by commas"),
            ));
        }
        let body: Value = if call.request.body.is_empty() { json!({}) } else { body(call.request)? };
        let found = self.ports.search.search(pattern, &body).await.map_err(|e| failed("the search failed", &e))?;
        Ok(Response::json(200, &found))
    }

    async fn sql(&self, call: Call<'_>) -> Reply {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Ask {
            sql: String,
            #[serde(default)]
            parameters: Vec<Value>,
            max_rows: Option<usize>,
        }
        self.allow_reading(call).await?;
        let ask: Ask = body(call.request)?;
        let mut limits = self.settings.sql_limits;
        limits.max_rows = ask.max_rows.unwrap_or(limits.max_rows).min(limits.max_rows);
        let result = self
            .ports
            .sql
            .query(&ask.sql, &ask.parameters, limits)
            .await
            .map_err(|e| failed("the query failed", &e))?;
        let columns: Vec<Value> = result.columns.iter().map(|c| json!({"name": c.name, "type": c.data_type})).collect();
        Ok(Response::json(
            200,
            &json!({"columns": columns, "rows": result.rows, "truncated": result.truncated, "files_read": result.files_read}),
        ))
    }

    async fn status(&self, call: Call<'_>) -> Reply {
        self.allow_reading(call).await?;
        let failure = |e: PortError| failed("the status could not be read", &e);
        let queues = self.ports.queues.list().await.map_err(failure)?;
        let report = ledger::report(self.ports.table.as_ref(), &self.waiting(&queues)).await.map_err(failure)?;
        let server = json!({"version": env!("CARGO_PKG_VERSION"), "time": call.now.to_string()});
        let body = json!({"server": server, "queues": queue_rows(&queues), "ledger": ledger_rows(&report, self.is_moving(&queues))});
        Ok(Response::json(200, &body))
    }

    /// `?from&to` are hours, `?type` a type, `?deep=true` opens every file; the verdict is over all hours and types whatever is shown.
    async fn ledger(&self, call: Call<'_>) -> Reply {
        self.allow_reading(call).await?;
        let deep = match call.request.query("deep") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Response::error(400, "deep", "`deep` is `true` or `false`")),
        };
        let audited = self.audit(deep, call.now).await.map_err(|e| failed("the ledger could not be audited", &e))?;
        let [from, to, event_type] = ["from", "to", "type"].map(|name| call.request.query(name));
        let is_shown = |hour: &audit::Hour| {
            from.is_none_or(|from| hour.hour.as_str() >= from)
                && to.is_none_or(|to| hour.hour.as_str() <= to)
                && event_type.is_none_or(|event_type| hour.event_type == event_type)
        };
        let hours: Vec<&audit::Hour> = audited.hours.iter().filter(|hour| is_shown(hour)).collect();
        let body = json!({
            "adds_up": audited.adds_up, "problems": audited.problems, "told": audited.told, "files": audited.files, "deep": deep,
            "hours": hours,
        });
        Ok(Response::json(200, &body))
    }

    /// Holds what the counters say against what the sinks have, and tells the log and the metrics.
    pub async fn audit(&self, deep: bool, now: Timestamp) -> Result<Audited, PortError> {
        let sinks: Vec<Sink> = self.settings.sink_queues.keys().copied().collect();
        let audited = audit::audit(&self.ports.audit, Asked { sinks: &sinks, deep }, now).await?;
        if let Err(error) = audit::note(self.ports.table.as_ref(), audited.problems).await {
            tracing::warn!(error.kind = ?error.kind, error.message = %error, "what the audit found could not be noted");
        }
        for problem in &audited.told {
            tracing::error!(
                sink = problem.sink.name(),
                hour = problem.hour,
                event_type = problem.event_type,
                "the ledger does not add up: {}",
                problem.what
            );
        }
        tracing::info!(
            ledger.problems = audited.problems,
            ledger.files = audited.files,
            ledger.hours = audited.hours.len(),
            "ledger audited"
        );
        Ok(audited)
    }

    /// Whether something is on its way to a sink. What is stored and not yet acknowledged stands in both counts then.
    fn is_moving(&self, queues: &[(String, Depth, Option<String>)]) -> bool {
        let before_a_sink = |name: &String| self.settings.sink_queues.values().flatten().any(|q| q == name);
        queues.iter().any(|(name, depth, _)| before_a_sink(name) && depth.visible + depth.in_flight > 0)
    }

    /// Events that wait before each sink, dead letters included; `None` where a queue cannot tell.
    fn waiting(&self, queues: &[(String, Depth, Option<String>)]) -> BTreeMap<Sink, Option<u64>> {
        let by_name: HashMap<&str, (&Depth, Option<&str>)> =
            queues.iter().map(|(n, d, dead)| (n.as_str(), (d, dead.as_deref()))).collect();
        let events = |name: &str| by_name.get(name).and_then(|(depth, _)| depth.events);
        self.settings
            .sink_queues
            .iter()
            .map(|(sink, names)| {
                let sum = names.iter().try_fold(0, |sum, name| {
                    let dead = by_name.get(name.as_str()).and_then(|(_, dead)| *dead);
                    Some(sum + events(name)? + dead.map_or(Some(0), events)?)
                });
                (*sink, sum)
            })
            .collect()
    }

    async fn queues(&self, call: Call<'_>) -> Reply {
        self.allow_reading(call).await?;
        let queues = self.ports.queues.list().await.map_err(|e| failed("the queues could not be read", &e))?;
        Ok(Response::json(200, &json!({"queues": queue_rows(&queues)})))
    }

    async fn peek(&self, call: Call<'_>, name: &str) -> Reply {
        self.allow(call, Right::Edit, "queues.peek", name, of(name)).await?;
        let limit = call.request.query("limit").and_then(|l| l.parse().ok()).unwrap_or(10).min(MAX_PEEK);
        let messages =
            self.ports.queues.peek(name, limit).await.map_err(|e| failed("the queue could not be read", &e))?;
        let rows: Vec<Value> = messages
            .iter()
            .map(|m| {
                let body: String = m.body.chars().take(PEEK_CHARS).collect();
                let sent = Timestamp::from_micros(m.sent_ms.saturating_mul(1_000)).unwrap_or_default().to_string();
                json!({"id": m.id, "sent": sent, "receive_count": m.receive_count, "events": m.events, "bytes": m.body.len(), "body": body})
            })
            .collect();
        Ok(Response::json(200, &json!({"messages": rows})))
    }

    async fn redrive(&self, call: Call<'_>, name: &str) -> Reply {
        #[derive(Deserialize, Default)]
        #[serde(deny_unknown_fields)]
        struct Ask {
            limit: Option<u64>,
        }
        let read = |request: &Request| {
            let ask = if request.body.is_empty() { Ask::default() } else { body(request)? };
            Ok((ask, name.to_owned()))
        };
        let ask = self.allow(call, Right::Edit, "queues.redrive", name, read).await?;
        let moved = self.ports.queues.redrive(name, ask.limit.unwrap_or(u64::MAX)).await;
        Ok(Response::json(200, &json!({"moved": moved.map_err(|e| failed("the messages could not be moved", &e))?})))
    }

    async fn list_rules(&self, call: Call<'_>) -> Reply {
        self.look(call, Right::Edit, "rules.list", "").await?;
        let rules = self.ports.rules.list().await.map_err(|e| refused_rule(&e))?;
        let rows: Vec<Value> = rules.iter().map(rule_row).collect();
        Ok(Response::json(200, &json!({"rules": rows})))
    }

    async fn get_rule(&self, call: Call<'_>, id: &str) -> Reply {
        self.look(call, Right::Edit, "rules.get", id).await?;
        match self.ports.rules.get(id).await.map_err(|e| refused_rule(&e))? {
            Some(rule) => Ok(Response::json(200, &rule_row(&rule))),
            None => Err(missing("rule", id)),
        }
    }

    async fn create_rule(&self, call: Call<'_>) -> Reply {
        let read = |request: &Request| {
            let asked: Value = body(request)?;
            let word = |name: &str| {
                asked.get(name).and_then(Value::as_str).unwrap_or("-").chars().take(128).collect::<String>()
            };
            // Records outlive a user who is erased, so they name none.
            let target = format!("{} {}", word("kind"), word("id"));
            let text = String::from_utf8(request.body.to_vec());
            Ok((text.map_err(|_| Response::error(400, UNREADABLE, "the body is not UTF-8"))?, target))
        };
        let text = self.allow(call, Right::Edit, "rules.create", "", read).await?;
        let rule = self.ports.rules.create(&text, call.now).await.map_err(|e| refused_rule(&e))?;
        Ok(Response::json(201, &rule_row(&rule)))
    }

    async fn delete_rule(&self, call: Call<'_>, id: &str) -> Reply {
        self.allow(call, Right::Edit, "rules.delete", id, of(id)).await?;
        match self.ports.rules.delete(id).await.map_err(|e| refused_rule(&e))? {
            true => Ok(Response::empty(204)),
            false => Err(missing("rule", id)),
        }
    }

    async fn list_keys(&self, call: Call<'_>) -> Reply {
        self.look(call, Right::Admin, "keys.list", "").await?;
        let keys = self.ports.keys.list().await.map_err(|e| failed("the keys could not be read", &e))?;
        Ok(Response::json(200, &json!({"keys": keys})))
    }

    async fn create_key(&self, call: Call<'_>) -> Reply {
        let read = |request: &Request| {
            let ask: NewKey = body(request)?;
            let target = format!("{} for {} `{}`", ask.scope.name(), ask.sources.join(","), ask.name);
            Ok((ask, target))
        };
        let ask = self.allow(call, Right::Admin, "keys.create", "", read).await?;
        let spec = KeySpec {
            scope: ask.scope,
            sources: ask.sources,
            types: ask.types,
            origins: ask.origins,
            max_age_days: ask.max_age_days,
            rate_per_s: ask.rate_per_s,
            name: ask.name,
        };
        let (secret, record) =
            self.ports.keys.create(spec, None, call.now).await.map_err(|e| failed("the key could not be kept", &e))?;
        let mut reply = serde_json::to_value(&record).map_err(|e| internal("keys", &e))?;
        // The only time that the secret is shown.
        reply["key"] = Value::String(secret);
        Ok(Response::json(201, &reply))
    }

    /// Which key the request has; a session has none.
    async fn current_key(&self, call: Call<'_>) -> Reply {
        let found = match access::present_key(call.request, &self.ports.keys, call.now).await {
            Ok(found) => found,
            Err(denial) => return Err(denial.reply),
        };
        let key = json!({"id": found.id, "name": found.name, "scope": found.scope.name(), "sources": found.sources, "types": found.types});
        Ok(Response::json(200, &key))
    }

    async fn revoke_key(&self, call: Call<'_>, id: &str) -> Reply {
        self.allow(call, Right::Admin, "keys.revoke", id, of(id)).await?;
        match self.ports.keys.revoke(id, call.now).await.map_err(|e| failed("the key could not be revoked", &e))? {
            Some(_) => Ok(Response::empty(204)),
            None => Err(missing("key", id)),
        }
    }
}

/// A key as it is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    #[serde(default = "usual_scope")]
    scope: Scope,
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    origins: Vec<String>,
    /// `null` for no limit.
    #[serde(default = "usual_age")]
    max_age_days: Option<u32>,
    #[serde(default)]
    rate_per_s: Option<u32>,
    #[serde(default)]
    name: String,
}

fn usual_scope() -> Scope {
    Scope::Write
}

fn usual_age() -> Option<u32> {
    Some(DEFAULT_MAX_AGE_DAYS)
}

#[derive(Clone, Copy)]
struct Call<'r> {
    request: &'r Request,
    now: Timestamp,
}

fn queue_rows(queues: &[(String, Depth, Option<String>)]) -> Vec<Value> {
    let messages = |name: &str| queues.iter().find(|(n, ..)| n == name).map(|(_, d, _)| d.visible + d.in_flight);
    queues
        .iter()
        .map(|(name, depth, dead)| {
            json!({
                "name": name, "visible": depth.visible, "in_flight": depth.in_flight, "events": depth.events, "bytes": depth.bytes,
                "oldest_ms": depth.oldest_ms, "dead_letter_queue": dead, "dead_letters": dead.as_deref().and_then(messages).unwrap_or(0),
            })
        })
        .collect()
}

/// The report as rows: per type and in total, each sink by its name. `adds_up` is null while it cannot be said.
fn ledger_rows(report: &ledger::Report, is_moving: bool) -> Value {
    let row = |counts: &Counts| {
        let mut row = json!({"received": counts.received, "accepted": counts.accepted, "rejected": counts.rejected});
        for (sink, sums) in &counts.sinks {
            row[sink.name()] = json!({
                "stored": sums.stored, "quarantined": sums.quarantined, "duplicates": sums.duplicates, "off": sums.off,
                "in_flight": sums.in_flight,
            });
        }
        row
    };
    let types: Vec<Value> = report
        .types
        .iter()
        .map(|(event_type, counts)| {
            let mut row = row(counts);
            row["type"] = event_type.as_str().into();
            row
        })
        .collect();
    let checks: BTreeMap<&str, Value> = report
        .checks
        .iter()
        .map(|(sink, c)| {
            (sink.name(), json!({"in_flight": c.in_flight, "waiting": c.waiting, "adds_up": c.adds_up, "oldest_hour": c.oldest_hour}))
        })
        .collect();
    let off: Vec<String> = report
        .checks
        .iter()
        .filter(|(_, c)| c.adds_up == Some(false))
        .map(|(sink, c)| {
            format!(
                "{}: {} in flight by the counters, {} by its queues",
                sink.name(),
                c.in_flight,
                c.waiting.unwrap_or_default()
            )
        })
        .collect();
    let (adds_up, note) = match report.adds_up {
        true => (Some(true), String::new()),
        false if is_moving => (None, "events are on their way; ask again when the queues are empty".to_owned()),
        false => (Some(false), off.join("; ")),
    };
    json!({"types": types, "totals": row(&report.total), "checks": checks, "adds_up": adds_up, "note": note})
}

fn body<T: for<'de> Deserialize<'de>>(request: &Request) -> Result<T, Response> {
    // A list of values would do for a struct.
    if !request.body.trim_ascii_start().starts_with(b"{") {
        return Err(Response::error(400, UNREADABLE, "the body is not a JSON object"));
    }
    serde_json::from_slice(&request.body)
        .map_err(|e| Response::error(400, UNREADABLE, format!("the body cannot be read: {e}")))
}

/// Reads nothing from a call: its path says what it is asked of.
fn of(target: &str) -> impl FnOnce(&Request) -> Result<((), String), Response> {
    let target = target.to_owned();
    move |_| Ok(((), target))
}

fn missing(what: &str, id: &str) -> Response {
    Response::error(404, "not_found", format!("there is no {what} `{}`", id.chars().take(64).collect::<String>()))
}

/// A path without what most paths of the API begin with; `/metrics` begins with an empty segment.
fn segments(path: &str) -> Vec<&str> {
    path.strip_prefix("/v1/").unwrap_or(path).trim_end_matches('/').split('/').collect()
}

/// The methods of a path that is known, or not found.
fn unknown(path: &str) -> Response {
    let methods = routes::methods(path);
    if methods.is_empty() {
        return Response::error(404, "not_found", "there is nothing at this path");
    }
    let allowed = methods.into_iter().collect::<Vec<_>>().join(", ");
    Response::error(405, "method_not_allowed", format!("this path takes {allowed}")).with_header("allow", allowed)
}

fn rule_row(rule: &StoredRule) -> Value {
    let mut row = rule.rule.to_json();
    row["version"] = rule.version.into();
    row
}

fn refused_rule(error: &RulesError) -> Response {
    match error {
        RulesError::Invalid(e) => Response::error(400, "rule", e.to_string()),
        RulesError::Exists(_) => Response::error(409, "exists", error.to_string()),
        RulesError::TooMany => Response::error(409, "too_many", error.to_string()),
        RulesError::Port(e) => failed("the rules cannot be reached", e),
    }
}

/// A port's failure as a reply. What the caller did wrong is told; what is wrong here is logged.
fn failed(what: &str, error: &PortError) -> Response {
    let (status, code, tell) = match error.kind {
        ErrorKind::Invalid => (400, "invalid", true),
        ErrorKind::Denied => (403, "refused", true),
        ErrorKind::NotFound => (404, "not_found", true),
        ErrorKind::TooLarge => (413, "too_large", true),
        ErrorKind::Throttled => (429, "busy", false),
        ErrorKind::Timeout => (504, "timeout", true),
        ErrorKind::Unavailable => (503, "unavailable", false),
        ErrorKind::Full => (503, "storage_full", false),
        ErrorKind::Conflict | ErrorKind::Corrupt => (500, "internal", false),
    };
    if status >= 500 {
        tracing::error!(error = %error, source = ?std::error::Error::source(error).map(ToString::to_string), "{what}");
    }
    let reply = Response::error(status, code, if tell { error.detail.clone() } else { what.to_owned() });
    match error.retry_after {
        Some(after) => reply.with_header("retry-after", after.as_secs().max(1).to_string()),
        None => reply,
    }
}

fn internal(what: &str, error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, what, "a reply could not be made");
    Response::error(500, "internal", "something went wrong here; the log says what")
}
