//! From the environment to a function that serves.

use anyhow::Context as _;
use sluice_adapters_aws::dynamodb::DynamoTable;
use sluice_adapters_aws::{Bounds, Connection, Resource};
use sluice_entry::Function;
use sluice_entry::settings::{SettingError, Settings};
use sluice_entry::telemetry::{self, LogFormat};
use std::process::ExitCode;
use std::sync::Arc;

/// What every function is built from.
pub(crate) struct Start {
    /// The environment's settings.
    pub(crate) settings: Settings,
    /// The way to AWS.
    pub(crate) connection: Connection,
}

/// Builds a function and serves until the environment is shut down. What keeps it from starting is one line in the log.
pub(crate) fn run<F>(verb: &'static str, build: F) -> ExitCode
where
    F: AsyncFnOnce(&Start) -> anyhow::Result<Arc<dyn Function>>,
{
    let settings = Settings::from_layers([Settings::environment()]);
    let level = settings.as_ref().ok().and_then(|settings| settings.text("log_level").ok()).unwrap_or("info");
    telemetry::start(level, LogFormat::Lambda);
    let serve = async || {
        let connection = Connection::from_environment(Bounds::within(crate::timeout(verb)))?;
        let start = Start { settings: settings?, connection };
        let function = build(&start).await?;
        sluice_entry::lambda::serve(verb, start.settings.text("stack")?, function).await
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime");
    match runtime.and_then(|runtime| runtime.block_on(serve())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(function = verb, error = telemetry::chain(error.as_ref()), "the function cannot start");
            ExitCode::FAILURE
        }
    }
}

/// The pairs of a setting of the form `name=URL,…`.
#[cfg(any(feature = "api", feature = "quarantine"))]
pub(crate) fn pairs<'t>(key: &str, text: &'t str) -> Result<Vec<(&'t str, &'t str)>, SettingError> {
    let pair = |pair: &'t str| {
        let reason = format!("`{pair}` is not of the form `name=URL`");
        pair.split_once('=').ok_or(SettingError { key: key.into(), reason })
    };
    text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(pair).collect()
}

/// The time of the machine's clock.
#[cfg(any(feature = "api", feature = "ingest"))]
pub(crate) fn now() -> sluice_domain::time::Timestamp {
    sluice_domain::time::Timestamp::from_system(std::time::SystemTime::now())
}

impl Start {
    /// What a setting names.
    pub(crate) fn resource(
        &self,
        what: &'static str,
        key: &str,
        variable: &'static str,
    ) -> Result<Resource, SettingError> {
        let name = self.settings.text(key)?;
        if name.is_empty() {
            return Err(SettingError { key: key.to_owned(), reason: "is empty".to_owned() });
        }
        Ok(Resource::new(what, name, variable))
    }

    /// The table.
    pub(crate) fn table(&self) -> Result<DynamoTable, SettingError> {
        Ok(DynamoTable::new(&self.connection, self.resource("table", "table", "SLUICE_TABLE")?))
    }

    /// The topic, which counts what the sinks that this stack does not have do not get.
    #[cfg(any(feature = "api", feature = "detect", feature = "ingest", feature = "notify"))]
    pub(crate) fn topic(&self) -> Result<Arc<dyn sluice_ports::Topic>, SettingError> {
        use sluice_stages::ledger::{CountingOff, Sink};
        let topic = self.resource("topic", "topic", "SLUICE_TOPIC")?;
        let topic = Arc::new(sluice_adapters_aws::sns::SnsTopic::new(&self.connection, topic, self.table()?));
        let stages = self.settings.list("stages_off")?;
        let off = Sink::ALL.into_iter().filter(|sink| stages.iter().any(|stage| stage == sink.verb())).collect();
        Ok(Arc::new(CountingOff { topic, off }))
    }

    /// The counts of requests.
    #[cfg(any(feature = "api", feature = "ingest"))]
    pub(crate) fn counting(&self) -> anyhow::Result<sluice_entry::functions::Counting> {
        let requests = sluice_stages::requests::Requests::new(Arc::new(self.table()?))?;
        Ok(sluice_entry::functions::Counting { requests: Arc::new(requests), clock: now })
    }

