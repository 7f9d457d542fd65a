//! SQL over the lake's recorded Parquet files, by DataFusion.
//!
//! A query sees the files that the lake's records list and nothing else of this machine. Files whose `time` range cannot match are never
//! opened. Names are case-sensitive as they are written (`memberId` needs no quotes); tables and envelope columns are in small letters,
//! keywords and functions in any.

mod rows;
mod scan;

use crate::sql::scan::RecordedTable;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::Statement as Ast;
use futures::StreamExt as _;
use serde_json::Value;
use sluice_ports::{ErrorKind, PortError, Sql, SqlColumn, SqlLimits, SqlResult};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Runtime;

const OPERATION: &str = "sql.query";

/// A table of the lake.
#[derive(Debug, Clone)]
pub struct LakeTable {
    /// Its name, in small letters.
    pub name: String,
    /// Its columns. A file that lacks one has NULL there.
    pub schema: SchemaRef,
}

/// A recorded data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// Earliest `time`, microseconds since the epoch.
    pub min_time_us: i64,
    /// Latest `time`, microseconds since the epoch.
    pub max_time_us: i64,
}

/// What there is to read.
#[async_trait]
pub trait Lake: Send + Sync {
    /// All tables.
    async fn tables(&self) -> Result<Vec<LakeTable>, PortError>;

    /// The recorded files of a table.
    async fn files(&self, table: &str) -> Result<Vec<LakeFile>, PortError>;
}

/// How the engine works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedSqlConfig {
    /// Threads of all queries together.
    pub threads: usize,
}

impl Default for EmbeddedSqlConfig {
    fn default() -> Self {
        Self { threads: std::thread::available_parallelism().map_or(2, |n| n.get().clamp(1, 4)) }
    }
}

/// The engine.
pub struct EmbeddedSql {
    lake: Arc<dyn Lake>,
    config: EmbeddedSqlConfig,
    /// Started with the first query: a query computes, and must not hold up the threads that answer requests.
    threads: Mutex<Option<Runtime>>,
}

impl EmbeddedSql {
    /// An engine over this lake.
    pub fn new(lake: Arc<dyn Lake>, config: EmbeddedSqlConfig) -> Self {
        Self { lake, config, threads: Mutex::new(None) }
    }

    fn handle(&self) -> Result<tokio::runtime::Handle, PortError> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = threads.as_ref() {
            return Ok(runtime.handle().clone());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.config.threads)
            .thread_name("sql")
            .enable_all()
            .build()
            .map_err(|e| {
                PortError::new(ErrorKind::Unavailable, OPERATION, "no threads for the query").with_source(e)
            })?;
        Ok(threads.insert(runtime).handle().clone())
    }
}

