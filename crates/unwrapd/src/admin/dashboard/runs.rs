//! `/runs`: replays and drops that the gateway carries out, with their progress.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};

use super::cards::post;
use super::filter_text::text;
use super::form::{see_other, segment, with_query};
use super::layout::{Page, Refresh, Section, Viewer};
use super::words::{Mark, ago, clock, counted, number};
use crate::admin::bounds::Bounds;
use crate::admin::json::Refusal;
use crate::admin::{Route, bulk};
use crate::api::BulkView;
use crate::printable;
use crate::store::replay::Token;
use crate::store::{BulkAction, BulkState};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::page("/runs", Bounds::PAGE, list),
        Route::page("/runs/{token}", Bounds::PAGE, show),
        Route::form("/runs/{token}/stop", Bounds::CHANGE_WITHOUT_BODY, stop),
    ]
}

async fn list(viewer: Viewer) -> Result<Response, Refusal> {
    let runs = bulk::list(&viewer).await?.runs;
    let base = &*viewer.base_path;
    let now = viewer.clock.now();
    let content = html! {
        h1 { "Replays" }
        @if runs.is_empty() {
            p.empty { "No replay has begun yet. Select events and choose “Replay all that match…”." }
        } @else {
            div.scroll { table {
                thead { tr { th { span.hide { "State" } } th { "Run" } th.num { "Done" } th.num { "Began" } } }
                tbody {
                    @for run in &runs {
                        tr {
                            td { (mark(run)) }
                            td { a href={ (base) "/runs/" (segment(run.token.as_str())) } { (title(run)) } }
                            td.num { (progress(run)) }
                            td.num.muted { (ago(now, run.began_at)) }
                        }
                    }
                }
            } }
        }
    };
    Ok(answer(&viewer, "Replays", Refresh::Regularly, content).await)
}

async fn show(viewer: Viewer, Path(token): Path<String>) -> Result<Response, Refusal> {
    let run = bulk::show(&viewer, &read(&token)?).await?;
    let base = &*viewer.base_path;
    let is_running = run.state == BulkState::Running;
    let refresh = if is_running {
        Refresh::Regularly
    } else {
        Refresh::Never
    };
    let content = whole(base, viewer.clock.now(), &run);
    Ok(answer(&viewer, &title(&run), refresh, content).await)
}

fn whole(base: &str, now: Timestamp, run: &BulkView) -> Markup {
    let done = run.done();
    let largest = run.planned.unwrap_or_default().max(done).max(1);
    let filter = text(&run.filter);
    let path = format!("/runs/{}", segment(run.token.as_str()));
    html! {
        div.head {
            h1 { (mark(run)) " " (title(run)) ": " (progress(run)) }
            @if run.state == BulkState::Running {
                span.do { (post(base, &format!("{path}/stop"), "Stop")) }
            }
        }
        @if run.planned.is_some() || run.state != BulkState::Running {
            progress max=(largest) value=(done) aria-label="Progress" {}
        }
        p.sub {
            (state(run)) " Began " (clock(now, run.began_at))
            @if let Some(ended_at) = run.ended_at { ", ended " (clock(now, ended_at)) }
            "."
            @if run.state == BulkState::Running {
                " The gateway goes on when this page is closed."
            }
        }
        dl.facts {
            dt { "Messages" } dd { (run.counts.messages) }
            @if run.counts.waiting > 0 {
                dt { "Waiting already" } dd { (run.counts.waiting) }
            }
            @if run.counts.gone > 0 {
                dt { "Body deleted" } dd { (run.counts.gone) }
            }
            @if let Some(to) = &run.to { dt { "Delivered to" } dd { (to) } }
        }
        p {
            "Filter: "
            a href={ (base) (with_query("/events", &[("q", &filter)])) } {
                @if filter.is_empty() { "all events" } @else { code { (printable::line(&filter)) } }
            }
            " · " a href={ (base) "/runs" } { "All replays" }
        }
    }
}

fn title(run: &BulkView) -> String {
    match (run.action, run.planned) {
        (BulkAction::Replay, Some(planned)) => {
            format!("Replay of {}", counted(planned, "delivery", "deliveries"))
        }
        (BulkAction::Replay, None) => "Replay".into(),
        (BulkAction::Drop, Some(planned)) => {
            format!(
                "Drop of {}",
                counted(planned, "dead letter", "dead letters")
            )
        }
        (BulkAction::Drop, None) => "Drop of dead letters".into(),
    }
}

fn progress(run: &BulkView) -> String {
    match run.planned {
        Some(planned) => format!(
            "{} of {}",
            number(run.done()),
            number(planned.max(run.done()))
        ),
        None => number(run.done()),
    }
}

fn read(token: &str) -> Result<Token, Refusal> {
    token
        .parse()
        .map_err(|_| Refusal::new(StatusCode::NOT_FOUND, "no run has this token"))
}

fn mark(run: &BulkView) -> Markup {
    let (mark, word) = match run.state {
        BulkState::Running => (Mark::Waiting, "running"),
        BulkState::Done => (Mark::Good, "done"),
        BulkState::Stopped => (Mark::Neutral, "stopped"),
        BulkState::Failed => (Mark::Bad, "failed"),
    };
    mark.show(word)
}

fn state(run: &BulkView) -> String {
    match (run.state, run.reason.as_deref()) {
        (BulkState::Running, Some(reason)) => format!("Running; it waits: {reason}."),
        (BulkState::Running, None) => "Running.".into(),
        (BulkState::Done, _) => "Done.".into(),
        (BulkState::Stopped, _) => "Stopped. What was done stays done.".into(),
        (BulkState::Failed, reason) => {
            format!("Failed: {}.", reason.unwrap_or("no reason is known"))
        }
    }
}

async fn stop(viewer: Viewer, Path(token): Path<String>) -> Result<Response, Refusal> {
    bulk::stop(&viewer, &read(&token)?).await?;
    Ok(see_other(&viewer, &format!("/runs/{}", segment(&token))))
}

async fn answer(viewer: &Viewer, title: &str, refresh: Refresh, content: Markup) -> Response {
    Page {
        section: Section::Events,
        title: title.to_owned(),
        refresh,
        content,
    }
    .answer(viewer)
    .await
}
