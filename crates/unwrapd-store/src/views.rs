//! Views of stored messages for people. They are also the JSON of `/api/v1/messages`. A new field
//! needs `#[serde(default)]`, because the command line may query an older gateway, and a row in
//! `docs/reference/admin-api.md`.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::Status;
use unwrapd_core::delivery::Lane;
use unwrapd_core::message::Origin;

/// Maximum number of messages on a page.
pub const PAGE_MAX: usize = 500;
/// Maximum number of messages shown for one id, the newest: a resource may have thousands.
pub const SHOWN_MAX: usize = 100;
/// Maximum number of attempts shown for a delivery, the latest ones. Three days of back-off make
/// about ninety. For a message with many deliveries, fewer are shown for each.
pub const ATTEMPTS_SHOWN_MAX: usize = 200;
/// Maximum number of attempts shown for all deliveries of a message; the latest of each is always
/// shown.
pub(super) const ATTEMPTS_SHOWN_IN_ALL_MAX: usize = 2_000;
/// Size in memory at which a page ends, whatever its limit, and after which payloads are omitted.
pub(super) const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// The beginning and the length of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The `next` of the previous page. `None`: begin with the newest message.
    pub after: Option<i64>,
    /// Maximum number of messages; at most [`PAGE_MAX`].
    pub limit: usize,
    /// Time after which the page ends, however few messages it has.
    pub time_max: Duration,
}

impl Page {
    /// A page for a program: it ends well before the request of the program does.
    #[must_use]
    pub const fn new(after: Option<i64>, limit: usize) -> Self {
        Self {
            after,
            limit,
            time_max: Duration::from_secs(2),
        }
    }
}

/// A page of messages, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessagePage {
    /// The matching messages, with their matching deliveries.
    pub messages: Vec<MessageView>,
    /// The `after` of the next page. `None` if there is none.
    pub next: Option<i64>,
}

/// Number of the messages that match a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageCount {
    /// The messages that were counted.
    pub messages: u64,
    /// Whether these are all. If not, the search ended at its limit of messages or of time.
    pub is_exact: bool,
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageView {
    /// The `webhook-id`.
    pub webhook_id: String,
    /// Name of the endpoint that received it.
    pub endpoint: String,
    /// The type of the event, if the payload names one.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Time of the delivery attempt by OpenAI.
    #[schema(value_type = String, format = DateTime)]
    pub sent_at: Timestamp,
    /// Arrival time.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// Author of the event: `openai`, or `gateway` for this gateway.
    #[serde(default)]
    pub origin: Origin,
    /// The id of what the event is about, such as `resp_…`, as the payload names it. `None`: the
    /// payload names none, or was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Index of the endpoint's secret that verified the message, from 0, in the configuration of
    /// that time.
    pub secret: Option<u32>,
    /// Size of the body, in bytes. `None` if the body was deleted.
    pub bytes: Option<u64>,
    /// The deliveries.
    pub deliveries: Vec<DeliveryView>,
    /// The body, if it was requested.
    #[serde(skip)]
    pub payload: Option<Bytes>,
}

/// A stored delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryView {
    /// Name of the destination.
    pub destination: String,
    /// Priority of the delivery.
    pub lane: Lane,
    /// The status.
    pub status: Status,
    /// Time at which it was first due, or replayed.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// If waiting, its due time. Otherwise the time at which it was delivered, given up or dropped.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Number of the latest settled attempt; 0: none. Attempts before a replay are included, and so
    /// are numbers of claims that never settled.
    pub attempts: u32,
    /// The latest attempt. All attempts if a single message is shown.
    pub latest: Vec<AttemptView>,
}

/// A stored attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// Number of the attempt, from 1.
    pub number: u32,
    /// Time at which the attempt ended.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
    /// Duration in milliseconds.
    pub took_ms: u64,
    /// Summary: the response of the destination, or the cause of the failure.
    pub answer: String,
    /// The beginning of the response body, if stored. The destination wrote it, so it is hostile
    /// text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl MessageView {
    /// Approximate size in memory, in bytes.
    pub(super) fn bytes_held(&self) -> usize {
        let attempt = |attempt: &AttemptView| {
            size_of::<AttemptView>()
                + attempt.answer.len()
                + attempt.body.as_ref().map_or(0, String::len)
        };
        let delivery = |delivery: &DeliveryView| {
            let attempts: usize = delivery.latest.iter().map(attempt).sum();
            size_of::<DeliveryView>() + delivery.destination.len() + attempts
        };
        let deliveries: usize = self.deliveries.iter().map(delivery).sum();
        size_of::<Self>()
            + self.webhook_id.len()
            + self.event_type.as_ref().map_or(0, String::len)
            + self.resource.as_ref().map_or(0, String::len)
            + self.payload.as_ref().map_or(0, Bytes::len)
            + deliveries
    }
}

/// A page under construction, within limits of messages and bytes.
#[derive(Default)]
pub(super) struct PageBuilder {
    pub(super) messages: Vec<MessageView>,
    bytes: usize,
}

impl PageBuilder {
    pub(super) fn push(&mut self, message: MessageView) {
        self.bytes += message.bytes_held();
        self.messages.push(message);
    }

    pub(super) fn is_full(&self, limit: usize) -> bool {
        self.messages.len() >= limit || self.is_heavy()
    }

    /// Whether the size limit is reached.
    pub(super) fn is_heavy(&self) -> bool {
        self.bytes >= PAGE_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_by_its_bytes_whatever_its_limit() {
        let message = MessageView {
            webhook_id: "wh_1".into(),
            endpoint: "production".into(),
            event_type: None,
            sent_at: Timestamp::UNIX_EPOCH,
            received_at: Timestamp::UNIX_EPOCH,
            origin: Origin::OpenAi,
            resource: None,
            secret: None,
            bytes: None,
            deliveries: vec![DeliveryView {
                destination: "app".into(),
                lane: Lane::Standard,
                status: Status::Dead,
                since: Timestamp::UNIX_EPOCH,
                at: Timestamp::UNIX_EPOCH,
                attempts: 1,
                latest: vec![AttemptView {
                    number: 1,
                    ended_at: Timestamp::UNIX_EPOCH,
                    took_ms: 1,
                    answer: String::new(),
                    body: Some("x".repeat(PAGE_BYTES_MAX / 4)),
                }],
            }],
            payload: None,
        };
        let mut filling = PageBuilder::default();
        while !filling.is_full(PAGE_MAX) {
            filling.push(message.clone());
        }
        assert_eq!(filling.messages.len(), 4);
    }
}
