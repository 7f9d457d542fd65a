//! Stops what DataFusion would not: work that goes on for long without giving its thread back.
//!
//! A task is stopped where it waits, and a scan waits now and then; but a join may make billions of rows out of one batch of its input.
//! So the output of each join, and the condition of each join by nested loops, looks whether the query is still wanted.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Statistics};
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawDictionaryExpr};
use datafusion::logical_expr::{ColumnarValue, Expr};
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

/// Functions that make as many values as a number says, outside of any memory pool. The table functions of these names stay: they stream.
const REMOVED: &[&str] =
    &["generate_series", "gen_series", "range", "array_repeat", "list_repeat", "array_resize", "list_resize"];
/// Functions whose result is of a type that nested queries double again and again; the planner looks at all of it. The lake has no structs.
const REMOVED_STRUCTS: &[&str] = &["struct", "row", "named_struct"];

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

/// Refuses what the parser takes for a struct without naming a function.
#[derive(Debug)]
pub(super) struct NoStructs;

impl ExprPlanner for NoStructs {
    fn plan_struct_literal(&self, _: Vec<Expr>, _: bool) -> Result<PlannerResult<Vec<Expr>>> {
        Err(DataFusionError::Plan("structs are not taken".to_owned()))
    }

    fn plan_dictionary_literal(&self, _: RawDictionaryExpr, _: &DFSchema) -> Result<PlannerResult<RawDictionaryExpr>> {
        Err(DataFusionError::Plan("structs are not taken".to_owned()))
    }
}

/// Takes away the functions that could use any amount of memory in one call.
pub(super) fn tame(state: &mut SessionState) -> Result<()> {
    for name in REMOVED.iter().chain(REMOVED_STRUCTS) {
        state.deregister_udf(name)?;
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
