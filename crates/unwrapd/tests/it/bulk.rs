//! Replays, and drops of dead letters, that the gateway carries on in the background.

use std::collections::BTreeSet;

use jiff::Timestamp;
use openai_webhooks::EventType;
use serde_json::{Value, json};
use tempfile::TempDir;
use unwrapd::store::replay::{AsOf, Replay};
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{BULK_RUNS_MAX, Bounds, BulkAction, BulkRuns as _, BulkStart, Lifecycle as _};

use crate::replay::with_dead_letters;
use crate::support::application::Application;
use crate::support::tally::Counted as _;
use crate::support::{TestGateway, described_answer, destination, until};

/// Webhooks that are delivered before a test replays them.
pub(crate) const MESSAGES: usize = 8;

pub(crate) async fn run_of(test: &TestGateway, token: &str) -> Value {
    let url = format!("{}/api/v1/replays/{token}", test.admin());
    let (status, body) = described_answer(test.client().get(url)).await;
    assert_eq!(status, 200);
    serde_json::from_slice(&body).unwrap()
}

async fn in_state(test: &TestGateway, token: &str, state: &str) -> Value {
    until(state, async || run_of(test, token).await["state"] == state).await;
    run_of(test, token).await
}

async fn stop(test: &TestGateway, token: &str) -> Value {
    let url = format!("{}/api/v1/replays/{token}/stop", test.admin());
    let (status, body) = described_answer(test.client().post(url)).await;
    assert_eq!(status, 200);
    serde_json::from_slice(&body).unwrap()
}

/// The start of a replay of all messages.
pub(crate) fn replay_of_all(token: &str, now: Timestamp) -> BulkStart {
    BulkStart {
        token: token.parse().unwrap(),
        action: BulkAction::Replay,
        request: Replay::default(),
        as_of: AsOf {
            at: now,
            newest: i64::MAX,
        },
        planned: None,
    }
}

fn replay(token: &str) -> Value {
    json!({ "filter": {}, "token": token, "background": true, "planned": MESSAGES })
}

/// A gateway that has delivered its messages. Replays may have at most `room` waiting deliveries.
pub(crate) async fn delivered(app: &mut Application, room: u64) -> TestGateway {
    let bounds = Bounds {
        undelivered_max: 2 * room,
        ..Bounds::default()
    };
    let folder = TempDir::new().unwrap();
    let app_settings = vec![destination("app", &app.url)];
    let test = TestGateway::start_within(folder, bounds, app_settings).await;
    for number in 0..MESSAGES {
        let id = format!("wh_{number}");
        test.receive(&id, EventType::BatchCompleted).await;
        app.next().await;
    }
    test.settled().await;
    test
}

/// The ids of the messages, once each is delivered.
pub(crate) async fn all_delivered(app: &mut Application) {
    let mut ids = BTreeSet::new();
    while ids.len() < MESSAGES {
        assert!(ids.insert(app.next().await.webhook_id().to_owned()));
    }
}

#[tokio::test]
async fn a_replay_in_the_background_is_answered_at_once_and_goes_on_by_itself() {
    let mut app = Application::start([]).await;
    let test = delivered(&mut app, 1_000).await;
    let (status, begun) = test.ask("replays", &replay("t")).await;
    assert_eq!((status, &begun["done"]), (202, &json!(false)), "{begun}");
    all_delivered(&mut app).await;
    let run = in_state(&test, "t", "done").await;
    for (field, value) in [
        ("action", json!("replay")),
        ("filter", json!({})),
        ("planned", json!(MESSAGES)),
        ("deliveries", json!(MESSAGES)),
        ("background", json!(true)),
        ("reason", Value::Null),
    ] {
        assert_eq!(run[field], value, "{field}");
    }
    assert!(run["ended_at"].is_string(), "{run}");
    let (status, again) = test.ask("replays", &replay("t")).await;
    assert_eq!((status, &again["repeated"]), (200, &json!(true)), "{again}");
    test.settled().await;
    assert!(!app.has_more());

    // One without a plan is planned by the gateway.
    let unplanned = json!({ "filter": {}, "token": "u", "background": true });
    assert_eq!(test.ask("replays", &unplanned).await.0, 202);
    assert_eq!(in_state(&test, "u", "done").await["planned"], MESSAGES);
    let url = format!("{}/api/v1/replays", test.admin());
    let (_, listed) = described_answer(test.client().get(url)).await;
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    let tokens = listed["runs"].as_array().unwrap().iter();
    let tokens: Vec<&str> = tokens.map(|run| run["token"].as_str().unwrap()).collect();
    assert_eq!(tokens, ["u", "t"]);
    let conflict = json!({ "filter": { "type": ["batch.*"] }, "token": "t", "background": true });
    assert_eq!(test.ask("replays", &conflict).await.0, 409);
}

