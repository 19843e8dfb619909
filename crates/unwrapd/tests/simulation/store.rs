//! A store that is slow, that fails before or after it has done its work, and that tells the ledger the truth.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use unwrapd::clock::Moment;
use unwrapd::delivery::Lane;
use unwrapd::delivery::limit_share::LimitShare;
use unwrapd::message::Message;
use unwrapd::store::filter::Filter;
use unwrapd::store::replay::{AsOf, Dropped, Plan, Replay, ReplayStep, Token};
use unwrapd::store::{
    Accepted, Attempt, Claimed, DestinationCounts, Lease, MessagePage, MessageView, Page, Pruned,
    QuarantinedRequest, QuarantinedSummary, Recipient, Settled, Store, StoreError, Tally, Terms,
    TrafficCount,
};
use unwrapd::store::{DeliveryQueue, Fleet, Inbox, Maintenance, Operations, Summary};

use unwrapd::handoff::{DirectHandoff, Reservation};

use crate::ledger::{Claim, Ledger};

pub(crate) struct Troubled {
    pub(crate) inner: Arc<dyn Store>,
    /// Whether threads of its own do its work, which paused time does not know of.
    pub(crate) has_threads: bool,
    pub(crate) rng: Mutex<Rng>,
    /// How many of a hundred calls fail.
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

    /// Does `work` with all that may come before and after it.
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

    /// While this is pending time stands still, or it would run away from a thread that is at work.
    async fn real<T>(&self, work: impl Future<Output = T>) -> T {
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

/// The place of a destination, and where that can be seen which it gets in its stead.
type Watched = (String, Reservation, Arc<DirectHandoff>);

/// Takes their slots, and gives them others where it can be seen what is handed over.
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
                    let claim = Claim {
                        destination: &destination,
                        lane,
                        now,
                        terms: Duration::ZERO.into(),
                        limit: 1,
                        ends_at,
                    };
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

    async fn quarantine(&self, quarantined: QuarantinedRequest) -> Result<u64, StoreError> {
        self.real(self.inner.quarantine(quarantined)).await
    }

    async fn accept_quarantined(
        &self,
        quarantined: i64,
        message: Message,
        destinations: Vec<String>,
    ) -> Result<Accepted, StoreError> {
        self.real(
            self.inner
                .accept_quarantined(quarantined, message, destinations),
        )
        .await
    }
}

#[async_trait]
impl DeliveryQueue for Troubled {
    async fn claim_within(
        &self,
        destination: &str,
        lane: Lane,
        now: Timestamp,
        terms: Terms,
        limit: usize,
    ) -> Result<Claimed, StoreError> {
        self.ledger.looks(destination, lane, now);
        let begun_at = Instant::now();
        self.troubled(async {
            let claimed = self
                .inner
                .claim_within(destination, lane, now, terms, limit)
                .await?;
            let claim = Claim {
                destination,
                lane,
                now,
                terms,
                limit,
                ends_at: begun_at + terms.lease,
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

    fn share(&self, _: &str) -> LimitShare {
        LimitShare::ALONE
    }

    fn lease_is_valid(&self, _: tokio::time::Instant) -> bool {
        true
    }
}

#[async_trait]
impl Operations for Troubled {
    async fn list_messages(
        &self,
        filter: &Filter,
        now: Timestamp,
        page: Page,
    ) -> Result<MessagePage, StoreError> {
        self.real(self.inner.list_messages(filter, now, page)).await
    }

    async fn get_message(
        &self,
        webhook_id: &str,
        with_payload: bool,
    ) -> Result<Vec<MessageView>, StoreError> {
        self.real(self.inner.get_message(webhook_id, with_payload))
            .await
    }

    async fn destination_counts(&self) -> Result<Vec<DestinationCounts>, StoreError> {
        self.real(self.inner.destination_counts()).await
    }

    async fn pause(&self, destination: &str, now: Timestamp) -> Result<(), StoreError> {
        self.real(self.inner.pause(destination, now)).await
    }

    async fn resume(&self, destination: &str) -> Result<(), StoreError> {
        self.real(self.inner.resume(destination)).await
    }

    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.real(self.inner.paused()).await
    }

    async fn plan(&self, replay: &Replay, now: Timestamp) -> Result<Plan, StoreError> {
        self.real(self.inner.plan(replay, now)).await
    }

    async fn replay(
        &self,
        replay: &Replay,
        token: &Token,
        as_of: Option<AsOf>,
        now: Moment,
        limit: usize,
    ) -> Result<ReplayStep, StoreError> {
        self.real(self.inner.replay(replay, token, as_of, now, limit))
            .await
    }

    async fn drop_dead(
        &self,
        filter: &Filter,
        as_of: AsOf,
        after: Option<i64>,
        now: Timestamp,
        limit: usize,
    ) -> Result<Dropped, StoreError> {
        self.real(self.inner.drop_dead(filter, as_of, after, now, limit))
            .await
    }

    async fn read_quarantined(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantinedRequest>, StoreError> {
        self.real(self.inner.read_quarantined(after, limit)).await
    }

    async fn list_quarantined(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantinedSummary>, StoreError> {
        self.real(self.inner.list_quarantined(after, limit)).await
    }

    async fn delete_quarantined(
        &self,
        quarantined_requests: RangeInclusive<i64>,
    ) -> Result<u64, StoreError> {
        self.real(self.inner.delete_quarantined(quarantined_requests))
            .await
    }

    async fn traffic(&self, since: Timestamp) -> Result<Vec<TrafficCount>, StoreError> {
        self.real(self.inner.traffic(since)).await
    }
}

#[async_trait]
impl Maintenance for Troubled {
    async fn check_writable(&self, now: Timestamp) -> Result<(), StoreError> {
        self.real(self.inner.check_writable(now)).await
    }

    async fn remember(&self, trusted: Timestamp) -> Result<(), StoreError> {
        self.real(self.inner.remember(trusted)).await
    }

    async fn prune(&self, now: Timestamp) -> Result<Pruned, StoreError> {
        self.real(self.inner.prune(now)).await
    }

    async fn add_traffic(&self, counts: Vec<TrafficCount>) -> Result<(), StoreError> {
        self.real(self.inner.add_traffic(counts)).await
    }

    async fn tally(&self) -> Result<Tally, StoreError> {
        self.real(self.inner.tally()).await
    }

    async fn failed(&self) {
        self.inner.failed().await;
    }

    async fn close(&self) {
        self.real(self.inner.close()).await;
    }

    async fn summary(&self) -> Result<Option<Summary>, StoreError> {
        Ok(None)
    }

    async fn hangs(&self) {
        std::future::pending::<()>().await;
    }
}

impl Store for Troubled {
    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}
