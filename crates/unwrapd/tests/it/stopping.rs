//! Connections that delay a stop, and those that do not.

use std::time::Duration;

use openai_webhooks::EventType;
use rcgen::CertifiedKey;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};
use unwrapd::tls::Tls;

use crate::support::application::Answer;
use crate::support::wire::{Frame, HTTP2, frame, head, request, send, statuses, until_closed};
use crate::support::{TestGateway, Webhook, client};

/// Well below the 10 s after which `docker stop` kills.
const BOUND: Duration = Duration::from_secs(5);

fn webhook(id: &str) -> Webhook {
    Webhook::new(id, EventType::BatchCompleted)
}

async fn stops(test: TestGateway, case: &str) {
    let began = Instant::now();
    let stopped = timeout(BOUND, test.stop()).await;
    assert!(stopped.is_ok(), "{case}: {:?}", began.elapsed());
}

#[tokio::test]
async fn an_incomplete_head_is_dropped_at_once_on_either_port() {
    let mut begun_http2 = HTTP2.to_vec();
    // The beginning of a head: HEADERS without END_HEADERS.
    begun_http2.extend(frame(Frame::Headers, 0, 1, &[0x83, 0x86]));
    let half_head = b"POST /webhooks/production HTTP/1.1\r\nhost: t";
    let second_head = request(&webhook("wh_1")) + "POST /webhooks/production HTTP/1.1\r\nhos";
    let cases: [(&str, &[u8]); 6] = [
        ("nothing", b""),
        ("half a head", half_head),
        ("half a preface", b"PRI * HTTP"),
        ("a preface", HTTP2),
        ("half a head of HTTP/2", &begun_http2),
        ("half a second head", second_head.as_bytes()),
    ];
    for (case, begin) in cases {
        let test = TestGateway::patient(|_| {}).await;
        let mut held = Vec::new();
        for address in [test.gateway.public(), test.gateway.admin().unwrap()] {
            held.push(send(address, begin).await);
        }
        // So that everything sent has arrived.
        assert_eq!(test.post(&webhook("wh_2")).await, 200);
        stops(test, case).await;
        drop(held);
    }
}

#[tokio::test]
async fn an_unfinished_handshake_is_dropped_at_once() {
    let folder = TempDir::new().unwrap();
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let (certificate, key) = (folder.path().join("tls.pem"), folder.path().join("tls.key"));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let tls = Tls::read(&certificate, &key).unwrap();
    let test = TestGateway::patient(|server| {
        server.tls = Some(tls.clone());
        server.admin_tls = Some(tls);
    })
    .await;
    let mut held = Vec::new();
    for address in [test.gateway.public(), test.gateway.admin().unwrap()] {
        for begin in [&b""[..], b"\x16\x03\x01"] {
            held.push(send(address, begin).await);
        }
    }
    stops(test, "a handshake").await;
}

#[tokio::test]
async fn a_body_that_is_arriving_is_accepted_and_a_missing_one_is_dropped_in_time() {
    let test = TestGateway::patient(|_| {}).await;
    let address = test.gateway.public();
    let (slow, stuck) = (webhook("wh_slow"), webhook("wh_stuck"));
    let half = |webhook: &Webhook| {
        let length = format!("content-length: {}\r\n", webhook.payload.len());
        head(webhook, &length) + &webhook.payload[..1]
    };
    let mut arriving = send(address, half(&slow)).await;
    let never = send(address, half(&stuck)).await;
    assert_eq!(test.post(&webhook("wh_2")).await, 200);
    let began = Instant::now();
    let stop = tokio::spawn(test.stop());
    // The port refuses connections once the stop has begun.
    while tokio::net::TcpStream::connect(address).await.is_ok() {}
    arriving
        .write_all(&slow.payload.as_bytes()[1..])
        .await
        .unwrap();
    let mut answer = Vec::new();
    arriving.read_to_end(&mut answer).await.unwrap();
    assert_eq!(statuses(&answer), [200]);
    until_closed(never).await;
    stop.await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn an_operator_who_waits_for_a_slow_destination_does_not_hold_it_up() {
    let (mut app, test) = TestGateway::with_app([Answer::Hang]).await;
    let admin = test.gateway.admin().unwrap();
    let url = format!("http://{admin}/api/v1/destinations/app/test");
    let waits = tokio::spawn(client().post(url).send());
    app.next().await;
    stops(test, "a test of a destination").await;
    waits.abort();
}
