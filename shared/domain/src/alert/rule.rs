use crate::json::{self, Node, Value, push_pointer};
use crate::schema::{decimal, decimal_text};
use crate::time::Timestamp;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::fmt;

/// Largest text of a rule, in bytes.
pub const MAX_RULE_BYTES: usize = 64 * 1024;
/// Most symbols that a rule may name.
pub const MAX_SYMBOLS: usize = 1_000;
/// Most channels that a rule may have.
pub const MAX_CHANNELS: usize = 10;
/// Longest symbol, in bytes.
const MAX_SYMBOL_BYTES: usize = 64;
/// Longest rule id and user, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// Minutes of a day: a window divides it, so that windows begin at midnight of the zone.
const DAY_MINUTES: i64 = 1_440;
/// Digits of a threshold behind the point.
const PERCENT_SCALE: u8 = 6;

/// A rule: who wants to know what about which symbols, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// 1–128 of `[A-Za-z0-9._-]`.
    pub id: String,
    /// A name for people.
    pub name: Option<String>,
    /// Whose rule it is.
    pub user: String,
    /// What fires it.
    pub condition: Condition,
    /// The symbols it looks at, sorted, each once; empty for all.
    pub symbols: Vec<String>,
    /// Length of the window in which it fires once per symbol and direction; divides a day.
    pub window_minutes: u32,
    /// Zone of the market: windows begin at its full hours, and mail shows its clock.
    pub zone: Tz,
    /// Where to; none means that the alert is kept but sent to nobody.
    pub channels: Vec<Channel>,
    /// Language of what is sent.
    pub language: Language,
    /// Whether it is evaluated.
    pub enabled: bool,
    /// When it was made.
    pub created: Timestamp,
}

/// What fires a rule: its kind with the settings of that kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Condition {
    /// The change against the previous close, on `quote.trade`.
    Fluctuation(Fluctuation),
}

impl Condition {
    /// The kind as rules and events name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fluctuation(_) => "fluctuation",
        }
    }

    /// The type of the events that it looks at.
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Fluctuation(_) => "quote.trade",
        }
    }
}

/// Settings of the kind `fluctuation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fluctuation {
    /// What the size of the change is compared to.
    pub threshold_pct: Percent,
    /// How it is compared.
    pub comparison: Comparison,
    /// Which direction counts.
    pub side: Side,
}

/// A percentage above zero, exact to six digits behind the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(i128);

impl Percent {
    /// Reads plain or exponent notation, above 0 and below 1,000,000.
    pub fn parse(text: &str) -> Result<Self, String> {
        match decimal(text, 12, PERCENT_SCALE) {
            Ok(unscaled) if unscaled > 0 => Ok(Self(unscaled)),
            Ok(_) => Err(format!("must be above 0, not `{text}`")),
            Err(reason) => Err(reason),
        }
    }

    /// Millionths of a per cent.
    pub fn millionths(self) -> i128 {
        self.0
    }
}

impl fmt::Display for Percent {
    /// Plain notation without trailing zeros: `5`, `2.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&trimmed(self.0, PERCENT_SCALE))
    }
}

impl Serialize for Percent {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A decimal without zeros at its end.
pub(super) fn trimmed(unscaled: i128, scale: u8) -> String {
    let text = decimal_text(unscaled, scale);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How a value is compared to the threshold; each keeps its true meaning (inclusive or not).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// 초과: more than.
    #[serde(rename = ">")]
    Over,
    /// 이상: at least.
    #[serde(rename = ">=")]
    AtLeast,
    /// 미만: less than.
    #[serde(rename = "<")]
    Under,
    /// 이하: at most.
    #[serde(rename = "<=")]
    AtMost,
}

impl Comparison {
    /// Reads a sign or a word.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            ">" | "초과" | "over" => Self::Over,
            ">=" | "≥" | "이상" | "at_least" => Self::AtLeast,
            "<" | "미만" | "under" => Self::Under,
            "<=" | "≤" | "이하" | "at_most" => Self::AtMost,
            _ => return None,
        })
    }

    /// The sign: `>`, `>=`, `<` or `<=`.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Over => ">",
            Self::AtLeast => ">=",
            Self::Under => "<",
            Self::AtMost => "<=",
        }
    }

    /// Whether a value that lies so to the threshold meets it.
    pub fn holds(self, value_to_threshold: std::cmp::Ordering) -> bool {
        match self {
            Self::Over => value_to_threshold.is_gt(),
            Self::AtLeast => value_to_threshold.is_ge(),
            Self::Under => value_to_threshold.is_lt(),
            Self::AtMost => value_to_threshold.is_le(),
        }
    }
}

