//! Makes spans of pipeline events. Names of attributes are those of the [semantic
//! conventions](https://opentelemetry.io/docs/specs/semconv/) where these have one, and begin with
//! `unwrapd.` otherwise. No attribute holds a payload, a secret or the path of a destination's URL.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Url;
use tokio::time::Instant;

use super::Noted;
use super::otlp::{KeyValue, Span, SpanKind, Status, StatusCode};
use crate::delivery::{EXPIRED, Next};
use crate::pipeline_events::{PipelineEvent, RequestTrace, Steps};
use crate::store::Accepted;
use crate::trace_context::{AttemptTrace, Trace};

/// The servers of the destinations that have a URL, by name of the destination.
pub(super) type Servers = HashMap<String, Vec<KeyValue>>;

/// The attributes for the servers of these URLs.
pub(super) fn servers<'u>(urls: impl IntoIterator<Item = (String, &'u Url)>) -> Servers {
    let attributes = |url: &Url| {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default();
        let mut attributes = vec![
            KeyValue::of("http.request.method", "POST"),
            KeyValue::of("url.scheme", url.scheme()),
            KeyValue::of("server.address", host.trim_matches(['[', ']'])),
        ];
        attributes.extend(port.map(|port| KeyValue::of("server.port", port)));
        attributes
    };
    let urls = urls.into_iter();
    urls.map(|(name, url)| (name, attributes(url))).collect()
}

/// One instant by both clocks. With one for all spans of a request, their order is that of their
/// instants. The clock of this machine has the time that the spans of other programs have.
#[derive(Clone, Copy)]
pub(super) struct Anchor {
    at: Instant,
    wall: SystemTime,
}

