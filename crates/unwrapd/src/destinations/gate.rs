//! Whether another delivery may be begun at a destination: what both of its lanes share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::time::Instant;

use super::circuit_reports::{CircuitReport, CircuitReports};
use super::failures::Failures;
use super::registry::DestinationHandle;
use super::state::Circuit;
use crate::delivery::breaker::{self, Breaker, CircuitChange, Permit};
use crate::delivery::rate_limiter::RateLimiter;
use crate::delivery::{Lane, Outcome, later};
use crate::store::SharedCircuit;

/// Shut while the destination is paused or down, and narrow while it has a rate. Calls pass while
/// it is down: they have seconds, and are the best probes there are.
pub struct Gate {
    handle: Arc<DestinationHandle>,
    /// Changes for the other gateways; `None`: the store is not shared.
    reports: Option<Arc<CircuitReports>>,
    failures: Failures,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    breaker: Breaker,
    pace: RateLimiter,
    /// Whether the others were asked if it is for us to find out whether the destination is up.
    has_asked: bool,
    /// Whether the name is another destination's by now, of which nothing is known here.
    is_retired: bool,
}

impl Gate {
    /// A gate for the dispatchers of a destination.
    #[must_use]
    pub fn new(handle: Arc<DestinationHandle>) -> Self {
        // Its breaker is closed, whatever was known of a destination of that name that was configured otherwise.
        handle.state().set_circuit(Circuit::Closed);
        Self {
            handle,
            reports: None,
            failures: Failures::default(),
            state: Mutex::default(),
        }
    }

    /// As [`new`](Self::new), where others on the store deliver to the same destination. What is
    /// found here is told to `reports`; what they know is to be told to
    /// [`sync_from_fleet`](Self::sync_from_fleet).
    #[must_use]
    pub fn shared(handle: Arc<DestinationHandle>, reports: Arc<CircuitReports>) -> Self {
        Self {
            reports: Some(reports),
            ..Self::new(handle)
        }
    }

    pub(crate) fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Logs what was only counted, once a minute.
    pub(crate) fn log_due(&self) {
        self.failures
            .log_due(self.handle.name(), self.handle.state().is_down());
    }

    /// Logs what was only counted, at the end.
    pub(crate) fn flush(&self) {
        self.failures
            .flush(self.handle.name(), self.handle.state().is_down());
    }

    /// How many may be begun now.
    pub(crate) fn admits(&self, lane: Lane, rate: Option<u32>) -> usize {
        if self.handle.state().is_paused() {
            return 0;
        }
        let now = Instant::now().into_std();
        let mut state = self.state();
        let in_pace = rate.map_or(usize::MAX, |rate| state.pace.available(rate, lane, now));
        in_pace.min(self.admits_probes(&mut state, lane, now))
    }

