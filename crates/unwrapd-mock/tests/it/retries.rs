//! How webhooks are retried, on a clock that is advanced.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::support::{Api, Application, PATIENCE, Reply, SECRET};

const HOURS_72: u64 = 72 * 60 * 60;

async fn send(api: &Api, kind: &str) {
    api.make("/_mock/events", json!({"type": kind})).await;
}

#[tokio::test]
async fn a_refused_webhook_is_retried_with_growing_delays_for_72_hours_and_then_given_up() {
    let mut application = Application::answering([Reply::Status(500)]).await;
    let mut api = Api::sending_to(&application).await;
    send(&api, "batch.completed").await;
    api.advance("5d").await;

    let mut delays = Vec::new();
    let mut ids = Vec::new();
    loop {
        let attempt = api.next_attempt().await;
        let delivered = application.next().await;
        assert!(delivered.unwrap_with(SECRET).is_some());
        ids.push(delivered.header("webhook-id").to_owned());
        assert_eq!(attempt["status"], 500);
        if attempt["state"] == "given_up" {
            break;
        }
        delays.push(attempt["next_in_seconds"].as_u64().unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert!((5..=7).contains(&delays[0]), "{delays:?}");
    assert!(delays[..10].is_sorted(), "{delays:?}");
    // The last attempt is within the 72 hours, and another one would not be.
    let total: u64 = delays.iter().sum();
    assert!(
        total <= HOURS_72 && total + 9 * 60 * 60 > HOURS_72,
        "{total}"
    );
    let (_, deliveries) = api.get("/_mock/deliveries").await;
    let delivery = &deliveries["data"][0];
    assert_eq!(delivery["state"], "given_up");
    assert_eq!(
        delivery["attempts"].as_array().unwrap().len(),
        delays.len() + 1
    );
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let mut elsewhere = Application::start().await;
    let redirect = Reply::Redirect(elsewhere.url.clone());
    let mut application = Application::answering([redirect, Reply::Status(200)]).await;
    let mut api = Api::sending_to(&application).await;
    send(&api, "batch.completed").await;
    let first = api.next_attempt().await;
    assert_eq!(
        (&first["status"], &first["state"]),
        (&json!(302), &json!("pending"))
    );
    api.advance("1m").await;
    let second = api.next_attempt().await;
    assert_eq!(
        (&second["status"], &second["state"]),
        (&json!(200), &json!("delivered"))
    );

    let (first, second) = (application.next().await, application.next().await);
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_eq!(first.payload, second.payload);
    // The retry came later, so a delivery to the deleted endpoint would have been seen by now.
    send(&api, "batch.failed").await;
    application.next().await;
    assert!(elsewhere.is_untouched());
}

#[tokio::test]
async fn an_application_that_does_not_answer_in_time_has_failed() {
    let mut application = Application::answering([Reply::Hang, Reply::Status(204)]).await;
    let mut api = Api::with(|settings| {
        settings.endpoints.push(application.endpoint());
        settings.answer_timeout = Duration::from_secs(1);
    })
    .await;
    send(&api, "response.completed").await;
    let first = api.next_attempt().await;
    assert_eq!(
        (&first["status"], &first["state"]),
        (&json!(null), &json!("pending"))
    );
    assert!(first["problem"].as_str().unwrap().contains("no answer"));
    api.advance("1m").await;
    assert_eq!(api.next_attempt().await["state"], "delivered");
    assert_eq!(
        application.next().await.header("webhook-id"),
        application.next().await.header("webhook-id")
    );
}

#[tokio::test]
async fn an_occasional_webhook_is_delivered_twice_under_one_id() {
    let mut application = Application::start().await;
    let mut api = Api::with(|settings| {
        settings.endpoints.push(application.endpoint());
        settings.duplicate_every = 2;
    })
    .await;
    for _ in 0..2 {
        send(&api, "response.completed").await;
        assert_eq!(api.next_attempt().await["is_duplicate"], false);
    }
    api.advance("1m").await;
    assert_eq!(api.next_attempt().await["is_duplicate"], true);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(application.next().await.header("webhook-id").to_owned());
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[1], ids[2]);
}

#[tokio::test]
async fn gone_ends_the_retries_of_safety_events_only() {
    let application = Application::answering([Reply::Status(410)]).await;
    let mut api = Api::sending_to(&application).await;
    send(&api, "safety.alert.created").await;
    assert_eq!(api.next_attempt().await["state"], "given_up");
    send(&api, "batch.completed").await;
    assert_eq!(api.next_attempt().await["state"], "pending");
}

#[tokio::test]
async fn a_retry_goes_to_the_present_url_and_a_deleted_endpoint_gets_none() {
    let application = Application::answering([Reply::Status(503)]).await;
    let mut moved = Application::answering([Reply::Status(503)]).await;
    let mut api = Api::sending_to(&application).await;
    send(&api, "batch.completed").await;
    api.next_attempt().await;
    let (_, endpoints) = api.get("/v1/webhook_endpoints").await;
    let path = format!(
        "/v1/webhook_endpoints/{}",
        endpoints["data"][0]["id"].as_str().unwrap()
    );
    api.make(&path, json!({"url": moved.url})).await;
    api.advance("10s").await;
    api.next_attempt().await;
    assert_eq!(moved.event().await["type"], "batch.completed");

    assert_eq!(api.delete(&path).await.0, 200);
    api.advance("1h").await;
    send(&api, "batch.failed").await;
    let dropped = async {
        loop {
            let (_, deliveries) = api.get("/_mock/deliveries").await;
            if deliveries["data"][0]["state"] == "dropped" {
                return deliveries["data"].clone();
            }
        }
    };
    let deliveries = timeout(PATIENCE, dropped).await.unwrap();
    assert_eq!(deliveries.as_array().unwrap().len(), 1);
    assert_eq!(deliveries[0]["attempts"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_webhook_has_the_headers_and_the_real_time_of_openai() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    api.advance("30d").await;
    send(&api, "response.completed").await;
    let delivered = application.next().await;
    assert_eq!(delivered.header("content-type"), "application/json");
    assert!(delivered.header("user-agent").starts_with("OpenAI/1.0"));
    assert!(delivered.header("webhook-id").starts_with("wh_"));
    // The tolerance of 300 s would refuse the time of the mock's clock.
    let event = delivered.unwrap_with(SECRET).unwrap();
    let timestamp: i64 = delivered.header("webhook-timestamp").parse().unwrap();
    assert!(event.created_at().unwrap() >= timestamp + 29 * 24 * 60 * 60);
}

#[tokio::test]
async fn an_event_of_a_type_that_nobody_knows_yet_is_sent_too() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let event = json!({"type": "response.paused", "data": {"id": "resp_1", "reason": "\u{1F600}"}});
    api.make("/_mock/events", event).await;
    let event = application.next().await.unwrap_with(SECRET).unwrap();
    assert_eq!(
        (event.kind(), event.event_type()),
        ("response.paused", None)
    );
}
