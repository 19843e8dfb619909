//! A time line that follows the wall clock, but not its jumps. Pure: the readings of the clocks are
//! arguments.

use std::time::Duration;

/// Largest step of the wall clock that is accepted at once: the usual steps of NTP, and leap
/// seconds.
pub const SLACK: Duration = Duration::from_secs(60);

/// How long a jump must last until it is accepted.
pub const DOUBT_LASTS: Duration = Duration::from_secs(3600);

const SLACK_MS: i64 = 60_000;
const DOUBT_LASTS_MS: i64 = 3_600_000;

/// The slack recovers by a thousandth of the time that passes: twice the fastest slew of NTP.
const SLACK_EVERY: i64 = 1000;

/// Smaller differences are ignored, because two clocks are not read at the same instant.
const SAME_MS: i64 = 100;

/// Longest time between two readings that counts towards [`DOUBT_LASTS`], because the wall clock in
/// between is unknown.
const GAP_MAX_MS: i64 = 300_000;

/// Smaller doubts are not reported.
const TOLD_MS: i64 = 10_000;

/// Every time is in milliseconds; an offset is a wall time less the monotonic time of the same
/// instant.
#[derive(Clone, Debug)]
pub(super) struct Line {
    offset: i64,
    /// How far the line may still follow the wall clock at once, in microseconds.
    slack_us: i64,
    seen_at: i64,
    doubt: Option<Doubted>,
}

#[derive(Clone, Copy, Debug)]
struct Doubted {
    /// The smallest difference between the wall clock and the line since the doubt began.
    least: i64,
    /// The current difference.
    away: i64,
    /// Duration of the doubt.
    lasted: i64,
}

impl Line {
    pub(super) fn new(monotonic: i64, offset: i64) -> Self {
        Self {
            offset,
            slack_us: SLACK_MS * 1000,
            seen_at: monotonic,
            doubt: None,
        }
    }

    /// The time of the line at this monotonic time.
    pub(super) fn at(&self, monotonic: i64) -> i64 {
        monotonic.saturating_add(self.offset)
    }

    /// How far the wall clock is ahead of the line, if that is in doubt, and how much longer this
    /// must last until it is accepted.
    pub(super) fn doubt(&self) -> Option<(i64, i64)> {
        let doubt = self.doubt?;
        (doubt.away.abs() >= TOLD_MS).then_some((doubt.away, DOUBT_LASTS_MS - doubt.lasted))
    }

    /// Takes a reading of the wall clock. Returns how far the line was moved.
    pub(super) fn observe(&mut self, monotonic: i64, offset: i64) -> i64 {
        // Threads may call this in a different order from that of their readings.
        let passed = (monotonic - self.seen_at).max(0);
        self.seen_at = self.seen_at.max(monotonic);
        let gained = passed.saturating_mul(1000 / SLACK_EVERY);
        self.slack_us = self.slack_us.saturating_add(gained).min(SLACK_MS * 1000);
        let away = offset.saturating_sub(self.offset);
        let distance = away.saturating_abs();
        if distance <= SAME_MS {
            self.doubt = None;
            return 0;
        }
        if distance <= self.slack_us / 1000 {
            self.slack_us -= distance * 1000;
            self.doubt = None;
            return self.moved_by(away);
        }
        let doubt = match self.doubt {
            Some(doubt) if doubt.away.signum() == away.signum() => Doubted {
                least: if distance < doubt.least.saturating_abs() {
                    away
                } else {
                    doubt.least
                },
                away,
                lasted: doubt.lasted + passed.min(GAP_MAX_MS),
            },
            _ => Doubted {
                least: away,
                away,
                lasted: 0,
            },
        };
        if doubt.lasted >= DOUBT_LASTS_MS {
            self.doubt = None;
            return self.moved_by(doubt.least);
        }
        self.doubt = Some(doubt);
        0
    }

    fn moved_by(&mut self, by: i64) -> i64 {
        self.offset = self.offset.saturating_add(by);
        by
    }
}
