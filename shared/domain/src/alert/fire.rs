use super::rule::{Channel, Condition, Fluctuation, Language, Rule, Side, trimmed};
use super::{FIRED, SOURCE, moment, zone};
use crate::event::{Data, Event, write_members};
use crate::identity::hex_id;
use crate::json::{self, Object, Value};
use crate::schema::{Violation, decimal, decimal_text};
use crate::time::{SECOND_US, Timestamp};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// Digits of a price and of a change, as `quote.trade` has them.
const PRICE_DIGITS: (u8, u8) = (18, 6);
/// Digits behind the point of a change in per cent, as it is shown; the comparison does not use them.
const SHOWN_SCALE: u8 = 4;
/// Changes beyond this are shown as this, so that they fit the column `change_pct` of 12 digits, 6 of them behind the point.
const MAX_SHOWN: i128 = 9_999_999_999;
/// Longest symbol that is evaluated, in bytes: more than `quote.trade` allows.
const MAX_SYMBOL_BYTES: usize = 128;
/// Longest name and currency that an alert repeats, in characters, as `alert.fired` has them.
const MAX_NAME_CHARS: usize = 128;
const MAX_CURRENCY_CHARS: usize = 8;

/// The direction of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Above the previous close.
    Up,
    /// Below it.
    Down,
    /// At it; only a rule that fires *below* a threshold sees this.
    Flat,
}

impl Direction {
    /// The word in events and in the alert's id.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Flat => "flat",
        }
    }

    fn of(change: i128) -> Self {
        match change {
            0 => Self::Flat,
            1.. => Self::Up,
            _ => Self::Down,
        }
    }
}

/// What rules look at in a `quote.trade` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trade<'e> {
    /// Stock code.
    pub symbol: &'e str,
    /// Name of the stock.
    pub name: Option<&'e str>,
    /// Currency code.
    pub currency: Option<&'e str>,
    /// Price in millionths.
    pub price: i128,
    /// Signed change against the previous close in millionths; `None` on a first row.
    pub change: Option<i128>,
    /// When it was traded.
    pub time: Timestamp,
    /// Hops of the event.
    pub hops: i64,
}

impl<'e> Trade<'e> {
    /// Reads a trade; `None` where no rule looks at it: it is halted, or has no price. A value of the wrong kind is an error.
    pub fn read(event: &'e Event<'_>) -> Result<Option<Self>, Violation> {
        let Data::Json(node) = &event.data else { return Ok(None) };
        let Some(data) = node.as_object() else {
            return Err(misfit("", "must be an object"));
        };
        match data.get("halted").map(|n| &n.value) {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(Value::Bool(true)) => return Ok(None),
            Some(_) => return Err(misfit("halted", "must be true or false")),
        }
        let symbol = match (text(data, "symbol")?, event.subject.as_deref()) {
            (Some(symbol), _) | (None, Some(symbol)) if !symbol.is_empty() => symbol,
            _ => return Err(misfit("symbol", "is missing")),
        };
        if symbol.len() > MAX_SYMBOL_BYTES {
            return Err(misfit("symbol", "is too long"));
        }
        let Some(price) = number(data, "price")? else { return Ok(None) };
        Ok(Some(Self {
            symbol,
            name: text(data, "name")?,
            currency: text(data, "currency")?,
            price,
            change: number(data, "change")?,
            time: event.time,
            hops: event.hops.unwrap_or(0),
        }))
    }
}

fn misfit(name: &str, what: &str) -> Violation {
    let mut pointer = String::from("/data");
    if !name.is_empty() {
        json::push_pointer(&mut pointer, name);
    }
    Violation { pointer, code: "schema", reason: format!("`{}` {what}", if name.is_empty() { "data" } else { name }) }
}

fn text<'d>(data: &'d Object<'_>, name: &str) -> Result<Option<&'d str>, Violation> {
    match data.get(name) {
        None => Ok(None),
        Some(node) if node.value == Value::Null => Ok(None),
        Some(node) => node.as_str().map(Some).ok_or_else(|| misfit(name, "must be text")),
    }
}

