//! Deliveries that are claimed and not yet begun.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::Delivery;

/// How long a claim may take: it waits for a commit, and a slow disk takes its time. As much is
/// claimed ahead as ends within this.
const CLAIM_TIME: Duration = Duration::from_millis(20);
/// Most claimed ahead of the slots, whatever the speed: all of it is in memory.
const AHEAD_MAX: usize = 256;
/// Longest wait between claim and attempt. Then the lease is given back: whoever is faster may have it.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(1);

/// A queue of deliveries, and how many it should hold: none for a destination that answers slowly,
/// more the faster it answers.
#[derive(Default)]
pub(super) struct Prefetched {
    deliveries: VecDeque<Waiting>,
    ahead: usize,
    /// Attempts that ended
    finished: u32,
    /// since then.
    counted_from: Option<Instant>,
}

/// One of them.
pub(super) struct Waiting {
    pub(super) delivery: Delivery,
    /// When its claim began, or its place was taken.
    pub(super) claimed_at: Instant,
    /// How long its attempt may take at most.
    pub(super) timeout: Duration,
    since: Instant,
}

impl Prefetched {
    /// Adds these, whose claim began at `claimed_at`. Their leases leave room for attempts of `timeout`.
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

    /// The next to begin, if it has not waited too long.
    pub(super) fn first(&self) -> Option<&Delivery> {
        let first = self.deliveries.front()?;
        (first.since.elapsed() < WAIT_MAX).then_some(&first.delivery)
    }

    /// The next.
    pub(super) fn take_first(&mut self) -> Option<Waiting> {
        self.deliveries.pop_front()
    }

    /// Takes the deliveries whose leases may have ended: the first ones, or all. A direct handoff
    /// may be slightly out of order; its lease is checked again when it is begun.
    pub(super) fn take_lost(&mut self, still_holds: impl Fn(Instant) -> bool) -> Vec<Delivery> {
        let lost = self
            .deliveries
            .partition_point(|waiting| !still_holds(waiting.claimed_at));
        let lost = self.deliveries.drain(..lost);
        lost.map(|waiting| waiting.delivery).collect()
    }

    /// Another attempt ended.
    pub(super) fn finished(&mut self) {
        self.finished += 1;
    }

    /// Whether it was counted for as long as a claim may take.
    pub(super) fn is_counted(&self) -> bool {
        self.counted_from
            .is_none_or(|from| from.elapsed() >= CLAIM_TIME)
    }

    /// From here on it is counted how many end.
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

    /// How many to claim beyond what there are slots for.
    pub(super) fn ahead(&self) -> usize {
        self.ahead
    }

    /// Whether a claim would be made too early to be a large one.
    pub(super) fn is_plenty(&self) -> bool {
        self.deliveries.len() > self.ahead / 2
    }

    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// When the first of them has waited too long.
    pub(super) fn stale_at(&self) -> Option<Instant> {
        self.deliveries.front().map(|first| first.since + WAIT_MAX)
    }

    /// Takes the deliveries that have waited too long. The destination has become slow, so nothing
    /// is claimed ahead for now.
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
