//! Intended differences from the official SDKs, one ruling for each, with its reason. No other
//! difference is allowed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use openai_webhooks::{
    PayloadProblem, UnwrapError, VerificationError, WEBHOOK_ID, WEBHOOK_SIGNATURE,
    WEBHOOK_TIMESTAMP,
};
use serde_json::value::RawValue;

use crate::peers::{Op, Peer};
use crate::requests::Request;

/// A rule by which the library accepts more than an SDK. `rewrite` turns a request into the one
/// that the SDK accepts, and changes nothing else.
pub(crate) struct Wider {
    pub(crate) name: &'static str,
    pub(crate) peers: &'static [Peer],
    pub(crate) rewrite: fn(&mut Request),
}

/// In the order in which they are applied.
pub(crate) const WIDER: &[Wider] = &[
    // Files and environments add a line end. A key that ends with a blank is never intended.
    Wider {
        name: "blanks around a secret are dropped",
        peers: &[Peer::Python, Peer::Node],
        rewrite: |request| request.secret = trimmed_secret(&request.secret).to_owned(),
    },
    // Copying by double click omits the padding, and the key is still unambiguous. Node pads it
    // too.
    Wider {
        name: "padding that is missing in a secret is added",
        peers: &[Peer::Python],
        rewrite: |request| {
            if request.secret.starts_with("whsec_") {
                let digits = request.secret["whsec_".len()..].trim_end_matches('=').len();
                let length = "whsec_".len() + digits.next_multiple_of(4);
                while request.secret.len() < length {
                    request.secret.push('=');
                }
            }
        },
    },
    // Such blanks are not part of the value (RFC 9110, 5.5). Node's `Headers` drops them; Python
    // relies on the server, and http.server drops only those before the value.
    Wider {
        name: "blanks around the value of a header are dropped",
        peers: &[Peer::Python],
        rewrite: |request| {
            for (_, value) in &mut request.headers {
                *value = trimmed(value).to_vec();
            }
        },
    },
    // A header repeated by a proxy with the same value is no contradiction. Python takes the first,
    // Node joins them.
    Wider {
        name: "a header that is repeated with the same value counts once",
        peers: &[Peer::Node],
        rewrite: |request| {
            for name in [WEBHOOK_ID, WEBHOOK_TIMESTAMP] {
                let values = values(request, name);
                if values.windows(2).all(|pair| pair[0] == pair[1]) {
                    replace(request, name, values.into_iter().next());
                }
            }
        },
    },
    // Lists may be split into several headers (RFC 9110, 5.3). Python takes the first, Node joins
    // them with commas.
    Wider {
        name: "several webhook-signature headers are one list",
        peers: &[Peer::Python, Peer::Node],
        rewrite: |request| {
            let mut lists = values(request, WEBHOOK_SIGNATURE);
            lists.retain(|list| !list.is_empty());
            if lists.len() > 1 || values(request, WEBHOOK_SIGNATURE).len() > 1 {
                replace(request, WEBHOOK_SIGNATURE, Some(lists.join(&b' ')));
            }
        },
    },
    // Python splits at any white space, Node only at blanks.
    Wider {
        name: "signatures may be divided by tabs",
        peers: &[Peer::Node],
        rewrite: |request| {
            for (name, value) in &mut request.headers {
                if name.eq_ignore_ascii_case(WEBHOOK_SIGNATURE) {
                    for byte in value {
                        if *byte == b'\t' {
                            *byte = b' ';
                        }
                    }
                }
            }
        },
    },
    // A proxy joins header lines with `, ` (RFC 9110, 5.3). For both SDKs the comma is a part of
    // the signature.
    Wider {
        name: "signatures may be divided by commas",
        peers: &[Peer::Python, Peer::Node],
        rewrite: |request| {
            for (name, value) in &mut request.headers {
                if name.eq_ignore_ascii_case(WEBHOOK_SIGNATURE) {
                    *value = items(value)
                        .flat_map(divided_at_commas)
                        .collect::<Vec<_>>()
                        .join(&b' ');
                }
            }
        },
    },
    // An invalid item affects only itself. `hmac.compare_digest` raises a TypeError for characters
    // outside ASCII.
    Wider {
        name: "items that are not ASCII are skipped",
        peers: &[Peer::Python],
        rewrite: |request| {
            for (name, value) in &mut request.headers {
                if name.eq_ignore_ascii_case(WEBHOOK_SIGNATURE) && !value.is_ascii() {
                    *value = items(value)
                        .filter(|item| item.is_ascii())
                        .collect::<Vec<_>>()
                        .join(&b' ');
                }
            }
        },
    },
];

