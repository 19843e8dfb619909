//! A condition that begins and ends, and when each change is told.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::state::Now;

/// Shortest time between two alerts of the same type about the same subject.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(3_600);

/// A condition that is good or bad.
///
/// Invariant: of a condition that changes often, the last state is told at the latest one
/// [`TELL_EVERY`] after the previous alert of that type.
#[derive(Debug, Default)]
pub(super) struct Switch {
    is_bad: bool,
    was_told_bad: bool,
    since: Option<Timestamp>,
    reason: Option<String>,
    told_at: [Option<Instant>; 2],
}

/// A change that is due to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) is_bad: bool,
    pub(super) since: Timestamp,
    pub(super) reason: Option<String>,
}

impl Switch {
    /// Records the state. Returns whether it has changed.
    pub(super) fn set(&mut self, is_bad: bool, reason: Option<&str>, now: Now) -> bool {
        if self.is_bad == is_bad {
            return false;
        }
        self.is_bad = is_bad;
        self.since = Some(now.wall);
        self.reason = reason.map(str::to_owned);
        true
    }

    /// Records a state that another gateway has found, and tells.
    pub(super) fn adopt(&mut self, is_bad: bool, now: Now) {
        self.set(is_bad, None, now);
        self.was_told_bad = is_bad;
    }

    /// Ends a condition whose end is never told.
    pub(super) fn end_untold(&mut self) {
        self.is_bad = false;
        self.was_told_bad = false;
    }

    /// Makes a change due that waits for its hour.
    pub(super) fn end_wait(&mut self) {
        self.told_at = [None; 2];
    }

    /// The change to tell now.
    pub(super) fn take_due(&mut self, now: Now) -> Option<Told> {
        if self.due_at(now)? > now.monotonic {
            return None;
        }
        self.was_told_bad = self.is_bad;
        self.told_at[usize::from(self.is_bad)] = Some(now.monotonic);
        Some(Told {
            is_bad: self.is_bad,
            since: self.since.unwrap_or(now.wall),
            reason: self.reason.clone(),
        })
    }

    /// The time at which a change is to be told. `None`: the last change is told.
    pub(super) fn due_at(&self, now: Now) -> Option<Instant> {
        if self.is_bad == self.was_told_bad {
            return None;
        }
        let last = self.told_at[usize::from(self.is_bad)];
        Some(last.map_or(now.monotonic, |last| last + TELL_EVERY))
    }

    pub(super) fn is_bad(&self) -> bool {
        self.is_bad
    }
}
