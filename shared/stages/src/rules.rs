//! Where alert rules are kept: one row per rule, and one row that counts them and changes with every change, so that a reader that holds
//! them in memory sees with one small read whether they are still the same.

use crate::rows;
use sluice_domain::alert::{Rule, RuleError, Watchlist};
use sluice_domain::time::Timestamp;
use sluice_ports::{Condition, ErrorKind, Item, Key, PortError, Table, Write};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Most rules that a deployment keeps.
pub const MAX_RULES: usize = 10_000;
/// Partition of the rules; the sort key is the rule's id.
const RULES: &str = "rule";
/// How often a write is tried again when others write at the same time.
const ATTEMPTS: usize = 10;

/// A rule and how often it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRule {
    /// The rule.
    pub rule: Rule,
    /// Version of its row, from 1.
    pub version: u64,
}

/// Why a change of the rules failed.
#[derive(Debug)]
pub enum RulesError {
    /// The text is not a rule.
    Invalid(RuleError),
    /// There is another rule with this id.
    Exists(String),
    /// There are [`MAX_RULES`] rules already.
    TooMany,
    /// The table failed.
    Port(PortError),
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(_) => f.write_str("the rule is not valid"),
            Self::Exists(id) => write!(f, "there is another rule `{id}`; delete it first or choose another id"),
            Self::TooMany => write!(f, "there are {MAX_RULES} rules already; delete some first"),
            Self::Port(_) => f.write_str("the rules cannot be reached"),
        }
    }
}

impl std::error::Error for RulesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Invalid(e) => Some(e),
            Self::Port(e) => Some(e),
            Self::Exists(_) | Self::TooMany => None,
        }
    }
}

impl From<PortError> for RulesError {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

/// The rules.
pub struct Rules {
    table: Arc<dyn Table>,
    /// What was read last, and the version of the counting row before it was read.
    held: Mutex<Option<(u64, Arc<Watchlist>)>>,
}

impl Rules {
    /// The rules of a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table, held: Mutex::default() }
    }

    /// Keeps a new rule, given as JSON text; one that names no id gets a UUIDv7. The same rule again (same id, same content) is answered
    /// as it is kept.
    pub async fn create(&self, text: &str, now: Timestamp) -> Result<StoredRule, RulesError> {
        let rule = Rule::parse(text, now, || uuid::Uuid::now_v7().to_string()).map_err(RulesError::Invalid)?;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let (found, census) = self.read(&rule.id).await?;
            if let Some(found) = found {
                return same(&rule, found);
            }
            if census.count >= MAX_RULES {
                return Err(RulesError::TooMany);
            }
            let put = Write::Put {
                key: Key::new(RULES, &rule.id),
                value: rule.to_json(),
                condition: Condition::Absent,
                expires_at: None,
            };
            match self.table.write(vec![put, census.changed(census.count + 1)]).await {
                Ok(()) => return Ok(StoredRule { rule, version: 1 }),
                // After a time-out the next round reads whether the rule is there.
                Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => last = Some(e),
                Err(e) => return Err(e.into()),
            }
        }
        Err(last.unwrap_or_else(busy).into())
    }

    /// The rule with this id.
    pub async fn get(&self, id: &str) -> Result<Option<StoredRule>, RulesError> {
        match self.read(id).await?.0 {
            Some(item) => stored(item).map(Some).map_err(RulesError::Port),
            None => Ok(None),
        }
    }

    /// All rules in order of their ids. One that cannot be read (written by a newer version) is logged and left out.
    pub async fn list(&self) -> Result<Vec<StoredRule>, RulesError> {
        let mut rules = Vec::new();
        for item in rows::all(self.table.as_ref(), RULES).await? {
            match stored(item) {
                Ok(rule) => rules.push(rule),
                Err(error) => tracing::error!(error.detail = %error.detail, "a rule is left out"),
            }
        }
        Ok(rules)
    }

    /// Removes a rule, readable or not; answers whether it was there.
    pub async fn delete(&self, id: &str) -> Result<bool, RulesError> {
        let mut last: Option<PortError> = None;
        for _ in 0..ATTEMPTS {
            let (found, census) = self.read(id).await?;
            let Some(found) = found else {
                // Gone after a time-out of our own: it was there before.
                return Ok(last.is_some_and(|e| e.kind == ErrorKind::Timeout));
            };
            let delete = Write::Delete { key: found.key, condition: Condition::Version(found.version) };
            match self.table.write(vec![delete, census.changed(census.count.saturating_sub(1))]).await {
                Ok(()) => return Ok(true),
                Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Timeout) => last = Some(e),
                Err(e) => return Err(e.into()),
            }
        }
        Err(last.unwrap_or_else(busy).into())
    }

    /// The enabled rules as they are now. One small read where nothing has changed since the last call.
    pub async fn watchlist(&self) -> Result<Arc<Watchlist>, RulesError> {
        // The version is read before the rules: rules that change in between are read again next time.
        let version = self.table.get(&[census_key()]).await?.pop().flatten().map_or(0, |item| item.version);
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, list)) = held.filter(|(held, _)| *held == version) {
            return Ok(list);
        }
        let list = Arc::new(Watchlist::new(self.list().await?.into_iter().map(|stored| stored.rule)));
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, Arc::clone(&list)));
        Ok(list)
    }

    async fn read(&self, id: &str) -> Result<(Option<Item>, Census), RulesError> {
        // No rule can have such an id, and the table would refuse the key.
        if id.is_empty() || id.len() > 128 {
            return Ok((None, Census { count: 0, version: None }));
        }
        let mut items = self.table.get(&[Key::new(RULES, id), census_key()]).await?.into_iter();
        let found = items.next().flatten();
        let census = items.next().flatten();
        let count = census.as_ref().and_then(|item| item.value["count"].as_u64()).unwrap_or(0);
        Ok((
            found,
            Census { count: usize::try_from(count).unwrap_or(usize::MAX), version: census.map(|item| item.version) },
        ))
    }
}

