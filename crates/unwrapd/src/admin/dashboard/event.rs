//! `/events/{id}`: the journey of a message, its body, its ids, and other events of its resource.

use axum::extract::{FromRef as _, Path};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use maud::{Markup, html};

use super::events::{event_type, only, short_id, state};
use super::form::{Fields, segment, with_query};
use super::journey::journey;
use super::layout::{Page, Refresh, Section, Viewer};
use super::words::{Mark, age, clock};
use crate::admin::bounds::Bounds;
use crate::admin::json::Refusal;
use crate::admin::messages::{self, Stored};
use crate::admin::{Route, payload as content};
use crate::api::MessageDetail;
use crate::message::Origin;
use crate::printable;
use crate::store::SHOWN_MAX;

/// Most bytes of a body that a page shows. The whole body can be downloaded.
const BODY_SHOWN_MAX: usize = 64 * 1024;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::page("/events/{id}", Bounds::PAGE, show),
        Route::page("/events/{id}/body", Bounds::PAGE, body),
    ]
}

async fn show(viewer: Viewer, Path(id): Path<String>, fields: Fields) -> Result<Response, Refusal> {
    let stored = Stored::from_ref(&*viewer);
    let shows_payload = viewer.rights.may_see_payloads;
    let found = messages::details(&stored, &id, shows_payload, viewer.rights).await?;
    let is_exact = fields.get("body") == Some("exact");
    let now = viewer.clock.now();
    let first = found.messages.first().map(|first| &first.message);
    let title = event_type(first.and_then(|first| first.event_type.as_deref()));
    let content = html! {
        @if found.messages.len() == SHOWN_MAX {
            p.notice {
                "Only the newest " (SHOWN_MAX) " are shown. "
                a href={ (viewer.base_path) (with_query("/events", &[("q", &format!("resource:{id}"))])) } {
                    "All events of this resource"
                }
            }
        }
        @for (place, detail) in found.messages.iter().enumerate() {
            @if place > 0 { hr; }
            (whole(&viewer.base_path, now, detail, shows_payload, is_exact))
        }
    };
    Ok(Page {
        section: Section::Events,
        title,
        refresh: Refresh::Regularly,
        content,
    }
    .answer(&viewer)
    .await)
}

fn whole(
    base: &str,
    now: Timestamp,
    detail: &MessageDetail,
    shows_payload: bool,
    is_exact: bool,
) -> Markup {
    let message = &detail.message;
    let (mark, meaning) = state(message);
    html! {
        div.head {
            div {
                h1 { (mark.show(meaning)) " " (event_type(message.event_type.as_deref())) }
                p.sub {
                    @if let Some(resource) = &message.resource {
                        span.id { (short_id(resource)) } " · "
                    }
                    (message.endpoint) " · " (meaning)
                    @if message.origin == Origin::Gateway { " · made by this gateway" }
                }
            }
            span.do {
                a.button.primary href={ (base) (with_query("/replay", &[("q", &only(message))])) } {
                    "Replay…"
                }
            }
        }
        @if let Some(oddity) = &detail.oddity {
            p.notice {
                (Mark::Waiting.show("note")) " "
                "This version cannot read the body as an event of its type: " (oddity)
                ". It is delivered all the same."
            }
        }
        div.two {
            section {
                h2 { "Journey" }
                (journey(now, detail, shows_payload))
            }
            section {
                h2 { "Body" }
                (payload(base, detail, shows_payload, is_exact))
                h2 { "Ids" }
                dl.facts {
                    dt { "webhook-id" } dd.id { (printable::line(&message.webhook_id)) }
                    @if let Some(event_id) = &detail.event_id {
                        dt { "event" } dd.id { (printable::line(event_id)) }
                    }
                    dt { "webhook-timestamp" }
                    dd { (message.sent_at.as_second()) " (" (clock(now, message.sent_at)) ")" }
                }
                h2 { "Other events of this resource" }
                (siblings(base, now, detail))
                @if message.bytes.is_some() && shows_payload {
                    h2 { "Send it by hand" }
                    pre.body.wide-lines tabindex="0" data-copy="" {
                        "unwrapd events show " (argument(&message.webhook_id))
                        " --payload > event.json\n"
                        "unwrapd sign event.json --id " (argument(&message.webhook_id))
                        " > headers.txt\n"
                        "curl -i -H 'content-type: application/json' -H @headers.txt \\\n"
                        "  --data-binary @event.json URL\n"
                    }
                }
            }
        }
    }
}

