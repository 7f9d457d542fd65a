//! Texts of a column as numbers: each distinct text is kept once.

use sluice_domain::scan::begins_with;

/// The code of a row without a value.
pub(crate) const NULL: u32 = u32::MAX;

/// Distinct texts in the order in which they came, and for each row the number of its text.
///
/// Texts come from outside, so the longest search among equal hashes is bounded: a column that goes beyond it, or whose texts hardly
/// repeat, [is full](Self::is_full) and better kept as it is.
#[derive(Debug, Default)]
pub(crate) struct Words {
    /// For each row the number of its text, or [`NULL`].
    pub(crate) codes: Vec<u32>,
    pub(crate) texts: Texts,
    /// One more than the number of a text, by its hash; 0 where there is none. A power of two of them, at most half of them taken.
    slots: Vec<u32>,
    /// What came last, or [`NULL`].
    last: u32,
    full: bool,
}

/// Texts one after the other.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

/// Distinct texts after which it is asked whether texts repeat.
const FIRST_LOOK: usize = 512;
/// Most texts looked at for one place.
const MAX_SEARCH: usize = 64;

impl Texts {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    #[inline]
    fn start(&self, i: usize) -> usize {
        // Up to 4 GiB, see `push`.
        if i == 0 { 0 } else { self.ends[i - 1] as usize }
    }

    #[inline]
    pub(crate) fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.start(i)..self.ends[i] as usize]
    }

    /// Appends a text; `false` where all of them would be longer than 4 GiB.
    #[inline]
    pub(crate) fn push(&mut self, text: &[u8]) -> bool {
        let Ok(end) = u32::try_from(self.bytes.len() + text.len()) else { return false };
        append(&mut self.bytes, text);
        self.ends.push(end);
        true
    }

    pub(crate) fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.bytes.truncate(self.start(self.ends.len()));
    }
}

impl Words {
    pub(crate) fn new() -> Self {
        Self { last: NULL, ..Self::default() }
    }

    /// The text that came last.
    #[inline]
    pub(crate) fn last(&self) -> Option<&[u8]> {
        (self.last != NULL).then(|| self.texts.get(self.last as usize))
    }

    /// Appends what came last once more.
    #[inline]
    pub(crate) fn push_last(&mut self) {
        self.codes.push(self.last);
    }

    /// Appends a text; one that was not there yet only where `takes` says so. Answers whether it was appended.
    #[inline]
    pub(crate) fn push(&mut self, text: &[u8], takes: impl FnOnce() -> bool) -> bool {
        if self.last().is_some_and(|last| is_same(last, text)) {
            self.codes.push(self.last);
            return true;
        }
        match self.find_or_add(text, takes) {
            Some(code) => {
                self.last = code;
                self.codes.push(code);
                true
            }
            None => false,
        }
    }

    fn find_or_add(&mut self, text: &[u8], takes: impl FnOnce() -> bool) -> Option<u32> {
        if self.texts.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = hash(text) & mask;
        for _ in 0..MAX_SEARCH {
            match self.slots[at] {
                0 => break,
                found if is_same(self.texts.get(found as usize - 1), text) => return Some(found - 1),
                _ => at = (at + 1) & mask,
            }
        }
        if !takes() || !self.texts.push(text) {
            return None;
        }
        let code = u32::try_from(self.texts.len() - 1).ok()?;
        if self.slots[at] == 0 {
            self.slots[at] = code + 1;
        } else {
            self.full = true;
        }
        Some(code)
    }

    fn grow(&mut self) {
        let count = (self.slots.len() * 2).max(32);
        self.slots.clear();
        self.slots.resize(count, 0);
        for code in 0..self.texts.len() {
            let mut at = hash(self.texts.get(code)) & (count - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (count - 1);
            }
            self.slots[at] = u32::try_from(code + 1).unwrap_or(0);
        }
    }

    /// Whether keeping each text once does not pay, or can be made not to.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        let distinct = self.texts.len();
        self.full || (distinct >= FIRST_LOOK && distinct.is_power_of_two() && distinct * 2 > self.codes.len())
    }
}

/// Appends a text. Ids are mostly of 16 or 32 characters, and copying a known number of bytes needs no call.
#[inline]
pub(crate) fn append(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        16 => out.extend_from_slice(text.first_chunk::<16>().unwrap_or(&[0; 16])),
        32 => out.extend_from_slice(text.first_chunk::<32>().unwrap_or(&[0; 32])),
        _ => out.extend_from_slice(text),
    }
}

#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && begins_with(a, b)
}

/// Eight bytes at a time, mixed by folding a product (wyhash, Wang Yi).
#[inline]
fn hash(text: &[u8]) -> usize {
    const MULTIPLIER: u64 = 0xa076_1d64_78bd_642f;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let word = |bytes: &[u8]| bytes.first_chunk::<8>().map_or(0, |chunk| u64::from_le_bytes(*chunk));
    let mut state = text.len() as u64 ^ 0xe703_7ed1_a0b4_28db;
    if text.len() < 8 {
        let mut short = [0; 8];
        short[..text.len()].copy_from_slice(text);
        return fold(state ^ u64::from_le_bytes(short), MULTIPLIER) as usize;
    }
    let mut rest = text;
    while rest.len() > 8 {
        state = fold(state ^ word(rest), MULTIPLIER);
        rest = &rest[8..];
    }
    // The last eight bytes, some of them for the second time.
    fold(state ^ word(&text[text.len() - 8..]), MULTIPLIER) as usize
}
