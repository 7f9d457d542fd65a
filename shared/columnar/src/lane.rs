//! One column being filled.

use crate::schema::{element_field, timestamp_type};
use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, ListArray, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::FieldRef;
use arrow::error::ArrowError;
use sluice_domain::schema::{Cell, ColumnKind};
use std::sync::Arc;

/// A column being filled. Rows that were not named are null, and cost nothing until a value follows them.
pub(crate) struct Lane {
    values: Values,
    rows: usize,
}

enum Values {
    Text(StringBuilder),
    Integer(Int64Builder),
    Number(Float64Builder),
    Decimal(Decimal128Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Date(Date32Builder),
    Boolean(BooleanBuilder),
    List(Box<Lists>),
}

struct Lists {
    field: FieldRef,
    /// Ends of the lists so far, beginning with a 0.
    offsets: Vec<i32>,
    present: Vec<bool>,
    elements: Lane,
}

impl Lane {
    /// A lane for a column's kind; `id` is its field id.
    pub(crate) fn new(kind: &ColumnKind, id: i32) -> Result<Self, ArrowError> {
        let values = match kind {
            ColumnKind::Integer => Values::Integer(Int64Builder::new()),
            ColumnKind::Number => Values::Number(Float64Builder::new()),
            ColumnKind::Decimal { precision, scale } => {
                Values::Decimal(Decimal128Builder::new().with_precision_and_scale(*precision, scale.cast_signed())?)
            }
            ColumnKind::Text | ColumnKind::Json => Values::Text(StringBuilder::new()),
            ColumnKind::Timestamp => {
                Values::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(timestamp_type()))
            }
            ColumnKind::Date => Values::Date(Date32Builder::new()),
            ColumnKind::Boolean => Values::Boolean(BooleanBuilder::new()),
            ColumnKind::List(element) => {
                let field = element_field(element, id);
                let elements = Self::new(element, id)?;
                Values::List(Box::new(Lists { field, offsets: vec![0], present: Vec::new(), elements }))
            }
        };
        Ok(Self { values, rows: 0 })
    }

    /// Sets the value of a row, which comes after all rows set so far. An error means that the cell is of another kind than the lane,
    /// which reading by the same schema cannot give.
    pub(crate) fn set(&mut self, row: usize, cell: &Cell<'_>) -> Result<(), ArrowError> {
        if let Cell::Null = cell {
            return Ok(());
        }
        self.fill_to(row);
        self.rows = row + 1;
        match (&mut self.values, cell) {
            (Values::Text(b), Cell::Text(v) | Cell::Json(v)) => b.append_value(v),
            (Values::Integer(b), Cell::Integer(v)) => b.append_value(*v),
            (Values::Number(b), Cell::Number(v)) => b.append_value(*v),
            (Values::Decimal(b), Cell::Decimal(v)) => b.append_value(*v),
            (Values::Timestamp(b), Cell::Timestamp(v)) => b.append_value(*v),
            (Values::Date(b), Cell::Date(v)) => b.append_value(*v),
            (Values::Boolean(b), Cell::Boolean(v)) => b.append_value(*v),
            (Values::List(lists), Cell::List(cells)) => {
                let start = lists.end();
                for (i, cell) in cells.iter().enumerate() {
                    lists.elements.set(start + i, cell)?;
                }
                lists.close(start + cells.len())?;
            }
            _ => return Err(ArrowError::SchemaError("a value of another kind than its column".into())),
        }
        Ok(())
    }

    /// Makes all rows before `row` that were not set null.
    fn fill_to(&mut self, row: usize) {
        let missing = row.saturating_sub(self.rows);
        if missing == 0 {
            return;
        }
        self.rows = row;
        match &mut self.values {
            Values::Text(b) => b.append_nulls(missing),
            Values::Integer(b) => b.append_nulls(missing),
            Values::Number(b) => b.append_nulls(missing),
            Values::Decimal(b) => b.append_nulls(missing),
            Values::Timestamp(b) => b.append_nulls(missing),
            Values::Date(b) => b.append_nulls(missing),
            Values::Boolean(b) => b.append_nulls(missing),
            Values::List(lists) => lists.skip(missing),
        }
    }

    /// The column of the first `rows` rows; the lane is empty after it.
    pub(crate) fn finish(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.fill_to(rows);
        self.rows = 0;
        Ok(match &mut self.values {
            Values::Text(b) => Arc::new(b.finish()),
            Values::Integer(b) => Arc::new(b.finish()),
            Values::Number(b) => Arc::new(b.finish()),
            Values::Decimal(b) => Arc::new(b.finish()),
            Values::Timestamp(b) => Arc::new(b.finish()),
            Values::Date(b) => Arc::new(b.finish()),
            Values::Boolean(b) => Arc::new(b.finish()),
            Values::List(lists) => Arc::new(lists.finish()?),
        })
    }
}

impl Lists {
    fn end(&self) -> usize {
        // Offsets are never negative.
        self.offsets.last().map_or(0, |end| usize::try_from(*end).unwrap_or_default())
    }

    fn close(&mut self, end: usize) -> Result<(), ArrowError> {
        let end = i32::try_from(end).map_err(|_| ArrowError::OffsetOverflowError(end))?;
        self.offsets.push(end);
        self.present.push(true);
        Ok(())
    }

    fn skip(&mut self, lists: usize) {
        let end = self.offsets.last().copied().unwrap_or_default();
        self.offsets.resize(self.offsets.len() + lists, end);
        self.present.resize(self.present.len() + lists, false);
    }

    fn finish(&mut self) -> Result<ListArray, ArrowError> {
        let elements = self.elements.finish(self.end())?;
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let present = std::mem::take(&mut self.present);
        ListArray::try_new(
            Arc::clone(&self.field),
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            elements,
            Some(NullBuffer::from(present)),
        )
    }
}
