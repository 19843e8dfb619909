//! The three requests of the benchmark. Each round signs them again, because most contestants read
//! the real clock.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use openai_webhooks::Webhooks;

pub const SECRET: &str = "whsec_BwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSY=";

/// A webhook id as long as OpenAI's.
const WEBHOOK_ID: &str = "wh_685c059b38a08190a4da97a6bd6cd6d1";

/// The bodies: small, medium and large.
pub const SIZES: [fn() -> String; 3] = [thin_event, call, call_with_many_headers];

pub struct Request {
    pub body: String,
    pub headers: HeaderMap,
    pub now: i64,
}

impl Request {
    pub fn signed_now(body: String) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since_1970.expect("the clock is past 1970").as_secs();
        let now = i64::try_from(seconds).expect("the clock is right");
        let signed = Webhooks::new(SECRET)
            .expect("the secret is valid")
            .sign(&body, WEBHOOK_ID, now)
            .expect("the id is valid");
        Self {
            headers: UNSIGNED_HEADERS
                .into_iter()
                .chain(signed.pairs())
                .map(header)
                .collect(),
            body,
            now,
        }
    }

    /// Number of 64-byte blocks that SHA-256 must compress: the signed text with its padding, and
    /// the outer hash of the HMAC. The two key blocks can be hashed once for all requests.
    pub fn sha256_blocks(&self) -> usize {
        let signed_bytes = WEBHOOK_ID.len() + ".1750861210.".len() + self.body.len();
        let padding_bytes_min = 9;
        (signed_bytes + padding_bytes_min).div_ceil(64) + 1
    }
}

/// The other headers of a webhook that arrives through a proxy.
const UNSIGNED_HEADERS: [(&str, &str); 7] = [
    ("host", "example.com"),
    ("user-agent", "OpenAI/1.0"),
    ("content-type", "application/json"),
    ("accept", "*/*"),
    ("accept-encoding", "gzip, deflate"),
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
];

fn header((name, value): (&'static str, &str)) -> (HeaderName, HeaderValue) {
    let value = HeaderValue::from_str(value).expect("printable ASCII");
    (HeaderName::from_static(name), value)
}

/// 148 bytes.
fn thin_event() -> String {
    r#"{"id": "evt_685c059ae3a481909bdc86819b066fb6", "object": "event", "created_at": 1750861210, "type": "response.completed", "data": {"id": "resp_12"}}"#.to_owned()
}

/// 571 bytes, 8 SIP headers.
fn call() -> String {
    call_event(SIP_HEADERS.map(|(name, value)| sip_header(name, value)))
}

/// 16 KiB, 178 SIP headers.
fn call_with_many_headers() -> String {
    let sip_headers = SIP_HEADERS.iter().cycle().zip(100..278);
    call_event(sip_headers.map(|((name, value), number)| {
        sip_header(
            &format!("X-{name}-{number}"),
            &format!("{value};received=192.0.2.1;branch=z9hG4bK776as"),
        )
    }))
}

const SIP_HEADERS: [(&str, &str); 8] = [
    ("From", "<sip:alice@example.com>"),
    ("To", "<sip:proj_1@api.openai.com>"),
    ("Call-ID", "call-123@example.com"),
    ("Via", "SIP/2.0/UDP"),
    ("CSeq", "1 INVITE"),
    ("Max-Forwards", "63"),
    ("Allow", "INVITE, ACK"),
    ("Expires", "180"),
];

fn sip_header(name: &str, value: &str) -> String {
    format!(r#"{{"name": "{name}", "value": "{value}"}}"#)
}

fn call_event(sip_headers: impl IntoIterator<Item = String>) -> String {
    let sip_headers: Vec<String> = sip_headers.into_iter().collect();
    format!(
        r#"{{"id": "evt_685c059ae3a481909bdc86819b066fb6", "object": "event", "created_at": 1750861210, "type": "realtime.call.incoming", "data": {{"call_id": "rtc_u0_479a275623b54bdb9b6fbae2f7cbd408", "sip_headers": [{}]}}}}"#,
        sip_headers.join(", ")
    )
}
