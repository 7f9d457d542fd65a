//! The order of rows in a file.

use crate::lane::{Lane, Values};
use crate::words::NULL;
use sluice_domain::scan::place;
use std::cmp::Ordering;

/// Rows ascending by the column `sort`, then `time`, `source`, `id`, absent values first, text by its bytes; rows that are equal in all
/// four keep their order.
pub(crate) fn sorted(lanes: &[Lane], sort: Option<usize>, rows: &[u32]) -> Vec<u32> {
    let times: &[i64] = match &lanes[place::TIME].values {
        Values::Whole(times) => times,
        _ => &[],
    };
    let time = |row: u32| times[row as usize];
    let by_identity = |a: u32, b: u32| {
        let by = |lane: usize| lanes[lane].text_of(a as usize).cmp(lanes[lane].text_of(b as usize));
        by(place::SOURCE).then_with(|| by(place::ID)).then(a.cmp(&b))
    };
    let column = sort.map(|index| &lanes[index]);
    let majors = column.map(|lane| Majors::new(lane, rows));
    let major = |row: u32| majors.as_ref().map_or(0, |majors| majors.of(row as usize));
    if let (Some(column), Some(false)) = (column, majors.as_ref().map(Majors::is_exact)) {
        return by_key(rows, major, |a, b| {
            let by_value = compare(column, a as usize, b as usize);
            by_value.then_with(|| time(a).cmp(&time(b))).then_with(|| by_identity(a, b))
        });
    }
    // Mostly both parts fit into one word.
    let (first, last) = rows.iter().fold((i64::MAX, i64::MIN), |(a, b), row| (a.min(time(*row)), b.max(time(*row))));
    let time_bits = u64::BITS - last.wrapping_sub(first).cast_unsigned().leading_zeros();
    let most = majors.as_ref().map_or(0, Majors::most);
    if time_bits < 64 && most <= u128::from(u64::MAX >> time_bits) {
        let key = |row| (major(row) as u64) << time_bits | time(row).wrapping_sub(first).cast_unsigned();
        return by_key(rows, key, by_identity);
    }
    by_key(rows, |row| (major(row), time(row)), by_identity)
}

/// Sorts rows by a key, and where that is equal by `tie`.
fn by_key<K: Ord + Copy>(rows: &[u32], key: impl Fn(u32) -> K, tie: impl Fn(u32, u32) -> Ordering) -> Vec<u32> {
    let mut keys: Vec<(K, u32)> = rows.iter().map(|row| (key(*row), *row)).collect();
    keys.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| tie(a.1, b.1)));
    keys.into_iter().map(|(_, row)| row).collect()
}

/// Makes the first part of a row's key: smaller only where the value is smaller, and 0 where there is none.
struct Majors<'l> {
    lane: &'l Lane,
    /// For each distinct text its place among them in order.
    ranks: Vec<u32>,
}

const PRESENT: u128 = 1 << 127;

impl<'l> Majors<'l> {
    fn new(lane: &'l Lane, rows: &[u32]) -> Self {
        let mut ranks = Vec::new();
        if let Values::Words(words) = &lane.values {
            ranks.resize(words.texts.len(), NULL);
            let mut used: Vec<u32> = Vec::new();
            for row in rows.iter().filter(|row| lane.has(**row as usize)) {
                let code = words.codes[*row as usize];
                if ranks[code as usize] == NULL {
                    ranks[code as usize] = 0;
                    used.push(code);
                }
            }
            used.sort_unstable_by(|a, b| words.texts.get(*a as usize).cmp(words.texts.get(*b as usize)));
            // A text comes after no text.
            for (rank, code) in (1u32..).zip(used) {
                ranks[code as usize] = rank;
            }
        }
        Self { lane, ranks }
    }

    fn of(&self, row: usize) -> u128 {
        if !self.lane.has(row) {
            return 0;
        }
        let signed = |n: i64| u128::from(n.cast_unsigned() ^ (1 << 63));
        let present = if self.most() == u128::MAX { PRESENT } else { 0 };
        present
            | match &self.lane.values {
                Values::Words(words) => u128::from(self.ranks[words.codes[row] as usize]),
                Values::Texts(texts) => {
                    let text = texts.get(row);
                    let mut first = [0; 16];
                    let length = text.len().min(15);
                    first[1..=length].copy_from_slice(&text[..length]);
                    u128::from_be_bytes(first)
                }
                Values::Whole(values) => signed(values[row]),
                Values::Boolean(values) => 1 + u128::from(values[row]),
                Values::Huge(values) => (values[row].cast_unsigned() ^ (1 << 127)) >> 1,
                // The order of floats as integers (`f64::total_cmp`).
                Values::Number(values) => {
                    let bits = values[row].to_bits().cast_signed();
                    signed(bits ^ (((bits >> 63).cast_unsigned() >> 1).cast_signed()))
                }
                // Lists have no order.
                Values::List(_) => 1,
            }
    }

    /// No key is greater.
    fn most(&self) -> u128 {
        match &self.lane.values {
            Values::Words(words) => words.texts.len() as u128,
            Values::Boolean(_) | Values::List(_) => 2,
            _ => u128::MAX,
        }
    }

    /// Whether equal keys mean equal values.
    fn is_exact(&self) -> bool {
        !matches!(self.lane.values, Values::Texts(_) | Values::Huge(_))
    }
}

fn compare(lane: &Lane, a: usize, b: usize) -> Ordering {
    match &lane.values {
        Values::Huge(values) => values[a].cmp(&values[b]),
        _ => lane.text_of(a).cmp(lane.text_of(b)),
    }
}
