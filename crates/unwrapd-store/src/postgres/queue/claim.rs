//! Claims due deliveries. Gateways claim concurrently: rows that another claim has locked are
//! skipped.
//!
//! A claim may be committed although its answer is lost. Then its deliveries would wait for the end
//! of their leases. So each claim of a lane has its own end of leases, by which it is found and
//! released.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio_postgres::Row;

use crate::postgres::connect::connection::{Work, params};
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::queue::leases::LOOK_EVERY;
use crate::postgres::rows::{natural, signed, timestamp};
use crate::postgres::shared::Shared;
use crate::put_off::{COUNT_MAX, PutOff};
use crate::queue::{ClaimRequest, Claimed, LEASE_MAX, Lease};
use unwrapd_core::clock::Clock;
use unwrapd_core::delivery::{Delivery, Lane, earlier, later};
use unwrapd_core::message::{Message, Origin};

/// The last row has no delivery, but the time at which the next one may be claimed.
const CLAIM: Work = Work::Function("claim");

const RELEASE: &str = "
    UPDATE delivery SET ready_at = due_at, claimed_attempt = claimed_attempt - 1, gateway = NULL
    FROM unnest($2::int8[], $3::int8[], $4::int8[]) AS given (id, number, ends_ms)
    WHERE delivery.id = given.id AND gateway = $1 AND claimed_attempt = given.number AND ready_at = given.ends_ms
        AND settled_attempt < given.number AND state = 'waiting'";

/// Releases deliveries of a claim whose answer was lost: none of their attempts has begun.
const GIVE_BACK: &str = "
    UPDATE delivery SET ready_at = due_at, claimed_attempt = claimed_attempt - 1, gateway = NULL
    FROM unnest($4::int8[]) AS lost (ends_ms)
    WHERE gateway = $1 AND destination = $2 AND lane = $3 AND ready_at = ends_ms AND settled_attempt < claimed_attempt AND state = 'waiting'
    RETURNING ends_ms";

const COUNT_PUT_OFF: &str = "
    SELECT count(*) FROM (
        SELECT FROM delivery WHERE destination = $1 AND lane = $2 AND state = 'waiting' AND ready_at > $3 AND gateway IS NULL LIMIT $4
    ) AS found";

/// How much later than ours the leases of other time-outs may end to be still considered.
const LEASES_NEAR: Duration = Duration::from_secs(1);

/// Distance, beside other gateways, between a claim and the floor of its lane: commits of other
/// gateways may be in progress.
const BEHIND: Duration = Duration::from_millis(250);

/// Wait for due deliveries that another claim has locked: after it they are leased, or free again.
const BEING_TAKEN: Duration = Duration::from_millis(20);

/// Claims deliveries; tries twice if the connection had ended before, which shows only when it is
/// used.
pub(crate) async fn claim(shared: &Shared, request: ClaimRequest<'_>) -> Result<Claimed, Failure> {
    match claim_once(shared, request).await {
        Err(Failure::Lost(_)) => claim_once(shared, request).await,
        claimed => claimed,
    }
}

async fn claim_once(shared: &Shared, request: ClaimRequest<'_>) -> Result<Claimed, Failure> {
    let (destination, lane, now) = (request.destination, request.lane, request.now);
    let key = (destination.to_owned(), lane);
    give_back(shared, &key, now).await?;
    let lane_name = lane.as_str();
    let ends_at = shared
        .leases
        .end_of(&key, later(now, request.terms.lease).as_millisecond());
    // Beyond the end of all leases, because the index has entries of ended leases.
    let put_off = request
        .terms
        .put_off_from(now)
        .max(later(now, request.terms.lease + LEASES_NEAR));
    let put_off_ms = put_off.as_millisecond();
    let lease_max_ms = later(now, LEASE_MAX).as_millisecond();
    let now_ms = now.as_millisecond();
    let lasting = lasting(&shared.clock, now);
    let (lasts_from_ms, lasts_to_ms) = (*lasting.start(), *lasting.end());
    let from_ms = shared.claim_floors.begin(destination, lane, now_ms);
    let limit_rows = signed(request.limit);
    let holder = shared.membership.id();
    let given = params![
        destination => TEXT, lane_name => TEXT, from_ms => INT8, now_ms => INT8, ends_at => INT8, put_off_ms => INT8,
        lease_max_ms => INT8, lasts_from_ms => INT8, lasts_to_ms => INT8, limit_rows => INT8, holder => INT8,
    ];
    let taken = shared.pool.take(Purpose::Claiming).await?;
    let rows = match taken.once(Purpose::Claiming, CLAIM, given).await {
        Err(failure) if !failure.leaves_connection() => {
            shared.leases.lose(&key, ends_at);
            return Err(failure);
        }
        claimed => claimed?,
    };
    let mut deliveries = Vec::with_capacity(rows.len());
    let mut next_due_at = None;
    let mut was_put_off = false;
    for row in &rows {
        was_put_off |= row.try_get::<_, Option<bool>>(12)?.unwrap_or_default();
        if row.try_get::<_, Option<i64>>(0)?.is_some() {
            deliveries.push(delivery(row, destination, lane, ends_at)?);
        } else if row.try_get::<_, Option<i64>>(3)?.is_some() {
            next_due_at = Some(timestamp(row, 3)?);
        }
    }
    let first_ms = next_due_at.map(Timestamp::as_millisecond);
    let behind = if shared.membership.is_alone() {
        Duration::ZERO
    } else {
        BEHIND
    };
    let seen_until = earlier(now, behind).as_millisecond();
    shared
        .claim_floors
        .end(destination, lane, seen_until, first_ms);
    if deliveries.len() < request.limit
        && let Some(next) = &mut next_due_at
        && *next <= now
    {
        // A lease may still last although it seems to have ended.
        let is_lasting = lasting.contains(&next.as_millisecond());
        *next = later(now, if is_lasting { LOOK_EVERY } else { BEING_TAKEN });
    }
    let is_put_off = |at: Timestamp| at > put_off.max(later(now, LEASE_MAX));
    if was_put_off || next_due_at.is_some_and(is_put_off) {
        if was_put_off
            && !request.terms.is_whenever_due()
            && shared.put_off.is_news(destination, lane)
        {
            log_put_off(shared, destination, lane, put_off_ms, deliveries.len()).await;
        }
        // There may be more.
        next_due_at = Some(later(now, BEING_TAKEN));
    }
    if shared.leases.has_lost(&key) {
        let look_at = later(now, LOOK_EVERY);
        next_due_at = Some(next_due_at.map_or(look_at, |next| next.min(look_at)));
    }
    Ok(Claimed {
        deliveries,
        next_due_at,
    })
}

