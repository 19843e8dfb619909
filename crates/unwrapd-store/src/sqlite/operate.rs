//! Commands of operators in SQL: list, replay, drop, pause, and the quarantine. Readers find what
//! is selected; the writer changes it.

pub(in crate::sqlite) mod browse;
pub(in crate::sqlite) mod bulk;
pub(in crate::sqlite) mod candidate;
pub(in crate::sqlite) mod failures;
pub(in crate::sqlite) mod pause;
pub(in crate::sqlite) mod quarantine;
pub(in crate::sqlite) mod replay;
pub(in crate::sqlite) mod replay_record;
pub(in crate::sqlite) mod scan;

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::Timestamp;

use super::SqliteStore;
use super::writer::job::Urgency;
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
use unwrapd_core::crash::{self, CrashPoint};

#[async_trait]
impl Statements for SqliteStore {
    async fn newest(&self) -> Result<i64, StoreError> {
        self.read(scan::newest).await
    }

    /// A scan skips the blocks of other times by itself.
    async fn narrow(&self, _: &Selection, within: Seqs) -> Result<Seqs, StoreError> {
        Ok(within)
    }

    async fn count_all(&self, max: u64) -> Result<u64, StoreError> {
        self.read(move |connection| scan::count_all(connection, max))
            .await
    }

    async fn scan(&self, selection: &Selection, range: ScanRange) -> Result<ScanPage, StoreError> {
        let selection = selection.clone();
        self.read(move |connection| scan::scan(connection, &selection, &range))
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

    async fn views(&self, request: ViewRequest) -> Result<Vec<(i64, MessageView)>, StoreError> {
        self.read(move |connection| browse::views(connection, &request))
            .await
    }

    async fn replay_record(
        &self,
        run: &ReplayRun,
        now: Timestamp,
    ) -> Result<ReplayRecord, StoreError> {
        let token = run.token.clone();
        let known = self
            .read(move |connection| replay_record::read(connection, &token))
            .await?;
        if let Some(record) = known {
            return Ok(record);
        }
        let run = run.clone();
        self.writer
            .ask(Urgency::NextCommit, move |work| {
                replay_record::begin(work.connection, &run, now)
            })
            .await
    }

    async fn make_due(&self, page: ReplayPage, now: Moment) -> Result<ReplayStep, StoreError> {
        self.writer
            .ask(Urgency::NextCommit, move |work| {
                let step = replay::make_due(work, &page, now);
                crash::point(CrashPoint::Replayed);
                step
            })
            .await?
    }

    async fn drop_dead(&self, dead: DeadLetters, now: Timestamp) -> Result<u64, StoreError> {
        self.writer
            .ask(Urgency::NextCommit, move |work| {
                replay::drop_dead(work.connection, &dead, now)
            })
            .await
    }

    async fn failed_deliveries(&self, destination: &str) -> Result<FailedDeliveries, StoreError> {
        let destination = destination.to_owned();
        self.read(move |connection| failures::failed(connection, &destination))
            .await
    }
}
