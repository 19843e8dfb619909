//! The store as operators use it: lists and replays messages, and drops dead letters.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::StoreError;
use super::failures::Failures;
use super::filter::Filter;
use super::replay::{DropRun, Dropped, Plan, PlanSoFar, Replay, ReplayRun, ReplayStep};
use super::views::{MessageCount, MessagePage, MessageView, Page};
use unwrapd_core::clock::Moment;

/// The store as operators use it: lists and replays messages, and drops dead letters.
#[async_trait]
pub trait Operations: Send + Sync {
    /// Returns a page of the messages that match a filter, newest first. Messages that arrive
    /// between two pages are on neither. A search among many messages ends early, with a page that
    /// may be empty and has a next one.
    async fn list_messages(
        &self,
        filter: &Filter,
        now: Timestamp,
        page: Page,
    ) -> Result<MessagePage, StoreError>;

    /// Counts the messages that match a filter, up to `max` and for some 50 milliseconds.
    async fn count_messages(
        &self,
        filter: &Filter,
        now: Timestamp,
        max: u64,
    ) -> Result<MessageCount, StoreError>;

    /// Returns the messages with this webhook id, one for each endpoint that received it, with
    /// their attempts and, if requested, their payloads. If there are none, it looks for messages
    /// with this event id, and then for messages with this resource. Of many messages it returns the
    /// newest [`SHOWN_MAX`](super::SHOWN_MAX).
    async fn get_message(
        &self,
        id: &str,
        with_payload: bool,
    ) -> Result<Vec<MessageView>, StoreError>;

    /// Counts what a replay would do, and changes nothing.
    async fn plan(&self, replay: &Replay, now: Timestamp) -> Result<Plan, StoreError>;

    /// Does the same as [`plan`](Self::plan), for about `time_max` at most.
    async fn plan_within(
        &self,
        replay: &Replay,
        now: Timestamp,
        time_max: Duration,
    ) -> Result<PlanSoFar, StoreError>;

    /// Takes one step of a replay: makes at least [`ReplayRun::limit`] deliveries due `now`, or all
    /// that are left, message by message. Call it until it returns [`ReplayStep::Done`].
    ///
    /// The first use of a token fixes the messages. Each message is visited once, and the commit
    /// that makes its deliveries due also records the progress. So a second call with the same
    /// token, after a crash or at the same time, makes no delivery twice. A waiting delivery becomes
    /// due at once, under the same number; a leased one stays as it is. [`StoreError::Full`] means
    /// that as many deliveries wait as a replay may cause: finished steps stay, and the same token
    /// continues later.
    async fn replay(&self, run: &ReplayRun, now: Moment) -> Result<ReplayStep, StoreError>;

    /// Drops up to [`DropRun::limit`] dead letters, or a few more. They stay visible as dropped, and
    /// filters for dead letters no longer match them.
    async fn drop_dead(&self, run: &DropRun, now: Timestamp) -> Result<Dropped, StoreError>;

    /// Groups the deliveries to a destination that failed by the answer of their latest attempt:
    /// its dead letters, and the waiting ones that have failed at least once. Only the newest
    /// [`FAILED_MAX`](super::FAILED_MAX) count.
    async fn failures(&self, destination: &str) -> Result<Failures, StoreError>;
}
