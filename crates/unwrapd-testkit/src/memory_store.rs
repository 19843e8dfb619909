//! The reference implementation of the store, in memory. It passes the suite of every store, and is
//! fast enough for the simulation.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};
use unwrapd::clock::Clock;
use unwrapd::delivery::limit_share::LimitShare;
use unwrapd::delivery::{Delivery, Lane, Next};
use unwrapd::message::Message;
use unwrapd::store::{
    Accepted, Attempt, ClaimRequest, Claimed, DeliveryQueue, DestinationControl, DestinationCounts,
    Inbox, Lease, Lifecycle, Recipient, Settled, StoreError,
};

use super::tally::{Counted, Tally};

/// The promises of a store that [`MemoryStore`] makes too: it receives and delivers. Real stores
/// also quarantine, replay and prune.
pub trait Modelled: Inbox + DeliveryQueue + DestinationControl + Lifecycle + Counted {}

impl<S: Inbox + DeliveryQueue + DestinationControl + Lifecycle + Counted> Modelled for S {}

/// The content that survives a crash.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Rows>>);

#[derive(Default)]
struct Rows {
    seen: HashSet<(String, String)>,
    deliveries: BTreeMap<i64, Row>,
    paused: BTreeMap<String, Timestamp>,
    trusted: Option<Timestamp>,
}

struct Row {
    message: Message,
    destination: String,
    lane: Lane,
    state: State,
    due_at: Timestamp,
    attempt: u32,
    earlier: u32,
}

/// The lease of a delivery.
struct Held {
    number: u32,
    claim: i64,
    ends_at: Timestamp,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Waiting,
    Delivered,
    Dead,
}

/// A store on a simulated disk. Its other state is lost with it.
pub struct MemoryStore {
    disk: Disk,
    leases: Mutex<HashMap<i64, Held>>,
    is_open: watch::Sender<bool>,
    /// Duration of a claim or a settlement.
    pub takes: Duration,
    /// Number of claims.
    pub claims: AtomicUsize,
    /// Number of leases.
    leased: AtomicI64,
    /// Whether leases are uncertain, because other gateways may have claimed.
    pub is_doubtful: AtomicBool,
    /// Whether releases succeed.
    pub releases: AtomicBool,
    /// One permit for each settlement that may be made.
    pub may_settle: Semaphore,
    /// Clock whose steady time the leases use.
    clock: Option<Clock>,
}

impl MemoryStore {
    pub fn open(disk: &Disk) -> Self {
        Self {
            disk: disk.clone(),
            leases: Mutex::default(),
            is_open: watch::Sender::new(true),
            takes: Duration::ZERO,
            claims: AtomicUsize::new(0),
            leased: AtomicI64::new(0),
            is_doubtful: AtomicBool::new(false),
            releases: AtomicBool::new(true),
            may_settle: Semaphore::new(Semaphore::MAX_PERMITS),
            clock: None,
        }
    }

    /// Opens the store with a clock, which is compared with the stored time.
    #[allow(dead_code, reason = "the simulation has a clock that jumps")]
    pub fn open_by(disk: &Disk, clock: &Clock) -> Self {
        clock.anchor(disk.0.lock().unwrap().trusted);
        Self {
            clock: Some(clock.clone()),
            ..Self::open(disk)
        }
    }

    fn steady(&self, time: Timestamp) -> Timestamp {
        self.clock.as_ref().map_or(time, |clock| clock.steady(time))
    }

    fn of_steady(&self, time: Timestamp) -> Timestamp {
        let clock = self.clock.as_ref();
        clock.map_or(time, |clock| clock.of_steady(time))
    }

    fn lease(
        &self,
        leases: &mut HashMap<i64, Held>,
        id: i64,
        row: &Row,
        from: Timestamp,
        lease: Duration,
    ) -> Delivery {
        let before = leases.get(&id).map_or(0, |held| held.number);
        let number = (row.attempt + 1).max(before + 1);
        let claim = self.leased.fetch_add(1, Ordering::SeqCst);
        let held = Held {
            number,
            claim,
            ends_at: self.steady(from) + SignedDuration::try_from(lease).unwrap(),
        };
        leases.insert(id, held);
        Delivery {
            id,
            destination: row.destination.clone(),
            lane: row.lane,
            attempt: number,
            claim,
            uncounted_attempts: row.earlier + number - 1 - row.attempt,
            since: row.message.received_at,
            message: row.message.clone(),
        }
    }

