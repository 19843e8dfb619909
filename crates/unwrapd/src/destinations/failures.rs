//! Log lines of failed attempts: the first of each cause at once, further ones as a number once a
//! minute. Otherwise, a destination that fails every other attempt would fill the log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::observe::repeated::{INTERVAL, Repeated};
use crate::printable::counted;

/// Length of the part of an answer that distinguishes causes, in characters.
const CAUSE_CHARS_MAX: usize = 200;

/// The state of a delivery after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Failure {
    /// The delivery will be retried.
    Retried,
    /// The delivery is a dead letter.
    Dead,
}

/// Counts the failures of one destination by state and by cause, and how often it went down.
pub(crate) struct Failures {
    counted: Repeated<(Failure, String)>,
    downs: Repeated<()>,
    /// Whether the latest line about its state says that it is down.
    is_told_down: AtomicBool,
    looked_at: Mutex<Instant>,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            counted: Repeated::default(),
            downs: Repeated::default(),
            is_told_down: AtomicBool::new(false),
            looked_at: Mutex::new(Instant::now()),
        }
    }
}

impl Failures {
    /// Counts a failure. Returns the number that the caller must log, or `None` if it must not log
    /// yet.
    pub(crate) fn count(&self, failure: Failure, answer: &str) -> Option<u64> {
        let cause = answer.chars().take(CAUSE_CHARS_MAX).collect();
        self.counted.count(&(failure, cause))
    }

    /// Counts that the destination went down. Returns whether the caller must log it.
    pub(crate) fn goes_down(&self) -> bool {
        let is_news = self.downs.count(&()).is_some();
        if is_news {
            self.is_told_down.store(true, Ordering::Relaxed);
        }
        is_news
    }

    /// Records that the destination is up again. Returns whether the caller must log it: only if
    /// the log says that it is down.
    pub(crate) fn comes_up(&self) -> bool {
        self.is_told_down.swap(false, Ordering::Relaxed)
    }

    /// Logs the counts that are due. Call it at least once a minute.
    pub(crate) fn log_due(&self, destination: &str, is_down: bool) {
        {
            let mut looked_at = self
                .looked_at
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if looked_at.elapsed() < INTERVAL {
                return;
            }
            *looked_at = Instant::now();
        }
        log(destination, self.counted.take_due());
        self.log_downs(destination, &self.downs.take_due(), is_down);
    }

    /// Logs all counts that were not logged yet, at the end of the process.
    pub(crate) fn flush(&self, destination: &str, is_down: bool) {
        log(destination, self.counted.take_all());
        self.log_downs(destination, &self.downs.take_all(), is_down);
    }

    fn log_downs(&self, destination: &str, counts: &[(Option<()>, u64)], is_down: bool) {
        for (_, count) in counts {
            self.is_told_down.store(is_down, Ordering::Relaxed);
            let state = if is_down { "down" } else { "up" };
            tracing::warn!(
                destination,
                count,
                "destination went down {count} times more since the last such line, and is {state} now"
            );
        }
    }
}

fn log(destination: &str, counts: Vec<(Option<(Failure, String)>, u64)>) {
    for (failure, count) in counts {
        match failure {
            Some((Failure::Retried, cause)) => tracing::warn!(
                destination,
                count,
                "{}, and will be retried: {cause}",
                counted(count, "more attempt failed", "more attempts failed")
            ),
            Some((Failure::Dead, cause)) => {
                tracing::error!(
                    destination,
                    count,
                    "{}: {cause}",
                    counted(
                        count,
                        "more delivery was given up and kept as a dead letter",
                        "more deliveries were given up and kept as dead letters"
                    )
                );
            }
            None => tracing::warn!(
                destination,
                count,
                "{}, for other causes",
                counted(count, "more attempt failed", "more attempts failed")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_cause_of_failure_is_logged_at_once_and_then_as_a_number() {
        let failures = Failures::default();
        assert_eq!(failures.count(Failure::Retried, "HTTP 500"), Some(1));
        assert_eq!(failures.count(Failure::Dead, "HTTP 500"), Some(1));
        for _ in 0..100 {
            assert_eq!(failures.count(Failure::Retried, "HTTP 500"), None);
        }
        assert_eq!(failures.count(Failure::Retried, "HTTP 503"), Some(1));
        advance(INTERVAL).await;
        assert_eq!(failures.count(Failure::Retried, "HTTP 500"), Some(101));
    }
}
