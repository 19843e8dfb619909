//! `POST /webhooks/{endpoint}`: accepted and refused requests, with their answers.

use openai_webhooks::EventType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::tally::{Counted as _, Tally};
use crate::support::{PATIENCE, TestGateway, Webhook, openai, unix_now};

#[tokio::test]
async fn a_proven_webhook_is_stored_and_answered_200() {
    let test = TestGateway::start(vec![]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    assert_eq!(test.gateway.store().tally().await, Tally::KEPT);
}

#[tokio::test]
async fn an_authentic_body_that_is_no_event_is_stored_too() {
    let test = TestGateway::start(vec![]).await;
    assert_eq!(
        test.post(&Webhook::with_payload("wh_1", "no JSON")).await,
        200
    );
    assert_eq!(test.gateway.store().tally().await.messages, 1);
}

#[tokio::test]
async fn an_unproven_webhook_is_refused_and_not_stored() {
    let test = TestGateway::start(vec![]).await;
    let genuine = Webhook::new("wh_1", EventType::BatchCompleted);

    let mut forged = genuine.clone();
    forged.payload = forged.payload.replace("batch_", "batcx_");
    assert_eq!(test.post(&forged).await, 401);

    let mut old = genuine.clone();
    old.headers = openai()
        .sign(&old.payload, "wh_1", unix_now() - 400)
        .unwrap();
    assert_eq!(test.post(&old).await, 401);

    let mut early = genuine.clone();
    early.headers = openai()
        .sign(&early.payload, "wh_1", unix_now() + 400)
        .unwrap();
    assert_eq!(test.post(&early).await, 401);

    let mut malformed = genuine.clone();
    malformed.headers.timestamp = "yesterday".into();
    assert_eq!(test.post(&malformed).await, 400);

    let bare = test
        .client()
        .post(test.url("production"))
        .body(genuine.payload);
    assert_eq!(bare.send().await.unwrap().status(), 400);

    assert_eq!(test.gateway.store().tally().await, Tally::default());
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_also_when_its_length_is_not_announced() {
    let test = TestGateway::start(vec![]).await;
    let webhook = Webhook::with_payload("wh_1", " ".repeat(unwrapd::receive::BODY_BYTES_MAX + 1));
    assert_eq!(test.post(&webhook).await, 413);

    assert_eq!(post_in_chunks(&test, &webhook).await, 413);
    assert_eq!(test.gateway.store().tally().await, Tally::default());

    let small = Webhook::new("wh_2", EventType::BatchCompleted);
    assert_eq!(post_in_chunks(&test, &small).await, 200);
}

/// Posts it without a `content-length`. Returns the status of the response.
async fn post_in_chunks(test: &TestGateway, webhook: &Webhook) -> u16 {
    let mut stream = TcpStream::connect(test.gateway.public()).await.unwrap();
    let mut request = "POST /webhooks/production HTTP/1.1\r\nhost: test\r\n".to_owned();
    for (name, value) in webhook.headers.pairs() {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request += "transfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    for chunk in webhook.payload.as_bytes().chunks(64 * 1024) {
        let chunk = std::str::from_utf8(chunk).unwrap();
        let length = format!("{:x}", chunk.len());
        request.extend([&length, "\r\n", chunk, "\r\n"]);
    }
    request += "0\r\n\r\n";
    // A server that has refused already may close the connection before it has read everything.
    drop(stream.write_all(request.as_bytes()).await);
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    let answer = std::str::from_utf8(&answer).unwrap();
    answer.strip_prefix("HTTP/1.1 ").unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_accepted() {
    let test = TestGateway::start(vec![]).await;
    let webhook = Webhook::with_payload("wh_1", " ".repeat(unwrapd::receive::BODY_BYTES_MAX));
    assert_eq!(test.post(&webhook).await, 200);
}

#[tokio::test]
async fn the_public_port_answers_its_endpoints_and_nothing_else() {
    let test = TestGateway::start(vec![]).await;
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    assert_eq!(test.post_to("unknown", &webhook).await.status(), 404);
    let get = |path: &str| {
        let url = format!("http://{}{path}", test.gateway.public());
        test.client().get(url).send()
    };
    assert_eq!(get("/webhooks/production").await.unwrap().status(), 405);
    for path in [
        "/",
        "/livez",
        "/readyz",
        "/metrics",
        "/webhooks",
        "/webhooks/production/x",
    ] {
        assert_eq!(get(path).await.unwrap().status(), 404, "{path}");
    }
}

#[tokio::test]
async fn operators_see_that_the_gateway_is_live_and_ready() {
    let test = TestGateway::start(vec![]).await;
    let admin = test.gateway.admin().unwrap();
    for path in ["livez", "readyz"] {
        let answer = test
            .client()
            .get(format!("http://{admin}/{path}"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
}

/// The answer to a webhook and that of `/readyz`, once they agree: a check of the store is at most
/// a second old.
async fn answers(test: &TestGateway, id: &str) -> (u16, bool, u16, String) {
    let webhook = Webhook::new(id, EventType::BatchCompleted);
    let answer = test.post_to("production", &webhook).await;
    let retry_after = answer.headers().contains_key("retry-after");
    let status = answer.status().as_u16();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (ready, why) = readiness(test).await;
        if ready == status || Instant::now() > deadline {
            return (status, retry_after, ready, why);
        }
    }
}

async fn readiness(test: &TestGateway) -> (u16, String) {
    let admin = test.gateway.admin().unwrap();
    let ready = test.client().get(format!("http://{admin}/readyz"));
    let ready = ready.send().await.unwrap();
    (ready.status().as_u16(), ready.text().await.unwrap())
}

#[tokio::test]
async fn a_webhook_that_cannot_be_stored_is_answered_503_and_readyz_says_why() {
    let test = TestGateway::start(vec![]).await;
    test.gateway.store().close().await;
    let (status, retry_after, ready, why) = answers(&test, "wh_1").await;
    assert_eq!((status, retry_after, ready), (503, true, 503));
    assert!(why.contains("unavailable"), "{why}");
}

#[tokio::test]
async fn a_removed_database_is_noticed_and_usable_again_when_put_back() {
    let mut test = TestGateway::start(vec![]).await;
    assert_eq!(answers(&test, "wh_1").await.0, 200);
    let database = test.folder.path().join("unwrapd.db");
    let elsewhere = test.folder.path().join("elsewhere");
    std::fs::rename(&database, &elsewhere).unwrap();
    let (status, retry_after, ready, why) = answers(&test, "wh_2").await;
    assert_eq!((status, retry_after, ready), (503, true, 503));
    assert!(why.contains("was removed or moved away"), "{why}");
    assert!(!database.exists(), "no new one in its place");
    timeout(PATIENCE, test.gateway.failed()).await.unwrap();
    let folder = test.stop().await;
    assert!(!database.exists());

    std::fs::rename(&elsewhere, &database).unwrap();
    // A new process has no locks of the previous one.
    let output = crate::support::process::unwrapd()
        .args(["db", "check"])
        .arg(&database)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains(" stored, "), "{report}");
    drop(folder);
}

#[tokio::test]
async fn a_database_that_is_locked_refuses_and_goes_on_when_it_is_free() {
    let test = TestGateway::start(vec![]).await;
    assert_eq!(answers(&test, "wh_1").await.0, 200);
    // Longer than the store waits.
    let lock = rusqlite::Connection::open(test.folder.path().join("unwrapd.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (status, retry_after, ready, mut why) = answers(&test, "wh_2").await;
    assert_eq!((status, retry_after, ready), (503, true, 503));
    // A slow check is reported before it has ended.
    let deadline = Instant::now() + PATIENCE;
    while why.contains("has not answered") && Instant::now() < deadline {
        (_, why) = readiness(&test).await;
    }
    assert!(why.contains("another process uses the database"), "{why}");

    lock.execute_batch("ROLLBACK").unwrap();
    // For a moment everyone gets the error at once.
    while answers(&test, "wh_2").await.0 != 200 {}
    assert_eq!(answers(&test, "wh_2").await.2, 200);
}

#[tokio::test]
async fn a_request_without_a_chance_is_refused_before_its_body_is_read() {
    let test = TestGateway::start(vec![]).await;
    let mut stream = TcpStream::connect(test.gateway.public()).await.unwrap();
    let head =
        "POST /webhooks/production HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_stopping() {
    let test = TestGateway::start(vec![]).await;
    let _silent = TcpStream::connect(test.gateway.public()).await.unwrap();
    // Stays open in the client's pool.
    test.receive("wh_1", EventType::BatchCompleted).await;
    let bound = std::time::Duration::from_secs(10);
    tokio::time::timeout(bound, test.stop()).await.unwrap();
}
