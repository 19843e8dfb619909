//! The loop behind a destination: claim what is due, send it, settle it. Each lane of each
//! destination has its own, so a slow one costs its own deliveries only, and no backlog stands
//! before a call.
//!
//! A slot is free again as soon as the destination has answered; the settlement waits for its
//! commit in the background. A destination that answers fast has its next deliveries claimed ahead,
//! so that it does not wait for the store either.

mod attempt;
mod lane_worker;
mod prefetch;
mod settle;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::clock::Clock;
use crate::delivery::Lane;
use crate::delivery::limits::Limits;
use crate::destinations::{Destination, DestinationHandle, Gate};
use crate::handoff::DirectHandoff;
use crate::pipeline_events::EventBus;
use crate::store::DeliveryQueue;
use lane_worker::LaneWorker;
pub use lane_worker::SETTLING_MAX;
use tokio_util::sync::CancellationToken;

/// The state for deliveries to one destination in one lane.
pub struct LaneContext {
    /// The destination, as all parts of the gateway know it.
    pub handle: Arc<DestinationHandle>,
    /// The lane.
    pub lane: Lane,
    /// Where to deliver.
    pub destination: Arc<dyn Destination>,
    /// How hard the destination may be pressed. It may change at any time.
    pub limits: watch::Receiver<Limits>,
    /// State that the lanes of the destination share.
    pub gate: Arc<Gate>,
    /// Where deliveries are kept.
    pub store: Arc<dyn DeliveryQueue>,
    /// Where free places are offered, and work is handed over.
    pub handoff: Arc<DirectHandoff>,
    /// The event feed.
    pub events: EventBus,
    /// The clock of the gateway.
    pub clock: Clock,
}

impl LaneContext {
    /// Delivers until shutdown, then finishes what is under way, settlements included. A failing
    /// store does not end it, nor does a destination that panics.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut limits = self.limits.clone();
        let wakeup = self.handle.wakeup(self.lane);
        let handoff = Arc::clone(&self.handoff);
        let mut lane = LaneWorker::new(Arc::new(self));
        loop {
            lane.take_handed_off();
            lane.begin_prefetched();
            lane.claim_if_it_is_time();
            lane.offer();
            let wake_at = lane.wake_at();
            // In this order, so that a seed makes a simulation go the same way again.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(claimed) = lane.claim.join_next() => lane.claimed(claimed),
                Some(ended) = lane.attempts.join_next_with_id() => lane.ended(ended),
                Some(settled) = lane.settling.join_next() => lane.settled(settled),
                () = handoff.arrived() => {}
                () = wakeup.notified() => lane.is_due(),
                Ok(()) = limits.changed() => {}
                () = sleep_until(wake_at) => {}
            }
            lane.drain();
            lane.log_failures();
        }
        lane.finish().await;
    }
}
