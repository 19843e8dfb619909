//! The log line of each pipeline event. `docs/reference/logs.md` describes them.

use std::time::Duration;

use serde::Serialize;
use tracing::Level;
use utoipa::ToSchema;

use super::PipelineEvent;
use crate::clock::milliseconds;
use crate::delivery::breaker::{CircuitChange, FAILURES_MAX};
use crate::delivery::{EXPIRED, Next};
use crate::printable::counted;
use crate::store::Accepted;

/// Field `target` of the lines, for filters such as `warn,unwrapd=info,unwrapd::pipeline=debug`.
pub(crate) const TARGET: &str = "unwrapd::pipeline";

/// The fields of an event, for the log and for the live stream. Both omit fields that are `None`.
#[derive(Default, Serialize, ToSchema)]
pub(crate) struct Line<'e> {
    /// The event in words.
    message: String,
    /// Name of the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'e str>,
    /// The `webhook-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_id: Option<&'e str>,
    /// Type of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<&'e str>,
    /// Name of the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'e str>,
    /// Names of the destinations that subscribe to the event, with commas between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    destinations: Option<String>,
    /// Name of another gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<&'e str>,
    /// Lane of the delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<&'static str>,
    /// Number of the attempt, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// HTTP status of the answer to a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Stable code of the cause of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// Method and path of a refused request, if they are wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'e str>,
    /// Result of the step, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    /// The answer of a destination, or the cause of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'e str>,
    /// HTTP status of the answer of a destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_status: Option<u16>,
    /// The cause, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'e str>,
    /// Size of a body.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    /// Number of messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
    /// Number of changes in a commit. The live stream has no commits.
    #[serde(skip)]
    changes: Option<usize>,
    /// Time from the creation of the event at OpenAI to its arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    lateness_ms: Option<u64>,
    /// Length of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    /// Time since the delivery was first due, or was replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
    /// Time until the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u64>,
    /// Number of events that this one stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// Calls a macro of `tracing` with a level that is known only when the program runs.
macro_rules! at_level {
    ($level:expr, $with:ident) => {
        match $level {
            Level::ERROR => $with!(Level::ERROR),
            Level::WARN => $with!(Level::WARN),
            Level::INFO => $with!(Level::INFO),
            Level::DEBUG => $with!(Level::DEBUG),
            Level::TRACE => $with!(Level::TRACE),
        }
    };
}

/// Whether the log has lines of this level.
pub(super) fn is_enabled(level: Level) -> bool {
    macro_rules! enabled {
        ($level:expr) => {
            tracing::enabled!(target: TARGET, $level)
        };
    }
    at_level!(level, enabled)
}

/// Writes the line of an event.
pub(super) fn write(level: Level, event: &PipelineEvent) {
    let line = line_of(event);
    macro_rules! write {
        ($level:expr) => {
            tracing::event!(
                target: TARGET,
                $level,
                event = event.name(),
                endpoint = line.endpoint,
                webhook_id = line.webhook_id,
                event_type = line.event_type,
                destination = line.destination,
                destinations = line.destinations,
                gateway = line.gateway,
                lane = line.lane,
                attempt = line.attempt,
                status = line.status,
                code = line.code,
                request = line.request,
                outcome = line.outcome,
                answer = line.answer,
                answer_status = line.answer_status,
                reason = line.reason,
                bytes = line.bytes,
                messages = line.messages,
                changes = line.changes,
                lateness_ms = line.lateness_ms,
                duration_ms = line.duration_ms,
                age_ms = line.age_ms,
                retry_ms = line.retry_ms,
                count = line.count,
                "{}",
                line.message
            )
        };
    }
    at_level!(level, write);
}

