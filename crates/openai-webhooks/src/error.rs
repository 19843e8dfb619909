//! Errors of a request: not verified, or verified and not readable.

use crate::event::PayloadError;
use crate::headers::SIGNATURES_MAX;

/// Reason why a request is refused. No variant holds a secret, a signature or a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerificationError {
    /// A signed header is missing or empty.
    #[error(
        "the header `{name}` is missing: this is not a webhook, or a proxy dropped the header on its way"
    )]
    MissingHeader {
        /// Name of the header.
        name: &'static str,
    },
    /// A header is repeated, with different values.
    #[error("the header `{name}` is repeated with different values: refuse the request")]
    ConflictingHeader {
        /// Name of the header.
        name: &'static str,
    },
    /// A header has a value that no sender of webhooks writes.
    #[error("the header `{name}` is malformed: {reason}")]
    MalformedHeader {
        /// Name of the header.
        name: &'static str,
        /// The problem of its value.
        reason: &'static str,
    },
    /// The timestamp is not 1 to 19 ASCII digits, or is larger than `i64::MAX`.
    #[error(
        "the header `webhook-timestamp` is not a Unix time: it must be whole seconds since 1970, digits only"
    )]
    MalformedTimestamp,
    /// The webhook is older than the tolerance. For a request that waited in a queue, pass its
    /// arrival time to [`unwrap_at`](crate::Webhooks::unwrap_at).
    #[error(
        "the webhook was sent {seconds} s ago, more than the tolerance of {tolerance_seconds} s: \
         an old request was replayed, it waited in a queue (verify it at its arrival time), or the \
         clock here is fast"
    )]
    TimestampTooOld {
        /// Age of the webhook, in seconds.
        seconds: u64,
        /// The tolerance, in seconds.
        tolerance_seconds: u64,
    },
    /// The timestamp is further in the future than the tolerance.
    #[error(
        "the webhook was sent {seconds} s in the future, more than the tolerance of {tolerance_seconds} s: {}",
        cause_of_future(*.seconds)
    )]
    TimestampTooNew {
        /// Seconds between the clock here and the timestamp.
        seconds: u64,
        /// The tolerance, in seconds.
        tolerance_seconds: u64,
    },
    /// The header lists more than [`SIGNATURES_MAX`] signatures.
    #[error(
        "the header `webhook-signature` lists more than {SIGNATURES_MAX} signatures: refuse the request"
    )]
    TooManySignatures,
    /// No signature matches any of the secrets.
    #[error(
        "no signature matches: the secret belongs to another endpoint or was rotated, or the body \
         was changed on its way (verify the raw bytes, before any parsing)"
    )]
    SignatureMismatch,
}

impl VerificationError {
    /// The HTTP status to answer: 400 if a header is missing or malformed, 401 if the time or the
    /// signature is wrong.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::MissingHeader { .. }
            | Self::ConflictingHeader { .. }
            | Self::MalformedHeader { .. }
            | Self::MalformedTimestamp => 400,
            Self::TimestampTooOld { .. }
            | Self::TimestampTooNew { .. }
            | Self::TooManySignatures
            | Self::SignatureMismatch => 401,
        }
    }
}

/// Reason why a request gave no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// The request is not verified: refuse it.
    #[error(transparent)]
    Verification(#[from] VerificationError),
    /// The request is authentic, but its body cannot be read as an event. Store the body and answer
    /// 200; otherwise OpenAI [retries for up to 72
    /// hours](https://developers.openai.com/api/docs/guides/webhooks).
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// A timestamp this far ahead has 12 digits or more, so it is not in seconds.
const MILLISECONDS_MIN: u64 = 99_999_999_999;

fn cause_of_future(seconds: u64) -> &'static str {
    if seconds < MILLISECONDS_MIN {
        "check the clock here"
    } else {
        "`webhook-timestamp` is not in seconds; 13 digits are milliseconds, 16 are microseconds; send seconds"
    }
}
