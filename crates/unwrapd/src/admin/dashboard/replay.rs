//! `/replay`: the plan of a replay, and the button that runs it. `/drop` is the same for dropping dead
//! letters. The gateway carries out the run, also when the page is closed.

use std::time::Duration;

use axum::extract::{FromRef as _, Request};
use axum::response::Response;
use maud::{Markup, html};

use super::filter_text::parse;
use super::form::{Fields, see_other, segment, with_query};
use super::layout::{Page, Refresh, Section, Viewer};
use super::words::{clock, counted};
use crate::admin::bounds::Bounds;
use crate::admin::bulk::{self, BulkRequest};
use crate::admin::json::Refusal;
use crate::admin::messages::Stored;
use crate::admin::{Admin, Route, replay};
use crate::api::ReplayPlan;
use crate::printable;
use crate::store::BulkAction;
use crate::store::filter::{Filter, Status};
use crate::store::replay::AsOf;

/// Time after which the count of a plan ends. A person does not wait longer, and the run needs no
/// count.
const PLAN_TIME_MAX: Duration = Duration::from_secs(2);

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::page("/replay", Bounds::PAGE, show_replay),
        Route::form("/replay", Bounds::CHANGE_MUCH, run_replay),
        Route::page("/drop", Bounds::PAGE, show_drop),
        Route::form("/drop", Bounds::CHANGE_MUCH, run_drop),
    ]
}

async fn show_replay(viewer: Viewer, fields: Fields) -> Result<Response, Refusal> {
    let text = fields.get("q").unwrap_or_default();
    let to = fields.get("to");
    let filter = selected(text)?;
    let (plan, is_whole) = plan(&viewer, filter, to).await?;
    let base = &*viewer.base_path;
    let now = viewer.clock.now();
    let counts = plan.plan.counts;
    let names: Vec<String> = viewer
        .registry
        .all()
        .into_iter()
        .filter(|handle| handle.configured().is_some())
        .map(|handle| handle.name().to_owned())
        .collect();
    let content = html! {
        h1 {
            "Replay " (at_least(is_whole))
            (counted(counts.deliveries + counts.waiting, "delivery", "deliveries"))
        }
        p.sub {
            // The messages of waiting deliveries are not counted.
            @if counts.waiting == 0 && is_whole {
                "Of " (counted(counts.messages, "message", "messages")) ". "
            }
            (selection(base, text)) (rest(is_whole))
        }
        form.choice action={ (base) "/replay" } {
            input type="hidden" name="q" value=(text);
            label {
                "Deliver to "
                select name="to" {
                    option value="" { "the same destinations as before" }
                    @for name in &names {
                        option value=(name) selected[to == Some(name.as_str())] { (name) }
                    }
                }
            }
            button { "Count again" }
        }
        dl.facts {
            @for (destination, deliveries) in &plan.plan.destinations {
                dt { (destination) }
                dd { (at_least(is_whole)) (counted(*deliveries, "delivery", "deliveries")) }
            }
            @if let (Some(oldest), Some(newest), true) = (plan.plan.oldest, plan.plan.newest, is_whole) {
                dt { "Arrived" }
                dd {
                    (clock(now, oldest))
                    @if newest.as_second() != oldest.as_second() { " to " (clock(now, newest)) }
                }
            }
        }
        ul.plain { @for note in notes(&plan) { li { (note) } } }
        @if counts.deliveries + counts.waiting > 0 || !is_whole {
            (run_form(base, "/replay", text, to, &plan, is_whole, "Replay"))
        } @else {
            p.empty { "Nothing can be replayed." }
        }
    };
    Ok(answer(&viewer, "Replay", content).await)
}

/// The filter of a run, which takes whole ids only.
fn selected(text: &str) -> Result<Filter, Refusal> {
    let filter = parse(text)?;
    if filter.id_part.is_none() {
        return Ok(filter);
    }
    Err(Refusal::bad(
        "a replay takes whole ids only: write `id:`, `event:` or `resource:` in front of the id",
    ))
}

/// The plan, and whether it counts all messages.
async fn plan(
    admin: &Admin,
    filter: Filter,
    to: Option<&str>,
) -> Result<(ReplayPlan, bool), Refusal> {
    replay::plan_within(
        &Stored::from_ref(admin),
        filter,
        to.map(str::to_owned),
        PLAN_TIME_MAX,
    )
    .await
}

fn at_least(is_whole: bool) -> &'static str {
    if is_whole { "" } else { "at least " }
}

/// Explains a count that is not whole.
fn rest(is_whole: bool) -> String {
    if is_whole {
        return String::new();
    }
    format!(
        " The count ended after {} seconds. The run goes on to the last event that matches.",
        PLAN_TIME_MAX.as_secs()
    )
}

