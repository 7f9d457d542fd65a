use crate::PortError;
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;

/// What a put does when the key is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Replace.
    Overwrite,
    /// Fail with [`crate::ErrorKind::Conflict`] (`If-None-Match: *`).
    IfAbsent,
}

/// An object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
    /// When it was last written, milliseconds since the epoch.
    pub modified_ms: i64,
}

/// Objects under `/`-separated keys (S3 semantics): whole puts, readers see the old object or the new one, never a part.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Stores an object; `Ok` means durable.
    async fn put(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<(), PortError>;

    /// Reads an object, or the part of it in `range` (cut at its end).
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, PortError>;

    /// Lists objects whose key begins with `prefix`, sorted by key, strictly after `after`, at most `limit`.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, PortError>;

    /// Removes an object; removing what is not there is no error.
    async fn delete(&self, key: &str) -> Result<(), PortError>;
}
