//! The traits of a store.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::SqliteStore;
use crate::destination_control::{DestinationControl, DestinationCounts};
use crate::error::StoreError;
use crate::fleet::Fleet;
use crate::inbox::{Accepted, Inbox, Recipient};
use crate::lifecycle::Lifecycle;
use crate::maintenance::{Maintenance, Pruned, StoreUsage, Summary};
use crate::quarantine::{QuarantineStore, QuarantinedRequest, QuarantinedSummary};
use crate::queue::{Attempt, ClaimRequest, Claimed, DeliveryQueue, Lease, Settled};
use crate::sqlite::operate::{pause, quarantine};
use crate::sqlite::queue::accept::Accepting;
use crate::sqlite::queue::claim;
use crate::sqlite::writer::id_hashes::IdHashes;
use crate::sqlite::writer::job::Urgency;
use crate::sqlite::{statements, time, traffic};
use crate::store::Store;
use crate::traffic::{AttemptHistory, TrafficCount, TrafficRange, TrafficStore};
use unwrapd_core::crash::{self, CrashPoint};
use unwrapd_core::delivery::limit_share::LimitShare;
use unwrapd_core::message::Message;

#[async_trait]
impl Inbox for SqliteStore {
    async fn accept(
        &self,
        message: Message,
        recipients: Vec<Recipient>,
    ) -> Result<Accepted, StoreError> {
        let (answer, accepted) = oneshot::channel();
        self.writer.send(Box::new(Accepting {
            hashes: IdHashes::of(&message),
            message,
            recipients,
            answer,
            outcome: None,
        }))?;
        let accepted = self.writer.answered(accepted).await;
        crash::point(CrashPoint::Committed);
        accepted
    }
}

#[async_trait]
impl QuarantineStore for SqliteStore {
    async fn quarantine(&self, quarantined: QuarantinedRequest) -> Result<u64, StoreError> {
        self.writer
            .ask(Urgency::Deferred, move |work| {
                quarantine::add(work.connection, &quarantined)
            })
            .await
    }

    async fn accept_quarantined(
        &self,
        quarantined: i64,
        message: Message,
        destinations: Vec<String>,
    ) -> Result<Accepted, StoreError> {
        let recipients: Vec<Recipient> = destinations.into_iter().map(Recipient::from).collect();
        self.writer
            .ask(Urgency::NextCommit, move |work| {
                quarantine::accept_quarantined(work, quarantined, &message, &recipients)
            })
            .await?
    }

    async fn read_quarantined(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantinedRequest>, StoreError> {
        self.read(move |connection| quarantine::list(connection, after, limit))
            .await
    }

    async fn list_quarantined(
        &self,
        after: Option<i64>,
        limit: usize,
    ) -> Result<Vec<QuarantinedSummary>, StoreError> {
        self.read(move |connection| quarantine::summaries(connection, after, limit))
            .await
    }

    async fn count_quarantined(&self, max: u64) -> Result<u64, StoreError> {
        self.read(move |connection| quarantine::count(connection, max))
            .await
    }

    async fn delete_quarantined(
        &self,
        quarantined_requests: RangeInclusive<i64>,
    ) -> Result<u64, StoreError> {
        self.writer
            .ask(Urgency::NextCommit, move |work| {
                quarantine::delete_quarantined(work.connection, &quarantined_requests)
            })
            .await
    }
}

#[async_trait]
impl DeliveryQueue for SqliteStore {
    async fn claim_within(&self, request: ClaimRequest<'_>) -> Result<Claimed, StoreError> {
        let destination = request.destination.to_owned();
        self.writer
            .ask(Urgency::ReadOnly, move |work| {
                let destination = &*destination;
                claim::claim(
                    work,
                    ClaimRequest {
                        destination,
                        ..request
                    },
                )
            })
            .await
    }

