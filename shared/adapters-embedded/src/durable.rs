//! Files written so that readers see the old one or the new one, and that what was answered survives a power cut.
//!
//! A file is written under a temporary name and flushed; then it gets its name, and the folder is flushed, since the name lies there.

use sluice_ports::{ErrorKind, PortError};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The folder of temporary files, below the root.
const TEMPORARY: &str = ".tmp";

/// A folder in which files are written durably.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Folders that are known to be there and flushed into their parents.
    known: Mutex<HashSet<PathBuf>>,
    temporaries: AtomicU64,
}

/// What a write does when the name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Replace,
    #[cfg_attr(not(feature = "objects"), allow(dead_code, reason = "only objects are written once"))]
    Refuse,
}

impl Folder {
    /// Opens a folder, creating it as needed; removes what an interrupted write left behind.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let temporary = root.join(TEMPORARY);
        fs::create_dir_all(&temporary)?;
        for left in fs::read_dir(&temporary)? {
            fs::remove_file(left?.path())?;
        }
        let root = root.canonicalize()?;
        flush_dir(&root)?;
        if let Some(parent) = root.parent() {
            flush_dir(parent)?;
        }
        Ok(Self { root, known: Mutex::default(), temporaries: AtomicU64::new(0) })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this is the name of the folder for temporary files.
    #[cfg(feature = "objects")]
    pub(crate) fn is_temporary(name: &str) -> bool {
        name == TEMPORARY
    }

    /// Writes a file below the root.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8], taken: Taken) -> io::Result<()> {
        let written = self.write_once(path, bytes, taken);
        match written {
            // Someone removed a folder behind our back; we know nothing any more, so begin anew.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                lock(&self.known).clear();
                fs::create_dir_all(self.root.join(TEMPORARY))?;
                self.write_once(path, bytes, taken)
            }
            written => written,
        }
    }

    fn write_once(&self, path: &Path, bytes: &[u8], taken: Taken) -> io::Result<()> {
        let parent = path.parent().unwrap_or(&self.root);
        self.make(parent)?;
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join(TEMPORARY).join(format!("{}-{number}", std::process::id()));
        let written = self.write_as(&temporary, path, bytes, taken);
        // A rename took it away; in every other case it must not stay.
        if written.is_err() || taken == Taken::Refuse {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        flush_dir(parent)
    }

    fn write_as(&self, temporary: &Path, path: &Path, bytes: &[u8], taken: Taken) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        match taken {
            Taken::Replace => fs::rename(temporary, path),
            // Unlike a rename, a link fails where the name is taken.
            Taken::Refuse => fs::hard_link(temporary, path),
        }
    }

    /// Creates a folder and its parents, each flushed into its parent once.
    fn make(&self, dir: &Path) -> io::Result<()> {
        if dir == self.root || lock(&self.known).contains(dir) {
            return Ok(());
        }
        if let Some(parent) = dir.parent() {
            self.make(parent)?;
            match fs::create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) if !dir.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
                _ => flush_dir(parent)?,
            }
        }
        lock(&self.known).insert(dir.to_owned());
        Ok(())
    }

    /// Removes a file; whether there was one.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<bool> {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        path.parent().map_or(Ok(()), flush_dir)?;
        Ok(true)
    }
}

fn flush_dir(dir: &Path) -> io::Result<()> {
    // Windows cannot open a folder as a file; there the file system keeps names in its journal.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// What an I/O error means to the caller of a port.
pub(crate) fn failed(operation: &'static str, what: &str, error: io::Error) -> PortError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::Full
        }
        io::ErrorKind::InvalidFilename | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
            ErrorKind::Invalid
        }
        _ => ErrorKind::Unavailable,
    };
    PortError::new(kind, operation, format!("`{what}`: {error}")).with_source(error)
}

/// Runs blocking work beside the asynchronous threads.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, PortError> + Send + 'static,
) -> Result<T, PortError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(PortError::new(ErrorKind::Unavailable, operation, "the work was cut off").with_source(error))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
