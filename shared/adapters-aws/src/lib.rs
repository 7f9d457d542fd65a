//! The ports over AWS: one module and one cargo feature per service.
//!
//! | feature | port | service |
//! |---|---|---|
//! | `s3` | [`sluice_ports::Objects`] | S3: conditional puts, checksums, parts above a bound |
//! | `dynamodb` | [`sluice_ports::Table`] | DynamoDB: transactions with a client token, strongly consistent reads |
//! | `sns` | [`sluice_ports::Topic`] | SNS: batches with a result per entry |
//! | `sqs` | [`sluice_ports::Queue`], [`sluice_ports::QueueConsole`] | SQS |
//! | `ses` | [`sluice_ports::Mail`] | SES |
//! | `athena` | [`sluice_ports::Sql`] | Athena |
//! | `glue` | the pointers of [`sluice_ports::Catalog`] | Glue Data Catalog: updates on the condition of a version |
//! | `secrets` | – | Secrets Manager |
//!
//! This crate knows nothing of events, stages or settings. What it calls is named by a [`Resource`], which says in errors which setting
//! names the thing that is missing or denied. Errors never hold a payload, a credential or what a service says of a signature.

mod connection;
mod failure;

#[cfg(feature = "athena")]
pub mod athena;
#[cfg(any(feature = "sns", feature = "sqs"))]
mod batch;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
#[cfg(feature = "glue")]
pub mod glue;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(feature = "secrets")]
pub mod secrets;
#[cfg(feature = "ses")]
pub mod ses;
#[cfg(feature = "sns")]
pub mod sns;
#[cfg(feature = "sqs")]
pub mod sqs;
#[cfg(any(feature = "sns", feature = "sqs"))]
mod tally;

pub use connection::{Bounds, Connection, Credentials, MissingVariable};
pub use failure::Resource;
