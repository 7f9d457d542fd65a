//! The least and the greatest values of a column chunk and of its pages.

use crate::dense::Bound;
use parquet::basic::{BoundaryOrder, Type};
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::Result;
use parquet::file::metadata::ColumnIndexBuilder;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::{Statistics as ParquetStatistics, ValueStatistics};
use parquet::schema::types::ColumnDescPtr;
use std::cmp::Ordering;

/// Bytes of a text in statistics, as in the Parquet crate.
const TEXT_BYTES: usize = 64;

/// Takes the bounds of page after page.
pub(crate) struct Statistics<'c, 'l> {
    column: &'c ColumnDescPtr,
    /// Nothing where pages do not say their bounds.
    index: Option<ColumnIndexBuilder>,
    chunk: Option<(Bound<'l>, Bound<'l>)>,
    last: Option<(Bound<'l>, Bound<'l>)>,
    ascending: bool,
    descending: bool,
    nulls: u64,
}

impl<'c, 'l> Statistics<'c, 'l> {
    pub(crate) fn new(column: &'c ColumnDescPtr, is_indexed: bool) -> Self {
        let index = is_indexed.then(|| ColumnIndexBuilder::new(column.physical_type()));
        Self { column, index, chunk: None, last: None, ascending: true, descending: true, nulls: 0 }
    }

    /// The next page: its bounds, if it has a value, and how many nulls it has.
    pub(crate) fn add_page(&mut self, bounds: Option<(Bound<'l>, Bound<'l>)>, nulls: usize) -> Result<()> {
        let (column, nulls) = (self.column, nulls as u64);
        self.nulls += nulls;
        let (mut least, mut greatest) = (Vec::new(), Vec::new());
        if let Some((low, high)) = bounds {
            (least, greatest) = (least_of(low, column).0, greatest_of(high, column).0);
            if let Some((last_low, last_high)) = self.last {
                self.ascending &=
                    last_low.order(&low) != Ordering::Greater && last_high.order(&high) != Ordering::Greater;
                self.descending &= last_low.order(&low) != Ordering::Less && last_high.order(&high) != Ordering::Less;
            }
            self.last = bounds;
            self.chunk = Some(match self.chunk {
                None => (low, high),
                Some((a, b)) => (
                    if low.order(&a) == Ordering::Less { low } else { a },
                    if high.order(&b) == Ordering::Greater { high } else { b },
                ),
            });
        }
        if let Some(index) = &mut self.index {
            index.append(bounds.is_none(), least, greatest, i64::try_from(nulls)?);
        }
        Ok(())
    }

    /// What the chunk says, and what its pages say.
    pub(crate) fn finish(self) -> Result<(ParquetStatistics, Option<ColumnIndexMetaData>)> {
        let index = match self.index {
            Some(mut index) => {
                index.set_boundary_order(match (self.ascending, self.descending) {
                    (true, _) => BoundaryOrder::ASCENDING,
                    (_, true) => BoundaryOrder::DESCENDING,
                    _ => BoundaryOrder::UNORDERED,
                });
                Some(index.build()?)
            }
            None => None,
        };
        Ok((statistics(self.column, self.chunk, self.nulls), index))
    }
}

