//! How hard a destination may be pressed.

use std::time::Duration;

use super::Lane;
use super::retry::RetryPolicy;

/// The limits of one lane of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most deliveries under way at once.
    pub concurrency: usize,
    /// Most deliveries begun in a second, both lanes together. `None`: as many as it takes.
    pub rate: Option<u32>,
    /// Longest time an attempt may take.
    pub timeout: Duration,
    /// When to try again.
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
    /// The limits of `lane`, where `self` are those of the destination. Calls have workers of their own, and an attempt that takes
    /// long is one the caller has hung up on.
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
