//! The stored form of a webhook.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use openai_webhooks::{Envelope, PayloadError, Verified};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Name of the endpoint of the gateway's own events. No configured endpoint has it.
pub const OWN_ENDPOINT: &str = "unwrapd";

/// The author of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// OpenAI: the request was verified.
    #[default]
    OpenAi,
    /// This gateway.
    Gateway,
}

impl Origin {
    /// The name, as stores and destinations have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Gateway => "gateway",
        }
    }

    /// The value of the column `origin` in both stores; `None` (NULL) means OpenAI.
    #[must_use]
    pub fn column(self) -> Option<&'static str> {
        (self != Self::OpenAi).then(|| self.as_str())
    }

    /// The origin for a value of that column. A name that this version does not know is read as
    /// `Gateway`.
    #[must_use]
    pub fn of_column(name: Option<&str>) -> Self {
        name.map_or(Self::OpenAi, |_| Self::Gateway)
    }
}

/// An event, as it is stored and delivered.
///
/// Invariant: a message whose origin is OpenAI was made from a [`Verified`] request.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Author of the event.
    pub origin: Origin,
    /// Name of the endpoint that received it.
    pub endpoint: String,
    /// The `webhook-id`: the same for every copy, and for every delivery of this message. In
    /// a verified request it has 1 to 256 characters of printable ASCII, without blanks and dots.
    pub webhook_id: String,
    /// The type in the body, whatever the rest of the body is: foreign text. For a log line or a
    /// terminal use [`kind`](Self::kind). `None`: the body has no type; the message is stored
    /// anyway.
    pub event_type: Option<String>,
    /// Time of the delivery attempt by OpenAI.
    pub sent_at: Timestamp,
    /// Arrival time, in whole milliseconds.
    pub received_at: Timestamp,
    /// Index of the endpoint's secret that verified the message, from 0, in the configuration of
    /// that time. It shows when an old secret is no longer in use. `None` if it was not recorded.
    pub secret: Option<u32>,
    /// The exact bytes that OpenAI signed.
    pub payload: Bytes,
}

/// A message, and what else its body tells.
#[derive(Debug)]
pub struct ReadMessage {
    /// The message.
    pub message: Message,
    /// `created_at` of the event. `None`: the body has none, or it is odd.
    pub created_at: Option<Timestamp>,
    /// The reason why the library cannot read the body as an event. The type, and with it route
    /// and lane, does not depend on that.
    pub oddity: Option<PayloadError>,
}

impl Message {
    /// The message in a verified request to `endpoint`. `payload` is the buffer that was verified,
    /// so that it is stored without a copy.
    #[must_use]
    pub fn new(
        endpoint: &str,
        verified: &Verified<'_>,
        payload: &Bytes,
        received_at: Timestamp,
    ) -> Self {
        Self::read(endpoint, verified, payload, received_at).message
    }

    /// Does the same as [`new`](Self::new), and also returns what else the body tells.
    #[must_use]
    pub fn read(
        endpoint: &str,
        verified: &Verified<'_>,
        payload: &Bytes,
        received_at: Timestamp,
    ) -> ReadMessage {
        let received_at = in_milliseconds(received_at);
        let (event_type, created_at, oddity) = match verified.event() {
            Ok(event) => (Some(event.kind().to_owned()), event.created_at(), None),
            Err(error) => (error.kind().map(str::to_owned), None, Some(error)),
        };
        let message = Self {
            origin: Origin::OpenAi,
            endpoint: endpoint.to_owned(),
            webhook_id: verified.webhook_id().to_owned(),
            event_type,
            sent_at: Timestamp::from_second(verified.timestamp()).unwrap_or(received_at),
            received_at,
            secret: u32::try_from(verified.secret_index()).ok(),
            payload: payload.slice_ref(verified.payload()),
        };
        ReadMessage {
            message,
            created_at: created_at.and_then(|seconds| Timestamp::from_second(seconds).ok()),
            oddity,
        }
    }

    /// The id of what the event is about, such as `resp_…` or `batch_…`, if the payload names one.
    #[must_use]
    pub fn resource(&self) -> Option<String> {
        resource_in(&self.payload)
    }

    /// The id of what the event is about, for traces. Text in its place that has not the form of an
    /// id is omitted.
    #[must_use]
    pub fn shown_resource(&self) -> Option<String> {
        self.resource().filter(|resource| is_id(resource))
    }

    /// The type of the event for a log line.
    #[must_use]
    pub fn kind(&self) -> &str {
        shown_kind(self.event_type.as_deref())
    }
}

/// The id of the resource that a payload names.
pub fn resource_in(payload: &[u8]) -> Option<String> {
    let envelope = Envelope::read(payload)?;
    envelope.resource_id().map(str::to_owned)
}

/// Maximum length of an unknown type in a log line, in bytes. The longest type of OpenAI has 31.
const SHOWN_KIND_BYTES_MAX: usize = 64;

/// The type in a body, for a log line. An unknown type is shown only if it has the form of OpenAI's
/// types; any other text is payload and must not be logged.
#[must_use]
pub fn shown_kind(event_type: Option<&str>) -> &str {
    let is_letter = |letter: u8| matches!(letter, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.');
    match event_type {
        Some(kind)
            if (1..=SHOWN_KIND_BYTES_MAX).contains(&kind.len()) && kind.bytes().all(is_letter) =>
        {
            kind
        }
        Some(_) => "(unknown type)",
        None => "(no event)",
    }
}

/// Maximum length of an id that is shown, in bytes. Those of OpenAI have up to about 60.
const SHOWN_ID_BYTES_MAX: usize = 128;

/// Whether a text has the form of OpenAI's ids, such as `resp_…` and `ftjob-…`.
fn is_id(text: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'-');
    text.len() <= SHOWN_ID_BYTES_MAX && text.contains(['_', '-']) && text.bytes().all(is_letter)
}

/// Rounds to the precision of the store, so that a message is equal before and after it is stored.
fn in_milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

impl fmt::Debug for Message {
    /// Omits the payload: logs have more readers than stores.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("endpoint", &self.endpoint)
            .field("webhook_id", &self.webhook_id)
            .field("kind", &self.kind())
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use openai_webhooks::EventType;

    use super::*;

    #[test]
    fn a_type_is_shown_where_it_has_the_form_of_one() {
        for event_type in EventType::ALL {
            assert_eq!(shown_kind(Some(event_type.as_str())), event_type.as_str());
        }
        let longest = "a".repeat(64);
        for new in ["response.archived", "fine_tuning.job.v2", "x", &longest] {
            assert_eq!(shown_kind(Some(new)), new);
        }
        let too_long = "a".repeat(65);
        for other in [
            "",
            "Mr. Smith",
            "response.A",
            "a-b",
            "a\nb",
            "\u{e9}",
            &too_long,
        ] {
            assert_eq!(shown_kind(Some(other)), "(unknown type)", "{other:?}");
        }
        assert_eq!(shown_kind(None), "(no event)");
    }

    #[test]
    fn a_resource_is_shown_where_it_has_the_form_of_an_id() {
        for id in ["resp_abc123", "ftjob-abc123", "rtc_0-_Z"] {
            assert!(is_id(id), "{id}");
        }
        let too_long = format!("resp_{}", "a".repeat(128));
        for other in ["", "secret", "Mr. Smith", "+49 30 1_2", "a_\n", &too_long] {
            assert!(!is_id(other), "{other:?}");
        }
    }
}
