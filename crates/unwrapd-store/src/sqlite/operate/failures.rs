//! Failed deliveries of a destination, newest first.

use rusqlite::{Connection, Params, params};

use crate::failures::{FailedDeliveries, FailedDelivery, LOOKED_AT_MAX};
use crate::filter::Status;
use crate::sqlite::statements::timestamp;
use unwrapd_core::delivery::Lane;

/// The latest dead letters, by the index. Dropped ones are among them.
const DEAD: &str = "
    SELECT id, dropped_at IS NULL FROM delivery WHERE state = 'dead' AND destination = ?1 ORDER BY due_at DESC LIMIT ?2";

/// The waiting deliveries that are due last: those that failed, because of their back-off.
const WAITING: &str = "
    SELECT id, settled_attempt > uncounted_attempts FROM delivery
    WHERE state = 'waiting' AND destination = ?1 AND lane = ?2 ORDER BY due_at DESC LIMIT ?3";

const LATEST: &str = "
    SELECT ended_at, summary, webhook_id FROM delivery
    JOIN attempt ON attempt.delivery = delivery.id AND number = settled_attempt JOIN message ON seq = message
    WHERE delivery.id = ?";

pub(crate) fn failed(
    connection: &Connection,
    destination: &str,
) -> rusqlite::Result<FailedDeliveries> {
    let mut failed = FailedDeliveries::default();
    let given = params![destination, LOOKED_AT_MAX];
    add(connection, &mut failed, Status::Dead, DEAD, given)?;
    for lane in Lane::ALL {
        let given = params![destination, lane.as_str(), LOOKED_AT_MAX];
        add(connection, &mut failed, Status::Waiting, WAITING, given)?;
    }
    Ok(failed)
}

/// Adds the deliveries of this statement that failed.
fn add(
    connection: &Connection,
    failed: &mut FailedDeliveries,
    status: Status,
    sql: &str,
    given: impl Params,
) -> rusqlite::Result<()> {
    let mut latest = connection.prepare_cached(LATEST)?;
    let mut looked_at = 0;
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(given)?;
    while let Some(row) = rows.next()? {
        looked_at += 1;
        if !row.get::<_, bool>(1)? {
            continue;
        }
        let mut found = latest.query(params![row.get::<_, i64>(0)?])?;
        if let Some(row) = found.next()? {
            failed.found.push(FailedDelivery {
                status,
                ended_at: timestamp(row, 0)?,
                answer: row.get(1)?,
                webhook_id: row.get(2)?,
            });
        }
    }
    failed.is_cut |= looked_at >= LOOKED_AT_MAX;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::operate::scan::tests::plan;

    /// Else a page of the dashboard would sort millions of deliveries.
    #[test]
    fn failures_are_found_in_the_order_of_an_index() {
        for (sql, index) in [
            (
                DEAD,
                "SEARCH delivery USING COVERING INDEX delivery_dead (destination=?)",
            ),
            (
                WAITING,
                "SEARCH delivery USING INDEX delivery_due (destination=? AND lane=?)",
            ),
        ] {
            assert_eq!(plan(sql), [index]);
        }
        assert!(plan(LATEST).iter().all(|step| step.starts_with("SEARCH")));
    }
}
