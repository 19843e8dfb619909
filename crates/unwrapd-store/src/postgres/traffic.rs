//! Traffic counts of each minute.

use std::sync::Arc;

use jiff::Timestamp;

use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::Pool;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::{natural, storable, timestamp};
use crate::traffic::{DELETED_AT_ONCE_MS, TrafficCount, TrafficKind, TrafficRange};

/// In one order, so that gateways that add at the same time do not block each other.
const ADD: &str = "
    INSERT INTO traffic (minute, kind, name, count)
    SELECT * FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[]) AS given (minute, kind, name, count)
    ORDER BY minute, kind, name
    ON CONFLICT (minute, kind, name) DO UPDATE SET count = traffic.count + EXCLUDED.count";

const SUMS: &str = "
    SELECT minute / $3 * $3 AS step, kind, name, sum(count)::int8 FROM traffic WHERE minute >= $1 AND minute < $2
    GROUP BY step, kind, name ORDER BY step, kind COLLATE \"C\", name COLLATE \"C\" LIMIT $4";

const LAST_DELIVERIES: &str = "
    SELECT name, max(minute) FROM traffic WHERE minute >= $1 AND kind = 'delivered' GROUP BY name ORDER BY name COLLATE \"C\"";

const DELETE: &str = "
    WITH deleted AS (
        DELETE FROM traffic WHERE minute < least($1, (SELECT min(minute) FROM traffic) + $2) RETURNING 1
    ) SELECT count(*) FROM deleted";

pub(crate) async fn add(pool: &Arc<Pool>, counts: &[TrafficCount]) -> Result<(), Failure> {
    let minutes: Vec<i64> = counts
        .iter()
        .map(|counted| counted.minute.as_millisecond())
        .collect();
    let kinds: Vec<&str> = counts.iter().map(|counted| counted.kind.as_str()).collect();
    let names: Vec<_> = counts
        .iter()
        .map(|counted| storable(&counted.name))
        .collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let numbers: Vec<i64> = counts
        .iter()
        .map(|counted| i64::try_from(counted.count).unwrap_or(i64::MAX))
        .collect();
    let given = params![minutes => INT8_ARRAY, kinds => TEXT_ARRAY, names => TEXT_ARRAY, numbers => INT8_ARRAY];
    // Its time-out is short: it must not hold up a stop.
    pool.once(Purpose::Claiming, ADD, given).await.map(drop)
}

/// The first `max` sums of the steps.
pub(crate) async fn sums(
    pool: &Arc<Pool>,
    range: TrafficRange,
    max: usize,
) -> Result<Vec<TrafficCount>, Failure> {
    let (since, until) = (range.since.as_millisecond(), range.until.as_millisecond());
    let (step_ms, max) = (range.step_ms(), i64::try_from(max).unwrap_or(i64::MAX));
    let given = params![since => INT8, until => INT8, step_ms => INT8, max => INT8];
    let rows = pool.once(Purpose::Looking, SUMS, given).await?;
    rows.iter()
        .map(|row| {
            Ok(TrafficCount {
                minute: timestamp(row, 0)?,
                kind: TrafficKind::named(row.try_get(1)?),
                name: row.try_get(2)?,
                count: natural(row, 3)?,
            })
        })
        .collect()
}

/// The latest minute since `since` in which each destination got a delivery.
pub(crate) async fn last_deliveries(
    pool: &Arc<Pool>,
    since: Timestamp,
) -> Result<Vec<(String, Timestamp)>, Failure> {
    let since = since.as_millisecond();
    let given = params![since => INT8];
    let rows = pool.once(Purpose::Looking, LAST_DELIVERIES, given).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, timestamp(row, 1)?)))
        .collect()
}

/// Deletes the oldest counts from before `before`, and returns whether there may be more.
pub(crate) async fn delete(pool: &Arc<Pool>, before: Timestamp) -> Result<bool, Failure> {
    let before = before.as_millisecond();
    let given = params![before => INT8, DELETED_AT_ONCE_MS => INT8];
    let rows = pool.once(Purpose::Looking, DELETE, given).await?;
    let deleted: u64 = rows.first().map_or(Ok(0), |row| natural(row, 0))?;
    Ok(deleted > 0)
}
