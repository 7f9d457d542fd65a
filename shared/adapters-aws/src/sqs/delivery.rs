//! What SQS answers, in the words of the port.

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use sluice_ports::{Delivery, Depth, Receipt};
use std::collections::HashMap;

/// A received message. An attribute that is no list counts as a list of one.
pub(super) fn read(message: &Message) -> Delivery {
    let system =
        |name| message.attributes().and_then(|attributes| attributes.get(&name)).and_then(|text| text.parse().ok());
    let count: Option<i64> = system(MessageSystemAttributeName::ApproximateReceiveCount);
    let attributes = message.message_attributes().into_iter().flatten().filter_map(|(name, value)| {
        let text = value.string_value()?;
        let values = serde_json::from_str(text).unwrap_or_else(|_| vec![text.to_owned()]);
        Some((name.clone(), values))
    });
    Delivery {
        id: message.message_id().unwrap_or_default().to_owned(),
        receipt: Receipt(message.receipt_handle().unwrap_or_default().to_owned()),
        body: message.body().unwrap_or_default().to_owned(),
        attributes: attributes.collect(),
        receive_count: count.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        sent_ms: system(MessageSystemAttributeName::SentTimestamp).unwrap_or(0),
        events: 0,
    }
}

/// The depth that a queue's attributes say. The service knows neither events nor bytes, and the age of the oldest only as a metric.
pub(super) fn depth(attributes: Option<&HashMap<QueueAttributeName, String>>) -> Depth {
    let number = |name| attributes.and_then(|found| found.get(&name)).and_then(|text| text.parse().ok()).unwrap_or(0);
    Depth {
        visible: number(QueueAttributeName::ApproximateNumberOfMessages),
        in_flight: number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
            + number(QueueAttributeName::ApproximateNumberOfMessagesDelayed),
        ..Depth::default()
    }
}
