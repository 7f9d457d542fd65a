//! Made-up events to try things on: one day of a shop, a game and a price, and an endless mix for measuring. The same input always
//! gives the same events.

use crate::identity::hex_id;
use crate::json::write_string;
use crate::schema::decimal_text;
use crate::time::{DAY_US, HOUR_US, SECOND_US, Timestamp, date_text};
use chrono_tz::Asia::Seoul;
use std::fmt::Write as _;

/// Symbol of the demo's price series.
pub const SYMBOL: &str = "SLUICE";
/// Source of the demo's price series.
pub const MARKET: &str = "demo-market";
/// Source of the demo's web events and requests.
pub const SHOP: &str = "shop";
/// Source of the demo's games.
pub const GAME: &str = "square-blitz";
/// Who plays the demo's games, each two or three times.
const PLAYERS: u64 = 100;

/// What [`day`] holds, whatever the day, so that counts can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// All events.
    pub events: usize,
    /// Events by type, in order of type.
    pub by_type: &'static [(&'static str, usize)],
    /// `http.access` events by status, in order of status.
    pub by_status: &'static [(u16, usize)],
    /// `quote.trade` rows that are not halted and have |change| ≥ 5 % of the previous close.
    pub rows_at_5_pct: usize,
    /// What a rule on [`SYMBOL`] of 5 % or more, by magnitude, tells: one message per direction and hour, in order.
    pub alerts: &'static [ExpectedAlert],
    /// How many of them remain for a rule of more than 5 %.
    pub alerts_above_5_pct: usize,
}

/// The first row of an hour that a ±5 % rule tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedAlert {
    /// Hour in Asia/Seoul.
    pub hour: u32,
    /// Minute.
    pub minute: u32,
    /// `up` or `down`.
    pub direction: &'static str,
}

/// See [`Expected`].
pub const EXPECTED: Expected = Expected {
    events: 5_614,
    by_type: &[
        ("game.result", 234),
        ("game.start", 260),
        ("http.access", 2_417),
        ("quote.trade", 391),
        ("web.event", 2_312),
    ],
    by_status: &[(200, 1_856), (201, 291), (301, 43), (304, 165), (404, 49), (500, 13)],
    rows_at_5_pct: 38,
    alerts: &[
        ExpectedAlert { hour: 9, minute: 30, direction: "up" },
        ExpectedAlert { hour: 10, minute: 20, direction: "up" },
        ExpectedAlert { hour: 11, minute: 15, direction: "down" },
        ExpectedAlert { hour: 13, minute: 5, direction: "up" },
        ExpectedAlert { hour: 13, minute: 40, direction: "down" },
        ExpectedAlert { hour: 14, minute: 55, direction: "up" },
        ExpectedAlert { hour: 15, minute: 0, direction: "up" },
    ],
    alerts_above_5_pct: 6,
};

/// The events of the UTC day in which `start` lies, as JSON texts of CloudEvents in the order of their times: visits to a shop
/// (`web.event`, `http.access`), games (`game.start`, `game.result`) and a price by the minute (`quote.trade`). [`EXPECTED`] counts them.
///
/// Ids come from the day: sending a day twice is sending the same events twice.
pub fn day(start: Timestamp) -> Vec<String> {
    let midnight = start.plus_micros(-start.micros().rem_euclid(DAY_US));
    let mut day = Day { midnight, random: Random(0x51_u64), events: Vec::with_capacity(6_000) };
    day.visits();
    day.games();
    day.prices();
    day.events.sort_by_key(|(time, number, _)| (*time, *number));
    day.events.into_iter().map(|(_, _, text)| text).collect()
}

struct Day {
    midnight: Timestamp,
    random: Random,
    /// Time, number and text.
    events: Vec<(Timestamp, usize, String)>,
}

/// Visits per hour of the day in Seoul; people shop in the evening.
const VISITS_BY_HOUR: [u64; 24] =
    [14, 9, 6, 4, 3, 4, 8, 14, 20, 24, 26, 28, 32, 28, 24, 24, 25, 27, 30, 36, 42, 44, 36, 24];
