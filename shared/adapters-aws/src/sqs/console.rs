//! What an operator does to queues.

use super::{ARRAY, attribute_text, delivery};
use crate::failure::failed;
use crate::{Connection, Resource};
use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName};
use futures::TryStreamExt as _;
use futures::stream::{FuturesOrdered, StreamExt as _};
use sluice_ports::{Delivery, Depth, ErrorKind, PortError, QueueConsole, Receipt};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const LIST: &str = "queues.list";
const PEEK: &str = "queues.peek";
const REDRIVE: &str = "queues.redrive";

/// How long messages that are looked at are kept from others, so that one look sees each once.
const LOOK_S: i32 = 10;
/// How long a move by the service is waited for; it goes on without that.
const MOVE: Duration = Duration::from_secs(20);
const MOVE_PAUSE: Duration = Duration::from_millis(500);
/// What services that have no moves of their own call that.
const NO_MOVES: [&str; 5] =
    ["InvalidAction", "UnknownOperation", "UnknownOperationException", "UnsupportedOperation", "NotImplemented"];

/// A queue as the console knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleQueue {
    /// Its name in the template.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// The queue to which its messages go back, where it is no queue's dead-letter queue: a subscription's letters go to that
    /// subscription's queue.
    pub returns_to: Option<String>,
}

/// All queues of a deployment.
///
/// SQS cannot show a message without receiving it: a look counts as a receive, and hides the messages for some seconds.
#[derive(Debug, Clone)]
pub struct SqsConsole {
    client: Client,
    setting: &'static str,
    queues: Vec<ConsoleQueue>,
}

struct Attributes {
    arn: String,
    depth: Depth,
    dead_letter_arn: Option<String>,
}

impl SqsConsole {
    /// The console of these queues, named by a setting.
    pub fn new(connection: &Connection, setting: &'static str, mut queues: Vec<ConsoleQueue>) -> Self {
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        Self { client: Client::new(connection.sdk()), setting, queues }
    }

    fn queue(&self, operation: &'static str, name: &str) -> Result<&ConsoleQueue, PortError> {
        self.queues.iter().find(|queue| queue.name == name).ok_or_else(|| {
            let detail = format!("there is no queue `{name}` in the setting `{}`", self.setting);
            PortError::new(ErrorKind::NotFound, operation, detail)
        })
    }

    fn resource(&self, queue: &ConsoleQueue) -> Resource {
        Resource::new("queue", &queue.url, self.setting)
    }

    async fn attributes(&self, operation: &'static str, queue: &ConsoleQueue) -> Result<Attributes, PortError> {
        let all = self.client.get_queue_attributes().queue_url(&queue.url).attribute_names(QueueAttributeName::All);
        let all = all.send().await.map_err(|error| failed(operation, &self.resource(queue), error))?;
        let text = |name| all.attributes().and_then(|found| found.get(&name)).cloned();
        let policy: Option<serde_json::Value> =
            text(QueueAttributeName::RedrivePolicy).and_then(|text| serde_json::from_str(&text).ok());
        Ok(Attributes {
            arn: text(QueueAttributeName::QueueArn).unwrap_or_default(),
            depth: delivery::depth(all.attributes()),
            dead_letter_arn: policy.and_then(|policy| Some(policy["deadLetterTargetArn"].as_str()?.to_owned())),
        })
    }

    async fn all(&self, operation: &'static str) -> Result<Vec<Attributes>, PortError> {
        let asked: FuturesOrdered<_> = self.queues.iter().map(|queue| self.attributes(operation, queue)).collect();
        asked.try_collect().await
    }

    async fn take(
        &self,
        operation: &'static str,
        queue: &ConsoleQueue,
        limit: usize,
        hide_s: i32,
    ) -> Result<Vec<Message>, PortError> {
        let received = self
            .client
            .receive_message()
            .queue_url(&queue.url)
            .max_number_of_messages(i32::try_from(limit.clamp(1, super::ENTRIES)).unwrap_or(1))
            .visibility_timeout(hide_s)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .send()
            .await
            .map_err(|error| failed(operation, &self.resource(queue), error))?;
        Ok(received.messages.unwrap_or_default())
    }

    /// Moves by the service itself; `None` where it has no such thing.
    async fn move_all(&self, from: &ConsoleQueue, from_arn: &str, to_arn: &str) -> Result<Option<u64>, PortError> {
        let resource = self.resource(from);
        let started = self.client.start_message_move_task().source_arn(from_arn).destination_arn(to_arn).send().await;
        if let Err(error) = started {
            let known = error.code().is_none_or(|code| !NO_MOVES.iter().any(|missing| code.ends_with(missing)));
            return if known { Err(failed(REDRIVE, &resource, error)) } else { Ok(None) };
        }
        let until = Instant::now() + MOVE;
        loop {
            let tasks = self.client.list_message_move_tasks().source_arn(from_arn).max_results(1).send().await;
            let tasks = tasks.map_err(|error| failed(REDRIVE, &resource, error))?;
            let newest = tasks.results().first();
            let moved = newest.map_or(0, |task| task.approximate_number_of_messages_moved());
            let moved = u64::try_from(moved).unwrap_or(0);
            match newest.and_then(|task| task.status()) {
                Some("RUNNING") if Instant::now() < until => tokio::time::sleep(MOVE_PAUSE).await,
                Some("FAILED") => {
                    let why = newest.and_then(|task| task.failure_reason()).unwrap_or("no reason given");
                    let detail = format!("{resource}: the move failed after {moved} messages: {why}");
                    return Err(PortError::new(ErrorKind::Unavailable, REDRIVE, detail));
                }
                _ => return Ok(Some(moved)),
            }
        }
    }

