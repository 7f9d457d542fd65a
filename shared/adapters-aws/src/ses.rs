//! Mail by SES.

use crate::failure::failed;
use crate::{Connection, Resource};
use async_trait::async_trait;
use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::config::Builder;
use aws_sdk_sesv2::config::retry::RetryConfig;
use aws_sdk_sesv2::error::BuildError;
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message, MessageHeader};
use sluice_ports::{Email, ErrorKind, Mail, PortError, SEND_TIMEOUT};

const SEND: &str = "mail.send";
const CHARSET: &str = "UTF-8";
/// SES sets `Message-ID` itself, whatever it is given ("Amazon SES header fields"), so the id that all copies of a notification share
/// goes in a header of our own.
const MESSAGE_ID: &str = "X-Sluice-Message-ID";

/// Sends by SES, from the address that each mail has.
#[derive(Debug, Clone)]
pub struct SesMail {
    client: Client,
    identity: Resource,
}

impl SesMail {
    /// Sends by the account's verified `identity`, the sender address.
    pub fn new(connection: &Connection, identity: Resource) -> Self {
        // A call that is sent again because its reply was lost would be a second mail, so whether to try again is left to the caller.
        let config = Builder::from(connection.sdk())
            .retry_config(RetryConfig::disabled())
            .timeout_config(connection.ending_within(SEND_TIMEOUT));
        Self { client: Client::from_conf(config.build()), identity }
    }
}

#[async_trait]
impl Mail for SesMail {
    async fn send(&self, email: Email) -> Result<(), PortError> {
        check(&email)?;
        let content = content(&email).map_err(|why| invalid(why.to_string()))?;
        self.client
            .send_email()
            .from_email_address(&email.from)
            .destination(Destination::builder().to_addresses(&email.to).build())
            .content(content)
            .send()
            .await
            .map_err(|error| failed(SEND, &self.identity, error))?;
        Ok(())
    }
}

/// Refuses what would be another mail than it seems. An address may be personal, so errors name the field only.
fn check(email: &Email) -> Result<(), PortError> {
    let Email { message_id, from, to, subject, .. } = email;
    for (field, value) in [("message_id", message_id), ("from", from), ("to", to), ("subject", subject)] {
        if value.contains(['\r', '\n']) {
            return Err(invalid(format!("`{field}` holds a line break")));
        }
    }
    if message_id.is_empty() || !message_id.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>')) {
        return Err(invalid("`message_id` is no message id".into()));
    }
    for (field, address) in [("from", from), ("to", to)] {
        // `Name <address>` is an address too.
        let bare =
            address.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')).map_or(address.as_str(), |(_, a)| a);
        if !bare.rsplit_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()) {
            return Err(invalid(format!("`{field}` is not an address")));
        }
    }
    Ok(())
}

fn content(email: &Email) -> Result<EmailContent, BuildError> {
    // A NUL ends a text for much of what handles mail.
    let text = |data: &str| Content::builder().data(data.replace('\0', "\u{FFFD}")).charset(CHARSET).build();
    let body = Body::builder().text(text(&email.text)?).html(text(&email.html)?).build();
    let header = MessageHeader::builder().name(MESSAGE_ID).value(&email.message_id).build()?;
    let message = Message::builder().subject(text(&email.subject)?).body(body).headers(header).build();
    Ok(EmailContent::builder().simple(message).build())
}

fn invalid(detail: String) -> PortError {
    PortError::new(ErrorKind::Invalid, SEND, detail)
}
