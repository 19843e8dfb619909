//! Where messages are delivered: an application behind a URL, a command, or a file of JSON lines.

pub mod command;
pub mod http;
pub mod jsonl;

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
use command::{CommandDestination, CommandSettings};
use http::{HttpDestination, HttpSettings};
use jsonl::{JsonLinesDestination, JsonLinesSettings};

pub(crate) use http::{client, client_config_for, describe};

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

/// The kind of a destination, with its settings.
#[derive(Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each destination, most of them the largest"
)]
pub enum Kind {
    /// An application behind a URL.
    Http(HttpSettings),
    /// A command, run for each message.
    Command(CommandSettings),
    /// A file of JSON lines, or stdout.
    JsonLines(JsonLinesSettings),
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
    let limits = settings.limits.clone();
    let built = || -> anyhow::Result<Box<dyn Destination>> {
        Ok(match &settings.kind {
            Kind::Http(http) => Box::new(HttpDestination::by(http.clone(), limits, clock)?),
            Kind::Command(command) => Box::new(CommandDestination::new(command.clone(), limits)),
            Kind::JsonLines(lines) => Box::new(JsonLinesDestination::new(lines.clone())?),
        })
    };
    built().with_context(|| format!("destination `{}`", settings.name))
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
        match kind {
            Kind::Http(http) if http.leads_to(public) => tracing::warn!(
                "the `url` of `{name}` leads to this gateway itself: set it to the URL of your application"
            ),
            Kind::Http(http) if http.proxy.is_some() && http.names_this_machine() => {
                tracing::warn!(
                    "the `url` of `{name}` names this machine, but its `proxy` would connect to the proxy's own machine: remove `proxy` if this machine is meant"
                );
            }
            Kind::Http(http) if http.proxy.is_some() && http.allow_private => tracing::warn!(
                "`allow_private` of `{name}` has no effect: its `proxy` resolves host names and decides which addresses are allowed"
            ),
            Kind::Command(command) if !command.can_start() => tracing::warn!(
                "the program `{}` of `{name}` is missing or not executable: its deliveries wait until you install it, or make it executable (chmod +x)",
                command.program
            ),
            Kind::JsonLines(lines) if !lines.has_folder() => tracing::warn!(
                "the folder of the file in `jsonl` of `{name}` does not exist: its deliveries wait until you create it"
            ),
            _ => {}
        }
    }
}

/// How much longer a destination may take that was called at `started`: until a moment before its
/// caller gives up, so that what it knows by then counts.
fn left(timeout: Duration, started: Instant) -> Duration {
    let margin = (timeout / 10).min(MARGIN_MAX);
    timeout
        .saturating_sub(margin)
        .saturating_sub(started.elapsed())
}
