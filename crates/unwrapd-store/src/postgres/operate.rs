//! Commands of operators in SQL: list, replay, drop, pause, and the quarantine.

pub(in crate::postgres) mod browse;
pub(in crate::postgres) mod bulk;
pub(in crate::postgres) mod candidate;
pub(in crate::postgres) mod conditions;
pub(in crate::postgres) mod failures;
pub(in crate::postgres) mod pause;
pub(in crate::postgres) mod quarantine;
pub(in crate::postgres) mod replay;
pub(in crate::postgres) mod replay_record;
pub(in crate::postgres) mod scan;

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::Timestamp;

use super::PostgresStore;
use crate::error::StoreError;
use crate::failures::FailedDeliveries;
use crate::filter::Selection;
use crate::operate::replay_record::ReplayRecord;
use crate::operate::statements::{
    DeadLetters, ReplayPage, ScanPage, ScanRange, Seqs, Statements, ViewRequest,
};
use crate::replay::{Existing, ReplayRun, ReplayStep};
use crate::views::MessageView;
use unwrapd_core::clock::Moment;

#[async_trait]
impl Statements for PostgresStore {
    async fn newest(&self) -> Result<i64, StoreError> {
        Ok(scan::newest(self.pool()).await?)
    }

    async fn narrow(&self, selection: &Selection, within: Seqs) -> Result<Seqs, StoreError> {
        Ok(scan::narrow(self.pool(), selection, within).await?)
    }

    async fn count_all(&self, max: u64) -> Result<u64, StoreError> {
        Ok(pause::count(self.pool(), max).await?)
    }

    async fn scan(&self, selection: &Selection, range: ScanRange) -> Result<ScanPage, StoreError> {
        Ok(scan::scan_page(self.pool(), selection, range).await?)
    }

    async fn deliveries(&self, messages: &[i64]) -> Result<Vec<Existing>, StoreError> {
        Ok(candidate::deliveries(self.pool(), messages).await?)
    }

    async fn with_payload(&self, messages: &[i64]) -> Result<HashSet<i64>, StoreError> {
        Ok(candidate::with_payload(self.pool(), messages).await?)
    }

    async fn views(&self, request: ViewRequest) -> Result<Vec<(i64, MessageView)>, StoreError> {
        Ok(browse::views(self.pool(), &request).await?)
    }

    async fn replay_record(
        &self,
        run: &ReplayRun,
        now: Timestamp,
    ) -> Result<ReplayRecord, StoreError> {
        Ok(replay_record::read_or_begin(self.pool(), run, now).await?)
    }

    async fn make_due(&self, page: ReplayPage, now: Moment) -> Result<ReplayStep, StoreError> {
        Ok(replay::make_due(&self.shared, &page, now).await?)
    }

    async fn drop_dead(&self, dead: DeadLetters, now: Timestamp) -> Result<u64, StoreError> {
        Ok(replay::drop_dead(self.pool(), None, &dead, now).await?)
    }

    async fn failed_deliveries(&self, destination: &str) -> Result<FailedDeliveries, StoreError> {
        Ok(failures::failed(self.pool(), destination).await?)
    }
}
