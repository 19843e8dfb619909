//! The rules for what a verifier must answer, stated a second time and in the plainest way: no early exit, no sharing with the
//! library, the signature compared as text. A request that breaks several rules may be refused for any of them.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use openai_webhooks::{EventType, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::requests::{Request, sign};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    Ok,
    Config,
    Header,
    Timestamp,
    Signature,
    Payload,
}

/// The answers that are right when only the signature is asked about.
pub(crate) fn verify(request: &Request) -> BTreeSet<Answer> {
    let Some(key) = key_of(&request.secret) else {
        return BTreeSet::from([Answer::Config]);
    };
    let mut wrong = BTreeSet::new();
    let id = single_value(request, WEBHOOK_ID);
    let timestamp = single_value(request, WEBHOOK_TIMESTAMP);
    let lists: Vec<&[u8]> = values(request, WEBHOOK_SIGNATURE)
        .filter(|value| !value.is_empty())
        .collect();

    let is_id_good = id.is_some_and(|id| {
        id.len() <= 256
            && id
                .iter()
                .all(|&byte| matches!(byte, b'!'..=b'~') && byte != b'.')
    });
    if !is_id_good || timestamp.is_none() || lists.is_empty() {
        wrong.insert(Answer::Header);
    }
    if let Some(timestamp) = timestamp {
        let digits = std::str::from_utf8(timestamp)
            .ok()
            .filter(|text| text.len() <= 19 && text.bytes().all(|letter| letter.is_ascii_digit()));
        let seconds = digits.map(|digits| digits.parse::<i128>().expect("digits"));
        let tolerance = i128::from(request.tolerance.unwrap_or(300));
        if seconds.is_none_or(|seconds| (seconds - i128::from(request.now)).abs() > tolerance) {
            wrong.insert(Answer::Timestamp);
        }
    }
    if let (Some(id), Some(timestamp)) = (id, timestamp) {
        let good = STANDARD.encode(sign(&key, id, timestamp, &request.body));
        let is_good = |item: &[u8]| item.strip_prefix(b"v1,").unwrap_or(item) == good.as_bytes();
        if !lists.iter().any(|list| items(list).any(is_good)) {
            wrong.insert(Answer::Signature);
        }
    }
    let count = |lists: &[&[u8]]| lists.iter().map(|list| items(list).count()).sum::<usize>();
    let mut distinct = lists.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if count(&distinct) > 32 {
        wrong.insert(Answer::Signature);
    }
    if wrong.is_empty() {
        wrong.insert(Answer::Ok);
        if count(&lists) > 32 {
            // The rules do not say whether a header that is repeated counts again.
            wrong.insert(Answer::Signature);
        }
    }
    wrong
}

/// The answers that are right when the event is asked for too.
pub(crate) fn unwrap(request: &Request) -> BTreeSet<Answer> {
    let mut answers = verify(request);
    if answers.remove(&Answer::Ok) {
        match is_event(&request.body) {
            Some(true) => answers.insert(Answer::Ok),
            Some(false) => answers.insert(Answer::Payload),
            None => {
                answers.insert(Answer::Ok);
                answers.insert(Answer::Payload)
            }
        };
    }
    answers
}

fn key_of(secret: &str) -> Option<Vec<u8>> {
    let secret = secret.trim_matches([' ', '\t', '\n', '\r', '\u{c}']);
    let is_quoted = |letter| secret.starts_with(letter) || secret.ends_with(letter);
    if secret.is_empty() || is_quoted('"') || is_quoted('\'') || secret.starts_with("v1,") {
        return None;
    }
    let Some(encoded) = secret.strip_prefix("whsec_") else {
        let is_prefix_in_other_case = secret.to_ascii_lowercase().starts_with("whsec_");
        return (!is_prefix_in_other_case).then(|| secret.as_bytes().to_vec());
    };
    // Padding may be missing, or a part of it; there is never more of it than belongs there.
    let digits = encoded.trim_end_matches('=');
    let padding = encoded.len() - digits.len();
    if padding > digits.len().next_multiple_of(4) - digits.len() {
        return None;
    }
    let key = STANDARD_NO_PAD.decode(digits).ok()?;
    (key.len() >= 24).then_some(key)
}

/// The values of a header, without the blanks around them that do not belong to it.
fn values<'r>(request: &'r Request, name: &str) -> impl Iterator<Item = &'r [u8]> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    request
        .headers
        .iter()
        .filter(move |(other, _)| other.to_lowercase() == name)
        .map(move |(_, value)| {
            let start = value.iter().position(|byte| !is_blank(byte));
            let end = value.iter().rposition(|byte| !is_blank(byte));
            start
                .zip(end)
                .map_or(&value[..0], |(start, end)| &value[start..=end])
        })
}

fn single_value<'r>(request: &'r Request, name: &str) -> Option<&'r [u8]> {
    let values: BTreeSet<&[u8]> = values(request, name).collect();
    let mut values = values.into_iter();
    let value = values.next().filter(|value| !value.is_empty())?;
    values.next().is_none().then_some(value)
}

fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|item| !item.is_empty())
}

/// Whether an authentic body is an event; `None` where either answer will do, because a field that counts stands twice.
pub(crate) fn is_event(body: &[u8]) -> Option<bool> {
    let Some(event) = std::str::from_utf8(body).ok().and_then(Fields::read) else {
        return Some(false);
    };
    if event.has_twice(&["id", "type", "created_at", "data"]) {
        return None;
    }
    let (Some(_), Some(kind)) = (event.text("id"), event.text("type")) else {
        return Some(false);
    };
    if kind.parse::<EventType>().is_err() {
        return Some(true);
    }
    if !event.get("created_at").is_some_and(is_whole_seconds) {
        return Some(false);
    }
    event
        .get("data")
        .map_or(Some(false), |data| Shape::Object(data_of(&kind)).fits(data))
}

fn is_whole_seconds(json: &str) -> bool {
    let is_number = serde_json::from_str::<serde_json::Number>(json).is_ok();
    let bound = 2_f64.powi(63);
    is_number
        && (json.parse::<i64>().is_ok()
            || json.contains(['.', 'e', 'E'])
                && json.parse::<f64>().is_ok_and(|seconds| {
                    seconds.fract() == 0.0 && -bound <= seconds && seconds < bound
                }))
}

/// What a value must be.
enum Shape {
    Text,
    Object(&'static [Field]),
    ListOf(&'static Shape),
}

struct Field {
    name: &'static str,
    shape: Shape,
    is_required: bool,
}

const fn text(name: &'static str) -> Field {
    Field {
        name,
        shape: Shape::Text,
        is_required: true,
    }
}

const fn optional_text(name: &'static str) -> Field {
    Field {
        is_required: false,
        ..text(name)
    }
}

const SIP_HEADERS: Field = Field {
    name: "sip_headers",
    shape: Shape::ListOf(&Shape::Object(&[text("name"), text("value")])),
    is_required: true,
};

/// The fields of `data` of the event types, as OpenAI documents them.
fn data_of(kind: &str) -> &'static [Field] {
    match kind {
        "realtime.call.incoming" => {
            const {
                &[
                    text("call_id"),
                    SIP_HEADERS,
                    optional_text("sip_media_security"),
                ]
            }
        }
        "live.call.incoming" => {
            const {
                &[
                    text("session_id"),
                    SIP_HEADERS,
                    optional_text("sip_media_security"),
                ]
            }
        }
        "live.transport.incoming" => {
            const {
                &[
                    text("type"),
                    text("session_id"),
                    SIP_HEADERS,
                    optional_text("sip_media_security"),
                ]
            }
        }
        "live.transport.connected" => const { &[text("type"), text("session_id")] },
        "agent.session.created" => {
            const {
                &[
                    text("id"),
                    text("environment_type"),
                    optional_text("environment_id"),
                    Field {
                        name: "connect",
                        shape: Shape::Object(&[text("remote_url")]),
                        is_required: false,
                    },
                ]
            }
        }
        "agent.session.in_progress" | "agent.session.idle" | "agent.session.failed" => {
            const {
                &[
                    text("id"),
                    text("environment_type"),
                    optional_text("environment_id"),
                ]
            }
        }
        "agent.session.action_required" => {
            const {
                &[
                    text("id"),
                    Field {
                        name: "required_action",
                        shape: Shape::Object(&[text("type")]),
                        is_required: true,
                    },
                ]
            }
        }
        "safety_identifier.blocked" => {
            const {
                &[
                    text("safety_identifier"),
                    text("safety_category"),
                    optional_text("model"),
                    optional_text("project_id"),
                    optional_text("request_id"),
                ]
            }
        }
        _ => const { &[text("id")] },
    }
}

impl Shape {
    /// `None` where a field that counts stands twice.
    fn fits(&self, json: &str) -> Option<bool> {
        match self {
            Self::Text => Some(serde_json::from_str::<String>(json).is_ok()),
            Self::ListOf(shape) => match serde_json::from_str::<Vec<Box<RawValue>>>(json) {
                Ok(items) => all(items.iter().map(|item| shape.fits(item.get()))),
                Err(_) => Some(false),
            },
            Self::Object(fields) => {
                let Some(object) = Fields::read(json) else {
                    return Some(false);
                };
                let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
                if object.has_twice(&names) {
                    return None;
                }
                all(fields.iter().map(|field| match object.get(field.name) {
                    None => Some(!field.is_required),
                    Some("null") if !field.is_required => Some(true),
                    Some(json) => field.shape.fits(json),
                }))
            }
        }
    }
}

fn all(mut answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    answers.try_fold(true, |all, answer| Some(all & answer?))
}

/// The fields of a JSON object, as they stand there.
struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    fn read(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, json)| json.get())
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    fn has_twice(&self, names: &[&str]) -> bool {
        names
            .iter()
            .any(|name| self.0.iter().filter(|(other, _)| other == name).count() > 1)
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> serde::de::Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(
                self,
                mut map: M,
            ) -> Result<Fields, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}
