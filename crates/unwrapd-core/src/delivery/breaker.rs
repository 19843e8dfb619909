//! The circuit breaker of a destination. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// Number of consecutive failures at which the circuit opens. A smaller number may be one bad
/// message that is retried.
pub const FAILURES_MAX: u32 = 10;
/// Maximum number of concurrent probes. With a single probe, one message that always fails would
/// keep the circuit open.
pub const PROBES_MAX: usize = 4;
/// Back-off when the circuit opens. It doubles each time a probe fails.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
/// Maximum back-off: a destination that is up again may get nothing for so long.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// Opens after consecutive failures, admits a few probes after each back-off, and closes on the
/// first success. While the circuit is open, no attempts are used up.
#[derive(Debug, Default)]
pub struct Breaker {
    state: State,
    /// Consecutive failures, while closed.
    failures: u32,
    /// The last back-off, while not closed.
    back_off: Duration,
    /// Number of state changes. An attempt that began before a change has no effect after it.
    epoch: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        probes: usize,
    },
}

/// State of the circuit of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// The destination is up, as far as known.
    Closed,
    /// The destination is down, and gets no attempts.
    Open {
        /// Time of the next probe.
        until: Instant,
    },
    /// The next deliveries are probes.
    HalfOpen,
}

/// Permit for one attempt, which must be passed to [`Breaker::end`] or [`Breaker::withdraw`].
#[derive(Clone, Copy, Debug)]
pub struct Permit {
    epoch: u64,
}

/// Change of the circuit by the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitChange {
    /// No change.
    Stays,
    /// The first failure after a success.
    Fails,
    /// The circuit has opened.
    Opens,
    /// A probe failed, so the circuit stays open.
    Reopens,
    /// The circuit has closed.
    Closes,
}

impl Breaker {
    /// Number of attempts that may begin at `now`.
    pub fn admits(&mut self, now: Instant) -> usize {
        if let State::Open { until } = self.state
            && until <= now
        {
            self.enter(State::HalfOpen { probes: 0 });
        }
        match self.state {
            State::Closed => usize::MAX,
            State::Open { .. } => 0,
            State::HalfOpen { probes } => PROBES_MAX.saturating_sub(probes),
        }
    }

    /// Begins an attempt. More attempts than admitted do no harm.
    pub fn begin(&mut self) -> Permit {
        if let State::HalfOpen { probes } = &mut self.state {
            *probes += 1;
        }
        Permit { epoch: self.epoch }
    }

    /// Takes back a permit whose attempt did not begin.
    pub fn withdraw(&mut self, permit: Permit) {
        if let State::HalfOpen { probes } = &mut self.state
            && permit.epoch == self.epoch
        {
            *probes = probes.saturating_sub(1);
        }
    }

    /// Ends an attempt.
    pub fn end(&mut self, permit: Permit, is_success: bool, now: Instant) -> CircuitChange {
        if is_success {
            self.failures = 0;
            if self.state == State::Closed {
                return CircuitChange::Stays;
            }
            self.enter(State::Closed);
            return CircuitChange::Closes;
        }
        if permit.epoch != self.epoch {
            return CircuitChange::Stays;
        }
        match self.state {
            State::Closed => {
                self.failures += 1;
                if self.failures >= FAILURES_MAX {
                    self.open(BACK_OFF_FIRST, now);
                    CircuitChange::Opens
                } else if self.failures == 1 {
                    CircuitChange::Fails
                } else {
                    CircuitChange::Stays
                }
            }
            State::HalfOpen { .. } => {
                self.open(self.back_off.saturating_mul(2).min(BACK_OFF_MAX), now);
                CircuitChange::Reopens
            }
            State::Open { .. } => CircuitChange::Stays,
        }
    }

