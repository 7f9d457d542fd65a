//! The format's hybrid of runs and packed bits
//! (<https://parquet.apache.org/docs/file-format/data-pages/encodings/#RLE>).

/// Shortest run that is worth leaving the packed bits for.
const MIN_RUN: usize = 16;
/// Packed bits come in groups of this many values.
const GROUP: usize = 8;

/// Bits that the numbers up to `greatest` need.
pub(crate) fn width_of(greatest: usize) -> u32 {
    usize::BITS - greatest.leading_zeros()
}

/// Appends numbers of `width` bits each (at most 32).
pub(crate) fn encode<T: Copy + PartialEq + Into<u64>>(out: &mut Vec<u8>, numbers: &[T], width: u32) {
    let (mut at, mut packed_from) = (0, 0);
    while at < numbers.len() {
        let first = numbers[at];
        let run = numbers[at..].iter().take_while(|n| **n == first).count();
        // Packed groups are whole before a run begins: it lends them what is missing.
        let lent = (GROUP - (at - packed_from) % GROUP) % GROUP;
        if run >= lent + MIN_RUN || (at == packed_from && run == numbers.len() - at) {
            let lent = if at == packed_from { 0 } else { lent };
            pack(out, &numbers[packed_from..at + lent], width);
            encode_run(out, first, run - lent, width);
            packed_from = at + run;
        }
        at += run;
    }
    pack(out, &numbers[packed_from..], width);
}

/// Appends one number that comes `count` times.
pub(crate) fn encode_run<T: Into<u64>>(out: &mut Vec<u8>, number: T, count: usize, width: u32) {
    varint(out, (count as u64) << 1);
    let bytes = number.into().to_le_bytes();
    out.extend_from_slice(&bytes[..width.div_ceil(8) as usize]);
}

fn pack<T: Copy + Into<u64>>(out: &mut Vec<u8>, numbers: &[T], width: u32) {
    if numbers.is_empty() {
        return;
    }
    let groups = numbers.len().div_ceil(GROUP);
    varint(out, (groups as u64) << 1 | 1);
    let end = out.len() + groups * width as usize;
    let (mut word, mut bits) = (0u64, 0);
    for number in numbers {
        let number: u64 = (*number).into();
        word |= number << bits;
        bits += width;
        if bits >= 64 {
            out.extend_from_slice(&word.to_le_bytes());
            bits -= 64;
            word = number.checked_shr(width - bits).unwrap_or(0);
        }
    }
    let rest = end - out.len();
    // What is missing in the last group is zeros.
    out.extend_from_slice(&word.to_le_bytes()[..rest.min(8)]);
    out.resize(end, 0);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads as the format's page says, value by value.
    fn decode(mut bytes: &[u8], width: u32, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let (mut header, mut shift) = (0u64, 0);
            loop {
                let byte = bytes[0];
                bytes = &bytes[1..];
                header |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            if header & 1 == 0 {
                let size = width.div_ceil(8) as usize;
                let mut word = [0; 8];
                word[..size].copy_from_slice(&bytes[..size]);
                bytes = &bytes[size..];
                numbers.extend(std::iter::repeat_n(u64::from_le_bytes(word), (header >> 1) as usize));
            } else {
                let groups = (header >> 1) as usize;
                let size = groups * width as usize;
                for i in 0..groups * GROUP {
                    let bit = |b: usize| u64::from(bytes[b / 8] >> (b % 8) & 1);
                    numbers.push((0..width as usize).map(|b| bit(i * width as usize + b) << b).sum());
                }
                bytes = &bytes[size..];
            }
        }
        assert!(bytes.is_empty() && numbers.len() - count < GROUP, "{} for {count}", numbers.len());
        numbers.truncate(count);
        numbers
    }

    proptest! {
        #[test]
        fn numbers_come_back(
            runs in proptest::collection::vec((any::<u32>(), prop_oneof![3 => 1usize..4, 1 => 1usize..90]), 0..60),
            width in 1u32..=32,
        ) {
            let mask = u32::MAX >> (32 - width);
            let numbers: Vec<u32> = runs.iter().flat_map(|(n, count)| std::iter::repeat_n(n & mask, *count)).collect();
            let mut out = Vec::new();
            encode(&mut out, &numbers, width);
            let expected: Vec<u64> = numbers.iter().map(|n| u64::from(*n)).collect();
            prop_assert_eq!(decode(&out, width, numbers.len()), expected);
        }
    }

    #[test]
    fn one_value_for_all_is_one_run() {
        let mut out = Vec::new();
        encode(&mut out, &[1u8; 5_000], 1);
        assert_eq!(out, [0x90, 0x4e, 1]);
        assert_eq!([width_of(0), width_of(1), width_of(2), width_of(255), width_of(256)], [0, 1, 2, 8, 9]);
    }
}
