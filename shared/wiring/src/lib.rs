//! Opens the embedded adapters as the template wires them, and builds the functions over them.
//!
//! This crate does not know who calls the functions. It does not know HTTP, the command line or the layout of the data folder beyond what
//! the adapters put there.

mod lake;
mod relocate;
mod sinks;

pub use relocate::{CATALOG_FILE, relocate};

use crate::lake::TableLake;
use crate::sinks::Sinks;
use anyhow::{Context as _, bail};
use sluice_adapters_embedded::mail::OutboxMail;
use sluice_adapters_embedded::objects::DiskObjects;
use sluice_adapters_embedded::search::{EmbeddedSearch, EmbeddedSearchConfig};
use sluice_adapters_embedded::sql::{EmbeddedSql, EmbeddedSqlConfig};
use sluice_adapters_embedded::state::{DeadLetterConfig, Filter, QueueConfig, State, StateConfig, SubscriptionConfig};
use sluice_adapters_http::HttpHooks;
use sluice_adapters_iceberg::{IcebergCatalog, Relocation, SqlitePointers};
use sluice_columnar::{ParquetEncoder, ParquetRewriter};
use sluice_domain::report::Reports;
use sluice_domain::schema::Registry;
use sluice_domain::time::Timestamp;
use sluice_entry::Function;
use sluice_entry::front::Front;
use sluice_entry::functions::{
    ApiFunction, CommitFunction, CompactFunction, Counting, DetectFunction, HttpFunction, QuarantineFunction,
    QueueFunction, callable, ingest_settings, notify_settings,
};
use sluice_entry::settings::Settings;
use sluice_ports::{Hooks, Mail, Objects, Queue, Sql, SqlLimits, Topic};
use sluice_stages::access::Keys;
use sluice_stages::api::retention::Retention;
use sluice_stages::api::{Api, ApiPorts, ApiSettings};
use sluice_stages::channels::Channels;
use sluice_stages::commit::{Commit, CommitPorts, CommitSettings};
use sluice_stages::compact::{Compact, CompactPorts, CompactSettings};
use sluice_stages::convert::{Convert, ConvertPorts, ConvertSettings};
use sluice_stages::detect::{Detect, DetectPorts, DetectSettings};
use sluice_stages::erase::{Erase, ErasePorts};
use sluice_stages::incidents::Incidents;
use sluice_stages::index::{Index, IndexPorts, IndexSettings};
use sluice_stages::ingest::{Ingest, IngestPorts};
use sluice_stages::ledger::CountingOff;
use sluice_stages::ledger::audit::AuditPorts;
use sluice_stages::members::Members;
use sluice_stages::notify::{Notify, NotifyPorts};
use sluice_stages::passwords::{Cost, Passwords};
use sluice_stages::quarantine::Quarantine;
use sluice_stages::quarantine::desk::{Desk, DeskPorts};
use sluice_stages::quarantine::sweep::{Letters, Sweep};
use sluice_stages::requests::Requests;
use sluice_stages::rules::Rules;
use sluice_stages::sessions::Sessions;
use sluice_stages::watch::{Machine, Watch, WatchPorts, WatchSettings};
use sluice_template::{Pattern, Topology, Trigger};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The template that is bundled with the binary.
pub const TEMPLATE: &str = include_str!("../../../template.yaml");

/// Longer than any machine runs; the template's retention is for AWS, where a queue keeps nothing for ever.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Logical ids in the template that the stages use by name. What is not there is an error at start.
const TOPIC: &str = "EventsTopic";
const QUARANTINE_QUEUE: &str = "QuarantineQueue";
const COMMIT_QUEUE: &str = "CommitQueue";
/// Stages that keep bytes and take them again. What `ingest` has rejected goes through it.
const REPLAYED_TO: [&str; 4] = ["convert", "detect", "index", "notify"];
/// Time of one sweep, within the time of the function.
const SWEEP_BUDGET: Duration = Duration::from_secs(20);
/// A state of a table can be read for so long after the next one.
const SNAPSHOTS_KEPT: Duration = Duration::from_secs(3_600);
/// Time in which parts of the lake are looked through for users, before the tables are compacted.
const ERASE_BUDGET: Duration = Duration::from_secs(300);
/// Time for which a call compacts, within the time of the function.
const COMPACT_BUDGET: Duration = Duration::from_secs(10);

