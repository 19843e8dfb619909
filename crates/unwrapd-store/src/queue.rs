//! The store as dispatching uses it: claims, settles and releases deliveries.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use super::error::StoreError;
use unwrapd_core::delivery::limit_share::LimitShare;
use unwrapd_core::delivery::response_excerpt::ResponseExcerpt;
use unwrapd_core::delivery::retry::RetryPolicy;
use unwrapd_core::delivery::{Delivery, Lane, Next, later};

/// The store as dispatching uses it: claims, settles and releases deliveries.
#[async_trait]
pub trait DeliveryQueue: Send + Sync {
    /// Leases due deliveries in the order of their due times, each with its next attempt number. A
    /// delivery that is not settled when its lease ends is due again.
    ///
    /// A delivery that would wait longer than [`Terms::longest_wait`] is due too: it was put off by
    /// a clock that was set back since. The same applies to a lease that is longer than any lease
    /// can be.
    async fn claim_within(&self, request: ClaimRequest<'_>) -> Result<Claimed, StoreError>;

    /// Does the same as [`claim_within`](Self::claim_within), with leases of this length and the
    /// longest wait of the default policy.
    async fn claim(
        &self,
        destination: &str,
        lane: Lane,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Claimed, StoreError> {
        let terms = lease.into();
        self.claim_within(ClaimRequest {
            destination,
            lane,
            now,
            terms,
            limit,
        })
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

/// A claim: which deliveries to lease, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimRequest<'c> {
    /// Name of the destination.
    pub destination: &'c str,
    /// The lane.
    pub lane: Lane,
    /// Time of the claim.
    pub now: Timestamp,
    /// The length of the leases, and which deliveries are due.
    pub terms: Terms,
    /// Maximum number of deliveries.
    pub limit: usize,
}

/// The terms of a claim: the length of its leases, and which deliveries are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Length of the lease.
    pub lease: Duration,
    /// The longest time that a delivery may wait for its next attempt.
    pub longest_wait: Duration,
}

impl From<Duration> for Terms {
    /// A lease of this length, with the longest wait of the default policy.
    fn from(lease: Duration) -> Self {
        Self {
            lease,
            longest_wait: RetryPolicy::default().longest_wait(),
        }
    }
}

impl Terms {
    /// Terms for a claim that takes deliveries at any due time, to end them without an attempt.
    #[must_use]
    pub(crate) fn whenever_due(lease: Duration) -> Self {
        Self {
            lease,
            longest_wait: Duration::ZERO,
        }
    }

    /// Whether every due time is accepted, so that a late one does not show a clock that was set
    /// back.
    pub(crate) fn is_whenever_due(&self) -> bool {
        self.longest_wait.is_zero()
    }

    /// Deliveries due after the returned time are due now. It is one second more than the longest
    /// wait, because the clocks of gateways differ by some milliseconds.
    pub(crate) fn put_off_from(&self, now: Timestamp) -> Timestamp {
        later(now, self.longest_wait + Duration::from_secs(1))
    }
}

/// Deliveries that are leased to this gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The deliveries, leased until the lease ends.
    pub deliveries: Vec<Delivery>,
    /// Due time of the next delivery of this destination and lane, ends of leases included.
    pub next_due_at: Option<Timestamp>,
}

/// Maximum lease of a delivery: the longest time-out that can be configured, plus the margin of the
/// dispatcher.
pub(crate) const LEASE_MAX: Duration = Duration::from_secs(660);

/// A claimed delivery that is released without an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The id of the delivery in the store.
    pub delivery: i64,
    /// Number of the attempt that the claim was for.
    pub number: u32,
    /// Number of the claim.
    pub claim: i64,
}

impl From<&Delivery> for Lease {
    fn from(delivery: &Delivery) -> Self {
        Self {
            delivery: delivery.id,
            number: delivery.attempt,
            claim: delivery.claim,
        }
    }
}

/// One finished attempt to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The id of the delivery in the store.
    pub delivery: i64,
    /// Number of the attempt, from the claim.
    pub number: u32,
    /// Time at which the attempt ended.
    pub ended_at: Timestamp,
    /// Duration of the attempt.
    pub took: Duration,
    /// Summary for people: the response of the destination, or the cause of the failure. It has no
    /// content of the message.
    pub answer: String,
    /// An excerpt of the response. It may contain content of the message.
    pub said: ResponseExcerpt,
    /// The next step of the delivery.
    pub next: Next,
}

/// Whether a settlement took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The settlement took effect.
    Settled,
    /// The settlement came too late: another claim has the delivery, or it was settled with another
    /// result.
    Fenced,
}
