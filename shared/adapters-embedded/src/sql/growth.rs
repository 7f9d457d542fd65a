//! Bounds functions that make large values out of small ones: `||` in each level of nested queries doubles a text, `repeat` makes it as
//! long as a number says, and no memory pool counts either.
//!
//! Before such a call it is reckoned how much it makes at most; what it made counts for as long as it is there. Both are held against the
//! memory that the query may use.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::kernels::concat_elements::concat_elements_utf8;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Values smaller than this are not worth counting.
const COUNTED_BYTES: usize = 64 * 1_024;

/// What one query may use, and what its functions hold of it.
#[derive(Debug)]
pub(super) struct Budget {
    pool: Arc<dyn MemoryPool>,
    limit_bytes: usize,
    /// A constant may have to stand in this many rows at once.
    batch_rows: usize,
    /// What functions made, with its size, until it is gone.
    made: Mutex<Vec<(Weak<dyn Array>, usize)>>,
}

impl Budget {
    /// A budget of `limit_bytes`, of which the query's operators take from `pool`.
    pub(super) fn new(pool: Arc<dyn MemoryPool>, limit_bytes: usize, batch_rows: usize) -> Arc<Self> {
        Arc::new(Self { pool, limit_bytes, batch_rows, made: Mutex::default() })
    }

    /// Refuses what would make more than is left.
    fn admit(&self, what: &str, bytes: usize) -> Result<()> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|(array, _)| array.strong_count() > 0);
        let held = made.iter().map(|(_, bytes)| bytes).sum::<usize>().saturating_add(self.pool.reserved());
        if held.saturating_add(bytes) <= self.limit_bytes {
            return Ok(());
        }
        let what = format!("`{what}` may make {bytes} bytes at once, beside {held} that are in use");
        Err(DataFusionError::ResourcesExhausted(what))
    }

    fn count(&self, value: &ColumnarValue) {
        if let ColumnarValue::Array(array) = value {
            let bytes = array.get_array_memory_size();
            if bytes >= COUNTED_BYTES {
                let made = (Arc::downgrade(array), bytes);
                self.made.lock().unwrap_or_else(PoisonError::into_inner).push(made);
            }
        }
    }
}

/// The same plan with its growing functions bounded.
pub(super) fn bound(plan: LogicalPlan, budget: &Arc<Budget>) -> Result<LogicalPlan> {
    let bounded = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expression| expression.transform_up(|expression| bound_expression(expression, budget)))
    })?;
    if !bounded.transformed {
        return Ok(bounded.data);
    }
    // A function may have another type than the operator that it stands for.
    bounded.data.transform_up_with_subqueries(|node| node.recompute_schema().map(Transformed::yes)).data()
}

fn bound_expression(expression: Expr, budget: &Arc<Budget>) -> Result<Transformed<Expr>> {
    let call = |inner: Arc<ScalarUDF>, growth, arguments| {
        let function = ScalarUDF::new_from_impl(Bounded { inner, growth, budget: budget.clone() });
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), arguments))
    };
    Ok(match expression {
        Expr::Literal(value, metadata) => {
            budget.admit("a constant", scalar_bytes(&value).saturating_mul(budget.batch_rows))?;
            Transformed::no(Expr::Literal(value, metadata))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
            Transformed::yes(call(Arc::new(ScalarUDF::new_from_impl(Joined::new())), Growth::Sum, vec![*left, *right]))
        }
        Expr::ScalarFunction(function) => match Growth::of(function.func.name()) {
            Some(growth) => Transformed::yes(call(function.func, growth, function.args)),
            None => Transformed::no(Expr::ScalarFunction(function)),
        },
        other => Transformed::no(other),
    })
}

/// How the size of what a function makes follows from its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// All arguments, one after another.
    Sum,
    /// The first argument before each other one.
    SumWithSeparator,
    /// The first argument as often as the second says.
    Repeat,
    /// As many characters as the second argument says.
    Pad,
    /// The first argument, each occurrence of the second replaced by the third.
    Replace,
    /// The first argument, each match replaced by the third, which may quote the match.
    ReplaceMatches,
    /// Each group of a pattern may hold all of the text.
    Groups,
    /// At most four bytes for each character.
    Translate,
    /// Each item of a list as text, with separators.
    ItemsAsText,
    /// An item of a list for each character.
    TextAsItems,
    /// A list with any item replaced.
    ReplaceItems,
    /// A date as the second argument says; a letter of it may stand for many.
    Format,
}

impl Growth {
    fn of(function: &str) -> Option<Self> {
        Some(match function {
            "concat" | "overlay" | "make_array" | "array_concat" | "array_append" | "array_prepend" | "array_union"
            | "arrays_zip" | "map" => Self::Sum,
            "concat_ws" => Self::SumWithSeparator,
            "repeat" => Self::Repeat,
            "lpad" | "rpad" => Self::Pad,
            "replace" => Self::Replace,
            "regexp_replace" => Self::ReplaceMatches,
            "regexp_match" => Self::Groups,
            "translate" => Self::Translate,
            "array_to_string" => Self::ItemsAsText,
            "string_to_array" => Self::TextAsItems,
            "array_replace" | "array_replace_n" | "array_replace_all" => Self::ReplaceItems,
            "to_char" => Self::Format,
            _ => return None,
        })
    }

