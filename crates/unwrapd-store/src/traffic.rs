//! Traffic: counts of webhooks and attempts, by minute, kind and name.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::StoreError;

/// The store as the gateway counts its traffic.
#[async_trait]
pub trait TrafficStore: Send + Sync {
    /// Adds to the counts of these minutes, kinds and names.
    async fn add_traffic(&self, counts: Vec<TrafficCount>) -> Result<(), StoreError>;

    /// Returns the sums of the counts of each step, ordered by its beginning, kind and name: the
    /// first `max` of them.
    async fn traffic(
        &self,
        range: TrafficRange,
        max: usize,
    ) -> Result<Vec<TrafficCount>, StoreError>;

    /// Returns the histories of the attempts to these destinations, in this order. It reads a few
    /// entries of an index for each.
    async fn attempt_histories(
        &self,
        destinations: &[String],
    ) -> Result<Vec<AttemptHistory>, StoreError>;
}

/// A kind of event that is counted: webhooks by endpoint, attempts by destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrafficKind {
    /// A webhook that was stored.
    Accepted,
    /// A copy of a stored webhook.
    Duplicate,
    /// A request that was not verified.
    Refused,
    /// An attempt that delivered.
    Delivered,
    /// An attempt that failed and will be retried.
    Retried,
    /// A delivery that became a dead letter because the destination refused the message.
    Rejected,
    /// A delivery that became a dead letter otherwise: its last attempt failed, or it expired.
    Dead,
}

impl TrafficKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Refused,
        Self::Delivered,
        Self::Retried,
        Self::Rejected,
        Self::Dead,
    ];

    /// The name in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::Rejected => "rejected",
            Self::Dead => "dead",
        }
    }

    /// The kind with this name. The schema allows no other names.
    pub(super) fn named(name: &str) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == name)
            .unwrap_or(Self::Refused)
    }
}

/// The counts to read: those of the minutes that begin at `since` or later and before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficRange {
    /// The minutes begin then or later.
    pub since: Timestamp,
    /// The minutes begin before then.
    pub until: Timestamp,
    /// Length of the steps whose counts are summed, in whole minutes. Steps begin at multiples of it
    /// since 1970 in UTC.
    pub step: Duration,
}

impl TrafficRange {
    /// The length of a step in milliseconds: at least a minute.
    pub(super) fn step_ms(self) -> i64 {
        let step_ms = i64::try_from(self.step.as_millis()).unwrap_or(i64::MAX);
        step_ms.max(MINUTE_MS)
    }
}

const MINUTE_MS: i64 = 60_000;

/// The count of one kind and name in one minute, or the sum of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficCount {
    /// Start of the minute, or of the step.
    pub minute: Timestamp,
    /// The kind.
    pub kind: TrafficKind,
    /// Name of the endpoint or of the destination.
    pub name: String,
    /// The count.
    pub count: u64,
}

/// The history of the attempts to a destination, of all gateways, to the minute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptHistory {
    /// Name of the destination.
    pub destination: String,
    /// Latest minute in which it accepted a message.
    pub delivered: Option<Timestamp>,
    /// Latest minute in which it accepted or refused a message. Both show that it was up.
    pub up: Option<Timestamp>,
    /// First minute after that in which an attempt failed and was to be retried.
    pub failing_since: Option<Timestamp>,
}

/// Deletion granularity: counts are deleted one hour at a time, in milliseconds.
pub(super) const DELETED_AT_ONCE_MS: i64 = 3_600_000;
