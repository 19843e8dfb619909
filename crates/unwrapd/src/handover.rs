//! Work that need not be asked for. A lane that has nothing waiting offers its free places; what arrives for it takes one, is leased to it
//! in the commit that keeps it, and handed over when that is durable. It saves a claim, which costs a store as much as keeping does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::delivery::{Delivery, later};

/// Free capacity of one lane of one destination, and the deliveries handed to it.
#[derive(Debug)]
pub struct Handover {
    state: Mutex<State>,
    arrived: Notify,
    /// Rings for whatever must be claimed after all.
    bell: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    offered: usize,
    /// Places that were taken, and for which nothing has been handed over yet.
    promised: usize,
    /// How long an attempt may take,
    timeout: Duration,
    /// and for how long what is handed over must be leased.
    lease: Duration,
    handed: Vec<Handed>,
}

/// A delivery that is ours to make.
#[derive(Debug)]
pub struct Handed {
    /// The delivery.
    pub delivery: Delivery,
    /// When its place was taken: from here on it was leased.
    pub claimed_at: Instant,
    /// How long its attempt may take at most.
    pub timeout: Duration,
}

/// A place for one delivery that is still to be kept. Dropped without one it is free again, and the lane looks into the store.
#[derive(Debug)]
pub struct Slot {
    handover: Arc<Handover>,
    claimed_at: Instant,
    timeout: Duration,
    /// Since when it is leased, and for how long.
    from: Timestamp,
    lease: Duration,
    delivery: Option<Delivery>,
}

impl Handover {
    /// Nothing is offered yet. `bell` rings when the lane must look into the store.
    #[must_use]
    pub fn new(bell: Arc<Notify>) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Notify::new(),
            bell,
        }
    }

    /// Offers so many places, less those that are promised. What takes one is leased for `lease`, and may take `timeout`.
    pub fn offer(&self, places: usize, timeout: Duration, lease: Duration) {
        let mut state = self.state();
        state.offered = places.saturating_sub(state.promised());
        state.timeout = timeout;
        state.lease = lease;
    }

    /// A place, if one is offered, for what is leased from `now` on.
    #[must_use]
    pub fn slot(self: &Arc<Self>, now: Timestamp) -> Option<Slot> {
        let mut state = self.state();
        state.offered = state.offered.checked_sub(1)?;
        state.promised += 1;
        Some(Slot {
            handover: Arc::clone(self),
            claimed_at: Instant::now(),
            timeout: state.timeout,
            from: now,
            lease: state.lease,
            delivery: None,
        })
    }

    /// How many places are promised, those included whose delivery has not been taken yet.
    #[must_use]
    pub fn promised(&self) -> usize {
        self.state().promised()
    }

    /// Takes the deliveries handed over since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<Handed> {
        std::mem::take(&mut self.state().handed)
    }

    /// Waits until something is handed over, or a place that was promised stays empty.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn promised(&self) -> usize {
        self.promised + self.handed.len()
    }
}

impl Slot {
    /// Until when what takes it must be leased.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        later(self.from, self.lease)
    }

    /// Since when what takes it is leased.
    #[must_use]
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// And for how long.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Hands over what is durable and leased.
    pub fn fill(mut self, delivery: Delivery) {
        self.delivery = Some(delivery);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.handover.state();
        state.promised -= 1;
        if let Some(delivery) = self.delivery.take() {
            state.handed.push(Handed {
                delivery,
                claimed_at: self.claimed_at,
                timeout: self.timeout,
            });
        } else {
            self.handover.bell.notify_one();
        }
        drop(state);
        self.handover.arrived.notify_one();
    }
}
