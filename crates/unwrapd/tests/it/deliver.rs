//! From the store to the application: the same bytes, signed afresh, until the application has
//! them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use openai_webhooks::EventType;
use tempfile::TempDir;
use tokio::sync::Notify;
use unwrapd::delivery::Next;
use unwrapd::delivery::limits::Limits;
use unwrapd::message::{Message, Origin};
use unwrapd::pipeline_events::{PipelineEvent, Subscription};
use unwrapd::route::Patterns;
use unwrapd::store::Bounds;
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{Inbox as _, Lifecycle as _, TrafficKind, TrafficRange, TrafficStore as _};

use crate::store_conformance::message;
use crate::support::application::{Answer, Application};
use crate::support::tally::{Counted as _, Tally};
use crate::support::{PATIENCE, TestGateway, Webhook, destination};

/// An event that OpenAI did not send must not look like one.
#[tokio::test]
async fn an_application_can_recognise_an_event_that_openai_did_not_send() {
    let mut app = Application::start([]).await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("unwrapd.db");
    let now = Timestamp::now();
    let store = SqliteStore::open(&path, &Bounds::default(), now).unwrap();
    for origin in [Origin::OpenAi, Origin::Gateway] {
        let message = Message {
            origin,
            ..message(origin.as_str(), now)
        };
        store.accept(message, vec!["app".into()]).await.unwrap();
    }
    store.close().await;
    let test = TestGateway::start_in(folder, vec![destination("app", &app.url)]).await;
    for _ in 0..2 {
        let delivered = app.next().await;
        let origin = delivered.headers.get("unwrapd-origin");
        match delivered.webhook_id() {
            "openai" => assert_eq!(origin, None),
            id => assert_eq!(origin.unwrap(), id),
        }
    }
    test.stop().await;
}

#[tokio::test]
async fn webhooks_and_attempts_are_counted_by_endpoint_and_destination() {
    let (mut app, test) = TestGateway::with_app([Answer::Status(500)]).await;
    let mut events = test.gateway.events().subscribe();
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    let forged = webhook.forged();
    test.post_each(&[(&forged, 401), (&webhook, 200), (&webhook, 200)])
        .await;
    app.skip(2).await;
    attempted(&mut events).await;
    attempted(&mut events).await;
    let folder = test.stop().await;

    let path = folder.path().join("unwrapd.db");
    let store = SqliteStore::open(&path, &Bounds::default(), Timestamp::now()).unwrap();
    let range = TrafficRange {
        since: Timestamp::MIN,
        until: Timestamp::MAX,
        step: Duration::from_secs(60),
    };
    let counts = store.traffic(range, usize::MAX).await.unwrap();
    let total = |kind, name: &str| -> u64 {
        let counts = counts.iter();
        let counts = counts.filter(|counted| counted.kind == kind && counted.name == name);
        counts.map(|counted| counted.count).sum()
    };
    for kind in TrafficKind::ALL {
        let (endpoint, destination) = match kind {
            TrafficKind::Accepted | TrafficKind::Duplicate | TrafficKind::Refused => (1, 0),
            TrafficKind::Delivered | TrafficKind::Retried => (0, 1),
            TrafficKind::Rejected | TrafficKind::Dead => (0, 0),
        };
        assert_eq!(total(kind, "production"), endpoint, "{kind:?}");
        assert_eq!(total(kind, "app"), destination, "{kind:?}");
    }
}

