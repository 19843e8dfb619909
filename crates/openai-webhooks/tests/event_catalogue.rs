//! Our types are the published ones: OpenAI's list of events, its documented payloads, and the
//! classes of its [reference page](https://developers.openai.com/api/reference/resources/webhooks).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use openai_webhooks::{
    BatchCancelledWebhookEvent, BatchCompletedWebhookEvent, BatchExpiredWebhookEvent,
    BatchFailedWebhookEvent, EvalRunCanceledWebhookEvent, EvalRunFailedWebhookEvent,
    EvalRunSucceededWebhookEvent, EventObject, EventType, FineTuningJobCancelledWebhookEvent,
    FineTuningJobFailedWebhookEvent, FineTuningJobSucceededWebhookEvent, PayloadProblem,
    RealtimeCallIncomingData, RealtimeCallIncomingWebhookEvent, ResourceData,
    ResponseCancelledWebhookEvent, ResponseCompletedWebhookEvent, ResponseFailedWebhookEvent,
    ResponseIncompleteWebhookEvent, UnknownEventType, UnwrapError, UnwrapWebhookEvent, Webhooks,
};
use serde_json::{Value, json};

/// Number of event types in OpenAI's SDKs, API and documentation.
const PUBLISHED: usize = 34;

#[test]
fn the_catalogue_has_exactly_the_published_types() {
    let ours: Vec<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
    let published: Vec<String> = published_payloads().into_keys().collect();
    assert_eq!(ours, published);
    assert_eq!(ours.len(), PUBLISHED);
}

#[test]
fn every_type_is_parsed_from_its_printed_name_and_from_no_other_text() {
    for &kind in EventType::ALL {
        let text = kind.as_str();
        assert_eq!(kind.to_string(), text);
        assert_eq!(text.parse(), Ok(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), json!(text));
        for other in [
            text.to_uppercase(),
            format!(" {text}"),
            format!("{text} "),
            format!("{text}."),
            text.replace('.', "_"),
        ] {
            assert_eq!(other.parse::<EventType>(), Err(UnknownEventType), "{other}");
        }
    }
}

#[test]
fn every_documented_payload_is_read_as_its_own_type_and_written_as_it_came() {
    for (kind, payload) in published_payloads() {
        let value: Value = serde_json::from_str(&payload).unwrap();
        let event = unwrap(&payload).unwrap();
        assert!(
            !matches!(event, UnwrapWebhookEvent::Unknown(_)),
            "{kind} is unknown"
        );
        assert_eq!(event.kind(), kind);
        assert_eq!(event.event_type(), Some(kind.parse().unwrap()));
        assert_eq!(json!(event.id()), value["id"], "{kind}");
        assert_eq!(json!(event.created_at()), value["created_at"], "{kind}");
        assert_eq!(serde_json::to_value(&event).unwrap(), value);
        assert_eq!(as_value(&event.to_json()), value);
        assert_eq!(
            serde_json::from_str::<UnwrapWebhookEvent>(&payload).unwrap(),
            event
        );
    }
}

#[test]
fn the_sample_of_every_type_is_its_documented_payload() {
    let published = published_payloads();
    for &kind in EventType::ALL {
        assert_eq!(as_value(kind.sample()), as_value(&published[kind.as_str()]));
        assert!(!kind.sample().contains('\n'), "{kind} is on one line");

        let mut expected = as_value(kind.sample());
        expected["id"] = json!("evt_new");
        expected["created_at"] = json!(1_800_000_000);
        let event = UnwrapWebhookEvent::sample(kind, "evt_new", 1_800_000_000);
        assert_eq!(as_value(&event.to_json()), expected);
    }
}

#[test]
fn the_fields_of_an_event_may_stand_in_any_order() {
    for &kind in EventType::ALL {
        let expected = unwrap(kind.sample()).unwrap();
        let fields: Vec<(String, Value)> = as_value(kind.sample())
            .as_object()
            .unwrap()
            .clone()
            .into_iter()
            .collect();
        for order in orders(fields.len()) {
            let fields: Vec<String> = order
                .iter()
                .map(|&at| format!("{}:{}", json!(fields[at].0), fields[at].1))
                .collect();
            let payload = format!("{{{}}}", fields.join(","));
            assert_eq!(unwrap(&payload).as_ref(), Ok(&expected), "{payload}");
        }
    }
}

