//! The journey of a message: what happened to it, in order, with the times between.

use jiff::Timestamp;
use maud::{Markup, html};

use super::words::{clock, counted, from_now, milliseconds, size};
use crate::api::MessageDetail;
use crate::message::Origin;
use crate::printable;
use crate::store::filter::Status;
use crate::store::{AttemptView, DeliveryView, MessageView};

/// Most characters of the beginning of an answer that are shown at once.
const ANSWER_MAX: usize = 600;

/// Attempts of one destination that follow each other with the same answer.
#[derive(Debug, PartialEq, Eq)]
struct Run<'m> {
    destination: &'m str,
    is_good: bool,
    first: &'m AttemptView,
    rest: Vec<&'m AttemptView>,
}

impl Run<'_> {
    fn last(&self) -> &AttemptView {
        self.rest.last().unwrap_or(&self.first)
    }
}

/// Draws the journey. `shows_bodies` allows the beginnings of the answers.
pub(super) fn journey(now: Timestamp, detail: &MessageDetail, shows_bodies: bool) -> Markup {
    let message = &detail.message;
    let received_at = message.received_at;
    let created_at = detail.created_at;
    html! {
        ol.way {
            @if let Some(created_at) = created_at {
                li {
                    span.t { (clock(now, created_at)) }
                    @match message.origin {
                        Origin::OpenAi => "Event created at OpenAI",
                        Origin::Gateway => "Event created by a gateway",
                    }
                }
            }
            li {
                span.t {
                    @match created_at {
                        Some(created_at) => (delta(created_at, received_at)),
                        None => (clock(now, received_at)),
                    }
                }
                "Arrived at " (message.endpoint)
                @if let Some(bytes) = message.bytes { ", " (size(bytes)) }
                small { (clock(now, received_at)) }
            }
            @if let Some(secret) = message.secret {
                li.ok { "Verified with secret " (u64::from(secret) + 1) }
            }
            (stored(message))
            @let runs = runs(&message.deliveries);
            @for (place, run) in runs.iter().enumerate() {
                @let before = match place.checked_sub(1) {
                    Some(before) => runs[before].last().ended_at,
                    None => received_at,
                };
                (attempts(run, before, shows_bodies))
            }
            @for delivery in &message.deliveries { (end(now, delivery)) }
        }
    }
}

/// Only OpenAI had an answer. Pruning deletes the deliveries together with the body.
fn stored(message: &MessageView) -> Markup {
    let answered = match message.origin {
        Origin::OpenAi => ", answered 200",
        Origin::Gateway => "",
    };
    html! {
        li.ok {
            @if !message.deliveries.is_empty() {
                "Stored for " (names(&message.deliveries)) (answered)
            } @else {
                "Stored" (answered)
                small {
                    @if message.bytes.is_some() {
                        "No destination subscribed to this type."
                    } @else {
                        "Pruning has deleted the body and the deliveries."
                    }
                }
            }
        }
    }
}

fn names(deliveries: &[DeliveryView]) -> String {
    let names: Vec<&str> = deliveries
        .iter()
        .map(|one| one.destination.as_str())
        .collect();
    names.join(", ")
}

/// The attempts of all deliveries by their end, with equal answers of one destination together.
fn runs(deliveries: &[DeliveryView]) -> Vec<Run<'_>> {
    let mut all: Vec<(&DeliveryView, &AttemptView)> = deliveries
        .iter()
        .flat_map(|delivery| {
            let attempts = delivery.latest.iter();
            attempts.map(move |attempt| (delivery, attempt))
        })
        .collect();
    all.sort_by_key(|(_, attempt)| attempt.ended_at);
    let mut runs: Vec<Run<'_>> = Vec::new();
    for (delivery, attempt) in all {
        let destination = delivery.destination.as_str();
        let is_good = has_delivered(delivery, attempt);
        match runs.last_mut() {
            Some(run)
                if run.destination == destination
                    && run.is_good == is_good
                    && run.first.answer == attempt.answer
                    && run.first.body == attempt.body =>
            {
                run.rest.push(attempt);
            }
            _ => runs.push(Run {
                destination,
                is_good,
                first: attempt,
                rest: Vec::new(),
            }),
        }
    }
    runs
}

/// Whether the attempt has delivered. Of attempts before a replay only the answer is stored.
fn has_delivered(delivery: &DeliveryView, attempt: &AttemptView) -> bool {
    let is_last = delivery.latest.last() == Some(attempt);
    is_last && delivery.status == Status::Delivered || attempt.answer.starts_with("HTTP 2")
}

