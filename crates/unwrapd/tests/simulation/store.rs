//! A store that is slow, that fails before or after its work, and that reports the truth to the
//! ledger.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use tokio::time::{Instant, sleep};
use unwrapd::delivery::Lane;
use unwrapd::delivery::limit_share::LimitShare;
use unwrapd::handoff::{DirectHandoff, Reservation};
use unwrapd::message::Message;
use unwrapd::store::{
    Accepted, Attempt, ClaimRequest, Claimed, DeliveryQueue, Inbox, Lease, Recipient, Settled,
    StoreError,
};

use crate::ledger::{Claim, Ledger};
use crate::memory_store::Modelled;

pub(crate) struct Troubled {
    pub(crate) inner: Arc<dyn Modelled>,
    /// Whether it works on its own threads, which paused time does not see.
    pub(crate) has_threads: bool,
    pub(crate) rng: Mutex<Rng>,
    /// Percentage of calls that fail.
    pub(crate) trouble: Arc<Mutex<u32>>,
    pub(crate) ledger: Arc<Ledger>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fails {
    No,
    Before,
    After,
}

impl Troubled {
    fn fate(&self) -> Fails {
        let trouble = *self.trouble.lock().unwrap();
        let mut rng = self.rng.lock().unwrap();
        match rng.u32(0..100) < trouble {
            true if rng.bool() => Fails::Before,
            true => Fails::After,
            false => Fails::No,
        }
    }

    async fn delay(&self) {
        let milliseconds = {
            let mut rng = self.rng.lock().unwrap();
            if rng.bool() { 0 } else { rng.u64(0..15) }
        };
        if milliseconds > 0 {
            sleep(Duration::from_millis(milliseconds)).await;
        }
    }

    /// Does `work`, with possible delays and failures before and after it.
    async fn troubled<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let failure = || Err(StoreError::Unavailable("as the schedule says".into()));
        let fails = self.fate();
        self.delay().await;
        if fails == Fails::Before {
            return failure();
        }
        let done = self.real(work).await;
        self.delay().await;
        match fails {
            Fails::After => failure(),
            _ => done,
        }
    }

    /// While this is pending, time stands still; otherwise it would advance while a thread works.
    pub(crate) async fn real<T>(&self, work: impl Future<Output = T>) -> T {
        if !self.has_threads {
            return work.await;
        }
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let hold = tokio::task::spawn_blocking(move || wait.recv().is_ok());
        let value = work.await;
        drop(done);
        hold.await.unwrap();
        value
    }
}

/// A destination, the reservation taken for it, and the observed hand-off that replaces it.
type Watched = (String, Reservation, Arc<DirectHandoff>);

/// Takes the reservations, and replaces them by observed ones.
fn watched(recipients: Vec<Recipient>) -> (Vec<Recipient>, Vec<Watched>) {
    let mut watched = Vec::new();
    let recipients = recipients.into_iter().map(|mut recipient| {
        if let Some(reservation) = recipient.reservation.take() {
            let handoff = Arc::new(DirectHandoff::new(Arc::default()));
            handoff.offer(1, Duration::ZERO, reservation.lease());
            recipient.reservation = handoff.reserve(reservation.from());
            watched.push((recipient.destination.clone(), reservation, handoff));
        }
        recipient
    });
    (recipients.collect(), watched)
}

#[async_trait]
impl Inbox for Troubled {
    async fn accept(
        &self,
        message: Message,
        recipients: Vec<Recipient>,
    ) -> Result<Accepted, StoreError> {
        let destinations = recipients.iter().map(|to| to.destination.clone());
        self.ledger
            .offered(&message, &destinations.collect::<Vec<_>>());
        let (endpoint, id) = (message.endpoint.clone(), message.webhook_id.clone());
        let lane = Lane::of(message.event_type.as_deref());
        let begun_at = Instant::now();
        let now = self.ledger.now();
        let accepted = self.troubled(async {
            let (recipients, watched) = watched(recipients);
            let accepted = self.inner.accept(message, recipients).await?;
            self.ledger.stored(&endpoint, &id, accepted);
            for (destination, reservation, handoff) in watched {
                if let Some(handed) = handoff.take().pop() {
                    let deliveries = vec![handed.delivery.clone()];
                    let claimed = Claimed {
                        deliveries,
                        next_due_at: None,
                    };
                    let ends_at = begun_at + reservation.lease();
                    let request = ClaimRequest {
                        destination: &destination,
                        lane,
                        now,
                        terms: Duration::ZERO.into(),
                        limit: 1,
                    };
                    let claim = Claim { request, ends_at };
                    self.ledger.claimed(&claim, &claimed);
                    reservation.complete(handed.delivery);
                }
            }
            Ok(accepted)
        });
        let accepted = accepted.await?;
        self.ledger.accepted(&endpoint, &id);
        Ok(accepted)
    }
}

#[async_trait]
impl DeliveryQueue for Troubled {
    async fn claim_within(&self, request: ClaimRequest<'_>) -> Result<Claimed, StoreError> {
        self.ledger
            .looks(request.destination, request.lane, request.now);
        let begun_at = Instant::now();
        self.troubled(async {
            let claimed = self.inner.claim_within(request).await?;
            let claim = Claim {
                request,
                ends_at: begun_at + request.terms.lease,
            };
            self.ledger.claimed(&claim, &claimed);
            Ok(claimed)
        })
        .await
    }

    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError> {
        self.ledger.settles(&attempt);
        self.troubled(async {
            let settled = self.inner.settle(attempt.clone()).await;
            self.ledger.settled(&attempt, settled.as_ref().ok());
            settled
        })
        .await
    }

    async fn release(&self, leases: Vec<Lease>) -> Result<(), StoreError> {
        self.troubled(async {
            self.inner.release(leases.clone()).await?;
            self.ledger.released(&leases);
            Ok(())
        })
        .await
    }

    fn share(&self, destination: &str) -> LimitShare {
        self.inner.share(destination)
    }

    fn lease_is_valid(&self, claimed_at: Instant) -> bool {
        self.inner.lease_is_valid(claimed_at)
    }
}
