//! Failures of tantivy and of the disk in the words of the port.

use sluice_ports::{ErrorKind, PortError};
use std::io;
use tantivy::TantivyError;
use tantivy::directory::error::{LockError, OpenDirectoryError, OpenReadError, OpenWriteError};

/// The error of a file operation on `what`.
pub(super) fn io(operation: &'static str, what: &str, error: io::Error) -> PortError {
    PortError::new(kind_of(&error), operation, format!("cannot use `{what}`: {error}")).with_source(error)
}

/// A tantivy error.
pub(super) fn tantivy(operation: &'static str, error: TantivyError) -> PortError {
    let kind = match &error {
        TantivyError::IoError(error) => kind_of(error),
        TantivyError::OpenWriteError(OpenWriteError::IoError { io_error, .. })
        | TantivyError::OpenReadError(OpenReadError::IoError { io_error, .. })
        | TantivyError::OpenDirectoryError(OpenDirectoryError::IoError { io_error, .. })
        | TantivyError::LockFailure(LockError::IoError(io_error), _) => kind_of(io_error),
        TantivyError::DataCorruption(_)
        | TantivyError::OpenReadError(_)
        | TantivyError::IncompatibleIndex(_)
        | TantivyError::SchemaError(_) => ErrorKind::Corrupt,
        TantivyError::InvalidArgument(_) | TantivyError::AggregationError(_) | TantivyError::FieldNotFound(_) => {
            ErrorKind::Invalid
        }
        _ => ErrorKind::Unavailable,
    };
    let detail = match &error {
        TantivyError::LockFailure(LockError::LockBusy, _) => {
            "the search folder is in use by another process".to_owned()
        }
        error => error.to_string(),
    };
    PortError::new(kind, operation, detail).with_source(error)
}

fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::Full
        }
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
        _ => ErrorKind::Unavailable,
    }
}
