//! Connections: both protocols, and their limits in time and number.

use std::time::Duration;

use openai_webhooks::EventType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::bounds::{HTTP2_WINDOW, http2};
use crate::support::process::Serving;
use crate::support::tally::Counted as _;
use crate::support::wire::{Frame, HTTP2, frame, head, request, send, statuses, until_closed};
use crate::support::{PATIENCE, TestGateway, Webhook};

const SHORT: Duration = Duration::from_secs(1);

fn webhook(id: &str) -> Webhook {
    Webhook::new(id, EventType::BatchCompleted)
}

/// Posts it by HTTP/2 and returns the status.
pub(crate) async fn post(client: &h2::client::SendRequest<bytes::Bytes>, webhook: &Webhook) -> u16 {
    let mut client = client.clone().ready().await.unwrap();
    let mut request = http::Request::post("http://test/webhooks/production");
    for (name, value) in webhook.headers.pairs() {
        request = request.header(name, value);
    }
    let (answer, mut body) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    body.send_data(webhook.payload.clone().into(), true)
        .unwrap();
    answer.await.unwrap().status().as_u16()
}

#[tokio::test]
async fn http2_without_tls_is_understood_with_many_requests_at_once() {
    let test = TestGateway::start(vec![]).await;
    let client = http2(test.gateway.public(), HTTP2_WINDOW).await;
    let posts = (0..500).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { post(&client, &webhook(&format!("wh_{n}"))).await })
    });
    for status in posts.collect::<Vec<_>>() {
        assert_eq!(status.await.unwrap(), 200);
    }
    let forged = webhook("wh_x").forged();
    assert_eq!(post(&client, &forged).await, 401);
    let large = " ".repeat(unwrapd::receive::BODY_BYTES_MAX);
    let large = Webhook::with_payload("wh_y", large);
    assert_eq!(post(&client, &large).await, 200);
    let too_large = " ".repeat(unwrapd::receive::BODY_BYTES_MAX + 1);
    let too_large = Webhook::with_payload("wh_z", too_large);
    assert_eq!(post(&client, &too_large).await, 413);
    assert_eq!(test.gateway.store().tally().await.messages, 501);

    let bound = Duration::from_secs(10);
    timeout(bound, test.stop()).await.expect("it stops");
    assert!(client.ready().await.is_err(), "it was told to go away");
}

#[tokio::test]
async fn requests_sent_in_one_packet_are_answered_in_their_order() {
    let test = TestGateway::served(|server| server.idle_timeout = SHORT).await;
    let forged = webhook("wh_2").forged();
    let three = request(&webhook("wh_1")) + &request(&forged) + &request(&webhook("wh_3"));
    let answers = until_closed(send(test.gateway.public(), three).await).await;
    assert_eq!(statuses(&answers), [200, 401, 200]);
}

#[tokio::test]
async fn a_client_that_closes_its_half_after_the_request_is_answered() {
    let test = TestGateway::start(vec![]).await;
    let mut stream = send(test.gateway.public(), request(&webhook("wh_1"))).await;
    stream.shutdown().await.unwrap();
    assert_eq!(statuses(&until_closed(stream).await), [200]);

    let length = format!("content-length: {}\r\n", 1000);
    let mut stream = send(
        test.gateway.public(),
        head(&webhook("wh_2"), &length) + "half",
    )
    .await;
    stream.shutdown().await.unwrap();
    let refused = statuses(&until_closed(stream).await);
    assert!(refused.is_empty() || refused == [400], "{refused:?}");
    assert_eq!(test.gateway.store().tally().await.messages, 1);
}

