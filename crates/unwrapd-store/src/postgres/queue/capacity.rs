//! Number of waiting deliveries, and whether more may be stored.
//!
//! Changes by this gateway count at once. Changes by other gateways are known only after the next
//! count of all deliveries, so together they may exceed the bound by their changes in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::capacity;
use crate::error::StoreError;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::Pool;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::signed;

/// Counts the waiting deliveries.
const COUNT: &str = "SELECT count(*) FROM delivery WHERE state = 'waiting'";
/// The rest between two counts, in multiples of the duration of a count, and its minimum.
const REST: u32 = 100;
const REST_MIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Capacity {
    max: i64,
    /// Waiting deliveries in the database, as far as known.
    kept: AtomicI64,
    /// Waiting deliveries of running commits.
    reserved: AtomicI64,
}

/// Room for some deliveries. Dropping it returns the room, unless the deliveries were stored.
pub(crate) struct CapacityReservation {
    capacity: Arc<Capacity>,
    deliveries: i64,
}

impl Capacity {
    pub(crate) fn new(max: u64) -> Arc<Self> {
        Arc::new(Self {
            max: signed(max),
            kept: AtomicI64::new(0),
            reserved: AtomicI64::new(0),
        })
    }

    /// Counts all waiting deliveries.
    pub(crate) async fn count(&self, pool: &Arc<Pool>) -> Result<(), Failure> {
        let before = self.kept.load(Ordering::SeqCst);
        let rows = pool.once(Purpose::Looking, COUNT, &[]).await?;
        let counted: i64 = match rows.first() {
            Some(row) => row.try_get(0)?,
            None => before,
        };
        // Added, not stored, so that changes during the count stay included.
        self.kept.fetch_add(counted - before, Ordering::SeqCst);
        Ok(())
    }

    /// Reserves room for so many deliveries. The error names the remedy.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        deliveries: usize,
    ) -> Result<CapacityReservation, StoreError> {
        let waiting = self.waiting();
        if deliveries > 0 && waiting >= self.max {
            return Err(capacity::is_full(waiting));
        }
        Ok(self.hold(deliveries))
    }

    /// Does the same as [`reserve`](Self::reserve), for deliveries that are replayed.
    pub(crate) fn reserve_to_replay(
        self: &Arc<Self>,
        deliveries: u64,
    ) -> Result<CapacityReservation, StoreError> {
        let waiting = self.waiting();
        if waiting + signed(deliveries) > self.max / 2 {
            return Err(capacity::is_full_for_replays(waiting));
        }
        Ok(self.hold(usize::try_from(deliveries).unwrap_or(usize::MAX)))
    }

    /// Counts a delivery that was settled for good.
    pub(crate) fn done(&self) {
        self.kept.fetch_sub(1, Ordering::SeqCst);
    }

    fn waiting(&self) -> i64 {
        self.kept.load(Ordering::SeqCst) + self.reserved.load(Ordering::SeqCst)
    }

    fn hold(self: &Arc<Self>, deliveries: usize) -> CapacityReservation {
        let deliveries = signed(deliveries);
        self.reserved.fetch_add(deliveries, Ordering::SeqCst);
        CapacityReservation {
            capacity: Arc::clone(self),
            deliveries,
        }
    }
}

/// Counts regularly, until the store is closed.
pub(crate) async fn keep_count(
    capacity: Arc<Capacity>,
    pool: Arc<Pool>,
    mut closing: watch::Receiver<()>,
) {
    let mut rest = REST_MIN;
    loop {
        tokio::select! {
            () = sleep(rest) => {}
            _ = closing.changed() => return,
        }
        let began = Instant::now();
        rest = tokio::select! {
            counted = capacity.count(&pool) => match counted {
                Ok(()) => REST_MIN.max(began.elapsed() * REST),
                Err(failure) => {
                    tracing::debug!("cannot count the waiting deliveries: {failure:?}");
                    REST_MIN
                }
            },
            _ = closing.changed() => return,
        };
    }
}

impl CapacityReservation {
    /// Keeps the room: the deliveries are in the database.
    pub(crate) fn keep(self) {
        self.capacity
            .kept
            .fetch_add(self.deliveries, Ordering::SeqCst);
    }
}

impl Drop for CapacityReservation {
    fn drop(&mut self) {
        self.capacity
            .reserved
            .fetch_sub(self.deliveries, Ordering::SeqCst);
    }
}
