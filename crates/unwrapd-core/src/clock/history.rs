//! The times that a clock has shown since the process began. They give the age of a recorded time.
//! Pure.

use std::collections::VecDeque;

/// Maximum number of periods between jumps. After more jumps, the oldest period is dropped.
const PIECES_MAX: usize = 64;

/// Smaller steps begin no new period.
const SAME_MS: i64 = 100;

/// Tolerance when a time is looked up: the clocks of two gateways on one database may differ by
/// this much.
const NEAR_MS: i64 = 1000;

/// Periods between jumps, the oldest first: the monotonic time of its beginning, and the offset of
/// the time shown. In milliseconds.
#[derive(Debug)]
pub(super) struct History(VecDeque<(i64, i64)>);

impl History {
    pub(super) fn new(monotonic: i64, offset: i64) -> Self {
        Self(VecDeque::from([(monotonic, offset)]))
    }

    /// From now on the time shown has this offset.
    pub(super) fn observe(&mut self, monotonic: i64, offset: i64) {
        let is_same = self
            .0
            .back()
            .is_some_and(|(_, last)| last.abs_diff(offset) <= SAME_MS.unsigned_abs());
        if is_same {
            return;
        }
        if self.0.len() == PIECES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((monotonic, offset));
    }

    /// Time since the beginning of the oldest known period.
    pub(super) fn reaches_back(&self, monotonic: i64) -> i64 {
        self.0
            .front()
            .map_or(0, |(from, _)| monotonic.saturating_sub(*from))
    }

    /// Time since `time` was shown. `None` if it never was; the latest counts if it was shown
    /// several times.
    pub(super) fn age(&self, time: i64, monotonic: i64) -> Option<i64> {
        self.age_within(time, monotonic, 1)
            .or_else(|| self.age_within(time, monotonic, NEAR_MS))
    }

    fn age_within(&self, time: i64, monotonic: i64, near: i64) -> Option<i64> {
        let mut until = monotonic;
        for (from, offset) in self.0.iter().rev() {
            let shown_at = time.saturating_sub(*offset);
            if (from - near..=until.saturating_add(near)).contains(&shown_at) {
                return Some((monotonic - shown_at).max(0));
            }
            until = *from;
        }
        None
    }
}
