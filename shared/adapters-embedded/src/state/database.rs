//! The file: its schema and how connections to it are set up.

use super::failure::Failure;
use rusqlite::{Connection, OpenFlags};
use sluice_ports::ErrorKind;
use std::fs::{File, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

/// `PRAGMA user_version` of the schema below.
const SCHEMA_VERSION: i64 = 1;

/// Bodies lie apart from what changes about a message, so that a delivery rewrites a few bytes only. A body is stored once; `copies`
/// counts the deliveries that still need it. A delivery keeps the queue it was first meant for (`origin`), so two queues can share a
/// dead-letter queue. `ticket` names the newest delivery, `held` says that a consumer has it.
const SCHEMA: &str = "
CREATE TABLE queue (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE message (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  attributes TEXT NOT NULL,
  events INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL,
  copies INTEGER NOT NULL
);
CREATE TABLE body (message INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE delivery (
  queue INTEGER NOT NULL,
  message INTEGER NOT NULL,
  origin INTEGER NOT NULL,
  visible_ms INTEGER NOT NULL,
  receive_count INTEGER NOT NULL,
  ticket INTEGER NOT NULL,
  held INTEGER NOT NULL,
  PRIMARY KEY (queue, message, origin)
) WITHOUT ROWID;
CREATE INDEX delivery_visible ON delivery (queue, visible_ms);
CREATE TABLE item (
  partition TEXT NOT NULL,
  sort TEXT NOT NULL,
  value TEXT NOT NULL,
  version INTEGER NOT NULL,
  expires_at INTEGER,
  PRIMARY KEY (partition, sort)
) WITHOUT ROWID;
CREATE INDEX item_expiry ON item (expires_at) WHERE expires_at IS NOT NULL;
";

/// The connection that writes, with the schema in place.
pub(super) fn open_writer(path: &Path) -> Result<Connection, Failure> {
    // It holds secrets of channels. SQLite gives its log the rights of the database.
    let owned = File::options().create(true).append(true).mode(0o600).open(path);
    let owned = owned.and_then(|file| file.set_permissions(Permissions::from_mode(0o600)));
    owned.map_err(|e| Failure::new(ErrorKind::Full, format!("database `sluice.db`: {e}")))?;
    let conn = Connection::open(path)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    // SQLite's own default, named because it was measured: pages of 8 KiB move 15 KB messages as fast and double what a single small
    // one costs; pages of 16 KiB are slower in every respect.
    conn.pragma_update(None, "page_size", 4_096)?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    // FULL flushes the log at each commit: what was answered survives a power cut.
    conn.pragma_update(None, "synchronous", "full")?;
    // On macOS a plain flush stops at the drive's cache; elsewhere this changes nothing.
    conn.pragma_update(None, "fullfsync", true)?;
    // The writer copies the log back itself, after it has answered.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "journal_size_limit", 128 << 20)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.pragma_update(None, "cache_size", -32_768)?;
    conn.set_prepared_statement_cache_capacity(64);
    migrate(&conn)?;
    Ok(conn)
}

/// A connection that reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.pragma_update(None, "query_only", true)?;
    conn.pragma_update(None, "cache_size", -4_096)?;
    conn.set_prepared_statement_cache_capacity(16);
    Ok(conn)
}

fn migrate(conn: &Connection) -> Result<(), Failure> {
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        SCHEMA_VERSION => Ok(()),
        0 => {
            let create = format!("BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
            Ok(conn.execute_batch(&create)?)
        }
        newer => {
            let what = format!(
                "database `sluice.db` has schema {newer}, this program knows {SCHEMA_VERSION}: use a newer one"
            );
            Err(Failure::new(ErrorKind::Invalid, what))
        }
    }
}