    /// Moves message by message: sent there first and deleted here after, so that a break leaves a message twice and never not at all.
    /// The body goes as it is, so batches keep their ids.
    async fn move_some(&self, from: &ConsoleQueue, to: &ConsoleQueue, limit: u64) -> Result<u64, PortError> {
        let mut moved = 0;
        while moved < limit {
            let wanted = usize::try_from(limit - moved).unwrap_or(super::ENTRIES);
            let messages = self.take(REDRIVE, from, wanted, 30).await?;
            if messages.is_empty() {
                break;
            }
            for message in messages {
                let read = delivery::read(&message);
                let mut send = self.client.send_message().queue_url(&to.url).message_body(&read.body);
                for (name, values) in &read.attributes {
                    let value = MessageAttributeValue::builder().data_type(ARRAY).string_value(attribute_text(values));
                    let invalid = |why: aws_sdk_sqs::error::BuildError| {
                        PortError::new(ErrorKind::Invalid, REDRIVE, why.to_string())
                    };
                    send = send.message_attributes(name, value.build().map_err(invalid)?);
                }
                send.send().await.map_err(|error| failed(REDRIVE, &self.resource(to), error))?;
                let delete = self.client.delete_message().queue_url(&from.url).receipt_handle(read.receipt.0);
                delete.send().await.map_err(|error| failed(REDRIVE, &self.resource(from), error))?;
                moved += 1;
            }
        }
        Ok(moved)
    }
}

#[async_trait]
impl QueueConsole for SqsConsole {
    async fn list(&self) -> Result<Vec<(String, Depth, Option<String>)>, PortError> {
        let all = self.all(LIST).await?;
        let names: HashMap<&str, &str> =
            all.iter().zip(&self.queues).map(|(found, queue)| (found.arn.as_str(), queue.name.as_str())).collect();
        let row = |(found, queue): (&Attributes, &ConsoleQueue)| {
            let dead = found.dead_letter_arn.as_deref().and_then(|arn| names.get(arn));
            (queue.name.clone(), found.depth, dead.map(|&name| name.to_owned()))
        };
        Ok(all.iter().zip(&self.queues).map(row).collect())
    }

    async fn peek(&self, queue: &str, limit: usize) -> Result<Vec<Delivery>, PortError> {
        let queue = self.queue(PEEK, queue)?;
        let (mut seen, mut receipts) = (Vec::new(), Vec::new());
        while seen.len() < limit {
            let messages = self.take(PEEK, queue, limit - seen.len(), LOOK_S).await?;
            if messages.is_empty() {
                break;
            }
            for message in messages {
                let mut read = delivery::read(&message);
                receipts.push(std::mem::replace(&mut read.receipt, Receipt(String::new())));
                read.receive_count = read.receive_count.saturating_sub(1);
                seen.push(read);
            }
        }
        // At once for others again; where this fails they wait for the rest of the look.
        let give_back = |receipt: Receipt| {
            let call = self.client.change_message_visibility().queue_url(&queue.url).receipt_handle(receipt.0);
            call.visibility_timeout(0).send()
        };
        futures::stream::iter(receipts.into_iter().map(give_back))
            .buffer_unordered(super::ENTRIES)
            .collect::<Vec<_>>()
            .await;
        seen.sort_by_key(|delivery| delivery.sent_ms);
        Ok(seen)
    }

    async fn redrive(&self, dead_letter_queue: &str, limit: u64) -> Result<u64, PortError> {
        let from = self.queue(REDRIVE, dead_letter_queue)?;
        let all = self.all(REDRIVE).await?;
        let of = |name: &str| all.iter().zip(&self.queues).find(|(_, queue)| queue.name == name);
        let from_arn = of(&from.name).map(|(found, _)| found.arn.as_str()).unwrap_or_default();
        let source = all.iter().zip(&self.queues).find(|(found, _)| found.dead_letter_arn.as_deref() == Some(from_arn));
        let Some((to, queue)) = source.or_else(|| of(from.returns_to.as_deref()?)) else {
            let detail = format!("no queue has `{dead_letter_queue}` as its dead-letter queue");
            return Err(PortError::new(ErrorKind::Invalid, REDRIVE, detail));
        };
        // A move by the service has no limit, and takes dead letters of queues only.
        if limit == u64::MAX
            && source.is_some()
            && let Some(moved) = self.move_all(from, from_arn, &to.arn).await?
        {
            return Ok(moved);
        }
        self.move_some(from, queue, limit).await
    }
}
