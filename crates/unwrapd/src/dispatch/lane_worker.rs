//! The state of one running lane of one destination.

mod claims;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::Level;

use super::prefetch::{self, Prefetched, Waiting};
use super::{LaneContext, attempt, settle};
use crate::clock::Moment;
use crate::crash::{self, CrashPoint};
use crate::delivery::breaker::{CircuitChange, Permit};
use crate::delivery::limits::Limits;
use crate::delivery::response_excerpt::ResponseExcerpt;
use crate::delivery::retry::RetryPolicy;
use crate::delivery::{Delivery, EXPIRED, Lane, Next, Outcome};
use crate::handoff::HandedOff;
use crate::pipeline_events::PipelineEvent;
use crate::store::{Attempt, Lease};
use claims::{Due, Looked};

/// Time by which a lease is longer than the longest attempt: time to settle.
pub(super) const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// Maximum number of running settlements of a lane: as many as fill one commit of the store while
/// another one runs. Above it, no attempt begins. If the process dies, these messages are delivered
/// again, like those being attempted.
pub const SETTLING_MAX: usize = 512;

/// A running lane of a destination.
pub(super) struct LaneWorker {
    lane: Arc<LaneContext>,
    limits: Limits,
    due: Due,
    /// The running claim, if there is one.
    pub(super) claim: JoinSet<Looked>,
    /// When the last claim began.
    claimed_at: Option<Instant>,
    /// Maximum number of deliveries that the running claim may return.
    claiming: usize,
    /// Whether the last claim left a delivery that has waited for long, and that new messages must
    /// not overtake.
    is_behind: bool,
    /// Deliveries that are claimed and not begun.
    prefetched: Prefetched,
    pub(super) attempts: JoinSet<Option<Outcome>>,
    under_way: HashMap<Id, UnderWay>,
    /// Running settlements. Each returns the next due time of its delivery, if there is one.
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

    /// Takes deliveries that were leased in the commit that stored them.
    pub(super) fn take_handed_off(&mut self) {
        for handed in self.lane.handoff.take() {
            crash::point(CrashPoint::Claimed);
            self.lane.handle.state().add_claimed(1);
            let HandedOff {
                delivery,
                claimed_at,
                timeout,
            } = handed;
            // Unless the delivery is settled by then.
            let ends_at = claimed_at + lease(timeout);
            self.due.comes_by(ends_at);
            self.emit_claimed(std::slice::from_ref(&delivery));
            self.prefetch(vec![delivery], claimed_at, timeout);
        }
    }

    fn emit_claimed(&self, deliveries: &[Delivery]) {
        let events = &self.lane.events;
        if !events.is_observed(Level::TRACE) {
            return;
        }
        for delivery in deliveries {
            events.emit(Level::TRACE, || PipelineEvent::Claimed {
                webhook_id: delivery.message.webhook_id.clone(),
                destination: delivery.destination.clone(),
                attempt: delivery.attempt,
            });
        }
    }

    /// Adds claimed deliveries. A delivery is released if its lease may end before its attempt
    /// does.
    fn prefetch(&mut self, deliveries: Vec<Delivery>, claimed_at: Instant, timeout: Duration) {
        if claimed_at.elapsed() > LEASE_MARGIN {
            self.release(&deliveries);
        } else {
            self.prefetched.add(deliveries, claimed_at, timeout);
        }
    }

    /// Begins claimed deliveries, as far as there are free slots.
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
                answer: EXPIRED.into(),
                status: None,
                said: ResponseExcerpt::default(),
            };
            self.settle(&Arc::new(delivery), &outcome, None, CircuitChange::Stays);
        }
    }

    /// While the clock is in doubt, an attempt may fail for that reason, because signatures and
    /// certificates are checked against the time. So the number of attempts is not limited then.
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

    /// Time since the delivery was first due, or replayed.
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
            self.settle(&under_way.delivery, &outcome, Some(took), change);
        }
    }

    /// Decides about the next step, and records it. `took` is `None` if no
    /// attempt was made.
    fn settle(
        &mut self,
        delivery: &Arc<Delivery>,
        outcome: &Outcome,
        took: Option<Duration>,
        change: CircuitChange,
    ) {
        let Moment { now, stamp } = self.lane.clock.moment();
        let age = self.age(delivery);
        let random = fastrand::f64();
        let next = Next::after(outcome, delivery, &self.retry_policy(), now, age, random);
        let end = settle::End {
            took,
            age,
            next,
            now,
            change,
        };
        settle::emit_end(&self.lane, delivery, outcome, end);
        // After the attempt that caused it, and before its settlement.
        self.lane.gate.emit(change, Some(outcome.answer()));
        let attempt = Attempt {
            delivery: delivery.id,
            number: delivery.attempt,
            ended_at: stamp,
            took: took.unwrap_or_default(),
            answer: outcome.answer().to_owned(),
            said: outcome.said().clone(),
            next,
        };
        let lane = Arc::clone(&self.lane);
        let delivery = Arc::clone(delivery);
        let counted_as = settle::counted_as(outcome, next);
        self.settling
            .spawn(async move { settle::settle(&lane, &delivery, attempt, counted_as).await });
    }

    /// Logs the failures that were only counted, once a minute.
    pub(super) fn log_failures(&self) {
        self.lane.gate.log_due();
    }

    /// Schedules the next claim for the time at which the delivery is due again.
    pub(super) fn settled(&mut self, settled: Result<Option<Timestamp>, JoinError>) {
        match settled {
            Ok(Some(due_at)) => self.due_by(due_at, self.lane.clock.now()),
            Ok(None) => {}
            // A bug. The lease will end.
            Err(error) => {
                tracing::error!(
                    destination = self.lane.handle.name(),
                    "cannot store the result of an attempt: {error}"
                );
            }
        }
    }

    /// Handles everything else that has ended, so that the free slots are filled together.
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

    /// Releases deliveries that have not begun, and waits for running attempts, settlements and
    /// reservations.
    pub(super) async fn finish(mut self) {
        let gate = Arc::clone(&self.lane.gate);
        // Flushed twice, because the caller may stop waiting before the attempts end.
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
            // A dispatcher that takes over has seen the delivery as leased until this moment.
            self.lane.handle.notify(self.lane.lane);
        }
        gate.flush();
    }
}

/// The length of the lease for an attempt that may take `timeout`.
fn lease(timeout: Duration) -> Duration {
    timeout + prefetch::WAIT_MAX + LEASE_MARGIN
}

/// This gateway's current share of the limits.
fn limits_of(lane: &LaneContext) -> Limits {
    let share = lane.store.share(lane.handle.name());
    share.of(&lane.limits.borrow()).of(lane.lane)
}
