//! The claims of a lane, and the direct handoffs that it accepts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::{LaneWorker, lease};
use crate::crash::{self, CrashPoint};
use crate::delivery::{Lane, later};
use crate::dispatch::settle::STORE_RETRY;
use crate::store::{Claimed, StoreError, Terms};

/// Most deliveries claimed at once.
const CLAIM_MAX: usize = 256;
/// Least time between two claims while deliveries are under way: what comes free or comes in
/// meanwhile is claimed together.
const CLAIM_GAP: Duration = Duration::from_millis(2);
/// Wait in the store after which direct handoffs may not overtake a delivery.
const BEHIND: Duration = Duration::from_millis(100);
/// Longest sleep without a look at the store: back-stop for a clock that was set.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// When there is something to claim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Due {
    Now,
    At(Instant),
}

/// A claim, and what it asked for.
pub(in crate::dispatch) struct Looked {
    limit: usize,
    /// Time for an attempt within the lease.
    pub(super) timeout: Duration,
    pub(super) claimed_at: Instant,
    now: Timestamp,
    pub(super) claimed: Result<Claimed, StoreError>,
}

impl Due {
    pub(super) fn comes_by(&mut self, due_at: Instant) {
        if let Self::At(time) = self {
            *time = due_at.min(*time);
        }
    }
}

impl LaneWorker {
    /// There may be something to claim.
    pub(in crate::dispatch) fn is_due(&mut self) {
        self.due = Due::Now;
    }

    pub(in crate::dispatch) fn claim_if_it_is_time(&mut self) {
        let limit = self.wanted();
        if !self.claim.is_empty()
            || limit == 0
            || self.claim_at().is_none_or(|at| at > Instant::now())
        {
            return;
        }
        self.claimed_at = Some(Instant::now());
        self.claiming = limit;
        self.prefetched.count_anew();
        // Until the bell rings: what comes in from here on may be missed by the claim.
        self.due = Due::At(Instant::now() + SLEEP_MAX);
        let lane = Arc::clone(&self.lane);
        let timeout = self.limits.timeout;
        let terms = Terms {
            lease: lease(timeout),
            longest_wait: self.limits.retry.longest_wait(),
        };
        let claimed_at = Instant::now();
        self.claim.spawn(async move {
            let now = lane.clock.now();
            let claimed = lane
                .store
                .claim_within(lane.handle.name(), lane.lane, now, terms, limit)
                .await;
            Looked {
                limit,
                timeout,
                claimed_at,
                now,
                claimed,
            }
        });
    }

    /// How many deliveries beside those under way could be made use of.
    fn capacity(&self) -> usize {
        if self.limits.concurrency == 0 {
            return 0;
        }
        (self.free_slots() + self.prefetched.ahead())
            .min(self.lane.gate.admits(self.lane.lane, self.limits.rate))
    }

    /// How many more.
    fn room(&self) -> usize {
        self.capacity().saturating_sub(self.prefetched.len())
    }

    /// How many to claim. Unless much waits, what comes may be handed over meanwhile.
    fn wanted(&self) -> usize {
        let reserved = self.lane.handoff.reserved();
        let room = self.room().saturating_sub(reserved).min(CLAIM_MAX);
        if self.is_behind {
            room
        } else {
            room.div_ceil(2)
        }
    }

    /// When to claim. `None`: not before something changes.
    fn claim_at(&self) -> Option<Instant> {
        if !self.claim.is_empty() || self.wanted() == 0 || self.prefetched.is_plenty() {
            return None;
        }
        let due_at = match self.due {
            Due::Now => Instant::now(),
            Due::At(time) => time,
        };
        match self.claimed_at {
            Some(claimed_at) if !self.under_way.is_empty() => {
                Some(due_at.max(claimed_at + CLAIM_GAP))
            }
            _ => Some(due_at),
        }
    }

    /// When to look again, unless something happens before.
    pub(in crate::dispatch) fn wake_at(&self) -> Instant {
        let gate_opens_at = || {
            let (lane, rate) = (self.lane.lane, self.limits.rate);
            let is_waited_for = self.free_slots() > 0 && self.lane.gate.admits(lane, rate) == 0;
            is_waited_for
                .then(|| self.lane.gate.opens_at(lane, rate))
                .flatten()
        };
        [self.claim_at(), self.prefetched.stale_at(), gate_opens_at()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(|| Instant::now() + SLEEP_MAX)
    }

    pub(in crate::dispatch) fn claimed(&mut self, looked: Result<Looked, JoinError>) {
        self.claiming = 0;
        let Ok(looked) = looked else {
            self.store_failed("the read ended early");
            return;
        };
        let Claimed {
            deliveries,
            next_due_at,
        } = match looked.claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                self.store_failed(&error.to_string());
                return;
            }
        };
        if self.is_store_failing {
            self.is_store_failing = false;
            tracing::info!(
                destination = self.lane.handle.name(),
                "fetching deliveries from the store again"
            );
        }
        if !deliveries.is_empty() {
            crash::point(CrashPoint::Claimed);
        }
        if deliveries.len() == looked.limit {
            self.due = Due::Now;
        } else if let Some(due_at) = next_due_at {
            self.due_by(due_at, looked.now);
        }
        let is_all = deliveries.len() < looked.limit;
        let left_at = next_due_at.map(|due_at| later(due_at, BEHIND));
        self.is_behind = !is_all && left_at.is_some_and(|late_at| late_at <= looked.now);
        self.lane.handle.state().add_claimed(deliveries.len());
        self.prefetch(deliveries, looked.claimed_at, looked.timeout);
        if is_all && self.lane.lane == Lane::Standard {
            let in_hand = self.prefetched.len()
                + self.under_way.len()
                + self.settling.len()
                + self.lane.handoff.reserved();
            self.lane.handle.state().caught_up(in_hand);
        }
    }

    fn store_failed(&mut self, problem: &str) {
        let destination = self.lane.handle.name();
        if self.is_store_failing {
            tracing::debug!(destination, "still cannot fetch deliveries: {problem}");
        } else {
            self.is_store_failing = true;
            tracing::error!(
                destination,
                "cannot fetch deliveries, which wait in the store: {problem}"
            );
        }
        self.due = Due::At(Instant::now() + STORE_RETRY);
    }

    pub(super) fn due_by(&mut self, due_at: Timestamp, now: Timestamp) {
        let wait = Duration::try_from(due_at.duration_since(now)).unwrap_or_default();
        let due_at = Instant::now() + wait.min(SLEEP_MAX);
        self.due.comes_by(due_at);
    }

    /// Offers what is free. Of what there is altogether, half is left to what is due in the store,
    /// until that is claimed.
    pub(in crate::dispatch) fn offer(&mut self) {
        if self.prefetched.is_counted() {
            self.prefetched.count_anew();
        }
        let kept_free = if self.is_behind {
            usize::MAX
        } else if !self.claim.is_empty() {
            self.claiming
        } else if self.is_due_now() {
            self.capacity().div_ceil(2)
        } else {
            0
        };
        self.offer_places(self.room().saturating_sub(kept_free));
    }

    fn is_due_now(&self) -> bool {
        match self.due {
            Due::Now => true,
            Due::At(time) => time <= Instant::now(),
        }
    }

    pub(super) fn offer_places(&self, places: usize) {
        let timeout = self.limits.timeout;
        self.lane.handoff.offer(places, timeout, lease(timeout));
    }
}
