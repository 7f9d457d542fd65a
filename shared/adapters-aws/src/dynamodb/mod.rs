//! The table in DynamoDB.
//!
//! The table has the string keys `pk` and `sk`. An item's value lies in the map `v`, its version in the number `n`, its expiry (for TTL,
//! never part of a condition) in `expires_at`. A call that is sent again because its reply was lost must neither take effect twice nor take
//! its own effect for somebody else's:
//!
//! - A lone conditional put leaves its token in the item (`w`). Where the condition does not hold, the service says what is there instead,
//!   and the own token in it means that the put took effect before. This is the cheap way: one write unit where a transaction takes two.
//! - Every other write is a transaction with a client token, which the service takes once.
//! - A producer's sums (`tally.rs`) go without, since they may be written again.

mod item;
mod write;

use crate::failure::{failed, refused};
use crate::{Connection, Resource};
use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, KeysAndAttributes, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};
use item::{Attributes, PARTITION, SORT};
#[cfg(any(feature = "sns", feature = "sqs"))]
use serde_json::{Map, Value};
use sluice_ports::{ErrorKind, Item, Key, PortError, Query, Table, Write};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};
use write::AddTo;

const GET: &str = "table.get";
const WRITE: &str = "table.write";
const QUERY: &str = "table.query";

/// Most keys in one read.
const READ_KEYS: usize = 100;
/// First and longest pause after a transaction that met another one on the same item, and after a read that was cut short.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(640);
/// How often a transaction is built anew at once: items come and go rarely.
const REBUILDS: u32 = 3;

/// A table.
#[derive(Debug, Clone)]
pub struct DynamoTable {
    client: Client,
    table: Resource,
    /// How long a write goes on meeting others before it is given back.
    patience: Duration,
}

impl DynamoTable {
    /// The table of this name.
    pub fn new(connection: &Connection, table: Resource) -> Self {
        Self { client: Client::new(connection.sdk()), table, patience: connection.bounds().operation }
    }

