//! The statements that each database supplies for the commands of operators.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use jiff::Timestamp;

use super::replay_record::ReplayRecord;
use crate::error::StoreError;
use crate::failures::FailedDeliveries;
use crate::filter::{Filter, Selection};
use crate::replay::{Existing, ReplayRun, ReplayStep};
use crate::views::MessageView;
use unwrapd_core::clock::Moment;

/// Statements of one database for the commands of operators.
#[async_trait]
pub(crate) trait Statements: Send + Sync {
    /// Number of the newest message; 0 if there is none.
    async fn newest(&self) -> Result<i64, StoreError>;

    /// The part of `within` that can hold messages of the selected time.
    async fn narrow(&self, selection: &Selection, within: Seqs) -> Result<Seqs, StoreError>;

    /// The number of messages, or `max` if there are more.
    async fn count_all(&self, max: u64) -> Result<u64, StoreError>;

    /// The next selected messages of a range. A page takes some ten milliseconds, so it may be
    /// empty and not the last.
    async fn scan(&self, selection: &Selection, range: ScanRange) -> Result<ScanPage, StoreError>;

    /// Deliveries of these messages, in the order of their ids.
    async fn deliveries(&self, messages: &[i64]) -> Result<Vec<Existing>, StoreError>;

    /// Numbers of those of these messages whose payload is stored.
    async fn with_payload(&self, messages: &[i64]) -> Result<HashSet<i64>, StoreError>;

    /// These messages in this order, with their numbers, and with the deliveries that the filter
    /// selects. Messages without such deliveries are left out if the filter names deliveries, except
    /// those that it selects as unrouted.
    async fn views(&self, request: ViewRequest) -> Result<Vec<(i64, MessageView)>, StoreError>;

    /// The record of this run. If there is none, it is created, and the messages of the replay are
    /// fixed.
    async fn replay_record(
        &self,
        run: &ReplayRun,
        now: Timestamp,
    ) -> Result<ReplayRecord, StoreError>;

    /// Makes the deliveries of a page due, and records the progress. Changes nothing if another
    /// step of the same replay was quicker.
    async fn make_due(&self, page: ReplayPage, now: Moment) -> Result<ReplayStep, StoreError>;

    /// Drops these dead letters, and returns their number.
    async fn drop_dead(&self, dead: DeadLetters, now: Timestamp) -> Result<u64, StoreError>;

    /// The newest failed deliveries of a destination, each with its latest attempt: its dead letters,
    /// and the waiting ones that have failed since they were replayed last.
    async fn failed_deliveries(&self, destination: &str) -> Result<FailedDeliveries, StoreError>;
}

/// Numbers of messages.
pub(crate) type Seqs = RangeInclusive<i64>;

/// Direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
}

impl Order {
    /// The number that comes last in a range.
    pub(crate) fn last_of(self, range: &Seqs) -> i64 {
        match self {
            Self::OldestFirst => *range.end(),
            Self::NewestFirst => *range.start(),
        }
    }
}

/// A message that is selected as far as its own row and its payload show.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) seq: i64,
    pub(crate) webhook_id: String,
    pub(crate) event_type: Option<String>,
    pub(crate) received_at: Timestamp,
}

/// Some candidates, and the number at which the scan continues; `None` at the end.
#[derive(Debug, Default)]
pub(crate) struct ScanPage {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) next: Option<i64>,
}

/// Messages with selected deliveries, and the number at which the search continues; `None` at the
/// end.
#[derive(Clone, Debug)]
pub(crate) struct SelectedPage {
    pub(crate) messages: Vec<i64>,
    pub(crate) next: Option<i64>,
}

/// The messages of one page of a scan.
#[derive(Clone, Debug)]
pub(crate) struct ScanRange {
    /// Numbers of the messages that are left.
    pub(crate) within: Seqs,
    pub(crate) order: Order,
    /// Most candidates of the page.
    pub(crate) max: usize,
}

/// The number behind `seq` in this order; `None` if it lies outside `within`.
pub(crate) fn behind(seq: i64, within: &RangeInclusive<i64>, order: Order) -> Option<i64> {
    let next = match order {
        Order::OldestFirst => seq.checked_add(1),
        Order::NewestFirst => seq.checked_sub(1),
    };
    next.filter(|next| within.contains(next))
}

/// Messages to show.
#[derive(Clone, Debug)]
pub(crate) struct ViewRequest {
    pub(crate) messages: Vec<i64>,
    pub(crate) filter: Filter,
    /// Most attempts of each delivery.
    pub(crate) attempts_max: usize,
    pub(crate) with_payload: bool,
}

/// A page of a replay: the record of the replay, and the messages that were selected.
#[derive(Debug)]
pub(crate) struct ReplayPage {
    pub(crate) record: ReplayRecord,
    pub(crate) selected: SelectedPage,
}

/// The selected deliveries of these messages that were dead at `dead_at` and still are.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    pub(crate) messages: Vec<i64>,
    pub(crate) filter: Filter,
    pub(crate) dead_at: Timestamp,
}
