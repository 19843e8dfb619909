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
    /// Leases up to `limit` deliveries of `destination` in `lane` that are due, the longest due
    /// first, each with its next attempt number. Unless settled by then, they are due again when
    /// the lease ends.
    ///
    /// A delivery that would wait longer than [`Terms::longest_wait`] is due as well: a clock that
    /// was set back since has put it off. The same applies to a lease that is longer than any.
    async fn claim_within(
        &self,
        destination: &str,
        lane: Lane,
        now: Timestamp,
        terms: Terms,
        limit: usize,
    ) -> Result<Claimed, StoreError>;

    /// As [`claim_within`](Self::claim_within), with the longest wait of the default policy.
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

    /// Records an attempt and what becomes of its delivery, in one commit. [`Settled::Fenced`]
    /// means that the lease had run out and someone else has claimed the delivery since: nothing
    /// was changed.
    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError>;

    /// Gives leases back: no attempt was made. Each delivery is due as it was, with the same
    /// number. One that another claim holds by now is left alone, so that this may be asked again.
    /// Leases alone need not survive a crash, and so this need not.
    async fn release(&self, leases: Vec<Lease>) -> Result<(), StoreError>;

    /// Our part of what the gateways may do together at `destination`, at this moment.
    fn share(&self, destination: &str) -> LimitShare;

    /// Whether what was claimed at `claimed_at`, or later, is certain to be still ours, as long as
    /// its lease lasts: nobody has taken us for dead since.
    fn lease_is_valid(&self, claimed_at: Instant) -> bool;
}
