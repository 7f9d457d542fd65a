//! `api`.

use crate::search;
use crate::start::{Start, now, pairs, run as start};
use async_trait::async_trait;
use serde_json::Value;
use sluice_adapters_aws::athena::AthenaSql;
use sluice_adapters_aws::ses::SesMail;
use sluice_adapters_aws::sqs::{ConsoleQueue, SqsConsole, SqsQueue};
use sluice_adapters_aws::{Resource, secrets};
use sluice_adapters_http::HttpHooks;
use sluice_columnar::ParquetEncoder;
use sluice_entry::Function;
use sluice_entry::functions::{ApiFunction, callable, console_origin, ingest_settings, notify_settings};
use sluice_entry::settings::SettingError;
use sluice_ports::{Document, DocumentOutcome, ErrorKind, IndexTemplate, PortError, Queue, Search, SqlLimits};
use sluice_stages::access::{KeySpec, Keys};
use sluice_stages::api::retention::Retention;
use sluice_stages::api::{Api, ApiPorts, ApiSettings};
use sluice_stages::channels::Channels;
use sluice_stages::ingest::{Ingest, IngestPorts};
use sluice_stages::ledger::Sink;
use sluice_stages::ledger::audit::AuditPorts;
use sluice_stages::members::Members;
use sluice_stages::passwords::{Cost, Passwords};
use sluice_stages::quarantine::desk::{Desk, DeskPorts};
use sluice_stages::rules::Rules;
use sluice_stages::sessions::Sessions;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const QUEUES: &str = "SLUICE_QUEUES";
/// As the template has them.
const RETENTION: Retention =
    Retention { queue_days: Some(4), dead_letter_days: Some(14), quarantine_days: Some(crate::QUARANTINE_DAYS) };
/// What is left of the function's time when a query is stopped.
const ANSWER: Duration = Duration::from_secs(5);

/// Runs the function.
pub fn run() -> ExitCode {
    start("api", async |start| {
        let table = Arc::new(start.table()?);
        let keys = Arc::new(Keys::new(table.clone()));
        make_first_key(start, &keys).await?;
        keys.make_game_key(console_origin(&start.settings)?, now()).await?;
        let queues = queues(start.settings.text("queues")?)?;
        let search: Arc<dyn Search> = match search::open(start).await? {
            Some(search) => search,
            None => Arc::new(NoSearch),
        };
        let sql_limits = SqlLimits {
            max_rows: start.settings.size("sql_max_rows")?,
            // Behind the gateway nobody waits longer, and there must be time to answer.
            timeout: Duration::from_millis(start.settings.number("sql_timeout_ms")?)
                .min(crate::timeout("api") - ANSWER),
            max_memory_bytes: usize::MAX,
        };
        let settings = ApiSettings {
            sql_limits,
            sink_queues: sink_queues(&queues),
            metrics_allowed: start.settings.networks("metrics_allowed")?,
            retention: RETENTION,
        };
        let topic = start.topic()?;
        let registry = start.registry().await?;
        let ports = IngestPorts { topic: topic.clone(), quarantine: start.quarantine()?, keys: keys.clone() };
        let ports = DeskPorts {
            objects: start.objects()?,
            table: table.clone(),
            keys: keys.clone(),
            ingest: Arc::new(Ingest::new(ports, registry.clone(), ingest_settings(&start.settings)?)),
            queues: replay_queues(start, &queues)?,
        };
        let catalog = start.catalog(registry.clone())?;
        let audit = AuditPorts {
            catalog: Some(catalog.clone()),
            table: table.clone(),
            objects: ports.objects.clone(),
            search: search.clone(),
            row_count: Arc::new(ParquetEncoder::new()),
        };
        let desk = Desk::new(ports, registry.clone());
        let members = Arc::new(Members::new(table.clone(), Passwords::new(Cost::USUAL)?));
        let counting = start.counting()?;
        let sender = start.resource("sender", "mail_from", "SLUICE_MAIL_FROM")?;
        let channels = Channels {
            table: table.clone(),
            mail: Arc::new(SesMail::new(&start.connection, sender)),
            hooks: Arc::new(HttpHooks::new(callable(&start.settings)?)?),
            from: notify_settings(&start.settings)?.from,
        };
        let ports = ApiPorts {
            catalog: Some(catalog),
            compact: None,
            erase: None,
            search,
            sql: Arc::new(athena(start)?),
            table: table.clone(),
            topic,
            queues: Arc::new(SqsConsole::new(&start.connection, QUEUES, queues)),
            keys,
            sessions: Arc::new(Sessions::new(table.clone(), members.clone())),
            members,
            rules: Arc::new(Rules::new(table)),
            channels: Arc::new(channels),
            desk,
            audit,
            registry,
            reports: sluice_entry::reports::load(&[])?,
            requests: counting.requests.clone(),
            outbox: None,
        };
        Ok(Arc::new(ApiFunction { stage: Api::new(ports, settings), counting, front: start.front()? })
            as Arc<dyn Function>)
    })
}

