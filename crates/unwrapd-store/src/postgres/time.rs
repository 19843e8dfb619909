//! The stored trusted time, by the clock of the database, with which the next gateway compares that
//! clock.

use jiff::Timestamp;

use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::timestamp;
use crate::postgres::shared::Shared;

const REMEMBER: &str = "
    INSERT INTO trusted_time (at) VALUES ($1) ON CONFLICT (is_only) DO UPDATE SET at = EXCLUDED.at";

/// The last time that a gateway trusted. A copied store has none; then the newest arrival among the
/// last messages counts.
const REMEMBERED: &str = "
    SELECT coalesce(
        (SELECT at FROM trusted_time),
        (SELECT max(received_at) FROM (SELECT received_at FROM message ORDER BY seq DESC LIMIT 1000) AS last))";

pub(crate) async fn remember(shared: &Shared, trusted: Timestamp) -> Result<(), Failure> {
    let trusted_ms = trusted.as_millisecond();
    let given = params![trusted_ms => INT8];
    shared.pool.execute(Purpose::Looking, REMEMBER, given).await
}

/// Reads it. `None`: the store is new.
pub(crate) async fn remembered(shared: &Shared) -> Result<Option<Timestamp>, Failure> {
    let rows = shared.pool.once(Purpose::Looking, REMEMBERED, &[]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    if row.try_get::<_, Option<i64>>(0)?.is_none() {
        return Ok(None);
    }
    timestamp(row, 0).map(Some)
}
