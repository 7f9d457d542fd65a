//! Calls with several entries, each of which succeeds or fails by itself.

use crate::Resource;
use crate::tally::Counters;
use futures::{Stream, StreamExt as _};
use sluice_ports::{ErrorKind, Message, PortError};
use std::collections::HashMap;
use std::time::Duration;

/// SNS and SQS take this many entries in a call.
pub(crate) const ENTRIES: usize = 10;
/// Calls under way at once.
const AT_ONCE: usize = 4;
/// How often an entry is sent that the service failed by its own fault. The SDK repeats calls, not entries.
const ROUNDS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What became of the entries of one call, by their number.
pub(crate) type Entries = HashMap<usize, Result<(), PortError>>;

/// Sends entries (their number and size in bytes) by calls of at most [`ENTRIES`] entries and `call_bytes` bytes, and again where only
/// some of a call's entries failed and may yet succeed. Each entry has a result in the end.
pub(crate) async fn send<F, Fut>(
    entries: Vec<(usize, usize)>,
    call_bytes: usize,
    operation: &'static str,
    call: F,
) -> Entries
where
    F: Fn(Vec<usize>) -> Fut,
    Fut: Future<Output = Result<Entries, PortError>>,
{
    let sizes: HashMap<usize, usize> = entries.iter().copied().collect();
    let (mut pending, mut results) = (entries, Entries::new());
    for round in 1..=ROUNDS {
        let calls = futures::stream::iter(cut(&pending, call_bytes)).map(|entries| {
            let made = call(entries.clone());
            async move { (entries, made.await) }
        });
        let again = take(calls.buffered(AT_ONCE), &mut results, round < ROUNDS).await;
        pending = again.into_iter().filter_map(|entry| Some((entry, *sizes.get(&entry)?))).collect();
        if pending.is_empty() {
            break;
        }
        tokio::time::sleep(FIRST_PAUSE * (1 << round)).await;
    }
    for entry in sizes.into_keys() {
        let lost = || Err(PortError::new(ErrorKind::Timeout, operation, "the reply does not say what became of it"));
        results.entry(entry).or_insert_with(lost);
    }
    results
}

/// Sends messages, each of which may have `bytes` and no call more, and counts what was sent. One result per message, in order.
pub(crate) async fn publish<F, Fut>(
    messages: &[Message],
    bytes: usize,
    operation: &'static str,
    to: &Resource,
    counters: &Counters,
    call: F,
) -> Vec<Result<(), PortError>>
where
    F: Fn(Vec<usize>) -> Fut,
    Fut: Future<Output = Result<Entries, PortError>>,
{
    let (mut pending, mut results) = (Vec::new(), Entries::new());
    for (entry, message) in messages.iter().enumerate() {
        let size = message_bytes(message);
        if size <= bytes {
            pending.push((entry, size));
        } else {
            let detail = format!("{to}: the message has {size} bytes; it takes {bytes}");
            results.insert(entry, Err(PortError::new(ErrorKind::TooLarge, operation, detail)));
        }
    }
    results.extend(send(pending, bytes, operation, call).await);
    let results = in_order(results);
    counters.count(messages, &results).await;
    results
}

/// The results by number.
pub(crate) fn in_order(results: Entries) -> Vec<Result<(), PortError>> {
    let mut results: Vec<_> = results.into_iter().collect();
    results.sort_by_key(|(entry, _)| *entry);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Keeps what became of the entries; answers those that are to be sent again.
async fn take(
    calls: impl Stream<Item = (Vec<usize>, Result<Entries, PortError>)>,
    results: &mut Entries,
    again: bool,
) -> Vec<usize> {
    let mut pending = Vec::new();
    let mut calls = std::pin::pin!(calls);
    while let Some((entries, result)) = calls.next().await {
        match result {
            Ok(outcomes) => {
                for (entry, outcome) in outcomes {
                    match outcome {
                        Err(error) if again && error.is_transient() => pending.push(entry),
                        outcome => _ = results.insert(entry, outcome),
                    }
                }
            }
            // The SDK has tried the call as a whole often enough.
            Err(error) => results.extend(entries.into_iter().map(|entry| (entry, Err(error.again())))),
        }
    }
    pending
}

/// Cuts entries into calls, in order.
fn cut(entries: &[(usize, usize)], call_bytes: usize) -> Vec<Vec<usize>> {
    let mut calls: Vec<Vec<usize>> = Vec::new();
    let mut bytes = 0;
    for &(entry, size) in entries {
        match calls.last_mut() {
            Some(call) if call.len() < ENTRIES && bytes + size <= call_bytes => {
                call.push(entry);
                bytes += size;
            }
            _ => {
                calls.push(vec![entry]);
                bytes = size;
            }
        }
    }
    calls
}

/// Bytes of a message as the services count them: its body, and name, type and value of each attribute.
fn message_bytes(message: &Message) -> usize {
    let attribute = |(name, values): (&String, &Vec<String>)| name.len() + ARRAY.len() + attribute_text(values).len();
    message.body.len() + message.attributes.iter().map(attribute).sum::<usize>()
}

/// Data type of attributes with several values.
pub(crate) const ARRAY: &str = "String.Array";

/// The values of an attribute as its text.
pub(crate) fn attribute_text(values: &[String]) -> String {
    serde_json::Value::from(values).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn calls_are_cut_by_entries_and_by_bytes() {
        let entries: Vec<(usize, usize)> = (0..12).map(|n| (n, 1)).collect();
        assert_eq!(cut(&entries, 100).iter().map(Vec::len).collect::<Vec<_>>(), [10, 2]);
        assert_eq!(cut(&[(0, 60), (1, 40), (2, 1), (3, 100)], 100), [vec![0, 1], vec![2], vec![3]]);
        assert_eq!(cut(&[], 100), Vec::<Vec<usize>>::new());
    }

    fn error(kind: ErrorKind) -> PortError {
        PortError::new(kind, "queue.send", "because")
    }

    #[tokio::test(start_paused = true)]
    async fn only_entries_that_failed_for_the_moment_are_sent_again() {
        let calls = Mutex::new(Vec::new());
        let results = send(vec![(0, 1), (1, 1), (2, 1)], 10, "queue.send", |entries| {
            let mut calls = calls.lock().unwrap();
            calls.push(entries.clone());
            let first = calls.len() == 1;
            let outcome = move |entry: usize| match entry {
                1 if first => Err(error(ErrorKind::Throttled)),
                2 => Err(error(ErrorKind::Invalid)),
                _ => Ok(()),
            };
            async move { Ok(entries.into_iter().map(|entry| (entry, outcome(entry))).collect()) }
        })
        .await;
        assert_eq!(
            *calls.lock().unwrap(),
            [vec![0, 1, 2], vec![1]],
            "what was sent and what can never be sent is not sent again"
        );
        let kinds: Vec<_> = in_order(results).into_iter().map(|result| result.err().map(|error| error.kind)).collect();
        assert_eq!(kinds, [None, None, Some(ErrorKind::Invalid)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_keeps_failing_is_given_back_and_one_without_an_answer_is_unknown() {
        let results = send(vec![(0, 1), (1, 1)], 10, "queue.send", |entries| async move {
            let throttled = |entry: usize| (entry, Err(error(ErrorKind::Throttled)));
            Ok(entries.into_iter().filter(|entry| *entry == 0).map(throttled).collect())
        })
        .await;
        let kinds: Vec<_> = in_order(results).into_iter().map(|result| result.unwrap_err().kind).collect();
        assert_eq!(kinds, [ErrorKind::Throttled, ErrorKind::Timeout]);
    }
}
