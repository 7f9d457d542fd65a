//! SQL over the lake in DataFusion: one reading statement at a time, over the files that the lake has on record.
//!
//! Unquoted names may be written in any case: `memberid` finds the column `memberId`. What cannot be is a name that differs from another
//! only by case; then the exact spelling decides.

mod at;
mod growth;
mod rows;
mod table;
mod watch;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use at::{TABLE_AT, TableAt};
use datafusion::catalog::CatalogProviderList;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider, TableFunction, TableProvider,
};
use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::parquet::errors::ParquetError;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use futures::StreamExt;
use growth::Budget;
use serde_json::Value;
use sluice_ports::{ErrorKind, PortError, Sql, SqlLimits, SqlResult};
use sluice_statement::Spellings;
use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use table::{Opened, RecordedTable};
use tokio::runtime::Runtime;
use watch::Wanted;

const QUERY: &str = "sql.query";
const CATALOG: &str = "sluice";
const SCHEMA: &str = "lake";

/// Stack of a thread that plans and runs queries: the planner recurses, deepest without optimization.
const STACK_BYTES: usize = 64 * 1_024 * 1_024;

/// A table of the lake.
#[derive(Debug, Clone)]
pub struct LakeTable {
    /// Its name, lower case.
    pub name: String,
    /// Its columns. Files may lack some (their values are NULL) or have them in a type that casts to this one.
    pub schema: SchemaRef,
}

/// A Parquet file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeFile {
    /// Absolute path.
    pub path: PathBuf,
    /// Its exact size.
    pub size_bytes: u64,
    /// Its exact number of rows.
    pub rows: u64,
    /// Least value of the time column, microseconds since the epoch.
    pub min_time_us: i64,
    /// Greatest value of the time column, microseconds since the epoch.
    pub max_time_us: i64,
}

/// What the lake has on record.
#[async_trait]
pub trait Lake: Send + Sync {
    /// All tables, with or without files.
    async fn tables(&self) -> Result<Vec<LakeTable>, PortError>;

    /// The files of a table as of one moment: now, or the one given in microseconds since the epoch.
    async fn files(&self, table: &str, at_us: Option<i64>) -> Result<Vec<LakeFile>, PortError>;
}

/// Settings of the embedded SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedSqlConfig {
    /// The column that [`LakeFile::min_time_us`] speaks of.
    pub time_column: String,
    /// Threads that run queries, all queries together; also how many files one query reads at once.
    pub threads: usize,
    /// Rows that flow through a query at once.
    pub batch_rows: usize,
}

impl Default for EmbeddedSqlConfig {
    fn default() -> Self {
        Self { time_column: "time".to_owned(), threads: 2, batch_rows: 8_192 }
    }
}

/// SQL over a lake. Queries run on threads of their own, so that they neither wait for nor hold up the caller's runtime.
pub struct EmbeddedSql {
    lake: Arc<dyn Lake>,
    config: EmbeddedSqlConfig,
    /// Functions and rules, the same for each query.
    base: SessionState,
    /// Started by the first query.
    runtime: Mutex<Option<Runtime>>,
}

impl EmbeddedSql {
    /// SQL over what `lake` has on record.
    pub fn new(lake: Arc<dyn Lake>, config: EmbeddedSqlConfig) -> Self {
        let mut session = SessionConfig::new()
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_information_schema(true)
            .with_target_partitions(config.threads.max(1))
            .with_batch_size(config.batch_rows);
        session.options_mut().execution.parquet.pushdown_filters = true;
        let mut base = SessionStateBuilder::new()
            .with_config(session)
            .with_expr_planners(vec![Arc::new(watch::NoStructs)])
            .with_default_features()
            .build();
        if let Err(error) = watch::tame(&mut base) {
            // A function that is not there need not be taken away.
            tracing::warn!(error = %error, "some SQL functions could not be taken away");
        }
        Self { lake, config, base, runtime: Mutex::new(None) }
    }

    fn handle(&self) -> Result<tokio::runtime::Handle, PortError> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.as_ref() {
            return Ok(runtime.handle().clone());
        }
        let started = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.config.threads.max(1))
            .max_blocking_threads(self.config.threads.max(1) * 2)
            .thread_name("sql")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| {
                PortError::new(ErrorKind::Unavailable, QUERY, "threads cannot be started").with_source(error)
            })?;
        Ok(runtime.insert(started).handle().clone())
    }
}

