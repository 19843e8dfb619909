//! How many deliveries a second. Pure: the time is an argument.

use std::time::{Duration, Instant};

use super::Lane;
use crate::token_bucket::{Fill, TokenBucket};

/// Time whose deliveries may be made at once, so that timers need not be exact.
const BURST: Duration = Duration::from_millis(100);

/// A token bucket that both lanes of a destination draw from. The last token is
/// reserved for the lane for calls, so a backlog of other events cannot delay a call.
#[derive(Debug, Default)]
pub struct RateLimiter(TokenBucket);

impl RateLimiter {
    /// How many may be begun now, at `rate` a second.
    #[must_use]
    pub fn available(&self, rate: u32, lane: Lane, now: Instant) -> usize {
        self.0.available(fill(rate, lane), now)
    }

    /// Begins one, if one may be begun.
    pub fn take(&mut self, rate: u32, lane: Lane, now: Instant) -> bool {
        self.0.take(fill(rate, lane), now)
    }

    /// When the next may be begun.
    #[must_use]
    pub fn next_at(&self, rate: u32, lane: Lane, now: Instant) -> Instant {
        self.0.next_at(fill(rate, lane), now)
    }
}

/// Most deliveries at once at `rate` a second, when none were made before: those of a tenth of a
/// second and one for a call.
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
