//! The live stream: recent pipeline events as JSON, for listeners that come, go and come again.
//!
//! Events are recorded while there is a listener, and for a while after the last one has left.
//! Otherwise no event is built for the stream, so that it costs nothing.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::log::{Line, line_of};
use super::{EventBus, PipelineEvent, Subscription};
use crate::clock::Clock;

/// Maximum number of recorded events. All listeners share them, so their number costs no memory.
const EVENTS_MAX: usize = 4096;
/// Maximum size of the recorded events together, in bytes. Most have some 300.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long recording goes on without a listener: long enough for one that connects again.
const LINGER: Duration = Duration::from_secs(60);
/// Interval between checks for listeners.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// An event of the live stream. It holds ids, names and durations, and no payload.
#[derive(Serialize, ToSchema)]
pub(crate) struct LiveEvent<'e> {
    /// Name of the event, as in the log.
    event: &'e str,
    /// Time of the event.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    #[serde(flatten)]
    line: Line<'e>,
}

/// The place of an event in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The recording. Numbers of different recordings cannot be compared.
    recording: u64,
    number: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.recording, self.number)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (recording, number) = text.split_once('-').ok_or(())?;
        Ok(Self {
            recording: u64::from_str_radix(recording, 16).map_err(drop)?,
            number: number.parse().map_err(drop)?,
        })
    }
}

/// Where a listener begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the next event.
    Now,
    /// Behind the last event that it received.
    After(Position),
    /// It has received events before, and their place is unknown.
    Unknown,
}

/// What a listener receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Live {
    /// An event, as the JSON of a [`LiveEvent`].
    Event { at: Position, json: Bytes },
    /// The listener has missed events.
    Missed {
        /// The place of the last missed one.
        at: Position,
        /// Their number; `None`: unknown, because they were not recorded.
        events: Option<u64>,
    },
}

/// The live stream of a gateway.
pub struct LiveEvents {
    events: EventBus,
    clock: Clock,
    shutdown: CancellationToken,
    shared: Arc<Shared>,
}

struct Shared {
    ring: Mutex<Ring>,
    /// Changes with each recorded event.
    changed: watch::Sender<()>,
}

struct Ring {
    recording: u64,
    is_recording: bool,
    listeners: usize,
    /// Time at which the last listener left.
    left_at: Instant,
    /// The recorded events, with ascending numbers. A gap stands for events that came too quickly.
    events: VecDeque<(u64, Bytes)>,
    /// Size of the events together, in bytes.
    bytes: usize,
    /// Number of the next event.
    next: u64,
}

impl LiveEvents {
    /// The stream of the events of `events`, until `shutdown`.
    #[must_use]
    pub fn new(events: EventBus, clock: Clock, shutdown: CancellationToken) -> Self {
        let ring = Ring {
            recording: 0,
            is_recording: false,
            listeners: 0,
            left_at: Instant::now(),
            events: VecDeque::new(),
            bytes: 0,
            next: 0,
        };
        Self {
            events,
            clock,
            shutdown,
            shared: Arc::new(Shared {
                ring: Mutex::new(ring),
                changed: watch::Sender::new(()),
            }),
        }
    }

    /// Listens from this place on.
    pub(crate) fn listen(&self, from: Start) -> Listener {
        let mut ring = self.shared.ring();
        ring.listeners += 1;
        if !ring.is_recording {
            ring.begin();
            tokio::spawn(record(
                Arc::clone(&self.shared),
                self.events.subscribe(),
                self.clock.clone(),
                self.shutdown.clone(),
            ));
        }
        let newest = ring.newest();
        Listener {
            shared: Arc::clone(&self.shared),
            changed: self.shared.changed.subscribe(),
            shutdown: self.shutdown.clone(),
            after: match from {
                Start::Now => Some(newest),
                Start::After(position) => Some(position),
                Start::Unknown => None,
            },
        }
    }
}