/// The open adapters and the functions over them.
pub struct Wiring {
    /// Queues, topic and table.
    pub state: State,
    /// The keys.
    pub keys: Arc<Keys>,
    /// Who signs in to the console.
    pub members: Arc<Members>,
    /// Their sessions.
    pub sessions: Arc<Sessions>,
    /// Functions by verb, without those that are switched off.
    pub functions: HashMap<String, Arc<dyn Function>>,
    topic: Arc<dyn Topic>,
}

impl Wiring {
    /// Opens everything in the folder `data`, which only one process may do at a time. `clock` is the one by which the functions are
    /// called.
    ///
    /// An error says which setting, which part of the template or which file cannot be used, or that the folder was moved.
    pub async fn open(
        data: &Path,
        topology: &Topology,
        registry: Arc<Registry>,
        reports: Arc<Reports>,
        settings: &Settings,
        clock: fn() -> Timestamp,
    ) -> anyhow::Result<Self> {
        let off = settings.list("stages_off")?;
        if let Some(verb) = off.iter().find(|verb| topology.function_of(verb).is_none()) {
            bail!("setting `stages_off`: there is no stage `{verb}`");
        }
        if !topology.topics.contains(TOPIC) {
            bail!("the template has no topic `{TOPIC}`");
        }
        let state = State::open(data, state_config(topology, &off, settings)?)?;
        let sinks = Sinks::of(topology, &off);
        let topic: Arc<dyn Topic> = Arc::new(CountingOff { topic: state.topic(TOPIC)?, off: sinks.off });
        let quarantine = state.queue(QUARANTINE_QUEUE).context("the template misses a queue that the stages use")?;
        let table = state.table();
        let objects: Arc<dyn Objects> = Arc::new(DiskObjects::open(data)?);
        let outbox = Arc::new(OutboxMail::open(data.join("outbox"))?);
        let mail: Arc<dyn Mail> = outbox.clone();
        let search_config =
            EmbeddedSearchConfig { writer_memory_bytes: settings.size("search_memory_bytes")?, ..Default::default() };
        let search = Arc::new(EmbeddedSearch::open(&data.join("search"), search_config)?);
        let folder = data.canonicalize().with_context(|| format!("cannot find the folder `{}`", data.display()))?;
        let root = format!("file://{}", folder.display());
        let pointers = Arc::new(SqlitePointers::open(&data.join(CATALOG_FILE))?);
        relocate::check(&Relocation::new(pointers.clone(), objects.clone(), &root), &folder).await?;
        let catalog = Arc::new(IcebergCatalog::new(pointers, objects.clone(), &root, registry.clone(), SNAPSHOTS_KEPT));
        let lake = TableLake { catalog: catalog.clone(), registry: registry.clone(), objects: folder };
        let sql: Arc<dyn Sql> = Arc::new(EmbeddedSql::new(Arc::new(lake), EmbeddedSqlConfig::default()));
        let keys = Arc::new(Keys::new(table.clone()));
        let members = Arc::new(Members::new(table.clone(), Passwords::new(Cost::USUAL)?));
        let sessions = Arc::new(Sessions::new(table.clone(), members.clone()));
        let rules = Arc::new(Rules::new(table.clone()));
        let counting = Counting { requests: Arc::new(Requests::new(table.clone())?), clock };

        let mut functions: HashMap<String, Arc<dyn Function>> = HashMap::new();
        let ports = IngestPorts { topic: topic.clone(), quarantine: quarantine.clone(), keys: keys.clone() };
        let ingest = Arc::new(Ingest::new(ports, registry.clone(), ingest_settings(settings)?));
        // Behind the one machine's own gateway, which knows whom it believes.
        let front = Front::default();
        let function = HttpFunction { stage: ingest.clone(), counting: counting.clone(), front: front.clone() };
        functions.insert("ingest".into(), Arc::new(function));
        let ports = ConvertPorts {
            objects: objects.clone(),
            table: table.clone(),
            quarantine: quarantine.clone(),
            commit: sinks::is_on(topology, &off, "commit").then(|| state.queue(COMMIT_QUEUE)).transpose()?,
        };
        let convert =
            Convert::new(ports, registry.clone(), Arc::new(ParquetEncoder::new()), ConvertSettings::default());
        functions.insert("convert".into(), Arc::new(QueueFunction(convert)));
        let commit =
            Commit::new(CommitPorts { table: table.clone(), catalog: catalog.clone() }, CommitSettings::default());
        functions.insert("commit".into(), Arc::new(CommitFunction(commit)));
        let ports = CompactPorts {
            table: table.clone(),
            catalog: catalog.clone(),
            objects: objects.clone(),
            rewriter: Arc::new(ParquetRewriter::default()),
        };
        let erasing = ErasePorts {
            table: table.clone(),
            objects: objects.clone(),
            search: Some(search.clone()),
            outbox: Some(outbox.clone()),
        };
        let compact = Arc::new(Compact::new(ports.clone(), registry.clone(), CompactSettings::default()));
        let function = CompactFunction {
            erase: Erase::new(erasing.clone(), compact.clone(), ERASE_BUDGET),
            compact,
            search: Some(search.clone()),
            table: table.clone(),
            registry: registry.clone(),
        };
        functions.insert("compact".into(), Arc::new(function));
        // A reply does not wait for the whole lake.
        let while_asked = CompactSettings { budget: COMPACT_BUDGET, ..CompactSettings::default() };
        let compact = Arc::new(Compact::new(ports, registry.clone(), while_asked));
        let erase = Arc::new(Erase::new(erasing, compact.clone(), COMPACT_BUDGET));
        let ports = IndexPorts { search: search.clone(), table: table.clone(), quarantine: quarantine.clone() };
        let index = Index::new(ports, registry.clone(), IndexSettings::default());
        index.define_templates().await.context("cannot prepare the search index")?;
        functions.insert("index".into(), Arc::new(QueueFunction(index)));
        let ports = DetectPorts { table: table.clone(), topic: topic.clone(), quarantine: quarantine.clone() };
        let detect = Detect::new(ports, registry.clone(), DetectSettings::default());
        functions.insert("detect".into(), Arc::new(DetectFunction(detect)));
        let hooks: Arc<dyn Hooks> = Arc::new(HttpHooks::new(callable(settings)?)?);
        let channels = Channels {
            table: table.clone(),
            mail: mail.clone(),
            hooks: hooks.clone(),
            from: notify_settings(settings)?.from,
        };
        let ports = NotifyPorts { mail, hooks, table: table.clone(), topic: topic.clone(), quarantine };
        functions.insert("notify".into(), Arc::new(QueueFunction(Notify::new(ports, notify_settings(settings)?))));
        let sweep = Sweep {
            letters: letters(topology, &state)?,
            objects: objects.clone(),
            table: table.clone(),
            budget: SWEEP_BUDGET,
        };
        let quarantine = QuarantineFunction { stage: Quarantine::new(objects.clone()), sweep };
        functions.insert("quarantine".into(), Arc::new(quarantine));
        let ports = DeskPorts {
            objects,
            table: table.clone(),
            keys: keys.clone(),
            ingest,
            queues: replay_queues(topology, &off, &state)?,
        };
        let objects = ports.objects.clone();
        let desk = Desk::new(ports, registry.clone());
        let row_count = Arc::new(ParquetEncoder::new());
        let audit = AuditPorts {
            table: table.clone(),
            objects,
            search: search.clone(),
            catalog: Some(catalog.clone()),
            row_count,
        };
        let queues = state.console();
        let ports = ApiPorts {
            catalog: Some(catalog.clone()),
            compact: Some(compact),
            erase: Some(erase),
            search,
            sql,
            table,
            topic: topic.clone(),
            queues,
            keys: keys.clone(),
            members: members.clone(),
            sessions: sessions.clone(),
            rules,
            channels: Arc::new(channels),
            desk,
            audit,
            registry,
            reports,
            requests: counting.requests.clone(),
            outbox: Some(outbox),
        };
        let sql_limits = SqlLimits {
            max_rows: settings.size("sql_max_rows")?,
            timeout: Duration::from_millis(settings.number("sql_timeout_ms")?),
            max_memory_bytes: settings.size("sql_memory_bytes")?,
        };
        let metrics_allowed = settings.networks("metrics_allowed")?;
        let api = Api::new(
            ports,
            ApiSettings {
                sql_limits,
                sink_queues: sinks.queues,
                metrics_allowed,
                // Nothing expires here.
                retention: Retention::default(),
            },
        );
        functions.insert("api".into(), Arc::new(ApiFunction { stage: api, counting, front }));

        if let Some((id, f)) = topology.functions.iter().find(|(_, f)| !functions.contains_key(&f.verb)) {
            bail!("the template's function `{id}` names a stage `{}` that this program does not have", f.verb);
        }
        functions.retain(|verb, _| !off.contains(verb));
        Ok(Self { state, keys, members, sessions, functions, topic })
    }

