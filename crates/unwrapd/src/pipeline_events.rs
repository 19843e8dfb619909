//! The stream of pipeline events. The log, the metrics and the alerts derive from it, and others
//! subscribe to it.
//!
//! Subscribers never delay the pipeline: a slow one misses events, and gets the number of them.

mod bus;
mod live;
mod log;
mod request_trace;

use std::time::Duration;

use crate::delivery::breaker::CircuitChange;
use crate::delivery::{Lane, Next};
use crate::store::Accepted;
use crate::trace_context::AttemptTrace;

pub use bus::{EventBus, Observer, Subscription};
pub use live::LiveEvents;
pub(crate) use live::{Live, LiveEvent, Start, Subscriber};
pub(crate) use log::TARGET;
pub use request_trace::{RequestTrace, Steps};

/// One step of a webhook, or one change of a destination, the store or the fleet.
///
/// An event holds ids, names, counts and durations; never a payload, a secret or a signature.
/// `docs/reference/logs.md` lists the log line of each.
///
/// # Order
///
/// These events occur in this order, each after the step that it names:
///
/// - of one request: `Received`, `Verified`, `Accepted`, then the answer; or `Refused`, then the
///   answer. `Quarantined` may come before or after `Refused`.
/// - of one attempt: `Claimed`, then `AttemptEnded` or `Expired`, then `CircuitChanged` if the
///   attempt caused one, then `Settled`.
/// - of one gateway that restarts: `GatewayLeft`, then `GatewayJoined`.
/// - of one cause: `StoreRefusing`, then `StoreRecovered`.
///
/// Nothing else is ordered. The first attempt may end before `Accepted`, because a delivery starts
/// as soon as its message is durable. Two cases have no event: a claim that is released, and a
/// result that cannot be stored or comes too late. The delivery is then claimed again, perhaps by
/// another gateway.
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
        /// Name of the endpoint; `None`: the path names no configured endpoint.
        endpoint: Option<String>,
        /// HTTP status of the answer.
        status: u16,
        /// Kind of the refusal, in words. Log lines are limited by kind and endpoint.
        kind: &'static str,
        /// Stable code of the cause, such as `signature_mismatch`.
        code: &'static str,
        /// Method and path of the request; `None`: the path and the method are right.
        request: Option<String>,
        /// Cause of this refusal, in words.
        reason: String,
        /// Advice to the operator.
        remedy: Option<String>,
        /// Time from the head of the request to its refusal. `None`: a wrong path or method, or no
        /// subscriber and no log of level `DEBUG` when the head arrived.
        duration: Option<Duration>,
        /// Number of refusals of this kind since the last warning, this one included. `None`: no
        /// warning is due, and a later one counts this refusal.
        repeats: Option<u64>,
    },
    /// A webhook was verified.
    Verified {
        /// Name of the endpoint.
        endpoint: String,
        /// The `webhook-id`.
        webhook_id: String,
        /// Type of its event.
        event_type: String,
        /// Time from the creation of the event at OpenAI to its arrival, zero if OpenAI's clock is
        /// ahead. `None`: the body does not tell.
        lateness: Option<Duration>,
    },
    /// The message is durable, or was before. The request is answered 200, unless it waited in the
    /// quarantine.
    Accepted {
        /// Name of the endpoint.
        endpoint: String,
        /// The `webhook-id`.
        webhook_id: String,
        /// Type of its event.
        event_type: String,
        /// Whether it is new or a duplicate.
        accepted: Accepted,
        /// The destinations that subscribe to the event.
        destinations: Vec<String>,
        /// Time from the verification to the commit; `None` for a request from the quarantine.
        duration: Option<Duration>,
        /// Its trace, if it is sampled.
        trace: Option<Box<RequestTrace>>,
    },
    /// A delivery was claimed, or handed off by the commit that stored its message.
    Claimed {
        /// The `webhook-id`.
        webhook_id: String,
        /// Name of the destination.
        destination: String,
        /// Number of the attempt, from 1.
        attempt: u32,
    },
    /// An attempt has ended. Its settlement follows.
    AttemptEnded {
        /// The `webhook-id`.
        webhook_id: String,
        /// Type of the event.
        event_type: String,
        /// Name of the destination.
        destination: String,
        /// The lane of the delivery.
        lane: Lane,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// The answer of the destination, or the cause of the failure.
        answer: String,
        /// HTTP status of the answer, if there was one of HTTP.
        status: Option<u16>,
        /// Length of the attempt.
        duration: Duration,
        /// Time since the delivery was first due, or was replayed.
        age: Duration,
        /// The next step of the delivery.
        next: Next,
        /// Time until the next attempt, if there is one.
        retry_in: Option<Duration>,
        /// Number of failures with this answer since the last warning, this one included. `None`:
        /// no warning is due, and a later one counts a failure.
        repeats: Option<u64>,
        /// Its trace, if it is sampled.
        trace: Option<AttemptTrace>,
    },
    /// A call was given up without an attempt, because it is too old. Its settlement follows.
    Expired {
        /// The `webhook-id`.
        webhook_id: String,
        /// Type of the event.
        event_type: String,
        /// Name of the destination.
        destination: String,
        /// Number of the attempt that was not made.
        attempt: u32,
        /// As in [`AttemptEnded`](Self::AttemptEnded).
        repeats: Option<u64>,
        /// As in [`AttemptEnded`](Self::AttemptEnded).
        trace: Option<AttemptTrace>,
    },
    /// The result of an attempt, or of an expired call, is durable.
    Settled {
        /// The `webhook-id`.
        webhook_id: String,
        /// Name of the destination.
        destination: String,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// The next step of the delivery.
        next: Next,
    },
    /// The circuit of a destination has opened, stayed open after a probe, or closed.
    CircuitChanged {
        /// Name of the destination.
        destination: String,
        /// The change.
        change: CircuitChange,
        /// The answer that led to the change; `None`: another gateway found it.
        answer: Option<String>,
    },
    /// A destination was paused.
    Paused {
        /// Name of the destination.
        destination: String,
        /// Whether an operator did so at another gateway.
        is_remote: bool,
    },
    /// A destination was resumed.
    Resumed {
        /// Name of the destination.
        destination: String,
        /// Whether an operator did so at another gateway.
        is_remote: bool,
    },
    /// A refused request is durable in the quarantine.
    Quarantined {
        /// Name of the endpoint.
        endpoint: String,
        /// The reason why it was refused.
        reason: String,
    },
    /// Old messages were deleted.
    Pruned {
        /// Their number.
        messages: u64,
    },
    /// The store has made a commit durable.
    Committed {
        /// Number of the changes that share it.
        changes: usize,
        /// Its length.
        duration: Duration,
    },
    /// Spans of traces were lost.
    SpansLost {
        /// Their number.
        spans: u64,
        /// Kind of the cause.
        loss: SpanLoss,
        /// The cause in words.
        reason: String,
        /// Number of such losses since the last warning, this one included. `None`: no warning is
        /// due, and a later one counts this loss.
        repeats: Option<u64>,
    },
    /// Another gateway has joined the fleet.
    GatewayJoined {
        /// Its name.
        gateway: String,
    },
    /// Another gateway has left the fleet: it stopped, or its heartbeats ceased.
    GatewayLeft {
        /// Its name.
        gateway: String,
    },
    /// The store accepts no webhooks. Each cause has its own pair of this event and
    /// [`StoreRecovered`](Self::StoreRecovered).
    StoreRefusing {
        /// The cause and its effect.
        reason: String,
    },
    /// A cause for which the store accepted no webhooks is gone.
    StoreRecovered {
        /// The cause that is gone, in words.
        reason: String,
    },
}

