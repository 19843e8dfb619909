//! State of a destination in memory: counters, circuit, pause and last answer. Reading it is cheap,
//! and needs no store.

mod backpressure;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::delivery::Outcome;
use crate::store::AttemptHistory;
use backpressure::Backpressure;

/// Number of open deliveries at one destination above which receiving is throttled to its speed:
/// less than half a second of the throughput of a fast destination.
const OPEN_MAX: i64 = 4096;

/// State of one destination, both lanes together, since the start of this process.
#[derive(Debug, Default)]
pub(crate) struct DestinationState {
    claimed: AtomicU64,
    delivered: AtomicU64,
    /// Deliveries stored since the start of this process that are not settled for good.
    open: AtomicI64,
    backpressure: Backpressure,
    is_paused: AtomicBool,
    is_down: AtomicBool,
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    circuit: Circuit,
    last_answer: Option<Answer>,
    last_delivered_at: Option<Timestamp>,
    /// Time of the latest attempt that showed that it is up.
    up_at: Option<Timestamp>,
    failing_since: Option<Timestamp>,
}

impl Latest {
    /// Records an attempt that showed that the destination is up.
    fn is_up(&mut self, at: Timestamp) {
        self.up_at = Some(at);
        self.failing_since = None;
    }
}

/// State of the circuit of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Circuit {
    /// The destination is up.
    #[default]
    Closed,
    /// The destination is down. Nothing is sent until `probe_at`.
    Open {
        /// Time of the next probe.
        probe_at: Timestamp,
    },
    /// The destination was down; the next deliveries are the probe.
    HalfOpen,
}

/// An answer of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The answer or the cause of the failure, for people; without content of a message.
    pub(crate) text: String,
    /// Time of the answer.
    pub(crate) at: Timestamp,
}

