//! Counts of deliveries that several callers share.
//!
//! A count reads an index of the waiting deliveries and one of the dead letters. With millions of
//! them it takes a second, and a dashboard requests it every second. So the result of a slow count
//! is reused for a multiple of its duration. Counters that each delivery updates would slow down
//! receiving.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::store::DestinationCounts;

/// Maximum age at which a slow count is reused, as a multiple of its duration: slow counts then use
/// at most a twentieth of a core.
const AGE_FACTOR_MAX: u32 = 20;
/// Limit of that age, because a count may also be slow for lack of a free connection.
const AGE_MAX: Duration = Duration::from_secs(60);
/// A count that takes at most this long is never reused.
const IS_QUICK: Duration = Duration::from_millis(20);

/// The latest count of deliveries by destination.
#[derive(Debug, Default)]
pub struct SharedCounts(Mutex<Option<Counted>>);

#[derive(Debug)]
struct Counted {
    counts: Vec<DestinationCounts>,
    ended_at: Instant,
    took: Duration,
}

impl SharedCounts {
    /// The result of `count`, or that of an earlier call if it may still be used.
    pub(super) async fn get<E>(
        &self,
        count: impl Future<Output = Result<Vec<DestinationCounts>, E>>,
    ) -> Result<Vec<DestinationCounts>, E> {
        let mut last = self.0.lock().await;
        if let Some(last) = &*last
            && last.may_be_used()
        {
            return Ok(last.counts.clone());
        }
        let began = Instant::now();
        let counts = count.await?;
        *last = Some(Counted {
            counts: counts.clone(),
            ended_at: Instant::now(),
            took: began.elapsed(),
        });
        Ok(counts)
    }
}

impl Counted {
    fn may_be_used(&self) -> bool {
        let age_max = (self.took * AGE_FACTOR_MAX).min(AGE_MAX);
        self.took > IS_QUICK && self.ended_at.elapsed() < age_max
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    async fn count(of: u64, takes: Duration) -> Result<Vec<DestinationCounts>, ()> {
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
        let first = counts.get(count(1, second)).await;
        advance(19 * second).await;
        assert_eq!(counts.get(count(2, second)).await, first);
        advance(second).await;
        assert_ne!(counts.get(count(2, second)).await, first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_count_is_always_repeated() {
        let counts = SharedCounts::default();
        let first = counts.get(count(1, IS_QUICK)).await;
        assert_ne!(counts.get(count(2, IS_QUICK)).await, first);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_at_the_same_time_share_one_count() {
        let counts = SharedCounts::default();
        let second = Duration::from_secs(1);
        let (first, other) =
            tokio::join!(counts.get(count(1, second)), counts.get(count(2, second)));
        assert_eq!(first, other);
    }
}
