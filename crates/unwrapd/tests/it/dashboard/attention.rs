//! The overview names everything that needs attention, and nothing else.

use jiff::Timestamp;
use openai_webhooks::EventType;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;
use unwrapd::store::{QuarantinedRequest, TrafficCount, TrafficKind};

use super::read;
use crate::support::application::Application;
use crate::support::{TestGateway, destination};

/// The first page, without the text of its marks and times.
async fn overview(test: &TestGateway) -> String {
    read(test, "/").await.html
}

/// A request that arrived now, this many seconds after it was signed. `None`: it is not signed.
fn refused(late: Option<i64>) -> QuarantinedRequest {
    let now = Timestamp::now();
    let headers = late.map(|late| {
        [
            ("webhook-id", "wh_1".to_owned()),
            ("webhook-timestamp", (now.as_second() - late).to_string()),
            ("webhook-signature", format!("v1,{}=", "A".repeat(43))),
        ]
    });
    let headers = headers.into_iter().flatten();
    QuarantinedRequest {
        id: 0,
        endpoint: "production".into(),
        received_at: now,
        reason: "for the test".into(),
        headers: headers.map(|(name, value)| (name.into(), value)).collect(),
        size: None,
        body: None,
    }
}

#[tokio::test]
async fn a_store_whose_reads_fail_is_not_said_to_refuse_webhooks() {
    let app = Application::start([]).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("unwrapd.db");
    let test = TestGateway::start_in(folder, vec![destination("app", &app.url)]).await;
    let other = Connection::open(file).unwrap();
    other
        .execute_batch("ALTER TABLE quarantine RENAME TO away")
        .unwrap();
    let page = overview(&test).await;
    assert!(page.contains("<h1>The store cannot be read."), "{page}");
    assert!(
        page.contains("Webhooks are accepted all the same."),
        "{page}"
    );
    assert!(!page.contains("503"), "{page}");
    test.receive("wh_1", EventType::BatchCompleted).await;
    other
        .execute_batch("ALTER TABLE away RENAME TO quarantine")
        .unwrap();
    assert!(overview(&test).await.contains("<h1>All is well.</h1>"));
}

#[tokio::test]
async fn deliveries_that_a_replay_made_for_a_removed_destination_need_attention() {
    let mut app = Application::start([]).await;
    let folder = TempDir::new().unwrap();
    let gone = destination("gone", &app.url);
    let test = TestGateway::start_in(folder, vec![gone]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    app.next().await;
    test.settled().await;
    let folder = test.stop().await;
    let test = TestGateway::start_in(folder, vec![destination("app", &app.url)]).await;
    assert!(overview(&test).await.contains("<h1>All is well.</h1>"));
    let replay = json!({ "filter": {}, "token": "t" });
    assert_eq!(test.ask("replays", &replay).await.0, 200);
    let page = overview(&test).await;
    assert!(
        page.contains("1 delivery waits for gone, which is not configured."),
        "{page}"
    );
    assert!(!page.contains("All is well"), "{page}");
    // A line of its own has it, and no other line repeats it.
    let folder = test.stop().await;
    let test = TestGateway::start_in(folder, vec![destination("app", &app.url)]).await;
    let page = overview(&test).await;
    assert_eq!(page.matches("give-up").count(), 1, "{page}");
}

#[tokio::test]
async fn refused_requests_are_counted_by_cause_and_never_for_too_few() {
    let test = TestGateway::start(vec![]).await;
    let store = test.gateway.store();
    for late in [Some(400), Some(500), None] {
        store.quarantine(refused(late)).await.unwrap();
    }
    let page = overview(&test).await;
    for words in [
        "2 requests were refused at production.",
        "The latest: The timestamp is 8 min 20 s before the arrival",
        "1 request was refused at production.",
        "is missing",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    for _ in 0..150 {
        store.quarantine(refused(None)).await.unwrap();
    }
    let page = overview(&test).await;
    let words = "At least 100 requests were refused at production.";
    assert!(page.contains(words), "{page}");
}

#[tokio::test]
async fn many_busy_destinations_are_shown_with_their_traffic() {
    let app = Application::start([]).await;
    let test = TestGateway::start(vec![destination("app", &app.url)]).await;
    let now = Timestamp::now().as_second();
    let steps = (0..95).map(|step| now - now.rem_euclid(60) - step * 900);
    let counts = steps.flat_map(|second| {
        (0..180).flat_map(move |number| {
            use TrafficKind::{Dead, Delivered, Retried};
            [Delivered, Retried, Dead].map(|kind| TrafficCount {
                minute: Timestamp::from_second(second).unwrap(),
                kind,
                name: format!("destination-{number}"),
                count: 1,
            })
        })
    });
    let store = test.gateway.store();
    store.add_traffic(counts.collect()).await.unwrap();
    for path in ["/", "/destinations", "/destinations/app"] {
        let page = read(&test, path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.html);
        assert!(page.html.contains("Last 24 hours: "), "{path}");
    }
}

#[tokio::test]
async fn the_webhooks_of_the_whole_last_hour_are_counted() {
    let test = TestGateway::start(vec![]).await;
    let now = Timestamp::now();
    let minute = now.as_second() - now.as_second().rem_euclid(60);
    let count = |minutes_ago: i64, count| TrafficCount {
        minute: Timestamp::from_second(minute - minutes_ago * 60).unwrap(),
        kind: TrafficKind::Accepted,
        name: "production".into(),
        count,
    };
    let counts = vec![count(58, 3), count(1, 4), count(62, 1_000)];
    test.gateway.store().add_traffic(counts).await.unwrap();
    let page = overview(&test).await;
    assert!(page.contains("7 webhooks in the last hour."), "{page}");
}