/// The name of a rule by which the library accepts a request that an SDK refuses in every form.
pub(crate) fn is_beyond(peer: Peer, op: Op, request: &Request) -> Option<&'static str> {
    let body = std::str::from_utf8(&request.body);
    match (peer, op, body) {
        // Both SDKs decode the body before they verify it. We refuse to unwrap it too.
        (_, Op::Verify, Err(_)) => Some("a body that is not UTF-8 can be authentic"),
        // We never refuse unknown fields, while Python has limits for JSON.
        (Peer::Python, Op::Unwrap, Ok(body)) => {
            if body.contains(&"7".repeat(4301)) {
                Some("an unknown field holds an integer of more than 4300 digits")
            } else if body.contains(&"[".repeat(1000)) {
                Some("an unknown field holds lists a thousand deep")
            } else if body.contains("\"_fields_set\"") {
                Some("an unknown field has the name of a parameter of the SDK's constructor")
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Reason why we refuse a request that an SDK accepts. `None` if there is no good reason.
pub(crate) fn is_stricter(
    peer: Peer,
    request: &Request,
    refusal: Option<&UnwrapError>,
) -> Option<&'static str> {
    use VerificationError as V;
    let is_python = peer == Peer::Python;
    let when = |condition: bool, name| condition.then_some(name);
    match refusal {
        None => Some("a secret that is surely not what was meant"),
        Some(UnwrapError::Verification(error)) => match error {
            V::MissingHeader { name } => {
                when(*name == WEBHOOK_ID, "an empty webhook-id is a missing one")
            }
            V::ConflictingHeader { .. } => when(is_python, "headers that contradict each other"),
            V::MalformedHeader { .. } => Some("a webhook-id that makes the signed text ambiguous"),
            V::MalformedTimestamp => Some("a timestamp that is not 1 to 19 digits"),
            V::TooManySignatures => Some("more than 32 signatures"),
            V::SignatureMismatch if trimmed_secret(&request.secret) != request.secret => {
                Some("the blanks around a secret are no part of the key")
            }
            V::SignatureMismatch if is_python => {
                let is_signed_with_blanks = [WEBHOOK_ID, WEBHOOK_TIMESTAMP]
                    .iter()
                    .any(|name| raw_values(request, name).any(|value| trimmed(value) != value));
                let is_divided_oddly = raw_values(request, WEBHOOK_SIGNATURE)
                    .flatten()
                    .any(|byte| matches!(byte, 0x0b | 0x0c | 0x1c..=0x1f | 0x85 | 0xa0));
                when(
                    is_signed_with_blanks,
                    "the blanks around the value of a header are not signed",
                )
                .or(when(
                    is_divided_oddly,
                    "signatures are divided by blanks and tabs only",
                ))
            }
            V::SignatureMismatch => when(
                values(request, WEBHOOK_SIGNATURE)
                    .iter()
                    .flat_map(|list| items(list))
                    .any(is_loosely_a_signature),
                "a signature is canonical base64",
            ),
            _ => None,
        },
        Some(UnwrapError::Payload(error)) => match error.problem() {
            PayloadProblem::NotAnObject { .. } | PayloadProblem::MissingField { .. } => {
                Some("a body that is no event")
            }
            PayloadProblem::WrongField { .. } => Some("a field that is not what the type promises"),
            PayloadProblem::DuplicateField { .. } => Some("a field that could mean either of two"),
            PayloadProblem::ByteOrderMark => when(is_python, "a byte order mark is not JSON"),
            PayloadProblem::NotJson { .. } | PayloadProblem::CutShort { .. } => {
                let body = String::from_utf8_lossy(&request.body);
                let holds_no_json = ["NaN", "Infinity"]
                    .iter()
                    .any(|literal| body.contains(literal));
                when(is_python && holds_no_json, "NaN and Infinity are not JSON").or(when(
                    serde_json::from_str::<&RawValue>(&body).is_ok(),
                    "a text or a number that none can be",
                ))
            }
            _ => None,
        },
        Some(_) => None,
    }
}

/// The items of a list without blanks: a signature with its `v1`, or one alone after another.
fn divided_at_commas(list: &[u8]) -> Vec<Vec<u8>> {
    let tokens: Vec<&[u8]> = list.split(|&byte| byte == b',').collect();
    if tokens.len() < 3 && (tokens.len() < 2 || tokens[0] == b"v1") {
        return vec![list.to_vec()];
    }
    let mut items = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| tokens[at]);
        let is_second_version = at > 1 && is_version(tokens[at - 2]);
        match before {
            Some(b"v1") if !is_second_version => items.push([b"v1,", *token].concat()),
            None | Some(b"") => items.push(token.to_vec()),
            Some(before) if before.len() >= 44 => items.push(token.to_vec()),
            Some(_) => {}
        }
    }
    items
}

/// A signature may begin with a `v` too, but is longer than any version.
fn is_version(token: &[u8]) -> bool {
    token.len() <= 8 && matches!(token.first(), Some(b'v' | b'V'))
}

/// Without white space and invisible characters around it.
fn trimmed_secret(secret: &str) -> &str {
    secret.trim_matches(|letter: char| letter.is_whitespace() || letter.is_control())
}

/// Node decodes the valid part of an item and ignores the rest.
fn is_loosely_a_signature(item: &[u8]) -> bool {
    let item = item.strip_prefix(b"v1,").unwrap_or(item);
    let digits: Vec<u8> = item
        .split(|&byte| byte == b'=')
        .next()
        .into_iter()
        .flatten()
        .filter_map(|&byte| match byte {
            b'-' => Some(b'+'),
            b'_' => Some(b'/'),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => Some(byte),
            _ => None,
        })
        .take(43)
        .collect();
    // 43 letters hold two bits more than 32 bytes, which may have any value.
    digits.len() == 43 && STANDARD_NO_PAD.decode(&digits[..40]).is_ok()
}

fn raw_values<'r>(request: &'r Request, name: &str) -> impl Iterator<Item = &'r [u8]> {
    request
        .headers
        .iter()
        .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| &value[..])
}

fn values(request: &Request, name: &str) -> Vec<Vec<u8>> {
    raw_values(request, name)
        .map(|value| trimmed(value).to_vec())
        .collect()
}

fn replace(request: &mut Request, name: &str, value: Option<Vec<u8>>) {
    request
        .headers
        .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    request
        .headers
        .extend(value.map(|value| (name.to_owned(), value)));
}

fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| matches!(byte, b' ' | b'\t'))
}

fn trimmed(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte));
    let end = value.iter().rposition(|byte| !is_blank(byte));
    start
        .zip(end)
        .map_or(&value[..0], |(start, end)| &value[start..=end])
}
