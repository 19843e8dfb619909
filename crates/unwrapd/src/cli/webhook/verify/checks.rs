//! The checks of one request.

use jiff::Timestamp;
use openai_webhooks::{
    DEFAULT_TOLERANCE, VerificationError, Verified, WEBHOOK_ID, WEBHOOK_SIGNATURE,
};

use super::report::{Check, Report};
use super::secrets::KnownSecrets;
use crate::cli::webhook::request::MILLISECONDS_MIN;
use crate::cli::webhook::saved_request::{Form, SavedRequest};
use crate::diagnosis::{
    Cause, Diagnosis, KeyOrders, Refused, SignedRequest, Tried, Work, is_of_time,
};
use crate::printable::{counted, spoken};

/// Most bytes that are hashed for one request: about a second.
const HASHED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A request to check, and what is known about it.
pub(super) struct Subject<'s> {
    pub(super) name: &'s str,
    pub(super) request: &'s SavedRequest,
    pub(super) body: &'s [u8],
    pub(super) known: &'s KnownSecrets,
    pub(super) arrival: Arrival,
    /// The names and bodies of the other requests.
    pub(super) others: &'s [(&'s str, &'s [u8])],
}

/// Arrival of a request, in Unix seconds.
#[derive(Clone, Copy)]
pub(super) enum Arrival {
    Known(i64),
    /// It is taken to arrive now.
    Now(i64),
}

impl Arrival {
    fn time(self) -> i64 {
        let (Self::Known(time) | Self::Now(time)) = self;
        time
    }
}

/// The results from which the checks follow.
struct Results<'s> {
    /// The error in the headers, other than that of the time.
    in_headers: Option<VerificationError>,
    /// The proof that the signature is right, whatever the time.
    verified: Option<Verified<'s>>,
    /// `None`: it is authentic.
    refusal: Option<Diagnosis>,
}

impl Results<'_> {
    fn cause(&self) -> Option<&Cause> {
        self.refusal.as_ref()?.cause.as_ref()
    }
}

impl<'s> Subject<'s> {
    /// Makes the checks.
    pub(super) fn report(&self) -> Report {
        let results = self.results();
        let mut checks: Vec<Check> = self.reading().into_iter().collect();
        checks.push(self.headers(&results));
        checks.push(self.time(&results));
        checks.push(self.signature(&results));
        checks.push(event(results.verified.as_ref()));
        let cause = results.cause().filter(|it| **it != Cause::UnknownSecret);
        let cause = cause.map(|cause| cause.name().to_owned());
        let moment = |time: Option<i64>| Timestamp::from_second(time?).ok();
        let arrived_at = match self.arrival {
            Arrival::Known(time) => moment(Some(time)),
            Arrival::Now(_) => None,
        };
        let secret = results.verified.as_ref();
        Report {
            request: self.name.to_owned(),
            form: self.request.form.as_str(),
            authentic: results.refusal.is_none(),
            cause,
            webhook_id: self.request.value(WEBHOOK_ID).map(str::to_owned),
            sent_at: moment(self.signed(self.body).sent_at()),
            arrived_at,
            secret: secret.map(|verified| self.known.source(verified.secret_index()).to_owned()),
            checks,
            tried: results.refusal.map(|refusal| refusal.tried),
        }
    }

    fn signed(&self, body: &'s [u8]) -> SignedRequest<'s> {
        SignedRequest {
            headers: &self.request.headers,
            body,
        }
    }

    fn results(&self) -> Results<'s> {
        let webhooks = &self.known.webhooks;
        let signed = self.signed(self.body);
        let checked = webhooks.check_headers_at(signed.headers, self.arrival.time());
        let verified = signed.verify_when_sent(webhooks).and_then(Result::ok);
        let is_authentic = checked.is_ok() && verified.is_some();
        Results {
            in_headers: checked.err().filter(|error| !is_of_time(error)),
            verified,
            refusal: (!is_authentic).then(|| self.diagnosis()),
        }
    }

    fn diagnosis(&self) -> Diagnosis {
        let refused = Refused {
            headers: &self.request.headers,
            body: Some(self.body),
            arrived_at: self.arrival.time(),
        };
        let mut work = Work::of_bytes(HASHED_BYTES_MAX);
        let (own, others) = (self.known.own(), self.known.others());
        let mut diagnosis = refused.diagnose(own, others, KeyOrders::All, &mut work);
        if matches!(diagnosis.cause, Some(Cause::UnknownSecret) | None) {
            diagnosis.cause = self.other_body().or(diagnosis.cause);
        }
        diagnosis
    }

    /// The other request whose body has this signature.
    fn other_body(&self) -> Option<Cause> {
        let mut others = self.others.iter();
        let (request, _) = others.find(|(_, body)| {
            let verified = self.signed(body).verify_when_sent(&self.known.webhooks);
            verified.is_some_and(|verified| verified.is_ok())
        })?;
        Some(Cause::OtherBody {
            request: (*request).to_owned(),
        })
    }

    /// The form of the request, unless it is the usual one.
    fn reading(&self) -> Option<Check> {
        let SavedRequest { form, note, .. } = self.request;
        let check = Check::ok("request", format!("read as {form}"));
        match note {
            Some(note) => Some(check.finding(*note)),
            None => (*form != Form::Http).then_some(check),
        }
    }

