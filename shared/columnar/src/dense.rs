//! The values of a column that are there, one after the other, and which of them are the same.

use crate::lane::{Lane, Values};
use crate::rle;
use crate::words::{NULL, Words, append};
use parquet::basic::Type;
use parquet::schema::types::ColumnDescPtr;
use std::cmp::Ordering;
use std::ops::Range;

/// Values without the rows that have none.
pub(crate) enum Dense<'l> {
    /// Each distinct value once, in the order in which they come, and for each value its number.
    Coded { codes: Vec<u32>, distinct: Plain<'l> },
    /// Values that hardly repeat.
    Plain(Plain<'l>),
}

/// Values as they are.
pub(crate) enum Plain<'l> {
    Texts(Vec<&'l [u8]>),
    Whole(Vec<i64>),
    Huge(Vec<i128>),
    Number(Vec<f64>),
    Boolean(Vec<bool>),
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound<'l> {
    Text(&'l [u8]),
    Whole(i64),
    Huge(i128),
    Number(f64),
    Boolean(bool),
}

/// Values after which it is asked whether they repeat.
const FIRST_LOOK: usize = 1024;

impl<'l> Dense<'l> {
    /// The values of rows that have one.
    pub(crate) fn new(lane: &'l Lane, rows: &[u32], repeats: bool) -> Self {
        match &lane.values {
            Values::Words(words) => coded_words(words, rows),
            Values::Texts(texts) => {
                Self::Plain(Plain::Texts(rows.iter().map(|row| texts.get(*row as usize)).collect()))
            }
            Values::Whole(values) => {
                let values = gather(values, rows);
                match coded(&values, repeats, |n| n.cast_unsigned()) {
                    Some((codes, distinct)) => Self::Coded { codes, distinct: Plain::Whole(distinct) },
                    None => Self::Plain(Plain::Whole(values)),
                }
            }
            Values::Number(values) => {
                let values = gather(values, rows);
                match coded(&values, repeats, f64::to_bits) {
                    Some((codes, distinct)) => Self::Coded { codes, distinct: Plain::Number(distinct) },
                    None => Self::Plain(Plain::Number(values)),
                }
            }
            Values::Huge(values) => Self::Plain(Plain::Huge(gather(values, rows))),
            Values::Boolean(values) => Self::Plain(Plain::Boolean(gather(values, rows))),
            // Its elements have a lane of their own.
            Values::List(_) => Self::Plain(Plain::Boolean(Vec::new())),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Coded { codes, .. } => codes.len(),
            Self::Plain(values) => values.len(),
        }
    }

    /// About how many bytes all values take.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Plain(Plain::Texts(texts)) => texts.iter().map(|text| text.len() + 4).sum(),
            _ if self.len() == 0 => 0,
            _ => self.len() * self.value_bytes(0),
        }
    }

    /// About how many bytes a value takes.
    pub(crate) fn value_bytes(&self, i: usize) -> usize {
        match self {
            Self::Coded { .. } => 2,
            Self::Plain(Plain::Texts(texts)) => texts[i].len() + 4,
            Self::Plain(Plain::Boolean(_)) => 1,
            Self::Plain(_) => 8,
        }
    }

    /// Appends some of the values as a data page holds them.
    pub(crate) fn write(&self, out: &mut Vec<u8>, range: Range<usize>, column: &ColumnDescPtr) {
        match self {
            Self::Coded { codes, distinct } => {
                let width = rle::width_of(distinct.len().saturating_sub(1)).max(1);
                out.push(u8::try_from(width).unwrap_or(32));
                rle::encode(out, &codes[range], width);
            }
            Self::Plain(values) => values.write(out, range, column),
        }
    }

    /// The least and the greatest of some of the values; nothing of none.
    pub(crate) fn bounds(&self, range: Range<usize>) -> Option<(Bound<'l>, Bound<'l>)> {
        match self {
            Self::Coded { codes, distinct } if range.len() == codes.len() => distinct.bounds(0..distinct.len()),
            Self::Coded { codes, distinct } => {
                let mut seen = vec![false; distinct.len()];
                codes[range].iter().for_each(|code| seen[*code as usize] = true);
                let seen = seen.iter().enumerate().filter(|(_, seen)| **seen);
                least_and_greatest(seen.map(|(i, _)| distinct.get(i)))
            }
            Self::Plain(values) => values.bounds(range),
        }
    }
}

