//! Counts for each destination, and pauses.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::statements::timestamp;
use crate::store::Standing;

/// Each count walks an index that holds little else.
pub(super) fn standings(connection: &Connection) -> rusqlite::Result<Vec<Standing>> {
    connection
        .prepare_cached(
            "SELECT destination, sum(waiting), sum(dead) FROM (
                 SELECT destination, count(*) AS waiting, 0 AS dead FROM delivery WHERE state = 'waiting' GROUP BY destination
                 UNION ALL
                 SELECT destination, 0, count(*) FROM delivery WHERE state = 'dead' AND dropped_at IS NULL GROUP BY destination
             ) GROUP BY destination",
        )?
        .query_map((), |row| {
            Ok(Standing {
                destination: row.get(0)?,
                waiting: row.get(1)?,
                dead: row.get(2)?,
            })
        })?
        .collect()
}

pub(super) fn pause(
    connection: &Connection,
    destination: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO paused (destination, paused_at) VALUES (?, ?)")?
        .execute(params![destination, now.as_millisecond()])?;
    Ok(())
}

pub(super) fn resume(connection: &Connection, destination: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM paused WHERE destination = ?")?
        .execute(params![destination])?;
    Ok(())
}

pub(super) fn paused(connection: &Connection) -> rusqlite::Result<Vec<(String, Timestamp)>> {
    connection
        .prepare_cached("SELECT destination, paused_at FROM paused ORDER BY destination")?
        .query_map((), |row| Ok((row.get(0)?, timestamp(row, 1)?)))?
        .collect()
}
