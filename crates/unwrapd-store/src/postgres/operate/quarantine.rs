//! The quarantine in SQL.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use tokio_postgres::Row;

use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::Pool;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::{natural, signed, storable, timestamp};
use crate::quarantine::{QUARANTINED_MAX, Quarantined, QuarantinedRequest, QuarantinedSummary};

const ADD: &str = "SELECT quarantine_request($1, $2, $3, $4, $5, $6, $7)";

const LIST: &str = "
    SELECT id, endpoint, received_at, reason, headers, size, body FROM quarantine WHERE id > $1 ORDER BY id LIMIT $2";

const SUMMARIES: &str = "
    SELECT id, endpoint, received_at, reason, headers, size, body IS NOT NULL FROM quarantine WHERE id < $1 ORDER BY id DESC LIMIT $2";

const COUNT: &str = "SELECT count(*) FROM (SELECT FROM quarantine LIMIT $1) AS counted";

const DISCARD: &str = "
    WITH gone AS (DELETE FROM quarantine WHERE id BETWEEN $1 AND $2 RETURNING id) SELECT count(*) FROM gone";

/// Returns how many went for it.
pub(crate) async fn add(
    pool: &Arc<Pool>,
    quarantined: &QuarantinedRequest,
) -> Result<u64, Failure> {
    let endpoint = storable(&quarantined.endpoint);
    let reason = storable(&quarantined.reason);
    let headers = serde_json::to_string(&quarantined.headers).expect("texts make JSON");
    let received_at = quarantined.received_at.as_millisecond();
    let size = quarantined.size.map(signed);
    let body = quarantined.body.as_deref();
    let given = params![
        endpoint => TEXT, received_at => INT8, reason => TEXT, headers => TEXT, size => INT8, body => BYTEA,
        QUARANTINED_MAX => INT8,
    ];
    // The database writes one after the other, those of all gateways. Claims must find connections
    // that do not wait for that.
    let _one_at_a_time = pool.quarantine_lock().lock().await;
    // Not repeated if the connection has ended, because the request could be stored twice.
    let taken = pool.take(Purpose::Claiming).await?;
    let rows = taken.once(Purpose::Claiming, ADD, given).await?;
    rows.first().map_or(Ok(0), |row| natural(row, 0))
}

pub(crate) async fn list(
    pool: &Arc<Pool>,
    after: i64,
    limit: usize,
) -> Result<Vec<QuarantinedRequest>, Failure> {
    let rows = select(pool, LIST, after, limit).await?;
    let with_body = rows.iter().map(|row| {
        let body: Option<Vec<u8>> = row.try_get(6)?;
        quarantined(row, body.map(Bytes::from))
    });
    with_body.collect()
}

/// The newest first.
pub(crate) async fn summaries(
    pool: &Arc<Pool>,
    after: Option<i64>,
    limit: usize,
) -> Result<Vec<QuarantinedSummary>, Failure> {
    let after = after.unwrap_or(i64::MAX);
    let rows = select(pool, SUMMARIES, after, limit).await?;
    rows.iter()
        .map(|row| quarantined(row, row.try_get(6)?))
        .collect()
}

/// The number of requests, or `max` if there are more.
pub(crate) async fn count(pool: &Arc<Pool>, max: u64) -> Result<u64, Failure> {
    let max = signed(max);
    let rows = pool
        .once(Purpose::Looking, COUNT, params![max => INT8])
        .await?;
    rows.first().map_or(Ok(0), |row| natural(row, 0))
}

async fn select(
    pool: &Arc<Pool>,
    sql: &str,
    after: i64,
    limit: usize,
) -> Result<Vec<Row>, Failure> {
    let limit = signed(limit);
    let given = params![after => INT8, limit => INT8];
    pool.once(Purpose::Looking, sql, given).await
}

pub(crate) async fn delete_quarantined(
    pool: &Arc<Pool>,
    quarantined_requests: &RangeInclusive<i64>,
) -> Result<u64, Failure> {
    let (first, last) = (*quarantined_requests.start(), *quarantined_requests.end());
    let given = params![first => INT8, last => INT8];
    let rows = pool.once(Purpose::Looking, DISCARD, given).await?;
    rows.first().map_or(Ok(0), |row| natural(row, 0))
}

fn quarantined<B>(row: &Row, body: B) -> Result<Quarantined<B>, Failure> {
    Ok(Quarantined {
        id: row.try_get(0)?,
        endpoint: row.try_get(1)?,
        received_at: timestamp(row, 2)?,
        reason: row.try_get(3)?,
        headers: headers(row)?,
        size: size(row)?,
        body,
    })
}

fn headers(row: &Row) -> Result<Vec<(String, String)>, Failure> {
    let headers: String = row.try_get(4)?;
    serde_json::from_str(&headers)
        .map_err(|_| Failure::unavailable("the headers of a quarantined request are not JSON"))
}

fn size(row: &Row) -> Result<Option<u64>, Failure> {
    let size: Option<i64> = row.try_get(5)?;
    Ok(size.and_then(|size| u64::try_from(size).ok()))
}
