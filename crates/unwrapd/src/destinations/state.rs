//! State of a destination in memory: counters, circuit, pause and last answer. Reading it is cheap,
//! and needs no store.

mod backpressure;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::delivery::Outcome;
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
    failing_since: Option<Timestamp>,
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

    /// Time of the latest delivery that succeeded.
    #[must_use]
    pub(crate) fn last_delivered_at(&self) -> Option<Timestamp> {
        self.latest().last_delivered_at
    }

    /// Time of the first of the attempts that have failed without a success between them. `None`:
    /// the destination is up.
    #[must_use]
    pub(crate) fn failing_since(&self) -> Option<Timestamp> {
        self.latest().failing_since
    }

    /// Sets the time of the latest delivery before the start of this process, unless there was one
    /// since.
    pub(crate) fn delivered_before(&self, at: Timestamp) {
        self.latest().last_delivered_at.get_or_insert(at);
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
                latest.failing_since = None;
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
            // A destination that refuses a message is up.
            Outcome::Refused { .. } => latest.failing_since = None,
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

    #[test]
    fn a_run_of_failures_begins_with_the_first_and_ends_with_a_delivery() {
        let state = DestinationState::default();
        state.answered(&delivered(), at(1));
        assert_eq!(state.failing_since(), None);
        state.answered(&Outcome::failed("HTTP 500"), at(2));
        state.answered(&Outcome::failed("HTTP 503"), at(3));
        assert_eq!(state.failing_since(), Some(at(2)));
        assert_eq!(state.last_delivered_at(), Some(at(1)));
        state.answered(&delivered(), at(4));
        assert_eq!(state.failing_since(), None);
        assert_eq!(state.last_delivered_at(), Some(at(4)));
    }

    #[test]
    fn a_destination_that_another_gateway_found_up_is_not_failing() {
        let state = DestinationState::default();
        state.answered(&Outcome::failed("HTTP 500"), at(1));
        state.set_circuit(Circuit::Open { probe_at: at(9) });
        assert_eq!(state.failing_since(), Some(at(1)));
        state.set_circuit(Circuit::Closed);
        assert_eq!(state.failing_since(), None);
    }

    #[test]
    fn a_delivery_before_the_start_counts_until_there_is_one_since() {
        let state = DestinationState::default();
        state.delivered_before(at(1));
        assert_eq!(state.last_delivered_at(), Some(at(1)));
        state.answered(&delivered(), at(2));
        state.delivered_before(at(1));
        assert_eq!(state.last_delivered_at(), Some(at(2)));
    }
}
