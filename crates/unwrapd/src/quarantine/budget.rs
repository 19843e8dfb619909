//! Limits on the refused requests that the quarantine keeps. Each endpoint has its own limit, so
//! that noise at one takes no capacity from the others.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::token_bucket::{Fill, TokenBucket};

/// Requests of one endpoint that are kept per second, on average. Any client can send them, and
/// each costs a write.
const RATE: u32 = 10;
/// Requests of one endpoint that are kept in a burst: as many as OpenAI may send before an operator
/// sees that a secret is wrong.
const BURST: u32 = 100;
const FILL: Fill = Fill {
    interval: Duration::from_millis(1000 / RATE as u64),
    burst: BURST,
};
/// Requests of one endpoint that may wait to be written. This is more than a burst of each kind, so
/// that a store of usual speed keeps all of them. With many endpoints it is an equal share of
/// [`WAITING_IN_ALL_MAX`], so that noise at some of them takes nothing from the others.
const WAITING_MAX: usize = 256;
/// Requests of all endpoints that may wait to be written: at most 32 MiB of bodies.
const WAITING_IN_ALL_MAX: usize = 512;

/// The limits of all endpoints.
pub(super) struct Budget {
    endpoints: Mutex<HashMap<String, Endpoint>>,
    waiting: Arc<Semaphore>,
}

/// The limits of one endpoint.
struct Endpoint {
    /// For requests whose body was read, and which may still be verified later. Noise without
    /// headers does not count here.
    with_body: TokenBucket,
    without_body: TokenBucket,
    waiting: Arc<Semaphore>,
}

/// The permit to keep a request. Hold it until the request is written.
pub(super) struct Permit(#[expect(dead_code, reason = "held")] [OwnedSemaphorePermit; 2]);

/// Why a request is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Too many requests of the endpoint within a short time.
    Rate,
    /// Too many requests wait to be written.
    Waiting,
}

impl Full {
    /// The beginning of the log line.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Rate => "a refused request was not kept in the quarantine (too many)",
            Self::Waiting => "a refused request was not kept in the quarantine (store too slow)",
        }
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate => write!(
                f,
                "the endpoint was sent more than {BURST} at once and then {RATE} per second; OpenAI sends again what is genuine"
            ),
            Self::Waiting => write!(
                f,
                "as many of the endpoint wait to be written as may; the store is slow"
            ),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            endpoints: Mutex::default(),
            waiting: Arc::new(Semaphore::new(WAITING_IN_ALL_MAX)),
        }
    }
}

impl Budget {
    /// Waits until no request waits to be written.
    pub(super) async fn is_empty(&self) {
        // The semaphore is never closed.
        let all = u32::try_from(WAITING_IN_ALL_MAX).unwrap_or(u32::MAX);
        drop(self.waiting.acquire_many(all).await);
    }

    /// Returns a permit for a request to `endpoint`, one of `configured`. Forgets endpoints that
    /// are no longer configured.
    pub(super) fn take<V>(
        &self,
        endpoint: &str,
        has_body: bool,
        now: Instant,
        configured: &HashMap<String, V>,
    ) -> Result<Permit, Full> {
        let mut endpoints = self
            .endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !endpoints.contains_key(endpoint) {
            endpoints.retain(|name, _| configured.contains_key(name));
            endpoints.insert(endpoint.to_owned(), Endpoint::new());
        }
        let Some(endpoint) = endpoints.get_mut(endpoint) else {
            return Err(Full::Rate);
        };
        let bucket = if has_body {
            &mut endpoint.with_body
        } else {
            &mut endpoint.without_body
        };
        let place = |waiting: &Arc<Semaphore>| {
            let place = Arc::clone(waiting).try_acquire_owned();
            place.map_err(|_| Full::Waiting)
        };
        let share = (WAITING_IN_ALL_MAX / configured.len().max(1)).clamp(1, WAITING_MAX);
        if WAITING_MAX - endpoint.waiting.available_permits() >= share {
            return Err(Full::Waiting);
        }
        // The permit of the endpoint comes first, so that a full endpoint takes nothing from the
        // others.
        let own = place(&endpoint.waiting)?;
        let all = place(&self.waiting)?;
        if bucket.take(FILL, now.into_std()) {
            Ok(Permit([own, all]))
        } else {
            Err(Full::Rate)
        }
    }
}

impl Endpoint {
    fn new() -> Self {
        Self {
            with_body: TokenBucket::default(),
            without_body: TokenBucket::default(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(endpoints: &[&str]) -> HashMap<String, u8> {
        endpoints.iter().map(|&name| (name.into(), 0)).collect()
    }

    fn take(budget: &Budget, endpoint: &str, has_body: bool, now: Instant) -> Result<(), Full> {
        let configured = configured(&["noisy", "quiet"]);
        budget.take(endpoint, has_body, now, &configured).map(drop)
    }

    #[tokio::test(start_paused = true)]
    async fn noise_at_one_endpoint_takes_nothing_from_another() {
        let budget = Budget::default();
        let now = Instant::now();
        let taken = (0..1_000).filter(|_| take(&budget, "noisy", true, now).is_ok());
        assert_eq!(taken.count(), 100);
        assert_eq!(take(&budget, "noisy", true, now), Err(Full::Rate));
        assert_eq!(take(&budget, "noisy", false, now), Ok(()));
        assert_eq!(take(&budget, "quiet", true, now), Ok(()));
        let later = now + Duration::from_secs(1);
        let taken = (0..1_000).filter(|_| take(&budget, "noisy", true, later).is_ok());
        assert_eq!(taken.count(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_store_fills_the_slots_of_noisy_endpoints_only() {
        for noisy in [
            &["a"][..],
            &["a", "b"],
            &["a", "b", "c", "d", "e", "f", "g"],
        ] {
            let budget = Budget::default();
            let configured = configured(&[noisy, &["quiet"]].concat());
            let mut now = Instant::now();
            let mut held = Vec::new();
            for endpoint in noisy {
                loop {
                    now += Duration::from_secs(1);
                    match budget.take(endpoint, true, now, &configured) {
                        Ok(place) => held.push(place),
                        Err(full) => {
                            assert_eq!(full, Full::Waiting);
                            break;
                        }
                    }
                }
            }
            assert!(held.len() >= WAITING_MAX && held.len() < WAITING_IN_ALL_MAX);
            let quiet = budget.take("quiet", true, now, &configured);
            assert!(quiet.is_ok(), "{noisy:?}");
            held.clear();
            assert!(budget.take("a", true, now, &configured).is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_is_no_longer_configured_leaves_the_budget() {
        let budget = Budget::default();
        let now = Instant::now();
        for endpoint in ["a", "b", "c"] {
            let taken = budget.take(endpoint, true, now, &configured(&[endpoint]));
            assert!(taken.is_ok());
        }
        assert_eq!(budget.endpoints.lock().unwrap().len(), 1);
    }
}