/// Waits for the next settled attempt.
async fn attempted(events: &mut Subscription) -> (u32, String, Next) {
    let mut ended = None;
    loop {
        let event = tokio::time::timeout(PATIENCE, events.recv());
        match (event.await.unwrap().unwrap(), &mut ended) {
            (
                PipelineEvent::AttemptEnded {
                    attempt,
                    answer,
                    next,
                    ..
                },
                _,
            ) => ended = Some((attempt, answer, next)),
            (PipelineEvent::Settled { .. }, Some(_)) => return ended.unwrap(),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_application_gets_the_same_bytes_and_id_signed_again_with_its_own_secret() {
    let (mut app, test) = TestGateway::with_app([]).await;
    let webhook = Webhook::with_payload(
        "wh_1",
        "{ \"type\":\"response.completed\",\r\n\"id\" : \"evt_1\", \"created_at\":1.750287018e9, \
         \"data\":{\"id\":\"r\\u00e9\"}, \"new\": [1e400, 0.10]} ",
    );
    assert_eq!(test.post(&webhook).await, 200);

    let delivered = app.next().await;
    assert_eq!(delivered.payload, webhook.payload);
    assert_eq!(delivered.webhook_id(), "wh_1");
    assert_eq!(delivered.headers["content-type"], "application/json");
    assert_ne!(
        delivered.headers["webhook-signature"],
        webhook.headers.signature
    );
    assert!(delivered.verified().is_ok());
}

#[tokio::test]
async fn a_delivery_is_retried_until_the_answer_is_2xx() {
    let answers = [500, 404, 401, 429, 503, 204].map(Answer::Status);
    let (mut app, test) = TestGateway::with_app(answers).await;
    let mut events = test.gateway.events().subscribe();
    test.receive("wh_1", EventType::BatchCompleted).await;

    for (number, status) in (1..).zip([500, 404, 401, 429, 503, 204]) {
        assert_eq!(app.next().await.webhook_id(), "wh_1");
        let (attempt, answer, next) = attempted(&mut events).await;
        assert_eq!(attempt, number);
        assert!(answer.starts_with(&format!("HTTP {status}")), "{answer}");
        assert_eq!(next == Next::Delivered, status == 204);
    }
    assert_eq!(test.gateway.store().tally().await, Tally::DELIVERED);
}

#[tokio::test]
async fn a_410_is_final_and_leaves_a_dead_letter() {
    let (_app, test) = TestGateway::with_app([Answer::Status(410)]).await;
    let mut events = test.gateway.events().subscribe();
    test.receive("wh_1", EventType::BatchCompleted).await;
    assert_eq!(
        attempted(&mut events).await,
        (
            1,
            "HTTP 410 (refused for good, so not retried)".into(),
            Next::Dead
        )
    );
    assert_eq!(test.gateway.store().tally().await, Tally::DEAD);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut elsewhere = Application::start([]).await;
    let (mut app, test) = TestGateway::with_app([Answer::Redirect(elsewhere.url.clone())]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    app.next().await;
    app.next().await;
    assert!(!elsewhere.has_more());
}

#[tokio::test]
async fn a_retry_waits_as_long_as_the_destination_asks() {
    let (_app, test) = TestGateway::with_app([Answer::RetryAfter(503, "120")]).await;
    let mut events = test.gateway.events().subscribe();
    let before = Timestamp::now();
    test.receive("wh_1", EventType::BatchCompleted).await;
    let (_, _, Next::Retry { due_at }) = attempted(&mut events).await else {
        panic!("a retry");
    };
    assert!(due_at.duration_since(before).as_secs() >= 120);
}

#[tokio::test]
async fn a_retry_survives_a_restart() {
    let mut app = Application::start([Answer::Status(500)]).await;
    let settings = || vec![destination("app", &app.url)];
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    let test = TestGateway::start(settings()).await;
    let mut events = test.gateway.events().subscribe();
    assert_eq!(test.post(&webhook).await, 200);
    attempted(&mut events).await;
    let folder = test.stop().await;

    let test = TestGateway::start_in(folder, settings()).await;
    app.next().await;
    assert_eq!(app.next().await.payload, webhook.payload);
    test.stop().await;
}

#[tokio::test]
async fn an_application_that_starts_late_gets_earlier_messages() {
    // Bound and dropped: a port without a listener.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{address}/webhook");
    let test = TestGateway::start(vec![destination("app", &url)]).await;
    let mut events = test.gateway.events().subscribe();
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    assert_eq!(test.post(&webhook).await, 200);
    let (_, answer, next) = attempted(&mut events).await;
    assert!(
        answer.starts_with("connection refused: nothing is listening on "),
        "{answer}"
    );
    assert!(matches!(next, Next::Retry { .. }));

    let mut app = Application::start_at(address, []).await;
    assert_eq!(app.next().await.payload, webhook.payload);
}

#[tokio::test]
async fn each_destination_gets_the_types_it_wants() {
    let (mut responses, mut rest) = (Application::start([]).await, Application::start([]).await);
    let mut first = destination("responses", &responses.url);
    first.events = Patterns::parse(["response.*"]).unwrap();
    let mut second = destination("rest", &rest.url);
    second.events = Patterns::parse(["*", "!response.*"]).unwrap();
    let test = TestGateway::start(vec![first, second]).await;
    test.receive("wh_1", EventType::ResponseFailed).await;
    test.receive("wh_2", EventType::BatchFailed).await;

    assert_eq!(responses.next().await.webhook_id(), "wh_1");
    assert_eq!(rest.next().await.webhook_id(), "wh_2");
    test.stop().await;
    assert!(!responses.has_more() && !rest.has_more());
}

#[tokio::test]
async fn a_destination_that_hangs_holds_up_no_other() {
    let mut hanging = Application::start(vec![Answer::Hang; 100]).await;
    let mut fine = Application::start([]).await;
    // Longer than any test waits: a delivery behind it would be late.
    let mut slow = destination("hanging", &hanging.url);
    slow.limits.timeout = 10 * PATIENCE;
    let test = TestGateway::start(vec![slow, destination("fine", &fine.url)]).await;
    let mut sent = Vec::new();
    for number in 10..60 {
        let webhook = Webhook::new(&format!("wh_{number}"), EventType::BatchFailed);
        assert_eq!(test.post(&webhook).await, 200);
        sent.push(webhook.headers.id);
    }
    // It occupies all of its slots.
    for _ in 0..Limits::default().concurrency {
        hanging.next().await;
    }
    let mut delivered: Vec<String> = Vec::new();
    for _ in &sent {
        delivered.push(fine.next().await.webhook_id().to_owned());
    }
    delivered.sort();
    assert_eq!(delivered, sent);
}

#[tokio::test]
async fn the_gateway_finishes_attempts_under_way_before_it_stops() {
    let answer = Arc::new(Notify::new());
    let (mut app, test) = TestGateway::with_app([Answer::WhenTold(Arc::clone(&answer))]).await;
    let mut events = test.gateway.events().subscribe();
    test.receive("wh_1", EventType::BatchCompleted).await;
    app.next().await;

    let public = test.gateway.public();
    let stopping = tokio::spawn(test.stop());
    // Once the port refuses connections, stopping has begun.
    while tokio::net::TcpStream::connect(public).await.is_ok() {
        tokio::task::yield_now().await;
    }
    answer.notify_one();
    let folder = stopping.await.unwrap();
    assert_eq!(attempted(&mut events).await.2, Next::Delivered);

    let test = TestGateway::start_in(folder, vec![destination("app", &app.url)]).await;
    test.stop().await;
    assert!(!app.has_more(), "it is settled");
}

#[tokio::test]
async fn a_sender_that_hangs_up_early_loses_nothing() {
    let (mut app, test) = TestGateway::with_app([]).await;
    // The database is busy, as on a slow disk, and the sender does not wait for it.
    let lock = rusqlite::Connection::open(test.folder.path().join("unwrapd.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut events = test.gateway.events().subscribe();
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    let sending = webhook
        .request(test.client(), &test.url("production"))
        .send();
    tokio::select! {
        _ = sending => panic!("it cannot be answered yet"),
        () = verified(&mut events) => {}
    }
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(app.next().await.webhook_id(), "wh_1");
}

async fn verified(events: &mut Subscription) {
    while !matches!(events.recv().await.unwrap(), PipelineEvent::Verified { .. }) {}
}

#[tokio::test]
async fn a_call_overtakes_a_backlog() {
    let mut app = Application::start(vec![Answer::Hang; 16]).await;
    let test = TestGateway::start(vec![destination("app", &app.url)]).await;
    // More than the concurrency of the application, which answers none of them.
    for number in 0..40 {
        test.receive(&format!("wh_{number}"), EventType::BatchFailed)
            .await;
    }
    app.skip(16).await;
    test.receive("wh_call", EventType::RealtimeCallIncoming)
        .await;
    assert_eq!(app.next().await.webhook_id(), "wh_call");
}

#[tokio::test]
async fn a_call_not_delivered_within_seconds_is_given_up() {
    let mut app = Application::start([]).await;
    let folder = {
        // It arrives while no dispatcher runs.
        let test = TestGateway::start(vec![]).await;
        let folder = test.stop().await;
        let store = SqliteStore::open(
            &folder.path().join("unwrapd.db"),
            &Bounds::default(),
            Timestamp::now(),
        )
        .unwrap();
        let webhook = Webhook::new("wh_call", EventType::RealtimeCallIncoming);
        let payload = bytes::Bytes::from(webhook.payload);
        let openai = crate::support::openai();
        let verified = openai.verify_signature(&payload, &webhook.headers).unwrap();
        let arrived = Timestamp::now() - jiff::SignedDuration::from_secs(11);
        let message = Message::new("production", &verified, &payload, arrived);
        store.accept(message, vec!["app".into()]).await.unwrap();
        store.close().await;
        folder
    };
    let test = TestGateway::start_in(folder, vec![destination("app", &app.url)]).await;
    let store = Arc::clone(test.gateway.store());
    while store.tally().await.dead == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!app.has_more());
}
