//! A store that never answers, as on a disk that hangs.

use std::future::pending;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use jiff::Timestamp;
use unwrapd::clock::Moment;
use unwrapd::delivery::Lane;
use unwrapd::message::Message;
use unwrapd::store::filter::Filter;
use unwrapd::store::replay::{AsOf, Dropped, Plan, Replay, ReplayStep, Token};
use unwrapd::store::{
    Accepted, Attempt, Claimed, Found, Kept, Lease, Page, Pruned, Recipient, Settled, Standing,
    Store, StoreError, Suspect, SuspectSummary, Tally, Terms,
};

pub(crate) struct StuckStore;

#[async_trait]
impl Store for StuckStore {
    async fn accept(&self, _: Message, _: Vec<Recipient>) -> Result<Accepted, StoreError> {
        pending().await
    }

    async fn claim_within(
        &self,
        _: &str,
        _: Lane,
        _: Timestamp,
        _: Terms,
        _: usize,
    ) -> Result<Claimed, StoreError> {
        pending().await
    }

    async fn settle(&self, _: Attempt) -> Result<Settled, StoreError> {
        pending().await
    }

    async fn quarantine(&self, _: Suspect) -> Result<u64, StoreError> {
        pending().await
    }

    async fn suspects(&self, _: i64, _: usize) -> Result<Vec<Suspect>, StoreError> {
        pending().await
    }

    async fn list_suspects(&self, _: i64, _: usize) -> Result<Vec<SuspectSummary>, StoreError> {
        pending().await
    }

    async fn acquit(&self, _: i64, _: Message, _: Vec<String>) -> Result<Accepted, StoreError> {
        pending().await
    }

    async fn discard(&self, _: RangeInclusive<i64>) -> Result<u64, StoreError> {
        pending().await
    }

    async fn release(&self, _: Vec<Lease>) -> Result<(), StoreError> {
        pending().await
    }

    async fn ready(&self, _: Timestamp) -> Result<(), StoreError> {
        pending().await
    }

    async fn prune(&self, _: Timestamp) -> Result<Pruned, StoreError> {
        pending().await
    }

    async fn tally(&self) -> Result<Tally, StoreError> {
        pending().await
    }

    async fn backlog(&self) -> Result<Vec<(String, u64)>, StoreError> {
        pending().await
    }

    async fn standings(&self) -> Result<Vec<Standing>, StoreError> {
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

    async fn plan(&self, _: &Replay, _: Timestamp) -> Result<Plan, StoreError> {
        pending().await
    }

    async fn replay(
        &self,
        _: &Replay,
        _: &Token,
        _: Option<AsOf>,
        _: Moment,
        _: usize,
    ) -> Result<ReplayStep, StoreError> {
        pending().await
    }

    async fn drop_dead(
        &self,
        _: &Filter,
        _: AsOf,
        _: Option<i64>,
        _: Timestamp,
        _: usize,
    ) -> Result<Dropped, StoreError> {
        pending().await
    }

    async fn find(&self, _: &Filter, _: Timestamp, _: Page) -> Result<Found, StoreError> {
        pending().await
    }

    async fn show(&self, _: &str, _: bool) -> Result<Vec<Kept>, StoreError> {
        pending().await
    }

    async fn ended(&self) {
        pending::<()>().await;
    }

    async fn close(&self) {}
}