impl Anchor {
    pub(super) fn now() -> Self {
        Self {
            at: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The time of an earlier instant, in nanoseconds since 1970.
    fn unix_nano(self, instant: Instant) -> u64 {
        let at = self.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let ago = self.at.saturating_duration_since(instant);
        nanoseconds(at.saturating_sub(ago))
    }
}

/// Number of spans of an event.
pub(super) fn count(event: &PipelineEvent) -> u64 {
    match event {
        PipelineEvent::Accepted {
            trace: Some(request),
            ..
        } => match request.steps {
            Some(_) => 3,
            None => 2,
        },
        PipelineEvent::AttemptEnded { trace: Some(_), .. }
        | PipelineEvent::Expired { trace: Some(_), .. } => 1,
        _ => 0,
    }
}

/// The spans of an event, as many as [`count`] returns.
pub(super) fn of(noted: &Noted, servers: &Servers, anchor: Anchor) -> Vec<Span> {
    let end = anchor.unix_nano(noted.at);
    match &noted.event {
        PipelineEvent::Accepted {
            endpoint,
            webhook_id,
            event_type,
            accepted,
            destinations,
            trace: Some(request),
            ..
        } => {
            let mut attributes = vec![
                KeyValue::of("unwrapd.endpoint", endpoint.as_str()),
                KeyValue::of("unwrapd.webhook_id", webhook_id.as_str()),
                KeyValue::of("unwrapd.event_type", event_type.as_str()),
                KeyValue::of("unwrapd.destinations", destinations.join(",")),
                KeyValue::of(
                    "unwrapd.outcome",
                    match accepted {
                        Accepted::New => "new",
                        Accepted::Duplicate => "duplicate",
                    },
                ),
            ];
            let resource = request.resource.as_deref();
            attributes.extend(resource.map(|id| KeyValue::of("unwrapd.resource", id)));
            of_request(anchor, end, request, *accepted, endpoint, attributes)
        }
        PipelineEvent::AttemptEnded {
            webhook_id,
            event_type,
            destination,
            lane,
            attempt,
            answer,
            status,
            duration,
            next,
            trace: Some(trace),
            ..
        } => {
            let server = servers.get(destination);
            let failure = match (next, status) {
                (Next::Delivered, _) => None,
                // The answer may have the target of a redirect, which may be secret.
                (_, Some(status)) => Some((status.to_string(), format!("HTTP {status}"))),
                (_, None) => Some(("_OTHER".into(), answer.clone())),
            };
            let mut attributes = attempt_attributes(webhook_id, event_type, destination, *attempt);
            attributes.push(KeyValue::of("unwrapd.lane", lane.as_str()));
            attributes.push(KeyValue::of("unwrapd.outcome", next.as_str()));
            attributes.extend(server.into_iter().flatten().cloned());
            attributes.extend(status.map(|code| KeyValue::of("http.response.status_code", code)));
            let span = Span {
                kind: match server {
                    Some(_) => SpanKind::Client.into(),
                    None => SpanKind::Internal.into(),
                },
                ..of_attempt(end, *trace, &format!("attempt {destination}"), *duration)
            };
            vec![ended(span, attributes, failure)]
        }
        PipelineEvent::Expired {
            webhook_id,
            event_type,
            destination,
            attempt,
            trace: Some(trace),
            ..
        } => {
            let mut attributes = attempt_attributes(webhook_id, event_type, destination, *attempt);
            attributes.push(KeyValue::of("unwrapd.outcome", Next::Dead.as_str()));
            let name = format!("expire {destination}");
            let span = of_attempt(end, *trace, &name, Duration::ZERO);
            let failure = Some(("expired".into(), EXPIRED.into()));
            vec![ended(span, attributes, failure)]
        }
        _ => Vec::new(),
    }
}

fn attempt_attributes(
    webhook_id: &str,
    event_type: &str,
    destination: &str,
    attempt: u32,
) -> Vec<KeyValue> {
    vec![
        KeyValue::of("unwrapd.destination", destination),
        KeyValue::of("unwrapd.webhook_id", webhook_id),
        KeyValue::of("unwrapd.event_type", event_type),
        KeyValue::of("unwrapd.attempt", attempt),
    ]
}

/// The spans of an accepted request. The first request of a webhook is the root of its trace, and
/// each copy has a span below it.
fn of_request(
    anchor: Anchor,
    end: u64,
    request: &RequestTrace,
    accepted: Accepted,
    endpoint: &str,
    mut attributes: Vec<KeyValue>,
) -> Vec<Span> {
    let trace = request.trace;
    let (id, above) = match accepted {
        Accepted::New => (trace.root, None),
        Accepted::Duplicate => {
            let id = trace.span(trace.root, &format!("copy {end}"));
            (id, Some(trace.root))
        }
    };
    let mut spans = Vec::new();
    let (mut begin, mut kind) = (request.stored_at, SpanKind::Internal);
    if let Some(Steps {
        head_at,
        body_at,
        verified_at,
    }) = request.steps
    {
        (begin, kind) = (head_at, SpanKind::Server);
        attributes.extend([
            KeyValue::of("http.request.method", "POST"),
            KeyValue::of("http.route", "/webhooks/{endpoint}"),
            KeyValue::of("http.response.status_code", 200_u16),
        ]);
        spans.push(Span {
            start_time_unix_nano: anchor.unix_nano(body_at),
            end_time_unix_nano: anchor.unix_nano(verified_at),
            ..span(trace, trace.span(id, "verify"), Some(id), "verify")
        });
    } else {
        attributes.push(KeyValue::of("unwrapd.quarantine", true));
    }
    spans.push(Span {
        start_time_unix_nano: anchor.unix_nano(request.stored_at),
        end_time_unix_nano: end,
        ..span(trace, trace.span(id, "commit"), Some(id), "commit")
    });
    spans.push(Span {
        kind: kind.into(),
        start_time_unix_nano: anchor.unix_nano(begin),
        end_time_unix_nano: end,
        attributes,
        ..span(trace, id, above, &format!("receive {endpoint}"))
    });
    spans
}

/// The span of an attempt that has ended.
fn of_attempt(end: u64, attempt: AttemptTrace, name: &str, duration: Duration) -> Span {
    let AttemptTrace { trace, span: id } = attempt;
    Span {
        start_time_unix_nano: end.saturating_sub(nanoseconds(duration)),
        end_time_unix_nano: end,
        ..span(trace, id, Some(trace.root), name)
    }
}

fn span(trace: Trace, id: u64, above: Option<u64>, name: &str) -> Span {
    Span {
        trace_id: trace.id.to_be_bytes().into(),
        span_id: id.to_be_bytes().into(),
        parent_span_id: above.map_or_else(Vec::new, |above| above.to_be_bytes().into()),
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        flags: trace.is_sampled.into(),
        ..Span::default()
    }
}

/// The span with its attributes. `failure` is its type and its text.
fn ended(mut span: Span, mut attributes: Vec<KeyValue>, failure: Option<(String, String)>) -> Span {
    span.status = failure.map(|(error, message)| {
        attributes.push(KeyValue::of("error.type", error));
        Status {
            message,
            code: StatusCode::Error.into(),
        }
    });
    span.attributes = attributes;
    span
}

/// Nanoseconds since 1970 fit until the year 2554.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
