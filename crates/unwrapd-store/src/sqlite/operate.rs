//! Commands of operators in SQL: list, replay, drop, pause, and the quarantine. Readers find what
//! is selected; the writer changes it.

pub(in crate::sqlite) mod browse;
pub(in crate::sqlite) mod candidate;
pub(in crate::sqlite) mod pause;
pub(in crate::sqlite) mod quarantine;
pub(in crate::sqlite) mod replay;
pub(in crate::sqlite) mod replay_record;
pub(in crate::sqlite) mod scan;
pub(in crate::sqlite) mod traffic;

use std::collections::HashSet;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use jiff::Timestamp;

use super::SqliteStore;
use super::writer::job::Urgency;
use crate::filter::{Filter, Selection};
use crate::operate::Statements;
use crate::operate::replay_batch::ReplayRecord;
use crate::operate::scan::{Order, ScanPage, SelectedPage};
use crate::replay::{AsOf, Existing, Replay, ReplayStep, Token};
use crate::{MessageView, StoreError, TrafficCount, TrafficRange};
use unwrapd_core::clock::Moment;
use unwrapd_core::crash::{self, CrashPoint};

#[async_trait]
impl Statements for SqliteStore {
    async fn newest(&self) -> Result<i64, StoreError> {
        self.read(scan::newest).await
    }

    /// A scan skips the blocks of other times by itself.
    async fn narrow(
        &self,
        _: &Selection,
        within: RangeInclusive<i64>,
    ) -> Result<RangeInclusive<i64>, StoreError> {
        Ok(within)
    }

    async fn scan(
        &self,
        selection: &Selection,
        within: RangeInclusive<i64>,
        order: Order,
        max: usize,
    ) -> Result<ScanPage, StoreError> {
        let selection = selection.clone();
        self.read(move |connection| scan::scan(connection, &selection, &within, order, max))
            .await
    }

    async fn deliveries(&self, messages: &[i64]) -> Result<Vec<Existing>, StoreError> {
        let messages = messages.to_vec();
        self.read(move |connection| {
            let mut deliveries = Vec::new();
            for seq in messages {
                deliveries.extend(candidate::deliveries(connection, seq)?);
            }
            Ok(deliveries)
        })
        .await
    }

    async fn with_payload(&self, messages: &[i64]) -> Result<HashSet<i64>, StoreError> {
        let messages = messages.to_vec();
        self.read(move |connection| {
            let mut stored = HashSet::new();
            for seq in messages {
                if scan::has_payload(connection, seq)? {
                    stored.insert(seq);
                }
            }
            Ok(stored)
        })
        .await
    }

    async fn views(
        &self,
        messages: &[i64],
        filter: &Filter,
        attempts_max: usize,
        with_payload: bool,
    ) -> Result<Vec<(i64, MessageView)>, StoreError> {
        let (messages, filter) = (messages.to_vec(), filter.clone());
        self.read(move |connection| {
            browse::views(connection, &messages, &filter, attempts_max, with_payload)
        })
        .await
    }

    async fn replay_record(
        &self,
        replay: &Replay,
        token: &Token,
        as_of: Option<AsOf>,
        now: Timestamp,
    ) -> Result<ReplayRecord, StoreError> {
        let name = token.clone();
        let known = self
            .read(move |connection| replay_record::read(connection, &name))
            .await?;
        if let Some(record) = known {
            return Ok(record);
        }
        let (replay, token) = (replay.clone(), token.clone());
        self.ask(Urgency::NextCommit, move |work| {
            replay_record::begin(work.connection, &replay, &token, as_of, now)
        })
        .await
    }

    async fn make_due(
        &self,
        record: &ReplayRecord,
        page: SelectedPage,
        now: Moment,
    ) -> Result<ReplayStep, StoreError> {
        let record = record.clone();
        self.ask(Urgency::NextCommit, move |work| {
            let step = replay::make_due(work, &record, &page, now);
            crash::point(CrashPoint::Replayed);
            step
        })
        .await?
    }

    async fn drop_dead(
        &self,
        filter: &Filter,
        messages: &[i64],
        dead_at: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let (filter, messages) = (filter.clone(), messages.to_vec());
        self.ask(Urgency::NextCommit, move |work| {
            replay::drop_dead(work.connection, &filter, &messages, dead_at, now)
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
}
