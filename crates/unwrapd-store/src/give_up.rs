//! Gives up all that waits for a destination: each delivery becomes a dead letter. For a destination
//! that is not configured any more, since nothing else ends what waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Attempt, DeliveryQueue, Lease, Settled, StoreError, Terms};
use unwrapd_core::clock::Clock;
use unwrapd_core::delivery::response_excerpt::ResponseExcerpt;
use unwrapd_core::delivery::{Delivery, Lane, Next};

/// The last answer of each dead letter.
const ANSWER: &str = "given up by an operator: the destination is not configured";
/// Deliveries that share a commit.
const BATCH: usize = 100;
/// Lease of a claim: the time to settle a batch. A store may pass over deliveries that are due within
/// it.
const LEASE: Duration = Duration::from_secs(2);
/// Longest wait for a delivery that a claim has passed over. One that is leased to a gateway for
/// longer is under way, and is left to it.
const PASSED_OVER_MAX: Duration = Duration::from_secs(5);

/// What a call of [`give_up`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Deliveries that are dead letters now.
    pub deliveries: u64,
    /// Whether no other delivery waits, except those under way.
    pub done: bool,
}

/// Gives up what waits for `destination`, for about `time`, and not after `may_go_on` has said no:
/// the destination was configured again.
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

/// Claims some deliveries, whenever they are due. `None`: no other waits.
async fn next_batch(
    store: &(impl DeliveryQueue + ?Sized),
    destination: &str,
    lane: Lane,
    clock: &Clock,
    until: Instant,
) -> Result<Option<Vec<Delivery>>, StoreError> {
    loop {
        let now = clock.now();
        let terms = Terms::whenever_due(LEASE);
        let claimed = store
            .claim_within(destination, lane, now, terms, BATCH)
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

/// Settles all of them at once, so that they share a commit. Returns how many counted.
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
