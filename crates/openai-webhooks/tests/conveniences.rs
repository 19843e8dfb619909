//! Conveniences of the library: types for configurations, requests for tests, one type of time.

use openai_webhooks::{EventType, Secret, UnwrapWebhookEvent, VerificationError, Webhooks};

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

#[test]
fn a_secret_is_deserialized_from_a_configuration_and_no_error_shows_it() {
    #[derive(Debug, serde::Deserialize)]
    struct Settings {
        secret: Secret,
    }
    let read = |secret: &str| {
        serde_json::from_str::<Settings>(&format!(r#"{{"secret":{secret}}}"#))
            .map(|settings| settings.secret.expose().to_string())
            .map_err(|error| error.to_string())
    };
    assert_eq!(read(&format!("\"{SECRET}\"")).unwrap(), SECRET);
    assert_eq!(read(&format!("\"{SECRET}\\n\"")).unwrap(), SECRET);
    assert_eq!(*SECRET.parse::<Secret>().unwrap().expose(), SECRET);
    assert_eq!(*Secret::try_from(SECRET).unwrap().expose(), SECRET);
    for (wrong, hint) in [
        ("\"sk-planted\"", "API key"),
        ("\"\"", "empty"),
        ("7654321", "quotation marks"),
        ("-7654321", "quotation marks"),
        ("7654321.5", "quotation marks"),
        ("true", "quotation marks"),
        ("[\"planted\"]", "a webhook secret, as text"),
        ("null", "a webhook secret, as text"),
    ] {
        let error = read(wrong).unwrap_err();
        assert!(error.contains(hint), "{error}");
        assert!(
            !error.contains("planted") && !error.contains("7654321"),
            "{error}"
        );
    }
}

#[derive(Debug, PartialEq, serde::Deserialize, serde::Serialize)]
struct Settings {
    notify_on: Vec<EventType>,
}

#[test]
fn event_types_are_deserialized_from_a_configuration() {
    let text = r#"{"notify_on":["batch.completed","eval.run.canceled"]}"#;
    let settings: Settings = serde_json::from_str(text).unwrap();
    assert_eq!(
        settings.notify_on,
        [EventType::BatchCompleted, EventType::EvalRunCanceled]
    );
    assert_eq!(serde_json::to_string(&settings).unwrap(), text);
    for &event_type in EventType::ALL {
        assert_eq!(EventType::try_from(event_type.as_str()), Ok(event_type));
        assert_eq!(event_type.to_string().parse(), Ok(event_type));
    }
    for wrong in [r#"{"notify_on":["batch.done"]}"#, r#"{"notify_on":[7]}"#] {
        let error = serde_json::from_str::<Settings>(wrong).unwrap_err();
        assert!(error.to_string().contains("event type"), "{error}");
    }
}

#[test]
fn unix_seconds_have_one_type_from_the_event_to_the_headers_and_back() {
    let webhooks = Webhooks::new(SECRET).unwrap();
    let event = UnwrapWebhookEvent::sample(EventType::BatchCompleted, "evt_1", 1_750_287_078);
    let at = event.created_at().unwrap();
    let payload = event.to_json();
    let headers = webhooks.sign(&payload, "wh_1", at).unwrap();
    let verified = webhooks
        .verify_signature_at(&payload, &headers, at)
        .unwrap();
    assert_eq!(verified.timestamp(), at);
    assert_eq!(
        webhooks.sign(&payload, "wh_1", -1),
        Err(VerificationError::MalformedTimestamp)
    );
}

#[test]
fn a_payload_signed_now_is_unwrapped_now() {
    let webhooks = Webhooks::new(SECRET).unwrap();
    let payload = EventType::RealtimeCallIncoming.sample();
    let headers = webhooks.sign_now(payload, "wh_1").unwrap();
    assert!(webhooks.unwrap(payload, &headers).is_ok());
}

#[cfg(feature = "http")]
#[test]
fn a_request_for_tests_is_as_openai_would_send_it() {
    let webhooks = Webhooks::new(SECRET).unwrap();
    let payload = EventType::BatchCompleted.sample();
    let headers = webhooks.sign_now(payload, "wh_1").unwrap();
    let request = headers.request("/webhook", payload).unwrap();
    assert_eq!(request.method(), http::Method::POST);
    assert_eq!(request.uri(), "/webhook");
    assert_eq!(request.headers()["content-type"], "application/json");
    assert!(webhooks.unwrap(request.body(), request.headers()).is_ok());
    assert!(headers.request("not a uri", payload).is_err());
}

/// An application that serialises the JSON again before it verifies fails at once, as with the
/// fixture of the official SDKs.
#[test]
fn samples_have_a_blank_after_each_comma_and_colon_like_the_official_fixture() {
    let webhooks = Webhooks::new(SECRET).unwrap();
    for &event_type in EventType::ALL {
        let new = UnwrapWebhookEvent::sample(event_type, "evt_1", 1_750_287_078).to_json();
        for sample in [event_type.sample(), &new] {
            let headers = webhooks.sign_now(sample, "wh_1").unwrap();
            let again: serde_json::Value = serde_json::from_str(sample).unwrap();
            assert!(webhooks.unwrap(&again.to_string(), &headers).is_err());
            let mut is_in_text = false;
            let bytes = sample.as_bytes();
            for (at, letter) in bytes.iter().enumerate() {
                match letter {
                    b'"' => is_in_text = !is_in_text,
                    b',' | b':' if !is_in_text => {
                        assert_eq!(
                            (bytes[at + 1], bytes[at + 2] == b' '),
                            (b' ', false),
                            "{sample}"
                        );
                    }
                    _ => {}
                }
            }
        }
        let documented: serde_json::Value = serde_json::from_str(event_type.sample()).unwrap();
        let id = documented["id"].as_str().unwrap();
        let at = documented["created_at"].as_i64().unwrap();
        let made: serde_json::Value =
            serde_json::from_str(&UnwrapWebhookEvent::sample(event_type, id, at).to_json())
                .unwrap();
        assert_eq!(made, documented);
    }
}

#[test]
fn a_time_in_milliseconds_is_refused_as_such() {
    let webhooks = Webhooks::new(SECRET).unwrap();
    for (timestamp, is_milliseconds) in [
        (1_795_000_000_000, true),
        (1_795_000_000_000_000, true),
        (1_795_000_001_000, true),
        (1_795_001_000, false),
        (17_950_000_000, false),
    ] {
        let headers = webhooks.sign("body", "wh_1", timestamp).unwrap();
        let error = webhooks
            .verify_signature_at("body", &headers, 1_795_000_000)
            .unwrap_err();
        let text = error.to_string();
        let says_so = text.contains("13 digits are milliseconds") && text.contains("send seconds");
        assert_eq!(says_so, is_milliseconds, "{text}");
        assert_eq!(error.http_status(), 401);
    }
}