/// The fields of an event.
pub(super) fn line_of(event: &PipelineEvent) -> Line<'_> {
    match event {
        PipelineEvent::Received { endpoint, bytes } => Line {
            message: format!("received a request of {bytes} bytes"),
            endpoint: Some(endpoint),
            bytes: Some(*bytes),
            ..Line::default()
        },
        PipelineEvent::Refused {
            endpoint,
            status,
            kind,
            code,
            request,
            reason,
            remedy,
            duration,
            repeats,
        } => {
            let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}"));
            Line {
                message: format!(
                    "{kind}: {}{}{}",
                    request.as_ref().unwrap_or(reason),
                    remedy.unwrap_or_default(),
                    since(*repeats, "times")
                ),
                endpoint: endpoint.as_deref(),
                status: Some(*status),
                code: Some(code),
                request: request.as_deref(),
                reason: Some(reason),
                duration_ms: duration.map(milliseconds),
                count: *repeats,
                ..Line::default()
            }
        }
        PipelineEvent::Verified {
            endpoint,
            webhook_id,
            event_type,
            lateness,
        } => Line {
            message: "verified".into(),
            endpoint: Some(endpoint),
            webhook_id: Some(webhook_id),
            event_type: Some(event_type),
            lateness_ms: lateness.map(milliseconds),
            ..Line::default()
        },
        PipelineEvent::Accepted {
            endpoint,
            webhook_id,
            event_type,
            accepted,
            destinations,
            duration,
            trace: _,
        } => {
            let (message, outcome) = match accepted {
                Accepted::New => ("accepted a webhook", "new"),
                Accepted::Duplicate => {
                    ("accepted a duplicate, which is stored already", "duplicate")
                }
            };
            Line {
                message: message.into(),
                endpoint: Some(endpoint),
                webhook_id: Some(webhook_id),
                event_type: Some(event_type),
                destinations: Some(destinations.join(",")),
                // The sender of a request in the quarantine had another answer.
                status: duration.map(|_| 200),
                outcome: Some(outcome),
                duration_ms: duration.map(milliseconds),
                ..Line::default()
            }
        }
        PipelineEvent::Claimed {
            webhook_id,
            destination,
            attempt,
        } => Line {
            message: "claimed".into(),
            webhook_id: Some(webhook_id),
            destination: Some(destination),
            attempt: Some(*attempt),
            ..Line::default()
        },
        PipelineEvent::AttemptEnded {
            webhook_id,
            event_type,
            destination,
            attempt,
            answer,
            status,
            duration,
            age,
            next,
            retry_in,
            repeats,
            lane,
            trace: _,
        } => Line {
            message: attempt_message(answer, *next, *retry_in, *repeats),
            webhook_id: Some(webhook_id),
            event_type: Some(event_type),
            destination: Some(destination),
            lane: Some(lane.as_str()),
            attempt: Some(*attempt),
            outcome: Some(next.as_str()),
            answer: Some(answer),
            answer_status: *status,
            duration_ms: Some(milliseconds(*duration)),
            age_ms: Some(milliseconds(*age)),
            retry_ms: retry_in.map(milliseconds),
            count: *repeats,
            ..Line::default()
        },
        PipelineEvent::Expired {
            webhook_id,
            event_type,
            destination,
            attempt,
            repeats,
            trace: _,
        } => Line {
            message: attempt_message(EXPIRED, Next::Dead, None, *repeats),
            webhook_id: Some(webhook_id),
            event_type: Some(event_type),
            destination: Some(destination),
            attempt: Some(*attempt),
            outcome: Some(Next::Dead.as_str()),
            count: *repeats,
            ..Line::default()
        },
        PipelineEvent::Settled {
            webhook_id,
            destination,
            attempt,
            next,
        } => Line {
            message: format!("settled: {}", next.as_str()),
            webhook_id: Some(webhook_id),
            destination: Some(destination),
            attempt: Some(*attempt),
            outcome: Some(next.as_str()),
            ..Line::default()
        },
        PipelineEvent::CircuitChanged {
            destination,
            change,
            answer,
        } => Line {
            message: circuit_message(*change, answer.as_deref()),
            destination: Some(destination),
            outcome: Some(match change {
                CircuitChange::Opens | CircuitChange::Reopens => "open",
                CircuitChange::Closes | CircuitChange::Fails | CircuitChange::Stays => "closed",
            }),
            answer: answer.as_deref(),
            ..Line::default()
        },
        PipelineEvent::Paused {
            destination,
            is_remote,
        } => Line {
            message: format!("paused {}", actor(*is_remote)),
            destination: Some(destination),
            ..Line::default()
        },
        PipelineEvent::Resumed {
            destination,
            is_remote,
        } => Line {
            message: format!("resumed {}", actor(*is_remote)),
            destination: Some(destination),
            ..Line::default()
        },
        PipelineEvent::Quarantined { endpoint, reason } => Line {
            message: format!("kept a refused request in the quarantine: {reason}"),
            endpoint: Some(endpoint),
            reason: Some(reason),
            ..Line::default()
        },
        PipelineEvent::Pruned { messages } => Line {
            message: format!(
                "deleted {}",
                counted(*messages, "old message", "old messages")
            ),
            messages: Some(*messages),
            ..Line::default()
        },
        PipelineEvent::Committed { changes, duration } => Line {
            message: format!(
                "committed {}",
                counted(*changes as u64, "change", "changes")
            ),
            changes: Some(*changes),
            duration_ms: Some(milliseconds(*duration)),
            ..Line::default()
        },
        PipelineEvent::SpansLost {
            spans,
            loss: _,
            reason,
            repeats,
        } => Line {
            message: format!(
                "{} lost: {reason}{}",
                counted(*spans, "span of traces was", "spans of traces were"),
                since(*repeats, "such losses")
            ),
            reason: Some(reason),
            count: *repeats,
            ..Line::default()
        },
        PipelineEvent::GatewayJoined { gateway } => Line {
            message: format!("gateway {gateway} joined"),
            gateway: Some(gateway),
            ..Line::default()
        },
        PipelineEvent::GatewayLeft { gateway } => Line {
            message: format!("gateway {gateway} left"),
            gateway: Some(gateway),
            ..Line::default()
        },
        PipelineEvent::StoreRefusing { reason } | PipelineEvent::StoreRecovered { reason } => {
            Line {
                message: reason.clone(),
                reason: Some(reason),
                ..Line::default()
            }
        }
    }
}

