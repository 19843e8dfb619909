//! Tells whoever waits for work at a destination that there is some, or hands it over.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::delivery::Lane;
use crate::handoff::{DirectHandoff, Reservation};

/// One bell a destination and lane, and what is offered there. Ringing while nobody waits is remembered, once, so no ring is lost between
/// a look and a wait.
#[derive(Clone, Debug, Default)]
pub struct Wakeups(Arc<RwLock<HashMap<String, LaneWakeups>>>);

type LaneWakeups = [LaneWakeup; Lane::ALL.len()];

#[derive(Debug)]
struct LaneWakeup {
    wakeup: Arc<Notify>,
    handoff: Arc<DirectHandoff>,
}

impl Default for LaneWakeup {
    fn default() -> Self {
        let wakeup = Arc::new(Notify::new());
        let handoff = Arc::new(DirectHandoff::new(Arc::clone(&wakeup)));
        Self { wakeup, handoff }
    }
}

impl Wakeups {
    /// There is work for this destination in this lane.
    pub fn notify(&self, destination: &str, lane: Lane) {
        let wakeups = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(wakeups) = wakeups.get(destination) {
            wakeups[lane as usize].wakeup.notify_one();
        }
    }

    /// A place there for what is about to be kept, if one is offered, leased from `now` on.
    #[must_use]
    pub fn slot(&self, destination: &str, lane: Lane, now: Timestamp) -> Option<Reservation> {
        let wakeups = self.0.read().unwrap_or_else(PoisonError::into_inner);
        wakeups.get(destination)?[lane as usize].handoff.slot(now)
    }

    /// Something changed for this destination in every lane.
    pub fn notify_all(&self, destination: &str) {
        for lane in Lane::ALL {
            self.notify(destination, lane);
        }
    }

    /// The bell of a destination and lane.
    #[must_use]
    pub fn of(&self, destination: &str, lane: Lane) -> Arc<Notify> {
        self.lane(destination, lane, |lane_wakeup| {
            Arc::clone(&lane_wakeup.wakeup)
        })
    }

    /// For who delivers to this destination in this lane from now on: what comes is offered a place there. Who did before still gets what
    /// has one.
    #[must_use]
    pub fn take_over(&self, destination: &str, lane: Lane) -> Arc<DirectHandoff> {
        self.lane(destination, lane, |lane_wakeup| {
            lane_wakeup.handoff = Arc::new(DirectHandoff::new(Arc::clone(&lane_wakeup.wakeup)));
            Arc::clone(&lane_wakeup.handoff)
        })
    }

    fn lane<T>(&self, destination: &str, lane: Lane, of: impl FnOnce(&mut LaneWakeup) -> T) -> T {
        let mut wakeups = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let wakeups = wakeups.entry(destination.to_owned()).or_default();
        of(&mut wakeups[lane as usize])
    }
}
