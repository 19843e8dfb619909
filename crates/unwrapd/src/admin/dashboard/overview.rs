//! `/`: one sentence that tells whether all is well, what needs attention, and a card for each
//! destination.

use std::collections::HashMap;
use std::time::Duration;

use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use tokio::time::timeout;

use super::cards::{buttons, card};
use super::layout::{Page, Refresh, Section, Viewer};
use super::needs::{self, Need, Situation};
use super::strip;
use super::words::{Mark, ago, counted, marked, milliseconds};
use crate::admin::bounds::Bounds;
use crate::admin::json::Refusal;
use crate::admin::unconfigured::CONDITION as UNCONFIGURED;
use crate::admin::{Admin, Route, destinations, endpoints, gateways, quarantine, traffic};
use crate::api::{DestinationStep, DestinationView, EndpointView, QuarantinedView, TrafficReport};
use crate::store::filter::{Filter, Status};
use crate::store::{FailureCause, MessageView, Page as MessagesPage, TrafficRange};

/// Age from which a refused request or an unrouted message needs no attention any more.
const RECENT: SignedDuration = SignedDuration::from_hours(24);
/// Longest wait for the store. Without an answer, the page tells just that.
const READ_TIME_MAX: Duration = Duration::from_secs(3);
/// Maximum number of refused requests and of unrouted messages that are looked at.
const LATEST: usize = 100;
/// Maximum number of destinations whose latest dead letter is looked up.
const DEAD_MAX: usize = 10;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::page("/", Bounds::PAGE, show)]
}

async fn show(viewer: Viewer) -> Result<Response, Refusal> {
    let now = viewer.clock.now();
    let (writable, stored) = tokio::join!(
        viewer.readiness.check(&viewer.store, &viewer.clock),
        timeout(READ_TIME_MAX, Stored::read(&viewer, now)),
    );
    let (stored, read_error) = match stored {
        Ok(Ok(stored)) => (stored, None),
        Ok(Err(refusal)) => (Stored::default(), Some(refusal.detail().to_owned())),
        Err(_) => (
            Stored::default(),
            Some("its reads take too long".to_owned()),
        ),
    };
    let endpoints = endpoints::all(&viewer).endpoints;
    let is_readable = read_error.is_none();
    // Lines of their own have the destinations, if they could be read.
    let warnings = if is_readable {
        viewer.warnings.all_but(UNCONFIGURED)
    } else {
        viewer.warnings.all()
    };
    let situation = Situation {
        now,
        write_error: writable.err().map(|error| error.to_string()),
        read_error,
        destinations: &stored.destinations,
        dead: &stored.dead,
        endpoints: &endpoints,
        gateways: &gateways::all(&viewer).gateways,
        refused: &stored.refused,
        refused_is_cut: stored.refused_is_cut,
        unrouted: &stored.unrouted,
        warnings: &warnings,
    };
    let needs = needs::of(&situation);
    let (first, second) = needs::headline(&situation, &needs);
    let base = &*viewer.base_path;
    let content = html! {
        h1 { (first) }
        p.sub {
            (second)
            @if is_readable {
                " " (counted(stored.last_hour, "webhook", "webhooks")) " in the last hour."
            }
        }
        @if is_readable && is_new(&situation, &stored.traffic) { (first_steps(&endpoints)) }
        @if !needs.is_empty() {
            h2 { "Needs attention" }
            ul.needs { @for need in &needs { (line(base, need)) } }
        }
        @if is_readable {
            h2 { "Destinations" }
            (cards(base, now, &stored.destinations, &stored.traffic))
        }
        h2 { "Endpoints" }
        (table(now, &endpoints))
    };
    Ok(Page {
        section: Section::Overview,
        title: first.trim_end_matches('.').to_owned(),
        refresh: Refresh::Regularly,
        content,
    }
    .answer(&viewer)
    .await)
}

/// The content of the overview that comes from the store.
#[derive(Default)]
struct Stored {
    destinations: Vec<DestinationView>,
    /// The answer to the latest dead letter of each destination that has some.
    dead: Vec<(String, FailureCause)>,
    traffic: TrafficReport,
    /// Number of webhooks that were accepted in the last hour.
    last_hour: u64,
    refused: Vec<QuarantinedView>,
    /// Whether older ones need attention too.
    refused_is_cut: bool,
    unrouted: Vec<MessageView>,
}

impl Stored {
    async fn read(admin: &Admin, now: Timestamp) -> Result<Self, Refusal> {
        let (destinations, traffic, last_hour, refused, mut unrouted) = tokio::try_join!(
            destinations::all(admin),
            strip::traffic(admin, now),
            traffic::within(admin, last_hour(now)),
            quarantine::page(admin, None, LATEST),
            unrouted(admin),
        )?;
        let is_recent = |at| now.duration_since(at) < RECENT;
        let oldest = refused.requests.last();
        let is_oldest_recent = oldest.is_some_and(|oldest| is_recent(oldest.received_at));
        let refused_is_cut = refused.next.is_some() && is_oldest_recent;
        let mut refused = refused.requests;
        refused.retain(|request| is_recent(request.received_at));
        unrouted.retain(|message| is_recent(message.received_at));
        let steps = last_hour.endpoints.iter().flat_map(|one| &one.steps);
        Ok(Self {
            dead: latest_dead(admin, &destinations.destinations).await?,
            destinations: destinations.destinations,
            traffic,
            last_hour: steps.map(|step| step.accepted).sum(),
            refused,
            refused_is_cut,
            unrouted,
        })
    }
}

