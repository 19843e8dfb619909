//! `POST /webhooks/{endpoint}`: within limits → proven → kept → acknowledged. The only place that answers OpenAI.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use jiff::Timestamp;
use openai_webhooks::{VerificationError, Webhooks};

use crate::crash;
use crate::delivery::Lane;
use crate::feed::{Feed, Happening};
use crate::message::Message;
use crate::route::Patterns;
use crate::store::{Accepted, Store, StoreError};
use crate::wake::Bells;

/// Largest body. OpenAI's largest, calls with many SIP headers, have some ten thousand bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest time for a body to arrive.
const BODY_SECONDS_MAX: u64 = 10;
/// When OpenAI may try again while we cannot keep what it sends.
const RETRY_AFTER_SECONDS: u64 = 5;

/// What receiving needs.
pub struct Receiver {
    /// How to prove a request, by name of the endpoint.
    pub endpoints: HashMap<String, Webhooks>,
    /// What each destination wants, by name.
    pub destinations: Vec<(String, Patterns)>,
    /// Where messages are kept.
    pub store: Arc<dyn Store>,
    /// Who to tell that there is work.
    pub bells: Bells,
    /// Who looks on.
    pub feed: Feed,
}

/// The public port: this one route and nothing else.
pub fn router(receiver: Receiver) -> Router {
    Router::new()
        .route("/webhooks/{endpoint}", post(receive))
        .with_state(Arc::new(receiver))
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    Path(endpoint): Path<String>,
    request: Request,
) -> Result<StatusCode, Refusal> {
    let Some(webhooks) = receiver.endpoints.get(&endpoint) else {
        tracing::debug!("refused a request to an endpoint that is not configured");
        return Err(Refusal::NoSuchEndpoint);
    };
    let received_at = Timestamp::now();
    let (parts, body) = request.into_parts();
    // What can be refused by its headers costs no memory for a body.
    receiver.refuse_early(webhooks, &endpoint, &parts.headers, received_at)?;
    let payload = read(body).await?;
    crash::point("received");
    receiver.feed.tell(|| Happening::Received {
        endpoint: endpoint.clone(),
        bytes: payload.len(),
    });

    let message = receiver.prove(webhooks, &endpoint, &payload, &parts.headers, received_at)?;
    crash::point("verified");

    // In a task of its own: if the sender hangs up now, what is being committed must still be told to who delivers it.
    let kept = tokio::spawn(async move { receiver.keep(message).await });
    kept.await.map_err(|_| Refusal::Broke)??;
    crash::point("accepted");
    Ok(StatusCode::OK)
}

impl Receiver {
    fn refuse_early(
        &self,
        webhooks: &Webhooks,
        endpoint: &str,
        headers: &HeaderMap,
        received_at: Timestamp,
    ) -> Result<(), Refusal> {
        webhooks
            .check_headers_at(headers, unix_seconds(received_at))
            .inspect_err(|error| self.tell_refused(endpoint, error))?;
        Ok(())
    }

    fn tell_refused(&self, endpoint: &str, error: &VerificationError) {
        tracing::warn!(endpoint, "refused a request: {error}");
        self.feed.tell(|| Happening::Refused {
            endpoint: endpoint.to_owned(),
            error: error.clone(),
        });
    }

    fn prove(
        &self,
        webhooks: &Webhooks,
        endpoint: &str,
        payload: &Bytes,
        headers: &HeaderMap,
        received_at: Timestamp,
    ) -> Result<Message, Refusal> {
        let verified = webhooks
            .verify_signature_at(payload, headers, unix_seconds(received_at))
            .inspect_err(|error| self.tell_refused(endpoint, error))?;
        let message = Message::new(endpoint, &verified, payload, received_at);
        self.feed.tell(|| Happening::Verified {
            endpoint: endpoint.to_owned(),
            webhook_id: message.webhook_id.clone(),
            kind: message.kind().to_owned(),
        });
        Ok(message)
    }

    async fn keep(&self, message: Message) -> Result<(), Refusal> {
        let destinations = self.wanting(message.event_type.as_deref());
        let lane = Lane::of(message.event_type.as_deref());
        let webhook_id = message.webhook_id.clone();
        let kind = message.kind().to_owned();
        let accepted = self
            .store
            .accept(message, destinations.clone())
            .await
            .inspect_err(|error| tracing::error!("a webhook was not accepted: {error}"))?;
        if accepted == Accepted::New && destinations.is_empty() {
            tracing::info!(webhook_id, kind, "kept, and no destination wants it");
        } else {
            tracing::debug!(webhook_id, kind, ?accepted, ?destinations, "kept");
        }
        self.feed.tell(|| Happening::Accepted {
            webhook_id,
            accepted,
            destinations: destinations.clone(),
        });
        // For a duplicate too: if the first ring was lost, this one is not.
        for destination in &destinations {
            self.bells.ring(destination, lane);
        }
        Ok(())
    }

    fn wanting(&self, event_type: Option<&str>) -> Vec<String> {
        self.destinations
            .iter()
            .filter(|(_, patterns)| patterns.want(event_type))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

fn unix_seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or_default()
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    let whole = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(Duration::from_secs(BODY_SECONDS_MAX), whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
        Ok(Err(_)) => Err(Refusal::Broken),
        Err(_) => Err(Refusal::TooSlow),
    }
}

/// Why a webhook was not accepted. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no such endpoint: post to /webhooks/NAME, with a name of the configuration")]
    NoSuchEndpoint,
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the body broke off")]
    Broken,
    #[error("the body did not arrive within {BODY_SECONDS_MAX} s")]
    TooSlow,
    #[error(transparent)]
    NotProven(#[from] VerificationError),
    #[error("cannot keep it now, send it again")]
    NotKept(#[from] StoreError),
    #[error("it went wrong here, send it again")]
    Broke,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NoSuchEndpoint => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NotProven(error) => {
                StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::UNAUTHORIZED)
            }
            Self::NotKept(_) | Self::Broke => {
                let retry_after = [(RETRY_AFTER, RETRY_AFTER_SECONDS.to_string())];
                let status = StatusCode::SERVICE_UNAVAILABLE;
                return (status, retry_after, format!("{self}\n")).into_response();
            }
        };
        (status, format!("{self}\n")).into_response()
    }
}
