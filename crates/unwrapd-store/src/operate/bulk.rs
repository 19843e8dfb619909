//! Bulk runs: one set of rules for both databases.

use async_trait::async_trait;
use jiff::Timestamp;

use super::replay_record::ReplayRecord;
use super::statements::{ReplayPage, Statements};
use super::{dead, replay};
use crate::bulk::{BulkAction, BulkBegun, BulkEnd, BulkRun, BulkRuns, BulkStart};
use crate::error::StoreError;
use crate::replay::{ReplayStep, Token};
use unwrapd_core::clock::Moment;

/// Statements of one database for bulk runs.
#[async_trait]
pub(crate) trait BulkStatements: Statements {
    /// The record of this token.
    async fn record(&self, token: &Token) -> Result<Option<ReplayRecord>, StoreError>;

    /// The latest records, the newest first.
    async fn records(&self, max: usize) -> Result<Vec<ReplayRecord>, StoreError>;

    /// Creates a record, unless there is one with this token, or too many runs are in progress.
    async fn insert(&self, start: &BulkStart, now: Timestamp) -> Result<(), StoreError>;

    /// Has gateways carry on the run of a client, unless it has ended, or too many runs are in
    /// progress. `id` is that of its record.
    async fn adopt(&self, id: i64, planned: Option<u64>, now: Timestamp) -> Result<(), StoreError>;

    /// Records the end of a run, unless it has ended.
    async fn end(&self, token: &Token, end: &BulkEnd, now: Timestamp) -> Result<(), StoreError>;

    /// The runs in progress that this gateway carries on, with those that it takes over.
    async fn take(&self) -> Result<Vec<(Token, BulkAction)>, StoreError>;

    /// Drops the dead letters of a page, and records the progress. Changes nothing if another step
    /// of the same run was quicker.
    async fn drop_page(&self, page: ReplayPage, now: Timestamp) -> Result<ReplayStep, StoreError>;
}

#[async_trait]
impl<S: BulkStatements> BulkRuns for S {
    async fn begin_bulk_run(
        &self,
        start: &BulkStart,
        now: Timestamp,
    ) -> Result<BulkBegun, StoreError> {
        match self.record(&start.token).await? {
            Some(record) => {
                if let Some(begun) = record.clone().begun(start) {
                    return Ok(begun);
                }
                self.adopt(record.id, start.planned, now).await?;
            }
            None => self.insert(start, now).await?,
        }
        let record = self.record(&start.token).await?;
        let begun = record.and_then(|record| record.begun(start));
        Ok(begun.unwrap_or(BulkBegun::TooMany))
    }

    async fn bulk_step(
        &self,
        token: &Token,
        limit: usize,
        now: Moment,
    ) -> Result<Option<ReplayStep>, StoreError> {
        let Some(record) = self.record(token).await? else {
            return Ok(None);
        };
        let step = match record.action {
            BulkAction::Replay => replay::go_on(self, record, limit, now).await?,
            BulkAction::Drop => dead::go_on(self, record, limit, now.stamp).await?,
        };
        Ok(Some(step))
    }

    async fn end_bulk_run(
        &self,
        token: &Token,
        end: &BulkEnd,
        now: Timestamp,
    ) -> Result<Option<BulkRun>, StoreError> {
        self.end(token, end, now).await?;
        self.bulk_run(token).await
    }

    async fn bulk_run(&self, token: &Token) -> Result<Option<BulkRun>, StoreError> {
        Ok(self.record(token).await?.map(BulkRun::from))
    }

    async fn list_bulk_runs(&self, max: usize) -> Result<Vec<BulkRun>, StoreError> {
        let records = self.records(max).await?.into_iter();
        Ok(records.map(BulkRun::from).collect())
    }

    async fn take_bulk_runs(&self) -> Result<Vec<(Token, BulkAction)>, StoreError> {
        self.take().await
    }
}
