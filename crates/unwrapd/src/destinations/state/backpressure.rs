//! Back-pressure: requests wait while more is received than delivered.
//!
//! On a few cores, a flood of requests takes the time that deliveries need, and the backlog grows
//! although the destination is fast enough. Then each request waits for one more delivery. If the
//! destination is slow, waiting would not help, and the backlog grows in the store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::OPEN_MAX;

/// Deliveries per second from which a destination is fast: then a backlog is caused by our own
/// receiving.
const FAST: f64 = 500.0;
/// Length of the period over which deliveries are counted.
const WINDOW: Duration = Duration::from_millis(500);
/// Longest wait: together with the longest commit, it is far below OpenAI's time limit.
const WAIT_MAX: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct Backpressure {
    waiting: AtomicUsize,
    release: Notify,
    rate: Mutex<Option<Rate>>,
}

/// Number of deliveries at the beginning of the period, and deliveries per second in the period
/// before.
#[derive(Clone, Copy, Debug)]
struct Rate {
    since: Instant,
    delivered: u64,
    before: f64,
}

impl Backpressure {
    /// Whether the destination is fast. `delivered` is its number of deliveries so far.
    pub(super) fn is_fast(&self, delivered: u64) -> bool {
        let now = Instant::now();
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(current) = &mut *rate else {
            *rate = Some(Rate {
                since: now,
                delivered,
                before: 0.0,
            });
            return false;
        };
        let passed = now.duration_since(current.since);
        if passed >= WINDOW {
            #[expect(clippy::cast_precision_loss, reason = "some thousands")]
            let made = delivered.saturating_sub(current.delivered) as f64;
            *current = Rate {
                since: now,
                delivered,
                before: made / passed.as_secs_f64(),
            };
        }
        current.before >= FAST
    }

    /// Waits until one delivery fewer is open, or until the longest wait.
    pub(super) async fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // The request continues in both cases.
        drop(timeout(WAIT_MAX, self.release.notified()).await);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Releases a waiting request. `open` deliveries are open, fewer than before.
    pub(super) fn release(&self, open: i64) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        if open < OPEN_MAX {
            self.release.notify_waiters();
        } else {
            self.release.notify_one();
        }
    }
}