/// The row that counts the rules.
struct Census {
    count: usize,
    version: Option<u64>,
}

impl Census {
    fn changed(&self, count: usize) -> Write {
        Write::Put {
            key: census_key(),
            value: serde_json::json!({"count": count}),
            condition: self.version.map_or(Condition::Absent, Condition::Version),
            expires_at: None,
        }
    }
}

fn census_key() -> Key {
    Key::new("rules", "census")
}

fn busy() -> PortError {
    PortError::new(ErrorKind::Unavailable, "table.write", "too many changes of the rules at the same time")
}

fn stored(item: Item) -> Result<StoredRule, PortError> {
    let rule = Rule::parse(&item.value.to_string(), Timestamp::default(), || item.key.sort.clone());
    match rule {
        Ok(rule) => Ok(StoredRule { rule, version: item.version }),
        Err(e) => {
            let what = format!("rule `{}` cannot be read {e}", item.key.sort);
            Err(PortError::new(ErrorKind::Corrupt, "table.get", what))
        }
    }
}

/// The kept rule, where it says the same as the new one.
fn same(new: &Rule, kept: Item) -> Result<StoredRule, RulesError> {
    let kept = stored(kept)?;
    let new = Rule { created: kept.rule.created, ..new.clone() };
    if new == kept.rule { Ok(kept) } else { Err(RulesError::Exists(new.id)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::PAGE;
    use serde_json::json;
    use sluice_testkit::fault::{Fault, Faulty};
    use sluice_testkit::memory::MemoryTable;

    fn rule(id: &str, threshold: u32) -> String {
        format!(
            r#"{{"id":"{id}","kind":"fluctuation","user":"u","threshold_pct":{threshold},"comparison":">=","symbols":["{id}"]}}"#
        )
    }

    fn now() -> Timestamp {
        Timestamp::from_micros(1_795_255_200_000_000).unwrap()
    }

    fn table() -> Arc<Faulty<MemoryTable>> {
        Arc::new(Faulty::new(MemoryTable::new()))
    }

    fn ids(rules: &[StoredRule]) -> Vec<&str> {
        rules.iter().map(|r| r.rule.id.as_str()).collect()
    }

    #[tokio::test]
    async fn rules_are_kept_listed_and_deleted() {
        let rules = Rules::new(table());
        let a = rules.create(&rule("a", 5), now()).await.unwrap();
        let b = rules.create(&rule("b", 5), now()).await.unwrap();
        assert_eq!((rules.get("a").await.unwrap(), a.version), (Some(a.clone()), 1));
        assert_eq!(rules.list().await.unwrap(), [a.clone(), b.clone()]);
        assert!(rules.delete("a").await.unwrap());
        assert!(!rules.delete("a").await.unwrap());
        assert_eq!(rules.get("a").await.unwrap(), None);
        assert_eq!(rules.get("").await.unwrap(), None);
        assert_eq!(rules.get(&"x".repeat(2_000)).await.unwrap(), None);
        assert_eq!(ids(&rules.list().await.unwrap()), ["b"]);
    }

    #[tokio::test]
    async fn a_rule_without_an_id_gets_one() {
        let rules = Rules::new(table());
        let text = r#"{"kind":"fluctuation","user":"u","threshold_pct":5,"comparison":">="}"#;
        let first = rules.create(text, now()).await.unwrap().rule.id;
        assert_eq!(uuid::Uuid::parse_str(&first).unwrap().get_version_num(), 7);
        assert_ne!(rules.create(text, now()).await.unwrap().rule.id, first);
    }

    #[tokio::test]
    async fn the_same_rule_again_is_answered_and_another_one_under_its_id_refused() {
        let rules = Rules::new(table());
        let kept = rules.create(&rule("a", 5), now()).await.unwrap();
        assert_eq!(rules.create(&rule("a", 5), now().plus_micros(1)).await.unwrap(), kept);
        assert!(matches!(rules.create(&rule("a", 6), now()).await, Err(RulesError::Exists(id)) if id == "a"));
        assert!(matches!(rules.create("{}", now()).await, Err(RulesError::Invalid(e)) if e.pointer == "/kind"));
    }

    #[tokio::test]
    async fn the_number_of_rules_is_bounded() {
        let table = table();
        let rules = Rules::new(table.clone());
        let key = census_key();
        let full =
            Write::Put { key, value: json!({"count": MAX_RULES - 1}), condition: Condition::Any, expires_at: None };
        table.write(vec![full]).await.unwrap();
        rules.create(&rule("a", 5), now()).await.unwrap();
        assert!(matches!(rules.create(&rule("b", 5), now()).await, Err(RulesError::TooMany)));
        rules.delete("a").await.unwrap();
        rules.create(&rule("b", 5), now()).await.unwrap();
    }

    #[tokio::test]
    async fn a_change_takes_effect_at_once_and_costs_one_read_when_there_is_none() {
        let table = table();
        let (writer, reader) = (Rules::new(table.clone()), Rules::new(table.clone()));
        assert!(!reader.watchlist().await.unwrap().looks_at("quote.trade"));
        writer.create(&rule("a", 5), now()).await.unwrap();
        assert!(reader.watchlist().await.unwrap().looks_at("quote.trade"));
        let queries = table.calls("table.query");
        assert!(reader.watchlist().await.unwrap().looks_at("quote.trade"));
        assert_eq!(table.calls("table.query"), queries, "nothing changed, nothing is read again");
        writer.delete("a").await.unwrap();
        assert!(!reader.watchlist().await.unwrap().looks_at("quote.trade"));
    }

    #[tokio::test]
    async fn a_write_that_timed_out_is_looked_up() {
        for fault in [Fault::After, Fault::Before(ErrorKind::Timeout)] {
            let table = table();
            let rules = Rules::new(table.clone());
            table.script("table.write", [fault.clone()]);
            rules.create(&rule("a", 5), now()).await.unwrap();
            table.script("table.write", [fault.clone()]);
            assert!(rules.delete("a").await.unwrap(), "{fault:?}");
            assert_eq!(table.inner().value("rules", "census").unwrap()["count"], 0);
        }
    }

    #[tokio::test]
    async fn writers_at_the_same_time_all_count() {
        let table = table();
        let texts: Vec<String> = (0..5).map(|i| rule(&format!("r{i}"), 5)).collect();
        let rules = Rules::new(table.clone());
        let made = futures::future::join_all(texts.iter().map(|t| rules.create(t, now()))).await;
        assert!(made.iter().all(Result::is_ok));
        assert_eq!(table.inner().value("rules", "census").unwrap()["count"], 5);
    }

    #[tokio::test]
    async fn more_rules_than_a_page_are_all_read_and_unreadable_ones_left_out() {
        let table = table();
        let mut writes: Vec<Write> = (0..=PAGE)
            .map(|i| {
                let rule = Rule::parse(&rule(&format!("r{i:05}"), 5), now(), String::new).unwrap();
                let key = Key::new(RULES, &rule.id);
                Write::Put { key, value: rule.to_json(), condition: Condition::Any, expires_at: None }
            })
            .collect();
        let key = Key::new(RULES, "newer");
        writes.push(Write::Put { key, value: json!({"kind": "dance"}), condition: Condition::Any, expires_at: None });
        for chunk in writes.chunks(100) {
            table.write(chunk.to_vec()).await.unwrap();
        }
        let rules = Rules::new(table);
        assert_eq!(rules.list().await.unwrap().len(), PAGE + 1);
        assert!(matches!(rules.get("newer").await, Err(RulesError::Port(e)) if e.kind == ErrorKind::Corrupt));
        assert!(rules.delete("newer").await.unwrap());
    }

    #[tokio::test]
    async fn a_table_that_is_away_is_said_so() {
        let table = table();
        let rules = Rules::new(table.clone());
        table.always("table.get", Fault::Before(ErrorKind::Unavailable));
        let error = rules.create(&rule("a", 5), now()).await.unwrap_err();
        assert!(matches!(&error, RulesError::Port(e) if e.is_transient()), "{error}");
        assert!(matches!(rules.watchlist().await, Err(RulesError::Port(_))));
    }
}
