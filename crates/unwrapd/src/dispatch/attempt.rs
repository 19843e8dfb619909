//! Makes one attempt of a delivery.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::LaneContext;
use crate::crash::{self, CrashPoint};
use crate::delivery::{Delivery, Outcome};
use crate::trace_context::AttemptTrace;

/// Makes the attempt within `longest`. `None`: the lease is no longer certain, so nothing was
/// begun.
pub(super) async fn make(
    lane: Arc<LaneContext>,
    delivery: Arc<Delivery>,
    claimed_at: Instant,
    longest: Duration,
) -> Option<Outcome> {
    if !lane.store.lease_is_valid(claimed_at) {
        return None;
    }
    let trace = trace_of(&lane, &delivery);
    let outcome = timeout(longest, lane.destination.send(&delivery, trace))
        .await
        .unwrap_or_else(|_| Outcome::failed("no answer in time"));
    crash::point(CrashPoint::Sent);
    Some(outcome)
}

/// The trace of an attempt, if its webhook is traced.
pub(super) fn trace_of(lane: &LaneContext, delivery: &Delivery) -> Option<AttemptTrace> {
    let trace = lane.events.trace_of(&delivery.message)?;
    Some(trace.attempt(&delivery.destination, delivery.attempt))
}

/// The outcome of an attempt that panicked. Whether the destination has the message is unknown, so
/// it is sent again.
pub(super) fn broke_off() -> Outcome {
    Outcome::failed("the attempt ended early in unwrapd (a bug; please report it)")
}
