//! Times of the latest deliveries before the start of this process, from the counts of the traffic.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::delivery::earlier;
use crate::destinations::Registry;
use crate::store::Operations;

/// Age of the oldest counts that are read: those of a week, at one row for each minute, kind and
/// name.
const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Sets the time of the latest delivery of each destination, unless it got one meanwhile.
pub(super) async fn recall(store: Arc<dyn Operations>, registry: Registry, clock: Clock) {
    let since = earlier(clock.now(), AGE_MAX);
    let minutes = match store.last_deliveries(since).await {
        Ok(minutes) => minutes,
        Err(error) => {
            tracing::debug!("cannot read the times of the latest deliveries: {error}");
            return;
        }
    };
    for (destination, minute) in minutes {
        if let Some(handle) = registry.get(&destination) {
            handle.state().delivered_before(minute);
        }
    }
}
