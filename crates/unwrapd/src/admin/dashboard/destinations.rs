//! `/destinations`: the state of each destination, its failures by cause, and its buttons.

use std::collections::HashMap;

use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use openai_webhooks::EventType;

use super::cards::{card, numbers, post, state, state_word};
use super::form::{Fields, see_other, segment, with_query};
use super::layout::{Page, Refresh, Section, Viewer};
use super::strip::{self, strip};
use super::words::{Mark, ago, counted, milliseconds};
use crate::admin::bounds::Bounds;
use crate::admin::json::Refusal;
use crate::admin::{Admin, Route, destinations};
use crate::api::{
    ConfiguredView, DestinationStep, DestinationView, TestOutcome, TestRequest, TestResult,
    TrafficReport,
};
use crate::observe::refusals::shown;
use crate::printable;
use crate::store::Failures;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::page("/destinations", Bounds::PAGE, list),
        Route::page("/destinations/{name}", Bounds::PAGE, show),
        Route::form(
            "/destinations/{name}/pause",
            Bounds::CHANGE_WITHOUT_BODY,
            pause,
        ),
        Route::form(
            "/destinations/{name}/resume",
            Bounds::CHANGE_WITHOUT_BODY,
            resume,
        ),
        Route::form("/destinations/{name}/test", Bounds::SEND, test),
    ]
}

async fn list(viewer: Viewer) -> Result<Response, Refusal> {
    let (all, traffic) = read(&viewer).await?;
    let base = &*viewer.base_path;
    let now = viewer.clock.now();
    let steps = by_name(&traffic);
    let content = html! {
        h1 { "Destinations" }
        @if all.is_empty() {
            p.empty { "The configuration has no destination: add a table " code { "[[destination]]" } "." }
        }
        div.dests {
            @for destination in &all {
                @let steps = steps.get(destination.name.as_str()).copied().unwrap_or_default();
                (card(base, now, destination, steps, traffic.since))
            }
        }
    };
    Ok(answer(&viewer, "Destinations", Refresh::Regularly, content).await)
}

async fn read(admin: &Admin) -> Result<(Vec<DestinationView>, TrafficReport), Refusal> {
    let traffic = strip::traffic(admin, admin.clock.now());
    let (all, traffic) = tokio::try_join!(destinations::all(admin), traffic)?;
    Ok((all.destinations, traffic))
}

fn by_name(traffic: &TrafficReport) -> HashMap<&str, &[DestinationStep]> {
    let all = traffic.destinations.iter();
    all.map(|one| (one.name.as_str(), one.steps.as_slice()))
        .collect()
}

async fn show(viewer: Viewer, Path(name): Path<String>) -> Result<Response, Refusal> {
    whole(&viewer, &name, None).await
}

async fn whole(viewer: &Viewer, name: &str, test: Option<TestResult>) -> Result<Response, Refusal> {
    let (all, traffic) = read(viewer).await?;
    let Some(destination) = all.into_iter().find(|destination| destination.name == name) else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!(
                "there is no destination `{}`, and nothing waits for one",
                shown(name)
            ),
        ));
    };
    let failures = viewer.store.failures(name).await?;
    let base = &*viewer.base_path;
    let now = viewer.clock.now();
    let steps = by_name(&traffic).get(name).copied().unwrap_or_default();
    let (mark, state) = state(now, &destination);
    let content = html! {
        div.head {
            div {
                h1 { (mark.show(state_word(mark))) " " (name) }
                p.sub { (state) @if let Some(configured) = &destination.configured {
                    " · " (configured.kind) " · " span.id { (printable::line(&configured.target)) }
                } }
            }
            (buttons(base, &destination))
        }
        @if let Some(test) = &test { (outcome(test)) }
        section.dest.single { (strip(steps, traffic.since)) (numbers(now, &destination)) }
        h2 { "Failures by cause" }
        (causes(base, now, name, &failures))
        @if let Some(configured) = &destination.configured {
            h2 { "Settings" }
            (settings(configured))
        } @else {
            p.notice {
                "This destination is not configured. What waits for it stays in the store. \
                 Configure it again, replay to another destination, or run "
                code { "unwrapd destinations give-up " (name) } "."
            }
        }
    };
    // The address of the result of a test cannot be read again.
    let refresh = if test.is_some() {
        Refresh::Never
    } else {
        Refresh::Regularly
    };
    Ok(answer(viewer, name, refresh, content).await)
}

