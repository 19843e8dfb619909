//! The marks at the head of a database file: the application it belongs to, and the version of its
//! schema.

use rusqlite::Connection;

/// `unwr` in ASCII: marks the file as a store of unwrapd (`PRAGMA application_id`).
pub(crate) const APPLICATION_ID: i32 = 0x756E_7772;

/// `unwc` in ASCII: marks a file with an incomplete copy (`unwrapd db copy`). For an earlier
/// version, the file belongs to another application.
pub(crate) const APPLICATION_ID_COPYING: i32 = 0x756E_7763;

/// The application, the number of tables and indexes, and the version of the schema.
pub(crate) fn read(connection: &Connection) -> rusqlite::Result<(i32, u32, usize)> {
    Ok((
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?,
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?,
        connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
    ))
}