#[tokio::test]
async fn a_run_that_was_not_done_goes_on_after_a_restart() {
    let mut app = Application::start([]).await;
    let test = delivered(&mut app, 1_000).await;
    let folder = test.stop().await;
    let path = folder.path().join("unwrapd.db");
    let now = Timestamp::now();
    let store = SqliteStore::open(&path, &Bounds::default(), now).unwrap();
    store
        .begin_bulk_run(&replay_of_all("t", now), now)
        .await
        .unwrap();
    store.close().await;
    drop(store);
    let test = TestGateway::start_in(folder, vec![destination("app", &app.url)]).await;
    all_delivered(&mut app).await;
    in_state(&test, "t", "done").await;
}

#[tokio::test]
async fn a_run_waits_for_room_and_then_goes_on() {
    let mut app = Application::start([]).await;
    let test = delivered(&mut app, 5).await;
    test.switch_app("pause").await;
    assert_eq!(test.ask("replays", &replay("t")).await.0, 202);
    until("it waits", async || {
        run_of(&test, "t").await["reason"].is_string()
    })
    .await;
    let run = run_of(&test, "t").await;
    assert_eq!(
        (&run["state"], &run["deliveries"]),
        (&json!("running"), &json!(5))
    );
    let reason = run["reason"].as_str().unwrap();
    assert!(reason.contains("full"), "{reason}");
    test.switch_app("resume").await;
    all_delivered(&mut app).await;
    let run = in_state(&test, "t", "done").await;
    assert_eq!(run["reason"], Value::Null);
}

#[tokio::test]
async fn a_stopped_run_keeps_what_it_has_done() {
    let mut app = Application::start([]).await;
    let test = delivered(&mut app, 5).await;
    test.switch_app("pause").await;
    test.ask("replays", &replay("t")).await;
    until("it has begun", async || {
        run_of(&test, "t").await["deliveries"] == 5
    })
    .await;
    let stopped = stop(&test, "t").await;
    assert_eq!(stopped["state"], "stopped");
    assert_eq!(
        stop(&test, "t").await,
        stopped,
        "and a second stop changes nothing"
    );
    test.switch_app("resume").await;
    app.skip(5).await;
    test.settled().await;
    assert!(!app.has_more());
    for background in [true, false] {
        let again = json!({ "filter": {}, "token": "t", "background": background });
        let (status, problem) = test.ask("replays", &again).await;
        assert_eq!(status, 409, "{problem}");
    }
}

#[tokio::test]
async fn few_runs_are_in_progress_and_one_more_is_refused() {
    let mut app = Application::start([]).await;
    let test = delivered(&mut app, 5).await;
    test.switch_app("pause").await;
    for number in 0..BULK_RUNS_MAX {
        let status = test.ask("replays", &replay(&format!("t{number}"))).await.0;
        assert_eq!(status, 202);
    }
    let (status, problem) = test.ask("replays", &replay("more")).await;
    assert_eq!(status, 503, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("stop one"), "{detail}");
    stop(&test, "t0").await;
    assert_eq!(test.ask("replays", &replay("more")).await.0, 202);
    // A stop does not wait for them.
    test.stop().await;
}

#[tokio::test]
async fn dead_letters_are_dropped_in_the_background() {
    let (_app, test) = with_dead_letters(3).await;
    let none = json!({ "background": true });
    assert_eq!(test.ask("dead/drop", &none).await.0, 400);
    let all = json!({ "all": true, "background": true });
    let (status, begun) = test.ask("dead/drop", &all).await;
    assert_eq!((status, &begun["done"]), (202, &json!(false)), "{begun}");
    let token = begun["token"].as_str().unwrap();
    let run = in_state(&test, token, "done").await;
    assert_eq!(
        (&run["action"], &run["deliveries"], &run["planned"]),
        (&json!("drop"), &json!(3), &json!(3))
    );
    assert_eq!(run["filter"], json!({ "status": ["dead"] }));
    assert_eq!(test.gateway.store().tally().await.dead, 0);
}
