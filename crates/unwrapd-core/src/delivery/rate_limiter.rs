//! Limits the number of attempts per second. Pure: the time is an argument.

use std::time::{Duration, Instant};

use super::Lane;
use crate::token_bucket::{Fill, TokenBucket};

/// Attempts of this time may begin together, so that timers need not be exact.
const BURST: Duration = Duration::from_millis(100);

/// A token bucket for both lanes of a destination. The last token is reserved for calls, so that a
/// backlog of other events does not delay a call.
#[derive(Debug, Default)]
pub struct RateLimiter(TokenBucket);

impl RateLimiter {
    /// Number of attempts that may begin at `now`, with `rate` per second.
    #[must_use]
    pub fn available(&self, rate: u32, lane: Lane, now: Instant) -> usize {
        self.0.available(fill(rate, lane), now)
    }

    /// Takes a token for one attempt. Returns false if there is none.
    pub fn take(&mut self, rate: u32, lane: Lane, now: Instant) -> bool {
        self.0.take(fill(rate, lane), now)
    }

    /// Time at which the next attempt may begin.
    #[must_use]
    pub fn next_at(&self, rate: u32, lane: Lane, now: Instant) -> Instant {
        self.0.next_at(fill(rate, lane), now)
    }
}

/// Maximum number of attempts that may begin together after a pause, at `rate` per second: those of
/// a tenth of a second, plus one for a call.
#[must_use]
pub fn burst(rate: u32) -> usize {
    let interval = interval(rate).as_nanos();
    let deliveries = (BURST.as_nanos() / interval).max(1) + 1;
    usize::try_from(deliveries).unwrap_or(usize::MAX)
}

fn fill(rate: u32, lane: Lane) -> Fill {
    let reserved = match lane {
        Lane::Call => 0,
        Lane::Standard => 1,
    };
    Fill {
        interval: interval(rate),
        burst: u32::try_from(burst(rate)).unwrap_or(u32::MAX) - reserved,
    }
}

fn interval(rate: u32) -> Duration {
    let rate = u64::from(rate.max(1));
    Duration::from_nanos(1_000_000_000_u64.div_ceil(rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_call_finds_a_token_behind_a_backlog() {
        let now = Instant::now();
        let mut pace = RateLimiter::default();
        while pace.take(10, Lane::Standard, now) {}
        assert!(pace.take(10, Lane::Call, now));
        assert!(!pace.take(10, Lane::Call, now));
    }

    proptest! {
        #[test]
        fn the_rate_is_reached_and_never_exceeded(
            rate in 1_u32..5000,
            steps in prop::collection::vec(0_u64..300, 1..200),
        ) {
            let begin = Instant::now();
            let mut now = begin;
            let mut pace = RateLimiter::default();
            let mut taken = 0_u32;
            for milliseconds in steps {
                now += Duration::from_millis(milliseconds);
                while pace.take(rate, Lane::Standard, now) {
                    taken += 1;
                }
                let allowed = (now - begin).as_secs_f64() * f64::from(rate);
                let burst = u32::try_from(burst(rate)).unwrap();
                prop_assert!(f64::from(taken) <= allowed + f64::from(burst));
                let next_at = pace.next_at(rate, Lane::Standard, now);
                prop_assert!(next_at > now);
                prop_assert!(next_at <= now + interval(rate));
                prop_assert_eq!(pace.available(rate, Lane::Standard, next_at), 1);
            }
        }
    }
}
