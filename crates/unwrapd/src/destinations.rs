//! Destinations of messages: an application behind a URL, a command, or a file of JSON lines.

mod circuit_reports;
pub mod command;
mod failures;
mod gate;
pub mod http;
pub mod jsonl;
mod kind;
mod registry;
pub mod state;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use openai_webhooks::{Secret, Webhooks};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::delivery::limits::Limits;
use crate::delivery::{Delivery, Outcome};
use crate::route::Patterns;
use http::HttpSettings;

pub use circuit_reports::{CircuitReport, CircuitReports};
pub(crate) use failures::{Failure, Failures};
pub use gate::Gate;
pub(crate) use http::{client, client_config_for, describe};
pub use kind::{Kind, KindSettings};
pub use registry::{Configured, DestinationHandle, Registry};

/// Maximum time by which a destination ends an attempt before its caller does.
const MARGIN_MAX: Duration = Duration::from_millis(250);

/// Delivers messages. An expected failure, such as a refusal or a refused connection, is an
/// [`Outcome`], not an error.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Makes one attempt. The caller limits its time: a dropped future releases everything it
    /// holds.
    async fn send(&self, delivery: &Delivery) -> Outcome;

    /// The kind, one word: `http`, `command`, `jsonl`.
    fn kind(&self) -> &'static str;

    /// Makes deliveries that begin after this use new connections. Does nothing for kinds without
    /// connections.
    fn renew_connections(&self) {}
}

/// Settings of a destination.
#[derive(Clone, PartialEq)]
pub struct DestinationSettings {
    /// Name in the store, in logs and on the command line.
    pub name: String,
    /// The kind of the destination.
    pub kind: Kind,
    /// The events that the destination wants.
    pub events: Patterns,
    /// Limits for the deliveries.
    pub limits: Limits,
}

impl DestinationSettings {
    /// An application that wants all events, with defaults otherwise.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a secret that is not needed any more is wiped here"
    )]
    pub fn new(name: impl Into<String>, url: reqwest::Url, secret: Secret) -> Self {
        Self::of(
            name,
            Kind::Http(HttpSettings::new(url, Webhooks::from(&secret))),
        )
    }

    /// A destination that wants all events, with defaults otherwise.
    #[must_use]
    pub fn of(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            events: Patterns::everything(),
            limits: Limits::default(),
        }
    }
}

/// Creates a destination from its settings.
pub fn build(settings: &DestinationSettings) -> anyhow::Result<Box<dyn Destination>> {
    build_by(settings, &Clock::default())
}

/// Does the same as [`build`], with the clock for signatures and certificates.
pub fn build_by(
    settings: &DestinationSettings,
    clock: &Clock,
) -> anyhow::Result<Box<dyn Destination>> {
    let built = settings.kind.build(settings.limits.clone(), clock);
    built.with_context(|| format!("destination `{}`", settings.name))
}

/// Warns of destinations whose deliveries would fail or wait at present, including a destination
/// that leads to this gateway at `public`. These are not configuration errors, because a missing
/// target may appear later.
pub fn warn_doubts(destinations: &[DestinationSettings], public: SocketAddr) {
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

/// The numbers of added and removed secrets, if the secrets differ.
pub(crate) fn changed_secrets(old: &Webhooks, new: &Webhooks) -> Option<String> {
    let (old, new) = (old.fingerprints(), new.fingerprints());
    let not_in =
        |all: &[String], others: &[String]| all.iter().filter(|one| !others.contains(one)).count();
    let (added, removed) = (not_in(&new, &old), not_in(&old, &new));
    (added + removed > 0).then(|| format!("secrets ({added} added, {removed} removed)"))
}

/// Time left for an attempt that began at `started`. It ends shortly before its caller gives up, so
/// that its partial result is used.
fn left(timeout: Duration, started: Instant) -> Duration {
    let margin = (timeout / 10).min(MARGIN_MAX);
    timeout
        .saturating_sub(margin)
        .saturating_sub(started.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_secrets_are_counted_whatever_form_they_have() {
        let webhooks = |secret| Webhooks::new(secret).unwrap();
        // The same key, once as base64 and once raw.
        let encoded = webhooks("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
        let raw = webhooks("0123456789abcdef01234567");
        assert_eq!(changed_secrets(&raw, &encoded), None);
        let other = webhooks("another secret of 24 bytes");
        assert_eq!(
            changed_secrets(&encoded, &other).unwrap(),
            "secrets (1 added, 1 removed)"
        );
    }
}
