//! Properties of every request, whatever its content.

#[path = "support/answer.rs"]
mod answer;
#[path = "support/property.rs"]
mod property;
#[path = "support/requests/mod.rs"]
mod requests;
#[path = "support/rule_sheet.rs"]
mod rule_sheet;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use answer::Answer;
use openai_webhooks::{
    EventType, HeadersLike, PayloadProblem, Secret, SecretError, UnwrapError, UnwrapWebhookEvent,
    VerificationError, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, WebhookHeaders, Webhooks,
};
use property::holds;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use requests::{Request, bodies, requests, sender, unknown_events};
use serde_json::{Value, json};

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const ID: &str = "wh_685342e6c53c8190a1be43f081506c52";
const NOW: i64 = 1_750_287_078;

#[test]
fn the_fixture_of_the_official_sdks_is_unwrapped_at_its_own_time() {
    let webhooks = Webhooks::new("whsec_RdvaYFYUXuIFuEbvZHwMfYFhUf7aMYjYcmM24+Aj40c=").unwrap();
    let body = r#"{"id": "evt_685c059ae3a481909bdc86819b066fb6", "object": "event", "created_at": 1750861210, "type": "response.completed", "data": {"id": "resp_123"}}"#;
    let headers = [
        (WEBHOOK_ID, "wh_685c059ae39c8190af8c71ed1022a24d"),
        (WEBHOOK_TIMESTAMP, "1750861210"),
        (
            WEBHOOK_SIGNATURE,
            "v1,gUAg4R2hWouRZqRQG4uJypNS8YK885G838+EHb4nKBY=",
        ),
    ];
    for now in [1_750_861_210, 1_750_861_210 - 300, 1_750_861_210 + 300] {
        let event = webhooks.unwrap_at(body, &headers, now).unwrap();
        assert_eq!(event.kind(), "response.completed");
        assert_eq!(event.id(), "evt_685c059ae3a481909bdc86819b066fb6");
    }
    for now in [1_750_861_210 - 301, 1_750_861_210 + 301] {
        assert!(webhooks.unwrap_at(body, &headers, now).is_err());
    }
    let signed = webhooks
        .sign(body, "wh_685c059ae39c8190af8c71ed1022a24d", 1_750_861_210)
        .unwrap();
    assert_eq!(signed.pairs(), headers);
}

#[test]
fn every_request_is_answered_as_the_rule_sheet_says() {
    let answers = RefCell::new(BTreeMap::new());
    holds(4000, requests(bodies()), |request| {
        let verified = answer(&request, |webhooks| {
            webhooks
                .verify_signature_at(&request.body, &request.headers, request.now)
                .map(drop)
                .map_err(UnwrapError::from)
        });
        let allowed = rule_sheet::verify(&request);
        prop_assert!(
            allowed.contains(&verified),
            "verify answered {verified:?}, not {allowed:?}"
        );
        let unwrapped = answer(&request, |webhooks| {
            webhooks
                .unwrap_at(&request.body, &request.headers, request.now)
                .map(drop)
        });
        let allowed = rule_sheet::unwrap(&request);
        prop_assert!(
            allowed.contains(&unwrapped),
            "unwrap answered {unwrapped:?}, not {allowed:?}"
        );
        *answers.borrow_mut().entry(unwrapped).or_insert(0) += 1;
        Ok(())
    });

    // The requests are useful: many are good, and each rule is broken by some.
    let answers = answers.into_inner();
    let all: u32 = answers.values().sum();
    assert_eq!(answers.len(), 6, "{answers:?}");
    assert!(
        answers.values().all(|&times| times > all / 50),
        "{answers:?}"
    );
    assert!(answers[&Answer::Ok] > all / 6, "{answers:?}");
}

