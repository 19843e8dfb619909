//! The store as the control of destinations uses it: counts their deliveries and records pauses.

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::StoreError;

/// The store as the control of destinations uses it: counts their deliveries and records pauses.
#[async_trait]
pub trait DestinationControl: Send + Sync {
    /// The waiting deliveries and the dead letters of each destination. A destination with neither
    /// is left out.
    async fn destination_counts(&self) -> Result<Vec<DestinationCounts>, StoreError>;

    /// Records that `destination` is paused, until it is resumed. A destination that is paused
    /// already keeps the time of its first pause.
    async fn pause(&self, destination: &str, now: Timestamp) -> Result<(), StoreError>;

    /// Deletes the record of the pause, if there is one.
    async fn resume(&self, destination: &str) -> Result<(), StoreError>;

    /// The paused destinations in the order of their names, each with the time of its pause.
    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError>;
}

/// Counts of deliveries of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationCounts {
    /// Name of the destination.
    pub destination: String,
    /// Deliveries that wait for an attempt or are being attempted.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
}

/// Number of waiting deliveries by destination, without destinations that have none.
pub async fn waiting(store: &dyn DestinationControl) -> Result<Vec<(String, u64)>, StoreError> {
    let counts = store.destination_counts().await?.into_iter();
    Ok(counts
        .filter(|counts| counts.waiting > 0)
        .map(|counts| (counts.destination, counts.waiting))
        .collect())
}
