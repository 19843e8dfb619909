//! Background responses.

use serde_json::{Value, json};
use unwrapd_mock::Retention;

use crate::support::{Api, Application};

async fn create(api: &Api, more: Value) -> Value {
    let mut request = json!({"model": "gpt-6-astra", "input": "Hi", "background": true});
    let fields = request.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    api.make("/v1/responses", request).await
}

fn path_of(response: &Value) -> String {
    format!("/v1/responses/{}", response["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_background_response_completes_after_a_webhook_says_so() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let response = create(&api, json!({"metadata": {"a": "b"}})).await;
    assert_eq!(response["status"], "queued");
    api.advance("1s").await;
    assert_eq!(
        api.get(&path_of(&response)).await.1["status"],
        "in_progress"
    );
    api.advance("2s").await;
    let event = application.event().await;
    assert_eq!(event["type"], "response.completed");
    assert_eq!(event["data"], json!({"id": response["id"]}));
    let (_, done) = api.get(&path_of(&response)).await;
    assert_eq!(
        (&done["status"], &done["metadata"]),
        (&json!("completed"), &json!({"a": "b"}))
    );
    assert_eq!(done["completed_at"], event["created_at"]);
    let text = done["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(text.ends_with("Hi"));
}

#[tokio::test]
async fn a_completion_window_of_hours_takes_hours_on_the_clock() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    for (window, before, after) in [("2h", "80m", "40m"), ("8h", "5h", "3h")] {
        let options = json!({"background_options": {"completion_window": window}});
        let response = create(&api, options).await;
        api.advance(before).await;
        assert_eq!(
            api.get(&path_of(&response)).await.1["status"],
            "in_progress"
        );
        api.advance(after).await;
        let event = application.event().await;
        assert_eq!(event["data"]["id"], response["id"]);
        // The event is as old as the end of the response, and not as its webhook.
        let now = api.get("/_mock/clock").await.1["now"].as_u64().unwrap();
        assert!(event["created_at"].as_u64().unwrap() + 20 * 60 < now);
    }
}

#[tokio::test]
async fn a_fast_clock_needs_no_help() {
    let mut application = Application::start().await;
    let api = Api::with(|settings| {
        settings.endpoints.push(application.endpoint());
        settings.speed = 36_000;
    })
    .await;
    let options = json!({"background_options": {"completion_window": "8h"}});
    let response = create(&api, options).await;
    assert_eq!(application.event().await["data"]["id"], response["id"]);
}

#[tokio::test]
async fn a_result_that_is_not_stored_vanishes_after_ten_minutes() {
    let api = Api::start().await;
    let gone = create(&api, json!({"store": false})).await;
    let kept = create(&api, json!({})).await;
    api.advance("9m").await;
    assert_eq!(api.get(&path_of(&gone)).await.0, 200);
    api.advance("2m").await;
    let (status, error) = api.get(&path_of(&gone)).await;
    assert_eq!(
        (status, &error["error"]["type"]),
        (404, &json!("invalid_request_error"))
    );
    assert_eq!(api.get(&path_of(&kept)).await.0, 200);
    api.advance("31d").await;
    assert_eq!(api.get(&path_of(&kept)).await.0, 404);
}

#[tokio::test]
async fn the_retention_of_the_project_decides_what_is_stored() {
    for (retention, more, is_kept) in [
        (Retention::ModifiedAbuseMonitoring, json!({}), false),
        (
            Retention::ModifiedAbuseMonitoring,
            json!({"store": true}),
            true,
        ),
        (Retention::Zero, json!({"store": true}), false),
    ] {
        let api = Api::with(|settings| settings.retention = retention).await;
        let response = create(&api, more).await;
        api.advance("15m").await;
        let (status, _) = api.get(&path_of(&response)).await;
        assert_eq!(status == 200, is_kept, "{retention:?}");
    }
}

#[tokio::test]
async fn a_rule_makes_a_response_fail_or_end_early() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    api.rule("response failed times=1").await;
    api.rule("response incomplete after=1 takes=1h").await;
    for (status, field) in [("failed", "error"), ("incomplete", "incomplete_details")] {
        let response = create(&api, json!({})).await;
        api.advance("61m").await;
        assert_eq!(
            application.event().await["type"],
            format!("response.{status}")
        );
        let (_, ended) = api.get(&path_of(&response)).await;
        assert_eq!(ended["status"], status);
        assert!(ended[field].is_object());
    }
}

#[tokio::test]
async fn a_cancelled_response_sends_one_webhook_and_stays_cancelled() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let response = create(&api, json!({})).await;
    let cancel = format!("{}/cancel", path_of(&response));
    for _ in 0..2 {
        assert_eq!(api.make(&cancel, json!({})).await["status"], "cancelled");
    }
    api.advance("1h").await;
    assert_eq!(api.get(&path_of(&response)).await.1["status"], "cancelled");
    let next = create(&api, json!({})).await;
    api.advance("1m").await;
    assert_eq!(application.event().await["type"], "response.cancelled");
    assert_eq!(application.event().await["data"]["id"], next["id"]);
}

#[tokio::test]
async fn a_response_in_the_foreground_is_complete_at_once_and_sends_no_webhook() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let response = create(&api, json!({"background": false})).await;
    assert_eq!(response["status"], "completed");
    let cancel = format!("{}/cancel", path_of(&response));
    assert_eq!(api.post(&cancel, json!({})).await.0, 400);
    assert_eq!(api.delete(&path_of(&response)).await.1["deleted"], true);
    let next = create(&api, json!({})).await;
    api.advance("1m").await;
    assert_eq!(application.event().await["data"]["id"], next["id"]);
}

#[tokio::test]
async fn a_window_of_hours_needs_background_and_standard_processing() {
    let api = Api::start().await;
    for more in [
        json!({"background": false}),
        json!({"service_tier": "flex"}),
        json!({"background_options": {"completion_window": "4h"}}),
    ] {
        let mut request = json!({
            "model": "gpt-6-astra",
            "background": true,
            "background_options": {"completion_window": "2h"},
        });
        let fields = request.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let (status, error) = api.post("/v1/responses", request).await;
        let param = &error["error"]["param"];
        assert_eq!(
            (status, param),
            (400, &json!("background_options.completion_window"))
        );
    }
}