#[test]
fn every_field_may_be_missing_or_of_another_kind_exactly_as_documented() {
    let webhooks = Webhooks::new(SECRET).unwrap();
    let kinds = [
        json!(null),
        json!(true),
        json!(7),
        json!(7.5),
        json!("text"),
        json!([]),
        json!(["text"]),
        json!([{"name": "a", "value": "b"}]),
        json!([{"name": "a"}]),
        json!({}),
        json!({"type": "text", "remote_url": "text", "id": "text"}),
    ];
    for &kind in EventType::ALL {
        let event: Value = serde_json::from_str(kind.sample()).unwrap();
        let mut places = vec![String::new()];
        pointers(&event, "", &mut places);
        for place in &places {
            let changes = kinds.iter().map(|kind| changed(&event, place, Some(kind)));
            for body in changes.chain([changed(&event, place, None)]) {
                let body = body.to_string();
                let headers = webhooks.sign(&body, ID, NOW).unwrap();
                let answer = webhooks.unwrap_at(&body, &headers, NOW);
                assert_eq!(
                    Some(answer.is_ok()),
                    rule_sheet::is_event(body.as_bytes()),
                    "{kind}: {body} was answered {answer:?}"
                );
            }
        }
    }
}

#[test]
fn the_same_headers_in_another_kind_of_map_are_answered_the_same() {
    let outcome = |request: &Request, headers: &dyn HeadersLike| {
        Webhooks::new(&request.secret).ok().map(|webhooks| {
            webhooks
                .verify_signature_at(&request.body, headers, request.now)
                .map(|verified| {
                    (
                        verified.webhook_id().to_owned(),
                        verified.timestamp(),
                        verified.secret_index(),
                    )
                })
        })
    };
    holds(2000, requests(bodies()), |request| {
        let expected = outcome(&request, &request.headers);
        let mut lists: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for (name, value) in &request.headers {
            lists
                .entry(name.to_ascii_lowercase())
                .or_default()
                .push(value.clone());
        }
        prop_assert_eq!(&outcome(&request, &lists), &expected);

        #[cfg(feature = "http")]
        {
            let map: Option<http::HeaderMap> = request
                .headers
                .iter()
                .map(|(name, value)| {
                    let name = http::HeaderName::try_from(name).ok()?;
                    Some((name, http::HeaderValue::from_bytes(value).ok()?))
                })
                .collect();
            if let Some(map) = map {
                prop_assert_eq!(&outcome(&request, &map), &expected);
            }
        }
        Ok(())
    });
}

#[test]
fn a_signed_request_is_unwrapped_with_any_one_of_its_secrets() {
    let keys = vec(vec(any::<u8>(), 24..=64), 1..4);
    let id = "[!-\\-/-~]{1,256}";
    let time = prop_oneof![
        0..=i64::from(u32::MAX),
        0..=i64::MAX,
        Just(0),
        Just(i64::MAX),
    ];
    let event = prop_oneof![
        select(EventType::ALL).prop_map(|kind| kind.sample().to_owned()),
        unknown_events()
    ];
    holds(1000, (keys, id, time, event), |(keys, id, time, event)| {
        let (secrets, signer) = sender(keys);
        let headers = signer.sign(&event, &*id, time).unwrap();
        for secret in &secrets {
            let webhooks = Webhooks::new(secret.expose().as_str()).unwrap();
            let unwrapped = webhooks.unwrap_at(&event, &headers, time);
            prop_assert!(unwrapped.is_ok(), "{unwrapped:?}");
            let verified = webhooks
                .verify_signature_at(&event, &headers, time)
                .unwrap();
            prop_assert_eq!(verified.webhook_id(), &*id);
            prop_assert_eq!(verified.timestamp(), time);
            prop_assert_eq!(verified.payload(), event.as_bytes());
        }
        Ok(())
    });
}

