//! Ids in the stores.

use std::ops::RangeInclusive;

/// Maximum number of deliveries of a message, and so of destinations. The SQLite store derives the
/// ids of deliveries from it.
pub const DELIVERIES_MAX: usize = 256;

/// The ids that the deliveries of a message may have. They are consecutive, and are found without
/// an index of their own.
pub(super) fn deliveries_of(seq: i64) -> RangeInclusive<i64> {
    let count = i64::try_from(DELIVERIES_MAX).expect("a small number");
    seq * count..=seq * count + (count - 1)
}

/// The number of the message of a delivery.
pub(super) fn message_of(delivery: i64) -> i64 {
    let count = i64::try_from(DELIVERIES_MAX).expect("a small number");
    delivery.div_euclid(count)
}
