//! Queues of SQS.

mod console;
mod delivery;

pub use console::{ConsoleQueue, SqsConsole};

use crate::batch::{self, ARRAY, ENTRIES, Entries, attribute_text};
use crate::dynamodb::DynamoTable;
use crate::failure::{failed, refused};
use crate::tally::Counters;
use crate::{Connection, Resource};
use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Builder;
use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
};
use sluice_ports::{Delivery, Depth, ErrorKind, Message, PortError, Queue, Receipt, Settlement};
use std::time::{Duration, Instant};

const SEND: &str = "queue.send";
const RECEIVE: &str = "queue.receive";
const SETTLE: &str = "queue.settle";
const DEPTH: &str = "queue.depth";

/// Bytes of a message, and of all messages of a call together.
const BYTES: usize = 1_024 * 1_024;
/// The code for a receipt that settles nothing.
const STALE: &str = "ReceiptHandleIsInvalid";
/// Longest wait of one receive.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Longest time that a message can be made invisible.
const LONGEST_RELEASE: Duration = Duration::from_secs(12 * 3_600);

/// A queue whose counters lie in a table.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    connection: Connection,
    client: Client,
    queue: Resource,
    counters: Counters,
}

impl SqsQueue {
    /// The queue with this URL; what goes with its messages is counted in `counters`.
    pub fn new(connection: &Connection, queue: Resource, counters: DynamoTable) -> Self {
        Self {
            connection: connection.clone(),
            client: Client::new(connection.sdk()),
            queue,
            counters: Counters::new(counters),
        }
    }

    async fn send_entries(&self, messages: &[Message], entries: Vec<usize>) -> Result<Entries, PortError> {
        let mut call = self.client.send_message_batch().queue_url(&self.queue.name);
        for &entry in &entries {
            call = call.entries(request(entry, &messages[entry]).map_err(|why| self.invalid(SEND, &why))?);
        }
        let reply = call.send().await.map_err(|error| failed(SEND, &self.queue, error))?;
        let sent = reply.successful().iter().map(|done| done.id());
        Ok(self.entries(SEND, sent, reply.failed()))
    }

    async fn delete_entries(
        &self,
        outcomes: &[(Receipt, Settlement)],
        entries: Vec<usize>,
    ) -> Result<Entries, PortError> {
        let mut call = self.client.delete_message_batch().queue_url(&self.queue.name);
        for &entry in &entries {
            let built = DeleteMessageBatchRequestEntry::builder()
                .id(entry.to_string())
                .receipt_handle(&outcomes[entry].0.0)
                .build();
            call = call.entries(built.map_err(|why| self.invalid(SETTLE, &why))?);
        }
        let reply = call.send().await.map_err(|error| failed(SETTLE, &self.queue, error))?;
        let done = reply.successful().iter().map(|done| done.id());
        Ok(self.entries(SETTLE, done, reply.failed()))
    }

    async fn release_entries(
        &self,
        outcomes: &[(Receipt, Settlement)],
        entries: Vec<usize>,
    ) -> Result<Entries, PortError> {
        let mut call = self.client.change_message_visibility_batch().queue_url(&self.queue.name);
        for &entry in &entries {
            let (receipt, settlement) = &outcomes[entry];
            let after = match settlement {
                Settlement::Release(after) => (*after).min(LONGEST_RELEASE),
                Settlement::Delete => Duration::ZERO,
            };
            let built = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(entry.to_string())
                .receipt_handle(&receipt.0)
                .visibility_timeout(i32::try_from(after.as_secs()).unwrap_or(0))
                .build();
            call = call.entries(built.map_err(|why| self.invalid(SETTLE, &why))?);
        }
        let reply = call.send().await.map_err(|error| failed(SETTLE, &self.queue, error))?;
        let done = reply.successful().iter().map(|done| done.id());
        Ok(self.entries(SETTLE, done, reply.failed()))
    }

