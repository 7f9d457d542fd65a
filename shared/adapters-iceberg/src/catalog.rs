//! The catalog port over pointers and objects.

use crate::append;
use crate::bucket::Bucket;
use crate::columns::first_metadata;
use crate::evolve::evolved;
use crate::forget;
use crate::needed;
use crate::pointers::Pointers;
use crate::replace;
use crate::snapshot::{Change, State};
use async_trait::async_trait;
use iceberg::spec::TableMetadata;
use sluice_domain::schema::Registry;
use sluice_ports::{
    Append, Catalog, ErrorKind, Forget, Objects, PortError, Replace, TableFigures, TableFile, TableHead,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

const LOAD: &str = "catalog.load";
const APPEND: &str = "catalog.append";

/// Iceberg tables as the catalog port.
pub struct IcebergCatalog {
    pub(crate) pointers: Arc<dyn Pointers>,
    pub(crate) bucket: Bucket,
    registry: Arc<Registry>,
    snapshots_kept: Duration,
    /// By table the newest metadata that was read or written, with its location. What is at a location never changes.
    newest: Mutex<HashMap<String, (String, Arc<TableMetadata>)>>,
    /// By table what the manifests of its newest snapshot list, by their locations.
    manifests: Mutex<HashMap<String, Manifests>>,
}

/// What manifests list, by their locations.
type Manifests = HashMap<String, Arc<Vec<TableFile>>>;

impl IcebergCatalog {
    /// The tables whose pointers and objects these are. `root` is the URI of the objects' folder or bucket: absolute, without the keys.
    /// `registry` knows the columns of tables that are made.
    /// Snapshots are kept for `snapshots_kept`, and at least a hundred of them.
    pub fn new(
        pointers: Arc<dyn Pointers>,
        objects: Arc<dyn Objects>,
        root: &str,
        registry: Arc<Registry>,
        snapshots_kept: Duration,
    ) -> Self {
        Self {
            pointers,
            bucket: Bucket::new(objects, root),
            registry,
            snapshots_kept,
            newest: Mutex::default(),
            manifests: Mutex::default(),
        }
    }

    /// The table's newest metadata and where it is; `None` where there is no table.
    pub(crate) async fn metadata(&self, table: &str) -> Result<Option<(String, Arc<TableMetadata>)>, PortError> {
        let Some(location) = self.pointers.get(table).await? else { return Ok(None) };
        if let Some((_, known)) = self.newest().get(table).filter(|(at, _)| *at == location) {
            return Ok(Some((location, known.clone())));
        }
        let metadata = Arc::new(self.bucket.metadata(LOAD, &location).await?);
        self.remember(table, &location, &metadata);
        Ok(Some((location, metadata)))
    }

    fn remember(&self, table: &str, location: &str, metadata: &Arc<TableMetadata>) {
        self.newest().insert(table.to_owned(), (location.to_owned(), metadata.clone()));
    }

    pub(crate) fn manifests(&self) -> std::sync::MutexGuard<'_, HashMap<String, Manifests>> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest(&self) -> std::sync::MutexGuard<'_, HashMap<String, (String, Arc<TableMetadata>)>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write_metadata(&self, location: &str, metadata: &TableMetadata) -> Result<(), PortError> {
        let bytes = serde_json::to_vec(metadata).map_err(|error| {
            PortError::new(ErrorKind::Invalid, APPEND, "the metadata cannot be written").with_source(error)
        })?;
        self.bucket.write(location, bytes.into()).await
    }

    /// The table's metadata with the columns of its schema file, and where it is, provided that this is its state.
    async fn state(
        &self,
        operation: &'static str,
        table: &str,
        token: &str,
    ) -> Result<(String, Arc<TableMetadata>), PortError> {
        let Some((location, metadata)) = self.metadata(table).await? else {
            return Err(PortError::new(ErrorKind::NotFound, operation, format!("there is no table `{table}`")));
        };
        if location != token {
            let what = format!("the table `{table}` is in another state than `{token}`");
            return Err(PortError::new(ErrorKind::Conflict, operation, what));
        }
        let evolved = self.registry.table(table).map_or(Ok(None), |schema| evolved(&metadata, schema))?;
        Ok((location, evolved.map_or(metadata, Arc::new)))
    }

    fn changed<'a>(&'a self, location: &'a str, metadata: &'a TableMetadata) -> State<'a> {
        let kept_ms = i64::try_from(self.snapshots_kept.as_millis()).unwrap_or(i64::MAX);
        State { bucket: &self.bucket, location, metadata, kept_ms, now_ms: now_ms() }
    }

    async fn bring_about(&self, table: &str, location: &str, change: Change) -> Result<(), PortError> {
        let Change { metadata, expired } = change;
        let next = next_location(metadata.location(), Some(location));
        self.write_metadata(&next, &metadata).await?;
        self.pointers.swap(table, location, &next, &metadata).await?;
        self.remember(table, &next, &Arc::new(metadata));
        self.clear(&expired).await;
        Ok(())
    }

    /// Removes what a change has put out of use. What stays is an object that nobody reads.
    async fn clear(&self, locations: &[String]) {
        for location in locations {
            let removed = match self.bucket.key(location) {
                Ok(key) => self.bucket.objects.delete(key).await,
                Err(error) => Err(error),
            };
            if let Err(error) = removed {
                tracing::debug!(%error, "metadata that is out of use stays");
            }
        }
    }
}