/// Records events until there has been no listener for a while.
async fn record(
    shared: Arc<Shared>,
    mut events: Subscription,
    clock: Clock,
    shutdown: CancellationToken,
) {
    let mut looks = interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.recv() => match event {
                // There are many commits, and a listener needs none of them.
                Ok(PipelineEvent::Committed { .. }) => {}
                Ok(event) => shared.add(&event, clock.now()),
                Err(RecvError::Lagged(missed)) => shared.ring().next += missed,
                Err(RecvError::Closed) => return,
            },
            _ = looks.tick() => if shared.ring().ends() {
                return;
            }
        }
    }
}

impl Shared {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, event: &PipelineEvent, at: Timestamp) {
        let live = LiveEvent {
            event: event.name(),
            at,
            line: line_of(event),
        };
        // None of its fields has a key that is not text.
        let json = serde_json::to_vec(&live).unwrap_or_default();
        self.ring().add(json.into());
        self.changed.send_replace(());
    }
}

impl Ring {
    /// Begins a recording.
    fn begin(&mut self) {
        self.recording = fastrand::u64(..);
        self.is_recording = true;
        self.events.clear();
        self.bytes = 0;
        // Numbers begin at 1, so that there is a place before the first event.
        self.next = 1;
    }

    fn add(&mut self, json: Bytes) {
        self.bytes += json.len();
        self.events.push_back((self.next, json));
        self.next += 1;
        while self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.events.pop_front() else {
                return;
            };
            self.bytes -= oldest.len();
        }
    }

    /// Ends the recording if nobody has listened for a while.
    fn ends(&mut self) -> bool {
        if self.listeners > 0 || self.left_at.elapsed() < LINGER {
            return false;
        }
        self.is_recording = false;
        self.events = VecDeque::new();
        true
    }

    fn at(&self, number: u64) -> Position {
        Position {
            recording: self.recording,
            number,
        }
    }

    fn newest(&self) -> Position {
        self.at(self.next - 1)
    }

    /// What comes after this place; `None`: nothing yet.
    fn after(&self, after: Option<Position>) -> Option<Live> {
        let Some(after) = after.filter(|after| self.knows(*after)) else {
            // Its events are unknown, and those of this recording follow.
            let first = self.events.front().map_or(self.next, |(number, _)| *number);
            return Some(Live::Missed {
                at: self.at(first - 1),
                events: None,
            });
        };
        let place = self
            .events
            .partition_point(|(number, _)| *number <= after.number);
        let (number, json) = match self.events.get(place) {
            Some((number, json)) => (*number, Some(json)),
            None => (self.next, None),
        };
        let missed = number - after.number - 1;
        if missed > 0 {
            return Some(Live::Missed {
                at: self.at(number - 1),
                events: Some(missed),
            });
        }
        json.map(|json| Live::Event {
            at: self.at(number),
            json: json.clone(),
        })
    }

    fn knows(&self, position: Position) -> bool {
        position.recording == self.recording && position.number < self.next
    }
}

/// Receives the events behind one place. A listener that reads too slowly misses the oldest ones,
/// and learns how many.
pub(crate) struct Listener {
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    shutdown: CancellationToken,
    /// The last place that was received. `None`: unknown.
    after: Option<Position>,
}