    async fn settle(&self, attempt: Attempt) -> Result<Settled, StoreError> {
        let _place = self
            .settlements
            .acquire()
            .await
            .map_err(|_| StoreError::closed())?;
        self.writer
            .ask(Urgency::Deferred, move |work| {
                statements::settle(work, &attempt)
            })
            .await
    }

    async fn release(&self, leases: Vec<Lease>) -> Result<(), StoreError> {
        self.writer
            .ask(Urgency::ReadOnly, move |work| {
                for lease in &leases {
                    work.state.leases.release(lease);
                }
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
impl DestinationControl for SqliteStore {
    async fn destination_counts(&self) -> Result<Vec<DestinationCounts>, StoreError> {
        self.read(pause::destination_counts).await
    }

    async fn pause(&self, destination: &str, now: Timestamp) -> Result<(), StoreError> {
        let destination = destination.to_owned();
        self.writer
            .ask(Urgency::NextCommit, move |work| {
                pause::pause(work.connection, &destination, now)
            })
            .await
    }

    async fn resume(&self, destination: &str) -> Result<(), StoreError> {
        let destination = destination.to_owned();
        self.writer
            .ask(Urgency::NextCommit, move |work| {
                pause::resume(work.connection, &destination)
            })
            .await
    }

    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.read(pause::paused).await
    }
}

#[async_trait]
impl Lifecycle for SqliteStore {
    async fn check_writable(&self, now: Timestamp) -> Result<(), StoreError> {
        self.writer
            .ask(Urgency::NextCommit, move |work| {
                statements::ready(work, now)
            })
            .await?
    }

    async fn remember(&self, trusted: Timestamp) -> Result<(), StoreError> {
        let boot = self.clock.boot();
        self.writer
            .ask(Urgency::Deferred, move |work| {
                time::remember(work.connection, trusted, boot.as_ref())
            })
            .await
    }

    async fn failed(&self) {
        self.writer.failed().await;
    }

    async fn hangs(&self) {
        self.writer.hangs().await;
    }

    async fn close(&self) {
        self.writer.close().await;
        self.readers.close();
    }
}

#[async_trait]
impl Maintenance for SqliteStore {
    async fn prune(&self, now: Timestamp) -> Result<Pruned, StoreError> {
        let mut pruner = self.pruner.lock().await;
        let mut stepped = pruner.clone();
        let (stepped, found) = self
            .read(move |connection| {
                let found = stepped.look(connection, now)?;
                Ok((stepped, found))
            })
            .await?;
        let messages = if found.is_nothing() {
            0
        } else {
            self.writer
                .ask(Urgency::Deferred, move |work| found.remove(work))
                .await?
        };
        // Only after success, so that a failed step is repeated.
        *pruner = stepped;
        Ok(Pruned {
            messages,
            is_more: pruner.is_at_it(),
        })
    }

    async fn summary(&self) -> Result<Option<Summary>, StoreError> {
        self.read(statements::summary).await.map(Some)
    }

    async fn usage(&self) -> Result<StoreUsage, StoreError> {
        self.read(statements::usage).await
    }
}

#[async_trait]
impl TrafficStore for SqliteStore {
    async fn add_traffic(&self, counts: Vec<TrafficCount>) -> Result<(), StoreError> {
        self.writer
            .ask(Urgency::Deferred, move |work| {
                traffic::add(work.connection, &counts)
            })
            .await
    }

    async fn traffic(
        &self,
        range: TrafficRange,
        max: usize,
    ) -> Result<Vec<TrafficCount>, StoreError> {
        self.read(move |connection| traffic::sums(connection, range, max))
            .await
    }

    async fn attempt_histories(
        &self,
        destinations: &[String],
    ) -> Result<Vec<AttemptHistory>, StoreError> {
        let destinations = destinations.to_vec();
        self.read(move |connection| traffic::attempt_histories(connection, destinations))
            .await
    }
}

impl Store for SqliteStore {
    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}
