//! Time stamps: microseconds since the epoch, UTC.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// A moment, in microseconds since 1970-01-01T00:00:00Z, between the years 0001 and 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

const MIN_US: i64 = -62_135_596_800_000_000;
const MAX_US: i64 = 253_402_300_799_999_999;

/// One second.
pub const SECOND_US: i64 = 1_000_000;
/// One hour.
pub const HOUR_US: i64 = 3_600 * SECOND_US;
/// One day.
pub const DAY_US: i64 = 24 * HOUR_US;

impl Timestamp {
    /// A moment from microseconds, where it lies in the years 0001 to 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (MIN_US..=MAX_US).contains(&micros).then_some(Self(micros))
    }

    /// A moment from a system clock; one that stands outside the range counts as the epoch.
    pub fn from_system(time: std::time::SystemTime) -> Self {
        let micros = time.duration_since(std::time::UNIX_EPOCH).map(|d| d.as_micros()).unwrap_or(0);
        i64::try_from(micros).ok().and_then(Self::from_micros).unwrap_or_default()
    }

    /// Microseconds since the epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(SECOND_US)
    }

    /// This moment and `micros` later, held inside the range.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros).clamp(MIN_US, MAX_US))
    }

    /// Reads RFC 3339 (`2026-11-21T10:00:00.123456Z`, offsets allowed), digits beyond the microsecond cut off.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let (micros, rest) = parse_civil(text)?;
        let offset = match rest.as_bytes() {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let (h, m) = (two(*h1, *h2)?, two(*m1, *m2)?);
                if h > 23 || m > 59 {
                    return None;
                }
                let seconds = i64::from(h) * 3600 + i64::from(m) * 60;
                if *sign == b'-' { -seconds } else { seconds }
            }
            _ => return None,
        };
        Self::from_micros(micros - offset * SECOND_US)
    }

    /// Reads RFC 3339, or `yyyy-MM-ddTHH:mm:ss` without an offset as local time of `zone` (the earlier one where a clock change makes it
    /// ambiguous, shifted forward by the gap where it does not exist).
    pub fn parse_in(text: &str, zone: Tz) -> Option<Self> {
        if let Some(moment) = Self::parse_rfc3339(text) {
            return Some(moment);
        }
        let (micros, rest) = parse_civil(text)?;
        if !rest.is_empty() {
            return None;
        }
        let naive = DateTime::<Utc>::from_timestamp_micros(micros)?.naive_utc();
        local_to_utc(naive, zone)
    }

    /// Reads a number since the epoch in seconds, milliseconds or microseconds, told apart by its size: below 10¹¹ seconds (until the
    /// year 5138), below 10¹⁴ milliseconds, else microseconds. A fraction is allowed.
    pub fn parse_epoch(text: &str) -> Option<Self> {
        let negative = text.starts_with('-');
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() || whole.len() > 18 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return None;
        }
        let whole: i64 = whole.parse().ok()?;
        let (scale, places) = match whole {
            0..100_000_000_000 => (1_000_000, 6),
            100_000_000_000..100_000_000_000_000 => (1_000, 3),
            _ => (1, 0),
        };
        let mut part = 0i64;
        for place in 0..places {
            part = part * 10 + fraction.as_bytes().get(place).map_or(0, |b| i64::from(b - b'0'));
        }
        let micros = whole.checked_mul(scale)?.checked_add(part)?;
        Self::from_micros(if negative { -micros } else { micros })
    }

    /// Reads a calendar day `YYYY-MM-DD` as days since the epoch.
    pub fn parse_date(text: &str) -> Option<i32> {
        let bytes = text.as_bytes();
        if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
            return None;
        }
        days(four(bytes)?, two(bytes[5], bytes[6])?, two(bytes[8], bytes[9])?)
    }

    /// The UTC day as days since the epoch.
    pub fn day(self) -> i32 {
        i32::try_from(self.0.div_euclid(DAY_US)).unwrap_or_default()
    }

    /// Hours since the epoch.
    pub fn epoch_hour(self) -> i64 {
        self.0.div_euclid(HOUR_US)
    }

    /// The UTC hour of the day, 0–23.
    pub fn hour(self) -> u32 {
        u32::try_from(self.0.rem_euclid(DAY_US) / HOUR_US).unwrap_or_default()
    }

    /// The UTC day as `YYYY-MM-DD`.
    pub fn date_text(self) -> String {
        date_text(self.day())
    }

    /// The UTC month as `yyyy.MM`, as in index names.
    pub fn month_text(self) -> String {
        let date = self.utc();
        format!("{:04}.{:02}", date.year(), date.month())
    }

    /// The UTC month that holds this moment, `[start, end)`.
    pub fn month(self) -> (Self, Self) {
        let first = |date: NaiveDate| {
            let day = date.with_day(1).unwrap_or(date).signed_duration_since(NaiveDate::default()).num_days();
            Self(day * DAY_US)
        };
        let start = first(self.utc().date_naive());
        // The first of the next month is among the days that follow the 28th.
        let end = first(start.plus_micros(31 * DAY_US).utc().date_naive());
        (start, end)
    }

    /// The wall clock in a zone.
    pub fn in_zone(self, zone: Tz) -> NaiveDateTime {
        let utc = self.utc().naive_utc();
        utc + zone.offset_from_utc_datetime(&utc).fix()
    }

    /// The tumbling window of `length_us` that holds this moment, `[start, end)`, aligned to midnight in `zone`.
    pub fn window(self, length_us: i64, zone: Tz) -> (Self, Self) {
        let utc = self.utc().naive_utc();
        let offset = i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()) * SECOND_US;
        let start = (self.0 + offset).div_euclid(length_us) * length_us - offset;
        (Self(start), Self(start + length_us))
    }

    /// `YYYY-MM-DDTHH:MM:SS.ffffffZ`, always 27 bytes, as events keep it.
    pub fn to_micros_text(self) -> String {
        let mut text = String::with_capacity(27);
        self.write_micros(&mut text);
        text
    }

    /// Appends [`Self::to_micros_text`].
    pub fn write_micros(self, out: &mut String) {
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let (year, month, day) = civil(self.0.div_euclid(DAY_US));
        let of_day = self.0.rem_euclid(DAY_US);
        let (second, micros) = (of_day / SECOND_US, of_day % SECOND_US);
        for (end, digits, mut number) in [
            (4, 4, year),
            (7, 2, month),
            (10, 2, day),
            (13, 2, second / 3_600),
            (16, 2, second / 60 % 60),
            (19, 2, second % 60),
            (26, 6, micros),
        ] {
            for digit in text[end - digits..end].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        // All of it is ASCII.
        out.push_str(std::str::from_utf8(&text).unwrap_or_default());
    }

    fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

impl Serialize for Timestamp {
    /// As RFC 3339 with microseconds.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_micros_text())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("a time is RFC 3339"))
    }
}

