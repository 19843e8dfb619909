//! Events of types that this version does not know.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// An authentic event of a type that this version does not know. It keeps the exact text of the
/// body.
#[derive(Clone, Debug)]
pub struct UnknownWebhookEvent {
    id: String,
    r#type: String,
    created_at: Option<i64>,
    json: Box<RawValue>,
}

impl UnknownWebhookEvent {
    pub(super) fn new(
        id: String,
        r#type: String,
        created_at: Option<i64>,
        text: &str,
    ) -> serde_json::Result<Self> {
        Ok(Self {
            id,
            r#type,
            created_at,
            json: serde_json::from_str::<&RawValue>(text)?.to_owned(),
        })
    }

    /// The unique ID of the event.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The type of the event.
    #[must_use]
    pub fn r#type(&self) -> &str {
        &self.r#type
    }

    /// Time of the event, in Unix seconds, from `created_at`; `None` if that is missing or not a
    /// time.
    #[must_use]
    pub fn created_at(&self) -> Option<i64> {
        self.created_at
    }

    /// The event's JSON, as it was sent.
    #[must_use]
    pub fn json(&self) -> &str {
        self.json.get()
    }

    /// Parses the event into a type of your own, until this library knows the event's type:
    ///
    /// ```
    /// # fn later(event: openai_webhooks::UnknownWebhookEvent) -> serde_json::Result<()> {
    /// #[derive(serde::Deserialize)]
    /// struct NoteTaken {
    ///     created_at: i64,
    /// }
    /// let note: NoteTaken = event.parse()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails as `serde_json` does: also for a text with an unpaired surrogate.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> serde_json::Result<T> {
        serde_json::from_str(self.json.get())
    }
}

impl PartialEq for UnknownWebhookEvent {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl Eq for UnknownWebhookEvent {}

impl Serialize for UnknownWebhookEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}
