//! `POST /webhooks/{endpoint}`: checked against limits, verified, stored, acknowledged. The only
//! module that answers OpenAI.

mod completing;
mod limits;
mod refusal;
mod settings;
mod wrong_path;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use jiff::Timestamp;
use openai_webhooks::{VerificationError, Webhooks};
use tokio::time::Instant;
use tracing::Level;

use crate::clock::{Clock, Shown};
use crate::crash::{self, CrashPoint};
use crate::intake::{self, Intake, Rules};
use crate::message::{Message, ReadMessage};
use crate::observe::refusals::Refusals;
use crate::pipeline_events::{PipelineEvent, Steps};
use crate::quarantine::Quarantine;
use crate::store::{Accepted, TrafficKind};
use completing::Completing;
use refusal::Refusal;

pub(crate) use limits::Limits;
pub(crate) use refusal::RefusalCodes;
pub use settings::EndpointSettings;
pub(crate) use settings::{REQUESTS_MAX, warn_of_shared_secrets};

/// Maximum size of a body, in bytes. OpenAI's largest ones, calls with many SIP headers, have about
/// ten thousand.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The paths of webhooks. All of them have the same limits; there are no others.
pub const PATHS: [&str; 2] = ["/webhooks/{endpoint}", "/webhooks/{endpoint}/"];

/// State of the route that receives webhooks.
pub(crate) struct Receiver {
    /// Receives verified webhooks.
    pub(crate) intake: Arc<Intake>,
    /// Receives requests that cannot be verified.
    pub(crate) quarantine: Arc<Quarantine>,
    /// Limits of concurrent requests.
    pub(crate) limits: Arc<Limits>,
    /// Counts refusals for the log.
    pub(crate) refusals: Arc<Refusals>,
}

