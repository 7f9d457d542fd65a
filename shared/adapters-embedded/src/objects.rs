//! Objects as files: the key is the path.
//!
//! Two limits come with that: nothing can lie under `a/` while `a` is an object, and the first segment of a key is never `.tmp`.

use crate::durable::{Folder, Taken, blocking, failed};
use async_trait::async_trait;
use bytes::Bytes;
use sluice_ports::{ErrorKind, ObjectMeta, Objects, PortError, PutMode};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// What file systems take as a name.
const MAX_SEGMENT_BYTES: usize = 255;

/// Objects as files under a folder.
#[derive(Debug, Clone)]
pub struct DiskObjects {
    folder: Arc<Folder>,
}

impl DiskObjects {
    /// Opens the folder `root`, creating it as needed.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, PortError> {
        let root = root.as_ref();
        let folder = Folder::open(root).map_err(|error| failed("objects.open", &root.display().to_string(), error))?;
        Ok(Self { folder: Arc::new(folder) })
    }

    fn path(&self, operation: &'static str, key: &str) -> Result<PathBuf, PortError> {
        let bad =
            |why: &str| PortError::new(ErrorKind::Invalid, operation, format!("key `{}` {why}", key.escape_debug()));
        // A backslash separates folders on Windows; a key means the same everywhere.
        if key.contains(['\0', '\\']) {
            return Err(bad("holds a NUL byte or a backslash"));
        }
        for segment in key.split('/') {
            match segment {
                "" => return Err(bad("has an empty segment")),
                "." | ".." => return Err(bad("has a segment of dots")),
                long if long.len() > MAX_SEGMENT_BYTES => return Err(bad("has a segment of more than 255 bytes")),
                _ => {}
            }
        }
        if key.split('/').next().is_some_and(Folder::is_temporary) {
            return Err(bad("lies among the temporary files"));
        }
        Ok(self.folder.root().join(key))
    }
}

#[async_trait]
impl Objects for DiskObjects {
    async fn put(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<(), PortError> {
        let path = self.path("objects.put", key)?;
        let (folder, key) = (self.folder.clone(), key.to_owned());
        let taken = match mode {
            PutMode::Overwrite => Taken::Replace,
            PutMode::IfAbsent => Taken::Refuse,
        };
        blocking("objects.put", move || {
            folder.write(&path, &bytes, taken).map_err(|error| {
                // The name of a folder above is taken by an object, which is not what a condition speaks of.
                let is_taken = path.is_file();
                match failed("objects.put", &key, error) {
                    error if error.kind == ErrorKind::Conflict && !is_taken => PortError::new(
                        ErrorKind::Invalid,
                        "objects.put",
                        format!("`{key}` lies under or over an object"),
                    ),
                    error => error,
                }
            })
        })
        .await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, PortError> {
        let path = self.path("objects.get", key)?;
        let key = key.to_owned();
        blocking("objects.get", move || match read(&path, range) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) if is_absent(&error) => {
                Err(PortError::new(ErrorKind::NotFound, "objects.get", format!("no object `{key}`")))
            }
            Err(error) => Err(failed("objects.get", &key, error)),
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, PortError> {
        let (folder, prefix, after) = (self.folder.clone(), prefix.to_owned(), after.map(str::to_owned));
        blocking("objects.list", move || {
            let mut listing = Listing { prefix: &prefix, after: after.as_deref(), limit, found: Vec::new() };
            listing.walk(folder.root(), "").map_err(|error| failed("objects.list", &prefix, error))?;
            Ok(listing.found)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), PortError> {
        let path = self.path("objects.delete", key)?;
        let (folder, key) = (self.folder.clone(), key.to_owned());
        blocking("objects.delete", move || match folder.remove(&path) {
            Ok(_) => Ok(()),
            Err(error) if is_absent(&error) || path.is_dir() => Ok(()),
            Err(error) => Err(failed("objects.delete", &key, error)),
        })
        .await
    }
}

/// Whether the error says that there is no such object: nothing there, a folder there, or an object where a folder should be.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory)
}

fn read(path: &Path, range: Option<Range<u64>>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    match range {
        None => {
            file.read_to_end(&mut bytes)?;
        }
        Some(range) => {
            let end = range.end.min(file.metadata()?.len());
            let start = range.start.min(end);
            file.seek(SeekFrom::Start(start))?;
            file.take(end - start).read_to_end(&mut bytes)?;
        }
    }
    Ok(bytes)
}

/// A walk in the byte order of whole keys that enters only the folders it needs.
struct Listing<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
    found: Vec<ObjectMeta>,
}

impl Listing<'_> {
    /// Lists the folder whose keys begin with `base` (empty, or ending in `/`).
    fn walk(&mut self, dir: &Path, base: &str) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            // Someone removed it while we walked.
            Err(error) if is_absent(&error) => return Ok(()),
            entries => entries?,
        };
        let mut keys = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is no text was not written by us.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if base.is_empty() && Folder::is_temporary(&name) {
                continue;
            }
            let is_dir = entry.file_type()?.is_dir();
            // A folder sorts as its keys do: with the slash.
            let key = format!("{base}{name}{}", if is_dir { "/" } else { "" });
            if self.may_hold(&key, is_dir) {
                keys.push((key, is_dir, entry.path()));
            }
        }
        keys.sort_unstable();
        for (key, is_dir, path) in keys {
            if self.found.len() >= self.limit {
                break;
            }
            if is_dir {
                self.walk(&path, &key)?;
            } else if let Ok(metadata) = fs::metadata(&path) {
                self.found.push(ObjectMeta { key, size_bytes: metadata.len(), modified_ms: modified_ms(&metadata) });
            }
        }
        Ok(())
    }

    fn may_hold(&self, key: &str, is_dir: bool) -> bool {
        if is_dir {
            let towards_prefix = key.starts_with(self.prefix) || self.prefix.starts_with(key);
            towards_prefix && self.after.is_none_or(|after| key > after || after.starts_with(key))
        } else {
            key.starts_with(self.prefix) && self.after.is_none_or(|after| key > after)
        }
    }
}

