//! `/api/v1/gateways`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The gateways on the store.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct GatewayList {
    /// Whether this gateway has reached the store recently. If not, the list is outdated.
    pub(crate) is_current: bool,
    /// The gateways; the one that answers comes first.
    pub(crate) gateways: Vec<GatewayView>,
}

/// One gateway.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct GatewayView {
    /// Host and port.
    pub(crate) name: String,
    /// Whether it is the gateway that answers.
    pub(crate) is_this: bool,
    /// Whether it has its share of the limits of destinations.
    pub(crate) takes_part: bool,
    /// Time since its last heartbeat, in milliseconds.
    pub(crate) silent_ms: u64,
    /// How far its clock is ahead of that of the database, in milliseconds, if the difference is
    /// too large. Known only for the gateway that answers.
    #[serde(default)]
    pub(crate) clock_ahead_ms: Option<i64>,
    /// The parts of the configuration in which it differs from the one that answers.
    pub(crate) differs_in: Vec<String>,
}
