//! The store as the control of destinations uses it: counts their deliveries and records pauses.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::StoreError;
use unwrapd_core::delivery::Lane;

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
    /// Deliveries that wait, by [`Lane`].
    pub lanes: [LaneCounts; Lane::ALL.len()],
    /// Dead letters.
    pub dead: u64,
}

impl DestinationCounts {
    /// Deliveries of all lanes that wait for an attempt or are being attempted.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.waiting).sum()
    }

    /// The counts of one lane.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> LaneCounts {
        self.lanes[lane as usize]
    }
}

/// Counts of deliveries of one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// Deliveries that wait for an attempt or are being attempted.
    pub waiting: u64,
    /// Earliest time at which one of them was first due or replayed. Of more than 10,000, those of
    /// the first stored messages count.
    pub oldest_since: Option<Timestamp>,
}

/// Number of waiting deliveries of a lane among which the oldest is searched. Their rows are read,
/// while a count reads only an index.
pub(crate) const OLDEST_OF: i64 = 10_000;

/// One row of a count.
pub(crate) enum CountRow {
    Waiting(Lane, LaneCounts),
    Dead(u64),
}

/// The counts by destination, in the order of the names.
pub(crate) fn by_destination(
    rows: impl IntoIterator<Item = (String, CountRow)>,
) -> Vec<DestinationCounts> {
    let mut counts: BTreeMap<String, DestinationCounts> = BTreeMap::new();
    for (destination, row) in rows {
        let counts = counts.entry(destination).or_default();
        match row {
            CountRow::Waiting(lane, of_lane) => counts.lanes[lane as usize] = of_lane,
            CountRow::Dead(dead) => counts.dead = dead,
        }
    }
    counts
        .into_iter()
        .map(|(destination, counts)| DestinationCounts {
            destination,
            ..counts
        })
        .collect()
}

/// Number of waiting deliveries by destination, without destinations that have none.
pub async fn waiting(store: &dyn DestinationControl) -> Result<Vec<(String, u64)>, StoreError> {
    let counts = store.destination_counts().await?.into_iter();
    Ok(counts
        .map(|counts| (counts.waiting(), counts.destination))
        .filter(|(waiting, _)| *waiting > 0)
        .map(|(waiting, destination)| (destination, waiting))
        .collect())
}
