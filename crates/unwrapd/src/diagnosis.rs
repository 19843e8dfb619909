//! The cause for which a request was not verified, found by trials with the secrets at hand. Pure.

mod trials;

use std::fmt;

use openai_webhooks::{VerificationError, Webhooks};

use trials::is_of_time;
pub(crate) use trials::{SignedRequest, Trials};

/// A refused request, as far as it is stored.
#[derive(Clone, Copy)]
pub(crate) struct Refused<'r> {
    /// The endpoint that received it.
    pub(crate) endpoint: &'r str,
    pub(crate) headers: &'r [(String, String)],
    /// `None`: not stored.
    pub(crate) body: Option<&'r [u8]>,
    /// Time of arrival, in Unix seconds.
    pub(crate) arrived_at: i64,
}

/// The cause of a refusal. As text, it is a sentence for the operator, with the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The present secrets of the endpoint verify it.
    SecretsCorrected,
    /// A header is missing or malformed.
    Header(VerificationError),
    /// Its time is outside the tolerance.
    Time {
        /// Time from the signature to the arrival, in seconds. Negative: it arrived before.
        age: i64,
        /// Whether the signature matches; `None`: there is no body to verify.
        is_authentic: Option<bool>,
    },
    /// The secret is that of another endpoint.
    OtherEndpoint {
        /// The endpoint that received it.
        received: String,
        /// The endpoint whose secret matches.
        signed: String,
    },
    /// A line end was added to the body.
    LineEndAdded,
    /// No secret matches.
    UnknownSecret,
}

impl Refused<'_> {
    /// The cause as far as the headers show it.
    pub(crate) fn cause_in_headers(&self, own: &Webhooks) -> Option<Cause> {
        match own.check_headers_at(self.headers, self.arrived_at) {
            Ok(()) => None,
            Err(error) if is_of_time(&error) => Some(self.cause_in_time(None)),
            Err(error) => Some(Cause::Header(error)),
        }
    }

    fn cause_in_time(&self, is_authentic: Option<bool>) -> Cause {
        let request = SignedRequest {
            headers: self.headers,
            body: b"",
        };
        let sent_at = request.sent_at().unwrap_or(self.arrived_at);
        Cause::Time {
            age: self.arrived_at.saturating_sub(sent_at),
            is_authentic,
        }
    }

    /// The cause, by trials with the secrets of its endpoint, and with those of the others. Hashes
    /// the body up to twice for each secret of `own`, and once for each of the others.
    pub(crate) fn cause<'e>(
        &self,
        own: &Webhooks,
        mut others: impl Iterator<Item = (&'e str, &'e Webhooks)>,
    ) -> Option<Cause> {
        let in_headers = self.cause_in_headers(own);
        let Some(body) = self.body else {
            return in_headers;
        };
        if matches!(in_headers, Some(Cause::Header(_))) {
            return in_headers;
        }
        let request = SignedRequest {
            headers: self.headers,
            body,
        };
        let trials = Trials::of(own, request, self.arrived_at);
        if trials.at_arrival.is_ok() {
            return Some(Cause::SecretsCorrected);
        }
        match trials.when_sent {
            Ok(_) => return Some(self.cause_in_time(Some(true))),
            Err(VerificationError::SignatureMismatch) => {}
            Err(error) => return Some(Cause::Header(error)),
        }
        if trials.matches_without_line_end {
            return Some(Cause::LineEndAdded);
        }
        let signed = others.find(|(_, webhooks)| request.matches(webhooks));
        Some(match signed {
            Some((signed, _)) => Cause::OtherEndpoint {
                received: self.endpoint.to_owned(),
                signed: signed.to_owned(),
            },
            None => Cause::UnknownSecret,
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretsCorrected => f.write_str(
                "The present secrets of the endpoint verify it: run `unwrapd quarantine retry`",
            ),
            Self::Header(VerificationError::MissingHeader { name }) => write!(
                f,
                "The header `{name}` is missing: a proxy removed it, which must pass it on, or \
                 another program than OpenAI sent the request"
            ),
            Self::Header(VerificationError::ConflictingHeader { name }) => write!(
                f,
                "The header `{name}` has several values: correct the proxy that adds one"
            ),
            Self::Header(VerificationError::TooManySignatures) => f.write_str(
                "The list of signatures is longer than any of OpenAI: ignore the request, or \
                 correct its sender",
            ),
            Self::Header(error) => write!(
                f,
                "{error}; OpenAI sends no such header: ignore the request, or correct its sender"
            ),
            Self::Time { age, is_authentic } => time(f, *age, *is_authentic),
            Self::OtherEndpoint { received, signed } => write!(
                f,
                "A secret of the endpoint `{signed}` verifies it: correct its URL at OpenAI, which \
                 names `{received}`, or the `secrets` of both"
            ),
            Self::LineEndAdded => f.write_str(
                "A line end was added to the body, and without it the signature matches: have the \
                 proxy or the script pass the body on unchanged",
            ),
            Self::UnknownSecret => f.write_str(
                "No secret of this gateway verifies it: add the endpoint's secret at OpenAI to \
                 `secrets`, unless the body was changed on its way, or OpenAI did not send it",
            ),
        }
    }
}