    /// Begins one, if one may be begun.
    pub(crate) fn begin(&self, lane: Lane, rate: Option<u32>) -> Option<Permit> {
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
    pub(crate) fn is_shut(&self, lane: Lane) -> bool {
        let now = Instant::now().into_std();
        self.handle.state().is_paused() || self.admits_probes(&mut self.state(), lane, now) == 0
    }

    /// When one may be begun, if time alone brings that about.
    pub(crate) fn opens_at(&self, lane: Lane, rate: Option<u32>) -> Option<Instant> {
        let now = Instant::now().into_std();
        let mut state = self.state();
        let is_shut = self.admits_probes(&mut state, lane, now) == 0;
        let up_at = match state.breaker.circuit() {
            breaker::Circuit::Open { until } if is_shut && until > now => until,
            _ if is_shut => return None,
            _ => now,
        };
        let in_pace_at = rate.map_or(now, |rate| state.pace.next_at(rate, lane, now));
        (!self.handle.state().is_paused()).then(|| up_at.max(in_pace_at).into())
    }

    /// One was not begun after all.
    pub(crate) fn withdraw(&self, permit: Permit) {
        self.state().breaker.withdraw(permit);
    }

    /// One has ended so.
    pub(crate) fn end(&self, permit: Permit, outcome: &Outcome, now: Timestamp) -> CircuitChange {
        let instant = Instant::now().into_std();
        let is_delivered = matches!(outcome, Outcome::Delivered { .. });
        self.handle
            .state()
            .answered(outcome.answer(), now, is_delivered.then_some(instant));
        // Who refuses a message is up.
        let is_success = !matches!(outcome, Outcome::Failed { .. });
        let (change, circuit) = {
            let mut state = self.state();
            let change = state.breaker.end(permit, is_success, instant);
            self.tell(change, &state);
            (change, state.breaker.circuit())
        };
        if let CircuitChange::Opens | CircuitChange::Reopens | CircuitChange::Closes = change {
            self.changed(change, circuit, outcome, now);
        } else if circuit == breaker::Circuit::Closed && self.handle.state().is_down() {
            // The last that were under way to who bore the name before have ended meanwhile.
            self.handle.state().set_circuit(Circuit::Closed);
        }
        change
    }

    /// Others are told while nobody else changes the state: who has seen it can rely on that.
    fn tell(&self, change: CircuitChange, state: &State) {
        let Some(reports) = &self.reports else {
            return;
        };
        if state.is_retired {
            return;
        }
        let back_off = state.breaker.back_off();
        let report = match change {
            CircuitChange::Opens => CircuitReport::Down { back_off },
            CircuitChange::Reopens => CircuitReport::StillDown { back_off },
            CircuitChange::Closes => CircuitReport::Up,
            CircuitChange::Stays | CircuitChange::Fails => return,
        };
        reports.tell(self.handle.name(), report);
    }

    fn changed(
        &self,
        change: CircuitChange,
        circuit: breaker::Circuit,
        outcome: &Outcome,
        now: Timestamp,
    ) {
        let destination = self.handle.name();
        self.handle.state().set_circuit(shown(circuit, now));
        match change {
            CircuitChange::Opens if self.failures.goes_down() => tracing::warn!(
                destination,
                "destination is down: {} attempts in a row failed, the last one with: {}. Repair it; its deliveries wait in the store. The gateway tries again at least once a minute",
                breaker::FAILURES_MAX,
                outcome.answer(),
            ),
            CircuitChange::Closes if self.failures.comes_up() => {
                tracing::info!(destination, "destination is up again: {}", outcome.answer());
            }
            CircuitChange::Opens => {
                tracing::debug!(destination, "down again: {}", outcome.answer());
            }
            CircuitChange::Closes => tracing::debug!(destination, "up again: {}", outcome.answer()),
            _ => tracing::debug!(destination, "still down: {}", outcome.answer()),
        }
        self.handle.notify_all();
    }

    /// Calls may always be tried. Where there are others, they are asked before the first probe.
    fn admits_probes(&self, state: &mut State, lane: Lane, now: std::time::Instant) -> usize {
        if lane == Lane::Call {
            return usize::MAX;
        }
        let breaker = &mut state.breaker;
        if let Some(reports) = &self.reports
            && breaker.is_due(now)
        {
            if !state.has_asked {
                state.has_asked = true;
                reports.tell(self.handle.name(), CircuitReport::ProbeWanted);
            }
            return 0;
        }
        let was = breaker.circuit();
        let admits = breaker.admits(now);
        if was != breaker.circuit() {
            self.handle.state().set_circuit(Circuit::HalfOpen);
        }
        admits
    }

    /// The name is another destination's from now on. What ends here after that is not told to anyone.
    pub fn retire(&self) {
        self.state().is_retired = true;
    }

    /// Counts what was found here. Whoever asks others what they know asks for this before.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.state().breaker.epoch()
    }

    /// Whether deliveries are under way that find out whether the destination is up.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.state().breaker.is_probing()
    }

    /// Follows the shared circuit as it was read at `epoch`; `None`: the destination is up. A later
    /// change of this gateway takes precedence.
    pub fn sync_from_fleet(&self, epoch: u64, known: Option<&SharedCircuit>, now: Timestamp) {
        let instant = Instant::now().into_std();
        let mut state = self.state();
        if state.breaker.epoch() != epoch {
            return;
        }
        state.has_asked = false;
        let before = state.breaker.circuit();
        match known {
            None => state.breaker.close(),
            Some(known) if known.is_ours_to_try => state.breaker.probe(known.back_off),
            Some(known) => state
                .breaker
                .leave_alone(instant + known.wait, known.back_off),
        }
        let after = state.breaker.circuit();
        let is_due = state.breaker.is_due(instant);
        drop(state);
        self.handle.state().set_circuit(shown(after, now));
        let destination = self.handle.name();
        match (before, after) {
            (breaker::Circuit::Closed, breaker::Circuit::Open { .. })
                if self.failures.goes_down() =>
            {
                tracing::warn!(
                    destination,
                    "destination is down, as another gateway has found. Its deliveries wait in the store. One gateway tries again at least once a minute"
                );
            }
            (
                breaker::Circuit::Open { .. } | breaker::Circuit::HalfOpen,
                breaker::Circuit::Closed,
            ) if self.failures.comes_up() => {
                tracing::info!(
                    destination,
                    "destination is up again, as another gateway has found"
                );
            }
            _ => {}
        }
        if is_due || std::mem::discriminant(&before) != std::mem::discriminant(&after) {
            self.handle.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As it is shown to people.
fn shown(circuit: breaker::Circuit, now: Timestamp) -> Circuit {
    match circuit {
        breaker::Circuit::Closed => Circuit::Closed,
        breaker::Circuit::HalfOpen => Circuit::HalfOpen,
        breaker::Circuit::Open { until } => {
            let wait = until.saturating_duration_since(Instant::now().into_std());
            Circuit::Open {
                probe_at: later(now, wait),
            }
        }
    }
}
