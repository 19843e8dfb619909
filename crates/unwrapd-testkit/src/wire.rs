//! Requests byte by byte, including malformed ones.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{PATIENCE, Webhook};

/// The head of `webhook`'s request in HTTP/1.1, with these headers instead of `content-length`.
pub fn head(webhook: &Webhook, headers: &str) -> String {
    let mut head = "POST /webhooks/production HTTP/1.1\r\nhost: test\r\n".to_owned();
    for (name, value) in webhook.headers.pairs() {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head + headers + "\r\n"
}

/// The whole request.
pub fn request(webhook: &Webhook) -> String {
    let length = format!("content-length: {}\r\n", webhook.payload.len());
    head(webhook, &length) + &webhook.payload
}

/// Sends these bytes; the server may close the connection before it has read all of them.
pub async fn send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    drop(stream.write_all(bytes.as_ref()).await);
    stream
}

/// Everything that the server sends until it closes the connection, in whatever way. A server that
/// leaves it open fails the test.
pub async fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    drop(end.expect("the server closes"));
    answer
}

/// The status of each HTTP/1.1 response.
pub fn statuses(answers: &[u8]) -> Vec<u16> {
    String::from_utf8_lossy(answers)
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| answer[..3].parse().unwrap())
        .collect()
}

/// The beginning of an HTTP/2 connection without TLS: the preface and an empty SETTINGS frame.
pub const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The type of a frame of HTTP/2.
#[derive(Clone, Copy)]
pub enum Frame {
    Data = 0,
    Headers = 1,
    Priority = 2,
    RstStream = 3,
    Settings = 4,
    PushPromise = 5,
    Ping = 6,
    WindowUpdate = 8,
    Continuation = 9,
}

/// A frame of HTTP/2.
pub fn frame(kind: Frame, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind as u8, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
