//! Records and reports the outcome of an attempt.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::LaneContext;
use super::lane_worker::LEASE_MARGIN;
use crate::crash::{self, CrashPoint};
use crate::delivery::breaker::CircuitChange;
use crate::delivery::{Delivery, Next};
use crate::destinations::{Failure, Failures};
use crate::pipeline_events::PipelineEvent;
use crate::store::{Attempt, Lease, Settled, StoreError, TrafficKind};

/// Rest before a busy store is called again.
const BUSY_RETRY: Duration = Duration::from_millis(50);
/// Rest before a store that did not answer is called again.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// Records the attempt. Returns the next due time of the delivery, if there is one.
pub(super) async fn settle(
    lane: &LaneContext,
    delivery: &Delivery,
    attempt: Attempt,
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
            let counted = match attempt.next {
                Next::Delivered => TrafficKind::Delivered,
                Next::Retry { .. } => TrafficKind::Retried,
                Next::Dead => TrafficKind::Dead,
            };
            let traffic = lane.events.traffic();
            traffic.count(counted, destination, attempt.ended_at);
            lane.events.emit(|| PipelineEvent::Attempted {
                webhook_id: webhook_id.clone(),
                destination: destination.to_owned(),
                attempt: attempt.number,
                answer: attempt.answer,
                next: attempt.next,
            });
            due_at
        }
        Ok(Settled::Fenced) => {
            tracing::warn!(
                destination,
                webhook_id,
                "the result of an attempt came too late; the message is delivered again"
            );
            None
        }
        // The lease ends, and the message is delivered again: delivery is at least once.
        Err(error) => {
            tracing::error!(
                destination,
                webhook_id,
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

/// Logs one line when a destination begins to fail, instead of one for every attempt. For a
/// destination that fails repeatedly, and for dead letters, failures of the same cause are counted.
pub(super) fn log(
    failures: &Failures,
    delivery: &Delivery,
    answer: &str,
    next: Next,
    now: Timestamp,
    change: CircuitChange,
) {
    let destination = &delivery.destination;
    let webhook_id = &delivery.message.webhook_id;
    let attempt = delivery.attempt;
    match next {
        Next::Delivered => {
            tracing::debug!(destination, webhook_id, attempt, "delivered: {answer}");
        }
        Next::Retry { due_at } => {
            let seconds = due_at.duration_since(now).as_secs_f64();
            let what = format_args!("not delivered yet, next attempt in {seconds:.1} s: {answer}");
            let counted =
                (change == CircuitChange::Fails).then(|| failures.count(Failure::Retried, answer));
            match counted.flatten() {
                Some(1) => tracing::warn!(destination, webhook_id, attempt, "{what}"),
                Some(count) => tracing::warn!(
                    destination,
                    webhook_id,
                    attempt,
                    "{what} ({count} such failures since the last such line)"
                ),
                None => tracing::debug!(destination, webhook_id, attempt, "{what}"),
            }
        }
        Next::Dead => match failures.count(Failure::Dead, answer) {
            Some(1) => tracing::error!(
                destination,
                webhook_id,
                attempt,
                "given up and kept as a dead letter: {answer}. Repair the destination, then `unwrapd dead replay`"
            ),
            Some(count) => tracing::error!(
                destination,
                webhook_id,
                attempt,
                "given up and kept as a dead letter: {answer} ({count} such deliveries since the last such line)"
            ),
            None => tracing::debug!(destination, webhook_id, attempt, "given up: {answer}"),
        },
    }
}
