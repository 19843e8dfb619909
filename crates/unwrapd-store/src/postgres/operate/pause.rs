//! Counts for each destination, pauses, and checks of the store.

use std::sync::Arc;

use jiff::Timestamp;

use crate::destination_control::DestinationCounts;
use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::Pool;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::{natural, timestamp};

/// Each count walks an index that holds little else.
const STANDINGS: &str = "
    SELECT destination, sum(waiting)::int8, sum(dead)::int8 FROM (
        SELECT destination, count(*) AS waiting, 0 AS dead FROM delivery WHERE state = 'waiting' GROUP BY destination
        UNION ALL
        SELECT destination, 0, count(*) FROM delivery WHERE state = 'dead' AND dropped_at IS NULL GROUP BY destination
    ) AS counted GROUP BY destination ORDER BY destination";

pub(crate) async fn destination_counts(
    pool: &Arc<Pool>,
) -> Result<Vec<DestinationCounts>, Failure> {
    let rows = pool.once(Purpose::Looking, STANDINGS, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(DestinationCounts {
                destination: row.try_get(0)?,
                waiting: natural(row, 1)?,
                dead: natural(row, 2)?,
            })
        })
        .collect()
}

/// How many messages there are, up to so many.
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
    pool.once(Purpose::Claiming, sql, given).await.map(drop)
}

pub(crate) async fn resume(pool: &Arc<Pool>, destination: &str) -> Result<(), Failure> {
    let sql = "DELETE FROM paused WHERE destination = $1";
    let given = params![destination => TEXT];
    pool.once(Purpose::Claiming, sql, given).await.map(drop)
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
    pool.once(
        Purpose::Claiming,
        "SELECT check_writable($1)",
        params![now => INT8],
    )
    .await
    .map(drop)
}
