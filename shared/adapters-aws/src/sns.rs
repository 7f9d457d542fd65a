//! A topic of SNS.

use crate::batch::{self, ARRAY, Entries, attribute_text};
use crate::dynamodb::DynamoTable;
use crate::failure::{failed, refused};
use crate::tally::Counters;
use crate::{Connection, Resource};
use async_trait::async_trait;
use aws_sdk_sns::Client;
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use sluice_ports::{ErrorKind, Message, PortError, Topic};

const PUBLISH: &str = "topic.publish";
/// Bytes of a message, and of all messages of a call together.
const BYTES: usize = 256 * 1_024;

/// A topic whose counters lie in a table.
#[derive(Debug, Clone)]
pub struct SnsTopic {
    client: Client,
    topic: Resource,
    counters: Counters,
}

impl SnsTopic {
    /// The topic with this ARN; what goes with its messages is counted in `counters`.
    pub fn new(connection: &Connection, topic: Resource, counters: DynamoTable) -> Self {
        Self { client: Client::new(connection.sdk()), topic, counters: Counters::new(counters) }
    }

    async fn call(&self, messages: &[Message], entries: Vec<usize>) -> Result<Entries, PortError> {
        let mut call = self.client.publish_batch().topic_arn(&self.topic.name);
        for &entry in &entries {
            let built = request(entry, &messages[entry]);
            call = call.publish_batch_request_entries(built.map_err(|why| self.invalid(&why.to_string()))?);
        }
        let reply = call.send().await.map_err(|error| failed(PUBLISH, &self.topic, error))?;
        let sent = reply.successful().iter().filter_map(|done| done.id()?.parse().ok()).map(|entry| (entry, Ok(())));
        let failed = reply.failed().iter().filter_map(|failure| {
            let status = if failure.sender_fault() { 400 } else { 500 };
            let error = refused(PUBLISH, &self.topic, Some(failure.code()), failure.message(), status);
            Some((failure.id().parse().ok()?, Err(error)))
        });
        Ok(sent.chain(failed).collect())
    }

    fn invalid(&self, why: &str) -> PortError {
        PortError::new(ErrorKind::Invalid, PUBLISH, format!("{}: {why}", self.topic))
    }
}

fn request(entry: usize, message: &Message) -> Result<PublishBatchRequestEntry, aws_sdk_sns::error::BuildError> {
    let mut request = PublishBatchRequestEntry::builder().id(entry.to_string()).message(&message.body);
    for (name, values) in &message.attributes {
        let value = MessageAttributeValue::builder().data_type(ARRAY).string_value(attribute_text(values)).build()?;
        request = request.message_attributes(name, value);
    }
    request.build()
}

#[async_trait]
impl Topic for SnsTopic {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PortError>> {
        let call = |entries| self.call(&messages, entries);
        batch::publish(&messages, BYTES, PUBLISH, &self.topic, &self.counters, call).await
    }
}
