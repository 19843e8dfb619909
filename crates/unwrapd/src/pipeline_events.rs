//! A stream of pipeline events for observers. Observers never delay the pipeline: a slow one misses
//! events.

use openai_webhooks::VerificationError;
use tokio::sync::broadcast;

use crate::delivery::Next;
use crate::store::Accepted;
use crate::traffic::Traffic;

/// Most happenings that wait for a slow onlooker.
const BACKLOG_MAX: usize = 1024;

/// One step of one webhook. It never holds a payload, a secret or a signature.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PipelineEvent {
    /// A request arrived whole.
    Received {
        /// Name of the endpoint.
        endpoint: String,
        /// Size of its body.
        bytes: usize,
    },
    /// A request was refused.
    Refused {
        /// Name of the endpoint.
        endpoint: String,
        /// Why.
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
        /// New or a copy.
        accepted: Accepted,
        /// Where it is to be delivered, if it is new.
        destinations: Vec<String>,
    },
    /// A destination was tried.
    Attempted {
        /// The `webhook-id`.
        webhook_id: String,
        /// Name of the destination.
        destination: String,
        /// Which attempt it was, counted from 1.
        attempt: u32,
        /// The answer of the destination, or the cause of the failure.
        answer: String,
        /// The next step of the delivery.
        next: Next,
    },
}

/// Passes pipeline events to subscribers, and counts them.
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
    /// Tells it, if someone listens; only then is it worth putting together.
    pub fn emit(&self, event: impl FnOnce() -> PipelineEvent) {
        if self.subscribers.receiver_count() > 0 {
            // The last listener may have left just now.
            drop(self.subscribers.send(event()));
        }
    }

    /// The counts of the traffic.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Hears everything told from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<PipelineEvent> {
        self.subscribers.subscribe()
    }
}
