//! `/api/v1/events/stream`: pipeline events as they happen, as [server-sent
//! events](https://html.spec.whatwg.org/multipage/server-sent-events.html).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio::time::interval;

use super::bounds::Bounds;
use super::operation::{Operation, Parameter};
use super::{Admin, Route};
use crate::pipeline_events::{Listener, Live, LiveEvent, Start};

/// The media type of the stream. A port ends other answers that take long.
const EVENT_STREAM: &str = "text/event-stream";
/// Interval between comments that show that the stream is alive. Proxies end connections that are
/// silent for a minute.
const BEAT_EVERY: Duration = Duration::from_secs(15);
/// Time after which a client connects again, in milliseconds.
const RETRY_MS: u64 = 2_000;
/// Maximum number of pieces that wait until the client reads. Events wait in the ring beyond that.
const PIECES_MAX: usize = 16;

/// The header with which a client goes on.
const LAST_EVENT_ID: &[Parameter] = &[Parameter::header(
    "last-event-id",
    "id of the last event that the client has received",
)];

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get(
        "/api/v1/events/stream",
        Bounds::STREAM,
        stream,
        Operation::text(
            "stream_events",
            "Streams pipeline events as they happen. The data of each is a `LiveEvent`.",
            EVENT_STREAM,
        )
        .mentions::<LiveEvent<'_>>()
        .parameters(LAST_EVENT_ID),
    )]
}

async fn stream(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let listener = admin.live.listen(start(&headers));
    let (pieces, received) = mpsc::channel(PIECES_MAX);
    tokio::spawn(send(listener, pieces));
    let headers = [
        (CONTENT_TYPE, EVENT_STREAM),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Body::new(Pieces(received))).into_response()
}

/// The place behind which a client wants to go on.
fn start(headers: &HeaderMap) -> Start {
    match headers.get("last-event-id") {
        None => Start::Now,
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.parse().ok());
            id.map_or(Start::Unknown, Start::After)
        }
    }
}

/// Sends what the listener receives, until the client leaves or the gateway stops.
async fn send(mut listener: Listener, pieces: mpsc::Sender<Bytes>) {
    let mut beats = interval(BEAT_EVERY);
    let mut piece = Bytes::from(format!("retry: {RETRY_MS}\n\n"));
    loop {
        if pieces.send(piece).await.is_err() {
            return;
        }
        piece = tokio::select! {
            biased;
            live = listener.next() => match live {
                Some(live) => text(&live).into(),
                None => return,
            },
            _ = beats.tick() => Bytes::from_static(b": alive\n\n"),
            () = pieces.closed() => return,
        };
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

/// The body of the stream.
struct Pieces(mpsc::Receiver<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}
