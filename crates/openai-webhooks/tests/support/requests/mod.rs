//! Random requests: most are regular in most of their parts, and unusual in one or two. The unusual
//! parts are those of senders, proxies, operators and attackers, and those about which the official
//! SDKs disagree.

mod bodies;
mod headers;
mod secrets;
mod signatures;
mod tampering;
mod times;

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use openai_webhooks::{Secret, Webhooks};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use sha2::Sha256;

use headers::header_forms;
use secrets::secrets;
use signatures::signature_lists;
use tampering::tampering;
use times::times;

pub(crate) use bodies::{bodies, unknown_events};

/// All inputs of a verdict.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) secret: String,
    /// In the order of arrival.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) now: i64,
    /// `None` for the default.
    pub(crate) tolerance: Option<u64>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "request")?;
        writeln!(f, "  secret: {:?}", self.secret)?;
        for (name, value) in &self.headers {
            writeln!(f, "  {name}: \"{}\"", value.escape_ascii())?;
        }
        writeln!(f, "  now {}, tolerance {:?}", self.now, self.tolerance)?;
        write!(f, "  body: \"{}\"", self.body.escape_ascii())
    }
}

/// The signature of a sender with this key.
pub(crate) fn sign(key: &[u8], id: &[u8], timestamp: &[u8], body: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(&[id, b".", timestamp, b".", body].concat());
    mac.finalize().into_bytes().to_vec()
}

/// The secrets of these keys, and a sender that signs with all of them.
pub(crate) fn sender(keys: Vec<Vec<u8>>) -> (Vec<Secret>, Webhooks) {
    let secrets: Vec<Secret> = keys
        .into_iter()
        .map(|key| Secret::from_key(key).expect("a key of this length"))
        .collect();
    let first = Webhooks::from(&secrets[0]);
    let sender = secrets[1..].iter().fold(first, Webhooks::and);
    (secrets, sender)
}

pub(crate) fn requests(bodies: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Request> {
    (
        secrets(),
        ids(),
        times(),
        bodies,
        signature_lists(),
        header_forms(),
        tampering(),
    )
        .prop_map(|(secret, id, time, body, list, form, tampering)| {
            let mac = sign(&secret.key, &id, &time.signed, &body);
            let mut request = Request {
                secret: secret.text,
                headers: form.headers(&id, &time.sent, list.values(&mac)),
                body,
                now: time.now,
                tolerance: time.tolerance,
            };
            tampering.apply_to(&mut request);
            request
        })
}

fn ids() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        24 => "wh_[0-9a-f]{32}".prop_map(String::into_bytes),
        4 => "[!-\\-/-~]{1,40}".prop_map(String::into_bytes),
        1 => select(vec![255, 256, 257, 300]).prop_map(|length| vec![b'x'; length]),
        1 => "wh_[0-9a-f]{0,4}[. \t][0-9a-f]{0,4}".prop_map(String::into_bytes),
        1 => select(vec!["", " ", ".", "wh_é", "wh_\u{7f}", "wh_\u{1}", "１"]).prop_map(|id| id.as_bytes().to_vec()),
        1 => vec(header_byte(), 1..20),
    ]
}

/// A byte that an HTTP server may pass in the value of a header.
fn header_byte() -> impl Strategy<Value = u8> {
    any::<u8>().prop_filter("ends the header", |byte| !b"\0\r\n".contains(byte))
}