#[test]
fn the_object_field_is_written_only_where_it_was_read() {
    for &kind in EventType::ALL {
        let mut payload = as_value(kind.sample());
        payload.as_object_mut().unwrap().remove("object");
        let without = unwrap(&payload.to_string()).unwrap();
        assert_eq!(as_value(&without.to_json()), payload);

        payload["object"] = json!("event");
        let with = unwrap(&payload.to_string()).unwrap();
        assert_eq!(as_value(&with.to_json()), payload);
        assert_ne!(with, without);
    }
}

#[test]
fn an_event_without_one_of_the_other_fields_of_its_envelope_is_refused() {
    for &kind in EventType::ALL {
        for field in ["id", "type", "created_at", "data"] {
            let mut payload = as_value(kind.sample());
            payload.as_object_mut().unwrap().remove(field);
            assert_eq!(
                problem(&payload),
                PayloadProblem::MissingField {
                    field: field.to_owned()
                },
                "{kind}"
            );
        }
    }
}

#[test]
fn fields_that_openai_adds_do_not_change_an_event() {
    for &kind in EventType::ALL {
        let expected = unwrap(kind.sample()).unwrap();
        let mut payload = as_value(kind.sample());
        payload["data"]["added"] = json!({"id": [1, null, {"type": "x"}]});
        payload["added"] = json!([{"type": "batch.completed"}, 1.5, "…"]);
        assert_eq!(unwrap(&payload.to_string()), Ok(expected));
    }
}

#[test]
fn an_unknown_event_keeps_every_field_byte_for_byte() {
    let payload = "{ \"type\" : \"note.taken\",\r\n\t\"id\":\"evt_\\u0031\", \
        \"data\": {\"b\": 1.50, \"a\": [1e2, -0, 123456789012345678901234567890], \
        \"a\": \"\\/\\ud83d\\ude00 😀\"},\"created_at\":1750287018.0,\"\": null }";
    let event = unwrap(&format!("\n {payload}\r\n")).unwrap();
    let UnwrapWebhookEvent::Unknown(unknown) = &event else {
        panic!("{} is no known type", event.kind());
    };
    assert_eq!(unknown.json(), payload);
    assert_eq!(event.to_json(), payload);
    assert_eq!(event.kind(), "note.taken");
    assert_eq!(event.event_type(), None);
    assert_eq!(event.id(), "evt_1");
    assert_eq!(event.created_at(), Some(1_750_287_018));
    let value: Value = unknown.parse().unwrap();
    assert_eq!(value, as_value(payload));
}

#[test]
fn an_unknown_event_needs_only_its_type_and_id() {
    for payload in [
        r#"{"id":"evt_1","type":"note.taken"}"#,
        r#"{"id":"evt_1","type":"note.taken","created_at":"today","data":[],"object":7}"#,
        r#"{"data":null,"created_at":-1.5,"type":"","id":""}"#,
        r#"{"id":"evt_1","type":"note.taken","created_at":1e400}"#,
    ] {
        let event = unwrap(payload).unwrap();
        assert_eq!(event.to_json(), payload);
        assert_eq!(event.created_at(), None);
    }
}

/// A derived `Deserialize` accepts `["batch_1"]` for a struct with one field.
#[test]
fn a_list_stands_for_no_object_of_an_event() {
    let list = json!(["evt_1", "note.taken"]);
    assert_eq!(
        problem(&list),
        PayloadProblem::NotAnObject { found: "a list" }
    );
    for (kind, data, place) in [
        ("batch.completed", json!(["batch_1"]), "data"),
        (
            "live.transport.connected",
            json!(["webrtc", "live_1"]),
            "data",
        ),
        (
            "agent.session.action_required",
            json!({"id": "sess_1", "required_action": ["function_call"]}),
            "data.required_action",
        ),
        (
            "agent.session.created",
            json!({"id": "sess_1", "environment_type": "self_hosted", "connect": ["https://example.com"]}),
            "data.connect",
        ),
        (
            "realtime.call.incoming",
            json!({"call_id": "rtc_1", "sip_headers": [["From", "sip:a@example.com"]]}),
            "data.sip_headers[0]",
        ),
    ] {
        let payload = json!({"id": "evt_1", "type": kind, "created_at": 1, "data": data});
        assert_eq!(
            problem(&payload),
            PayloadProblem::WrongField {
                field: place.to_owned(),
                expected: "an object",
                found: "a list",
            },
            "{payload}"
        );
    }
}

