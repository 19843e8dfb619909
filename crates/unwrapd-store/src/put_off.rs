//! Deliveries whose next attempt is due later than the longest wait, because the clock was set back
//! or the longest wait was reduced. They are attempted at once, and logged.

use unwrapd_core::delivery::Lane;
use unwrapd_core::observe::repeated::Repeated;

/// Maximum number of deliveries that is counted for the log.
pub(super) const COUNT_MAX: i64 = 10_000;

/// Logs the number of such deliveries, at most once a minute for each destination and lane.
#[derive(Default)]
pub(super) struct PutOff(Repeated<(String, Lane)>);

impl PutOff {
    /// Records that a claim has found some. Returns whether to log their number now.
    pub(super) fn is_news(&self, destination: &str, lane: Lane) -> bool {
        self.0.count(&(destination.to_owned(), lane)).is_some()
    }

    /// Logs the number of these deliveries, claimed ones included.
    pub(super) fn log(destination: &str, lane: Lane, deliveries: i64) {
        let more = if deliveries >= COUNT_MAX {
            " or more"
        } else {
            ""
        };
        tracing::warn!(
            destination,
            lane = lane.as_str(),
            "{deliveries}{more} deliveries were put off for longer than any retry waits, and are made now: the clock was set back, \
             or `retry_max_seconds` was made smaller"
        );
    }
}

impl std::fmt::Debug for PutOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PutOff").finish()
    }
}
