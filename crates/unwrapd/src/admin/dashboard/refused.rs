//! `/refused`: the requests that could not be verified, each with its cause.

use axum::extract::{Path, Request};
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};

use super::cards::post;
use super::form::{Fields, see_other, with_query};
use super::layout::{Page, Refresh, Section, Viewer};
use super::needs::sentence;
use super::words::{Mark, ago, clock, counted, marked, size};
use crate::admin::bounds::Bounds;
use crate::admin::json::Refusal;
use crate::admin::{Admin, Route, quarantine};
use crate::api::{QuarantinedDetail, QuarantinedView};
use crate::printable;
use crate::quarantine::RetryQuarantinedResult;

/// Number of requests on a page.
const PAGE_LENGTH: usize = 50;
/// Maximum number of requests that are counted. The quarantine has fewer.
const COUNTED_MAX: u64 = 10_000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::page("/refused", Bounds::PAGE, list),
        Route::page("/refused/{id}", Bounds::PAGE, show),
        Route::form("/refused/retry", Bounds::CHANGE_MUCH, retry),
        Route::page("/refused/drop", Bounds::PAGE, ask_drop),
        Route::form("/refused/drop", Bounds::CHANGE_MUCH, drop_all),
        Route::form("/refused/{id}/retry", Bounds::CHANGE_MUCH, retry_one),
        Route::page("/refused/{id}/drop", Bounds::PAGE, ask_drop_one),
        Route::form("/refused/{id}/drop", Bounds::CHANGE_MUCH, drop_one),
    ]
}

/// Number of requests in the quarantine.
pub(super) async fn count(admin: &Admin) -> Result<u64, Refusal> {
    Ok(admin.store.count_quarantined(COUNTED_MAX).await?)
}

async fn list(viewer: Viewer, fields: Fields) -> Result<Response, Refusal> {
    page(&viewer, fields.number("after")?, None).await
}

async fn page(
    viewer: &Viewer,
    after: Option<i64>,
    retried: Option<RetryQuarantinedResult>,
) -> Result<Response, Refusal> {
    let found = quarantine::page(viewer, after, PAGE_LENGTH).await?;
    let base = &*viewer.base_path;
    let now = viewer.clock.now();
    let content = html! {
        div.head {
            div {
                h1 { "Refused" }
                p.sub {
                    "Requests that could not be verified are stored for a while, and never delivered. \
                     Correct the cause, then verify them again."
                }
            }
            @if !found.requests.is_empty() {
                span.do {
                    (post(base, "/refused/retry", "Verify all again"))
                    a.button href={ (base) "/refused/drop" } { "Drop all…" }
                }
            }
        }
        @if let Some(retried) = &retried { (result(retried)) }
        @if found.requests.is_empty() {
            p.empty { "No request was refused." }
        } @else {
            (table(base, now, &found.requests))
            div.bulk {
                span { (counted(found.total, "request", "requests")) }
                @if after.is_some() { a href={ (base) "/refused" } { "Newest" } }
                @if let Some(next) = found.next {
                    a rel="next" href={ (base) (with_query("/refused", &[("after", &next.to_string())])) } {
                        "Older"
                    }
                }
            }
        }
    };
    Ok(answer(viewer, "Refused", content).await)
}

fn table(base: &str, now: Timestamp, requests: &[QuarantinedView]) -> Markup {
    html! {
        div.scroll {
            table.rows {
                thead { tr {
                    th { "Cause" } th { "Endpoint" } th.wide { "Webhook id" }
                    th.num.wide { "Body" } th.num { "Arrived" }
                } }
                tbody {
                    @for request in requests {
                        tr {
                            td {
                                a href={ (base) "/refused/" (request.id) } {
                                    (marked(&sentence(request.cause.as_deref().unwrap_or(&request.reason))))
                                }
                            }
                            td { (request.endpoint) }
                            td.id.wide {
                                @if let Some(id) = &request.webhook_id { (super::events::short_id(id)) }
                            }
                            td.num.wide.muted { @if let Some(bytes) = request.size { (size(bytes)) } }
                            td.num.muted { (ago(now, request.received_at)) }
                        }
                    }
                }
            }
        }
    }
}

fn result(retried: &RetryQuarantinedResult) -> Markup {
    let parts = [
        (retried.accepted, "accepted"),
        (retried.duplicates, "known already"),
        (retried.unproven, "still not verified"),
        (retried.too_old, "too old to be accepted"),
        (retried.without_body, "stored without a body"),
    ];
    let named: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let mark = if retried.accepted > 0 {
        Mark::Good
    } else {
        Mark::Neutral
    };
    html! {
        p.notice role="status" {
            (mark.show("result")) " "
            @if named.is_empty() { "Nothing was left to verify." } @else { (named.join(", ")) "." }
        }
    }
}

