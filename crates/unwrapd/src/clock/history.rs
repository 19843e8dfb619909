//! What a clock has shown since the process began, so that a time it gave out is known again. Pure.

use std::collections::VecDeque;

/// Most pieces that are remembered: a clock that jumps more often loses the oldest.
const PIECES_MAX: usize = 64;

/// Smaller steps make no piece of their own.
const SAME_MS: i64 = 100;

/// How exactly a time is known again: two gateways on one database differ by as much.
const NEAR_MS: i64 = 1000;

/// Pieces between jumps, the oldest first: since when by the monotonic clock, and the offset of the time shown. In milliseconds.
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

    /// How long ago `time` was shown; `None`: it never was. Of several instants the latest counts.
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
