//! A table as DataFusion scans it: the recorded files, without those whose `time` range cannot match.

use crate::sql::{Lake, LakeFile, LakeTable};
use arrow::array::{ArrayRef, BooleanArray, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path as ObjectPath;
use datafusion::physical_optimizer::pruning::PruningPredicate;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Column by which files are left out.
const TIME: &str = "time";

/// A table over the recorded files.
pub(super) struct RecordedTable {
    lake: Arc<dyn Lake>,
    table: LakeTable,
    files_read: Arc<AtomicU64>,
}

impl RecordedTable {
    /// The table; files that a scan opens are added to `files_read`.
    pub(super) fn new(lake: Arc<dyn Lake>, table: LakeTable, files_read: Arc<AtomicU64>) -> Self {
        Self { lake, table, files_read }
    }
}

impl fmt::Debug for RecordedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedTable").field("table", &self.table.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for RecordedTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        self.table.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Files, row groups and pages are left out by statistics; the rows that remain are filtered again.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let mut files = self.lake.files(&self.table.name).await.map_err(|e| DataFusionError::External(Box::new(e)))?;
        let mut source = ParquetSource::new(schema.clone());
        if let Some(filter) = conjunction(filters.to_vec()) {
            let predicate = state.create_physical_expr(filter, &DFSchema::try_from(schema.clone())?)?;
            let pruning = PruningPredicate::try_new(predicate.clone(), schema.clone())?;
            let keep = pruning.prune(&FileTimes(&files))?;
            let mut keep = keep.into_iter();
            files.retain(|_| keep.next().unwrap_or(true));
            source = source.with_predicate(predicate);
        }
        if files.is_empty() {
            let projected = match projection {
                Some(indices) => Arc::new(schema.project(indices)?),
                None => schema,
            };
            return Ok(Arc::new(EmptyExec::new(projected)));
        }
        self.files_read.fetch_add(files.len() as u64, Ordering::Relaxed);
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups(files, state.config().target_partitions())?)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// The files in as many groups as there are threads, the largest first to the group that has least.
fn groups(mut files: Vec<LakeFile>, threads: usize) -> Result<Vec<FileGroup>> {
    files.sort_by_key(|f| std::cmp::Reverse(f.size_bytes));
    let mut groups: Vec<(u64, Vec<PartitionedFile>)> = vec![(0, Vec::new()); threads.clamp(1, files.len().max(1))];
    for file in files {
        let location =
            ObjectPath::from_absolute_path(&file.path).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let meta = ObjectMeta {
            location,
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: file.size_bytes,
            e_tag: None,
            version: None,
        };
        if let Some((bytes, members)) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += file.size_bytes;
            members.push(PartitionedFile::new_from_meta(meta));
        }
    }
    Ok(groups.into_iter().map(|(_, members)| FileGroup::new(members)).collect())
}

/// The recorded `time` ranges as statistics, one container per file.
struct FileTimes<'f>(&'f [LakeFile]);

impl FileTimes<'_> {
    fn column(&self, column: &Column, value: impl Fn(&LakeFile) -> i64) -> Option<ArrayRef> {
        (column.name() == TIME).then(|| {
            Arc::new(self.0.iter().map(|f| Some(value(f))).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
                as ArrayRef
        })
    }
}

impl PruningStatistics for FileTimes<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.column(column, |f| f.min_time_us)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.column(column, |f| f.max_time_us)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self, _column: &Column) -> Option<ArrayRef> {
        Some(Arc::new(self.0.iter().map(|f| Some(f.rows)).collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