fn time(f: &mut fmt::Formatter<'_>, age: i64, is_authentic: Option<bool>) -> fmt::Result {
    let (far, place) = (
        spoken(age.unsigned_abs()),
        if age < 0 { "after" } else { "before" },
    );
    let subject = match is_authentic {
        Some(_) => "The signature is right, and it was made",
        None => "The timestamp is",
    };
    write!(f, "{subject} {far} {place} the arrival: ")?;
    f.write_str(if age < -MILLISECONDS_MIN {
        "it is not in seconds, so correct the program that sent the request"
    } else if age < 0 {
        "set the clock of this machine, which is slow"
    } else {
        "find the proxy or queue that held it back, or set the clock of this machine, if it is fast"
    })
}

/// A timestamp this far ahead has 12 digits or more, so it is not in seconds.
const MILLISECONDS_MIN: i64 = 99_999_999_999;

/// A time in its largest fitting unit.
fn spoken(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / MINUTE),
        7_200..=172_799 => format!("{} h", seconds / HOUR),
        _ => format!("{} days", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    const OTHER: &str = "whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA";
    const UNKNOWN: &str = "whsec_////////////////////////////////";
    const SENT_AT: i64 = 1_750_000_000;

    fn webhooks(secret: &str) -> Webhooks {
        Webhooks::new(secret).unwrap()
    }

    /// The cause of a request with this body, which `secret` has signed for another body.
    fn cause(secret: &str, signed: &str, body: Option<&str>, late: i64) -> Option<Cause> {
        let headers = webhooks(secret).sign(signed, "wh_1", SENT_AT).unwrap();
        let headers: Vec<(String, String)> = headers
            .pairs()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let refused = Refused {
            endpoint: "production",
            headers: &headers,
            body: body.map(str::as_bytes),
            arrived_at: SENT_AT + late,
        };
        let other = webhooks(OTHER);
        refused.cause(&webhooks(OWN), [("staging", &other)].into_iter())
    }

    #[test]
    fn a_secret_that_is_right_by_now_is_the_cause() {
        assert_eq!(
            cause(OWN, "{}", Some("{}"), 0),
            Some(Cause::SecretsCorrected)
        );
    }

    #[test]
    fn the_secret_of_another_endpoint_is_named_by_its_endpoint_also_for_an_old_request() {
        let expected = Cause::OtherEndpoint {
            received: "production".into(),
            signed: "staging".into(),
        };
        for late in [0, 5_000] {
            assert_eq!(cause(OTHER, "{}", Some("{}"), late), Some(expected.clone()));
        }
        assert!(expected.to_string().contains("`staging`"));
    }

    #[test]
    fn a_line_end_that_was_added_is_found() {
        for body in ["{}\n", "{}\r\n"] {
            assert_eq!(cause(OWN, "{}", Some(body), 0), Some(Cause::LineEndAdded));
        }
    }

    #[test]
    fn a_body_or_a_secret_that_nobody_knows_is_told_apart_from_nothing() {
        for (secret, body) in [(UNKNOWN, "{}"), (OWN, "{ }")] {
            assert_eq!(
                cause(secret, "{}", Some(body), 0),
                Some(Cause::UnknownSecret)
            );
        }
        assert_eq!(cause(UNKNOWN, "{}", None, 0), None);
    }

    #[test]
    fn a_time_outside_the_tolerance_is_told_with_its_distance() {
        let old = cause(OWN, "{}", Some("{}"), 6 * 3600 + 59)
            .unwrap()
            .to_string();
        assert!(
            old.starts_with("The signature is right, and it was made 6 h before"),
            "{old}"
        );
        let new = cause(OWN, "{}", Some("{}"), -600).unwrap().to_string();
        assert!(
            new.contains("10 min after the arrival: set the clock"),
            "{new}"
        );
        let unknown = cause(OWN, "{}", None, 400_000).unwrap().to_string();
        assert!(
            unknown.starts_with("The timestamp is 4 days before"),
            "{unknown}"
        );
    }

    #[test]
    fn a_missing_header_is_named() {
        let headers = [("webhook-id".to_owned(), "wh_1".to_owned())];
        let refused = Refused {
            endpoint: "production",
            headers: &headers,
            body: Some(b"{}"),
            arrived_at: SENT_AT,
        };
        let cause = refused.cause(&webhooks(OWN), std::iter::empty()).unwrap();
        let text = cause.to_string();
        assert!(text.contains("`webhook-timestamp` is missing"), "{text}");
    }

    #[test]
    fn no_cause_shows_a_secret_or_a_signature() {
        let secret = OWN.trim_start_matches("whsec_");
        for (signer, body, late) in [(OWN, "{}", 0), (UNKNOWN, "{}", 0), (OWN, "{}", 9_000)] {
            let text = cause(signer, "{}", Some(body), late).unwrap().to_string();
            assert!(!text.contains(secret) && !text.contains("v1,"), "{text}");
        }
    }
}
