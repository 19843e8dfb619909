//! The OpenAPI document is what the admin port does: its routes, its parameters and its answers.

use std::collections::BTreeSet;

use openai_webhooks::EventType;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use unwrapd::admin::routes;

use crate::support::application::{Answer, Application};
use crate::support::openapi::described;
use crate::support::{PATIENCE, TestGateway, Webhook, described_answer, destination};

/// The method and the path of each entry of the document.
fn entries() -> BTreeSet<(String, String)> {
    let paths = described().document()["paths"].as_object().unwrap();
    let methods = |item: &Value| -> Vec<String> {
        let fields = item.as_object().unwrap();
        let methods = fields.keys().filter(|field| *field != "parameters");
        methods.map(|method| method.to_uppercase()).collect()
    };
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = methods(item).into_iter();
            methods.map(|method| (method, path.clone()))
        })
        .collect()
}

#[test]
fn the_document_has_every_route_of_the_api_and_no_other() {
    let routes: BTreeSet<(String, String)> = routes()
        .iter()
        .filter(|route| !route.is_page())
        .map(|route| (route.method().to_string(), route.path().to_owned()))
        .collect();
    assert_eq!(entries(), routes);
}

#[test]
fn names_of_operations_are_unique_and_every_reference_resolves() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    found.push(reference.to_owned());
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = described().document();
    let mut found = Vec::new();
    references(document, &mut found);
    assert!(found.len() > 100, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let mut ids = BTreeSet::new();
    for (method, path) in entries() {
        let operation = &document["paths"][&path][method.to_lowercase()];
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id}");
        assert!(
            operation["summary"].as_str().unwrap().ends_with('.'),
            "{id}"
        );
    }
}

/// A value that every parameter of this name takes.
fn sample(name: &str) -> &'static str {
    match name {
        "type" => "batch.*",
        "status" => "dead",
        "since" => "1h",
        "until" => "0s",
        "step" => "5m",
        "limit" | "after" => "1",
        "payload" => "true",
        "id_part" => "xyz_",
        "destination" | "endpoint" | "webhook_id" | "event_id" | "resource" => "xyz",
        name => panic!("which value has `{name}`?"),
    }
}

#[tokio::test]
async fn every_parameter_is_taken_and_no_other() {
    let test = TestGateway::start(vec![]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    let admin = test.admin();
    let document = described().document();
    let mut taken = 0;
    for (method, path) in entries() {
        let operation = &document["paths"][&path][method.to_lowercase()];
        let parameters = operation["parameters"].as_array();
        let parameters = parameters.into_iter().flatten();
        let names: Vec<&str> = parameters
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let url = format!("{admin}{}", path.replace("{id}", "1"));
        let status = async |query: &str| {
            let request = test.client().get(format!("{url}?{query}"));
            described_answer(request).await.0
        };
        for name in &names {
            let value = sample(name);
            let status = status(&format!("{name}={value}")).await;
            assert!([200, 404].contains(&status), "{path} {name}: {status}");
            taken += 1;
        }
        if method == "GET" {
            // Probes and scrapers add parameters against caches.
            let expected = if path.starts_with("/api/") { 400 } else { 200 };
            assert_eq!(status("nothing=1").await, expected, "{path}");
        }
    }
    assert!(taken > 20, "{taken}");
}

/// Sends requests whose answers must be described, and keeps the routes that answered with 200.
struct Operator<'t> {
    test: &'t TestGateway,
    seen: BTreeSet<(String, String)>,
}

