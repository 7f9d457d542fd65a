use super::lock;
use async_trait::async_trait;
use sluice_ports::{Email, ErrorKind, Mail, PortError};
use std::sync::Mutex;

/// Keeps every mail that was handed over, repeats included.
#[derive(Debug, Default)]
pub struct MemoryMail(Mutex<Vec<Email>>);

impl Clone for MemoryMail {
    /// Another one that holds the same.
    fn clone(&self) -> Self {
        Self(Mutex::new(lock(&self.0).clone()))
    }
}

impl MemoryMail {
    /// An empty outbox.
    pub fn new() -> Self {
        Self::default()
    }

    /// All mails so far, in order.
    pub fn sent(&self) -> Vec<Email> {
        lock(&self.0).clone()
    }

    /// All mails since the last call, in order.
    pub fn take(&self) -> Vec<Email> {
        std::mem::take(&mut lock(&self.0))
    }
}

#[async_trait]
impl Mail for MemoryMail {
    async fn send(&self, email: Email) -> Result<(), PortError> {
        for (field, text) in
            [("message_id", &email.message_id), ("from", &email.from), ("to", &email.to), ("subject", &email.subject)]
        {
            if text.contains(['\r', '\n']) {
                return Err(PortError::new(ErrorKind::Invalid, "mail.send", format!("`{field}` holds a line break")));
            }
        }
        for (field, address) in [("from", &email.from), ("to", &email.to)] {
            let parts = address.rsplit_once('@');
            if !parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty()) {
                return Err(PortError::new(ErrorKind::Invalid, "mail.send", format!("`{field}` is not an address")));
            }
        }
        lock(&self.0).push(email);
        Ok(())
    }
}
