use rusqlite::ErrorCode;
use sluice_ports::{ErrorKind, PortError};
use std::time::Duration;

/// A failure inside the database, not yet tied to an operation: one failed flush is told to everyone who shared it.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) detail: String,
    retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None }
    }

    pub(super) fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    pub(super) fn closed() -> Self {
        Self::new(ErrorKind::Unavailable, "the database `sluice.db` is closed")
    }

    pub(super) fn in_operation(self, operation: &'static str) -> PortError {
        let error = PortError::new(self.kind, operation, self.detail);
        match self.retry_after {
            Some(after) => error.with_retry_after(after),
            None => error,
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            // An I/O error is mostly a full or failing disk: someone must make room or repair, then the same call works.
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
                ErrorKind::Full
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
            Some(ErrorCode::TooBig) => ErrorKind::TooLarge,
            Some(_) => ErrorKind::Unavailable,
            // Not from SQLite: a stored value has another type than the column is meant to have.
            None => ErrorKind::Corrupt,
        };
        Self::new(kind, format!("database `sluice.db`: {error}"))
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(ErrorKind::Corrupt, format!("database `sluice.db` holds broken JSON: {error}"))
    }
}