impl Listener {
    /// Waits for the next event. `None`: the gateway stops.
    pub(crate) async fn next(&mut self) -> Option<Live> {
        loop {
            if self.shutdown.is_cancelled() {
                return None;
            }
            self.changed.mark_unchanged();
            let live = self.shared.ring().after(self.after);
            if let Some(live) = live {
                let (Live::Event { at, .. } | Live::Missed { at, .. }) = &live;
                self.after = Some(*at);
                return Some(live);
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                _ = self.changed.changed() => {}
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut ring = self.shared.ring();
        ring.listeners -= 1;
        ring.left_at = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;
    use tracing::Level;

    use super::*;

    fn live() -> LiveEvents {
        LiveEvents::new(
            EventBus::default(),
            Clock::default(),
            CancellationToken::new(),
        )
    }

    fn emit(live: &LiveEvents, messages: u64) {
        let event = || PipelineEvent::Pruned { messages };
        live.events.emit(Level::TRACE, event);
    }

    /// The number of messages in the next event, and its place.
    async fn pruned(listener: &mut Listener) -> (u64, Position) {
        let Some(Live::Event { at, json }) = listener.next().await else {
            panic!("there is an event");
        };
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["event"], "pruned");
        (json["messages"].as_u64().unwrap(), at)
    }

    #[tokio::test]
    async fn a_listener_that_comes_again_misses_nothing() {
        let live = live();
        let mut first = live.listen(Start::Now);
        emit(&live, 1);
        emit(&live, 2);
        let (messages, at) = pruned(&mut first).await;
        assert_eq!(messages, 1);
        drop(first);
        emit(&live, 3);
        let again = Start::After(at.to_string().parse().unwrap());
        let mut again = live.listen(again);
        assert_eq!(pruned(&mut again).await.0, 2);
        assert_eq!(pruned(&mut again).await.0, 3);
    }

    #[tokio::test]
    async fn a_commit_is_no_event_of_the_stream() {
        let live = live();
        let mut listener = live.listen(Start::Now);
        live.events.emit(Level::TRACE, || PipelineEvent::Committed {
            changes: 1,
            duration: Duration::ZERO,
        });
        emit(&live, 1);
        assert_eq!(pruned(&mut listener).await.0, 1);
    }

    #[tokio::test]
    async fn a_listener_learns_how_many_events_it_has_missed() {
        let live = live();
        let mut slow = live.listen(Start::Now);
        let mut quick = live.listen(Start::Now);
        let more = 10;
        for messages in 1..=EVENTS_MAX as u64 + more {
            emit(&live, messages);
            pruned(&mut quick).await;
        }
        let Some(Live::Missed { events, .. }) = slow.next().await else {
            panic!("the oldest are gone");
        };
        assert_eq!(events, Some(more));
        assert_eq!(pruned(&mut slow).await.0, more + 1);
    }

    #[tokio::test]
    async fn events_that_come_too_quickly_to_be_recorded_are_counted_as_missed() {
        let live = live();
        let mut listener = live.listen(Start::Now);
        // The recorder has no chance to read meanwhile.
        for messages in 1..=1_034 {
            emit(&live, messages);
        }
        let Some(Live::Missed { events, .. }) = listener.next().await else {
            panic!("some are gone");
        };
        assert_eq!(events, Some(10));
        assert_eq!(pruned(&mut listener).await.0, 11);
    }

    #[tokio::test(start_paused = true)]
    async fn recording_ends_a_while_after_the_last_listener() {
        let live = live();
        let mut listener = live.listen(Start::Now);
        emit(&live, 1);
        let (_, at) = pruned(&mut listener).await;
        drop(listener);
        assert!(live.events.is_observed(Level::TRACE));
        for _ in 0..8 {
            advance(LOOK_EVERY).await;
            tokio::task::yield_now().await;
        }
        assert!(!live.events.is_observed(Level::TRACE));
        // The next recording is another one.
        let mut again = live.listen(Start::After(at));
        let missed = again.next().await;
        assert!(matches!(missed, Some(Live::Missed { events: None, .. })));
        emit(&live, 2);
        assert_eq!(pruned(&mut again).await.0, 2);
    }

    #[tokio::test]
    async fn a_listener_without_a_place_has_missed_an_unknown_number() {
        let live = live();
        let mut listener = live.listen(Start::Unknown);
        let missed = listener.next().await;
        assert!(matches!(missed, Some(Live::Missed { events: None, .. })));
    }

    #[tokio::test]
    async fn a_stop_ends_the_stream() {
        let live = live();
        let mut listener = live.listen(Start::Now);
        live.shutdown.cancel();
        assert_eq!(listener.next().await, None);
    }
}