    /// Whether the back-off has ended.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Open { until } if until <= now)
    }

    /// Whether probes are running.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        matches!(self.state, State::HalfOpen { probes } if probes > 0)
    }

    /// Length of the last back-off.
    #[must_use]
    pub fn back_off(&self) -> Duration {
        self.back_off
    }

    /// Number of state changes.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Opens the circuit until `until`, because another gateway found the destination down.
    pub fn leave_alone(&mut self, until: Instant, back_off: Duration) {
        self.back_off = back_off;
        match &mut self.state {
            State::Open { until: before } => *before = until,
            _ => self.enter(State::Open { until }),
        }
    }

    /// Lets this gateway probe the destination. `back_off` is the last back-off.
    pub fn probe(&mut self, back_off: Duration) {
        self.back_off = back_off;
        if !matches!(self.state, State::HalfOpen { .. }) {
            self.enter(State::HalfOpen { probes: 0 });
        }
    }

    /// Closes the circuit, because another gateway found the destination up.
    pub fn close(&mut self) {
        if self.state != State::Closed {
            self.enter(State::Closed);
        }
    }

    /// State of the circuit.
    #[must_use]
    pub fn circuit(&self) -> Circuit {
        match self.state {
            State::Closed => Circuit::Closed,
            State::Open { until } => Circuit::Open { until },
            State::HalfOpen { .. } => Circuit::HalfOpen,
        }
    }

    fn open(&mut self, back_off: Duration, now: Instant) {
        self.back_off = back_off;
        self.enter(State::Open {
            until: now + back_off,
        });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.failures = 0;
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Begins an attempt and ends it at once.
    fn one(breaker: &mut Breaker, is_success: bool, now: Instant) -> CircuitChange {
        let permit = breaker.begin();
        breaker.end(permit, is_success, now)
    }

    fn open(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        let turns: Vec<CircuitChange> = (0..FAILURES_MAX)
            .map(|_| one(&mut breaker, false, now))
            .collect();
        assert_eq!(turns.first(), Some(&CircuitChange::Fails));
        assert_eq!(turns.last(), Some(&CircuitChange::Opens));
        assert!(turns[1..9].iter().all(|turn| *turn == CircuitChange::Stays));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_the_circuit_unless_a_success_comes_between() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            for _ in 1..FAILURES_MAX {
                assert_ne!(one(&mut breaker, false, now), CircuitChange::Opens);
            }
            assert_eq!(one(&mut breaker, true, now), CircuitChange::Stays);
        }
        assert_eq!(open(now).admits(now), 0);
    }

    #[test]
    fn a_few_probes_follow_the_wait_and_a_success_closes_the_circuit() {
        let now = Instant::now();
        let mut breaker = open(now);
        assert_eq!(breaker.admits(now + SECOND / 2), 0);
        assert_eq!(breaker.admits(now + SECOND), PROBES_MAX);
        assert_eq!(breaker.circuit(), Circuit::HalfOpen);
        let probes: Vec<Permit> = (0..PROBES_MAX).map(|_| breaker.begin()).collect();
        assert_eq!(breaker.admits(now + SECOND), 0);
        assert_eq!(
            breaker.end(probes[0], false, now + SECOND),
            CircuitChange::Reopens,
            "the first answer counts"
        );
        assert_eq!(
            breaker.end(probes[1], false, now + SECOND),
            CircuitChange::Stays
        );
        assert_eq!(
            breaker.end(probes[2], true, now + SECOND),
            CircuitChange::Closes
        );
        assert_eq!(breaker.admits(now + SECOND), usize::MAX);
        assert_eq!(
            breaker.end(probes[3], false, now + SECOND),
            CircuitChange::Stays
        );
    }

    #[test]
    fn the_wait_grows_up_to_a_minute_and_begins_small_again() {
        let mut now = Instant::now();
        let mut breaker = open(now);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let Circuit::Open { until } = breaker.circuit() else {
                panic!("open");
            };
            assert_eq!((until - now).as_secs(), seconds);
            now = until;
            assert_eq!(breaker.admits(now), PROBES_MAX);
            assert_eq!(one(&mut breaker, false, now), CircuitChange::Reopens);
        }
        assert_eq!(one(&mut breaker, true, now), CircuitChange::Closes);
        for _ in 0..FAILURES_MAX {
            one(&mut breaker, false, now);
        }
        assert_eq!(
            breaker.circuit(),
            Circuit::Open {
                until: now + SECOND
            }
        );
    }

    #[test]
    fn an_attempt_begun_before_the_circuit_opened_does_not_reopen_the_circuit() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let early = breaker.begin();
        for _ in 0..FAILURES_MAX {
            one(&mut breaker, false, now);
        }
        assert_eq!(breaker.admits(now + SECOND), PROBES_MAX);
        assert_eq!(
            breaker.end(early, false, now + SECOND),
            CircuitChange::Stays
        );
        assert_eq!(breaker.circuit(), Circuit::HalfOpen);
    }
}
