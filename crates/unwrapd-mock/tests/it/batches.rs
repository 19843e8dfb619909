//! Batches, from the input file to the files of results.

use serde_json::{Value, json};

use crate::support::{Api, Application};

fn line(custom_id: &str, body: &Value) -> String {
    json!({"custom_id": custom_id, "method": "POST", "url": "/v1/responses", "body": body})
        .to_string()
}

fn good(custom_id: &str) -> String {
    line(
        custom_id,
        &json!({"model": "gpt-6-astra", "input": custom_id}),
    )
}

async fn create(api: &Api, lines: &str) -> Value {
    let batch = json!({
        "input_file_id": api.upload(lines).await,
        "endpoint": "/v1/responses",
        "completion_window": "24h",
    });
    api.make("/v1/batches", batch).await
}

async fn fetch(api: &Api, batch: &Value) -> Value {
    let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
    api.get(&path).await.1
}

#[tokio::test]
async fn a_completed_batch_has_a_file_of_results_and_one_of_errors() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let lines = [
        good("a"),
        line("b", &json!({"input": "no model"})),
        good("c"),
    ];
    let batch = create(&api, &lines.join("\n")).await;
    assert_eq!(batch["status"], "validating");
    api.advance("1m").await;
    let event = application.event().await;
    assert_eq!(
        (&event["type"], &event["data"]["id"]),
        (&json!("batch.completed"), &batch["id"])
    );

    let batch = fetch(&api, &batch).await;
    assert_eq!(
        batch["request_counts"],
        json!({"total": 3, "completed": 2, "failed": 1})
    );
    assert!(batch["in_progress_at"].as_u64() < batch["completed_at"].as_u64());
    let output = api.lines(&batch["output_file_id"]).await;
    let ids: Vec<&Value> = output.iter().map(|line| &line["custom_id"]).collect();
    assert_eq!(ids, ["a", "c"]);
    assert_eq!(output[0]["response"]["status_code"], 200);
    assert_eq!(output[0]["response"]["body"]["object"], "response");
    let errors = api.lines(&batch["error_file_id"]).await;
    assert_eq!((&errors[0]["custom_id"], errors.len()), (&json!("b"), 1));
    assert_eq!(errors[0]["response"]["body"]["error"]["param"], "model");
}

#[tokio::test]
async fn a_batch_of_chat_completions_runs_too() {
    let api = Api::start().await;
    let body = json!({"model": "gpt-6-astra", "messages": [{"role": "user", "content": "Hi"}]});
    let url = "/v1/chat/completions";
    let line = json!({"custom_id": "a", "method": "POST", "url": url, "body": body});
    let input = api.upload(&line.to_string()).await;
    let batch = json!({"input_file_id": input, "endpoint": url, "completion_window": "24h"});
    let batch = api.make("/v1/batches", batch).await;
    api.advance("1m").await;
    let output = api
        .lines(&fetch(&api, &batch).await["output_file_id"])
        .await;
    let message = &output[0]["response"]["body"]["choices"][0]["message"];
    assert!(message["content"].as_str().unwrap().ends_with("Hi"));
}

#[tokio::test]
async fn a_batch_whose_input_is_wrong_fails_with_the_lines() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let lines = [
        good("a"),
        "{".to_owned(),
        good("a"),
        good("b").replace("/v1/responses", "/v1/embeddings"),
    ];
    let batch = create(&api, &lines.join("\n")).await;
    api.advance("1m").await;
    assert_eq!(application.event().await["type"], "batch.failed");
    let batch = fetch(&api, &batch).await;
    let errors = batch["errors"]["data"].as_array().unwrap();
    let shown: Vec<_> = errors
        .iter()
        .map(|error| (&error["code"], &error["line"]))
        .collect();
    assert_eq!(
        shown,
        [
            (&json!("invalid_json_line"), &json!(2)),
            (&json!("duplicate_custom_id"), &json!(3)),
            (&json!("url_mismatch"), &json!(4)),
        ]
    );
    assert_eq!(batch["output_file_id"], json!(null));
}

#[tokio::test]
async fn an_expired_batch_has_the_results_of_a_part() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    api.rule("batch expired times=1").await;
    let batch = create(&api, &[good("a"), good("b")].join("\n")).await;
    api.advance("23h").await;
    assert_eq!(fetch(&api, &batch).await["status"], "in_progress");
    api.advance("2h").await;
    assert_eq!(application.event().await["type"], "batch.expired");
    let batch = fetch(&api, &batch).await;
    assert_eq!(batch["expired_at"], batch["expires_at"]);
    assert_eq!(
        api.lines(&batch["output_file_id"]).await[0]["custom_id"],
        "a"
    );
    let errors = api.lines(&batch["error_file_id"]).await;
    assert_eq!(errors[0]["error"]["code"], "batch_expired");
}

#[tokio::test]
async fn a_cancelled_batch_keeps_the_results_so_far() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    api.rule("batch completed takes=10h").await;
    let batch = create(
        &api,
        &[good("a"), good("b"), good("c"), good("d")].join("\n"),
    )
    .await;
    api.advance("330m").await;
    let cancel = format!("/v1/batches/{}/cancel", batch["id"].as_str().unwrap());
    assert_eq!(api.make(&cancel, json!({})).await["status"], "cancelling");
    api.advance("1m").await;
    assert_eq!(application.event().await["type"], "batch.cancelled");
    let batch = fetch(&api, &batch).await;
    assert_eq!(api.lines(&batch["output_file_id"]).await.len(), 2);
    assert_eq!(api.post(&cancel, json!({})).await.0, 409);
}

#[tokio::test]
async fn files_are_listed_by_purpose_and_expire() {
    let api = Api::start().await;
    let batch = create(&api, &good("a")).await;
    api.advance("1m").await;
    let (_, outputs) = api.get("/v1/files?purpose=batch_output").await;
    let output = fetch(&api, &batch).await["output_file_id"].clone();
    assert_eq!(outputs["data"][0]["id"], output);
    assert_eq!(outputs["data"].as_array().unwrap().len(), 1);
    api.advance("31d").await;
    let (_, all) = api.get("/v1/files").await;
    assert_eq!(
        all["data"].as_array().unwrap().len(),
        1,
        "the input has expired"
    );
    let path = format!("/v1/files/{}", output.as_str().unwrap());
    assert_eq!(api.delete(&path).await.1["deleted"], true);
    assert_eq!(api.get(&path).await.0, 404);
}

#[tokio::test]
async fn a_batch_of_a_file_that_is_not_there_is_refused() {
    let api = Api::start().await;
    let batch = json!({
        "input_file_id": "file-1",
        "endpoint": "/v1/responses",
        "completion_window": "24h",
    });
    let (status, error) = api.post("/v1/batches", batch).await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (400, &json!("input_file_id"))
    );
}
