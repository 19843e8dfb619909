//! The classes of answers that a verifier can give.

use openai_webhooks::{UnwrapError, VerificationError};
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Ok,
    /// The secret is unusable.
    Config,
    Header,
    Timestamp,
    Signature,
    Payload,
}

impl Answer {
    /// The class of an answer of the library.
    pub(crate) fn of(result: Result<(), UnwrapError>) -> Self {
        match result {
            Ok(()) => Self::Ok,
            Err(UnwrapError::Payload(_)) => Self::Payload,
            Err(UnwrapError::Verification(error)) => match error {
                VerificationError::MissingHeader { .. }
                | VerificationError::ConflictingHeader { .. }
                | VerificationError::MalformedHeader { .. } => Self::Header,
                VerificationError::MalformedTimestamp
                | VerificationError::TimestampTooOld { .. }
                | VerificationError::TimestampTooNew { .. } => Self::Timestamp,
                VerificationError::TooManySignatures | VerificationError::SignatureMismatch => {
                    Self::Signature
                }
                error => panic!("an error without a class: {error}"),
            },
            Err(error) => panic!("an error without a class: {error}"),
        }
    }
}
