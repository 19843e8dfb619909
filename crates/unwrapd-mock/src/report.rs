//! Reports of the mock: requests, webhooks and their answers, as they come.

use serde::Serialize;

/// One thing that happened. `at` is in Unix seconds of the mock's clock.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Report {
    /// The API answered a request.
    Request {
        /// Time of the answer.
        at: u64,
        /// The `x-request-id` of the answer.
        request_id: String,
        /// HTTP method.
        method: String,
        /// Path, without the query.
        path: String,
        /// HTTP status.
        status: u16,
        /// Whether a rule caused the answer, or delayed it.
        scripted: bool,
    },
    /// An event happened.
    Event {
        /// Time of the event.
        at: u64,
        /// `id` of the event.
        event_id: String,
        /// `type` of the event.
        r#type: String,
        /// Id of the thing that the event is about.
        resource: String,
        /// Number of webhook endpoints that get it.
        endpoints: usize,
    },
    /// An attempt to deliver a webhook ended.
    Attempt {
        /// Time of the attempt.
        at: u64,
        /// The `webhook-id`, which is the same in each attempt.
        webhook_id: String,
        /// Id of the webhook endpoint.
        endpoint_id: String,
        /// `type` of the event.
        r#type: String,
        /// Id of the thing that the event is about.
        resource: String,
        /// Number of the attempt, from 1.
        attempt: usize,
        /// Whether the webhook had already been delivered.
        is_duplicate: bool,
        /// HTTP status of the answer, if there was one.
        status: Option<u16>,
        /// Reason why there was no answer.
        problem: Option<String>,
        /// Real duration.
        milliseconds: u64,
        /// State of the delivery afterwards.
        state: &'static str,
        /// Time until the next attempt, on the mock's clock.
        next_in_seconds: Option<u64>,
    },
}
