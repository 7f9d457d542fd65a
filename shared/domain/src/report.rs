//! Reports: questions to the lake with a name and declared parameters, a file `NAME.sql` each.
//!
//! A file begins with comment lines: what the report says, its parameters in the order of their numbers, and how long a result is kept.
//!
//! ```sql
//! -- Plays of a day.
//! -- $1 from date = today - 6: First day, UTC.
//! -- $2 least integer: Fewest plays.
//! -- cache 60 s
//! SELECT …
//! ```
//!
//! A parameter is a `date` (`YYYY-MM-DD`), an `integer` or a `text` (its default in quotes). One without a default has to be given. The
//! statement has them as `$1`, `$2` …, which whoever runs it binds as values; nothing that was given is ever part of its text. `{every table}`
//! in it stands for the envelope of all events. This module does not know SQL.

use crate::schema::ENVELOPE;
use crate::time::{Timestamp, date_text};
use serde_json::Value;
use std::fmt;

/// Longest text that is taken for a parameter, in bytes.
const MAX_TEXT_BYTES: usize = 256;
/// Longest time that a result may be kept, in seconds.
const MAX_CACHE_S: u32 = 86_400;
/// What stands for all events.
const EVERY_TABLE: &str = "{every table}";
/// Names in a query that are no parameters: how the result is to be written.
pub const FORMAT: &str = "format";

/// A report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its name: the file's, without its end.
    pub name: String,
    /// What it says, for people.
    pub description: String,
    /// In the order of their numbers.
    pub parameters: Vec<Parameter>,
    /// How long a result may be shown again, in seconds.
    pub cache_s: u32,
    text: String,
}

/// What a report is asked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub kind: ParameterKind,
    /// What it is for, for people.
    pub description: String,
    default: Option<DefaultValue>,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// `YYYY-MM-DD`.
    Date,
    /// 64-bit integer.
    Integer,
    /// Text.
    Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum DefaultValue {
    /// Days after today, UTC.
    Day(i32),
    Value(Value),
}

/// A report file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportError {
    /// File name.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "report file `{}`, line {}: {}", self.file, self.line, self.reason)
    }
}

impl std::error::Error for ReportError {}

/// The reports that there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reports {
    /// Those that can be run, sorted by name.
    pub usable: Vec<Report>,
    /// Files of one's own that cannot be used, sorted by name. They take none of the others with them.
    pub refused: Vec<ReportError>,
}

/// Why a report is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the parameter.
    pub parameter: String,
    /// What is wrong with it, for people.
    pub reason: String,
}

impl Reports {
    /// Reads bundled files, (name, text), and those of one's own: each has its text, or why that cannot be read. A bundled file that cannot
    /// be used is an error. Names are given once: what asks for a bundled report goes on getting that one.
    pub fn load(bundled: &[(&str, &str)], own: &[(String, Result<String, String>)]) -> Result<Self, ReportError> {
        let usable = bundled.iter().map(|(file, text)| Report::parse(file, text)).collect::<Result<Vec<_>, _>>()?;
        let mut reports = Self { usable, refused: Vec::new() };
        for (file, text) in own {
            let fail = |reason: String| ReportError { file: file.clone(), line: 1, reason };
            let is_bundled = bundled.iter().any(|(bundled, _)| bundled == file);
            let read = match text {
                _ if is_bundled => Err(fail("there is a report of this name in the program; give it another".into())),
                Ok(text) => Report::parse(file, text),
                Err(reason) => Err(fail(reason.clone())),
            };
            match read {
                Ok(report) => reports.usable.push(report),
                Err(error) => reports.refused.push(error),
            }
        }
        reports.usable.sort_by(|a, b| a.name.cmp(&b.name));
        reports.refused.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(reports)
    }
}

