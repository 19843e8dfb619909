//! Why a request gave no event: not proven, or proven and not to be read.

use crate::event::PayloadError;
use crate::headers::SIGNATURES_MAX;

/// Why a request is not to be trusted. It never holds a secret, a signature or a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerificationError {
    /// A signed header is missing or empty.
    #[error(
        "the header `{name}` is missing: this is not a webhook, or a proxy dropped the header on its way"
    )]
    MissingHeader {
        /// Its name.
        name: &'static str,
    },
    /// A header stands more than once, with different values.
    #[error("the header `{name}` stands more than once with different values: refuse the request")]
    ConflictingHeader {
        /// Its name.
        name: &'static str,
    },
    /// A header that no sender of webhooks would write.
    #[error("the header `{name}` is malformed: {reason}")]
    MalformedHeader {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The timestamp is not 1 to 19 ASCII digits, or larger than `i64::MAX`.
    #[error(
        "the header `webhook-timestamp` is not a Unix time: it must be whole seconds since 1970, in digits alone"
    )]
    MalformedTimestamp,
    /// Sent too long ago.
    #[error(
        "the webhook was sent {seconds} s ago, more than the tolerance of {tolerance_seconds} s: it is an old request sent again, it waited in a queue (check it at the time it arrived), or the clock here is fast"
    )]
    TimestampTooOld {
        /// How long ago.
        seconds: u64,
        /// How much is tolerated.
        tolerance_seconds: u64,
    },
    /// Sent in the future.
    #[error(
        "the webhook was sent {seconds} s in the future, more than the tolerance of {tolerance_seconds} s: {}",
        cause_of_future(*.seconds)
    )]
    TimestampTooNew {
        /// How far ahead.
        seconds: u64,
        /// How much is tolerated.
        tolerance_seconds: u64,
    },
    /// More signatures than [`SIGNATURES_MAX`].
    #[error(
        "the header `webhook-signature` lists more than {SIGNATURES_MAX} signatures: refuse the request"
    )]
    TooManySignatures,
    /// No signature matches any secret.
    #[error(
        "no signature matches: the secret is another endpoint's or was rotated, or the body was changed on its way (verify the raw bytes, before any parsing)"
    )]
    SignatureMismatch,
}

impl VerificationError {
    /// The HTTP status to answer: 400 where the headers are no webhook's, 401 where they are but do not prove it.
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

/// Why a request gave no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// Not proven: refuse it.
    #[error(transparent)]
    Verification(#[from] VerificationError),
    /// Authentic, but not an event that can be read: keep the body for a look and answer 200, or OpenAI sends it for 72 hours.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// A time this far ahead was not meant: it has 12 digits or more.
const MILLISECONDS_MIN: u64 = 99_999_999_999;

fn cause_of_future(seconds: u64) -> &'static str {
    if seconds < MILLISECONDS_MIN {
        "check the clock here"
    } else {
        "`webhook-timestamp` is not in seconds; 13 digits are milliseconds, 16 are microseconds, and seconds are wanted"
    }
}
