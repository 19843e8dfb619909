//! Leases of deliveries. They are only in memory: the process that holds the lock of the database
//! is its only user, so the next process may claim everything that is due.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::Lease;
use unwrapd_core::clock::Clock;

pub(crate) struct Leases {
    /// Leases last by its steady time: no jump ends one early, or late.
    clock: Clock,
    held: HashMap<i64, Held>,
    /// How many claims there were.
    claims: i64,
    /// Settled in the transaction under way,
    settled: Vec<i64>,
    /// and taken as they were kept in it.
    kept: Vec<i64>,
}

#[derive(Clone, Copy)]
pub(crate) struct Held {
    /// The attempt that is being made,
    pub(crate) attempt: u32,
    /// and the claim that it came of.
    pub(crate) claim: i64,
    /// By the steady time of the clock.
    pub(crate) ends_at: Timestamp,
}

impl Leases {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            held: HashMap::new(),
            claims: 0,
            settled: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// `now` as leases know it.
    pub(crate) fn steady(&self, now: Timestamp) -> Timestamp {
        self.clock.steady(now)
    }

    /// When the lease ends, if it has not by `now`, a steady time.
    pub(crate) fn ends_at(&self, held: Held, now: Timestamp) -> Option<Timestamp> {
        (held.ends_at > now).then(|| self.clock.of_steady(held.ends_at))
    }

    /// The last lease of a delivery, ended or not, if it is not settled.
    pub(crate) fn of(&self, delivery: i64) -> Option<Held> {
        self.held.get(&delivery).copied()
    }

    /// The number of the next claim.
    pub(crate) fn next_claim(&mut self) -> i64 {
        self.claims += 1;
        self.claims
    }

    pub(crate) fn take(&mut self, delivery: i64, held: Held) {
        self.held.insert(delivery, held);
    }

    /// Takes it with the transaction under way, in which it is kept.
    pub(crate) fn take_with_it(&mut self, delivery: i64, held: Held) {
        self.kept.push(delivery);
        self.take(delivery, held);
    }

    /// Ends the lease of an attempt that was not made. The attempt before it counts again if it is
    /// late: nobody has taken its place.
    pub(crate) fn release(&mut self, lease: &Lease) {
        if let Some(held) = self.held.get_mut(&lease.delivery)
            && (held.attempt, held.claim) == (lease.number, lease.claim)
        {
            held.attempt = lease.number.saturating_sub(1);
            held.ends_at = Timestamp::MIN;
        }
    }

    /// Whether this attempt is the current one. The lease ends with the transaction under way.
    pub(crate) fn settle(&mut self, delivery: i64, attempt: u32) -> bool {
        let is_current = self
            .of(delivery)
            .is_some_and(|held| held.attempt == attempt);
        if is_current {
            self.settled.push(delivery);
        }
        is_current
    }

    pub(crate) fn commit(&mut self) {
        self.kept.clear();
        for delivery in self.settled.drain(..) {
            self.held.remove(&delivery);
        }
    }

    pub(crate) fn rollback(&mut self) {
        self.settled.clear();
        for delivery in self.kept.drain(..) {
            self.held.remove(&delivery);
        }
    }
}
