//! The store as the process uses it that opened it: checks whether it works, and closes it.

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::StoreError;

/// The store as the process uses it that opened it: checks whether it works, and closes it.
#[async_trait]
pub trait Lifecycle: Send + Sync {
    /// Writes something durably that has no other use: an error means that a message could not be
    /// stored at this moment.
    async fn check_writable(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Stores the trusted time, for [`Clock::anchor`](unwrapd_core::clock::Clock::anchor) of the
    /// next process.
    async fn remember(&self, trusted: Timestamp) -> Result<(), StoreError>;

    /// Waits until the store is permanently unusable: it was closed, or one of its threads died.
    async fn failed(&self);

    /// Waits until nothing has been written for some seconds because the disk does not answer. The
    /// disk may answer again later. A store that is reached over the network never returns: its
    /// requests have time-outs.
    async fn hangs(&self);

    /// Finishes the work in progress and closes the files. Later requests get
    /// [`StoreError::Unavailable`].
    async fn close(&self);
}
