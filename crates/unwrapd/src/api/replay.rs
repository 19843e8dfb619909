//! `/api/v1/replays`, `/api/v1/dead/replay` and `/api/v1/dead/drop`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::store::filter::Filter;
use crate::store::replay::{AsOf, Counts, Plan, Token};

/// Request to replay messages.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReplayRequest {
    pub(crate) filter: Filter,
    /// Deliver to this destination, instead of the original ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Identifies the replay: the same token replays only once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 128, pattern = "^[!-~]+$")]
    pub(crate) token: Option<Token>,
    /// From the plan, so that the replay selects the same messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_of: Option<AsOf>,
    /// Plan only.
    pub(crate) dry_run: bool,
    /// Answer at once: the gateways carry it on until it is done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) background: bool,
    /// Number of deliveries of the plan, to be shown beside the progress in the background.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub(crate) planned: Option<u64>,
}

/// Plan of a replay.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ReplayPlan {
    #[serde(flatten)]
    pub(crate) plan: Plan,
    /// Destinations of the plan that this gateway does not have: their deliveries would wait.
    pub(crate) unconfigured: Vec<String>,
}

/// Progress of a replay.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ReplayProgress {
    #[schema(value_type = String)]
    pub(crate) token: Token,
    /// Whether all is done. If not, send the same request again, unless it is done in the
    /// background.
    pub(crate) done: bool,
    /// Whether everything was done before this request.
    #[serde(default)]
    pub(crate) repeated: bool,
    #[serde(flatten)]
    pub(crate) counts: Counts,
}

/// Request to drop dead letters.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DropDeadRequest {
    pub(crate) filter: Filter,
    /// All dead letters. Without it, the filter must not be empty.
    pub(crate) all: bool,
    /// From the plan: newer dead letters are not dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_of: Option<AsOf>,
    /// Count only.
    pub(crate) dry_run: bool,
    /// Answer at once: the gateways carry it on until it is done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) background: bool,
    /// Name of the run in the background; a new one if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 128, pattern = "^[!-~]+$")]
    pub(crate) token: Option<Token>,
    /// Number of deliveries of the plan, to be shown beside the progress in the background.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub(crate) planned: Option<u64>,
}

/// Number of dead letters that would be dropped, or were.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DropDeadResult {
    pub(crate) as_of: AsOf,
    pub(crate) deliveries: u64,
    /// Whether all are done. If not, send the same request again, unless it is done in the
    /// background.
    pub(crate) done: bool,
    /// Name of the run in the background.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) token: Option<Token>,
    /// The ids in the request that match no stored message.
    pub(crate) unknown: Vec<String>,
}

/// A number that a store can hold.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let count = Option::<u64>::deserialize(deserializer)?;
    match count.map(i64::try_from) {
        Some(Err(_)) => Err(D::Error::custom(format!(
            "`planned` must be {} or less",
            i64::MAX
        ))),
        _ => Ok(count),
    }
}