fn modified_ms(metadata: &Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put<'a>(objects: &'a DiskObjects, key: &'a str) -> impl Future<Output = Result<(), PortError>> + 'a {
        objects.put(key, Bytes::from_static(b"x"), PutMode::Overwrite)
    }

    #[tokio::test]
    async fn what_was_put_is_a_file_at_the_path_of_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let objects = DiskObjects::open(dir.path().join("lake")).unwrap();
        put(&objects, "web/dt=2026-11-21/a.parquet").await.unwrap();
        assert_eq!(fs::read(dir.path().join("lake/web/dt=2026-11-21/a.parquet")).unwrap(), b"x");
        assert_eq!(fs::read_dir(dir.path().join("lake/.tmp")).unwrap().count(), 0, "no temporary file stays");
        let again = DiskObjects::open(dir.path().join("lake")).unwrap();
        assert_eq!(again.get("web/dt=2026-11-21/a.parquet", None).await.unwrap(), "x");
    }

    #[tokio::test]
    async fn what_an_interrupted_write_left_is_neither_listed_nor_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".tmp")).unwrap();
        fs::write(dir.path().join(".tmp/77-1"), b"half").unwrap();
        let objects = DiskObjects::open(dir.path()).unwrap();
        assert_eq!(objects.list("", None, 10).await.unwrap(), []);
        assert!(!dir.path().join(".tmp/77-1").exists());
        assert_eq!(put(&objects, ".tmp/x").await.unwrap_err().kind, ErrorKind::Invalid);
        put(&objects, "a/.tmp").await.unwrap();
    }

    #[tokio::test]
    async fn a_refused_put_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let objects = DiskObjects::open(dir.path()).unwrap();
        put(&objects, "a").await.unwrap();
        let second = objects.put("a", Bytes::from_static(b"y"), PutMode::IfAbsent).await;
        assert_eq!(second.unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(fs::read_dir(dir.path().join(".tmp")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn nothing_lies_under_an_object_or_over_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let objects = DiskObjects::open(dir.path()).unwrap();
        put(&objects, "a").await.unwrap();
        put(&objects, "b/c").await.unwrap();
        for mode in [PutMode::Overwrite, PutMode::IfAbsent] {
            for key in ["a/b", "a/b/c", "b"] {
                let outcome = objects.put(key, Bytes::new(), mode).await;
                assert_eq!(outcome.unwrap_err().kind, ErrorKind::Invalid, "`{key}` {mode:?}");
            }
        }
        assert_eq!(objects.get("a/b", None).await.unwrap_err().kind, ErrorKind::NotFound);
        objects.delete("a/b").await.unwrap();
        objects.delete("b").await.unwrap();
        assert_eq!(objects.get("b/c", None).await.unwrap(), "x", "deleting a prefix deletes nothing");
    }

    #[tokio::test]
    async fn folders_may_vanish_and_objects_become_folders() {
        let dir = tempfile::tempdir().unwrap();
        let objects = DiskObjects::open(dir.path()).unwrap();
        put(&objects, "a").await.unwrap();
        put(&objects, "a/b").await.unwrap_err();
        objects.delete("a").await.unwrap();
        put(&objects, "a/b").await.unwrap();
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        fs::remove_dir_all(dir.path().join(".tmp")).unwrap();
        put(&objects, "a/b").await.unwrap();
        assert_eq!(objects.list("", None, 10).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_full_disk_is_told_apart() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(failed("objects.put", "a", full).kind, ErrorKind::Full);
        let read_only = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(failed("objects.put", "a", read_only).kind, ErrorKind::Full);
    }
}
