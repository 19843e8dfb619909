//! Limits how often one kind of warning is logged. No flood fills the log, and every event is
//! counted in some line.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Shortest time between two log lines about the same key.
pub const INTERVAL: Duration = Duration::from_secs(60);
/// Largest number of keys with a count of their own. Events of further keys share one count,
/// without a key. It is more than the kinds of refusals of some hundred endpoints, so that a client
/// cannot hide one kind by causing all others.
const KEYS_MAX: usize = 16 * 1024;

/// Counts events by key. The first event of a key is logged at once. Further ones are counted, and
/// logged as one number once [`INTERVAL`] has passed.
///
/// ```
/// # use unwrapd_core::observe::repeated::Repeated;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let refused = Repeated::default();
/// assert_eq!(refused.count(&"production"), Some(1));
/// assert_eq!(refused.count(&"production"), None);
/// # })
/// ```
pub struct Repeated<K>(Mutex<HashMap<Option<K>, Counted>>);

struct Counted {
    logged_at: Instant,
    /// Events since the last log line.
    unlogged: u64,
}

impl<K> Default for Repeated<K> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Clone + Eq + Hash> Repeated<K> {
    /// Counts one event. Returns the number of events that the caller must now log, or `None` if it
    /// must not log yet.
    pub fn count(&self, key: &K) -> Option<u64> {
        let now = Instant::now();
        let mut by_key = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Some(key.clone());
        let key = if by_key.contains_key(&key) || by_key.len() < KEYS_MAX {
            key
        } else {
            None
        };
        match by_key.get_mut(&key) {
            Some(counted) if now.duration_since(counted.logged_at) < INTERVAL => {
                counted.unlogged += 1;
                None
            }
            Some(counted) => {
                counted.logged_at = now;
                Some(std::mem::take(&mut counted.unlogged) + 1)
            }
            None => {
                by_key.insert(
                    key,
                    Counted {
                        logged_at: now,
                        unlogged: 0,
                    },
                );
                Some(1)
            }
        }
    }

    /// Takes the counts that have waited for [`INTERVAL`], for the caller to log; call it at least
    /// that often. The key is `None` for events of the shared count. A key without new events is
    /// forgotten.
    pub fn take_due(&self) -> Vec<(Option<K>, u64)> {
        let now = Instant::now();
        let mut due = Vec::new();
        let mut by_key = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        by_key.retain(|key, counted| {
            if now.duration_since(counted.logged_at) < INTERVAL {
                return true;
            }
            if counted.unlogged == 0 {
                return false;
            }
            due.push((key.clone(), std::mem::take(&mut counted.unlogged)));
            counted.logged_at = now;
            true
        });
        due
    }

    /// Takes all counts that wait, whether they are due or not, and forgets all keys. For the end
    /// of the process.
    pub fn take_all(&self) -> Vec<(Option<K>, u64)> {
        let mut by_key = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        by_key
            .drain()
            .filter(|(_, counted)| counted.unlogged > 0)
            .map(|(key, counted)| (key, counted.unlogged))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_event_is_logged_and_the_next_ones_as_a_number() {
        let refused = Repeated::default();
        assert_eq!(refused.count(&"a"), Some(1));
        assert_eq!(refused.count(&"a"), None);
        assert_eq!(refused.count(&"b"), Some(1));
        assert!(refused.take_due().is_empty());
        advance(INTERVAL).await;
        assert_eq!(refused.count(&"a"), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_that_ended_is_logged_all_the_same() {
        let refused = Repeated::default();
        for _ in 0..80 {
            refused.count(&"a");
        }
        advance(INTERVAL).await;
        assert_eq!(refused.take_due(), [(Some("a"), 79)]);
        advance(INTERVAL).await;
        assert!(refused.take_due().is_empty());
        assert_eq!(refused.count(&"a"), Some(1), "it was forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_beyond_the_limit_are_counted_together() {
        let refused = Repeated::default();
        for key in 0..KEYS_MAX {
            assert_eq!(refused.count(&key), Some(1));
        }
        assert_eq!(refused.count(&KEYS_MAX), Some(1));
        assert_eq!(refused.count(&(KEYS_MAX + 1)), None);
        advance(INTERVAL).await;
        assert_eq!(refused.take_due(), [(None, 1)]);
    }
}