impl fmt::Display for Timestamp {
    /// `YYYY-MM-DDTHH:MM:SS.mmmZ`, as people are shown it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_micros_text();
        write!(f, "{}Z", &text[..23])
    }
}

/// Local time of a zone as a moment; see [`Timestamp::parse_in`].
pub fn local_to_utc(naive: NaiveDateTime, zone: Tz) -> Option<Timestamp> {
    let moment = match zone.from_local_datetime(&naive) {
        chrono::LocalResult::Single(t) => t.timestamp_micros(),
        chrono::LocalResult::Ambiguous(earlier, _) => earlier.timestamp_micros(),
        chrono::LocalResult::None => {
            let shifted = naive + chrono::TimeDelta::hours(1);
            zone.from_local_datetime(&shifted).earliest()?.timestamp_micros()
        }
    };
    Timestamp::from_micros(moment)
}

/// A day since the epoch as `YYYY-MM-DD`.
pub fn date_text(day: i32) -> String {
    match NaiveDate::from_num_days_from_ce_opt(day.saturating_add(719_163)) {
        Some(date) => format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
        None => String::from("0001-01-01"),
    }
}

fn two(a: u8, b: u8) -> Option<u32> {
    (a.is_ascii_digit() && b.is_ascii_digit()).then(|| u32::from(a - b'0') * 10 + u32::from(b - b'0'))
}

fn four(bytes: &[u8]) -> Option<i32> {
    let (high, low) = (two(bytes[0], bytes[1])?, two(bytes[2], bytes[3])?);
    i32::try_from(high * 100 + low).ok()
}

/// Days since the epoch of a proleptic Gregorian date (Hinnant, chrono-Compatible Low-Level Date Algorithms, `days_from_civil`).
fn days(year: i32, month: u32, day: u32) -> Option<i32> {
    const LENGTHS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = LENGTHS.get(month.checked_sub(1)? as usize)? + u32::from(is_leap && month == 2);
    if day == 0 || day > length {
        return None;
    }
    // The year begins in March, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = i32::try_from((153 * month + 2) / 5 + day).ok()? - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Year, month and day of a day since the epoch, from the year 1 on: the inverse of [`days`] (Hinnant, `civil_from_days`).
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    // The year begins in March.
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, day)
}

