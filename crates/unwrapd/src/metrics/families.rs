//! The metrics by name, and their labels.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::delivery::{Lane, Next};
use crate::pipeline_events::SpanLoss;
use crate::store::Accepted;

/// A histogram for each combination of labels.
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// From half a millisecond to 16 s: a commit, an attempt.
fn short() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}

/// From 10 ms to 46 hours: the way of an event through retries.
fn long() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 4.0, 13))
}

/// From 1 to 256, the most changes in one commit.
fn changes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 9))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EndpointLabels {
    endpoint: String,
}

impl EndpointLabels {
    pub(super) fn of(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusedLabels {
    /// Empty: the path names no configured endpoint.
    endpoint: String,
    reason: &'static str,
    status: u16,
}

impl RefusedLabels {
    pub(super) fn of(endpoint: Option<&str>, reason: &'static str, status: u16) -> Self {
        Self {
            endpoint: endpoint.unwrap_or_default().to_owned(),
            reason,
            status,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AcceptedLabels {
    endpoint: String,
    outcome: &'static str,
}

impl AcceptedLabels {
    pub(super) fn of(endpoint: &str, accepted: Accepted) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            outcome: match accepted {
                Accepted::New => "new",
                Accepted::Duplicate => "duplicate",
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DestinationLabels {
    destination: String,
}

impl DestinationLabels {
    pub(super) fn of(destination: &str) -> Self {
        Self {
            destination: destination.to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LaneLabels {
    destination: String,
    lane: &'static str,
}

impl LaneLabels {
    pub(super) fn of(destination: &str, lane: Lane) -> Self {
        Self {
            destination: destination.to_owned(),
            lane: lane.as_str(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AttemptLabels {
    destination: String,
    lane: &'static str,
    outcome: &'static str,
}

impl AttemptLabels {
    pub(super) fn of(destination: &str, lane: Lane, outcome: &'static str) -> Self {
        Self {
            destination: destination.to_owned(),
            lane: lane.as_str(),
            outcome,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SpanLabels {
    reason: &'static str,
}

impl SpanLabels {
    pub(super) fn of(loss: SpanLoss) -> Self {
        Self {
            reason: loss.as_str(),
        }
    }
}

/// Everything that is counted since the start of the process.
pub(super) struct Families {
    pub(super) received: Family<EndpointLabels, Counter>,
    pub(super) received_bytes: Family<EndpointLabels, Counter>,
    pub(super) verified: Family<EndpointLabels, Counter>,
    pub(super) refused: Family<RefusedLabels, Counter>,
    pub(super) quarantined: Family<EndpointLabels, Counter>,
    pub(super) accepted: Family<AcceptedLabels, Counter>,
    pub(super) accept_duration: Histograms<EndpointLabels>,
    pub(super) lateness: Histograms<EndpointLabels>,
    pub(super) attempts: Family<AttemptLabels, Counter>,
    pub(super) attempt_duration: Histograms<LaneLabels>,
    pub(super) delivery_latency: Histograms<LaneLabels>,
    pub(super) expired: Family<DestinationLabels, Counter>,
    pub(super) circuit_opened: Family<DestinationLabels, Counter>,
    pub(super) pruned: Counter,
    pub(super) commit_changes: Histogram,
    pub(super) commit_duration: Histogram,
    pub(super) store_refusing: Counter,
    pub(super) spans_lost: Family<SpanLabels, Counter>,
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            received: Family::default(),
            received_bytes: Family::default(),
            verified: Family::default(),
            refused: Family::default(),
            quarantined: Family::default(),
            accepted: Family::default(),
            accept_duration: Family::new_with_constructor(short),
            lateness: Family::new_with_constructor(long),
            attempts: Family::default(),
            attempt_duration: Family::new_with_constructor(short),
            delivery_latency: Family::new_with_constructor(long),
            expired: Family::default(),
            circuit_opened: Family::default(),
            pruned: Counter::default(),
            commit_changes: changes(),
            commit_duration: short(),
            store_refusing: Counter::default(),
            spans_lost: Family::default(),
        };
        families.register_webhooks(registry);
        families.register_deliveries(registry);
        families.register_store(registry);
        families.register_traces(registry);
        families
    }

    pub(super) fn begin_endpoint(&self, endpoint: &str) {
        let labels = EndpointLabels::of(endpoint);
        drop(self.received.get_or_create(&labels));
        drop(self.received_bytes.get_or_create(&labels));
        drop(self.verified.get_or_create(&labels));
        drop(self.quarantined.get_or_create(&labels));
        drop(self.accept_duration.get_or_create(&labels));
        drop(self.lateness.get_or_create(&labels));
        for accepted in [Accepted::New, Accepted::Duplicate] {
            let labels = AcceptedLabels::of(endpoint, accepted);
            drop(self.accepted.get_or_create(&labels));
        }
    }

    pub(super) fn begin_destination(&self, destination: &str) {
        let labels = DestinationLabels::of(destination);
        drop(self.expired.get_or_create(&labels));
        drop(self.circuit_opened.get_or_create(&labels));
        for lane in Lane::ALL {
            let labels = LaneLabels::of(destination, lane);
            drop(self.attempt_duration.get_or_create(&labels));
            drop(self.delivery_latency.get_or_create(&labels));
            for outcome in Next::NAMES {
                let labels = AttemptLabels::of(destination, lane, outcome);
                drop(self.attempts.get_or_create(&labels));
            }
        }
    }

    fn register_webhooks(&self, registry: &mut Registry) {
        registry.register(
            "webhooks_received",
            "Requests to an endpoint that were received to their end",
            self.received.clone(),
        );
        registry.register_with_unit(
            "webhooks_received",
            "Size of the bodies of these requests",
            Unit::Bytes,
            self.received_bytes.clone(),
        );
        registry.register(
            "webhooks_verified",
            "Webhooks with a valid signature",
            self.verified.clone(),
        );
        registry.register(
            "webhooks_refused",
            "Requests that were refused, by the code of the reason and the status of the answer",
            self.refused.clone(),
        );
        registry.register(
            "webhooks_quarantined",
            "Refused requests that were stored in the quarantine",
            self.quarantined.clone(),
        );
        registry.register(
            "webhooks_accepted",
            "Webhooks that were answered 200, new ones and duplicates of stored ones",
            self.accepted.clone(),
        );
        registry.register_with_unit(
            "webhook_accept_duration",
            "Time from the verification of a webhook to its durable commit",
            Unit::Seconds,
            self.accept_duration.clone(),
        );
        registry.register_with_unit(
            "webhook_lateness",
            "Time from the creation of an event at OpenAI to its arrival",
            Unit::Seconds,
            self.lateness.clone(),
        );
    }

    fn register_deliveries(&self, registry: &mut Registry) {
        registry.register(
            "attempts",
            "Attempts to deliver that have ended, by their consequence",
            self.attempts.clone(),
        );
        registry.register_with_unit(
            "attempt_duration",
            "Length of an attempt",
            Unit::Seconds,
            self.attempt_duration.clone(),
        );
        registry.register_with_unit(
            "delivery_latency",
            "Time from the arrival of a webhook, or from its replay, to its delivery",
            Unit::Seconds,
            self.delivery_latency.clone(),
        );
        registry.register(
            "deliveries_expired",
            "Calls that were given up without an attempt because they were too old",
            self.expired.clone(),
        );
        registry.register(
            "destination_circuit_opened",
            "Times at which a destination was found to be down",
            self.circuit_opened.clone(),
        );
    }

    fn register_store(&self, registry: &mut Registry) {
        registry.register(
            "messages_pruned",
            "Old messages that were deleted",
            self.pruned.clone(),
        );
        registry.register(
            "store_commit_changes",
            "Number of changes that share one commit",
            self.commit_changes.clone(),
        );
        registry.register_with_unit(
            "store_commit_duration",
            "Length of a commit",
            Unit::Seconds,
            self.commit_duration.clone(),
        );
        registry.register(
            "store_refusing",
            "Times at which the store began to refuse webhooks",
            self.store_refusing.clone(),
        );
    }

    fn register_traces(&self, registry: &mut Registry) {
        for loss in SpanLoss::ALL {
            drop(self.spans_lost.get_or_create(&SpanLabels::of(loss)));
        }
        registry.register(
            "spans_lost",
            "Spans of traces that the collector did not get, by the kind of the cause",
            self.spans_lost.clone(),
        );
    }
}
