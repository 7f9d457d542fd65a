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

/// How long those who use most wait after the topic has asked for fewer calls: what is drained meanwhile is room for the others.
const PAUSE_US: i64 = SECOND_US;
/// A key's use counts half after this long.
const HALF_LIFE_US: i64 = 2 * SECOND_US;
/// A key that has asked for nothing for this long is not sending.
const IDLE_US: i64 = 10 * SECOND_US;

/// Fair shares of a topic that takes no more: when it asks for fewer calls, the keys that got more in than the mean of all keys wait a
/// moment, so that one noisy source does not shut out the others. A key alone is never held back here.
#[derive(Debug, Default)]
pub(crate) struct FairShare(Mutex<Shares>);

#[derive(Debug, Default)]
struct Shares {
    pause_until: Option<Timestamp>,
    used: HashMap<String, Use>,
}

/// What a key got in of late.
#[derive(Debug, Clone, Copy)]
struct Use {
    /// Fading with time.
    bytes: f64,
    /// When they were last counted.
    at: Timestamp,
    asked: Timestamp,
}

impl FairShare {
    /// Lets a request in, or says after how many seconds to come again.
    pub(crate) fn admit(&self, key: &str, now: Timestamp) -> Result<(), i64> {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match shares.used.get_mut(key) {
            Some(own) => own.asked = now,
            None => _ = shares.used.insert(key.to_owned(), Use { bytes: 0.0, at: now, asked: now }),
        }
        let pause_until = shares.pause_until;
        match pause_until {
            Some(until) if now < until && shares.is_over(key, now) => {
                Err((until.micros() - now.micros()).div_euclid(SECOND_US) + 1)
            }
            _ => Ok(()),
        }
    }

    /// Counts what got in.
    pub(crate) fn charge(&self, key: &str, bytes: usize, now: Timestamp) {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = shares.used.get_mut(key) {
            (own.bytes, own.at) = (own.at(now) + bytes as f64, now);
        }
    }

    /// The topic has asked for fewer calls.
    pub(crate) fn press(&self, now: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pause_until = Some(now.plus_micros(PAUSE_US));
    }
}

impl Shares {
    fn is_over(&mut self, key: &str, now: Timestamp) -> bool {
        self.used.retain(|_, one| now.micros().saturating_sub(one.asked.micros()) < IDLE_US);
        let own = self.used.get(key).map_or(0.0, |own| own.at(now));
        let mean = self.used.values().map(|one| one.at(now)).sum::<f64>() / self.used.len().max(1) as f64;
        own > mean
    }
}

impl Use {
    /// What is left of it; a clock that goes back takes nothing away.
    fn at(&self, now: Timestamp) -> f64 {
        let elapsed = now.micros().saturating_sub(self.at.micros()).max(0) as f64;
        self.bytes * (-elapsed / HALF_LIFE_US as f64).exp2()
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

    /// Two keys send for a minute, each so many bytes every 10 ms, to a topic that takes `capacity` bytes a second; answers what each got in.
    fn shared(noisy: usize, quiet: usize, capacity: usize) -> [f64; 2] {
        let fair = FairShare::default();
        let (mut got, mut asked, mut room) = ([0usize; 2], [0usize; 2], 0);
        for step in 0..6_000 {
            let now = at(step * 10_000);
            room = (room + capacity / 100).min(capacity);
            // The noisy one is always first.
            for (who, bytes) in [noisy, quiet].into_iter().enumerate() {
                let key = if who == 0 { "noisy" } else { "quiet" };
                asked[who] += bytes;
                if fair.admit(key, now).is_err() {
                    continue;
                }
                if room < bytes {
                    fair.press(now);
                    continue;
                }
                room -= bytes;
                got[who] += bytes;
                fair.charge(key, bytes, now);
            }
        }
        [0, 1].map(|who| got[who] as f64 / asked[who] as f64)
    }

    #[test]
    fn a_noisy_key_does_not_shut_out_a_quiet_one() {
        let [noisy, quiet] = shared(100_000, 1_000, 1_000_000);
        assert!(quiet > 0.95, "{quiet}");
        assert!((0.08..0.1).contains(&noisy), "what is left goes to the noisy one: {noisy}");
    }

    #[test]
    fn two_noisy_keys_get_about_the_same() {
        let [first, second] = shared(50_000, 50_000, 1_000_000);
        assert!((0.6..1.7).contains(&(first / second)), "{first} {second}");
    }

    #[test]
    fn without_pressure_or_company_nobody_is_held_back() {
        let fair = FairShare::default();
        fair.admit("quiet", at(0)).unwrap();
        fair.charge("quiet", 1_000, at(0));
        for step in 0..1_000 {
            fair.admit("noisy", at(step)).unwrap();
            fair.charge("noisy", 1_000_000, at(step));
        }
        fair.press(at(0));
        assert_eq!(fair.admit("noisy", at(1_000)), Err(1));
        fair.admit("quiet", at(1_000)).unwrap();
        fair.admit("new", at(1_000)).unwrap();
        fair.admit("noisy", at(PAUSE_US)).unwrap();
        let alone = FairShare::default();
        alone.press(at(0));
        for step in 0..100 {
            alone.admit("noisy", at(step)).unwrap();
            alone.charge("noisy", 1_000_000, at(step));
        }
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
