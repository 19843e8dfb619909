//! The store as the gateway maintains it: prunes it, counts traffic and summarizes it.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Pruned, StoreError, Summary, TrafficCount};

/// The store as the gateway maintains it: prunes it, counts traffic and summarizes it.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Takes one step of pruning: deletes content older than the configured times or above the
    /// configured size, oldest first. Messages with waiting deliveries stay, and ids stay for the
    /// whole dedupe horizon.
    ///
    /// A step is short, so that receiving does not wait for it. Call it again while
    /// [`Pruned::is_more`](super::Pruned::is_more) is set, and regularly.
    async fn prune(&self, now: Timestamp) -> Result<Pruned, StoreError>;

    /// Adds to the counts of these minutes, kinds and names.
    async fn add_traffic(&self, counts: Vec<TrafficCount>) -> Result<(), StoreError>;

    /// Returns the summary for the log line at the start, quickly for a store of any size. `None`
    /// if the store has no summary.
    async fn summary(&self) -> Result<Option<Summary>, StoreError>;
}
