//! Square-Blitz: the timings of the game, and which plays cannot have been.
//!
//! Whoever plays has the page in hand and may send what they like. What the server can hold against the timings it does; a play that cannot
//! have been keeps its numbers and says why it is doubted.
//!
//! Source of the timings: the specification of the web application, page *Play*.

/// Source of the game's events; what other games send is not judged by these timings.
pub const SOURCE: &str = "square-blitz";
/// Squares of a whole game.
pub const SQUARES: i64 = 50;
/// A reaction below this is none: 100 ms is the limit of a false start (World Athletics Technical Rules, TR16.6).
pub const LEAST_REACTION_MS: i64 = 100;
/// Reactions below that are luck up to here, whatever part of the clicks they are.
pub const MANY_SHORT: i64 = 2;
/// What a browser's clocks and timers are allowed to be wrong by.
pub const SLACK_MS: i64 = 250;
/// Reactions of one play that are looked at; the schema allows no more.
const MAX_REACTIONS: usize = 10_000;
/// From this square on, each has the same lifetime.
const LAST_LIFETIME_FROM: i64 = 26;

/// From the appearance of square `n` (from 1) to that of the next, in whole milliseconds: 1,878 falling evenly to 900 at square 9, 860 at
/// square 10, 40 less each from there, and never below 400.
pub fn pause_ms(n: i64) -> i64 {
    match n {
        ..=9 => 1_878 - 978 * (n.max(1) - 1) / 8,
        10..22 => 860 - 40 * (n - 10),
        _ => 400,
    }
}

/// How long square `n` (from 1) stays, in whole milliseconds: 7,000 falling evenly to 4,500 at square 10, 5,000 at square 11 to 2,667 at
/// square 25, and 2,500 from there.
pub fn lifetime_ms(n: i64) -> i64 {
    match n {
        ..=10 => 7_000 - 2_500 * (n.max(1) - 1) / 9,
        11..LAST_LIFETIME_FROM => 5_000 - 2_333 * (n - 11) / 14,
        _ => 2_500,
    }
}

/// From the first square to the appearance of square `n` (from 1), in whole milliseconds.
pub fn appears_ms(n: i64) -> i64 {
    let varied: i64 = (1..n.min(22)).map(pause_ms).sum();
    varied.saturating_add(n.saturating_sub(22).max(0).saturating_mul(pause_ms(22)))
}

/// A play as it was sent; what is not there is not judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Play {
    /// Squares that were shown.
    pub total_squares: i64,
    /// Squares that were clicked.
    pub clicked_count: i64,
    /// From the appearance of a square to its click, in milliseconds, in the order of the clicks.
    pub reaction_ms: Vec<i64>,
    /// From the first square to the end, in milliseconds.
    pub duration_ms: Option<i64>,
}

impl Play {
    /// Why the play cannot have been, as words separated by `,`; `None` where nothing speaks against it.
    ///
    /// | word | |
    /// |---|---|
    /// | `more_reactions_than_clicks` | |
    /// | `reaction_too_short` | of the clicks [`MANY_SHORT`] and a tenth are below [`LEAST_REACTION_MS`] |
    /// | `reaction_too_long` | no square was there for so long, or not for so many of them |
    /// | `duration_too_short` | the last square had not appeared yet |
    pub fn doubts(&self) -> Option<String> {
        let doubts = [
            ("more_reactions_than_clicks", self.reaction_ms.len() as i64 > self.clicked_count),
            ("reaction_too_short", self.foresees_its_squares()),
            ("reaction_too_long", self.outlasts_its_squares()),
            ("duration_too_short", self.duration_ms.is_some_and(|ms| ms + SLACK_MS < appears_ms(self.total_squares))),
        ];
        let words: Vec<&str> = doubts.into_iter().filter(|(_, doubted)| *doubted).map(|(word, _)| word).collect();
        (!words.is_empty()).then(|| words.join(","))
    }

    /// A hand that is under way when a square appears beneath it is luck; that it is so with every tenth click is not.
    fn foresees_its_squares(&self) -> bool {
        let short = self.reaction_ms.iter().filter(|ms| **ms < LEAST_REACTION_MS).count() as i64;
        short >= MANY_SHORT && short.saturating_mul(10) >= self.clicked_count
    }