impl Drop for EmbeddedSql {
    fn drop(&mut self) {
        // Waiting for threads is not allowed where an engine may be dropped.
        if let Some(runtime) = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

#[async_trait]
impl Sql for EmbeddedSql {
    async fn query(&self, statement: &str, parameters: &[Value], limits: SqlLimits) -> Result<SqlResult, PortError> {
        let statement = single_read(statement)?;
        let parameters = parameters.iter().map(rows::parameter).collect::<Result<Vec<_>, _>>()?;
        let query = run(self.lake.clone(), self.config, statement, ParamValues::from(parameters), limits);
        // Dropping the task (a caller that went away, a time-out) stops the query.
        let mut task = tokio::task::JoinSet::new();
        task.spawn_on(query, &self.handle()?);
        match tokio::time::timeout(limits.timeout, task.join_next()).await {
            Ok(Some(Ok(result))) => result,
            Ok(_) => Err(PortError::new(ErrorKind::Unavailable, OPERATION, "the query ended without an answer")),
            Err(_) => {
                let detail = format!(
                    "the query took longer than {} ms; ask for less, or for a shorter time range",
                    limits.timeout.as_millis()
                );
                Err(PortError::new(ErrorKind::Timeout, OPERATION, detail))
            }
        }
    }
}

/// The statement, where it is one that only reads.
fn single_read(text: &str) -> Result<Statement, PortError> {
    let mut statements = DFParser::parse_sql(text).map_err(explain)?;
    let (Some(statement), true) = (statements.pop_front(), statements.is_empty()) else {
        return Err(PortError::new(ErrorKind::Denied, OPERATION, "one statement at a time"));
    };
    let reads = |ast: &Ast| {
        matches!(
            ast,
            Ast::Query(_)
                | Ast::ShowTables { .. }
                | Ast::ShowColumns { .. }
                | Ast::ExplainTable { .. }
                | Ast::Explain { .. }
        )
    };
    let allowed = match &statement {
        Statement::Statement(ast) => reads(ast),
        Statement::Explain(explain) => matches!(explain.statement.as_ref(), Statement::Statement(ast) if reads(ast)),
        _ => false,
    };
    if allowed {
        Ok(statement)
    } else {
        Err(PortError::new(ErrorKind::Denied, OPERATION, "only SELECT is allowed here: the lake is read-only"))
    }
}

async fn run(
    lake: Arc<dyn Lake>,
    config: EmbeddedSqlConfig,
    statement: Statement,
    parameters: ParamValues,
    limits: SqlLimits,
) -> Result<SqlResult, PortError> {
    let session = SessionConfig::new()
        .with_information_schema(true)
        .with_target_partitions(config.threads)
        .with_default_catalog_and_schema("sluice", "lake")
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
        .set_bool("datafusion.execution.parquet.pushdown_filters", true);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.max_memory_bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()
        .map_err(explain)?;
    let context = SessionContext::new_with_config_rt(session, runtime);
    let files_read = Arc::new(AtomicU64::new(0));
    for table in lake.tables().await? {
        let provider = RecordedTable::new(lake.clone(), table.clone(), files_read.clone());
        context.register_table(table.name.as_str(), Arc::new(provider)).map_err(explain)?;
    }
    let plan = context.state().statement_to_plan(statement).await.map_err(explain)?;
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    options.verify_plan(&plan).map_err(|_| {
        PortError::new(ErrorKind::Denied, OPERATION, "only SELECT is allowed here: the lake is read-only")
    })?;
    let plan = plan.with_param_values(parameters).map_err(explain)?;
    let frame = context.execute_logical_plan(plan).await.map_err(explain)?;
    let columns: Vec<SqlColumn> = frame
        .schema()
        .fields()
        .iter()
        .map(|f| SqlColumn { name: f.name().clone(), data_type: rows::type_name(f.data_type()) })
        .collect();
    let mut stream = frame.execute_stream().await.map_err(explain)?;
    let mut result = SqlResult { columns, ..SqlResult::default() };
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(explain)?;
        let room = limits.max_rows - result.rows.len();
        result.truncated = batch.num_rows() > room;
        rows::append(&batch.slice(0, batch.num_rows().min(room)), &mut result.rows)?;
        if result.truncated {
            break;
        }
    }
    result.files_read = Some(files_read.load(Ordering::Relaxed));
    Ok(result)
}

/// DataFusion's error in the port's words. What the asker can mend is told; paths of this machine are not.
fn explain(error: DataFusionError) -> PortError {
    let (kind, detail) = match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => (
            ErrorKind::TooLarge,
            "the query needs more memory than one query may use; ask for less, or for a shorter time range".to_owned(),
        ),
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) | DataFusionError::ParquetError(_) => {
            (ErrorKind::Corrupt, "a recorded file cannot be read".to_owned())
        }
        DataFusionError::External(inner) if inner.is::<PortError>() => (ErrorKind::Unavailable, inner.to_string()),
        root => (ErrorKind::Invalid, root.strip_backtrace()),
    };
    PortError::new(kind, OPERATION, detail).with_source(error)
}

#[cfg(test)]
mod tests;
