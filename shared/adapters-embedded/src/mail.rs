//! Mail as files in an outbox.
