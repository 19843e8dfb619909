//! Commands of operators: list, show, replay and drop. One set of rules for both databases.
//!
//! The rules decide which messages are selected, page by page, and what a step changes. Each
//! database supplies the [`Statements`]. A statement that changes something is one transaction, and
//! takes its decision inside it.

pub(super) mod browse;
pub(super) mod dead;
pub(super) mod replay;
pub(super) mod replay_batch;
pub(super) mod scan;
mod select;

use std::collections::HashSet;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use jiff::Timestamp;

use super::filter::{Filter, Selection};
use super::replay::{AsOf, Dropped, Existing, Plan, Replay, ReplayStep, Token};
use super::{MessagePage, MessageView, Operations, Page, StoreError, TrafficCount, TrafficRange};
use replay_batch::ReplayRecord;
use scan::{Order, ScanPage, SelectedPage};
use unwrapd_core::clock::Moment;

/// Statements of one database for the commands of operators.
#[async_trait]
pub(super) trait Statements: Send + Sync {
    /// Number of the newest message; 0 if there is none.
    async fn newest(&self) -> Result<i64, StoreError>;

    /// The part of `within` that can hold messages of the selected time.
    async fn narrow(
        &self,
        selection: &Selection,
        within: RangeInclusive<i64>,
    ) -> Result<RangeInclusive<i64>, StoreError>;

    /// The next selected messages within these numbers, at most `max`. A page takes some ten
    /// milliseconds, so it may be empty and not the last.
    async fn scan(
        &self,
        selection: &Selection,
        within: RangeInclusive<i64>,
        order: Order,
        max: usize,
    ) -> Result<ScanPage, StoreError>;

    /// Deliveries of these messages, in the order of their ids.
    async fn deliveries(&self, messages: &[i64]) -> Result<Vec<Existing>, StoreError>;

    /// Numbers of those of these messages whose payload is stored.
    async fn with_payload(&self, messages: &[i64]) -> Result<HashSet<i64>, StoreError>;

    /// These messages in this order, with their numbers, and with the deliveries that the filter
    /// selects. Messages without such deliveries are left out if the filter names deliveries.
    async fn views(
        &self,
        messages: &[i64],
        filter: &Filter,
        attempts_max: usize,
        with_payload: bool,
    ) -> Result<Vec<(i64, MessageView)>, StoreError>;

    /// The record of this token. If there is none, it is created, and the messages of the replay
    /// are fixed.
    async fn replay_record(
        &self,
        replay: &Replay,
        token: &Token,
        as_of: Option<AsOf>,
        now: Timestamp,
    ) -> Result<ReplayRecord, StoreError>;

    /// Makes the deliveries of a page due, and records the progress. Changes nothing if another
    /// step of the same replay was quicker.
    async fn make_due(
        &self,
        record: &ReplayRecord,
        page: SelectedPage,
        now: Moment,
    ) -> Result<ReplayStep, StoreError>;

    /// Drops the selected deliveries of these messages that were dead at `dead_at` and still are.
    /// Returns their number.
    async fn drop_dead(
        &self,
        filter: &Filter,
        messages: &[i64],
        dead_at: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError>;

    /// The first `max` sums of the traffic: a row for each step, kind and name.
    async fn traffic(
        &self,
        range: TrafficRange,
        max: usize,
    ) -> Result<Vec<TrafficCount>, StoreError>;
}

#[async_trait]
impl<S: Statements> Operations for S {
    async fn list_messages(
        &self,
        filter: &Filter,
        now: Timestamp,
        page: Page,
    ) -> Result<MessagePage, StoreError> {
        browse::list(self, filter, now, page).await
    }

    async fn get_message(
        &self,
        id: &str,
        with_payload: bool,
    ) -> Result<Vec<MessageView>, StoreError> {
        browse::show(self, id, with_payload).await
    }

    async fn plan(&self, replay: &Replay, now: Timestamp) -> Result<Plan, StoreError> {
        replay::plan(self, replay, now).await
    }

    async fn replay(
        &self,
        replay: &Replay,
        token: &Token,
        as_of: Option<AsOf>,
        now: Moment,
        limit: usize,
    ) -> Result<ReplayStep, StoreError> {
        replay::step(self, replay, token, as_of, now, limit).await
    }

    async fn drop_dead(
        &self,
        filter: &Filter,
        as_of: AsOf,
        after: Option<i64>,
        now: Timestamp,
        limit: usize,
    ) -> Result<Dropped, StoreError> {
        dead::step(self, filter, as_of, after, now, limit).await
    }

    async fn traffic(
        &self,
        range: TrafficRange,
        max: usize,
    ) -> Result<Vec<TrafficCount>, StoreError> {
        Statements::traffic(self, range, max).await
    }
}