    fn entries<'r>(
        &self,
        operation: &'static str,
        done: impl Iterator<Item = &'r str>,
        failures: &[BatchResultErrorEntry],
    ) -> Entries {
        let done = done.filter_map(|id| id.parse().ok()).map(|entry| (entry, Ok(())));
        let failed = failures.iter().filter_map(|failure| {
            let entry = failure.id().parse().ok()?;
            // Visibility of a message that is no longer in flight cannot be changed, nor by a receipt that is out of date.
            let stale = ["InvalidParameterValue", "MessageNotInflight"];
            let is_stale = operation == SETTLE && stale.iter().any(|code| failure.code().ends_with(code));
            let code = if is_stale { STALE } else { failure.code() };
            let status = if failure.sender_fault() { 400 } else { 500 };
            Some((entry, Err(refused(operation, &self.queue, Some(code), failure.message(), status))))
        });
        done.chain(failed).collect()
    }

    fn invalid(&self, operation: &'static str, why: &BuildError) -> PortError {
        PortError::new(ErrorKind::Invalid, operation, format!("{}: {why}", self.queue))
    }

    /// One receive, which the service holds up for as long as `wait`, in whole seconds.
    async fn receive_once(&self, limit: usize, wait: Duration) -> Result<Vec<Delivery>, PortError> {
        let received = self
            .client
            .receive_message()
            .queue_url(&self.queue.name)
            .max_number_of_messages(i32::try_from(limit.min(ENTRIES)).unwrap_or(1))
            .wait_time_seconds(i32::try_from(wait.as_secs()).unwrap_or(0))
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .customize()
            .config_override(Builder::new().timeout_config(self.connection.waiting(wait)))
            .send()
            .await
            .map_err(|error| failed(RECEIVE, &self.queue, error))?;
        Ok(received.messages().iter().map(delivery::read).collect())
    }
}

fn request(entry: usize, message: &Message) -> Result<SendMessageBatchRequestEntry, BuildError> {
    let mut request = SendMessageBatchRequestEntry::builder().id(entry.to_string()).message_body(&message.body);
    for (name, values) in &message.attributes {
        let value = MessageAttributeValue::builder().data_type(ARRAY).string_value(attribute_text(values)).build()?;
        request = request.message_attributes(name, value);
    }
    request.build()
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        let call = |entries| self.send_entries(&messages, entries);
        batch::publish(&messages, BYTES, SEND, &self.queue, &self.counters, call).await
    }

    async fn receive(&self, limit: usize, wait: Duration) -> Result<Vec<Delivery>, PortError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let until = Instant::now() + wait;
        let mut received = loop {
            let left = until.saturating_duration_since(Instant::now());
            let received = self.receive_once(limit, left.min(LONGEST_WAIT)).await?;
            let left = until.saturating_duration_since(Instant::now());
            if !received.is_empty() || left.is_zero() {
                break received;
            }
            // The service waits in whole seconds.
            tokio::time::sleep(left.min(Duration::from_secs(1)).min(until - Instant::now())).await;
        };
        while !received.is_empty() && received.len() < limit {
            let more = self.receive_once(limit - received.len(), Duration::ZERO).await?;
            if more.is_empty() {
                break;
            }
            received.extend(more);
        }
        Ok(received)
    }

    async fn settle(&self, outcomes: Vec<(Receipt, Settlement)>) -> Vec<Result<(), PortError>> {
        let (mut deletes, mut releases, mut results) = (Vec::new(), Vec::new(), Entries::new());
        for (entry, (receipt, settlement)) in outcomes.iter().enumerate() {
            match settlement {
                // The service refuses the whole call for one empty receipt.
                _ if receipt.0.is_empty() => {
                    let error = refused(SETTLE, &self.queue, Some(STALE), None, 404);
                    results.insert(entry, Err(error));
                }
                Settlement::Delete => deletes.push((entry, 0)),
                Settlement::Release(_) => releases.push((entry, 0)),
            }
        }
        let delete = |entries| self.delete_entries(&outcomes, entries);
        let release = |entries| self.release_entries(&outcomes, entries);
        results.extend(batch::send(deletes, BYTES, SETTLE, delete).await);
        results.extend(batch::send(releases, BYTES, SETTLE, release).await);
        batch::in_order(results)
    }

    async fn depth(&self) -> Result<Depth, PortError> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let call =
            self.client.get_queue_attributes().queue_url(&self.queue.name).set_attribute_names(Some(names.into()));
        let found = call.send().await.map_err(|error| failed(DEPTH, &self.queue, error))?;
        Ok(delivery::depth(found.attributes()))
    }
}
