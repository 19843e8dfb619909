//! Opens the database, if it is a store, and migrates its schema.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::StoreError;
use crate::sqlite::connection::{LOCK_WAIT_MAX, connect_to_unchanging, prepare};
use crate::sqlite::error::store_error;
use crate::sqlite::files::access;
use crate::sqlite::files::filesystem;
use crate::sqlite::files::found_log;
use crate::sqlite::files::store_files::{self, StoreFiles};
use crate::sqlite::marks::{self, APPLICATION_ID, APPLICATION_ID_COPYING};
use crate::sqlite::migration;

/// Before 3.51.3, a checkpoint concurrent with a writer could corrupt the write-ahead log
/// ([SQLite](https://www.sqlite.org/wal.html)).
const SQLITE_VERSION_MIN: i32 = 3_051_003;

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
    let (application, _, version) =
        marks::read(&connection).map_err(|error| store_error(&error))?;
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

/// Opens a connection that cannot write.
pub(crate) fn connect_to_read(path: &Path) -> Result<Connection, StoreError> {
    access::check_readable(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| store_error(&error))?;
    connection
        .busy_timeout(LOCK_WAIT_MAX)
        .map_err(|error| store_error(&error))?;
    match marks::read(&connection) {
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

/// Returns the version of the schema. It runs before any change, because the path may lead to a
/// file of another application.
pub(crate) fn check_ours(connection: &Connection) -> Result<usize, StoreError> {
    let (application, tables, version) =
        marks::read(connection).map_err(|error| store_error(&error))?;
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

#[cfg(test)]
pub(super) mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::sqlite::connection::{connect_beside, keep_log};

    /// The files of a new database, and the folder that holds them.
    pub(in crate::sqlite) fn new_files() -> (TempDir, StoreFiles) {
        let folder = TempDir::new().unwrap();
        let files = StoreFiles::take(&folder.path().join("store.db")).unwrap();
        (folder, files)
    }

    /// Without both settings, a sync by SQLite on macOS leaves data in the cache of the disk.
    #[test]
    fn every_connection_that_writes_flushes_the_disk_where_a_sync_does_not() {
        let (_folder, mut files) = new_files();
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
        let (_folder, mut files) = new_files();
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
