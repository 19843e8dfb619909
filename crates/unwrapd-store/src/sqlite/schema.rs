//! Opens database files with the required settings, and migrates their schema.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use crate::StoreError;
use crate::sqlite::files::access;
use crate::sqlite::files::filesystem;
use crate::sqlite::files::found_log;
use crate::sqlite::files::store_files::{self, StoreFiles};
use crate::sqlite::migration;

/// `unwr` in ASCII: marks the file as a store of unwrapd (`PRAGMA application_id`).
pub(crate) const APPLICATION_ID: i32 = 0x756E_7772;

/// `unwc` in ASCII: marks a file with an incomplete copy (`unwrapd db copy`). For an earlier
/// version, the file belongs to another application.
pub(crate) const APPLICATION_ID_COPYING: i32 = 0x756E_7763;

/// Before 3.51.3, a checkpoint concurrent with a writer could corrupt the write-ahead log
/// ([SQLite](https://www.sqlite.org/wal.html)).
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// Longest wait for a lock that another process holds, such as a backup or a shell. It is shorter
/// than the time after which the writer counts as blocked
/// ([`pulse`](crate::sqlite::writer::pulse)), so that the error names the lock.
pub(crate) const LOCK_WAIT_MAX: Duration = Duration::from_millis(2500);

/// Number of cached prepared statements, enough for all of ours.
const STATEMENTS_MAX: usize = 32;

pub(crate) fn connect(files: &mut StoreFiles) -> Result<Connection, StoreError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(StoreError::Unusable(format!(
            "SQLite {} is older than 3.51.3 and can corrupt its log; build with the bundled version",
            rusqlite::version()
        )));
    }
    let connection = open(files, OpenFlags::SQLITE_OPEN_CREATE)?;
    let version = check_ours(&connection)?;
    bring_up_to_date(connection, version, files)
}

/// Does the same as [`connect`], for a database that was open before. If it is empty now, it has
/// lost its content. As a new store, it would accept duplicates as new webhooks.
pub(crate) fn connect_again(files: &mut StoreFiles) -> Result<Connection, StoreError> {
    let connection = open(files, OpenFlags::empty())?;
    let version = check_ours(&connection)?;
    if version == 0 {
        return Err(StoreError::Unusable(
            "the file was emptied; stop unwrapd, copy all files of the store to another folder, then restore a backup"
                .into(),
        ));
    }
    bring_up_to_date(connection, version, files)
}

/// Does the same as [`connect`], for the target of a copy, which may hold an incomplete copy. An
/// existing store is not migrated.
pub(crate) fn connect_to_fill(files: &mut StoreFiles) -> Result<Connection, StoreError> {
    let mut connection = open(files, OpenFlags::SQLITE_OPEN_CREATE)?;
    let (application, _, version) = read_marks(&connection).map_err(|error| store_error(&error))?;
    if application != APPLICATION_ID_COPYING {
        let version = check_ours(&connection)?;
        // The file of a copy that was killed while creating it.
        let is_empty = || {
            connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM message)", (), |row| {
                row.get(0)
            })
        };
        if version > 0 && !is_empty().map_err(|error| store_error(&error))? {
            check_present(&connection)?;
        }
        return bring_up_to_date(connection, version, files);
    }
    if version != migration::version() {
        return Err(StoreError::Unusable(
            "another version of unwrapd has begun a copy into this file: continue with that version, or remove the file".into(),
        ));
    }
    prepare(&mut connection).map_err(|error| store_error(&error))?;
    found_log::make_durable(&connection, files)?;
    Ok(connection)
}

fn open(files: &StoreFiles, more: OpenFlags) -> Result<Connection, StoreError> {
    access::check_writable(files.path())?;
    filesystem::check_room(files.path())?;
    // Without the flag for URIs, so that every path is taken literally.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    Connection::open_with_flags(files.path(), flags).map_err(|error| store_error(&error))
}

fn bring_up_to_date(
    mut connection: Connection,
    version: usize,
    files: &mut StoreFiles,
) -> Result<Connection, StoreError> {
    prepare(&mut connection).map_err(|error| store_error(&error))?;
    found_log::make_durable(&connection, files)?;
    if version < migration::version() {
        migration::run(&mut connection, version)?;
    }
    Ok(connection)
}

/// Opens another connection that can write, to a database that [`connect`] has prepared.
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

/// Opens a connection that cannot write.
pub(crate) fn connect_to_read(path: &Path) -> Result<Connection, StoreError> {
    access::check_readable(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| store_error(&error))?;
    connection
        .busy_timeout(LOCK_WAIT_MAX)
        .map_err(|error| store_error(&error))?;
    match read_marks(&connection) {
        // Reading a log needs its index. If the index cannot be created, no other process writes
        // either, unless there is a log already.
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
            ) =>
        {
            if has_log(path) {
                access::check_index(path)?;
                return Err(store_error(&error));
            }
            connect_to_unchanging(path).map_err(|error| store_error(&error))
        }
        _ => Ok(connection),
    }
}

/// Does the same as [`connect_to_read`], for a command that may run beside a gateway.
pub(crate) fn connect_to_look(path: &Path) -> Result<Connection, StoreError> {
    store_files::check_log_is_here(path)?;
    connect_to_read(path)
}

fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    Path::new(&log).exists()
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

