//! What a connection is waiting for, and how long it may.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::places::Place;

/// In place of no limit at all.
const FOR_EVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// How long a connection may keep us waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the head of a request to arrive, from its first byte; of the first request, from the connection on.
    pub(super) head: Duration,
    /// For anything to move: between requests, and while the client takes nothing of what it is answered.
    pub(super) idle: Duration,
    /// For one request, from its head to the end of its answer. `None`: answers may go on for ever.
    pub(super) request: Option<Duration>,
}

/// One connection as seen by who has to end it.
pub(super) struct Activity {
    place: Place,
    patience: Patience,
    state: Mutex<State>,
}

struct State {
    /// Requests that are not answered to the end, in the order they began. HTTP/2 has several.
    open: Vec<(u64, Instant, Phase)>,
    began: u64,
    /// What counts while none is open.
    between: Between,
    /// Since when the client takes nothing of what it is answered.
    stalled: Option<Instant>,
    is_http2: bool,
}

#[derive(Clone, Copy)]
enum Between {
    Idle(Instant),
    Head(Instant),
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// Its body arrives.
    Arriving,
    /// It is all there and not answered: the client waits for us.
    Working,
    /// It is being answered.
    Answering,
}

impl Activity {
    /// A connection that was just taken.
    pub(super) fn new(place: Place, patience: Patience) -> Arc<Self> {
        Arc::new(Self {
            place,
            patience,
            state: Mutex::new(State {
                open: Vec::new(),
                began: 0,
                between: Between::Head(Instant::now()),
                stalled: None,
                is_http2: false,
            }),
        })
    }

    /// Some bytes came.
    pub(super) fn arrived(&self) {
        let mut state = self.state();
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
        state.open.push((id, Instant::now(), Phase::Arriving));
        self.tell_place(&state);
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
                // It rings early rather than late, and is set anew only when it rings: most connections move on long before.
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
    pub(super) async fn asked_to_go(&self) {
        self.place.asked().await;
    }

    /// Until when it may go on as it is, and whether it is idle.
    fn due(&self) -> (Instant, bool) {
        let state = self.state();
        let (due, is_idle) = match (state.open.first(), state.between) {
            (Some((_, began, _)), _) => (*began + self.patience.request.unwrap_or(FOR_EVER), false),
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
        if let Some(open) = state.open.iter_mut().find(|(open, ..)| *open == id)
            // An answer may be there before the body.
            && open.2 != Phase::Answering
        {
            open.2 = phase;
            self.tell_place(&state);
        }
    }

    fn tell_place(&self, state: &State) {
        let works = |(_, _, phase): &(u64, Instant, Phase)| *phase == Phase::Working;
        if state.open.iter().any(works) {
            self.place.works();
        } else {
            self.place.waits();
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
            self.activity.place.trust();
        }
        self.activity.enter(self.id, Phase::Answering);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.open.retain(|(open, ..)| *open != self.id);
        if state.open.is_empty() {
            state.between = Between::Idle(Instant::now());
        }
        self.activity.tell_place(&state);
    }
}
