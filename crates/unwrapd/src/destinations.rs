//! Destinations of messages: an application behind a URL, a command, or a file of JSON lines.

mod circuit_reports;
pub mod command;
mod description;
mod failures;
mod gate;
pub mod http;
pub mod jsonl;
mod kind;
mod registry;
mod settings;
pub(crate) mod state;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::delivery::{Delivery, Outcome};
use crate::trace_context::AttemptTrace;

pub(crate) use circuit_reports::{CircuitReport, CircuitReports};
pub use description::Description;
pub(crate) use failures::Failure;
pub use gate::Gate;
pub(crate) use http::{client, client_config, client_config_for, describe};
pub use kind::Kind;
pub(crate) use kind::KindSettings;
pub use registry::{Configured, DestinationHandle, Registry};
pub use settings::DestinationSettings;

/// Maximum time by which a destination ends an attempt before its caller does.
const MARGIN_MAX: Duration = Duration::from_millis(250);

/// Delivers messages. An expected failure, such as a refusal or a refused connection, is an
/// [`Outcome`], not an error.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Makes one attempt. The caller limits its time: a dropped future releases everything it
    /// holds. It must not block its thread, which other deliveries share; [`jsonl`] writes to a
    /// slow file on a thread of its own. `trace` is for a destination that continues the trace of
    /// the webhook; `None`: there is no trace.
    async fn send(&self, delivery: &Delivery, trace: Option<AttemptTrace>) -> Outcome;

    /// Name of the kind for the admin API, one word, such as `http`.
    fn kind(&self) -> &'static str;

    /// Makes deliveries that begin after this use new connections. Does nothing for kinds without
    /// connections.
    fn renew_connections(&self) {}
}

/// Creates a destination from its settings.
pub fn build(settings: &DestinationSettings) -> anyhow::Result<Box<dyn Destination>> {
    build_by(settings, &Clock::default())
}

/// Does the same as [`build`], with the clock for signatures and certificates.
pub(crate) fn build_by(
    settings: &DestinationSettings,
    clock: &Clock,
) -> anyhow::Result<Box<dyn Destination>> {
    let built = settings.kind.build(settings.limits.clone(), clock);
    built.with_context(|| format!("destination `{}`", settings.name))
}

/// Warns of destinations whose deliveries would fail or wait at present, including a destination
/// that leads to this gateway at `public`. These are not configuration errors, because a missing
/// target may appear later.
pub(crate) fn warn_doubts(destinations: &[DestinationSettings], public: SocketAddr) {
    let is_http = |settings: &DestinationSettings| matches!(settings.kind, Kind::Http(_));
    if destinations.iter().any(is_http)
        && let Some(problem) = http::environment_problem()
    {
        tracing::warn!("{problem}");
    }
    for DestinationSettings { name, kind, .. } in destinations {
        if let Some(doubt) = kind.doubt(name, public) {
            tracing::warn!("{doubt}");
        }
    }
}

/// Time left for an attempt that began at `started`. It ends shortly before its caller gives up, so
/// that its partial result is used.
fn left(timeout: Duration, started: Instant) -> Duration {
    let margin = (timeout / 10).min(MARGIN_MAX);
    timeout
        .saturating_sub(margin)
        .saturating_sub(started.elapsed())
}
