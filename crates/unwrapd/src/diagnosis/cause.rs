//! The causes for which a request is not verified, each with its name, its finding and its remedy.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use openai_webhooks::VerificationError;

use super::body::BodyChange;
use super::header::HeaderChange;
use super::spelling::KEY_ORDER;
use crate::printable::spoken;

/// A timestamp this far ahead has 12 digits or more, so it is not in seconds.
const MILLISECONDS_MIN: i64 = 99_999_999_999;

/// The cause of a refusal. As text, it is a sentence for the operator, with the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The present secrets of the endpoint verify it.
    SecretsCorrected,
    /// A header is missing or malformed.
    Header(VerificationError),
    /// A signed header was changed, and the signature matches without the change.
    HeaderChanged {
        header: &'static str,
        change: HeaderChange,
    },
    /// Its time is outside the tolerance.
    Time {
        /// Time from the signature to the arrival, in seconds. Negative: it arrived before.
        age: i64,
        /// Whether the signature matches; `None`: there is no body to verify.
        is_authentic: Option<bool>,
    },
    /// It is older than the tolerance, and a gateway accepted a webhook of the same id before.
    Replayed {
        /// As for [`Time`](Self::Time).
        age: i64,
        accepted_at: Timestamp,
    },
    /// The secret is that of another endpoint.
    OtherEndpoint {
        /// The endpoint that received it.
        received: String,
        /// The endpoint whose secret matches.
        signed: String,
    },
    /// The secret is that of a destination, to which a gateway delivers.
    Destination(String),
    /// The secret lacks `whsec_`.
    PrefixMissing,
    /// The signature was made with the text of the secret as its key.
    KeyNotDecoded,
    /// The body was changed, and the signature matches without the change.
    Body(BodyChange),
    /// The body is another spelling of the JSON that was signed.
    Reserialised(Reserialised),
    /// The signature is that of the body of another request.
    OtherBody {
        /// The other request.
        request: String,
    },
    /// No secret matches, and no change explains it.
    UnknownSecret,
}

/// Two spellings of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reserialised {
    /// A call that writes it as it was signed.
    pub(crate) signed: &'static str,
    /// A call that writes it as it arrived, if one is known.
    pub(crate) arrived: Option<&'static str>,
    /// The parts in which the two differ.
    pub(crate) differences: Vec<&'static str>,
}

