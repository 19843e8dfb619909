//! Tells whoever waits for work at a destination that there is some.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::delivery::Lane;

/// One bell a destination and lane. Ringing while nobody waits is remembered, once, so no ring is lost between a look and a wait.
#[derive(Clone, Debug, Default)]
pub struct Bells(Arc<HashMap<Lane, HashMap<String, Arc<Notify>>>>);

impl Bells {
    /// Bells for these destinations.
    #[must_use]
    pub fn new<'n>(destinations: impl IntoIterator<Item = &'n str>) -> Self {
        Self::default().for_these(destinations)
    }

    /// Bells for these destinations; who waits for one that was there before goes on hearing it.
    #[must_use]
    pub fn for_these<'n>(&self, destinations: impl IntoIterator<Item = &'n str>) -> Self {
        let names: Vec<&str> = destinations.into_iter().collect();
        let bells = |lane| {
            names
                .iter()
                .map(|name| ((*name).to_owned(), self.of(name, lane)))
                .collect()
        };
        Self(Arc::new(Lane::ALL.map(|lane| (lane, bells(lane))).into()))
    }

    /// There is work for this destination in this lane.
    pub fn ring(&self, destination: &str, lane: Lane) {
        if let Some(bell) = self.get(destination, lane) {
            bell.notify_one();
        }
    }

    /// The bell of a destination and lane.
    #[must_use]
    pub fn of(&self, destination: &str, lane: Lane) -> Arc<Notify> {
        self.get(destination, lane).cloned().unwrap_or_default()
    }

    fn get(&self, destination: &str, lane: Lane) -> Option<&Arc<Notify>> {
        self.0.get(&lane)?.get(destination)
    }
}
