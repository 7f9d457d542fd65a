use crate::PortError;
use async_trait::async_trait;
use std::time::Duration;

/// How long a send takes at most. An adapter that has no answer by then answers [`crate::ErrorKind::Timeout`]: whoever sends may count on
/// it that after this long nobody waits for an answer any more.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A mail to one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// `Message-ID` without angle brackets; the same for every copy of one notification.
    pub message_id: String,
    /// Sender address.
    pub from: String,
    /// Recipient address.
    pub to: String,
    /// Subject, one line of any text; the adapter encodes it and refuses line breaks.
    pub subject: String,
    /// Plain-text body.
    pub text: String,
    /// HTML body.
    pub html: String,
}

/// Sends mail.
#[async_trait]
pub trait Mail: Send + Sync {
    /// Hands a mail over, within [`SEND_TIMEOUT`]; `Ok` means that the service (or the outbox) has it. An address or subject that can never be sent is
    /// [`crate::ErrorKind::Invalid`].
    async fn send(&self, email: Email) -> Result<(), PortError>;
}

/// A mail as an outbox lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMail {
    /// Names it in the outbox: letters, digits, `-` and `.`.
    pub id: String,
    /// Recipient address.
    pub to: String,
    /// Subject, decoded.
    pub subject: String,
    /// When it was first sent, RFC 3339.
    pub at: String,
}

/// Where mails lie that were sent to nobody but a folder.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// The newest mails, newest first.
    async fn list(&self, limit: usize) -> Result<Vec<SentMail>, PortError>;

    /// A mail with its text and its HTML; `None` where there is none with this id, whatever the id looks like.
    async fn get(&self, id: &str) -> Result<Option<(SentMail, String, String)>, PortError>;

    /// Removes a mail; one that is not there is no error.
    async fn remove(&self, id: &str) -> Result<(), PortError>;
}
