//! Bodies with problems: the reported error, and the parts that are still readable.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

#[path = "support/property.rs"]
mod property;
#[path = "support/requests/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the bodies alone are of use here")]
mod requests;

use openai_webhooks::{
    Envelope, EventType, PayloadError, PayloadProblem, UnwrapError, UnwrapWebhookEvent, Webhooks,
};
use property::holds;
use proptest::collection::vec;
use proptest::prelude::*;
use requests::bodies;
use serde_json::Value;

fn unwrap(body: impl AsRef<[u8]>) -> Result<UnwrapWebhookEvent, PayloadError> {
    let webhooks = Webhooks::new("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX").unwrap();
    let headers = webhooks.sign(&body, "wh_1", 1_750_287_078).unwrap();
    match webhooks.unwrap_at(body.as_ref(), &headers, 1_750_287_078) {
        Ok(event) => Ok(event),
        Err(UnwrapError::Payload(error)) => Err(error),
        Err(error) => panic!("authentic, but {error}"),
    }
}

mod problems {
    use super::*;

    /// The text of the error, and its event type.
    #[track_caller]
    fn told(body: impl AsRef<[u8]>) -> (String, Option<String>) {
        let error = unwrap(body).unwrap_err();
        assert_eq!(error.webhook_id(), "wh_1");
        let text = error.to_string();
        let text = text.strip_prefix("the body is authentic but not an event: ");
        (
            text.unwrap().to_owned(),
            error.kind().map(ToOwned::to_owned),
        )
    }

    const CALL: &str =
        r#"{"id":"evt_1","type":"realtime.call.incoming","created_at":1,"data":DATA}"#;

    #[test]
    fn a_bad_field_is_reported_with_its_path_and_its_type() {
        for (data, expected) in [
            (
                r#"{"call_id":"rtc_1","sip_headers":[{"name":"a","value":"b"},{"name":"X-Trunk","value":null}]}"#,
                "the field `data.sip_headers[1].value` must be text and is null",
            ),
            (
                r#"{"call_id":"rtc_1"}"#,
                "the field `data.sip_headers` is missing",
            ),
            (
                r#"{"call_id":"rtc_1","sip_headers":null}"#,
                "the field `data.sip_headers` must be a list and is null",
            ),
            (
                r#"{"call_id":"rtc_1","sip_headers":[{"value":"b"}]}"#,
                "the field `data.sip_headers[0].name` is missing",
            ),
            (
                r#"{"call_id":"rtc_1","sip_headers":[{"name":"a","value":"b","name":"c"}]}"#,
                "the field `data.sip_headers[0].name` is duplicated",
            ),
            (
                r#"{"call_id":"rtc_1","sip_headers":["a"]}"#,
                "the field `data.sip_headers[0]` must be an object and is text",
            ),
            (
                r#"{"call_id":7,"sip_headers":[]}"#,
                "the field `data.call_id` must be text and is a number",
            ),
            (
                r#"{"call_id":"rtc_1","call_id":"rtc_2","sip_headers":[]}"#,
                "the field `data.call_id` is duplicated",
            ),
            (
                r#"{"call_id":"rtc_1","sip_headers":[],"sip_media_security":true}"#,
                "the field `data.sip_media_security` must be text and is true or false",
            ),
            ("null", "the field `data` must be an object and is null"),
        ] {
            let kind = Some("realtime.call.incoming".to_owned());
            assert_eq!(
                told(CALL.replace("DATA", data)),
                (expected.to_owned(), kind)
            );
        }
    }

