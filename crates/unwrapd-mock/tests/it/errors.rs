//! Errors, limits and the door itself.

use std::net::SocketAddr;

use openai_webhooks::Secret;
use serde_json::json;
use unwrapd_mock::{Mock, Settings, StartError};

use crate::support::{Api, SECRET};

#[tokio::test]
async fn a_request_without_a_key_is_answered_401_in_openais_form() {
    let api = Api::start().await;
    for key in ["", "Bearer ", "Basic abc"] {
        let url = format!("{}/files", api.mock.base_url());
        let request = reqwest::Client::new().get(url).header("authorization", key);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401, "{key}");
        assert_eq!(
            answer.headers()["www-authenticate"],
            "Bearer realm=\"OpenAI API\""
        );
        assert!(
            answer
                .text()
                .await
                .unwrap()
                .contains("invalid_request_error")
        );
    }
}

#[tokio::test]
async fn every_error_has_openais_form() {
    let api = Api::start().await;
    for (method, path, body, status) in [
        ("GET", "/v1/evals", "", 404),
        ("GET", "/", "", 404),
        ("PATCH", "/v1/files", "", 405),
        ("POST", "/v1/responses", "{", 400),
        ("POST", "/v1/responses", "[]", 400),
        ("POST", "/v1/responses", "{}", 400),
        (
            "POST",
            "/v1/responses",
            r#"{"model": "m", "stream": true}"#,
            400,
        ),
        ("GET", "/v1/responses/resp_1?stream=true", "", 400),
        ("POST", "/v1/files", "{}", 400),
        ("GET", "/v1/batches?limit=0", "", 400),
        ("GET", "/v1/batches?limit=101", "", 400),
        ("GET", "/v1/batches?after=batch_1", "", 404),
        ("GET", "/v1/files/file-1/content", "", 404),
        ("GET", "/v1/agents/sessions/sess_1", "", 404),
        ("POST", "/v1/realtime/calls/rtc_1/answer", "", 404),
        ("POST", "/_mock/clock", r#"{"advance": "soon"}"#, 400),
        ("POST", "/_mock/events", r#"{"type": "no.such"}"#, 400),
        ("GET", "/_mock/nothing", "", 404),
    ] {
        let request = api.request(method, path).body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        let text = answer.text().await.unwrap();
        let error: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(error["error"]["message"].is_string(), "{text}");
        assert_eq!(error["error"]["type"], "invalid_request_error", "{text}");
        let keys = error["error"].as_object().unwrap().keys();
        assert_eq!(
            keys.collect::<Vec<_>>(),
            ["code", "message", "param", "type"]
        );
    }
}

#[tokio::test]
async fn every_answer_has_the_id_of_its_request() {
    let api = Api::start().await;
    let answer = api.request("GET", "/v1/files").send().await.unwrap();
    let id = answer.headers()["x-request-id"].to_str().unwrap();
    assert!(id.starts_with("req_"));
    assert_eq!(answer.headers()["openai-version"], "2020-10-01");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let api = Api::start().await;
    let input = "a".repeat(2 * 1024 * 1024);
    let (status, error) = api
        .post("/v1/responses", json!({"model": "m", "input": input}))
        .await;
    assert_eq!(
        (status, &error["error"]["type"]),
        (413, &json!("invalid_request_error"))
    );
}

#[tokio::test]
async fn the_agents_api_needs_its_beta_header() {
    let api = Api::start().await;
    let url = format!("{}/agents/sessions", api.mock.base_url());
    let request = reqwest::Client::new().get(url).bearer_auth("test");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("OpenAI-Beta"));
}

#[tokio::test]
async fn a_page_of_a_browser_cannot_use_the_mock() {
    let api = Api::start().await;
    for path in ["/_mock/calls", "/v1/webhook_endpoints"] {
        let request = api.request("POST", path);
        let request = request.header("origin", "http://example.com");
        assert_eq!(request.send().await.unwrap().status(), 403, "{path}");
    }
}

#[tokio::test]
async fn a_list_in_a_request_that_would_cause_endless_work_is_refused() {
    let api = Api::start().await;
    let webhooks = json!({"webhooks": vec!["live.call.incoming"; 4]});
    assert_eq!(api.post("/_mock/calls", webhooks).await.0, 400);
    let session = json!({
        "agent": {"model": "m"}, "environment": {"type": "none"}, "input": "Hi",
    });
    let session = api.make("/v1/agents/sessions", session).await;
    let path = format!(
        "/v1/agents/sessions/{}/events",
        session["id"].as_str().unwrap()
    );
    let cancel = json!({"type": "agent.session.input.cancel"});
    for (count, status) in [(100, 202), (101, 400)] {
        let inputs = json!({"events": vec![cancel.clone(); count]});
        assert_eq!(api.post(&path, inputs).await.0, status, "{count}");
    }
}

#[tokio::test]
async fn a_report_is_short_whatever_the_request_names() {
    let api = Api::start().await;
    let mut reports = api.mock.subscribe();
    let long = "a".repeat(10_000);
    let event = json!({"type": "response.paused", "data": {"id": long}});
    api.make("/_mock/events", event).await;
    api.get(&format!("/v1/{long}")).await;
    for field in ["resource", "path"] {
        let report = serde_json::to_value(reports.recv().await.unwrap()).unwrap();
        assert_eq!(report[field].as_str().unwrap().len(), 256, "{report}");
    }
}

#[tokio::test]
async fn an_address_beyond_loopback_must_be_allowed() {
    let mut settings = Settings::default();
    settings.listen = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = Mock::start(settings.clone()).await.unwrap_err();
    assert!(matches!(refused, StartError::Remote(_)), "{refused}");
    settings.allow_remote = true;
    Mock::start(settings).await.unwrap().stop().await;
}

#[tokio::test]
async fn an_endpoint_beyond_loopback_needs_https_or_must_be_allowed() {
    let secret = Secret::parse(SECRET).unwrap();
    let with = |url: &str, allow_remote| {
        let mut settings = Settings::default();
        settings.allow_remote = allow_remote;
        settings.endpoints = vec![(url.parse().unwrap(), secret.clone())];
        Mock::start(settings)
    };
    let refused = with("http://example.com/", false).await.unwrap_err();
    assert!(refused.to_string().contains("--allow-remote"), "{refused}");
    for (url, allow_remote) in [
        ("http://example.com/", true),
        ("https://example.com/", false),
    ] {
        with(url, allow_remote).await.unwrap().stop().await;
    }
}

#[tokio::test]
async fn a_mock_that_was_stopped_answers_nobody() {
    let api = Api::start().await;
    assert_eq!(api.get("/v1/files").await.0, 200);
    let request = api.request("GET", "/v1/files");
    api.mock.stop().await;
    assert!(request.send().await.unwrap_err().is_connect());
}