impl Operator<'_> {
    async fn get(&mut self, path: &str) -> Value {
        let (status, answer) = self.get_any(path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// The status and the answer.
    async fn get_any(&mut self, path: &str) -> (u16, Value) {
        let request = self
            .test
            .client()
            .get(format!("{}{path}", self.test.admin()));
        let (status, body) = described_answer(request).await;
        self.note(&Method::GET, path, status);
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Requests each of these paths, which must be answered with its status.
    async fn get_each(&mut self, expected: &[(&str, u16)]) {
        for (path, expected) in expected {
            let (status, answer) = self.get_any(path).await;
            assert_eq!(status, *expected, "{path}: {answer}");
        }
    }

    async fn post(&mut self, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.test.admin());
        let mut request = self.test.client().post(url);
        if !body.is_null() {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let (status, body) = described_answer(request).await;
        self.note(&Method::POST, path, status);
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn note(&mut self, method: &Method, path: &str, status: u16) {
        if status == 200 {
            let path = path.split('?').next().unwrap();
            self.seen.insert((method.to_string(), path.to_owned()));
        }
    }
}

/// Every route answers with 200 and with what else it may answer, in states as different as
/// possible. The kit compares each answer with the document.
#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let mut app = Application::start([Answer::Status(410), Answer::Status(410)]).await;
    let folder = TempDir::new().unwrap();
    // Deliveries wait for a destination that is removed afterwards.
    let gone = destination("gone", "http://127.0.0.1:9/webhook");
    let before = TestGateway::start_in(folder, vec![gone]).await;
    before.receive("wh_0", EventType::BatchCompleted).await;
    let folder = before.stop().await;

    let test = TestGateway::start_in(folder, vec![destination("app", &app.url)]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    test.receive("wh_2", EventType::RealtimeCallIncoming).await;
    let odd = Webhook::with_payload("wh_3", r#"{"type":"response.completed","data":{"id":4}}"#);
    assert_eq!(test.post(&odd).await, 200);
    let no_event = Webhook::with_payload("wh_4", "\u{1}");
    assert_eq!(test.post(&no_event).await, 200);
    for number in 1..=2 {
        let forged =
            Webhook::new(&format!("wh_forged_{number}"), EventType::BatchCompleted).forged();
        assert_eq!(test.post(&forged).await, 401);
    }
    app.skip(4).await;
    let mut operator = Operator {
        test: &test,
        seen: BTreeSet::new(),
    };
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let dead = operator.get("/api/v1/dead").await;
        let requests = operator.get("/api/v1/quarantine").await;
        let has = |list: &Value, length| list.as_array().unwrap().len() == length;
        if has(&dead["letters"], 2) && has(&requests["requests"], 2) {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{dead} {requests}");
    }

    let expected = [
        ("/livez", 200),
        ("/livez?now=1", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/metrics?now=1", 200),
        ("/api/v1/openapi.json", 200),
        ("/api/v1/destinations", 200),
        ("/api/v1/config", 200),
        ("/api/v1/endpoints", 200),
        ("/api/v1/gateways", 200),
        ("/api/v1/traffic", 200),
        ("/api/v1/traffic?since=2d&step=1h", 200),
        ("/api/v1/traffic?since=2d", 400),
        ("/api/v1/messages", 200),
        ("/api/v1/messages?limit=1", 200),
        ("/api/v1/messages?status=delivered&type=batch.*", 200),
        ("/api/v1/messages?status=wrong", 400),
        ("/api/v1/messages?status=unrouted", 200),
        ("/api/v1/messages?id_part=h_forged", 200),
        ("/api/v1/messages?id_part=abc", 400),
        ("/api/v1/message-count", 200),
        ("/api/v1/message-count?type=batch.*&limit=1", 200),
        ("/api/v1/destinations/app/failures", 200),
        ("/api/v1/destinations/none/failures", 404),
        ("/api/v1/messages?endpoint=%00", 200),
        ("/api/v1/messages/wh_1", 200),
        ("/api/v1/messages/wh_1?payload=true", 200),
        ("/api/v1/messages/wh_3?payload=true", 200),
        ("/api/v1/messages/wh_4?payload=true", 200),
        ("/api/v1/messages/wh_none", 404),
        ("/api/v1/messages/%00", 404),
        ("/api/v1/dead?limit=1", 200),
        ("/api/v1/dead?status=waiting", 400),
        ("/api/v1/quarantine?limit=1", 200),
        ("/api/v1/quarantine/1", 200),
        ("/api/v1/quarantine/1?payload=true", 200),
        ("/api/v1/quarantine/99", 404),
        ("/api/v1/quarantine/x", 400),
        ("/api/v1/nothing", 404),
    ];
    operator.get_each(&expected).await;
    let in_background = |token: &str, planned: Option<u64>| {
        let filter = json!({ "type": ["batch.*"], "since": "1h" });
        json!({ "token": token, "filter": filter, "background": true, "planned": planned })
    };
    let all = json!({ "all": true });
    let dry = json!({ "dry_run": true });
    let replay = json!({ "token": "t", "filter": { "webhook_id": ["wh_1"] } });
    let nul = json!({ "dry_run": true, "filter": { "webhook_id": ["\0"] } });
    for (path, body, expected) in [
        ("/api/v1/destinations/app/pause", Value::Null, 200),
        ("/api/v1/destinations/app/resume", Value::Null, 200),
        ("/api/v1/destinations/app/resume", json!({}), 413),
        ("/api/v1/destinations/none/pause", Value::Null, 404),
        ("/api/v1/destinations/app/test", Value::Null, 200),
        ("/api/v1/destinations/app/test", json!({ "type": "x" }), 400),
        ("/api/v1/destinations/gone/give-up", dry.clone(), 200),
        ("/api/v1/destinations/gone/give-up", json!({}), 200),
        ("/api/v1/destinations/gone/give-up", json!({}), 404),
        ("/api/v1/destinations/app/give-up", json!({}), 409),
        ("/api/v1/replays", dry.clone(), 200),
        ("/api/v1/replays", nul, 200),
        ("/api/v1/replays", replay.clone(), 200),
        ("/api/v1/replays", replay, 200),
        ("/api/v1/replays", json!({ "token": "t" }), 409),
        (
            "/api/v1/replays",
            json!({ "to": "none", "dry_run": true }),
            422,
        ),
        ("/api/v1/replays", json!({ "wrong": 1 }), 400),
        ("/api/v1/replays", Value::Null, 415),
        ("/api/v1/replays", in_background("v", None), 202),
        ("/api/v1/replays", in_background("v", None), 202),
        ("/api/v1/replays", in_background("v", Some(7)), 202),
        ("/api/v1/replays", in_background("t", None), 409),
        ("/api/v1/replays", in_background("u", Some(u64::MAX)), 400),
        ("/api/v1/dead/replay", in_background("w", Some(3)), 202),
        (
            "/api/v1/dead/drop",
            json!({ "all": true, "background": true }),
            202,
        ),
        ("/api/v1/replays/v/stop", Value::Null, 200),
        ("/api/v1/replays/none/stop", Value::Null, 404),
        ("/api/v1/dead/replay", dry.clone(), 200),
        ("/api/v1/dead/replay", json!({ "token": "u" }), 200),
        (
            "/api/v1/dead/drop",
            json!({ "all": true, "dry_run": true }),
            200,
        ),
        ("/api/v1/dead/drop", all.clone(), 200),
        ("/api/v1/quarantine/retry", all.clone(), 200),
        ("/api/v1/quarantine/retry", json!({ "id": 0 }), 400),
        ("/api/v1/quarantine/drop", json!({ "id": 1 }), 200),
        ("/api/v1/quarantine/drop", all, 200),
        ("/api/v1/quarantine/drop", "x".repeat(300_000).into(), 413),
    ] {
        let (status, answer) = operator.post(path, body).await;
        // A run in the background may have ended before it is asked for again.
        let has_ended = expected == 202 && status == 200 && answer["repeated"] == true;
        assert!(status == expected || has_ended, "{path}: {status} {answer}");
    }
    let expected = [
        ("/api/v1/replays", 200),
        ("/api/v1/replays/v", 200),
        ("/api/v1/replays/none", 404),
        ("/api/v1/replays/%20", 404),
    ];
    operator.get_each(&expected).await;
    // A form of another web site cannot send JSON.
    let url = format!("{}/api/v1/destinations/app/test", test.admin());
    let form = test.client().post(url).body("{}");
    assert_eq!(described_answer(form).await.0, 415);
    let paths: BTreeSet<(String, String)> = operator
        .seen
        .into_iter()
        .map(|(method, path)| {
            let path = path
                .replace("/app/", "/{name}/")
                .replace("/gone/", "/{name}/")
                .replace("/replays/v", "/replays/{token}")
                .replace("/messages/wh_1", "/messages/{id}")
                .replace("/messages/wh_3", "/messages/{id}")
                .replace("/messages/wh_4", "/messages/{id}")
                .replace("/quarantine/1", "/quarantine/{id}");
            (method, path)
        })
        .collect();
    let mut expected = entries();
    // It never ends; a test of its own reads its events.
    assert!(expected.remove(&("GET".into(), "/api/v1/events/stream".into())));
    assert_eq!(paths, expected);
}