/// Returns the version of the schema. It runs before any change, because the path may lead to a
/// file of another application.
pub(crate) fn check_ours(connection: &Connection) -> Result<usize, StoreError> {
    let (application, tables, version) =
        read_marks(connection).map_err(|error| store_error(&error))?;
    if application == APPLICATION_ID_COPYING {
        return Err(StoreError::Unusable(
            "the file has an incomplete copy: run the same `unwrapd db copy` again to continue it, or remove the file"
                .into(),
        ));
    }
    if application != APPLICATION_ID && tables > 0 {
        return Err(StoreError::Unusable(
            "the file is the database of another application; name another file".into(),
        ));
    }
    if version > migration::version() {
        return Err(StoreError::Unusable(
            "the file was written by a newer version of unwrapd; run that version".into(),
        ));
    }
    Ok(version)
}

/// Returns an error if the file at `path` is not a store, or belongs to a newer version. Changes
/// nothing.
pub(crate) fn check_ours_at(path: &Path) -> Result<(), StoreError> {
    check_ours(&connect_to_read(path)?).map(drop)
}

/// Does the same as [`check_ours`], and refuses an empty file.
pub(crate) fn check_there(connection: &Connection) -> Result<usize, StoreError> {
    match check_ours(connection)? {
        0 => Err(StoreError::Unusable(
            "the file is empty; name one that unwrapd has written".into(),
        )),
        version => Ok(version),
    }
}

/// Does the same as [`check_there`], and refuses a file that must be migrated first.
pub(crate) fn check_present(connection: &Connection) -> Result<(), StoreError> {
    if check_there(connection)? < migration::version() {
        return Err(StoreError::Unusable(
            "the file was written by an earlier version of unwrapd; start the gateway on it once to migrate it".into(),
        ));
    }
    Ok(())
}

fn read_marks(connection: &Connection) -> rusqlite::Result<(i32, u32, usize)> {
    Ok((
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?,
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?,
        connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
    ))
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
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
pub(crate) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

/// SQLite's schema version, which changes with the tables.
pub(crate) fn tables(connection: &Connection) -> Result<u32, StoreError> {
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

fn damaged() -> StoreError {
    StoreError::Unusable(
        "the file is damaged; restore a backup, or move it away to start with a new store".into(),
    )
}

/// The error while another program locks the database.
const LOCKED: &str = "another process uses the database, such as a check, a backup or a shell; wait until it ends, or stop it";

/// Whether the error is temporary, because another program locks the database.
pub(crate) fn is_locked(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(problem) if problem == LOCKED)
}

/// Converts an error of SQLite. Its messages name tables and files, never values.
pub(crate) fn store_error(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            StoreError::Unusable("the file is not an SQLite database; name another file".into())
        }
        Some(ErrorCode::DatabaseCorrupt) => damaged(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StoreError::Unavailable(LOCKED.into())
        }
        Some(ErrorCode::DiskFull) => filesystem::disk_full(),
        Some(ErrorCode::SystemIoFailure) => StoreError::Unavailable(io_error(error)),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// SQLite reports a disk error without the operation that failed.
fn io_error(error: &rusqlite::Error) -> String {
    let code = error.sqlite_error().map(|error| error.extended_code);
    let doing = match code {
        Some(ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ) => "reading",
        Some(ffi::SQLITE_IOERR_WRITE) => "writing",
        Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => "syncing",
        Some(ffi::SQLITE_IOERR_TRUNCATE) => "truncating",
        // The same error occurs if there is no room for the index.
        Some(ffi::SQLITE_IOERR_SHMOPEN | ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMMAP) => {
            "creating the index of the log; is the disk full?"
        }
        _ => return error.to_string(),
    };
    format!("{error} while {doing}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without both settings, a sync by SQLite on macOS leaves data in the cache of the disk.
    #[test]
    fn every_connection_that_writes_flushes_the_disk_where_a_sync_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = StoreFiles::take(&folder.path().join("store.db")).unwrap();
        let is_set = |connection: &Connection| {
            ["fullfsync", "checkpoint_fullfsync"]
                .into_iter()
                .all(|pragma| {
                    connection
                        .pragma_query_value(None, pragma, |row| row.get::<_, bool>(0))
                        .unwrap()
                })
        };
        let connection = connect(&mut files).unwrap();
        assert!(is_set(&connection));
        assert!(is_set(&connect_beside(files.path()).unwrap()));
        drop(connection);
        assert!(is_set(&connect_again(&mut files).unwrap()));
    }

    /// After a failed sync, pages that were moved before exist only in the log: a later sync
    /// succeeds without them. So SQLite must not remove the log by itself.
    #[test]
    fn the_log_stays_when_its_last_connection_is_closed_unless_all_of_it_was_moved() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = StoreFiles::take(&folder.path().join("store.db")).unwrap();
        let log_bytes = |files: &StoreFiles| {
            std::fs::metadata(files.log_path()).map_or(0, |metadata| metadata.len())
        };
        let connection = connect(&mut files).unwrap();
        connection
            .execute("INSERT INTO paused VALUES ('app', 0)", ())
            .unwrap();
        drop(connection);
        assert!(log_bytes(&files) > 0);
        let beside = connect_beside(files.path()).unwrap();
        beside.execute("DELETE FROM paused", ()).unwrap();
        drop(beside);
        assert!(log_bytes(&files) > 0);

        let connection = connect_again(&mut files).unwrap();
        keep_log(&connection, false).unwrap();
        drop(connection);
        assert!(!files.log_path().exists());
    }
}
