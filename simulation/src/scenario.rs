//! What the clients send, what is deployed, and which alerts have to come of it.

use crate::random::Random;
use bytes::Bytes;
use futures::FutureExt as _;
use sluice_domain::alert::{Rule, Watchlist};
use sluice_domain::schema::Registry;
use sluice_domain::time::Timestamp;
use sluice_ports::{Condition, Table as _, Write};
use sluice_stages::access::{KeySpec, Keys};
use sluice_stages::http::Request;
use sluice_stages::rules::Rules;
use sluice_testkit::memory::MemoryTable;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// When a simulation begins.
pub const BEGIN: &str = "2026-11-21T10:00:00Z";
/// The secret of the clients' key.
const SECRET: &str = "sk_write_of_the_simulation";

/// The rule that is there from the beginning, with two channels.
pub const RULE: &str = r#"{"id":"first","kind":"fluctuation","user":"u","threshold_pct":5,"comparison":">=","channels":[{"kind":"email","to":"a@example.org"},{"kind":"email","to":"b@example.org"}]}"#;
/// A rule that somebody may make while events are under way.
pub const LATER_RULE: &str = r#"{"id":"later","kind":"fluctuation","user":"u","threshold_pct":3,"comparison":">=","channels":[{"kind":"email","to":"c@example.org"}]}"#;

/// The own time of an event.
const TIME: &str = r#""time":"2026-11-21T09:00:00Z","#;

/// How the events of a request are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// By an `Idempotency-Key`.
    Keyed,
    /// Each event has an id.
    Ids,
    /// By nothing.
    Anonymous,
}

/// A client's request.
#[derive(Debug, Clone)]
pub struct Sent {
    /// What is sent, the same however often.
    pub request: Request,
    /// How its events are named.
    pub naming: Naming,
    /// Labels of its events that are good.
    pub labels: Vec<String>,
    /// Whether the schema of one of its events changes with the deployment: what is accepted of it may change too.
    pub changes: bool,
}

/// The schemas of the first version and of the next one, in which `game.start` has got a table, and `n` of `web.event` a type.
pub fn registries() -> [Arc<Registry>; 2] {
    static LOADED: OnceLock<[Arc<Registry>; 2]> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            const BOTH: [(&str, &str); 3] = [
                ("event.json", include_str!("../../schemas/event.json")),
                ("quote.trade.json", include_str!("../../schemas/quote.trade.json")),
                ("alert.fired.json", include_str!("../../schemas/alert.fired.json")),
            ];
            const WEB: &str = r#"{"type":"object","x-type":"web.event","x-partition":"hour","properties":{"label":{"type":"string","x-column-id":101}}}"#;
            const NEXT_WEB: &str = r#"{"type":"object","x-type":"web.event","x-partition":"hour","properties":{"label":{"type":"string","x-column-id":101},"n":{"type":"integer","x-column-id":102}}}"#;
            const NEXT_GAME: &str = r#"{"type":"object","x-type":"game.start","x-partition":"month","properties":{"label":{"type":"string","x-column-id":101}}}"#;
            let load = |more: &[(&'static str, &'static str)]| {
                Arc::new(Registry::load(BOTH.iter().chain(more).copied()).expect("the schemas are good"))
            };
            [load(&[("web", WEB)]), load(&[("web", NEXT_WEB), ("game", NEXT_GAME)])]
        })
        .clone()
}

/// The rows that are there before the first event: the clients' key and the first rule.
pub fn first_rows() -> Vec<Write> {
    static ROWS: OnceLock<Vec<Write>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let table = Arc::new(MemoryTable::new());
        let begin = begin();
        let spec = KeySpec::write(["client"]);
        let made = Keys::new(table.clone()).create(spec, Some(SECRET.into()), begin).now_or_never();
        made.expect("a port in memory does not wait").expect("the key is good");
        add_rule(&table, RULE);
        let put = |item: sluice_ports::Item| Write::Put {
            key: item.key,
            value: item.value,
            condition: Condition::Any,
            expires_at: item.expires_at,
        };
        table.items().into_iter().map(put).collect()
    })
    .clone()
}

/// What the first rule fires, and what the later one does.
pub fn watchlists() -> &'static [Watchlist; 2] {
    static LISTS: OnceLock<[Watchlist; 2]> = OnceLock::new();
    LISTS.get_or_init(|| {
        [RULE, LATER_RULE]
            .map(|text| Watchlist::new([Rule::parse(text, begin(), String::new).expect("the rule is good")]))
    })
}

/// Puts the first rows into a table.
pub fn prepare(table: &MemoryTable) {
    crate::backend::now(table.write(first_rows())).expect("an empty table takes rows");
}

/// Somebody makes a rule.
pub fn add_rule(table: &Arc<MemoryTable>, text: &str) {
    let made = Rules::new(table.clone()).create(text, begin()).now_or_never();
    made.expect("a port in memory does not wait").expect("the rule is good");
}

/// The beginning as a time.
pub fn begin() -> Timestamp {
    Timestamp::parse_rfc3339(BEGIN).expect("it is RFC 3339")
}

