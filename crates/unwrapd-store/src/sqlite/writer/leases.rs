//! Leases of deliveries. They exist only in memory: the process with the lock of the database is
//! its only user, so the next process may claim everything that is due.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::queue::Lease;
use unwrapd_core::clock::Clock;

pub(crate) struct Leases {
    /// Leases last by its steady time, so a jump of the clock ends none early or late.
    clock: Clock,
    held: HashMap<i64, Held>,
    /// Number of claims so far.
    claims: i64,
    /// Deliveries settled in the current transaction.
    settled: Vec<i64>,
    /// Deliveries leased in the current transaction, which stores them.
    kept: Vec<i64>,
}

#[derive(Clone, Copy)]
pub(crate) struct Held {
    /// Number of the attempt.
    pub(crate) attempt: u32,
    /// Number of the claim.
    pub(crate) claim: i64,
    /// End of the lease, in steady time.
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

    /// Converts `now` to the steady time of leases.
    pub(crate) fn steady(&self, now: Timestamp) -> Timestamp {
        self.clock.steady(now)
    }

    /// End of the lease, if it has not ended by `now`, a steady time.
    pub(crate) fn ends_at(&self, held: Held, now: Timestamp) -> Option<Timestamp> {
        (held.ends_at > now).then(|| self.clock.of_steady(held.ends_at))
    }

    /// The last lease of a delivery, ended or not, unless the delivery is settled.
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

    /// Leases a delivery in the transaction that stores it.
    pub(crate) fn take_with_it(&mut self, delivery: i64, held: Held) {
        self.kept.push(delivery);
        self.take(delivery, held);
    }

    /// Ends the lease of an attempt that was not made. The previous attempt is the latest again, so
    /// its late settlement takes effect: no attempt has replaced it.
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
