//! The functions: which event each takes, and the stage behind it.

use crate::front::Front;
use crate::settings::{SettingError, Settings};
use crate::{Function, InvokeError, gateway, sqs};
use async_trait::async_trait;
use serde::Deserialize;
use sluice_domain::schema::Registry;
use sluice_domain::time::Timestamp;
use sluice_ports::{SearchRemoval, Table};
use sluice_stages::api::Api;
use sluice_stages::commit::Commit;
use sluice_stages::compact::{Asked, Compact};
use sluice_stages::convert::Convert;
use sluice_stages::detect::Detect;
use sluice_stages::erase::Erase;
use sluice_stages::http::{Request, Response};
use sluice_stages::index::Index;
use sluice_stages::ingest::{ClientIp, Ingest, IngestSettings};
use sluice_stages::item::{Item, Outcome};
use sluice_stages::networks::is_public;
use sluice_stages::notify::{Notify, NotifySettings};
use sluice_stages::quarantine::Quarantine;
use sluice_stages::quarantine::sweep::Sweep;
use sluice_stages::requests::Requests;
use sluice_stages::retire::retire;
use sluice_stages::routes;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A stage that answers HTTP requests.
#[async_trait]
pub trait HttpStage: Send + Sync {
    /// The function's verb.
    const VERB: &'static str;
    /// Answers a request.
    async fn answer(&self, request: &Request, now: Timestamp) -> Response;
}

/// A stage that takes queued messages.
#[async_trait]
pub trait QueueStage: Send + Sync {
    /// The function's verb.
    const VERB: &'static str;
    /// Takes a delivery; one outcome per item, in order.
    async fn take(&self, items: &[Item], now: Timestamp) -> Vec<Outcome>;
}

#[async_trait]
impl<S: HttpStage> HttpStage for Arc<S> {
    const VERB: &'static str = S::VERB;
    async fn answer(&self, request: &Request, now: Timestamp) -> Response {
        S::answer(self, request, now).await
    }
}

/// The function of a stage that answers HTTP requests, and counts them.
pub struct HttpFunction<S> {
    /// Answers.
    pub stage: S,
    /// Counts.
    pub counting: Counting,
    /// Before the gateway.
    pub front: Front,
}

/// Counts requests and how long each took.
#[derive(Clone)]
pub struct Counting {
    /// The counts.
    pub requests: Arc<Requests>,
    /// The clock that a call's own time is of.
    pub clock: fn() -> Timestamp,
}

#[async_trait]
impl<S: HttpStage> Function for HttpFunction<S> {
    async fn invoke(&self, event: &[u8], now: Timestamp) -> Result<Vec<u8>, InvokeError> {
        answer(&self.stage, &self.counting, &self.front, event, now).await
    }
}

async fn answer<S: HttpStage>(
    stage: &S,
    counting: &Counting,
    front: &Front,
    event: &[u8],
    now: Timestamp,
) -> Result<Vec<u8>, InvokeError> {
    let mut request = gateway::read(S::VERB, event)?;
    front.undo(&mut request);
    let response = stage.answer(&request, now).await;
    let took_us = (counting.clock)().micros() - now.micros();
    let route = routes::template(&request.path);
    counting.requests.count(&request.method, route, response.status, took_us, now).await;
    gateway::write(S::VERB, response)
}

/// The function of a stage that takes queued messages.
pub struct QueueFunction<S>(pub S);

#[async_trait]
impl<S: QueueStage> Function for QueueFunction<S> {
    async fn invoke(&self, event: &[u8], now: Timestamp) -> Result<Vec<u8>, InvokeError> {
        take(&self.0, event, now).await
    }
}

async fn take<S: QueueStage>(stage: &S, event: &[u8], now: Timestamp) -> Result<Vec<u8>, InvokeError> {
    let items = sqs::read(S::VERB, event)?;
    let outcomes = stage.take(&items, now).await;
    let ids: Vec<String> = items.into_iter().map(|item| item.id).collect();
    sqs::write(S::VERB, &ids, &outcomes)
}

/// `detect`: queued messages, and the clock's tick each minute (`{"tick":"detect"}`).
pub struct DetectFunction(pub Detect);

#[derive(Deserialize)]
struct Tick {
    tick: Option<String>,
}

#[async_trait]
impl Function for DetectFunction {
    async fn invoke(&self, event: &[u8], now: Timestamp) -> Result<Vec<u8>, InvokeError> {
        if !is_tick(event) {
            return take(&self.0, event, now).await;
        }
        self.0.tick(now).await.map_err(|source| InvokeError::Stage { function: "detect", source })?;
        Ok(b"{}".to_vec())
    }
}

/// `commit`: names of tables that have new files, and the clock's tick each minute (`{"tick":"commit"}`), which finds them too.
pub struct CommitFunction(pub Commit);