impl Cause {
    /// Its stable name, for programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::SecretsCorrected => "secrets_corrected",
            Self::Header(VerificationError::MissingHeader { .. }) => "header_missing",
            Self::Header(VerificationError::ConflictingHeader { .. }) => "header_conflict",
            Self::Header(VerificationError::TooManySignatures) => "too_many_signatures",
            Self::Header(_) => "header_malformed",
            Self::HeaderChanged { change, .. } => change.name,
            Self::Time { age, .. } if *age < -MILLISECONDS_MIN => "timestamp_milliseconds",
            Self::Time { age, .. } if *age < 0 => "too_new",
            Self::Time { .. } => "too_old",
            Self::Replayed { .. } => "replayed",
            Self::OtherEndpoint { .. } => "other_endpoint",
            Self::Destination(_) => "destination_secret",
            Self::PrefixMissing => "prefix_missing",
            Self::KeyNotDecoded => "key_not_decoded",
            Self::Body(change) => change.name,
            Self::Reserialised(_) => "body_reserialised",
            Self::OtherBody { .. } => "other_body",
            Self::UnknownSecret => "unknown",
        }
    }

    /// Result of the trials: a sentence without its end.
    pub(crate) fn finding(&self) -> String {
        match self {
            Self::SecretsCorrected => "The present secrets of the endpoint verify it".into(),
            Self::Header(error) => finding_in_headers(error),
            Self::HeaderChanged { header, change } => format!(
                "The header `{header}` {}, and changed back the signature matches",
                change.finding
            ),
            Self::Time { age, is_authentic } => finding_in_time(*age, *is_authentic),
            Self::Replayed { age, accepted_at } => format!(
                "A webhook with its id was accepted at {accepted_at:.0}, and this one arrived {} \
                 after its timestamp",
                spoken(Duration::from_secs(age.unsigned_abs()))
            ),
            Self::OtherEndpoint { signed, .. } => {
                format!("A secret of the endpoint `{signed}` verifies it")
            }
            Self::Destination(name) => format!(
                "The secret of the destination `{name}` verifies it: a gateway sent it there"
            ),
            Self::PrefixMissing => {
                "With `whsec_` in front of the secret, the signature matches".into()
            }
            Self::KeyNotDecoded => {
                "The signature was made with the text of the secret as the key: \
                                    its base64 was not decoded"
                    .into()
            }
            Self::Body(change) => change.finding.into(),
            Self::Reserialised(spellings) => spellings.finding(),
            Self::OtherBody { request } => {
                format!("The signature is that of the body of {request}")
            }
            Self::UnknownSecret => "No secret of this gateway verifies it".into(),
        }
    }

    /// The next step, in the imperative.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::SecretsCorrected => "run `unwrapd quarantine retry`".into(),
            Self::Header(error) => remedy_in_headers(error).into(),
            Self::HeaderChanged { change, .. } => change.remedy.into(),
            Self::Time { age, .. } if *age < -MILLISECONDS_MIN => {
                "correct the program that sent the request: 13 digits are milliseconds, and \
                 seconds are wanted"
                    .into()
            }
            Self::Time { age, .. } if *age < 0 => {
                "set the clock of this machine, which is slow".into()
            }
            Self::Time { .. } => "find the proxy or queue that held it back, or set the clock of \
                                  this machine, if it is fast"
                .into(),
            Self::Replayed { .. } => {
                "drop it, as nothing is missing, and find who sends or holds back such copies"
                    .into()
            }
            Self::OtherEndpoint { received, .. } => format!(
                "correct its URL at OpenAI, which names `{received}`, or the `secrets` of both"
            ),
            Self::Destination(_) => {
                "verify what a gateway delivers with the secret of the destination, not with that \
                 of OpenAI"
                    .into()
            }
            Self::PrefixMissing => {
                "add whsec_ in front of it, also where the application reads it".into()
            }
            Self::KeyNotDecoded => "correct the program that signed it: the key is what follows \
                                    `whsec_`, decoded from base64"
                .into(),
            Self::Body(change) => change.remedy.into(),
            Self::Reserialised(_) => {
                "verify or pass on the bytes as they arrived, before any JSON \
                                      parser; Express: `express.raw` or `express.text`, FastAPI: \
                                      `await request.body()`, Lambda: `event.body`"
                    .into()
            }
            Self::OtherBody { .. } => "keep the headers and the body of a request together".into(),
            Self::UnknownSecret => "add the endpoint's secret at OpenAI to `secrets`, unless the \
                                    body was changed on its way, or OpenAI did not send it"
                .into(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.finding(), self.remedy())
    }
}

impl Reserialised {
    fn finding(&self) -> String {
        let arrived = match self.arrived {
            Some(arrived) => format!(", now as {} writes it", quoted(arrived)),
            None => String::new(),
        };
        let differences = match &*self.differences {
            [] => String::new(),
            all => format!(" (other {})", all.join(", ")),
        };
        let is_reordered = self.differences.contains(&KEY_ORDER);
        let order = if is_reordered {
            ", with its keys in another order"
        } else {
            ""
        };
        format!(
            "The body was parsed and written again{arrived}{differences}; as {} writes it{order}, \
             the signature matches",
            quoted(self.signed)
        )
    }
}

/// The name of a spelling, marked as code unless it has marks of its own.
fn quoted(name: &str) -> String {
    if name.contains('`') {
        return name.to_owned();
    }
    match name.split_once(" of ") {
        Some((call, language)) => format!("`{call}` of {language}"),
        None => format!("`{name}`"),
    }
}

fn finding_in_headers(error: &VerificationError) -> String {
    match error {
        VerificationError::MissingHeader { name } => format!("The header `{name}` is missing"),
        VerificationError::ConflictingHeader { name } => {
            format!("The header `{name}` has several values")
        }
        VerificationError::TooManySignatures => {
            "The list of signatures is longer than any of OpenAI".into()
        }
        error => {
            let text = error.to_string();
            let mut letters = text.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            first.into_iter().chain(letters).collect()
        }
    }
}

fn remedy_in_headers(error: &VerificationError) -> &'static str {
    match error {
        VerificationError::MissingHeader { .. } => {
            "have the proxy in front pass it on, or ignore the request, if another program than \
             OpenAI sent it"
        }
        VerificationError::ConflictingHeader { .. } => "correct the proxy that adds one",
        VerificationError::TooManySignatures => "ignore the request, or correct its sender",
        _ => "correct the proxy or the sender, as OpenAI sends no such header",
    }
}

fn finding_in_time(age: i64, is_authentic: Option<bool>) -> String {
    let (far, place) = (
        spoken(Duration::from_secs(age.unsigned_abs())),
        if age < 0 { "after" } else { "before" },
    );
    let subject = match is_authentic {
        Some(_) => "The signature is right, and it was made",
        None => "The timestamp is",
    };
    format!("{subject} {far} {place} the arrival")
}
