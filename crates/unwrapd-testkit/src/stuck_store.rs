//! A store that never answers, as on a disk that hangs.

use std::future::pending;
use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use unwrapd::clock::Moment;
use unwrapd::delivery::limit_share::LimitShare;
use unwrapd::message::Message;
use unwrapd::store::filter::Filter;
use unwrapd::store::replay::{
    DropRun, Dropped, Plan, PlanSoFar, Replay, ReplayRun, ReplayStep, Token,
};
use unwrapd::store::{
    Accepted, Attempt, AttemptHistory, ClaimRequest, Claimed, DestinationCounts, Failures, Lease,
    MessageCount, MessagePage, MessageView, Page, Pruned, QuarantinedRequest, QuarantinedSummary,
    Recipient, Settled, Store, StoreError, StoreUsage, TrafficCount, TrafficRange,
};
use unwrapd::store::{BulkAction, BulkBegun, BulkEnd, BulkRun, BulkRuns, BulkStart};
use unwrapd::store::{
    DeliveryQueue, DestinationControl, Fleet, Inbox, Lifecycle, Maintenance, Operations,
    QuarantineStore, Summary, TrafficStore,
};

pub struct StuckStore;

#[async_trait]
impl Inbox for StuckStore {
    async fn accept(&self, _: Message, _: Vec<Recipient>) -> Result<Accepted, StoreError> {
        pending().await
    }
}

#[async_trait]
impl QuarantineStore for StuckStore {
    async fn quarantine(&self, _: QuarantinedRequest) -> Result<u64, StoreError> {
        pending().await
    }

    async fn accept_quarantined(
        &self,
        _: i64,
        _: Message,
        _: Vec<String>,
    ) -> Result<Accepted, StoreError> {
        pending().await
    }

    async fn read_quarantined(
        &self,
        _: i64,
        _: usize,
    ) -> Result<Vec<QuarantinedRequest>, StoreError> {
        pending().await
    }

    async fn list_quarantined(
        &self,
        _: Option<i64>,
        _: usize,
    ) -> Result<Vec<QuarantinedSummary>, StoreError> {
        pending().await
    }

    async fn count_quarantined(&self, _: u64) -> Result<u64, StoreError> {
        pending().await
    }

    async fn delete_quarantined(&self, _: RangeInclusive<i64>) -> Result<u64, StoreError> {
        pending().await
    }
}

#[async_trait]
impl DeliveryQueue for StuckStore {
    async fn claim_within(&self, _: ClaimRequest<'_>) -> Result<Claimed, StoreError> {
        pending().await
    }

    async fn settle(&self, _: Attempt) -> Result<Settled, StoreError> {
        pending().await
    }

    async fn release(&self, _: Vec<Lease>) -> Result<(), StoreError> {
        pending().await
    }

    fn share(&self, _: &str) -> LimitShare {
        LimitShare::ALONE
    }

    fn lease_is_valid(&self, _: tokio::time::Instant) -> bool {
        true
    }
}

#[async_trait]
impl Operations for StuckStore {
    async fn list_messages(
        &self,
        _: &Filter,
        _: Timestamp,
        _: Page,
    ) -> Result<MessagePage, StoreError> {
        pending().await
    }

    async fn count_messages(
        &self,
        _: &Filter,
        _: Timestamp,
        _: u64,
    ) -> Result<MessageCount, StoreError> {
        pending().await
    }

    async fn get_message(&self, _: &str, _: bool) -> Result<Vec<MessageView>, StoreError> {
        pending().await
    }

    async fn plan(&self, _: &Replay, _: Timestamp) -> Result<Plan, StoreError> {
        pending().await
    }

    async fn plan_within(
        &self,
        _: &Replay,
        _: Timestamp,
        _: Duration,
    ) -> Result<PlanSoFar, StoreError> {
        pending().await
    }

    async fn replay(&self, _: &ReplayRun, _: Moment) -> Result<ReplayStep, StoreError> {
        pending().await
    }

    async fn drop_dead(&self, _: &DropRun, _: Timestamp) -> Result<Dropped, StoreError> {
        pending().await
    }

    async fn failures(&self, _: &str) -> Result<Failures, StoreError> {
        pending().await
    }
}

#[async_trait]
impl BulkRuns for StuckStore {
    async fn begin_bulk_run(&self, _: &BulkStart, _: Timestamp) -> Result<BulkBegun, StoreError> {
        pending().await
    }

    async fn bulk_step(
        &self,
        _: &Token,
        _: usize,
        _: Moment,
    ) -> Result<Option<ReplayStep>, StoreError> {
        pending().await
    }

    async fn end_bulk_run(
        &self,
        _: &Token,
        _: &BulkEnd,
        _: Timestamp,
    ) -> Result<Option<BulkRun>, StoreError> {
        pending().await
    }

    async fn bulk_run(&self, _: &Token) -> Result<Option<BulkRun>, StoreError> {
        pending().await
    }

    async fn list_bulk_runs(&self, _: usize) -> Result<Vec<BulkRun>, StoreError> {
        pending().await
    }

    async fn take_bulk_runs(&self) -> Result<Vec<(Token, BulkAction)>, StoreError> {
        pending().await
    }
}

#[async_trait]
impl DestinationControl for StuckStore {
    async fn destination_counts(&self) -> Result<Vec<DestinationCounts>, StoreError> {
        pending().await
    }

    async fn pause(&self, _: &str, _: Timestamp) -> Result<(), StoreError> {
        pending().await
    }

    async fn resume(&self, _: &str) -> Result<(), StoreError> {
        pending().await
    }

    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        pending().await
    }
}

#[async_trait]
impl Lifecycle for StuckStore {
    async fn check_writable(&self, _: Timestamp) -> Result<(), StoreError> {
        pending().await
    }

    async fn remember(&self, _: Timestamp) -> Result<(), StoreError> {
        pending().await
    }

    async fn failed(&self) {
        pending::<()>().await;
    }

    async fn hangs(&self) {
        pending::<()>().await;
    }

    async fn close(&self) {
        pending::<()>().await;
    }
}

#[async_trait]
impl Maintenance for StuckStore {
    async fn prune(&self, _: Timestamp) -> Result<Pruned, StoreError> {
        pending().await
    }

    async fn summary(&self) -> Result<Option<Summary>, StoreError> {
        pending().await
    }

    async fn usage(&self) -> Result<StoreUsage, StoreError> {
        pending().await
    }
}

#[async_trait]
impl TrafficStore for StuckStore {
    async fn add_traffic(&self, _: Vec<TrafficCount>) -> Result<(), StoreError> {
        pending().await
    }

    async fn traffic(&self, _: TrafficRange, _: usize) -> Result<Vec<TrafficCount>, StoreError> {
        pending().await
    }

    async fn attempt_histories(&self, _: &[String]) -> Result<Vec<AttemptHistory>, StoreError> {
        pending().await
    }
}

impl Store for StuckStore {
    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}