const PRODUCTS: [(&str, &str, u64); 8] = [
    ("running-shoes", "가벼운 운동화", 89_000),
    ("rain-jacket", "방수 재킷", 129_000),
    ("wool-socks", "양모 양말", 12_000),
    ("water-bottle", "보온 물병", 24_000),
    ("trail-map", "둘레길 지도", 9_000),
    ("head-lamp", "머리 전등", 39_000),
    ("tent", "2인용 텐트", 249_000),
    ("trekking-pole", "등산 스틱", 54_000),
];
const NICKNAMES: [&str; 12] = [
    "번개손",
    "네모왕",
    "느긋한곰",
    "빠른토끼",
    "새벽별",
    "파란하늘",
    "호랑이",
    "딸기우유",
    "강철손가락",
    "달빛",
    "첫눈",
    "고양이발",
];

impl Day {
    fn at(&self, micros: u64) -> Timestamp {
        self.midnight.plus_micros(i64::try_from(micros).unwrap_or_default())
    }

    fn push(&mut self, source: &str, event_type: &str, time: Timestamp, attributes: &str, data: &str) {
        let number = self.events.len();
        let day = self.midnight.micros().to_le_bytes();
        let id = hex_id(&[b"demo", &day, &(number as u64).to_le_bytes()]);
        let mut text = String::with_capacity(data.len() + 256);
        let time_text = time.to_micros_text();
        let _ = write!(
            text,
            r#"{{"specversion":"1.0","id":"{id}","source":"{source}","type":"{event_type}","time":"{time_text}"{attributes},"data":{{{data}}}}}"#
        );
        self.events.push((time, number, text));
    }

    fn visits(&mut self) {
        for (hour, visits) in VISITS_BY_HOUR.iter().enumerate() {
            for _ in 0..*visits {
                // Seoul is nine hours ahead; what is tomorrow there is the end of this UTC day.
                let hour = (hour as u64 + 15) % 24;
                let start = hour * HOUR_US.unsigned_abs() + self.random.below(HOUR_US.unsigned_abs());
                self.visit(start);
            }
        }
    }

    fn visit(&mut self, start: u64) {
        let visitor = format!("{:016x}", self.random.next());
        let is_new = self.random.below(3) == 0;
        let member = (self.random.below(4) == 0).then(|| format!("m{:04}", self.random.below(200)));
        let resolution = ["1920x1080", "1440x900", "390x844", "412x915"][self.random.index(4)];
        let mut referer = ["", "https://search.example/?q=%EC%9A%B4%EB%8F%99%ED%99%94", "https://news.example/"]
            [self.random.index(3)]
        .to_owned();
        let (mut at, end) = (start, DAY_US.unsigned_abs() - 1);
        for page in 0..=self.random.below(7) {
            let (slug, title, price) = PRODUCTS[self.random.index(PRODUCTS.len())];
            let (route, path, title) = match self.random.below(if page == 0 { 3 } else { 10 }) {
                0 => ("/", "/".to_owned(), "슬루스 상점".to_owned()),
                1 => ("/search", "/search?q=shoes".to_owned(), "찾기 - 슬루스 상점".to_owned()),
                _ => ("/products/{id}", format!("/products/{slug}"), format!("{title} - 슬루스 상점")),
            };
            let status = match self.random.below(200) {
                0 => 500,
                1..=5 => 404,
                6..=9 => 301,
                10..=25 => 304,
                _ => 200,
            };
            let time = self.at(at.min(end));
            self.request(time, ("GET", route, &path, status), &referer);
            let url = format!("https://shop.example{path}");
            if matches!(status, 200 | 304) {
                let page = Page { visitor: &visitor, member: member.as_deref(), resolution, is_new, url: &url };
                let seen = self.at((at + 200_000).min(end));
                self.page_view(seen, &page, &title, &referer);
                if route.starts_with("/products") && self.random.below(5) == 0 {
                    let clicked = self.at((at + 6_000_000).min(end));
                    self.add_to_cart(clicked, &page, slug, price);
                    self.request(clicked, ("POST", "/cart", "/cart", 201), &url);
                }
            }
            referer = url;
            at += 8_000_000 + self.random.below(90_000_000);
        }
    }

    fn request(&mut self, time: Timestamp, (method, route, target, status): (&str, &str, &str, u16), referer: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let elapsed_us = 900 + self.random.below(40_000);
        let bytes = if status == 304 { 0 } else { 300 + self.random.below(60_000) };
        let mut data = format!(
            r#""method":"{method}","route":"{route}","path":"{path}","status":{status},"elapsed_ms":{}.{:03},"bytes":{bytes}"#,
            elapsed_us / 1000,
            elapsed_us % 1000
        );
        text_member(&mut data, "query", query);
        text_member(&mut data, "referer", referer);
        self.push(SHOP, "http.access", time, "", &data);
    }

