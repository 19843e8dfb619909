//! What OpenAI adds tomorrow.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// An authentic event of a type this version does not know, kept as it came: no field, digit or order is lost.
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

    /// When it happened, in Unix seconds, if `created_at` says so.
    #[must_use]
    pub fn created_at(&self) -> Option<i64> {
        self.created_at
    }

    /// The whole event, as it was sent.
    #[must_use]
    pub fn json(&self) -> &str {
        self.json.get()
    }

    /// The whole event in a form of your own, until this library knows its type:
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
    /// A text with half a surrogate pair fails here, as in every reader of `serde_json`.
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