    fn headers(&self, results: &Results<'_>) -> Check {
        const NAME: &str = "headers";
        let cause = results.cause();
        if let Some(error) = &results.in_headers {
            let check = Check::failed(NAME, error.to_string());
            return match cause {
                Some(cause @ Cause::HeaderChanged { .. }) => check.of_cause(cause),
                Some(cause) => check.remedied(cause),
                None => check,
            };
        }
        if let Some(cause @ Cause::HeaderChanged { .. }) = cause {
            return Check::failed(NAME, "complete, and changed").of_cause(cause);
        }
        let list = self.request.value(WEBHOOK_SIGNATURE).unwrap_or_default();
        let items = list.split_ascii_whitespace().count();
        let items = counted(items as u64, "signature", "signatures");
        Check::ok(NAME, format!("complete, {items}"))
    }

    fn time(&self, results: &Results<'_>) -> Check {
        const NAME: &str = "time";
        let sent_at = self.signed(self.body).sent_at();
        let Some(sent_at) = sent_at.filter(|_| results.in_headers.is_none()) else {
            return Check::not_checked(NAME, "not compared: a header is missing or malformed");
        };
        let cause = results.cause();
        let is_of_time = matches!(cause, Some(Cause::Time { .. }));
        if sent_at >= MILLISECONDS_MIN {
            let check = Check::failed(NAME, "its number is too large for seconds");
            return match cause {
                Some(cause) if is_of_time => check.remedied(cause),
                _ => check,
            };
        }
        let age = self.arrival.time().saturating_sub(sent_at);
        let far = spoken(std::time::Duration::from_secs(age.unsigned_abs()));
        let distance = match (self.arrival, age >= 0) {
            (Arrival::Known(_), true) => format!("sent {far} before it arrived"),
            (Arrival::Known(_), false) => format!("sent {far} after it arrived"),
            (Arrival::Now(_), true) => format!("sent {far} ago"),
            (Arrival::Now(_), false) => format!("sent {far} in the future"),
        };
        let tolerance = DEFAULT_TOLERANCE.as_secs();
        if age.unsigned_abs() <= tolerance {
            return Check::ok(NAME, distance);
        }
        let check = Check::failed(NAME, format!("{distance}, and {tolerance} s are allowed"));
        match (cause, self.arrival) {
            (_, Arrival::Now(_)) if age > 0 => check.remedy(
                "Give the time of its arrival with --at. If it arrives now, it was replayed or \
                 held back, or the clock here is fast.",
            ),
            (Some(cause), _) if is_of_time => check.remedied(cause),
            _ => check,
        }
    }

    fn signature(&self, results: &Results<'_>) -> Check {
        const NAME: &str = "signature";
        let count = self.known.count();
        if let Some(verified) = &results.verified {
            let index = verified.secret_index();
            let source = self.known.source(index);
            return Check::ok(
                NAME,
                match count {
                    1 => "matches the secret".to_owned(),
                    _ => format!("matches {source} (secret {} of {count})", index + 1),
                },
            );
        }
        if results.in_headers.is_some() {
            return Check::not_checked(NAME, "not compared: a header is missing or malformed");
        }
        let detail = match count {
            1 => "the secret does not match".to_owned(),
            count => format!("none of the {count} secrets matches"),
        };
        let tried = results.refusal.as_ref().map(|refusal| refusal.tried);
        let tried = tried.map(spoken_trials).unwrap_or_default();
        match results.cause() {
            Some(Cause::HeaderChanged { header, .. }) => {
                Check::failed(NAME, format!("{detail}, because `{header}` was changed"))
            }
            Some(Cause::UnknownSecret) => Check::failed(NAME, detail)
                .finding(format!("{tried}{}", self.length()))
                .remedy(
                    "Compare the secret with that of the endpoint at OpenAI, and save the bytes of \
                     the body as they arrive, before any parser. Or OpenAI did not send it.",
                ),
            Some(cause) => Check::failed(NAME, detail).of_cause(cause),
            None => Check::failed(NAME, detail)
                .finding(format!(
                    "The body is too large for all trials. {tried}{}",
                    self.length()
                ))
                .remedy("Compare the secret with that of the endpoint at OpenAI."),
        }
    }

    /// A difference between the body and its `content-length`, which is no proof of a cause.
    fn length(&self) -> String {
        let length = self.request.value("content-length");
        let length = length.and_then(|length| length.parse::<usize>().ok());
        match length.filter(|length| *length != self.body.len()) {
            Some(length) => format!(
                " The body has {} bytes, and `content-length` says {length}.",
                self.body.len()
            ),
            None => String::new(),
        }
    }
}

fn event(verified: Option<&Verified<'_>>) -> Check {
    const NAME: &str = "event";
    let Some(verified) = verified else {
        return Check::not_checked(NAME, "not read: the signature is not verified");
    };
    match verified.event() {
        Ok(event) => Check::ok(NAME, format!("{} {}", event.kind(), event.id())),
        Err(error) => Check::failed(
            NAME,
            format!(
                "the body is authentic but not an event: {}",
                error.problem()
            ),
        ),
    }
}

/// The trials that found no match.
fn spoken_trials(tried: Tried) -> String {
    let kinds = [
        (tried.secrets, "other secret", "other secrets"),
        (
            tried.headers,
            "change of the headers",
            "changes of the headers",
        ),
        (tried.bodies, "change of the body", "changes of the body"),
        (
            tried.spellings,
            "other spelling of its JSON",
            "other spellings of its JSON",
        ),
        (
            tried.orders,
            "other order of its keys",
            "other orders of its keys",
        ),
    ];
    let kinds = kinds.into_iter().filter(|(count, ..)| *count > 0);
    let kinds: Vec<String> = kinds
        .map(|(count, one, many)| counted(count as u64, one, many))
        .collect();
    if kinds.is_empty() {
        return "Nothing else was tried.".into();
    }
    format!("Tried without a match: {}.", kinds.join(", "))
}
