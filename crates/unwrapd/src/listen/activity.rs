//! The state of a connection, and its time limits.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::evicting_limiter::Permit;

/// How long a connection may keep us waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the head of a request to arrive, from its first byte; of the first request, from the connection on.
    pub(super) head: Duration,
    /// For anything to move: between requests, and while the client takes nothing of what it is answered.
    pub(super) idle: Duration,
    /// For one request, from its head to the end of its answer.
    pub(super) request: Duration,
    /// For the client to take a whole answer. `None`: as long as the request may take.
    pub(super) answer: Option<Duration>,
}

/// Requests of all connections of a port that are not answered to the end, with those whose answer nobody takes.
pub(super) struct Load {
    open: AtomicUsize,
    max: usize,
}

impl Load {
    /// When more than `max` are open, connections that have many are ended, those that wait for
    /// their client the longest first.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            max,
        })
    }

    /// Counts one more. Gives how many connections should be ending: one for every [`STREAMS_FREED`] requests too many.
    fn add(&self) -> usize {
        let too_many = (self.open.fetch_add(1, Ordering::Relaxed) + 1).saturating_sub(self.max);
        too_many.div_ceil(STREAMS_FREED)
    }

    fn remove(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Streams that a connection that ends sets free, if it has many.
const STREAMS_FREED: usize = 64;

/// Requests at once from which on a connection has many. It may be ended where the port has too many of them.
const MANY: usize = 8;

/// One connection as seen by who has to end it.
pub(super) struct Activity {
    permit: Permit,
    load: Arc<Load>,
    patience: Patience,
    state: Mutex<State>,
}

struct State {
    /// Requests that are not answered to the end, in the order they began. HTTP/2 has several.
    open: Vec<Open>,
    began: u64,
    /// Whether the client has sent anything yet.
    has_arrived: bool,
    /// The state while no request is open.
    between: Between,
    /// Since when the client takes nothing of what it is answered.
    stalled: Option<Instant>,
    is_http2: bool,
}

struct Open {
    id: u64,
    phase: Phase,
    /// Until when it must be answered to the end.
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
    /// A connection that was just taken.
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

    /// Some bytes came.
    pub(super) fn arrived(&self) {
        let mut state = self.state();
        state.has_arrived = true;
        // In HTTP/2 they may be about anything: there a head has the idle time.
        if state.open.is_empty()
            && !state.is_http2
            && let Between::Idle(_) = state.between
        {
            state.between = Between::Head(Instant::now());
        }
    }

    /// The client takes no more bytes (true), or does again.
    pub(super) fn stalls(&self, is_stalled: bool) {
        self.state().stalled = is_stalled.then(Instant::now);
    }

    /// The head of a request has arrived.
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

    /// Waits until the connection has kept us waiting for too long. Whether it is idle then: there is no request on it.
    pub(super) async fn overdue(&self) -> bool {
        let mut alarm = pin!(sleep_until(self.due().0));
        std::future::poll_fn(|context| {
            loop {
                let (due, is_idle) = self.due();
                // It rings early rather than late, and is set anew only when it rings: most
                // connections move on long before.
                if due < alarm.deadline() {
                    alarm.as_mut().reset(due);
                }
                ready!(alarm.as_mut().poll(context));
                if due <= alarm.deadline() {
                    return Poll::Ready(is_idle);
                }
                // An answer of HTTP/2 ends in another task, which wakes nobody here.
                alarm
                    .as_mut()
                    .reset(due.min(Instant::now() + self.patience.idle));
            }
        })
        .await
    }

    /// Waits until the place is needed for another.
    pub(super) async fn evicted(&self) {
        self.permit.evicted().await;
    }

    /// Until when it may go on as it is, and whether it is idle.
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
            // An answer may be there before the body.
            && open.phase != Phase::Answering
        {
            open.phase = phase;
            if let (Phase::Answering, Some(longest)) = (phase, self.patience.answer) {
                open.due = open.due.min(Instant::now() + longest);
            }
            self.update_permit(&state);
        }
    }

    /// Whether the head of a request has arrived that is not answered to the end.
    pub(super) fn has_request(&self) -> bool {
        !self.state().open.is_empty()
    }

    /// Whether a request has arrived whole and waits for us.
    pub(super) fn has_work(&self) -> bool {
        let works = |open: &Open| open.phase == Phase::Working;
        self.state().open.iter().any(works)
    }

    /// Whether the client has sent anything.
    pub(super) fn has_arrived(&self) -> bool {
        self.state().has_arrived
    }

    /// Whether it has sent a request by HTTP/2.
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

/// One request and its answer. Dropped when the answer is at its end.
pub(super) struct Exchange {
    activity: Arc<Activity>,
    id: u64,
}

impl Exchange {
    /// To be called when the whole request has arrived.
    pub(super) fn arrival(&self) -> impl FnOnce() + Send + Unpin + use<> {
        let (activity, id) = (Arc::clone(&self.activity), self.id);
        move || activity.enter(id, Phase::Working)
    }

    /// From now on it is being answered. Who is answered well belongs here: strangers are only ever refused.
    pub(super) fn answer(&self, is_success: bool) {
        if is_success {
            self.activity.permit.set_trusted();
        }
        self.activity.enter(self.id, Phase::Answering);
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