/// Range of the ends of leases that were given before the clock of the server jumped. These leases
/// last, even if they seem to have ended, or seem longer than any lease. Without a jump, these are
/// the leases that have not ended.
fn lasting(clock: &Clock, now: Timestamp) -> RangeInclusive<i64> {
    let undisturbed = now.saturating_sub(clock.jump()).unwrap_or(now);
    undisturbed.as_millisecond() + 1..=later(undisturbed, LEASE_MAX).as_millisecond()
}

/// Logs the number of put-off deliveries, `claimed` of which are claimed already.
async fn log_put_off(
    shared: &Shared,
    destination: &str,
    lane: Lane,
    put_off_ms: i64,
    claimed: usize,
) {
    let lane_name = lane.as_str();
    let given = params![
        destination => TEXT, lane_name => TEXT, put_off_ms => INT8, COUNT_MAX => INT8,
    ];
    let counted = shared
        .pool
        .once(Purpose::Claiming, COUNT_PUT_OFF, given)
        .await
        .and_then(|rows| Ok(rows.first().map(|row| row.try_get(0)).transpose()?));
    let left: i64 = counted.ok().flatten().unwrap_or_default();
    PutOff::log(destination, lane, left.saturating_add(signed(claimed)));
}

/// Releases deliveries of lost claims.
async fn give_back(shared: &Shared, key: &(String, Lane), now: Timestamp) -> Result<(), Failure> {
    let lost = shared.leases.to_look_for(key, now.as_millisecond());
    if lost.is_empty() {
        return Ok(());
    }
    let (destination, lane) = (&key.0, key.1.as_str());
    // Leases under an earlier id of this gateway were freed when it was declared dead.
    let holder = shared.membership.id();
    let given = params![
        holder => INT8, destination => TEXT, lane => TEXT, lost => INT8_ARRAY,
    ];
    let found = shared.pool.once(Purpose::Claiming, GIVE_BACK, given).await;
    shared.claim_floors.forget(destination, key.1);
    if found.is_err() {
        shared.leases.look_at_once(key);
    }
    for row in &found? {
        shared.leases.found(key, row.try_get(0)?);
    }
    Ok(())
}

/// Releases leases. Those under an earlier id of this gateway were freed when it was declared dead.
pub(crate) async fn release(shared: &Shared, leases: Vec<Lease>) -> Result<(), Failure> {
    let ids: Vec<i64> = leases.iter().map(|lease| lease.delivery).collect();
    let numbers: Vec<i64> = leases.iter().map(|lease| lease.number.into()).collect();
    let ends_ms: Vec<i64> = leases.iter().map(|lease| lease.claim).collect();
    let holder = shared.membership.id();
    let given = params![
        holder => INT8, ids => INT8_ARRAY, numbers => INT8_ARRAY, ends_ms => INT8_ARRAY,
    ];
    let pool = &shared.pool;
    let released = pool.execute(Purpose::Claiming, RELEASE, given).await;
    shared.claim_floors.forget_all();
    released
}

/// A delivery of a claim whose leases end at `ends_ms`.
fn delivery(row: &Row, destination: &str, lane: Lane, ends_ms: i64) -> Result<Delivery, Failure> {
    Ok(Delivery {
        id: row.try_get(0)?,
        destination: destination.to_owned(),
        lane,
        attempt: natural(row, 1)?,
        claim: ends_ms,
        uncounted_attempts: natural(row, 2)?,
        since: timestamp(row, 3)?,
        message: Message {
            origin: Origin::of_column(row.try_get(10)?),
            endpoint: row.try_get(4)?,
            webhook_id: row.try_get(5)?,
            event_type: row.try_get(6)?,
            sent_at: timestamp(row, 7)?,
            received_at: timestamp(row, 8)?,
            secret: row
                .try_get::<_, Option<i64>>(9)?
                .and_then(|secret| u32::try_from(secret).ok()),
            payload: Bytes::copy_from_slice(row.try_get(11)?),
        },
    })
}
