//! Dispatches the deliveries of a destination: claims due ones, attempts them and settles them.
//! Each lane of each destination has its own loop. So a slow destination delays only its own
//! deliveries, and a backlog does not delay calls.
//!
//! A slot is free again as soon as the destination has answered; the settlement is committed in the
//! background. For a fast destination, the next deliveries are claimed in advance, so that it does
//! not wait for the store.

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
    /// The destination, shared by all parts of the gateway.
    pub handle: Arc<DestinationHandle>,
    /// The lane.
    pub lane: Lane,
    /// Makes the attempts.
    pub destination: Arc<dyn Destination>,
    /// The limits of the destination, which may change at any time.
    pub limits: watch::Receiver<Limits>,
    /// State that the lanes of the destination share.
    pub gate: Arc<Gate>,
    /// The store of the deliveries.
    pub store: Arc<dyn DeliveryQueue>,
    /// Offers reservations, and receives deliveries that are handed off.
    pub handoff: Arc<DirectHandoff>,
    /// Receives the pipeline events.
    pub events: EventBus,
    /// The clock of the gateway.
    pub clock: Clock,
}

impl LaneContext {
    /// Delivers until shutdown, then finishes what has begun, settlements included. It survives
    /// errors of the store, and a destination that panics.
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
            // The order is fixed, so that a simulation with the same seed takes the same course.
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
