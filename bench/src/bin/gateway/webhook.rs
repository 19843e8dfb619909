//! OpenAI as a sender: events that all differ, with valid signatures.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use openai_webhooks::{WebhookHeaders, Webhooks};

pub const SECRET: &str = "whsec_BwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSY=";

/// Start of every event body. The send time follows: nanoseconds since 1970 as
/// [`SENT_AT_DIGITS`] hexadecimal digits.
const BODY_START: &str = r#"{"id": "evt_"#;
const SENT_AT_DIGITS: usize = 16;
/// Prefix of a body that contains the whole event type. Only these bytes are searched.
const TYPE_BYTES_MAX: usize = 140;

/// Order of webhook ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ids {
    /// Unix seconds, then random digits, like OpenAI's ids.
    LedByTime,
    /// Random digits only.
    Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A thin `response.completed`.
    Response,
    /// `realtime.call.incoming` with a few SIP headers.
    Call,
}

pub struct OpenAi {
    webhooks: Webhooks,
    ids: Ids,
    kind: Kind,
    rng: fastrand::Rng,
}

impl OpenAi {
    pub fn new(ids: Ids, kind: Kind) -> Self {
        Self {
            webhooks: Webhooks::new(SECRET).expect("a valid secret"),
            ids,
            kind,
            rng: fastrand::Rng::new(),
        }
    }

    /// Creates the next event: its three signed headers and its body.
    pub fn event(&mut self) -> (WebhookHeaders, String) {
        let now = since_1970();
        let seconds = now.as_secs();
        let id = match self.ids {
            Ids::LedByTime => format!("wh_{seconds:08x}{:024x}", self.rng.u128(..) >> 32),
            Ids::Random => format!("wh_{:032x}", self.rng.u128(..)),
        };
        let (evt, data) = (self.rng.u64(..), self.rng.u128(..));
        let sent_at = now.as_nanos();
        let body = match self.kind {
            Kind::Response => format!(
                r#"{BODY_START}{sent_at:016x}{evt:016x}", "object": "event", "created_at": {seconds}, "type": "response.completed", "data": {{"id": "resp_{data:032x}"}}}}"#
            ),
            Kind::Call => format!(
                r#"{BODY_START}{sent_at:016x}{evt:016x}", "object": "event", "created_at": {seconds}, "type": "realtime.call.incoming", "data": {{"call_id": "rtc_u0_{data:032x}", "sip_headers": [{{"name": "From", "value": "sip:alice@example.com"}}, {{"name": "To", "value": "sip:proj_1@sip.api.openai.com"}}, {{"name": "Call-ID", "value": "{evt:016x}@example.com"}}]}}}}"#
            ),
        };
        let headers = self
            .webhooks
            .sign(
                &body,
                id,
                i64::try_from(seconds).expect("the clock is right"),
            )
            .expect("the id is valid");
        (headers, body)
    }

    /// Writes the next event into `request` as an HTTP/1.1 request, with the headers that a proxy
    /// adds.
    pub fn write(&mut self, request: &mut Vec<u8>, host: &str, path: &str) {
        use std::io::Write as _;
        let (headers, body) = self.event();
        request.clear();
        write!(
            request,
            "POST {path} HTTP/1.1\r\n\
             host: {host}\r\n\
             user-agent: OpenAI/1.0\r\n\
             accept: */*\r\n\
             accept-encoding: gzip, deflate\r\n\
             x-forwarded-for: 203.0.113.7\r\n\
             x-forwarded-proto: https\r\n\
             content-type: application/json\r\n\
             content-length: {}\r\n\
             webhook-id: {}\r\n\
             webhook-timestamp: {}\r\n\
             webhook-signature: {}\r\n\r\n{body}",
            body.len(),
            headers.id,
            headers.timestamp,
            headers.signature,
        )
        .expect("a write to memory never fails");
    }
}

/// The kind of a received event, and its latency since it was sent.
pub fn kind_and_latency(body: &[u8]) -> Option<(Kind, Duration)> {
    let digits = body.get(BODY_START.len()..BODY_START.len() + SENT_AT_DIGITS)?;
    let sent_at = u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    let latency = since_1970().saturating_sub(Duration::from_nanos(sent_at));
    let start = &body[..body.len().min(TYPE_BYTES_MAX)];
    let kind = if memchr::memmem::find(start, b"call.incoming").is_some() {
        Kind::Call
    } else {
        Kind::Response
    };
    Some((kind, latency))
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
}
