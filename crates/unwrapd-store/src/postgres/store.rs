//! The traits of a store, and that of a fleet.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use super::PostgresStore;
use crate::destination_control::{DestinationControl, DestinationCounts};
use crate::error::StoreError;
use crate::fleet::{Fleet, FleetChanges, FleetGateway, GatewayIdentity, SharedCircuit};
use crate::inbox::{Accepted, Inbox, Recipient};
use crate::lifecycle::Lifecycle;
use crate::maintenance::{Maintenance, Pruned, SUMMARY_MESSAGES_MAX, StoreUsage, Summary};
use crate::mutex::lock;
use crate::postgres::fleet::{circuits, heartbeat};
use crate::postgres::operate::{pause, quarantine};
use crate::postgres::queue::accept::Accept;
use crate::postgres::queue::claim;
use crate::postgres::{migration, time, traffic};
use crate::quarantine::{QuarantineStore, QuarantinedRequest, QuarantinedSummary};
use crate::queue::{Attempt, ClaimRequest, Claimed, DeliveryQueue, Lease, Settled};
use crate::store::Store;
use crate::traffic::{AttemptHistory, TrafficCount, TrafficRange, TrafficStore};
use unwrapd_core::crash::{self, CrashPoint};
use unwrapd_core::delivery::limit_share::LimitShare;
use unwrapd_core::message::Message;

#[async_trait]
impl Inbox for PostgresStore {
    async fn accept(
        &self,
        message: Message,
        recipients: Vec<Recipient>,
    ) -> Result<Accepted, StoreError> {
        let accept = Accept {
            message,
            recipients,
            quarantined: None,
        };
        let accepted = self.queues()?.accepting.ask(accept).await;
        crash::point(CrashPoint::Committed);
        accepted?
    }
}

#[async_trait]
impl QuarantineStore for PostgresStore {
    async fn quarantine(&self, quarantined: QuarantinedRequest) -> Result<u64, StoreError> {
        Ok(quarantine::add(self.pool(), &quarantined).await?)
    }

    async fn accept_quarantined(
        &self,
        quarantined: i64,
        message: Message,
        destinations: Vec<String>,
    ) -> Result<Accepted, StoreError> {
        let recipients = destinations.into_iter().map(Recipient::from).collect();
        let accept = Accept {
            message,
            recipients,
            quarantined: Some(quarantined),
        };
        self.queues()?.accepting.ask(accept).await?
    }

    async fn read_quarantined(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantinedRequest>, StoreError> {
        Ok(quarantine::list(self.pool(), after, limit).await?)
    }

    async fn list_quarantined(
        &self,
        after: Option<i64>,
        limit: usize,
    ) -> Result<Vec<QuarantinedSummary>, StoreError> {
        Ok(quarantine::summaries(self.pool(), after, limit).await?)
    }

    async fn count_quarantined(&self, max: u64) -> Result<u64, StoreError> {
        Ok(quarantine::count(self.pool(), max).await?)
    }

    async fn delete_quarantined(
        &self,
        quarantined_requests: RangeInclusive<i64>,
    ) -> Result<u64, StoreError> {
        Ok(quarantine::delete_quarantined(self.pool(), &quarantined_requests).await?)
    }
}

#[async_trait]
impl DeliveryQueue for PostgresStore {
    async fn claim_within(&self, request: ClaimRequest<'_>) -> Result<Claimed, StoreError> {
        Ok(claim::claim(&self.shared, request).await?)
    }

    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError> {
        self.queues()?.settling.ask(attempt).await
    }

    async fn release(&self, leases: Vec<Lease>) -> Result<(), StoreError> {
        Ok(claim::release(&self.shared, leases).await?)
    }

    fn share(&self, destination: &str) -> LimitShare {
        self.shared.membership.share(destination)
    }

    fn lease_is_valid(&self, claimed_at: Instant) -> bool {
        self.shared.membership.still_holds(claimed_at)
    }
}

#[async_trait]
impl Fleet for PostgresStore {
    async fn announce(&self, identity: GatewayIdentity) -> Result<(), StoreError> {
        if let Some(place) = &identity.exclusive_address {
            heartbeat::take_over(&self.shared, place).await?;
        }
        self.shared.membership.announce(identity);
        Ok(heartbeat::beat_now(&self.shared).await?)
    }

    fn gateways(&self) -> Vec<FleetGateway> {
        self.shared.membership.gateways()
    }

