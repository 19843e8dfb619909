//! The clock of the mock: it may run faster than real time, and may be advanced.

use std::ops::Add;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A time on the mock's clock, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Unix seconds, as in OpenAI's answers.
    pub(crate) const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The time from `earlier` to this one; zero if there is none.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(millis(time)))
    }
}

/// A clock that begins at real time and then runs `speed` times as fast. With a speed of 0 it
/// stands still until it is advanced.
pub(crate) struct Clock {
    speed: u32,
    base: Mutex<Base>,
}

#[derive(Clone, Copy)]
struct Base {
    real: Instant,
    moment: Moment,
}

impl Clock {
    pub(crate) fn start(speed: u32) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            speed,
            base: Mutex::new(Base {
                real: Instant::now(),
                moment: Moment(millis(now.unwrap_or_default())),
            }),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        let Base { real, moment } = self.base();
        moment + real.elapsed().saturating_mul(self.speed)
    }

    pub(crate) fn advance(&self, by: Duration) {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        base.moment = base.moment + by;
    }

    /// Real time until the clock shows `moment`. `None` if it will not by itself.
    pub(crate) fn real_time_until(&self, moment: Moment) -> Option<Duration> {
        let time = moment.since(self.now());
        if time.is_zero() {
            return Some(time);
        }
        time.checked_div(self.speed)
    }

    pub(crate) const fn speed(&self) -> u32 {
        self.speed
    }

    fn base(&self) -> Base {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advanced_clock_shows_the_time_that_was_added() {
        let clock = Clock::start(1);
        let before = clock.now();
        clock.advance(Duration::from_secs(3600));
        assert!(clock.now().since(before) >= Duration::from_secs(3600));
        assert_eq!(clock.real_time_until(before), Some(Duration::ZERO));
    }

    #[test]
    fn a_fast_clock_needs_less_real_time() {
        let clock = Clock::start(3600);
        let in_an_hour = clock.now() + Duration::from_secs(3600);
        assert!(clock.real_time_until(in_an_hour).unwrap() <= Duration::from_secs(1));
    }

    #[test]
    fn a_clock_without_speed_moves_only_if_it_is_advanced() {
        let clock = Clock::start(0);
        let later = clock.now() + Duration::from_secs(1);
        assert_eq!(clock.real_time_until(later), None);
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), later);
    }
}
