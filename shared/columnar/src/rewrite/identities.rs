//! Which rows are repeated.

use super::source::Batch;
use parquet::errors::{ParquetError, Result};
use sluice_domain::scan::place;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

/// Finds rows of the same identity, so many at once as its passes allow.
pub(super) struct Identities {
    /// Drawn anew each time: whoever writes ids cannot make two of them meet.
    keys: [RandomState; 2],
    passes: u32,
    pass: u32,
    seen: Vec<Seen>,
    /// By file, a bit for each row that is repeated by another.
    repeated: HashMap<u32, Vec<u64>>,
}

/// In the order in which the first of equal identities is the one that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    identity: u128,
    received: i64,
    file: u32,
    row: u32,
}

impl Identities {
    pub(super) fn new(passes: u32) -> Self {
        let keys = [RandomState::new(), RandomState::new()];
        Self { keys, passes, pass: 0, seen: Vec::new(), repeated: HashMap::new() }
    }

    pub(super) fn passes(&self) -> u32 {
        self.passes
    }

    /// Looks at a row of a file, which has this number.
    #[inline]
    pub(super) fn add(&mut self, file: u32, row: u64, batch: &Batch, at: usize) -> Result<()> {
        let (source, id) = (batch.text(place::SOURCE, at), batch.text(place::ID, at));
        let (time, received) = (batch.micros(place::TIME, at), batch.micros(place::RECEIVED, at));
        let (Some(source), Some(id), Some(time)) = (source, id, time) else {
            return Err(ParquetError::General(format!("row {row} has no `source`, `id` or `time`")));
        };
        let hash = |keys: &RandomState| keys.hash_one((source, id, time));
        let low = hash(&self.keys[0]);
        if low % u64::from(self.passes) != u64::from(self.pass) {
            return Ok(());
        }
        let row = u32::try_from(row)
            .map_err(|_| ParquetError::General("a file has more rows than can be numbered".into()))?;
        let identity = u128::from(hash(&self.keys[1])) << 64 | u128::from(low);
        self.seen.push(Seen { identity, received: received.unwrap_or(i64::MAX), file, row });
        Ok(())
    }

    pub(super) fn end_pass(&mut self) {
        self.pass += 1;
        self.seen.sort_unstable();
        for pair in self.seen.windows(2) {
            if pair[0].identity == pair[1].identity {
                let bits = self.repeated.entry(pair[1].file).or_default();
                let (word, bit) = (pair[1].row as usize / 64, pair[1].row % 64);
                if bits.len() <= word {
                    bits.resize(word + 1, 0);
                }
                bits[word] |= 1 << bit;
            }
        }
        self.seen.clear();
        if self.pass == self.passes {
            self.seen = Vec::new();
        }
    }

    pub(super) fn is_repeated(&self, file: u32, row: u64) -> bool {
        let Some(bits) = self.repeated.get(&file) else { return false };
        let word = usize::try_from(row / 64).ok().and_then(|word| bits.get(word));
        word.is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    pub(super) fn repeated(&self, file: u32) -> u64 {
        let bits = self.repeated.get(&file);
        bits.map_or(0, |bits| bits.iter().map(|word| u64::from(word.count_ones())).sum())
    }
}
