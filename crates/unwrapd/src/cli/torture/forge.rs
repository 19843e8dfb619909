//! Makes signed events, and what a forger would make of them.

use openai_webhooks::{
    Envelope, EventType, UnwrapWebhookEvent, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP,
    Webhooks,
};

use super::request::{Request, Subject, Wish};
use super::spelling::{Spelling, sorted, spelled};
use crate::cli::webhook::request::unix_now;
use crate::cli::webhook::secret::generate;
use crate::cli::webhook::sign::{new_event_id, new_webhook_id};

/// The JSON that an application may write again unchanged, in the order of trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum House {
    /// As OpenAI's SDKs have it in their tests, and as Python writes it.
    Spaced,
    /// As JavaScript writes it.
    Compact,
    /// As Go writes it.
    Sorted,
}

impl House {
    pub(super) const fn white_space(self) -> Spelling {
        match self {
            Self::Spaced => Spelling::Spaced,
            Self::Compact | Self::Sorted => Spelling::Compact,
        }
    }
}

pub(super) struct Forge {
    webhooks: Webhooks,
    /// A signer with a secret that the application does not have.
    stranger: Webhooks,
    event_type: EventType,
    /// The spelling of all events but those of `json-spelling`. An application that re-serialises
    /// the JSON accepts its own spelling, so that the other checks show other faults.
    pub(super) house: House,
}

impl Forge {
    pub(super) fn new(webhooks: Webhooks, event_type: EventType) -> anyhow::Result<Self> {
        Ok(Self {
            webhooks,
            stranger: Webhooks::from(&generate()?),
            event_type,
            house: House::Spaced,
        })
    }

    pub(super) fn event_type(&self) -> EventType {
        self.event_type
    }

    /// A new event of the chosen type.
    pub(super) fn event(&self) -> String {
        self.event_of(self.event_type, unix_now())
    }

    /// A new event, in the spelling of the house, about an object of its own.
    pub(super) fn event_of(&self, event_type: EventType, created_at: i64) -> String {
        let sample = UnwrapWebhookEvent::sample(event_type, new_event_id(), created_at);
        self.in_house(&with_new_resource(&sample.to_json()))
    }

    pub(super) fn in_house(&self, json: &str) -> String {
        match self.house {
            House::Sorted => sorted(json),
            house => spelled(json, house.white_space()),
        }
    }

    /// A genuine request with a new event, which must be accepted and processed.
    pub(super) fn genuine(&self, label: &str) -> Request {
        self.signed(label, self.event())
    }

    /// A genuine request with this body, signed now.
    pub(super) fn signed(&self, label: &str, body: String) -> Request {
        self.signed_at(label, new_webhook_id(), unix_now(), body)
    }

    pub(super) fn signed_at(&self, label: &str, id: String, time: i64, body: String) -> Request {
        request(&self.webhooks, label, id, time, body)
    }

    /// A request with this body that is signed with a secret of nobody.
    pub(super) fn signed_by_a_stranger(&self, label: &str, id: String, body: String) -> Request {
        request(&self.stranger, label, id, unix_now(), body).forged()
    }
}

fn request(signer: &Webhooks, label: &str, id: String, time: i64, body: String) -> Request {
    let headers = signer.sign(&body, id.as_str(), time);
    let headers = headers.expect("an id and a time of ours are valid");
    Request {
        label: label.to_owned(),
        subject: Subject::of(id, &body),
        headers: headers
            .pairs()
            .map(|(name, value)| (name, value.to_owned()))
            .into(),
        body,
        wish: Wish::Accepted,
        effects: Some(1),
    }
}

impl Request {
    /// The same request as one that must be refused, and have no effect.
    pub(super) fn forged(mut self) -> Self {
        self.wish = Wish::Refused;
        self.effects = Some(0);
        self
    }

    /// The same request as one whose effect is the application's choice.
    pub(super) fn with_any_effect(mut self) -> Self {
        self.effects = None;
        self
    }

    pub(super) fn with_header(mut self, name: &str, value: String) -> Self {
        if name == WEBHOOK_ID {
            self.subject.webhook_id.clone_from(&value);
        }
        if let Some((_, old)) = self.headers.iter_mut().find(|(known, _)| *known == name) {
            *old = value;
        }
        self
    }

    pub(super) fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    pub(super) fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| *known == name)
            .map_or("", |(_, value)| value)
    }
}

pub(super) const SIGNED_HEADERS: [&str; 3] = [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE];

/// The event about a new object. An application that de-duplicates by object would take events
/// about one object for copies.
fn with_new_resource(json: &str) -> String {
    let envelope = Envelope::read(json.as_bytes());
    let Some(old) = envelope.as_ref().and_then(Envelope::resource_id) else {
        return json.to_owned();
    };
    let prefix = old.rfind(['_', '-']).map_or("", |end| &old[..=end]);
    let new = format!("{prefix}{}", uuid::Uuid::now_v7().simple());
    json.replacen(&format!("\"{old}\""), &format!("\"{new}\""), 1)
}

#[cfg(test)]
mod tests {
    use openai_webhooks::Secret;

    use super::*;

    #[test]
    fn every_event_is_about_an_object_of_its_own_and_keeps_its_type() {
        let secret = Secret::from_key([7; 32]).unwrap();
        let mut forge = Forge::new(Webhooks::from(&secret), EventType::ResponseCompleted).unwrap();
        for house in [House::Spaced, House::Compact, House::Sorted] {
            forge.house = house;
            for event_type in EventType::ALL {
                let ids = [(); 2].map(|()| {
                    let event = forge.event_of(*event_type, 1_750_287_018);
                    let envelope = Envelope::read(event.as_bytes()).unwrap();
                    assert_eq!(envelope.event_type(), Some(*event_type));
                    envelope.resource_id().unwrap().to_owned()
                });
                assert_ne!(ids[0], ids[1], "{event_type}");
                let prefix = |id: &str| id.rfind(['_', '-']).map(|end| id[..=end].to_owned());
                assert_eq!(prefix(&ids[0]), prefix(&ids[1]));
            }
        }
    }
}
