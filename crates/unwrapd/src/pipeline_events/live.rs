//! The live stream: recent pipeline events as JSON, for subscribers that come, go and come again.
//!
//! Events are recorded while there is a subscriber, and for a while after the last one has left.
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

/// Maximum number of subscribers. One more ends the oldest stream, whose client may have vanished
/// without a trace: one that is still there connects again, and misses nothing.
const SUBSCRIBERS_MAX: usize = 16;
/// Maximum number of recorded events. All subscribers share them, so their number costs no memory.
const EVENTS_MAX: usize = 4096;
/// Maximum size of the recorded events together, in bytes. Most have some 300.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long recording goes on without a subscriber: long enough for one that connects again.
const LINGER: Duration = Duration::from_secs(60);
/// Interval between checks for subscribers.
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

/// The position of an event in the stream.
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

/// Where a subscriber begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the next event.
    Now,
    /// Behind the last event that it received.
    After(Position),
    /// It has received events before, and their position is unknown.
    Unknown,
}

/// What a subscriber receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Live {
    /// An event, as the JSON of a [`LiveEvent`].
    Event { at: Position, json: Bytes },
    /// The subscriber has missed events.
    Missed {
        /// The position of the last missed one.
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
    /// The subscribers, each with its id and the token that ends it. The oldest is first.
    subscribers: VecDeque<(u64, CancellationToken)>,
    /// Number of subscribers so far.
    subscribed: u64,
    /// Time at which the last subscriber left.
    left_at: Instant,
    /// The recorded events, with ascending numbers. A gap stands for events that came too quickly.
    events: VecDeque<(u64, Bytes)>,
    /// Size of the events together, in bytes.
    bytes: usize,
    /// Number of the next event.
    next: u64,
    /// From this number on, the number of missed events is known. The gap before it may also stand
    /// for commits, which are no events of the stream.
    exact_from: u64,
}

impl LiveEvents {
    /// The stream of the events of `events`, until `shutdown`.
    #[must_use]
    pub fn new(events: EventBus, clock: Clock, shutdown: CancellationToken) -> Self {
        let ring = Ring {
            recording: 0,
            is_recording: false,
            subscribers: VecDeque::new(),
            subscribed: 0,
            left_at: Instant::now(),
            events: VecDeque::new(),
            bytes: 0,
            next: 0,
            exact_from: 0,
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

    /// Subscribes from this position on.
    pub(crate) fn subscribe(&self, from: Start) -> Subscriber {
        let mut ring = self.shared.ring();
        let end = self.shutdown.child_token();
        let id = ring.admit(end.clone());
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
        Subscriber {
            shared: Arc::clone(&self.shared),
            changed: self.shared.changed.subscribe(),
            id,
            end,
            after: match from {
                Start::Now => Some(newest),
                Start::After(position) => Some(position),
                Start::Unknown => None,
            },
        }
    }
}

/// Records events until there has been no subscriber for a while.
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
                // There are many commits, and a subscriber needs none of them.
                Ok(PipelineEvent::Committed { .. }) => {}
                Ok(event) => shared.add(&event, clock.now()),
                Err(RecvError::Lagged(missed)) => shared.ring().skip(missed),
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
        // Numbers begin at 1, so that there is a position before the first event.
        self.next = 1;
        self.exact_from = self.next;
    }

    /// Adds a subscriber, and ends the oldest ones beyond the limit. Returns its id.
    fn admit(&mut self, end: CancellationToken) -> u64 {
        self.subscribed += 1;
        self.subscribers.push_back((self.subscribed, end));
        while self.subscribers.len() > SUBSCRIBERS_MAX {
            let Some((_, oldest)) = self.subscribers.pop_front() else {
                break;
            };
            oldest.cancel();
        }
        self.subscribed
    }