impl Report {
    /// Reads a report file.
    pub fn parse(file: &str, text: &str) -> Result<Self, ReportError> {
        let fail = |line: usize, reason: String| ReportError { file: file.into(), line: line + 1, reason };
        let name = file.strip_suffix(".sql").filter(|name| is_name(name, b'-'));
        let name = name.ok_or_else(|| fail(0, "a report file is named `[a-z][a-z0-9-]*.sql`".into()))?;
        let (mut description, mut parameters, mut cache_s) = (String::new(), Vec::new(), None);
        let mut lines = text.lines().enumerate().peekable();
        while let Some((at, line)) = lines.next_if(|(_, line)| line.starts_with("--")) {
            let says = line.trim_start_matches('-').trim();
            if let Some(declared) = says.strip_prefix('$') {
                let parameter = Parameter::parse(declared, parameters.len() + 1).map_err(|reason| fail(at, reason))?;
                if parameters.iter().any(|known: &Parameter| known.name == parameter.name) {
                    return Err(fail(at, format!("`{}` is declared twice", parameter.name)));
                }
                parameters.push(parameter);
            } else if let Some(kept) = says.strip_prefix("cache ") {
                let seconds = kept.strip_suffix(" s").and_then(|seconds| seconds.parse().ok());
                let seconds = seconds.filter(|seconds| (1..=MAX_CACHE_S).contains(seconds));
                cache_s =
                    Some(seconds.ok_or_else(|| fail(at, format!("`cache N s` takes 1 to {MAX_CACHE_S} seconds")))?);
            } else if parameters.is_empty() && cache_s.is_none() {
                description = [description.as_str(), says].join(" ").trim().to_owned();
            } else {
                return Err(fail(at, "is neither `$N NAME TYPE …: TEXT` nor `cache N s`".into()));
            }
        }
        let first = lines.peek().map_or(0, |(at, _)| *at);
        let text: String = lines.map(|(_, line)| format!("{line}\n")).collect();
        if description.is_empty() {
            return Err(fail(0, "the first line says what the report says: `-- TEXT`".into()));
        }
        let cache_s = cache_s.ok_or_else(|| fail(first, "`-- cache N s` is missing".into()))?;
        let used = numbers(&text);
        for number in 1..=parameters.len().max(used.iter().copied().max().unwrap_or(0)) {
            match (number <= parameters.len(), used.contains(&number)) {
                (true, false) => return Err(fail(first, format!("`${number}` is declared and not used"))),
                (false, true) => return Err(fail(first, format!("`${number}` is used and not declared"))),
                _ => {}
            }
        }
        Ok(Self { name: name.into(), description, parameters, cache_s, text })
    }

    /// Whether it is over all tables that there are.
    pub fn is_of_every_table(&self) -> bool {
        self.text.contains(EVERY_TABLE)
    }

    /// The SELECT over these tables of the lake, with `$1`, `$2` … for its parameters.
    pub fn statement<'t>(&self, tables: impl Iterator<Item = &'t str>) -> String {
        if !self.is_of_every_table() {
            return self.text.clone();
        }
        let columns: Vec<&str> = ENVELOPE.iter().map(|column| column.name).collect();
        // The tables' names are words of small letters.
        let select = |table: &str| format!("SELECT {} FROM {table}", columns.join(", "));
        let selects: Vec<String> = tables.map(select).collect();
        self.text.replace(EVERY_TABLE, &format!("({}) AS every_table", selects.join(" UNION ALL ")))
    }

    /// The values of its parameters, in the order of their numbers, where this was given at `now`. Of a name that was given twice the last
    /// counts.
    pub fn bind(&self, given: &[(String, String)], now: Timestamp) -> Result<Vec<Value>, Refusal> {
        let refuse = |name: &str, reason: String| Refusal { parameter: name.chars().take(64).collect(), reason };
        let is_known = |name: &str| name == FORMAT || self.parameters.iter().any(|p| p.name == name);
        if let Some((name, _)) = given.iter().find(|(name, _)| !is_known(name)) {
            let known: Vec<String> = self.parameters.iter().map(|p| format!("`{}`", p.name)).collect();
            let known =
                if known.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", known.join(", ")) };
            return Err(refuse(name, format!("is no parameter of the report `{}`; {known}", self.name)));
        }
        let value = |parameter: &Parameter| match given.iter().rev().find(|(name, _)| *name == parameter.name) {
            Some((name, text)) => parameter.kind.read(text).map_err(|reason| refuse(name, reason)),
            None => match &parameter.default {
                Some(DefaultValue::Value(value)) => Ok(value.clone()),
                Some(DefaultValue::Day(days)) => Ok(date_text(now.day().saturating_add(*days)).into()),
                None => {
                    let reason = format!("is missing: {} ({})", parameter.description, parameter.kind.name());
                    Err(refuse(&parameter.name, reason))
                }
            },
        };
        self.parameters.iter().map(value).collect()
    }
}

