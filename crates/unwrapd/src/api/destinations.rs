//! `/api/v1/destinations`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All destinations.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct DestinationList {
    pub(crate) destinations: Vec<DestinationView>,
}

/// One destination.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct DestinationView {
    pub(crate) name: String,
    /// `None`: not configured (any more), but the store has deliveries or a pause for it.
    #[serde(flatten)]
    #[schema(value_type = ConfiguredView)]
    pub(crate) configured: Option<ConfiguredView>,
    pub(crate) is_configured: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) paused_since: Option<Timestamp>,
    pub(crate) waiting: u64,
    /// Earliest time at which one of the waiting deliveries was first due, or replayed.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) oldest_since: Option<Timestamp>,
    pub(crate) dead: u64,
}

/// The state of a configured destination. Of another one, all of these fields are absent.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfiguredView {
    #[schema(required = false)]
    pub(crate) kind: String,
    #[schema(required = false)]
    pub(crate) state: CircuitState,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) next_probe_at: Option<Timestamp>,
    /// Number of claims since the start of this process.
    #[schema(required = false)]
    pub(crate) claimed: u64,
    /// Number of successful deliveries since the start of this process.
    #[schema(required = false)]
    pub(crate) delivered: u64,
    pub(crate) last_answer: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_answer_at: Option<Timestamp>,
    /// Time of the latest delivery: by this gateway since its start, or the latest minute in which
    /// any gateway delivered, if that is later.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_delivered_at: Option<Timestamp>,
    /// Time of the first of the attempts that have failed since the destination accepted or refused
    /// one; to the minute for attempts of other gateways, or before the start of this process. Null
    /// while the destination is up.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) failing_since: Option<Timestamp>,
    /// The limits of the configuration.
    #[serde(default)]
    pub(crate) limits: LimitsView,
    /// The event patterns, as in `events`.
    #[serde(default)]
    pub(crate) events: Vec<String>,
    /// The URL without user, password and query, the program of the command, or the path of the
    /// file; `-` for stdout.
    #[serde(default)]
    pub(crate) target: String,
}

/// Limits of a destination, as configured.
#[derive(Default, Serialize, Deserialize, ToSchema)]
pub(crate) struct LimitsView {
    pub(crate) concurrency: usize,
    /// Attempts that begin within a second. Null: no limit.
    pub(crate) rate: Option<u32>,
    pub(crate) timeout_seconds: u64,
    pub(crate) deadline_hours: u64,
}

/// State of the circuit of a destination.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CircuitState {
    Closed,
    Open,
    HalfOpen,
}

/// Whether a destination is paused now.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct PauseResult {
    pub(crate) name: String,
    pub(crate) paused: bool,
}

/// Request to send one sample event.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TestRequest {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) event_type: Option<String>,
}

/// Result of sending a sample event.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct TestResult {
    pub(crate) outcome: TestOutcome,
    pub(crate) answer: String,
    pub(crate) took_ms: u64,
    pub(crate) webhook_id: String,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
}

/// Outcome of sending a sample event.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TestOutcome {
    Delivered,
    Failed,
    Refused,
}

/// Request to give up the waiting deliveries of a destination that is not configured.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GiveUpRequest {
    /// Count only.
    pub(crate) dry_run: bool,
}

/// Number of deliveries that would become dead letters, or did.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct GiveUpResult {
    pub(crate) deliveries: u64,
    /// Whether all are done. If not, send the same request again.
    pub(crate) done: bool,
}