impl Drop for EmbeddedSql {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // A runtime must not be waited for within another one.
            runtime.shutdown_background();
        }
    }
}

#[async_trait]
impl Sql for EmbeddedSql {
    async fn query(&self, statement: &str, parameters: &[Value], limits: SqlLimits) -> Result<SqlResult, PortError> {
        let tables = self.lake.tables().await?;
        let mut spellings = Spellings::default();
        for table in &tables {
            spellings.add(&table.name);
            table.schema.fields().iter().for_each(|field| spellings.add(field.name()));
        }
        let (text, parameters) = (statement.to_owned(), parameters.to_vec());
        let opened = Opened::default();
        let state = self.state(tables, limits, &opened)?;
        let wanted = Wanted::default();
        let watched = wanted.clone();
        let work = async move {
            // The parser recurses as well, so it runs where the stack is deep.
            let statement = sluice_statement::read(&text, &parameters, &spellings)?;
            run(state, Statement::Statement(Box::new(statement)), limits, &watched).await
        };
        let mut task = Aborting { task: self.handle()?.spawn(work), wanted };
        let mut result = match tokio::time::timeout(limits.timeout, &mut task.task).await {
            Ok(Ok(result)) => result?,
            Ok(Err(error)) => {
                return Err(PortError::new(ErrorKind::Unavailable, QUERY, "the query ended without an answer")
                    .with_source(error));
            }
            Err(_) => {
                let detail = format!("the query was stopped after {} ms", limits.timeout.as_millis());
                return Err(PortError::new(ErrorKind::Timeout, QUERY, detail));
            }
        };
        let opened = opened.lock().unwrap_or_else(PoisonError::into_inner).len();
        result.files_read = Some(u64::try_from(opened).unwrap_or(u64::MAX));
        Ok(result)
    }
}

/// Stops its task when it is dropped, be it by a time-out or because the caller went away.
struct Aborting {
    task: tokio::task::JoinHandle<Result<SqlResult, PortError>>,
    wanted: Wanted,
}

impl Drop for Aborting {
    fn drop(&mut self) {
        self.wanted.end();
        self.task.abort();
    }
}

impl EmbeddedSql {
    /// A session for one query, with its own bounds.
    fn state(&self, tables: Vec<LakeTable>, limits: SqlLimits, opened: &Opened) -> Result<SessionState, PortError> {
        let recorded = |table: LakeTable| {
            let table = RecordedTable {
                name: table.name,
                schema: table.schema,
                lake: self.lake.clone(),
                time_column: self.config.time_column.as_str().into(),
                partitions: self.config.threads.max(1),
                opened: opened.clone(),
                at_us: None,
            };
            (table.name.clone(), table)
        };
        let tables: BTreeMap<String, RecordedTable> = tables.into_iter().map(recorded).collect();
        let mut functions = self.base.table_functions().clone();
        let table_at = TableFunction::new(TABLE_AT.to_owned(), Arc::new(TableAt(tables.clone())));
        functions.insert(TABLE_AT.to_owned(), Arc::new(table_at));
        let provider = |(name, table)| -> (String, Arc<dyn TableProvider>) { (name, Arc::new(table)) };
        let schema = LakeSchema {
            tables: tables.into_iter().map(provider).collect(),
            functions: functions.keys().cloned().collect(),
        };
        let catalog = MemoryCatalogProvider::new();
        let catalogs = MemoryCatalogProviderList::new();
        let registered = catalog.register_schema(SCHEMA, Arc::new(schema));
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.max_memory_bytes)))
            .with_disk_manager_builder(disk)
            .build_arc();
        let (_, runtime) = registered.and_then(|old| Ok((old, runtime?))).map_err(|error| failure(&error))?;
        Ok(SessionStateBuilder::new_from_existing(self.base.clone())
            .with_catalog_list(Arc::new(catalogs))
            .with_runtime_env(runtime)
            .with_table_functions(functions)
            .build())
    }
}

