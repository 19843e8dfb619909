//! `/api/v1/events/stream`: pipeline events as they happen, as [server-sent
//! events](https://html.spec.whatwg.org/multipage/server-sent-events.html).

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream::poll_fn;
use tokio::sync::mpsc;
use tokio::time::interval;

use super::bounds::Bounds;
use super::operation::Parameter;
use super::{Admin, Route};
use crate::pipeline_events::{Live, LiveEvent, Start, Subscriber};

/// The media type of the stream. A port ends other answers that take long.
const EVENT_STREAM: &str = "text/event-stream";
/// Interval between comments that show that the stream is alive. Proxies end connections that are
/// silent for a minute.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// Time after which a client connects again, in milliseconds.
const RETRY_MS: u64 = 2_000;
/// Maximum number of blocks of lines that wait until the client reads. Events wait in the ring
/// beyond that.
const BLOCKS_MAX: usize = 16;
/// The header with which nginx passes an answer on as it comes.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The header with which a client goes on.
const LAST_EVENT_ID: &[Parameter] = &[Parameter::header(
    "last-event-id",
    "id of the last event that the client has received",
)];

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/events/stream", Bounds::STREAM, stream)
            .text(
                "stream_events",
                "Streams pipeline events as they happen. The data of each is a `LiveEvent`.",
                EVENT_STREAM,
            )
            .mentions::<LiveEvent<'_>>()
            .parameters(LAST_EVENT_ID),
    ]
}

async fn stream(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let subscriber = admin.live.subscribe(start(&headers));
    let (blocks, mut received) = mpsc::channel(BLOCKS_MAX);
    tokio::spawn(send(subscriber, blocks));
    let received = poll_fn(move |context| {
        let block = received.poll_recv(context);
        block.map(|block| block.map(Ok::<_, Infallible>))
    });
    let headers = [
        (CONTENT_TYPE, EVENT_STREAM),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_ACCEL_BUFFERING, "no"),
    ];
    (headers, Body::from_stream(received)).into_response()
}

/// The position from which the client resumes.
fn start(headers: &HeaderMap) -> Start {
    match headers.get("last-event-id") {
        None => Start::Now,
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.parse().ok());
            id.map_or(Start::Unknown, Start::After)
        }
    }
}

/// Sends what the subscriber receives, until the client leaves or the stream ends.
async fn send(mut subscriber: Subscriber, blocks: mpsc::Sender<Bytes>) {
    let mut heartbeat = interval(HEARTBEAT_EVERY);
    let mut block = Bytes::from(beginning(&subscriber));
    loop {
        let is_sent = tokio::select! {
            sent = blocks.send(block) => sent.is_ok(),
            // Its client does not read.
            () = subscriber.ended() => false,
        };
        if !is_sent {
            return;
        }
        block = tokio::select! {
            biased;
            live = subscriber.next() => match live {
                Some(live) => text(&live).into(),
                None => return,
            },
            _ = heartbeat.tick() => Bytes::from_static(b": alive\n\n"),
            () = blocks.closed() => return,
        };
    }
}

/// The first block. It has the position, so that a client that loses the connection before its
/// first event misses nothing either.
fn beginning(subscriber: &Subscriber) -> String {
    match subscriber.position() {
        Some(at) => format!("retry: {RETRY_MS}\nid: {at}\n\n"),
        None => format!("retry: {RETRY_MS}\n\n"),
    }
}

/// One event as text. JSON has no line breaks.
fn text(live: &Live) -> String {
    match live {
        Live::Event { at, json } => {
            format!("id: {at}\ndata: {}\n\n", String::from_utf8_lossy(json))
        }
        Live::Missed { at, events } => {
            let missed = serde_json::json!({ "events": events });
            format!("id: {at}\nevent: missed\ndata: {missed}\n\n")
        }
    }
}
