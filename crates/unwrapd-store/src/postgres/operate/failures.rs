//! Failed deliveries of a destination, newest first.

use std::sync::Arc;

use crate::failures::{FAILED_MAX, FailedDeliveries, FailedDelivery, LOOKED_AT_MAX};
use crate::filter::Status;
use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::Pool;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::{signed, storable, timestamp};

/// The latest dead letters, and the waiting deliveries of each lane that are due last, which are
/// those that failed, because of their back-off. Each part has its order from an index, and each
/// attempt is found by its key: the planner cannot know how few there are. The first column says
/// whether a part was cut, also if nothing failed.
const FAILED: &str = "
    WITH looked_at AS MATERIALIZED (
        (SELECT 'dead' AS part, id, settled_attempt, dropped_at IS NULL AS has_failed
         FROM delivery WHERE state = 'dead' AND destination = $1 ORDER BY due_at DESC LIMIT $2)
        UNION ALL
        (SELECT 'call', id, settled_attempt, settled_attempt > uncounted_attempts
         FROM delivery WHERE state = 'waiting' AND destination = $1 AND lane = 'call' ORDER BY ready_at DESC LIMIT $2)
        UNION ALL
        (SELECT 'standard', id, settled_attempt, settled_attempt > uncounted_attempts
         FROM delivery WHERE state = 'waiting' AND destination = $1 AND lane = 'standard' ORDER BY ready_at DESC LIMIT $2)
    ), failed AS (
        SELECT part, id, ended_at, summary FROM looked_at CROSS JOIN LATERAL (
            SELECT ended_at, summary FROM attempt WHERE delivery = looked_at.id AND number = looked_at.settled_attempt LIMIT 1
        ) AS latest WHERE has_failed ORDER BY ended_at DESC LIMIT $3
    ), counted AS (
        SELECT count(*) AS rows FROM looked_at GROUP BY part
    )
    SELECT coalesce((SELECT max(rows) FROM counted) >= $2, false), part, ended_at, summary,
        (SELECT webhook_id FROM message WHERE seq = failed.id >> 8)
    FROM (SELECT) AS once LEFT JOIN failed ON true";

pub(crate) async fn failed(
    pool: &Arc<Pool>,
    destination: &str,
) -> Result<FailedDeliveries, Failure> {
    // One more, which says that there are more.
    let max = signed(FAILED_MAX + 1);
    let destination = storable(destination);
    let given = params![destination => TEXT, LOOKED_AT_MAX => INT8, max => INT8];
    let rows = pool.once(Purpose::Looking, FAILED, given).await?;
    let mut failed = FailedDeliveries::default();
    for row in &rows {
        failed.is_cut |= row.try_get::<_, bool>(0)?;
        let part: Option<&str> = row.try_get(1)?;
        let webhook_id: Option<String> = row.try_get(4)?;
        let (Some(part), Some(webhook_id)) = (part, webhook_id) else {
            continue;
        };
        failed.found.push(FailedDelivery {
            status: if part == "dead" {
                Status::Dead
            } else {
                Status::Waiting
            },
            answer: row.try_get(3)?,
            ended_at: timestamp(row, 2)?,
            webhook_id,
        });
    }
    Ok(failed)
}
