//! Commands of operators: list, show, replay and drop. One set of rules for both databases.
//!
//! The rules decide which messages are selected, page by page, and what a step changes. Each
//! database supplies the [`Statements`](statements::Statements). A statement that changes something is one transaction, and
//! takes its decision inside it.

mod browse;
pub(super) mod bulk;
mod count;
mod dead;
mod replay;
pub(super) mod replay_batch;
pub(super) mod replay_record;
mod scan;
mod search;
mod select;
pub(super) mod statements;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::StoreError;
use super::failures::Failures;
use super::filter::Filter;
use super::operations::Operations;
use super::replay::{DropRun, Dropped, Plan, PlanSoFar, Replay, ReplayRun, ReplayStep};
use super::views::{MessageCount, MessagePage, MessageView, Page};
use statements::Statements;
use unwrapd_core::clock::Moment;

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

    async fn count_messages(
        &self,
        filter: &Filter,
        now: Timestamp,
        max: u64,
    ) -> Result<MessageCount, StoreError> {
        count::count(self, filter, now, max).await
    }

    async fn get_message(
        &self,
        id: &str,
        with_payload: bool,
    ) -> Result<Vec<MessageView>, StoreError> {
        browse::show(self, id, with_payload).await
    }

    async fn plan(&self, replay: &Replay, now: Timestamp) -> Result<Plan, StoreError> {
        let whole = replay::plan(self, replay, now, Duration::MAX).await?;
        Ok(whole.plan)
    }

    async fn plan_within(
        &self,
        replay: &Replay,
        now: Timestamp,
        time_max: Duration,
    ) -> Result<PlanSoFar, StoreError> {
        replay::plan(self, replay, now, time_max).await
    }

    async fn replay(&self, run: &ReplayRun, now: Moment) -> Result<ReplayStep, StoreError> {
        replay::step(self, run, now).await
    }

    async fn drop_dead(&self, run: &DropRun, now: Timestamp) -> Result<Dropped, StoreError> {
        dead::step(self, run, now).await
    }

    async fn failures(&self, destination: &str) -> Result<Failures, StoreError> {
        Ok(Failures::of(self.failed_deliveries(destination).await?))
    }
}