    /// Leaves a gap for events that came too quickly.
    fn skip(&mut self, events: u64) {
        self.next += events;
        self.exact_from = self.next;
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

    /// Ends the recording if there has been no subscriber for a while.
    fn ends(&mut self) -> bool {
        if !self.subscribers.is_empty() || self.left_at.elapsed() < LINGER {
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

    /// What comes after this position; `None`: nothing yet.
    fn after(&self, after: Option<Position>) -> Option<Live> {
        let Some(after) = after.filter(|after| self.knows(*after)) else {
            // Its events are unknown, and those of this recording follow.
            let first = self.events.front().map_or(self.next, |(number, _)| *number);
            return Some(Live::Missed {
                at: self.at(first - 1),
                events: None,
            });
        };
        let index = self
            .events
            .partition_point(|(number, _)| *number <= after.number);
        let (number, json) = match self.events.get(index) {
            Some((number, json)) => (*number, Some(json)),
            None => (self.next, None),
        };
        let missed = number - after.number - 1;
        if missed > 0 {
            let is_exact = after.number + 1 >= self.exact_from;
            return Some(Live::Missed {
                at: self.at(number - 1),
                events: is_exact.then_some(missed),
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

/// Receives the events behind one position. A subscriber that reads too slowly misses the oldest
/// ones, and learns how many.
pub(crate) struct Subscriber {
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    id: u64,
    /// Cancelled when the gateway stops, or when there are too many younger subscribers.
    end: CancellationToken,
    /// The last position that was received. `None`: unknown.
    after: Option<Position>,
}

impl Subscriber {
    /// The position behind which the next event is. `None`: unknown.
    pub(crate) fn position(&self) -> Option<Position> {
        self.after
    }

    /// Waits until the stream ends.
    pub(crate) async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Waits for the next event. `None`: the stream ends.
    pub(crate) async fn next(&mut self) -> Option<Live> {
        loop {
            if self.end.is_cancelled() {
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
                () = self.end.cancelled() => return None,
                _ = self.changed.changed() => {}
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut ring = self.shared.ring();
        ring.subscribers.retain(|(id, _)| *id != self.id);
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

    /// The number of messages in the next event, and its position.
    async fn pruned(subscriber: &mut Subscriber) -> (u64, Position) {
        let Some(Live::Event { at, json }) = subscriber.next().await else {
            panic!("there is an event");
        };
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["event"], "pruned");
        (json["messages"].as_u64().unwrap(), at)
    }

    #[tokio::test]
    async fn a_subscriber_that_comes_again_misses_nothing() {
        let live = live();
        let mut first = live.subscribe(Start::Now);
        emit(&live, 1);
        emit(&live, 2);
        let (messages, at) = pruned(&mut first).await;
        assert_eq!(messages, 1);
        drop(first);
        emit(&live, 3);
        let again = Start::After(at.to_string().parse().unwrap());
        let mut again = live.subscribe(again);
        assert_eq!(pruned(&mut again).await.0, 2);
        assert_eq!(pruned(&mut again).await.0, 3);
    }

    #[tokio::test]
    async fn a_commit_is_no_event_of_the_stream() {
        let live = live();
        let mut subscriber = live.subscribe(Start::Now);
        live.events.emit(Level::TRACE, || PipelineEvent::Committed {
            changes: 1,
            duration: Duration::ZERO,
        });
        emit(&live, 1);
        assert_eq!(pruned(&mut subscriber).await.0, 1);
    }

    #[tokio::test]
    async fn a_subscriber_learns_how_many_events_it_has_missed() {
        let live = live();
        let mut slow = live.subscribe(Start::Now);
        let mut quick = live.subscribe(Start::Now);
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
    async fn events_that_come_too_quickly_to_be_recorded_are_missed_in_unknown_number() {
        let live = live();
        let mut subscriber = live.subscribe(Start::Now);
        // The recorder has no chance to read meanwhile. Some of what it loses are commits.
        for messages in 1..=1_034 {
            live.events.emit(Level::TRACE, || PipelineEvent::Committed {
                changes: 1,
                duration: Duration::ZERO,
            });
            emit(&live, messages);
        }
        let Some(Live::Missed { events, .. }) = subscriber.next().await else {
            panic!("some are gone");
        };
        assert_eq!(events, None);
        assert_eq!(pruned(&mut subscriber).await.0, 523);
        // One that has received all since then learns the number again.
        while pruned(&mut subscriber).await.0 < 1_034 {}
        let mut slow = live.subscribe(Start::Now);
        for messages in 1..=EVENTS_MAX as u64 + 7 {
            emit(&live, messages);
            pruned(&mut subscriber).await;
        }
        let Some(Live::Missed { events, .. }) = slow.next().await else {
            panic!("the oldest are gone");
        };
        assert_eq!(events, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn recording_ends_a_while_after_the_last_subscriber() {
        let live = live();
        let mut subscriber = live.subscribe(Start::Now);
        emit(&live, 1);
        let (_, at) = pruned(&mut subscriber).await;
        drop(subscriber);
        assert!(live.events.is_observed(Level::TRACE));
        for _ in 0..8 {
            advance(LOOK_EVERY).await;
            tokio::task::yield_now().await;
        }
        assert!(!live.events.is_observed(Level::TRACE));
        // The next recording is another one.
        let mut again = live.subscribe(Start::After(at));
        let missed = again.next().await;
        assert!(matches!(missed, Some(Live::Missed { events: None, .. })));
        emit(&live, 2);
        assert_eq!(pruned(&mut again).await.0, 2);
    }

    #[tokio::test]
    async fn a_subscriber_without_a_position_has_missed_an_unknown_number() {
        let live = live();
        let mut subscriber = live.subscribe(Start::Unknown);
        let missed = subscriber.next().await;
        assert!(matches!(missed, Some(Live::Missed { events: None, .. })));
    }

    #[tokio::test]
    async fn the_oldest_stream_ends_when_there_are_too_many() {
        let live = live();
        let mut oldest = live.subscribe(Start::Now);
        let mut others: Vec<Subscriber> = (1..SUBSCRIBERS_MAX)
            .map(|_| live.subscribe(Start::Now))
            .collect();
        emit(&live, 1);
        assert_eq!(pruned(&mut oldest).await.0, 1);
        others.push(live.subscribe(Start::Now));
        assert_eq!(oldest.next().await, None);
        emit(&live, 2);
        for other in &mut others[..SUBSCRIBERS_MAX - 1] {
            assert_eq!(pruned(other).await.0, 1);
            assert_eq!(pruned(other).await.0, 2);
        }
        drop(others);
        // The places of those that have left are free again.
        let mut first = live.subscribe(Start::Now);
        drop(live.subscribe(Start::Now));
        emit(&live, 3);
        assert_eq!(pruned(&mut first).await.0, 3);
    }

    #[tokio::test]
    async fn a_stop_ends_the_stream() {
        let live = live();
        let mut subscriber = live.subscribe(Start::Now);
        live.shutdown.cancel();
        assert_eq!(subscriber.next().await, None);
    }
}
