//! Limits per key, in the memory of one process: what a limit says holds for each function environment by itself.

use sluice_domain::time::{SECOND_US, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A key that was quiet may send this many seconds' worth at once.
const BURST_S: i64 = 10;

/// Events per second and key: a token bucket. A request is let in while there are tokens and pays for its events afterwards, so that a
/// request larger than the bucket is possible, and followed by a longer wait.
#[derive(Debug, Default)]
pub(crate) struct Rate(Mutex<HashMap<String, Bucket>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Millionths of an event; below 0 for a debt.
    tokens: i64,
    at: Timestamp,
}

impl Rate {
    /// Lets a request in, or says after how many seconds to come again.
    pub(crate) fn admit(&self, key: &str, rate_per_s: Option<u32>, now: Timestamp) -> Result<(), i64> {
        let Some(rate) = rate_per_s.map(i64::from) else { return Ok(()) };
        let full = rate * BURST_S * SECOND_US;
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket { tokens: full, at: now });
        let elapsed_us = (now.micros() - bucket.at.micros()).max(0);
        bucket.tokens = bucket.tokens.saturating_add(elapsed_us.saturating_mul(rate)).min(full);
        bucket.at = now;
        if bucket.tokens >= SECOND_US {
            return Ok(());
        }
        let missing_us = (SECOND_US - bucket.tokens).div_euclid(rate) + 1;
        Err(missing_us.div_euclid(SECOND_US) + 1)
    }

    /// Takes what a request that was let in has used.
    pub(crate) fn charge(&self, key: &str, events: usize) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(key) {
            let used = i64::try_from(events).unwrap_or(i64::MAX).saturating_mul(SECOND_US);
            bucket.tokens = bucket.tokens.saturating_sub(used);
        }
    }
}

/// How often a thing is done per key and hour of receive time.
#[derive(Debug, Default)]
pub(crate) struct Allowance(Mutex<HashMap<String, (i64, u32)>>);

impl Allowance {
    /// How many of `wanted` may be done.
    pub(crate) fn take(&self, key: &str, per_hour: u32, wanted: usize, now: Timestamp) -> usize {
        let hour = now.epoch_hour();
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of_hour, count) = taken.entry(key.to_owned()).or_insert((hour, 0));
        if *of_hour != hour {
            (*of_hour, *count) = (hour, 0);
        }
        let granted = per_hour.saturating_sub(*count).min(u32::try_from(wanted).unwrap_or(u32::MAX));
        *count += granted;
        granted as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: i64) -> Timestamp {
        Timestamp::from_micros(1_795_255_200_000_000 + us).unwrap()
    }

    #[test]
    fn a_key_without_a_rate_is_never_held_back() {
        let rate = Rate::default();
        for _ in 0..1_000 {
            rate.admit("k", None, at(0)).unwrap();
            rate.charge("k", 1_000);
        }
    }

    #[test]
    fn tokens_come_back_with_time_and_the_wait_that_is_named_is_enough() {
        let rate = Rate::default();
        rate.admit("k", Some(5), at(0)).unwrap();
        rate.charge("k", 150);
        let wait_s = rate.admit("k", Some(5), at(0)).unwrap_err();
        assert!((20..=21).contains(&wait_s), "{wait_s}");
        assert!(rate.admit("k", Some(5), at((wait_s - 2) * SECOND_US)).is_err());
        rate.admit("k", Some(5), at(wait_s * SECOND_US)).unwrap();
        rate.admit("another", Some(5), at(0)).unwrap();
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_tokens() {
        let rate = Rate::default();
        rate.admit("k", Some(1), at(0)).unwrap();
        rate.charge("k", 10);
        assert!(rate.admit("k", Some(1), at(-100 * SECOND_US)).is_err());
    }

    #[test]
    fn a_quiet_key_saves_up_a_burst_and_no_more() {
        let rate = Rate::default();
        rate.admit("k", Some(1), at(0)).unwrap();
        rate.admit("k", Some(1), at(1_000_000 * SECOND_US)).unwrap();
        rate.charge("k", BURST_S as usize);
        assert!(rate.admit("k", Some(1), at(1_000_000 * SECOND_US)).is_err());
    }

    #[test]
    fn an_allowance_is_per_key_and_hour() {
        let allowance = Allowance::default();
        assert_eq!(allowance.take("a", 5, 3, at(0)), 3);
        assert_eq!(allowance.take("a", 5, 3, at(0)), 2);
        assert_eq!(allowance.take("a", 5, 3, at(0)), 0);
        assert_eq!(allowance.take("b", 5, 3, at(0)), 3);
        assert_eq!(allowance.take("a", 5, 3, at(3_600 * SECOND_US)), 3);
    }
}
