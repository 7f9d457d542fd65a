//! When a message that a stage gave back comes again.

use crate::identity;
use std::time::Duration;

/// The longest pause after the first delivery.
pub const FIRST: Duration = Duration::from_secs(2);
/// The longest pause at all.
pub const LONGEST: Duration = Duration::from_mins(15);

/// The pause before the next delivery of a message that was delivered `receive_count` times, from 1: [`FIRST`], doubled with each delivery
/// up to [`LONGEST`], and of that between half and all, by message and delivery, so that what failed together does not come again at once.
///
/// A message waits at most about twice as long as it has been failing and never longer than [`LONGEST`], so what came during a short fault is
/// worked off soon after its end, and what comes after it is not held up. All the same a queue's `maxReceiveCount` spans hours: 24
/// deliveries take two to four.
pub fn pause(receive_count: u32, message_id: &str) -> Duration {
    let doublings = receive_count.saturating_sub(1).min(16);
    let whole = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let hash = identity::digest(&[message_id.as_bytes(), &receive_count.to_le_bytes()]);
    whole / 2 + whole.mul_f64(f64::from(u16::from_le_bytes([hash[0], hash[1]])) / 65_536.0 / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_the_longest() {
        for (receive_count, whole_s) in
            [(0, 2), (1, 2), (2, 4), (3, 8), (9, 512), (10, 900), (11, 900), (u32::MAX, 900)]
        {
            for id in 0..100 {
                let pause = pause(receive_count, &id.to_string());
                let whole = Duration::from_secs(whole_s);
                assert!(pause >= whole / 2 && pause < whole, "{receive_count}: {pause:?}");
            }
        }
    }

    #[test]
    fn messages_that_failed_together_come_again_apart() {
        let pauses: std::collections::BTreeSet<Duration> = (0..100).map(|id| pause(10, &id.to_string())).collect();
        assert!(pauses.len() > 90);
        let spread = *pauses.last().unwrap() - *pauses.first().unwrap();
        assert!(spread > LONGEST / 3, "{spread:?}");
        assert_eq!(pause(3, "a"), pause(3, "a"));
        assert_ne!(pause(10, "a"), pause(11, "a"), "who is early once need not be early again");
    }
}