/// Names and values share one buffer: an empty value once swapped the two.
#[test]
fn a_sip_header_keeps_its_name_and_value_in_either_order_and_when_one_is_empty() {
    let texts = ["", "a", "Via"];
    let mut in_either_order = Vec::new();
    let mut expected = Vec::new();
    for name in texts {
        for value in texts {
            in_either_order.push(format!(r#"{{"name":"{name}","value":"{value}"}}"#));
            in_either_order.push(format!(r#"{{"x":[],"value":"{value}","name":"{name}"}}"#));
            expected.extend([(name, value); 2]);
        }
    }
    let event = unwrap(&format!(
        r#"{{"id":"evt_1","type":"realtime.call.incoming","created_at":1,"data":{{"call_id":"rtc_1","sip_headers":[{}]}}}}"#,
        in_either_order.join(",")
    ));
    let Ok(UnwrapWebhookEvent::RealtimeCallIncoming(event)) = event else {
        panic!("{event:?} is no incoming call");
    };
    let headers: Vec<(&str, &str)> = event
        .data
        .sip_headers
        .iter()
        .map(|header| (header.name, header.value))
        .collect();
    assert_eq!(headers, expected);
}

/// The content of `data`: text fields, and with `headers` a list of names and values.
struct Data {
    texts: &'static [&'static str],
    headers: Option<&'static str>,
}

const ID: Data = Data {
    texts: &["id"],
    headers: None,
};

/// The classes of the page `webhooks.unwrap()` in OpenAI's reference, with their type and the
/// fields of their `data`. All of them have `id: str`, `created_at: int`, `type` and an optional
/// `object`, which is always "event".
macro_rules! reference_page {
    ($($class:ident $variant:ident $kind:literal: $data:ident { $($field:ident),+ } = $shape:expr;)+) => {
        /// Reads every field of every class, so that this file compiles only with the right names
        /// and types.
        #[test]
        fn every_class_of_the_reference_page_has_its_fields() {
            $(
                assert_eq!($class::TYPE.as_str(), $kind);
                assert_eq!($class::TYPE, EventType::$variant);
                let UnwrapWebhookEvent::$variant(event) = unwrap($class::TYPE.sample()).unwrap() else {
                    panic!("{} is read as another class", $kind);
                };
                let value = as_value($class::TYPE.sample());
                let $class { id, created_at, data, object, .. } = event;
                let (id, created_at, object): (String, i64, Option<EventObject>) = (id, created_at, object);
                assert_eq!(json!(id), value["id"]);
                assert_eq!(json!(created_at), value["created_at"]);
                assert_eq!(object.is_some(), value.get("object").is_some());
                let $data { $($field,)+ .. } = data;
                $(assert_eq!(json!($field), value["data"][stringify!($field)], "{}", $kind);)+
            )+
        }

        const REFERENCE_PAGE: &[(&str, Data)] = &[$(($kind, $shape)),+];
    };
}

reference_page! {
    BatchCancelledWebhookEvent BatchCancelled "batch.cancelled": ResourceData { id } = ID;
    BatchCompletedWebhookEvent BatchCompleted "batch.completed": ResourceData { id } = ID;
    BatchExpiredWebhookEvent BatchExpired "batch.expired": ResourceData { id } = ID;
    BatchFailedWebhookEvent BatchFailed "batch.failed": ResourceData { id } = ID;
    EvalRunCanceledWebhookEvent EvalRunCanceled "eval.run.canceled": ResourceData { id } = ID;
    EvalRunFailedWebhookEvent EvalRunFailed "eval.run.failed": ResourceData { id } = ID;
    EvalRunSucceededWebhookEvent EvalRunSucceeded "eval.run.succeeded": ResourceData { id } = ID;
    FineTuningJobCancelledWebhookEvent FineTuningJobCancelled "fine_tuning.job.cancelled": ResourceData { id } = ID;
    FineTuningJobFailedWebhookEvent FineTuningJobFailed "fine_tuning.job.failed": ResourceData { id } = ID;
    FineTuningJobSucceededWebhookEvent FineTuningJobSucceeded "fine_tuning.job.succeeded": ResourceData { id } = ID;
    RealtimeCallIncomingWebhookEvent RealtimeCallIncoming "realtime.call.incoming": RealtimeCallIncomingData { call_id, sip_headers }
        = Data { texts: &["call_id"], headers: Some("sip_headers") };
    ResponseCancelledWebhookEvent ResponseCancelled "response.cancelled": ResourceData { id } = ID;
    ResponseCompletedWebhookEvent ResponseCompleted "response.completed": ResourceData { id } = ID;
    ResponseFailedWebhookEvent ResponseFailed "response.failed": ResourceData { id } = ID;
    ResponseIncompleteWebhookEvent ResponseIncomplete "response.incomplete": ResourceData { id } = ID;
}

impl Data {
    /// A payload with every field and no other.
    fn payload(&self, kind: &str) -> Value {
        let mut data: serde_json::Map<String, Value> = self
            .texts
            .iter()
            .map(|&field| (field.to_owned(), json!("some text")))
            .collect();
        if let Some(headers) = self.headers {
            let list = json!([{"name": "Via", "value": "a"}, {"name": "Via", "value": ""}, {"name": "", "value": "c"}]);
            data.insert(headers.to_owned(), list);
        }
        json!({"id": "evt_1", "created_at": 1, "type": kind, "object": "event", "data": data})
    }

    fn required(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().copied().chain(self.headers)
    }
}

#[test]
fn the_reference_page_names_fifteen_classes() {
    let kinds: BTreeSet<&str> = REFERENCE_PAGE.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.len(), 15);
}

#[test]
fn the_classes_of_the_reference_page_take_and_give_exactly_their_fields() {
    for (kind, data) in REFERENCE_PAGE {
        let payload = data.payload(kind);
        let event = unwrap(&payload.to_string()).unwrap();
        assert_eq!(as_value(&event.to_json()), payload);

        for field in data.required() {
            let mut without = payload.clone();
            without["data"].as_object_mut().unwrap().remove(field);
            assert_eq!(
                problem(&without),
                PayloadProblem::MissingField {
                    field: format!("data.{field}")
                },
                "{kind} without {field}"
            );
            for wrong in [json!(null), json!(7), json!(true), json!({}), json!([1])] {
                let mut payload = payload.clone();
                payload["data"][field] = wrong;
                let problem = problem(&payload);
                assert!(
                    matches!(&problem, PayloadProblem::WrongField { field: place, .. }
                        if place.starts_with(&format!("data.{field}"))),
                    "{payload}: {problem:?}"
                );
            }
        }
        for (field, wrong) in [
            ("id", json!(1)),
            ("id", json!(null)),
            ("created_at", json!("1")),
            ("created_at", json!(1.5)),
            ("data", json!("id")),
            ("data", json!(["some text"])),
            ("data", json!(["some text", []])),
        ] {
            let mut payload = payload.clone();
            payload[field] = wrong;
            let problem = problem(&payload);
            assert!(
                matches!(&problem, PayloadProblem::WrongField { field: place, .. } if place == field),
                "{payload}: {problem:?}"
            );
        }
    }
}

/// The documented payloads by type, in alphabetical order. A file is named after its type.
fn published_payloads() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/events");
    fs::read_dir(folder)
        .expect("the folder of documented payloads")
        .map(|file| {
            let path = file.expect("an entry of the folder").path();
            let kind = path.file_stem().and_then(|stem| stem.to_str());
            let kind = kind.expect("a type as the name of a file").to_owned();
            let payload = fs::read_to_string(&path).expect("a documented payload");
            assert_eq!(as_value(&payload)["type"], json!(kind));
            (kind, payload)
        })
        .collect()
}

fn as_value(json: &str) -> Value {
    serde_json::from_str(json).expect("JSON")
}

/// Signs a payload and unwraps it, as a user does.
fn unwrap(payload: &str) -> Result<UnwrapWebhookEvent, UnwrapError> {
    let webhooks = Webhooks::new("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX").expect("a good secret");
    let headers = webhooks
        .sign(payload, "wh_1", 1_750_287_078)
        .expect("a good id");
    webhooks.unwrap_at(payload, &headers, 1_750_287_078)
}

fn problem(payload: &Value) -> PayloadProblem {
    match unwrap(&payload.to_string()) {
        Err(UnwrapError::Payload(error)) => error.problem().clone(),
        answer => panic!("{payload} was answered {answer:?}"),
    }
}

/// All permutations of the numbers below `count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else {
        return vec![Vec::new()];
    };
    orders(last)
        .into_iter()
        .flat_map(|order| {
            (0..count).map(move |at| {
                let mut order = order.clone();
                order.insert(at, last);
                order
            })
        })
        .collect()
}