fn attempt_message(
    answer: &str,
    next: Next,
    retry_in: Option<Duration>,
    repeats: Option<u64>,
) -> String {
    match next {
        Next::Delivered => format!("delivered: {answer}"),
        Next::Retry { .. } => format!(
            "not delivered yet, next attempt in {:.1} s: {answer}{}",
            retry_in.unwrap_or_default().as_secs_f64(),
            since(repeats, "such failures")
        ),
        Next::Dead => {
            let remedy = match repeats {
                Some(1) => ". Repair the destination, then `unwrapd dead replay`".into(),
                repeats => since(repeats, "such deliveries"),
            };
            format!("given up and kept as a dead letter: {answer}{remedy}")
        }
    }
}

fn circuit_message(change: CircuitChange, answer: Option<&str>) -> String {
    match (change, answer) {
        (CircuitChange::Opens, Some(answer)) => format!(
            "destination is down: {FAILURES_MAX} attempts in a row failed, the last one with: \
             {answer}. Repair it; its deliveries wait in the store. The gateway tries again at \
             least once a minute"
        ),
        (CircuitChange::Opens, None) => "destination is down, as another gateway has found. Its \
            deliveries wait in the store. One gateway tries again at least once a minute"
            .into(),
        (CircuitChange::Reopens, answer) => format!(
            "destination is still down: {}",
            answer.unwrap_or("another gateway has found so")
        ),
        (_, Some(answer)) => format!("destination is up again: {answer}"),
        (_, None) => "destination is up again, as another gateway has found".into(),
    }
}

/// The number of events that a warning stands for, if it stands for several.
fn since(repeats: Option<u64>, things: &str) -> String {
    match repeats {
        None | Some(1) => String::new(),
        Some(count) => format!(" ({count} {things} since the last such line)"),
    }
}

fn actor(is_remote: bool) -> &'static str {
    if is_remote {
        "at another gateway"
    } else {
        "by an operator"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_from_the_quarantine_has_no_status_since_its_request_was_refused() {
        let accepted = |duration| PipelineEvent::Accepted {
            endpoint: "production".into(),
            webhook_id: "wh_1".into(),
            event_type: "batch.completed".into(),
            accepted: Accepted::New,
            destinations: Vec::new(),
            duration,
            trace: None,
        };
        assert_eq!(line_of(&accepted(None)).status, None);
        assert_eq!(line_of(&accepted(Some(Duration::ZERO))).status, Some(200));
    }
}