impl DestinationState {
    /// Number of claims of deliveries by this gateway.
    #[must_use]
    pub(crate) fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Number of deliveries that succeeded.
    #[must_use]
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Whether an operator has paused it.
    #[must_use]
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::SeqCst)
    }

    /// Whether it gets no deliveries at present, because it is paused or down.
    #[must_use]
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_paused() || self.is_down()
    }

    /// Whether its circuit is not closed.
    #[must_use]
    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// State of its circuit.
    #[must_use]
    pub(crate) fn circuit(&self) -> Circuit {
        self.latest().circuit
    }

    /// The last answer.
    #[must_use]
    pub(crate) fn last_answer(&self) -> Option<Answer> {
        self.latest().last_answer.clone()
    }

    /// Time of the latest delivery that succeeded. `history` has those of other gateways, and those
    /// before the start of this process, to the minute.
    #[must_use]
    pub(crate) fn last_delivered_at(&self, history: &AttemptHistory) -> Option<Timestamp> {
        self.latest().last_delivered_at.max(history.delivered)
    }

    /// Time of the first of the attempts that have failed since one showed that the destination is
    /// up, as far as known: to the minute if `history` has it. `None`: the destination is up.
    #[must_use]
    pub(crate) fn failing_since(&self, history: &AttemptHistory) -> Option<Timestamp> {
        let latest = self.latest();
        // A later success of another gateway ends the failures here, too.
        let here = latest
            .failing_since
            .filter(|since| history.up.is_none_or(|up| up <= *since));
        // The counts of the last second may be missing.
        let recorded = history
            .failing_since
            .filter(|since| latest.up_at.is_none_or(|up| up < *since));
        here.into_iter().chain(recorded).min()
    }

    /// Counts deliveries that this gateway has claimed.
    pub(crate) fn add_claimed(&self, deliveries: usize) {
        self.claimed.fetch_add(deliveries as u64, Ordering::Relaxed);
    }

    /// Counts an open delivery.
    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a closed delivery: it was settled for good, durably, or was never stored.
    pub(crate) fn closed(&self) {
        // Never below zero: deliveries from before the start of this process were not counted.
        let less = |open: i64| Some((open - 1).max(0));
        let before = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.backpressure.release(before.unwrap_or_default() - 1);
    }

    /// Limits the number of open deliveries to those that a claim has found. Another gateway may
    /// have delivered some, which are not counted here.
    pub(crate) fn caught_up(&self, open: usize) {
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        let before = self.open.fetch_min(open, Ordering::Relaxed);
        self.backpressure.release(before.min(open));
    }

    /// Waits if many deliveries are open and the destination is fast: until one more is closed, and
    /// for a quarter of a second at most. It does not wait for a destination that is down or slow,
    /// whose backlog stays in the store. Returns whether it waited.
    pub(crate) async fn throttle(&self) -> bool {
        let is_ahead = self.open.load(Ordering::Relaxed) >= OPEN_MAX;
        let waits = is_ahead && !self.is_stopped() && self.backpressure.is_fast(self.delivered());
        if waits {
            self.backpressure.wait().await;
        }
        waits
    }

    /// Records the outcome of an attempt.
    pub(crate) fn answered(&self, outcome: &Outcome, at: Timestamp) {
        let text = outcome.answer();
        let mut latest = self.latest();
        match &mut latest.last_answer {
            Some(answer) if answer.text == text => answer.at = at,
            answer => {
                *answer = Some(Answer {
                    text: text.to_owned(),
                    at,
                });
            }
        }
        match outcome {
            Outcome::Delivered { .. } => {
                latest.last_delivered_at = Some(at);
                latest.is_up(at);
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
            // A destination that refuses a message is up.
            Outcome::Refused { .. } => latest.is_up(at),
            Outcome::Failed { .. } => {
                latest.failing_since.get_or_insert(at);
            }
        }
    }

    /// Sets the state of the circuit.
    pub(crate) fn set_circuit(&self, circuit: Circuit) {
        {
            let mut latest = self.latest();
            let comes_up = circuit == Circuit::Closed && latest.circuit != Circuit::Closed;
            latest.circuit = circuit;
            // Another gateway may have delivered.
            if comes_up {
                latest.failing_since = None;
            }
        }
        self.is_down
            .store(circuit != Circuit::Closed, Ordering::Relaxed);
    }

    /// Sets whether the destination is paused. The caller must wake its dispatchers.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::SeqCst);
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::response_excerpt::ResponseExcerpt;

    fn delivered() -> Outcome {
        Outcome::Delivered {
            answer: "HTTP 200".into(),
            status: Some(200),
            said: ResponseExcerpt::default(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A history of these seconds.
    fn history(
        delivered: Option<i64>,
        up: Option<i64>,
        failing_since: Option<i64>,
    ) -> AttemptHistory {
        AttemptHistory {
            destination: "app".into(),
            delivered: delivered.map(at),
            up: up.map(at),
            failing_since: failing_since.map(at),
        }
    }

    #[test]
    fn a_run_of_failures_begins_with_the_first_and_ends_with_a_delivery() {
        let (state, none) = (DestinationState::default(), history(None, None, None));
        state.answered(&delivered(), at(1));
        assert_eq!(state.failing_since(&none), None);
        state.answered(&Outcome::failed("HTTP 500"), at(2));
        state.answered(&Outcome::failed("HTTP 503"), at(3));
        assert_eq!(state.failing_since(&none), Some(at(2)));
        assert_eq!(state.last_delivered_at(&none), Some(at(1)));
        state.answered(&delivered(), at(4));
        assert_eq!(state.failing_since(&none), None);
        assert_eq!(state.last_delivered_at(&none), Some(at(4)));
    }

    #[test]
    fn a_destination_that_another_gateway_found_up_is_not_failing() {
        let (state, none) = (DestinationState::default(), history(None, None, None));
        state.answered(&Outcome::failed("HTTP 500"), at(1));
        state.set_circuit(Circuit::Open { probe_at: at(9) });
        assert_eq!(state.failing_since(&none), Some(at(1)));
        state.set_circuit(Circuit::Closed);
        assert_eq!(state.failing_since(&none), None);
    }

    #[test]
    fn what_was_recorded_counts_until_this_process_knows_better() {
        let state = DestinationState::default();
        let before = history(Some(60), Some(120), Some(180));
        assert_eq!(state.last_delivered_at(&before), Some(at(60)));
        assert_eq!(state.failing_since(&before), Some(at(180)));
        // A failure since the start belongs to the same run.
        state.answered(&Outcome::failed("HTTP 500"), at(200));
        assert_eq!(state.failing_since(&before), Some(at(180)));
        // Another gateway delivers, and an attempt there fails afterwards.
        let other = history(Some(240), Some(240), Some(300));
        assert_eq!(state.failing_since(&other), Some(at(300)));
        assert_eq!(state.last_delivered_at(&other), Some(at(240)));
        // A success here, whose count is not written yet.
        state.answered(&delivered(), at(310));
        assert_eq!(state.failing_since(&other), None);
        assert_eq!(state.last_delivered_at(&other), Some(at(310)));
        state.answered(&Outcome::failed("HTTP 500"), at(320));
        assert_eq!(state.failing_since(&other), Some(at(320)));
    }
}
