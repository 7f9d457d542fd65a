//! The data folder: who holds it, which layout it has, the admin key, the settings file.

use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// The layout that this code writes. Older ones are migrated forward when the folder is opened; newer ones are refused.
pub const LAYOUT: u32 = 1;

/// Steps from one layout to the next: `MIGRATIONS[n]` takes a folder from layout n + 1 to n + 2.
const MIGRATIONS: &[fn(&Path) -> anyhow::Result<()>] = &[];

/// A data folder that this process holds alone, until it is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Opens a folder, creating it with the current layout where there is none.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).map_err(|e| explain(e, path, "cannot be created"))?;
        let path = fs::canonicalize(path).map_err(|e| explain(e, path, "cannot be opened"))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| explain(e, &path, "cannot be written to"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                bail!(
                    "data folder `{}` is in use by another `sluice up`: stop that one, or name another folder with `--data`",
                    path.display()
                )
            }
            Err(fs::TryLockError::Error(e)) => return Err(explain(e, &path, "cannot be locked")),
        }
        let folder = Self { path, _lock: lock };
        folder.migrate()?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn migrate(&self) -> anyhow::Result<()> {
        let file = self.path.join("VERSION");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return self.write("VERSION", format!("{LAYOUT}\n").as_bytes());
            }
            Err(e) => return Err(explain(e, &file, "cannot be read")),
        };
        let mut version: u32 = text.trim().parse().map_err(|_| {
            anyhow::anyhow!(
                "`{}` is damaged: it holds `{}` where the number of the layout belongs",
                file.display(),
                clip(&text)
            )
        })?;
        if version > LAYOUT || version == 0 {
            bail!(
                "data folder `{}` has layout {version}, this program knows layouts up to {LAYOUT}: use a newer `sluice`",
                self.path.display()
            );
        }
        while version < LAYOUT {
            let step = MIGRATIONS.get(version as usize - 1).context("a migration step is missing")?;
            step(&self.path)
                .with_context(|| format!("cannot migrate `{}` from layout {version}", self.path.display()))?;
            version += 1;
            self.write("VERSION", format!("{version}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Writes a small file whole: readers see the old one or the new one.
    pub fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.write_with_mode(name, bytes, 0o644)
    }

    /// Writes a small file with a secret, for its owner only (mode 0600).
    pub fn write_secret(&self, name: &str, secret: &str) -> anyhow::Result<()> {
        self.write_with_mode(name, format!("{secret}\n").as_bytes(), 0o600)
    }

    fn write_with_mode(&self, name: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.path.join(name);
        let temporary = self.path.join(format!(".{name}.new"));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|e| explain(e, &path, "cannot be written"))
    }

    /// Removes a file that may not be there.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path.join(name));
    }

    /// The admin key for the command line on this machine: read, or made and kept in `admin.key` (mode 0600).
    pub fn admin_key(&self, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
        let path = self.path.join("admin.key");
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Ok(_) => bail!("`{}` is empty: remove it to get a new admin key", path.display()),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let key = make()?;
                self.write_secret("admin.key", &key)?;
                Ok(key)
            }
            Err(e) => Err(explain(e, &path, "cannot be read")),
        }
    }

    /// The settings of `settings.toml`, by key.
    pub fn settings(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let path = self.path.join("settings.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(e) => return Err(explain(e, &path, "cannot be read")),
        };
        let table: toml::Table = toml::from_str(&text)
            .map_err(|e| anyhow::anyhow!("`{}` is damaged: {}", path.display(), e.to_string().trim()))?;
        table
            .into_iter()
            .map(|(key, value)| match value {
                toml::Value::String(text) => Ok((key, text)),
                toml::Value::Integer(n) => Ok((key, n.to_string())),
                toml::Value::Boolean(b) => Ok((key, b.to_string())),
                other => bail!("`{}`: `{key}` must be text or a number, not {}", path.display(), other.type_str()),
            })
            .collect()
    }

    /// A user's own schema files in `schemas/`, as (name, text), sorted by name.
    pub fn schemas(&self) -> anyhow::Result<Vec<(String, String)>> {
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).map_err(|e| explain(e, &path, "cannot be read"))?;
            Ok((path.display().to_string(), text))
        };
        self.files("schemas", "json")?.into_iter().map(read).collect()
    }

    /// A user's own reports in `reports/`, sorted by file name: each with its text, or why that cannot be read.
    pub fn reports(&self) -> anyhow::Result<Vec<(String, Result<String, String>)>> {
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).map_err(|e| format!("cannot be read: {e}"));
            (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text)
        };
        Ok(self.files("reports", "sql")?.into_iter().map(read).collect())
    }

    /// The files of a folder that end so, sorted; none where there is no such folder.
    fn files(&self, name: &str, end: &str) -> anyhow::Result<Vec<PathBuf>> {
        let folder = self.path.join(name);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(explain(e, &folder, "cannot be read")),
        };
        let paths =
            entries.map(|entry| entry.map(|entry| entry.path()).map_err(|e| explain(e, &folder, "cannot be read")));
        let mut paths = paths.collect::<anyhow::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|e| e == end));
        paths.sort();
        Ok(paths)
    }
}

/// An I/O error as a sentence that says what to do.
fn explain(error: std::io::Error, path: &Path, what: &str) -> anyhow::Error {
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => "you have no right to it",
        ErrorKind::ReadOnlyFilesystem => "it lies on a read-only file system",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "there is a file where a folder belongs",
        _ => return anyhow::anyhow!("`{}` {what}: {error}", path.display()),
    };
    anyhow::anyhow!("`{}` {what}: {advice}", path.display())
}

fn clip(text: &str) -> String {
    text.trim().chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn a_folder_is_held_by_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataFolder::open(dir.path()).unwrap();
        assert!(message(DataFolder::open(dir.path())).contains("in use by another"));
        drop(held);
        DataFolder::open(dir.path()).unwrap();
    }

    #[test]
    fn a_folder_from_the_future_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("VERSION"), "99\n").unwrap();
        assert!(message(DataFolder::open(dir.path())).contains("layout 99"));
        assert_eq!(fs::read_to_string(dir.path().join("VERSION")).unwrap(), "99\n");
        fs::write(dir.path().join("VERSION"), "one").unwrap();
        assert!(message(DataFolder::open(dir.path())).contains("damaged"));
    }

    #[test]
    fn every_older_layout_has_its_step() {
        assert_eq!(MIGRATIONS.len() + 1, LAYOUT as usize);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data");
        fs::write(&file, "x").unwrap();
        assert!(message(DataFolder::open(&file)).contains("a file where a folder belongs"));
    }

    #[test]
    fn the_admin_key_is_made_once_and_kept_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path()).unwrap();
        assert_eq!(folder.admin_key(|| Ok("one".into())).unwrap(), "one");
        assert_eq!(folder.admin_key(|| Ok("two".into())).unwrap(), "one");
        let mode = fs::metadata(dir.path().join("admin.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_settings_file_says_where() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path()).unwrap();
        assert!(folder.settings().unwrap().is_empty());
        fs::write(dir.path().join("settings.toml"), "time_zone = \"UTC\"\nsql_max_rows = 5\n").unwrap();
        assert_eq!(folder.settings().unwrap()["sql_max_rows"], "5");
        fs::write(dir.path().join("settings.toml"), "time_zone = \n").unwrap();
        assert!(message(folder.settings()).contains("line 1"));
        fs::write(dir.path().join("settings.toml"), "listen = [1]\n").unwrap();
        assert!(message(folder.settings()).contains("`listen` must be text"));
    }
}
