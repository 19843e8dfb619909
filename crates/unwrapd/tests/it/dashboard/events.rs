//! The list of events, and the page of one.

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use openai_webhooks::EventType;
use tempfile::TempDir;
use unwrapd::message::{Message, Origin};
use unwrapd::store::{Bounds, SHOWN_MAX};

use super::{Page, read};
use crate::support::application::Application;
use crate::support::{TestGateway, Webhook, destination};

fn about(id: &str, resource: &str) -> Webhook {
    let payload = serde_json::json!({
        "id": format!("evt_{id}"), "object": "event", "created_at": 1, "type": "batch.completed",
        "data": { "id": resource },
    });
    Webhook::with_payload(id, payload.to_string())
}

/// The link to the plan of a replay, if the page has one.
fn replay(page: &Page) -> Option<String> {
    page.links().find(|link| link.starts_with("/replay"))
}

#[tokio::test]
async fn a_message_that_was_pruned_is_not_said_to_have_had_no_destination() {
    let mut app = Application::start([]).await;
    let bounds = Bounds {
        retention: Duration::ZERO,
        ..Bounds::default()
    };
    let folder = TempDir::new().unwrap();
    let destinations = vec![destination("app", &app.url)];
    let test = TestGateway::start_within(folder, bounds, destinations).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    app.next().await;
    test.settled().await;
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    while test.gateway.store().prune(later).await.unwrap().is_more {}
    for path in ["/events", "/events/wh_1"] {
        let page = read(&test, path).await.html;
        assert!(page.contains("aria-label=\"pruned\""), "{path}: {page}");
        assert!(!page.contains("aria-label=\"not delivered\""), "{path}");
        assert!(!page.contains("No destination"), "{path}: {page}");
    }
}

/// Endpoints that share a secret may get the same webhook.
#[tokio::test]
async fn one_of_two_messages_with_the_same_id_is_downloaded_and_replayed_for_itself() {
    let test = TestGateway::start(vec![]).await;
    for endpoint in ["production", "staging"] {
        let now = Timestamp::now();
        let message = Message {
            origin: Origin::OpenAi,
            endpoint: endpoint.into(),
            webhook_id: "wh_1".into(),
            event_type: Some("batch.completed".into()),
            sent_at: now,
            received_at: now,
            secret: None,
            payload: Bytes::from(format!("of {endpoint}")),
        };
        let store = test.gateway.store();
        store.accept(message, vec![]).await.unwrap();
    }
    let page = read(&test, "/events/wh_1").await;
    let bodies: Vec<String> = page.links().filter(|link| link.contains("/body")).collect();
    assert_eq!(bodies.len(), 2, "{}", page.html);
    for (link, endpoint) in bodies.iter().zip(["production", "staging"]) {
        let body = read(&test, link).await.html;
        assert_eq!(body, format!("of {endpoint}"), "{link}");
    }
    assert_eq!(
        replay(&page).unwrap(),
        "/replay?q=id%3Awh_1+endpoint%3Aproduction"
    );
}

#[tokio::test]
async fn a_webhook_id_is_no_command_for_a_shell() {
    let test = TestGateway::start(vec![]).await;
    assert_eq!(test.post(&about("wh_'$(id)", "batch_1")).await, 200);
    let page = read(&test, "/events/wh_'$(id)").await.html;
    let command = r"unwrapd events show 'wh_'\''$(id)' --payload";
    assert!(page.contains(command), "{page}");
}

#[tokio::test]
async fn the_page_of_a_resource_shows_the_newest_of_many_messages() {
    let test = TestGateway::start(vec![]).await;
    for number in 0..SHOWN_MAX + 5 {
        let webhook = about(&format!("wh_{number:03}"), "batch_same");
        assert_eq!(test.post(&webhook).await, 200);
    }
    let page = read(&test, "/events/batch_same").await;
    assert_eq!(page.html.matches("<h1>").count(), SHOWN_MAX);
    assert!(!page.html.contains("unwrapd events show wh_004 "));
    assert!(page.html.contains("unwrapd events show wh_005 "));
    let all = "/events?q=resource%3Abatch_same";
    assert!(page.links().any(|link| link == all), "{}", page.html);
    let whole = read(&test, "/events/wh_004").await.html;
    assert!(!whole.contains("Only the newest"), "{whole}");
}

#[tokio::test]
async fn a_search_leads_to_a_replay_only_if_it_is_for_a_whole_id() {
    let test = TestGateway::start(vec![]).await;
    for (id, resource) in [("wh_abc1", "batch_xyz1"), ("wh_abc2", "batch_xyz2")] {
        assert_eq!(test.post(&about(id, resource)).await, 200);
    }
    let of = async |q: &str| replay(&read(&test, &format!("/events?q={q}")).await);
    let q = |words: &str| Some(format!("/replay?q={words}"));
    assert_eq!(of("wh_abc1").await, q("id%3Awh_abc1"));
    assert_eq!(of("batch_xyz2").await, q("resource%3Abatch_xyz2"));
    assert_eq!(
        of("type:batch.*+batch_xyz2").await,
        q("type%3Abatch.*+resource%3Abatch_xyz2")
    );
    assert_eq!(of("batch_xyz").await, None);
    assert_eq!(of("evt_wh_abc1").await, None);
    assert_eq!(of("type:batch.*").await, q("type%3Abatch.*"));
    let plan = read(&test, &of("wh_abc1").await.unwrap()).await;
    assert_eq!(plan.status, 200, "{}", plan.html);
    let refused = read(&test, "/replay?q=batch_xyz").await;
    assert_eq!(refused.status, 400);
    assert!(refused.html.contains("`resource:`"), "{}", refused.html);
}

#[tokio::test]
async fn the_plan_for_events_without_a_destination_says_that_one_must_be_chosen() {
    let app = Application::start([]).await;
    let mut settings = destination("app", &app.url);
    settings.events = unwrapd::route::Patterns::parse(["response.*"]).unwrap();
    let test = TestGateway::start(vec![settings]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    let plan = read(&test, "/replay?q=status:unrouted").await.html;
    assert!(
        plan.contains("1 event has no destination. Choose one above."),
        "{plan}"
    );
    let plan = read(&test, "/replay?q=status:unrouted&to=app").await;
    assert!(plan.html.contains("Replay 1 delivery"), "{}", plan.html);
}

/// Numbers at the ends of their range, and texts that are no numbers or no UTF-8.
#[tokio::test]
async fn odd_addresses_are_answered_and_never_fail() {
    let test = TestGateway::start(vec![]).await;
    let (least, most) = (i64::MIN, i64::MAX);
    for path in [
        format!("/refused/{least}"),
        format!("/refused/{most}"),
        format!("/refused/{least}/drop"),
        format!("/refused?after={least}"),
        format!("/refused?after={most}"),
        format!("/events?after={least}"),
        format!("/events?after={most}"),
        "/refused/x".into(),
        "/events/%FF".into(),
        "/events/%00".into(),
        "/runs/%00".into(),
        "/destinations/%00".into(),
        "/events?q=%00%00%00%00".into(),
        "/events?q=since:99999999999h".into(),
    ] {
        let page = read(&test, &path).await;
        assert!(page.status.as_u16() < 500, "{path}: {}", page.status);
    }
    for id in [least, 0, most] {
        let page = super::send(&test, &format!("/refused/{id}/retry"), String::new()).await;
        assert_eq!(page.status, 200, "{id}: {}", page.html);
    }
}
