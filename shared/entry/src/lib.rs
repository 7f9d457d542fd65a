//! The entry: Lambda's event JSON in, a stage run, Lambda's reply JSON out; the settings; the telemetry.
//!
//! This crate does not know which adapters stand behind the ports, nor whether AWS or the one-machine runtime made the event: both hand
//! over the same JSON, so decoding, partial failures and replies are the same code everywhere.

pub mod front;
pub mod functions;
pub mod gateway;
#[cfg(feature = "lambda")]
pub mod lambda;
pub mod metrics;
pub mod reports;
pub mod schemas;
pub mod settings;
pub mod sqs;
pub mod telemetry;

use async_trait::async_trait;
use sluice_domain::time::Timestamp;

/// A function as the platform sees it: event JSON in, reply JSON out.
#[async_trait]
pub trait Function: Send + Sync {
    /// Runs one event. An error fails the whole invocation: for a queue, all of its messages are delivered again.
    async fn invoke(&self, event: &[u8], now: Timestamp) -> Result<Vec<u8>, InvokeError>;
}

/// Why an invocation failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The event is not of the shape that the function takes.
    #[error("the event is not what `{function}` takes: {reason}")]
    Event {
        /// The function's verb.
        function: &'static str,
        /// What is wrong, with its place.
        reason: String,
    },
    /// The reply could not be written.
    #[error("the reply of `{function}` could not be written")]
    Reply {
        /// The function's verb.
        function: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The stage failed as a whole.
    #[error("`{function}` failed")]
    Stage {
        /// The function's verb.
        function: &'static str,
        /// Why.
        #[source]
        source: sluice_ports::PortError,
    },
}
