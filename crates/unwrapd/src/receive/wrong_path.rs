//! Requests with a wrong path or method. The sender gets an explanation. The operator, who may have
//! given OpenAI a wrong URL, gets a log line.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use openai_webhooks::WEBHOOK_SIGNATURE;

use super::Receiver;
use super::refusal::{Refusal, level};
use crate::observe::refusals::shown;
use crate::pipeline_events::PipelineEvent;

/// Most names of endpoints in one log line.
const NAMES_MAX: usize = 8;

/// Answers a request to any path but that of an endpoint.
pub(super) async fn wrong_path(State(receiver): State<Arc<Receiver>>, request: Request) -> Refusal {
    let kind = if is_webhook(request.headers()) {
        "refused a webhook with 404 (wrong path)"
    } else {
        "refused a request with 404 (wrong path)"
    };
    refused(&receiver, Refusal::NoSuchPath, kind, &request, || {
        advice(&receiver, &request)
    })
}

/// Answers a request to an endpoint that is not configured.
pub(super) fn unknown_endpoint(receiver: &Receiver, request: &Request) -> Refusal {
    let kind = if is_webhook(request.headers()) {
        "refused a webhook with 404 (no such endpoint)"
    } else {
        "refused a request with 404 (no such endpoint)"
    };
    refused(receiver, Refusal::NoSuchPath, kind, request, || {
        advice(receiver, request)
    })
}

/// Answers a request to an endpoint with another method than POST.
pub(super) async fn wrong_method(
    State(receiver): State<Arc<Receiver>>,
    request: Request,
) -> Refusal {
    let kind = if is_webhook(request.headers()) {
        "refused a webhook with 405 (wrong method)"
    } else {
        "refused a request with 405 (wrong method)"
    };
    refused(&receiver, Refusal::WrongMethod, kind, &request, || {
        "OpenAI sends webhooks with POST".into()
    })
}

/// Emits the refusal.
fn refused(
    receiver: &Receiver,
    refusal: Refusal,
    kind: &'static str,
    request: &Request,
    remedy: impl FnOnce() -> String,
) -> Refusal {
    let request = line(request);
    let repeats = receiver.refusals.due_request(kind, &request);
    let events = receiver.intake.events();
    events.emit(level(repeats), || PipelineEvent::Refused {
        endpoint: None,
        status: refusal.status().as_u16(),
        kind,
        code: refusal.code(),
        request: Some(request),
        reason: refusal.to_string(),
        remedy: Some(remedy()),
        duration: None,
        repeats,
    });
    refusal
}

/// Whether the request has a header that webhooks have and scanners' requests lack. Such requests
/// are logged apart, so that noise does not hide them.
fn is_webhook(headers: &HeaderMap) -> bool {
    headers.contains_key(WEBHOOK_SIGNATURE)
}

fn advice(receiver: &Receiver, request: &Request) -> String {
    if is_for_operators(request.uri().path()) {
        return "health checks and the API are at another port, which `admin` in [server] sets"
            .into();
    }
    let rules = receiver.intake.rules();
    let mut names: Vec<&str> = rules.endpoints.keys().map(String::as_str).collect();
    names.sort_unstable();
    let more = if names.len() > NAMES_MAX { ", …" } else { "" };
    names.truncate(NAMES_MAX);
    let paths: Vec<String> = names
        .iter()
        .map(|name| format!("/webhooks/{name}"))
        .collect();
    let remedy = if is_webhook(request.headers()) {
        "Correct the URL at OpenAI or in the reverse proxy"
    } else {
        "The request has no signature: OpenAI did not send it, or a proxy removed the header"
    };
    format!(
        "this gateway receives webhooks at {}{more}. {remedy}",
        paths.join(", ")
    )
}

/// Whether the path is one of the admin port, or one that health checks usually ask for.
fn is_for_operators(path: &str) -> bool {
    const CHECKS: [&str; 5] = ["/readyz", "/livez", "/healthz", "/health", "/ready"];
    CHECKS.contains(&path.trim_end_matches('/')) || path.starts_with("/api/")
}

/// The method and the path, without the query, which may hold a secret.
fn line(request: &Request) -> String {
    format!(
        "{} {}",
        shown(request.method().as_str()),
        shown(request.uri().path())
    )
}