/// Why spans are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpanLoss {
    /// Too many waited for the collector.
    QueueFull,
    /// The collector did not take the request.
    NotSent,
    /// The collector took the request and rejected some of its spans.
    Rejected,
}

impl SpanLoss {
    /// All variants.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::NotSent, Self::Rejected];

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::NotSent => "not_sent",
            Self::Rejected => "rejected",
        }
    }
}

impl PipelineEvent {
    /// The stable name of the event, as in the log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Received { .. } => "received",
            Self::Refused { .. } => "refused",
            Self::Verified { .. } => "verified",
            Self::Accepted { .. } => "accepted",
            Self::Claimed { .. } => "claimed",
            Self::AttemptEnded { .. } => "attempt_ended",
            Self::Expired { .. } => "expired",
            Self::Settled { .. } => "settled",
            Self::CircuitChanged { .. } => "circuit_changed",
            Self::Paused { .. } => "paused",
            Self::Resumed { .. } => "resumed",
            Self::Quarantined { .. } => "quarantined",
            Self::Pruned { .. } => "pruned",
            Self::Committed { .. } => "committed",
            Self::SpansLost { .. } => "spans_lost",
            Self::GatewayJoined { .. } => "gateway_joined",
            Self::GatewayLeft { .. } => "gateway_left",
            Self::StoreRefusing { .. } => "store_refusing",
            Self::StoreRecovered { .. } => "store_recovered",
        }
    }

    /// The `webhook-id` of the webhook that the event is about, once it is verified.
    #[must_use]
    pub fn webhook_id(&self) -> Option<&str> {
        match self {
            Self::Verified { webhook_id, .. }
            | Self::Accepted { webhook_id, .. }
            | Self::Claimed { webhook_id, .. }
            | Self::AttemptEnded { webhook_id, .. }
            | Self::Expired { webhook_id, .. }
            | Self::Settled { webhook_id, .. } => Some(webhook_id),
            _ => None,
        }
    }
}