/// Which direction of a change counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Both, by magnitude: a rule of 5 % fires at +5 % and at −5 %.
    Both,
    /// Only a rise.
    Up,
    /// Only a fall.
    Down,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Where an alert is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Channel {
    /// Mail to one address.
    Email {
        /// The address.
        to: String,
    },
}

impl Channel {
    /// The kind as rules and events name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Email { .. } => "email",
        }
    }
}

/// Language of what is sent to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Language {
    /// Korean.
    #[serde(rename = "ko")]
    Korean,
    /// English.
    #[serde(rename = "en")]
    English,
}

impl Language {
    /// The two-letter code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Korean => "ko",
            Self::English => "en",
        }
    }
}

/// Why a text is not a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// JSON pointer inside the rule, for example `/channels/0/to`; empty for the whole.
    pub pointer: String,
    /// What is wrong, for people.
    pub reason: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "at `{}`: {}", self.pointer, self.reason)
        }
    }
}

impl std::error::Error for RuleError {}

fn wrong(pointer: impl Into<String>, reason: impl Into<String>) -> RuleError {
    RuleError { pointer: pointer.into(), reason: reason.into() }
}

impl Rule {
    /// Reads a rule strictly: a field that is not known is an error, `null` counts as absent. `new_id` makes the id and `now` is the time
    /// of making of a rule that names none. What [`Self::to_json`] writes is read back as the same rule.
    pub fn parse(text: &str, now: Timestamp, new_id: impl FnOnce() -> String) -> Result<Self, RuleError> {
        if text.len() > MAX_RULE_BYTES {
            return Err(wrong("", format!("a rule has at most {MAX_RULE_BYTES} bytes, not {}", text.len())));
        }
        let node = json::parse_str(text).map_err(|e| wrong(e.pointer.clone(), e.to_string()))?;
        let fields = Fields::of(&node, "")?;
        fields.known(&[
            "id",
            "kind",
            "name",
            "user",
            "symbols",
            "threshold_pct",
            "comparison",
            "side",
            "window_minutes",
            "zone",
            "channels",
            "language",
            "enabled",
            "created",
        ])?;
        let condition = match fields.required("kind", Fields::text)? {
            "fluctuation" => Condition::Fluctuation(Fluctuation {
                threshold_pct: fields.required("threshold_pct", Fields::percent)?,
                comparison: fields.required("comparison", |f, name| {
                    f.word(name, Comparison::parse, "one of `>`, `>=`, `<`, `<=`, 초과, 이상, 미만, 이하")
                })?,
                side: fields
                    .word("side", |t| Side::deserialize(word(t)).ok(), "`both`, `up` or `down`")?
                    .unwrap_or(Side::Both),
            }),
            other => return Err(wrong("/kind", format!("there is no kind `{}`; known is `fluctuation`", clip(other)))),
        };
        Ok(Self {
            id: match fields.text("id")? {
                Some(id) => rule_id(id)?,
                None => rule_id(&new_id())?,
            },
            name: fields.line("name", MAX_NAME_BYTES)?,
            user: fields.required("user", |f, name| f.line(name, MAX_NAME_BYTES))?,
            condition,
            symbols: fields.symbols()?,
            window_minutes: fields.window()?,
            zone: fields
                .word("zone", |t| t.parse().ok(), "the IANA name of a time zone, such as `Asia/Seoul`")?
                .unwrap_or(Tz::Asia__Seoul),
            channels: fields.channels()?,
            language: fields
                .word("language", |t| Language::deserialize(word(t)).ok(), "`ko` or `en`")?
                .unwrap_or(Language::English),
            enabled: fields.flag("enabled")?.unwrap_or(true),
            created: fields.word("created", Timestamp::parse_rfc3339, "an RFC 3339 time")?.unwrap_or(now),
        })
    }

