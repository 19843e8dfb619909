//! Needs of the operators' pages beside the lists: counts, siblings, failures by cause, and the
//! configuration of destinations.

use std::time::Duration;

use jiff::Timestamp;
use openai_webhooks::EventType;
use serde_json::{Value, json};
use tempfile::TempDir;
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{Bounds, Lifecycle as _, TrafficCount, TrafficKind, TrafficStore as _};

use crate::support::application::{Answer, Application};
use crate::support::{TestGateway, Webhook, destination, until};
use crate::traffic::get;

/// The only destination, as the admin port shows it.
async fn shown(test: &TestGateway) -> Value {
    get(test, "destinations").await["destinations"][0].take()
}

#[tokio::test]
async fn messages_are_counted_by_the_query_that_lists_them() {
    let mut settings = destination("app", "http://127.0.0.1:9/webhook");
    settings.events = unwrapd::route::Patterns::parse(["batch.*"]).unwrap();
    let test = TestGateway::start(vec![settings]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    test.receive("wh_2", EventType::BatchFailed).await;
    test.receive("wh_3", EventType::ResponseCompleted).await;
    for (query, messages) in [
        ("", 3),
        ("?status=unrouted", 1),
        ("?status=unrouted&status=waiting", 3),
        ("?type=batch.*&limit=1", 2),
        ("?id_part=h_2_none", 0),
    ] {
        let counted = get(&test, &format!("message-count{query}")).await;
        let expected = json!({ "messages": messages, "is_exact": true });
        assert_eq!(counted, expected, "{query}");
    }
    let unrouted = get(&test, "messages?status=unrouted").await;
    assert_eq!(unrouted["messages"][0]["webhook_id"], "wh_3");
    assert_eq!(unrouted["messages"][0]["deliveries"], json!([]));
    let part = get(&test, "messages?id_part=_abc123&type=batch.*").await;
    assert_eq!(part["messages"].as_array().unwrap().len(), 2, "{part}");
}

/// A replay of a search would deliver more than one expects.
#[tokio::test]
async fn a_replay_and_a_drop_take_whole_ids_and_dead_letters_are_never_unrouted() {
    let test = TestGateway::start(vec![]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    let part = json!({ "id_part": "wh_1" });
    let unrouted = json!({ "status": ["unrouted"] });
    for (path, body) in [
        ("replays", json!({ "filter": part, "dry_run": true })),
        ("dead/replay", json!({ "filter": part, "dry_run": true })),
        ("dead/drop", json!({ "filter": part, "dry_run": true })),
        (
            "dead/replay",
            json!({ "filter": unrouted, "dry_run": true }),
        ),
        ("dead/drop", json!({ "filter": unrouted, "all": true })),
    ] {
        let (status, answer) = test.ask(path, &body).await;
        assert_eq!(status, 400, "{path} {body} {answer}");
    }
    let plan = json!({ "filter": unrouted, "dry_run": true });
    let (status, plan) = test.ask("replays", &plan).await;
    assert_eq!((status, &plan["unrouted"]), (200, &json!(1)), "{plan}");
    assert_eq!(plan["deliveries"], 0);
}

#[tokio::test]
async fn a_message_names_the_others_about_its_resource() {
    let (_app, test) = TestGateway::with_app([]).await;
    let about = |id: &str, resource: &str| {
        Webhook::with_payload(
            id,
            format!(
                r#"{{"type":"batch.failed","id":"evt_{id}","object":"event","created_at":1,"data":{{"id":"{resource}"}}}}"#
            ),
        )
    };
    assert_eq!(test.post(&about("wh_other", "batch_2")).await, 200);
    for number in 0..25 {
        let webhook = about(&format!("wh_{number}"), "batch_1");
        assert_eq!(test.post(&webhook).await, 200);
    }
    test.settled().await;
    let shown = get(&test, "messages/wh_24").await;
    let siblings = shown["messages"][0]["siblings"].as_array().unwrap();
    let ids: Vec<&str> = siblings
        .iter()
        .map(|sibling| sibling["webhook_id"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = (4..24).rev().map(|number| format!("wh_{number}")).collect();
    assert_eq!(ids, expected);
    assert_eq!(siblings[0]["status"], "delivered");
    assert_eq!(siblings[0]["type"], "batch.failed");
    let shown = get(&test, "messages/wh_other").await;
    assert_eq!(shown["messages"][0]["siblings"], json!([]));
}

#[tokio::test]
async fn failures_are_grouped_by_cause_for_each_destination() {
    let (mut app, test) = TestGateway::with_app([Answer::Status(410), Answer::Status(410)]).await;
    for id in ["wh_1", "wh_2", "wh_3"] {
        test.receive(id, EventType::BatchCompleted).await;
        app.next().await;
    }
    test.settled().await;
    let failures = get(&test, "destinations/app/failures").await;
    assert_eq!(failures["is_exact"], true);
    let causes = failures["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 1, "{failures}");
    assert_eq!(causes[0]["status"], "dead");
    assert_eq!(causes[0]["deliveries"], 2);
    assert_eq!(causes[0]["example_webhook_id"], "wh_2");
    assert!(causes[0]["answer"].as_str().unwrap().contains("410"));
    let missing = format!("{}/api/v1/destinations/none/failures", test.admin());
    let missing = test.client().get(missing).send().await.unwrap();
    assert_eq!(missing.status(), 404);
}

#[tokio::test]
async fn a_destination_is_shown_with_its_configuration_and_its_latest_delivery() {
    let mut app = Application::start([Answer::Status(200), Answer::Status(500)]).await;
    let url = app.url.replace("http://", "http://user:hidden@") + "?key=hidden";
    let settings = || {
        let mut settings = destination("app", &url);
        settings.limits.rate = Some(50);
        // The second attempt at a message would end the failure.
        settings.limits.retry.first = Duration::from_secs(60);
        settings
    };
    let test = TestGateway::start(vec![settings()]).await;
    let view = shown(&test).await;
    assert_eq!(view["target"], app.url);
    assert_eq!(view["events"], json!(["*"]));
    assert_eq!(view["limits"]["rate"], 50);
    assert_eq!(view["limits"]["concurrency"], 16);
    assert_eq!(view["limits"]["timeout_seconds"], 15);
    assert!(!view.to_string().contains("hidden"), "{view}");
    assert_eq!(view["last_delivered_at"], Value::Null);
    assert_eq!(view["oldest_since"], Value::Null);

    test.receive("wh_1", EventType::BatchCompleted).await;
    app.next().await;
    test.settled().await;
    let view = shown(&test).await;
    assert!(view["last_delivered_at"].is_string(), "{view}");
    assert_eq!(view["failing_since"], Value::Null);

    test.receive("wh_2", EventType::BatchCompleted).await;
    app.next().await;
    until("the failure is shown", async || {
        shown(&test).await["failing_since"].is_string()
    })
    .await;
    assert!(shown(&test).await["oldest_since"].is_string());
    test.stop().await;
}

/// A gateway that restarts has no attempt in memory, and the pages still tell since when a
/// destination fails.
#[tokio::test]
async fn a_destination_that_failed_before_a_restart_is_shown_so() {
    let folder = TempDir::new().unwrap();
    let now = Timestamp::now();
    let minute = |ago: i64| {
        let second = now.as_second();
        Timestamp::from_second(second - second.rem_euclid(60) - 60 * ago).unwrap()
    };
    let path = folder.path().join("unwrapd.db");
    let store = SqliteStore::open(&path, &Bounds::default(), now).unwrap();
    let count = |kind, ago| TrafficCount {
        minute: minute(ago),
        kind,
        name: "app".into(),
        count: 1,
    };
    let counts = vec![
        count(TrafficKind::Delivered, 20),
        count(TrafficKind::Retried, 14),
        count(TrafficKind::Retried, 13),
    ];
    store.add_traffic(counts).await.unwrap();
    store.close().await;
    drop(store);

    let app = Application::start(vec![Answer::Status(500); 10_000]).await;
    let mut settings = destination("app", &app.url);
    settings.limits.retry.max = settings.limits.retry.first;
    let test = TestGateway::start_in(folder, vec![settings]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    until("it is down", async || {
        shown(&test).await["state"] != "closed"
    })
    .await;
    let view = shown(&test).await;
    assert_eq!(view["last_delivered_at"], json!(minute(20)), "{view}");
    assert_eq!(view["failing_since"], json!(minute(14)), "{view}");
    let page = test.client().get(test.admin()).send().await.unwrap();
    let page = page.text().await.unwrap();
    let is_told = |time: &str| page.contains(&format!("app has been down for {time}."));
    assert!(is_told("14 minutes") || is_told("15 minutes"), "{page}");
}
