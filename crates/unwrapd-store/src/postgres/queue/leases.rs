//! Ends of leases, which identify claims, and the claims whose answers were lost.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::mutex::lock;
use unwrapd_core::delivery::Lane;

/// If the wanted end is at most this long before the previous one, the end follows the previous
/// one. A larger difference means that the clock was set. A hand-off may wait so long for its
/// commit.
const CLOSE_MS: i64 = 30_000;

/// Interval between searches for a lost claim, whose commit may still be running and wait for a
/// stand-by.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Ends of leases, which identify claims.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<BTreeMap<(String, Lane), Ends>>);

#[derive(Debug, Default)]
struct Ends {
    last_ms: i64,
    /// Claims whose answer was lost, until they are found or their leases have ended.
    lost: Vec<Lost>,
}

#[derive(Debug)]
struct Lost {
    ends_ms: i64,
    look_at: Instant,
}

impl Leases {
    /// An end that no recent claim of this lane has: the wanted one, or one shortly after it.
    pub(crate) fn end_of(&self, lane: &(String, Lane), wanted_ms: i64) -> i64 {
        let mut ends = lock(&self.0);
        let ends = ends.entry(lane.clone()).or_default();
        let is_close = (ends.last_ms - CLOSE_MS..=ends.last_ms).contains(&wanted_ms);
        let mut ends_ms = if is_close {
            ends.last_ms + 1
        } else {
            wanted_ms
        };
        while ends.lost.iter().any(|lost| lost.ends_ms == ends_ms) {
            ends_ms += 1;
        }
        ends.last_ms = ends_ms;
        ends_ms
    }

    pub(crate) fn lose(&self, lane: &(String, Lane), ends_ms: i64) {
        let mut ends = lock(&self.0);
        let look_at = Instant::now();
        ends.entry(lane.clone())
            .or_default()
            .lost
            .push(Lost { ends_ms, look_at });
    }

    /// The lost claims to search for. When a lease has ended, its deliveries are due again anyway.
    pub(crate) fn to_look_for(&self, lane: &(String, Lane), now_ms: i64) -> Vec<i64> {
        let mut ends = lock(&self.0);
        let Some(ends) = ends.get_mut(lane) else {
            return Vec::new();
        };
        ends.lost.retain(|lost| lost.ends_ms > now_ms);
        let now = Instant::now();
        let due = ends.lost.iter_mut().filter(|lost| lost.look_at <= now);
        due.map(|lost| {
            lost.look_at = now + LOOK_EVERY;
            lost.ends_ms
        })
        .collect()
    }

    /// Makes the lost claims due for a search at once.
    pub(crate) fn look_at_once(&self, lane: &(String, Lane)) {
        if let Some(ends) = lock(&self.0).get_mut(lane) {
            for lost in &mut ends.lost {
                lost.look_at = Instant::now();
            }
        }
    }

    pub(crate) fn found(&self, lane: &(String, Lane), ends_ms: i64) {
        if let Some(ends) = lock(&self.0).get_mut(lane) {
            ends.lost.retain(|lost| lost.ends_ms != ends_ms);
        }
    }

    pub(crate) fn has_lost(&self, lane: &(String, Lane)) -> bool {
        let ends = lock(&self.0);
        ends.get(lane).is_some_and(|ends| !ends.lost.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn app() -> (String, Lane) {
        ("app".to_owned(), Lane::Standard)
    }

    #[test]
    fn claims_of_a_lane_end_at_different_times() {
        let leases = Leases::default();
        let ends = [1_000, 1_000, 900, 5_000, 1_000].map(|wanted| leases.end_of(&app(), wanted));
        assert_eq!(ends, [1_000, 1_001, 1_002, 5_000, 5_001]);
        let call = ("app".to_owned(), Lane::Call);
        assert_eq!(leases.end_of(&call, 1_000), 1_000);
    }

    #[test]
    fn the_end_of_a_lost_claim_is_not_that_of_another() {
        let leases = Leases::default();
        leases.lose(&app(), 1_000);
        leases.lose(&app(), 1_001);
        assert_eq!(leases.end_of(&app(), 1_000), 1_002);
    }

    /// A lost claim is searched for again, since its commit may come late.
    #[tokio::test(start_paused = true)]
    async fn a_lost_claim_is_searched_for_once_a_second_until_it_is_found_or_has_ended() {
        let leases = Leases::default();
        leases.lose(&app(), 60_000);
        leases.lose(&app(), 61_000);
        assert_eq!(leases.to_look_for(&app(), 0), [60_000, 61_000]);
        assert!(leases.to_look_for(&app(), 0).is_empty());
        advance(LOOK_EVERY).await;
        assert_eq!(leases.to_look_for(&app(), 0), [60_000, 61_000]);
        leases.found(&app(), 61_000);
        advance(LOOK_EVERY).await;
        assert_eq!(leases.to_look_for(&app(), 0), [60_000]);
        advance(LOOK_EVERY).await;
        assert!(leases.to_look_for(&app(), 60_000).is_empty());
        assert!(!leases.has_lost(&app()));
    }
}
