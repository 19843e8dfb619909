//! Traffic counts of each minute.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::sqlite::statements::{optional_timestamp, timestamp};
use crate::traffic::{AttemptHistory, DELETED_AT_ONCE_MS, TrafficCount, TrafficKind, TrafficRange};

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

/// Latest minute with a count of this kind and name.
const LATEST: &str = "SELECT max(minute) FROM traffic WHERE kind = ? AND name = ?";

/// First minute with a failed attempt at this destination after another minute. NULL: any.
const FIRST_FAILED: &str = "SELECT min(minute) FROM traffic WHERE kind = 'retried' AND name = ?1 AND minute > ifnull(?2, -1)";

/// The histories of attempts to these destinations, in this order.
pub(crate) fn attempt_histories(
    connection: &Connection,
    destinations: Vec<String>,
) -> rusqlite::Result<Vec<AttemptHistory>> {
    let mut latest = connection.prepare_cached(LATEST)?;
    let mut latest = |kind: TrafficKind, name: &str| {
        latest.query_row(params![kind.as_str(), name], |row| {
            optional_timestamp(row, 0)
        })
    };
    let mut first_failed = connection.prepare_cached(FIRST_FAILED)?;
    destinations
        .into_iter()
        .map(|destination| {
            let delivered = latest(TrafficKind::Delivered, &destination)?;
            let up = delivered.max(latest(TrafficKind::Rejected, &destination)?);
            let given = params![destination, up.map(Timestamp::as_millisecond)];
            Ok(AttemptHistory {
                failing_since: first_failed.query_row(given, |row| optional_timestamp(row, 0))?,
                destination,
                delivered,
                up,
            })
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::operate::scan::tests::plan;

    /// Else a page would read the counts of weeks.
    #[test]
    fn the_history_of_a_destination_is_found_by_an_index() {
        for sql in [LATEST, FIRST_FAILED] {
            let plan = plan(sql);
            let [step] = &plan[..] else {
                panic!("{plan:?}");
            };
            let index = "SEARCH traffic USING COVERING INDEX traffic_latest (kind=? AND name=?";
            assert!(step.starts_with(index), "{step}");
        }
    }
}