    /// The normal form: every field, words as signs, symbols sorted.
    pub fn to_json(&self) -> Json {
        let Condition::Fluctuation(condition) = &self.condition;
        json!({
            "id": self.id,
            "kind": self.condition.kind(),
            "name": self.name,
            "user": self.user,
            "symbols": self.symbols,
            "threshold_pct": condition.threshold_pct.to_string(),
            "comparison": condition.comparison.sign(),
            "side": condition.side.name(),
            "window_minutes": self.window_minutes,
            "zone": self.zone.name(),
            "channels": self.channels.iter().map(|Channel::Email { to }| json!({"kind": "email", "to": to})).collect::<Vec<_>>(),
            "language": self.language.code(),
            "enabled": self.enabled,
            "created": self.created.to_micros_text(),
        })
    }

    /// Whether the rule looks at a symbol.
    pub fn watches(&self, symbol: &str) -> bool {
        self.symbols.is_empty() || self.symbols.binary_search_by(|s| s.as_str().cmp(symbol)).is_ok()
    }
}

fn word(text: &str) -> serde::de::value::StrDeserializer<'_, serde::de::value::Error> {
    serde::de::IntoDeserializer::into_deserializer(text)
}

fn rule_id(text: &str) -> Result<String, RuleError> {
    let fits = (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if fits { Ok(text.to_owned()) } else { Err(wrong("/id", "an id is 1 to 128 of `[A-Za-z0-9._-]`")) }
}

fn clip(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

/// The members of an object of the rule, `null`s left out, and where it stands.
struct Fields<'n, 'a> {
    members: Vec<(&'n str, &'n Node<'a>)>,
    at: String,
}

impl<'n, 'a> Fields<'n, 'a> {
    fn of(node: &'n Node<'a>, at: &str) -> Result<Self, RuleError> {
        let object = node.as_object().ok_or_else(|| wrong(at, format!("must be an object, not {}", node.kind())))?;
        let members = object.0.iter().filter(|(_, n)| n.value != Value::Null).map(|(k, n)| (k.as_ref(), n)).collect();
        Ok(Self { members, at: at.to_owned() })
    }

    fn wrong(&self, name: &str, reason: impl Into<String>) -> RuleError {
        let mut pointer = self.at.clone();
        push_pointer(&mut pointer, name);
        wrong(pointer, reason)
    }

    fn known(&self, names: &[&str]) -> Result<(), RuleError> {
        match self.members.iter().find(|(name, _)| !names.contains(name)) {
            Some((name, _)) => {
                Err(self.wrong(name, format!("there is no field `{}`; known are {}", clip(name), names.join(", "))))
            }
            None => Ok(()),
        }
    }

    fn get(&self, name: &str) -> Option<&'n Node<'a>> {
        self.members.iter().find(|(n, _)| *n == name).map(|(_, node)| *node)
    }

    fn required<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Self, &str) -> Result<Option<T>, RuleError>,
    ) -> Result<T, RuleError> {
        read(self, name)?.ok_or_else(|| self.wrong(name, format!("`{name}` is missing")))
    }

    fn text(&self, name: &str) -> Result<Option<&'n str>, RuleError> {
        match self.get(name) {
            None => Ok(None),
            Some(node) => match node.as_str() {
                Some(text) => Ok(Some(text)),
                None => Err(self.wrong(name, format!("`{name}` must be text, not {}", node.kind()))),
            },
        }
    }

    /// One line of text.
    fn line(&self, name: &str, max_bytes: usize) -> Result<Option<String>, RuleError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if text.trim().is_empty() || text.len() > max_bytes || text.chars().any(char::is_control) {
            return Err(self.wrong(name, format!("`{name}` is one line of 1 to {max_bytes} bytes")));
        }
        Ok(Some(text.to_owned()))
    }

    fn word<T>(&self, name: &str, read: impl FnOnce(&str) -> Option<T>, wanted: &str) -> Result<Option<T>, RuleError> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) => match read(text) {
                Some(value) => Ok(Some(value)),
                None => Err(self.wrong(name, format!("`{name}` must be {wanted}, not `{}`", clip(text)))),
            },
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, RuleError> {
        match self.get(name).map(|n| &n.value) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(name, format!("`{name}` must be true or false"))),
        }
    }

    fn percent(&self, name: &str) -> Result<Option<Percent>, RuleError> {
        let text = match self.get(name).map(|n| &n.value) {
            None => return Ok(None),
            Some(Value::Number(text)) => text,
            Some(Value::String(text)) => text.as_ref(),
            Some(_) => return Err(self.wrong(name, format!("`{name}` must be a decimal number or its text"))),
        };
        Percent::parse(text).map(Some).map_err(|reason| self.wrong(name, format!("`{name}` {reason}")))
    }

    fn window(&self) -> Result<u32, RuleError> {
        let bad = || {
            self.wrong(
                "window_minutes",
                "`window_minutes` is a whole number from 1 to 1440 that divides a day of 1440 minutes",
            )
        };
        match self.get("window_minutes").map(|n| &n.value) {
            None => Ok(60),
            Some(Value::Number(text)) => match text.parse::<i64>() {
                Ok(n @ 1..=DAY_MINUTES) if DAY_MINUTES % n == 0 => u32::try_from(n).map_err(|_| bad()),
                _ => Err(bad()),
            },
            Some(_) => Err(bad()),
        }
    }

    fn list(&self, name: &str, max: usize) -> Result<&'n [Node<'a>], RuleError> {
        match self.get(name).map(|n| &n.value) {
            None => Ok(&[]),
            Some(Value::Array(items)) if items.len() <= max => Ok(items),
            Some(Value::Array(items)) => {
                Err(self.wrong(name, format!("`{name}` has {} elements, allowed are {max}", items.len())))
            }
            Some(_) => Err(self.wrong(name, format!("`{name}` must be a list"))),
        }
    }

    fn symbols(&self) -> Result<Vec<String>, RuleError> {
        let mut symbols = BTreeSet::new();
        for (i, node) in self.list("symbols", MAX_SYMBOLS)?.iter().enumerate() {
            let fits = |s: &&str| {
                (1..=MAX_SYMBOL_BYTES).contains(&s.len()) && !s.chars().any(|c| c.is_control() || c.is_whitespace())
            };
            let symbol = node.as_str().filter(fits).ok_or_else(|| {
                let what =
                    format!("a symbol is text of 1 to {MAX_SYMBOL_BYTES} bytes without spaces, as in \"005930\"");
                wrong(format!("{}/symbols/{i}", self.at), what)
            })?;
            symbols.insert(symbol.to_owned());
        }
        Ok(symbols.into_iter().collect())
    }

    fn channels(&self) -> Result<Vec<Channel>, RuleError> {
        let mut channels = Vec::new();
        for (i, node) in self.list("channels", MAX_CHANNELS)?.iter().enumerate() {
            let fields = Fields::of(node, &format!("{}/channels/{i}", self.at))?;
            let channel = match fields.required("kind", Fields::text)? {
                "email" => {
                    fields.known(&["kind", "to"])?;
                    let to = fields.required("to", |f, name| {
                        f.word(name, |t| is_address(t).then(|| t.to_owned()), "a mail address such as `a@example.org`")
                    })?;
                    Channel::Email { to }
                }
                other => {
                    return Err(
                        fields.wrong("kind", format!("there is no channel kind `{}`; known is `email`", clip(other)))
                    );
                }
            };
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        Ok(channels)
    }
}

