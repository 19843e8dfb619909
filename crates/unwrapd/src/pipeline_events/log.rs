//! The log line of each pipeline event. `docs/reference/logs.md` describes them.

use std::time::Duration;

use tracing::Level;

use super::PipelineEvent;
use crate::delivery::breaker::{CircuitChange, FAILURES_MAX};
use crate::delivery::{EXPIRED, Next};
use crate::printable::counted;
use crate::store::Accepted;

/// Field `target` of the lines, for filters such as `warn,unwrapd=info,unwrapd::pipeline=debug`.
pub(crate) const TARGET: &str = "unwrapd::pipeline";

/// One log line. The log omits fields that are `None`.
#[derive(Default)]
struct Line<'e> {
    message: String,
    endpoint: Option<&'e str>,
    webhook_id: Option<&'e str>,
    event_type: Option<&'e str>,
    destination: Option<&'e str>,
    destinations: Option<String>,
    gateway: Option<&'e str>,
    lane: Option<&'static str>,
    attempt: Option<u32>,
    status: Option<u16>,
    code: Option<&'static str>,
    request: Option<&'e str>,
    outcome: Option<&'static str>,
    answer: Option<&'e str>,
    answer_status: Option<u16>,
    reason: Option<&'e str>,
    bytes: Option<usize>,
    messages: Option<u64>,
    changes: Option<usize>,
    lateness_ms: Option<u64>,
    duration_ms: Option<u64>,
    age_ms: Option<u64>,
    retry_ms: Option<u64>,
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

fn line_of(event: &PipelineEvent) -> Line<'_> {
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

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
        };
        assert_eq!(line_of(&accepted(None)).status, None);
        assert_eq!(line_of(&accepted(Some(Duration::ZERO))).status, Some(200));
    }
}
