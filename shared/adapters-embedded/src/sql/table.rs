//! A table of the lake for DataFusion: its files come from the record of what was written, never from a look into a folder, and files
//! whose times cannot match are not opened.

use super::{Lake, LakeFile};
use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, DFSchema, DataFusionError, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::DefaultParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::object_store::path::Path;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicate;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Paths of the files that a query opened.
pub(super) type Opened = Arc<Mutex<HashSet<Path>>>;

/// One table during one query.
#[derive(Clone)]
pub(super) struct RecordedTable {
    pub name: String,
    pub schema: SchemaRef,
    pub lake: Arc<dyn Lake>,
    pub time_column: Arc<str>,
    pub partitions: usize,
    pub opened: Opened,
    /// The moment that it is read at, microseconds since the epoch; now, where there is none.
    pub at_us: Option<i64>,
}

impl fmt::Debug for RecordedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedTable").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for RecordedTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Statistics leave rows out; the plan above still looks at each row.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let recorded = self.lake.files(&self.name, self.at_us).await;
        let recorded = recorded.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let predicate = self.predicate(state, filters)?;
        let files = self.keep(recorded, predicate.as_ref())?;
        if files.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema.project(columns)?),
                None => self.schema.clone(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let statistics = files.iter().fold(None, |all: Option<Statistics>, file| {
            let one = self.statistics(file);
            Some(match all {
                Some(all) => merge(all, one),
                None => one,
            })
        });
        let url = ObjectStoreUrl::local_filesystem();
        let store = state.runtime_env().object_store(&url)?;
        let readers =
            CountingReaders { inner: DefaultParquetFileReaderFactory::new(store), opened: self.opened.clone() };
        let mut source = ParquetSource::new(self.schema.clone())
            .with_table_parquet_options(state.default_table_options().parquet)
            .with_parquet_file_reader_factory(Arc::new(readers));
        if let Some(predicate) = predicate {
            source = source.with_predicate(predicate);
        }
        let mut scan = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(self.groups(&files)?)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit);
        if let Some(statistics) = statistics {
            scan = scan.with_statistics(statistics);
        }
        Ok(DataSourceExec::from_data_source(scan.build()))
    }
}

impl RecordedTable {
    fn predicate(&self, state: &dyn Session, filters: &[Expr]) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let Some(filter) = conjunction(filters.to_vec()) else { return Ok(None) };
        let schema = DFSchema::try_from(self.schema.as_ref().clone())?;
        state.create_physical_expr(filter, &schema).map(Some)
    }

    /// The files that may hold a matching row, by time.
    fn keep(&self, mut files: Vec<LakeFile>, predicate: Option<&Arc<dyn PhysicalExpr>>) -> Result<Vec<LakeFile>> {
        files.retain(|file| file.rows > 0);
        files.sort_by(|left, right| (left.min_time_us, &left.path).cmp(&(right.min_time_us, &right.path)));
        let Some(predicate) = predicate else { return Ok(files) };
        let pruning = PruningPredicate::try_new(predicate.clone(), self.schema.clone())?;
        if pruning.always_true() {
            return Ok(files);
        }
        let times = FileTimes { files: &files, column: &self.time_column, schema: &self.schema };
        let kept = pruning.prune(&times)?;
        let mut kept = kept.into_iter();
        files.retain(|_| kept.next().unwrap_or(true));
        Ok(files)
    }

    /// At most as many groups as there are partitions, about equally large, each in the order of time.
    fn groups(&self, files: &[LakeFile]) -> Result<Vec<FileGroup>> {
        let mut groups: Vec<(u64, Vec<PartitionedFile>)> =
            (0..self.partitions.clamp(1, files.len())).map(|_| (0, Vec::new())).collect();
        for file in files {
            let path =
                Path::from_absolute_path(&file.path).map_err(|error| DataFusionError::External(Box::new(error)))?;
            let mut partitioned =
                PartitionedFile::new("", file.size_bytes).with_statistics(Arc::new(self.statistics(file)));
            partitioned.object_meta.location = path;
            if let Some((bytes, group)) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
                *bytes += file.size_bytes;
                group.push(partitioned);
            }
        }
        Ok(groups.into_iter().map(|(_, files)| FileGroup::new(files)).collect())
    }

    fn statistics(&self, file: &LakeFile) -> Statistics {
        let rows = usize::try_from(file.rows).unwrap_or(usize::MAX);
        let bytes = usize::try_from(file.size_bytes).unwrap_or(usize::MAX);
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(rows);
        statistics.total_byte_size = Precision::Inexact(bytes);
        if let Ok(column) = self.schema.index_of(&self.time_column)
            && let (Some(min), Some(max)) = (self.time(file.min_time_us), self.time(file.max_time_us))
        {
            // Not exact, so that no answer is ever made of them alone.
            statistics.column_statistics[column] = ColumnStatistics {
                min_value: Precision::Inexact(min),
                max_value: Precision::Inexact(max),
                ..ColumnStatistics::new_unknown()
            };
        }
        statistics
    }

    fn time(&self, us: i64) -> Option<ScalarValue> {
        let data_type = self.schema.field_with_name(&self.time_column).ok()?.data_type();
        matches!(data_type, DataType::Timestamp(..))
            .then(|| ScalarValue::TimestampMicrosecond(Some(us), None).cast_to(data_type).ok())
            .flatten()
    }
}

fn merge(all: Statistics, one: Statistics) -> Statistics {
    let columns = all.column_statistics.into_iter().zip(one.column_statistics).map(|(left, right)| ColumnStatistics {
        min_value: left.min_value.min(&right.min_value),
        max_value: left.max_value.max(&right.max_value),
        ..ColumnStatistics::new_unknown()
    });
    Statistics {
        num_rows: all.num_rows.add(&one.num_rows),
        total_byte_size: all.total_byte_size.add(&one.total_byte_size),
        column_statistics: columns.collect(),
    }
}

/// What is recorded of the time column of each file.
struct FileTimes<'a> {
    files: &'a [LakeFile],
    column: &'a str,
    schema: &'a SchemaRef,
}

impl FileTimes<'_> {
    fn values(&self, column: &Column, time_us: impl Fn(&LakeFile) -> i64) -> Option<ArrayRef> {
        if column.name != self.column {
            return None;
        }
        let DataType::Timestamp(unit, _) = self.schema.field_with_name(self.column).ok()?.data_type() else {
            return None;
        };
        let values: Vec<i64> = self
            .files
            .iter()
            .map(|file| match unit {
                TimeUnit::Second => time_us(file).div_euclid(1_000_000),
                TimeUnit::Millisecond => time_us(file).div_euclid(1_000),
                TimeUnit::Microsecond => time_us(file),
                TimeUnit::Nanosecond => time_us(file).saturating_mul(1_000),
            })
            .collect();
        let data_type = self.schema.field_with_name(self.column).ok()?.data_type();
        arrow::compute::cast(&Int64Array::from(values), data_type).ok()
    }
}

impl PruningStatistics for FileTimes<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |file| file.min_time_us)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |file| file.max_time_us)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self, _: &Column) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.files.iter().map(|file| file.rows))))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Readers that note which file they are for.
#[derive(Debug)]
struct CountingReaders {
    inner: DefaultParquetFileReaderFactory,
    opened: Opened,
}

impl ParquetFileReaderFactory for CountingReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(file.path().clone());
        self.inner.create_reader(partition, file, metadata_size_hint, metrics)
    }
}
