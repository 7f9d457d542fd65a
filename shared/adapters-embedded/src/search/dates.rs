//! Dates as OpenSearch's `strict_date_optional_time||epoch_millis` reads them, and its date mathematics (`now-15m`, `2026-01-01||/M`).
//! Times are milliseconds since the epoch, the resolution of OpenSearch's `date`.

/// Milliseconds between which a written date lies: `2026-01` is a whole month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The first millisecond.
    pub first_ms: i64,
    /// The last one.
    pub last_ms: i64,
}

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What the index can hold (nanoseconds in 64 bits): 1677-09-21 to 2262-04-11.
pub(super) const RANGE_MS: std::ops::RangeInclusive<i64> = -9_223_372_036_854..=9_223_372_036_854;

/// Reads a date: `yyyy[-MM[-dd[THH[:mm[:ss[.f…]]]]]]` with `Z`, `±HH[:mm]` or nothing (UTC) after a time, or milliseconds since the epoch
/// as five or more digits.
pub(super) fn parse(text: &str) -> Option<Span> {
    let bytes = text.as_bytes();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.len() > 4 && digits.bytes().all(|b| b.is_ascii_digit()) {
        let ms = text.parse().ok()?;
        return Some(Span { first_ms: ms, last_ms: ms });
    }
    let mut at = Cursor { bytes, at: 0 };
    let year = at.number(4)?;
    if at.done() {
        return Some(span(days(year, 1, 1) * DAY_MS, days(year + 1, 1, 1) * DAY_MS));
    }
    at.take(b'-')?;
    let month = at.number(2).filter(|month| (1..=12).contains(month))?;
    if at.done() {
        return Some(span(days(year, month, 1) * DAY_MS, next_month(year, month) * DAY_MS));
    }
    at.take(b'-')?;
    let day = at.number(2).filter(|day| (1..=31).contains(day))?;
    let date = days(year, month, day);
    if date >= next_month(year, month) {
        return None;
    }
    let mut ms = date * DAY_MS;
    if at.done() {
        return Some(span(ms, ms + DAY_MS));
    }
    if at.take(b'T').is_none() {
        at.take(b' ')?;
    }
    ms += at.number(2).filter(|hour| *hour < 24)? * HOUR_MS;
    let mut width = HOUR_MS;
    if at.take(b':').is_some() {
        ms += at.number(2).filter(|minute| *minute < 60)? * MINUTE_MS;
        width = MINUTE_MS;
        if at.take(b':').is_some() {
            // A leap second is read as the second after it.
            ms += at.number(2).filter(|second| *second <= 60)? * SECOND_MS;
            width = SECOND_MS;
            if at.take(b'.').or_else(|| at.take(b',')).is_some() {
                let (fraction, digits) = at.fraction()?;
                ms += fraction;
                width = [100, 10, 1][digits.clamp(1, 3) - 1];
            }
        }
    }
    ms -= at.offset()?;
    at.done().then(|| span(ms, ms + width))
}

/// Reads a date or a date expression relative to `now_ms`: an anchor (`now`, or a date and `||`), then any number of `+1h`, `-2d`, `/d`.
/// Units: `y M w d h H m s`.
pub(super) fn parse_math(text: &str, now_ms: i64) -> Option<Span> {
    let (mut at, steps) = if let Some(steps) = text.strip_prefix("now") {
        (Span { first_ms: now_ms, last_ms: now_ms }, steps)
    } else if let Some((anchor, steps)) = text.split_once("||") {
        (parse(anchor)?, steps)
    } else {
        return parse(text);
    };
    let mut rest = steps;
    let mut moved = false;
    while let Some(sign) = rest.chars().next() {
        rest = &rest[sign.len_utf8()..];
        if !moved && at.first_ms != at.last_ms {
            at.last_ms = at.first_ms;
        }
        moved = true;
        let length = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count = if length == 0 { 1 } else { rest[..length].parse::<i64>().ok().filter(|n| *n <= 1_000_000)? };
        let unit = rest[length..].chars().next()?;
        rest = &rest[length + unit.len_utf8()..];
        at = match sign {
            '+' => Span { first_ms: shift(at.first_ms, count, unit)?, last_ms: shift(at.last_ms, count, unit)? },
            '-' => Span { first_ms: shift(at.first_ms, -count, unit)?, last_ms: shift(at.last_ms, -count, unit)? },
            '/' if length == 0 => round(at.first_ms, unit)?,
            _ => return None,
        };
    }
    Some(at)
}

