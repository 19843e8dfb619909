//! Computes the wait before the next attempt.

use std::time::Duration;

/// Exponential back-off with full jitter: each wait is uniform between zero and the back-off. So
/// deliveries that failed together are not retried together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The back-off after the first attempt. It doubles with each further attempt.
    pub first: Duration,
    /// Maximum back-off.
    pub max: Duration,
    /// Longest wait that a destination may request. Beyond it, a mistake there would stop all
    /// deliveries.
    pub retry_after_max: Duration,
    /// Age at which a delivery is given up.
    pub give_up_after: Duration,
    /// Number of attempts after which a delivery is given up. `None`: only its age counts.
    pub attempts_max: Option<u32>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            max: Duration::from_secs(3600),
            retry_after_max: Duration::from_secs(3600),
            // The same time as [OpenAI's own
            // retries](https://developers.openai.com/api/docs/guides/webhooks).
            give_up_after: Duration::from_secs(72 * 3600),
            attempts_max: None,
        }
    }
}

impl RetryPolicy {
    /// The policy for calls: a caller waits for seconds.
    #[must_use]
    pub fn call() -> Self {
        Self {
            first: Duration::from_millis(50),
            max: Duration::from_secs(1),
            retry_after_max: Duration::from_secs(1),
            give_up_after: Duration::from_secs(10),
            attempts_max: None,
        }
    }

    /// The longest wait between two attempts. A longer wait was set by a clock that was set back
    /// since, or by another policy.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        self.max.max(self.retry_after_max)
    }

    /// The wait after `attempt`, counted from 1. `random` is uniform from 0 to 1; `retry_after` is
    /// the wait that the destination requested, and is a lower bound.
    #[must_use]
    pub fn delay(&self, attempt: u32, retry_after: Option<Duration>, random: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let back_off = self.first.saturating_mul(1 << doublings).min(self.max);
        let jittered = back_off.mul_f64(random.clamp(0.0, 1.0));
        jittered.max(retry_after.unwrap_or_default().min(self.retry_after_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_up_to_its_maximum() {
        let policy = RetryPolicy::default();
        let seconds = |attempt| policy.delay(attempt, None, 1.0).as_secs();
        assert_eq!([1, 2, 3, 4].map(seconds), [1, 2, 4, 8]);
        assert_eq!(
            [12, 13, 1000, u32::MAX].map(seconds),
            [2048, 3600, 3600, 3600]
        );
    }

    #[test]
    fn retry_after_is_a_lower_bound_within_reason() {
        let policy = RetryPolicy::default();
        let asked = |seconds| {
            policy
                .delay(1, Some(Duration::from_secs(seconds)), 0.0)
                .as_secs()
        };
        assert_eq!(asked(30), 30);
        assert_eq!(asked(1_000_000), 3600);
        let asked_for_a_call = RetryPolicy::call().delay(1, Some(Duration::from_secs(10)), 0.0);
        assert_eq!(asked_for_a_call, Duration::from_secs(1));
    }
}