fn number(data: &Object<'_>, name: &str) -> Result<Option<i128>, Violation> {
    let digits = match data.get(name).map(|n| &n.value) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(digits)) => digits,
        Some(Value::String(digits)) => digits.as_ref(),
        Some(_) => return Err(misfit(name, "must be a decimal number or its text")),
    };
    decimal(digits, PRICE_DIGITS.0, PRICE_DIGITS.1).map(Some).map_err(|what| misfit(name, &what))
}

impl Rule {
    /// Whether a trade fires the rule, and in which direction. Whether the rule is enabled and watches the symbol is not asked here.
    pub fn fires(&self, trade: &Trade<'_>) -> Option<Direction> {
        match &self.condition {
            Condition::Fluctuation(condition) => condition.fires(trade),
        }
    }
}

impl Fluctuation {
    /// Change % = change / (price − change) × 100, compared without dividing: |change| × 100 to threshold × previous close.
    ///
    /// With 18 digits of price and 12 of threshold both sides stay below 10³⁰.
    fn fires(&self, trade: &Trade<'_>) -> Option<Direction> {
        let change = trade.change?;
        let previous = trade.price - change;
        if previous <= 0 {
            return None;
        }
        let direction = Direction::of(change);
        let counts = match self.side {
            Side::Both => true,
            Side::Up => direction == Direction::Up,
            Side::Down => direction == Direction::Down,
        };
        let size = change.abs() * 100 * 1_000_000;
        let bound = self.threshold_pct.millionths() * previous;
        (counts && self.comparison.holds(size.cmp(&bound))).then_some(direction)
    }
}

/// Change in per cent with [`SHOWN_SCALE`] digits behind the point, half away from zero; 0 where it cannot be computed.
fn shown_pct(price: i128, change: i128) -> i128 {
    let previous = price - change;
    if previous <= 0 {
        return 0;
    }
    let size = change.abs() * 100 * 10_i128.pow(SHOWN_SCALE.into());
    let rounded = ((2 * size + previous) / (2 * previous)).min(MAX_SHOWN);
    if change < 0 { -rounded } else { rounded }
}

/// The rules that are evaluated, by what they look at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watchlist {
    rules: Vec<Rule>,
    event_types: BTreeSet<&'static str>,
    by_symbol: HashMap<String, Vec<usize>>,
    of_all_symbols: Vec<usize>,
}

impl Watchlist {
    /// The enabled ones among these rules.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let mut list = Self::default();
        for rule in rules.into_iter().filter(|r| r.enabled) {
            let at = list.rules.len();
            list.event_types.insert(rule.condition.event_type());
            if rule.symbols.is_empty() {
                list.of_all_symbols.push(at);
            }
            for symbol in &rule.symbols {
                list.by_symbol.entry(symbol.clone()).or_default().push(at);
            }
            list.rules.push(rule);
        }
        list
    }

    /// Whether any rule looks at events of this type.
    pub fn looks_at(&self, event_type: &str) -> bool {
        self.event_types.contains(event_type)
    }

    /// The rules that a trade fires, with the direction, in the order of the rules.
    pub fn fired_by<'w>(&'w self, trade: &Trade<'_>) -> impl Iterator<Item = (&'w Rule, Direction)> {
        let named = self.by_symbol.get(trade.symbol).map_or(&[][..], Vec::as_slice);
        let mut at: Vec<usize> = [named, &self.of_all_symbols].concat();
        at.sort_unstable();
        at.into_iter()
            .filter_map(|i| self.rules[i].fires(trade).map(|d| (&self.rules[i], d)))
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// The alert's id: a hash of what one message is sent for, (rule, symbol, direction, window). 32 hexadecimal digits.
pub fn alert_id(rule_id: &str, symbol: &str, direction: Direction, window_start: Timestamp) -> String {
    hex_id(&[
        b"alert",
        rule_id.as_bytes(),
        symbol.as_bytes(),
        direction.name().as_bytes(),
        &window_start.micros().to_le_bytes(),
    ])
}

/// A rule that fired: all that is told of it, as it was when it was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// See [`alert_id`].
    pub id: String,
    /// The rule.
    pub rule_id: String,
    /// The rule's name.
    pub rule_name: Option<String>,
    /// Whose rule it is.
    pub user: String,
    /// What fired it.
    pub condition: Condition,
    /// Stock code.
    pub symbol: String,
    /// Name of the stock.
    pub name: Option<String>,
    /// Currency code.
    pub currency: Option<String>,
    /// Direction of the change.
    pub direction: Direction,
    /// Price, plain decimal text.
    pub price: String,
    /// Signed change, plain decimal text.
    pub change: String,
    /// Signed change in per cent, plain decimal text, rounded to four digits behind the point.
    pub change_pct: String,
    /// Time of the trade.
    #[serde(with = "moment")]
    pub time: Timestamp,
    /// Begin of the window.
    #[serde(with = "moment")]
    pub window_start: Timestamp,
    /// End of the window, not part of it.
    #[serde(with = "moment")]
    pub window_end: Timestamp,
    /// Zone of the market.
    #[serde(with = "zone")]
    pub zone: Tz,
    /// Where it is sent.
    pub channels: Vec<Channel>,
    /// Language of what is sent.
    pub language: Language,
    /// When it was decided; the receive time of its event.
    #[serde(with = "moment")]
    pub decided: Timestamp,
    /// Hops of its event: those of the trade and one more.
    pub hops: i64,
}

