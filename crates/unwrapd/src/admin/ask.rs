//! How operators ask and are answered: JSON in, JSON out, from programs and not from strange web pages, a few at a time.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::store::StoreError;

/// Largest body of a request: a thousand ids and more.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Most requests at once that look into the store; each may have a thread and a connection for itself.
pub(super) const ASKED_AT_ONCE_MAX: usize = 8;
/// When to try again what could not be done now.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Why a request was not answered as hoped.
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
}

/// A [`Refusal`] as JSON.
#[derive(Serialize, Deserialize)]
pub(crate) struct Problem {
    /// What is wrong, and what to do.
    pub(crate) error: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "it is handed over as `map_err` has it"
    )]
    /// It is asked for in a way that has no meaning.
    pub(super) fn bad(error: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::Unusable(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = answer(&Problem { error: self.error });
        *response.status_mut() = self.status;
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        response
    }
}

/// The value as JSON.
pub(super) fn answer(value: &impl Serialize) -> Response {
    let Ok(json) = serde_json::to_vec(value) else {
        // None of ours has a key that is no text.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = [
        (CONTENT_TYPE, "application/json"),
        // Payloads name callers and users.
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, json).into_response()
}

/// The body of a request. It must say that it is JSON: a form on a strange web page cannot.
pub(super) async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    if !is_json(request.headers()) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send JSON, with the header `content-type: application/json`",
        ));
    }
    let body = to_bytes(request.into_body(), BODY_BYTES_MAX)
        .await
        .map_err(|_| {
            Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than {BODY_BYTES_MAX} bytes, or it broke off"),
            )
        })?;
    serde_json::from_slice(&body).map_err(Refusal::bad)
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| {
        let essence = content_type.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    })
}

/// Lets a few requests through at once.
pub(super) async fn a_few(
    State(slots): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let Ok(_slot) = slots.try_acquire() else {
        return Refusal::from(StoreError::Busy).into_response();
    };
    next.run(request).await
}
