//! What all clients share: credentials, region, endpoint, connections, time-outs and retries.

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use std::fmt;
use std::time::Duration;

pub use aws_credential_types::Credentials;

/// Attempts of one call, the first included. The first pauses are short, since a function pays while it waits.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_secs(1);

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// One attempt, from its first byte to the last of the reply.
    pub attempt: Duration,
    /// A call with all its attempts and the pauses between them.
    pub operation: Duration,
}

impl Bounds {
    /// The bounds of calls made by a function that is ended after `timeout`: an attempt may take a fifth of it, a call with its attempts
    /// a half, so that after one service that does not answer there is time to say so.
    pub fn within(timeout: Duration) -> Self {
        Self { attempt: timeout / 5, operation: timeout / 2 }
    }
}

/// An environment variable that must be set and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingVariable(pub &'static str);

impl fmt::Display for MissingVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the environment variable `{}` is missing; Lambda sets it for every function", self.0)
    }
}

impl std::error::Error for MissingVariable {}

/// The way to one account in one region; clients made from it share its connections.
#[derive(Debug, Clone)]
pub struct Connection {
    sdk: SdkConfig,
    bounds: Bounds,
}

impl Connection {
    /// The account, region and (for emulators) endpoint that the environment names: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`. Lambda sets these, so no other source of credentials is asked.
    pub fn from_environment(bounds: Bounds) -> Result<Self, MissingVariable> {
        let optional = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let required = |name: &'static str| optional(name).ok_or(MissingVariable(name));
        let credentials = Credentials::new(
            required("AWS_ACCESS_KEY_ID")?,
            required("AWS_SECRET_ACCESS_KEY")?,
            optional("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        Ok(Self::new(credentials, required("AWS_REGION")?, optional("AWS_ENDPOINT_URL"), bounds))
    }

    /// A connection with these credentials; `endpoint` replaces the services' own addresses.
    pub fn new(credentials: Credentials, region: String, endpoint: Option<String>, bounds: Bounds) -> Self {
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(FIRST_PAUSE)
            .with_max_backoff(LONGEST_PAUSE);
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .region(Region::new(region))
            .retry_config(retries)
            .timeout_config(timeouts(bounds))
            .http_client(http);
        sdk.set_endpoint_url(endpoint);
        Self { sdk: sdk.build(), bounds }
    }

    /// What a client of one's own is made from.
    pub fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }

    /// Time-outs of a call that the service itself holds up for as long as `wait`.
    #[cfg(feature = "sqs")]
    pub(crate) fn waiting(&self, wait: Duration) -> TimeoutConfig {
        timeouts(Bounds { attempt: self.bounds.attempt + wait, operation: self.bounds.operation + wait })
    }

    /// Time-outs of a call that is made once and ends within `limit`.
    #[cfg(feature = "ses")]
    pub(crate) fn ending_within(&self, limit: Duration) -> TimeoutConfig {
        let limit = limit.min(self.bounds.operation);
        timeouts(Bounds { attempt: limit, operation: limit })
    }

    /// How long a call with its attempts may take.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }
}

fn timeouts(bounds: Bounds) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(bounds.attempt)
        .operation_timeout(bounds.operation)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_does_not_answer_leaves_time_to_say_so() {
        for seconds in [15, 30, 60] {
            let timeout = Duration::from_secs(seconds);
            let bounds = Bounds::within(timeout);
            assert!(bounds.attempt * 2 < bounds.operation, "an attempt that hangs is tried again");
            assert!(bounds.operation + Duration::from_secs(5) < timeout, "{bounds:?}");
        }
    }

    #[test]
    fn a_connection_does_not_show_its_secret() {
        let credentials = Credentials::new("AKIA", "very-secret", Some("token-secret".into()), None, "test");
        let shown = format!("{:?}", Connection::new(credentials, "eu-central-1".into(), None, Bounds::within(CONNECT)));
        assert!(!shown.contains("very-secret") && !shown.contains("token-secret"), "{shown}");
    }
}
