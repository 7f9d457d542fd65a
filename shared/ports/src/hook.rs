use crate::PortError;
use async_trait::async_trait;
use std::fmt;

/// A message to a web address.
#[derive(Clone, PartialEq, Eq)]
pub struct HookCall {
    /// Where it goes, `http` or `https`. It may hold a secret.
    pub url: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, as text.
    pub body: String,
}

impl fmt::Debug for HookCall {
    /// Without the address and the headers, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookCall").field("body", &self.body).finish_non_exhaustive()
    }
}

/// Posts to web addresses that somebody else chose.
#[async_trait]
pub trait Hooks: Send + Sync {
    /// Posts once, within [`crate::SEND_TIMEOUT`]; `Ok` means that the address has answered 2xx. An address that may not be called, or that
    /// leads on to another, is [`crate::ErrorKind::Denied`]. No error holds the address.
    async fn post(&self, call: HookCall) -> Result<(), PortError>;
}
