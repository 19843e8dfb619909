//! The store as the gateway maintains it: prunes, counts, checks and closes it.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Pruned, StoreError, Summary, Tally, TrafficCount};

/// The store as the gateway maintains it: prunes, counts, checks and closes it.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Writes something durably and for nothing: whether a message could be kept now.
    async fn check_writable(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Remembers what time it is, for [`Clock::anchor`](unwrapd_core::clock::Clock::anchor) of the next process.
    async fn remember(&self, trusted: Timestamp) -> Result<(), StoreError>;

    /// Takes a step in forgetting what has been kept as long as the settings say, or is more than
    /// they allow, the oldest first. What waits for delivery stays, and an id is known for the
    /// whole dedupe horizon. A step is short, so that nobody who receives waits for it: ask again
    /// as long as there is more, and now and then.
    async fn prune(&self, now: Timestamp) -> Result<Pruned, StoreError>;

    /// Adds to the counts of these minutes, kinds and names.
    async fn add_traffic(&self, counts: Vec<TrafficCount>) -> Result<(), StoreError>;

    /// How many messages there are, and deliveries in each state. Takes the longer the more there
    /// are, and holds nobody up.
    async fn tally(&self) -> Result<Tally, StoreError>;

    /// Summary of the store for the log line at the start. Quick for a store of any size. `None`:
    /// the store has no summary.
    async fn summary(&self) -> Result<Option<Summary>, StoreError>;

    /// Waits until the store can never be used again: it is closed, or a thread of it has died.
    async fn failed(&self);

    /// Waits until nothing has been written for some seconds, since the disk does not answer. It
    /// may answer again. A store that is asked over the network never says so: what is asked of it
    /// has a time-out.
    async fn hangs(&self);

    /// Finishes what was asked for and closes the files. What is asked for afterwards is [`StoreError::Unavailable`].
    async fn close(&self);
}
