//! HTTP/1.1 and HTTP/2 on one connection, with limits that no client can stretch.

use std::convert::Infallible;
use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Version};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, interval, timeout};

use super::activity::{Activity, Exchange};
use tokio_util::sync::CancellationToken;

/// Largest head of a request, in either protocol. OpenAI's have less than 1 KiB.
const HEAD_BYTES_MAX: u16 = 16 * 1024;
/// Most headers of a request in HTTP/1.1, as in most servers. HTTP/2 bounds them by their bytes, of
/// which each costs 32.
const HEADERS_MAX: usize = 100;
/// Most requests at once on one connection. A proxy may send us everything on one or two; this is
/// four shared commits' worth.
const STREAMS_MAX: u32 = 128;
/// Bytes of bodies that may arrive unasked, of one request and of all on a connection: the smallest
/// the protocol begins with. They are read as they come, so it bounds memory and not speed.
const WINDOW_BYTES: u32 = 65_535;
/// Largest frame: the smallest bound that the protocol allows.
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Most bytes of one stream that may wait to be sent. Our answers are a line.
const SEND_BYTES_MAX: usize = 16 * 1024;
/// Requests that may be taken back before we have seen them ("rapid reset", CVE-2023-44487). Then the connection ends.
const RESETS_PENDING_MAX: usize = 20;
/// Streams that may break the protocol (CVE-2024-2758 and its kin) before the connection ends. Some
/// are honest: a client may open more than it may until it has read our settings, and sends them
/// again.
const STREAM_FAULTS_MAX: usize = 256;
/// How long a client may take to understand that an idle connection ends. HTTP/2 says goodbye and waits for an echo.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a body may go on arriving when everything is to stop. `docker stop` kills after 10 s.
const ARRIVAL_MAX: Duration = Duration::from_secs(5);
/// Time between two looks at what a connection waits for, when everything is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How connections are served.
pub(super) struct Http(auto::Builder<TokioExecutor>);

impl Http {
    pub(super) fn new() -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // No time-outs and no pings here: `Activity` sees to it, for both protocols, and ends what
        // is idle though it lives.
        builder
            .http1()
            .max_buf_size(usize::from(HEAD_BYTES_MAX))
            .max_headers(HEADERS_MAX)
            .header_read_timeout(None)
            // Who has sent all and closes that half of the connection still wants the answer.
            .half_close(true);
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

    /// Serves until the client closes, keeps us waiting for too long, or everything is to stop.
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
                exchange.answer(answer.status().is_success());
                Ok::<_, Infallible>(answer.map(|body| Answer { body, exchange }))
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

/// Waits, when everything is to stop, until the connection holds nothing worth waiting for: a
/// request whose head has not arrived is dropped at once, one whose body is arriving after
/// [`ARRIVAL_MAX`], and one that waits for us is not.
async fn may_end(activity: &Activity) {
    // An answer that was just made must still be sent, so each time counts from the last moment in
    // which there was more to do.
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

/// How a connection ended that a client is to blame for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The request is not HTTP, or its head is too large.
    NotHttp,
    /// A request did not arrive, or an answer was not taken, in time.
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

/// The body of a request, with someone to tell when it is all there.
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

/// The body of an answer, with the exchange that ends with it.
struct Answer {
    body: Body,
    #[expect(dead_code, reason = "dropped at the end of the answer")]
    exchange: Exchange,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
