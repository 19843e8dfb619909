//! `/api/v1/traffic`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Counts of webhooks and attempts over time.
#[derive(Default, Serialize, Deserialize, ToSchema)]
pub(crate) struct TrafficReport {
    /// Beginning of the first step.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
    /// End of the time that is counted. The last step may be cut off by it.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) until: Timestamp,
    /// Length of a step.
    pub(crate) step_seconds: u64,
    /// Webhooks, by endpoint.
    pub(crate) endpoints: Vec<EndpointTraffic>,
    /// Attempts, by destination.
    pub(crate) destinations: Vec<DestinationTraffic>,
}

/// Webhooks of one endpoint.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct EndpointTraffic {
    pub(crate) name: String,
    /// The steps in which something happened, the earliest first.
    pub(crate) steps: Vec<EndpointStep>,
}

/// Webhooks of one endpoint in one step.
#[derive(Default, Serialize, Deserialize, ToSchema)]
pub(crate) struct EndpointStep {
    /// Beginning of the step.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// Webhooks that were stored.
    pub(crate) accepted: u64,
    /// Copies of stored webhooks.
    pub(crate) duplicates: u64,
    /// Requests that were not verified.
    pub(crate) refused: u64,
}

/// Attempts at one destination.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct DestinationTraffic {
    pub(crate) name: String,
    /// The steps in which something happened, the earliest first.
    pub(crate) steps: Vec<DestinationStep>,
}

/// Attempts at one destination in one step.
#[derive(Default, Serialize, Deserialize, ToSchema)]
pub(crate) struct DestinationStep {
    /// Beginning of the step.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// Attempts that delivered.
    pub(crate) delivered: u64,
    /// Attempts that failed and are made again.
    pub(crate) retried: u64,
    /// Deliveries that became dead letters.
    pub(crate) dead: u64,
}
