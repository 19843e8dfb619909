//! The store as the gateway maintains it: prunes it, counts traffic and summarizes it.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Pruned, StoreError, Summary, TrafficCount};

/// The store as the gateway maintains it: prunes it, counts traffic and summarizes it.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Takes a step in forgetting what has been kept as long as the settings say, or is more than
    /// they allow, the oldest first. What waits for delivery stays, and an id is known for the
    /// whole dedupe horizon. A step is short, so that nobody who receives waits for it: ask again
    /// as long as there is more, and now and then.
    async fn prune(&self, now: Timestamp) -> Result<Pruned, StoreError>;

    /// Adds to the counts of these minutes, kinds and names.
    async fn add_traffic(&self, counts: Vec<TrafficCount>) -> Result<(), StoreError>;

    /// Summary of the store for the log line at the start. Quick for a store of any size. `None`:
    /// the store has no summary.
    async fn summary(&self) -> Result<Option<Summary>, StoreError>;
}
