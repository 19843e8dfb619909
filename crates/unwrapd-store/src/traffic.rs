//! Traffic: counts of what happened, by minute, kind and name.

use jiff::Timestamp;

/// A kind of event that is counted: webhooks by endpoint, and attempts by destination.
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
    /// An attempt that failed, and is to be repeated.
    Retried,
    /// A delivery that became a dead letter: its last attempt failed, or it expired.
    Dead,
}

impl TrafficKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Refused,
        Self::Delivered,
        Self::Retried,
        Self::Dead,
    ];

    /// The name, as it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::Dead => "dead",
        }
    }

    /// The kind of that name. The schema allows no others.
    pub(super) fn named(name: &str) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == name)
            .unwrap_or(Self::Refused)
    }
}

/// How often something happened in one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficCount {
    /// Begin of the minute.
    pub minute: Timestamp,
    /// What happened.
    pub kind: TrafficKind,
    /// Name of the endpoint or of the destination.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// Length of the time whose counts are deleted at once.
pub(super) const DELETED_AT_ONCE_MS: i64 = 3_600_000;