    fn page_view(&mut self, time: Timestamp, page: &Page<'_>, title: &str, referer: &str) {
        let mut data = page.fields(time);
        text_member(&mut data, "action_name", title);
        text_member(&mut data, "urlref", referer);
        let _ = write!(
            data,
            r#","pv_id":"{:06x}","pf_net":{},"pf_srv":{},"pf_tfr":{},"pf_dm1":{},"pf_dm2":{},"pf_onl":{}"#,
            self.random.below(1 << 24),
            self.random.below(60),
            10 + self.random.below(300),
            self.random.below(90),
            40 + self.random.below(500),
            self.random.below(700),
            self.random.below(30)
        );
        self.push(SHOP, "web.event", time, &page.attributes(), &data);
    }

    fn add_to_cart(&mut self, time: Timestamp, page: &Page<'_>, slug: &str, price: u64) {
        let mut data = page.fields(time);
        let _ = write!(data, r#","ca":true,"e_c":"cart","e_a":"add","e_n":"{slug}","e_v":{price}"#);
        self.push(SHOP, "web.event", time, &page.attributes(), &data);
    }

    fn games(&mut self) {
        for game in 0..260u64 {
            let start = self.random.below(DAY_US.unsigned_abs() - 200_000_000);
            let day = self.midnight.micros().to_le_bytes();
            let play = hex_id(&[b"demo-play", &day, &game.to_le_bytes()]);
            let player = hex_id(&[b"demo-player", &(game % PLAYERS).to_le_bytes()]);
            let player =
                format!(r#","sessionid":"{}","userid":"{}""#, &hex_id(&[play.as_bytes()])[..16], &player[..16]);
            let clicked_at = self.at(start).to_micros_text();
            let data = format!(r#""play_id":"{play}","clicked_at":"{clicked_at}""#);
            self.push(GAME, "game.start", self.at(start + 40_000), &player, &data);
            // One in ten leaves before the end.
            if game % 10 == 9 {
                continue;
            }
            let clicked = 20 + self.random.below(31);
            let mut reactions = String::new();
            for i in 0..clicked {
                let comma = if i == 0 { "" } else { "," };
                let _ = write!(reactions, "{comma}{}", 240 + self.random.below(520));
            }
            let duration_ms = 60_000 + self.random.below(15_000);
            let data = format!(
                r#""play_id":"{play}","total_squares":50,"clicked_count":{clicked},"success_rate":{},"reaction_ms":[{reactions}],"missed_clicks":{},"duration_ms":{duration_ms},"nickname":"{}""#,
                clicked * 2,
                self.random.below(12),
                NICKNAMES[self.random.index(NICKNAMES.len())]
            );
            self.push(GAME, "game.result", self.at(start + 3_500_000 + duration_ms * 1_000), &player, &data);
        }
    }

    /// A price each minute from 09:00 to 15:30 in Seoul, against a previous close of 10,000 won: it wanders within ±4 % but for the
    /// jumps.
    fn prices(&mut self) {
        const CLOSE: i64 = 10_000;
        let business_date = date_text(self.midnight.day());
        let (mut wander, mut high, mut low, mut open) = (0i64, i64::MIN, i64::MAX, None);
        let (mut volume_sum, mut value_sum) = (0u64, 0u64);
        for minute in 0..=390u64 {
            wander = (wander + (self.random.below(7) as i64 - 3) * 10).clamp(-400, 400);
            let (jump, halted) = jump(minute);
            let change = jump.unwrap_or(wander);
            let price = CLOSE + change;
            let first = *open.get_or_insert(price);
            (high, low) = (high.max(price), low.min(price));
            let volume = 100 + self.random.below(3_000);
            volume_sum += volume;
            value_sum += volume * price.unsigned_abs();
            let sign = match change {
                1.. => 2,
                0 => 3,
                _ => 5,
            };
            let data = format!(
                r#""symbol":"{SYMBOL}","name":"슬루스","currency":"KRW","price":"{price}","change":"{change}","change_pct":"{}","sign":{sign},"open":"{first}","high":"{high}","low":"{low}","ask1":"{}","bid1":"{}","volume":{volume},"acc_volume":{volume_sum},"acc_value":"{value_sum}","strength":{}.{:02},"halted":{halted},"hour_class":"0","business_date":"{business_date}""#,
                decimal_text(i128::from(change), 2),
                price + 10,
                price - 10,
                80 + self.random.below(50),
                self.random.below(100)
            );
            let time = self.at(minute * 60 * SECOND_US.unsigned_abs());
            self.push(MARKET, "quote.trade", time, r#","subject":"SLUICE""#, &data);
        }
    }
}

/// The change in won at the minutes (from 09:00) at which the price jumps, and whether trading is halted.
fn jump(minute: u64) -> (Option<i64>, bool) {
    let change = match minute {
        // 09:30–09:40
        30..=40 => 520 + (minute as i64 - 30) * 10,
        // 10:20: exactly 5 %.
        80 => 500,
        // 11:15–11:20
        135..=140 => -600,
        // 12:10–12:12: halted, so that no rule looks at it.
        190..=192 => return (Some(800), true),
        // 13:05–13:09
        245..=249 => 700,
        // 13:40–13:44
        280..=284 => -550,
        // 14:55–15:04: over the turn of the hour.
        355..=364 => 510,
        _ => return (None, false),
    };
    (Some(change), false)
}

struct Page<'p> {
    visitor: &'p str,
    member: Option<&'p str>,
    resolution: &'p str,
    is_new: bool,
    url: &'p str,
}

impl Page<'_> {
    fn attributes(&self) -> String {
        let mut out = format!(r#","sessionid":"{}""#, self.visitor);
        text_member(&mut out, "userid", self.member.unwrap_or_default());
        out
    }

    fn fields(&self, time: Timestamp) -> String {
        let clock = time.in_zone(Seoul).format(r#""h":%-H,"m":%-M,"s":%-S"#);
        let mut data = format!(
            r#""idsite":1,"rec":true,{clock},"url":"{}","_id":"{}","_idn":{},"cookie":true,"pdf":true,"res":"{}""#,
            self.url, self.visitor, self.is_new, self.resolution
        );
        text_member(&mut data, "memberId", self.member.unwrap_or_default());
        data
    }
}

/// Appends a text member, where there is text.
fn text_member(out: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let _ = write!(out, ",\"{name}\":");
        write_string(out, value);
    }
}

/// The `i`-th event of an endless mix for measuring, a CloudEvent of about 490 bytes: `web.event`, `http.access`, `game.result` and
/// `quote.trade` in turn, a millisecond apart from 2026-01-15T00:00:00Z on, every id different.
pub fn bench_event(i: u64) -> String {
    let mut random = Random(i);
    let time = Timestamp::from_micros(1_768_435_200_000_000)
        .unwrap_or_default()
        .plus_micros(i64::try_from(i).unwrap_or_default().saturating_mul(1_000));
    let id = format!("{:016x}{i:016x}", random.next());
    let (event_type, source, rest) = match i % 4 {
        0 => {
            let (slug, title, _) = PRODUCTS[random.index(PRODUCTS.len())];
            let visitor = format!("{:016x}", random.below(50_000));
            let rest = format!(
                r#""sessionid":"{visitor}","data":{{"idsite":1,"rec":true,"h":{},"m":{},"s":{},"url":"https://shop.example/products/{slug}","urlref":"https://shop.example/","_id":"{visitor}","_idn":false,"cookie":true,"res":"1920x1080","action_name":"{title} - 슬루스 상점","pv_id":"{:06x}","pf_net":{},"pf_srv":{},"pf_tfr":{},"pf_dm1":{}}}"#,
                random.below(24),
                random.below(60),
                random.below(60),
                random.below(1 << 24),
                random.below(60),
                random.below(300),
                random.below(90),
                random.below(500)
            );
            ("web.event", SHOP, rest)
        }
        1 => {
            let (slug, ..) = PRODUCTS[random.index(PRODUCTS.len())];
            let rest = format!(
                r#""data":{{"method":"GET","route":"/products/{{id}}","path":"/products/{slug}","status":{},"elapsed_ms":{}.{:03},"bytes":{},"referer":"https://search.example/results?query=%EC%9A%B4%EB%8F%99%ED%99%94&page={}","query":"from=list&position={}","protocol":"HTTP/1.1","client_ip":"10.{}.{}.{}","user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}}"#,
                [200, 200, 200, 304, 404][random.index(5)],
                random.below(90),
                random.below(1000),
                random.below(90_000),
                random.below(30),
                random.below(40),
                random.below(256),
                random.below(256),
                random.below(256)
            );
            ("http.access", SHOP, rest)
        }
        2 => {
            let clicked = 30 + random.below(21);
            let mut reactions = String::new();
            for n in 0..clicked {
                let comma = if n == 0 { "" } else { "," };
                let _ = write!(reactions, "{comma}{}", 240 + random.below(520));
            }
            let rest = format!(
                r#""data":{{"play_id":"{:016x}","total_squares":50,"clicked_count":{clicked},"success_rate":{},"reaction_ms":[{reactions}],"missed_clicks":{},"duration_ms":{},"nickname":"{}"}}"#,
                random.next(),
                clicked * 2,
                random.below(12),
                60_000 + random.below(15_000),
                NICKNAMES[random.index(NICKNAMES.len())]
            );
            ("game.result", GAME, rest)
        }
        _ => {
            let symbol = format!("{:06}", random.below(2_000) * 10);
            let change = random.below(800) as i64 - 400;
            let price = 10_000 + change;
            let rest = format!(
                r#""subject":"{symbol}","data":{{"symbol":"{symbol}","name":"종목 {symbol}","currency":"KRW","price":"{price}","change":"{change}","change_pct":"{}","sign":{},"open":"10000","high":"10400","low":"9600","ask1":"{}","bid1":"{}","volume":{},"acc_volume":{},"strength":{}.{:02},"halted":false,"hour_class":"0","business_date":"2026-01-15"}}"#,
                decimal_text(i128::from(change), 2),
                if change > 0 { 2 } else { 5 },
                price + 10,
                price - 10,
                random.below(5_000),
                random.below(9_000_000),
                80 + random.below(50),
                random.below(100)
            );
            ("quote.trade", MARKET, rest)
        }
    };
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"{source}","type":"{event_type}","time":"{}",{rest}}}"#,
        time.to_micros_text()
    )
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is above 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Acceptance, Clock, Data, Event};
    use crate::json;
    use crate::schema::{Registry, decimal};
    use chrono::Timelike as _;
    use std::collections::{BTreeMap, HashSet};

    const SCHEMAS: [(&str, &str); 6] = [
        ("event.json", include_str!("../../../schemas/event.json")),
        ("game.start.json", include_str!("../../../schemas/game.start.json")),
        ("game.result.json", include_str!("../../../schemas/game.result.json")),
        ("http.access.json", include_str!("../../../schemas/http.access.json")),
        ("quote.trade.json", include_str!("../../../schemas/quote.trade.json")),
        ("web.event.json", include_str!("../../../schemas/web.event.json")),
    ];

    fn accept<'a>(text: &'a str, registry: &Registry, received: Timestamp) -> Event<'a> {
        let context = Acceptance {
            received,
            zone: Seoul,
            default_source: None,
            default_type: None,
            max_age_days: Some(400),
            registry,
        };
        let (event, clock) = Event::accept(json::parse_str(text).unwrap(), &context, || panic!("no id: {text}"))
            .unwrap_or_else(|e| panic!("{e:?} in {text}"));
        assert_eq!(clock, Clock::Kept);
        let Data::Json(data) = &event.data else { panic!("no data: {text}") };
        let schema = registry.resolve(&event.event_type);
        assert!(!schema.is_generic(), "{text}");
        for (name, _) in &data.as_object().unwrap().0 {
            assert!(schema.column_index(name).is_some(), "`{name}` is not in the schema of {}", event.event_type);
        }
        event
    }

    fn noon() -> Timestamp {
        Timestamp::parse_rfc3339("2026-11-20T12:34:56Z").unwrap()
    }

    fn field<'e>(event: &'e Event<'_>, name: &str) -> &'e str {
        let Data::Json(data) = &event.data else { panic!() };
        let node = data.as_object().unwrap().get(name).unwrap();
        node.as_str().unwrap_or(node.raw)
    }

    #[test]
    fn a_day_fits_the_schemas_and_holds_what_is_expected_of_it() {
        let registry = Registry::load(SCHEMAS).unwrap();
        let texts = day(noon());
        let received = Timestamp::parse_rfc3339("2026-11-20T00:00:00Z").unwrap();
        let events: Vec<Event<'_>> = texts.iter().map(|text| accept(text, &registry, received)).collect();
        let (mut by_type, mut by_status, mut ids) = (BTreeMap::new(), BTreeMap::new(), HashSet::new());
        for event in &events {
            *by_type.entry(event.event_type.as_ref()).or_insert(0usize) += 1;
            if event.event_type == "http.access" {
                *by_status.entry(field(event, "status").parse::<u16>().unwrap()).or_insert(0usize) += 1;
            }
            assert!(ids.insert(event.id.as_ref()), "{}", event.id);
            assert_eq!(event.time.date_text(), "2026-11-20");
        }
        assert!(events.windows(2).all(|w| w[0].time <= w[1].time));
        assert_eq!(by_type.into_iter().collect::<Vec<_>>(), EXPECTED.by_type);
        assert_eq!(by_status.into_iter().collect::<Vec<_>>(), EXPECTED.by_status);
        assert_eq!(events.len(), EXPECTED.events);
    }

    #[test]
    fn the_price_jumps_when_it_is_said_to() {
        let registry = Registry::load(SCHEMAS).unwrap();
        let texts = day(noon());
        let mut seen = HashSet::new();
        let (mut rows, mut alerts, mut above) = (0, Vec::new(), HashSet::new());
        for text in &texts {
            let event = accept(text, &registry, noon());
            if event.event_type != "quote.trade" || field(&event, "halted") == "true" {
                continue;
            }
            assert_eq!(event.subject.as_deref(), Some(SYMBOL));
            let price = decimal(field(&event, "price"), 18, 6).unwrap();
            let change = decimal(field(&event, "change"), 18, 6).unwrap();
            // |change| / previous close against 5 %.
            let (twenty_changes, close) = (change.abs() * 20, price - change);
            let clock = event.time.in_zone(Seoul);
            let direction = if change > 0 { "up" } else { "down" };
            if twenty_changes >= close {
                rows += 1;
                if seen.insert((clock.hour(), direction)) {
                    alerts.push(ExpectedAlert { hour: clock.hour(), minute: clock.minute(), direction });
                }
            }
            if twenty_changes > close {
                above.insert((clock.hour(), direction));
            }
        }
        assert_eq!(alerts, EXPECTED.alerts);
        assert_eq!(rows, EXPECTED.rows_at_5_pct);
        assert_eq!(above.len(), EXPECTED.alerts_above_5_pct);
    }

    #[test]
    fn the_same_day_is_the_same_and_another_day_has_other_ids() {
        let id = |text: &str| text.split('"').nth(7).unwrap().to_owned();
        let (today, again, next) = (day(noon()), day(noon().plus_micros(1)), day(noon().plus_micros(DAY_US)));
        assert_eq!(today, again);
        assert_eq!(today.len(), next.len());
        let ids: HashSet<String> = today.iter().map(|t| id(t)).collect();
        assert_eq!(ids.len(), today.len());
        assert!(next.iter().all(|t| !ids.contains(&id(t))));
    }

    #[test]
    fn every_result_belongs_to_a_start_before_it_and_every_game_to_a_player() {
        let registry = Registry::load(SCHEMAS).unwrap();
        let (mut started, mut players) = (HashSet::new(), HashSet::new());
        let mut ended = 0;
        for text in day(noon()) {
            let event = accept(&text, &registry, noon());
            match event.event_type.as_ref() {
                "game.start" => {
                    assert!(started.insert(field(&event, "play_id").to_owned()));
                    players.extend(event.user_id.as_deref().map(str::to_owned));
                }
                "game.result" => {
                    ended += 1;
                    assert!(started.contains(field(&event, "play_id")), "{text}");
                }
                _ => {}
            }
        }
        assert_eq!((started.len(), players.len() as u64, ended), (260, PLAYERS, 234));
    }

    #[test]
    fn events_for_measuring_fit_the_schemas_and_have_their_size() {
        let registry = Registry::load(SCHEMAS).unwrap();
        let received = Timestamp::parse_rfc3339("2026-01-15T12:00:00Z").unwrap();
        let texts: Vec<String> = (0..4_000).map(bench_event).collect();
        let mut ids = HashSet::new();
        for text in &texts {
            assert!(ids.insert(accept(text, &registry, received).id.into_owned()));
            assert!((400..=640).contains(&text.len()), "{} {text}", text.len());
        }
        let mean = texts.iter().map(String::len).sum::<usize>() / texts.len();
        assert!((475..=505).contains(&mean), "{mean}");
        bench_event(u64::MAX);
    }
}
