//! Tells whoever waits for work at a destination that there is some, or hands it over.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::delivery::Lane;
use crate::handover::{Handover, Slot};

/// One bell a destination and lane, and what is offered there. Ringing while nobody waits is remembered, once, so no ring is lost between
/// a look and a wait.
#[derive(Clone, Debug, Default)]
pub struct Bells(Arc<RwLock<HashMap<String, OfLanes>>>);

type OfLanes = [OfLane; Lane::ALL.len()];

#[derive(Debug)]
struct OfLane {
    bell: Arc<Notify>,
    handover: Arc<Handover>,
}

impl Default for OfLane {
    fn default() -> Self {
        let bell = Arc::new(Notify::new());
        let handover = Arc::new(Handover::new(Arc::clone(&bell)));
        Self { bell, handover }
    }
}

impl Bells {
    /// There is work for this destination in this lane.
    pub fn ring(&self, destination: &str, lane: Lane) {
        let bells = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(bells) = bells.get(destination) {
            bells[lane as usize].bell.notify_one();
        }
    }

    /// A place there for what is about to be kept, if one is offered, leased from `now` on.
    #[must_use]
    pub fn slot(&self, destination: &str, lane: Lane, now: Timestamp) -> Option<Slot> {
        let bells = self.0.read().unwrap_or_else(PoisonError::into_inner);
        bells.get(destination)?[lane as usize].handover.slot(now)
    }

    /// Something changed for this destination in every lane.
    pub fn ring_all(&self, destination: &str) {
        for lane in Lane::ALL {
            self.ring(destination, lane);
        }
    }

    /// The bell of a destination and lane.
    #[must_use]
    pub fn of(&self, destination: &str, lane: Lane) -> Arc<Notify> {
        self.lane(destination, lane, |of_lane| Arc::clone(&of_lane.bell))
    }

    /// For who delivers to this destination in this lane from now on: what comes is offered a place there. Who did before still gets what
    /// has one.
    #[must_use]
    pub fn take_over(&self, destination: &str, lane: Lane) -> Arc<Handover> {
        self.lane(destination, lane, |of_lane| {
            of_lane.handover = Arc::new(Handover::new(Arc::clone(&of_lane.bell)));
            Arc::clone(&of_lane.handover)
        })
    }

    fn lane<T>(&self, destination: &str, lane: Lane, of: impl FnOnce(&mut OfLane) -> T) -> T {
        let mut bells = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let bells = bells.entry(destination.to_owned()).or_default();
        of(&mut bells[lane as usize])
    }
}
