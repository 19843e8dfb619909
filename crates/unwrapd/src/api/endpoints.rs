//! `/api/v1/endpoints`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All endpoints.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct EndpointList {
    /// The endpoints, in the order of their names.
    pub(crate) endpoints: Vec<EndpointView>,
}

/// One endpoint, and what this gateway has received at it.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct EndpointView {
    pub(crate) name: String,
    /// Arrival of the latest webhook that was verified.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_webhook_at: Option<Timestamp>,
    /// Time from the creation of its event at OpenAI to its arrival. Null if its body does not tell,
    /// or if it arrived before the start of this process.
    pub(crate) lateness_ms: Option<i64>,
    /// How far the clock of this machine is ahead of OpenAI's: the shortest time from
    /// `webhook-timestamp`, which is a whole second, to the arrival, of the last 32 webhooks within
    /// an hour, since the start of this process. 0 to 1000 is normal.
    pub(crate) clock_ahead_ms: Option<i64>,
    /// The secrets, in the order of the configuration.
    pub(crate) secrets: Vec<SecretView>,
}

/// One secret of an endpoint.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct SecretView {
    /// Eight hexadecimal digits that tell the secret from others.
    pub(crate) fingerprint: String,
    /// Arrival of the latest webhook that it verified since the start of this process.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_used_at: Option<Timestamp>,
}
