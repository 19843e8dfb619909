//! Limits for the deliveries to a destination.

use std::time::Duration;

use super::Lane;
use super::retry::RetryPolicy;

/// The limits of one lane of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of concurrent attempts.
    pub concurrency: usize,
    /// Maximum number of attempts that begin within a second, for both lanes together. `None`: no
    /// limit.
    pub rate: Option<u32>,
    /// Maximum duration of an attempt.
    pub timeout: Duration,
    /// The policy for retries.
    pub retry: RetryPolicy,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: 16,
            rate: None,
            timeout: Duration::from_secs(15),
            retry: RetryPolicy::default(),
        }
    }
}

impl Limits {
    /// The limits of `lane`, from those of the destination. Calls have their own workers, and a
    /// shorter time-out, because the caller hangs up.
    #[must_use]
    pub fn of(&self, lane: Lane) -> Self {
        match lane {
            Lane::Standard => self.clone(),
            Lane::Call => Self {
                concurrency: if self.rate == Some(0) { 0 } else { 16 },
                rate: self.rate,
                timeout: self.timeout.min(Duration::from_secs(5)),
                retry: RetryPolicy::call(),
            },
        }
    }
}
