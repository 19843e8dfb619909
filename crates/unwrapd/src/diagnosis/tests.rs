use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const OWN: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const OTHER: &str = "whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA";
const UNKNOWN: &str = "whsec_////////////////////////////////";
const SENT_AT: i64 = 1_750_000_000;
const EVENT: &str = r#"{"id": "evt_1", "type": "response.completed", "data": {"id": "resp_1"}}"#;

fn webhooks(secret: &str) -> Webhooks {
    Webhooks::new(secret).unwrap()
}

fn signed(secret: &str, body: &str) -> Vec<(String, String)> {
    let headers = webhooks(secret).sign(body, "wh_1", SENT_AT).unwrap();
    headers
        .pairs()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

fn diagnosed(headers: &[(String, String)], body: Option<&str>, late: i64) -> Diagnosis {
    let refused = Refused {
        headers,
        body: body.map(str::as_bytes),
        arrived_at: SENT_AT + late,
    };
    let other = Cause::OtherEndpoint {
        received: "production".into(),
        signed: "staging".into(),
    };
    let (own, others) = (webhooks(OWN), webhooks(OTHER));
    refused.diagnose(
        Secrets::from(&own),
        [(other, Secrets::from(&others))],
        KeyOrders::All,
        &mut Work::of_bytes(10_000_000),
    )
}

/// The cause of a request with this body, which `secret` has signed for another body.
fn cause(secret: &str, other_body: &str, body: Option<&str>, late: i64) -> Option<Cause> {
    diagnosed(&signed(secret, other_body), body, late).cause
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
fn a_change_of_the_body_is_found_also_for_an_old_request() {
    for late in [0, 5_000] {
        for body in ["{}\n", "{}\r\n"] {
            let found = cause(OWN, "{}", Some(body), late).unwrap();
            assert_eq!(found.name(), "line_end_added");
        }
    }
}

#[test]
fn a_spelling_and_an_order_of_keys_are_found_and_told_apart() {
    let compact = r#"{"id":"evt_1","type":"response.completed","data":{"id":"resp_1"}}"#;
    let told = cause(OWN, EVENT, Some(compact), 0).unwrap().finding();
    for part in [
        "now as `JSON.stringify(event)` writes it (other spacing)",
        "as `json.dumps(event)` writes it, the",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let sorted = r#"{"data":{"id":"resp_1"},"id":"evt_1","type":"response.completed"}"#;
    let told = cause(OWN, EVENT, Some(sorted), 0).unwrap().finding();
    for part in ["other key order, spacing", "with its keys in another order"] {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn an_unknown_secret_and_an_unknown_change_are_told_apart_from_nothing() {
    let other = EVENT.replace("evt_1", "evt_2");
    for (secret, body) in [(UNKNOWN, EVENT), (OWN, &other)] {
        let diagnosis = diagnosed(&signed(secret, EVENT), Some(body), 0);
        assert_eq!(diagnosis.cause, Some(Cause::UnknownSecret));
        let tried = diagnosis.tried;
        assert_eq!(tried.secrets, 1);
        assert!(
            tried.bodies >= 2 && tried.spellings > 5 && tried.orders >= 7,
            "{tried:?}"
        );
    }
    assert_eq!(cause(UNKNOWN, "{}", None, 0), None);
}

#[test]
fn a_header_that_was_changed_is_named() {
    let named = |name: &str, change: &dyn Fn(&str) -> String| {
        let mut headers = signed(OWN, EVENT);
        for (header, value) in &mut headers {
            if header == name {
                *value = change(value);
            }
        }
        diagnosed(&headers, Some(EVENT), 0).cause.unwrap()
    };
    for (header, change) in [
        (
            "webhook-id",
            &(|value: &str| format!("\"{value}\"")) as &dyn Fn(&str) -> String,
        ),
        ("webhook-timestamp", &|value| format!("{value}, {value}")),
        ("webhook-signature", &|value| value.to_ascii_lowercase()),
        ("webhook-signature", &|value| value[..30].to_owned()),
    ] {
        let cause = named(header, change);
        assert_eq!(cause.name(), "header_changed", "{cause}");
        assert!(cause.finding().contains(header), "{cause}");
    }
    let cause = named("webhook-timestamp", &|value| format!("{value}123"));
    assert_eq!(cause.name(), "timestamp_milliseconds");
    // A damage that cannot be undone is no more than that.
    let cause = named("webhook-timestamp", &|_| "yesterday".into());
    assert_eq!(cause.name(), "header_malformed");
}

#[test]
fn a_time_outside_the_tolerance_is_told_with_its_distance() {
    let old = cause(OWN, "{}", Some("{}"), 6 * 3600 + 59)
        .unwrap()
        .to_string();
    assert!(
        old.starts_with("The signature is right, and it was made 6 h 0 min before"),
        "{old}"
    );
    let new = cause(OWN, "{}", Some("{}"), -600).unwrap().to_string();
    assert!(
        new.contains("10 min 0 s after the arrival: set the clock"),
        "{new}"
    );
    let unknown = cause(OWN, "{}", None, 400_000).unwrap().to_string();
    assert!(
        unknown.starts_with("The timestamp is 4 d 15 h before"),
        "{unknown}"
    );
}

#[test]
fn a_missing_header_is_named() {
    let headers = [("webhook-id".to_owned(), "wh_1".to_owned())];
    let text = diagnosed(&headers, Some("{}"), 0)
        .cause
        .unwrap()
        .to_string();
    assert!(text.contains("`webhook-timestamp` is missing"), "{text}");
}

#[test]
fn the_trials_end_at_the_limit_of_work_without_a_cause() {
    let headers = signed(UNKNOWN, EVENT);
    let own = webhooks(OWN);
    let refused = Refused {
        headers: &headers,
        body: Some(EVENT.as_bytes()),
        arrived_at: SENT_AT,
    };
    let mut work = Work::of_bytes(5_000);
    let diagnosis = refused.diagnose(Secrets::from(&own), [], KeyOrders::All, &mut work);
    assert_eq!(diagnosis.cause, None);
    assert!(work.is_done());
}

/// Bodies of this length, each costly for one part of the search.
fn hostile_bodies(bytes: usize) -> Vec<(&'static str, Vec<u8>)> {
    let filled = |begin: &str, part: &str, end: &str| {
        let count = (bytes - begin.len() - end.len()) / part.len();
        [begin, &part.repeat(count), end].concat().into_bytes()
    };
    // The keys differ at their ends, and their order is the reverse of that of a sort.
    let keys = (0..bytes / 64).rev();
    let keys: Vec<String> = keys.map(|key| format!("\"{key:050}\":[0]")).collect();
    let keys = format!("{{{}}}", keys.join(",")).into_bytes();
    let large = filled(
        "{\"type\":\"batch.completed\",\"c\":1,\"b\":2,\"a\":\"",
        "/",
        "\"}",
    );
    vec![
        ("open lists", filled("", "[", "")),
        ("open objects", filled("", "{\"\":", "")),
        (
            "lists within lists",
            [filled("", "[", ""), filled("", "]", "")].concat(),
        ),
        ("objects of one key", filled("{", "\"\":0,", "\"\":0}")),
        ("objects of many keys", keys),
        ("values", filled("[", "0,", "0]")),
        ("empty lists", filled("[", "[],", "0]")),
        ("texts within", filled("[", "\"{0123456789abcdef\",", "0]")),
        ("orders of keys", large),
        ("escapes", filled("\"", "\\u00e9", "\"")),
        ("quotation marks", filled("", "\"", "")),
        ("backslashes", filled("\"", "\\", "\"")),
        ("digits", filled("", "9", "")),
        ("blanks", filled("", " ", "")),
        ("line ends", filled("{}", "\r\n", "")),
        ("base64", filled("", "eyJhIjogMX0=", "")),
        ("misread letters", filled("", "Ã©", "")),
        ("UTF-16", filled("\u{FEFF}", "{\0", "")),
        ("zeros", vec![0; bytes]),
        ("bytes without a meaning", vec![0xFF; bytes]),
    ]
}

/// The time is that of a debug build on a busy machine, and far below that of a search whose cost
/// grows with the square of the length.
#[test]
fn a_hostile_body_costs_no_more_than_the_limit_of_work() {
    const TIME_MAX: Duration = Duration::from_secs(20);
    let headers = signed(UNKNOWN, EVENT);
    let own = webhooks(OWN);
    for bytes in [64 * 1024, 1024 * 1024] {
        for (name, body) in hostile_bodies(bytes) {
            let refused = Refused {
                headers: &headers,
                body: Some(&body),
                arrived_at: SENT_AT,
            };
            let mut work = Work::of_bytes(4 * 1024 * 1024);
            let began = Instant::now();
            let diagnosis = refused.diagnose(Secrets::from(&own), [], KeyOrders::All, &mut work);
            let took = began.elapsed();
            assert!(
                matches!(diagnosis.cause, None | Some(Cause::UnknownSecret)),
                "{name}: {:?}",
                diagnosis.cause
            );
            assert!(took < TIME_MAX, "{name}, {bytes} bytes: {took:?}");
        }
    }
}

#[test]
fn no_cause_shows_a_secret_or_a_signature() {
    let secret = OWN.trim_start_matches("whsec_");
    for (signer, body, late) in [(OWN, "{}", 0), (UNKNOWN, "{}", 0), (OWN, "{}", 9_000)] {
        let text = cause(signer, "{}", Some(body), late).unwrap().to_string();
        assert!(!text.contains(secret) && !text.contains("v1,"), "{text}");
    }
}

/// Parts of bodies and of their changes, in any order.
fn parts() -> impl Strategy<Value = String> {
    let parts = proptest::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        "\\u12",
        "\\ud83d",
        ":",
        ",",
        "\"type\"",
        "\"data\"",
        "1e9",
        "-",
        "true",
        "é",
        "\n",
        "\r\n",
        "\u{FEFF}",
        "eyJhIjogMX0=eyJhIjogMX0=",
    ]);
    proptest::collection::vec(parts, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn hostile_headers_and_bodies_have_no_cause(
        body in parts(), values in proptest::array::uniform3(parts()), bytes in any::<Vec<u8>>()
    ) {
        let mut headers = signed(UNKNOWN, EVENT);
        let own = webhooks(OWN);
        for is_hostile in [false, true] {
            if is_hostile {
                for ((_, header), value) in headers.iter_mut().zip(&values) {
                    header.push_str(value);
                }
            }
            for body in [body.as_bytes(), &bytes] {
                let refused = Refused { headers: &headers, body: Some(body), arrived_at: SENT_AT };
                let mut work = Work::of_bytes(20_000_000);
                let own = Secrets::from(&own);
                let diagnosis = refused.diagnose(own, [], KeyOrders::All, &mut work);
                let name = diagnosis.cause.map_or("", |cause| cause.name());
                let is_of_headers = matches!(name, "header_malformed" | "too_many_signatures");
                prop_assert!(name == "unknown" || is_hostile && is_of_headers, "{}", name);
            }
        }
    }
}
