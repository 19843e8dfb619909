//! Meaning of each error of SQLite for the store, with the remedy.

use rusqlite::{ErrorCode, ffi};

use crate::error::StoreError;

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
        Some(ErrorCode::DiskFull) => disk_full(),
        Some(ErrorCode::SystemIoFailure) => StoreError::Unavailable(io_error(error)),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// The error for a damaged file.
pub(crate) fn damaged() -> StoreError {
    StoreError::Unusable(
        "the file is damaged; restore a backup, or move it away to start with a new store".into(),
    )
}

/// The error for a full disk.
pub(crate) fn disk_full() -> StoreError {
    StoreError::Unavailable(
        "the disk is full; free space on it or enlarge it, and do not remove files of the store"
            .into(),
    )
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
