//! The requests of each check, in the order of the table.

use std::iter::once;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openai_webhooks::{EventType, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};

use super::forge::{Forge, SIGNED_HEADERS};
use super::request::{Close, Request, Step, Wish};
use super::spelling::{Spelling, escaped, reordered, spelled};
use crate::cli::webhook::request::unix_now;
use crate::cli::webhook::sign::new_webhook_id;

/// Twice the tolerance of the official SDKs, so that a clock that differs by minutes is no fault.
const OUTSIDE_TOLERANCE_SECONDS: i64 = 600;
/// An hour before OpenAI gives up.
const LATE_SECONDS: i64 = 71 * 3600;
/// As large as a SIP message over UDP can be.
const HUGE_BYTES: usize = 64 * 1024;
/// More than any call is known to have.
const VERY_HUGE_BYTES: usize = 256 * 1024;
/// Copies of an event at the same time.
const COPIES: usize = 8;

fn each(requests: impl IntoIterator<Item = Request>) -> Vec<Step> {
    requests.into_iter().map(Step::Send).collect()
}

pub(super) fn nothing(_: &Forge) -> Vec<Step> {
    Vec::new()
}

pub(super) fn genuine_event(forge: &Forge) -> Vec<Step> {
    each([forge.genuine("genuine event")])
}

pub(super) fn every_event_type(forge: &Forge) -> Vec<Step> {
    let sample = |event_type: &EventType| {
        let event = forge.event_of(*event_type, unix_now());
        forge.signed(event_type.as_str(), event).with_any_effect()
    };
    each(EventType::ALL.iter().map(sample))
}

pub(super) fn unknown_type(forge: &Forge) -> Vec<Step> {
    let old = format!("\"{}\"", forge.event_type());
    let event = forge
        .event()
        .replacen(&old, "\"torture.unknown.happened\"", 1);
    let request = forge.signed("torture.unknown.happened", event);
    each([request.with_any_effect()])
}

