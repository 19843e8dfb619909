//! Signing: creates the three signed headers for a payload.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;

use crate::error::VerificationError;
use crate::headers::{
    HeadersLike, SignedHeaders, Timestamp, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP,
    webhook_id,
};
use crate::webhooks::{Webhooks, mac, unix_now};

impl Webhooks {
    /// Signs a payload as OpenAI does, at `timestamp` in Unix seconds. Use it in tests, and to
    /// forward a verified webhook. The header lists one signature for each secret.
    ///
    /// ```
    /// use openai_webhooks::{EventType, Webhooks};
    ///
    /// let webhooks = Webhooks::new("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX")?;
    /// let payload = EventType::BatchCompleted.sample();
    /// let headers = webhooks.sign(payload, "wh_1", 1_750_287_078)?;
    /// assert!(webhooks.unwrap_at(payload, &headers, 1_750_287_078).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns a [`VerificationError`] if a verifier would refuse the headers: `webhook_id` must be
    /// 1 to 256 printable ASCII characters without blanks and dots, and `timestamp` must not be
    /// before 1970.
    pub fn sign(
        &self,
        payload: impl AsRef<[u8]>,
        webhook_id: impl Into<String>,
        timestamp: i64,
    ) -> Result<WebhookHeaders, VerificationError> {
        let id = webhook_id.into();
        if id.is_empty() {
            return Err(VerificationError::MissingHeader { name: WEBHOOK_ID });
        }
        self::webhook_id(id.as_bytes())?;
        let timestamp = timestamp.to_string();
        Timestamp::read(timestamp.as_bytes())?;
        let signatures: Vec<String> = self
            .keys()
            .iter()
            .map(|key| {
                let mac = mac(key, &id, timestamp.as_bytes(), payload.as_ref()).finalize();
                format!("v1,{}", STANDARD.encode(mac.into_bytes()))
            })
            .collect();
        Ok(WebhookHeaders {
            id,
            timestamp,
            signature: signatures.join(" "),
        })
    }

    /// Does the same as [`sign`](Self::sign), with the time of this machine.
    pub fn sign_now(
        &self,
        payload: impl AsRef<[u8]>,
        webhook_id: impl Into<String>,
    ) -> Result<WebhookHeaders, VerificationError> {
        self.sign(payload, webhook_id, unix_now())
    }
}

/// Value of `user-agent` in OpenAI's webhooks
/// ([guide](https://developers.openai.com/api/docs/guides/webhooks)).
#[cfg(feature = "http")]
const USER_AGENT: &str = "OpenAI/1.0 (+https://platform.openai.com/docs/webhooks)";

/// The three signed headers of a webhook, as OpenAI sends them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebhookHeaders {
    /// The value of `webhook-id`.
    pub id: String,
    /// The value of `webhook-timestamp`: Unix seconds.
    pub timestamp: String,
    /// The value of `webhook-signature`.
    pub signature: String,
}

impl WebhookHeaders {
    /// Names and values, for any HTTP client.
    #[must_use]
    pub fn pairs(&self) -> [(&'static str, &str); 3] {
        [
            (WEBHOOK_ID, &self.id),
            (WEBHOOK_TIMESTAMP, &self.timestamp),
            (WEBHOOK_SIGNATURE, &self.signature),
        ]
    }
}

#[cfg(feature = "http")]
impl WebhookHeaders {
    /// Builds the request that OpenAI would send, to call a handler in tests. `payload` must be the
    /// signed one.
    ///
    /// ```
    /// use openai_webhooks::{EventType, Webhooks};
    ///
    /// let webhooks = Webhooks::new("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX")?;
    /// let payload = EventType::BatchCompleted.sample();
    /// let request = webhooks.sign_now(payload, "wh_1")?.request("/webhook", payload)?;
    /// assert!(webhooks.unwrap(request.body(), request.headers()).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails if `uri` is invalid, or if a field of `self` was changed to an invalid header value.
    pub fn request<U, B>(&self, uri: U, payload: B) -> Result<http::Request<B>, http::Error>
    where
        U: TryInto<http::Uri>,
        U::Error: Into<http::Error>,
    {
        let mut request = http::Request::post(uri)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::USER_AGENT, USER_AGENT);
        for (name, value) in self.pairs() {
            request = request.header(name, value);
        }
        request.body(payload)
    }
}

impl HeadersLike for WebhookHeaders {
    fn read<'h>(&'h self, headers: &mut SignedHeaders<'h>) {
        for (name, value) in self.pairs() {
            headers.offer(name.as_bytes(), value.as_bytes());
        }
    }
}
