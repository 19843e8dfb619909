//! One lane of one destination, at work: all that changes while it is.

mod claims;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::prefetch::{self, Prefetched, Waiting};
use super::{LaneContext, attempt, settle};
use crate::clock::Moment;
use crate::crash::{self, CrashPoint};
use crate::delivery::breaker::{CircuitChange, Permit};
use crate::delivery::limits::Limits;
use crate::delivery::response_excerpt::ResponseExcerpt;
use crate::delivery::retry::RetryPolicy;
use crate::delivery::{Delivery, Lane, Next, Outcome};
use crate::handoff::HandedOff;
use crate::store::{Attempt, Lease};
use claims::{Due, Looked};

/// How much longer a lease is than the longest attempt: room to settle.
pub(super) const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// Most settlements of a lane under way: as many as fill one commit of the store while another is
/// being made. Above, nothing new is begun. What is being settled when the process dies is
/// delivered again, like what is being delivered.
pub const SETTLING_MAX: usize = 512;

/// One lane of one destination, at work.
pub(super) struct LaneWorker {
    lane: Arc<LaneContext>,
    limits: Limits,
    due: Due,
    /// The claim that is being made, or none,
    pub(super) claim: JoinSet<Looked>,
    /// and when the last one was begun.
    claimed_at: Option<Instant>,
    /// How many the claim that is being made may bring.
    claiming: usize,
    /// Whether the last one left something that has waited for long: it goes before what comes.
    is_behind: bool,
    /// Claimed and not yet begun.
    prefetched: Prefetched,
    pub(super) attempts: JoinSet<Option<Outcome>>,
    under_way: HashMap<Id, UnderWay>,
    /// Each says when its delivery is due again, if it is.
    pub(super) settling: JoinSet<Option<Timestamp>>,
    is_store_failing: bool,
}

struct UnderWay {
    delivery: Arc<Delivery>,
    begun_at: Instant,
    permit: Permit,
}

impl LaneWorker {
    pub(super) fn new(lane: Arc<LaneContext>) -> Self {
        Self {
            limits: limits_of(&lane),
            lane,
            due: Due::Now,
            claim: JoinSet::new(),
            claimed_at: None,
            claiming: 0,
            is_behind: false,
            prefetched: Prefetched::default(),
            attempts: JoinSet::new(),
            under_way: HashMap::new(),
            settling: JoinSet::new(),
            is_store_failing: false,
        }
    }

    /// Takes what was leased to us as it was kept.
    pub(super) fn take_handed_off(&mut self) {
        for handed in self.lane.handoff.take() {
            crash::point(CrashPoint::Claimed);
            self.lane.handle.state().add_claimed(1);
            let HandedOff {
                delivery,
                claimed_at,
                timeout,
            } = handed;
            // Unless it is settled by then.
            let ends_at = claimed_at + lease(timeout);
            self.due.comes_by(ends_at);
            self.prefetch(vec![delivery], claimed_at, timeout);
        }
    }

    /// Adds claimed deliveries. A delivery is given back if its lease may end before its attempt.
    fn prefetch(&mut self, deliveries: Vec<Delivery>, claimed_at: Instant, timeout: Duration) {
        if claimed_at.elapsed() > LEASE_MARGIN {
            self.release(&deliveries);
        } else {
            self.prefetched.add(deliveries, claimed_at, timeout);
        }
    }

    /// Begins what is claimed, as far as there is room.
    pub(super) fn begin_prefetched(&mut self) {
        self.limits = limits_of(&self.lane);
        let store = &self.lane.store;
        let lost = self
            .prefetched
            .take_lost(|claimed_at| store.lease_is_valid(claimed_at));
        if !lost.is_empty() {
            self.release(&lost);
        }
        while self.free_slots() > 0
            && let Some(delivery) = self.prefetched.first()
        {
            if delivery.is_expired(&self.limits.retry, self.age(delivery)) {
                self.expire_first();
                continue;
            }
            let Some(permit) = self.lane.gate.begin(self.lane.lane, self.limits.rate) else {
                break;
            };
            if let Some(first) = self.prefetched.take_first() {
                self.begin(first, permit);
            }
        }
        let is_idle = self.limits.concurrency == 0 || self.lane.gate.is_shut(self.lane.lane);
        let useless = if is_idle {
            self.prefetched.take_all()
        } else {
            self.prefetched.take_stale()
        };
        if !useless.is_empty() {
            self.release(&useless);
        }
    }

    fn begin(&mut self, waiting: Waiting, permit: Permit) {
        let delivery = Arc::new(waiting.delivery);
        let attempt = attempt::make(
            Arc::clone(&self.lane),
            Arc::clone(&delivery),
            waiting.claimed_at,
            waiting.timeout.min(self.limits.timeout),
        );
        let id = self.attempts.spawn(attempt).id();
        let under_way = UnderWay {
            delivery,
            begun_at: Instant::now(),
            permit,
        };
        self.under_way.insert(id, under_way);
    }

    fn expire_first(&mut self) {
        if let Some(Waiting { delivery, .. }) = self.prefetched.take_first() {
            let outcome = Outcome::Refused {
                answer: "expired before it could be delivered".into(),
                said: ResponseExcerpt::default(),
            };
            self.settle(
                &Arc::new(delivery),
                &outcome,
                Duration::ZERO,
                CircuitChange::Stays,
            );
        }
    }