impl<'l> Plain<'l> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Texts(v) => v.len(),
            Self::Whole(v) => v.len(),
            Self::Huge(v) => v.len(),
            Self::Number(v) => v.len(),
            Self::Boolean(v) => v.len(),
        }
    }

    pub(crate) fn get(&self, i: usize) -> Bound<'l> {
        match self {
            Self::Texts(v) => Bound::Text(v[i]),
            Self::Whole(v) => Bound::Whole(v[i]),
            Self::Huge(v) => Bound::Huge(v[i]),
            Self::Number(v) => Bound::Number(v[i]),
            Self::Boolean(v) => Bound::Boolean(v[i]),
        }
    }

    fn bounds(&self, range: Range<usize>) -> Option<(Bound<'l>, Bound<'l>)> {
        match self {
            // The others are few, or compare as fast as they are told apart.
            Self::Whole(v) => {
                let (least, greatest) = v[range].iter().fold((i64::MAX, i64::MIN), |(a, b), n| (a.min(*n), b.max(*n)));
                (least <= greatest).then_some((Bound::Whole(least), Bound::Whole(greatest)))
            }
            _ => least_and_greatest(range.map(|i| self.get(i))),
        }
    }

    /// Appends some of the values in the encoding `PLAIN`.
    pub(crate) fn write(&self, out: &mut Vec<u8>, range: Range<usize>, column: &ColumnDescPtr) {
        match self {
            Self::Texts(v) => {
                let texts = &v[range];
                out.reserve(texts.iter().map(|text| text.len() + 4).sum());
                for text in texts {
                    // Lanes hold less than 4 GiB.
                    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    append(out, text);
                }
            }
            Self::Boolean(v) => {
                let bits = |chunk: &[bool]| chunk.iter().rev().fold(0u8, |bits, b| bits << 1 | u8::from(*b));
                out.extend(v[range].chunks(8).map(bits));
            }
            Self::Whole(v) if column.physical_type() == Type::INT64 => {
                out.reserve(range.len() * 8);
                v[range].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
            }
            Self::Number(v) => {
                out.reserve(range.len() * 8);
                v[range].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
            }
            _ => range.for_each(|i| self.get(i).write(out, column)),
        }
    }
}

impl Bound<'_> {
    /// Appends the value in the encoding `PLAIN`, a text without its length.
    pub(crate) fn write(self, out: &mut Vec<u8>, column: &ColumnDescPtr) {
        match self {
            Self::Text(text) => out.extend_from_slice(text),
            // The column's type has room for its values.
            Self::Whole(n) if column.physical_type() == Type::INT32 => out.extend_from_slice(&(n as i32).to_le_bytes()),
            Self::Whole(n) => out.extend_from_slice(&n.to_le_bytes()),
            Self::Huge(n) => {
                let length = usize::try_from(column.type_length()).unwrap_or(16).min(16);
                out.extend_from_slice(&n.to_be_bytes()[16 - length..]);
            }
            Self::Number(n) => out.extend_from_slice(&n.to_le_bytes()),
            Self::Boolean(b) => out.push(u8::from(b)),
        }
    }

    /// The order of the column's type.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Whole(a), Self::Whole(b)) => a.cmp(b),
            (Self::Huge(a), Self::Huge(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            _ => Ordering::Equal,
        }
    }
}

