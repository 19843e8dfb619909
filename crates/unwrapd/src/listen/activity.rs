//! The state of a connection, and its time limits.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::evicting_limiter::Permit;

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Time for the head of a request, from its first byte; for the first request, from the
    /// connection.
    pub(super) head: Duration,
    /// Time without progress: between requests, and while the client reads nothing of a response.
    pub(super) idle: Duration,
    /// Time for one request, from its head to the end of its response.
    pub(super) request: Duration,
    /// Time for the client to read a whole response. `None`: the limit of the request applies.
    pub(super) answer: Option<Duration>,
}

/// The open requests of all connections of a port, including those whose response the client does
/// not read.
pub(super) struct Load {
    open: AtomicUsize,
    max: usize,
}

impl Load {
    /// Allows `max` open requests. Above that, crowded connections are ended, first those that have
    /// waited longest for their client.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            max,
        })
    }

    /// Counts a request. Returns the number of connections that should be ending: one for every
    /// [`STREAMS_FREED`] requests above the limit.
    fn add(&self) -> usize {
        let too_many = (self.open.fetch_add(1, Ordering::Relaxed) + 1).saturating_sub(self.max);
        too_many.div_ceil(STREAMS_FREED)
    }

    fn remove(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Number of requests that the end of a crowded connection is assumed to free.
const STREAMS_FREED: usize = 64;

/// Number of concurrent requests from which a connection is crowded. A crowded connection may be
/// ended while the port has too many requests.
const MANY: usize = 8;

/// Longest time of a stream of events. Its client connects again.
const STREAM_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// The state of one connection.
pub(super) struct Activity {
    permit: Permit,
    load: Arc<Load>,
    patience: Patience,
    state: Mutex<State>,
}

struct State {
    /// Open requests, in the order in which they began. HTTP/2 may have several.
    open: Vec<Open>,
    began: u64,
    /// Whether the client has sent anything.
    has_arrived: bool,
    /// The state while no request is open.
    between: Between,
    /// Time since which the client has read nothing of a response.
    stalled: Option<Instant>,
    is_http2: bool,
}

struct Open {
    id: u64,
    phase: Phase,
    /// Time at which its response must be complete.
    due: Instant,
}

#[derive(Clone, Copy)]
enum Between {
    Idle(Instant),
    Head(Instant),
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// The body arrives.
    Arriving,
    /// The request is complete and not answered: the client waits for us.
    Working,
    /// The answer is being sent.
    Answering,
}

impl Activity {
    /// The state of a new connection.
    pub(super) fn new(permit: Permit, load: Arc<Load>, patience: Patience) -> Arc<Self> {
        Arc::new(Self {
            permit,
            load,
            patience,
            state: Mutex::new(State {
                open: Vec::new(),
                began: 0,
                has_arrived: false,
                between: Between::Head(Instant::now()),
                stalled: None,
                is_http2: false,
            }),
        })
    }

    /// Records that bytes have arrived.
    pub(super) fn arrived(&self) {
        let mut state = self.state();
        state.has_arrived = true;
        // In HTTP/2 the bytes may belong to any frame, so a head has the idle time there.
        if state.open.is_empty()
            && !state.is_http2
            && let Between::Idle(_) = state.between
        {
            state.between = Between::Head(Instant::now());
        }
    }

    /// Records whether the client has stopped reading the response.
    pub(super) fn stalls(&self, is_stalled: bool) {
        self.state().stalled = is_stalled.then(Instant::now);
    }

    /// Records that the head of a request has arrived.
    pub(super) fn begin(self: &Arc<Self>, is_http2: bool) -> Exchange {
        let mut state = self.state();
        state.is_http2 = is_http2;
        state.began += 1;
        let id = state.began;
        state.open.push(Open {
            id,
            phase: Phase::Arriving,
            due: Instant::now() + self.patience.request,
        });
        self.permit.set_crowded(state.open.len() >= MANY);
        self.update_permit(&state);
        drop(state);
        let enough = self.load.add();
        if enough > 0 {
            self.permit.end_longest_idle_crowded(enough);
        }
        Exchange {
            activity: Arc::clone(self),
            id,
        }
    }

    /// Waits until a time limit of the connection has passed. Returns whether it is idle: no
    /// request is open.
    pub(super) async fn overdue(&self) -> bool {
        let mut alarm = pin!(sleep_until(self.due().0));
        std::future::poll_fn(|context| {
            loop {
                let (due, is_idle) = self.due();
                // The timer fires early rather than late, and is set again only when it fires: most
                // connections make progress long before.
                if due < alarm.deadline() {
                    alarm.as_mut().reset(due);
                }
                ready!(alarm.as_mut().poll(context));
                if due <= alarm.deadline() {
                    return Poll::Ready(is_idle);
                }
                // A response of HTTP/2 ends in another task, which does not wake this one.
                alarm
                    .as_mut()
                    .reset(due.min(Instant::now() + self.patience.idle));
            }
        })
        .await
    }

    /// Waits until the connection is evicted for another.
    pub(super) async fn evicted(&self) {
        self.permit.evicted().await;
    }

    /// The next time limit, and whether the connection is idle.
    fn due(&self) -> (Instant, bool) {
        let state = self.state();
        let first = state.open.iter().map(|open| open.due).min();
        let (due, is_idle) = match (first, state.between) {
            (Some(due), _) => (due, false),
            (None, Between::Head(since)) => (since + self.patience.head, false),
            (None, Between::Idle(since)) => (since + self.patience.idle, true),
        };
        match state.stalled.map(|since| since + self.patience.idle) {
            Some(stalled) if stalled < due => (stalled, false),
            _ => (due, is_idle),
        }
    }

    fn enter(&self, id: u64, phase: Phase) {
        let mut state = self.state();
        if let Some(open) = state.open.iter_mut().find(|open| open.id == id)
            // A response may be ready before the body has arrived.
            && open.phase != Phase::Answering
        {
            open.phase = phase;
            if let (Phase::Answering, Some(longest)) = (phase, self.patience.answer) {
                open.due = open.due.min(Instant::now() + longest);
            }
            self.update_permit(&state);
        }
    }

    /// Gives an open request this time from now on.
    fn extend(&self, id: u64, time: Duration) {
        let mut state = self.state();
        if let Some(open) = state.open.iter_mut().find(|open| open.id == id) {
            open.due = Instant::now() + time;
        }
    }

    /// Whether a request is open.
    pub(super) fn has_request(&self) -> bool {
        !self.state().open.is_empty()
    }

    /// Whether a complete request waits for us.
    pub(super) fn has_work(&self) -> bool {
        let works = |open: &Open| open.phase == Phase::Working;
        self.state().open.iter().any(works)
    }

    /// Whether the client has sent anything.
    pub(super) fn has_arrived(&self) -> bool {
        self.state().has_arrived
    }

    /// Whether the client has sent a request over HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.state().is_http2
    }

    fn update_permit(&self, state: &State) {
        let works = |open: &Open| open.phase == Phase::Working;
        if state.open.iter().any(works) {
            self.permit.set_busy();
        } else {
            self.permit.set_idle();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request and its response. Dropped at the end of the response.
pub(super) struct Exchange {
    activity: Arc<Activity>,
    id: u64,
}

impl Exchange {
    /// A function to call when the whole request has arrived.
    pub(super) fn arrival(&self) -> impl FnOnce() + Send + Unpin + use<> {
        let (activity, id) = (Arc::clone(&self.activity), self.id);
        move || activity.enter(id, Phase::Working)
    }

    /// Records that the response is being sent. A successful response makes the client trusted:
    /// requests from strangers are always refused. A stream is sent for a day at most, as long as
    /// its client reads it.
    pub(super) fn answer(&self, is_success: bool, is_stream: bool) {
        if is_success {
            self.activity.permit.set_trusted();
        }
        self.activity.enter(self.id, Phase::Answering);
        if is_stream {
            self.activity.extend(self.id, STREAM_TIME_MAX);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.activity.load.remove();
        let mut state = self.activity.state();
        state.open.retain(|open| open.id != self.id);
        self.activity.permit.set_crowded(state.open.len() >= MANY);
        if state.open.is_empty() {
            state.between = Between::Idle(Instant::now());
        }
        self.activity.update_permit(&state);
    }
}