fn buttons(base: &str, destination: &DestinationView) -> Markup {
    let path = format!("/destinations/{}", segment(&destination.name));
    let dead = format!("status:dead destination:{}", destination.name);
    html! {
        span.do {
            @if destination.dead > 0 {
                a.button.primary href={ (base) (with_query("/replay", &[("q", &dead)])) } {
                    "Replay " (counted(destination.dead, "dead letter", "dead letters")) "…"
                }
                a.button href={ (base) (with_query("/drop", &[("q", &dead)])) } { "Drop…" }
            }
            @if destination.is_configured { (post(base, &format!("{path}/test"), "Test")) }
            @if destination.paused_since.is_some() {
                (post(base, &format!("{path}/resume"), "Resume"))
            } @else if destination.is_configured {
                (post(base, &format!("{path}/pause"), "Pause"))
            }
        }
    }
}

fn outcome(test: &TestResult) -> Markup {
    let (mark, word) = match test.outcome {
        TestOutcome::Delivered => (Mark::Good, "delivered"),
        TestOutcome::Failed => (Mark::Bad, "failed"),
        TestOutcome::Refused => (Mark::Bad, "refused"),
    };
    let took = milliseconds(i64::try_from(test.took_ms).unwrap_or(i64::MAX));
    html! {
        p.notice role="status" {
            (mark.show(word)) " Test with a sample of " (test.event_type) ": "
            (printable::line(&test.answer)) " after " (took) "."
        }
    }
}

fn causes(base: &str, now: Timestamp, name: &str, failures: &Failures) -> Markup {
    html! {
        @if failures.causes.is_empty() {
            p.sub { "No waiting delivery has failed, and there is no dead letter." }
        } @else {
            div.scroll { table {
                thead { tr {
                    th { "Latest answer" } th.num { "Deliveries" } th { "State" } th.num.wide { "First" } th.num { "Latest" }
                } }
                tbody {
                    @for cause in &failures.causes {
                        @let filter = format!("status:{} destination:{name}", cause.status.as_str());
                        tr {
                            td {
                                a href={ (base) "/events/" (segment(&cause.example_webhook_id)) } {
                                    (printable::line(&cause.answer))
                                }
                            }
                            td.num { (cause.deliveries) }
                            td {
                                a href={ (base) (with_query("/events", &[("q", &filter)])) } {
                                    (cause.status.as_str())
                                }
                            }
                            td.num.wide.muted { (ago(now, cause.first_at)) }
                            td.num.muted { (ago(now, cause.latest_at)) }
                        }
                    }
                }
            } }
            @if !failures.is_exact { p.sub { "Only the latest 2,000 are counted here." } }
        }
    }
}

fn settings(configured: &ConfiguredView) -> Markup {
    let limits = &configured.limits;
    html! {
        dl.facts {
            dt { "Events" } dd { code { (configured.events.join(" ")) } }
            dt { "Attempts at once" } dd { (limits.concurrency) }
            dt { "Rate" } dd {
                @match limits.rate {
                    Some(rate) => { (rate) " a second" },
                    None => "no limit",
                }
            }
            dt { "Longest attempt" } dd { (limits.timeout_seconds) " s" }
            dt { "Given up after" } dd { (limits.deadline_hours) " h" }
        }
    }
}

async fn pause(viewer: Viewer, Path(name): Path<String>) -> Result<Response, Refusal> {
    switch(viewer, name, true).await
}

async fn resume(viewer: Viewer, Path(name): Path<String>) -> Result<Response, Refusal> {
    switch(viewer, name, false).await
}

async fn switch(viewer: Viewer, name: String, is_paused: bool) -> Result<Response, Refusal> {
    let path = format!("/destinations/{}", segment(&name));
    destinations::switch(Admin::clone(&viewer), name, is_paused).await?;
    Ok(see_other(&viewer, &path))
}

/// Sends a sample and shows the result at once: it is not stored.
async fn test(
    viewer: Viewer,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let fields = Fields::of_body(request).await?;
    let event_type = fields
        .get("type")
        .unwrap_or(EventType::ResponseCompleted.as_str());
    let wanted = TestRequest {
        event_type: Some(event_type.to_owned()),
    };
    let result = destinations::send_sample(&viewer, name.clone(), wanted).await?;
    whole(&viewer, &name, Some(result)).await
}

async fn answer(viewer: &Viewer, title: &str, refresh: Refresh, content: Markup) -> Response {
    Page {
        section: Section::Destinations,
        title: title.to_owned(),
        refresh,
        content,
    }
    .answer(viewer)
    .await
}