    /// How long a write goes on meeting others before it is given back.
    #[cfg(any(feature = "sns", feature = "sqs"))]
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Replaces an item that only this caller writes, unless the table has a newer state of it: the one with the greater version. The same
    /// state may be written again.
    #[cfg(any(feature = "sns", feature = "sqs"))]
    pub(crate) async fn put_newer(&self, key: &Key, value: &Map<String, Value>, version: u64) -> Result<(), PortError> {
        let call = self
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(item::key(key)))
            .update_expression("SET #v = :v, #n = :n")
            .condition_expression("attribute_not_exists(#n) OR #n < :n")
            .expression_attribute_names("#v", item::VALUE)
            .expression_attribute_names("#n", item::VERSION)
            .expression_attribute_values(":v", item::encode(value))
            .expression_attribute_values(":n", item::number(version));
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => Ok(()),
            Err(error) => Err(failed(WRITE, &self.table, error)),
        }
    }

    /// One conditional put under a token: a call that is repeated finds the token of the first.
    async fn put_alone(&self, token: &str, update: &Update) -> Result<(), PortError> {
        let mut pause = Pause::new(self.patience);
        loop {
            let call = self
                .client
                .update_item()
                .table_name(&self.table.name)
                .set_key(Some(update.key.clone()))
                .update_expression(&update.update_expression)
                .set_condition_expression(update.condition_expression.clone())
                .set_expression_attribute_names(update.expression_attribute_names.clone())
                .set_expression_attribute_values(update.expression_attribute_values.clone())
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            let Err(error) = call.send().await else { return Ok(()) };
            match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(unmet)) => {
                    let writer = unmet.item().and_then(|found| found.get(item::WRITER)?.as_s().ok());
                    if writer.is_some_and(|writer| writer == token) {
                        return Ok(());
                    }
                    let part = |name| update.key.get(name).and_then(|part| part.as_s().ok()).map_or("", String::as_str);
                    return Err(unmet_condition(part(PARTITION), part(SORT)));
                }
                // A transaction has the item just now.
                Some(UpdateItemError::TransactionConflictException(_)) if pause.wait().await => {}
                _ => return Err(failed(WRITE, &self.table, error)),
            }
        }
    }

    /// Writes in one transaction under a token: a call that is repeated takes effect once.
    async fn transact(&self, token: &str, writes: &[Write]) -> Result<(), PortError> {
        // Adding to an item that is there and making a new one are two conditions; which one holds is found out.
        let mut new: HashSet<usize> = HashSet::new();
        let mut pause = Pause::new(self.patience);
        let mut round: u32 = 0;
        loop {
            let items = self.items(writes, &new)?;
            if items.is_empty() {
                return Ok(());
            }
            // Another content needs another token.
            let call = self.client.transact_write_items().client_request_token(format!("{token}{round}"));
            let Err(error) = call.set_transact_items(Some(items)).send().await else { return Ok(()) };
            let reasons = match &error {
                SdkError::ServiceError(service) => match service.err() {
                    TransactWriteItemsError::TransactionCanceledException(cancelled) => {
                        cancelled.cancellation_reasons()
                    }
                    _ => return Err(failed(WRITE, &self.table, error)),
                },
                _ => return Err(failed(WRITE, &self.table, error)),
            };
            match self.verdict(writes, &new, reasons).await? {
                Verdict::Rebuild(other) => {
                    new = other;
                    round += 1;
                    if round <= REBUILDS {
                        continue;
                    }
                }
                Verdict::Contested => {}
                Verdict::Failed(error) => return Err(error),
            }
            if !pause.wait().await {
                let detail = format!("{}: other writes to the same items did not let this one through", self.table);
                return Err(PortError::new(ErrorKind::Throttled, WRITE, detail));
            }
        }
    }

    fn items(&self, writes: &[Write], new: &HashSet<usize>) -> Result<Vec<TransactWriteItem>, PortError> {
        let mut items = Vec::with_capacity(writes.len());
        for (at, write) in writes.iter().enumerate() {
            let to = if new.contains(&at) { AddTo::New } else { AddTo::Existing };
            let item = write::item(&self.table.name, write, to);
            items.extend(item.map_err(not_built)?);
        }
        Ok(items)
    }

    /// What to do about a transaction that was cancelled.
    async fn verdict(
        &self,
        writes: &[Write],
        new: &HashSet<usize>,
        reasons: &[CancellationReason],
    ) -> Result<Verdict, PortError> {
        // Checks of nothing are not sent, so reasons stand for the others, in order.
        let sent: Vec<usize> = (0..writes.len()).filter(|at| !write::is_nothing(&writes[*at])).collect();
        let (mut unmet, mut contested, mut other) = (Vec::new(), false, None);
        for (at, reason) in sent.into_iter().zip(reasons) {
            match reason.code().unwrap_or("None") {
                "None" => {}
                "ConditionalCheckFailed" => match &writes[at] {
                    Write::Add { .. } => unmet.push(at),
                    write => {
                        let key = write::key(write);
                        return Ok(Verdict::Failed(unmet_condition(&key.partition, &key.sort)));
                    }
                },
                "TransactionConflict" => contested = true,
                code => other = Some(refused(WRITE, &self.table, Some(code), reason.message(), 400)),
            }
        }
        if let Some(error) = other {
            return Ok(Verdict::Failed(error));
        }
        if unmet.is_empty() {
            let nothing_said = || refused(WRITE, &self.table, Some("TransactionCanceledException"), None, 400);
            return Ok(if contested { Verdict::Contested } else { Verdict::Failed(nothing_said()) });
        }
        let keys: Vec<Key> = unmet.iter().map(|at| write::key(&writes[*at]).clone()).collect();
        let found = self.get(&keys).await?;
        let mut other = new.clone();
        for (at, item) in unmet.into_iter().zip(found) {
            match item {
                None => _ = other.insert(at),
                Some(item) => {
                    if let Some(error) = write::cannot_add(&writes[at], &item) {
                        return Ok(Verdict::Failed(error));
                    }
                    other.remove(&at);
                }
            }
        }
        // Where nothing changed, the item came or went in between.
        Ok(if other == *new { Verdict::Contested } else { Verdict::Rebuild(other) })
    }

    async fn get_page(&self, keys: &[&Key]) -> Result<Vec<Item>, PortError> {
        let fail = |detail: String| PortError::new(ErrorKind::Invalid, GET, detail);
        let wanted = KeysAndAttributes::builder().consistent_read(true);
        let wanted = wanted.set_keys(Some(keys.iter().map(|key| item::key(key)).collect()));
        let mut asked = HashMap::from([(self.table.name.clone(), wanted.build().map_err(|e| fail(e.to_string()))?)]);
        let mut pause = Pause::new(self.patience);
        let mut items = Vec::with_capacity(keys.len());
        loop {
            let page = self.client.batch_get_item().set_request_items(Some(asked)).send().await;
            let page = page.map_err(|error| failed(GET, &self.table, error))?;
            for found in page.responses.into_iter().flat_map(HashMap::into_values).flatten() {
                items.push(self.read(GET, found)?);
            }
            match page.unprocessed_keys {
                Some(rest) if !rest.is_empty() => asked = rest,
                _ => return Ok(items),
            }
            if !pause.wait().await {
                return Err(refused(GET, &self.table, Some("ThrottlingException"), None, 400));
            }
        }
    }

    fn read(&self, operation: &'static str, found: Attributes) -> Result<Item, PortError> {
        item::decode(found)
            .map_err(|why| PortError::new(ErrorKind::Corrupt, operation, format!("{}: {why}", self.table)))
    }
}

