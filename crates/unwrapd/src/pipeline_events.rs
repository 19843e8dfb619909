//! A stream of pipeline events for observers. Observers never delay the pipeline: a slow one misses
//! events.

use openai_webhooks::VerificationError;
use tokio::sync::broadcast;

use crate::delivery::Next;
use crate::store::Accepted;
use crate::traffic::Traffic;

/// Most events that wait for a slow subscriber. It misses the oldest beyond that.
const BACKLOG_MAX: usize = 1024;

/// One step of one webhook. It never holds a payload, a secret or a signature.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PipelineEvent {
    /// A request was received to its end.
    Received {
        /// Name of the endpoint.
        endpoint: String,
        /// Size of its body, in bytes.
        bytes: usize,
    },
    /// A request was refused.
    Refused {
        /// Name of the endpoint.
        endpoint: String,
        /// The reason.
        error: VerificationError,
    },
    /// A webhook was verified.
    Verified {
        /// Name of the endpoint.
        endpoint: String,
        /// The `webhook-id`.
        webhook_id: String,
        /// Type of its event.
        kind: String,
    },
    /// The message is durable, or was before; the answer is 200.
    Accepted {
        /// The `webhook-id`.
        webhook_id: String,
        /// Whether it is new or a duplicate.
        accepted: Accepted,
        /// The destinations of its deliveries, if it is new.
        destinations: Vec<String>,
    },
    /// An attempt has ended and is settled.
    Attempted {
        /// The `webhook-id`.
        webhook_id: String,
        /// Name of the destination.
        destination: String,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// The answer of the destination, or the cause of the failure.
        answer: String,
        /// The next step of the delivery.
        next: Next,
    },
}

/// Passes pipeline events to subscribers, and holds the traffic counts.
#[derive(Clone, Debug)]
pub struct EventBus {
    subscribers: broadcast::Sender<PipelineEvent>,
    traffic: Traffic,
}

impl Default for EventBus {
    fn default() -> Self {
        Self {
            subscribers: broadcast::Sender::new(BACKLOG_MAX),
            traffic: Traffic::default(),
        }
    }
}

impl EventBus {
    /// Passes an event to the subscribers. Without any, the event is not made.
    pub fn emit(&self, event: impl FnOnce() -> PipelineEvent) {
        if self.subscribers.receiver_count() > 0 {
            // The last subscriber may have left just now.
            drop(self.subscribers.send(event()));
        }
    }

    /// The counts of the traffic.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Subscribes to all events from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<PipelineEvent> {
        self.subscribers.subscribe()
    }
}
