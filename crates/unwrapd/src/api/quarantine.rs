//! `/api/v1/quarantine`. All text from the sender of a request is untrusted.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of requests.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct QuarantinePage {
    /// The requests, the newest first.
    pub(crate) requests: Vec<QuarantinedView>,
    /// The `after` of the next page. `None` if there is none.
    pub(crate) next: Option<i64>,
    /// Number of requests in the quarantine, counted up to 10,000.
    #[serde(default)]
    pub(crate) total: u64,
    /// Whether `total` counts all of them.
    #[serde(default)]
    pub(crate) is_exact: bool,
}

/// A request that was not verified.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct QuarantinedView {
    pub(crate) id: i64,
    pub(crate) endpoint: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) received_at: Timestamp,
    pub(crate) reason: String,
    /// The cause that trials with the present secrets show, and the next step; null if they show
    /// none, or if the bodies of the page are too large to try all.
    #[serde(default)]
    pub(crate) cause: Option<String>,
    /// The name of the cause, for programs.
    #[serde(default)]
    pub(crate) cause_name: Option<String>,
    pub(crate) webhook_id: Option<String>,
    /// Size of the body in bytes, if known.
    pub(crate) size: Option<u64>,
    /// Whether its body is stored, so that it can be verified.
    pub(crate) has_body: bool,
}

/// A request with everything that is stored of it and that the client may see.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct QuarantinedDetail {
    pub(crate) id: i64,
    pub(crate) endpoint: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) received_at: Timestamp,
    pub(crate) reason: String,
    /// The cause that trials with the present secrets show, and the next step; null if they show
    /// none.
    #[serde(default)]
    pub(crate) cause: Option<String>,
    /// The name of the cause, for programs.
    #[serde(default)]
    pub(crate) cause_name: Option<String>,
    /// Its headers. Absent if the token may not see them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) headers: Option<Vec<(String, String)>>,
    pub(crate) size: Option<u64>,
    pub(crate) has_body: bool,
    /// The body, if it was requested and is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<String>,
    /// The body, if it was requested and is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payload_base64: Option<String>,
}

/// Selects one request by its number, all, or all up to a number.
#[derive(Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct QuarantineSelection {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<i64>,
    pub(crate) all: bool,
    /// Highest number to select, from a list. Later requests are not selected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) up_to: Option<i64>,
}

impl QuarantineSelection {
    /// Selects this request, or all if `None`.
    pub(crate) fn of(id: Option<i64>) -> Self {
        Self {
            id,
            all: id.is_none(),
            up_to: None,
        }
    }
}

/// Number of requests that were dropped.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct DropQuarantinedResult {
    pub(crate) dropped: u64,
}
