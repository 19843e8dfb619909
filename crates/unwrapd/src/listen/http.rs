//! HTTP/1.1 and HTTP/2 on one connection, within limits that no client can extend.

use std::convert::Infallible;
use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, interval, timeout};

use super::activity::Activity;
use tokio_util::sync::CancellationToken;

/// Maximum size of the head of a request in bytes, in both protocols. Heads from OpenAI have less
/// than 1 KiB.
const HEAD_BYTES_MAX: u16 = 16 * 1024;
/// Maximum number of headers of a request in HTTP/1.1, as in most servers. HTTP/2 limits their
/// bytes, and counts 32 for each header.
const HEADERS_MAX: usize = 100;
/// Maximum number of concurrent requests on one connection. A proxy may send everything on one or
/// two connections; this number fills four shared commits.
const STREAMS_MAX: u32 = 128;
/// Bytes of bodies that may arrive unread, for one request and for a connection: the initial window
/// of the protocol. Bodies are read as they arrive, so this limits memory and not speed.
const WINDOW_BYTES: u32 = 65_535;
/// Maximum size of a frame in bytes: the smallest limit that the protocol allows.
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Maximum number of bytes of one stream that wait to be sent. Responses to webhooks are one line.
const SEND_BYTES_MAX: usize = 16 * 1024;
/// Maximum number of requests that a client may reset before they are read ("rapid reset",
/// [CVE-2023-44487](https://nvd.nist.gov/vuln/detail/CVE-2023-44487)). More end the connection.
const RESETS_PENDING_MAX: usize = 20;
/// Maximum number of streams that violate the protocol
/// ([CVE-2024-2758](https://nvd.nist.gov/vuln/detail/CVE-2024-2758) and similar) before the
/// connection ends. Some are legitimate: a client may open too many streams until it has read our
/// settings, and repeats them.
const STREAM_FAULTS_MAX: usize = 256;
/// Time for a client to react to the end of an idle connection. HTTP/2 sends GOAWAY and waits for
/// the echo of a ping.
const GOODBYE: Duration = Duration::from_secs(1);
/// Time for a body to arrive completely at shutdown. `docker stop` kills after 10 s.
const ARRIVAL_MAX: Duration = Duration::from_secs(5);
/// Interval between checks of a connection at shutdown.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Serves connections within the limits above.
pub(super) struct Http(auto::Builder<TokioExecutor>);

impl Http {
    /// With `half_close` a client may close its half of the connection after its request, and still
    /// gets the response. Without it, a client that closes its half has left.
    pub(super) fn new(half_close: bool) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // No time-outs and no pings here: `Activity` limits both protocols, and ends connections
        // that are alive but idle.
        builder
            .http1()
            .max_buf_size(usize::from(HEAD_BYTES_MAX))
            .max_headers(HEADERS_MAX)
            .header_read_timeout(None)
            .half_close(half_close);
        builder
            .http2()
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::from(HEAD_BYTES_MAX))
            .max_frame_size(FRAME_BYTES_MAX)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_send_buf_size(SEND_BYTES_MAX)
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
            .max_local_error_reset_streams(STREAM_FAULTS_MAX);
        Self(builder)
    }

    /// Serves until the client closes the connection, a time limit passes, or shutdown.
    pub(super) async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        router: Router,
        activity: &Arc<Activity>,
        shutdown: CancellationToken,
    ) -> Result<(), Broken> {
        let router = TowerToHyperService::new(router);
        let service = service_fn(|request: Request<Incoming>| {
            let exchange = activity.begin(request.version() == Version::HTTP_2);
            let arrival = exchange.arrival();
            let answer = router.call(request.map(|body| Arriving::new(body, arrival)));
            async move {
                let answer = answer.await?;
                exchange.answer(answer.status().is_success(), is_stream(answer.headers()));
                // The exchange ends with the body that holds it.
                let held = move |_: &Frame<Bytes>| _ = &exchange;
                Ok::<_, Infallible>(answer.map(|body| body.inspect_frame(held)))
            }
        });
        let mut connection = pin!(self.0.serve_connection(TokioIo::new(stream), service));
        let is_idle = tokio::select! {
            biased;
            ended = connection.as_mut() => return ended.map_err(|error| Broken::of(&*error)),
            is_idle = activity.overdue() => is_idle,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    _ = connection.as_mut() => {}
                    () = may_end(activity) => {}
                    _ = activity.overdue() => {}
                }
                return Ok(());
            }
        };
        if is_idle {
            connection.as_mut().graceful_shutdown();
            drop(timeout(GOODBYE, connection).await);
        } else if activity.has_arrived() {
            return Err(Broken::TooSlow);
        }
        Ok(())
    }
}

/// Whether these are the headers of a stream of events, which has no end of its own.
fn is_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|media_type| media_type == "text/event-stream")
}

/// Waits, at shutdown, until the connection may end. A request whose head is incomplete is dropped
/// at once, one whose body is incomplete after [`ARRIVAL_MAX`]. A complete request is not dropped.
async fn may_end(activity: &Activity) {
    // A response that was finished a moment ago must still be sent. So one time counts from the
    // last complete request, the other from the last open one.
    let (mut worked, mut asked) = (Instant::now(), Instant::now());
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        if activity.has_work() {
            (worked, asked) = (Instant::now(), Instant::now());
        } else if activity.has_request() {
            asked = Instant::now();
            if worked.elapsed() >= ARRIVAL_MAX {
                return;
            }
        } else if !activity.is_http2() || asked.elapsed() >= GOODBYE {
            return;
        }
    }
}

/// A failure of a connection for which the client is responsible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The request is not HTTP, or its head is too large.
    NotHttp,
    /// A request did not arrive, or a response was not read, in time.
    TooSlow,
    /// The connection ended early.
    Gone,
}

impl Broken {
    fn of(error: &(dyn Error + 'static)) -> Self {
        let is_parse = |error: &hyper::Error| error.is_parse() || error.is_parse_too_large();
        match error.downcast_ref::<hyper::Error>() {
            Some(error) if is_parse(error) => Self::NotHttp,
            _ => Self::Gone,
        }
    }
}

/// The body of a request, with a function to call when it has arrived.
struct Arriving<T> {
    body: Incoming,
    arrived: Option<T>,
}

impl<T: FnOnce()> Arriving<T> {
    fn new(body: Incoming, arrived: T) -> Self {
        let mut arriving = Self {
            body,
            arrived: Some(arrived),
        };
        arriving.look();
        arriving
    }

    fn look(&mut self) {
        if self.body.is_end_stream()
            && let Some(arrived) = self.arrived.take()
        {
            arrived();
        }
    }
}

impl<T: FnOnce() + Unpin> HttpBody for Arriving<T> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(None) => {
                if let Some(arrived) = self.arrived.take() {
                    arrived();
                }
            }
            Poll::Ready(Some(_)) => self.look(),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
