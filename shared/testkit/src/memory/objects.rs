use super::lock;
use async_trait::async_trait;
use bytes::Bytes;
use sluice_ports::{ErrorKind, ObjectMeta, Objects, PortError, PutMode};
use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Mutex;

/// Objects in memory. `modified_ms` counts the puts.
#[derive(Debug, Default)]
pub struct MemoryObjects(Mutex<Stored>);

#[derive(Debug, Clone, Default)]
struct Stored {
    objects: BTreeMap<String, (Bytes, i64)>,
    puts: i64,
}

impl Clone for MemoryObjects {
    /// Another one that holds the same.
    fn clone(&self) -> Self {
        Self(Mutex::new(lock(&self.0).clone()))
    }
}

impl MemoryObjects {
    /// No objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `modified_ms` count on from here.
    pub fn set_clock(&self, ms: i64) {
        lock(&self.0).puts = ms;
    }

    /// All keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        lock(&self.0).objects.keys().cloned().collect()
    }

    /// The bytes under a key, if there are any.
    pub fn bytes(&self, key: &str) -> Option<Bytes> {
        lock(&self.0).objects.get(key).map(|(bytes, _)| bytes.clone())
    }
}

fn check(operation: &'static str, key: &str) -> Result<(), PortError> {
    let bad = |why| Err(PortError::new(ErrorKind::Invalid, operation, format!("`{key}` {why}")));
    if key.contains('\0') {
        return bad("holds a NUL byte");
    }
    for segment in key.split('/') {
        match segment {
            "" => return bad("has an empty segment"),
            "." | ".." => return bad("has a segment of dots"),
            long if long.len() > 255 => return bad("has a segment of more than 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}

#[async_trait]
impl Objects for MemoryObjects {
    async fn put(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<(), PortError> {
        check("objects.put", key)?;
        let mut stored = lock(&self.0);
        if mode == PutMode::IfAbsent && stored.objects.contains_key(key) {
            return Err(PortError::new(ErrorKind::Conflict, "objects.put", format!("`{key}` exists")));
        }
        stored.puts += 1;
        let modified_ms = stored.puts;
        stored.objects.insert(key.to_owned(), (bytes, modified_ms));
        Ok(())
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, PortError> {
        check("objects.get", key)?;
        let stored = lock(&self.0);
        let Some((bytes, _)) = stored.objects.get(key) else {
            return Err(PortError::new(ErrorKind::NotFound, "objects.get", format!("no object `{key}`")));
        };
        let Some(range) = range else { return Ok(bytes.clone()) };
        let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(bytes.len());
        let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
        Ok(bytes.slice(start..end))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, PortError> {
        let stored = lock(&self.0);
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range = stored.objects.range::<str, _>((from, Bound::Unbounded));
        let found = range.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(found
            .map(|(key, (bytes, modified_ms))| ObjectMeta {
                key: key.clone(),
                size_bytes: bytes.len() as u64,
                modified_ms: *modified_ms,
            })
            .collect())
    }

    async fn delete(&self, key: &str) -> Result<(), PortError> {
        check("objects.delete", key)?;
        lock(&self.0).objects.remove(key);
        Ok(())
    }
}