    /// Which click was of which square is not sent, and each square is clicked once: so the longest reaction is held against the longest
    /// lifetime, the second against the second, and so on.
    fn outlasts_its_squares(&self) -> bool {
        // No square stays for less, so this is most plays.
        if self.reaction_ms.iter().all(|ms| *ms <= lifetime_ms(LAST_LIFETIME_FROM) + SLACK_MS) {
            return false;
        }
        let mut reactions: Vec<i64> = self.reaction_ms.iter().take(MAX_REACTIONS).copied().collect();
        reactions.sort_unstable_by(|a, b| b.cmp(a));
        let varied = self.total_squares.clamp(0, LAST_LIFETIME_FROM - 1);
        let mut lifetimes: Vec<i64> = (1..=varied).map(lifetime_ms).collect();
        lifetimes.sort_unstable_by(|a, b| b.cmp(a));
        let lifetimes = lifetimes.into_iter().chain(std::iter::repeat(lifetime_ms(LAST_LIFETIME_FROM)));
        reactions.into_iter().zip(lifetimes).any(|(reaction, lifetime)| reaction > lifetime + SLACK_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn play() -> Play {
        Play { total_squares: 50, clicked_count: 3, reaction_ms: vec![480, 510, 390], duration_ms: Some(33_000) }
    }

    #[test]
    fn the_next_square_comes_sooner_and_sooner() {
        for (n, ms) in
            [(1, 1_878), (2, 1_756), (5, 1_389), (9, 900), (10, 860), (11, 820), (21, 420), (22, 400), (49, 400)]
        {
            assert_eq!(pause_ms(n), ms, "after square {n}");
        }
        assert!((1..60).all(|n| pause_ms(n) >= pause_ms(n + 1)));
    }

    #[test]
    fn squares_stay_shorter_and_shorter_with_one_step_back_at_the_eleventh() {
        for (n, ms) in
            [(1, 7_000), (2, 6_723), (10, 4_500), (11, 5_000), (18, 3_834), (25, 2_667), (26, 2_500), (50, 2_500)]
        {
            assert_eq!(lifetime_ms(n), ms, "square {n}");
        }
        assert!((1..60).filter(|n| *n != 10).all(|n| lifetime_ms(n) >= lifetime_ms(n + 1)));
    }

    #[test]
    fn squares_appear_after_all_pauses_before_them() {
        for (n, ms) in [(0, 0), (1, 0), (2, 1_878), (3, 1_878 + 1_756), (23, 20_584), (24, 20_984), (50, 31_384)] {
            assert_eq!(appears_ms(n), ms, "square {n}");
        }
        for n in 1..100 {
            assert_eq!(appears_ms(n + 1), appears_ms(n) + pause_ms(n), "square {n}");
        }
    }

    #[test]
    fn a_play_that_can_have_been_is_not_doubted() {
        assert_eq!(play().doubts(), None);
        assert_eq!(Play { reaction_ms: vec![], duration_ms: None, ..play() }.doubts(), None);
        assert_eq!(Play::default().doubts(), None);
        let slowest: Vec<i64> = (1..=50).map(lifetime_ms).collect();
        assert_eq!(Play { clicked_count: 50, reaction_ms: slowest, ..play() }.doubts(), None);
    }

    #[test]
    fn each_doubt_begins_where_the_timings_say() {
        let doubts = |play: Play| play.doubts().unwrap_or_default();
        assert_eq!(doubts(Play { clicked_count: 2, ..play() }), "more_reactions_than_clicks");
        assert_eq!(doubts(Play { reaction_ms: vec![100, 100], ..play() }), "");
        assert_eq!(doubts(Play { reaction_ms: vec![99, 99], ..play() }), "reaction_too_short");
        assert_eq!(doubts(Play { reaction_ms: vec![7_250], ..play() }), "");
        assert_eq!(doubts(Play { reaction_ms: vec![7_251], ..play() }), "reaction_too_long");
        assert_eq!(doubts(Play { duration_ms: Some(31_384 - 250), ..play() }), "");
        assert_eq!(doubts(Play { duration_ms: Some(31_384 - 251), ..play() }), "duration_too_short");
        assert_eq!(
            doubts(Play { clicked_count: 0, reaction_ms: vec![-1, 0, 9_000], duration_ms: Some(0), ..play() }),
            "more_reactions_than_clicks,reaction_too_short,reaction_too_long,duration_too_short"
        );
    }

    #[test]
    fn short_reactions_are_doubted_where_they_are_two_and_a_tenth_of_the_clicks() {
        let doubts = |short: usize, clicks: usize| {
            let reaction_ms = (0..clicks).map(|n| if n < short { 99 } else { 400 }).collect();
            Play { clicked_count: clicks as i64, reaction_ms, ..play() }.doubts().is_some()
        };
        for (short, clicks, doubted) in [
            (1, 1, false),
            (1, 10, false),
            (2, 2, true),
            (2, 20, true),
            (2, 21, false),
            (3, 30, true),
            (4, 50, false),
            (5, 50, true),
        ] {
            assert_eq!(doubts(short, clicks), doubted, "{short} of {clicks}");
        }
        // What is not sent of the clicks is not known to be short.
        assert_eq!(Play { clicked_count: 50, reaction_ms: vec![9, 9], ..play() }.doubts(), None);
    }

    #[test]
    fn as_many_long_reactions_as_there_were_long_squares_and_no_more() {
        // Squares 1 to 4 stay longer than 6 s with slack, the fifth for 5,889 ms.
        assert_eq!(Play { clicked_count: 5, reaction_ms: vec![6_000; 5], ..play() }.doubts(), None);
        let doubted = Play { clicked_count: 6, reaction_ms: vec![6_000; 6], ..play() };
        assert_eq!(doubted.doubts().as_deref(), Some("reaction_too_long"));
        let one_square = Play { total_squares: 1, clicked_count: 1, duration_ms: Some(7_000), ..play() };
        assert_eq!(Play { reaction_ms: vec![7_000], ..one_square.clone() }.doubts(), None);
        assert_eq!(
            Play { reaction_ms: vec![7_000, 7_000], ..one_square }.doubts().as_deref(),
            Some("more_reactions_than_clicks,reaction_too_long")
        );
    }

    proptest! {
        #[test]
        fn no_numbers_bring_it_down(
            total_squares in any::<i64>(), clicked_count in any::<i64>(),
            reaction_ms in proptest::collection::vec(any::<i64>(), 0..9), duration_ms in proptest::option::of(0..=86_400_000i64),
        ) {
            let _ = Play { total_squares, clicked_count, reaction_ms, duration_ms }.doubts();
        }
    }
}
