//! Counts for each destination, pauses, and checks of the store.

use std::sync::Arc;

use jiff::Timestamp;

use crate::destination_control::{
    CountRow, DestinationCounts, LaneCounts, OLDEST_OF, by_destination,
};
use crate::maintenance::StoreUsage;
use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::Pool;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::{natural, optional_timestamp, timestamp};
use unwrapd_core::delivery::Lane;

/// Each count walks an index that holds little else. A row without a lane counts dead letters. The
/// first stored deliveries of a lane are found in the index: by `id` alone, the server would walk
/// the primary key, past all settled deliveries.
const COUNTS: &str = "
    SELECT destination, lane, waiting, (
        SELECT min(since) FROM delivery WHERE id IN (
            SELECT id FROM delivery WHERE state = 'waiting' AND destination = counted.destination AND lane = counted.lane
            ORDER BY id + 0 LIMIT $1
        )
    ) FROM (
        SELECT destination, lane, count(*) AS waiting FROM delivery WHERE state = 'waiting' GROUP BY destination, lane
    ) AS counted
    UNION ALL
    SELECT destination, NULL, count(*), NULL FROM delivery WHERE state = 'dead' AND dropped_at IS NULL GROUP BY destination";

pub(crate) async fn destination_counts(
    pool: &Arc<Pool>,
) -> Result<Vec<DestinationCounts>, Failure> {
    let given = params![OLDEST_OF => INT8];
    let rows = pool.once(Purpose::Looking, COUNTS, given).await?;
    let rows = rows.iter().map(|row| {
        let destination: String = row.try_get(0)?;
        let lane: Option<&str> = row.try_get(1)?;
        let count = natural(row, 2)?;
        let Some(lane) = lane.and_then(Lane::named) else {
            return Ok((destination, CountRow::Dead(count)));
        };
        let counts = LaneCounts {
            waiting: count,
            // A delivery may have been settled meanwhile.
            oldest_since: optional_timestamp(row, 3)?,
        };
        Ok((destination, CountRow::Waiting(lane, counts)))
    });
    Ok(by_destination(rows.collect::<Result<Vec<_>, Failure>>()?))
}

/// The size of the database, and the number of requests in the quarantine.
pub(crate) async fn usage(pool: &Arc<Pool>) -> Result<StoreUsage, Failure> {
    let sql = "SELECT pg_database_size(current_database()), count(*) FROM quarantine";
    let rows = pool.once(Purpose::Looking, sql, &[]).await?;
    let row = rows
        .first()
        .ok_or_else(|| Failure::unavailable("the database did not return its size"))?;
    Ok(StoreUsage {
        bytes: natural(row, 0)?,
        log_bytes: None,
        quarantined: natural(row, 1)?,
    })
}

/// The number of messages, up to a limit.
pub(crate) async fn count(pool: &Arc<Pool>, messages_max: u64) -> Result<u64, Failure> {
    let sql = "SELECT count(*) FROM (SELECT FROM message LIMIT $1) AS counted";
    let limit = i64::try_from(messages_max).unwrap_or(i64::MAX);
    let rows = pool
        .once(Purpose::Looking, sql, params![limit => INT8])
        .await?;
    rows.first().map_or(Ok(0), |row| natural(row, 0))
}

pub(crate) async fn pause(
    pool: &Arc<Pool>,
    destination: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let sql = "INSERT INTO paused (destination, paused_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let now = now.as_millisecond();
    let given = params![destination => TEXT, now => INT8];
    pool.execute(Purpose::Claiming, sql, given).await
}

pub(crate) async fn resume(pool: &Arc<Pool>, destination: &str) -> Result<(), Failure> {
    let sql = "DELETE FROM paused WHERE destination = $1";
    let given = params![destination => TEXT];
    pool.execute(Purpose::Claiming, sql, given).await
}

pub(crate) async fn paused(pool: &Arc<Pool>) -> Result<Vec<(String, Timestamp)>, Failure> {
    let sql = "SELECT destination, paused_at FROM paused ORDER BY destination";
    let rows = pool.once(Purpose::Claiming, sql, &[]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, timestamp(row, 1)?)))
        .collect()
}

/// Writes durably, to where messages are written, and leaves none.
pub(crate) async fn ready(pool: &Arc<Pool>, now: Timestamp) -> Result<(), Failure> {
    let now = now.as_millisecond();
    let sql = "SELECT check_writable($1)";
    let given = params![now => INT8];
    pool.execute(Purpose::Claiming, sql, given).await
}
