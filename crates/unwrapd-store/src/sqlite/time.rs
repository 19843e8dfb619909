//! The stored trusted time, with which the next process compares its clock.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::StoreError;
use crate::sqlite::error::store_error;
use crate::sqlite::schema;
use crate::sqlite::statements::timestamp;
use unwrapd_core::clock::Boot;

/// Number of latest messages among which the newest arrival is searched, if no time is stored.
const LOOK_MAX: i64 = 1000;

pub(crate) fn remember(
    connection: &Connection,
    trusted: Timestamp,
    boot: Option<&Boot>,
) -> rusqlite::Result<()> {
    let monotonic = boot.map(|boot| i64::try_from(boot.monotonic.as_millis()).unwrap_or(i64::MAX));
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO trusted_time (only, at, boot, monotonic) VALUES (1, ?, ?, ?)",
        )?
        .execute(params![
            trusted.as_millisecond(),
            boot.map(|boot| &boot.id),
            monotonic
        ])?;
    Ok(())
}

/// The boot of the machine during which the time was stored, and the reading of the monotonic
/// clock.
pub(crate) fn remembered_boot(connection: &Connection) -> rusqlite::Result<Option<Boot>> {
    connection
        .query_row(
            "SELECT boot, monotonic FROM trusted_time WHERE boot IS NOT NULL AND monotonic >= 0",
            (),
            |row| {
                let monotonic: i64 = row.get(1)?;
                Ok(Boot {
                    id: row.get(0)?,
                    monotonic: Duration::from_millis(monotonic.unsigned_abs()),
                })
            },
        )
        .optional()
}

/// The time that the last process trusted. If the store has none, because it is a copy, the newest
/// arrival among the last messages. `None` if there is neither.
pub(crate) fn remembered(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
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

/// Reads the trusted time of the store at `path`.
pub fn remembered_at(path: &Path) -> Result<Option<Timestamp>, StoreError> {
    let connection = schema::connect_to_look(path)?;
    schema::check_present(&connection)?;
    remembered(&connection).map_err(|error| store_error(&error))
}
