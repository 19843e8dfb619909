//! Parts that several pages show: the state of a destination, its card, and its buttons.

use jiff::Timestamp;
use maud::{Markup, html};

use super::form::segment;
use super::needs::{Action, down_since};
use super::strip::strip;
use super::words::{Mark, age, ago, from_now, number};
use crate::api::{CircuitState, DestinationStep, DestinationView};

/// The buttons of a line.
pub(super) fn buttons(base: &str, actions: &[Action]) -> Markup {
    html! {
        span.do {
            @for action in actions {
                @match action {
                    Action::Open(text, path) => { a.button href={ (base) (path) } { (text) } },
                    Action::Post(text, path) => (post(base, path, text)),
                }
            }
        }
    }
}

/// A button that changes something at once.
pub(super) fn post(base: &str, path: &str, text: &str) -> Markup {
    html! {
        form method="post" action={ (base) (path) } { button { (text) } }
    }
}

/// The state of a destination: its mark, and the state in words.
pub(super) fn state(now: Timestamp, destination: &DestinationView) -> (Mark, Markup) {
    let Some(configured) = &destination.configured else {
        return (Mark::Waiting, html! { "not configured" });
    };
    if let Some(since) = destination.paused_since {
        return (Mark::Waiting, html! { "paused " (ago(now, since)) });
    }
    match (configured.state, configured.next_probe_at) {
        (CircuitState::Closed, _) => (Mark::Good, html! { "up" }),
        (CircuitState::Open, Some(at)) => (
            Mark::Bad,
            html! { "down, next attempt " (from_now(now, at)) },
        ),
        _ => (Mark::Bad, html! { "down, next attempt when one is due" }),
    }
}

/// The word for the mark of a destination.
pub(super) fn state_word(mark: Mark) -> &'static str {
    match mark {
        Mark::Good => "up",
        Mark::Bad => "down",
        Mark::Waiting | Mark::Neutral => "held",
    }
}

/// The card of a destination.
pub(super) fn card(
    base: &str,
    now: Timestamp,
    destination: &DestinationView,
    steps: &[DestinationStep],
    since: Timestamp,
) -> Markup {
    let (mark, state) = state(now, destination);
    let configured = destination.configured.as_ref();
    let name = &destination.name;
    html! {
        section.dest {
            header {
                (mark.show(state_word(mark)))
                a href={ (base) "/destinations/" (segment(name)) } { (name) }
                @if let Some(configured) = configured { span.faint { (configured.kind) } }
                span.muted { (state) }
            }
            (strip(steps, since))
            (numbers(now, destination))
        }
    }
}

/// The numbers of a destination.
pub(super) fn numbers(now: Timestamp, destination: &DestinationView) -> Markup {
    let configured = destination.configured.as_ref();
    let delivered_at = configured.and_then(|configured| configured.last_delivered_at);
    html! {
        dl {
            div { dt { "Waiting" } dd { (number(destination.waiting)) } }
            div {
                dt { "Oldest" }
                dd {
                    @match destination.oldest_since.or_else(|| down_since(destination)) {
                        Some(since) if destination.waiting > 0 => (age(now, since)),
                        _ => "–",
                    }
                }
            }
            div {
                dt { "Last success" }
                dd { @match delivered_at { Some(at) => (ago(now, at)), None => "–" } }
            }
            @if destination.dead > 0 {
                div { dt { "Dead" } dd.bad { (number(destination.dead)) } }
            }
        }
    }
}
