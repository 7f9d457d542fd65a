//! Arrow columns as JSON values.

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Decimal256Array, Float16Array, OffsetSizeTrait, PrimitiveArray,
    RecordBatch,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Field, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use sluice_ports::SqlColumn;

/// The columns of a result.
pub(super) fn columns(schema: &Schema) -> Vec<SqlColumn> {
    schema
        .fields()
        .iter()
        .map(|field| SqlColumn { name: field.name().clone(), data_type: type_name(field.data_type()) })
        .collect()
}

/// The first `limit` rows of a batch.
pub(super) fn rows(batch: &RecordBatch, limit: usize, rows: &mut Vec<Vec<Value>>) -> Result<(), ArrowError> {
    let count = batch.num_rows().min(limit);
    let columns: Vec<Vec<Value>> =
        batch.columns().iter().map(|column| values(&column.slice(0, count))).collect::<Result<_, _>>()?;
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    rows.extend((0..count).map(|_| columns.iter_mut().filter_map(Iterator::next).collect()));
    Ok(())
}

/// About how much memory a value takes.
pub(super) fn size(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(size).sum(),
            Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 => "tinyint",
        DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "bigint",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double",
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => {
            return format!("decimal({p},{s})");
        }
        // The type of `NULL` alone.
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => "varchar",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "varbinary",
        DataType::Timestamp(..) => "timestamp",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => "array",
        DataType::Struct(_) => "row",
        DataType::Map(..) => "map",
        DataType::Dictionary(_, values) => return type_name(values),
        DataType::RunEndEncoded(_, values) => return type_name(values.data_type()),
        other => return other.to_string().to_lowercase(),
    }
    .to_owned()
}

fn values(array: &ArrayRef) -> Result<Vec<Value>, ArrowError> {
    Ok(match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => array.as_boolean().iter().map(|value| value.map_or(Value::Null, Value::Bool)).collect(),
        DataType::Int8 => integers::<Int8Type>(array),
        DataType::Int16 => integers::<Int16Type>(array),
        DataType::Int32 => integers::<Int32Type>(array),
        DataType::Int64 => integers::<Int64Type>(array),
        DataType::UInt8 => integers::<UInt8Type>(array),
        DataType::UInt16 => integers::<UInt16Type>(array),
        DataType::UInt32 => integers::<UInt32Type>(array),
        DataType::UInt64 => integers::<UInt64Type>(array),
        DataType::Float16 => {
            let array: &Float16Array = array.as_primitive();
            array.iter().map(|value| float(value.map(f64::from))).collect()
        }
        DataType::Float32 => array.as_primitive::<Float32Type>().iter().map(single).collect(),
        DataType::Float64 => array.as_primitive::<Float64Type>().iter().map(float).collect(),
        DataType::Decimal128(..) => {
            let array: &Decimal128Array = array.as_primitive();
            (0..array.len()).map(|row| present(array, row, || Value::String(array.value_as_string(row)))).collect()
        }
        DataType::Decimal256(..) => {
            let array: &Decimal256Array = array.as_primitive();
            (0..array.len()).map(|row| present(array, row, || Value::String(array.value_as_string(row)))).collect()
        }
        DataType::Utf8 => texts::<i32>(array),
        DataType::LargeUtf8 => texts::<i64>(array),
        DataType::Utf8View => array.as_string_view().iter().map(text).collect(),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => times::<TimestampSecondType>(array, |value| DateTime::from_timestamp(value, 0)),
            TimeUnit::Millisecond => times::<TimestampMillisecondType>(array, DateTime::from_timestamp_millis),
            TimeUnit::Microsecond => times::<TimestampMicrosecondType>(array, DateTime::from_timestamp_micros),
            TimeUnit::Nanosecond => {
                times::<TimestampNanosecondType>(array, |value| Some(DateTime::from_timestamp_nanos(value)))
            }
        },
        DataType::Date32 => days::<Date32Type>(array, |value| Some(i64::from(value) * 86_400)),
        DataType::Date64 => days::<Date64Type>(array, |value| Some(value.div_euclid(1_000))),
        DataType::List(_) => lists(array.len(), |row| present_value(array, row, || array.as_list::<i32>().value(row)))?,
        DataType::LargeList(_) => {
            lists(array.len(), |row| present_value(array, row, || array.as_list::<i64>().value(row)))?
        }
        DataType::FixedSizeList(..) => {
            lists(array.len(), |row| present_value(array, row, || array.as_fixed_size_list().value(row)))?
        }
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let columns: Vec<Vec<Value>> = array.columns().iter().map(values).collect::<Result<_, _>>()?;
            let names: Vec<&str> = fields.iter().map(|field: &std::sync::Arc<Field>| field.name().as_str()).collect();
            let row = |row: usize| {
                names
                    .iter()
                    .zip(&columns)
                    .map(|(name, column)| ((*name).to_owned(), column[row].clone()))
                    .collect::<Map<_, _>>()
            };
            (0..array.len()).map(|n| present(array, n, || Value::Object(row(n)))).collect()
        }
        DataType::Map(..) => {
            let array = array.as_map();
            let mut maps = Vec::with_capacity(array.len());
            for row in 0..array.len() {
                let entries = array.value(row);
                let (keys, values) = (values(entries.column(0))?, values(entries.column(1))?);
                let pairs = keys
                    .into_iter()
                    .zip(values)
                    .map(|(key, value)| (key.as_str().map_or_else(|| key.to_string(), str::to_owned), value));
                maps.push(present(array, row, || Value::Object(pairs.collect())));
            }
            maps
        }
        DataType::Dictionary(_, to) => values(&arrow::compute::cast(array, to)?)?,
        // Times of day, intervals, bytes as hexadecimal digits.
        _ => {
            let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
            (0..array.len())
                .map(|row| present(array, row, || Value::String(formatter.value(row).to_string())))
                .collect()
        }
    })
}