/// Whether a text is a plain address `local@domain` (RFC 5321 without quoted local parts, comments and address literals).
pub fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let dotted = |part: &str, max: usize, fits: fn(u8) -> bool| {
        (1..=max).contains(&part.len()) && part.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(fits))
    };
    dotted(local, 64, |b| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&b))
        && dotted(domain, 189, |b| b.is_ascii_alphanumeric() || b == b'-')
        && domain.split('.').all(|label| label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEAST: &str = r#"{"kind":"fluctuation","user":"u1","threshold_pct":"5","comparison":">="}"#;

    fn parse(text: &str) -> Result<Rule, RuleError> {
        Rule::parse(text, Timestamp::from_micros(1_795_255_200_000_000).unwrap(), || "made".into())
    }

    /// The least rule with one more member or another value of one.
    fn with(member: &str) -> Result<Rule, RuleError> {
        let name = member.split(':').next().unwrap();
        let kept: Vec<&str> = LEAST
            .trim_matches(['{', '}'])
            .split(',')
            .filter(|m| !m.starts_with(&format!("{name}:")))
            .chain([member])
            .collect();
        parse(&format!("{{{}}}", kept.join(",")))
    }

    #[test]
    fn the_least_rule_gets_the_defaults() {
        let rule = parse(LEAST).unwrap();
        assert_eq!(
            rule.to_json().to_string(),
            r#"{"id":"made","kind":"fluctuation","name":null,"user":"u1","symbols":[],"threshold_pct":"5","comparison":">=","side":"both","window_minutes":60,"zone":"Asia/Seoul","channels":[],"language":"en","enabled":true,"created":"2026-11-21T10:00:00.000000Z"}"#
        );
    }

    #[test]
    fn the_normal_form_reads_back_as_the_same_rule() {
        let rule = parse(
            r#"{"id":"r-1","kind":"fluctuation","name":"반도체","user":"u1","symbols":["005930","000660","005930"],"threshold_pct":2.50,
                "comparison":"초과","side":"down","window_minutes":30,"zone":"America/New_York","language":"ko","enabled":false,
                "channels":[{"kind":"email","to":"a@example.org"},{"kind":"email","to":"a@example.org"}],"created":"2026-01-01T00:00:00Z"}"#,
        )
        .unwrap();
        assert_eq!(rule.symbols, ["000660", "005930"]);
        assert_eq!(rule.channels.len(), 1);
        let Condition::Fluctuation(condition) = &rule.condition;
        assert_eq!((condition.threshold_pct.to_string().as_str(), condition.comparison), ("2.5", Comparison::Over));
        assert_eq!(parse(&rule.to_json().to_string()).unwrap(), rule);
        assert!(rule.watches("005930") && !rule.watches("005935"));
        assert!(parse(LEAST).unwrap().watches("anything"));
    }

    #[test]
    fn words_and_signs_mean_the_same() {
        for (words, meaning) in [
            (["초과", ">", "over"], Comparison::Over),
            (["이상", ">=", "at_least"], Comparison::AtLeast),
            (["미만", "<", "under"], Comparison::Under),
            (["이하", "<=", "at_most"], Comparison::AtMost),
        ] {
            for word in words {
                let Condition::Fluctuation(condition) = with(&format!("\"comparison\":\"{word}\"")).unwrap().condition;
                assert_eq!(condition.comparison, meaning, "{word}");
            }
        }
    }

    #[test]
    fn mistakes_are_named_by_pointer() {
        for (member, pointer) in [
            (r#""treshold":5"#, "/treshold"),
            (r#""a/b":5"#, "/a~1b"),
            (r#""kind":"goal""#, "/kind"),
            (r#""kind":1"#, "/kind"),
            (r#""kind":null"#, "/kind"),
            (r#""user":"""#, "/user"),
            (r#""user":"a\nb""#, "/user"),
            (r#""name":"a\r\nBcc: b@example.org""#, "/name"),
            (r#""threshold_pct":0"#, "/threshold_pct"),
            (r#""threshold_pct":-5"#, "/threshold_pct"),
            (r#""threshold_pct":"five""#, "/threshold_pct"),
            (r#""threshold_pct":0.0000001"#, "/threshold_pct"),
            (r#""threshold_pct":1e6"#, "/threshold_pct"),
            (r#""threshold_pct":[]"#, "/threshold_pct"),
            (r#""comparison":"=""#, "/comparison"),
            (r#""side":"left""#, "/side"),
            (r#""window_minutes":0"#, "/window_minutes"),
            (r#""window_minutes":7"#, "/window_minutes"),
            (r#""window_minutes":1.5"#, "/window_minutes"),
            (r#""window_minutes":2880"#, "/window_minutes"),
            (r#""zone":"Asia/Soul""#, "/zone"),
            (r#""language":"kr""#, "/language"),
            (r#""enabled":"yes""#, "/enabled"),
            (r#""created":"now""#, "/created"),
            (r#""id":"a b""#, "/id"),
            (r#""id":"""#, "/id"),
            (r#""symbols":"005930""#, "/symbols"),
            (r#""symbols":["a",5930]"#, "/symbols/1"),
            (r#""symbols":[""]"#, "/symbols/0"),
            (r#""channels":{}"#, "/channels"),
            (r#""channels":[1]"#, "/channels/0"),
            (r#""channels":[{"to":"a@example.org"}]"#, "/channels/0/kind"),
            (r#""channels":[{"kind":"fax"}]"#, "/channels/0/kind"),
            (r#""channels":[{"kind":"email"}]"#, "/channels/0/to"),
            (r#""channels":[{"kind":"email","to":"a@example.org","cc":"b"}]"#, "/channels/0/cc"),
        ] {
            assert_eq!(with(member).unwrap_err().pointer, pointer, "{member}");
        }
        assert_eq!(parse("[]").unwrap_err().pointer, "");
        assert_eq!(parse(r#"{"user":"a","user":"b"}"#).unwrap_err().pointer, "");
        assert!(parse(&" ".repeat(MAX_RULE_BYTES + 1)).unwrap_err().reason.contains("at most"));
    }

    #[test]
    fn only_plain_addresses_are_taken() {
        for good in ["a@example.org", "first.last+tag@mail.example.org", "a@localhost"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "@example.org",
            "a@",
            "a@b@example.org",
            "a b@example.org",
            "a@example..org",
            "a@-example.org",
            ".a@example.org",
            "a@example.org\n",
            "a@example.org, b@example.org",
            "<a@example.org>",
            "\"a\"@example.org",
            "a@[127.0.0.1]",
            "a@예.org",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_or_refused_without_panic(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn any_value_of_any_field_is_taken_or_refused_without_panic(
            name in prop::sample::select(vec!["id", "kind", "name", "user", "symbols", "threshold_pct", "comparison", "side", "window_minutes", "zone",
                "channels", "language", "enabled", "created", "x"]),
            value in prop::sample::select(vec!["null", "true", "-1", "1e99", "1e-99", "0.5", "99999999999999999999", "\"\"", "\"x\"", "\"1e5\"", "[]", "[null]",
                "[[]]", "[{}]", "{}", "{\"kind\":\"email\"}", "[{\"kind\":\"email\",\"to\":\"\"}]", "\"\\u0000\"", "1440", "60"]),
        ) {
            if let Ok(rule) = with(&format!("\"{name}\":{value}")) {
                prop_assert_eq!(parse(&rule.to_json().to_string()).unwrap(), rule);
            }
        }

        #[test]
        fn thresholds_keep_their_value(millionths in 1i128..1_000_000_000_000) {
            let percent = Percent(millionths);
            prop_assert_eq!(Percent::parse(&percent.to_string()), Ok(percent));
        }
    }
}