fn statistics(column: &ColumnDescPtr, bounds: Option<(Bound<'_>, Bound<'_>)>, nulls: u64) -> ParquetStatistics {
    let nulls = Some(nulls);
    let whole = |bound: Bound<'_>| if let Bound::Whole(n) = bound { Some(n) } else { None };
    let (least, greatest) = (bounds.map(|b| b.0), bounds.map(|b| b.1));
    match column.physical_type() {
        Type::BOOLEAN => {
            let value = |b: Option<Bound<'_>>| if let Some(Bound::Boolean(b)) = b { Some(b) } else { None };
            ParquetStatistics::boolean(value(least), value(greatest), None, nulls, false)
        }
        Type::INT32 => {
            let value = |b: Option<Bound<'_>>| b.and_then(whole).and_then(|n| i32::try_from(n).ok());
            ParquetStatistics::int32(value(least), value(greatest), None, nulls, false)
        }
        Type::INT64 => ParquetStatistics::int64(least.and_then(whole), greatest.and_then(whole), None, nulls, false),
        Type::DOUBLE => {
            let value = |b: Option<Bound<'_>>| if let Some(Bound::Number(n)) = b { Some(n) } else { None };
            // Readers need not tell the zeros apart, so each bound is the outer one of them (parquet.thrift, ColumnOrder).
            let outer = |n: Option<f64>, zero: f64| n.map(|n| if n == 0.0 { zero } else { n });
            let (least, greatest) = (outer(value(least), -0.0), outer(value(greatest), 0.0));
            ParquetStatistics::double(least, greatest, None, nulls, false)
        }
        Type::FIXED_LEN_BYTE_ARRAY => {
            let value = |bound: Option<Bound<'_>>| {
                bound.map(|bound| {
                    let mut bytes = Vec::new();
                    bound.write(&mut bytes, column);
                    FixedLenByteArray::from(ByteArray::from(bytes))
                })
            };
            ParquetStatistics::fixed_len_byte_array(value(least), value(greatest), None, nulls, false)
        }
        _ => {
            let (least, greatest) = (least.map(|b| least_of(b, column)), greatest.map(|b| greatest_of(b, column)));
            let (low_exact, high_exact) = (least.as_ref().is_some_and(|b| b.1), greatest.as_ref().is_some_and(|b| b.1));
            let value = |bound: Option<(Vec<u8>, bool)>| bound.map(|(bytes, _)| ByteArray::from(bytes));
            let values = ValueStatistics::new(value(least), value(greatest), None, nulls, false);
            ParquetStatistics::ByteArray(values.with_min_is_exact(low_exact).with_max_is_exact(high_exact))
        }
    }
}

/// A value as statistics hold it, cut where it is a long text, and whether it is whole.
fn least_of(bound: Bound<'_>, column: &ColumnDescPtr) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    match bound {
        Bound::Text(text) if text.len() > TEXT_BYTES => return (first_characters(text).to_vec(), false),
        // See `statistics`.
        Bound::Number(0.0) => Bound::Number(-0.0).write(&mut bytes, column),
        _ => bound.write(&mut bytes, column),
    }
    (bytes, true)
}

/// As [`least_of`], but not below the value.
fn greatest_of(bound: Bound<'_>, column: &ColumnDescPtr) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    match bound {
        Bound::Text(text) if text.len() > TEXT_BYTES => match next_text(first_characters(text)) {
            Some(next) => return (next, false),
            None => bytes.extend_from_slice(text),
        },
        Bound::Number(0.0) => Bound::Number(0.0).write(&mut bytes, column),
        _ => bound.write(&mut bytes, column),
    }
    (bytes, true)
}

/// The characters that fit.
fn first_characters(text: &[u8]) -> &[u8] {
    let mut end = TEXT_BYTES;
    while end > 0 && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &text[..end]
}

/// The least text of the same length or shorter that is greater than all that begin with this one.
fn next_text(text: &[u8]) -> Option<Vec<u8>> {
    let mut characters: Vec<char> = std::str::from_utf8(text).ok()?.chars().collect();
    while let Some(last) = characters.pop() {
        let next = char::from_u32(u32::from(last) + 1);
        if let Some(next) = next.filter(|next| next.len_utf8() == last.len_utf8()) {
            characters.push(next);
            return Some(characters.into_iter().collect::<String>().into_bytes());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_so_that_they_stay_bounds() {
        let long = |tail: &str| format!("{}{tail}", "가".repeat(21));
        assert_eq!(first_characters(long("나다").as_bytes()), long("").as_bytes(), "no half characters");
        for text in [long("zz"), "z".repeat(100), format!("{}\u{7f}\u{7f}", "a".repeat(62)) + "x", long("\u{10ffff}")] {
            let next = next_text(first_characters(text.as_bytes())).unwrap();
            assert!(next.as_slice() > text.as_bytes() && next.len() <= TEXT_BYTES, "{text}");
        }
        assert_eq!(next_text("\u{10ffff}".as_bytes()), None);
    }
}
