//! `/events`: a list of messages, with the filter field and its views.

use std::time::Duration;

use axum::extract::FromRef as _;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};

use super::filter_text::{parse, with_status};
use super::form::{Fields, segment, with_query};
use super::layout::{Page, Refresh, Section, Viewer};
use super::words::{Mark, age, counted, number};
use crate::admin::bounds::Bounds;
use crate::admin::json::Refusal;
use crate::admin::messages::{self, Stored};
use crate::admin::{Admin, Route};
use crate::printable;
use crate::store::filter::{Filter, IdPart, Status};
use crate::store::{MessageCount, MessageView, Page as MessagesPage};

/// Number of messages on a page.
const PAGE_LENGTH: usize = 50;
/// Time of a search. A page is shown within 100 ms, and a longer search goes on with the next one.
const SEARCH_MAX: Duration = Duration::from_millis(50);
/// Maximum number of destinations that a line names.
const NAMED_MAX: usize = 3;
/// The views, and the status that each adds to the filter.
const VIEWS: [(&str, Option<Status>); 4] = [
    ("All", None),
    ("Waiting", Some(Status::Waiting)),
    ("Dead", Some(Status::Dead)),
    ("Not delivered", Some(Status::Unrouted)),
];

pub(super) fn routes() -> Vec<Route> {
    vec![Route::page("/events", Bounds::PAGE, show)]
}

async fn show(viewer: Viewer, fields: Fields) -> Result<Response, Refusal> {
    let stored = Stored::from_ref(&*viewer);
    let text = fields.get("q").unwrap_or_default().to_owned();
    let content = match parse(&text) {
        Ok(filter) => {
            let after = fields.number("after")?;
            let page = MessagesPage {
                time_max: SEARCH_MAX,
                ..MessagesPage::new(after, PAGE_LENGTH)
            };
            list(&viewer, &stored, &text, &filter, page).await?
        }
        Err(refusal) => html! {
            (field(&viewer.base_path, &text))
            p.problem role="alert" { (printable::line(refusal.detail())) }
        },
    };
    Ok(Page {
        section: Section::Events,
        title: if text.is_empty() {
            "Events".into()
        } else {
            format!("{text} · Events")
        },
        refresh: Refresh::Never,
        content: html! { h1 { "Events" } (content) },
    }
    .answer(&viewer)
    .await)
}

async fn list(
    admin: &Admin,
    stored: &Stored,
    text: &str,
    filter: &Filter,
    page: MessagesPage,
) -> Result<Markup, Refusal> {
    let base = &*admin.base_path;
    let now = admin.clock.now();
    let (found, counts) =
        tokio::join!(messages::list(stored, filter, page), counts(stored, filter),);
    let (found, Counts { count, of_views }) = (found?, counts?);
    let is_first = page.after.is_none();
    let is_cut = found.next.is_some() && found.messages.len() < PAGE_LENGTH;
    Ok(html! {
        (field(base, text))
        div.views {
            (views(base, text, filter, &of_views))
            // The script writes the state of the live stream here.
            @if is_first { span.live hidden data-live=(text) {} }
        }
        @if is_first { a.new hidden href={ (base) (with_query("/events", &[("q", text)])) } {} }
        @if found.messages.is_empty() {
            (nothing(base, text, is_first, found.next.is_some()))
        } @else {
            (table(base, now, &found.messages))
            @if is_cut {
                p.faint { "The search has ended early. It goes on with “Older”." }
            }
        }
        div.bulk {
            span { (match_count(&count)) }
            @if count.messages > 0 || !count.is_exact {
                @match for_replay(text, filter, &found.messages) {
                    Some(text) => a.button href={ (base) (with_query("/replay", &[("q", &text)])) } {
                        "Replay all that match…"
                    },
                    None => span.faint { "A replay needs a whole id, or no id" },
                }
            }
            @if !is_first {
                a href={ (base) (with_query("/events", &[("q", text)])) } { "Newest" }
            }
            @if let Some(next) = found.next {
                a rel="next" href={ (base) (with_query("/events", &[("q", text), ("after", &next.to_string())])) } {
                    "Older"
                }
            }
            span.faint.keys hidden { "/ filter · j k move · Enter open · r replay" }
        }
    })
}

/// The words that select these messages for a replay. `None`: they are those with a part of an id,
/// which a replay does not take.
fn for_replay(text: &str, filter: &Filter, found: &[MessageView]) -> Option<String> {
    let Some(part) = filter.id_part.as_ref().map(IdPart::as_str) else {
        return Some(text.to_owned());
    };
    let all = |is_it: fn(&MessageView, &str) -> bool| found.iter().all(|one| is_it(one, part));
    // A search finds either the messages with a whole id, or those with a part of one.
    let name = match found {
        [] => return None,
        _ if all(|one, part| one.webhook_id == part) => "id",
        _ if all(|one, part| one.resource.as_deref() == Some(part)) => "resource",
        _ => return None,
    };
    let words = text.split_whitespace().map(|word| match word {
        word if word == part => format!("{name}:{part}"),
        word => word.to_owned(),
    });
    Some(words.collect::<Vec<_>>().join(" "))
}

fn field(base: &str, text: &str) -> Markup {
    html! {
        form.filter role="search" action={ (base) "/events" } {
            input name="q" aria-label="Filter" value=(text) spellcheck="false" autocomplete="off"
                autocapitalize="off"
                placeholder="type:batch.* status:dead destination:app since:2h resp_abc";
            button { "Filter" }
        }
    }
}

/// Numbers of messages: of those that match the filter, and of each view.
struct Counts {
    count: MessageCount,
    of_views: [MessageCount; VIEWS.len()],
}

