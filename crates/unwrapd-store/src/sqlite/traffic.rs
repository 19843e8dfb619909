//! Traffic counts of each minute.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::sqlite::statements::timestamp;
use crate::traffic::{DELETED_AT_ONCE_MS, TrafficCount, TrafficKind, TrafficRange};

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

/// The first `max` sums of the steps.
pub(crate) fn sums(
    connection: &Connection,
    range: TrafficRange,
    max: usize,
) -> rusqlite::Result<Vec<TrafficCount>> {
    let given = params![
        range.since.as_millisecond(),
        range.until.as_millisecond(),
        range.step_ms(),
        i64::try_from(max).unwrap_or(i64::MAX),
    ];
    connection
        .prepare_cached(
            "SELECT minute / ?3 * ?3, kind, name, sum(count) FROM traffic WHERE minute >= ?1 AND minute < ?2
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT ?4",
        )?
        .query_map(given, |row| {
            Ok(TrafficCount {
                minute: timestamp(row, 0)?,
                kind: TrafficKind::named(row.get_ref(1)?.as_str()?),
                name: row.get(2)?,
                count: row.get(3)?,
            })
        })?
        .collect()
}

/// The latest minute since `since` in which each destination got a delivery.
pub(crate) fn last_deliveries(
    connection: &Connection,
    since: Timestamp,
) -> rusqlite::Result<Vec<(String, Timestamp)>> {
    connection
        .prepare_cached(
            "SELECT name, max(minute) FROM traffic WHERE minute >= ? AND kind = 'delivered' GROUP BY name ORDER BY name",
        )?
        .query_map(params![since.as_millisecond()], |row| {
            Ok((row.get(0)?, timestamp(row, 1)?))
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
