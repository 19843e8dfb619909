//! Deliveries that are claimed and not begun.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::Delivery;

/// Assumed duration of a claim, which waits for a commit, possibly on a slow disk. As many
/// deliveries are prefetched as are attempted within this time.
const CLAIM_TIME: Duration = Duration::from_millis(20);
/// Maximum number of prefetched deliveries beyond the free slots: all of them are in memory.
const AHEAD_MAX: usize = 256;
/// Longest wait between claim and attempt. After it, the lease is released, so that a faster
/// gateway may claim the delivery.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(1);

/// A queue of deliveries, and its target length: zero for a slow destination, and larger the faster
/// the destination answers.
#[derive(Default)]
pub(super) struct Prefetched {
    deliveries: VecDeque<Waiting>,
    ahead: usize,
    /// Attempts that ended since `counted_from`.
    finished: u32,
    /// Beginning of the count.
    counted_from: Option<Instant>,
}

/// A delivery in the queue.
pub(super) struct Waiting {
    pub(super) delivery: Delivery,
    /// When its claim began, or its reservation was taken.
    pub(super) claimed_at: Instant,
    /// Maximum duration of its attempt.
    pub(super) timeout: Duration,
    since: Instant,
}

impl Prefetched {
    /// Adds deliveries whose claim began at `claimed_at`. Their leases allow attempts of `timeout`.
    pub(super) fn add(
        &mut self,
        deliveries: Vec<Delivery>,
        claimed_at: Instant,
        timeout: Duration,
    ) {
        let since = Instant::now();
        let waiting = deliveries.into_iter().map(|delivery| Waiting {
            delivery,
            claimed_at,
            timeout,
            since,
        });
        self.deliveries.extend(waiting);
    }

    /// The next delivery to begin, unless it has waited too long.
    pub(super) fn first(&self) -> Option<&Delivery> {
        let first = self.deliveries.front()?;
        (first.since.elapsed() < WAIT_MAX).then_some(&first.delivery)
    }

    /// Removes and returns the next delivery.
    pub(super) fn take_first(&mut self) -> Option<Waiting> {
        self.deliveries.pop_front()
    }

    /// Removes the deliveries whose leases may have ended: the first ones, or all. A hand-off may
    /// be slightly out of order; its lease is checked again when it begins.
    pub(super) fn take_lost(&mut self, still_holds: impl Fn(Instant) -> bool) -> Vec<Delivery> {
        let lost = self
            .deliveries
            .partition_point(|waiting| !still_holds(waiting.claimed_at));
        let lost = self.deliveries.drain(..lost);
        lost.map(|waiting| waiting.delivery).collect()
    }

    /// Counts an attempt that ended.
    pub(super) fn finished(&mut self) {
        self.finished += 1;
    }

    /// Whether the count has run for the duration of a claim.
    pub(super) fn is_counted(&self) -> bool {
        self.counted_from
            .is_none_or(|from| from.elapsed() >= CLAIM_TIME)
    }

    /// Computes the target length, and starts a new count.
    pub(super) fn count_anew(&mut self) {
        let now = Instant::now();
        let per = self.counted_from.map_or(CLAIM_TIME, |from| now - from);
        let share = CLAIM_TIME.as_secs_f64() / per.as_secs_f64().max(0.001);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "neither negative nor, after `min`, large"
        )]
        let ahead = (f64::from(self.finished) * share).min(1e6) as usize;
        self.ahead = ahead.min(AHEAD_MAX);
        self.finished = 0;
        self.counted_from = Some(now);
    }

    /// Number of deliveries to claim beyond the free slots.
    pub(super) fn ahead(&self) -> usize {
        self.ahead
    }

    /// Whether the queue is so full that a claim would be small.
    pub(super) fn is_plenty(&self) -> bool {
        self.deliveries.len() > self.ahead / 2
    }

    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// When the first delivery will have waited too long.
    pub(super) fn stale_at(&self) -> Option<Instant> {
        self.deliveries.front().map(|first| first.since + WAIT_MAX)
    }

    /// Removes the deliveries that have waited too long. The destination has become slow, so
    /// nothing is prefetched until the next count.
    pub(super) fn take_stale(&mut self) -> Vec<Delivery> {
        let now = Instant::now();
        let stale = self
            .deliveries
            .partition_point(|waiting| waiting.since + WAIT_MAX <= now);
        if stale > 0 {
            self.ahead = 0;
        }
        let stale = self.deliveries.drain(..stale);
        stale.map(|waiting| waiting.delivery).collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<Delivery> {
        let all = self.deliveries.drain(..);
        all.map(|waiting| waiting.delivery).collect()
    }
}
