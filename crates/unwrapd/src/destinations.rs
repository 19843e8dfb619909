//! Where messages are delivered: an application behind a URL, a command, or a file of JSON lines.

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

/// How much earlier than its caller, at most, a destination ends by itself.
const MARGIN_MAX: Duration = Duration::from_millis(250);

/// Takes messages. A failure we expect (a refusal, nobody there) is an [`Outcome`], not an error.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Tries once to hand the message over. Whoever calls it bounds the time: dropped, it lets go
    /// of everything it holds.
    async fn send(&self, delivery: &Delivery) -> Outcome;

    /// The kind in a word: `http`, `command`, `jsonl`.
    fn kind(&self) -> &'static str;

    /// Has deliveries that begin from now on make new connections. What has none does nothing.
    fn renew_connections(&self) {}
}

/// Where we deliver.
#[derive(Clone, PartialEq)]
pub struct DestinationSettings {
    /// Name in the store, in logs and on the command line.
    pub name: String,
    /// The kind of the destination.
    pub kind: Kind,
    /// Which events it wants.
    pub events: Patterns,
    /// How hard it may be pressed.
    pub limits: Limits,
}

impl DestinationSettings {
    /// An application that wants everything, with everything else as it is unless set.
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

    /// A destination that wants everything, with everything else as it is unless set.
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

/// Makes a destination of its settings.
pub fn build(settings: &DestinationSettings) -> anyhow::Result<Box<dyn Destination>> {
    build_by(settings, &Clock::default())
}

/// As [`build`], where what signs does so by `clock`.
pub fn build_by(
    settings: &DestinationSettings,
    clock: &Clock,
) -> anyhow::Result<Box<dyn Destination>> {
    let built = settings.kind.build(settings.limits.clone(), clock);
    built.with_context(|| format!("destination `{}`", settings.name))
}

/// Warns of destinations that can take nothing as things are. One that leads to ourselves, at
/// `public`: what we deliver is not what we accept, and nobody else gets it. What is not there may
/// come to be, so it is no mistake of the configuration.
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

/// The number of new and of removed secrets, if the secrets differ.
pub(crate) fn changed_secrets(old: &Webhooks, new: &Webhooks) -> Option<String> {
    let (old, new) = (old.fingerprints(), new.fingerprints());
    let not_in =
        |all: &[String], others: &[String]| all.iter().filter(|one| !others.contains(one)).count();
    let (added, removed) = (not_in(&new, &old), not_in(&old, &new));
    (added + removed > 0).then(|| format!("secrets ({added} added, {removed} removed)"))
}

/// How much longer a destination may take that was called at `started`: until a moment before its
/// caller gives up, so that what it knows by then counts.
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
        // The same bytes, as base64 and as they are.
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
