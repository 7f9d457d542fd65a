//! Lambda's SQS event and the reply with partial failures (`ReportBatchItemFailures`).
//!
//! Source of the shapes: AWS documentation, "Using Lambda with Amazon SQS".

use crate::{InvokeError, metrics};
use serde::{Deserialize, Serialize};
use sluice_stages::item::{Item, Outcome};
use std::borrow::Cow;

/// A delivery of several messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqsEvent<'a> {
    /// The messages.
    #[serde(borrow, rename = "Records")]
    pub records: Vec<SqsRecord<'a>>,
}

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SqsRecord<'a> {
    /// Id of the message.
    #[serde(borrow)]
    pub message_id: Cow<'a, str>,
    /// Names this delivery.
    #[serde(borrow, default)]
    pub receipt_handle: Cow<'a, str>,
    /// The body.
    #[serde(borrow)]
    pub body: Cow<'a, str>,
    /// System attributes.
    #[serde(borrow, default)]
    pub attributes: SqsAttributes<'a>,
    /// `aws:sqs`
    #[serde(borrow, default)]
    pub event_source: Cow<'a, str>,
    /// The queue.
    #[serde(borrow, default, rename = "eventSourceARN")]
    pub event_source_arn: Cow<'a, str>,
}

/// System attributes in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SqsAttributes<'a> {
    /// How often the message was delivered, as text.
    #[serde(borrow, default)]
    pub approximate_receive_count: Cow<'a, str>,
    /// When it was sent, milliseconds since the epoch, as text.
    #[serde(borrow, default)]
    pub sent_timestamp: Cow<'a, str>,
}

/// The reply: which messages are to be delivered again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SqsReply {
    /// The failed ones; all others are acknowledged.
    pub batch_item_failures: Vec<ItemFailure>,
}

/// One failed message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemFailure {
    /// Its message id.
    pub item_identifier: String,
}

/// Reads a delivery.
pub fn read(function: &'static str, event: &[u8]) -> Result<Vec<Item>, InvokeError> {
    let event: SqsEvent<'_> =
        serde_json::from_slice(event).map_err(|e| InvokeError::Event { function, reason: e.to_string() })?;
    let sent_ms = event.records.iter().filter_map(|record| record.attributes.sent_timestamp.parse::<u64>().ok());
    let oldest_sent_ms = sent_ms.min().unwrap_or(u64::MAX);
    tracing::event!(target: metrics::TARGET, tracing::Level::TRACE, messages = event.records.len(), oldest_sent_ms);
    Ok(event
        .records
        .into_iter()
        .map(|record| Item {
            id: record.message_id.into_owned(),
            body: record.body.into_owned(),
            receive_count: record.attributes.approximate_receive_count.parse().unwrap_or(1),
        })
        .collect())
}

/// Writes the reply: `ids[i]` had `outcomes[i]`. A message without an outcome counts as failed, so that a stage that answers too little
/// loses nothing. However many failed, that is one line in the log: what keeps one from being stored mostly keeps them all.
pub fn write(function: &'static str, ids: &[String], outcomes: &[Outcome]) -> Result<Vec<u8>, InvokeError> {
    let mut reply = SqsReply::default();
    let mut first = None;
    for (i, id) in ids.iter().enumerate() {
        let reason = match outcomes.get(i) {
            Some(Outcome::Done) => continue,
            Some(Outcome::Retry(reason)) => reason.as_str(),
            None => "the stage said nothing of the message",
        };
        first.get_or_insert((id, reason));
        reply.batch_item_failures.push(ItemFailure { item_identifier: id.clone() });
    }
    if let Some((id, reason)) = first {
        let failed = reply.batch_item_failures.len();
        tracing::warn!(
            function,
            delivered = ids.len(),
            failed,
            first.message = %id,
            first.reason = reason,
            "messages are to be delivered again"
        );
    }
    serde_json::to_vec(&reply).map_err(|source| InvokeError::Reply { function, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_delivery_becomes_items() {
        let event = r#"{"Records":[{"messageId":"a","receiptHandle":"r","body":"x\ny","attributes":{"ApproximateReceiveCount":"3","SenderId":"s"},
            "messageAttributes":{},"md5OfBody":"","eventSource":"aws:sqs","eventSourceARN":"arn","awsRegion":"x"}]}"#;
        assert_eq!(
            read("convert", event.as_bytes()).unwrap(),
            [Item { id: "a".into(), body: "x\ny".into(), receive_count: 3 }]
        );
        assert!(read("convert", b"{}").unwrap_err().to_string().contains("missing field `Records`"));
    }

    #[test]
    fn failed_and_forgotten_messages_are_reported() {
        let ids = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let reply = write("convert", &ids, &[Outcome::Done, Outcome::Retry("later".into())]).unwrap();
        assert_eq!(
            String::from_utf8(reply).unwrap(),
            r#"{"batchItemFailures":[{"itemIdentifier":"b"},{"itemIdentifier":"c"}]}"#
        );
    }

    #[test]
    fn a_batch_that_failed_is_one_line_in_the_log() {
        let log = Log::default();
        let to = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone()).finish();
        let ids: Vec<String> = (0..500).map(|n| format!("m{n}")).collect();
        let mut outcomes: Vec<Outcome> = (0..499).map(|n| Outcome::Retry(format!("disk full at {n}"))).collect();
        outcomes[0] = Outcome::Done;
        // Known before there is a subscriber, the line is not taken for one that nobody wants when another test is the first to write it.
        write("convert", &ids[1..2], &outcomes[1..2]).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            write("convert", &ids, &outcomes).unwrap();
            write("convert", &ids[..1], &outcomes).unwrap();
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in ["WARN", "delivered=500", "failed=499", "m1", "disk full at 1"] {
            assert!(text.contains(part), "`{part}` in {text}");
        }
    }
}
