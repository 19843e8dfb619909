//! Malformed HTTP, and attacks on the protocols.

use openai_webhooks::EventType;
use tokio::task::JoinSet;

use super::GOOD;
use super::siege::{Siege, size};
use crate::support::Webhook;
use crate::support::wire::{Frame, HTTP2, frame, head, send, statuses, until_closed};

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `POST`, `http`, `/`, from HPACK's static table.
const POST: &[u8] = &[0x83, 0x86, 0x84];
const TIMEOUTS: &str = "head_timeout_seconds = 2
    body_timeout_seconds = 2
    idle_timeout_seconds = 2";

#[tokio::test(flavor = "multi_thread")]
async fn malformed_http1_is_refused_and_its_connection_closed() {
    let siege = Siege::begin(TIMEOUTS);
    let mut connections = JoinSet::new();
    for _ in 0..size(2, 20) {
        for (case, bytes, expected) in malformed() {
            let address = siege.address;
            connections.spawn(async move {
                let answers = statuses(&until_closed(send(address, bytes).await).await);
                // A response may be lost while the client is still sending.
                let is_right = answers.is_empty() || answers == [expected];
                assert!(is_right, "{case}: {answers:?}");
            });
        }
    }
    siege.good_get_through(GOOD).await;
    connections.join_all().await;
    siege.end("malformed HTTP/1.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attacks_by_http2_end_with_their_connection() {
    let siege = Siege::begin(TIMEOUTS);
    let mut connections = JoinSet::new();
    for _ in 0..size(2, 20) {
        for (case, bytes) in attacks() {
            let address = siege.address;
            connections.spawn(async move {
                // It reads nothing while it sends.
                let answer = until_closed(send(address, bytes).await).await;
                assert!(answer.len() < 1 << 20, "{case}: {} bytes", answer.len());
            });
        }
    }
    siege.good_get_through(GOOD).await;
    connections.join_all().await;
    siege.end("attacks by HTTP/2").await;
}

/// Each with its name and the expected answer.
fn malformed() -> Vec<(&'static str, String, u16)> {
    let webhook = Webhook::new("wh_bad", EventType::BatchCompleted);
    let with = |headers: &str, body: &str| head(&webhook, headers) + body;
    let chunked = |body: &str| with("transfer-encoding: chunked\r\n", body);
    let many = "x-many: y\r\n".repeat(200);
    let inside = with("content-length: 0\r\n", "");
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    vec![
        // The length must be ignored, and the rest is not a second request.
        (
            "both lengths",
            with(
                "content-length: 5\r\ntransfer-encoding: chunked\r\n",
                &format!("0\r\n\r\n{inside}"),
            ),
            401,
        ),
        (
            "two lengths",
            with("content-length: 5\r\ncontent-length: 6\r\n", "{}"),
            400,
        ),
        (
            "a negative length",
            with("content-length: -1\r\n", "{}"),
            400,
        ),
        (
            "a length beyond all numbers",
            with("content-length: 99999999999999999999999\r\n", "{}"),
            400,
        ),
        (
            "a length that nobody would send",
            with("content-length: 9999999999999999\r\n", "{}"),
            413,
        ),
        (
            "an unknown transfer encoding",
            with("transfer-encoding: gzip\r\n", "{}"),
            400,
        ),
        (
            "chunked, but not last",
            with("transfer-encoding: chunked, gzip\r\n", "{}"),
            400,
        ),
        ("a chunk without a size", chunked("x\r\n"), 400),
        (
            "a chunk beyond all numbers",
            chunked("fffffffffffffffff\r\nx"),
            400,
        ),
        (
            "a chunk of almost all numbers",
            chunked("fffffffffffffffe\r\nx"),
            408,
        ),
        ("a chunk longer than it says", chunked("1\r\nxyz\r\n"), 400),
        (
            "an endless chunk extension",
            chunked(&format!("1;{}", "x".repeat(1 << 20))),
            400,
        ),
        (
            "endless trailers",
            chunked(&format!("0\r\n{}", "a: b\r\n".repeat(1 << 18))),
            400,
        ),
        (
            "a folded header",
            with("x-long: a\r\n b\r\ncontent-length: 0\r\n", ""),
            400,
        ),
        (
            "NUL in a header",
            with("x-nul: a\0b\r\ncontent-length: 0\r\n", ""),
            400,
        ),
        (
            "a space before the colon",
            with("content-length : 0\r\n", ""),
            400,
        ),
        (
            "a head without end",
            with(&format!("x-long: {}\r\n", "x".repeat(1 << 20)), ""),
            431,
        ),
        ("a method without end", "A".repeat(1 << 20), 431),
        ("a path without end", get(&"/x".repeat(1 << 19)), 431),
        ("too many headers", with(&many, ""), 431),
        ("HTTP/0.9", "GET /webhooks/production\r\n".into(), 400),
        ("HTTP/3.0", "GET / HTTP/3.0\r\n\r\n".into(), 400),
        ("no HTTP", "EHLO example.com\r\n\r\n".into(), 400),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\x03\x03".into(), 400),
        ("zeros", "\0".repeat(100_000), 400),
        (
            "CONNECT",
            "CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n".into(),
            404,
        ),
        (
            "an upgrade",
            with(
                "connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 0\r\n",
                "",
            ),
            401,
        ),
    ]
}

/// Each with its name.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let preface = &HTTP2[..24];
    let many = |count: u32, frames: &dyn Fn(u32) -> Vec<u8>| {
        let mut bytes = HTTP2.to_vec();
        for n in 0..count {
            bytes.extend(frames(n));
        }
        bytes
    };
    // After the head of a request.
    let after_head = |flags: u8, count: u32, next: Vec<u8>| {
        let first = frame(Frame::Headers, flags, 1, POST);
        many(count, &|n| {
            if n == 0 { first.clone() } else { next.clone() }
        })
    };
    // `x: ` and a value that is put into the dynamic table, at index 62.
    let mut large = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    large.extend([b'y'; 4000]);
    let bomb = [POST, &large, &[0xbe; 12_000]].concat();
    // A field that is not indexed: a name of one letter, a value of 100.
    let field = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
    let no_window = frame(Frame::Settings, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let request = |n: u32| frame(Frame::Headers, END_HEADERS | END_STREAM, 2 * n + 1, POST);
    vec![
        (
            "garbage after the preface",
            [preface, &[b'x'; 1000]].concat(),
        ),
        (
            "half a preface and garbage",
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
        ),
        (
            "rapid reset",
            many(10_000, &|n| {
                let stream = 2 * n + 1;
                let mut frames = frame(Frame::Headers, END_HEADERS, stream, POST);
                frames.extend(frame(Frame::RstStream, 0, stream, &[0, 0, 0, 8]));
                frames
            }),
        ),
        (
            "streams without end",
            many(10_000, &|n| {
                frame(Frame::Headers, END_HEADERS, 2 * n + 1, POST)
            }),
        ),
        (
            "continuation flood",
            after_head(END_STREAM, 10_000, frame(Frame::Continuation, 0, 1, &field)),
        ),
        (
            "empty continuations",
            after_head(END_STREAM, 30_000, frame(Frame::Continuation, 0, 1, b"")),
        ),
        (
            "HPACK bomb",
            many(64, &|n| {
                frame(Frame::Headers, END_HEADERS | END_STREAM, 2 * n + 1, &bomb)
            }),
        ),
        (
            "no window",
            (0..128).fold([preface, &no_window].concat(), |mut bytes, n| {
                bytes.extend(request(n));
                bytes
            }),
        ),
        ("answers that are not read", many(50_000, &request)),
        (
            "ping flood",
            many(50_000, &|_| frame(Frame::Ping, 0, 0, &[0; 8])),
        ),
        (
            "settings flood",
            many(50_000, &|_| {
                frame(Frame::Settings, 0, 0, &[0, 1, 0, 0, 0x10, 0])
            }),
        ),
        (
            "priority flood",
            many(30_000, &|n| {
                frame(Frame::Priority, 0, 2 * n + 1, &[0, 0, 0, 0, 1])
            }),
        ),
        (
            "empty data",
            after_head(END_HEADERS, 30_000, frame(Frame::Data, 0, 1, b"")),
        ),
        (
            "data in grains",
            after_head(END_HEADERS, 30_000, frame(Frame::Data, 0, 1, b"x")),
        ),
        (
            "more than the window",
            after_head(END_HEADERS, 64, frame(Frame::Data, 0, 1, &[b'x'; 16_384])),
        ),
        (
            "a window beyond all numbers",
            many(2, &|_| {
                frame(Frame::WindowUpdate, 0, 0, &[0x7f, 0xff, 0xff, 0xff])
            }),
        ),
        (
            "a frame that is too large",
            [
                HTTP2,
                &[0xff, 0xff, 0xff, Frame::Data as u8, 0, 0, 0, 0, 1],
                &[0; 100_000],
            ]
            .concat(),
        ),
        (
            "an even stream",
            many(1, &|_| frame(Frame::Headers, END_HEADERS, 2, POST)),
        ),
        (
            "a promise",
            many(1, &|_| frame(Frame::PushPromise, 0, 1, &[0; 8])),
        ),
        (
            "headers that are none",
            many(1, &|_| frame(Frame::Headers, END_HEADERS, 1, &[0xff; 1000])),
        ),
    ]
}