    async fn take_time(&self) {
        if !self.takes.is_zero() {
            sleep(self.takes).await;
        }
    }

    fn kept(&self) -> Result<MutexGuard<'_, Rows>, StoreError> {
        if *self.is_open.borrow() {
            Ok(self.disk.0.lock().unwrap())
        } else {
            Err(StoreError::Unavailable("it is closed".into()))
        }
    }
}

#[async_trait]
impl Inbox for MemoryStore {
    async fn accept(
        &self,
        message: Message,
        recipients: Vec<Recipient>,
    ) -> Result<Accepted, StoreError> {
        let mut kept = self.kept()?;
        let key = (message.endpoint.clone(), message.webhook_id.clone());
        if !kept.seen.insert(key) {
            return Ok(Accepted::Duplicate);
        }
        for Recipient {
            destination,
            reservation,
            due_at,
        } in recipients
        {
            let id = i64::try_from(kept.deliveries.len()).unwrap() + 1;
            let row = Row {
                destination,
                lane: Lane::of(message.event_type.as_deref()),
                state: State::Waiting,
                due_at: due_at.unwrap_or(message.received_at),
                attempt: 0,
                earlier: 0,
                message: message.clone(),
            };
            if let Some(reservation) = reservation {
                let (from, lease) = (reservation.from(), reservation.lease());
                let mut leases = self.leases.lock().unwrap();
                reservation.complete(self.lease(&mut leases, id, &row, from, lease));
            }
            kept.deliveries.insert(id, row);
        }
        Ok(Accepted::New)
    }
}

#[async_trait]
impl DeliveryQueue for MemoryStore {
    async fn claim_within(&self, request: ClaimRequest<'_>) -> Result<Claimed, StoreError> {
        let (destination, lane, now) = (request.destination, request.lane, request.now);
        self.claims.fetch_add(1, Ordering::SeqCst);
        self.take_time().await;
        let kept = self.kept()?;
        let mut leases = self.leases.lock().unwrap();
        let steady_now = self.steady(now);
        let mut waiting: Vec<(Timestamp, i64)> = kept
            .deliveries
            .iter()
            .filter(|(_, row)| {
                row.state == State::Waiting && row.destination == destination && row.lane == lane
            })
            .map(|(id, row)| {
                let held = leases.get(id).filter(|held| held.ends_at > steady_now);
                // The clock may have been moved since `now`. The delivery counts as leased anyway.
                let soon = now + SignedDuration::from_millis(1);
                let leased_until = held.map(|held| self.of_steady(held.ends_at).max(soon));
                // A delivery that waits longer than the longest wait is due.
                let put_off_from = now
                    + SignedDuration::try_from(request.terms.longest_wait).unwrap()
                    + SignedDuration::from_secs(1);
                let due_at = if row.due_at > put_off_from {
                    now
                } else {
                    row.due_at
                };
                (leased_until.unwrap_or(due_at), *id)
            })
            .collect();
        waiting.sort_unstable();
        let ends_at = now + SignedDuration::try_from(request.terms.lease).unwrap();
        let mut claimed = Claimed::default();
        let mut next_due_at = None;
        for (due_at, id) in waiting {
            if due_at > now || claimed.deliveries.len() == request.limit {
                next_due_at = Some(due_at);
                break;
            }
            let row = &kept.deliveries[&id];
            let delivery = self.lease(&mut leases, id, row, now, request.terms.lease);
            claimed.deliveries.push(delivery);
        }
        claimed.next_due_at = if claimed.deliveries.is_empty() {
            next_due_at
        } else {
            Some(next_due_at.map_or(ends_at, |due_at| due_at.min(ends_at)))
        };
        Ok(claimed)
    }

    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError> {
        self.may_settle.acquire().await.unwrap().forget();
        self.take_time().await;
        let mut kept = self.kept()?;
        let mut leases = self.leases.lock().unwrap();
        let is_current = leases
            .get(&attempt.delivery)
            .is_some_and(|held| held.number == attempt.number);
        let Some(row) = kept.deliveries.get_mut(&attempt.delivery) else {
            return Ok(Settled::Fenced);
        };
        if !is_current || row.state != State::Waiting || attempt.number <= row.attempt {
            return Ok(Settled::Fenced);
        }
        leases.remove(&attempt.delivery);
        row.earlier += attempt.number - 1 - row.attempt;
        row.attempt = attempt.number;
        match attempt.next {
            Next::Delivered => row.state = State::Delivered,
            Next::Dead => row.state = State::Dead,
            Next::Retry { due_at } => row.due_at = due_at,
        }
        Ok(Settled::Settled)
    }