#[async_trait]
impl Catalog for IcebergCatalog {
    async fn load(&self, table: &str) -> Result<Option<TableHead>, PortError> {
        Ok(self.metadata(table).await?.map(|(token, metadata)| head(token, &metadata)))
    }

    async fn create(&self, table: &str) -> Result<(), PortError> {
        let Some(schema) = self.registry.iter().find(|schema| schema.table == table) else {
            let what = format!("no schema file is of the table `{table}`");
            return Err(PortError::new(ErrorKind::NotFound, "catalog.create", what));
        };
        if self.pointers.get(table).await?.is_some() {
            return Err(PortError::new(ErrorKind::Conflict, "catalog.create", format!("there is a table `{table}`")));
        }
        let folder = self.bucket.location(&format!("lake/{table}"));
        let metadata = first_metadata(schema, &folder, Uuid::now_v7(), now_ms()).map_err(|error| {
            let what = format!("the schema of the table `{table}` makes no metadata");
            PortError::new(ErrorKind::Invalid, "catalog.create", what).with_source(error)
        })?;
        let location = next_location(&folder, None);
        self.write_metadata(&location, &metadata).await?;
        self.pointers.create(table, &location, &metadata).await
    }

    async fn append(&self, append: Append) -> Result<(), PortError> {
        let (location, metadata) = self.state(APPEND, &append.table, &append.token).await?;
        let change = append::change(self.changed(&location, &metadata), &append).await?;
        self.bring_about(&append.table, &location, change).await
    }

    async fn files(&self, table: &str) -> Result<Option<(TableHead, Vec<TableFile>)>, PortError> {
        let Some((location, metadata)) = self.metadata(table).await? else { return Ok(None) };
        let files = self.files_of(table, &metadata, metadata.current_snapshot()).await?;
        Ok(Some((head(location, &metadata), files)))
    }

    async fn replace(&self, replace: Replace) -> Result<(), PortError> {
        let (location, metadata) = self.state("catalog.replace", &replace.table, &replace.token).await?;
        let change = replace::change(self.changed(&location, &metadata), &replace).await?;
        self.bring_about(&replace.table, &location, change).await
    }

    async fn needed(&self, table: &str) -> Result<Option<BTreeSet<String>>, PortError> {
        match self.metadata(table).await? {
            Some((location, metadata)) => needed::keys(&self.bucket, &location, &metadata).await.map(Some),
            None => Ok(None),
        }
    }

    async fn forget(&self, forget: Forget) -> Result<(), PortError> {
        let (location, metadata) = self.state("catalog.forget", &forget.table, &forget.token).await?;
        match forget::change(self.changed(&location, &metadata), &forget).await? {
            Some(change) => self.bring_about(&forget.table, &location, change).await,
            None => Ok(()),
        }
    }

    async fn figures(&self) -> Result<Vec<TableFigures>, PortError> {
        let mut figures = Vec::new();
        for table in self.pointers.tables().await? {
            figures.extend(self.table_figures(&table).await?);
        }
        Ok(figures)
    }
}

fn head(token: String, metadata: &TableMetadata) -> TableHead {
    let properties = metadata.properties().iter().map(|(name, value)| (name.clone(), value.clone()));
    TableHead { token, properties: properties.collect() }
}

/// A new location of metadata: numbered like the one before, so that the newest is found in a folder too.
pub(crate) fn next_location(folder: &str, before: Option<&str>) -> String {
    let number = before.map_or(0, |before| {
        let name = before.rsplit('/').next().unwrap_or_default();
        name.split('-').next().and_then(|number| number.parse::<u64>().ok()).map_or(0, |number| number + 1)
    });
    format!("{folder}/metadata/{number:05}-{}.metadata.json", Uuid::now_v7())
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
