//! Traffic counts of each minute.

use std::sync::Arc;

use jiff::Timestamp;

use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::Pool;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::{all_storable, natural, optional_timestamp, storable, timestamp};
use crate::traffic::{AttemptHistory, DELETED_AT_ONCE_MS, TrafficCount, TrafficKind, TrafficRange};

/// In one order, so that gateways that add at the same time do not block each other.
const ADD: &str = "
    INSERT INTO traffic (minute, kind, name, count)
    SELECT * FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[]) AS given (minute, kind, name, count)
    ORDER BY minute, kind, name
    ON CONFLICT (minute, kind, name) DO UPDATE SET count = traffic.count + EXCLUDED.count";

const SUMS: &str = "
    SELECT minute / $3 * $3 AS step, kind, name, sum(count)::int8 FROM traffic WHERE minute >= $1 AND minute < $2
    GROUP BY step, kind, name ORDER BY step, kind COLLATE \"C\", name COLLATE \"C\" LIMIT $4";

/// For each name: the latest minutes of two kinds, and the first one with a failed attempt after
/// both. Rows are compared as a whole, so that only the index of these columns has their order: the
/// planner would rather read the primary key from an end, past the counts of weeks.
const HISTORIES: &str = "
    SELECT given.name, delivered.minute, greatest(delivered.minute, rejected.minute), failed.minute
    FROM unnest($1::text[]) WITH ORDINALITY AS given (name, position)
    LEFT JOIN LATERAL (
        SELECT kind, name, minute FROM traffic WHERE (kind, name, minute) <= ('delivered', given.name, $2)
        ORDER BY kind DESC, name DESC, minute DESC LIMIT 1
    ) AS delivered ON delivered.kind = 'delivered' AND delivered.name = given.name
    LEFT JOIN LATERAL (
        SELECT kind, name, minute FROM traffic WHERE (kind, name, minute) <= ('rejected', given.name, $2)
        ORDER BY kind DESC, name DESC, minute DESC LIMIT 1
    ) AS rejected ON rejected.kind = 'rejected' AND rejected.name = given.name
    LEFT JOIN LATERAL (
        SELECT kind, name, minute FROM traffic
        WHERE (kind, name, minute) > ('retried', given.name, coalesce(greatest(delivered.minute, rejected.minute), -1))
        ORDER BY kind, name, minute LIMIT 1
    ) AS failed ON failed.kind = 'retried' AND failed.name = given.name
    ORDER BY position";

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
    pool.execute(Purpose::Claiming, ADD, given).await
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

/// The histories of attempts to these destinations, in this order.
pub(crate) async fn attempt_histories(
    pool: &Arc<Pool>,
    destinations: &[String],
) -> Result<Vec<AttemptHistory>, Failure> {
    let names = all_storable(destinations);
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let given = params![names => TEXT_ARRAY, i64::MAX => INT8];
    let rows = pool.once(Purpose::Looking, HISTORIES, given).await?;
    rows.iter()
        .map(|row| {
            Ok(AttemptHistory {
                destination: row.try_get(0)?,
                delivered: optional_timestamp(row, 1)?,
                up: optional_timestamp(row, 2)?,
                failing_since: optional_timestamp(row, 3)?,
            })
        })
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