    #[test]
    fn a_bad_field_of_the_envelope_is_reported_with_its_path() {
        for (body, expected, kind) in [
            (
                r#"{"object":"event","type":"response.completed","created_at":1,"data":{"id":"resp_1"}}"#,
                "the field `id` is missing",
                Some("response.completed"),
            ),
            (
                r#"{"id":"evt_1","type":"response.completed","created_at":"2026-11-29T08:00:00Z","data":{"id":"resp_1"}}"#,
                "the field `created_at` must be whole seconds since 1970 and is text",
                Some("response.completed"),
            ),
            (
                r#"{"id":"evt_1","type":"response.completed","created_at":1e400,"data":{"id":"resp_1"}}"#,
                "the field `created_at` must be whole seconds since 1970 and is a number with a fraction or of more than 64 bits",
                Some("response.completed"),
            ),
            (
                r#"{"id":"evt_1","type":"batch.failed","type":"response.completed","created_at":1,"data":{"id":"resp_1"}}"#,
                "the field `type` is duplicated",
                Some("response.completed"),
            ),
            (
                r#"{"id":"evt_1","type":"response.completed","created_at":1,"created_at":1,"data":{"id":"resp_1"}}"#,
                "the field `created_at` is duplicated",
                Some("response.completed"),
            ),
            (
                r#"{"id":"evt_1","type":"response.completed","created_at":1}"#,
                "the field `data` is missing",
                Some("response.completed"),
            ),
            (
                r#"{"data":{"id":7},"id":"evt_1","type":"response.completed","created_at":1}"#,
                "the field `data.id` must be text and is a number",
                Some("response.completed"),
            ),
            (
                r#"{"type":"note.taken"}"#,
                "the field `id` is missing",
                Some("note.taken"),
            ),
            (r#"{"id":"evt_1"}"#, "the field `type` is missing", None),
            (
                r#"{"id":"evt_1","type":["batch.completed"]}"#,
                "the field `type` must be text and is a list",
                None,
            ),
        ] {
            let kind = kind.map(ToOwned::to_owned);
            assert_eq!(told(body), (expected.to_owned(), kind), "{body}");
        }
    }

    #[test]
    fn a_body_that_is_not_an_object_is_reported_with_its_kind() {
        let event =
            r#"{"id":"evt_1","type":"batch.completed","created_at":1,"data":{"id":"batch_1"}}"#;
        let bom = format!("\u{feff}{event}");
        let kind = Some("batch.completed");
        for (body, expected, kind) in [
            (&b""[..], "it is empty", None),
            (b" \r\n\t", "it is empty", None),
            (b"7", "it is not a JSON object but a number", None),
            (b" [1]", "it is not a JSON object but a list", None),
            (b"\"x\"", "it is not a JSON object but text", None),
            (b"null", "it is not a JSON object but null", None),
            (
                b"type=batch.completed",
                "it is not JSON, from line 1, column 2",
                None,
            ),
            (
                b"{\"type\":\"batch.completed\",\n x",
                "it is not JSON, from line 2, column 2",
                kind,
            ),
            (
                b"{\"type\":\"batch.completed\",\"x\":\"\xff\"}",
                "it is not UTF-8, from byte 32",
                kind,
            ),
            (
                bom.as_bytes(),
                "it begins with a byte order mark, which JSON does not allow: send UTF-8 without one",
                kind,
            ),
        ] {
            assert_eq!(
                told(body),
                (expected.to_owned(), kind.map(ToOwned::to_owned))
            );
        }
    }

    /// A line end inside a text is itself at fault, and a truncated body has no byte at fault.
    #[test]
    fn invalid_json_is_reported_with_the_byte_at_fault_or_as_truncated() {
        let event =
            r#"{"id":"evt_1","type":"batch.completed","created_at":1,"data":{"id":"batch_1"}}"#;
        for (body, expected) in [
            ("{\"x\":\"a\nb\"}", "it is not JSON, from line 1, column 8"),
            ("{\n\"x\":\"\n\"}", "it is not JSON, from line 2, column 6"),
            ("{\"x\":\"a\tb\"}", "it is not JSON, from line 1, column 8"),
            ("{\"x\":1,}", "it is not JSON, from line 1, column 8"),
            ("{\"x\":\n\"\n\"}", "it is not JSON, from line 2, column 2"),
            ("{\"x\":t\nrue}", "it is not JSON, from line 1, column 7"),
            ("{\"x\":\"\\q\"}", "it is not JSON, from line 1, column 8"),
            ("{\"x\":01}", "it is not JSON, from line 1, column 7"),
            ("{}\n\n}", "it is not JSON, from line 3, column 1"),
        ] {
            assert_eq!(told(body).0, expected, "{body:?}");
        }
        for bytes in 1..event.len() {
            for blanks in ["", "\n", "\r\n "] {
                let body = format!("{}{blanks}", &event[..bytes]);
                let (text, _) = told(&body);
                let is_cut = text
                    == format!(
                        "it is truncated: its JSON is incomplete after {} bytes",
                        body.len()
                    );
                // A line end within a word or a text is at fault before the end is.
                let is_named =
                    !blanks.is_empty() && text.starts_with("it is not JSON, from line 1");
                assert!(is_cut || is_named, "{body:?}: {text}");
                assert!(!text.ends_with(" 0"), "{body:?}: {text}");
            }
        }
    }

    /// Half a pair was once reported as "not JSON", and the whole webhook with its call was lost.
    #[test]
    fn half_a_surrogate_pair_is_no_problem_and_reads_as_the_replacement_character() {
        let data = r#"{"call_id":"rtc_1","sip_headers":[{"name":"From","value":"Ren\udce9 \ud83d\ude00 \ud83d\ud83d\ude00\\udce9"},{"name":"\ud800","value":""}],"\udfff":1}"#;
        let body = CALL.replace("DATA", data);
        for body in [
            &body,
            &body
                .replace(r#""type":"realtime.call.incoming","#, "")
                .replace("}}", r#"},"type":"realtime.call.incoming"}"#),
        ] {
            let UnwrapWebhookEvent::RealtimeCallIncoming(event) = unwrap(body).unwrap() else {
                panic!("no call");
            };
            let headers: Vec<_> = event.data.sip_headers.iter().collect();
            assert_eq!(headers[0].value, "Ren\u{fffd} 😀 \u{fffd}😀\\udce9");
            assert_eq!(headers[1].name, "\u{fffd}");
        }
        let error = unwrap(body.replace("rtc_1\"", "rtc_1\", \"call_id\": 7")).unwrap_err();
        assert_eq!(error.field(), Some("data.call_id"));

        let unknown = r#"{"id":"evt_\ud800","type":"note.taken","data":"\ud800"}"#;
        let event = unwrap(unknown).unwrap();
        assert_eq!(
            (event.id(), event.to_json()),
            ("evt_\u{fffd}", unknown.to_owned())
        );
    }

    #[test]
    fn a_transport_that_is_not_sip_has_no_sip_headers() {
        let body = r#"{"id":"evt_1","type":"live.transport.incoming","created_at":1,"data":{"type":"webrtc","session_id":"live_1"}}"#;
        let UnwrapWebhookEvent::LiveTransportIncoming(event) = unwrap(body).unwrap() else {
            panic!("no transport");
        };
        assert!(event.data.sip_headers.is_empty());
        assert!(
            !serde_json::to_string(&event)
                .unwrap()
                .contains("sip_headers")
        );
        let error = unwrap(body.replace("webrtc", "sip")).unwrap_err();
        assert_eq!(error.field(), Some("data.sip_headers"));
        let error = unwrap(body.replace("\"live_1\"", "\"live_1\",\"sip_headers\":7")).unwrap_err();
        assert_eq!(error.field(), Some("data.sip_headers"));
    }

    /// Two parsers judge a body: serde, and the list of fields. If the first refuses it, the second
    /// must find the reason.
    #[test]
    fn every_refused_body_has_a_reason_with_its_position() {
        holds(4000, bodies(), |body| {
            let problem = PayloadProblem::find(&body);
            match unwrap(&body) {
                Ok(_) => prop_assert_eq!(problem, None),
                Err(error) => {
                    let text = error.to_string();
                    prop_assert!(!text.contains("something else"), "{text}");
                    prop_assert_eq!(problem.as_ref(), Some(error.problem()));
                    let json: Option<Value> = serde_json::from_slice(&body).ok();
                    if json.as_ref().is_some_and(Value::is_object) {
                        prop_assert!(error.field().is_some(), "{error}");
                    }
                }
            }
            Ok(())
        });
    }
}

mod envelopes {
    use super::*;

    fn read(body: &str) -> Option<(String, Option<String>)> {
        let envelope = Envelope::read(body.as_bytes())?;
        let resource = envelope.resource_id().map(ToOwned::to_owned);
        Some((envelope.kind().to_owned(), resource))
    }

    #[test]
    fn each_type_has_its_resource() {
        for &kind in EventType::ALL {
            let sample: Value = serde_json::from_str(kind.sample()).unwrap();
            let names = ["id", "call_id", "session_id", "safety_identifier"];
            let ids: Vec<&str> = names
                .iter()
                .filter_map(|name| sample["data"][*name].as_str())
                .collect();
            let envelope = Envelope::read(kind.sample().as_bytes()).unwrap();
            assert_eq!(envelope.event_type(), Some(kind));
            assert_eq!(ids, [envelope.resource_id().unwrap()], "{kind}");
        }
        assert_eq!(
            read(r#"{"type":"note.taken","data":{"call_id":"rtc_1","id":"note_1"}}"#),
            Some(("note.taken".into(), Some("note_1".into())))
        );
        // Types that OpenAI adds later may be about a call, too.
        for (data, resource) in [
            (
                r#"{"session_id":"live_1","call_id":"rtc_1","id":null}"#,
                Some("rtc_1"),
            ),
            (r#"{"session_id":"live_1"}"#, Some("live_1")),
            (r#"{"safety_identifier":"user_1"}"#, Some("user_1")),
            (r#"{"call":"rtc_1"}"#, None),
        ] {
            let body = format!(r#"{{"data":{data},"type":"realtime.call.ended"}}"#);
            let resource = resource.map(ToOwned::to_owned);
            assert_eq!(read(&body), Some(("realtime.call.ended".into(), resource)));
        }
    }

    #[test]
    fn the_last_duplicate_field_counts_and_a_field_that_is_not_text_is_missing() {
        for (body, expected) in [
            (r#"{"type":"a","type":"b"}"#, Some(("b", None))),
            (r#"{"type":"a","\u0074ype":"b"}"#, Some(("b", None))),
            (r#"{"type":"a","type":7}"#, None),
            (r#"{"type":7,"type":"a"}"#, Some(("a", None))),
            (r#"{"type":null}"#, None),
            (r#"{"data":{"type":"a"}}"#, None),
            (r#"["type","a"]"#, None),
            ("", None),
            ("{", None),
            (r#"{"type""#, None),
            (r#"{"type":"a"#, None),
            (r#"{"type":"","data":{"id":""}}"#, Some(("", Some("")))),
            (
                r#"{"data":{"id":"1"},"data":{"id":"2","id":"3"},"type":"a"}"#,
                Some(("a", Some("3"))),
            ),
            (
                r#"{"data":{"id":"1"},"data":{},"type":"a"}"#,
                Some(("a", None)),
            ),
            (
                r#"{"data":{"id":"1"},"data":null,"type":"a"}"#,
                Some(("a", None)),
            ),
            (
                r#"{"data":{"id":"1","id":["2"]},"type":"a"}"#,
                Some(("a", None)),
            ),
            (r#"{"data":["id","1"],"type":"a"}"#, Some(("a", None))),
            (
                r#"{"x":{"type":"b","data":{"id":"2"}},"type":"a\/\u00e9\ud83d\ude00\ud83d\"","data":{"id":"\n"}}"#,
                Some(("a/é😀\u{fffd}\"", Some("\n"))),
            ),
            // After its type, the body may be anything but JSON.
            (r#"{"type":"a","x":NaN,"data":{"id":"1"#, Some(("a", None))),
            (
                r#"{"type":"a","x":NaN,"data":{"id":"1"}"#,
                Some(("a", Some("1"))),
            ),
            (
                "{\"type\":\"a\",,\"x\":\"\t\" 7,\"data\":{\"id\":\"1\"}} {",
                Some(("a", None)),
            ),
            ("\u{feff} {\"type\":\"a\"}", Some(("a", None))),
        ] {
            let expected = expected.map(|(kind, id): (&str, Option<&str>)| {
                (kind.to_owned(), id.map(ToOwned::to_owned))
            });
            assert_eq!(read(body), expected, "{body}");
        }
    }

    #[test]
    fn no_depth_overflows_the_stack() {
        for piece in ["[", "{\"a\":", "[{\"type\":"] {
            let deep = piece.repeat(500_000);
            let body = format!(r#"{{"data":{{"id":"1","x":{deep}"#);
            assert_eq!(read(&body), None);
            let body = format!(r#"{{"type":"a","data":{{"id":"1","x":{deep}"#);
            assert_eq!(read(&body), Some(("a".into(), Some("1".into()))));
            let error = unwrap(&body).unwrap_err();
            assert_eq!(error.kind(), Some("a"));
        }
    }

    /// `serde_json` uses the last of duplicate fields, as the official SDKs do.
    #[test]
    fn every_json_object_is_read_as_serde_json_reads_it() {
        holds(4000, bodies(), |body| {
            let Ok(Value::Object(object)) = serde_json::from_slice(&body) else {
                return Ok(());
            };
            let kind = object.get("type").and_then(Value::as_str);
            let envelope = Envelope::read(&body);
            prop_assert_eq!(envelope.as_ref().map(Envelope::kind), kind);
            if let Some(envelope) = &envelope {
                let id = object.get("id").and_then(Value::as_str);
                prop_assert_eq!(envelope.event_id(), id);
            }
            if let Some(envelope) = envelope
                && envelope.event_type().is_none()
            {
                let names = ["id", "call_id", "session_id", "safety_identifier"];
                let data = object.get("data");
                let id = |name: &&str| data?.get(*name)?.as_str();
                prop_assert_eq!(envelope.resource_id(), names.iter().find_map(id));
            }
            if let Ok(event) = unwrap(&body) {
                prop_assert_eq!(kind, Some(event.kind()));
            }
            Ok(())
        });
    }

    #[test]
    fn no_bytes_cause_a_panic() {
        let letters = b"{}[]\",:\\/u0123dD8c. tfnrbultypeida\xEF\xBB\xBF\xC3\xA9".to_vec();
        let bytes = prop_oneof![
            vec(any::<u8>(), 0..200),
            vec(proptest::sample::select(letters), 0..80).prop_map(|bytes| [
                b"{\"type\":\"",
                &bytes[..]
            ]
            .concat()),
        ];
        holds(8000, bytes, |body| {
            let kind = Envelope::read(&body).map(|envelope| envelope.kind().len());
            prop_assert!(kind.unwrap_or_default() <= 3 * body.len());
            Ok(())
        });
    }
}
