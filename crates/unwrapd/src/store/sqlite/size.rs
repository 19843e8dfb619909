//! How large the store is.

use rusqlite::Connection;

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
