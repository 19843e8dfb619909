//! Metrics for Prometheus. They derive from the pipeline events, so that they count what the log
//! shows. `docs/reference/metrics.md` lists them.
//!
//! The values of labels come from the configuration or from fixed lists, never from a request: the
//! number of series is bounded by the configuration.

mod families;
mod process;
mod snapshot;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::delivery::Next;
use crate::delivery::breaker::CircuitChange;
use crate::pipeline_events::{Observer, PipelineEvent};
use families::{
    AcceptedLabels, AttemptLabels, DestinationLabels, EndpointLabels, Families, LaneLabels,
    RefusedLabels, SpanLabels,
};

pub(crate) use process::ProcessUsage;
pub(crate) use snapshot::{DestinationSnapshot, Snapshot};

/// Content type of [`Metrics::encode`]:
/// [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/).
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Prefix of all names except those of the process, which every program shares.
const PREFIX: &str = "unwrapd";

/// The counters and histograms since the start of the process. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    families: Families,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let families = Families::register(&mut registry);
        Self(Arc::new(Inner { registry, families }))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Observer for Metrics {
    fn observe(&self, event: &PipelineEvent) {
        let families = &self.0.families;
        match event {
            PipelineEvent::Received { endpoint, bytes } => {
                let labels = EndpointLabels::of(endpoint);
                families.received.get_or_create(&labels).inc();
                let bytes = u64::try_from(*bytes).unwrap_or(u64::MAX);
                families.received_bytes.get_or_create(&labels).inc_by(bytes);
            }
            PipelineEvent::Refused {
                endpoint,
                status,
                code,
                ..
            } => {
                let labels = RefusedLabels::of(endpoint.as_deref(), code, *status);
                families.refused.get_or_create(&labels).inc();
            }
            PipelineEvent::Verified {
                endpoint, lateness, ..
            } => {
                let labels = EndpointLabels::of(endpoint);
                families.verified.get_or_create(&labels).inc();
                if let Some(lateness) = lateness {
                    seconds(&families.lateness.get_or_create(&labels), *lateness);
                }
            }
            PipelineEvent::Accepted {
                endpoint,
                accepted,
                duration,
                ..
            } => {
                let labels = AcceptedLabels::of(endpoint, *accepted);
                families.accepted.get_or_create(&labels).inc();
                if let Some(duration) = duration {
                    let labels = EndpointLabels::of(endpoint);
                    seconds(&families.accept_duration.get_or_create(&labels), *duration);
                }
            }
            PipelineEvent::AttemptEnded {
                destination,
                lane,
                duration,
                age,
                next,
                ..
            } => {
                let labels = AttemptLabels::of(destination, *lane, next.as_str());
                families.attempts.get_or_create(&labels).inc();
                let labels = LaneLabels::of(destination, *lane);
                seconds(&families.attempt_duration.get_or_create(&labels), *duration);
                if *next == Next::Delivered {
                    seconds(&families.delivery_latency.get_or_create(&labels), *age);
                }
            }
            PipelineEvent::Expired { destination, .. } => {
                let labels = DestinationLabels::of(destination);
                families.expired.get_or_create(&labels).inc();
            }
            PipelineEvent::CircuitChanged {
                destination,
                change: CircuitChange::Opens,
                ..
            } => {
                let labels = DestinationLabels::of(destination);
                families.circuit_opened.get_or_create(&labels).inc();
            }
            PipelineEvent::Quarantined { endpoint, .. } => {
                let labels = EndpointLabels::of(endpoint);
                families.quarantined.get_or_create(&labels).inc();
            }
            PipelineEvent::Pruned { messages } => {
                families.pruned.inc_by(*messages);
            }
            PipelineEvent::Committed { changes, duration } => {
                #[expect(clippy::cast_precision_loss, reason = "a commit has at most hundreds")]
                families.commit_changes.observe(*changes as f64);
                seconds(&families.commit_duration, *duration);
            }
            PipelineEvent::SpansLost { spans, loss, .. } => {
                let labels = SpanLabels::of(*loss);
                families.spans_lost.get_or_create(&labels).inc_by(*spans);
            }
            PipelineEvent::StoreRefusing { .. } => {
                families.store_refusing.inc();
            }
            PipelineEvent::CircuitChanged { .. }
            | PipelineEvent::Claimed { .. }
            | PipelineEvent::Settled { .. }
            | PipelineEvent::Paused { .. }
            | PipelineEvent::Resumed { .. }
            | PipelineEvent::GatewayJoined { .. }
            | PipelineEvent::GatewayLeft { .. }
            | PipelineEvent::StoreRecovered { .. } => {}
        }
    }
}

impl Metrics {
    /// Begins the series of an endpoint at zero.
    pub(crate) fn begin_endpoint(&self, endpoint: &str) {
        self.0.families.begin_endpoint(endpoint);
    }

    /// Begins the series of refusals with these codes and statuses at zero. `None`: those of paths
    /// that name no endpoint.
    pub(crate) fn begin_refusals(&self, endpoint: Option<&str>, codes: &[(&'static str, u16)]) {
        for (reason, status) in codes {
            let labels = RefusedLabels::of(endpoint, reason, *status);
            drop(self.0.families.refused.get_or_create(&labels));
        }
    }

    /// Begins the series of a destination at zero.
    pub(crate) fn begin_destination(&self, destination: &str) {
        self.0.families.begin_destination(destination);
    }

    /// The text of one scrape: everything counted since the start, and `now`.
    pub(crate) fn encode(&self, now: &Snapshot, process: &ProcessUsage) -> String {
        let mut text = String::with_capacity(32 * 1024);
        let written = text::encode_registry(&mut text, &self.0.registry)
            .and_then(|()| text::encode_registry(&mut text, &now.registry(PREFIX)))
            .and_then(|()| text::encode_registry(&mut text, &process.registry()))
            .and_then(|()| text::encode_eof(&mut text));
        debug_assert!(written.is_ok(), "a write to a String does not fail");
        text
    }
}

fn seconds(histogram: &Histogram, duration: Duration) {
    histogram.observe(duration.as_secs_f64());
}
