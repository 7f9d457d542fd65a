//! What went wrong, in the words of the ports.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::{DispatchFailure, SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use sluice_ports::{ErrorKind, PortError};
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// What an adapter works on: the thing's own name, and the setting that gave it, so that an error says what to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What it is, for example `bucket`.
    pub what: &'static str,
    /// Its name, ARN or URL.
    pub name: String,
    /// The setting that names it, for example `SLUICE_BUCKET`.
    pub setting: &'static str,
}

impl Resource {
    /// A resource named by a setting.
    pub fn new(what: &'static str, name: impl Into<String>, setting: &'static str) -> Self {
        Self { what, name: name.into(), setting }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` (setting `{}`)", self.what, self.name, self.setting)
    }
}

/// A failed call as the port's error.
pub(crate) fn failed<E>(operation: &'static str, resource: &Resource, error: SdkError<E, HttpResponse>) -> PortError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match &error {
        SdkError::TimeoutError(_) => {
            PortError::new(ErrorKind::Timeout, operation, format!("{resource} did not answer in time"))
        }
        SdkError::DispatchFailure(failure) => dispatch(operation, resource, failure),
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let meta = service.err().meta();
            let after = service.raw().headers().get("retry-after").and_then(|text| text.trim().parse().ok());
            let error = refused(operation, resource, meta.code(), meta.message(), status);
            match after {
                Some(seconds) => error.with_retry_after(Duration::from_secs(seconds)),
                None => error,
            }
        }
        SdkError::ConstructionFailure(_) => {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            PortError::new(ErrorKind::Invalid, operation, format!("{resource}: the call could not be made: {cause}"))
        }
        // A reply that cannot be read says nothing of what happened.
        _ => PortError::new(ErrorKind::Timeout, operation, format!("{resource}: the reply could not be read")),
    }
}

/// The error of one entry of a batch, or of a call: by the service's code, or else by the HTTP status.
pub(crate) fn refused(
    operation: &'static str,
    resource: &Resource,
    code: Option<&str>,
    message: Option<&str>,
    status: u16,
) -> PortError {
    let code = code.unwrap_or_default();
    let kind = kind(code, status);
    let shown = if code.is_empty() { format!("status {status}") } else { code.to_owned() };
    let detail = match kind {
        ErrorKind::NotFound => format!("{resource} is not there ({shown})"),
        // What a service says of a signature it does not like can hold the whole signed request, token included.
        ErrorKind::Denied if !code.starts_with("AccessDenied") && !code.starts_with("AuthorizationError") => {
            format!("{resource}: no right to do this ({shown})")
        }
        ErrorKind::Denied => {
            format!("{resource}: no right to do this ({shown}: {})", message.unwrap_or("no reason given"))
        }
        ErrorKind::Throttled => format!("{resource} takes no more calls for the moment ({shown})"),
        _ => format!("{resource}: {shown}: {}", message.unwrap_or("no reason given")),
    };
    PortError::new(kind, operation, detail)
}

fn kind(code: &str, status: u16) -> ErrorKind {
    match code.rsplit('.').next().unwrap_or(code) {
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "Throttled"
        | "ThrottlingError"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "TooManyRequests"
        | "ProvisionedThroughputExceeded"
        | "ProvisionedThroughputExceededException"
        | "TransactionConflictException"
        | "TransactionInProgressException"
        | "ConditionalRequestConflict"
        | "OperationAborted"
        | "OverLimit"
        | "SlowDown" => ErrorKind::Throttled,
        "AccessDenied"
        | "AccessDeniedException"
        | "AuthorizationError"
        | "AuthorizationErrorException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "KMSAccessDeniedException"
        | "MissingAuthenticationToken"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => ErrorKind::Denied,
        "NoSuchBucket"
        | "NoSuchKey"
        | "NotFound"
        | "NotFoundException"
        | "NonExistentQueue"
        | "QueueDoesNotExist"
        | "ReceiptHandleIsInvalid"
        | "ResourceNotFoundException"
        | "EntityNotFoundException" => ErrorKind::NotFound,
        "AlreadyExistsException"
        | "ConcurrentModificationException"
        | "ConditionalCheckFailedException"
        | "PreconditionFailed" => ErrorKind::Conflict,
        "BatchRequestTooLong" | "EntityTooLarge" => ErrorKind::TooLarge,
        "ServiceUnavailable" | "ServiceUnavailableException" => ErrorKind::Unavailable,
        "InternalError" | "InternalFailure" | "InternalServerError" | "OperationTimeoutException" => ErrorKind::Timeout,
        "ResourceNumberLimitExceededException" => ErrorKind::Full,
        _ => match status {
            401 | 403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            412 => ErrorKind::Conflict,
            413 => ErrorKind::TooLarge,
            429 => ErrorKind::Throttled,
            503 => ErrorKind::Unavailable,
            // Something broke while the call was worked on: nobody knows how far it came.
            500.. => ErrorKind::Timeout,
            _ => ErrorKind::Invalid,
        },
    }
}

fn dispatch(operation: &'static str, resource: &Resource, failure: &DispatchFailure) -> PortError {
    let Some(connector) = failure.as_connector_error() else {
        return PortError::new(ErrorKind::Timeout, operation, format!("{resource} could not be reached"));
    };
    let mut cause: Option<&(dyn Error + 'static)> = Some(connector);
    let (mut text, mut refused) = (String::new(), false);
    while let Some(error) = cause {
        refused |= error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        text = error.to_string();
        cause = error.source();
    }
    // Only where nobody listened is it sure that nothing happened.
    let kind = if refused { ErrorKind::Unavailable } else { ErrorKind::Timeout };
    PortError::new(kind, operation, format!("{resource} could not be reached: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> Resource {
        Resource::new("bucket", "lake", "SLUICE_BUCKET")
    }

    #[test]
    fn codes_and_statuses_become_kinds() {
        for (code, status, expected) in [
            ("ThrottlingException", 400, ErrorKind::Throttled),
            ("AWS.SimpleQueueService.NonExistentQueue", 400, ErrorKind::NotFound),
            ("com.amazonaws.dynamodb.v20120810.ResourceNotFoundException", 400, ErrorKind::NotFound),
            ("NoSuchBucket", 404, ErrorKind::NotFound),
            ("AccessDenied", 403, ErrorKind::Denied),
            ("PreconditionFailed", 412, ErrorKind::Conflict),
            ("ConcurrentModificationException", 400, ErrorKind::Conflict),
            ("", 503, ErrorKind::Unavailable),
            ("", 500, ErrorKind::Timeout),
            ("InternalServerError", 500, ErrorKind::Timeout),
            ("SomethingNew", 400, ErrorKind::Invalid),
        ] {
            assert_eq!(kind(code, status), expected, "{code} {status}");
        }
    }

    #[test]
    fn an_error_names_the_resource_and_its_setting() {
        let error = refused("objects.put", &bucket(), Some("NoSuchBucket"), Some("gone"), 404);
        assert_eq!(
            error.to_string(),
            "objects.put: bucket `lake` (setting `SLUICE_BUCKET`) is not there (NoSuchBucket)"
        );
    }

    #[test]
    fn what_is_said_of_a_signature_is_not_repeated() {
        let message = Some("The Canonical String should have been 'x-amz-security-token:SECRET'");
        let error = refused("objects.put", &bucket(), Some("SignatureDoesNotMatch"), message, 403);
        assert!(!error.to_string().contains("SECRET"), "{error}");
        let error = refused(
            "objects.put",
            &bucket(),
            Some("AccessDenied"),
            Some("not authorized to perform: s3:PutObject"),
            403,
        );
        assert!(error.to_string().contains("s3:PutObject"), "{error}");
    }
}