/// `yyyy-MM-ddTHH:mm:ss[.f…]` at the start of `text`: microseconds as if it were UTC, and the rest.
fn parse_civil(text: &str) -> Option<(i64, &str)> {
    let b = text.as_bytes();
    if b.len() < 19
        || b[4] != b'-'
        || b[7] != b'-'
        || !matches!(b[10], b'T' | b't' | b' ')
        || b[13] != b':'
        || b[16] != b':'
    {
        return None;
    }
    let day = days(four(b)?, two(b[5], b[6])?, two(b[8], b[9])?)?;
    let (hour, minute, second) = (two(b[11], b[12])?, two(b[14], b[15])?, two(b[17], b[18])?);
    // A leap second is counted as the second before it.
    let second = if second == 60 { 59 } else { second };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 19;
    let mut fraction = 0i64;
    if b.get(at) == Some(&b'.') {
        at += 1;
        let from = at;
        while let Some(d) = b.get(at).filter(|d| d.is_ascii_digit()) {
            if at - from < 6 {
                fraction = fraction * 10 + i64::from(d - b'0');
            }
            at += 1;
        }
        if at == from {
            return None;
        }
        for _ in (at - from)..6 {
            fraction *= 10;
        }
    }
    let seconds = i64::from(day) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    Some((seconds * SECOND_US + fraction, text.get(at..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(text: &str) -> Option<i64> {
        Timestamp::parse_rfc3339(text).map(Timestamp::micros)
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
        for (moment, start, end) in [
            ("2026-11-21T10:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026-12-31T23:59:59.999999Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2028-02-01T00:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            ("1969-01-31T00:00:00Z", "1969-01-01T00:00:00Z", "1969-02-01T00:00:00Z"),
        ] {
            assert_eq!(at(moment).month(), (at(start), at(end)), "{moment}");
        }
    }

    #[test]
    fn rfc_3339_is_read_to_the_microsecond() {
        assert_eq!(micros("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(micros("2026-11-21T10:00:00.1234567Z"), Some(1_795_255_200_123_456));
        assert_eq!(micros("2026-11-21T19:00:00+09:00"), Some(1_795_255_200_000_000));
        assert_eq!(micros("2026-11-21 10:00:00.5z"), Some(1_795_255_200_500_000));
        for bad in [
            "2026-02-30T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T10:00:00",
            "2026-11-21T10:00:00.Z",
            "x",
            "",
            "2026-11-21T10:00:00+25:00",
        ] {
            assert_eq!(micros(bad), None, "{bad}");
        }
    }

    #[test]
    fn local_times_use_the_zone() {
        let seoul: Tz = "Asia/Seoul".parse().unwrap();
        assert_eq!(Timestamp::parse_in("2026-11-21T19:00:00", seoul).unwrap().micros(), 1_795_255_200_000_000);
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        assert_eq!(Timestamp::parse_in("2026-10-25T02:30:00", berlin).unwrap().to_string(), "2026-10-25T00:30:00.000Z");
        assert_eq!(Timestamp::parse_in("2026-03-29T02:30:00", berlin).unwrap().to_string(), "2026-03-29T01:30:00.000Z");
    }

    #[test]
    fn epoch_numbers_are_told_apart_by_size() {
        for text in ["1795255200", "1795255200000", "1795255200000000", "1795255200.000000"] {
            assert_eq!(Timestamp::parse_epoch(text).unwrap().to_string(), "2026-11-21T10:00:00.000Z", "{text}");
        }
        assert_eq!(Timestamp::parse_epoch("1795255200123.4567").unwrap().micros(), 1_795_255_200_123_456);
        assert_eq!(Timestamp::parse_epoch("1e9"), None);
        assert_eq!(Timestamp::parse_epoch("99999999999999999999"), None);
    }

    #[test]
    fn windows_are_aligned_to_the_zone() {
        let kolkata: Tz = "Asia/Kolkata".parse().unwrap();
        let t = Timestamp::parse_rfc3339("2026-11-21T10:10:00Z").unwrap();
        assert_eq!(t.window(HOUR_US, kolkata).0.to_string(), "2026-11-21T09:30:00.000Z");
        assert_eq!(t.window(HOUR_US, Tz::UTC).1.to_string(), "2026-11-21T11:00:00.000Z");
    }

    #[test]
    fn days_before_the_epoch_round_down() {
        let t = Timestamp::parse_rfc3339("1969-12-31T23:59:59.999999Z").unwrap();
        assert_eq!((t.day(), t.hour(), t.date_text().as_str()), (-1, 23, "1969-12-31"));
        assert_eq!(Timestamp::parse_date("2000-02-29"), Some(11_016));
        assert_eq!(Timestamp::parse_date("2001-02-29"), None);
    }

    proptest! {
        #[test]
        fn texts_read_back(us in MIN_US..=MAX_US) {
            let t = Timestamp::from_micros(us).unwrap();
            prop_assert_eq!(Timestamp::parse_rfc3339(&t.to_micros_text()), Some(t));
            prop_assert_eq!(t.to_micros_text().len(), 27);
        }

        #[test]
        fn days_are_those_of_the_calendar(year in 0i32..10_000, month in 0u32..14, day in 0u32..33) {
            let expected = NaiveDate::from_ymd_opt(year, month, day).map(|date| date.num_days_from_ce() - 719_163);
            prop_assert_eq!(days(year, month, day), expected);
        }

        #[test]
        fn texts_are_those_of_the_calendar(us in MIN_US..=MAX_US) {
            let t = Timestamp::from_micros(us).unwrap();
            prop_assert_eq!(t.to_micros_text(), t.utc().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string());
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,40}") {
            let _ = Timestamp::parse_in(&text, Tz::Asia__Seoul);
            let _ = Timestamp::parse_epoch(&text);
            let _ = Timestamp::parse_date(&text);
        }
    }
}