    /// At most what a call makes for this many rows, in bytes.
    fn bytes(self, arguments: &[ColumnarValue], rows: usize) -> Result<usize> {
        let sizes = |at: usize| arguments.get(at).map_or(Ok(vec![0; rows]), |value| sizes(value, rows));
        let longest = |at: usize| Ok::<_, DataFusionError>(sizes(at)?.into_iter().max().unwrap_or(0));
        let sum = |sizes: Vec<usize>| sizes.into_iter().fold(0, usize::saturating_add);
        let product = |left: Vec<usize>, right: Vec<usize>| {
            left.iter().zip(&right).fold(0_usize, |sum, (l, r)| sum.saturating_add(l.saturating_mul(*r)))
        };
        // Text may be replaced before, between and after its characters.
        let places = |sizes: Vec<usize>| sum(sizes).saturating_add(rows);
        let all = || {
            (0..arguments.len())
                .try_fold(0_usize, |all, at| Ok::<_, DataFusionError>(all.saturating_add(sum(sizes(at)?))))
        };
        Ok(match self {
            Self::Sum => return all(),
            Self::SumWithSeparator => all()?.saturating_add(sum(sizes(0)?).saturating_mul(arguments.len())),
            Self::Repeat => product(sizes(0)?, counts(&arguments[1], rows)?),
            Self::Pad => sum(counts(&arguments[1], rows)?).saturating_mul(4),
            Self::Replace => {
                let shortest = sizes(1)?.into_iter().min().unwrap_or(0).max(1);
                let places = places(sizes(0)?) / shortest + rows;
                sum(sizes(0)?).saturating_add(places.saturating_mul(longest(2)?))
            }
            Self::ReplaceMatches => {
                let places = places(sizes(0)?);
                sum(sizes(0)?).saturating_add(places.saturating_mul(longest(2)?).saturating_mul(2))
            }
            Self::Groups => sum(sizes(0)?).saturating_mul(longest(1)? / 2 + 1),
            Self::Translate => sum(sizes(0)?).saturating_mul(4),
            Self::ItemsAsText => {
                let items = items(&arguments[0], rows)?;
                // A number takes up to 32 characters.
                let each = longest(1)?.saturating_add(longest(2)?).saturating_add(32);
                sum(sizes(0)?).saturating_add(items.saturating_mul(each))
            }
            Self::TextAsItems => places(sizes(0)?).saturating_mul(16),
            Self::ReplaceItems => {
                let items = items(&arguments[0], rows)?;
                sum(sizes(0)?).saturating_add(items.saturating_mul(longest(2)?))
            }
            Self::Format => sum(sizes(1)?).saturating_mul(16),
        })
    }
}

/// The bytes of a value in each row.
fn sizes(value: &ColumnarValue, rows: usize) -> Result<Vec<usize>> {
    let array = match value {
        ColumnarValue::Scalar(value) => return Ok(vec![scalar_bytes(value); rows]),
        ColumnarValue::Array(array) => array,
    };
    if !matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        let bytes = array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
        return Ok(vec![bytes.div_ceil(array.len().max(1)); array.len()]);
    }
    let lengths = arrow::compute::cast(&length(array)?, &DataType::Int64)?;
    Ok(naturals(lengths.as_primitive::<Int64Type>()))
}

fn scalar_bytes(value: &ScalarValue) -> usize {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map_or(0, String::len)
        }
        other => other.size().saturating_sub(size_of::<ScalarValue>()),
    }
}

/// The number in each row; what is negative or missing is 0.
fn counts(value: &ColumnarValue, rows: usize) -> Result<Vec<usize>> {
    match value {
        ColumnarValue::Scalar(value) => {
            let one = arrow::compute::cast(&value.to_array()?, &DataType::Int64)?;
            Ok(vec![naturals(one.as_primitive::<Int64Type>()).first().copied().unwrap_or(0); rows])
        }
        ColumnarValue::Array(array) => {
            let numbers = arrow::compute::cast(array, &DataType::Int64)?;
            Ok(naturals(numbers.as_primitive::<Int64Type>()))
        }
    }
}

fn naturals(numbers: &Int64Array) -> Vec<usize> {
    numbers.iter().map(|number| number.and_then(|n| usize::try_from(n).ok()).unwrap_or(0)).collect()
}

/// How many items the lists of all rows have, those of lists within them included.
fn items(value: &ColumnarValue, rows: usize) -> Result<usize> {
    Ok(match value {
        ColumnarValue::Scalar(value) => leaves(&value.to_array()?).saturating_mul(rows),
        ColumnarValue::Array(array) => leaves(array),
    })
}

fn leaves(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::List(_) => leaves(array.as_list::<i32>().values()),
        DataType::LargeList(_) => leaves(array.as_list::<i64>().values()),
        DataType::FixedSizeList(..) => leaves(array.as_fixed_size_list().values()),
        _ => array.len(),
    }
}

/// A function that asks the budget before each call.
#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
    budget: Arc<Budget>,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
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

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
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
        let is_constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_constant { self.budget.batch_rows } else { args.number_rows };
        self.budget.admit(self.name(), self.growth.bytes(&args.args, rows)?)?;
        let made = self.inner.invoke_with_args(args)?;
        self.budget.count(&made);
        Ok(made)
    }
}

/// `||` of texts; NULL where one side is NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Joined {
    signature: Signature,
}

impl Joined {
    fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Joined {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        "||"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|side| side.schema_name().to_string()).collect::<Vec<_>>().join(" || "))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::LargeUtf8)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        // That it can be text was seen when the operator was planned.
        Ok(vec![DataType::LargeUtf8; types.len()])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let sides = ColumnarValue::values_to_arrays(&args.args)?;
        let [left, right] = sides.as_slice() else {
            return Err(DataFusionError::Internal("`||` has two sides".to_owned()));
        };
        let joined = concat_elements_utf8(left.as_string::<i64>(), right.as_string::<i64>())?;
        if is_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&joined, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(joined)))
    }
}