pub(super) fn unknown_field(forge: &Forge) -> Vec<Step> {
    let event = forge.event();
    let event = with_first_field(&event, r#""torture_field": {"nested": [1, null, true]}"#);
    let data = event.find("\"data\"").expect("every event has data");
    let (before, data) = event.split_at(data);
    let data = with_first_field(data, r#""torture_field": "new""#);
    let event = forge.in_house(&format!("{before}{data}"));
    each([forge.signed("new fields", event)])
}

/// The text with this field in its first object.
fn with_first_field(json: &str, field: &str) -> String {
    json.replacen('{', &format!("{{{field}, "), 1)
}

pub(super) fn json_spelling(forge: &Forge) -> Vec<Step> {
    let spelling = forge.house.white_space();
    let spellings = [
        ("spaces", spelled(&forge.event(), Spelling::Spaced)),
        ("no spaces", spelled(&forge.event(), Spelling::Compact)),
        ("indented", spelled(&forge.event(), Spelling::Indented)),
        ("escapes", escaped(&forge.event())),
        ("key order", spelled(&reordered(&forge.event()), spelling)),
        ("line end", forge.event() + "\n"),
    ];
    each(spellings.map(|(label, body)| forge.signed(label, body)))
}

/// A call with this list of SIP headers in front of those of the sample.
fn call(forge: &Forge, sip_headers: &str) -> String {
    let event = forge.event_of(EventType::RealtimeCallIncoming, unix_now());
    let event = spelled(&event, Spelling::Spaced);
    let list = r#""sip_headers": ["#;
    forge.in_house(&event.replacen(list, &format!("{list}{sip_headers}, "), 1))
}

pub(super) fn non_ascii(forge: &Forge) -> Vec<Step> {
    let caller = r#"{"name": "From", "value": "\"Zoë Ångström 王芳 🙂\" <sip:zoe@example.com>"}"#;
    let event = call(forge, caller);
    each([forge
        .signed("caller in other scripts", event)
        .with_any_effect()])
}

pub(super) fn huge_sip_headers(forge: &Forge) -> Vec<Step> {
    let with = |label, bytes: usize| {
        let value = "v=0; ".repeat(50);
        let header = |number| format!(r#"{{"name": "X-Torture-{number}", "value": "{value}"}}"#);
        let count = bytes / header(0).len() + 1;
        let headers: Vec<String> = (0..count).map(header).collect();
        let event = call(forge, &headers.join(", "));
        forge.signed(label, event).with_any_effect()
    };
    let mut very_huge = with("256 KiB", VERY_HUGE_BYTES);
    very_huge.wish = Wish::RatherAccepted;
    each([with("64 KiB", HUGE_BYTES), very_huge])
}

pub(super) fn two_signatures(forge: &Forge) -> Vec<Step> {
    let with = |label, is_ours_first: bool| {
        let request = forge.genuine(label);
        let ours = request.header(WEBHOOK_SIGNATURE).to_owned();
        let id = request.subject.webhook_id.clone();
        let other = forge.signed_by_a_stranger("", id, request.body.clone());
        let other = other.header(WEBHOOK_SIGNATURE);
        let both = if is_ours_first {
            format!("{ours} {other}")
        } else {
            format!("{other} {ours}")
        };
        request.with_header(WEBHOOK_SIGNATURE, both)
    };
    each([with("yours first", true), with("yours second", false)])
}

pub(super) fn late_event(forge: &Forge) -> Vec<Step> {
    let event = forge.event_of(forge.event_type(), unix_now() - LATE_SECONDS);
    // An application may well ignore an event that is so old.
    each([forge
        .signed("created 71 hours ago", event)
        .with_any_effect()])
}

pub(super) fn out_of_order(forge: &Forge) -> Vec<Step> {
    let newer = forge.event_of(EventType::AgentSessionIdle, unix_now());
    let older = forge.event_of(EventType::AgentSessionInProgress, unix_now() - 60);
    let newer = forge.signed("newer", newer).with_any_effect();
    let older = forge.signed("older", older).with_any_effect();
    let body = older
        .body
        .replace(&older.subject.resource, &newer.subject.resource);
    let older = forge.signed("older, afterwards", body).with_any_effect();
    each([newer, older])
}

pub(super) fn bad_signature(forge: &Forge) -> Vec<Step> {
    let mut random = [0; 32];
    fastrand::fill(&mut random);
    let random = format!("v1,{}", STANDARD.encode(random));
    let with = |label, signature: &str| {
        let request = forge.genuine(label).forged();
        request.with_header(WEBHOOK_SIGNATURE, signature.to_owned())
    };
    each([with("random", &random), with("empty", "v1,")])
}

pub(super) fn wrong_secret(forge: &Forge) -> Vec<Step> {
    each([forge.signed_by_a_stranger("another secret", new_webhook_id(), forge.event())])
}

pub(super) fn tampered_body(forge: &Forge) -> Vec<Step> {
    let mut request = forge.genuine("another object").forged();
    let old = request.subject.resource.clone();
    let last = if old.ends_with('0') { '1' } else { '0' };
    let new = format!("{}{last}", &old[..old.len() - 1]);
    request.body = request.body.replace(&old, &new);
    request.subject.resource = new;
    each([request])
}

pub(super) fn tampered_headers(forge: &Forge) -> Vec<Step> {
    let other_id = forge.genuine("webhook-id").forged();
    let other_time = forge.genuine("webhook-timestamp").forged();
    let time: i64 = other_time
        .header(WEBHOOK_TIMESTAMP)
        .parse()
        .expect("a time of ours is a number");
    each([
        other_id.with_header(WEBHOOK_ID, new_webhook_id()),
        other_time.with_header(WEBHOOK_TIMESTAMP, (time - 1).to_string()),
    ])
}

pub(super) fn missing_header(forge: &Forge) -> Vec<Step> {
    let without = |name: &str| {
        let request = forge.genuine(&format!("without {name}")).forged();
        request.without_header(name)
    };
    let none = SIGNED_HEADERS
        .iter()
        .fold(forge.genuine("without all").forged(), |request, name| {
            request.without_header(name)
        });
    each(SIGNED_HEADERS.map(without).into_iter().chain(once(none)))
}

pub(super) fn stale_timestamp(forge: &Forge) -> Vec<Step> {
    signed_in(forge, "ten minutes ago", -OUTSIDE_TOLERANCE_SECONDS)
}

pub(super) fn future_timestamp(forge: &Forge) -> Vec<Step> {
    signed_in(forge, "ten minutes ahead", OUTSIDE_TOLERANCE_SECONDS)
}

fn signed_in(forge: &Forge, label: &str, seconds: i64) -> Vec<Step> {
    let time = unix_now() + seconds;
    let request = forge.signed_at(label, new_webhook_id(), time, forge.event());
    each([request.forged()])
}

pub(super) fn duplicate(forge: &Forge) -> Vec<Step> {
    let (first, again) = twice(forge);
    each([first, again])
}

pub(super) fn concurrent_duplicate(forge: &Forge) -> Vec<Step> {
    let (first, again) = twice(forge);
    let copies = (1..=COPIES).map(|number| Request {
        label: format!("copy {number}"),
        ..first.clone()
    });
    vec![Step::Together(copies.collect()), Step::Send(again)]
}

pub(super) fn lost_answer(forge: &Forge) -> Vec<Step> {
    let closes = [
        ("closed at once", Close::AtOnce),
        ("closed half-way", Close::HalfWay),
        ("closed at the answer", Close::AtTheAnswer),
    ];
    let steps = closes.map(|(label, close)| {
        let (mut first, mut again) = twice(forge);
        label.clone_into(&mut first.label);
        again.label = format!("{label}, again");
        [Step::Abandon(first, close), Step::Send(again)]
    });
    steps.into_iter().flatten().collect()
}

pub(super) fn forged_first(forge: &Forge) -> Vec<Step> {
    let genuine = forge.genuine("genuine");
    let id = genuine.subject.webhook_id.clone();
    let forged = forge.signed_by_a_stranger("forged", id, genuine.body.clone());
    each([forged.with_any_effect(), genuine])
}

/// An event, and the next attempt at it, a second later.
fn twice(forge: &Forge) -> (Request, Request) {
    let (id, body) = (new_webhook_id(), forge.event());
    let first = forge.signed_at("first", id.clone(), unix_now() - 1, body.clone());
    let again = forge.signed_at("again", id, unix_now(), body);
    (first, again)
}
