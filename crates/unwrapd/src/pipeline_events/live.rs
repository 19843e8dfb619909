//! The live stream: recent pipeline events as JSON, for subscribers that come, go and come again.
//!
//! Events are recorded while there is a subscriber, and for a while after the last one has left.
//! Otherwise no event is built for the stream, so that it costs nothing.

mod ring;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::log::{Line, line_of};
use super::{EventBus, PipelineEvent, Subscription};
use crate::clock::Clock;
use ring::Ring;
pub(crate) use ring::{Live, Position};

/// Interval between checks for subscribers.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Maximum number of events that are recorded in one [`WINDOW`]. More of them would cost receiving a
/// third, and nobody reads them. Some thousand wait meanwhile, and a gap stands for the others.
const WINDOW_EVENTS_MAX: u32 = 100;
const WINDOW: Duration = Duration::from_millis(100);

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

impl LiveEvents {
    /// The stream of the events of `events`, until `shutdown`.
    #[must_use]
    pub fn new(events: EventBus, clock: Clock, shutdown: CancellationToken) -> Self {
        Self {
            events,
            clock,
            shutdown,
            shared: Arc::new(Shared {
                ring: Mutex::new(Ring::new()),
                changed: watch::Sender::new(()),
            }),
        }
    }

    /// Subscribes from this position on.
    pub(crate) fn subscribe(&self, from: Start) -> Subscriber {
        let mut ring = self.shared.ring();
        let end = self.shutdown.child_token();
        let id = ring.admit(end.clone());
        if !ring.is_recording() {
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
    let mut window_ends = Instant::now() + WINDOW;
    let mut recorded = 0;
    loop {
        if recorded == WINDOW_EVENTS_MAX {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep_until(window_ends) => {}
            }
        }
        if Instant::now() >= window_ends {
            window_ends = Instant::now() + WINDOW;
            recorded = 0;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.recv() => match event {
                // There are many commits, and a subscriber needs none of them.
                Ok(PipelineEvent::Committed { .. }) => {}
                Ok(event) => {
                    shared.add(&event, clock.now());
                    recorded += 1;
                }
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
        ring.dismiss(self.id);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;
    use tracing::Level;

    use super::ring::{EVENTS_MAX, SUBSCRIBERS_MAX};
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

    /// The number of events that it has missed, which the stream tells next.
    async fn missed(subscriber: &mut Subscriber) -> Option<u64> {
        match subscriber.next().await {
            Some(Live::Missed { events, .. }) => events,
            other => panic!("it has missed some: {other:?}"),
        }
    }

    /// An event that the stream leaves out.
    fn commit(live: &LiveEvents) {
        live.events.emit(Level::TRACE, || PipelineEvent::Committed {
            changes: 1,
            duration: Duration::ZERO,
        });
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
        commit(&live);
        emit(&live, 1);
        assert_eq!(pruned(&mut subscriber).await.0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_learns_how_many_events_it_has_missed() {
        let live = live();
        let mut slow = live.subscribe(Start::Now);
        let mut quick = live.subscribe(Start::Now);
        let more = 10;
        for messages in 1..=EVENTS_MAX as u64 + more {
            emit(&live, messages);
            pruned(&mut quick).await;
        }
        assert_eq!(missed(&mut slow).await, Some(more));
        assert_eq!(pruned(&mut slow).await.0, more + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_come_too_quickly_to_be_recorded_are_missed_in_unknown_number() {
        let live = live();
        let mut subscriber = live.subscribe(Start::Now);
        // The recorder has no chance to read meanwhile. Some of what it loses are commits.
        for messages in 1..=1_034 {
            commit(&live);
            emit(&live, messages);
        }
        assert_eq!(missed(&mut subscriber).await, None);
        assert_eq!(pruned(&mut subscriber).await.0, 523);
        // One that has received all since then learns the number again.
        while pruned(&mut subscriber).await.0 < 1_034 {}
        let mut slow = live.subscribe(Start::Now);
        for messages in 1..=EVENTS_MAX as u64 + 7 {
            emit(&live, messages);
            pruned(&mut subscriber).await;
        }
        assert_eq!(missed(&mut slow).await, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_received_whole_at_a_limited_rate() {
        let live = live();
        let mut subscriber = live.subscribe(Start::Now);
        let began = Instant::now();
        for messages in 1..=1_000 {
            emit(&live, messages);
        }
        for messages in 1..=1_000 {
            assert_eq!(pruned(&mut subscriber).await.0, messages);
        }
        let windows = 1_000 / WINDOW_EVENTS_MAX - 1;
        assert!(began.elapsed() >= WINDOW * windows);
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
        assert_eq!(missed(&mut again).await, None);
        emit(&live, 2);
        assert_eq!(pruned(&mut again).await.0, 2);
    }

    #[tokio::test]
    async fn a_subscriber_without_a_position_has_missed_an_unknown_number() {
        let live = live();
        let mut subscriber = live.subscribe(Start::Unknown);
        assert_eq!(missed(&mut subscriber).await, None);
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
