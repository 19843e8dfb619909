//! One attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::crash;
use crate::delivery::{Delivery, Outcome};
use crate::destination::Destination;

/// Hands the delivery over, within `longest`.
pub(super) async fn make(
    destination: Arc<dyn Destination>,
    delivery: Arc<Delivery>,
    longest: Duration,
) -> Outcome {
    let outcome = timeout(longest, destination.send(&delivery))
        .await
        .unwrap_or_else(|_| Outcome::failed("no answer in time"));
    crash::point("sent");
    outcome
}

/// The outcome of an attempt that panicked. Whether the destination has the message nobody knows, so it gets it again.
pub(super) fn broke_off() -> Outcome {
    Outcome::failed("the attempt broke off in unwrapd (a bug; please report it)")
}
