//! Taking what is due. Gateways take side by side: what another is taking at the moment is passed over, not waited for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio_postgres::Row;

use super::Shared;
use super::failure::Failure;
use super::link::{Work, given};
use super::pool::{For, Pool};
use super::rows::{natural, signed, timestamp};
use crate::delivery::{Delivery, Lane, later};
use crate::message::Message;
use crate::store::Claimed;

/// In the last row there is no delivery, but the time when the next one may be claimed.
const CLAIM: Work = Work::Function("claim");

const RELEASE: &str = "
    UPDATE delivery SET ready_at = due_at, claimed = claimed - 1, holder = NULL
    FROM unnest($1::int8[], $2::int8[]) AS given (id, number)
    WHERE delivery.id = given.id AND claimed = given.number AND attempt < given.number AND state = 'waiting'";

/// How long to wait with what is due and being taken by another: by then it is leased, or free again.
const BEING_TAKEN: Duration = Duration::from_millis(20);

pub(super) async fn claim(
    shared: &Shared,
    destination: &str,
    lane: Lane,
    now: Timestamp,
    lease: Duration,
    limit: usize,
) -> Result<Claimed, Failure> {
    let lane_name = lane.as_str();
    let ends_at = later(now, lease).as_millisecond();
    let now_ms = now.as_millisecond();
    let limit_rows = signed(limit);
    let holder = shared.holders.id();
    let given = given![
        destination => TEXT, lane_name => TEXT, now_ms => INT8, ends_at => INT8, limit_rows => INT8, holder => INT8,
    ];
    let rows = shared.pool.once(For::Claiming, CLAIM, given).await?;
    let mut deliveries = Vec::with_capacity(rows.len());
    let mut next_due_at = None;
    for row in &rows {
        if row.try_get::<_, Option<i64>>(0)?.is_some() {
            deliveries.push(delivery(row, destination, lane)?);
        } else if row.try_get::<_, Option<i64>>(3)?.is_some() {
            next_due_at = Some(timestamp(row, 3)?);
        }
    }
    if deliveries.len() < limit
        && let Some(next) = &mut next_due_at
        && *next <= now
    {
        *next = later(now, BEING_TAKEN);
    }
    Ok(Claimed {
        deliveries,
        next_due_at,
    })
}

/// Gives leases back.
pub(super) async fn release(pool: &Arc<Pool>, leases: Vec<(i64, u32)>) -> Result<(), Failure> {
    let (ids, numbers): (Vec<i64>, Vec<i64>) = leases
        .into_iter()
        .map(|(id, number)| (id, i64::from(number)))
        .unzip();
    let given = given![ids => INT8_ARRAY, numbers => INT8_ARRAY];
    pool.once(For::Claiming, RELEASE, given).await.map(drop)
}

fn delivery(row: &Row, destination: &str, lane: Lane) -> Result<Delivery, Failure> {
    Ok(Delivery {
        id: row.try_get(0)?,
        destination: destination.to_owned(),
        lane,
        attempt: natural(row, 1)?,
        earlier: natural(row, 2)?,
        since: timestamp(row, 3)?,
        message: Message {
            endpoint: row.try_get(4)?,
            webhook_id: row.try_get(5)?,
            event_type: row.try_get(6)?,
            sent_at: timestamp(row, 7)?,
            received_at: timestamp(row, 8)?,
            secret: row
                .try_get::<_, Option<i64>>(9)?
                .and_then(|secret| u32::try_from(secret).ok()),
            payload: Bytes::copy_from_slice(row.try_get(10)?),
        },
    })
}