fn last_hour(now: Timestamp) -> TrafficRange {
    const HOUR: SignedDuration = SignedDuration::from_hours(1);
    TrafficRange {
        since: now - HOUR,
        until: now,
        step: HOUR.unsigned_abs(),
    }
}

/// The newest messages that no destination wanted.
async fn unrouted(admin: &Admin) -> Result<Vec<MessageView>, Refusal> {
    let filter = Filter {
        status: vec![Status::Unrouted],
        ..Filter::default()
    };
    let page = MessagesPage::new(None, LATEST);
    let found = admin
        .store
        .list_messages(&filter, admin.clock.now(), page)
        .await?;
    Ok(found.messages)
}

/// The answer to the latest dead letter of each destination that has some. A list of its messages
/// would pass those of all other destinations.
async fn latest_dead(
    admin: &Admin,
    destinations: &[DestinationView],
) -> Result<Vec<(String, FailureCause)>, Refusal> {
    let mut latest = Vec::new();
    let with_dead = destinations
        .iter()
        .filter(|destination| destination.dead > 0);
    for destination in with_dead.take(DEAD_MAX) {
        let name = &destination.name;
        let causes = admin.store.failures(name).await?.causes.into_iter();
        let dead = causes.filter(|cause| cause.status == Status::Dead);
        let cause = dead.max_by_key(|cause| cause.latest_at);
        latest.extend(cause.map(|cause| (name.clone(), cause)));
    }
    Ok(latest)
}

fn line(base: &str, need: &Need) -> Markup {
    html! {
        li {
            (need.mark.show(if need.mark == Mark::Bad { "problem" } else { "note" }))
            p {
                (marked(&need.what))
                @if !need.detail.is_empty() { br; span.muted { (marked(&need.detail)) } }
            }
            (buttons(base, &need.actions))
        }
    }
}

/// The cards of all destinations.
fn cards(
    base: &str,
    now: Timestamp,
    destinations: &[DestinationView],
    traffic: &TrafficReport,
) -> Markup {
    let steps: HashMap<&str, &[DestinationStep]> = traffic
        .destinations
        .iter()
        .map(|one| (one.name.as_str(), one.steps.as_slice()))
        .collect();
    html! {
        @if destinations.is_empty() {
            p.sub { "The configuration has no destination. Events are stored and not delivered." }
        }
        div.dests {
            @for destination in destinations {
                @let steps = steps.get(destination.name.as_str()).copied().unwrap_or_default();
                (card(base, now, destination, steps, traffic.since))
            }
        }
    }
}

fn table(now: Timestamp, endpoints: &[EndpointView]) -> Markup {
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th { "Endpoint" }
                        th { "Last webhook" }
                        th.num { "Delay from OpenAI" }
                        th.num.wide { "Clock" }
                        th.wide { "Secrets" }
                    }
                }
                tbody {
                    @for endpoint in endpoints {
                        tr {
                            td { (endpoint.name) }
                            td { @match endpoint.last_webhook_at {
                                Some(at) => (ago(now, at)),
                                None => span.muted { "none yet" },
                            } }
                            td.num { (endpoint.lateness_ms.map_or("–".into(), milliseconds)) }
                            td.num.wide { (endpoint.clock_ahead_ms.map_or("–".into(), clock)) }
                            td.wide { (secrets(now, endpoint)) }
                        }
                    }
                }
            }
        }
    }
}

/// The difference of the clocks. OpenAI's times are whole seconds, so a second is none.
fn clock(ahead_ms: i64) -> String {
    match ahead_ms {
        0..=1_000 => "right".into(),
        1_001.. => format!("{} ahead", milliseconds(ahead_ms)),
        _ => format!("{} behind", milliseconds(ahead_ms.saturating_neg())),
    }
}

fn secrets(now: Timestamp, endpoint: &EndpointView) -> Markup {
    html! {
        @for (place, secret) in endpoint.secrets.iter().enumerate() {
            @if place > 0 { " · " }
            code { (secret.fingerprint) } " "
            span.muted {
                @match secret.last_used_at {
                    Some(at) => { "used " (ago(now, at)) },
                    None => "not used since the start",
                }
            }
        }
    }
}

/// Whether no webhook has come yet.
fn is_new(situation: &Situation<'_>, traffic: &TrafficReport) -> bool {
    traffic.endpoints.is_empty()
        && situation
            .endpoints
            .iter()
            .all(|endpoint| endpoint.last_webhook_at.is_none())
}

/// How to get a first webhook.
fn first_steps(endpoints: &[EndpointView]) -> Markup {
    html! {
        h2 { "The first webhook" }
        ol.steps {
            li {
                "At OpenAI, under Settings → Webhooks of the project, create an endpoint with the \
                 public URL of this gateway and one of these paths:"
                @for endpoint in endpoints { " " code { "/webhooks/" (endpoint.name) } }
            }
            li { "Put the secret that OpenAI shows into the configuration, and reload it." }
            li {
                "To try it without OpenAI, run "
                code { "unwrapd trigger response.completed --to URL" }
                " with the same secret in " code { "OPENAI_WEBHOOK_SECRET" } "."
            }
        }
    }
}
