//! The state that all parts of the gateway share.

use std::sync::Arc;

use super::report::{self, Opened};
use super::{configured, timekeeping};
use crate::alerts::Alerts;
use crate::bulk::BulkRunner;
use crate::clock::Clock;
use crate::config::Config;
use crate::destinations::Registry;
use crate::metrics::Metrics;
use crate::observe::refusals::Refusals;
use crate::observe::warnings::Warnings;
use crate::pipeline_events::{EventBus, Observer, PipelineEvent};
use crate::store::{self, Store, StoreError, StoreReport, StoreReporter, StoreUrl};
use crate::trace_context::Sampler;
use crate::traces::Traces;

#[derive(Clone)]
pub(super) struct Core {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    pub(super) registry: Registry,
    /// Carries on replays and drops of dead letters.
    pub(super) bulk: BulkRunner,
    pub(super) events: EventBus,
    /// `None`: there is no admin port.
    pub(super) metrics: Option<Metrics>,
    pub(super) alerts: Alerts,
    /// `None`: they are not configured.
    pub(super) traces: Option<Traces>,
    /// Lasting conditions that need an operator.
    pub(super) warnings: Warnings,
    /// Refused requests that are counted for the log.
    pub(super) refusals: Arc<Refusals>,
}

impl Core {
    /// Opens the store, and marks the destinations that are paused. `pages` is the URL of the first
    /// page, for links in alerts.
    pub(super) async fn open(
        config: &Config,
        pages: Option<Arc<str>>,
    ) -> anyhow::Result<(Self, Opened)> {
        let (clock, warnings) = (Clock::default(), Warnings::default());
        // Without an admin port nothing reads the metrics.
        let metrics = config.admin.map(|_| Metrics::default());
        let alerts = Alerts::new(clock.clone(), pages);
        let mut observers: Vec<Arc<dyn Observer>> = vec![Arc::new(alerts.clone())];
        if let Some(metrics) = &metrics {
            observers.push(Arc::new(metrics.clone()));
        }
        let traces = config.traces.clone().map(Traces::new);
        if let Some(traces) = &traces {
            traces.set_servers(configured::urls(config));
            observers.push(Arc::new(traces.clone()));
        }
        let mut events = EventBus::observed_by(observers);
        if let Some(settings) = &config.traces {
            events = events.traced_by(Sampler::of(settings.sample));
        }
        let was_there = report::is_there(&config.store.url);
        let reporter = reporter_of(&events);
        let store = store::open(&config.store, &clock, &warnings, &reporter)
            .await
            .map_err(|error| cannot_open(&config.store.url, error))?;
        timekeeping::log_doubt(&clock, &warnings);
        let registry = Registry::new(events.clone());
        for (name, _) in store.paused().await? {
            registry.of(&name).set_paused(true);
        }
        let opened = Opened::look(&*store, was_there).await?;
        let bulk = BulkRunner::new(Arc::clone(&store), clock.clone(), registry.clone());
        let core = Self {
            bulk,
            store,
            clock,
            registry,
            events,
            metrics,
            alerts,
            traces,
            warnings,
            refusals: Arc::default(),
        };
        Ok((core, opened))
    }
}

/// Makes events of what the store reports about itself.
fn reporter_of(events: &EventBus) -> StoreReporter {
    let events = events.clone();
    StoreReporter::new(move |level, report| {
        events.emit(level, || match report {
            StoreReport::Refusing { reason } => PipelineEvent::StoreRefusing { reason },
            StoreReport::Recovered { reason } => PipelineEvent::StoreRecovered { reason },
            StoreReport::Committed { changes, duration } => {
                PipelineEvent::Committed { changes, duration }
            }
        });
    })
}

/// The error for a store that cannot be opened. The command line chooses its exit code by the kinds
/// that stay a [`StoreError`].
fn cannot_open(url: &StoreUrl, error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Unavailable(cause) | StoreError::Unusable(cause) => {
            anyhow::anyhow!("cannot open the store {url}: {cause}")
        }
        error => anyhow::Error::new(error).context(format!("cannot open the store {url}")),
    }
}
