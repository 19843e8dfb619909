//! Wakes the dispatcher of a lane when there is work, or hands the work to it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::delivery::Lane;
use crate::handoff::{DirectHandoff, Reservation};

/// A wake-up and a hand-off for each destination and lane. A notification without a waiting
/// dispatcher is stored, once, so none is lost between a claim and a wait.
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
    /// Wakes the dispatcher of this destination and lane.
    pub fn notify(&self, destination: &str, lane: Lane) {
        let wakeups = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(wakeups) = wakeups.get(destination) {
            wakeups[lane as usize].wakeup.notify_one();
        }
    }

    /// A reservation for a message that is about to be stored, leased from `now` on. `None`: the
    /// dispatcher offers none.
    #[must_use]
    pub fn slot(&self, destination: &str, lane: Lane, now: Timestamp) -> Option<Reservation> {
        let wakeups = self.0.read().unwrap_or_else(PoisonError::into_inner);
        wakeups.get(destination)?[lane as usize].handoff.slot(now)
    }

    /// Wakes the dispatchers of all lanes of this destination.
    pub fn notify_all(&self, destination: &str) {
        for lane in Lane::ALL {
            self.notify(destination, lane);
        }
    }

    /// The wake-up of a destination and lane.
    #[must_use]
    pub fn of(&self, destination: &str, lane: Lane) -> Arc<Notify> {
        self.lane(destination, lane, |lane_wakeup| {
            Arc::clone(&lane_wakeup.wakeup)
        })
    }

    /// The hand-off for a new dispatcher of this destination and lane. The dispatcher before it still
    /// gets the messages that have a reservation.
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
