//! The loop behind a destination: claim what is due, send it, settle it. Each lane of each destination has its own, so a slow one
//! costs its own deliveries only, and no backlog stands before a call.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::crash;
use crate::delivery::limits::Limits;
use crate::delivery::{Delivery, Lane, Next, Outcome};
use crate::destination::Destination;
use crate::feed::{Feed, Happening};
use crate::shutdown::Shutdown;
use crate::store::{Attempt, Claimed, Settled, Store, StoreError};

/// Most deliveries taken from the store at once.
const CLAIM_MAX: usize = 64;
/// How much longer a lease is than the longest attempt: room to settle.
const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// Longest sleep without a look at the store: back-stop for a clock that was set.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// How long to wait before asking a store again that did not answer.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What delivering to one destination in one lane needs.
pub struct Dispatcher {
    /// Name of the destination.
    pub name: String,
    /// The lane.
    pub lane: Lane,
    /// Where to deliver.
    pub destination: Arc<dyn Destination>,
    /// How hard it may be pressed.
    pub limits: Limits,
    /// Where deliveries are kept.
    pub store: Arc<dyn Store>,
    /// Rings when there is new work.
    pub bell: Arc<Notify>,
    /// Who looks on.
    pub feed: Feed,
}

impl Dispatcher {
    /// Delivers until shutdown, then finishes what is under way. A failing store does not end it.
    pub async fn run(self: Arc<Self>, mut shutdown: Shutdown) {
        let slots = Arc::new(Semaphore::new(self.limits.concurrency));
        let mut under_way = JoinSet::new();
        while !shutdown.has_begun() {
            let rest = self.start_due(&slots, &mut under_way).await;
            let is_free = || slots.available_permits() > 0;
            if rest == Rest::More && is_free() {
                continue;
            }
            tokio::select! {
                () = shutdown.begun() => break,
                Some(_) = under_way.join_next() => {}
                () = self.bell.notified(), if is_free() => {}
                () = rest.over(), if is_free() => {}
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Starts as many due deliveries as there is room for, and says when to look again.
    async fn start_due(
        self: &Arc<Self>,
        slots: &Arc<Semaphore>,
        under_way: &mut JoinSet<()>,
    ) -> Rest {
        let limit = slots.available_permits().min(CLAIM_MAX);
        if limit == 0 {
            return Rest::More;
        }
        let now = Timestamp::now();
        let lease = self.limits.timeout.saturating_add(LEASE_MARGIN);
        let claimed = self
            .store
            .claim(&self.name, self.lane, now, lease, limit)
            .await;
        let Claimed {
            deliveries,
            next_due_at,
        } = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(destination = self.name, "nothing could be claimed: {error}");
                return Rest::Until(Instant::now() + STORE_RETRY);
            }
        };
        if !deliveries.is_empty() {
            crash::point("claimed");
        }
        let is_full = deliveries.len() == limit;
        for delivery in deliveries {
            let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
                break;
            };
            let dispatcher = Arc::clone(self);
            under_way.spawn(async move {
                dispatcher.deliver(delivery).await;
                drop(slot);
            });
        }
        if is_full {
            return Rest::More;
        }
        let wait = next_due_at.map_or(SLEEP_MAX, |due_at| {
            Duration::try_from(due_at.duration_since(now)).unwrap_or_default()
        });
        Rest::Until(Instant::now() + wait.min(SLEEP_MAX))
    }

    async fn deliver(&self, delivery: Delivery) {
        let started = Instant::now();
        let outcome = self.attempt(&delivery).await;
        crash::point("sent");
        let ended_at = Timestamp::now();
        let retry = &self.limits.retry;
        let next = Next::after(&outcome, &delivery, retry, ended_at, fastrand::f64());
        let attempt = Attempt {
            delivery: delivery.id,
            number: delivery.attempt,
            ended_at,
            took: started.elapsed(),
            answer: outcome.answer().to_owned(),
            next,
        };
        let webhook_id = delivery.message.webhook_id;
        self.log(
            &webhook_id,
            delivery.attempt,
            outcome.answer(),
            next,
            ended_at,
        );
        match self.settle(attempt).await {
            Ok(Settled::Settled) => {
                crash::point("settled");
                // Until then it looked leased, perhaps to a dispatcher that has taken over from this one.
                self.bell.notify_one();
                self.feed.tell(|| Happening::Attempted {
                    webhook_id,
                    destination: delivery.destination,
                    attempt: delivery.attempt,
                    answer: outcome.answer().to_owned(),
                    next,
                });
            }
            Ok(Settled::Fenced) => {
                tracing::warn!(
                    destination = self.name,
                    webhook_id,
                    "settled too late; it is delivered again"
                );
            }
            // The lease runs out and it is delivered again: at least once, as promised.
            Err(error) => {
                tracing::error!(destination = self.name, webhook_id, "not settled: {error}");
            }
        }
    }

    fn log(&self, webhook_id: &str, attempt: u32, answer: &str, next: Next, now: Timestamp) {
        let destination = &self.name;
        match next {
            Next::Delivered => {
                tracing::debug!(destination, webhook_id, attempt, "delivered: {answer}");
            }
            Next::Retry { due_at } => {
                let seconds = due_at.duration_since(now).as_secs_f64();
                tracing::warn!(
                    destination,
                    webhook_id,
                    attempt,
                    "not delivered yet, next attempt in {seconds:.1} s: {answer}"
                );
            }
            Next::Dead => {
                tracing::error!(destination, webhook_id, attempt, "given up: {answer}");
            }
        }
    }

    async fn attempt(&self, delivery: &Delivery) -> Outcome {
        if delivery.is_expired(&self.limits.retry, Timestamp::now()) {
            return Outcome::Refused {
                answer: "expired before it could be delivered".into(),
            };
        }
        timeout(self.limits.timeout, self.destination.send(delivery))
            .await
            .unwrap_or_else(|_| Outcome::Failed {
                answer: "no answer in time".into(),
                retry_after: None,
            })
    }

    /// Asks again while the lease lasts: what is not settled is delivered a second time.
    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError> {
        let deadline = Instant::now() + LEASE_MARGIN;
        loop {
            let settled = self.store.settle(attempt.clone()).await;
            if settled.is_ok() || Instant::now() + STORE_RETRY > deadline {
                return settled;
            }
            sleep(STORE_RETRY).await;
        }
    }
}

/// How long there is nothing to do, unless the bell rings.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rest {
    /// There may be more due than there was room for.
    More,
    Until(Instant),
}

impl Rest {
    async fn over(self) {
        match self {
            Self::More => {}
            Self::Until(time) => sleep_until(time).await,
        }
    }
}
