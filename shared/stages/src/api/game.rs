//! `/v1/game`: what the page of the public game asks for, without a key.

use super::{Api, Call, Reply, failed};
use crate::http::Response;
use serde_json::{Value, json};
use sluice_domain::game::{SOURCE, SQUARES};
use sluice_domain::time::{DAY_US, SECOND_US, Timestamp, date_text};
use sluice_ports::{PortError, Search};
use std::collections::{BTreeMap, BTreeSet};

/// Players that a ranking names.
pub const RANKS: usize = 20;
/// How long a ranking is kept: anybody may ask, and nobody makes the search work more than this often.
const KEPT_US: i64 = 5 * SECOND_US;
/// Days whose rankings are kept.
const KEPT_DAYS: usize = 100;
/// Plays that are looked at in one search.
const PAGE: usize = 200;

/// Rankings as they were, with when that was. Held while one is made, so that it is made once for all who wait for it.
pub(super) type Rankings = futures::lock::Mutex<BTreeMap<i32, (Timestamp, Value)>>;

impl Api {
    pub(super) async fn game_config(&self, call: Call<'_>) -> Reply {
        let key = self.ports.keys.game_key(call.now).await;
        match key.map_err(|e| failed("the game's key could not be read", &e))? {
            Some((secret, _)) => Ok(Response::json(200, &json!({"key": secret, "source": SOURCE}))),
            None => Err(Response::error(404, "no_game", "the game is closed here")),
        }
    }

    pub(super) async fn ranking(&self, call: Call<'_>) -> Reply {
        let day = match call.request.query("day") {
            None => call.now.day(),
            Some(text) => Timestamp::parse_date(text)
                .ok_or_else(|| Response::error(400, "day", "`day` is a date such as `2026-11-21`"))?,
        };
        let mut rankings = self.rankings.lock().await;
        let kept = rankings.get(&day).filter(|(at, _)| *at <= call.now && call.now < at.plus_micros(KEPT_US));
        if let Some((_, ranking)) = kept {
            return Ok(Response::json(200, ranking));
        }
        let entries =
            best(self.ports.search.as_ref(), day).await.map_err(|e| failed("the ranking could not be made", &e))?;
        let ranking = json!({"day": date_text(day), "entries": entries});
        if rankings.len() >= KEPT_DAYS {
            rankings.clear();
        }
        rankings.insert(day, (call.now, ranking.clone()));
        Ok(Response::json(200, &ranking))
    }
}

/// The best whole play of each nickname on a UTC day that nothing speaks against: higher rate, then more clicks, then earlier.
async fn best(search: &dyn Search, day: i32) -> Result<Vec<Value>, PortError> {
    let midnight = Timestamp::from_micros(i64::from(day).saturating_mul(DAY_US)).unwrap_or_default();
    let index = format!("sluice-game_result-{}*", midnight.month_text());
    let mut named: BTreeSet<String> = BTreeSet::new();
    let mut entries = Vec::new();
    // Each search finds at least one more nickname, since it leaves out those that are known.
    while entries.len() < RANKS {
        let body = plays(midnight, &named);
        let found = search.search(&index, &body).await?;
        let hits = found["hits"]["hits"].as_array().map(Vec::as_slice).unwrap_or_default();
        let before = entries.len();
        for play in hits.iter().map(|hit| &hit["_source"]) {
            let data = &play["data"];
            let Some(nickname) = data["nickname"].as_str() else { continue };
            if entries.len() == RANKS || !named.insert(nickname.to_owned()) {
                continue;
            }
            entries.push(json!({
                "rank": entries.len() + 1, "nickname": nickname, "success_rate": data["success_rate"],
                "clicked_count": data["clicked_count"], "total_squares": data["total_squares"], "at": play["time"],
            }));
        }
        if hits.len() < PAGE || entries.len() == before {
            break;
        }
    }
    Ok(entries)
}

