//! The rules for the answers of a verifier, implemented a second time in the simplest way: without
//! early exits, without sharing code with the library, with signatures compared as text. A request
//! that breaks several rules may be refused for any of them.

#[path = "signature_list.rs"]
mod signature_list;

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use openai_webhooks::{EventType, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::Answer;
use crate::requests::{Request, sign};
use signature_list::{count_items, lists_signature};

/// The correct answers if only the signature is verified.
pub(crate) fn verify(request: &Request) -> BTreeSet<Answer> {
    if is_doubtful(&request.secret) {
        let mut answers = verify_with(request, key_of(&request.secret));
        answers.insert(Answer::Config);
        return answers;
    }
    verify_with(request, key_of(&request.secret))
}

fn verify_with(request: &Request, key: Option<Vec<u8>>) -> BTreeSet<Answer> {
    let Some(key) = key else {
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
        let seconds = digits
            .map(|digits| digits.parse::<i128>().expect("digits"))
            .filter(|&seconds| seconds <= i128::from(i64::MAX));
        let tolerance = i128::from(request.tolerance.unwrap_or(300));
        if seconds.is_none_or(|seconds| (seconds - i128::from(request.now)).abs() > tolerance) {
            wrong.insert(Answer::Timestamp);
        }
    }
    if let (Some(id), Some(timestamp)) = (id, timestamp) {
        let good = STANDARD.encode(sign(&key, id, timestamp, &request.body));
        if !lists
            .iter()
            .any(|list| lists_signature(list, good.as_bytes()))
        {
            wrong.insert(Answer::Signature);
        }
    }
    let count = |lists: &[&[u8]]| lists.iter().map(|list| count_items(list)).sum::<usize>();
    let mut distinct = lists.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if count(&distinct) > 32 {
        wrong.insert(Answer::Signature);
    }
    if wrong.is_empty() {
        wrong.insert(Answer::Ok);
        if count(&lists) > 32 {
            // The rules do not say whether a repeated header counts again.
            wrong.insert(Answer::Signature);
        }
    }
    wrong
}

/// The correct answers if the event is parsed too.
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

/// Raw text that may look like something other than a secret; its own tests decide about it.
fn is_doubtful(secret: &str) -> bool {
    let secret = trimmed_secret(secret);
    let lower = secret.to_lowercase();
    let of_another_kind = [
        "sk",
        "wh",
        "hsec_",
        "sec_",
        "evt_",
        "proj_",
        "org",
        "resp_",
        "batch_",
        "rtc_",
        "ssh-",
        "ecdsa-",
        "-",
        "bearer",
        "basic",
        "token",
        "auth",
        "d2hzzwnf",
        "eyj",
        "arn:",
        "vault:",
        "ssm:",
        "env",
        "file:",
        "projects/",
        "c:",
        "process",
        "os.",
        "getenv",
        "import",
        "secret",
        "valuefrom",
        "undefined",
        "null",
        "none",
        "nil",
        "nan",
        "true",
        "false",
        "unset",
        "n/a",
        "na",
        "tbd",
        "password",
        "empty",
        "?",
        "string",
        "openai",
        "[",
        "x",
        "77687365635f",
        "\\\\",
        "b'",
        "b\"",
    ];
    !secret.starts_with("whsec_")
        && (of_another_kind.iter().any(|start| lower.starts_with(start))
            || secret.contains([
                '$', '<', '{', '%', '#', '@', '/', '=', ':', '_', '`', '*', '…', '•', '●', '“',
                '”', '«', '»', '’', '‘',
            ])
            || secret.contains("...")
            || secret
                .chars()
                .any(|letter| letter.is_control() || !letter.is_ascii()))
}

fn trimmed_secret(secret: &str) -> &str {
    secret.trim_matches(|letter: char| {
        letter.is_whitespace()
            || letter.is_control()
            || "\u{ad}\u{61c}\u{180e}\u{feff}".contains(letter)
            || ('\u{200b}'..='\u{200f}').contains(&letter)
            || ('\u{202a}'..='\u{202e}').contains(&letter)
            || ('\u{2060}'..='\u{206f}').contains(&letter)
            || ('\u{e0000}'..='\u{e007f}').contains(&letter)
    })
}

fn key_of(secret: &str) -> Option<Vec<u8>> {
    let secret = trimmed_secret(secret);
    // Around `whsec_`, one quotation mark is a mistake; a password of random letters may begin or
    // end with one.
    let marks = ['"', '\''];
    let (opens, closes) = (secret.starts_with(marks), secret.ends_with(marks));
    let is_quoted = opens && closes || secret.contains("whsec_") && (opens || closes);
    if secret.is_empty() || is_quoted || secret.starts_with("v1,") {
        return None;
    }
    let Some(encoded) = secret.strip_prefix("whsec_") else {
        let is_prefix_elsewhere = secret.to_ascii_lowercase().contains("whsec");
        return (!is_prefix_elsewhere).then(|| secret.as_bytes().to_vec());
    };
    // All or a part of the padding may be missing, but there is never too much of it.
    let digits = encoded.trim_end_matches('=');
    let padding = encoded.len() - digits.len();
    if padding > digits.len().next_multiple_of(4) - digits.len() {
        return None;
    }
    let key = STANDARD_NO_PAD.decode(digits).ok()?;
    (key.len() >= 24).then_some(key)
}

/// The values of a header, without blanks around them.
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

/// Whether an authentic body is an event. `None` if both answers are correct, because a relevant
/// field is duplicated.
pub(crate) fn is_event(body: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(body).ok().map(with_whole_surrogates);
    let Some(event) = text.as_deref().and_then(Fields::read) else {
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
    let Some(data) = event.get("data") else {
        return Some(false);
    };
    let has_invite = kind != "live.transport.incoming"
        || Fields::read(data).is_none_or(|data| data.text("type").as_deref() == Some("sip"));
    Shape::Object(if has_invite {
        data_of(&kind)
    } else {
        TRANSPORT_WITHOUT_INVITE
    })
    .fits(data)
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

/// The JSON with U+FFFD for every unpaired surrogate.
fn with_whole_surrogates(json: &str) -> String {
    let letters: Vec<char> = json.chars().collect();
    let unit = |at: usize| {
        let digits: String = letters.get(at + 2..at + 6)?.iter().collect();
        let is_unit = letters[at] == '\\'
            && letters[at + 1] == 'u'
            && digits.chars().all(|digit| digit.is_ascii_hexdigit());
        is_unit.then(|| u16::from_str_radix(&digits, 16).expect("four digits"))
    };
    let mut whole = String::new();
    let mut at = 0;
    while at < letters.len() {
        let length = match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                whole.push_str("\\ufffd");
                at += 6;
                continue;
            }
            _ if letters[at] == '\\' => 2,
            _ => 1,
        };
        let end = letters.len().min(at + length);
        whole.extend(&letters[at..end]);
        at = end;
    }
    whole
}

/// The kind of a value.
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

/// Only a SIP call has an INVITE.
const TRANSPORT_WITHOUT_INVITE: &[Field] = &[
    text("type"),
    text("session_id"),
    Field {
        is_required: false,
        ..SIP_HEADERS
    },
    optional_text("sip_media_security"),
];

/// The fields of `data` for each event type, as OpenAI documents them.
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
    /// `None` if a relevant field is duplicated.
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

/// The fields of a JSON object, in their order.
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
