//! Genuine requests that were damaged in one way: the way is named, and no other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openai_webhooks::{EventType, WebhookHeaders};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use tempfile::TempDir;

use super::{SENT_AT, reports, saved_pairs, signed, verify, written};

/// A damaged request: its headers and body, and the name of the cause.
struct Damaged {
    cause: Option<&'static str>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// JSON without blanks between its parts, or with one after each comma and colon.
fn respaced(json: &str, blank: &str) -> String {
    let mut text = String::new();
    let (mut is_within, mut is_escaped) = (false, false);
    for letter in json.chars() {
        if !is_within && letter.is_ascii_whitespace() {
            continue;
        }
        text.push(letter);
        if is_within {
            is_within = letter != '"' || is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
        } else {
            is_within = letter == '"';
            if matches!(letter, ',' | ':') {
                text.push_str(blank);
            }
        }
    }
    text
}

/// JSON with all characters escaped that are not ASCII.
fn in_ascii(json: &str) -> String {
    let mut text = String::new();
    for letter in json.chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            let units = letter.encode_utf16(&mut [0; 2]).to_vec();
            text.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

fn changed_bodies(payload: &str) -> Vec<(&'static str, Vec<u8>)> {
    let value: Value = serde_json::from_str(payload).unwrap();
    let misread: String = payload.bytes().map(char::from).collect();
    let mut bodies: Vec<(&str, Vec<u8>)> = [
        ("body_reserialised", respaced(payload, "")),
        ("body_reserialised", respaced(payload, " ")),
        // The keys of these two are sorted.
        ("body_reserialised", serde_json::to_string(&value).unwrap()),
        (
            "body_reserialised",
            serde_json::to_string_pretty(&value).unwrap(),
        ),
        ("body_reserialised", in_ascii(payload)),
        (
            "body_reserialised",
            payload.replace("\\/", "/").replace('/', "\\/"),
        ),
        ("line_end_added", format!("{payload}\n")),
        ("line_end_added", format!("{payload}\r\n")),
        ("blanks_added", format!(" {payload}\n\n")),
        ("byte_order_mark", format!("\u{FEFF}{payload}")),
        ("body_base64", STANDARD.encode(payload)),
        ("body_quoted", serde_json::to_string(payload).unwrap()),
        (
            "body_wrapped",
            serde_json::json!({ "body": payload }).to_string(),
        ),
        ("body_charset", misread),
    ]
    .map(|(cause, body)| (cause, body.into_bytes()))
    .into();
    let wide = payload.encode_utf16().flat_map(u16::to_be_bytes).collect();
    bodies.push(("body_charset", wide));
    bodies.retain(|(_, body)| body != payload.as_bytes());
    bodies
}

fn changed_headers(genuine: &WebhookHeaders) -> Vec<(&'static str, WebhookHeaders)> {
    let with = |change: &dyn Fn(&mut WebhookHeaders)| {
        let mut headers = genuine.clone();
        change(&mut headers);
        headers
    };
    let mut changed = vec![
        (
            "timestamp_milliseconds",
            with(&|headers| headers.timestamp += "123"),
        ),
        (
            "header_changed",
            with(&|headers| headers.timestamp = format!("\"{}\"", headers.timestamp)),
        ),
        (
            "header_changed",
            with(&|headers| headers.id = headers.id.to_uppercase()),
        ),
        (
            "header_changed",
            with(&|headers| headers.id = format!("{0}, {0}", headers.id)),
        ),
        (
            "header_changed",
            with(&|headers| headers.signature = headers.signature.to_lowercase()),
        ),
        (
            "header_changed",
            with(&|headers| headers.signature.truncate(30)),
        ),
        ("header_missing", with(&|headers| headers.signature.clear())),
        (
            "header_malformed",
            with(&|headers| headers.timestamp = "yesterday".into()),
        ),
    ];
    changed.retain(|(_, headers)| headers != genuine);
    changed
}

fn damaged(payload: &str) -> Vec<Damaged> {
    let genuine = signed(payload);
    let pairs = |headers: &WebhookHeaders| {
        let pairs = headers.pairs();
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    };
    let mut damaged: Vec<Damaged> = changed_bodies(payload)
        .into_iter()
        .map(|(cause, body)| Damaged {
            cause: Some(cause),
            headers: pairs(&genuine),
            body,
        })
        .collect();
    damaged.extend(
        changed_headers(&genuine)
            .into_iter()
            .map(|(cause, headers)| Damaged {
                cause: Some(cause),
                headers: pairs(&headers),
                body: payload.into(),
            }),
    );
    let ended = format!("{payload}\n");
    damaged.push(Damaged {
        cause: Some("line_end_removed"),
        headers: pairs(&signed(&ended)),
        body: payload.into(),
    });
    // A damage that cannot be undone has no name.
    damaged.push(Damaged {
        cause: None,
        headers: pairs(&genuine),
        body: payload.replacen("evt_", "evt-", 1).into_bytes(),
    });
    damaged
}

/// A text of an event: of a sample, or with characters that programs escape.
fn payload() -> impl Strategy<Value = String> {
    let sample = select(EventType::ALL).prop_map(|event_type| event_type.sample().to_owned());
    let letters = select(vec![
        "a", "é", "/", "\\", "\"", "😀", "日", "<", "&", "\n", " ", "'", "+",
    ]);
    let text = proptest::collection::vec(letters, 0..12).prop_map(|letters| letters.concat());
    let keys = Just(["id", "object", "type", "created_at", "data"]).prop_shuffle();
    let made =
        (text, keys, any::<bool>(), any::<bool>()).prop_map(|(text, keys, is_spaced, is_ascii)| {
            let value = |key: &str| match key {
                "id" => "\"evt_1\"".to_owned(),
                "object" => "\"event\"".to_owned(),
                "type" => "\"realtime.call.incoming\"".to_owned(),
                "created_at" => "1750287018".to_owned(),
                _ => format!(
                    r#"{{"sip_headers":[{{"name":"From","value":{}}}],"call_id":"rtc_1"}}"#,
                    serde_json::to_string(&text).unwrap()
                ),
            };
            let members = keys.map(|key| format!("\"{key}\":{}", value(key)));
            let compact = format!("{{{}}}", members.join(","));
            let text = if is_ascii {
                in_ascii(&compact)
            } else {
                compact
            };
            respaced(&text, if is_spaced { " " } else { "" })
        });
    prop_oneof![sample, made]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn each_way_to_damage_a_request_is_named(payload in payload()) {
        let folder = TempDir::new().unwrap();
        let damaged = damaged(&payload);
        let at = SENT_AT.to_string();
        for (number, Damaged { cause, headers, body }) in damaged.iter().enumerate() {
            let file = written(folder.path(), &number.to_string(), saved_pairs(headers, body));
            let report = reports(&mut verify(&[&file, "--at", &at])).remove(0);
            let named = report["cause"].as_str();
            prop_assert_eq!(
                named, *cause,
                "{}\n{:?}\n{}", String::from_utf8_lossy(body), headers, report
            );
            prop_assert_eq!(&report["authentic"], &Value::Bool(false));
        }
    }
}
