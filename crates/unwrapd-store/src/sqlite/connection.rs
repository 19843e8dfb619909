//! Connections to a database file that is known to be a store: their settings, and what they tell of
//! the file.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use crate::error::StoreError;
use crate::sqlite::error::{damaged, store_error};

/// Longest wait for a lock that another process holds, such as a backup or a shell. It is shorter
/// than the time after which the writer counts as blocked
/// ([`pulse`](crate::sqlite::writer::pulse)), so that the error names the lock.
pub(crate) const LOCK_WAIT_MAX: Duration = Duration::from_millis(2500);

/// Number of cached prepared statements, enough for all of ours.
const STATEMENTS_MAX: usize = 32;

/// Opens another connection that can write, to a database that the writer has prepared.
pub(crate) fn connect_beside(path: &Path) -> Result<Connection, StoreError> {
    let connect = || {
        let connection = connect_beside_unread(path)?;
        flush_the_disk(&connection)?;
        Ok(connection)
    };
    connect().map_err(|error| store_error(&error))
}

/// Does the same as [`connect_beside`], but opens neither the database nor its log yet, only the
/// file. Closing this connection then changes nothing.
pub(crate) fn connect_beside_unread(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCK_WAIT_MAX)?;
    keep_log(&connection, true)?;
    Ok(connection)
}

/// Opens a connection that cannot write, to a file that no other process writes to. It creates no
/// files beside it.
pub(crate) fn connect_to_unchanging(path: &Path) -> rusqlite::Result<Connection> {
    let hex = |digit: u8| char::from(b"0123456789ABCDEF"[usize::from(digit)]);
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                uri.push(char::from(*byte));
            }
            _ => uri.extend(['%', hex(byte >> 4), hex(byte & 15)]),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags)
}

/// Sets up a connection that writes.
pub(crate) fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Otherwise SQLite would recompile statements that use a partial index each time their
    // parameters change.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.busy_timeout(LOCK_WAIT_MAX)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| {
        // Some file systems do not support WAL mode; SQLite then silently keeps the previous mode.
        match row.get::<_, String>(0)?.as_str() {
            "wal" => Ok(()),
            _ => Err(rusqlite::Error::SqliteFailure(
                ffi::Error::new(ffi::SQLITE_IOERR),
                Some(
                    "the file system does not support a write-ahead log; use a local file system"
                        .into(),
                ),
            )),
        }
    })?;
    keep_log(connection, true)?;
    // With NORMAL, a power failure may roll back acknowledged commits.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    flush_the_disk(connection)
}

/// Sets whether the log stays when the last connection is closed. If SQLite removed the log after a
/// failed sync, pages that were moved earlier would be in neither the log nor on the disk.
pub(crate) fn keep_log(connection: &Connection, keeps: bool) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keeps)
        .map(drop)
}

/// On macOS, a sync alone does not flush the disk's own cache. Elsewhere these settings change
/// nothing.
pub(crate) fn flush_the_disk(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)
}

/// A number that changes when another connection has written.
pub(crate) fn read_data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

/// SQLite's schema version, which changes with the tables.
pub(crate) fn read_tables(connection: &Connection) -> Result<u32, StoreError> {
    connection
        .pragma_query_value(None, "schema_version", |row| row.get(0))
        .map_err(|error| store_error(&error))
}

/// Returns an error if any page is damaged. The time grows with the file.
pub(crate) fn look_through(connection: &Connection) -> Result<(), StoreError> {
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", (), |row| row.get(0))
        .map_err(|error| store_error(&error))?;
    if found == "ok" {
        return Ok(());
    }
    Err(damaged())
}

/// Bytes in use: the size of the file without its free pages. The log beside it does not count.
pub(crate) fn bytes_used(connection: &Connection) -> rusqlite::Result<u64> {
    let pages = ask(connection, "PRAGMA page_count")?;
    let free = ask(connection, "PRAGMA freelist_count")?;
    let page_bytes = ask(connection, "PRAGMA page_size")?;
    Ok(pages.saturating_sub(free) * page_bytes)
}

fn ask(connection: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(pragma)?
        .query_row((), |row| row.get(0))
}
