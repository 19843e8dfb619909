//! How it goes at each destination, for whoever wants to know without asking the store. Reading it
//! costs nothing worth counting.

mod backpressure;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

use backpressure::Backpressure;

/// Open deliveries at one destination above which receiving keeps pace with it: less than half a
/// second of what a fast one takes.
const OPEN_MAX: i64 = 4096;

/// How it goes at one destination, both lanes together, since this process began.
#[derive(Debug, Default)]
pub struct DestinationState {
    claimed: AtomicU64,
    delivered: AtomicU64,
    /// Deliveries neither made nor given up, of those that arrived since this process began.
    open: AtomicI64,
    backpressure: Backpressure,
    is_paused: AtomicBool,
    is_down: AtomicBool,
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    circuit: Circuit,
    last_success: Option<Instant>,
    last_answer: Option<Answer>,
}

/// Whether a destination is taken to be up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Circuit {
    /// The destination is up.
    #[default]
    Closed,
    /// The destination is down, and not tried until then.
    Open {
        /// When it is tried again.
        probe_at: Timestamp,
    },
    /// The destination was down; the next deliveries try it.
    HalfOpen,
}

/// An answer of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The answer or what went wrong, for people; without content of a message.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

impl DestinationState {
    /// Deliveries leased to us, each as often as it was.
    #[must_use]
    pub fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Deliveries made.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Whether someone has paused it.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::SeqCst)
    }

    /// Whether nothing can be expected of it for now: it is paused, or down.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_paused() || self.is_down()
    }

    /// Whether it is taken to be down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Whether it is taken to be up.
    #[must_use]
    pub fn circuit(&self) -> Circuit {
        self.latest().circuit
    }

    /// When it last took a delivery.
    #[must_use]
    pub fn last_success(&self) -> Option<Instant> {
        self.latest().last_success
    }

    /// The last answer.
    #[must_use]
    pub fn last_answer(&self) -> Option<Answer> {
        self.latest().last_answer.clone()
    }

    /// So many more were leased to us.
    pub fn add_claimed(&self, deliveries: usize) {
        self.claimed.fetch_add(deliveries as u64, Ordering::Relaxed);
    }

    /// One more is to be made.
    pub fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// One more is made or given up, durably; or it was not to be made after all.
    pub fn closed(&self) {
        // Not below nothing: what waited before this process began was not counted.
        let less = |open: i64| Some((open - 1).max(0));
        let before = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.backpressure.release(before.unwrap_or_default() - 1);
    }

    /// No more wait for it than these. Another gateway may have made what arrived here, and then
    /// nobody here would have counted it.
    pub fn caught_up(&self, open: usize) {
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        let before = self.open.fetch_min(open, Ordering::Relaxed);
        self.backpressure.release(before.min(open));
    }

    /// Waits while more arrives for it than it takes, if it takes much: until one more is made, and
    /// not longer than a moment. A destination that is down or slow is not waited for; its backlog
    /// waits on the disk. Says whether it waited.
    pub async fn throttle(&self) -> bool {
        let is_ahead = self.open.load(Ordering::Relaxed) >= OPEN_MAX;
        let waits = is_ahead && !self.is_stopped() && self.backpressure.is_fast(self.delivered());
        if waits {
            self.backpressure.wait().await;
        }
        waits
    }

    /// Records an answer. `delivered_at` is the time of the delivery, if it succeeded.
    pub fn answered(&self, text: &str, at: Timestamp, delivered_at: Option<Instant>) {
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
        if delivered_at.is_some() {
            latest.last_success = delivered_at;
            self.delivered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets the state of the circuit.
    pub fn set_circuit(&self, circuit: Circuit) {
        self.latest().circuit = circuit;
        self.is_down
            .store(circuit != Circuit::Closed, Ordering::Relaxed);
    }

    /// Sets whether the destination is paused. The caller must wake its dispatchers.
    pub fn set_paused(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::SeqCst);
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
