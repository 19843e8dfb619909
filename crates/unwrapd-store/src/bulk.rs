//! Bulk runs: replays, and drops of dead letters, that gateways carry on by themselves.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::StoreError;
use super::replay::{AsOf, Counts, Replay, ReplayStep, Token};
use unwrapd_core::clock::Moment;

/// Most bulk runs in progress on one store. Each may change the store about half of the time.
pub const BULK_RUNS_MAX: usize = 4;

/// Bulk runs: replays, and drops of dead letters, that gateways carry on by themselves. The record
/// of each, under its token, is what a gateway needs to go on after a restart.
#[async_trait]
pub trait BulkRuns: Send + Sync {
    /// Records a run, and fixes its messages. A run that is recorded already stays as it is. One
    /// that a client carries on is from now on carried on by gateways.
    async fn begin_bulk_run(
        &self,
        start: &BulkStart,
        now: Timestamp,
    ) -> Result<BulkBegun, StoreError>;

    /// Takes one step of a run, as [`replay`](super::Operations::replay) does, with about `limit`
    /// deliveries. The commit of the step also records the progress, so two callers at once are
    /// harmless. `None`: no run has this token.
    async fn bulk_step(
        &self,
        token: &Token,
        limit: usize,
        now: Moment,
    ) -> Result<Option<ReplayStep>, StoreError>;

    /// Ends a run, unless it has ended. Finished steps stay, and later ones change nothing. Returns
    /// the run; `None`: no run has this token.
    async fn end_bulk_run(
        &self,
        token: &Token,
        end: &BulkEnd,
        now: Timestamp,
    ) -> Result<Option<BulkRun>, StoreError>;

    /// Returns the run with this token.
    async fn bulk_run(&self, token: &Token) -> Result<Option<BulkRun>, StoreError>;

    /// Returns the latest runs, the newest first, at most `max`. Replays that clients carry on are
    /// among them.
    async fn list_bulk_runs(&self, max: usize) -> Result<Vec<BulkRun>, StoreError>;

    /// Returns the runs in progress that this gateway carries on, the oldest first, at most
    /// [`BULK_RUNS_MAX`]. Takes over those whose gateway is gone, so that exactly one carries on
    /// each.
    async fn take_bulk_runs(&self) -> Result<Vec<(Token, BulkAction)>, StoreError>;
}

/// Change that a bulk run makes to the deliveries that it selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BulkAction {
    /// Makes them due again.
    Replay,
    /// Drops dead letters.
    Drop,
}

impl BulkAction {
    /// The action as a text of the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Drop => "drop",
        }
    }

    /// The action of a text of the database, which has no others.
    pub(crate) fn of_column(text: &str) -> Self {
        if text == Self::Drop.as_str() {
            Self::Drop
        } else {
            Self::Replay
        }
    }
}

/// State of a bulk run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BulkState {
    /// Deliveries may be left.
    Running,
    /// Everything was done.
    Done,
    /// An operator ended it.
    Stopped,
    /// It could not go on.
    Failed,
}

/// A bulk run to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkStart {
    /// The name of the run.
    pub token: Token,
    /// Change that it makes.
    pub action: BulkAction,
    /// Messages and deliveries of the run, and the destination of a replay.
    pub request: Replay,
    /// The moment at which the request is evaluated. Later messages take no part.
    pub as_of: AsOf,
    /// Number of deliveries of the plan; `None`: not known.
    pub planned: Option<u64>,
}

/// Result of the start of a bulk run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkBegun {
    /// The run is recorded, by this call or by an earlier one.
    Begun(Box<BulkRun>),
    /// The token belongs to another run. Nothing was changed.
    AnotherRun,
    /// [`BULK_RUNS_MAX`] runs are in progress. Nothing was changed.
    TooMany,
}

/// Reason for the end of a bulk run before all is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkEnd {
    /// An operator stopped it.
    Stopped,
    /// It cannot go on, for this reason.
    Failed(String),
}

impl BulkEnd {
    /// The kind of end as a text of the database, and the reason.
    pub(crate) fn columns(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Stopped => (STOPPED, None),
            Self::Failed(reason) => ("failed", Some(reason.as_str())),
        }
    }
}

const STOPPED: &str = "stopped";

impl BulkState {
    /// The state of a record: whether it has ended, and its kind of end, if that was early.
    pub(crate) fn of_columns(has_ended: bool, ending: Option<&str>) -> Self {
        match ending {
            _ if !has_ended => Self::Running,
            None => Self::Done,
            Some(STOPPED) => Self::Stopped,
            Some(_) => Self::Failed,
        }
    }
}

/// A bulk run, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkRun {
    /// Its name.
    pub token: Token,
    /// Change that it makes.
    pub action: BulkAction,
    /// Messages and deliveries of the run, and the destination of a replay.
    pub request: Replay,
    /// The moment at which the request is evaluated.
    pub as_of: AsOf,
    /// Number of deliveries of the plan; `None`: not known.
    pub planned: Option<u64>,
    /// Everything done so far. A drop counts deliveries only.
    pub counts: Counts,
    /// Its state.
    pub state: BulkState,
    /// Reason why it failed.
    pub reason: Option<String>,
    /// Whether gateways carry it on. If not, a client does, request by request.
    pub is_background: bool,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended; `None`: it has not.
    pub ended_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_its_end_was_written() {
        let failed = BulkEnd::Failed("x".into());
        for (end, state) in [
            (&BulkEnd::Stopped, BulkState::Stopped),
            (&failed, BulkState::Failed),
        ] {
            let (ending, _) = end.columns();
            assert_eq!(BulkState::of_columns(true, Some(ending)), state);
        }
        assert_eq!(BulkState::of_columns(true, None), BulkState::Done);
        assert_eq!(BulkState::of_columns(false, None), BulkState::Running);
    }

    #[test]
    fn an_action_is_read_as_it_was_written() {
        for action in [BulkAction::Replay, BulkAction::Drop] {
            assert_eq!(BulkAction::of_column(action.as_str()), action);
        }
    }
}
