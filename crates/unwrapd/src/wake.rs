//! Tells whoever waits for work at a destination that there is some.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::delivery::Lane;

/// One bell a destination and lane. Ringing while nobody waits is remembered, once, so no ring is lost between a look and a wait.
#[derive(Clone, Debug, Default)]
pub struct Bells(Arc<RwLock<HashMap<String, OfLanes>>>);

type OfLanes = [Arc<Notify>; Lane::ALL.len()];

impl Bells {
    /// There is work for this destination in this lane.
    pub fn ring(&self, destination: &str, lane: Lane) {
        let bells = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(bells) = bells.get(destination) {
            bells[lane as usize].notify_one();
        }
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
        let mut bells = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let bells = bells.entry(destination.to_owned()).or_default();
        Arc::clone(&bells[lane as usize])
    }
}
