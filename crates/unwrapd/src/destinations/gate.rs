//! Decides whether a delivery to a destination may begin. Both of its lanes share a gate.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::Level;

use super::circuit_reports::{CircuitReport, CircuitReports};
use super::failures::Failures;
use super::registry::DestinationHandle;
use super::state::Circuit;
use crate::delivery::breaker::{self, Breaker, CircuitChange, Permit};
use crate::delivery::rate_limiter::RateLimiter;
use crate::delivery::{Lane, Outcome, later};
use crate::pipeline_events::PipelineEvent;
use crate::store::SharedCircuit;

/// Closed while the destination is paused or down, and limited by its rate. Calls pass while it is
/// down: they have seconds, and are the best probes.
pub struct Gate {
    handle: Arc<DestinationHandle>,
    /// Reports for the other gateways. `None`: the store is not shared.
    reports: Option<Arc<CircuitReports>>,
    failures: Failures,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    breaker: Breaker,
    pace: RateLimiter,
    /// Whether this gateway has requested the probe.
    has_asked: bool,
    /// Whether the name belongs to another destination, about which this gate has no information.
    is_retired: bool,
}

impl Gate {
    /// A gate for the dispatchers of a destination.
    #[must_use]
    pub fn new(handle: Arc<DestinationHandle>) -> Self {
        // The breaker is closed, whatever was known of an earlier destination with this name.
        handle.state().set_circuit(Circuit::Closed);
        Self {
            handle,
            reports: None,
            failures: Failures::default(),
            state: Mutex::default(),
        }
    }

    /// Does the same as [`new`](Self::new), for a store with several gateways. Changes of the
    /// circuit here go to `reports`; those of other gateways come through
    /// [`sync_from_fleet`](Self::sync_from_fleet).
    #[must_use]
    pub(crate) fn shared(handle: Arc<DestinationHandle>, reports: Arc<CircuitReports>) -> Self {
        Self {
            reports: Some(reports),
            ..Self::new(handle)
        }
    }

    pub(crate) fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Logs counted failures, once a minute.
    pub(crate) fn log_due(&self) {
        self.failures
            .log_due(self.handle.name(), self.handle.state().is_down());
    }

    /// Logs counted failures, at the end.
    pub(crate) fn flush(&self) {
        self.failures
            .flush(self.handle.name(), self.handle.state().is_down());
    }

    /// Number of attempts that may begin.
    pub(crate) fn admits(&self, lane: Lane, rate: Option<u32>) -> usize {
        if self.handle.state().is_paused() {
            return 0;
        }
        let now = Instant::now().into_std();
        let mut state = self.state();
        let in_pace = rate.map_or(usize::MAX, |rate| state.pace.available(rate, lane, now));
        in_pace.min(self.admits_probes(&mut state, lane, now))
    }

    /// Begins an attempt, if one may begin.
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

    /// Whether no attempt may begin, apart from the rate.
    pub(crate) fn is_shut(&self, lane: Lane) -> bool {
        let now = Instant::now().into_std();
        self.handle.state().is_paused() || self.admits_probes(&mut self.state(), lane, now) == 0
    }

    /// Time at which an attempt may begin, if that depends only on time.
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

    /// Takes back a permit whose attempt did not begin.
    pub(crate) fn withdraw(&self, permit: Permit) {
        self.state().breaker.withdraw(permit);
    }

    /// Ends an attempt. The caller [emits](Self::emit) the change, after the end of the attempt.
    pub(crate) fn end(&self, permit: Permit, outcome: &Outcome, now: Timestamp) -> CircuitChange {
        let instant = Instant::now().into_std();
        self.handle.state().answered(outcome, now);
        // A destination that refuses a message is up.
        let is_success = !matches!(outcome, Outcome::Failed { .. });
        let (change, circuit) = {
            let mut state = self.state();
            let change = state.breaker.end(permit, is_success, instant);
            self.tell(change, &state);
            (change, state.breaker.circuit())
        };
        if let CircuitChange::Opens | CircuitChange::Reopens | CircuitChange::Closes = change {
            self.handle.state().set_circuit(shown(circuit, now));
            self.handle.notify_all();
        } else if circuit == breaker::Circuit::Closed && self.handle.state().is_down() {
            // These are the last attempts at an earlier destination with this name.
            self.handle.state().set_circuit(Circuit::Closed);
        }
        change
    }

    /// Publishes a change while the state is locked, so that every observer of the state can rely
    /// on the publication.
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

    /// Emits a change, if it is one of the circuit. The log has the first opening at once, as a
    /// warning, and counts further ones. `answer` is that of the attempt that caused it; `None`:
    /// another gateway found it.
    pub(crate) fn emit(&self, change: CircuitChange, answer: Option<&str>) {
        let level = match change {
            CircuitChange::Stays | CircuitChange::Fails => return,
            CircuitChange::Opens if self.failures.goes_down() => Level::WARN,
            CircuitChange::Closes if self.failures.comes_up() => Level::INFO,
            CircuitChange::Opens | CircuitChange::Reopens | CircuitChange::Closes => Level::DEBUG,
        };
        let events = self.handle.events();
        events.emit(level, || PipelineEvent::CircuitChanged {
            destination: self.handle.name().to_owned(),
            change,
            answer: answer.map(str::to_owned),
        });
    }

    /// Calls are always admitted. With other gateways, the right to probe is requested from them
    /// first.
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

    /// Gives the name to another destination. Later results of this gate are not reported.
    pub(crate) fn retire(&self) {
        self.state().is_retired = true;
    }

    /// Number of state changes. Read it before the shared circuits, to pass it to
    /// [`sync_from_fleet`](Self::sync_from_fleet).
    #[must_use]
    pub(crate) fn epoch(&self) -> u64 {
        self.state().breaker.epoch()
    }

    /// Whether probes are running.
    #[must_use]
    pub(crate) fn is_probing(&self) -> bool {
        self.state().breaker.is_probing()
    }

    /// Follows the shared circuit as it was read at `epoch`. `None`: the destination is up. A later
    /// change of this gateway takes precedence.
    pub(crate) fn sync_from_fleet(
        &self,
        epoch: u64,
        known: Option<&SharedCircuit>,
        now: Timestamp,
    ) {
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
        match (before, after) {
            (breaker::Circuit::Closed, breaker::Circuit::Open { .. }) => {
                self.emit(CircuitChange::Opens, None);
            }
            (
                breaker::Circuit::Open { .. } | breaker::Circuit::HalfOpen,
                breaker::Circuit::Closed,
            ) => self.emit(CircuitChange::Closes, None),
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

/// The circuit in the form for people.
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