impl Parameter {
    /// Reads `1 from date = today - 6: First day.`
    fn parse(declared: &str, number: usize) -> Result<Self, String> {
        let form =
            || "a parameter is declared as `$N NAME TYPE = DEFAULT: TEXT`, with or without `= DEFAULT`".to_owned();
        let (head, description) = declared.split_once(": ").ok_or_else(form)?;
        let (head, default) = match head.split_once(" = ") {
            Some((head, default)) => (head, Some(default)),
            None => (head, None),
        };
        let [of, name, kind] = head.split_whitespace().collect::<Vec<_>>()[..] else { return Err(form()) };
        if of.parse() != Ok(number) {
            return Err(format!("the parameters stand in the order of their numbers, and `${number}` is next"));
        }
        if !is_name(name, b'_') || name == FORMAT {
            return Err(format!("a parameter is named `[a-z][a-z0-9_]*`, and not `{FORMAT}`"));
        }
        let kind = match kind {
            "date" => ParameterKind::Date,
            "integer" => ParameterKind::Integer,
            "text" => ParameterKind::Text,
            other => return Err(format!("`{other}` is no type; there are `date`, `integer` and `text`")),
        };
        let default = default.map(|text| DefaultValue::parse(kind, text.trim())).transpose()?;
        Ok(Self { name: name.into(), kind, description: description.trim().into(), default })
    }

    /// What it is where nothing is given, as it would be written; `None` where it has to be given.
    pub fn default_text(&self) -> Option<String> {
        Some(match self.default.as_ref()? {
            DefaultValue::Day(0) => "today".to_owned(),
            DefaultValue::Day(days @ ..0) => format!("today - {}", days.unsigned_abs()),
            DefaultValue::Day(days) => format!("today + {days}"),
            DefaultValue::Value(Value::String(text)) => text.clone(),
            DefaultValue::Value(value) => value.to_string(),
        })
    }
}

impl DefaultValue {
    fn parse(kind: ParameterKind, text: &str) -> Result<Self, String> {
        match (kind, text.strip_prefix("today")) {
            (ParameterKind::Date, Some(offset)) => {
                let days = offset.replace(' ', "");
                let days = if days.is_empty() { Some(0) } else { days.parse().ok() };
                days.map(Self::Day)
                    .ok_or_else(|| format!("`{text}` is no day; write `today`, `today - N` or `YYYY-MM-DD`"))
            }
            (ParameterKind::Text, _) => match serde_json::from_str(text) {
                Ok(Value::String(text)) => Ok(Self::Value(text.into())),
                _ => Err(format!("the default of a text stands in quotes, not `{text}`")),
            },
            _ => kind.read(text).map(Self::Value),
        }
    }
}

impl ParameterKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Integer => "integer",
            Self::Text => "text",
        }
    }

    fn read(self, text: &str) -> Result<Value, String> {
        let shown: String = text.chars().take(64).collect();
        match self {
            // As it was read: what is bound is the day and not what was sent.
            Self::Date => match Timestamp::parse_date(text) {
                Some(day) => Ok(date_text(day).into()),
                None => Err(format!("is a date such as `2026-11-21`, not `{shown}`")),
            },
            Self::Integer => match text.parse::<i64>() {
                Ok(number) => Ok(number.into()),
                Err(_) => Err(format!("is a whole number of at most 64 bits, not `{shown}`")),
            },
            Self::Text if text.len() > MAX_TEXT_BYTES => {
                Err(format!("has {} bytes; it takes up to {MAX_TEXT_BYTES}", text.len()))
            }
            Self::Text => Ok(text.into()),
        }
    }
}