enum Verdict {
    /// The same writes again, with these additions to items that are not there.
    Rebuild(HashSet<usize>),
    /// The same again.
    Contested,
    Failed(PortError),
}

/// Pauses that grow, until patience is over.
struct Pause {
    until: Instant,
    next: Duration,
}

impl Pause {
    fn new(patience: Duration) -> Self {
        Self { until: Instant::now() + patience, next: FIRST_PAUSE }
    }

    /// Waits a random part of the next pause; `false` when patience is over.
    async fn wait(&mut self) -> bool {
        if Instant::now() + self.next > self.until {
            return false;
        }
        let part = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
        tokio::time::sleep(self.next.mul_f64(part)).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        true
    }
}

fn unmet_condition(partition: &str, sort: &str) -> PortError {
    PortError::new(ErrorKind::Conflict, WRITE, format!("`{partition}`/`{sort}` does not meet its condition"))
}

fn not_built(why: BuildError) -> PortError {
    PortError::new(ErrorKind::Invalid, WRITE, why.to_string())
}

/// A token that nobody else has.
pub(crate) fn token() -> String {
    let random = [getrandom::u64().unwrap_or_default(), getrandom::u64().unwrap_or_default()];
    format!("{:016x}{:016x}", random[0], random[1])
}

#[async_trait]
impl Table for DynamoTable {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, PortError> {
        for key in keys {
            write::check_key(GET, key)?;
        }
        let distinct: Vec<&Key> = keys.iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut found: HashMap<Key, Item> = HashMap::new();
        for page in distinct.chunks(READ_KEYS) {
            found.extend(self.get_page(page).await?.into_iter().map(|item| (item.key.clone(), item)));
        }
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), PortError> {
        write::check(&writes)?;
        let token = token();
        match writes.as_slice() {
            [write] => match write::alone(&self.table.name, write, &token).map_err(not_built)? {
                Some(update) => self.put_alone(&token, &update).await,
                None => self.transact(&token, &writes).await,
            },
            _ => self.transact(&token, &writes).await,
        }
    }

    async fn query(&self, query: Query) -> Result<Vec<Item>, PortError> {
        let Some(mut start) = Start::of(&query) else { return Ok(Vec::new()) };
        let mut items = Vec::new();
        while items.len() < query.limit {
            let mut condition = "#p = :p".to_owned();
            let mut call = self
                .client
                .query()
                .table_name(&self.table.name)
                .consistent_read(true)
                .scan_index_forward(!query.descending)
                .limit(i32::try_from(query.limit - items.len()).unwrap_or(i32::MAX))
                .expression_attribute_names("#p", PARTITION)
                .expression_attribute_values(":p", AttributeValue::S(query.partition.clone()));
            if !query.prefix.is_empty() {
                condition.push_str(" AND begins_with(#s, :s)");
                call = call
                    .expression_attribute_names("#s", SORT)
                    .expression_attribute_values(":s", AttributeValue::S(query.prefix.clone()));
            }
            let page = call
                .key_condition_expression(condition)
                .set_exclusive_start_key(start.0.take())
                .send()
                .await
                .map_err(|error| failed(QUERY, &self.table, error))?;
            for found in page.items.into_iter().flatten() {
                items.push(self.read(QUERY, found)?);
            }
            match page.last_evaluated_key {
                Some(last) if !last.is_empty() => start = Start(Some(last)),
                _ => break,
            }
        }
        Ok(items)
    }
}

/// Where a query begins. The service refuses a start outside of what is asked for.
struct Start(Option<Attributes>);

impl Start {
    /// `None` where nothing lies behind the start.
    fn of(query: &Query) -> Option<Self> {
        let Some(after) = &query.after else { return Some(Self(None)) };
        if after.starts_with(&query.prefix) {
            return Some(Self(Some(item::key(&Key::new(&query.partition, after)))));
        }
        let is_behind = (after.as_str() > query.prefix.as_str()) != query.descending;
        (!is_behind).then_some(Self(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_outside_the_prefix_is_before_everything_or_behind_it() {
        for (after, descending, expected) in [
            (None, false, Some(false)),
            (Some("k3"), false, Some(true)),
            (Some("j"), false, Some(false)),
            (Some("l"), false, None),
            (Some("l"), true, Some(false)),
            (Some("j"), true, None),
        ] {
            let query = Query { after: after.map(str::to_owned), descending, ..Query::prefix("p", "k", 9) };
            let start = Start::of(&query).map(|start| start.0.is_some());
            assert_eq!(start, expected, "{after:?} {descending}");
        }
    }
}
