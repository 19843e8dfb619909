//! Status of a delivery, and of a message without any.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Status of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The delivery waits for an attempt, or one is under way.
    Waiting,
    /// The destination has it.
    Delivered,
    /// Given up.
    Dead,
    /// Given up, and someone has looked at it and does not want it any more.
    Dropped,
    /// Of a message, never of a delivery: no destination wanted it, and its payload is stored.
    Unrouted,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Waiting,
        Self::Delivered,
        Self::Dead,
        Self::Dropped,
        Self::Unrouted,
    ];

    /// The status for a state in a store. Stores record a dropped delivery as a dead one with a
    /// mark.
    pub(crate) fn of(state: &str, is_dropped: bool) -> Self {
        match state {
            "delivered" => Self::Delivered,
            "dead" if is_dropped => Self::Dropped,
            "dead" => Self::Dead,
            _ => Self::Waiting,
        }
    }

    /// The status of a message whose payload is stored, from those of its deliveries: the one that
    /// most needs an operator.
    #[must_use]
    pub fn of_message(deliveries: impl IntoIterator<Item = Self>) -> Self {
        let need = |status: &Self| match status {
            Self::Dead => 4,
            Self::Waiting => 3,
            Self::Dropped => 2,
            Self::Delivered => 1,
            Self::Unrouted => 0,
        };
        let statuses = deliveries.into_iter();
        statuses.max_by_key(need).unwrap_or(Self::Unrouted)
    }

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Dropped => "dropped",
            Self::Unrouted => "unrouted",
        }
    }
}

impl FromStr for Status {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(StatusError)
    }
}

/// The text is no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a status must be `waiting`, `delivered`, `dead`, `dropped` or `unrouted`")]
pub struct StatusError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_it_is_written() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert_eq!("gone".parse::<Status>(), Err(StatusError));
    }

    #[test]
    fn a_message_has_the_status_that_most_needs_an_operator() {
        let of = |statuses: &[Status]| Status::of_message(statuses.iter().copied());
        assert_eq!(of(&[Status::Delivered, Status::Dead]), Status::Dead);
        assert_eq!(of(&[Status::Waiting, Status::Delivered]), Status::Waiting);
        assert_eq!(of(&[Status::Dropped, Status::Delivered]), Status::Dropped);
        assert_eq!(of(&[]), Status::Unrouted);
    }
}
