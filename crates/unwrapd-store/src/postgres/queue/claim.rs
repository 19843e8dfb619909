//! Claims due deliveries. Gateways claim concurrently: rows that another claim has locked are
//! skipped.
//!
//! A claim may be committed although its answer is lost. Then its deliveries would wait for the end
//! of their leases. So each claim of a lane has its own end of leases, by which it is found and
//! released.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_postgres::Row;

use crate::mutex::lock;
use crate::postgres::Shared;
use crate::postgres::connect::connection::{Work, params};
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::Purpose;
use crate::postgres::rows::{natural, signed, timestamp};
use crate::put_off::{COUNT_MAX, PutOff};
use crate::{Claimed, LEASE_MAX, Lease, Terms};
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

/// If the wanted end is at most this long before the previous one, the end follows the previous
/// one. A larger difference means that the clock was set. A hand-off may wait so long for its
/// commit.
const CLOSE_MS: i64 = 30_000;

/// Interval between searches for a lost claim, whose commit may still be running and wait for a
/// stand-by.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Distance, beside other gateways, between a claim and the floor of its lane: commits of other
/// gateways may be in progress.
const BEHIND: Duration = Duration::from_millis(250);

/// Wait for due deliveries that another claim has locked: after it they are leased, or free again.
const BEING_TAKEN: Duration = Duration::from_millis(20);

/// Ends of leases, which identify claims.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<BTreeMap<(String, Lane), Ends>>);

#[derive(Debug, Default)]
struct Ends {
    last_ms: i64,
    /// Claims whose answer was lost, until they are found or their leases have ended.
    lost: Vec<Lost>,
}

#[derive(Debug)]
struct Lost {
    ends_ms: i64,
    look_at: Instant,
}

impl Leases {
    /// An end that no recent claim of this lane has: the wanted one, or one shortly after it.
    pub(crate) fn end_of(&self, lane: &(String, Lane), wanted_ms: i64) -> i64 {
        let mut ends = lock(&self.0);
        let ends = ends.entry(lane.clone()).or_default();
        let is_close = (ends.last_ms - CLOSE_MS..=ends.last_ms).contains(&wanted_ms);
        let mut ends_ms = if is_close {
            ends.last_ms + 1
        } else {
            wanted_ms
        };
        while ends.lost.iter().any(|lost| lost.ends_ms == ends_ms) {
            ends_ms += 1;
        }
        ends.last_ms = ends_ms;
        ends_ms
    }

    pub(crate) fn lose(&self, lane: &(String, Lane), ends_ms: i64) {
        let mut ends = lock(&self.0);
        let look_at = Instant::now();
        ends.entry(lane.clone())
            .or_default()
            .lost
            .push(Lost { ends_ms, look_at });
    }

    /// The lost claims to search for. When a lease has ended, its deliveries are due again anyway.
    fn to_look_for(&self, lane: &(String, Lane), now_ms: i64) -> Vec<i64> {
        let mut ends = lock(&self.0);
        let Some(ends) = ends.get_mut(lane) else {
            return Vec::new();
        };
        ends.lost.retain(|lost| lost.ends_ms > now_ms);
        let now = Instant::now();
        let due = ends.lost.iter_mut().filter(|lost| lost.look_at <= now);
        due.map(|lost| {
            lost.look_at = now + LOOK_EVERY;
            lost.ends_ms
        })
        .collect()
    }

    /// Makes the lost claims due for a search at once.
    fn look_at_once(&self, lane: &(String, Lane)) {
        if let Some(ends) = lock(&self.0).get_mut(lane) {
            for lost in &mut ends.lost {
                lost.look_at = Instant::now();
            }
        }
    }

    fn found(&self, lane: &(String, Lane), ends_ms: i64) {
        if let Some(ends) = lock(&self.0).get_mut(lane) {
            ends.lost.retain(|lost| lost.ends_ms != ends_ms);
        }
    }

    fn has_lost(&self, lane: &(String, Lane)) -> bool {
        let ends = lock(&self.0);
        ends.get(lane).is_some_and(|ends| !ends.lost.is_empty())
    }
}