#[test]
fn every_single_bit_change_of_a_signed_request_is_refused() {
    let webhooks = Webhooks::new(SECRET).unwrap();
    for &kind in EventType::ALL {
        let body = kind.sample().as_bytes();
        let signed = webhooks.sign(body, ID, NOW).unwrap();
        let headers = signed
            .pairs()
            .map(|(name, value)| (name, value.as_bytes().to_vec()));
        assert!(webhooks.unwrap_at(body, &headers, NOW).is_ok());

        for which in 0..headers.len() {
            for changed in single_bit_changes(&headers[which].1) {
                let mut headers = headers.clone();
                headers[which].1 = changed;
                let answer = webhooks.unwrap_at(body, &headers, NOW);
                assert!(
                    matches!(answer, Err(UnwrapError::Verification(_))),
                    "{kind}: {} as \"{}\" was answered {answer:?}",
                    headers[which].0,
                    headers[which].1.escape_ascii()
                );
            }
        }
        for changed in single_bit_changes(body) {
            let answer = webhooks.unwrap_at(&changed, &headers, NOW);
            assert_eq!(
                answer,
                Err(UnwrapError::Verification(
                    VerificationError::SignatureMismatch
                )),
                "{kind}: \"{}\"",
                changed.escape_ascii()
            );
        }
        for changed in single_bit_changes(SECRET.as_bytes()) {
            // A change that is not text cannot be used as a secret.
            let Ok(changed) = String::from_utf8(changed) else {
                continue;
            };
            let Ok(webhooks) = Webhooks::new(&changed) else {
                continue;
            };
            let answer = webhooks.unwrap_at(body, &headers, NOW);
            assert_eq!(
                answer,
                Err(UnwrapError::Verification(
                    VerificationError::SignatureMismatch
                )),
                "{kind}: the secret {changed:?}"
            );
        }
    }
}

#[test]
fn no_secret_header_or_body_causes_a_panic() {
    let name = prop_oneof![
        4 => select(vec![WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE]).prop_map(|name| name.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..20),
    ];
    let value = prop_oneof![
        vec(any::<u8>(), 0..60),
        "[0-9]{1,25}".prop_map(String::into_bytes),
        "(v1,)?[A-Za-z0-9+/]{43}=".prop_map(String::into_bytes),
    ];
    let values = (
        "\\PC{0,60}|whsec_[A-Za-z0-9+/=_-]{0,60}",
        vec((name, value), 0..8),
        vec(any::<u8>(), 0..60),
        any::<i64>(),
        any::<u64>(),
    );
    holds(1500, values, |(secret, headers, body, now, tolerance)| {
        let webhooks = Webhooks::new(&secret).unwrap_or_else(|_| Webhooks::new(SECRET).unwrap());
        let webhooks = webhooks.tolerance(Duration::from_secs(tolerance));
        let answer = webhooks.unwrap_at(&body, &headers, now);
        prop_assert!(answer.is_err(), "forged: {answer:?}");
        prop_assert!(webhooks.unwrap(&body, &headers).is_err());
        Ok(())
    });
}

#[test]
fn no_authentic_body_causes_a_panic() {
    let webhooks = Webhooks::new(SECRET).unwrap();
    let bytes = prop_oneof![
        vec(any::<u8>(), 0..200),
        // Bytes with a meaning in JSON.
        vec(
            select(b"{}[]\",:\\/u0123456789dDeE+-. tfnrbul\xEF\xBB\xBF\xC3\xA9".to_vec()),
            0..60
        ),
        bodies(),
    ];
    holds(4000, bytes, |body| {
        let headers = webhooks.sign(&body, ID, NOW).unwrap();
        match webhooks.unwrap_at(&body, &headers, NOW) {
            Ok(event) => {
                let again = serde_json::from_str::<UnwrapWebhookEvent>(&event.to_json());
                prop_assert_eq!(again.ok(), Some(event));
            }
            Err(UnwrapError::Payload(error)) => {
                prop_assert_eq!(error.webhook_id(), ID);
                let is_hinted_at = *error.problem() == PayloadProblem::ByteOrderMark;
                prop_assert_eq!(is_hinted_at, body.starts_with(b"\xEF\xBB\xBF"));
            }
            Err(error) => prop_assert!(false, "authentic, but {error}"),
        }
        Ok(())
    });
}

