//! Rules for pruning that both databases share: when a sweep begins, and what is old. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::bounds::Bounds;
use unwrapd_core::delivery::{earlier, later};

/// Messages read in one step: some milliseconds, so that nothing waits long for the step.
const READ_MAX: i64 = 4096;
/// Messages removed in one step: a millisecond or two of a writer's time.
pub(super) const REMOVE_MAX: usize = 256;
/// Time between two sweeps. A message that is stored for days may stay an hour longer.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// Times before which a message is old.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizons {
    /// Arrived and settled before: payload, deliveries and attempts are deleted.
    pub(super) content: Timestamp,
    /// Arrived before: the webhook id is forgotten, so a copy would be a new message.
    pub(super) webhook_id: Timestamp,
}

impl Horizons {
    pub(super) fn at(now: Timestamp, bounds: &Bounds) -> Self {
        Self {
            content: earlier(now, bounds.retention),
            webhook_id: earlier(now, bounds.dedupe),
        }
    }
}

/// Times of the sweeps through the store.
#[derive(Clone, Debug)]
pub(super) struct SweepSchedule {
    bounds: Bounds,
    next_at: Timestamp,
    /// Time of the latest decision. If it lies in the future, the clock was set back.
    decided_at: Timestamp,
}

impl SweepSchedule {
    /// The schedule for a store with these bounds. A sweep is due.
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            bounds: bounds.clone(),
            next_at: Timestamp::MIN,
            decided_at: Timestamp::MIN,
        }
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    pub(super) fn horizons(&self, now: Timestamp) -> Horizons {
        Horizons::at(now, &self.bounds)
    }

    /// Whether a sweep is due; then the next one is due an hour later.
    pub(super) fn begin(&mut self, now: Timestamp) -> bool {
        let is_due = now >= self.next_at || self.is_set_back(now);
        if is_due {
            self.next_at = later(now, SWEEP_EVERY);
        }
        is_due
    }

    /// Records that no sweep is under way.
    pub(super) fn rest(&mut self, now: Timestamp) {
        self.decided_at = now;
    }

    /// Whether the clock was set back since the latest decision.
    pub(super) fn is_set_back(&self, now: Timestamp) -> bool {
        now < self.decided_at
    }
}

/// Last number of the messages that a step reads, from `first` on.
pub(super) fn last_read(first: i64, newest: i64) -> i64 {
    first.saturating_add(READ_MAX - 1).min(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_750_000_000 + second).unwrap()
    }

    #[test]
    fn a_sweep_begins_once_an_hour() {
        let mut schedule = SweepSchedule::new(&Bounds::default());
        assert!(schedule.begin(at(0)));
        schedule.rest(at(1));
        assert!(!schedule.begin(at(3599)));
        assert!(schedule.begin(at(3600)));
    }

    #[test]
    fn a_sweep_begins_when_the_clock_was_set_back() {
        let mut schedule = SweepSchedule::new(&Bounds::default());
        assert!(schedule.begin(at(100_000)));
        schedule.rest(at(100_001));
        assert!(schedule.begin(at(0)));
        schedule.rest(at(0));
        assert!(!schedule.begin(at(1)));
    }
}
