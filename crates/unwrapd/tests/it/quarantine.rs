//! Requests that could not be verified, and their later fate.

use std::sync::Arc;

use jiff::Timestamp;
use openai_webhooks::{EventType, Webhooks};
use serde_json::Value;
use tempfile::TempDir;
use unwrapd::quarantine::RetryQuarantinedResult;
use unwrapd::store::{QuarantinedRequest, Store};

use crate::support::application::Application;
use crate::support::process::{Serving, assert_contains, unwrapd, write_config};
use crate::support::tally::Counted as _;
use crate::support::{
    TestGateway, Webhook, client, described_answer, destination, openai, unix_now,
};

const OTHER_SECRET: &str = "whsec_////////////////////////////////";

/// A refused sender does not wait for the write, so this waits until the requests are stored.
async fn quarantined(store: &Arc<dyn Store>, count: usize) -> Vec<QuarantinedRequest> {
    loop {
        let quarantined_requests = store.read_quarantined(0, 100).await.unwrap();
        if quarantined_requests.len() >= count {
            return quarantined_requests;
        }
        tokio::task::yield_now().await;
    }
}

async fn retry_all(test: &TestGateway) -> RetryQuarantinedResult {
    test.gateway.quarantine().retry(None).await.unwrap()
}

#[tokio::test]
async fn a_request_refused_by_a_wrong_secret_is_delivered_under_the_right_one() {
    let mut app = Application::start([]).await;
    let wrong = Webhooks::new(OTHER_SECRET).unwrap();
    let test = TestGateway::start_proving(
        wrong,
        TempDir::new().unwrap(),
        vec![destination("app", &app.url)],
    )
    .await;
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    assert_eq!(test.post(&webhook).await, 401);
    assert_eq!(test.post(&webhook).await, 401);
    let quarantined_requests = quarantined(test.gateway.store(), 2).await;
    assert_eq!(quarantined_requests[0].endpoint, "production");
    assert!(
        quarantined_requests[0]
            .reason
            .contains("no signature matches")
    );
    assert_eq!(
        quarantined_requests[0].body.as_deref(),
        Some(webhook.payload.as_bytes())
    );
    let still = RetryQuarantinedResult {
        unproven: 2,
        ..RetryQuarantinedResult::default()
    };
    assert_eq!(retry_all(&test).await, still);
    let folder = test.stop().await;

    let test = TestGateway::start_in(folder, vec![destination("app", &app.url)]).await;
    assert_eq!(test.gateway.store().tally().await.messages, 0);
    let retried = RetryQuarantinedResult {
        accepted: 1,
        duplicates: 1,
        ..RetryQuarantinedResult::default()
    };
    assert_eq!(retry_all(&test).await, retried);
    let received = app.next().await;
    assert_eq!(received.headers["webhook-id"], "wh_1");
    assert_eq!(received.payload, webhook.payload.as_bytes());
    assert!(
        test.gateway
            .store()
            .read_quarantined(0, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

/// The requests of the quarantine, as the admin port shows them.
async fn shown(test: &TestGateway) -> Vec<Value> {
    let url = format!("{}/api/v1/quarantine", test.admin());
    let (status, page) = described_answer(test.client().get(url)).await;
    assert_eq!(status, 200);
    let mut page: Value = serde_json::from_slice(&page).unwrap();
    serde_json::from_value(page["requests"].take()).unwrap()
}

#[tokio::test]
async fn the_endpoint_whose_secret_matches_is_named_as_the_cause() {
    let wrong = Webhooks::new(OTHER_SECRET).unwrap();
    let test = TestGateway::start_proving(wrong, TempDir::new().unwrap(), vec![]).await;
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    assert_eq!(test.post(&webhook).await, 401);
    quarantined(test.gateway.store(), 1).await;
    let listed = shown(&test).await;
    let cause = listed[0]["cause"].as_str().unwrap();
    assert!(cause.contains("endpoint `staging` verifies it"), "{cause}");
    let url = format!("{}/api/v1/quarantine/{}", test.admin(), listed[0]["id"]);
    let (_, one) = described_answer(test.client().get(url)).await;
    let one: Value = serde_json::from_slice(&one).unwrap();
    assert_eq!(one["cause"], listed[0]["cause"]);
    // It is that of the present secrets.
    let folder = test.stop().await;
    let test = TestGateway::start_in(folder, vec![]).await;
    let listed = shown(&test).await;
    let cause = listed[0]["cause"].as_str().unwrap();
    assert!(cause.contains("run `unwrapd quarantine retry`"), "{cause}");
}

/// A request with this body, which was refused.
fn refused(webhook: &Webhook, body: &str) -> QuarantinedRequest {
    let headers = webhook.headers.pairs();
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    QuarantinedRequest {
        id: 0,
        endpoint: "production".into(),
        received_at: Timestamp::now(),
        reason: "no signature matches".into(),
        headers: headers.to_vec(),
        size: Some(body.len() as u64),
        body: Some(body.to_owned().into()),
    }
}

#[tokio::test]
async fn a_page_of_large_bodies_has_causes_within_a_limit_of_work() {
    const REQUESTS: usize = 100;
    let test = TestGateway::start(vec![]).await;
    let webhook = Webhook::with_payload("wh_1", "x".repeat(60_000));
    // No trial ends early: the signature is that of another body.
    let body = format!("{}y", webhook.payload);
    for number in 0..REQUESTS {
        let mut quarantined = refused(&webhook, &body);
        // The last of the list has no signature, which its headers show.
        quarantined
            .headers
            .truncate(if number == 0 { 2 } else { 3 });
        test.gateway.store().quarantine(quarantined).await.unwrap();
    }
    let listed = shown(&test).await;
    let known = listed.iter().filter(|one| one["cause"].is_string()).count();
    assert!((5..REQUESTS / 2).contains(&known), "{known}");
    assert!(listed[0]["cause"].is_string());
    assert!(listed[REQUESTS - 2]["cause"].is_null());
    let missing = listed[REQUESTS - 1]["cause"].as_str().unwrap();
    assert!(
        missing.contains("`webhook-signature` is missing"),
        "{missing}"
    );
}

/// A sender without a secret chooses these bodies, and a page shows causes for a hundred of them.
#[tokio::test]
async fn hostile_bodies_have_no_cause_and_are_not_shown() {
    const BYTES: usize = 64 * 1024;
    let test = TestGateway::start(vec![]).await;
    let parts = [
        "[",
        "{\"\":",
        "[[],",
        "\"\\",
        "\r\n",
        "Ã©",
        "eyJhIjogMX0=",
        "\0{",
    ];
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    for part in parts {
        let body = part.repeat(BYTES / part.len());
        let quarantined = refused(&webhook, &body);
        test.gateway.store().quarantine(quarantined).await.unwrap();
    }
    for listed in shown(&test).await {
        let url = format!("{}/api/v1/quarantine/{}", test.admin(), listed["id"]);
        let (status, one) = described_answer(test.client().get(url)).await;
        assert_eq!(status, 200);
        assert!(one.len() < 2_000, "{} bytes", one.len());
        let one: Value = serde_json::from_slice(&one).unwrap();
        assert_eq!(one["has_body"], true);
        for shown in [&listed, &one] {
            let cause = shown["cause_name"].as_str();
            assert!(matches!(cause, None | Some("unknown")), "{shown}");
        }
    }
}

/// Beyond the dedupe horizon, copies are no longer recognised: OpenAI may have sent the webhook
/// again under the right secret, and it was delivered.
#[tokio::test]
async fn a_request_older_than_the_dedupe_horizon_is_not_accepted_from_the_quarantine() {
    let test = TestGateway::start(vec![]).await;
    let three_days_ago = unix_now() - 72 * 3600 - 60;
    let mut webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    webhook.headers = openai()
        .sign(&webhook.payload, "wh_1", three_days_ago)
        .unwrap();
    let quarantined = QuarantinedRequest {
        received_at: Timestamp::from_second(three_days_ago).unwrap(),
        ..refused(&webhook, &webhook.payload)
    };
    test.gateway.store().quarantine(quarantined).await.unwrap();
    let retried = RetryQuarantinedResult {
        too_old: 1,
        ..RetryQuarantinedResult::default()
    };
    assert_eq!(retry_all(&test).await, retried);
}

#[tokio::test]
async fn a_forged_request_stays_and_one_can_be_retried_alone() {
    let wrong = Webhooks::new(OTHER_SECRET).unwrap();
    let test = TestGateway::start_proving(wrong, TempDir::new().unwrap(), vec![]).await;
    let genuine = Webhook::new("wh_1", EventType::BatchCompleted);
    let mut forged = genuine.clone();
    forged.payload = forged.payload.replace("batch_", "batcx_");
    for webhook in [&forged, &genuine] {
        assert_eq!(test.post(webhook).await, 401);
    }
    let ids: Vec<i64> = quarantined(test.gateway.store(), 2)
        .await
        .iter()
        .map(|quarantined| quarantined.id)
        .collect();
    let folder = test.stop().await;

    let test = TestGateway::start_in(folder, vec![]).await;
    for (expected, id) in [(0, 404), (1, ids[1])] {
        let retried = test.gateway.quarantine().retry(Some(id)).await.unwrap();
        assert_eq!(retried.accepted, expected);
    }
    assert_eq!(
        test.gateway
            .quarantine()
            .retry(None)
            .await
            .unwrap()
            .unproven,
        1
    );
    assert_eq!(test.gateway.store().tally().await.messages, 1);
}

#[tokio::test]
async fn a_quarantined_request_has_only_its_relevant_parts() {
    let wrong = Webhooks::new(OTHER_SECRET).unwrap();
    let test = TestGateway::start_proving(wrong, TempDir::new().unwrap(), vec![]).await;
    let large = Webhook::with_payload("wh_large", "x".repeat(100_000));
    let answer = large
        .request(test.client(), &test.url("production"))
        .header("authorization", "Bearer not-yours")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 401);
    let bare = test
        .client()
        .post(test.url("production"))
        .body("twelve bytes");
    assert_eq!(bare.send().await.unwrap().status(), 400);
    let quarantined_requests = quarantined(test.gateway.store(), 2).await;
    assert!(
        quarantined_requests
            .iter()
            .all(|quarantined| quarantined.body.is_none())
    );
    let mut sizes: Vec<_> = quarantined_requests
        .iter()
        .map(|quarantined| quarantined.size)
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [Some(12), Some(100_000)]);
    assert!(
        quarantined_requests
            .iter()
            .flat_map(|quarantined| &quarantined.headers)
            .all(|(name, _)| name != "authorization")
    );
    let retried = retry_all(&test).await;
    assert_eq!(retried.without_body, 2);
}

/// A list may hold 32 signatures, on one line or on several.
#[tokio::test]
async fn a_long_list_of_signatures_is_stored_whole_for_the_retry() {
    let folder = TempDir::new().unwrap();
    let wrong = Webhooks::new(OTHER_SECRET).unwrap();
    let test = TestGateway::start_proving(wrong, folder, vec![]).await;
    for (id, separator) in [("wh_one_line", " "), ("wh_many_lines", "\n")] {
        let webhook = Webhook::new(id, EventType::BatchCompleted);
        let another = Webhooks::new("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        let now = unix_now();
        let other = another.sign(&webhook.payload, id, now).unwrap().signature;
        let mut signatures = vec![other; 31];
        signatures.push(openai().sign(&webhook.payload, id, now).unwrap().signature);
        let list = signatures.join(separator);
        let mut request = test
            .client()
            .post(test.url("production"))
            .header("webhook-id", id)
            .header("webhook-timestamp", now.to_string())
            .body(webhook.payload);
        for line in list.split('\n') {
            request = request.header("webhook-signature", line);
        }
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    quarantined(test.gateway.store(), 2).await;
    let folder = test.stop().await;
    let test = TestGateway::start_in(folder, vec![]).await;
    let retried = retry_all(&test).await;
    assert_eq!(retried.accepted, 2, "{retried:?}");
}

#[tokio::test]
async fn a_flood_of_forgeries_writes_little() {
    let wrong = Webhooks::new(OTHER_SECRET).unwrap();
    let test = TestGateway::start_proving(wrong, TempDir::new().unwrap(), vec![]).await;
    for number in 0..300 {
        let webhook = Webhook::new(&format!("wh_{number}"), EventType::BatchCompleted);
        assert_eq!(test.post(&webhook).await, 401);
    }
    // After a restart, the store has everything that it will ever have.
    let folder = test.stop().await;
    let test = TestGateway::start_proving(openai(), folder, vec![]).await;
    let kept = test
        .gateway
        .store()
        .read_quarantined(0, 1000)
        .await
        .unwrap()
        .len();
    assert!((1..300).contains(&kept), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_retries_and_drops_refused_requests() {
    let app = Application::start([]).await;
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), &app.url);
    let wrong = [("OPENAI_WEBHOOK_SECRET", OTHER_SECRET)];
    let serving = Serving::start(folder.path(), &wrong);
    let run = |serving: &Serving, arguments: &[&str]| {
        let admin = serving.admin.as_str();
        unwrapd()
            .arg("quarantine")
            .args(arguments)
            .args(["--admin", admin])
            .output()
            .unwrap()
    };
    let text = |output: &std::process::Output| String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text(&run(&serving, &["ls"])), "");
    assert_eq!(run(&serving, &["retry", "--all"]).status.code(), Some(0));
    assert_eq!(run(&serving, &["retry", "7"]).status.code(), Some(3));
    for id in ["wh_1", "wh_2"] {
        let webhook = Webhook::new(id, EventType::BatchCompleted);
        assert_eq!(serving.post(&webhook).await, 401);
        // The sender does not wait for the quarantine.
        let list = loop {
            let list = text(&run(&serving, &["ls"]));
            if list.contains(id) {
                break list;
            }
        };
        let cause = "No secret of this gateway verifies it: ";
        assert!(list.contains(cause), "{list}");
    }
    let shown = text(&run(&serving, &["show", "1"]));
    assert_contains(
        &shown,
        &[
            "no signature matches",
            "No secret of this gateway",
            "webhook-id: wh_1",
        ],
    );
    assert_eq!(run(&serving, &["show", "9"]).status.code(), Some(3));
    assert_eq!(run(&serving, &["show", "0"]).status.code(), Some(2));
    let unproven = run(&serving, &["retry", "--all"]);
    assert_eq!(unproven.status.code(), Some(4));
    let hint = String::from_utf8(unproven.stderr).unwrap();
    assert!(hint.contains("SIGHUP"), "{hint}");
    serving.terminate();

    let mut app = app;
    let serving = Serving::start(folder.path(), &[]);
    let retried = run(&serving, &["retry", "1"]);
    assert!(text(&retried).starts_with("1 accepted"), "{retried:?}");
    assert_eq!(app.next().await.webhook_id(), "wh_1");
    assert_eq!(run(&serving, &["retry", "1"]).status.code(), Some(3));
    assert_eq!(
        text(&run(&serving, &["drop", "2", "--yes"])),
        "dropped 1 request\n"
    );
    assert_eq!(
        run(&serving, &["drop", "2", "--yes"]).status.code(),
        Some(3)
    );
}

#[tokio::test]
async fn a_request_dropped_for_a_newer_one_is_logged() {
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), "http://127.0.0.1:9");
    Serving::start(folder.path(), &[]).terminate();
    let database = rusqlite::Connection::open(folder.path().join("unwrapd.db")).unwrap();
    let fill = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?)
        INSERT INTO quarantine (endpoint, received_at, reason, headers) SELECT 'production', 1, '', '[]' FROM number";
    let filled = database.execute(fill, [unwrapd::store::QUARANTINED_MAX]);
    assert_eq!(
        i64::try_from(filled.unwrap()).unwrap(),
        unwrapd::store::QUARANTINED_MAX
    );
    drop(database);
    let mut serving = Serving::start(folder.path(), &[]);
    let answer = client().post(&serving.url).body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    serving.said("dropped a request from the quarantine for a newer one (full)");
}
