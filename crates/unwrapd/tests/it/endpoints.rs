//! The latest webhooks of an endpoint, as operators see them.

use jiff::Timestamp;
use openai_webhooks::{EventType, UnwrapWebhookEvent, Webhooks};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{OPENAI_SECRET, TestGateway, Webhook, unix_now};
use crate::traffic::get;

fn endpoint<'v>(list: &'v Value, name: &str) -> &'v Value {
    let mut endpoints = list["endpoints"].as_array().unwrap().iter();
    endpoints.find(|endpoint| endpoint["name"] == name).unwrap()
}

#[tokio::test]
async fn an_endpoint_shows_its_latest_webhook_and_the_use_of_its_secrets() {
    const OLD: &str = "an old secret of 24 bytes or more";
    let both = Webhooks::new(OPENAI_SECRET)
        .unwrap()
        .and(&OLD.parse().unwrap());
    let folder = TempDir::new().unwrap();
    let test = TestGateway::start_proving(both, folder, vec![]).await;
    let silent = get(&test, "endpoints").await;
    let production = endpoint(&silent, "production");
    assert!(production["last_webhook_at"].is_null(), "{silent}");
    assert!(production["lateness_ms"].is_null() && production["clock_ahead_ms"].is_null());

    let created_at = unix_now() - 60;
    let event = UnwrapWebhookEvent::sample(EventType::BatchCompleted, "evt_1", created_at);
    let webhook = Webhook::with_payload("wh_1", event.to_json());
    let before = Timestamp::now();
    assert_eq!(test.post(&webhook).await, 200);
    let list = get(&test, "endpoints").await;
    let production = endpoint(&list, "production");
    let at: Timestamp = production["last_webhook_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        at.duration_since(before) > jiff::SignedDuration::from_millis(-10),
        "{list}"
    );
    let lateness = production["lateness_ms"].as_i64().unwrap();
    assert!((60_000..70_000).contains(&lateness), "{list}");
    let ahead = production["clock_ahead_ms"].as_i64().unwrap();
    assert!((0..10_000).contains(&ahead), "{list}");
    let secrets = production["secrets"].as_array().unwrap();
    assert!(secrets[0]["last_used_at"].is_string(), "{list}");
    assert!(secrets[1]["last_used_at"].is_null(), "{list}");
    assert_ne!(secrets[0]["fingerprint"], secrets[1]["fingerprint"]);
    let shown = list.to_string();
    assert!(!shown.contains(OLD) && !shown.contains(&OPENAI_SECRET["whsec_".len()..]));
    assert!(endpoint(&list, "staging")["last_webhook_at"].is_null());

    // A restart remembers the webhook, and not what only this process knew.
    let folder = test.stop().await;
    let test = TestGateway::start_in(folder, vec![]).await;
    let again = get(&test, "endpoints").await;
    let production = endpoint(&again, "production");
    assert!(production["last_webhook_at"].is_string(), "{again}");
    assert!(production["lateness_ms"].is_null(), "{again}");
}
