//! Arrow values as JSON, as the port words them.

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::DateTime;
use datafusion::common::ScalarValue;
use serde_json::{Number, Value};
use sluice_ports::{ErrorKind, PortError};

/// A parameter as the engine takes it.
pub(super) fn parameter(value: &Value) -> Result<ScalarValue, PortError> {
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(b) => ScalarValue::Boolean(Some(*b)),
        Value::String(text) => ScalarValue::Utf8(Some(text.clone())),
        Value::Number(n) => match n.as_i64() {
            Some(n) => ScalarValue::Int64(Some(n)),
            None => ScalarValue::Float64(n.as_f64()),
        },
        Value::Array(_) | Value::Object(_) => {
            return Err(PortError::new(
                ErrorKind::Invalid,
                "sql.query",
                "a parameter is text, a number, true, false or null",
            ));
        }
    })
}

/// The SQL name of a type.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".into(),
        t if t.is_integer() => "bigint".into(),
        t if t.is_floating() => "double".into(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("decimal({precision},{scale})")
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => "varchar".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "array".into(),
        DataType::Dictionary(_, values) => type_name(values),
        other => other.to_string().to_lowercase(),
    }
}

/// Appends the rows of a batch.
pub(super) fn append(batch: &RecordBatch, rows: &mut Vec<Vec<Value>>) -> Result<(), PortError> {
    let columns: Vec<Vec<Value>> = batch.columns().iter().map(values).collect::<Result<_, _>>()?;
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    for _ in 0..batch.num_rows() {
        rows.push(columns.iter_mut().map(|c| c.next().unwrap_or_default()).collect());
    }
    Ok(())
}

fn values(array: &ArrayRef) -> Result<Vec<Value>, PortError> {
    macro_rules! each {
        ($kind:ty, $to:expr) => {
            array.as_primitive::<$kind>().iter().map(|v| v.map_or(Value::Null, $to)).collect()
        };
    }
    Ok(match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => array.as_boolean().iter().map(|v| v.map_or(Value::Null, Value::Bool)).collect(),
        DataType::Int8 => each!(Int8Type, Value::from),
        DataType::Int16 => each!(Int16Type, Value::from),
        DataType::Int32 => each!(Int32Type, Value::from),
        DataType::Int64 => each!(Int64Type, Value::from),
        DataType::UInt8 => each!(UInt8Type, Value::from),
        DataType::UInt16 => each!(UInt16Type, Value::from),
        DataType::UInt32 => each!(UInt32Type, Value::from),
        DataType::UInt64 => each!(UInt64Type, Value::from),
        DataType::Float16 => each!(Float16Type, |v| float(v.to_f64())),
        DataType::Float32 => each!(Float32Type, |v| float(f64::from(v))),
        DataType::Float64 => each!(Float64Type, float),
        DataType::Decimal128(_, scale) => each!(Decimal128Type, |v| Value::String(decimal(&v.to_string(), *scale))),
        DataType::Decimal256(_, scale) => each!(Decimal256Type, |v| Value::String(decimal(&v.to_string(), *scale))),
        DataType::Utf8 => array.as_string::<i32>().iter().map(text).collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().map(text).collect(),
        DataType::Utf8View => array.as_string_view().iter().map(text).collect(),
        DataType::Date32 => {
            each!(Date32Type, |days| moment(i64::from(days).saturating_mul(86_400_000_000), "%Y-%m-%d"))
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            each!(TimestampSecondType, |v: i64| time(v.saturating_mul(1_000_000)))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            each!(TimestampMillisecondType, |v: i64| time(v.saturating_mul(1_000)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => each!(TimestampMicrosecondType, time),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            each!(TimestampNanosecondType, |v: i64| time(v.div_euclid(1_000)))
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            list.iter()
                .map(|items| items.map_or(Ok(Value::Null), |items| values(&items).map(Value::Array)))
                .collect::<Result<_, _>>()?
        }
        _ => {
            let fail = |e| {
                PortError::new(ErrorKind::Invalid, "sql.query", format!("type `{}` cannot be shown", array.data_type()))
                    .with_source(e)
            };
            let options = FormatOptions::default();
            let formatter = ArrayFormatter::try_new(array, &options).map_err(fail)?;
            (0..array.len())
                .map(|i| if array.is_null(i) { Value::Null } else { Value::String(formatter.value(i).to_string()) })
                .collect()
        }
    })
}

fn text(value: Option<&str>) -> Value {
    value.map_or(Value::Null, |text| Value::String(text.to_owned()))
}

/// JSON has no NaN and no infinity: they are shown as text.
fn float(value: f64) -> Value {
    Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number)
}

/// RFC 3339 in UTC, to the millisecond, or to the microsecond where there is more.
fn time(micros: i64) -> Value {
    moment(micros, if micros.rem_euclid(1_000) == 0 { "%Y-%m-%dT%H:%M:%S%.3fZ" } else { "%Y-%m-%dT%H:%M:%S%.6fZ" })
}

fn moment(micros: i64, format: &str) -> Value {
    DateTime::from_timestamp_micros(micros).map_or(Value::Null, |t| Value::String(t.format(format).to_string()))
}

/// An unscaled decimal's digits in plain notation.
fn decimal(unscaled: &str, scale: i8) -> String {
    let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |digits| ("-", digits));
    match usize::try_from(scale) {
        Ok(0) => format!("{sign}{digits}"),
        Ok(scale) => {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) => format!("{sign}{digits}{}", "0".repeat(usize::from(scale.unsigned_abs()))),
    }
}
