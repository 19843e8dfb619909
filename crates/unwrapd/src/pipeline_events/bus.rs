//! Passes pipeline events to the log, to observers and to subscribers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tracing::Level;

use super::{PipelineEvent, log};
use crate::message::{Message, Origin};
use crate::trace_context::{Sampler, Trace};
use crate::traffic::Traffic;

/// Most events that wait for a slow subscriber. It misses the oldest beyond that. All subscribers
/// share one ring of this length, so their number costs no memory.
const BACKLOG_MAX: usize = 1024;

/// Sees every event at once, in the task that emits it. It must be quick, and must not wait.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Takes note of an event.
    fn observe(&self, event: &PipelineEvent);
}

/// Passes pipeline events to the log, to observers and to subscribers, and holds the traffic counts.
/// It also decides which webhooks are traced. Clones share all of it.
#[derive(Clone, Debug)]
pub struct EventBus {
    ring: broadcast::Sender<PipelineEvent>,
    /// Number of subscribers. `ring` counts them under a lock, which each event would take.
    subscribers: Arc<AtomicUsize>,
    traffic: Traffic,
    observers: Arc<[Arc<dyn Observer>]>,
    /// `None`: there are no traces.
    sampler: Option<Sampler>,
}

impl Default for EventBus {
    fn default() -> Self {
        Self {
            ring: broadcast::Sender::new(BACKLOG_MAX),
            subscribers: Arc::default(),
            traffic: Traffic::default(),
            observers: Arc::default(),
            sampler: None,
        }
    }
}

impl EventBus {
    /// A bus with these observers.
    #[must_use]
    pub fn observed_by(observers: impl IntoIterator<Item = Arc<dyn Observer>>) -> Self {
        Self {
            observers: observers.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The bus with traces of the webhooks that the sampler selects.
    #[must_use]
    pub fn traced_by(self, sampler: Sampler) -> Self {
        Self {
            sampler: Some(sampler),
            ..self
        }
    }

    /// Whether webhooks are traced: to avoid work that only traces need.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.sampler.is_some()
    }

    /// The trace of a message. An event of the gateway itself has none, because no webhook brought
    /// it.
    #[must_use]
    pub fn trace_of(&self, message: &Message) -> Option<Trace> {
        let sampler = self.sampler.filter(|_| message.origin == Origin::OpenAi)?;
        Some(Trace::of(&message.endpoint, &message.webhook_id, sampler))
    }

    /// Writes an event to the log at `level`, and passes it to the observers and to the
    /// subscribers. Without any of these, the event is not built.
    ///
    /// The log line is written before this returns: no line is lost when the process dies.
    pub fn emit(&self, level: Level, event: impl FnOnce() -> PipelineEvent) {
        let is_logged = log::is_enabled(level);
        let has_subscribers = self.has_subscribers();
        if !is_logged && !has_subscribers && self.observers.is_empty() {
            return;
        }
        let event = event();
        for observer in &*self.observers {
            observer.observe(&event);
        }
        if is_logged {
            log::write(level, &event);
        }
        if has_subscribers {
            // The last subscriber may have left just now.
            drop(self.ring.send(event));
        }
    }

    /// Whether the log or a subscriber gets events of this level: to avoid work that only they
    /// need.
    #[must_use]
    pub fn is_observed(&self, level: Level) -> bool {
        self.has_subscribers() || log::is_enabled(level)
    }

    /// Subscribes to all events from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.subscribers.fetch_add(1, Ordering::Relaxed);
        Subscription {
            events: self.ring.subscribe(),
            subscribers: Arc::clone(&self.subscribers),
        }
    }

    /// The counts of the traffic.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn has_subscribers(&self) -> bool {
        self.subscribers.load(Ordering::Relaxed) > 0
    }
}

/// Receives the events since its beginning. A subscriber that reads too slowly misses the oldest of
/// 1,024 unread events, and learns how many it missed.
#[derive(Debug)]
pub struct Subscription {
    events: broadcast::Receiver<PipelineEvent>,
    subscribers: Arc<AtomicUsize>,
}

impl Subscription {
    /// Waits for the next event. [`RecvError::Lagged`] has the number of missed events;
    /// [`RecvError::Closed`] means that the gateway has ended.
    pub async fn recv(&mut self) -> Result<PipelineEvent, RecvError> {
        self.events.recv().await
    }

    /// As [`recv`](Self::recv), without waiting.
    pub fn try_recv(&mut self) -> Result<PipelineEvent, TryRecvError> {
        self.events.try_recv()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pruned(messages: u64) -> PipelineEvent {
        PipelineEvent::Pruned { messages }
    }

    #[test]
    fn an_event_without_a_subscriber_is_not_built() {
        let events = EventBus::default();
        drop(events.subscribe());
        assert!(!events.is_observed(Level::TRACE));
        events.emit(Level::TRACE, || unreachable!("nobody observes it"));
    }

    #[test]
    fn a_slow_subscriber_learns_how_many_events_it_missed() {
        let events = EventBus::default();
        let mut slow = events.subscribe();
        let more = 100;
        for messages in 0..BACKLOG_MAX as u64 + more {
            events.emit(Level::TRACE, || pruned(messages));
        }
        assert_eq!(slow.try_recv().unwrap_err(), TryRecvError::Lagged(more));
        let Ok(PipelineEvent::Pruned { messages }) = slow.try_recv() else {
            panic!("the oldest event that is left");
        };
        assert_eq!(messages, more);
    }
}
