//! Scripted faults of the API.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn a_rule_answers_429_with_retry_after_for_a_while() {
    let api = Api::with(|settings| {
        let rule = "POST /v1/responses 429 after=1 retry_after=2 times=2";
        settings.rules.push(rule.parse().unwrap());
    })
    .await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let request = api.request("POST", "/v1/responses");
        let answer = request.body(r#"{"model": "m"}"#).send().await.unwrap();
        statuses.push(answer.status().as_u16());
        if answer.status() == 429 {
            assert_eq!(answer.headers()["retry-after"], "2");
            let text = answer.text().await.unwrap();
            assert!(text.contains("rate_limit_exceeded"), "{text}");
        }
    }
    assert_eq!(statuses, [200, 429, 429, 200]);
    let (_, rules) = api.get("/_mock/rules").await;
    assert_eq!(
        (&rules["data"][0]["matched"], &rules["data"][0]["applied"]),
        (&json!(4), &json!(2))
    );
    assert_eq!(api.delete("/_mock/rules").await.1["data"], json!([]));
}

#[tokio::test]
async fn a_rule_answers_503_or_names_the_code() {
    let api = Api::start().await;
    api.rule("GET /v1/batches/* 503 times=1").await;
    let (status, error) = api.get("/v1/batches/batch_1").await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (503, &json!("server_is_overloaded"))
    );
    assert_eq!(api.get("/v1/batches/batch_1").await.0, 404);
    api.rule("GET /v1/files 429 code=insufficient_quota").await;
    let (_, error) = api.get("/v1/files").await;
    assert_eq!(error["error"]["type"], "insufficient_quota");
    // The specification has plain text there.
    api.rule("POST /v1/realtime/calls/*/accept 500").await;
    let (status, text) = api.post("/v1/realtime/calls/rtc_1/accept", json!({})).await;
    assert_eq!((status, text.is_string()), (500, true));
}

#[tokio::test]
async fn a_slow_answer_is_the_real_one() {
    let api = Api::start().await;
    api.rule("GET /v1/files delay=300ms").await;
    let started = Instant::now();
    let (status, files) = api.get("/v1/files").await;
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!((status, &files["object"]), (200, &json!("list")));
}

#[tokio::test]
async fn a_wrong_rule_is_refused() {
    let api = Api::start().await;
    let (status, error) = api
        .post("/_mock/rules", json!({"rule": "POST /v1/files 200"}))
        .await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("rule")));
}
