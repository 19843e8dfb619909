//! Content of webhooks for a token that may not see it: no route shows any.

use openai_webhooks::EventType;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::net::TcpListener;
use unwrapd::admin::{Needs, Route, routes};

use super::{OPERATE, READ, guarded_with, header};
use crate::support::{PATIENCE, TestGateway, Webhook, client, destination, until};

/// Parts of a payload, of the answer of a destination, and of a header of a refused request.
const MARKS: [&str; 3] = ["mark-in-payload", "mark-in-answer", "mark-in-header"];

/// The URL of an application that refuses everything for good.
async fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhook", listener.local_addr().unwrap());
    let answer = async || (StatusCode::GONE, MARKS[1]);
    let router = axum::Router::new().fallback(answer);
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

/// A gateway with a dead letter and a request in the quarantine.
async fn filled(read_payloads: bool) -> TestGateway {
    let destinations = vec![destination("app", &refusing().await)];
    let test = guarded_with(destinations, read_payloads).await;
    let payload = format!(r#"{{"type":"batch.completed","note":"{}"}}"#, MARKS[0]);
    let webhook = Webhook::with_payload("wh_1", &*payload);
    assert_eq!(test.post(&webhook).await, 200);
    let forged = Webhook::with_payload("wh_2", payload).forged();
    let forged = forged.request(test.client(), &test.url("production"));
    let forged = forged.header("user-agent", MARKS[2]).send().await.unwrap();
    assert_eq!(forged.status(), 401);
    test.settled().await;
    let store = test.gateway.store();
    until("the request is in the quarantine", async || {
        !store.list_quarantined(None, 1).await.unwrap().is_empty()
    })
    .await;
    test
}

/// The routes whose answers end, with and without a request for the payload.
fn paths() -> Vec<String> {
    let is_read = |route: &Route| route.needs() == Needs::Read && !route.path().contains("stream");
    let read = routes().into_iter().filter(is_read);
    read.flat_map(|route| {
        let names_message = ["/api/v1/messages", "/events/"];
        let id = if names_message
            .iter()
            .any(|start| route.path().starts_with(start))
        {
            "wh_1"
        } else {
            "1"
        };
        let path = route.path().replace("{id}", id);
        [format!("{path}?payload=true"), path]
    })
    .collect()
}

/// The answer to a token, and the marks in it.
async fn marks(test: &TestGateway, path: &str, token: &str) -> (u16, Vec<&'static str>, String) {
    let request = client().get(format!("{}{path}", test.admin()));
    let answer = request.bearer_auth(token).send().await.unwrap();
    let status = answer.status().as_u16();
    if status == 403 {
        let challenge = header(&answer, "www-authenticate");
        assert_eq!(challenge, "Bearer error=\"insufficient_scope\"", "{path}");
    }
    let body = answer.text().await.unwrap();
    let marks = MARKS.into_iter().filter(|mark| body.contains(mark));
    (status, marks.collect(), body)
}

#[tokio::test]
async fn no_route_shows_content_to_a_token_that_may_not_see_it() {
    let test = filled(false).await;
    let mut shown = Vec::new();
    for path in paths() {
        let (status, found, _) = marks(&test, &path, OPERATE).await;
        shown.extend(found);
        let (denied, found, body) = marks(&test, &path, READ).await;
        assert!(found.is_empty(), "{path}: {body}");
        // Content that is asked for is refused, and other content is left out.
        let is_one = path.contains("/messages/") || path.contains("/quarantine/");
        let has_content = is_one && !path.contains("/message-count");
        let asks = has_content && path.ends_with("?payload=true") || path.contains("/body");
        assert_eq!(denied, if asks { 403 } else { status }, "{path}: {body}");
    }
    shown.sort_unstable();
    shown.dedup();
    assert_eq!(shown.len(), MARKS.len(), "operators see {shown:?} only");
}

#[tokio::test]
async fn a_token_for_reading_sees_content_unless_that_is_denied() {
    let test = filled(true).await;
    for path in paths() {
        let operate = marks(&test, &path, OPERATE).await;
        let read = marks(&test, &path, READ).await;
        assert_eq!((read.0, read.1), (operate.0, operate.1), "{path}");
    }
}

#[tokio::test]
async fn content_that_is_left_out_is_absent() {
    let test = filled(false).await;
    let get = async |path: &str| -> Value {
        let (status, _, body) = marks(&test, path, READ).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    };
    let request = get("/api/v1/quarantine/1").await;
    assert!(request.get("headers").is_none(), "{request}");
    assert_eq!(request["has_body"], true);
    let messages = get("/api/v1/messages/wh_1").await;
    let message = &messages["messages"][0];
    assert!(message["bytes"].is_number() && message.get("payload").is_none());
    let attempt = &message["deliveries"][0]["latest"][0];
    assert!(attempt.get("body").is_none(), "{attempt}");
    assert!(attempt["answer"].as_str().unwrap().contains("410"));
}

#[tokio::test]
async fn the_live_stream_has_no_content() {
    let test = filled(false).await;
    let request = client().get(format!("{}/api/v1/events/stream", test.admin()));
    let mut stream = request.bearer_auth(READ).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let payload = format!(r#"{{"type":"batch.completed","note":"{}"}}"#, MARKS[0]);
    let webhook = Webhook::with_payload("wh_3", payload);
    assert_eq!(test.post(&webhook).await, 200);
    let mut body = String::new();
    while !body.contains("\"settled\"") {
        let piece = tokio::time::timeout(PATIENCE, stream.chunk())
            .await
            .unwrap();
        body += std::str::from_utf8(&piece.unwrap().unwrap()).unwrap();
    }
    assert!(
        body.contains("attempt_ended") && body.contains("410"),
        "{body}"
    );
    for mark in MARKS {
        assert!(!body.contains(mark), "{body}");
    }
}

#[tokio::test]
async fn content_is_shown_to_every_client_of_a_port_without_tokens() {
    let test = TestGateway::start(vec![]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    let url = format!("{}/api/v1/messages/wh_1?payload=true", test.admin());
    let answer = client().get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("batch.completed"));
}