#[tokio::test]
async fn a_head_that_does_not_arrive_ends_the_connection() {
    let test = TestGateway::patient(|server| server.head_timeout = SHORT).await;
    let address = test.gateway.public();
    for (begin, case) in [
        (&b""[..], "nothing"),
        (
            b"POST /webhooks/production HTTP/1.1\r\nhost: t",
            "half a head",
        ),
        (b"PRI * HTTP", "half a preface"),
        (HTTP2, "a preface"),
    ] {
        let began = Instant::now();
        until_closed(send(address, begin).await).await;
        assert!(began.elapsed() >= SHORT, "{case}: {:?}", began.elapsed());
    }
    // And a later one.
    let mut stream = send(address, request(&webhook("wh_1"))).await;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    stream.write_all(b"POST /webhooks").await.unwrap();
    until_closed(stream).await;
}

#[tokio::test]
async fn an_idle_connection_ends_in_either_protocol_even_if_its_client_is_alive() {
    let test = TestGateway::patient(|server| server.idle_timeout = SHORT).await;
    let stream = send(test.gateway.public(), request(&webhook("wh_1"))).await;
    assert_eq!(statuses(&until_closed(stream).await), [200]);

    let stream = TcpStream::connect(test.gateway.public()).await.unwrap();
    let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let connection = tokio::spawn(connection);
    assert_eq!(post(&client, &webhook("wh_2")).await, 200);
    let pinging = async { while pings.ping(h2::Ping::opaque()).await.is_ok() {} };
    timeout(PATIENCE, pinging).await.expect("it is closed");
    // With GOAWAY, so there is no error.
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_body_that_drips_is_cut_off_at_its_time() {
    let test = TestGateway::patient(|server| server.body_timeout = SHORT).await;
    let head = head(&webhook("wh_1"), "content-length: 1000\r\n");
    let (mut from, mut to) = send(test.gateway.public(), head).await.into_split();
    let dripping = tokio::spawn(async move {
        let mut drops = tokio::time::interval(SHORT / 20);
        loop {
            drops.tick().await;
            if to.write_all(b"x").await.is_err() {
                return;
            }
        }
    });
    let mut answer = [0; 12];
    from.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    timeout(PATIENCE, dripping)
        .await
        .expect("it closes")
        .unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_cut_off() {
    let test = TestGateway::patient(|server| server.idle_timeout = SHORT).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(test.gateway.public()).await.unwrap();
    let requests = "GET / HTTP/1.1\r\nhost: test\r\n\r\n".repeat(1000);
    // Until its responses fill all buffers. Then it is stuck until it is reset.
    let asking = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, asking).await.expect("it is cut off");
}

#[tokio::test]
async fn a_client_of_http2_that_opens_no_window_is_cut_off() {
    let test = TestGateway::served(|server| {
        server.idle_timeout = SHORT;
        server.body_timeout = SHORT;
    })
    .await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0: a response with a body can never be sent.
    let mut bytes = HTTP2[..24].to_vec();
    bytes.extend(frame(Frame::Settings, 0, 0, &[0, 4, 0, 0, 0, 0]));
    // GET, http, path /, from the static table; END_STREAM and END_HEADERS.
    bytes.extend(frame(Frame::Headers, 5, 1, &[0x82, 0x86, 0x84]));
    until_closed(send(test.gateway.public(), bytes).await).await;
}

#[tokio::test]
async fn a_webhook_above_the_limit_of_requests_is_answered_503_before_its_body_is_read() {
    let test = TestGateway::served(|server| server.requests_max = 2).await;
    // While another program holds the lock, received webhooks wait for it.
    let lock = rusqlite::Connection::open(test.folder.path().join("unwrapd.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let address = test.gateway.public();
    let first = send(address, request(&webhook("wh_1"))).await;
    let second = send(address, request(&webhook("wh_2"))).await;
    let refused = loop {
        // Until both bodies are complete, this evicts one or is refused; its body never arrives.
        let head = head(&webhook("wh_3"), "content-length: 1000\r\n");
        let mut stream = send(address, head).await;
        let mut answer = [0; 256];
        if let Ok(read) = timeout(SHORT, stream.read(&mut answer)).await {
            break answer[..read.unwrap()].to_vec();
        }
    };
    let refused = String::from_utf8_lossy(&refused).to_lowercase();
    assert!(refused.starts_with("http/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: "), "{refused}");
    lock.execute_batch("ROLLBACK").unwrap();
    for mut stream in [first, second] {
        stream.shutdown().await.unwrap();
        assert_eq!(statuses(&until_closed(stream).await), [200]);
    }
}

#[tokio::test]
async fn the_slowest_body_gives_way_to_a_newcomer_and_may_come_again() {
    let test = TestGateway::served(|server| server.requests_max = 1).await;
    let webhook = webhook("wh_1");
    let length = format!("content-length: {}\r\n", webhook.payload.len());
    let head = head(&webhook, &length) + "{";
    let slow = send(test.gateway.public(), head).await;
    let newcomer = self::webhook("wh_2");
    let slow = tokio::spawn(until_closed(slow));
    // Repeatedly: the first one may arrive before the slow one.
    while !slow.is_finished() {
        assert_eq!(test.post(&newcomer).await, 200);
    }
    let answer = slow.await.unwrap();
    assert_eq!(statuses(&answer), [503]);
    assert_eq!(test.post(&webhook).await, 200);
}

#[tokio::test]
async fn an_endpoint_has_its_own_limit_and_takes_no_slot_from_another() {
    // The first line belongs to the endpoint `production`.
    let (_folder, serving) = Serving::start_with_tables(
        "requests_max = 1\n[[endpoint]]\nname = \"staging\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]",
    );
    let address = serving.address();

    let (ours, theirs) = (webhook("wh_1"), webhook("wh_2"));
    let half = |webhook: &Webhook| {
        let length = format!("content-length: {}\r\n", webhook.payload.len());
        head(webhook, &length) + &webhook.payload[..1]
    };
    let elsewhere = half(&theirs).replace("/production", "/staging");
    let mut elsewhere = send(address, elsewhere).await;
    let slow = tokio::spawn(until_closed(send(address, half(&ours)).await));
    while !slow.is_finished() {
        assert_eq!(serving.post(&webhook("wh_3")).await, 200);
    }
    assert_eq!(statuses(&slow.await.unwrap()), [503]);
    elsewhere
        .write_all(&theirs.payload.as_bytes()[1..])
        .await
        .unwrap();
    elsewhere.shutdown().await.unwrap();
    assert_eq!(statuses(&until_closed(elsewhere).await), [200]);
}

#[tokio::test]
async fn large_bodies_share_a_limit_that_leaves_usual_bodies_alone() {
    let test = TestGateway::served(|server| server.body_timeout = 5 * SHORT).await;
    let almost = vec![b' '; unwrapd::receive::BODY_BYTES_MAX - 1];
    let mut slow = Vec::new();
    for n in 0..80 {
        let webhook = webhook(&format!("wh_{n}"));
        let length = format!("content-length: {}\r\n", unwrapd::receive::BODY_BYTES_MAX);
        let address = test.gateway.public();
        let head = head(&webhook, &length);
        let almost = almost.clone();
        slow.push(tokio::spawn(async move {
            let mut stream = send(address, head).await;
            // The server may close the connection of a refused request before everything is sent.
            drop(stream.write_all(&almost).await);
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.map(|_| answer)
        }));
    }
    let refused = tokio::select! {
        refused = async {
            let mut refused = Vec::new();
            for slow in slow {
                refused.push(slow.await.unwrap());
            }
            refused
        } => refused,
        () = async {
            loop {
                assert_eq!(test.post(&webhook("usual")).await, 200);
            }
        } => unreachable!(),
    };
    let is_full = |answer: &&[u8; 12]| answer.ends_with(b"503");
    let full = refused.iter().flatten().filter(is_full).count();
    assert!(full > 0, "some find no room");
    assert!(full < 40, "{full} of 80 find no room");
}
