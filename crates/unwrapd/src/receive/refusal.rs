//! The reasons why a webhook is not accepted, for its sender and for the log.

use axum::http::StatusCode;
use axum::http::header::{ALLOW, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use openai_webhooks::VerificationError;

use super::BODY_BYTES_MAX;
use crate::observe::refusals::Refusals;
use crate::store::StoreError;

/// `Retry-After` while the gateway cannot store webhooks, in seconds.
const RETRY_AFTER_SECONDS: u64 = 5;

/// The reason why a webhook was not accepted. It was not stored, except perhaps in the quarantine.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "no webhooks are received at this path: post them to /webhooks/{{endpoint}}, where {{endpoint}} is the name of an endpoint of the gateway's configuration"
    )]
    NoSuchPath,
    #[error("webhooks must be sent with the method POST")]
    WrongMethod,
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the body ended too early")]
    Broken,
    #[error("the body did not arrive within {0} s")]
    TooSlow(u64),
    #[error("too many requests are in progress; send it again")]
    Full,
    #[error(transparent)]
    NotProven(#[from] VerificationError),
    #[error("the webhook cannot be stored now; send it again")]
    NotKept(#[from] StoreError),
    #[error("internal error; send it again")]
    Broke,
}

impl Refusal {
    /// Counts the refusal of a request to this configured endpoint. A wrong path is counted by the
    /// code that finds it.
    pub(super) fn count(&self, refusals: &Refusals, endpoint: &str) {
        let kind = match self {
            Self::NoSuchPath | Self::WrongMethod => return,
            Self::TooLarge => "refused a request with 413 (too large)",
            Self::Broken => "refused a request with 400 (incomplete)",
            Self::TooSlow(_) => "refused a request with 408 (too slow)",
            Self::Full => "refused a request with 503 (too many at once)",
            Self::NotKept(_) => "refused a request with 503 (not stored)",
            Self::Broke => "refused a request with 503 (internal error)",
            Self::NotProven(error) => not_proven(error),
        };
        refusals.count(kind, Some(endpoint), || match self {
            Self::Full => "the limit of requests in progress is reached; raise `requests_max` if they are genuine".into(),
            Self::NotKept(error) => error.to_string(),
            Self::NotProven(VerificationError::SignatureMismatch) => "no signature matches a secret of this endpoint. If OpenAI sent it, correct `secrets`, send SIGHUP (restart if the secret comes from the environment), then run `unwrapd quarantine retry --all`".into(),
            Self::Broke => "a task of the gateway ended; see the log above".into(),
            other => other.to_string(),
        });
    }
}

/// A kind for each reason, so that a frequent one hides no other.
fn not_proven(error: &VerificationError) -> &'static str {
    match error {
        VerificationError::MissingHeader { .. } => "refused a request with 400 (header missing)",
        VerificationError::ConflictingHeader { .. } => {
            "refused a request with 400 (header conflicting)"
        }
        VerificationError::MalformedHeader { .. } | VerificationError::MalformedTimestamp => {
            "refused a request with 400 (header malformed)"
        }
        VerificationError::TimestampTooOld { .. } => "refused a request with 401 (too old)",
        VerificationError::TimestampTooNew { .. } => "refused a request with 401 (from the future)",
        VerificationError::TooManySignatures => "refused a request with 401 (too many signatures)",
        VerificationError::SignatureMismatch => "refused a request with 401 (signature)",
        _ => "refused a request (not verified)",
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        let status = match &self {
            Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::WrongMethod => {
                return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "POST")], text).into_response();
            }
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::NotProven(error) => {
                StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::UNAUTHORIZED)
            }
            Self::Full | Self::NotKept(_) | Self::Broke => {
                let retry_after = [(RETRY_AFTER, RETRY_AFTER_SECONDS.to_string())];
                return (StatusCode::SERVICE_UNAVAILABLE, retry_after, text).into_response();
            }
        };
        (status, text).into_response()
    }
}
