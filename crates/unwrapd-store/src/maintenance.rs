//! The store as the gateway maintains it: prunes and summarizes it.

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::StoreError;

/// The store as the gateway maintains it: prunes and summarizes it.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Takes one step of pruning: deletes content older than the configured times or above the
    /// configured size, oldest first. Messages with waiting deliveries stay, and ids stay for the
    /// whole dedupe horizon.
    ///
    /// A step is short, so that receiving does not wait for it. Call it again while
    /// [`Pruned::is_more`](super::Pruned::is_more) is set, and regularly.
    async fn prune(&self, now: Timestamp) -> Result<Pruned, StoreError>;

    /// Returns the summary for the log line at the start, quickly for a store of any size. `None`
    /// if the store has no summary.
    async fn summary(&self) -> Result<Option<Summary>, StoreError>;

    /// The size of the store. It is read often, so it needs no scan of large tables.
    async fn usage(&self) -> Result<StoreUsage, StoreError>;
}

/// The size of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Size of the database, in bytes.
    pub bytes: u64,
    /// Size of the write-ahead log beside it, in bytes; `None`: it has none of its own.
    pub log_bytes: Option<u64>,
    /// Number of refused requests in the quarantine.
    pub quarantined: u64,
}

/// Result of a step of pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Number of messages whose content was deleted: payload, deliveries and attempts.
    pub messages: u64,
    /// Whether there is more to prune.
    pub is_more: bool,
}

/// Largest number of messages that is counted for a [`Summary`].
pub const SUMMARY_MESSAGES_MAX: u64 = 100_000;

/// Summary of a store for the log line at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Version of the schema.
    pub schema: usize,
    /// Whether this process created the store. `None` if unknown.
    pub is_new: Option<bool>,
    /// Number of stored messages, or [`SUMMARY_MESSAGES_MAX`] if there are at least as many.
    pub messages: u64,
}
