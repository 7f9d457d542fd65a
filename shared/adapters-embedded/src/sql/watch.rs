//! Stops what DataFusion would not: work that goes on for long without giving its thread back, and values that no memory pool counts.
//!
//! A task is stopped where it waits, and a scan waits now and then; but a join may make billions of rows out of one batch of its input.
//! So the output of each join, and the condition of each join by nested loops, looks whether the query is still wanted.

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, Statistics};
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most bytes that one call of a function that makes long texts may make, over a whole batch.
const TEXT_BYTES: i64 = 16 * 1_024 * 1_024;

/// Functions that make as many values as a number says, outside of any memory pool. The table functions of these names stay: they stream.
const REMOVED: &[&str] =
    &["generate_series", "gen_series", "range", "array_repeat", "list_repeat", "array_resize", "list_resize"];
/// Functions that make texts as long as a number says.
const BOUNDED: &[&str] = &["repeat", "lpad", "rpad"];

/// Whether a query is still wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    /// It is not any more.
    pub(super) fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            Err(DataFusionError::Execution("the query was stopped".to_owned()))
        } else {
            Ok(())
        }
    }
}

/// Takes away or bounds the functions that could use any amount of memory in one call.
pub(super) fn tame(state: &mut SessionState) -> Result<()> {
    for name in REMOVED {
        state.deregister_udf(name)?;
    }
    for name in BOUNDED {
        if let Some(inner) = state.scalar_functions().get(*name).cloned() {
            state.register_udf(Arc::new(ScalarUDF::new_from_impl(Bounded { inner })))?;
        }
    }
    Ok(())
}

/// The same plan, watched at its joins.
pub(super) fn watch(plan: Arc<dyn ExecutionPlan>, wanted: &Wanted) -> Result<Arc<dyn ExecutionPlan>> {
    let watched = plan.transform_up(|plan| {
        let plan = match plan.as_any().downcast_ref::<NestedLoopJoinExec>() {
            Some(join) => watch_condition(join, wanted)?.unwrap_or(plan),
            None => plan,
        };
        if !plan.name().ends_with("JoinExec") {
            return Ok(Transformed::no(plan));
        }
        Ok(Transformed::yes(Arc::new(WatchedExec { input: plan, wanted: wanted.clone() }) as Arc<dyn ExecutionPlan>))
    });
    watched.data()
}

fn watch_condition(join: &NestedLoopJoinExec, wanted: &Wanted) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(filter) = join.filter() else { return Ok(None) };
    let expression = Arc::new(WatchedExpr { inner: filter.expression().clone(), wanted: wanted.clone() });
    let filter = JoinFilter::new(expression, filter.column_indices().to_vec(), filter.schema().clone());
    let projection = join.projection().as_ref().map(|columns| columns.to_vec());
    let (left, right) = (join.left().clone(), join.right().clone());
    let watched = NestedLoopJoinExec::try_new(left, right, Some(filter), join.join_type(), projection)?;
    Ok(Some(Arc::new(watched)))
}

#[derive(Debug)]
struct WatchedExec {
    input: Arc<dyn ExecutionPlan>,
    wanted: Wanted,
}

impl DisplayAs for WatchedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchedExec")
    }
}

impl ExecutionPlan for WatchedExec {
    fn name(&self) -> &str {
        "WatchedExec"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input =
            children.pop().ok_or_else(|| DataFusionError::Internal("a watched plan lost its input".to_owned()))?;
        Ok(Arc::new(Self { input, wanted: self.wanted.clone() }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let stream = self.input.execute(partition, context)?;
        let (schema, wanted) = (stream.schema(), self.wanted.clone());
        let stream = stream.map(move |batch| wanted.check().and(batch));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Statistics> {
        self.input.partition_statistics(partition)
    }
}

#[derive(Debug)]
struct WatchedExpr {
    inner: Arc<dyn PhysicalExpr>,
    wanted: Wanted,
}

impl fmt::Display for WatchedExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for WatchedExpr {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for WatchedExpr {}

impl Hash for WatchedExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl PhysicalExpr for WatchedExpr {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.inner.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.wanted.check()?;
        self.inner.evaluate(batch)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let inner =
            children.pop().ok_or_else(|| DataFusionError::Internal("a watched condition lost its input".to_owned()))?;
        Ok(Arc::new(Self { inner, wanted: self.wanted.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

/// A function whose second argument says how long its texts become.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Bounded {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(args.args.get(..2).unwrap_or_default())?;
        if let [texts, counts] = arrays.as_slice() {
            let texts = arrow::compute::cast(texts, &DataType::LargeUtf8)?;
            let texts = datafusion::common::cast::as_large_string_array(&texts)?;
            let counts = arrow::compute::cast(counts, &DataType::Int64)?;
            let counts: &Int64Array = datafusion::common::cast::as_int64_array(&counts)?;
            let repeats = self.inner.name() == "repeat";
            let bytes = (0..counts.len()).filter(|row| counts.is_valid(*row)).fold(0_i64, |bytes, row| {
                // A padded character has up to four bytes.
                let width = if repeats { texts.value_length(row) } else { 4 };
                bytes.saturating_add(counts.value(row).max(0).saturating_mul(width))
            });
            if bytes > TEXT_BYTES {
                return Err(DataFusionError::ResourcesExhausted(format!(
                    "`{}` would make {bytes} bytes at once",
                    self.inner.name()
                )));
            }
        }
        self.inner.invoke_with_args(args)
    }
}