#[async_trait]
impl Function for CommitFunction {
    async fn invoke(&self, event: &[u8], now: Timestamp) -> Result<Vec<u8>, InvokeError> {
        if !is_tick(event) {
            return take(&self.0, event, now).await;
        }
        self.0.tick(now).await.map_err(|source| InvokeError::Stage { function: "commit", source })?;
        Ok(b"{}".to_vec())
    }
}

/// Time after which erasing waits for the next tick, whatever it is at.
const ERASE_AT_MOST: Duration = Duration::from_secs(360);

/// `compact`: the clock's tick, which compacts what is due, erases users who are to be forgotten, and removes what was kept long enough and
/// what nothing refers to.
pub struct CompactFunction {
    /// Compacts and sweeps.
    pub compact: Arc<Compact>,
    /// Erases.
    pub erase: Erase,
    /// The search, whose indices are retired; `None` where there is none.
    pub search: Option<Arc<dyn SearchRemoval>>,
    /// Counters.
    pub table: Arc<dyn Table>,
    /// How long what is kept.
    pub registry: Arc<Registry>,
}

#[async_trait]
impl Function for CompactFunction {
    async fn invoke(&self, _: &[u8], now: Timestamp) -> Result<Vec<u8>, InvokeError> {
        let failed = |source| InvokeError::Stage { function: "compact", source };
        // What fails in one part is no reason to leave out the others; what is not finished leaves no time. Erasing comes first: it has been
        // promised. It may be killed anywhere, and the next tick goes on.
        let erased = tokio::time::timeout(ERASE_AT_MOST, self.erase.run(now)).await.unwrap_or(Ok(false));
        let run = self.compact.run(Asked::default(), now).await;
        let retired = match &self.search {
            Some(search) => retire(search.as_ref(), self.table.as_ref(), &self.registry, now).await.map(drop),
            None => Ok(()),
        };
        if run.as_ref().map_or(true, |run| run.finished) {
            self.compact.sweep(now).await.map_err(failed)?;
        }
        let (run, erased) = (run.map_err(failed)?, erased.map_err(failed)?);
        retired.map_err(failed)?;
        let finished = run.finished && erased;
        Ok(format!("{{\"compacted\":{},\"finished\":{}}}", run.compacted.len(), finished).into_bytes())
    }
}

/// `api`: requests, and the clock's tick each hour, which audits the ledger.
pub struct ApiFunction {
    /// Answers and audits.
    pub stage: Api,
    /// Counts.
    pub counting: Counting,
    /// Before the gateway.
    pub front: Front,
}

#[async_trait]
impl Function for ApiFunction {
    async fn invoke(&self, event: &[u8], now: Timestamp) -> Result<Vec<u8>, InvokeError> {
        if !is_tick(event) {
            return answer(&self.stage, &self.counting, &self.front, event, now).await;
        }
        let audited = self.stage.audit(false, now).await;
        let audited = audited.map_err(|source| InvokeError::Stage { function: "api", source })?;
        Ok(format!("{{\"problems\":{}}}", audited.problems).into_bytes())
    }
}

/// `quarantine`: queued records, and the clock's tick each day, which sweeps the dead-letter queues.
pub struct QuarantineFunction {
    /// Keeps records.
    pub stage: Quarantine,
    /// Moves old dead letters.
    pub sweep: Sweep,
}

#[async_trait]
impl Function for QuarantineFunction {
    async fn invoke(&self, event: &[u8], now: Timestamp) -> Result<Vec<u8>, InvokeError> {
        if !is_tick(event) {
            return take(&self.stage, event, now).await;
        }
        let swept = self.sweep.run(now).await;
        Ok(format!("{{\"swept\":{swept}}}").into_bytes())
    }
}

/// Whether an event is the clock's. A delivery has no `tick`, and a tick is small: looking first costs nothing.
fn is_tick(event: &[u8]) -> bool {
    event.len() < 1_024 && serde_json::from_slice::<Tick>(event).is_ok_and(|t| t.tick.is_some())
}

macro_rules! stages {
    ($($kind:ident $method:ident $stage:ident $verb:literal = $run:ident;)*) => { $(stages!(@ $kind $method $stage $verb $run);)* };
    (@ http $method:ident $stage:ident $verb:literal $run:ident) => {
        #[async_trait]
        impl HttpStage for $stage {
            const VERB: &'static str = $verb;
            async fn $method(&self, request: &Request, now: Timestamp) -> Response {
                self.$run(request, now).await
            }
        }
    };
    (@ queue $method:ident $stage:ident $verb:literal $run:ident) => {
        #[async_trait]
        impl QueueStage for $stage {
            const VERB: &'static str = $verb;
            async fn $method(&self, items: &[Item], now: Timestamp) -> Vec<Outcome> {
                self.$run(items, now).await
            }
        }
    };
}

