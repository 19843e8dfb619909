//! The reasons why a webhook is not accepted, for its sender and for the log.

use axum::http::StatusCode;
use axum::http::header::{ALLOW, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use openai_webhooks::VerificationError;
use tokio::time::Instant;
use tracing::Level;

use super::{BODY_BYTES_MAX, Receiver};
use crate::pipeline_events::PipelineEvent;
use crate::store::StoreError;

/// `Retry-After` while the gateway cannot store webhooks, in seconds.
const RETRY_AFTER_SECONDS: u64 = 5;

/// The reason why a webhook was not accepted. It was not stored, except perhaps in the quarantine.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "no webhooks are received at this path: post them to /webhooks/{{endpoint}}, where \
         {{endpoint}} is the name of an endpoint of the gateway's configuration"
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
    /// Emits the refusal of a request to this configured endpoint. The handlers of wrong paths emit
    /// theirs. `started` is the time at which the head of the request had arrived.
    pub(super) fn emit(&self, receiver: &Receiver, endpoint: &str, started: Option<Instant>) {
        let kind = match self {
            Self::NoSuchPath | Self::WrongMethod => return,
            Self::TooLarge => "refused a request with 413 (too large)",
            Self::Broken => "refused a request with 400 (incomplete)",
            Self::TooSlow(_) => "refused a request with 408 (too slow)",
            Self::Full => "refused a request with 503 (too many at once)",
            Self::NotKept(_) => "refused a request with 503 (not stored)",
            Self::Broke => "refused a request with 503 (internal error)",
            Self::NotProven(error) => not_proven(error).0,
        };
        let repeats = receiver.refusals.due(kind, Some(endpoint));
        let events = receiver.intake.events();
        events.emit(level(repeats), || PipelineEvent::Refused {
            endpoint: Some(endpoint.to_owned()),
            status: self.status().as_u16(),
            kind,
            code: self.code(),
            request: None,
            reason: self.reason(),
            remedy: self.remedy().map(str::to_owned),
            duration: started.map(|started| started.elapsed()),
            repeats,
        });
    }

    /// The stable code of the cause. `docs/reference/logs.md` lists all of them.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NoSuchPath => "no_such_path",
            Self::WrongMethod => "wrong_method",
            Self::TooLarge => "too_large",
            Self::Broken => "incomplete",
            Self::TooSlow(_) => "too_slow",
            Self::Full => "too_many_at_once",
            Self::NotKept(_) => "not_stored",
            Self::Broke => "internal_error",
            Self::NotProven(error) => not_proven(error).1,
        }
    }

    /// The cause, for the operator.
    fn reason(&self) -> String {
        match self {
            Self::NotKept(error) => error.to_string(),
            Self::NotProven(VerificationError::SignatureMismatch) => {
                "no signature matches a secret of this endpoint".into()
            }
            other => other.to_string(),
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Full => Some("raise `requests_max` if the requests are genuine"),
            Self::NotProven(VerificationError::SignatureMismatch) => Some(
                "if OpenAI sent it, correct `secrets`, send SIGHUP (restart if the secret comes \
                 from the environment), then run `unwrapd quarantine retry --all`",
            ),
            Self::Broke => Some("a task of the gateway ended: see the log for the cause"),
            _ => None,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::NotProven(error) => {
                StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::UNAUTHORIZED)
            }
            Self::Full | Self::NotKept(_) | Self::Broke => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Codes and statuses of refusals, for metrics.
pub(crate) struct RefusalCodes {
    /// Those of requests to a configured endpoint.
    pub(crate) at_endpoints: Vec<(&'static str, u16)>,
    /// Those of requests with a wrong path or method.
    pub(crate) elsewhere: Vec<(&'static str, u16)>,
}

impl RefusalCodes {
    /// All codes, each from a refusal that has it.
    pub(crate) fn all() -> Self {
        let (name, reason, seconds, tolerance_seconds) = Default::default();
        let not_proven = [
            VerificationError::MissingHeader { name },
            VerificationError::ConflictingHeader { name },
            VerificationError::MalformedHeader { name, reason },
            VerificationError::TimestampTooOld {
                seconds,
                tolerance_seconds,
            },
            VerificationError::TimestampTooNew {
                seconds,
                tolerance_seconds,
            },
            VerificationError::TooManySignatures,
            VerificationError::SignatureMismatch,
        ];
        let others = [
            Refusal::TooLarge,
            Refusal::Broken,
            Refusal::TooSlow(seconds),
            Refusal::Full,
            Refusal::NotKept(StoreError::Busy),
            Refusal::Broke,
        ];
        let code = |refusal: Refusal| (refusal.code(), refusal.status().as_u16());
        let not_proven = not_proven.into_iter().map(Refusal::from);
        Self {
            at_endpoints: not_proven.chain(others).map(code).collect(),
            elsewhere: [Refusal::NoSuchPath, Refusal::WrongMethod].map(code).into(),
        }
    }
}

/// Level of the log line: a warning if one is due.
pub(super) fn level(repeats: Option<u64>) -> Level {
    if repeats.is_some() {
        Level::WARN
    } else {
        Level::DEBUG
    }
}

/// A kind and a code for each reason, so that a frequent one hides no other.
fn not_proven(error: &VerificationError) -> (&'static str, &'static str) {
    match error {
        VerificationError::MissingHeader { .. } => (
            "refused a request with 400 (header missing)",
            "header_missing",
        ),
        VerificationError::ConflictingHeader { .. } => (
            "refused a request with 400 (header conflicting)",
            "header_conflicting",
        ),
        VerificationError::MalformedHeader { .. } | VerificationError::MalformedTimestamp => (
            "refused a request with 400 (header malformed)",
            "header_malformed",
        ),
        VerificationError::TimestampTooOld { .. } => {
            ("refused a request with 401 (too old)", "too_old")
        }
        VerificationError::TimestampTooNew { .. } => {
            ("refused a request with 401 (from the future)", "too_new")
        }
        VerificationError::TooManySignatures => (
            "refused a request with 401 (too many signatures)",
            "too_many_signatures",
        ),
        VerificationError::SignatureMismatch => (
            "refused a request with 401 (signature)",
            "signature_mismatch",
        ),
        _ => ("refused a request (not verified)", "not_verified"),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        let status = self.status();
        match self {
            Self::WrongMethod => (status, [(ALLOW, "POST")], text).into_response(),
            Self::Full | Self::NotKept(_) | Self::Broke => {
                let retry_after = [(RETRY_AFTER, RETRY_AFTER_SECONDS.to_string())];
                (status, retry_after, text).into_response()
            }
            _ => (status, text).into_response(),
        }
    }
}
