//! Commands of operators in SQL: list, replay, drop, pause, and the quarantine.

pub(in crate::postgres) mod browse;
pub(in crate::postgres) mod candidate;
pub(in crate::postgres) mod pause;
pub(in crate::postgres) mod quarantine;
pub(in crate::postgres) mod replay;
pub(in crate::postgres) mod replay_record;
pub(in crate::postgres) mod scan;
pub(in crate::postgres) mod traffic;

use std::collections::HashSet;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use jiff::Timestamp;

use super::PostgresStore;
use crate::filter::{Filter, Selection};
use crate::operate::Statements;
use crate::operate::replay_batch::ReplayRecord;
use crate::operate::scan::{Order, ScanPage, SelectedPage};
use crate::replay::{AsOf, Existing, Replay, ReplayStep, Token};
use crate::{MessageView, StoreError, TrafficCount, TrafficRange};
use unwrapd_core::clock::Moment;

#[async_trait]
impl Statements for PostgresStore {
    async fn newest(&self) -> Result<i64, StoreError> {
        Ok(scan::newest(self.pool()).await?)
    }

    async fn narrow(
        &self,
        selection: &Selection,
        within: RangeInclusive<i64>,
    ) -> Result<RangeInclusive<i64>, StoreError> {
        Ok(scan::narrow(self.pool(), selection, within).await?)
    }

    async fn scan(
        &self,
        selection: &Selection,
        within: RangeInclusive<i64>,
        order: Order,
        max: usize,
    ) -> Result<ScanPage, StoreError> {
        Ok(scan::scan_page(self.pool(), selection, within, order, max).await?)
    }

    async fn deliveries(&self, messages: &[i64]) -> Result<Vec<Existing>, StoreError> {
        Ok(candidate::deliveries(self.pool(), messages).await?)
    }

    async fn with_payload(&self, messages: &[i64]) -> Result<HashSet<i64>, StoreError> {
        Ok(candidate::with_payload(self.pool(), messages).await?)
    }

    async fn views(
        &self,
        messages: &[i64],
        filter: &Filter,
        attempts_max: usize,
        with_payload: bool,
    ) -> Result<Vec<(i64, MessageView)>, StoreError> {
        let pool = self.pool();
        Ok(browse::views(pool, messages, filter, attempts_max, with_payload).await?)
    }

    async fn replay_record(
        &self,
        replay: &Replay,
        token: &Token,
        as_of: Option<AsOf>,
        now: Timestamp,
    ) -> Result<ReplayRecord, StoreError> {
        Ok(replay_record::read_or_begin(self.pool(), replay, token, as_of, now).await?)
    }

    async fn make_due(
        &self,
        record: &ReplayRecord,
        page: SelectedPage,
        now: Moment,
    ) -> Result<ReplayStep, StoreError> {
        Ok(replay::make_due(&self.shared, record, &page, now).await?)
    }

    async fn drop_dead(
        &self,
        filter: &Filter,
        messages: &[i64],
        dead_at: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        Ok(replay::drop_dead(self.pool(), filter, messages, dead_at, now).await?)
    }

    async fn traffic(
        &self,
        range: TrafficRange,
        max: usize,
    ) -> Result<Vec<TrafficCount>, StoreError> {
        Ok(traffic::sums(self.pool(), range, max).await?)
    }
}
