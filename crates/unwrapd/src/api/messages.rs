//! `/api/v1/messages` and `/api/v1/dead`. Pages of messages are [`crate::store::MessagePage`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::store::MessageView;
use crate::store::filter::Status;

/// The messages with one webhook id, event id or resource.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct MessageDetails {
    pub(crate) messages: Vec<MessageDetail>,
}

/// A message with all of its attempts.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct MessageDetail {
    #[serde(flatten)]
    pub(crate) message: MessageView,
    /// The `id` of the event, as the payload names it. Absent if it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) event_id: Option<String>,
    /// Time at which OpenAI created the event, as the payload names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) created_at: Option<Timestamp>,
    /// Reason why this version cannot read its payload as an event, with the path of the field at
    /// fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) oddity: Option<String>,
    /// The payload, if it was requested and is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<String>,
    /// The payload, if it was requested and is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payload_base64: Option<String>,
    /// Other messages about the same resource, the newest first: 20 at most.
    #[serde(default)]
    pub(crate) siblings: Vec<Sibling>,
}

/// Another message about the same resource.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Sibling {
    pub(crate) webhook_id: String,
    #[serde(rename = "type")]
    pub(crate) event_type: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) received_at: Timestamp,
    /// The first of `dead`, `waiting`, `dropped` and `delivered` that one of its deliveries has;
    /// `unrouted` if it has none.
    pub(crate) status: Status,
}

/// A page of dead letters.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct DeadPage {
    /// Dead letters, the newest messages first.
    pub(crate) letters: Vec<DeadLetter>,
    /// The `after` of the next page. `None` if there is none.
    pub(crate) next: Option<i64>,
}

/// A delivery that was given up.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct DeadLetter {
    pub(crate) webhook_id: String,
    pub(crate) endpoint: String,
    #[serde(rename = "type")]
    pub(crate) event_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resource: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) received_at: Timestamp,
    pub(crate) destination: String,
    /// Dead or dropped.
    pub(crate) status: Status,
    /// Time at which it was given up, or dropped.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// Number of attempts.
    pub(crate) attempts: u32,
    /// Summary of the last attempt.
    pub(crate) answer: Option<String>,
}