    /// While the clock is in doubt, an attempt may have failed because of that: a signature or a
    /// certificate is checked by the time. So no number of attempts is too many.
    fn retry_policy(&self) -> Cow<'_, RetryPolicy> {
        let policy = &self.limits.retry;
        if policy.attempts_max.is_none() || self.lane.clock.doubt().is_none() {
            return Cow::Borrowed(policy);
        }
        Cow::Owned(RetryPolicy {
            attempts_max: None,
            ..policy.clone()
        })
    }

    /// How long ago it was first due, or replayed.
    fn age(&self, delivery: &Delivery) -> Duration {
        let clock = &self.lane.clock;
        match delivery.lane {
            Lane::Call => clock.age_by_wall(delivery.since),
            Lane::Standard => clock.age(delivery.since),
        }
    }

    fn free_slots(&self) -> usize {
        if self.settling.len() >= SETTLING_MAX {
            return 0;
        }
        self.limits.concurrency.saturating_sub(self.under_way.len())
    }

    pub(super) fn ended(&mut self, ended: Result<(Id, Option<Outcome>), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Some(attempt::broke_off())),
        };
        if let Some(under_way) = self.under_way.remove(&id) {
            let Some(outcome) = outcome else {
                self.lane.gate.withdraw(under_way.permit);
                self.release(std::slice::from_ref(&*under_way.delivery));
                return;
            };
            self.prefetched.finished();
            let now = self.lane.clock.now();
            let change = self.lane.gate.end(under_way.permit, &outcome, now);
            let took = under_way.begun_at.elapsed();
            self.settle(&under_way.delivery, &outcome, took, change);
        }
    }

    /// Decides what follows from the outcome, and has that recorded.
    fn settle(
        &mut self,
        delivery: &Arc<Delivery>,
        outcome: &Outcome,
        took: Duration,
        change: CircuitChange,
    ) {
        let Moment { now, stamp } = self.lane.clock.moment();
        let age = self.age(delivery);
        let random = fastrand::f64();
        let next = Next::after(outcome, delivery, &self.retry_policy(), now, age, random);
        let failures = self.lane.gate.failures();
        settle::log(failures, delivery, outcome.answer(), next, now, change);
        let attempt = Attempt {
            delivery: delivery.id,
            number: delivery.attempt,
            ended_at: stamp,
            took,
            answer: outcome.answer().to_owned(),
            said: outcome.said().clone(),
            next,
        };
        let lane = Arc::clone(&self.lane);
        let delivery = Arc::clone(delivery);
        self.settling
            .spawn(async move { settle::settle(&lane, &delivery, attempt).await });
    }

    /// Logs the failures that were only counted, once a minute.
    pub(super) fn log_failures(&self) {
        self.lane.gate.log_due();
    }

    /// Where a delivery is due again, it is claimed then.
    pub(super) fn settled(&mut self, settled: Result<Option<Timestamp>, JoinError>) {
        match settled {
            Ok(Some(due_at)) => self.due_by(due_at, self.lane.clock.now()),
            Ok(None) => {}
            // A bug. The lease runs out.
            Err(error) => {
                tracing::error!(
                    destination = self.lane.handle.name(),
                    "cannot store the result of an attempt: {error}"
                );
            }
        }
    }

    /// Takes what else has ended by now, so that its slots are filled together.
    pub(super) fn drain(&mut self) {
        while let Some(ended) = self.attempts.try_join_next_with_id() {
            self.ended(ended);
        }
        while let Some(settled) = self.settling.try_join_next() {
            self.settled(settled);
        }
    }

    fn release(&mut self, deliveries: &[Delivery]) {
        let leases = deliveries.iter().map(Lease::from).collect();
        let lane = Arc::clone(&self.lane);
        self.settling.spawn(async move {
            settle::release(&lane, leases).await;
            Some(lane.clock.now())
        });
    }

    /// Gives back what is not begun, and waits for what is and for what was promised a place.
    pub(super) async fn finish(mut self) {
        let gate = Arc::clone(&self.lane.gate);
        // Twice, for what is under way may take longer than this is waited for.
        gate.flush();
        while let Some(looked) = self.claim.join_next().await {
            if let Ok(Looked {
                claimed: Ok(claimed),
                claimed_at,
                timeout,
                ..
            }) = looked
            {
                self.prefetch(claimed.deliveries, claimed_at, timeout);
            }
        }
        self.offer_places(0);
        let handoff = Arc::clone(&self.lane.handoff);
        loop {
            self.take_handed_off();
            let unbegun = self.prefetched.take_all();
            if !unbegun.is_empty() {
                self.release(&unbegun);
            }
            tokio::select! {
                biased;
                Some(ended) = self.attempts.join_next_with_id() => self.ended(ended),
                Some(settled) = self.settling.join_next() => self.settled(settled),
                () = handoff.arrived(), if handoff.reserved() > 0 => {}
                else => break,
            }
            // A dispatcher that takes over has seen it leased until now.
            self.lane.handle.notify(self.lane.lane);
        }
        gate.flush();
    }
}

/// For how long a delivery is leased whose attempt may take `timeout`.
fn lease(timeout: Duration) -> Duration {
    timeout + prefetch::WAIT_MAX + LEASE_MARGIN
}

/// The part of the limits that this gateway has at this moment.
fn limits_of(lane: &LaneContext) -> Limits {
    let share = lane.store.share(lane.handle.name());
    share.of(&lane.limits.borrow()).of(lane.lane)
}
