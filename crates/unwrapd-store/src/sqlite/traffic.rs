//! Traffic counts of each minute.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::sqlite::statements::timestamp;
use crate::traffic::{DELETED_AT_ONCE_MS, TrafficCount, TrafficKind};

pub(crate) fn add(connection: &Connection, counts: &[TrafficCount]) -> rusqlite::Result<()> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO traffic (minute, kind, name, count) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET count = count + excluded.count",
    )?;
    for counted in counts {
        upsert.execute(params![
            counted.minute.as_millisecond(),
            counted.kind.as_str(),
            counted.name,
            i64::try_from(counted.count).unwrap_or(i64::MAX),
        ])?;
    }
    Ok(())
}

pub(crate) fn since(
    connection: &Connection,
    since: Timestamp,
) -> rusqlite::Result<Vec<TrafficCount>> {
    connection
        .prepare_cached(
            "SELECT minute, kind, name, count FROM traffic WHERE minute >= ? ORDER BY minute, kind, name",
        )?
        .query_map(params![since.as_millisecond()], |row| {
            Ok(TrafficCount {
                minute: timestamp(row, 0)?,
                kind: TrafficKind::named(row.get_ref(1)?.as_str()?),
                name: row.get(2)?,
                count: row.get(3)?,
            })
        })?
        .collect()
}

/// The end of the oldest counts from before `before` that are deleted at once.
pub(crate) fn oldest(connection: &Connection, before: Timestamp) -> rusqlite::Result<Option<i64>> {
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT min(minute) FROM traffic")?
        .query_row((), |row| row.get(0))?;
    let before = before.as_millisecond();
    Ok(oldest
        .filter(|oldest| *oldest < before)
        .map(|oldest| before.min(oldest + DELETED_AT_ONCE_MS)))
}

pub(crate) fn delete(connection: &Connection, until_ms: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM traffic WHERE minute < ?")?
        .execute(params![until_ms])?;
    Ok(())
}