    /// What watches over all of this.
    pub fn watch(&self, topology: &Topology, settings: &Settings, machine: Arc<dyn Machine>) -> anyhow::Result<Watch> {
        let table = self.state.table();
        let ports = WatchPorts {
            queues: self.state.console(),
            table: table.clone(),
            machine,
            incidents: Incidents::new(table, self.topic.clone()),
        };
        let is_consumed = |queue: &&String| !topology.consumers(queue).is_empty();
        let settings = WatchSettings {
            consumed: topology.queues.keys().filter(is_consumed).cloned().collect(),
            max_lag: Duration::from_secs(settings.number("lag_alert_s")?),
            min_free_bytes: settings.number("disk_free_alert_bytes")?,
        };
        Ok(Watch::new(ports, settings))
    }
}

/// The dead-letter queues, each with the stage whose letters it takes.
fn letters(topology: &Topology, state: &State) -> anyhow::Result<Vec<Letters>> {
    let mut letters = Vec::new();
    for (name, queue) in &topology.queues {
        let Some(dead_letter) = &queue.dead_letter else { continue };
        let consumer = topology.consumers(name).first().and_then(|id| topology.functions.get(*id));
        let Some(consumer) = consumer else { continue };
        letters.push(Letters {
            name: dead_letter.queue.clone(),
            origin: consumer.verb.clone(),
            queue: state.queue(&dead_letter.queue)?,
        });
    }
    Ok(letters)
}