/// Claims deliveries; tries twice if the connection had ended before, which shows only when it is
/// used.
pub(crate) async fn claim(
    shared: &Shared,
    destination: &str,
    lane: Lane,
    now: Timestamp,
    terms: Terms,
    limit: usize,
) -> Result<Claimed, Failure> {
    match claim_once(shared, destination, lane, now, terms, limit).await {
        Err(Failure::Lost(_)) => claim_once(shared, destination, lane, now, terms, limit).await,
        claimed => claimed,
    }
}

async fn claim_once(
    shared: &Shared,
    destination: &str,
    lane: Lane,
    now: Timestamp,
    terms: Terms,
    limit: usize,
) -> Result<Claimed, Failure> {
    let key = (destination.to_owned(), lane);
    give_back(shared, &key, now).await?;
    let lane_name = lane.as_str();
    let ends_at = shared
        .leases
        .end_of(&key, later(now, terms.lease).as_millisecond());
    // Beyond the end of all leases, because the index has entries of ended leases.
    let put_off = terms
        .put_off_from(now)
        .max(later(now, terms.lease + LEASES_NEAR));
    let put_off_ms = put_off.as_millisecond();
    let lease_max_ms = later(now, LEASE_MAX).as_millisecond();
    let now_ms = now.as_millisecond();
    let lasting = lasting(&shared.clock, now);
    let (lasts_from_ms, lasts_to_ms) = (*lasting.start(), *lasting.end());
    let from_ms = shared.claim_floors.begin(destination, lane, now_ms);
    let limit_rows = signed(limit);
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
    if deliveries.len() < limit
        && let Some(next) = &mut next_due_at
        && *next <= now
    {
        // A lease may still last although it seems to have ended.
        let is_lasting = lasting.contains(&next.as_millisecond());
        *next = later(now, if is_lasting { LOOK_EVERY } else { BEING_TAKEN });
    }
    let is_put_off = |at: Timestamp| at > put_off.max(later(now, LEASE_MAX));
    if was_put_off || next_due_at.is_some_and(is_put_off) {
        if was_put_off && !terms.is_whenever_due() && shared.put_off.is_news(destination, lane) {
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
    let released = shared.pool.once(Purpose::Claiming, RELEASE, given).await;
    shared.claim_floors.forget_all();
    released.map(drop)
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

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn app() -> (String, Lane) {
        ("app".to_owned(), Lane::Standard)
    }

    #[test]
    fn no_two_claims_of_a_lane_end_at_once_though_some_were_to_end_before() {
        let leases = Leases::default();
        let ends = [1_000, 1_000, 900, 5_000, 1_000].map(|wanted| leases.end_of(&app(), wanted));
        assert_eq!(ends, [1_000, 1_001, 1_002, 5_000, 5_001]);
        let call = ("app".to_owned(), Lane::Call);
        assert_eq!(leases.end_of(&call, 1_000), 1_000);
    }

    #[test]
    fn the_end_of_a_lost_claim_is_not_that_of_another() {
        let leases = Leases::default();
        leases.lose(&app(), 1_000);
        leases.lose(&app(), 1_001);
        assert_eq!(leases.end_of(&app(), 1_000), 1_002);
    }

    /// A lost claim is searched for again, since its commit may come late.
    #[tokio::test(start_paused = true)]
    async fn what_is_lost_is_looked_for_once_a_second_until_it_is_found_or_has_passed() {
        let leases = Leases::default();
        leases.lose(&app(), 60_000);
        leases.lose(&app(), 61_000);
        assert_eq!(leases.to_look_for(&app(), 0), [60_000, 61_000]);
        assert!(leases.to_look_for(&app(), 0).is_empty());
        advance(LOOK_EVERY).await;
        assert_eq!(leases.to_look_for(&app(), 0), [60_000, 61_000]);
        leases.found(&app(), 61_000);
        advance(LOOK_EVERY).await;
        assert_eq!(leases.to_look_for(&app(), 0), [60_000]);
        advance(LOOK_EVERY).await;
        assert!(leases.to_look_for(&app(), 60_000).is_empty());
        assert!(!leases.has_lost(&app()));
    }
}