async fn show(viewer: Viewer, Path(id): Path<i64>) -> Result<Response, Refusal> {
    let request =
        quarantine::one(&viewer, id, viewer.rights.may_see_payloads, viewer.rights).await?;
    let base = &*viewer.base_path;
    let content = whole(
        base,
        viewer.clock.now(),
        &request,
        viewer.rights.may_see_payloads,
    );
    Ok(answer(&viewer, "Refused request", content).await)
}

fn whole(base: &str, now: Timestamp, request: &QuarantinedDetail, shows_body: bool) -> Markup {
    let path = format!("/refused/{}", request.id);
    html! {
        div.head {
            div {
                h1 { "Refused request" }
                p.sub {
                    (request.endpoint) " · " (clock(now, request.received_at)) " · "
                    (marked(&request.reason))
                }
            }
            span.do {
                @if request.has_body { (post(base, &format!("{path}/retry"), "Verify again")) }
                a.button href={ (base) (path) "/drop" } { "Drop…" }
            }
        }
        @if let Some(cause) = &request.cause { p.notice { (marked(&sentence(cause))) } }
        div.two {
            section {
                h2 { "Headers" }
                @match request.headers.as_deref() {
                    None => p.sub { "Your token does not show headers." },
                    Some([]) => p.sub { "The request had no header of a webhook." },
                    Some(headers) => dl.facts {
                        @for (name, value) in headers {
                            dt { (name) } dd.id { (printable::line(value)) }
                        }
                    },
                }
            }
            section {
                h2 { "Body" }
                @match (&request.payload, &request.payload_base64) {
                    _ if !request.has_body => p.sub { "The body was not stored, so the request cannot be verified." },
                    _ if !shows_body => p.sub { "Your token does not show bodies." },
                    (Some(text), _) => pre.body tabindex="0" data-copy="" { (printable::lines(text)) },
                    (None, Some(base64)) => {
                        p.sub { "The body is not UTF-8. In base64:" }
                        pre.body tabindex="0" data-copy="" { (base64) }
                    },
                    (None, None) => p.sub { "The body is empty." },
                }
            }
        }
    }
}

async fn retry(viewer: Viewer) -> Result<Response, Refusal> {
    let retried = viewer.quarantine.retry(None).await?;
    page(&viewer, None, Some(retried)).await
}

async fn retry_one(viewer: Viewer, Path(id): Path<i64>) -> Result<Response, Refusal> {
    let retried = viewer.quarantine.retry(Some(id)).await?;
    page(&viewer, None, Some(retried)).await
}

/// Asks before a request is dropped.
async fn ask_drop_one(viewer: Viewer, Path(id): Path<i64>) -> Result<Response, Refusal> {
    quarantine::one(&viewer, id, false, viewer.rights).await?;
    let base = &*viewer.base_path;
    let path = format!("/refused/{id}");
    let content = html! {
        h1 { "Drop this refused request?" }
        p.sub { "A dropped request cannot be verified or seen any more." }
        form method="post" action={ (base) (path) "/drop" } {
            button.primary { "Drop" } " "
            a.button href={ (base) (path) } { "Back" }
        }
    };
    Ok(answer(&viewer, "Drop refused request", content).await)
}

async fn drop_one(viewer: Viewer, Path(id): Path<i64>) -> Result<Response, Refusal> {
    viewer.store.delete_quarantined(id..=id).await?;
    Ok(see_other(&viewer, "/refused"))
}

/// Asks before all are dropped. Requests that arrive later stay.
async fn ask_drop(viewer: Viewer) -> Result<Response, Refusal> {
    let found = quarantine::page(&viewer, None, 1).await?;
    let base = &*viewer.base_path;
    let content = html! {
        h1 { "Drop " (counted(found.total, "refused request", "refused requests")) "?" }
        p.sub { "Dropped requests cannot be verified or seen any more." }
        form method="post" action={ (base) "/refused/drop" } {
            @if let Some(newest) = found.requests.first() {
                input type="hidden" name="up_to" value=(newest.id);
            }
            button.primary { "Drop" } " "
            a.button href={ (base) "/refused" } { "Back" }
        }
    };
    Ok(answer(&viewer, "Drop refused requests", content).await)
}

async fn drop_all(viewer: Viewer, request: Request) -> Result<Response, Refusal> {
    let fields = Fields::of_body(request).await?;
    if let Some(newest) = fields.number("up_to")? {
        viewer.store.delete_quarantined(1..=newest).await?;
    }
    Ok(see_other(&viewer, "/refused"))
}

async fn answer(viewer: &Viewer, title: &str, content: Markup) -> Response {
    Page {
        section: Section::Refused,
        title: title.to_owned(),
        refresh: Refresh::Never,
        content,
    }
    .answer(viewer)
    .await
}
