//! Counters that go with a message.
//!
//! SNS and SQS share no transaction with DynamoDB, so a count is written *after* the service has confirmed the message: what was never
//! sent is never counted. All counts of one call go in as few transactions as they fit, under one token: a write whose reply was lost is
//! repeated under the same token and counts once. A count that still cannot be written does not fail the send, which would make the
//! client send events again that are there; it is logged as an error with what is missing.
//!
//! What is left: a process that dies between the two, and a send whose outcome nobody knows but which arrived, leave events that were
//! not counted as accepted. The ledger shows them as *more stored than accepted* in that hour; it never shows a loss that is none, and
//! never hides one.

use crate::dynamodb::{DynamoTable, MAX_WRITES, token};
use sluice_ports::{Key, Message, PortError, Tally, Write};
use std::collections::BTreeMap;
use std::time::Duration;

/// The pause between two tries, each of which has its own retries.
const PAUSE: Duration = Duration::from_millis(200);

/// Counts the messages that were sent. A counter that cannot be written holds up the send no longer than half of what a call to
/// the table may take.
pub(crate) async fn count(table: &DynamoTable, messages: &[Message], results: &[Result<(), PortError>]) {
    let sent = messages.iter().zip(results).filter(|(_, result)| result.is_ok());
    let writes = writes(sent.flat_map(|(message, _)| &message.tally));
    for chunk in writes.chunks(MAX_WRITES) {
        let mut last = None;
        if let Ok(true) = tokio::time::timeout(table.patience() / 2, write(table, chunk, &mut last)).await {
            continue;
        }
        let why = last.map_or_else(|| "no answer in time".to_owned(), |error: PortError| error.to_string());
        let missing: Vec<String> = chunk.iter().map(shown).collect();
        tracing::error!(error.message = why, counters.missing = missing.join(" "), "what was sent is not counted");
    }
}

/// Writes until it is done (`true`) or can never be; what last kept it from that is in `last`.
async fn write(table: &DynamoTable, writes: &[Write], last: &mut Option<PortError>) -> bool {
    let token = token();
    while let Err(error) = table.write_as(&token, writes).await {
        let may_succeed = error.is_transient();
        *last = Some(error);
        if !may_succeed {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
    true
}

/// One addition per counter.
fn writes<'t>(tallies: impl Iterator<Item = &'t Tally>) -> Vec<Write> {
    let mut counters: BTreeMap<&str, BTreeMap<&str, i64>> = BTreeMap::new();
    for tally in tallies {
        *counters.entry(&tally.counter).or_default().entry(&tally.field).or_default() += tally.by;
    }
    let write = |(counter, fields): (&str, BTreeMap<&str, i64>)| Write::Add {
        key: Key::new("counter", counter),
        deltas: fields.into_iter().map(|(field, by)| (field.to_owned(), by)).collect(),
        expires_at: None,
    };
    counters.into_iter().map(write).collect()
}

fn shown(write: &Write) -> String {
    let Write::Add { key, deltas, .. } = write else { return String::new() };
    let deltas: Vec<String> = deltas.iter().map(|(field, by)| format!("{field}+{by}")).collect();
    format!("{}:{}", key.sort, deltas.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_by_counter_and_field() {
        let tally = |counter: &str, field: &str, by| Tally { counter: counter.into(), field: field.into(), by };
        let tallies = [tally("a", "x", 1), tally("b", "x", 2), tally("a", "x", 3), tally("a", "y", 4)];
        let writes = writes(tallies.iter());
        assert_eq!(writes.iter().map(shown).collect::<Vec<_>>(), ["a:x+4,y+4", "b:x+2"]);
    }
}