impl Alert {
    /// The alert of a rule that a trade fired, decided at `decided`.
    pub fn new(rule: &Rule, trade: &Trade<'_>, direction: Direction, decided: Timestamp) -> Self {
        let (window_start, window_end) = trade.time.window(i64::from(rule.window_minutes) * 60 * SECOND_US, rule.zone);
        let change = trade.change.unwrap_or_default();
        Self {
            id: alert_id(&rule.id, trade.symbol, direction, window_start),
            rule_id: rule.id.clone(),
            rule_name: rule.name.clone(),
            user: rule.user.clone(),
            condition: rule.condition.clone(),
            symbol: trade.symbol.to_owned(),
            name: trade.name.map(|name| name.chars().take(MAX_NAME_CHARS).collect()),
            currency: trade.currency.map(|currency| currency.chars().take(MAX_CURRENCY_CHARS).collect()),
            direction,
            price: trimmed(trade.price, PRICE_DIGITS.1),
            change: trimmed(change, PRICE_DIGITS.1),
            change_pct: decimal_text(shown_pct(trade.price, change), SHOWN_SCALE),
            time: trade.time,
            window_start,
            window_end,
            zone: rule.zone,
            channels: rule.channels.clone(),
            language: rule.language,
            decided,
            hops: trade.hops + 1,
        }
    }

    /// The data of the alert's event, a JSON object. It names no recipient, no user and nothing that a user wrote but the symbol's own
    /// name.
    pub fn event_data(&self) -> String {
        let Condition::Fluctuation(condition) = &self.condition;
        let quoted = |text: &str| {
            let mut out = String::new();
            json::write_string(&mut out, text);
            out
        };
        let kinds: BTreeSet<String> = self.channels.iter().map(|c| quoted(c.kind())).collect();
        let kinds: Vec<String> = kinds.into_iter().collect();
        let mut members = vec![
            ("rule_id", quoted(&self.rule_id)),
            ("rule_kind", quoted(self.condition.kind())),
            ("value", self.change_pct.clone()),
            ("threshold", condition.threshold_pct.to_string()),
            ("window_start", quoted(&self.window_start.to_micros_text())),
            ("window_end", quoted(&self.window_end.to_micros_text())),
            ("message", quoted(&self.message())),
            ("channels", format!("[{}]", kinds.join(","))),
        ];
        if self.direction != Direction::Flat {
            members.push(("direction", quoted(self.direction.name())));
        }
        members.extend(self.name.as_deref().map(|name| ("name", quoted(name))));
        members.extend([
            ("price", quoted(&self.price)),
            ("change", quoted(&self.change)),
            ("change_pct", quoted(&self.change_pct)),
        ]);
        members.extend(self.currency.as_deref().map(|currency| ("currency", quoted(currency))));
        let mut out = String::new();
        write_members(&mut out, members.iter().map(|(name, raw)| (*name, raw.as_str())));
        out
    }