    async fn next_change(&self) -> FleetChanges {
        let shared = &self.shared;
        let notifications = &shared.notifications;
        notifications
            .next(&shared.pool, &shared.clock, &shared.claim_floors)
            .await
    }

    async fn circuits(&self) -> Result<Vec<SharedCircuit>, StoreError> {
        Ok(circuits::list(&self.shared).await?)
    }

    async fn open_circuit(
        &self,
        destination: &str,
        back_off: Duration,
        is_first: bool,
    ) -> Result<(), StoreError> {
        circuits::open(&self.shared, destination, back_off, is_first).await?;
        self.shared.notifications.notify_circuits();
        Ok(())
    }

    async fn close_circuit(&self, destination: &str) -> Result<(), StoreError> {
        circuits::close(&self.shared, destination).await?;
        self.shared.notifications.notify_circuits();
        Ok(())
    }

    async fn try_circuit(&self, destination: &str, time: Duration) -> Result<(), StoreError> {
        circuits::attempt(&self.shared, destination, time).await?;
        self.shared.notifications.notify_circuits();
        Ok(())
    }
}

#[async_trait]
impl DestinationControl for PostgresStore {
    async fn destination_counts(&self) -> Result<Vec<DestinationCounts>, StoreError> {
        Ok(pause::destination_counts(self.pool()).await?)
    }

    async fn pause(&self, destination: &str, now: Timestamp) -> Result<(), StoreError> {
        pause::pause(self.pool(), destination, now).await?;
        self.shared.notifications.notify_pauses();
        Ok(())
    }

    async fn resume(&self, destination: &str) -> Result<(), StoreError> {
        pause::resume(self.pool(), destination).await?;
        self.shared.notifications.notify_pauses();
        Ok(())
    }

    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        Ok(pause::paused(self.pool()).await?)
    }
}

#[async_trait]
impl Lifecycle for PostgresStore {
    async fn check_writable(&self, now: Timestamp) -> Result<(), StoreError> {
        pause::ready(self.pool(), now).await?;
        self.shared.capacity.reserve(1).map(drop)
    }

    async fn remember(&self, trusted: Timestamp) -> Result<(), StoreError> {
        Ok(time::remember(&self.shared, trusted).await?)
    }

    async fn failed(&self) {
        let mut ended = self.ended.clone();
        // An error means that the workers are gone, which is an end as well.
        drop(ended.wait_for(|has_ended| *has_ended).await);
    }

    async fn hangs(&self) {
        std::future::pending::<()>().await;
    }

    async fn close(&self) {
        lock(&self.queues).take();
        lock(&self.open).take();
        self.workers.lock().await.ended().await;
        // This gateway makes no more attempts.
        let left = heartbeat::deregister(&self.shared, self.shared.membership.id()).await;
        if let Err(failure) = left {
            tracing::debug!(
                "cannot release claimed deliveries; other gateways take them over later: {failure:?}"
            );
        }
        self.pool().close().await;
    }
}

#[async_trait]
impl Maintenance for PostgresStore {
    async fn prune(&self, now: Timestamp) -> Result<Pruned, StoreError> {
        let mut pruner = self.pruner.lock().await;
        Ok(pruner.step(&self.shared, now).await?)
    }

    async fn summary(&self) -> Result<Option<Summary>, StoreError> {
        Ok(Some(Summary {
            schema: migration::VERSION,
            is_new: Some(self.is_new),
            messages: pause::count(self.pool(), SUMMARY_MESSAGES_MAX).await?,
        }))
    }

    async fn usage(&self) -> Result<StoreUsage, StoreError> {
        Ok(pause::usage(self.pool()).await?)
    }
}

#[async_trait]
impl TrafficStore for PostgresStore {
    async fn add_traffic(&self, counts: Vec<TrafficCount>) -> Result<(), StoreError> {
        Ok(traffic::add(self.pool(), &counts).await?)
    }

    async fn traffic(
        &self,
        range: TrafficRange,
        max: usize,
    ) -> Result<Vec<TrafficCount>, StoreError> {
        Ok(traffic::sums(self.pool(), range, max).await?)
    }

    async fn attempt_histories(
        &self,
        destinations: &[String],
    ) -> Result<Vec<AttemptHistory>, StoreError> {
        Ok(traffic::attempt_histories(self.pool(), destinations).await?)
    }
}

impl Store for PostgresStore {
    fn fleet(&self) -> Option<&dyn Fleet> {
        Some(self)
    }
}
