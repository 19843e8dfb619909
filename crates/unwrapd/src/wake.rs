//! Tells whoever waits for work at a destination that there is some.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;

/// One bell a destination. Ringing while nobody waits is remembered, once, so no ring is lost between a look and a wait.
#[derive(Clone, Debug, Default)]
pub struct Bells(Arc<HashMap<String, Arc<Notify>>>);

impl Bells {
    /// Bells for these destinations.
    pub fn new(destinations: impl IntoIterator<Item = String>) -> Self {
        Self(Arc::new(
            destinations
                .into_iter()
                .map(|name| (name, Arc::default()))
                .collect(),
        ))
    }

    /// There is work for this destination.
    pub fn ring(&self, destination: &str) {
        if let Some(bell) = self.0.get(destination) {
            bell.notify_one();
        }
    }

    /// The bell of a destination.
    #[must_use]
    pub fn of(&self, destination: &str) -> Arc<Notify> {
        self.0.get(destination).cloned().unwrap_or_default()
    }
}