/// Whether a name is of the form `[a-z][a-z0-9]*` with this character as well.
fn is_name(name: &str, joint: u8) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == joint)
}

/// The numbers `n` of all `$n` in a text.
fn numbers(text: &str) -> Vec<usize> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    text.split('$').skip(1).filter_map(|rest| digits(rest).parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FILE: &str = "-- What was paid,\n--   by day.\n-- $1 from date = today - 6: First day.\n-- $2 to date = 2026-11-21: Last day.\n\
        -- $3 least integer = -1: Least.\n-- $4 shop text = \"a \\\"b\\\"\": Shop.\n-- $5 currency text: Currency.\n-- cache 60 s\n\
        SELECT $1, $2, $3, $4, $5,\n  $1 FROM order_paid\n";

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2026-11-03T23:59:59Z").unwrap()
    }

    fn given(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_file_says_what_it_is_and_takes() {
        let report = Report::parse("paid-by-day.sql", FILE).unwrap();
        assert_eq!(
            (report.name.as_str(), report.description.as_str(), report.cache_s),
            ("paid-by-day", "What was paid, by day.", 60)
        );
        let declared: Vec<_> = report
            .parameters
            .iter()
            .map(|p| (p.name.as_str(), p.kind.name(), p.default_text(), p.description.as_str()))
            .collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            declared,
            [
                ("from", "date", text("today - 6"), "First day."),
                ("to", "date", text("2026-11-21"), "Last day."),
                ("least", "integer", text("-1"), "Least."),
                ("shop", "text", text("a \"b\""), "Shop."),
                ("currency", "text", None, "Currency."),
            ]
        );
    }

    #[test]
    fn a_file_of_ones_own_that_cannot_be_used_is_named_and_the_others_go_on() {
        let own =
            |name: &str, text: Result<&str, &str>| (name.to_owned(), text.map(str::to_owned).map_err(str::to_owned));
        let one = "-- One.\n-- cache 5 s\nSELECT 1\n";
        let files = [
            own("zebra.sql", Ok(one)),
            own("damaged.sql", Err("is not UTF-8")),
            own("paid.sql", Ok(one)),
            own("Shop.sql", Ok(one)),
            own("apple.sql", Ok(one)),
            own("bare.sql", Ok("SELECT 1\n")),
        ];
        let reports = Reports::load(&[("paid.sql", FILE)], &files).unwrap();
        let names: Vec<&str> = reports.usable.iter().map(|report| report.name.as_str()).collect();
        assert_eq!(names, ["apple", "paid", "zebra"]);
        assert_eq!(reports.usable[1].parameters.len(), 5, "the bundled one");
        let refused: Vec<String> = reports.refused.iter().map(ToString::to_string).collect();
        assert_eq!(
            refused,
            [
                "report file `Shop.sql`, line 1: a report file is named `[a-z][a-z0-9-]*.sql`",
                "report file `bare.sql`, line 1: the first line says what the report says: `-- TEXT`",
                "report file `damaged.sql`, line 1: is not UTF-8",
                "report file `paid.sql`, line 1: there is a report of this name in the program; give it another",
            ]
        );
        assert!(Reports::load(&[("bare.sql", "SELECT 1\n")], &[]).is_err(), "ours are right");
    }

    #[test]
    fn what_is_given_becomes_values_in_the_order_of_the_numbers() {
        let report = Report::parse("paid.sql", FILE).unwrap();
        assert_eq!(
            report.bind(&given(&[("currency", "KRW"), ("format", "csv")]), now()).unwrap(),
            [json!("2026-10-28"), json!("2026-11-21"), json!(-1), json!("a \"b\""), json!("KRW")]
        );
        let asked =
            [("from", "2026-01-01"), ("least", "5"), ("shop", "' OR 1=1 --"), ("currency", "USD"), ("currency", "")];
        assert_eq!(
            report.bind(&given(&asked), now()).unwrap(),
            [json!("2026-01-01"), json!("2026-11-21"), json!(5), json!("' OR 1=1 --"), json!("")]
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_name() {
        let report = Report::parse("paid.sql", FILE).unwrap();
        let long = "x".repeat(257);
        for (pairs, parameter, reason) in [
            (vec![], "currency", "is missing: Currency. (text)"),
            (vec![("currency", "a"), ("from", "yesterday")], "from", "is a date such as `2026-11-21`, not `yesterday`"),
            (
                vec![("currency", "a"), ("from", "2026-02-30")],
                "from",
                "is a date such as `2026-11-21`, not `2026-02-30`",
            ),
            (vec![("currency", "a"), ("least", "1.5")], "least", "is a whole number of at most 64 bits, not `1.5`"),
            (vec![("currency", &long)], "currency", "has 257 bytes; it takes up to 256"),
            (
                vec![("page", "1")],
                "page",
                "is no parameter of the report `paid`; it takes `from`, `to`, `least`, `shop`, `currency`",
            ),
        ] {
            let refusal = report.bind(&given(&pairs), now()).unwrap_err();
            assert_eq!((refusal.parameter.as_str(), refusal.reason.as_str()), (parameter, reason));
        }
    }

    #[test]
    fn files_with_mistakes_are_refused_at_the_line() {
        for (text, line, word) in [
            ("SELECT 1\n", 1, "the first line says"),
            ("-- A.\nSELECT 1\n", 2, "`-- cache N s` is missing"),
            ("-- A.\n-- cache 0 s\nSELECT 1\n", 2, "1 to 86400 seconds"),
            ("-- A.\n-- cache 1 s\n-- More.\nSELECT 1\n", 3, "is neither"),
            ("-- A.\n-- cache 1 s\nSELECT $1\n", 3, "`$1` is used and not declared"),
            ("-- A.\n-- $1 a text: A.\n-- cache 1 s\nSELECT 1\n", 4, "`$1` is declared and not used"),
            ("-- A.\n-- $2 a text: A.\n", 2, "`$1` is next"),
            ("-- A.\n-- $1 a text: A.\n-- $2 a text: A.\n", 3, "declared twice"),
            ("-- A.\n-- $1 format text: A.\n", 2, "not `format`"),
            ("-- A.\n-- $1 A text: A.\n", 2, "is named"),
            ("-- A.\n-- $1 a word: A.\n", 2, "`word` is no type"),
            ("-- A.\n-- $1 a text = b: A.\n", 2, "stands in quotes"),
            ("-- A.\n-- $1 a date = tomorrow: A.\n", 2, "is a date"),
            ("-- A.\n-- $1 a date = today - x: A.\n", 2, "is no day"),
            ("-- A.\n-- $1 a: A.\n", 2, "is declared as"),
        ] {
            let error = Report::parse("r.sql", text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.reason.contains(word), "{text}: {error}");
        }
        assert!(Report::parse("R.sql", FILE).is_err() && Report::parse("r.txt", FILE).is_err());
    }

    #[test]
    fn every_table_is_all_tables_with_the_envelope() {
        let report = Report::parse("all.sql", "-- All.\n-- cache 1 s\nSELECT id FROM {every table}\n").unwrap();
        let statement = report.statement(["a_b", "event"].into_iter());
        assert!(statement.starts_with("SELECT id FROM (SELECT id, source, type, time,"), "{statement}");
        assert!(statement.ends_with(" FROM a_b UNION ALL SELECT id, source, type, time, receivedtime, subject, userid, sessionid, clientip, useragent, specversion, datacontenttype, dataschema, tracestate, traceparent, hops, extra FROM event) AS every_table\n"), "{statement}");
    }
}
