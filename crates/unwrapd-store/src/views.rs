//! Views of stored messages for people.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::filter::Status;
use unwrapd_core::delivery::Lane;
use unwrapd_core::message::Origin;

/// Most messages on a page.
pub const PAGE_MAX: usize = 500;
/// Most attempts of a delivery that are shown, the latest: three days of back-off make some ninety.
/// Of a message with many deliveries fewer are shown of each.
pub const ATTEMPTS_SHOWN_MAX: usize = 200;
/// Most attempts of all deliveries of a message that are shown, but for the latest of each.
pub(super) const ATTEMPTS_SHOWN_IN_ALL_MAX: usize = 2_000;
/// Bytes in memory after which a page ends, whatever its limit, and after which no further payload is shown.
pub(super) const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Where a page begins and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The `next` of the previous page; `None`: the newest.
    pub after: Option<i64>,
    /// Most messages on it; never more than [`PAGE_MAX`].
    pub limit: usize,
}

/// A page of messages, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagePage {
    /// The selected messages, with their selected deliveries.
    pub messages: Vec<MessageView>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<i64>,
}

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// The `webhook-id`.
    pub webhook_id: String,
    /// Name of the endpoint that received it.
    pub endpoint: String,
    /// The type of its event, if it is one.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// When OpenAI sent it.
    pub sent_at: Timestamp,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Author of the event: `openai`, or `gateway` for this gateway.
    #[serde(default)]
    pub origin: Origin,
    /// The id of what the event is about, such as `resp_…`, as the payload names it. `None`: the
    /// payload names none, or was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Which secret of the endpoint proved it, counted from 0 as configured then.
    pub secret: Option<u32>,
    /// Size of its body; `None`: the body is removed.
    pub bytes: Option<u64>,
    /// The deliveries.
    pub deliveries: Vec<DeliveryView>,
    /// The body, if it was requested.
    #[serde(skip)]
    pub payload: Option<Bytes>,
}

/// A delivery as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryView {
    /// Name of the destination.
    pub destination: String,
    /// How urgent it is.
    pub lane: Lane,
    /// The status.
    pub status: Status,
    /// When it was first due, or replayed.
    pub since: Timestamp,
    /// Waiting: when it is due. Else: when it was delivered, given up or dropped.
    pub at: Timestamp,
    /// How many attempts were made.
    pub attempts: u32,
    /// The last of them; all where one message is shown.
    pub latest: Vec<AttemptView>,
}

/// An attempt as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// Which it was, counted from 1.
    pub number: u32,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The answer of the destination, or the cause of the failure.
    pub answer: String,
    /// The beginning of the body of the answer, where that is kept. The destination wrote it: hostile text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl MessageView {
    /// About how many bytes it takes in memory.
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

/// A page that is being filled, within a number of messages and of bytes.
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

    /// Whether it holds as many bytes as it may.
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
