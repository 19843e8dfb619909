//! `POST /webhooks/{endpoint}`: within limits → proven → kept → acknowledged. The only place that answers OpenAI.

mod limits;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use jiff::Timestamp;
use openai_webhooks::VerificationError;

use crate::crash;
use crate::feed::Happening;
use crate::intake::Intake;
use crate::message::Message;
use crate::quarantine::Quarantine;
use crate::store::StoreError;

pub use limits::Limits;

/// Largest body. OpenAI's largest, calls with many SIP headers, have some ten thousand bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// When OpenAI may try again while we cannot keep what it sends.
const RETRY_AFTER_SECONDS: u64 = 5;

/// What receiving needs.
pub struct Receiver {
    /// Where what is proven goes.
    pub intake: Arc<Intake>,
    /// Where the rest goes.
    pub quarantine: Arc<Quarantine>,
    /// How much may be received at once.
    pub limits: Arc<Limits>,
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
    let rules = receiver.intake.rules();
    let Some(webhooks) = rules.endpoints.get(&endpoint) else {
        tracing::debug!("refused a request to an endpoint that is not configured");
        return Err(Refusal::NoSuchEndpoint);
    };
    let clock = receiver.intake.clock();
    let received_at = clock.wall();
    let (parts, body) = request.into_parts();
    let arrival = Arrival {
        endpoint: &endpoint,
        headers: &parts.headers,
        received_at,
    };
    // What can be refused by its headers costs no memory for a body.
    webhooks
        .check_headers_at(&parts.headers, unix_seconds(received_at))
        .inspect_err(|error| receiver.refuse(&arrival, None, error))?;
    let mut admission = receiver.limits.admit(&endpoint).await?;
    let payload = admission.read(body).await?;
    crash::point("received");
    receiver.intake.feed().tell(|| Happening::Received {
        endpoint: endpoint.clone(),
        bytes: payload.len(),
    });

    let verified = webhooks
        .verify_signature_at(&payload, &parts.headers, unix_seconds(received_at))
        .inspect_err(|error| receiver.refuse(&arrival, Some(&payload), error))?;
    let message = Message::new(&endpoint, &verified, &payload, clock.stamp());
    receiver.intake.feed().tell(|| Happening::Verified {
        endpoint: endpoint.clone(),
        webhook_id: message.webhook_id.clone(),
        kind: message.kind().to_owned(),
    });
    crash::point("verified");

    // In a task of its own: if the sender hangs up now, what is being committed must still be told to who delivers it.
    let intake = Arc::clone(&receiver.intake);
    let kept = tokio::spawn(async move {
        let kept = intake.keep(message).await;
        drop(admission);
        kept
    });
    kept.await
        .map_err(|_| Refusal::Broke)?
        .inspect_err(|error| tracing::debug!("a webhook was not accepted: {error}"))?;
    crash::point("accepted");
    Ok(StatusCode::OK)
}

/// A request that is being looked at.
struct Arrival<'r> {
    endpoint: &'r str,
    headers: &'r HeaderMap,
    received_at: Timestamp,
}

impl Receiver {
    fn refuse(&self, arrival: &Arrival<'_>, payload: Option<&Bytes>, error: &VerificationError) {
        let endpoint = arrival.endpoint;
        self.intake.feed().tell(|| Happening::Refused {
            endpoint: endpoint.to_owned(),
            error: error.clone(),
        });
        self.quarantine.add(
            endpoint,
            arrival.headers,
            payload,
            error,
            arrival.received_at,
        );
    }
}

fn unix_seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or_default()
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
    #[error("the body did not arrive within {0} s")]
    TooSlow(u64),
    #[error("too much is being received, send it again")]
    Full,
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
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::NotProven(error) => {
                StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::UNAUTHORIZED)
            }
            Self::Full | Self::NotKept(_) | Self::Broke => {
                let retry_after = [(RETRY_AFTER, RETRY_AFTER_SECONDS.to_string())];
                let status = StatusCode::SERVICE_UNAVAILABLE;
                return (status, retry_after, format!("{self}\n")).into_response();
            }
        };
        (status, format!("{self}\n")).into_response()
    }
}