/// Makes the first admin key, whose secret the deployment has generated. Where it was made before, or revoked since, it stays as it is.
async fn make_first_key(start: &Start, keys: &Keys) -> anyhow::Result<()> {
    let named = start.resource("secret", "admin_key_secret", "SLUICE_ADMIN_KEY_SECRET")?;
    let secret = secrets::read(&start.connection, &named).await?;
    let spec = KeySpec { name: "first key of the stack".into(), ..KeySpec::admin() };
    match keys.create(spec, Some(secret.expose().to_owned()), now()).await {
        Err(error) if error.kind != ErrorKind::Conflict => {
            Err(anyhow::Error::from(error).context(format!("{named}: no key can be made of it")))
        }
        _ => Ok(()),
    }
}

fn athena(start: &Start) -> Result<AthenaSql, SettingError> {
    let workgroup = start.resource("workgroup", "athena_workgroup", "SLUICE_ATHENA_WORKGROUP")?;
    let database = start.resource("database", "glue_database", "SLUICE_GLUE_DATABASE")?;
    Ok(AthenaSql::new(&start.connection, workgroup, &database))
}

/// The queues of `Name=URL,…`. The dead letters of a subscription go back to the subscription's queue.
fn queues(text: &str) -> Result<Vec<ConsoleQueue>, SettingError> {
    let queue = |(name, url): (&str, &str)| {
        let returns_to = name.strip_suffix("SubscriptionDeadLetterQueue").map(|stage| match stage {
            // CloudWatch's alarms go to where alerts go.
            "Alarm" => "AlertsQueue".to_owned(),
            stage => format!("{stage}Queue"),
        });
        ConsoleQueue { name: name.to_owned(), url: url.to_owned(), returns_to }
    };
    Ok(pairs("queues", text)?.into_iter().map(queue).collect())
}

/// The queue before each sink, by the template's names: a stage `convert` has a `ConvertQueue`. A sink without a queue is switched off.
fn sink_queues(queues: &[ConsoleQueue]) -> BTreeMap<Sink, Vec<String>> {
    let queue_of = |sink: Sink| {
        let stage = |queue: &&ConsoleQueue| queue.name.strip_suffix("Queue").map(str::to_ascii_lowercase);
        let found = queues.iter().find(|queue| stage(queue).as_deref() == Some(sink.verb()))?;
        Some((sink, vec![found.name.clone()]))
    };
    Sink::ALL.into_iter().filter_map(queue_of).collect()
}

/// The queues to which a record of quarantine can go back, by the stage that kept it.
fn replay_queues(start: &Start, queues: &[ConsoleQueue]) -> Result<BTreeMap<String, Arc<dyn Queue>>, SettingError> {
    let mut found: BTreeMap<String, Arc<dyn Queue>> = BTreeMap::new();
    for (verb, name) in
        [("convert", "ConvertQueue"), ("detect", "DetectQueue"), ("index", "IndexQueue"), ("notify", "AlertsQueue")]
    {
        let Some(queue) = queues.iter().find(|queue| queue.name == name) else { continue };
        let resource = Resource::new("queue", &queue.url, "SLUICE_QUEUES");
        found.insert(verb.to_owned(), Arc::new(SqsQueue::new(&start.connection, resource, start.table()?)));
    }
    Ok(found)
}

/// Stands where a deployment has no search.
struct NoSearch;

impl NoSearch {
    fn error(operation: &'static str) -> PortError {
        let detail = "this deployment has no search: `SLUICE_SEARCH_ENDPOINT` and `SLUICE_SEARCH_DOMAIN` are empty";
        PortError::new(ErrorKind::Unavailable, operation, detail)
    }
}

#[async_trait]
impl Search for NoSearch {
    async fn define(&self, _: Vec<IndexTemplate>) -> Result<(), PortError> {
        Err(Self::error("search.define"))
    }

    async fn create(&self, _: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
        Err(Self::error("search.create"))
    }

    async fn search(&self, _: &str, _: &Value) -> Result<Value, PortError> {
        Err(Self::error("search.search"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_read_by_name_and_letters_know_where_they_belong() {
        let read = queues("ConvertQueue=https://x/1, ConvertSubscriptionDeadLetterQueue=https://x/2").unwrap();
        assert_eq!(
            (read[0].name.as_str(), read[0].url.as_str(), &read[0].returns_to),
            ("ConvertQueue", "https://x/1", &None)
        );
        assert_eq!(read[1].returns_to.as_deref(), Some("ConvertQueue"));
        assert_eq!(sink_queues(&read), BTreeMap::from([(Sink::Lake, vec!["ConvertQueue".to_owned()])]));
        let alarms = queues("AlarmSubscriptionDeadLetterQueue=https://x/3").unwrap();
        assert_eq!(alarms[0].returns_to.as_deref(), Some("AlertsQueue"));
        assert!(queues("ConvertQueue").unwrap_err().to_string().contains("`SLUICE_QUEUES`"));
    }
}
