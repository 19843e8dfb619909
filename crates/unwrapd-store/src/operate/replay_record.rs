//! The record of a replay, or of another bulk run, under its token.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::bulk::{BulkAction, BulkBegun, BulkRun, BulkStart, BulkState};
use crate::replay::{AsOf, Counts, Replay, ReplayStep, Replayed, Token};

/// A query for the columns of a record, in the order in which both databases read them.
macro_rules! select_record {
    ($end:literal) => {
        concat!(
            "SELECT id, token, action, request, started_at, last_message, next_message, messages, \
             deliveries, calls, waiting, gone, began_at, planned, ended_at, ending, reason \
             FROM replay ",
            $end
        )
    };
}
pub(crate) use select_record;

/// The record of a run: its selection and its progress.
#[derive(Clone, Debug)]
pub(crate) struct ReplayRecord {
    pub(crate) id: i64,
    pub(crate) token: Token,
    pub(crate) action: BulkAction,
    pub(crate) request: Replay,
    pub(crate) started_at: Timestamp,
    /// Number of the newest message that takes part.
    pub(crate) newest: i64,
    /// Number of the message at which the next step begins.
    pub(crate) next: i64,
    pub(crate) counts: Counts,
    /// When gateways began to carry it on; `None`: a client carries it on.
    pub(crate) began_at: Option<Timestamp>,
    /// Number of deliveries of the plan, if known.
    pub(crate) planned: Option<u64>,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) state: BulkState,
    /// Reason why it failed.
    pub(crate) reason: Option<String>,
}

impl ReplayRecord {
    /// Whether it is the record of this run. The `until` of a drop is a time, even where its client
    /// gave an age: another request for the same run may have another time.
    pub(crate) fn is_of(&self, action: BulkAction, request: &Replay) -> bool {
        if self.action != action {
            return false;
        }
        match action {
            BulkAction::Replay => self.request == *request,
            BulkAction::Drop => without_until(&self.request) == without_until(request),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state != BulkState::Running
    }

    /// The answer to this start. `None`: gateways do not carry it on yet.
    pub(super) fn begun(self, start: &BulkStart) -> Option<BulkBegun> {
        if !self.is_of(start.action, &start.request) {
            return Some(BulkBegun::AnotherRun);
        }
        let is_carried_on = self.began_at.is_some() || self.has_ended();
        is_carried_on.then(|| BulkBegun::Begun(Box::new(self.into())))
    }

    /// The answer of a step after the end.
    pub(super) fn end(&self) -> Option<ReplayStep> {
        match self.state {
            BulkState::Running => None,
            BulkState::Done => Some(ReplayStep::Done(self.so_far())),
            BulkState::Stopped | BulkState::Failed => Some(ReplayStep::Ended(self.so_far())),
        }
    }

    /// The answer of a step that changed nothing, because another was quicker.
    pub(crate) fn overtaken(&self) -> ReplayStep {
        ReplayStep::More(self.so_far())
    }

    fn so_far(&self) -> Replayed {
        Replayed {
            counts: self.counts,
            due: BTreeSet::new(),
        }
    }
}

fn without_until(request: &Replay) -> Replay {
    let mut request = request.clone();
    request.filter.until = None;
    request
}

impl From<ReplayRecord> for BulkRun {
    fn from(record: ReplayRecord) -> Self {
        Self {
            token: record.token,
            action: record.action,
            request: record.request,
            as_of: AsOf {
                at: record.started_at,
                newest: record.newest,
            },
            planned: record.planned,
            counts: record.counts,
            state: record.state,
            reason: record.reason,
            is_background: record.began_at.is_some(),
            began_at: record.began_at.unwrap_or(record.started_at),
            ended_at: record.ended_at,
        }
    }
}
