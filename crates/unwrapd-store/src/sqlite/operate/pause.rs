//! Counts for each destination, and pauses.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::destination_control::{
    CountRow, DestinationCounts, LaneCounts, OLDEST_OF, by_destination,
};
use crate::sqlite::statements::{optional_timestamp, timestamp};
use unwrapd_core::delivery::Lane;

/// Each count reads one partial index. A row without a lane counts dead letters.
const COUNTS: &str = "
    SELECT destination, lane, count(*) FROM delivery WHERE state = 'waiting' GROUP BY destination, lane
    UNION ALL
    SELECT destination, NULL, count(*) FROM delivery WHERE state = 'dead' AND dropped_at IS NULL GROUP BY destination";

/// The first stored deliveries of a lane are found in the index; only their rows are read.
const OLDEST: &str = "
    SELECT min(since) FROM delivery WHERE id IN (
        SELECT id FROM delivery WHERE state = 'waiting' AND destination = ? AND lane = ? ORDER BY +id LIMIT ?
    )";

pub(crate) fn destination_counts(
    connection: &Connection,
) -> rusqlite::Result<Vec<DestinationCounts>> {
    let mut counts = connection.prepare_cached(COUNTS)?;
    let mut oldest = connection.prepare_cached(OLDEST)?;
    let rows = counts.query_map((), |row| {
        let destination: String = row.get(0)?;
        let lane = row.get_ref(1)?.as_str_or_null()?.and_then(Lane::named);
        let count = row.get(2)?;
        let Some(lane) = lane else {
            return Ok((destination, CountRow::Dead(count)));
        };
        let oldest_since = oldest
            .query_row(params![destination, lane.as_str(), OLDEST_OF], |row| {
                optional_timestamp(row, 0)
            })?;
        let counts = LaneCounts {
            waiting: count,
            oldest_since,
        };
        Ok((destination, CountRow::Waiting(lane, counts)))
    })?;
    let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(by_destination(rows))
}

pub(crate) fn pause(
    connection: &Connection,
    destination: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO paused (destination, paused_at) VALUES (?, ?)")?
        .execute(params![destination, now.as_millisecond()])?;
    Ok(())
}

pub(crate) fn resume(connection: &Connection, destination: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM paused WHERE destination = ?")?
        .execute(params![destination])?;
    Ok(())
}

pub(crate) fn paused(connection: &Connection) -> rusqlite::Result<Vec<(String, Timestamp)>> {
    connection
        .prepare_cached("SELECT destination, paused_at FROM paused ORDER BY destination")?
        .query_map((), |row| Ok((row.get(0)?, timestamp(row, 1)?)))?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::operate::scan::tests::plan;

    /// Else each count would read the rows of millions of deliveries.
    #[test]
    fn counts_read_indexes_only() {
        let steps = |statement: &str| -> Vec<String> {
            let of_deliveries = |step: &String| {
                step.starts_with("SCAN delivery") || step.starts_with("SEARCH delivery")
            };
            plan(statement).into_iter().filter(of_deliveries).collect()
        };
        let is_covered = |step: &String| step.contains("COVERING INDEX");
        let counts = steps(COUNTS);
        assert!(
            counts.len() == 2 && counts.iter().all(is_covered),
            "{counts:?}"
        );
        // The rows of the chosen deliveries, and the index that they are chosen from.
        let oldest = steps(OLDEST);
        assert!(
            oldest.len() == 2 && oldest[0].contains("PRIMARY KEY") && is_covered(&oldest[1]),
            "{oldest:?}"
        );
    }
}
