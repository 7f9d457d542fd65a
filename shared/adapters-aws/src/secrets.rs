//! Secrets that settings refer to.

use crate::failure::failed;
use crate::{Connection, Resource};
use aws_sdk_secretsmanager::Client;
use sluice_ports::{ErrorKind, PortError};
use std::fmt;

const READ: &str = "secrets.read";

/// A secret's text. It shows itself nowhere.
pub struct Secret(String);

impl Secret {
    /// The text, for the one who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads a secret of Secrets Manager, named by its ARN or name.
pub async fn read(connection: &Connection, secret: &Resource) -> Result<Secret, PortError> {
    let client = Client::new(connection.sdk());
    let found = client.get_secret_value().secret_id(&secret.name).send().await;
    let found = found.map_err(|error| failed(READ, secret, error))?;
    let text = found.secret_string().map(|text| Secret(text.to_owned()));
    text.ok_or_else(|| PortError::new(ErrorKind::Invalid, READ, format!("{secret} holds no text")))
}
