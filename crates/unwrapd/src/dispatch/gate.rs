//! Whether another delivery may be begun at a destination: what both of its lanes share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::delivery::breaker::{self, Breaker, Permit, Turn};
use crate::delivery::pace::Pace;
use crate::delivery::{Lane, Outcome, later};
use crate::progress::{Circuit, Progress};
use crate::wake::Bells;

/// Shut while the destination is paused or down, and narrow while it has a rate. Calls pass while it is down: they have seconds, and
/// are the best probes there are.
pub struct Gate {
    name: String,
    progress: Arc<Progress>,
    bells: Bells,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    breaker: Breaker,
    pace: Pace,
}

impl Gate {
    /// The gate of the destination `name`, which tells `progress` how it goes.
    #[must_use]
    pub fn new(name: &str, progress: Arc<Progress>, bells: Bells) -> Self {
        // Its breaker is closed, whatever was known of a destination of that name that was configured otherwise.
        progress.set_circuit(Circuit::Closed);
        Self {
            name: name.to_owned(),
            progress,
            bells,
            state: Mutex::default(),
        }
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// How many may be begun now.
    pub(super) fn admits(&self, lane: Lane, rate: Option<u32>) -> usize {
        if self.progress.is_paused() {
            return 0;
        }
        let now = Instant::now().into_std();
        let mut state = self.state();
        let in_pace = rate.map_or(usize::MAX, |rate| state.pace.available(rate, lane, now));
        in_pace.min(self.admits_probes(&mut state.breaker, lane, now))
    }

    /// Begins one, if one may be begun.
    pub(super) fn begin(&self, lane: Lane, rate: Option<u32>) -> Option<Permit> {
        if self.is_shut(lane) {
            return None;
        }
        let now = Instant::now().into_std();
        let mut state = self.state();
        if rate.is_some_and(|rate| !state.pace.take(rate, lane, now)) {
            return None;
        }
        Some(state.breaker.begin())
    }

    /// Whether none may be begun, however slowly.
    pub(super) fn is_shut(&self, lane: Lane) -> bool {
        let now = Instant::now().into_std();
        self.progress.is_paused() || self.admits_probes(&mut self.state().breaker, lane, now) == 0
    }

    /// When one may be begun, if time alone brings that about.
    pub(super) fn opens_at(&self, lane: Lane, rate: Option<u32>) -> Option<Instant> {
        let now = Instant::now().into_std();
        let mut state = self.state();
        let is_shut = self.admits_probes(&mut state.breaker, lane, now) == 0;
        let up_at = match state.breaker.circuit() {
            breaker::Circuit::Open { until } if is_shut => until,
            _ if is_shut => return None,
            _ => now,
        };
        let in_pace_at = rate.map_or(now, |rate| state.pace.next_at(rate, lane, now));
        (!self.progress.is_paused()).then(|| up_at.max(in_pace_at).into())
    }

    /// One was not begun after all.
    pub(super) fn withdraw(&self, permit: Permit) {
        self.state().breaker.withdraw(permit);
    }

    /// One has ended so.
    pub(super) fn end(&self, permit: Permit, outcome: &Outcome, now: Timestamp) -> Turn {
        let instant = Instant::now().into_std();
        let is_delivered = matches!(outcome, Outcome::Delivered { .. });
        self.progress
            .answered(outcome.answer(), now, is_delivered.then_some(instant));
        // Who refuses a message is up.
        let is_success = !matches!(outcome, Outcome::Failed { .. });
        let (turn, circuit) = {
            let mut state = self.state();
            let turn = state.breaker.end(permit, is_success, instant);
            (turn, state.breaker.circuit())
        };
        if let Turn::Opens | Turn::Reopens | Turn::Closes = turn {
            self.turned(turn, circuit, outcome, now);
        } else if circuit == breaker::Circuit::Closed && self.progress.is_down() {
            // The last that were under way to who bore the name before have ended meanwhile.
            self.progress.set_circuit(Circuit::Closed);
        }
        turn
    }

    fn turned(&self, turn: Turn, circuit: breaker::Circuit, outcome: &Outcome, now: Timestamp) {
        let destination = &self.name;
        let circuit = match circuit {
            breaker::Circuit::Closed => Circuit::Closed,
            breaker::Circuit::HalfOpen => Circuit::HalfOpen,
            breaker::Circuit::Open { until } => {
                let wait = until.saturating_duration_since(Instant::now().into_std());
                Circuit::Open {
                    probe_at: later(now, wait),
                }
            }
        };
        self.progress.set_circuit(circuit);
        match turn {
            Turn::Opens => tracing::warn!(
                destination,
                "down: {} attempts in a row failed, the last one with: {}. Its deliveries wait; it is tried again after 1 s, then ever less often, up to once a minute",
                breaker::FAILURES_MAX,
                outcome.answer(),
            ),
            Turn::Closes => tracing::info!(destination, "up again: {}", outcome.answer()),
            _ => tracing::debug!(destination, "still down: {}", outcome.answer()),
        }
        self.bells.ring_all(&self.name);
    }

    /// Calls may always be tried.
    fn admits_probes(&self, breaker: &mut Breaker, lane: Lane, now: std::time::Instant) -> usize {
        if lane == Lane::Call {
            return usize::MAX;
        }
        let was = breaker.circuit();
        let admits = breaker.admits(now);
        if was != breaker.circuit() {
            self.progress.set_circuit(Circuit::HalfOpen);
        }
        admits
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
