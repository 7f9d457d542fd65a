use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why a port call failed, in the words that a caller decides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The thing named does not exist.
    NotFound,
    /// A condition did not hold (`If-None-Match`, a table condition). Nothing was written.
    Conflict,
    /// The service asks for fewer calls; retry later.
    Throttled,
    /// The service cannot be reached or failed for the moment; nothing happened.
    Unavailable,
    /// No answer in time: the effect may have happened, may still happen, or never.
    Timeout,
    /// The input is larger than the service takes; it never succeeds.
    TooLarge,
    /// The input is malformed for the service; it never succeeds.
    Invalid,
    /// The caller has no right to do this.
    Denied,
    /// No room left (disk full, read-only); retry after someone made room.
    Full,
    /// What is stored cannot be read back.
    Corrupt,
}

/// A failed port call: its kind, the operation, what happened, and when to try again.
#[derive(Debug)]
pub struct PortError {
    /// What the caller decides by.
    pub kind: ErrorKind,
    /// The operation in `port.verb` form, for example `objects.put`.
    pub operation: &'static str,
    /// What happened, in lower case, naming the thing in backticks. Never holds a secret or a payload.
    pub detail: String,
    /// How long to wait before another try, where the service said so.
    pub retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl PortError {
    /// An error without a source.
    pub fn new(kind: ErrorKind, operation: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, operation, detail: detail.into(), retry_after: None, source: None }
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds the time to wait before another try.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The same error for another item of the call. Only the first keeps the source.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { retry_after: self.retry_after, ..Self::new(self.kind, self.operation, self.detail.clone()) }
    }

    /// Whether the same call may succeed later without anything being changed by the caller.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Full)
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.detail)
    }
}

impl Error for PortError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}