    /// The distribution before the gateway.
    #[cfg(any(feature = "api", feature = "ingest"))]
    pub(crate) fn front(&self) -> Result<sluice_entry::front::Front, SettingError> {
        Ok(sluice_entry::front::Front::sharing(self.settings.text("origin_secret")?))
    }

    /// The quarantine queue.
    #[cfg(any(
        feature = "api",
        feature = "convert",
        feature = "detect",
        feature = "index",
        feature = "ingest",
        feature = "notify"
    ))]
    pub(crate) fn quarantine(&self) -> Result<Arc<dyn sluice_ports::Queue>, SettingError> {
        self.queue("quarantine_queue", "SLUICE_QUARANTINE_QUEUE")
    }

    /// The queue that a setting names.
    #[cfg(any(
        feature = "api",
        feature = "convert",
        feature = "detect",
        feature = "index",
        feature = "ingest",
        feature = "notify"
    ))]
    pub(crate) fn queue(
        &self,
        key: &str,
        variable: &'static str,
    ) -> Result<Arc<dyn sluice_ports::Queue>, SettingError> {
        let queue = self.resource("queue", key, variable)?;
        Ok(Arc::new(sluice_adapters_aws::sqs::SqsQueue::new(&self.connection, queue, self.table()?)))
    }

    /// The lake's tables: their metadata in the bucket, and Glue's pointers to it.
    #[cfg(feature = "tables")]
    pub(crate) fn catalog(
        &self,
        registry: Arc<sluice_domain::schema::Registry>,
    ) -> Result<Arc<sluice_adapters_iceberg::IcebergCatalog>, SettingError> {
        use sluice_adapters_aws::glue::GluePointers;
        use sluice_adapters_iceberg::IcebergCatalog;
        /// A state of a table can be read for so long after the next one.
        const SNAPSHOTS_KEPT: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);
        let database = self.resource("database", "glue_database", "SLUICE_GLUE_DATABASE")?;
        let pointers = Arc::new(GluePointers::new(&self.connection, database));
        let root = format!("s3://{}", self.settings.text("bucket")?);
        Ok(Arc::new(IcebergCatalog::new(pointers, self.objects()?, &root, registry, SNAPSHOTS_KEPT)))
    }

    /// The bucket.
    #[cfg(any(feature = "schemas", feature = "quarantine"))]
    pub(crate) fn objects(&self) -> Result<Arc<dyn sluice_ports::Objects>, SettingError> {
        let bucket = self.resource("bucket", "bucket", "SLUICE_BUCKET")?;
        Ok(Arc::new(sluice_adapters_aws::s3::S3Objects::new(&self.connection, bucket)))
    }

    /// The schemas that are bundled and those in the bucket's `schemas/`.
    #[cfg(feature = "schemas")]
    pub(crate) async fn registry(&self) -> anyhow::Result<Arc<sluice_domain::schema::Registry>> {
        use futures::{StreamExt as _, TryStreamExt as _};
        const FOLDER: &str = "schemas/";
        /// More types than a deployment has.
        const MOST: usize = 1_000;
        const AT_ONCE: usize = 8;
        let objects = self.objects()?;
        let listed = objects.list(FOLDER, None, MOST).await.context("the schemas cannot be listed")?;
        let files = listed.into_iter().map(|object| object.key).filter(|key| key.ends_with(".json"));
        let read = async |key: String| {
            let bytes = objects.get(&key, None).await.with_context(|| format!("the schema `{key}` cannot be read"))?;
            let text = String::from_utf8(bytes.into()).with_context(|| format!("the schema `{key}` is not UTF-8"))?;
            Ok::<_, anyhow::Error>((key, text))
        };
        let own: Vec<(String, String)> = futures::stream::iter(files).map(read).buffered(AT_ONCE).try_collect().await?;
        Ok(Arc::new(sluice_entry::schemas::registry(&own)?))
    }
}