async fn run(
    state: SessionState,
    statement: Statement,
    limits: SqlLimits,
    wanted: &Wanted,
) -> Result<SqlResult, PortError> {
    // Notes the time for `now()`.
    let state = SessionContext::new_with_state(state).state();
    let plan = state.statement_to_plan(statement).await.map_err(|error| failure(&error))?;
    // The statement was looked at before; this also sees what a plan may hide.
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    if let Err(error) = options.verify_plan(&plan) {
        return Err(PortError::new(ErrorKind::Denied, QUERY, "a statement may only read").with_source(error));
    }
    let budget =
        Budget::new(state.runtime_env().memory_pool.clone(), limits.max_memory_bytes, state.config().batch_size());
    let plan = growth::bound(plan, &budget).map_err(|error| failure(&error))?;
    let plan = state.create_physical_plan(&plan).await.and_then(|plan| watch::watch(plan, wanted));
    let plan = plan.map_err(|error| failure(&error))?;
    let mut batches = execute_stream(plan, state.task_ctx()).map_err(|error| failure(&error))?;
    let mut result = SqlResult { columns: rows::columns(&batches.schema()), ..SqlResult::default() };
    let mut bytes = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| failure(&error))?;
        let (before, room) = (result.rows.len(), limits.max_rows - result.rows.len());
        result.truncated = batch.num_rows() > room;
        rows::rows(&batch, room, &mut result.rows).map_err(|error| failure(&DataFusionError::from(error)))?;
        bytes += result.rows[before..].iter().flatten().map(rows::size).sum::<usize>();
        if bytes > limits.max_memory_bytes {
            return Err(too_large("the result"));
        }
        if result.truncated {
            break;
        }
    }
    Ok(result)
}

fn too_large(what: &str) -> PortError {
    PortError::new(ErrorKind::TooLarge, QUERY, format!("{what} takes more memory than the query may use"))
}

/// The tables of the lake; a name that is none of them is an error that says which there are.
#[derive(Debug)]
struct LakeSchema {
    tables: BTreeMap<String, Arc<dyn TableProvider>>,
    /// `FROM name(…)` is asked for here as well before it is found to be a function.
    functions: HashSet<String>,
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(table) = self.tables.get(name) {
            return Ok(Some(table.clone()));
        }
        if self.functions.contains(name) {
            return Ok(None);
        }
        let names: Vec<String> = self.tables.keys().map(|name| format!("`{name}`")).collect();
        let there =
            if names.is_empty() { "there are none yet".to_owned() } else { format!("there are {}", names.join(", ")) };
        Err(DataFusionError::Plan(format!("table `{name}` does not exist; {there}")))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}

/// An error of DataFusion in the words of the port.
fn failure(error: &DataFusionError) -> PortError {
    let root = error.find_root();
    if let DataFusionError::External(source) = root
        && let Some(lake) = source.downcast_ref::<PortError>()
    {
        return PortError::new(lake.kind, QUERY, lake.detail.clone());
    }
    let (kind, detail) = match root {
        DataFusionError::ResourcesExhausted(_) => return too_large("the query"),
        DataFusionError::ParquetError(error) if is_store_error(error) => {
            (ErrorKind::Unavailable, "a data file cannot be opened".to_owned())
        }
        DataFusionError::ParquetError(_) => (ErrorKind::Corrupt, "a data file cannot be read".to_owned()),
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) | DataFusionError::ExecutionJoin(_) => {
            (ErrorKind::Unavailable, "a data file cannot be opened".to_owned())
        }
        _ => (ErrorKind::Invalid, sentence(root)),
    };
    PortError::new(kind, QUERY, detail).with_source(root.strip_backtrace())
}

/// Whether Parquet only passes on what the disk said.
fn is_store_error(error: &ParquetError) -> bool {
    matches!(error, ParquetError::External(source) if source.is::<datafusion::object_store::Error>() || source.is::<std::io::Error>())
}

/// The message without the words that DataFusion puts around it.
fn sentence(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let text = ["Error during planning: ", "SQL error: ", "Execution error: ", "Arrow error: ", "Schema error: "]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(&text);
    // What follows is an appeal to report a bug.
    text.split("\nThis issue was likely caused").next().unwrap_or(text).trim().to_owned()
}

#[cfg(test)]
mod tests;