/// Notes for an operator before a replay, one sentence each.
fn notes(plan: &ReplayPlan) -> Vec<String> {
    let counts = plan.plan.counts;
    let mut notes = Vec::new();
    if counts.waiting > 0 {
        notes.push(format!(
            "{} already and will be attempted at once.",
            counted(counts.waiting, "delivery waits", "deliveries wait")
        ));
    }
    if counts.calls > 0 {
        notes.push(format!(
            "{} of an incoming call: the caller has hung up since.",
            counted(counts.calls, "delivery is", "deliveries are")
        ));
    }
    if counts.gone > 0 {
        notes.push(format!(
            "{} left out, because pruning has deleted the body.",
            counted(counts.gone, "delivery is", "deliveries are")
        ));
    }
    if plan.plan.unrouted > 0 {
        notes.push(format!(
            "{} no destination. Choose one above.",
            counted(plan.plan.unrouted, "event has", "events have")
        ));
    }
    for name in &plan.unconfigured {
        notes.push(format!(
            "{name} is not configured: deliveries to it wait until it is. Choose another \
             destination above."
        ));
    }
    notes
}

async fn show_drop(viewer: Viewer, fields: Fields) -> Result<Response, Refusal> {
    let text = fields.get("q").unwrap_or_default();
    let filter = dead(selected(text)?)?;
    let (plan, is_whole) = plan(&viewer, filter, None).await?;
    let dead = plan.plan.counts.deliveries + plan.plan.counts.gone;
    let base = &*viewer.base_path;
    let content = html! {
        h1 { "Drop " (at_least(is_whole)) (counted(dead, "dead letter", "dead letters")) "?" }
        p.sub {
            "Dropped dead letters stay visible until they are pruned, and are not replayed with the \
             others. " (selection(base, text)) (rest(is_whole))
        }
        @if dead > 0 || !is_whole {
            (run_form(base, "/drop", text, None, &plan, is_whole, "Drop"))
        } @else {
            p.empty { "No dead letter matches." }
        }
    };
    Ok(answer(&viewer, "Drop dead letters", content).await)
}

/// A filter for dead letters, which is what can be dropped.
fn dead(mut filter: Filter) -> Result<Filter, Refusal> {
    if filter.status.is_empty() {
        filter.status = vec![Status::Dead];
    }
    if filter.status == [Status::Dead] {
        return Ok(filter);
    }
    Err(Refusal::bad(
        "only dead letters can be dropped: use `status:dead`",
    ))
}

async fn answer(viewer: &Viewer, title: &str, content: Markup) -> Response {
    Page {
        section: Section::Events,
        title: title.to_owned(),
        refresh: Refresh::Never,
        content,
    }
    .answer(viewer)
    .await
}

fn selection(base: &str, text: &str) -> Markup {
    let path = with_query("/events", &[("q", text)]);
    html! {
        @if text.is_empty() {
            "The filter is empty, so all stored events match."
        } @else {
            "The filter is " a href={ (base) (path) } { code { (printable::line(text)) } } "."
        }
    }
}

/// The form that begins a run. The moment of the plan makes it select the same messages.
fn run_form(
    base: &str,
    path: &str,
    text: &str,
    to: Option<&str>,
    plan: &ReplayPlan,
    is_whole: bool,
    verb: &str,
) -> Markup {
    let (as_of, counts) = (plan.plan.as_of, plan.plan.counts);
    // A drop needs no bodies. A replay has waiting deliveries attempted at once.
    let more = if verb == "Drop" {
        counts.gone
    } else {
        counts.waiting
    };
    html! {
        form method="post" action={ (base) (path) } {
            input type="hidden" name="q" value=(text);
            @if let Some(to) = to { input type="hidden" name="to" value=(to); }
            input type="hidden" name="at" value=(as_of.at);
            input type="hidden" name="newest" value=(as_of.newest);
            @if is_whole {
                input type="hidden" name="planned" value=(counts.deliveries + more);
            }
            // A form that is sent twice is one run.
            input type="hidden" name="token" value={ "page-" (uuid::Uuid::now_v7().simple()) };
            button.primary { (verb) }
            " "
            a.button href={ (base) (with_query("/events", &[("q", text)])) } { "Back" }
        }
    }
}

async fn run_replay(viewer: Viewer, request: Request) -> Result<Response, Refusal> {
    let fields = Fields::of_body(request).await?;
    let text = fields.get("q").unwrap_or_default();
    let to = fields.get("to").map(str::to_owned);
    start(&viewer, &fields, BulkAction::Replay, selected(text)?, to).await
}

async fn run_drop(viewer: Viewer, request: Request) -> Result<Response, Refusal> {
    let fields = Fields::of_body(request).await?;
    let filter = dead(selected(fields.get("q").unwrap_or_default())?)?;
    start(&viewer, &fields, BulkAction::Drop, filter, None).await
}

async fn start(
    admin: &Admin,
    fields: &Fields,
    action: BulkAction,
    filter: Filter,
    to: Option<String>,
) -> Result<Response, Refusal> {
    let unusable = || Refusal::bad("the form is incomplete: open the page of the plan again");
    let token = fields.get("token").ok_or_else(unusable)?;
    let at = fields.get("at").ok_or_else(unusable)?;
    let planned = fields.number("planned")?;
    let run = BulkRequest {
        action,
        filter,
        to,
        token: Some(token.parse().map_err(Refusal::bad)?),
        as_of: Some(AsOf {
            at: at.parse().map_err(Refusal::bad)?,
            newest: fields.number("newest")?.ok_or_else(unusable)?,
        }),
        planned: planned.and_then(|planned| u64::try_from(planned).ok()),
    };
    bulk::start(admin, run).await?;
    Ok(see_other(admin, &format!("/runs/{}", segment(token))))
}