/// The queues to which a record of quarantine can go back, by the stage that kept it.
fn replay_queues(
    topology: &Topology,
    off: &[String],
    state: &State,
) -> anyhow::Result<BTreeMap<String, Arc<dyn Queue>>> {
    let mut queues: BTreeMap<String, Arc<dyn Queue>> = BTreeMap::new();
    for verb in REPLAYED_TO.iter().filter(|verb| off.iter().all(|off| off != *verb)) {
        let triggers = topology.function_of(verb).map(|(_, function)| function.triggers.as_slice()).unwrap_or_default();
        for trigger in triggers {
            if let Trigger::Queue { queue, .. } = trigger {
                queues.insert((*verb).to_owned(), state.queue(queue)?);
            }
        }
    }
    Ok(queues)
}

/// The template's queues and subscriptions as the embedded state takes them. Subscriptions whose consumer is switched off are left out, so
/// that nothing piles up.
fn state_config(topology: &Topology, off: &[String], settings: &Settings) -> anyhow::Result<StateConfig> {
    let queues = topology
        .queues
        .iter()
        .map(|(name, queue)| QueueConfig {
            name: name.clone(),
            visibility_timeout: queue.visibility,
            // A machine may have been off for a week: what it had accepted waits for it, however long.
            retention: FOREVER,
            dead_letter: queue
                .dead_letter
                .as_ref()
                .map(|d| DeadLetterConfig { queue: d.queue.clone(), max_receive_count: d.max_receive_count }),
        })
        .collect();
    let mut subscriptions = Vec::new();
    for (id, subscription) in &topology.subscriptions {
        let consumers = topology.consumers(&subscription.queue);
        if !consumers.is_empty()
            && consumers.iter().all(|id| topology.functions.get(*id).is_some_and(|f| off.contains(&f.verb)))
        {
            continue;
        }
        let mut filter = Filter::new();
        for (attribute, patterns) in &subscription.filter.attributes {
            for pattern in patterns {
                let Pattern::Exact(text) = pattern else {
                    bail!("Resources.{id}.Properties.FilterPolicy.{attribute}: one machine knows exact values only");
                };
                filter.entry(attribute.clone()).or_default().push(text.clone());
            }
        }
        subscriptions.push(SubscriptionConfig {
            topic: subscription.topic.clone(),
            queue: subscription.queue.clone(),
            filter: (!filter.is_empty()).then_some(filter),
        });
    }
    Ok(StateConfig {
        queues,
        subscriptions,
        max_backlog_bytes: settings.number("max_backlog_bytes")?,
        ..Default::default()
    })
}