stages! {
    http answer Ingest "ingest" = handle;
    http answer Api "api" = handle;
    queue take Convert "convert" = run;
    queue take Commit "commit" = run;
    queue take Index "index" = run;
    queue take Detect "detect" = run;
    queue take Notify "notify" = run;
    queue take Quarantine "quarantine" = run;
}

/// What `ingest` is set to.
pub fn ingest_settings(settings: &Settings) -> Result<IngestSettings, SettingError> {
    let mode = settings.text("client_ip_mode")?;
    Ok(IngestSettings {
        zone: settings.zone("time_zone")?,
        client_ip: match mode {
            "full" => ClientIp::Full,
            "truncated" => ClientIp::Truncated,
            "none" => ClientIp::None,
            _ => {
                let reason = format!("must be `full`, `truncated` or `none`, not `{mode}`");
                return Err(SettingError { key: "client_ip_mode".into(), reason });
            }
        },
        max_body_bytes: settings.size("max_body_bytes")?,
        max_decompressed_bytes: settings.size("max_decompressed_bytes")?,
        max_events_per_request: settings.size("max_events_per_request")?,
        quarantine_per_key_hour: u32::try_from(settings.number("quarantine_per_key_hour")?).unwrap_or(u32::MAX),
    })
}

/// The web origin of the console, from which the public game is played; none where the setting does not say it.
pub fn console_origin(settings: &Settings) -> Result<Vec<String>, SettingError> {
    let url = settings.text("console_url")?;
    if url.is_empty() {
        return Ok(Vec::new());
    }
    let origin =
        url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https")).map(|(scheme, rest)| {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            (host, format!("{scheme}://{host}"))
        });
    match origin {
        Some((host, origin)) if !host.is_empty() && !host.contains(['*', ' ', '@']) => Ok(vec![origin]),
        _ => {
            let reason = format!("`{url}` is not an address such as `https://console.example`");
            Err(SettingError { key: "console_url".into(), reason })
        }
    }
}

/// Which addresses webhooks may call: public ones, and those that the operator allows.
pub fn callable(settings: &Settings) -> Result<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>, SettingError> {
    let allowed = settings.networks("private_networks")?;
    Ok(Arc::new(move |address| is_public(address) || allowed.contains(address)))
}

/// What `notify` is set to.
pub fn notify_settings(settings: &Settings) -> Result<NotifySettings, SettingError> {
    let from = settings.text("mail_from")?;
    let is_address = from.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
        && !from.contains(|c: char| c.is_whitespace() || c.is_control() || "<>,;\"".contains(c));
    if !is_address {
        let reason = format!("`{from}` is not a mail address such as `alerts@example.org`");
        return Err(SettingError { key: "mail_from".into(), reason });
    }
    Ok(NotifySettings { from: from.to_owned(), console_url: settings.text("console_url")?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_testkit::memory::MemoryTable;
    use std::collections::BTreeMap;

    struct Teapot;

    #[async_trait]
    impl HttpStage for Teapot {
        const VERB: &'static str = "api";
        async fn answer(&self, _: &Request, _: Timestamp) -> Response {
            Response::empty(418)
        }
    }

    fn at(us: i64) -> Timestamp {
        Timestamp::from_micros(1_795_255_200_000_000 + us).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_request_is_counted_with_its_route_its_status_and_its_time() {
        let requests = Arc::new(Requests::new(Arc::new(MemoryTable::new())).unwrap());
        let counting = Counting { requests: requests.clone(), clock: || at(30_000) };
        let function = HttpFunction { stage: Teapot, counting, front: Front::default() };
        let event = br#"{"rawPath":"/v1/rules/secret","requestContext":{"http":{"method":"get"}}}"#;
        function.invoke(event, at(0)).await.unwrap();
        requests.flush(at(0)).await;
        let numbers = requests.numbers().await.unwrap();
        let (answered, n) = numbers.first_key_value().unwrap();
        assert_eq!(
            (answered.method.as_str(), answered.route.as_str(), answered.status, *n),
            ("GET", "/v1/rules/{id}", 418, 1)
        );
        assert_eq!(requests.times().await.unwrap()["/v1/rules/{id}"].sum_us, 30_000);
    }

    #[test]
    fn the_origin_of_the_console_is_scheme_and_host() {
        let origin = |url: &str| {
            let layer = BTreeMap::from([("console_url".to_owned(), url.to_owned())]);
            console_origin(&Settings::from_layers([layer]).unwrap())
        };
        assert_eq!(origin(""), Ok(vec![]));
        assert_eq!(origin("https://console.example/app/"), Ok(vec!["https://console.example".to_owned()]));
        assert_eq!(origin("http://127.0.0.1:7070"), Ok(vec!["http://127.0.0.1:7070".to_owned()]));
        for bad in ["console.example", "https://", "javascript://x", "https://*.example", "https://user@host"] {
            assert!(origin(bad).unwrap_err().reason.contains("is not an address"), "{bad}");
        }
    }
}
