//! The loop behind a destination: claim what is due, send it, settle it. Each lane of each destination has its own, so a slow one
//! costs its own deliveries only, and no backlog stands before a call.
//!
//! A slot is free again as soon as the destination has answered; the settlement waits for its commit in the background. A destination
//! that answers fast has its next deliveries claimed ahead, so that it does not wait for the store either.

mod attempt;
mod failures;
mod findings;
mod gate;
mod ready;
mod running;
mod settle;

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;

use crate::clock::Clock;
use crate::delivery::Lane;
use crate::delivery::limits::Limits;
use crate::destination::Destination;
use crate::feed::Feed;
use crate::handover::Handover;
use crate::shutdown::Shutdown;
use crate::store::Store;
pub use findings::{Finding, Findings};
pub use gate::Gate;
use running::Running;
pub use running::SETTLING_MAX;

/// The state for deliveries to one destination in one lane.
pub struct Dispatcher {
    /// Name of the destination.
    pub name: String,
    /// The lane.
    pub lane: Lane,
    /// Where to deliver.
    pub destination: Arc<dyn Destination>,
    /// How hard the destination may be pressed. It may change at any time.
    pub limits: watch::Receiver<Limits>,
    /// State that the lanes of the destination share.
    pub gate: Arc<Gate>,
    /// Where deliveries are kept.
    pub store: Arc<dyn Store>,
    /// Rings when there is new work.
    pub bell: Arc<Notify>,
    /// Where free places are offered, and work is handed over.
    pub handover: Arc<Handover>,
    /// The event feed.
    pub feed: Feed,
    /// The clock of the gateway.
    pub clock: Clock,
}

impl Dispatcher {
    /// Delivers until shutdown, then finishes what is under way, settlements included. A failing store does not end it, nor does a
    /// destination that panics.
    pub async fn run(self, mut shutdown: Shutdown) {
        let mut limits = self.limits.clone();
        let bell = Arc::clone(&self.bell);
        let handover = Arc::clone(&self.handover);
        let mut lane = Running::new(Arc::new(self));
        loop {
            lane.take_handed();
            lane.begin_ready();
            lane.claim_if_it_is_time();
            lane.offer();
            let wake_at = lane.wake_at();
            // In this order, so that a seed makes a simulation go the same way again.
            tokio::select! {
                biased;
                () = shutdown.begun() => break,
                Some(claimed) = lane.claim.join_next() => lane.claimed(claimed),
                Some(ended) = lane.attempts.join_next_with_id() => lane.ended(ended),
                Some(settled) = lane.settling.join_next() => lane.settled(settled),
                () = handover.arrived() => {}
                () = bell.notified() => lane.is_due(),
                Ok(()) = limits.changed() => {}
                () = sleep_until(wake_at) => {}
            }
            lane.drain();
            lane.log_failures();
        }
        lane.finish().await;
    }
}