fn present(array: &dyn Array, row: usize, value: impl FnOnce() -> Value) -> Value {
    if array.is_null(row) { Value::Null } else { value() }
}

fn present_value<T>(array: &dyn Array, row: usize, value: impl FnOnce() -> T) -> Option<T> {
    array.is_valid(row).then(value)
}

fn integers<T: ArrowPrimitiveType>(array: &ArrayRef) -> Vec<Value>
where
    Value: From<T::Native>,
{
    let array: &PrimitiveArray<T> = array.as_primitive();
    array.iter().map(|value| value.map_or(Value::Null, Value::from)).collect()
}

/// JSON has no NaN and no infinities; they become null.
fn float(value: Option<f64>) -> Value {
    value.and_then(serde_json::Number::from_f64).map_or(Value::Null, Value::Number)
}

/// The shortest decimal that reads back as the same single-precision number.
fn single(value: Option<f32>) -> Value {
    float(value.and_then(|value| value.to_string().parse().ok()))
}

fn text(value: Option<&str>) -> Value {
    value.map_or(Value::Null, |text| Value::String(text.to_owned()))
}

fn texts<O: OffsetSizeTrait>(array: &ArrayRef) -> Vec<Value> {
    array.as_string::<O>().iter().map(text).collect()
}

fn times<T: ArrowPrimitiveType<Native = i64>>(
    array: &ArrayRef,
    convert: impl Fn(i64) -> Option<DateTime<Utc>>,
) -> Vec<Value> {
    let array: &PrimitiveArray<T> = array.as_primitive();
    array
        .iter()
        .map(|value| value.and_then(&convert).map_or(Value::Null, |time| Value::String(rfc_3339(time))))
        .collect()
}

/// RFC 3339 in UTC with as many of 3, 6 or 9 digits as the value needs.
fn rfc_3339(time: DateTime<Utc>) -> String {
    let nanos = time.timestamp_subsec_nanos();
    let format = match (nanos % 1_000_000, nanos % 1_000) {
        (0, _) => SecondsFormat::Millis,
        (_, 0) => SecondsFormat::Micros,
        _ => SecondsFormat::Nanos,
    };
    time.to_rfc3339_opts(format, true)
}

fn days<T: ArrowPrimitiveType>(array: &ArrayRef, seconds: impl Fn(T::Native) -> Option<i64>) -> Vec<Value> {
    let array: &PrimitiveArray<T> = array.as_primitive();
    let date = |value| seconds(value).and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    array
        .iter()
        .map(|value| value.and_then(date).map_or(Value::Null, |day| Value::String(day.format("%Y-%m-%d").to_string())))
        .collect()
}

fn lists(count: usize, item: impl Fn(usize) -> Option<ArrayRef>) -> Result<Vec<Value>, ArrowError> {
    (0..count).map(|row| item(row).map_or(Ok(Value::Null), |list| values(&list).map(Value::Array))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BooleanArray, Date32Array, DictionaryArray, Float64Array, Int64Array, ListArray, StringArray, StructArray,
        TimestampMicrosecondArray, UInt64Array,
    };
    use serde_json::json;
    use std::sync::Arc;

    fn check(array: impl Array + 'static, data_type: &str, expected: Value) {
        let array: ArrayRef = Arc::new(array);
        assert_eq!(type_name(array.data_type()), data_type);
        assert_eq!(Value::Array(values(&array).unwrap()), expected);
    }

    #[test]
    fn values_become_json() {
        check(Int64Array::from(vec![Some(i64::MAX), None]), "bigint", json!([i64::MAX, null]));
        check(UInt64Array::from(vec![u64::MAX]), "bigint", json!([u64::MAX]));
        check(Float64Array::from(vec![0.1, f64::NAN, f64::INFINITY]), "double", json!([0.1, null, null]));
        check(BooleanArray::from(vec![Some(true), None]), "boolean", json!([true, null]));
        check(StringArray::from(vec![Some("ä"), None]), "varchar", json!(["ä", null]));
        check(Date32Array::from(vec![Some(20_514), Some(-1), None]), "date", json!(["2026-03-02", "1969-12-31", null]));
        let decimals =
            Decimal128Array::from(vec![Some(-12_345), Some(5), None]).with_precision_and_scale(18, 4).unwrap();
        check(decimals, "decimal(18,4)", json!(["-1.2345", "0.0005", null]));
        let times =
            TimestampMicrosecondArray::from(vec![Some(1_793_588_645_000_000), Some(1_793_588_645_678_901), Some(-1)]);
        check(
            times.with_timezone("UTC"),
            "timestamp",
            json!(["2026-11-02T03:04:05.000Z", "2026-11-02T03:04:05.678901Z", "1969-12-31T23:59:59.999999Z"]),
        );
        let words: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
        check(words, "varchar", json!(["a", null, "a"]));
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None]);
        check(list, "array", json!([[1, null], null]));
        let field = Arc::new(Field::new("n", DataType::Int64, true));
        let row = StructArray::from(vec![(field, Arc::new(Int64Array::from(vec![Some(7), None])) as ArrayRef)]);
        check(row, "row", json!([{"n": 7}, {"n": null}]));
    }
}