fn attempts(run: &Run<'_>, before: Timestamp, shows_bodies: bool) -> Markup {
    let first = run.first;
    let is_good = run.is_good;
    let body = first.body.as_deref().filter(|_| shows_bodies);
    html! {
        li.ok[is_good].bad[!is_good] {
            span.t { (delta(before, first.ended_at)) }
            (run.destination) ": " (printable::line(&first.answer))
            " after " (milliseconds(i64::try_from(first.took_ms).unwrap_or(i64::MAX)))
            small { "attempt " (first.number) }
            @if let Some(body) = body { pre { (beginning(body)) } }
        }
        @if let Some(last) = run.rest.last() {
            li.ok[is_good].bad[!is_good] {
                span.t { (delta(first.ended_at, last.ended_at)) }
                "The same answer "
                (counted(run.rest.len() as u64, "more time", "more times"))
                @if run.rest.len() == 1 { small { "attempt " (last.number) } } @else { details {
                    summary { "attempts " (run.rest[0].number) " to " (last.number) }
                    ul.plain {
                        @for attempt in &run.rest {
                            li {
                                "attempt " (attempt.number) ", "
                                (attempt.ended_at.strftime("%F %T UTC")) ", "
                                (milliseconds(i64::try_from(attempt.took_ms).unwrap_or(i64::MAX)))
                            }
                        }
                    }
                } }
            }
        }
    }
}

/// The end of a delivery, or what comes next.
fn end(now: Timestamp, delivery: &DeliveryView) -> Markup {
    let name = &delivery.destination;
    html! {
        @match delivery.status {
            Status::Waiting => li.wait {
                span.t { (clock(now, delivery.at)) }
                (name) ": "
                @if delivery.attempts == 0 { "first attempt " } @else { "next attempt " }
                (from_now(now, delivery.at))
            },
            Status::Delivered => li.ok {
                span.t { (clock(now, delivery.at)) } (name) ": delivered"
            },
            Status::Dead => li.bad {
                span.t { (clock(now, delivery.at)) } (name) ": given up, now a dead letter"
            },
            _ => li {
                span.t { (clock(now, delivery.at)) } (name) ": dead letter dropped by an operator"
            },
        }
    }
}

/// The time between two steps: `+1.2 s`.
fn delta(from: Timestamp, to: Timestamp) -> String {
    let ms = i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX);
    if ms < 0 {
        return milliseconds(ms);
    }
    format!("+{}", milliseconds(ms))
}

/// The beginning of an answer. It is untrusted text.
fn beginning(body: &str) -> String {
    let body = printable::lines(body);
    match body.char_indices().nth(ANSWER_MAX) {
        Some((end, _)) => format!("{}…", &body[..end]),
        None => body.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Lane;

    fn attempt(number: u32, second: i64, answer: &str) -> AttemptView {
        AttemptView {
            number,
            ended_at: Timestamp::from_second(second).unwrap(),
            took_ms: 1,
            answer: answer.into(),
            body: None,
        }
    }

    fn delivery(destination: &str, latest: Vec<AttemptView>) -> DeliveryView {
        DeliveryView {
            destination: destination.into(),
            lane: Lane::Standard,
            status: Status::Waiting,
            since: Timestamp::UNIX_EPOCH,
            at: Timestamp::UNIX_EPOCH,
            attempts: 1,
            latest,
        }
    }

    #[test]
    fn equal_answers_of_one_destination_in_sequence_are_one_run() {
        let deliveries = [
            delivery(
                "app",
                vec![
                    attempt(1, 1, "HTTP 502"),
                    attempt(2, 2, "HTTP 502"),
                    attempt(3, 4, "HTTP 502"),
                    attempt(4, 5, "HTTP 500"),
                ],
            ),
            delivery("audit", vec![attempt(1, 3, "HTTP 502")]),
        ];
        let lengths: Vec<_> = runs(&deliveries)
            .iter()
            .map(|run| (run.destination, run.rest.len() + 1))
            .collect();
        assert_eq!(lengths, [("app", 2), ("audit", 1), ("app", 1), ("app", 1)]);
    }

    #[test]
    fn hidden_characters_of_an_answer_are_shown_as_escapes() {
        assert_eq!(beginning("a\u{202e}b\nc"), "a\\u{202e}b\nc");
        assert_eq!(beginning(&"é".repeat(700)).chars().count(), ANSWER_MAX + 1);
    }
}
