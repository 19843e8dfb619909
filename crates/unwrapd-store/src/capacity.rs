//! Errors for a full store.

use std::fmt::Display;

use super::error::StoreError;

/// The error for a store with the maximum number of waiting deliveries.
pub(super) fn is_full(waiting: impl Display) -> StoreError {
    StoreError::Full(format!(
        "{waiting} deliveries are waiting; repair the destinations, or raise `undelivered_max` in [store]"
    ))
}

/// The error for a replay that would use the room reserved for new webhooks.
pub(super) fn is_full_for_replays(waiting: impl Display) -> StoreError {
    StoreError::Full(format!(
        "{waiting} deliveries are waiting, and a replay leaves room for new webhooks; continue \
         with the same token when fewer are waiting, or raise `undelivered_max` in [store]"
    ))
}