/// RFC 3339 in UTC with milliseconds, as OpenSearch prints dates.
pub(super) fn format(ms: i64) -> String {
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    let rest = ms.rem_euclid(DAY_MS);
    let (hour, minute) = (rest / HOUR_MS, rest / MINUTE_MS % 60);
    let (second, milli) = (rest / SECOND_MS % 60, rest % SECOND_MS);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

fn span(first_ms: i64, end_ms: i64) -> Span {
    Span { first_ms, last_ms: end_ms - 1 }
}

fn shift(ms: i64, count: i64, unit: char) -> Option<i64> {
    let fixed = |width: i64| count.checked_mul(width).and_then(|by| ms.checked_add(by));
    match unit {
        's' => fixed(SECOND_MS),
        'm' => fixed(MINUTE_MS),
        'h' | 'H' => fixed(HOUR_MS),
        'd' => fixed(DAY_MS),
        'w' => fixed(7 * DAY_MS),
        'M' | 'y' => {
            let (year, month, day) = civil(ms.div_euclid(DAY_MS));
            let months = year * 12 + (month - 1) + if unit == 'y' { count * 12 } else { count };
            let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
            let length = next_month(year, month) - days(year, month, 1);
            Some(days(year, month, day.min(length)) * DAY_MS + ms.rem_euclid(DAY_MS))
        }
        _ => None,
    }
}

fn round(ms: i64, unit: char) -> Option<Span> {
    let fixed = |width: i64| {
        let first = ms.div_euclid(width) * width;
        Some(span(first, first + width))
    };
    let (year, month, _) = civil(ms.div_euclid(DAY_MS));
    match unit {
        's' => fixed(SECOND_MS),
        'm' => fixed(MINUTE_MS),
        'h' | 'H' => fixed(HOUR_MS),
        'd' => fixed(DAY_MS),
        'w' => {
            // 1970-01-01 was a Thursday; weeks begin on Monday.
            let day = ms.div_euclid(DAY_MS);
            let monday = day - (day + 3).rem_euclid(7);
            Some(span(monday * DAY_MS, (monday + 7) * DAY_MS))
        }
        'M' => Some(span(days(year, month, 1) * DAY_MS, next_month(year, month) * DAY_MS)),
        'y' => Some(span(days(year, 1, 1) * DAY_MS, days(year + 1, 1, 1) * DAY_MS)),
        _ => None,
    }
}

fn next_month(year: i64, month: i64) -> i64 {
    if month == 12 { days(year + 1, 1, 1) } else { days(year, month + 1, 1) }
}

/// Days since the epoch (Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days`] (same source, `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days - era * 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn done(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.bytes.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    fn number(&mut self, width: usize) -> Option<i64> {
        let digits = self.bytes.get(self.at..self.at + width)?;
        self.at += width;
        digits.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    }

    /// Milliseconds, and how many digits were given.
    fn fraction(&mut self) -> Option<(i64, usize)> {
        let digits = self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || digits > 9 {
            return None;
        }
        let mut ms = 0;
        for place in 0..3 {
            ms = ms * 10 + if place < digits { i64::from(self.bytes[self.at + place] - b'0') } else { 0 };
        }
        self.at += digits;
        Some((ms, digits))
    }

    /// Milliseconds east of UTC; nothing is UTC.
    fn offset(&mut self) -> Option<i64> {
        if self.done() || self.take(b'Z').is_some() || self.take(b'z').is_some() {
            return Some(0);
        }
        let sign = if self.take(b'-').is_some() { -1 } else { self.take(b'+').map(|()| 1)? };
        let hours = self.number(2).filter(|hours| *hours <= 18)?;
        let minutes = if self.done() {
            0
        } else {
            let _ = self.take(b':');
            self.number(2).filter(|minutes| *minutes < 60)?
        };
        Some(sign * (hours * HOUR_MS + minutes * MINUTE_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> Option<String> {
        parse(text).map(|span| format(span.first_ms))
    }

    #[test]
    fn dates_are_read_in_all_their_lengths() {
        assert_eq!(first("2026").as_deref(), Some("2026-01-01T00:00:00.000Z"));
        assert_eq!(first("2026-11").as_deref(), Some("2026-11-01T00:00:00.000Z"));
        assert_eq!(first("2024-02-29").as_deref(), Some("2024-02-29T00:00:00.000Z"));
        assert_eq!(first("2026-11-02T03:04").as_deref(), Some("2026-11-02T03:04:00.000Z"));
        assert_eq!(first("2026-11-02T03:04:05.123456Z").as_deref(), Some("2026-11-02T03:04:05.123Z"));
        assert_eq!(first("2026-11-02T03:04:05+09:00").as_deref(), Some("2026-11-01T18:04:05.000Z"));
        assert_eq!(first("1969-12-31T23:59:59Z").as_deref(), Some("1969-12-31T23:59:59.000Z"));
        assert_eq!(first("1446584317000").as_deref(), Some("2015-11-03T20:58:37.000Z"));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "yesterday",
            "2023-02-29",
            "2026-13",
            "2026-1-2",
            "2026-11-02T25",
            "2026-11-02T03:04:05.Z",
            "2026-11-02x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_date_spans_what_it_leaves_open() {
        let span = parse("2026-02").unwrap();
        assert_eq!(format(span.last_ms), "2026-02-28T23:59:59.999Z");
    }

    #[test]
    fn date_mathematics_moves_and_rounds() {
        let now = parse("2026-03-31T10:20:30Z").unwrap().first_ms;
        let math = |text: &str| parse_math(text, now).map(|span| format(span.first_ms));
        assert_eq!(math("now-15m").as_deref(), Some("2026-03-31T10:05:30.000Z"));
        assert_eq!(math("now-1M").as_deref(), Some("2026-02-28T10:20:30.000Z"));
        assert_eq!(math("now/d").as_deref(), Some("2026-03-31T00:00:00.000Z"));
        assert_eq!(math("now-1d/w").as_deref(), Some("2026-03-30T00:00:00.000Z"));
        assert_eq!(math("2015-05-17||+1y/y").as_deref(), Some("2016-01-01T00:00:00.000Z"));
        assert_eq!(math("now-"), None);
        assert_eq!(math("now*2"), None);
        assert_eq!(format(parse_math("now/M", now).unwrap().last_ms), "2026-03-31T23:59:59.999Z");
    }

    #[test]
    fn civil_dates_round_trip() {
        for day in (-800_000..800_000).step_by(37) {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
    }
}