fn least_and_greatest<'l>(mut values: impl Iterator<Item = Bound<'l>>) -> Option<(Bound<'l>, Bound<'l>)> {
    let first = values.next()?;
    Some(values.fold((first, first), |(least, greatest), value| {
        let least = if value.order(&least) == Ordering::Less { value } else { least };
        let greatest = if value.order(&greatest) == Ordering::Greater { value } else { greatest };
        (least, greatest)
    }))
}

fn gather<T: Copy>(values: &[T], rows: &[u32]) -> Vec<T> {
    rows.iter().map(|row| values[*row as usize]).collect()
}

/// Texts that a lane keeps once are numbered anew, by the rows that are left and their order.
fn coded_words<'l>(words: &'l Words, rows: &[u32]) -> Dense<'l> {
    let mut numbers = vec![NULL; words.texts.len()];
    let (mut distinct, mut distinct_bytes) = (Vec::new(), 0);
    let codes: Vec<u32> = rows
        .iter()
        .map(|row| {
            let number = &mut numbers[words.codes[*row as usize] as usize];
            if *number == NULL {
                *number = distinct.len() as u32;
                let text = words.texts.get(words.codes[*row as usize] as usize);
                distinct_bytes += text.len() + 4;
                distinct.push(text);
            }
            *number
        })
        .collect();
    // A dictionary costs its texts once and a number for each row.
    if distinct.len() * 4 > codes.len() || distinct_bytes > DICTIONARY_BYTES {
        let bytes: usize = codes.iter().map(|code| distinct[*code as usize].len() + 4).sum();
        let width = rle::width_of(distinct.len()) as usize;
        if distinct_bytes > DICTIONARY_BYTES || distinct_bytes + codes.len() * width / 8 > bytes * 3 / 4 {
            return Dense::Plain(Plain::Texts(codes.iter().map(|code| distinct[*code as usize]).collect()));
        }
    }
    Dense::Coded { codes, distinct: Plain::Texts(distinct) }
}

/// A dictionary larger than this is not worth it.
const DICTIONARY_BYTES: usize = 1 << 20;

/// Numbers each distinct value in the order in which they come; nothing where they hardly repeat.
fn coded<T: Copy>(values: &[T], repeats: bool, bits: impl Fn(T) -> u64) -> Option<(Vec<u32>, Vec<T>)> {
    let first = *values.first()?;
    if values.iter().all(|value| bits(*value) == bits(first)) {
        return Some((vec![0; values.len()], vec![first]));
    }
    if !repeats {
        return None;
    }
    let capacity = (values.len() + 1).next_power_of_two().max(64);
    // One more than the number of a value, by its hash; 0 where there is none.
    let mut slots = vec![0u32; capacity];
    let shift = 64 - capacity.trailing_zeros();
    let mut distinct: Vec<T> = Vec::new();
    let mut codes = Vec::with_capacity(values.len());
    let mut last: Option<(u64, u32)> = None;
    for (i, value) in values.iter().enumerate() {
        let key = bits(*value);
        if let Some((same, code)) = last
            && same == key
        {
            codes.push(code);
            continue;
        }
        let mut at = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize;
        let code = loop {
            match slots[at] {
                0 => {
                    distinct.push(*value);
                    slots[at] = distinct.len() as u32;
                    // A search never ends where no place is free, and is long where few are.
                    if distinct.len() * 2 > values.len().max(64) || (i == FIRST_LOOK && distinct.len() * 20 > i * 19) {
                        return None;
                    }
                    break distinct.len() as u32 - 1;
                }
                found if bits(distinct[found as usize - 1]) == key => break found - 1,
                _ => at = (at + 1) & (capacity - 1),
            }
        };
        last = Some((key, code));
        codes.push(code);
    }
    let width = rle::width_of(distinct.len()) as usize;
    (distinct.len() * 8 + values.len() * width / 8 < values.len() * 6).then_some((codes, distinct))
}
