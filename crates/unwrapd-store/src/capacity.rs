//! Errors for a full store.

use std::fmt::Display;

use super::StoreError;

/// So many deliveries wait, and no more may.
pub(super) fn is_full(waiting: impl Display) -> StoreError {
    StoreError::Full(format!(
        "{waiting} deliveries wait already; repair the destinations, or raise `undelivered_max` in [store]"
    ))
}

/// So many wait, and a replay is not to add to them.
pub(super) fn is_full_for_replays(waiting: impl Display) -> StoreError {
    StoreError::Full(format!(
        "{waiting} deliveries wait already, and a replay leaves room for new webhooks; continue with the same token when fewer wait, or raise `undelivered_max` in [store]"
    ))
}
