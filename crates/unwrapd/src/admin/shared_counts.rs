//! Counts of deliveries that several callers share.
//!
//! A count reads an index of the waiting deliveries and one of the dead letters. With millions of
//! them it takes a second, and a dashboard requests it every second. So the result of a slow count
//! is reused for a multiple of its duration. Counters that each delivery updates would slow down
//! receiving.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::shared_run::{End, SharedRun};
use crate::store::{DestinationCounts, StoreError};

/// Maximum age at which a slow count is reused, as a multiple of its duration: slow counts then use
/// at most a twentieth of a core.
const AGE_FACTOR_MAX: u32 = 20;
/// Limit of that age, because a count may also be slow for lack of a free connection.
const AGE_MAX: Duration = Duration::from_secs(60);
/// A count that takes at most this long is never reused.
const IS_QUICK: Duration = Duration::from_millis(20);

/// The latest count of deliveries by destination, running or finished.
#[derive(Debug, Default)]
pub struct SharedCounts(Mutex<Option<Count>>);

type Count = SharedRun<Vec<DestinationCounts>>;

impl SharedCounts {
    /// The result of `count`, or that of one that is running, or that of an earlier one if it may
    /// still be used. A count continues if its callers leave, so the next caller finds its result.
    pub(super) async fn get(
        &self,
        count: impl Future<Output = Result<Vec<DestinationCounts>, StoreError>> + Send + 'static,
    ) -> Result<Vec<DestinationCounts>, StoreError> {
        let mut count = {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match last.as_ref().filter(|count| may_be_used(count)) {
                Some(count) => count.clone(),
                None => last.insert(SharedRun::begin(count)).clone(),
            }
        };
        count.result().await
    }
}

/// Whether a caller gets the result of this count, which may still be running.
fn may_be_used(count: &Count) -> bool {
    let Some(End { result, at }) = count.end() else {
        return count.is_under_way();
    };
    let took = at.duration_since(count.began_at());
    let age_max = (took * AGE_FACTOR_MAX).min(AGE_MAX);
    result.is_ok() && took > IS_QUICK && at.elapsed() < age_max
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance, sleep, timeout};

    use super::*;

    async fn count(of: u64, takes: Duration) -> Result<Vec<DestinationCounts>, StoreError> {
        sleep(takes).await;
        Ok(vec![DestinationCounts {
            destination: "app".into(),
            lanes: Default::default(),
            dead: of,
        }])
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_count_is_reused_for_twenty_times_its_duration() {
        let counts = SharedCounts::default();
        let second = Duration::from_secs(1);
        let first = counts.get(count(1, second)).await.unwrap();
        advance(19 * second).await;
        assert_eq!(counts.get(count(2, second)).await.unwrap(), first);
        advance(second).await;
        assert_ne!(counts.get(count(2, second)).await.unwrap(), first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_count_is_always_repeated() {
        let counts = SharedCounts::default();
        let first = counts.get(count(1, IS_QUICK)).await.unwrap();
        assert_ne!(counts.get(count(2, IS_QUICK)).await.unwrap(), first);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_at_the_same_time_share_one_count() {
        let counts = SharedCounts::default();
        let second = Duration::from_secs(1);
        let (first, other) =
            tokio::join!(counts.get(count(1, second)), counts.get(count(2, second)));
        assert_eq!(first.unwrap(), other.unwrap());
    }

    /// With a queue, each caller would begin a count of its own after the failure of the one
    /// before, and callers that left would still be in the queue.
    #[tokio::test(start_paused = true)]
    async fn callers_at_the_same_time_share_a_failure_and_the_next_one_tries_again() {
        let counts = SharedCounts::default();
        let second = Duration::from_secs(1);
        let fails = async move {
            sleep(second).await;
            Err(StoreError::Unavailable("for the test".into()))
        };
        assert!(timeout(second / 2, counts.get(fails)).await.is_err());
        let began = Instant::now();
        let never = || async { unreachable!("a count is running") };
        let (one, other) = tokio::join!(counts.get(never()), counts.get(never()));
        assert!(one.is_err() && other.is_err());
        assert_eq!(began.elapsed(), second / 2);
        assert!(counts.get(count(1, second)).await.is_ok());
    }
}
