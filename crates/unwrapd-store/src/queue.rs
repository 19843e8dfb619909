//! The store as dispatching uses it: claims, settles and releases deliveries.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{Attempt, Claimed, Lease, Settled, StoreError, Terms};
use unwrapd_core::delivery::Lane;
use unwrapd_core::delivery::limit_share::LimitShare;

/// The store as dispatching uses it: claims, settles and releases deliveries.
#[async_trait]
pub trait DeliveryQueue: Send + Sync {
    /// Leases up to `limit` due deliveries of `destination` in `lane`, in the order of their due
    /// times, each with its next attempt number. A delivery that is not settled when its lease ends
    /// is due again.
    ///
    /// A delivery that would wait longer than [`Terms::longest_wait`] is due too: it was put off by
    /// a clock that was set back since. The same applies to a lease that is longer than any lease
    /// can be.
    async fn claim_within(
        &self,
        destination: &str,
        lane: Lane,
        now: Timestamp,
        terms: Terms,
        limit: usize,
    ) -> Result<Claimed, StoreError>;

    /// Does the same as [`claim_within`](Self::claim_within), with the longest wait of the default
    /// policy.
    async fn claim(
        &self,
        destination: &str,
        lane: Lane,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Claimed, StoreError> {
        self.claim_within(destination, lane, now, lease.into(), limit)
            .await
    }

    /// Records an attempt and the next state of its delivery, in one commit. A settlement that is
    /// stored already counts as settled, so this call may be repeated. [`Settled::Fenced`] means
    /// that it came too late; then nothing was changed.
    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError>;

    /// Releases leases without an attempt. Each delivery is due as before, with the same attempt
    /// number. A delivery that another claim holds is left alone, so this call may be repeated. The
    /// change need not survive a crash, because leases need not.
    async fn release(&self, leases: Vec<Lease>) -> Result<(), StoreError>;

    /// This gateway's current share of the limits of `destination`.
    fn share(&self, destination: &str) -> LimitShare;

    /// Whether a delivery that was claimed at or after `claimed_at` is certainly still leased to
    /// this gateway, until the lease ends: no other gateway has declared this one dead since.
    fn lease_is_valid(&self, claimed_at: Instant) -> bool;
}
