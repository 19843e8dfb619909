//! The open circuits of all gateways, by the clock of the server. When the back-off ends, one
//! gateway probes the destination; if it dies or takes too long, another one does.

use std::time::Duration;

use crate::fleet::SharedCircuit;
use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::{natural, signed};
use crate::postgres::shared::Shared;

/// Whether the wait is longer than its back-off: the clock of the server was set back.
const IS_OVERLONG: &str =
    "(prober IS NULL AND until_at > clock_timestamp() + back_off_ms * interval '1 ms')";

/// Whether no live gateway has the probe.
const IS_FREE: &str = "(prober IS NULL OR NOT EXISTS (SELECT FROM gateway WHERE id = prober))";

pub(crate) async fn list(shared: &Shared) -> Result<Vec<SharedCircuit>, Failure> {
    // If the prober is dead, no wait is left: the back-off had ended before the probe began.
    let sql = format!(
        "SELECT destination, back_off_ms, coalesce(prober = $1, false),
                CASE WHEN prober IS NOT NULL AND {IS_FREE} OR {IS_OVERLONG} THEN 0
                ELSE ceil(extract(epoch FROM greatest(until_at - clock_timestamp(), interval '0')) * 1000)::int8 END
         FROM circuit"
    );
    let id = shared.membership.id();
    let rows = shared
        .pool
        .once(Purpose::Claiming, sql.as_str(), params![id => INT8])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(SharedCircuit {
                destination: row.try_get(0)?,
                back_off: Duration::from_millis(natural(row, 1)?),
                is_ours_to_try: row.try_get(2)?,
                wait: Duration::from_millis(natural(row, 3)?),
            })
        })
        .collect()
}

pub(crate) async fn open(
    shared: &Shared,
    destination: &str,
    back_off: Duration,
    is_first: bool,
) -> Result<(), Failure> {
    let sql = if is_first {
        "INSERT INTO circuit (destination, until_at, back_off_ms)
         SELECT $1, clock_timestamp() + $2 * interval '1 ms', $2 WHERE $3 IS NOT NULL
         ON CONFLICT DO NOTHING"
    } else {
        "UPDATE circuit SET until_at = clock_timestamp() + $2 * interval '1 ms', back_off_ms = $2, prober = NULL
         WHERE destination = $1 AND prober = $3"
    };
    let (id, back_off_ms) = (shared.membership.id(), signed(back_off.as_millis()));
    let given = params![destination => TEXT, back_off_ms => INT8, id => INT8];
    shared.pool.execute(Purpose::Claiming, sql, given).await
}

pub(crate) async fn close(shared: &Shared, destination: &str) -> Result<(), Failure> {
    let sql = "DELETE FROM circuit WHERE destination = $1";
    let given = params![destination => TEXT];
    shared.pool.execute(Purpose::Claiming, sql, given).await
}

pub(crate) async fn attempt(
    shared: &Shared,
    destination: &str,
    time: Duration,
) -> Result<(), Failure> {
    let sql = format!(
        "UPDATE circuit SET prober = $2, until_at = clock_timestamp() + $3 * interval '1 ms'
         WHERE destination = $1
            AND (until_at <= clock_timestamp() OR prober = $2 OR prober IS NOT NULL AND {IS_FREE} OR {IS_OVERLONG})"
    );
    let (id, time_ms) = (shared.membership.id(), signed(time.as_millis()));
    let given = params![destination => TEXT, id => INT8, time_ms => INT8];
    let pool = &shared.pool;
    pool.execute(Purpose::Claiming, sql.as_str(), given).await
}