/// The public port: [`PATHS`], and an explanation for every other path and method.
pub(crate) fn router(receiver: Receiver) -> Router {
    let route = || post(receive).fallback(wrong_path::wrong_method);
    PATHS
        .into_iter()
        .fold(Router::new(), |router, path| router.route(path, route()))
        .fallback(wrong_path::wrong_path)
        .with_state(Arc::new(receiver))
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    endpoint: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Refusal> {
    // One set of rules applies to the whole request.
    let rules = receiver.intake.rules();
    let configured = endpoint
        .ok()
        .filter(|Path(endpoint)| rules.endpoints.contains_key(endpoint));
    let Some(Path(endpoint)) = configured else {
        return Err(wrong_path::unknown_endpoint(&receiver, &request));
    };
    let events = receiver.intake.events();
    let started = events.is_observed(Level::DEBUG).then(Instant::now);
    accept(&receiver, rules, &endpoint, request)
        .await
        .inspect_err(|refusal| refusal.emit(&receiver, &endpoint, started))
}

async fn accept(
    receiver: &Arc<Receiver>,
    rules: Arc<Rules>,
    endpoint: &str,
    request: Request,
) -> Result<StatusCode, Refusal> {
    let Some(configured) = rules.endpoints.get(endpoint) else {
        return Err(Refusal::NoSuchPath);
    };
    let webhooks = configured.webhooks();
    let clock = receiver.intake.clock();
    let events = receiver.intake.events();
    let now = || events.is_traced().then(Instant::now);
    let head_at = now();
    let (parts, body) = request.into_parts();
    // A request that its headers refuse needs no memory for its body.
    let (judged_at, checked) = check_headers(webhooks, &parts.headers, clock);
    let (received_at, is_wall) = (judged_at.time, judged_at.is_wall);
    let arrival = Arrival {
        endpoint,
        headers: &parts.headers,
        received_at,
    };
    checked.inspect_err(|error| receiver.refuse(&arrival, None, error))?;
    let mut admission = receiver.limits.admit(endpoint).await?;
    let payload = admission.read(body).await?;
    let body_at = now();
    crash::point(CrashPoint::Received);
    events.emit(Level::TRACE, || PipelineEvent::Received {
        endpoint: endpoint.to_owned(),
        bytes: payload.len(),
    });

    let verified = webhooks
        .verify_signature_at(&payload, &parts.headers, received_at.as_second())
        .inspect_err(|error| receiver.refuse(&arrival, Some(&payload), error))?;
    // Before it is stored, since it may be delivered at once.
    let shown = judged_at.prove(clock);
    let ReadMessage {
        message,
        created_at,
        oddity,
    } = Message::read(endpoint, &verified, &payload, clock.stamp());
    configured.record(intake::Arrival {
        created_at,
        sent_at: message.sent_at,
        received_at,
        is_wall,
        secret: message.secret,
    });
    events.emit(Level::TRACE, || PipelineEvent::Verified {
        endpoint: endpoint.to_owned(),
        webhook_id: message.webhook_id.clone(),
        event_type: message.kind().to_owned(),
        lateness: created_at.map(|created_at| {
            // Zero, if OpenAI's clock is ahead.
            Duration::try_from(received_at.duration_since(created_at)).unwrap_or_default()
        }),
    });
    crash::point(CrashPoint::Verified);
    let steps = head_at.zip(body_at).zip(now());
    let steps = steps.map(|((head_at, body_at), verified_at)| Steps {
        head_at,
        body_at,
        verified_at,
    });

    // If the sender disconnects, a committed message must still be handed off.
    let intake = Arc::clone(&receiver.intake);
    let odd = oddity.map(|oddity| (endpoint.to_owned(), oddity));
    let kept = Completing::new(async move {
        let kept = intake.keep(&rules, message, steps).await;
        if kept != Ok(Accepted::New) {
            intake.clock().take_back(shown);
        }
        if let (Ok(Accepted::New), Some((endpoint, oddity))) = (&kept, &odd) {
            intake.oddities().count(endpoint, oddity);
        }
        drop(admission);
        kept
    });
    kept.await.map_err(|_| Refusal::Broke)??;
    crash::point(CrashPoint::Accepted);
    Ok(StatusCode::OK)
}

/// The time against which a request is checked.
struct JudgedAt {
    time: Timestamp,
    /// Whether it is the wall clock.
    is_wall: bool,
}

impl JudgedAt {
    /// Records that an authentic webhook fits this time.
    fn prove(self, clock: &Clock) -> Shown {
        if self.is_wall {
            clock.prove_wall()
        } else {
            clock.prove(self.time)
        }
    }
}

/// Checks the headers, and determines the time for that. If the clock has just jumped, a current
/// request looks too old or too new. So a request also passes at any other time that may be right.
/// A copy is recognised by its id.
fn check_headers(
    webhooks: &Webhooks,
    headers: &HeaderMap,
    clock: &Clock,
) -> (JudgedAt, Result<(), VerificationError>) {
    let wall = clock.wall();
    let checked = webhooks.check_headers_at(headers, wall.as_second());
    if let Err(
        VerificationError::TimestampTooOld { .. } | VerificationError::TimestampTooNew { .. },
    ) = checked
    {
        let by = |time: &Timestamp| webhooks.check_headers_at(headers, time.as_second()).is_ok();
        if let Some(time) = clock.possible().into_iter().find(by) {
            let is_wall = false;
            return (JudgedAt { time, is_wall }, Ok(()));
        }
    }
    let judged_at = JudgedAt {
        time: wall,
        is_wall: true,
    };
    (judged_at, checked)
}

/// A request that is being checked.
struct Arrival<'r> {
    endpoint: &'r str,
    headers: &'r HeaderMap,
    received_at: Timestamp,
}

impl Receiver {
    fn refuse(&self, arrival: &Arrival<'_>, payload: Option<&Bytes>, error: &VerificationError) {
        let endpoint = arrival.endpoint;
        let traffic = self.intake.events().traffic();
        traffic.count(TrafficKind::Refused, endpoint, self.intake.clock().stamp());
        self.quarantine.add(
            endpoint,
            arrival.headers,
            payload,
            error,
            arrival.received_at,
        );
    }
}
