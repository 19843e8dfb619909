//! One `webhook-id` becomes one message, however many copies arrive.

use openai_webhooks::EventType;
use tokio::task::JoinSet;

use crate::support::application::Application;
use crate::support::tally::Counted as _;
use crate::support::{TestGateway, Webhook, destination};

#[tokio::test]
async fn a_duplicate_is_acknowledged_and_not_delivered_again() {
    let (mut app, test) = TestGateway::with_app([]).await;
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    assert_eq!(test.post(&webhook).await, 200);
    assert_eq!(app.next().await.webhook_id(), "wh_1");
    assert_eq!(test.post(&webhook).await, 200);

    // What comes after it would come behind it.
    test.receive("wh_2", EventType::BatchCompleted).await;
    assert_eq!(app.next().await.webhook_id(), "wh_2");
    test.stop().await;
    assert!(!app.has_more());
}

#[tokio::test]
async fn a_duplicate_is_known_after_a_restart() {
    let mut app = Application::start([]).await;
    let settings = || vec![destination("app", &app.url)];
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    let test = TestGateway::start(settings()).await;
    assert_eq!(test.post(&webhook).await, 200);
    let folder = test.stop().await;

    let test = TestGateway::start_in(folder, settings()).await;
    assert_eq!(test.post(&webhook).await, 200);
    test.stop().await;
    app.next().await;
    assert!(!app.has_more());
}

#[tokio::test]
async fn many_copies_at_once_become_one_message() {
    let (mut app, test) = TestGateway::with_app([]).await;
    let mut copies = JoinSet::new();
    for _ in 0..64 {
        let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
        copies.spawn(
            webhook
                .request(test.client(), &test.url("production"))
                .send(),
        );
    }
    for answer in copies.join_all().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(test.gateway.store().tally().await.messages, 1);
    test.stop().await;
    app.next().await;
    assert!(!app.has_more());
}

#[tokio::test]
async fn the_same_id_at_another_endpoint_is_another_message() {
    let test = TestGateway::start(vec![]).await;
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    assert_eq!(test.post_to("production", &webhook).await.status(), 200);
    assert_eq!(test.post_to("staging", &webhook).await.status(), 200);
    assert_eq!(test.gateway.store().tally().await.messages, 2);
}