/// A request by its number: what is in it comes from the number and the draws.
pub fn any(number: usize, random: &mut Random) -> Sent {
    match random.below(8) {
        0 => sent(Naming::Keyed, number, &[web(number, 0, "", ""), web(number, 1, "", "")]),
        1 => sent(Naming::Ids, number, &[web(number, 0, &id(number, 0), ""), game(number, 1, &id(number, 1))]),
        2 => sent(Naming::Anonymous, number, &[web(9, 0, "", "")]),
        // The same event one by one: in batches of their own, and one document.
        3 => sent(Naming::Ids, number, &[web(8, 0, "shared", TIME), web(number, 1, &id(number, 1), "")]),
        4 => sent(Naming::Ids, number, &[trade(number, "005930", 10, random.below(2))]),
        5 => sent(Naming::Keyed, number, &[trade(number, "000660", 4, 0), game(number, 1, "")]),
        6 => sent(Naming::Ids, number, &[web(number, 0, &id(number, 0), ""), "{\"id\":\"bad\"}".into()]),
        // Where the first of them is accepted only once, the second is in two batches; by its own time it is one document all the same.
        _ => sent(Naming::Ids, number, &[misfit(number), web(number, 1, &id(number, 1), TIME)]),
    }
}

/// A request of one event; every second one is a trade, and all trades fire the same alert.
pub fn plain(number: usize) -> Sent {
    match number % 2 {
        0 => sent(Naming::Ids, number, &[web(number, 0, &id(number, 0), "")]),
        _ => sent(Naming::Ids, number, &[trade(number, "005930", 10, 0)]),
    }
}

/// A request of an event of its own and one that every other such request has too, both of a closed hour.
pub fn repeating(number: usize) -> Sent {
    let again = web(8, 0, "shared", TIME);
    sent(Naming::Ids, number, &[again, web(number, 1, &id(number, 1), TIME)])
}

/// A request of one event; all but the last of four are of the same table.
pub fn of_one_table(number: usize) -> Sent {
    match number {
        3 => plain(number),
        _ => sent(Naming::Ids, number, &[web(number, 0, &id(number, 0), "")]),
    }
}

/// A request whose event fires an alert of its own.
pub fn alerting(number: usize) -> Sent {
    sent(Naming::Ids, number, &[trade(number, &format!("00{number}"), 10, 0)])
}

/// A request of one good event and one that is rejected.
pub fn half_bad(number: usize) -> Sent {
    sent(Naming::Keyed, number, &[web(number, 0, "", ""), format!(r#"{{"id":"bad-{number}"}}"#)])
}

/// Requests named by a key, by ids, by nothing, and with a bad event.
pub fn of_each_naming(number: usize) -> Sent {
    match number % 4 {
        0 => sent(Naming::Keyed, number, &[web(number, 0, "", ""), game(number, 1, "")]),
        1 => sent(Naming::Ids, number, &[web(number, 0, &id(number, 0), "")]),
        2 => sent(Naming::Anonymous, number, &[web(9, 0, "", "")]),
        _ => half_bad(number),
    }
}

fn sent(naming: Naming, number: usize, events: &[String]) -> Sent {
    let mut headers = BTreeMap::from([("authorization".to_owned(), format!("Bearer {SECRET}"))]);
    if naming == Naming::Keyed {
        headers.insert("idempotency-key".into(), format!("key-{number}"));
    }
    let labels = events.iter().filter_map(|event| crate::lines::label(event)).map(str::to_owned).collect();
    let request = Request {
        method: "POST".into(),
        path: "/v1/events".into(),
        headers,
        body: Bytes::from(format!("[{}]", events.join(","))),
        ..Request::default()
    };
    let changes = events.iter().any(|event| event.contains("\"n\""));
    Sent { request, naming, labels, changes }
}

fn id(number: usize, event: usize) -> String {
    format!("id-{number}-{event}")
}

fn event(event_type: &str, id: &str, more: &str, data: &str) -> String {
    let id = if id.is_empty() { String::new() } else { format!(r#""id":"{id}","#) };
    format!(r#"{{{id}{more}"source":"client","type":"{event_type}","data":{{{data}}}}}"#)
}

fn web(number: usize, at: usize, id: &str, more: &str) -> String {
    event("web.event", id, more, &format!(r#""label":"web-{number}-{at}""#))
}

fn game(number: usize, at: usize, id: &str) -> String {
    event("game.start", id, "", &format!(r#""label":"game-{number}-{at}""#))
}

/// Fits only the first version of the schema.
fn misfit(number: usize) -> String {
    event("web.event", &id(number, 0), TIME, &format!(r#""label":"misfit-{number}","n":"text""#))
}

/// A trade at `100 + change`, in one of two windows of a day.
fn trade(number: usize, symbol: &str, change: i64, window: usize) -> String {
    let time = ["2026-11-20T01:00:00Z", "2026-11-21T01:00:00Z"][window];
    let data =
        format!(r#""label":"trade-{number}","symbol":"{symbol}","price":"{}","change":"{change}""#, 100 + change);
    event("quote.trade", &id(number, 0), &format!(r#""time":"{time}","#), &data)
}
