//! `GET /api/v1/replays`: the bulk runs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::store::filter::Filter;
use crate::store::replay::{AsOf, Counts, Token};
use crate::store::{BulkAction, BulkState};

/// The latest bulk runs.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct BulkList {
    /// The runs, the newest first.
    pub(crate) runs: Vec<BulkView>,
}

/// A bulk run: a replay, or a drop of dead letters.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct BulkView {
    #[schema(value_type = String)]
    pub(crate) token: Token,
    pub(crate) action: BulkAction,
    pub(crate) filter: Filter,
    /// Destination of the replay, instead of the original ones.
    pub(crate) to: Option<String>,
    /// The moment at which the filter is evaluated.
    pub(crate) as_of: AsOf,
    /// Number of deliveries of the plan, if known.
    pub(crate) planned: Option<u64>,
    /// Everything done so far. A drop counts deliveries only.
    #[serde(flatten)]
    pub(crate) counts: Counts,
    pub(crate) state: BulkState,
    /// Why it failed, or why it waits at this gateway.
    pub(crate) reason: Option<String>,
    /// Whether gateways carry it on. If not, a client does, request by request.
    pub(crate) background: bool,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) began_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ended_at: Option<Timestamp>,
}

impl BulkView {
    /// Number of deliveries that are done, with those that waited already.
    pub(crate) fn done(&self) -> u64 {
        self.counts.deliveries + self.counts.waiting
    }
}
