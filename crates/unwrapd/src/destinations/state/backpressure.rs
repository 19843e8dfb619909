//! Back-pressure: requests wait while more is received than delivered.
//!
//! On a few cores a flood of requests takes the time that deliveries need, and the backlog grows
//! although the destination is fast enough. Then each request waits for one more delivery. If the
//! destination is slow, waiting would not help: then the backlog grows in the store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::OPEN_MAX;

/// Deliveries a second from which a destination is fast: what it does not take then, our own receiving keeps from it.
const FAST: f64 = 500.0;
/// How long deliveries are counted to find their rate.
const WINDOW: Duration = Duration::from_millis(500);
/// Longest wait: with the longest time for a commit still far within what OpenAI waits.
const WAIT_MAX: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct Backpressure {
    waiting: AtomicUsize,
    release: Notify,
    rate: Mutex<Option<Rate>>,
}

/// Deliveries until the window began, and deliveries a second in the window before.
#[derive(Clone, Copy, Debug)]
struct Rate {
    since: Instant,
    delivered: u64,
    before: f64,
}

impl Backpressure {
    /// Whether the destination is fast. `delivered` is its number of deliveries until now.
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

    /// Waits until one delivery fewer is open, or a moment.
    pub(super) async fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // In time or not: it goes on.
        drop(timeout(WAIT_MAX, self.release.notified()).await);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Lets a waiting request go on. `open` deliveries are open now, fewer than before.
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
