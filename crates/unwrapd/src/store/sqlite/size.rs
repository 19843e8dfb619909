//! How large the store is, and how its file becomes as small.

use std::path::Path;

use rusqlite::Connection;

use super::owned::Owned;
use super::schema;
use crate::store::StoreError;

/// Writes the file anew without the space in it that is free, and gives its size before and after. Nobody may be using it, and until it
/// is done it needs as much space again, twice.
pub fn vacuum(path: &Path) -> Result<(u64, u64), StoreError> {
    let owned = Owned::take(path)?;
    let size = || {
        std::fs::metadata(owned.path())
            .map(|file| file.len())
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))
    };
    let before = size()?;
    schema::connect(owned.path())?
        .execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
        .map_err(|error| schema::store_error(&error))?;
    Ok((before, size()?))
}

/// Bytes in use: those of the file less the pages that are free to be used again. The log beside it does not count.
pub(super) fn used(connection: &Connection) -> rusqlite::Result<u64> {
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