fn payload(base: &str, detail: &MessageDetail, shows_payload: bool, is_exact: bool) -> Markup {
    let message = &detail.message;
    let path = format!("{base}/events/{}", segment(&message.webhook_id));
    html! {
        @if message.bytes.is_none() {
            p.sub { "The body was deleted by pruning." }
        } @else if !shows_payload {
            p.sub { "Your token does not show bodies." }
        } @else {
            div.tabs {
                a href=(path) aria-current=[(!is_exact).then_some("true")] { "Pretty" }
                a href={ (path) "?body=exact" } aria-current=[is_exact.then_some("true")] {
                    "Exact bytes"
                }
                a href={ (path) (with_query("/body", &[("endpoint", &message.endpoint)])) } download {
                    "Download"
                }
            }
            @match (&detail.payload, &detail.payload_base64) {
                (Some(text), _) => pre.body tabindex="0" data-copy="" {
                    (shown(text, is_exact))
                },
                (None, Some(base64)) => {
                    p.sub { "The body is not UTF-8. In base64:" }
                    pre.body tabindex="0" data-copy="" { (cut(base64.clone())) }
                },
                (None, None) => p.sub { "The body is too large to show. Download it." },
            }
        }
    }
}

/// The body, indented if it is JSON. It is untrusted text.
fn shown(text: &str, is_exact: bool) -> String {
    if is_exact || text.len() > BODY_SHOWN_MAX {
        return cut(printable::lines(text).into_owned());
    }
    // Numbers and the order of keys must be shown as they came.
    let pretty = serde_json::from_str::<&serde_json::value::RawValue>(text)
        .ok()
        .map(|raw| super::pretty::pretty(raw.get()));
    cut(printable::lines(pretty.as_deref().unwrap_or(text)).into_owned())
}

fn cut(mut text: String) -> String {
    if text.len() > BODY_SHOWN_MAX {
        let mut end = BODY_SHOWN_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("\n… the rest is in the download");
    }
    text
}

fn siblings(base: &str, now: Timestamp, detail: &MessageDetail) -> Markup {
    html! {
        @if detail.siblings.is_empty() {
            p.sub { "None." }
        } @else {
            table {
                tbody {
                    @for sibling in &detail.siblings {
                        tr {
                            td {
                                (Mark::of(sibling.status).show(sibling.status.as_str())) " "
                                a href={ (base) "/events/" (segment(&sibling.webhook_id)) } {
                                    (event_type(sibling.event_type.as_deref()))
                                }
                            }
                            td.num.muted { (age(now, sibling.received_at)) }
                        }
                    }
                }
            }
        }
    }
}

/// A text as one argument for a shell. The sender chose a webhook id, which may be a command.
fn argument(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !text.starts_with('-') && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The exact bytes of the body, as a file.
async fn body(viewer: Viewer, Path(id): Path<String>, fields: Fields) -> Result<Response, Refusal> {
    content::is_wanted(Some("payload=true"), viewer.rights)?;
    let endpoint = fields.get("endpoint");
    let found = viewer.store.get_message(&id, true).await?;
    // Two endpoints may have a message with the same id.
    let payload = found
        .into_iter()
        .filter(|message| endpoint.is_none_or(|endpoint| message.endpoint == endpoint))
        .find_map(|message| message.payload);
    let Some(payload) = payload else {
        return Err(Refusal::new(
            axum::http::StatusCode::NOT_FOUND,
            "no stored message has this id, or its body was deleted",
        ));
    };
    // The text is of strangers: no browser may show it as a page.
    let headers = [
        (CONTENT_TYPE, "application/octet-stream"),
        (CONTENT_DISPOSITION, "attachment; filename=\"event.json\""),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, payload).into_response())
}
