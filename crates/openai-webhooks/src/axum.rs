//! Extractors for axum. A handler that takes one runs only for a verified request.
//!
//! [`Webhooks`] must be available from the router's state, through [`FromRef`]. The body is read up
//! to axum's `DefaultBodyLimit`, which is 2 MB by default; OpenAI's webhooks are far smaller.
//!
//! ```
//! use axum::{Router, extract::DefaultBodyLimit, routing::post};
//! use openai_webhooks::axum::Event;
//! use openai_webhooks::{UnwrapWebhookEvent, Webhooks};
//!
//! async fn webhook(Event(event): Event) {
//!     if let UnwrapWebhookEvent::ResponseCompleted(event) = event {
//!         println!("{} is ready", event.data.id);
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let webhooks = Webhooks::new("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX")?;
//! let app: Router = Router::new()
//!     .route("/webhook", post(webhook))
//!     .layer(DefaultBodyLimit::max(1024 * 1024))
//!     .with_state(webhooks);
//! # Ok(()) }
//! ```

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRef, FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;

use crate::error::VerificationError;
use crate::event::{PayloadError, UnwrapWebhookEvent};
use crate::webhooks::Webhooks;

/// Extracts the event of a verified request.
///
/// A request that is not verified is answered with 400 or 401, a body that is too large with 413.
/// An authentic body that is not an event is answered with 422, so that OpenAI [retries for 72
/// hours](https://developers.openai.com/api/docs/guides/webhooks) while you investigate. To store
/// such bodies yourself, take [`Webhook`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event(pub UnwrapWebhookEvent);

/// Extracts a verified request with all that is needed to store it: the event, the exact bytes, and
/// the id for de-duplication.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Webhook {
    /// The value of `webhook-id`, the same for every copy of this webhook.
    pub webhook_id: String,
    /// Time of this delivery attempt by OpenAI, in Unix seconds.
    pub timestamp: i64,
    /// The exact bytes of the body.
    pub payload: Bytes,
    /// The event in the body, or the reason why it cannot be read.
    pub event: Result<UnwrapWebhookEvent, PayloadError>,
}

impl<S> FromRequest<S> for Webhook
where
    Webhooks: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = WebhookRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, WebhookRejection> {
        let headers = request.headers().clone();
        let payload = Bytes::from_request(request, state).await?;
        let verified = Webhooks::from_ref(state).verify_signature(&payload, &headers)?;
        Ok(Self {
            webhook_id: verified.webhook_id().to_owned(),
            timestamp: verified.timestamp(),
            event: verified.event(),
            payload,
        })
    }
}

impl<S> FromRequest<S> for Event
where
    Webhooks: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = WebhookRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, WebhookRejection> {
        let webhook = Webhook::from_request(request, state).await?;
        Ok(Self(webhook.event?))
    }
}

/// Reason why nothing was extracted. As a response, it has the right status and the reason as text,
/// without content of the request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookRejection {
    /// The body could not be read, or is larger than the limit.
    #[error("the body cannot be read: {}", .0.body_text())]
    Body(#[from] BytesRejection),
    /// The request is not verified.
    #[error(transparent)]
    Verification(#[from] VerificationError),
    /// The body is authentic, but not an event.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

impl WebhookRejection {
    /// The HTTP status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Body(rejection) => rejection.status(),
            Self::Verification(error) => {
                StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::UNAUTHORIZED)
            }
            Self::Payload(_) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }
}

impl IntoResponse for WebhookRejection {
    fn into_response(self) -> Response {
        (self.status(), self.to_string()).into_response()
    }
}