/// The best plays of the day by others than these.
fn plays(midnight: Timestamp, named: &BTreeSet<String>) -> Value {
    let day = json!({"gte": midnight.to_string(), "lt": midnight.plus_micros(DAY_US).to_string()});
    json!({
        "size": PAGE,
        "_source": ["time", "data.nickname", "data.success_rate", "data.clicked_count", "data.total_squares"],
        "sort": [{"data.success_rate": "desc"}, {"data.clicked_count": "desc"}, {"time": "asc"}],
        "query": {"bool": {
            "filter": [
                {"term": {"source": SOURCE}},
                {"term": {"data.total_squares": SQUARES}},
                {"range": {"time": day}},
                {"exists": {"field": "data.nickname"}},
            ],
            "must_not": [
                {"exists": {"field": "data.suspect"}},
                {"terms": {"data.nickname.keyword": named}},
            ],
        }},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use sluice_ports::{Document, DocumentOutcome, IndexTemplate};
    use std::sync::Mutex;

    /// Answers with these plays in their order, but for those that the search leaves out.
    struct Plays {
        plays: Vec<Value>,
        asked: Mutex<Vec<(String, Value)>>,
    }

    #[async_trait]
    impl Search for Plays {
        async fn define(&self, _: Vec<IndexTemplate>) -> Result<(), PortError> {
            unreachable!("no test defines")
        }

        async fn create(&self, _: Vec<Document>) -> Result<Vec<DocumentOutcome>, PortError> {
            unreachable!("no test creates")
        }

        async fn search(&self, pattern: &str, body: &Value) -> Result<Value, PortError> {
            self.asked.lock().unwrap().push((pattern.to_owned(), body.clone()));
            let named = &body["query"]["bool"]["must_not"][1]["terms"]["data.nickname.keyword"];
            let size = body["size"].as_u64().unwrap() as usize;
            let hits = self.plays.iter().filter(|play| !named.as_array().unwrap().contains(&play["data"]["nickname"]));
            let hits: Vec<Value> = hits.take(size).map(|play| json!({"_source": play})).collect();
            Ok(json!({"hits": {"hits": hits}}))
        }
    }

    fn play(nickname: &str, rate: usize) -> Value {
        let data = json!({"nickname": nickname, "success_rate": rate, "clicked_count": rate / 2, "total_squares": 50});
        json!({"time": "2026-11-21T10:00:00.000Z", "data": data})
    }

    async fn ranked(plays: Vec<Value>) -> (Vec<Value>, Vec<(String, Value)>) {
        let search = Plays { plays, asked: Mutex::default() };
        let day = Timestamp::parse_date("2026-11-21").unwrap();
        let entries = best(&search, day).await.unwrap();
        (entries, search.asked.into_inner().unwrap())
    }

    #[tokio::test]
    async fn each_nickname_stands_once_with_its_best_play() {
        let (entries, asked) = ranked(vec![play("kim", 98), play("lee", 96), play("kim", 90), play("박", 88)]).await;
        let names: Vec<&Value> = entries.iter().map(|entry| &entry["nickname"]).collect();
        assert_eq!(names, [&json!("kim"), &json!("lee"), &json!("박")]);
        assert_eq!(
            entries[1],
            json!({
                "rank": 2, "nickname": "lee", "success_rate": 96, "clicked_count": 48, "total_squares": 50,
                "at": "2026-11-21T10:00:00.000Z",
            })
        );
        assert_eq!(asked.len(), 1);
        let (index, body) = &asked[0];
        assert_eq!(index, "sluice-game_result-2026.11*");
        let day = json!({"gte": "2026-11-21T00:00:00.000Z", "lt": "2026-11-22T00:00:00.000Z"});
        assert_eq!(body["query"]["bool"]["filter"][2]["range"]["time"], day);
        assert_eq!(body["query"]["bool"]["must_not"][0]["exists"]["field"], "data.suspect");
        assert_eq!(
            body["sort"],
            json!([{"data.success_rate": "desc"}, {"data.clicked_count": "desc"}, {"time": "asc"}])
        );
    }

    #[tokio::test]
    async fn who_plays_a_thousand_times_hides_nobody() {
        let mut plays: Vec<Value> = (0..1_000).map(|_| play("kim", 100)).collect();
        plays.extend((0..30).map(|n| play(&format!("p{n:02}"), 98 - n)));
        let (entries, asked) = ranked(plays).await;
        assert_eq!(entries.len(), RANKS);
        assert_eq!((&entries[0]["nickname"], &entries[19]["nickname"]), (&json!("kim"), &json!("p18")));
        assert_eq!((asked.len(), &entries[19]["rank"]), (2, &json!(20)));
    }

    #[tokio::test]
    async fn a_day_without_plays_has_an_empty_ranking() {
        assert_eq!(ranked(Vec::new()).await.0, [] as [Value; 0]);
    }
}