/// Counts at the same time, because each count may take the time of a search.
async fn counts(stored: &Stored, filter: &Filter) -> Result<Counts, Refusal> {
    let [all, waiting, dead, unrouted] = VIEWS.map(|(_, status)| Filter {
        status: status.into_iter().collect(),
        ..filter.clone()
    });
    let current = [&all, &waiting, &dead, &unrouted];
    let current = current.iter().position(|view| view.status == filter.status);
    let other = async {
        match current {
            None => messages::count(stored, filter).await.map(Some),
            Some(_) => Ok(None),
        }
    };
    let (all, waiting, dead, unrouted, other) = tokio::join!(
        messages::count(stored, &all),
        messages::count(stored, &waiting),
        messages::count(stored, &dead),
        messages::count(stored, &unrouted),
        other,
    );
    let of_views = [all?, waiting?, dead?, unrouted?];
    let count = other?.unwrap_or(of_views[current.unwrap_or_default()]);
    Ok(Counts { count, of_views })
}

/// The views with their counts.
fn views(base: &str, text: &str, filter: &Filter, counts: &[MessageCount]) -> Markup {
    html! {
        @for ((name, status), count) in VIEWS.into_iter().zip(counts) {
            @let is_current = filter.status == Vec::from_iter(status);
            @let path = with_query("/events", &[("q", &with_status(text, status))]);
            a href={ (base) (path) } aria-current=[is_current.then_some("page")] {
                (name) " " span.n { (shown(count)) }
            }
        }
    }
}

fn shown(count: &MessageCount) -> String {
    let more = if count.is_exact { "" } else { "+" };
    format!("{}{more}", number(count.messages))
}

/// A count that ended early may have found all.
fn match_count(count: &MessageCount) -> String {
    let matches = counted(count.messages, "message matches", "messages match");
    match (count.is_exact, count.messages) {
        (true, _) => matches,
        (false, 0) => "No match was found in the time of a count".into(),
        (false, _) => format!("At least {matches}"),
    }
}

fn nothing(base: &str, text: &str, is_first: bool, has_more: bool) -> Markup {
    html! {
        // The script goes on with the search.
        p.empty data-search[has_more] {
            @if has_more {
                "The search has found nothing so far. Continue with “Older”."
            } @else if !is_first {
                "There are no older events."
            } @else if text.is_empty() {
                "No event has arrived yet. "
                a href={ (base) "/" } { "How to get a first webhook" }
            } @else {
                "No event matches. "
                a href={ (base) "/events" } { "Show all events" }
            }
        }
    }
}

fn table(base: &str, now: Timestamp, messages: &[MessageView]) -> Markup {
    html! {
        div.scroll {
            table.rows {
                thead {
                    tr {
                        th { span.hide { "State" } }
                        th { "Type" }
                        th { "Resource" }
                        th.wide { "Destination" }
                        th.num.wide { "Attempts" }
                        th.num { "Arrived" }
                    }
                }
                tbody { @for message in messages { (row(base, now, message)) } }
            }
        }
    }
}

fn row(base: &str, now: Timestamp, message: &MessageView) -> Markup {
    let (mark, meaning) = state(message);
    let attempts = message
        .deliveries
        .iter()
        .map(|delivery| delivery.attempts)
        .max();
    html! {
        tr data-only=(only(message)) {
            td { (mark.show(meaning)) }
            td {
                a href={ (base) "/events/" (segment(&message.webhook_id)) } {
                    (event_type(message.event_type.as_deref()))
                }
            }
            td.id { (short_id(message.resource.as_deref().unwrap_or("–"))) }
            td.wide { (destinations(message)) }
            td.num.wide { @if let Some(attempts) = attempts { (attempts) } }
            td.num.muted { (age(now, message.received_at)) }
        }
    }
}

/// The filter that selects this message only. A webhook id is unique within one endpoint.
pub(super) fn only(message: &MessageView) -> String {
    format!("id:{} endpoint:{}", message.webhook_id, message.endpoint)
}

/// The status of the delivery that most needs an operator. Pruning deletes the deliveries together
/// with the body.
pub(super) fn state(message: &MessageView) -> (Mark, &'static str) {
    let statuses = message.deliveries.iter().map(|delivery| delivery.status);
    match Status::of_message(statuses) {
        Status::Unrouted if message.bytes.is_none() => (Mark::Neutral, "pruned"),
        Status::Unrouted => (Mark::Neutral, "not delivered"),
        status => (Mark::of(status), status.as_str()),
    }
}

fn destinations(message: &MessageView) -> Markup {
    let all = message
        .deliveries
        .iter()
        .map(|delivery| delivery.destination.as_str());
    let named = all.take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    let more = message.deliveries.len().saturating_sub(NAMED_MAX);
    html! {
        @if message.deliveries.is_empty() {
            span.muted {
                @if message.bytes.is_some() { "no destination subscribes" } @else { "pruned" }
            }
        } @else {
            (named) @if more > 0 { " and " (more) " more" }
        }
    }
}

/// The type that a body names. It is untrusted text.
pub(super) fn event_type(named: Option<&str>) -> String {
    match named {
        Some("") => "(empty type)".into(),
        Some(named) => short_id(named),
        None => "(no type)".into(),
    }
}

/// The text on one line, or its beginning if it is long.
pub(super) fn short_id(text: &str) -> String {
    const CHARACTERS_MAX: usize = 48;
    let text = printable::line(text);
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_ended_early_claims_no_more_than_it_found() {
        let text = |messages, is_exact| match_count(&MessageCount { messages, is_exact });
        assert_eq!(text(1, true), "1 message matches");
        assert_eq!(text(10_000, false), "At least 10,000 messages match");
        assert_eq!(text(37, false), "At least 37 messages match");
        assert_eq!(text(0, true), "0 messages match");
        assert_eq!(text(0, false), "No match was found in the time of a count");
    }
}
