//! Listing stored messages, replaying them, and dropping dead letters: by the command line and by
//! the admin port.

mod background;
mod look;
mod refuse;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use openai_webhooks::EventType;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::{JoinSet, spawn_blocking};
use unwrapd::delivery::{Lane, Next};
use unwrapd::message::{Message, Origin};
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{Bounds, DeliveryQueue as _, Inbox as _, Lifecycle as _, waiting};

use crate::store_conformance::attempt;
use crate::support::application::{Answer, Application};
use crate::support::process::{assert_contains, unwrapd};
use crate::support::tally::Counted as _;
use crate::support::{TestGateway, Webhook, ask, client, destination};

/// Runs `unwrapd` with these arguments against the gateway at `admin`.
async fn run(admin: &str, arguments: &[&str]) -> Output {
    let mut command = unwrapd();
    command
        .args(arguments)
        .args(["--admin", admin])
        .env_remove("UNWRAPD_ADMIN_TOKEN")
        .stdin(Stdio::null());
    spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// Its output, if it succeeds.
async fn said(admin: &str, arguments: &[&str]) -> String {
    let output = run(admin, arguments).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// It prints only on stderr, this text among others, and ends with this code.
async fn complains(admin: &str, arguments: &[&str], code: i32, text: &str) {
    let output = run(admin, arguments).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
    let problem = String::from_utf8(output.stderr).unwrap();
    let ended = output.status.code().unwrap();
    assert_eq!(ended, code, "{arguments:?}: {problem}");
    assert!(problem.contains(text), "{arguments:?}: {problem}");
}

/// A gateway with as many dead letters, `wh_1` first.
pub(crate) async fn with_dead_letters(count: usize) -> (Application, TestGateway) {
    let (mut app, test) = TestGateway::with_app(vec![Answer::Status(410); count]).await;
    for number in 1..=count {
        let id = format!("wh_{number}");
        test.receive(&id, EventType::BatchCompleted).await;
    }
    app.skip(count).await;
    test.settled().await;
    (app, test)
}

async fn next_ids(app: &mut Application, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(app.next().await.webhook_id().to_owned());
    }
    ids.sort();
    ids
}

/// A store in `folder` with this number of messages, delivered to `destination`.
async fn delivered_before(folder: &Path, messages: usize, destination: &str) {
    let now = Timestamp::now();
    let store = SqliteStore::open(&folder.join("unwrapd.db"), &Bounds::default(), now).unwrap();
    let store = std::sync::Arc::new(store);
    let mut accepted = JoinSet::new();
    for number in 0..messages {
        let message = Message {
            origin: Origin::OpenAi,
            endpoint: "production".into(),
            webhook_id: format!("wh_{number}"),
            event_type: Some("batch.completed".into()),
            sent_at: now,
            received_at: now,
            secret: None,
            payload: Bytes::from_static(b"{}"),
        };
        let destinations = vec![destination.into()];
        let store = std::sync::Arc::clone(&store);
        accepted.spawn(async move { store.accept(message, destinations).await.unwrap() });
        if accepted.len() == 500 {
            accepted.join_next().await;
        }
    }
    accepted.join_all().await;
    let lease = Duration::from_secs(60);
    let claimed = store
        .claim(destination, Lane::Standard, now, lease, messages)
        .await
        .unwrap();
    let mut settled = JoinSet::new();
    for delivery in claimed.deliveries {
        let attempt = attempt(delivery.id, delivery.attempt, now, Next::Delivered);
        let store = std::sync::Arc::clone(&store);
        settled.spawn(async move { store.settle(attempt).await.unwrap() });
        if settled.len() == 500 {
            settled.join_next().await;
        }
    }
    settled.join_all().await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_replayed_once_per_token_and_delivered() {
    let (mut app, test) = with_dead_letters(1).await;

    let listed = said(&test.admin(), &["dead", "ls"]).await;
    let lines: Vec<&str> = listed.lines().collect();
    let heads: Vec<&str> = lines[0]
        .split("  ")
        .filter(|head| !head.is_empty())
        .map(str::trim)
        .collect();
    assert_eq!(
        heads,
        [
            "GIVEN UP",
            "TYPE",
            "WEBHOOK-ID",
            "DESTINATION",
            "ATTEMPTS",
            "LAST ANSWER"
        ]
    );
    assert!(
        lines[1].contains("batch.completed  wh_1        app          1         HTTP 410"),
        "{listed}"
    );
    assert_eq!(lines.len(), 2);

    let replay = [
        "dead", "replay", "--yes", "--token", "t1", "--output", "json",
    ];
    let first: Value = serde_json::from_str(&said(&test.admin(), &replay).await).unwrap();
    assert_eq!(first["deliveries"], 1);
    assert_eq!(first["token"], "t1");
    assert_eq!(app.next().await.webhook_id(), "wh_1");
    test.settled().await;
    let again: Value = serde_json::from_str(&said(&test.admin(), &replay).await).unwrap();
    assert_eq!(
        (&first["repeated"], &again["repeated"]),
        (&false.into(), &true.into())
    );
    assert_eq!(again["deliveries"], first["deliveries"]);

    // A missing token is reported before anything is done.
    let unnamed = ["replay", "wh_1", "--yes", "--output", "json"];
    let output = run(&test.admin(), &unnamed).await;
    let ran: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    let token = format!("token {}: ", ran["token"].as_str().unwrap());
    assert!(told.contains(&token), "{told}");
    assert_eq!(app.next().await.webhook_id(), "wh_1");
    test.settled().await;

    test.receive("wh_2", EventType::BatchCompleted).await;
    assert_eq!(
        app.next().await.webhook_id(),
        "wh_2",
        "and not the first again"
    );
    assert_eq!(said(&test.admin(), &["dead", "ls"]).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_selects_by_its_filter() {
    let (mut app, test) = TestGateway::with_app([]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    test.receive("wh_2", EventType::ResponseCompleted).await;
    test.receive("wh_3", EventType::ResponseFailed).await;
    next_ids(&mut app, 3).await;
    test.settled().await;
    let admin = test.admin();

    let cases: [(&[&str], &[&str]); 6] = [
        (&["wh_1", "wh_3"], &["wh_1", "wh_3"]),
        (
            &["--type", "response.*", "--type", "!response.failed"],
            &["wh_2"],
        ),
        (&["--since", "1h"], &["wh_1", "wh_2", "wh_3"]),
        (&["--until", "1h", "wh_1"], &[]),
        (&["--dead"], &[]),
        (
            &[
                "--destination",
                "app",
                "--endpoint",
                "production",
                "--type",
                "batch.*",
            ],
            &["wh_1"],
        ),
    ];
    for (filter, expected) in cases {
        let arguments = [&["replay", "--yes"], filter].concat();
        said(&admin, &arguments).await;
        assert_eq!(
            next_ids(&mut app, expected.len()).await,
            expected,
            "{filter:?}"
        );
        test.settled().await;
    }
    let planned = said(&admin, &["replay", "--all", "--dry-run"]).await;
    assert!(
        planned.starts_with("3 deliveries of 3 messages would be redelivered\n"),
        "{planned}"
    );
    assert!(planned.contains("3 for `app`\n"), "{planned}");
    assert!(!app.has_more());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_gives_a_new_destination_earlier_messages() {
    let (mut app, test) = TestGateway::with_app([]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    app.next().await;
    test.settled().await;
    let folder = test.stop().await;

    let mut audit = Application::start([]).await;
    let both = vec![
        destination("app", &app.url),
        destination("audit", &audit.url),
    ];
    let test = TestGateway::start_in(folder, both).await;
    said(
        &test.admin(),
        &["replay", "--since", "1d", "--to", "audit", "--yes"],
    )
    .await;
    assert_eq!(audit.next().await.webhook_id(), "wh_1");
    test.settled().await;
    assert!(!app.has_more());
    let to_nobody = ["replay", "wh_1", "--to", "nobody", "--yes"];
    let problem = "no destination of the configuration";
    complains(&test.admin(), &to_nobody, 2, problem).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_are_replayed_while_webhooks_are_received_and_delivered() {
    const MESSAGES: usize = 10_000;
    let folder = TempDir::new().unwrap();
    delivered_before(folder.path(), MESSAGES, "archive").await;
    let mut app = Application::start([]).await;
    let test = TestGateway::start_in(folder, vec![destination("app", &app.url)]).await;

    let body = json!({"filter": {"destination": ["archive"]}, "token": "t1"});
    let admin = test.admin();
    let mut replay = tokio::spawn(async move {
        loop {
            let (status, ran) = ask(&admin, "replays", &body).await;
            assert_eq!(status, 200, "{ran}");
            if ran["done"] == true {
                return ran;
            }
        }
    });
    let mut received = 0;
    let ran = loop {
        let id = format!("wh_new_{received}");
        tokio::select! {
            ran = &mut replay => break ran.unwrap(),
            () = test.receive(&id, EventType::BatchFailed) => received += 1,
        }
    };
    assert_eq!(ran["deliveries"], MESSAGES);
    assert!(received > 0);
    for _ in 0..received {
        assert!(app.next().await.webhook_id().starts_with("wh_new_"));
    }
    let backlog = waiting(&**test.gateway.store()).await.unwrap();
    let archive = backlog.iter().find(|(name, _)| name == "archive");
    assert_eq!(archive, Some(&("archive".to_owned(), MESSAGES as u64)));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_dropped_and_stay_visible() {
    let (_app, test) = with_dead_letters(2).await;
    let admin = test.admin();

    complains(&admin, &["dead", "drop", "--yes"], 2, "--all").await;
    assert_eq!(
        said(&admin, &["dead", "drop", "wh_1", "--yes"]).await,
        "dropped 1 dead letter\n"
    );
    let left = said(&admin, &["dead", "ls"]).await;
    assert!(left.contains("wh_2") && !left.contains("wh_1"), "{left}");
    let shown = said(&admin, &["events", "show", "wh_1"]).await;
    assert!(shown.contains("app  dropped at "), "{shown}");
    let planned = said(&admin, &["dead", "replay", "--dry-run", "--output", "json"]).await;
    assert_eq!(
        serde_json::from_str::<Value>(&planned).unwrap()["deliveries"],
        1
    );
    assert_eq!(test.gateway.store().tally().await.dead, 1);
}

#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_half_way_goes_on_under_its_token_and_delivers_once() {
    use std::collections::BTreeSet;

    use unwrapd::store::filter::{Filter, Status};
    use unwrapd::store::{Operations, PAGE_MAX, Page};

    use crate::support::process::{Serving, write_config};

    const MESSAGES: usize = 700;
    // Before the first commit, after it, and after the last one.
    for case in ["replayed:1", "replay-committed:1", "replay-committed:2"] {
        let mut app = Application::start([]).await;
        let folder = TempDir::new().unwrap();
        delivered_before(folder.path(), MESSAGES, "app").await;
        write_config(folder.path(), &app.url);
        let replay = ["replay", "--type", "batch.*", "--token", "t1", "--yes"];

        let mut serving = Serving::start(folder.path(), &[("UNWRAPD_CRASH_AT", case)]);
        let admin = serving.admin.clone();
        complains(&admin, &replay, 1, "with `--token t1` to continue").await;
        assert!(!serving.died(case).success(), "{case}");

        let serving = Serving::start(folder.path(), &[]);
        let admin = serving.admin.clone();
        let ran = said(&admin, &replay).await;
        assert!(
            ran.contains("700 deliveries of 700 messages"),
            "{case}: {ran}"
        );
        let mut delivered = BTreeSet::new();
        while delivered.len() < MESSAGES {
            delivered.insert(app.next().await.webhook_id().to_owned());
        }
        let (status, _) = serving.terminate();
        assert!(status.success(), "{case}");

        // The application may get attempts twice that were in progress at the kill; they are not
        // replayed twice.
        let database = folder.path().join("unwrapd.db");
        let store = SqliteStore::open(&database, &Bounds::default(), Timestamp::now()).unwrap();
        let store: &dyn Operations = &store;
        let mut page = Page::new(None, PAGE_MAX);
        loop {
            let found = store
                .list_messages(&Filter::default(), Timestamp::now(), page)
                .await
                .unwrap();
            for kept in found.messages {
                let delivery = &kept.deliveries[0];
                let expected = if delivery.status == Status::Waiting {
                    1
                } else {
                    2
                };
                assert_eq!(delivery.attempts, expected, "{case}: {kept:?}");
            }
            page.after = found.next;
            if found.next.is_none() {
                break;
            }
        }
    }
}
