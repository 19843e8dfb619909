//! The bounds of every route of the admin port: requests in progress, time, and the size of a body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::json::Refusal;

/// Longest time for the body of a request to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Number of bytes of a response that are passed to HTTP/2 at a time. HTTP/2 buffers them until the
/// client reads them, and asks for more once the client has read one byte. A whole response would
/// stay in that buffer after the permit was released.
const PIECE_BYTES: usize = 4 * 1024;
/// Maximum size of a request body, in bytes: enough for more than a thousand ids.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Maximum size of the body of a log-in, in bytes: a token, and the path of a page. Any client may
/// send such bodies, so they are small.
const LOG_IN_BYTES_MAX: usize = 4 * 1024;

/// The cost of a route. Requests of one class share a limit of concurrent requests, so that no
/// class blocks another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The answer is available at once.
    Alive,
    /// The request waits for a check of the store that all such requests share.
    Ready,
    /// The request reads or writes a few rows.
    Small,
    /// The request may scan much of the store, and its answer may be large.
    Heavy,
    /// The request waits for a destination.
    Send,
    /// The answer is a stream of events, which ends when its client leaves.
    Stream,
    /// The request is a log-in, or its form.
    LogIn,
    /// A page of the dashboard.
    Page,
    /// A scrape of the metrics. It counts in the store, and must not wait for operators.
    Metrics,
}

impl Class {
    const ALL: [Self; 9] = [
        Self::Alive,
        Self::Ready,
        Self::Small,
        Self::Heavy,
        Self::Send,
        Self::Stream,
        Self::LogIn,
        Self::Page,
        Self::Metrics,
    ];

    /// Maximum number of concurrent requests. A request counts until its client has read the
    /// response.
    #[must_use]
    pub const fn at_once(self) -> usize {
        match self {
            // More streams than there are subscribers at a time: one that was ended counts until
            // its client has read the end.
            Self::Alive | Self::Ready | Self::Stream => 64,
            // Of the log-ins at most half wait, because they came with a wrong token.
            Self::Small | Self::LogIn | Self::Page => 16,
            // Each request may hold a connection to the store and a page of the answer.
            Self::Heavy | Self::Send | Self::Metrics => 8,
        }
    }

    /// Whether the permit is held until the client has read the response. The other classes need no
    /// token, and their responses are short. A client that does not read them must not block a load
    /// balancer or an operator.
    #[must_use]
    pub const fn holds_answer(self) -> bool {
        !matches!(self, Self::Alive | Self::Ready | Self::LogIn)
    }
}

/// The bounds of one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The class whose permits the route shares.
    pub class: Class,
    /// Maximum time from the complete request to its response.
    pub time: Duration,
    /// Maximum size of a request body, in bytes.
    pub body_bytes_max: usize,
}

impl Bounds {
    pub(super) const ALIVE: Self = Self::new(Class::Alive, 1, 0);
    pub(super) const READY: Self = Self::new(Class::Ready, 5, 0);
    pub(super) const READ_LITTLE: Self = Self::new(Class::Small, 10, 0);
    pub(super) const READ_MUCH: Self = Self::new(Class::Heavy, 60, 0);
    pub(super) const CHANGE_MUCH: Self = Self::new(Class::Heavy, 60, BODY_BYTES_MAX);
    pub(super) const SCRAPE: Self = Self::new(Class::Metrics, 60, 0);
    pub(super) const CHANGE_WITHOUT_BODY: Self = Self::new(Class::Small, 10, 0);
    /// The time is that until the stream begins.
    pub(super) const STREAM: Self = Self::new(Class::Stream, 10, 0);
    /// A person does not wait longer.
    pub(super) const PAGE: Self = Self::new(Class::Page, 15, 0);
    pub(super) const LOG_IN_FORM: Self = Self::new(Class::LogIn, 5, 0);
    /// The time is longer than the delay of a wrong token.
    pub(super) const LOG_IN: Self = Self::new(Class::LogIn, 5, LOG_IN_BYTES_MAX);
    /// The time is longer than that of any attempt.
    pub(super) const SEND: Self = Self::new(Class::Send, 630, BODY_BYTES_MAX);

    /// The longest time of any route.
    pub(crate) const LONGEST: Duration = Self::SEND.time;

    const fn new(class: Class, seconds: u64, body_bytes_max: usize) -> Self {
        Self {
            class,
            time: Duration::from_secs(seconds),
            body_bytes_max,
        }
    }
}

/// The permits of all classes.
#[derive(Clone)]
pub(super) struct Permits([Arc<Semaphore>; Class::ALL.len()]);

impl Default for Permits {
    fn default() -> Self {
        Self(Class::ALL.map(|class| Arc::new(Semaphore::new(class.at_once()))))
    }
}

/// Handles a request within the bounds of its route, which shares the permits with others.
pub(super) async fn bounded(
    State((bounds, permits)): State<(Bounds, Permits)>,
    request: Request,
    next: Next,
) -> Response {
    let class = bounds.class;
    // Any client may use a route without a token, and delay the end of a body until the time-out.
    // There no permit is held before the request is complete. The body is small, if one is allowed.
    let request = if bounds.body_bytes_max == 0 || !class.holds_answer() {
        match arrive(request, bounds.body_bytes_max).await {
            Ok(request) => request,
            Err(refusal) => return refusal.into_response(),
        }
    } else {
        request
    };
    let Ok(permit) = Arc::clone(&permits.0[class as usize]).try_acquire_owned() else {
        return Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "{} requests of this kind are in progress, which is the limit; try again",
                class.at_once()
            ),
        )
        .into_response();
    };
    let response = match arrive(request, bounds.body_bytes_max).await {
        Ok(request) => match timeout(bounds.time, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "there was no answer within {} s; a change may still take effect",
                    bounds.time.as_secs()
                ),
            )
            .into_response(),
        },
        Err(refusal) => refusal.into_response(),
    };
    if class.holds_answer() {
        response.map(|body| {
            Body::new(Held {
                body,
                rest: Bytes::new(),
                _permit: permit,
            })
        })
    } else {
        response
    }
}

/// The request, once its whole body has arrived.
async fn arrive(request: Request, body_bytes_max: usize) -> Result<Request, Refusal> {
    let (parts, body) = request.into_parts();
    if body.size_hint().lower() > body_bytes_max as u64 {
        return Err(too_large(body_bytes_max));
    }
    if body.is_end_stream() {
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    let body = timeout(BODY_TIME, Limited::new(body, body_bytes_max).collect()).await;
    match body {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, Body::from(body.to_bytes()))),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(too_large(body_bytes_max))
        }
        Ok(Err(_)) => Err(Refusal::bad("the body ended too early")),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {} s", BODY_TIME.as_secs()),
        )),
    }
}

fn too_large(body_bytes_max: usize) -> Refusal {
    let detail = if body_bytes_max == 0 {
        "this path takes no body".to_owned()
    } else {
        format!("the body is larger than {body_bytes_max} bytes")
    };
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

/// Sets `Retry-After`, for a response without a permit or without the store.
pub(super) fn retry_after(response: &mut Response) {
    const SECONDS: u64 = 1;
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(SECONDS));
}

/// The body of a response. The permit is released once the client has read the body, or has
/// disconnected.
struct Held {
    body: Body,
    rest: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(piece);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
