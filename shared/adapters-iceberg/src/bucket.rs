//! The objects of tables by their locations: what stands in Iceberg's metadata is a URI, what the port takes is a key.

use crate::unreadable;
use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{ManifestEntryRef, ManifestFile, TableMetadata};
use sluice_ports::{ErrorKind, Objects, PortError, PutMode};
use std::sync::Arc;

/// Objects under a root such as `file:///var/lib/sluice/` or `s3://bucket/`.
#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) objects: Arc<dyn Objects>,
    root: String,
}

impl Bucket {
    pub(crate) fn new(objects: Arc<dyn Objects>, root: &str) -> Self {
        Self { objects, root: format!("{}/", root.trim_end_matches('/')) }
    }

    pub(crate) fn location(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    /// The key of a location. Engines write an absolute path with one, two or three slashes behind `file:`.
    pub(crate) fn key<'l>(&self, location: &'l str) -> Result<&'l str, PortError> {
        let path = |uri: &str| uri.strip_prefix("file:").map(|path| uri.len() - path.trim_start_matches('/').len());
        let key = match (path(&self.root), path(location)) {
            (Some(root), Some(at)) => location[at..].strip_prefix(&self.root[root..]),
            _ => location.strip_prefix(&self.root),
        };
        key.ok_or_else(|| {
            let what = format!("`{location}` does not lie under `{}`", self.root);
            PortError::new(ErrorKind::Invalid, "catalog.load", what)
        })
    }

    /// Reads an object for crate `iceberg`, which takes it from memory under its location.
    pub(crate) async fn fetch(&self, location: &str, memory: &FileIO) -> Result<(), PortError> {
        let bytes = self.read(location).await?;
        let put = async { memory.new_output(location)?.write(bytes).await };
        put.await.map_err(|e| unreadable("catalog.load", location, e))
    }

    pub(crate) async fn read(&self, location: &str) -> Result<Bytes, PortError> {
        self.objects.get(self.key(location)?, None).await
    }

    /// Metadata that stands at a location.
    pub(crate) async fn metadata(&self, operation: &'static str, location: &str) -> Result<TableMetadata, PortError> {
        let memory = FileIO::new_with_memory();
        self.fetch(location, &memory).await?;
        TableMetadata::read_from(&memory, location).await.map_err(|e| unreadable(operation, location, e))
    }

    /// The entries of a manifest whose files are there: one of a file that is gone has told of it.
    pub(crate) async fn entries(
        &self,
        operation: &'static str,
        manifest: &ManifestFile,
    ) -> Result<Vec<ManifestEntryRef>, PortError> {
        let memory = FileIO::new_with_memory();
        self.fetch(&manifest.manifest_path, &memory).await?;
        let read = manifest.load_manifest(&memory).await;
        let read = read.map_err(|e| unreadable(operation, &manifest.manifest_path, e))?;
        Ok(read.entries().iter().filter(|entry| entry.is_alive()).cloned().collect())
    }

    /// Stores what crate `iceberg` has written to memory.
    pub(crate) async fn store(&self, location: &str, memory: &FileIO) -> Result<(), PortError> {
        let read = async { memory.new_input(location)?.read().await };
        let bytes = read.await.map_err(|e| unreadable("catalog.append", location, e))?;
        self.write(location, bytes).await
    }

    /// Stores a new object. Its name has a number in it that nobody else draws.
    pub(crate) async fn write(&self, location: &str, bytes: Bytes) -> Result<(), PortError> {
        self.objects.put(self.key(location)?, bytes, PutMode::IfAbsent).await
    }
}
