//! Gives up all waiting deliveries of a destination: each becomes a dead letter. This is for a
//! destination that is no longer configured, because its deliveries would wait forever.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::error::StoreError;
use super::queue::{Attempt, ClaimRequest, DeliveryQueue, Lease, Settled, Terms};
use unwrapd_core::clock::Clock;
use unwrapd_core::delivery::response_excerpt::ResponseExcerpt;
use unwrapd_core::delivery::{Delivery, Lane, Next};

/// The summary of each dead letter.
const ANSWER: &str = "given up by an operator: the destination is not configured";
/// Number of deliveries in one commit.
const BATCH: usize = 100;
/// Lease of a claim: time to settle a batch. A store may skip deliveries that become due within it.
const LEASE: Duration = Duration::from_secs(2);
/// Longest wait for a delivery that a claim has skipped. A delivery with a longer lease is being
/// attempted by a gateway, and is left to it.
const PASSED_OVER_MAX: Duration = Duration::from_secs(5);

/// Result of [`give_up`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Number of deliveries that became dead letters.
    pub deliveries: u64,
    /// Whether no delivery is left, except those that are being attempted.
    pub done: bool,
}

/// Gives up the waiting deliveries of `destination`, for about `time`. Stops when `may_go_on`
/// returns false, because the destination was configured again.
pub async fn give_up(
    store: &Arc<impl DeliveryQueue + ?Sized + 'static>,
    destination: &str,
    clock: &Clock,
    time: Duration,
    may_go_on: impl Fn() -> bool,
) -> Result<GivenUp, StoreError> {
    let until = Instant::now() + time;
    let mut deliveries = 0;
    for lane in Lane::ALL {
        while let Some(batch) = next_batch(&**store, destination, lane, clock, until).await? {
            if !may_go_on() {
                let leases = batch.iter().map(Lease::from).collect();
                store.release(leases).await?;
                return Ok(GivenUp {
                    deliveries,
                    done: true,
                });
            }
            deliveries += settle(store, batch, clock).await?;
            if Instant::now() >= until {
                return Ok(GivenUp {
                    deliveries,
                    done: false,
                });
            }
        }
    }
    Ok(GivenUp {
        deliveries,
        done: true,
    })
}

/// Claims some deliveries, at any due time. `None` if none is left.
async fn next_batch(
    store: &(impl DeliveryQueue + ?Sized),
    destination: &str,
    lane: Lane,
    clock: &Clock,
    until: Instant,
) -> Result<Option<Vec<Delivery>>, StoreError> {
    loop {
        let now = clock.now();
        let claimed = store
            .claim_within(ClaimRequest {
                destination,
                lane,
                now,
                terms: Terms::whenever_due(LEASE),
                limit: BATCH,
            })
            .await?;
        if !claimed.deliveries.is_empty() || Instant::now() >= until {
            return Ok(Some(claimed.deliveries));
        }
        let Some(due_at) = claimed.next_due_at else {
            return Ok(None);
        };
        let wait = Duration::try_from(due_at.duration_since(now)).unwrap_or_default();
        if wait > PASSED_OVER_MAX {
            return Ok(None);
        }
        sleep(wait).await;
    }
}

/// Settles all of them concurrently, so that they share a commit. Returns how many settlements took
/// effect.
async fn settle(
    store: &Arc<impl DeliveryQueue + ?Sized + 'static>,
    batch: Vec<Delivery>,
    clock: &Clock,
) -> Result<u64, StoreError> {
    let mut settling = JoinSet::new();
    for delivery in batch {
        let attempt = Attempt {
            delivery: delivery.id,
            number: delivery.attempt,
            ended_at: clock.stamp(),
            took: Duration::ZERO,
            answer: ANSWER.into(),
            said: ResponseExcerpt::default(),
            next: Next::Dead,
        };
        let store = Arc::clone(store);
        settling.spawn(async move { store.settle(attempt).await });
    }
    let mut deliveries = 0;
    while let Some(settled) = settling.join_next().await {
        let settled = settled.map_err(|error| StoreError::Unavailable(error.to_string()))??;
        deliveries += u64::from(settled == Settled::Settled);
    }
    Ok(deliveries)
}
