//! The order of rows in a file.

use crate::lane::{Lane, Values};
use crate::words::NULL;
use sluice_domain::scan::place;

/// A row and what it is sorted by first.
struct Key {
    /// Smaller only where the value is smaller; 0 where there is none.
    major: u128,
    time: i64,
    row: u32,
}

/// Rows ascending by the column `sort`, then `time`, `source`, `id`, absent values first, text by its bytes; rows that are equal in all
/// four keep their order.
pub(crate) fn sorted(lanes: &[Lane], sort: Option<usize>, rows: &[u32]) -> Vec<u32> {
    let column = sort.map(|index| &lanes[index]);
    let times: &[i64] = match &lanes[place::TIME].values {
        Values::Whole(times) => times,
        _ => &[],
    };
    let majors = column.map(|lane| Majors::new(lane, rows));
    let mut keys: Vec<Key> = rows
        .iter()
        .map(|row| Key {
            major: majors.as_ref().map_or(0, |majors| majors.of(*row as usize)),
            time: times[*row as usize],
            row: *row,
        })
        .collect();
    let is_exact = majors.as_ref().is_none_or(Majors::is_exact);
    let text = |lane: usize, key: &Key| lanes[lane].text_of(key.row as usize);
    keys.sort_unstable_by(|a, b| {
        let by_value = || match column {
            Some(column) if !is_exact => compare(column, a.row as usize, b.row as usize),
            _ => std::cmp::Ordering::Equal,
        };
        let by_identity = || {
            let by = |lane| text(lane, a).cmp(text(lane, b));
            by(place::SOURCE).then_with(|| by(place::ID)).then(a.row.cmp(&b.row))
        };
        a.major.cmp(&b.major).then_with(by_value).then(a.time.cmp(&b.time)).then_with(by_identity)
    });
    keys.into_iter().map(|key| key.row).collect()
}

/// Makes the first part of the key.
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
            for (rank, code) in (0u32..).zip(used) {
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
        PRESENT
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
                Values::Boolean(values) => u128::from(values[row]),
                Values::Huge(values) => (values[row].cast_unsigned() ^ (1 << 127)) >> 1,
                // The order of floats as integers (`f64::total_cmp`).
                Values::Number(values) => {
                    let bits = values[row].to_bits().cast_signed();
                    signed(bits ^ (((bits >> 63).cast_unsigned() >> 1).cast_signed()))
                }
                // Lists have no order.
                Values::List(_) => 0,
            }
    }

    /// Whether equal keys mean equal values.
    fn is_exact(&self) -> bool {
        !matches!(self.lane.values, Values::Texts(_) | Values::Huge(_))
    }
}

fn compare(lane: &Lane, a: usize, b: usize) -> std::cmp::Ordering {
    match &lane.values {
        Values::Huge(values) => values[a].cmp(&values[b]),
        _ => lane.text_of(a).cmp(lane.text_of(b)),
    }
}
