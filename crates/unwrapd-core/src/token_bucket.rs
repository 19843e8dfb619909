//! A token bucket: limits how often something happens, with a burst. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// A token bucket, full at first. Its state is the time up to which its tokens are spent, so it
/// needs no timer.
#[derive(Debug, Default)]
pub struct TokenBucket {
    spent_until: Option<Instant>,
}

/// How a bucket fills.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// Time for one token.
    pub interval: Duration,
    /// Maximum number of tokens in the bucket.
    pub burst: u32,
}

impl TokenBucket {
    /// The tokens in the bucket.
    #[must_use]
    pub fn available(&self, fill: Fill, now: Instant) -> usize {
        let left = fill.room().saturating_sub(self.ahead(now));
        usize::try_from(left.as_nanos() / fill.interval.as_nanos()).unwrap_or(usize::MAX)
    }

    /// Takes a token. Returns false if there is none.
    pub fn take(&mut self, fill: Fill, now: Instant) -> bool {
        let may = self.available(fill, now) > 0;
        if may {
            let from = self.spent_until.map_or(now, |until| until.max(now));
            self.spent_until = Some(from + fill.interval);
        }
        may
    }

    /// Time of the next token.
    #[must_use]
    pub fn next_at(&self, fill: Fill, now: Instant) -> Instant {
        now + (self.ahead(now) + fill.interval).saturating_sub(fill.room())
    }

    fn ahead(&self, now: Instant) -> Duration {
        self.spent_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

impl Fill {
    fn room(self) -> Duration {
        self.interval * self.burst
    }
}