    /// The alert's event as it stands in a message: always the same text for the same alert.
    pub fn event_text(&self) -> String {
        let data = self.event_data();
        let mut out = String::new();
        // What `event_data` wrote is JSON; were it not, the event would go without data rather than not at all.
        let node = json::parse_str(&data).unwrap_or(json::Node { raw: "{}", value: Value::Object(Object::default()) });
        let mut event = Event::derived(&self.id, SOURCE, FIRED, self.time, self.decided, node);
        event.subject = Some(self.symbol.as_str().into());
        event.hops = Some(self.hops);
        event.write(&mut out);
        out
    }

    /// The id of the batch that carries the alert's event.
    pub fn batch_id(&self) -> String {
        hex_id(&[b"alert batch", self.id.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Shared;
    use crate::schema::Registry;
    use proptest::prelude::*;

    fn rule(members: &str) -> Rule {
        let text = format!(
            r#"{{"id":"r","kind":"fluctuation","user":"u","channels":[{{"kind":"email","to":"a@example.org"}}],{members}}}"#
        );
        Rule::parse(&text, Timestamp::default(), String::new).unwrap()
    }

    fn five(comparison: &str, side: &str) -> Rule {
        rule(&format!(r#""threshold_pct":5,"comparison":"{comparison}","side":"{side}""#))
    }

    fn trade(price: &str, change: &str) -> Trade<'static> {
        Trade {
            symbol: "005930",
            name: Some("삼성전자"),
            currency: Some("KRW"),
            price: decimal(price, 18, 6).unwrap(),
            change: Some(decimal(change, 18, 6).unwrap()),
            time: Timestamp::parse_rfc3339("2026-11-20T00:30:00Z").unwrap(),
            hops: 0,
        }
    }

    /// Reads a trade from an event of a message and says what it is, or where it is wrong.
    fn read(data: &str) -> Result<Option<(i128, Option<i128>)>, String> {
        let text = format!(
            r#"{{"id":"1","source":"s","type":"quote.trade","time":"2026-11-20T00:30:00Z","subject":"005930","data":{data}}}"#
        );
        let event = Event::read(json::parse_str(&text).unwrap(), &Shared::default()).unwrap();
        Trade::read(&event).map(|t| t.map(|t| (t.price, t.change))).map_err(|v| v.pointer)
    }

    #[test]
    fn inclusive_and_exclusive_words_differ_at_exactly_the_threshold() {
        // 105 against 100 and 95 against 100: exactly ±5 %.
        for (word, at, above, below) in [
            ("초과", false, true, false),
            ("이상", true, true, false),
            ("미만", false, false, true),
            ("이하", true, false, true),
        ] {
            for (exact, more, less) in [
                (("105", "5"), ("105.000001", "5.000001"), ("104.999999", "4.999999")),
                (("95", "-5"), ("94.999999", "-5.000001"), ("95.000001", "-4.999999")),
            ] {
                let fires = |(price, change): (&str, &str)| five(word, "both").fires(&trade(price, change)).is_some();
                assert_eq!((fires(exact), fires(more), fires(less)), (at, above, below), "{word} {exact:?}");
            }
        }
    }

    #[test]
    fn the_side_chooses_the_direction() {
        let rise = trade("110", "10");
        let fall = trade("90", "-10");
        assert_eq!(five(">=", "both").fires(&rise), Some(Direction::Up));
        assert_eq!(five(">=", "both").fires(&fall), Some(Direction::Down));
        assert_eq!(five(">=", "up").fires(&fall), None);
        assert_eq!(five(">=", "down").fires(&fall), Some(Direction::Down));
        assert_eq!(five(">=", "down").fires(&rise), None);
        assert_eq!(five("<", "both").fires(&trade("100", "0")), Some(Direction::Flat));
        assert_eq!(five("<", "up").fires(&trade("100", "0")), None);
    }

    #[test]
    fn trades_without_a_previous_close_are_not_evaluated() {
        let all = five(">", "both");
        assert_eq!(all.fires(&Trade { change: None, ..trade("100", "0") }), None);
        assert_eq!(all.fires(&trade("100", "100")), None);
        assert_eq!(all.fires(&trade("100", "150")), None);
    }

    #[test]
    fn trades_are_read_exactly_and_halted_ones_left_out() {
        assert_eq!(
            read(r#"{"symbol":"005930","price":"55700","change":-200}"#),
            Ok(Some((55_700_000_000, Some(-200_000_000))))
        );
        assert_eq!(read(r#"{"price":0.1,"change":null,"halted":false}"#), Ok(Some((100_000, None))));
        assert_eq!(read(r#"{"symbol":"005930","price":1,"change":1,"halted":true}"#), Ok(None));
        assert_eq!(read(r#"{"symbol":"005930"}"#), Ok(None));
        assert_eq!(read(r#"{"symbol":5930,"price":1}"#), Err("/data/symbol".into()));
        assert_eq!(read(r#"{"symbol":"a","price":"dear"}"#), Err("/data/price".into()));
        assert_eq!(read(r#"{"symbol":"a","price":1,"change":{}}"#), Err("/data/change".into()));
        assert_eq!(read(r#"{"symbol":"a","price":1,"halted":"no"}"#), Err("/data/halted".into()));
        assert_eq!(read("[]"), Err("/data".into()));
    }

    #[test]
    fn an_alert_is_the_same_for_every_trade_of_a_window() {
        let rule = five(">=", "both");
        let at = |time: &str, price: &str, change: &str| {
            let trade = Trade { time: Timestamp::parse_rfc3339(time).unwrap(), ..trade(price, change) };
            Alert::new(&rule, &trade, rule.fires(&trade).unwrap(), trade.time)
        };
        let first = at("2026-11-20T00:00:00Z", "110", "10");
        assert_eq!(first.id, at("2026-11-20T00:59:59.999999Z", "120", "20").id);
        assert_ne!(first.id, at("2026-11-20T01:00:00Z", "110", "10").id);
        assert_ne!(first.id, at("2026-11-20T00:00:00Z", "90", "-10").id);
        assert_eq!(
            (first.window_start.to_string(), first.window_end.to_string()),
            ("2026-11-20T00:00:00.000Z".into(), "2026-11-20T01:00:00.000Z".into())
        );
        assert_ne!(first.batch_id(), first.id);
    }

    #[test]
    fn the_event_tells_the_change_and_no_recipient() {
        let rule = rule(r#""threshold_pct":"2.50","comparison":">","name":"for a@example.org""#);
        let trade = Trade { hops: 2, ..trade("55700", "2000") };
        let alert = Alert::new(&rule, &trade, rule.fires(&trade).unwrap(), trade.time);
        let text = alert.event_text();
        assert_eq!(
            text,
            format!(
                r#"{{"id":"{}","source":"sluice","type":"alert.fired","time":"2026-11-20T00:30:00.000000Z","subject":"005930","specversion":"1.0","hops":3,"data":{{"rule_id":"r","rule_kind":"fluctuation","value":3.7244,"threshold":2.5,"window_start":"2026-11-20T00:00:00.000000Z","window_end":"2026-11-20T01:00:00.000000Z","message":"Change alert: 삼성전자 (005930) 55,700 KRW, +2,000, +3.7244 %","channels":["email"],"direction":"up","name":"삼성전자","price":"55700","change":"2000","change_pct":"3.7244","currency":"KRW"}}}}"#,
                alert.id
            )
        );
        assert!(!text.contains('@'));
        let stored = serde_json::to_string(&alert).unwrap();
        assert_eq!(serde_json::from_str::<Alert>(&stored).unwrap(), alert);
    }

    #[test]
    fn the_event_fits_the_schema_of_its_type() {
        let generic = r#"{"type":"object","x-type":"event"}"#;
        let fired = include_str!("../../../../schemas/alert.fired.json");
        let registry = Registry::load([("event.json", generic), ("alert.fired.json", fired)]).unwrap();
        let below = rule(r#""threshold_pct":"999999.999999","comparison":"<""#);
        let name = "이름".repeat(200);
        for (price, change, name, currency) in [
            ("110", "10", Some("삼성전자"), Some("KRW")),
            ("100", "0", None, None),
            ("999999999999.999999", "999999999999.999998", Some(name.as_str()), Some("not a currency")),
            ("0.000001", "-999999999999.999998", Some("\"\n"), None),
        ] {
            let trade = Trade { name, currency, ..trade(price, change) };
            let alert = Alert::new(&below, &trade, Direction::of(trade.change.unwrap()), trade.time);
            let text = alert.event_text();
            let event = Event::read(json::parse_str(&text).unwrap(), &Shared::default()).unwrap();
            assert_eq!(event.check_data(&registry), Ok(()), "{text}");
        }
    }

    #[test]
    fn the_watchlist_asks_the_rules_of_the_symbol_and_those_of_all() {
        let named = |id: &str, symbols: &str, enabled: bool| {
            let text = format!(
                r#"{{"id":"{id}","kind":"fluctuation","user":"u","threshold_pct":5,"comparison":">=","symbols":{symbols},"enabled":{enabled}}}"#
            );
            Rule::parse(&text, Timestamp::default(), String::new).unwrap()
        };
        let list = Watchlist::new([
            named("all", "[]", true),
            named("other", r#"["000660"]"#, true),
            named("this", r#"["000660","005930"]"#, true),
            named("off", "[]", false),
        ]);
        let ids: Vec<&str> = list.fired_by(&trade("110", "10")).map(|(r, _)| r.id.as_str()).collect();
        assert_eq!(ids, ["all", "this"]);
        assert!(list.looks_at("quote.trade") && !list.looks_at("quote.book"));
        assert!(!Watchlist::new([named("off", "[]", false)]).looks_at("quote.trade"));
    }

    proptest! {
        #[test]
        fn the_comparison_equals_a_rational_oracle(
            previous in 1i64..2_000_000, change in -1_000_000i64..1_000_000, threshold in 1u32..4_000, sign in prop::sample::select(vec![">", ">=", "<", "<="]),
        ) {
            // Half of the cases lie exactly on the threshold: previous × threshold / 10,000 with a previous that 10,000 divides.
            for (previous, change) in [(previous, change), (previous - previous % 10_000 + 10_000, (previous / 10_000 + 1) * i64::from(threshold))] {
                let rule = rule(&format!(r#""threshold_pct":"{}.{:02}","comparison":"{sign}""#, threshold / 100, threshold % 100));
                let subject = trade(&(previous + change).to_string(), &change.to_string());
                // |change| / previous to threshold / 10,000, in integers of another arrangement than the code's.
                let order = (change.unsigned_abs() * 10_000).cmp(&(u64::from(threshold) * previous.unsigned_abs()));
                let expected = match sign { ">" => order.is_gt(), ">=" => order.is_ge(), "<" => order.is_lt(), _ => order.is_le() };
                prop_assert_eq!(rule.fires(&subject).is_some(), expected);
                // A float agrees wherever the case is not too close to call.
                let float = change.abs() as f64 / previous as f64 * 100.0 - f64::from(threshold) / 100.0;
                if float.abs() > 1e-6 {
                    prop_assert_eq!(rule.fires(&subject).is_some(), if sign.starts_with('>') { float > 0.0 } else { float < 0.0 });
                }
            }
        }

        #[test]
        fn no_price_and_change_overflow(price in -10i128.pow(18) + 1..10i128.pow(18), change in -10i128.pow(18) + 1..10i128.pow(18)) {
            let subject = Trade { price, change: Some(change), ..trade("1", "0") };
            let all = rule(r#""threshold_pct":"999999.999999","comparison":"<""#);
            let alert = Alert::new(&all, &subject, Direction::of(change), subject.time);
            prop_assert!(decimal(&alert.change_pct, 12, 6).is_ok(), "{}", alert.change_pct);
            let _ = all.fires(&subject);
        }
    }
}
