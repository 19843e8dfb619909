//! The claims of a lane, and the hand-offs that it accepts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::{LaneWorker, lease};
use crate::crash::{self, CrashPoint};
use crate::delivery::{Lane, later};
use crate::dispatch::settle::STORE_RETRY;
use crate::store::{ClaimRequest, Claimed, StoreError, Terms};

/// Maximum number of deliveries in a claim.
const CLAIM_MAX: usize = 256;
/// Minimum interval between two claims while attempts run, so that slots and deliveries gather for
/// one claim.
const CLAIM_GAP: Duration = Duration::from_millis(2);
/// Wait in the store after which hand-offs must not overtake a delivery.
const BEHIND: Duration = Duration::from_millis(100);
/// Maximum time without a claim, in case the clock was set.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// The time of the next claim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Due {
    Now,
    At(Instant),
}

/// A finished claim, and its terms.
pub(in crate::dispatch) struct Looked {
    limit: usize,
    /// Maximum duration of an attempt within the lease.
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
    /// Records that a delivery may be due.
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
        // Set before the claim, so that a wake-up during it causes another one: the claim may miss
        // that delivery.
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
                .claim_within(ClaimRequest {
                    destination: lane.handle.name(),
                    lane: lane.lane,
                    now,
                    terms,
                    limit,
                })
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

    /// Number of deliveries that this lane can use, besides those being attempted.
    fn capacity(&self) -> usize {
        if self.limits.concurrency == 0 {
            return 0;
        }
        (self.free_slots() + self.prefetched.ahead())
            .min(self.lane.gate.admits(self.lane.lane, self.limits.rate))
    }

    /// Number of further deliveries that this lane can use.
    fn room(&self) -> usize {
        self.capacity().saturating_sub(self.prefetched.len())
    }

    /// Number of deliveries to claim. Unless much is waiting, half of the capacity is left to
    /// hand-offs.
    fn wanted(&self) -> usize {
        let reserved = self.lane.handoff.reserved();
        let room = self.room().saturating_sub(reserved).min(CLAIM_MAX);
        if self.is_behind {
            room
        } else {
            room.div_ceil(2)
        }
    }

    /// Time of the next claim. `None`: not before something changes.
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

    /// Time of the next action, unless an event comes first.
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
        self.emit_claimed(&deliveries);
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

    /// Offers free capacity for hand-offs. While deliveries in the store are due, half of it is
    /// left to them until they are claimed.
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