#[test]
fn an_authentic_body_of_thirty_thousand_brackets_causes_no_panic_and_no_overflow() {
    let webhooks = Webhooks::new(SECRET).unwrap();
    for piece in ["[", "{\"a\":", "[{\"a\":"] {
        let deep = piece.repeat(30_000);
        for body in [
            deep.clone(),
            format!(r#"{{"id":"evt_1","type":"note.taken","x":{deep}"#),
            format!(r#"{{"data":{deep}"#),
            format!(r#"{{"id":"evt_1","type":"batch.completed","created_at":1,"object":{deep}"#),
            format!(
                r#"{{"id":"evt_1","type":"batch.completed","created_at":1,"data":{{"id":"batch_1","x":{deep}"#
            ),
        ] {
            let closed = closed(&body);
            for body in [body, closed] {
                let headers = webhooks.sign(&body, ID, NOW).unwrap();
                let answer = webhooks.unwrap_at(&body, &headers, NOW);
                assert!(!matches!(answer, Err(UnwrapError::Verification(_))));
            }
        }
    }
}

#[test]
fn an_unknown_event_comes_back_without_any_loss() {
    let webhooks = Webhooks::new(SECRET).unwrap();
    let blanks = || "[ \n\r\t]{0,3}";
    holds(
        1000,
        (blanks(), unknown_events(), blanks()),
        |(before, json, behind)| {
            let body = format!("{before}{json}{behind}");
            let headers = webhooks.sign(&body, ID, NOW).unwrap();
            let event = webhooks.unwrap_at(&body, &headers, NOW);
            let event = event.map(|event| (event.event_type(), event.to_json()));
            prop_assert_eq!(event, Ok((None, json)));
            Ok(())
        },
    );
}

/// The secret, the signature and the body each consist of letters that occur nowhere else.
#[test]
fn no_error_shows_the_secret_the_signature_or_the_body() {
    const PLANTED: &str = "Planted";
    let mut shown = Vec::new();

    for secret in [
        "Planted\"",
        "\"Planted",
        "v1,Planted",
        "WHSEC_Planted",
        "whsec_Planted Planted",
        "whsec_Planted-",
        "whsec_Planted!",
        "whsec_Planted=Planted",
        "whsec_Planted=====",
        "whsec_PlantedPlantedA",
        "whsec_PlantedPlantedPlantedPlantedPl",
        "whsec_PlantedPlantedPlantedPlantedPlB=",
        "whsec_Planted",
        "whsec_PlantedPlantedPlantedPlantedPlantedPlanted",
        "Planted",
    ] {
        match Secret::parse(secret) {
            Err(error) => shown.extend(as_shown(&error)),
            Ok(parsed) => shown.extend([
                format!("{parsed:?}"),
                format!("{:?}", Webhooks::from(&parsed).and(&parsed)),
            ]),
        }
    }
    let short: Result<Secret, SecretError> = Secret::parse("whsec_PlantedPlanted");
    shown.extend(as_shown(&short.unwrap_err()));

    let secret = "PlantedPlantedPlantedPlanted";
    let webhooks = Webhooks::new(secret).unwrap();
    let signature = "v1,PlantedPlantedPlantedPlantedPlantedPlanted0=";
    for (id, timestamp, signature) in [
        ("", "1750287078", signature),
        ("Pl.anted", "1750287078", signature),
        (ID, "", signature),
        (ID, "1750287078s", signature),
        (ID, "1", signature),
        (ID, "9750287078", signature),
        (ID, "1750287078", ""),
        (ID, "1750287078", signature),
        (
            ID,
            "1750287078",
            &format!("{signature} ").repeat(40) as &str,
        ),
    ] {
        let headers = [
            (WEBHOOK_ID, id),
            (WEBHOOK_TIMESTAMP, timestamp),
            (WEBHOOK_SIGNATURE, signature),
        ];
        let error = webhooks.unwrap_at("Planted", &headers, NOW).unwrap_err();
        shown.extend(as_shown(&error));
        let error = webhooks.verify_signature_at("Planted", &headers, NOW);
        shown.extend(as_shown(&error.unwrap_err()));
        let repeated = [headers[0], headers[1], headers[2], (WEBHOOK_ID, "x")];
        let error = webhooks.unwrap_at("Planted", &repeated, NOW).unwrap_err();
        shown.extend(as_shown(&error));
    }

    let mut planted_bodies = vec![
        b"Planted".to_vec(),
        b"\"Planted\"".to_vec(),
        b"[\"Planted\"]".to_vec(),
        b"{\"Planted\"".to_vec(),
        b"{\"Planted\":Planted}".to_vec(),
        b"{\"type\":\"Planted\"}".to_vec(),
        b"{\"id\":\"Planted\"}".to_vec(),
        b"\xEF\xBB\xBFPlanted".to_vec(),
        b"Planted\xFF".to_vec(),
    ];
    for &kind in EventType::ALL {
        let event: Value = serde_json::from_str(kind.sample()).unwrap();
        for wrong in [
            json!("Planted"),
            json!({"Planted": "Planted"}),
            json!(["Planted"]),
        ] {
            for field in ["id", "type", "created_at", "data", "object"] {
                let mut event = event.clone();
                event[field] = wrong.clone();
                planted_bodies.push(event.to_string().into_bytes());
            }
            for field in event["data"].as_object().unwrap().keys() {
                let mut event = event.clone();
                event["data"][field] = wrong.clone();
                planted_bodies.push(event.to_string().into_bytes());
                event["data"].as_object_mut().unwrap().remove(field);
                event["data"]["Planted"] = wrong.clone();
                planted_bodies.push(event.to_string().into_bytes());
            }
        }
    }
    let mut payload_errors = 0;
    for body in planted_bodies {
        let headers: WebhookHeaders = webhooks.sign(&body, ID, NOW).unwrap();
        let verified = webhooks.verify_signature_at(&body, &headers, NOW).unwrap();
        shown.push(format!("{verified:?}"));
        if let Err(error) = webhooks.unwrap_at(&body, &headers, NOW) {
            payload_errors += 1;
            let UnwrapError::Payload(payload) = &error else {
                panic!("authentic, but {error}");
            };
            shown.extend(as_shown(payload.problem()));
            shown.extend(as_shown(payload));
            for text in as_shown(&error) {
                assert!(!text.contains(&headers.signature[3..]), "{text}");
                shown.push(text);
            }
        }
    }
    assert!(payload_errors > 200);

    for text in shown {
        assert!(!text.contains(PLANTED), "{text}");
    }
}

/// An error as a program may show it: the error and its sources, as `Display` and as `Debug`.
fn as_shown(error: &dyn std::error::Error) -> Vec<String> {
    let mut shown = Vec::new();
    let mut error = Some(error);
    while let Some(shown_error) = error {
        shown.extend([
            format!("{shown_error}"),
            format!("{shown_error:?}"),
            format!("{shown_error:#?}"),
        ]);
        error = shown_error.source();
    }
    shown
}

fn answer(request: &Request, ask: impl Fn(Webhooks) -> Result<(), UnwrapError>) -> Answer {
    let Ok(webhooks) = Webhooks::new(&request.secret) else {
        return Answer::Config;
    };
    Answer::of(ask(match request.tolerance {
        None => webhooks,
        Some(seconds) => webhooks.tolerance(Duration::from_secs(seconds)),
    }))
}

/// The path of every value inside this one, as JSON pointers.
fn pointers(value: &Value, to_value: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(at, value)| (at.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    for (key, value) in inner {
        let pointer = format!("{to_value}/{key}");
        pointers(value, &pointer, found);
        found.push(pointer);
    }
}

/// The value with the value at this path replaced or removed.
fn changed(value: &Value, place: &str, other: Option<&Value>) -> Value {
    let mut value = value.clone();
    match (other, place.rsplit_once('/')) {
        (Some(other), _) => *value.pointer_mut(place).expect("a place in it") = other.clone(),
        (None, None) => value = Value::Null,
        (None, Some((parent, key))) => match value.pointer_mut(parent).expect("a place in it") {
            Value::Object(fields) => drop(fields.remove(key)),
            Value::Array(items) => drop(items.pop()),
            _ => {}
        },
    }
    value
}

fn single_bit_changes(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}

/// The JSON text with every bracket closed; a missing value at its end becomes null.
fn closed(json: &str) -> String {
    let closing: Vec<u8> = json
        .bytes()
        .filter_map(|letter| match letter {
            b'[' => Some(b']'),
            b'{' => Some(b'}'),
            _ => None,
        })
        .rev()
        .collect();
    format!(
        "{json}null{}",
        String::from_utf8(closing).expect("brackets")
    )
}
