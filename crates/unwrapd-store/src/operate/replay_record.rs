//! The record of a replay under its token.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::replay::{Counts, Replay, ReplayStep, Replayed};

/// The record of a replay: its selection and its progress.
#[derive(Clone, Debug)]
pub(crate) struct ReplayRecord {
    pub(crate) id: i64,
    pub(crate) request: Replay,
    pub(crate) started_at: Timestamp,
    /// Number of the newest message that takes part.
    pub(crate) newest: i64,
    /// Number of the message at which the next step begins.
    pub(crate) next: i64,
    pub(crate) counts: Counts,
    pub(crate) has_ended: bool,
}

impl ReplayRecord {
    /// The answer of a step that changed nothing, because another was quicker.
    pub(crate) fn overtaken(&self) -> ReplayStep {
        ReplayStep::More(Replayed {
            counts: self.counts,
            due: BTreeSet::new(),
        })
    }
}
