//! Direct hand-off: delivery without a claim. A lane without waiting deliveries offers
//! reservations. A message for that lane takes one, is leased in the commit that stores it, and
//! goes to the lane when that commit is durable. This saves a claim, which costs a store as much as
//! storing does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::delivery::{Delivery, later};

/// Free capacity of one lane of one destination, and the deliveries handed to it.
#[derive(Debug)]
pub struct DirectHandoff {
    state: Mutex<State>,
    arrived: Notify,
    /// Wakes the lane when it must claim from the store.
    wakeup: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    offered: usize,
    /// Reservations that were taken and have no delivery yet.
    reserved: usize,
    /// Maximum duration of an attempt.
    timeout: Duration,
    /// Length of the lease of a delivery that is handed off.
    lease: Duration,
    handed: Vec<HandedOff>,
}

/// A delivery that was leased to this lane as it was stored.
#[derive(Debug)]
pub struct HandedOff {
    /// The delivery.
    pub delivery: Delivery,
    /// Time at which its reservation was taken, where the lease begins.
    pub claimed_at: Instant,
    /// Maximum duration of its attempt.
    pub timeout: Duration,
}

/// A reservation for one delivery that is not stored yet. If it is dropped without a delivery, it
/// is free again, and the lane claims from the store.
#[derive(Debug)]
pub struct Reservation {
    handoff: Arc<DirectHandoff>,
    claimed_at: Instant,
    timeout: Duration,
    /// Beginning of the lease.
    from: Timestamp,
    lease: Duration,
    delivery: Option<Delivery>,
}

impl DirectHandoff {
    /// A hand-off without reservations. `wakeup` is notified when the lane must claim from the
    /// store.
    #[must_use]
    pub fn new(wakeup: Arc<Notify>) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Notify::new(),
            wakeup,
        }
    }

    /// Offers `free` reservations, less those that are taken. A delivery is leased for `lease`, and
    /// its attempt may take `timeout`.
    pub fn offer(&self, free: usize, timeout: Duration, lease: Duration) {
        let mut state = self.state();
        state.offered = free.saturating_sub(state.reserved());
        state.timeout = timeout;
        state.lease = lease;
    }

    /// A reservation, if one is offered, for a lease that begins at `now`.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, now: Timestamp) -> Option<Reservation> {
        let mut state = self.state();
        state.offered = state.offered.checked_sub(1)?;
        state.reserved += 1;
        Some(Reservation {
            handoff: Arc::clone(self),
            claimed_at: Instant::now(),
            timeout: state.timeout,
            from: now,
            lease: state.lease,
            delivery: None,
        })
    }

    /// Number of reservations that are taken, including those whose delivery the lane has not
    /// fetched yet.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.state().reserved()
    }

    /// Returns the deliveries handed off since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<HandedOff> {
        std::mem::take(&mut self.state().handed)
    }

    /// Waits until a delivery is handed off, or a reservation is dropped without one.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reserved(&self) -> usize {
        self.reserved + self.handed.len()
    }
}

impl Reservation {
    /// End of the lease.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        later(self.from, self.lease)
    }

    /// Beginning of the lease.
    #[must_use]
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// Length of the lease.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Hands off a delivery that is durable and leased.
    pub fn complete(mut self, delivery: Delivery) {
        self.delivery = Some(delivery);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.handoff.state();
        state.reserved -= 1;
        if let Some(delivery) = self.delivery.take() {
            state.handed.push(HandedOff {
                delivery,
                claimed_at: self.claimed_at,
                timeout: self.timeout,
            });
        } else {
            self.handoff.wakeup.notify_one();
        }
        drop(state);
        self.handoff.arrived.notify_one();
    }
}
