//! Requests and responses of programs: JSON, which no form on another web site can send. Every
//! error is a problem according to [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457).

use std::sync::Arc;

use axum::body::{HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bounds;
use super::html::HTML;
use crate::api::Problem;
use crate::store::StoreError;

/// The content type of an answer.
pub(super) const JSON: &str = "application/json";
/// The content type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";
/// The type of a problem that its status describes sufficiently ([RFC 9457, section
/// 4.2.1](https://www.rfc-editor.org/rfc/rfc9457#section-4.2.1)).
const ABOUT_BLANK: &str = "about:blank";
/// The challenge of a request without a token.
const BEARER: &str = "Bearer";
/// The challenge of a request that needs another token ([RFC 6750, section
/// 3.1](https://www.rfc-editor.org/rfc/rfc6750#section-3.1)).
pub(super) const INSUFFICIENT_SCOPE: &str = "Bearer error=\"insufficient_scope\"";

/// Reason why a request failed.
pub(super) struct Refusal {
    status: StatusCode,
    detail: String,
    challenge: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            challenge: (status == StatusCode::UNAUTHORIZED).then_some(BEARER),
        }
    }

    /// Cause and remedy.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The refusal of a request that another token may make.
    pub(super) fn another_token(detail: &str) -> Self {
        Self {
            challenge: Some(INSUFFICIENT_SCOPE),
            ..Self::new(StatusCode::FORBIDDEN, detail)
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "`map_err` passes the error by value"
    )]
    /// The refusal of a malformed request.
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
        let Self {
            status,
            detail,
            challenge,
        } = self;
        let problem = Problem {
            kind: ABOUT_BLANK.into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            detail,
        };
        let mut response = answer(&problem);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(challenge) = challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        // For browsers, which get a page with it.
        response.extensions_mut().insert(Arc::new(problem));
        if retries_later(status) {
            bounds::retry_after(&mut response);
        }
        response
    }
}

/// Whether a client should send the same request again later.
pub(super) fn retries_later(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    )
}

/// Marks a response that is a line of text, whatever its status. Its clients use the status only.
#[derive(Clone, Copy)]
pub(super) struct PlainText;

/// Converts any error to a problem, including those of axum itself: an unknown path, a wrong
/// method, a path that is not UTF-8.
pub(super) fn as_problem(response: Response) -> Response {
    let status = response.status();
    let is_known = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value == PROBLEM_JSON || value == HTML);
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || is_known || response.extensions().get::<PlainText>().is_some() {
        return response;
    }
    let detail = match status {
        StatusCode::NOT_FOUND => {
            "this path does not exist: health checks are /livez and /readyz, the API is under \
             /api/v1, and webhooks are received at the port of `listen`"
        }
        StatusCode::METHOD_NOT_ALLOWED => "this path takes another method",
        _ => "the request cannot be read",
    };
    let mut problem = Refusal::new(status, detail).into_response();
    if let Some(allow) = response.headers().get(ALLOW) {
        problem.headers_mut().insert(ALLOW, allow.clone());
    }
    problem
}

/// The value as JSON.
pub(super) fn answer(value: &impl Serialize) -> Response {
    let Ok(json) = serde_json::to_vec(value) else {
        // Only a map with keys that are not text fails, and no type of the API has one.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = [
        (CONTENT_TYPE, JSON),
        // Payloads name callers and users, so no cache may store them.
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, json).into_response()
}

/// Parses the body of a request. Its content type must be JSON, which a form on another web site
/// cannot send.
pub(super) async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    if !is_json(request.headers()) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send JSON, with the header `content-type: application/json`",
        ));
    }
    // The body is complete, and within the bound of the route.
    let body = to_bytes(request.into_body(), usize::MAX)
        .await
        .map_err(|_| Refusal::bad("the body ended too early"))?;
    serde_json::from_slice(&body).map_err(Refusal::bad)
}

/// As [`read`], for a route whose body is optional: without one, the default.
pub(super) async fn read_or_default<T: DeserializeOwned + Default>(
    request: Request,
) -> Result<T, Refusal> {
    // The body is complete, so its size is known.
    if request.body().size_hint().exact() == Some(0) {
        return Ok(T::default());
    }
    read(request).await
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| {
        let essence = content_type.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case(JSON)
    })
}
