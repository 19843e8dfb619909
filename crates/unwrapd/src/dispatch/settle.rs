//! Records and reports the outcome of an attempt.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tracing::Level;

use super::lane_worker::LEASE_MARGIN;
use super::{LaneContext, attempt};
use crate::crash::{self, CrashPoint};
use crate::delivery::breaker::CircuitChange;
use crate::delivery::{Delivery, Next, Outcome};
use crate::destinations::Failure;
use crate::pipeline_events::PipelineEvent;
use crate::store::{Attempt, Lease, Settled, StoreError, TrafficKind};

/// Rest before a busy store is called again.
const BUSY_RETRY: Duration = Duration::from_millis(50);
/// Rest before a store that did not answer is called again.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// The kind as which an attempt counts, or a delivery that expired before one.
pub(super) const fn counted_as(outcome: &Outcome, next: Next) -> TrafficKind {
    match (next, outcome) {
        (Next::Delivered, _) => TrafficKind::Delivered,
        (Next::Retry { .. }, _) => TrafficKind::Retried,
        (Next::Dead, Outcome::Refused { .. }) => TrafficKind::Rejected,
        (Next::Dead, _) => TrafficKind::Dead,
    }
}

/// Records the attempt. Returns the next due time of the delivery, if there is one.
pub(super) async fn settle(
    lane: &LaneContext,
    delivery: &Delivery,
    attempt: Attempt,
    counted_as: TrafficKind,
) -> Option<Timestamp> {
    let due_at = match attempt.next {
        Next::Retry { due_at } => Some(due_at),
        Next::Delivered | Next::Dead => None,
    };
    let destination = lane.handle.name();
    let webhook_id = &delivery.message.webhook_id;
    match patiently(|| lane.store.settle(attempt.clone())).await {
        Ok(Settled::Settled) => {
            crash::point(CrashPoint::Settled);
            if due_at.is_none() {
                lane.handle.state().closed();
            }
            let traffic = lane.events.traffic();
            traffic.count(counted_as, destination, attempt.ended_at);
            lane.events.emit(Level::TRACE, || PipelineEvent::Settled {
                webhook_id: webhook_id.clone(),
                destination: destination.to_owned(),
                attempt: attempt.number,
                next: attempt.next,
            });
            due_at
        }
        Ok(Settled::Fenced) => {
            tracing::warn!(
                destination,
                webhook_id,
                attempt = attempt.number,
                "the result of an attempt came too late; the message is delivered again"
            );
            None
        }
        // The lease ends, and the message is delivered again: delivery is at least once.
        Err(error) => {
            tracing::error!(
                destination,
                webhook_id,
                attempt = attempt.number,
                "cannot store the result of an attempt: {error}"
            );
            None
        }
    }
}

/// Releases deliveries that were not begun.
pub(super) async fn release(lane: &LaneContext, leases: Vec<Lease>) {
    // Otherwise they wait until their leases end.
    if let Err(error) = patiently(|| lane.store.release(leases.clone())).await {
        let destination = lane.handle.name();
        tracing::error!(
            destination,
            "cannot give back claimed deliveries, which wait until their leases end: {error}"
        );
    }
}

/// Repeats a call while the lease lasts: without a settlement, the message is delivered again, and
/// without a release, the delivery waits until its lease ends.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let deadline = Instant::now() + LEASE_MARGIN;
    loop {
        let done = ask().await;
        let wait = match &done {
            Ok(_) => return done,
            Err(StoreError::Busy) => BUSY_RETRY,
            Err(_) => STORE_RETRY,
        };
        if Instant::now() + wait > deadline {
            return done;
        }
        sleep(wait).await;
    }
}

/// The end of an attempt, or of a delivery that expired before one was begun.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// Length of the attempt. `None`: none was begun.
    pub(super) took: Option<Duration>,
    /// Time since the delivery was first due, or was replayed.
    pub(super) age: Duration,
    pub(super) next: Next,
    pub(super) now: Timestamp,
    pub(super) change: CircuitChange,
}

/// Emits the end of an attempt.
///
/// The log has a warning when a destination begins to fail, and not one for every attempt while it
/// does. Where it begins again and again, and for dead letters, warnings of one cause are counted.
pub(super) fn emit_end(lane: &LaneContext, delivery: &Delivery, outcome: &Outcome, end: End) {
    let End {
        took,
        age,
        next,
        now,
        change,
    } = end;
    let answer = outcome.answer();
    let failures = lane.gate.failures();
    let (repeats, notable) = match next {
        Next::Retry { .. } if change == CircuitChange::Fails => {
            (failures.count(Failure::Retried, answer), Level::WARN)
        }
        Next::Delivered | Next::Retry { .. } => (None, Level::DEBUG),
        Next::Dead => (failures.count(Failure::Dead, answer), Level::ERROR),
    };
    let level = repeats.map_or(Level::DEBUG, |_| notable);
    lane.events.emit(level, || {
        let webhook_id = delivery.message.webhook_id.clone();
        let event_type = delivery.message.kind().to_owned();
        let destination = delivery.destination.clone();
        let trace = attempt::trace_of(lane, delivery).filter(|one| one.trace.is_sampled);
        let attempt = delivery.attempt;
        let Some(duration) = took else {
            return PipelineEvent::Expired {
                webhook_id,
                event_type,
                destination,
                attempt,
                repeats,
                trace,
            };
        };
        PipelineEvent::AttemptEnded {
            webhook_id,
            event_type,
            destination,
            lane: delivery.lane,
            attempt,
            answer: answer.to_owned(),
            status: outcome.status(),
            duration,
            age,
            next,
            retry_in: match next {
                Next::Retry { due_at } => Duration::try_from(due_at.duration_since(now)).ok(),
                Next::Delivered | Next::Dead => None,
            },
            repeats,
            trace,
        }
    });
}
