//! What time it was, for the next process to hold its clock against.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::schema;
use super::statements::timestamp;
use crate::store::StoreError;

/// Messages of which the newest arrival is looked for, where no time is remembered.
const LOOK_MAX: i64 = 1000;

pub(super) fn remember(connection: &Connection, trusted: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO trusted_time (only, at) VALUES (1, ?)")?
        .execute(params![trusted.as_millisecond()])?;
    Ok(())
}

/// The time that the last process trusted. A store that was copied or comes from an earlier version has none; then the newest of the
/// last messages counts. `None`: there is neither.
pub(super) fn remembered(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let remembered = optional(connection, "SELECT max(at), ?1 FROM trusted_time")?;
    if remembered.is_some() {
        return Ok(remembered);
    }
    optional(
        connection,
        "SELECT max(received_at) FROM (SELECT received_at FROM message ORDER BY seq DESC LIMIT ?1)",
    )
}

fn optional(connection: &Connection, sql: &str) -> rusqlite::Result<Option<Timestamp>> {
    connection.query_row(sql, params![LOOK_MAX], |row| {
        let is_none = row.get::<_, Option<i64>>(0)?.is_none();
        if is_none {
            return Ok(None);
        }
        timestamp(row, 0).map(Some)
    })
}

/// The time that the store at `path` remembers. It only reads.
pub fn remembered_at(path: &Path) -> Result<Option<Timestamp>, StoreError> {
    let connection = schema::connect_to_read(path)?;
    schema::check_present(&connection)?;
    remembered(&connection).map_err(|error| schema::store_error(&error))
}