    async fn release(&self, released: Vec<Lease>) -> Result<(), StoreError> {
        if !self.releases.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("for the test".into()));
        }
        let mut leases = self.leases.lock().unwrap();
        for lease in released {
            if let Some(held) = leases.get_mut(&lease.delivery)
                && (held.number, held.claim) == (lease.number, lease.claim)
            {
                held.number -= 1;
                held.ends_at = Timestamp::MIN;
            }
        }
        Ok(())
    }

    fn lease_is_valid(&self, _claimed_at: Instant) -> bool {
        !self.is_doubtful.load(Ordering::SeqCst)
    }

    fn share(&self, _: &str) -> LimitShare {
        LimitShare::ALONE
    }
}

#[async_trait]
impl DestinationControl for MemoryStore {
    async fn destination_counts(&self) -> Result<Vec<DestinationCounts>, StoreError> {
        let mut destination_counts: BTreeMap<String, DestinationCounts> = BTreeMap::new();
        for row in self.kept()?.deliveries.values() {
            if !matches!(row.state, State::Waiting | State::Dead) {
                continue;
            }
            let standing = destination_counts
                .entry(row.destination.clone())
                .or_default();
            standing.destination.clone_from(&row.destination);
            if row.state == State::Dead {
                standing.dead += 1;
                continue;
            }
            let lane = &mut standing.lanes[row.lane as usize];
            lane.waiting += 1;
            let since = row.message.received_at;
            let earlier = lane.oldest_since.map_or(since, |oldest| oldest.min(since));
            lane.oldest_since = Some(earlier);
        }
        Ok(destination_counts.into_values().collect())
    }

    async fn pause(&self, destination: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut kept = self.kept()?;
        kept.paused.entry(destination.to_owned()).or_insert(now);
        Ok(())
    }

    async fn resume(&self, destination: &str) -> Result<(), StoreError> {
        self.kept()?.paused.remove(destination);
        Ok(())
    }

    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        Ok(self.kept()?.paused.clone().into_iter().collect())
    }
}

#[async_trait]
impl Lifecycle for MemoryStore {
    async fn check_writable(&self, _now: Timestamp) -> Result<(), StoreError> {
        self.kept().map(drop)
    }

    async fn remember(&self, trusted: Timestamp) -> Result<(), StoreError> {
        self.kept()?.trusted = Some(trusted);
        Ok(())
    }

    async fn failed(&self) {
        let mut is_open = self.is_open.subscribe();
        drop(is_open.wait_for(|is_open| !is_open).await);
    }

    async fn hangs(&self) {
        std::future::pending::<()>().await;
    }

    async fn close(&self) {
        self.is_open.send_replace(false);
    }
}

#[async_trait]
impl Counted for MemoryStore {
    async fn tally(&self) -> Tally {
        let kept = self.disk.0.lock().unwrap();
        let count = |state| {
            let of_state = kept.deliveries.values().filter(|row| row.state == state);
            of_state.count() as u64
        };
        Tally {
            messages: kept.seen.len() as u64,
            pending: count(State::Waiting),
            delivered: count(State::Delivered),
            dead: count(State::Dead),
        }
    }
}
