//! One alert, and the message that it becomes.

use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::clock::Clock;
use crate::message::{Message, OWN_ENDPOINT, Origin};
use crate::route::AlertType;

/// Every gateway of a fleet finds that an endpoint fails or is silent. Such an alert has the same
/// `webhook-id` for this long, in seconds, so that only the first is stored.
const SAME_FOR_SECONDS: i64 = 3_600;
/// Number of bytes of the hash in an id.
const ID_BYTES: usize = 8;

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alert {
    pub(super) kind: AlertType,
    /// Name of the destination or of the endpoint; `store`.
    pub(super) subject: String,
    /// Begin of the condition.
    pub(super) since: Timestamp,
    /// Number of dead letters, or of refused requests.
    pub(super) count: Option<u64>,
    /// The cause in words: never content of a message.
    pub(super) reason: Option<String>,
}

impl Alert {
    /// The destination that does not get this alert, because it is the one that is down.
    pub(super) fn untold(&self) -> Option<&str> {
        (self.kind == AlertType::DestinationDown).then_some(&*self.subject)
    }

    /// Path of the page about its subject. Names of endpoints and destinations need no encoding.
    fn page(&self) -> String {
        let name = &self.subject;
        match self.kind {
            AlertType::DestinationDown | AlertType::DestinationUp | AlertType::DeliveryDead => {
                format!("/destinations/{name}")
            }
            AlertType::EndpointFailing => "/refused".into(),
            AlertType::EndpointSilent => format!("/events?q=endpoint:{name}"),
            AlertType::StoreRefusing | AlertType::StoreAccepting => "/system".into(),
        }
    }

    /// The message, with a link to a page below `pages`.
    pub(super) fn message(&self, clock: &Clock, pages: Option<&str>) -> Message {
        let now = clock.stamp();
        let event_type = self.kind.as_str();
        // Only the gateway that found one of the other conditions tells it, each time it changes.
        let hash = self.hash(match self.kind {
            AlertType::EndpointFailing | AlertType::EndpointSilent => {
                now.as_second().div_euclid(SAME_FOR_SECONDS)
            }
            _ => self.since.as_millisecond(),
        });
        let payload = json!({
            "id": format!("evt_unwrapd_{hash}"),
            "object": "event",
            "created_at": now.as_second(),
            "type": event_type,
            "data": {
                "id": self.subject,
                "since": self.since.as_second(),
                "count": self.count,
                "reason": self.reason,
                "url": pages.map(|pages| pages.to_owned() + &self.page()),
            },
        });
        Message {
            origin: Origin::Gateway,
            endpoint: OWN_ENDPOINT.into(),
            webhook_id: format!("wh_unwrapd_{hash}"),
            event_type: Some(event_type.into()),
            sent_at: now,
            received_at: now,
            secret: None,
            payload: payload.to_string().into(),
        }
    }

    fn hash(&self, time: i64) -> String {
        let mut hash = Sha256::new();
        for part in [self.kind.as_str(), &self.subject, &time.to_string()] {
            // With its length, so that no two lists of parts look alike.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut first = [0; ID_BYTES];
        first.copy_from_slice(&hash.finalize()[..ID_BYTES]);
        format!("{:016x}", u64::from_be_bytes(first))
    }
}

#[cfg(test)]
mod tests {
    use openai_webhooks::Envelope;

    use super::*;

    #[test]
    fn the_body_is_an_event_whose_resource_is_the_subject() {
        for kind in AlertType::ALL {
            let alert = Alert {
                kind,
                subject: "app".into(),
                since: Timestamp::UNIX_EPOCH,
                count: Some(3),
                reason: None,
            };
            let message = alert.message(&Clock::default(), None);
            let envelope = Envelope::read(&message.payload).unwrap();
            assert_eq!(envelope.resource_id(), Some("app"));
            assert_eq!(message.origin, Origin::Gateway);
            assert_eq!(message.event_type.as_deref(), Some(kind.as_str()));
        }
    }

    #[test]
    fn each_type_links_a_page_about_its_subject() {
        let link = |kind| {
            let alert = Alert {
                kind,
                subject: "app".into(),
                since: Timestamp::UNIX_EPOCH,
                count: None,
                reason: None,
            };
            let message = alert.message(&Clock::default(), Some("https://ops.example/unwrapd"));
            let payload: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            let url = payload["data"]["url"].as_str().unwrap();
            url.replace("https://ops.example/unwrapd/", "")
        };
        let links = AlertType::ALL.map(link);
        assert_eq!(
            links,
            [
                "destinations/app",
                "destinations/app",
                "destinations/app",
                "system",
                "system",
                "refused",
                "events?q=endpoint:app",
            ]
        );
    }

    #[test]
    fn an_id_differs_by_type_subject_and_time() {
        let alert = |kind, subject: &str| Alert {
            kind,
            subject: subject.into(),
            since: Timestamp::UNIX_EPOCH,
            count: None,
            reason: None,
        };
        let down = alert(AlertType::DestinationDown, "app");
        assert_eq!(down.hash(1), down.clone().hash(1));
        assert_ne!(down.hash(1), down.hash(2));
        assert_ne!(down.hash(1), alert(AlertType::DestinationUp, "app").hash(1));
        assert_ne!(down.hash(1), alert(AlertType::DestinationDown, "b").hash(1));
    }
}
