//! A verified body with a problem is routed by its type, like any other, and the problem is shown.

use std::process::Output;

use openai_webhooks::EventType;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tempfile::TempDir;
use unwrapd::route::Patterns;

use crate::support::application::Application;
use crate::support::process::{Serving, destination_table, unwrapd, write_destinations};
use crate::support::{PATIENCE, TestGateway, Webhook, client, destination};

async fn said(admin: &str, arguments: &[&str]) -> String {
    let mut command = unwrapd();
    command.args(arguments).args(["--admin", admin]);
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

const CALL: &str = "realtime.call.incoming";

/// Bodies from the field: their resource, and the reported problem, if there is one.
const BODIES: &[(&str, &str, &str, Option<&str>)] = &[
    (
        CALL,
        "rtc_1",
        r#"{"id":"evt_c","object":"event","type":"realtime.call.incoming","created_at":1795000000,"data":{"call_id":"rtc_1","sip_headers":[{"name":"From","value":"<sip:+15550100@a.example>"},{"name":"X-Trunk","value":null}]}}"#,
        Some("the field `data.sip_headers[1].value` must be text and is null"),
    ),
    (
        CALL,
        "rtc_1",
        r#"{"id":"evt_c","object":"event","type":"realtime.call.incoming","created_at":1795000000,"data":{"call_id":"rtc_1","sip_headers":[{"name":"From","value":"\"Ren\udce9\" <sip:+15550100@a.example>;tag=1"}]}}"#,
        None,
    ),
    (
        CALL,
        "rtc_1",
        r#"{"id":"evt_c","object":"event","type":"realtime.call.incoming","created_at":1795000000,"data":{"call_id":"rtc_1"}}"#,
        Some("the field `data.sip_headers` is missing"),
    ),
    (
        "response.completed",
        "resp_1",
        r#"{"object":"event","type":"response.completed","created_at":1795000000,"data":{"id":"resp_1"}}"#,
        Some("the field `id` is missing"),
    ),
    (
        "live.transport.incoming",
        "live_1",
        r#"{"id":"evt_l","object":"event","type":"live.transport.incoming","created_at":1795000000,"data":{"type":"webrtc","session_id":"live_1"}}"#,
        None,
    ),
    (
        "response.failed",
        "resp_2",
        r#"{"id":"evt_1","type":"response.failed","created_at":"2026-11-29T08:00:00Z","data":{"id":"resp_2"}}"#,
        Some("the field `created_at` must be whole seconds since 1970 and is text"),
    ),
    (
        "batch.completed",
        "-",
        r#"{"id":"evt_1","type":"batch.failed","data":null,"created_at":1e999,"type":"batch.completed"}"#,
        Some("the field `type` is duplicated"),
    ),
    (
        "note.taken",
        "note_1",
        r#"{"type":"note.taken","data":{"id":"note_1"}}"#,
        Some("the field `id` is missing"),
    ),
    (
        "batch.expired",
        "-",
        r#"{"id":"evt_1","type":"batch.expired","data":NaN}"#,
        Some("it is not JSON, from line 1, column 45"),
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_odd_event_is_delivered_byte_for_byte_on_its_lane_and_shown_with_its_oddity() {
    let mut app = Application::start([]).await;
    let families = ["realtime.*", "response.*", "live.*", "batch.*", "note.*"];
    let mut settings = destination("app", &app.url);
    settings.events = Patterns::parse(families).unwrap();
    let test = TestGateway::start(vec![settings]).await;
    let admin = format!("http://{}", test.gateway.admin().unwrap());
    for (number, (kind, resource, body, oddity)) in BODIES.iter().enumerate() {
        let id = format!("wh_{number}");
        assert_eq!(test.post(&Webhook::with_payload(&id, *body)).await, 200);
        let delivered = app.next().await;
        assert_eq!(delivered.webhook_id(), id);
        assert_eq!(delivered.payload, body.as_bytes());
        delivered.verified().unwrap();

        let shown = said(&admin, &["events", "show", &id]).await;
        for (name, value) in [("type", *kind), ("resource", *resource)] {
            assert!(shown.contains(&format!("{name:<10}  {value}\n")), "{shown}");
        }
        match oddity {
            Some(oddity) => {
                assert!(
                    shown.contains(&format!("oddity      {oddity}\n")),
                    "{shown}"
                );
            }
            None => assert!(!shown.contains("oddity"), "{shown}"),
        }
        assert!(!shown.contains("a.example"), "no payload: {shown}");

        let arguments = ["events", "ls", "--type", kind, "--output", "json"];
        let listed: Value = serde_json::from_str(&said(&admin, &arguments).await).unwrap();
        let messages = listed["messages"].as_array().unwrap();
        let found = messages.iter().find(|message| message["webhook_id"] == *id);
        let lane = match kind.split('.').next() {
            Some("realtime" | "live") => "call",
            _ => "standard",
        };
        assert_eq!(found.unwrap()["deliveries"][0]["lane"], lane, "{listed}");
    }
}

#[tokio::test]
async fn a_body_without_a_type_goes_to_destinations_that_want_everything() {
    let (mut app, test) = TestGateway::with_app([]).await;
    for (id, body) in [("wh_1", ""), ("wh_2", "[]"), ("wh_3", r#"{"type":7}"#)] {
        assert_eq!(test.post(&Webhook::with_payload(id, body)).await, 200);
        assert_eq!(app.next().await.payload, body.as_bytes());
        let url = format!(
            "http://{}/api/v1/messages/{id}",
            test.gateway.admin().unwrap()
        );
        let answer = test.client().get(url).send().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(answer["messages"][0]["type"], Value::Null);
        assert!(answer["messages"][0]["oddity"].is_string(), "{answer}");
        assert!(answer["messages"][0].get("payload").is_none());
    }
}

/// A known event in which some fields have unexpected values, and others are missing, duplicated or
/// unknown, in any order and spelling; and the type that a JSON parser reads in it.
fn odd_bodies() -> impl Strategy<Value = (EventType, String)> {
    let odd = select(vec![
        "null",
        "7",
        "-0.5",
        "1e999",
        "true",
        "\"text\"",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "[]",
        "{}",
        "[null]",
        "[{\"name\":null}]",
        "{\"id\":null}",
        "\"2026-11-29T08:00:00Z\"",
        "123456789012345678901234567890",
    ])
    .prop_map(str::to_owned);
    let deep =
        (1..3000_usize).prop_map(|depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    let odd = prop_oneof![8 => odd, 1 => deep];
    let name = select(vec![
        "id",
        "object",
        "created_at",
        "data",
        "Type",
        "x",
        "\\ud83d",
    ]);
    let changes = vec((name, odd, any::<bool>()), 0..5);
    let in_data = vec(
        (
            select(vec!["id", "call_id", "session_id", "sip_headers", "y"]),
            any::<bool>(),
        ),
        0..4,
    );
    (
        select(EventType::ALL),
        changes,
        in_data,
        any::<Index>(),
        any::<bool>(),
    )
        .prop_map(|(kind, changes, in_data, at, is_escaped)| {
            let mut sample: Value = serde_json::from_str(kind.sample()).unwrap();
            for (name, is_removed) in in_data {
                let data = sample["data"].as_object_mut().unwrap();
                if is_removed {
                    data.remove(name);
                } else {
                    data.insert(name.to_owned(), json!([null]));
                }
            }
            let mut fields: Vec<(String, String)> = sample
                .as_object()
                .unwrap()
                .iter()
                .filter(|(name, _)| *name != "type")
                .map(|(name, value)| (name.clone(), value.to_string()))
                .collect();
            for (name, value, is_twice) in changes {
                if !is_twice {
                    fields.retain(|(other, _)| other != name);
                }
                fields.push((name.to_owned(), value));
            }
            let name = if is_escaped { "t\\u0079pe" } else { "type" };
            let at = at.index(fields.len() + 1);
            fields.insert(at, (name.to_owned(), format!("\"{kind}\"")));
            let fields = fields
                .iter()
                .map(|(name, value)| format!("\"{name}\" :{value}"));
            (
                kind,
                format!("{{{}}}", fields.collect::<Vec<_>>().join(",")),
            )
        })
}

/// Each type has its own destination here.
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_gets_every_body_of_its_types_and_one_warning_names_the_oddity() {
    const WEBHOOKS: usize = 300;
    let mut app = Application::start([]).await;
    let folder = TempDir::new().unwrap();
    let destination = |name: &str, events: &str| {
        destination_table(name, &app.url, &format!("events = [{events}]"))
    };
    let mut destinations: Vec<String> = EventType::ALL
        .iter()
        .map(|kind| destination(&kind.as_str().replace('.', "-"), &format!("\"{kind}\"")))
        .collect();
    destinations.push(destination("none", "\"note.taken\""));
    write_destinations(folder.path(), &destinations.concat());
    let serving = Serving::start(folder.path(), &[]);
    let client = client();

    let mut runner = TestRunner::default();
    let mut sent = Vec::new();
    for number in 0..WEBHOOKS {
        let (kind, body) = odd_bodies().new_tree(&mut runner).unwrap().current();
        let webhook = Webhook::with_payload(&format!("wh_{number}"), body.clone());
        let answer = webhook.request(&client, &serving.url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{body}");
        let delivered = app.next().await;
        assert_eq!(delivered.webhook_id(), format!("wh_{number}"), "{body}");
        assert_eq!(delivered.payload, body);
        sent.push((kind, body));
    }

    let admin = serving.admin.as_str();
    let mut odd = std::collections::BTreeSet::new();
    for (number, (kind, body)) in sent.iter().enumerate() {
        let url = format!("{admin}/api/v1/messages/wh_{number}");
        let answer = client.get(url).timeout(PATIENCE).send().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let message = &answer["messages"][0];
        assert_eq!(message["type"], kind.as_str(), "{body}");
        let deliveries = message["deliveries"].as_array().unwrap();
        assert_eq!(deliveries.len(), 1, "{body}");
        assert_eq!(
            deliveries[0]["destination"],
            kind.as_str().replace('.', "-")
        );
        let is_call = kind.as_str().starts_with("live.") || kind.as_str() == CALL;
        let lane = if is_call { "call" } else { "standard" };
        assert_eq!(deliveries[0]["lane"], lane, "{body}");
        if let Some(oddity) = message["oddity"].as_str() {
            odd.insert((kind.as_str(), in_general(oddity)));
        }
    }
    assert!(odd.len() > EventType::ALL.len() / 2, "{odd:?}");
    let (_, log) = serving.terminate();
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("cannot read a verified body as an event"))
        .collect();
    let told: Vec<_> = warnings
        .iter()
        .map(|line| {
            let (_, kind) = line.split_once("event_type=\"").unwrap();
            let (kind, _) = kind.split_once('"').unwrap();
            let (_, oddity) = line.split_once("as an event: ").unwrap();
            let (oddity, _) = oddity.split_once(';').unwrap();
            (kind, in_general(oddity))
        })
        .collect();
    assert_eq!(told.len(), odd.len(), "{warnings:?}");
    assert_eq!(
        told.into_iter().collect::<std::collections::BTreeSet<_>>(),
        odd
    );
}

/// Bodies with the same problem may have it in different items, lines or bytes.
fn in_general(oddity: &str) -> String {
    let parts = oddity.split('[').map(|part| match part.split_once(']') {
        Some((_, rest)) => format!("]{rest}"),
        None => part.to_owned(),
    });
    let oddity = parts.collect::<Vec<_>>().join("[");
    oddity.split(',').next().unwrap().to_owned()
}
